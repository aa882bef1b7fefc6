"""Schedules of await points: tasks of one event loop that stop where they say so.

A schedule is a list of task indices. Tasks begin in the order of their indices, each when the
one before it stops; one entry lets a task go on from one `await_point` to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import linecache
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from frontrun import _exploration, _native
from frontrun._async_exploration import no_running_loop
from frontrun._exploration import RandomOptions, check_int, check_schedule
from frontrun._hypothesis import fair_schedules
from frontrun._orders import Execution, replayed, tell
from frontrun._replay import Step, short_path
from frontrun._trace_format import found_after, show_place
from frontrun.async_scheduler import InterleavedLoop
from frontrun.common import InterleavingResult

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from frontrun._replay import Recording

__all__ = [
    "AsyncBytecodeShuffler",
    "AwaitScheduler",
    "await_point",
    "controlled_interleaving",
    "explore_interleavings",
    "run_with_schedule",
    "schedule_strategy",
]

State = TypeVar("State")

# The scheduler that a task belongs to, its index, and the task: tasks that it creates inherit
# the variable, and are not scheduled.
_here: ContextVar[tuple[AwaitScheduler, int, asyncio.Task[Any] | None] | None] = ContextVar(
    "frontrun await scheduler", default=None
)


async def await_point() -> None:
    """A point where the scheduler may let other tasks go on; nothing without a scheduler.

    Nothing, too, in a task that a scheduled task has created.
    """
    here = _here.get()
    if here is not None and here[2] is asyncio.current_task():
        scheduler, task_id, _ = here
        caller = sys._getframe(1)
        code = caller.f_code
        scheduler._places[task_id] = code.co_filename, caller.f_lineno, code.co_qualname
        await scheduler.pause(task_id)


class AwaitScheduler(InterleavedLoop):
    """Lets tasks go on from one `await_point` to the next in the order of a schedule.

    An entry of a task that has ended is left out, and one of a task that waits for something
    else than its turn, when nothing else is left to do. When the schedule is used up, the
    tasks run on freely.

    Args:
        schedule: The task of each step.
        num_tasks: Number of tasks.
        deadlock_timeout: Seconds that one pause may take.
    """

    def __init__(
        self, schedule: Sequence[int], num_tasks: int, *, deadlock_timeout: float = 5.0
    ) -> None:
        super().__init__(deadlock_timeout=deadlock_timeout)
        check_int("num_tasks", num_tasks, 1)
        check_schedule(schedule)
        for index, task_id in enumerate(schedule):
            if task_id >= num_tasks:
                raise ValueError(
                    f"schedule[{index}] must be less than num_tasks={num_tasks}, not {task_id}"
                )
        self.schedule = list(schedule)
        self.num_tasks = num_tasks
        self.taken: list[int] = []
        """The task of each step that was taken, those after the schedule included."""
        self._position = 0
        self._looks = False
        self.preemptions = 0
        """How often another task went on than the last one, which could have, too."""
        # File, line and function where each task paused last, and where each step was taken.
        self._places: dict[int, tuple[str, int, str]] = {}
        self._steps: list[tuple[int, tuple[str, int, str]]] = []

    def should_proceed(self, task_id: Any, marker: Any = None) -> bool:
        """Is it the turn of this task?"""
        following = self._next()
        if following is None or following == task_id:
            return True
        if following not in self._paused and not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look)
        return False

    def on_proceed(self, task_id: Any, marker: Any = None) -> None:
        """Take the entry of this task."""
        self._position += 1
        last = self.taken[-1] if self.taken else task_id
        self.preemptions += last != task_id and last in self._paused
        self.taken.append(task_id)
        self._steps.append((task_id, self._places.get(task_id, ("", 0, ""))))

    def story(self) -> str:
        """The source line from which each task went on, in the order in which they did."""
        lines = []
        for task_id, (filename, line, _) in self._steps:
            source = linecache.getline(filename, line).strip()
            lines.append(f"  task {task_id}  {show_place(filename, line)}  {source}".rstrip())
        return "\n".join(lines)

    def _recorded(self) -> list[Step]:
        return [
            Step(task_id, short_path(filename), function, line, "go on", "")
            for task_id, (filename, line, function) in self._steps
        ]

    def _setup_task_context(self, task_id: Any) -> None:
        _here.set((self, task_id, asyncio.current_task()))

    def _next(self) -> int | None:
        """Whose turn it is; None when the schedule is used up."""
        while self._position < len(self.schedule):
            task_id = self.schedule[self._position]
            if task_id in self._unfinished:
                return task_id
            self._position += 1
        return None

    def _look(self) -> None:
        """Leave the next entry out if its task waits and nothing is about to wake it."""
        self._looks = False
        following = self._next()
        if following is not None and following not in self._paused:
            loop = asyncio.get_running_loop()
            if getattr(loop, "_ready", None):
                self._looks = True
                loop.call_soon(self._look)
                return
            self._position += 1
        self._let_go()


class AsyncBytecodeShuffler:
    """Runs coroutine functions under an `AwaitScheduler`."""

    def __init__(self, scheduler: AwaitScheduler) -> None:
        self.scheduler = scheduler

    async def run(
        self,
        funcs: Sequence[Callable[..., Awaitable[object]]],
        args: Sequence[Sequence[Any]] | None = None,
        kwargs: Sequence[Mapping[str, Any]] | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Run the functions as tasks 0, 1, …, until all have ended.

        Args:
            funcs: Functions that return coroutines.
            args: Positional arguments of each.
            kwargs: Keyword arguments of each.
            timeout: Seconds that all may take.

        Raises:
            The first exception of a task. The other tasks are cancelled.
            TimeoutError: for a deadlock, and when the tasks take too long.
            TypeError, ValueError: for a bad argument, before anything runs.
        """
        most = self.scheduler.num_tasks
        if len(funcs) > most:
            raise ValueError(f"funcs must be at most num_tasks={most}, not {len(funcs)}")
        for name, given in (("args", args), ("kwargs", kwargs)):
            if given is not None and len(given) != len(funcs):
                raise ValueError(f"{name} must have one entry for each of the {len(funcs)} funcs")
        _check_callables("funcs", funcs)
        await self.scheduler.run_all(
            [
                _bound(func, args[i] if args else (), kwargs[i] if kwargs else {})
                for i, func in enumerate(funcs)
            ],
            timeout,
        )


