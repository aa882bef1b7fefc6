"""Schedules of await points: tasks of one event loop that stop where they say so.

A schedule is a list of task indices. Tasks start in the order of their indices and run to their
first `await_point`; one entry lets a task go on from one `await_point` to the next.
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

from frontrun import _native
from frontrun._exploration import RandomOptions, check_int, check_schedule
from frontrun._hypothesis import fair_schedules
from frontrun._trace_format import found_after, paragraphs, reproduction, show_place
from frontrun.async_scheduler import InterleavedLoop
from frontrun.common import InterleavingResult

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

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
        scheduler._places[task_id] = caller.f_code.co_filename, caller.f_lineno
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
        # Where each task paused last, and where each step was taken.
        self._places: dict[int, tuple[str, int]] = {}
        self._steps: list[tuple[int, tuple[str, int]]] = []

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
        self.taken.append(task_id)
        self._steps.append((task_id, self._places.get(task_id, ("", 0))))

    def story(self) -> str:
        """The source line from which each task went on, in the order in which they did."""
        lines = []
        for task_id, (filename, line) in self._steps:
            source = linecache.getline(filename, line).strip()
            lines.append(f"  task {task_id}  {show_place(filename, line)}  {source}".rstrip())
        return "\n".join(lines)

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

    Returns:
        What was found; `run_with_schedule` repeats its counterexample, which has as few switches
        between tasks as were found to fail, in at most a hundred further executions. A deadlock
        and an exception of a task are failures.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    options = RandomOptions(
        max_attempts=max_attempts,
        max_ops=max_ops,
        timeout_per_run=timeout_per_run,
        seed=int.from_bytes(os.urandom(4), "big") if seed is None else seed,
        deadlock_timeout=deadlock_timeout,
    )
    _check_callables("tasks", tasks)
    if not tasks:
        raise ValueError("tasks must name at least one task")
    for name, function in (("setup", setup), ("invariant", invariant)):
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be an ordinary function, not {function!r}")
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
            result.inconclusive_reason = f"timeout_per_run={timeout_per_run}: {execution.timed_out}"
            break
        result.num_explored += 1
        orderings.add(tuple(execution.schedule))
        if execution.failure:
            await _tell(result, execution, run)
            break
    result.unique_interleavings = len(orderings)
    return result


@dataclass
class _Execution:
    """What came of one execution."""

    schedule: list[int]
    """The task of each step that was taken."""
    failure: str
    """What was wrong, in words; empty when nothing was."""
    kind: str
    """``"deadlock"``, ``"exception"`` or ``"invariant"``."""
    story: str
    exception: BaseException | None = None
    timed_out: BaseException | None = None


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
    execution = _Execution(scheduler.taken, "", "invariant", "")
    try:
        await AsyncBytecodeShuffler(scheduler).run(tasks, [(state,)] * len(tasks), timeout=timeout)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and error is not scheduler._error:
            raise  # it is the exploration that somebody cancels
        if scheduler.timed_out:
            execution.timed_out = error
        elif scheduler.deadlocked:
            execution.failure, execution.kind = str(error), "deadlock"
        else:
            execution.failure = f"A task raised {type(error).__name__}: {error}"
            execution.kind, execution.exception = "exception", error
    else:
        try:
            if not invariant(state):
                execution.failure = "The invariant does not hold in the final state."
        except Exception as error:
            execution.failure = f"The invariant raised {type(error).__name__}: {error}"
    execution.story = scheduler.story()
    return execution


_REPRODUCTIONS = 10
# Executions that simplifying a counterexample may take.
_MOST_SIMPLIFICATIONS = 100


async def _tell(
    result: InterleavingResult,
    execution: _Execution,
    run: Callable[[Sequence[int]], Awaitable[_Execution]],
) -> None:
    """Simplify, replay and explain a failure."""
    execution = await _simplified(execution, run)
    again = [await run(execution.schedule) for _ in range(_REPRODUCTIONS)]
    result.property_holds = False
    result.counterexample = execution.schedule
    result.exception = execution.exception
    result.reproduction_attempts = len(again)
    result.reproduction_successes = sum(
        each.kind == execution.kind for each in again if each.failure
    )
    what = "Deadlock" if execution.kind == "deadlock" else "Race condition"
    result.explanation = paragraphs(
        [
            found_after(what, result.num_explored, result.num_explored),
            execution.failure,
            f"Where tasks went on, in order:\n\n{execution.story}",
            reproduction(result.reproduction_attempts, result.reproduction_successes),
        ]
    )


async def _simplified(
    execution: _Execution, run: Callable[[Sequence[int]], Awaitable[_Execution]]
) -> _Execution:
    """The same failure with fewer switches between tasks, as far as that is found."""
    left = _MOST_SIMPLIFICATIONS
    improved = True
    while improved:
        improved = False
        for candidate in _with_fewer_switches(execution.schedule):
            if left == 0:
                break
            left -= 1
            attempt = await run(candidate)
            same = bool(attempt.failure) and attempt.kind == execution.kind
            if same and _switches(attempt.schedule) < _switches(execution.schedule):
                execution, improved = attempt, True
                break
    return execution


def _switches(schedule: Sequence[int]) -> int:
    return sum(a != b for a, b in itertools.pairwise(schedule))


def _with_fewer_switches(schedule: Sequence[int]) -> Iterator[list[int]]:
    """Schedules in which a run of one task is moved to an earlier run of that task."""
    runs = [list(run) for _, run in itertools.groupby(schedule)]
    for later in range(2, len(runs)):
        for earlier in range(later - 1):
            if runs[earlier][0] == runs[later][0]:
                rest = runs[:later] + runs[later + 1 :]
                rest[earlier] = rest[earlier] + runs[later]
                yield list(itertools.chain(*rest))


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
