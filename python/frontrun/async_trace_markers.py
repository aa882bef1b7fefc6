"""Run coroutines in an order that is written down with markers in their source.

Each task runs in a thread of its own, under an event loop of its own. So a marker gates
wherever it is: between two awaits, in a coroutine that never suspends, in a plain function.

    async_frontrun(schedule, {"a": lambda: transfer(db, 1), "b": lambda: transfer(db, 2)})
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import FrameType
from typing import Any

from frontrun._markers import is_ours_to_read
from frontrun._turns import Stopped, Worker
from frontrun.common import Schedule, Step
from frontrun.trace_markers import TraceExecutor, bound, check_workers

__all__ = ["AsyncTraceExecutor", "Schedule", "Step", "async_frontrun"]


class AsyncTraceExecutor:
    """Runs tasks in the order of a schedule.

    Args:
        schedule: Which task passes which marker, in order.
        deadlock_timeout: Seconds without a step after which the schedule is given up. It is
            given up at once when every task is stopped or has ended.
    """

    def __init__(self, schedule: Schedule, *, deadlock_timeout: float = 5.0) -> None:
        self.schedule = schedule
        self.deadlock_timeout = deadlock_timeout
        self._executor = _Tasks(schedule, deadlock_timeout=deadlock_timeout)

    @property
    def task_errors(self) -> dict[str, BaseException]:
        """What each task raised, in the order of time."""
        return self._executor.thread_errors

    def run(
        self,
        tasks: Mapping[str, Callable[[], Coroutine[Any, Any, object]]],
        timeout: float | None = 10.0,
    ) -> None:
        """Run the tasks, and wait for them.

        Blocks the calling thread, also where that runs an event loop. When the tasks have to
        be ended early, those that are stopped at a marker are unwound and the others are
        cancelled.

        Args:
            tasks: Their names, and functions without parameters that return coroutines.
            timeout: Seconds for everything; None is no limit.

        Raises:
            The first error of a task, with its traceback; `asyncio.CancelledError` for a task
                that cancelled itself.
            TimeoutError: when `timeout` seconds have passed, or the schedule cannot be
                completed: names the steps never reached and where each task stands.
            ValueError: when the schedule names a task or a marker that does not exist.
        """
        check_workers(self.schedule, tasks)
        self._executor.run(tasks, timeout=timeout)

    def reset(self) -> None:
        """Forget what ran, so that the same schedule can be run again."""
        self._executor.reset()


class _Tasks(TraceExecutor):
    """Workers that are coroutines."""

    def _clear(self) -> None:
        super()._clear()
        self._running: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}

    def _call(self, worker: Worker, target: Callable[..., object]) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            self._running[worker.name] = (asyncio.get_running_loop(), task)
            worker.suspended = lambda: _users_frame(task)
            coroutine = target()
            if not inspect.isawaitable(coroutine):
                raise TypeError(f"task {worker.name!r} must return a coroutine, not {coroutine!r}")
            await coroutine

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            if self.coordinator.error is not None:
                raise Stopped from None  # it was we who cancelled it
            raise

    def _interrupt(self) -> None:
        for loop, task in list(self._running.values()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)


def _users_frame(task: asyncio.Task[Any]) -> FrameType | None:
    from frontrun._async_exploration import frames_of

    own = [frame for frame in frames_of(task) if is_ours_to_read(frame.f_code.co_filename)]
    return own[-1] if own else None


def async_frontrun(
    schedule: Schedule,
    tasks: Mapping[str, Callable[..., Coroutine[Any, Any, object]]],
    task_args: Mapping[str, Sequence[Any]] | None = None,
    task_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    timeout: float | None = 10.0,
    deadlock_timeout: float = 5.0,
) -> AsyncTraceExecutor:
    """Run coroutines in the order of a schedule, and wait for them.

    Args:
        schedule: Which task passes which marker, in order.
        tasks: Their names, and the functions that return their coroutines.
        task_args: Positional arguments, by name.
        task_kwargs: Keyword arguments, by name.
        timeout: Seconds for everything; None is no limit.
        deadlock_timeout: Seconds without a step after which the schedule is given up.

    Raises:
        What `AsyncTraceExecutor.run` raises.
    """
    executor = AsyncTraceExecutor(schedule, deadlock_timeout=deadlock_timeout)
    executor.run(bound(tasks, task_args, task_kwargs), timeout=timeout)
    return executor