def _bound(
    func: Callable[..., Awaitable[object]], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], Awaitable[object]]:
    return lambda: func(*args, **kwargs)


def _check_callables(name: str, functions: object) -> None:
    if isinstance(functions, str | bytes) or not isinstance(functions, Sequence):
        raise TypeError(f"{name} must be a sequence of coroutine functions, not {functions!r}")
    for index, function in enumerate(functions):
        if not callable(function):
            raise TypeError(f"{name}[{index}] must be callable, not {function!r}")


@contextlib.asynccontextmanager
async def controlled_interleaving(
    schedule: Sequence[int], num_tasks: int = 2
) -> AsyncIterator[AsyncBytecodeShuffler]:
    """A runner whose `run` lets coroutine functions run under this schedule."""
    yield AsyncBytecodeShuffler(AwaitScheduler(schedule, num_tasks))


async def run_with_schedule(
    schedule: Sequence[int],
    setup: Callable[[], State],
    tasks: Sequence[Callable[[State], Awaitable[object]]],
    timeout: float = 5.0,
    deadlock_timeout: float = 5.0,
) -> State:
    """Run the tasks once under a schedule of await points.

    Args:
        schedule: Which task goes on, at each step.
        setup: Builds the state.
        tasks: Coroutine functions, each of which receives the state.
        timeout: Seconds that all may take.
        deadlock_timeout: Seconds that one pause may take.

    Returns:
        The state that `setup` made, when all tasks have ended.

    Raises:
        The first exception of a task. The other tasks are cancelled.
        TimeoutError: for a deadlock, and when the tasks take too long.
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    _check_callables("tasks", tasks)
    if not callable(setup):
        raise TypeError(f"setup must be callable, not {setup!r}")
    scheduler = AwaitScheduler(schedule, max(1, len(tasks)), deadlock_timeout=deadlock_timeout)
    state = setup()
    args = [(state,)] * len(tasks)
    await AsyncBytecodeShuffler(scheduler).run(tasks, args, timeout=timeout)
    return state


async def explore_interleavings(
    setup: Callable[[], State],
    tasks: Sequence[Callable[[State], Awaitable[object]]],
    invariant: Callable[[State], object],
    max_attempts: int = 200,
    max_ops: int = 100,
    timeout_per_run: float = 5.0,
    seed: int | None = None,
    deadlock_timeout: float = 5.0,
    *,
    reproduce_on_failure: int = 10,
) -> InterleavingResult:
    """Run random schedules of await points, until one fails.

    Tasks switch at `await_point` only (and where they really wait). `frontrun.explore` with
    coroutine functions runs every meaningfully different interleaving, of all awaits.

    Args:
        setup: Builds fresh state for each execution.
        tasks: Coroutine functions, each of which receives the state.
        invariant: Asked with the state when all tasks have ended.
        max_attempts: Number of schedules.
        max_ops: Entries of each schedule. Each is any task, with equal chance. When the
            schedule is used up, the tasks run on freely.
        timeout_per_run: Seconds that one execution may take; one that takes longer makes the
            result inconclusive.
        seed: Repeats the same schedules; None for others each time.
        deadlock_timeout: Seconds that one pause may take.
        reproduce_on_failure: How often the counterexample is replayed.

    Returns:
        What was found; `run_with_schedule` repeats its counterexample, which has as few
        preemptions, then switches between tasks, then steps as were found to fail, in at most a
        hundred further executions. A deadlock and an exception of a task are failures.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    options = RandomOptions(
        max_attempts=max_attempts,
        max_ops=max_ops,
        timeout_per_run=timeout_per_run,
        seed=int.from_bytes(os.urandom(4), "big") if seed is None else seed,
        deadlock_timeout=deadlock_timeout,
        reproduce_on_failure=reproduce_on_failure,
    )
    _check_program(setup, tasks, invariant)
    replaying = _exploration.replaying
    if replaying is not None and replaying.fits(len(tasks), "await point"):
        again = replay_schedule(replaying.recording, setup, tasks, invariant)
        replaying.results.append(again)
        return again
    result = InterleavingResult(property_holds=True, seed=options.seed)
    orderings: set[tuple[int, ...]] = set()

    async def run(schedule: Sequence[int]) -> _Execution:
        return await _execute(schedule, setup, tasks, invariant, timeout_per_run, deadlock_timeout)

    assert options.seed is not None
    for attempt in range(max_attempts):
        schedule = _native.random_schedule(options.seed, attempt, len(tasks), max_ops)
        execution = await run(schedule)
        if execution.timed_out is not None:
            result.property_holds = None
            result.inconclusive_reason = _too_long(timeout_per_run, execution.timed_out)
            break
        result.num_explored += 1
        orderings.add(tuple(execution.schedule))
        if execution.kind:
            execution = await _simplified(execution, run)
            failed_again = [await run(execution.schedule) for _ in range(reproduce_on_failure)]
            limits = {"timeout_per_run": timeout_per_run, "deadlock_timeout": deadlock_timeout}
            tell(
                result,
                execution,
                failed_again,
                (setup, tasks, invariant),
                limits,
                head=_head(execution, result.num_explored),
                unit="await point",
            )
            break
    result.unique_interleavings = len(orderings)
    return result


