"""Schedules of bytecode instructions: made by hand, at random, or by Hypothesis.

A schedule is a list of worker indices. One entry lets that worker run one instruction of a
traced file, with everything that this instruction calls in files that are not traced.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from frontrun import _native
from frontrun._exploration import (
    RandomOptions,
    ScheduleOptions,
    check_functions,
    check_int,
    check_schedule,
    checked_threads,
    explore_natively,
    explore_threads,
)
from frontrun._hypothesis import fair_schedules
from frontrun.common import InterleavingResult

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from frontrun._explain import NativeEvent
    from frontrun._trace_format import TraceRecorder

__all__ = [
    "BytecodeShuffler",
    "OpcodeScheduler",
    "controlled_interleaving",
    "explore_interleavings",
    "run_with_schedule",
    "schedule_strategy",
]

State = TypeVar("State")


def explore_interleavings(
    setup: Callable[[], State],
    threads: Sequence[Callable[[State], object]],
    invariant: Callable[[State], object],
    max_attempts: int = 200,
    max_ops: int = 300,
    timeout_per_run: float = 5.0,
    seed: int | None = None,
    debug: bool = False,
    detect_io: bool = True,
    deadlock_timeout: float = 5.0,
    reproduce_on_failure: int = 10,
    total_timeout: float | None = None,
    *,
    max_branches: int = 1_000_000,
    trace_packages: Sequence[str] = (),
) -> InterleavingResult:
    """Run random schedules of instructions, until one fails.

    Args:
        setup: Builds fresh state for each execution.
        threads: The workers, each of which receives the state.
        invariant: Asked with the state when all workers have ended.
        max_attempts: Number of schedules.
        max_ops: Entries of each schedule. Each is any worker, with equal chance. When the
            schedule is used up, the workers run on freely.
        timeout_per_run: Seconds that one execution may take; one that is cut off makes the
            result inconclusive.
        seed: Repeats the same schedules; None for others each time.
        debug: Say on standard error what was run.
        detect_io: Also see I/O in C code.
        deadlock_timeout: Seconds that a worker may take between two instructions. A deadlock
            among locks is recognised at once.
        reproduce_on_failure: How often the counterexample is replayed.
        total_timeout: Seconds after which the whole exploration ends; None for no limit.
        max_branches: Instructions that one execution may take.
        trace_packages: Patterns of module names (``"pkg.*"``) outside the user's own files
            that are traced as well.

    Returns:
        What was found; its counterexample is the instructions of the whole execution, and
        `run_with_schedule` repeats it.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    options = RandomOptions(
        max_attempts=max_attempts,
        max_ops=max_ops,
        max_branches=max_branches,
        timeout_per_run=timeout_per_run,
        seed=seed,
        detect_io=detect_io,
        deadlock_timeout=deadlock_timeout,
        reproduce_on_failure=reproduce_on_failure,
        total_timeout=total_timeout,
        trace_packages=trace_packages,
    )
    result = explore_threads(setup, threads, invariant, "random", options, argument="threads")
    if debug:
        print(
            f"frontrun: {result.num_explored} schedules of seed {result.seed}, "
            f"{result.unique_interleavings} different orderings, "
            f"{result.stats.get('events', 0)} instructions",
            file=sys.stderr,
        )
    return result


