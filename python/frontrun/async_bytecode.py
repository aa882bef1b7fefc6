"""Schedules of await points: tasks of one event loop that stop where they say so.

A schedule is a list of task indices. Tasks start in the order of their indices and run to their
first `await_point`; one entry lets a task go on from one `await_point` to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import linecache
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from frontrun import _native
from frontrun._exploration import RandomOptions, check_schedule
from frontrun._hypothesis import fair_schedules
from frontrun._trace_format import show_place
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
        if not isinstance(num_tasks, int) or isinstance(num_tasks, bool):
            raise TypeError(f"num_tasks must be an int, not {num_tasks!r}")
        if num_tasks < 1:
            raise ValueError(f"num_tasks must be at least 1, not {num_tasks}")
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
        What was found; `run_with_schedule` repeats its counterexample. A deadlock and an
        exception of a task are failures.

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
    assert options.seed is not None
    for attempt in range(max_attempts):
        schedule = _native.random_schedule(options.seed, attempt, len(tasks), max_ops)
        scheduler = AwaitScheduler(schedule, len(tasks), deadlock_timeout=deadlock_timeout)
        state = setup()
        try:
            args = [(state,)] * len(tasks)
            await AsyncBytecodeShuffler(scheduler).run(tasks, args, timeout=timeout_per_run)
            failure = _judge(invariant, state)
        except Exception as error:
            if scheduler.timed_out:
                result.property_holds = None
                result.inconclusive_reason = f"timeout_per_run={timeout_per_run}: {error}"
                break
            failure = f"A task raised {type(error).__name__}: {error}"
            if scheduler.deadlocked:
                failure = str(error)
            else:
                result.exception = error
        result.num_explored += 1
        orderings.add(tuple(scheduler.taken))
        if failure:
            result.property_holds = False
            result.counterexample = scheduler.taken
            what = "Deadlock" if scheduler.deadlocked else "Race condition"
            result.explanation = (
                f"{what} found after {result.num_explored} interleavings.\n\n{failure}\n\n"
                f"Where tasks went on, in order:\n\n{scheduler.story()}"
            )
            break
    result.unique_interleavings = len(orderings)
    return result


def _judge(invariant: Callable[[State], object], state: State) -> str:
    """What is wrong with a final state; empty when nothing is."""
    try:
        return "" if invariant(state) else "The invariant does not hold in the final state."
    except Exception as error:
        return f"The invariant raised {type(error).__name__}: {error}"


def schedule_strategy(num_tasks: int, max_ops: int = 100) -> SearchStrategy[list[int]]:
    """A Hypothesis strategy of fair schedules of await points, for `run_with_schedule`.

    A schedule consists of rounds in which each task has one entry, and has at most `max_ops`
    entries. Shrinks towards few rounds, and in a round towards ascending order.

    Raises:
        ImportError: when Hypothesis is not installed.
    """
    return fair_schedules(num_tasks, max_ops)