def _check_program(
    setup: Callable[[], State],
    tasks: Sequence[Callable[[State], Awaitable[object]]],
    invariant: Callable[[State], object],
) -> None:
    _check_callables("tasks", tasks)
    if not tasks:
        raise ValueError("tasks must name at least one task")
    for name, function in (("setup", setup), ("invariant", invariant)):
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be an ordinary function, not {function!r}")


@dataclass
class _Execution(Execution):
    """One execution of a schedule of await points."""

    preemptions: int = 0
    timed_out: BaseException | None = None

    @property
    def cost(self) -> tuple[int, int, int]:
        """What is to be small."""
        switches = sum(a != b for a, b in itertools.pairwise(self.schedule))
        return self.preemptions, switches, len(self.steps)


async def _execute(
    schedule: Sequence[int],
    setup: Callable[[], State],
    tasks: Sequence[Callable[[State], Awaitable[object]]],
    invariant: Callable[[State], object],
    timeout: float,
    deadlock_timeout: float,
) -> _Execution:
    scheduler = AwaitScheduler(schedule, len(tasks), deadlock_timeout=deadlock_timeout)
    state = setup()
    execution = _Execution()
    try:
        await AsyncBytecodeShuffler(scheduler).run(tasks, [(state,)] * len(tasks), timeout=timeout)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and error is not scheduler._error:
            raise  # it is the exploration that somebody cancels
        if scheduler.timed_out:
            execution.timed_out = error
        elif scheduler.deadlocked:
            execution.fail("deadlock", str(error))
        else:
            what = f"A task raised {type(error).__name__}: {error}"
            execution.fail("exception", what, error)
    else:
        execution.judge(invariant, state)
    execution.steps, execution.preemptions = scheduler._recorded(), scheduler.preemptions
    execution.story = f"Where tasks went on, in order:\n\n{scheduler.story()}"
    return execution