def run_with_schedule(
    schedule: Sequence[int],
    setup: Callable[[], State],
    threads: Sequence[Callable[[State], object]],
    timeout: float = 5.0,
    debug: bool = False,
    detect_io: bool = True,
    deadlock_timeout: float = 5.0,
) -> State:
    """Run the workers once under a schedule of instructions.

    Args:
        schedule: Which worker runs each instruction. Entries for workers that wait or have
            ended are left out; when it is used up, the workers run on freely.
        setup: Builds the state.
        threads: The workers, each of which receives the state.
        timeout: Seconds that all may take.
        debug: Print each instruction on standard error.
        detect_io: Also see I/O in C code.
        deadlock_timeout: Seconds that a worker may take between two instructions.

    Returns:
        The state that `setup` made, when all workers have ended.

    Raises:
        The exception of the first worker that raised.
        TimeoutError: for a deadlock, and when the workers take too long.
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    options = ScheduleOptions(
        schedule=schedule,
        timeout_per_run=timeout,
        detect_io=detect_io,
        deadlock_timeout=deadlock_timeout,
        reproduce_on_failure=0,
        tells_events=debug,
    )
    check_functions(setup=setup)
    states: list[State] = []

    def remembered() -> State:
        states.append(setup())
        return states[-1]

    _run(remembered, threads, options, debug=debug)
    return states[0]


def _run(
    setup: Callable[[], State],
    workers: Sequence[Callable[[State], object]],
    options: ScheduleOptions,
    *,
    debug: bool = False,
    recorder: TraceRecorder | None = None,
    argument: str = "threads",
) -> None:
    """One execution; raises what went wrong in it."""
    workers = checked_threads(workers, argument)
    result, told = explore_natively(
        setup, workers, lambda _: True, "instructions", options, argument=argument
    )
    if recorder is not None:
        _record(recorder, told["events"] or [], len(workers))
    if debug:
        _print_events(told["events"] or [])
    if result.exception is not None:
        raise result.exception
    if result.deadlock is not None:
        raise TimeoutError(result.explanation)
    if result.property_holds is None:
        raise TimeoutError(result.inconclusive_reason)


def _record(recorder: TraceRecorder, events: Sequence[NativeEvent], workers: int) -> None:
    from frontrun._explain import trace_events

    if recorder.enabled:
        recorder.events += trace_events(events, [f"worker {index}" for index in range(workers)])


def _print_events(events: Sequence[NativeEvent]) -> None:
    from frontrun._explain import place_of

    for number, (worker, code, offset, operation, accesses) in enumerate(events):
        filename, line = place_of(code, offset)
        touched = "".join(
            f" [{kind} {type_name}.{field}]" for kind, _, type_name, field, _ in accesses
        )
        print(
            f"frontrun: {number} worker {worker} {filename}:{line} {operation}{touched}",
            file=sys.stderr,
        )


class OpcodeScheduler:
    """A schedule of instructions, to be run by a `BytecodeShuffler`.

    Threads that nobody traces can follow it, too: each calls `wait_for_turn` where it wants
    to be scheduled, and `mark_done` at its end.

    Args:
        schedule: The worker of each instruction.
        num_threads: Number of workers.
        deadlock_timeout: Seconds that a worker may take between two of its entries.
        max_ops: Number of entries, where not 0: a longer schedule is cut off there, a shorter
            one goes on with rounds of one entry for each worker.
        trace_recorder: Is given the instructions, after the run.
    """

    def __init__(
        self,
        schedule: Sequence[int],
        num_threads: int,
        *,
        deadlock_timeout: float = 5.0,
        max_ops: int = 0,
        trace_recorder: TraceRecorder | None = None,
    ) -> None:
        check_schedule(schedule)
        check_int("num_threads", num_threads, 1)
        check_int("max_ops", max_ops, 0)
        if not deadlock_timeout > 0:
            raise ValueError(
                f"deadlock_timeout must be more than 0 seconds, not {deadlock_timeout}"
            )
        self.num_threads = num_threads
        self.deadlock_timeout = deadlock_timeout
        self.trace_recorder = trace_recorder
        rounds = itertools.cycle(range(num_threads))
        whole = itertools.chain(schedule, rounds) if max_ops else schedule
        self.schedule = list(itertools.islice(whole, max_ops or None))
        """The entries, as `max_ops` has them."""
        self.error: BaseException | None = None
        """What was reported first; None if nothing was."""
        self._taken = 0
        # The worker that runs on its entry, and its thread; empty between turns.
        self._running: tuple[int | threading.Thread, ...] = ()
        self._ended: set[int] = set()
        self._changed = threading.Condition()
        self._runs_natively = False

    @property
    def had_error(self) -> bool:
        """Did a worker raise, or was a deadlock or a timeout found?"""
        return self.error is not None

    def wait_for_turn(self, thread_id: int) -> bool:
        """Take this worker's next entry, when it is its turn.

        The turn lasts until the worker asks for its next entry or is done: nobody else is
        given an entry meanwhile. In a run of `BytecodeShuffler` this is one entry without an
        instruction.

        Returns:
            False when there is no entry left, or after an error: run on freely.
        """
        if not 0 <= thread_id < self.num_threads:
            raise ValueError(
                f"thread_id must be between 0 and {self.num_threads - 1}, not {thread_id}"
            )
        if self._runs_natively:
            return _native.turn()
        with self._changed:
            self._end_turn(thread_id)
            while self.error is None and self._next() is not None:
                if not self._running and self._next() == thread_id:
                    self._taken += 1
                    self._running = thread_id, threading.current_thread()
                    return True
                if not self._changed.wait(self.deadlock_timeout):
                    self._report(TimeoutError(self._stuck()))
        return False

    def mark_done(self, thread_id: int) -> None:
        """Say that a worker has ended: what is left of its entries is left out."""
        with self._changed:
            self._ended.add(thread_id)
            self._end_turn(thread_id)

    def report_error(self, error: BaseException) -> None:
        """Give the schedule up; the first error counts."""
        with self._changed:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self._changed.notify_all()

    def _end_turn(self, thread_id: int) -> None:
        # One thread that plays several workers is in one place only.
        if thread_id in self._running or threading.current_thread() in self._running:
            self._running = ()
        self._changed.notify_all()

    def _stuck(self) -> str:
        limit = f"{self.deadlock_timeout} s"
        if self._running:
            return f"Deadlock: worker {self._running[0]} kept its turn for {limit}"
        what = f"did not come for entry {self._taken} of the schedule"
        return f"Deadlock: worker {self._next()} {what} within {limit}"

    def _next(self) -> int | None:
        """Whose entry is next."""
        while self._taken < len(self.schedule) and self.schedule[self._taken] in self._ended:
            self._taken += 1
        return self.schedule[self._taken] if self._taken < len(self.schedule) else None


class BytecodeShuffler:
    """Runs functions under an `OpcodeScheduler`.

    Args:
        scheduler: Says whose turn it is.
        detect_io: Also see I/O in C code.
    """

    def __init__(self, scheduler: OpcodeScheduler, detect_io: bool = True) -> None:
        self.scheduler = scheduler
        self.detect_io = detect_io

    def run(
        self,
        funcs: Sequence[Callable[..., object]],
        args: Sequence[Sequence[Any]] | None = None,
        kwargs: Sequence[Mapping[str, Any]] | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Run the functions as workers 0, 1, …, until all have ended.

        Args:
            funcs: The functions.
            args: Positional arguments of each.
            kwargs: Keyword arguments of each.
            timeout: Seconds that all may take.

        Raises:
            The exception of the first worker that raised.
            TimeoutError: for a deadlock, and when the workers take too long.
            TypeError, ValueError: for a bad argument, before anything runs.
        """
        scheduler = self.scheduler
        if len(funcs) > scheduler.num_threads:
            raise ValueError(
                f"funcs must be at most num_threads={scheduler.num_threads}, not {len(funcs)}"
            )
        for name, given in (("args", args), ("kwargs", kwargs)):
            if given is not None and len(given) != len(funcs):
                raise ValueError(f"{name} must have one entry for each of the {len(funcs)} funcs")
        options = ScheduleOptions(
            schedule=scheduler.schedule,
            timeout_per_run=timeout,
            detect_io=self.detect_io,
            deadlock_timeout=scheduler.deadlock_timeout,
            reproduce_on_failure=0,
            tells_events=scheduler.trace_recorder is not None,
        )
        workers = [
            _bound(func, args[i] if args else (), kwargs[i] if kwargs else {})
            for i, func in enumerate(funcs)
        ]
        scheduler._runs_natively = True
        try:
            _run(
                lambda: None, workers, options, recorder=scheduler.trace_recorder, argument="funcs"
            )
        except BaseException as error:
            scheduler.report_error(error)
            raise
        finally:
            scheduler._runs_natively = False


def _bound(
    func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[None], object]:
    if not callable(func):
        raise TypeError(f"funcs must be callable, not {func!r}")
    return lambda _: func(*args, **kwargs)


@contextlib.contextmanager
def controlled_interleaving(
    schedule: Sequence[int], num_threads: int = 2
) -> Iterator[BytecodeShuffler]:
    """A runner whose `run` lets functions run under this schedule."""
    yield BytecodeShuffler(OpcodeScheduler(schedule, num_threads))


def schedule_strategy(num_threads: int, max_ops: int = 300) -> SearchStrategy[list[int]]:
    """A Hypothesis strategy of fair schedules, for `run_with_schedule`.

    A schedule consists of rounds in which each worker has one entry, and has at most
    `max_ops` entries. Shrinks towards few rounds, and in a round towards ascending order.

    Raises:
        ImportError: when Hypothesis is not installed.
        TypeError, ValueError: for a bad argument.
    """
    check_int("num_threads", num_threads, 1)
    check_int("max_ops", max_ops, 0)
    return fair_schedules(num_threads, max_ops)