def _head(execution: Execution, num_explored: int) -> str:
    what = "Deadlock" if execution.kind == "deadlock" else "Race condition"
    return found_after(what, num_explored, num_explored)


def replay_schedule(
    recording: Recording,
    setup: Callable[[], Any],
    tasks: Sequence[Callable[[Any], Awaitable[object]]],
    invariant: Callable[[Any], object],
) -> InterleavingResult:
    """One execution in the recorded order of await points, in an event loop of its own.

    Raises:
        ReplayMismatchError: the program does not do what was recorded.
    """
    _check_program(setup, tasks, invariant)
    recording.check_number(len(tasks), "tasks")
    limits = recording.options["timeout_per_run"], recording.options["deadlock_timeout"]
    with no_running_loop():
        loop = asyncio.new_event_loop()
        try:
            execution = loop.run_until_complete(
                _execute(recording.schedule, setup, tasks, invariant, *limits)
            )
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
    if execution.timed_out is not None:
        return InterleavingResult(
            None, num_explored=1, inconclusive_reason=_too_long(limits[0], execution.timed_out)
        )
    for index, (now, then) in enumerate(
        itertools.zip_longest(execution.steps, recording.steps, fillvalue=None)
    ):
        if now is None:
            raise recording.mismatch(index, "does not come to it") from execution.exception
        if then is None or (now.worker, now.function) != (then.worker, then.function):
            who = "" if then and now.worker == then.worker else f"task {now.worker} comes: "
            raise recording.mismatch(index, f"{who}{now} ({now.file}:{now.line})")
    return replayed(recording, execution, (setup, tasks, invariant), _head(execution, 1))


def _too_long(timeout: float, reason: BaseException) -> str:
    return f"timeout_per_run={timeout}: {reason}"


# Executions that simplifying a counterexample may take.
_MOST_SIMPLIFICATIONS = 100


async def _simplified(
    execution: _Execution, run: Callable[[Sequence[int]], Awaitable[_Execution]]
) -> _Execution:
    """The same failure at a lower cost, as far as that is found."""
    left = _MOST_SIMPLIFICATIONS
    improved = True
    while improved:
        improved = False
        for candidate in _with_fewer_switches(execution.schedule):
            if left == 0:
                break
            left -= 1
            attempt = await run(candidate)
            if attempt.kind == execution.kind and attempt.cost < execution.cost:
                execution, improved = attempt, True
                break
    return execution


def _with_fewer_switches(schedule: Sequence[int]) -> Iterator[list[int]]:
    """Schedules in which two runs of one task are joined, where either was."""
    runs = [list(run) for _, run in itertools.groupby(schedule)]
    for later in range(2, len(runs)):
        for earlier in range(later - 1):
            if runs[earlier][0] == runs[later][0]:
                joined = [runs[earlier] + runs[later]]
                between = runs[earlier + 1 : later]
                for middle in ([*joined, *between], [*between, *joined]):
                    yield list(itertools.chain(*runs[:earlier], *middle, *runs[later + 1 :]))


def schedule_strategy(num_tasks: int, max_ops: int = 100) -> SearchStrategy[list[int]]:
    """A Hypothesis strategy of fair schedules of await points, for `run_with_schedule`.

    A schedule consists of rounds in which each task has one entry, and has at most `max_ops`
    entries. Shrinks towards few rounds, and in a round towards ascending order.

    Raises:
        ImportError: when Hypothesis is not installed.
        TypeError, ValueError: for a bad argument.
    """
    check_int("num_tasks", num_tasks, 1)
    check_int("max_ops", max_ops, 0)
    return fair_schedules(num_tasks, max_ops)
