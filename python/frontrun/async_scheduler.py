"""Tasks of one event loop that stop until a policy of yours lets them go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

__all__ = ["InterleavedLoop"]

TaskFunc = Callable[[], Awaitable[object]]


class InterleavedLoop:
    """Runs tasks that call `pause`, in the order that a subclass decides.

    A subclass overrides `should_proceed` and `on_proceed`. Nothing else runs while they are
    called, and they must not await.

    Args:
        deadlock_timeout: Seconds that one pause may take. A deadlock is recognised at once:
            when every unfinished task is paused and none may proceed, or every one waits for a
            lock, condition, event, semaphore or queue of asyncio and there is no timer, further
            task or further thread that could wake one.
    """

    def __init__(self, *, deadlock_timeout: float = 5.0) -> None:
        if not deadlock_timeout > 0:
            raise ValueError(
                f"deadlock_timeout must be more than 0 seconds, not {deadlock_timeout}"
            )
        self.deadlock_timeout = deadlock_timeout
        self.deadlocked = False
        """Was a deadlock found?"""
        self.timed_out = False
        """Did the tasks of `run_all` take too long?"""
        self._error: BaseException | None = None
        self._unfinished: set[Hashable] = set()
        self._ids: list[Hashable] = []
        self._tasks: list[asyncio.Task[None]] = []
        # Threads that will not wake a task.
        self._uninvolved: set[threading.Thread] = set()
        # Who is paused: the markers, and what wakes them, in the order of arrival.
        self._paused: dict[Hashable, tuple[Any, asyncio.Future[None]]] = {}

    # What a subclass decides.

    def should_proceed(self, task_id: Any, marker: Any = None) -> bool:
        """May this task go on now? Asked again whenever another task went on or ended."""
        return True

    def on_proceed(self, task_id: Any, marker: Any = None) -> None:
        """Take note that this task goes on: called right after `should_proceed` said so."""

    # What a subclass may extend.

    def _setup_task_context(self, task_id: Any) -> None:
        """Prepare a task; called in it before anything else."""

    def _cleanup_task_context(self, task_id: Any) -> None:
        """Undo `_setup_task_context`; called in the task at its very end."""

    def _handle_timeout(self, task_id: Any, marker: Any = None) -> None:
        """A task was paused for too long, or for ever; reports a `TimeoutError`."""
        if self._error is None:
            self.deadlocked = True
        at = "" if marker is None else f" at {marker!r}"
        self._report_error(
            TimeoutError(
                f"Deadlock: task {task_id!r} is paused{at} and may not proceed. {self._standing()}"
            )
        )

    def _mark_done(self, task_id: Any) -> None:
        """A task has ended."""
        self._unfinished.discard(task_id)
        self._let_go()

    def _report_error(self, error: BaseException) -> None:
        """Remember the first error; cancels the tasks of `run_all` and ends other pauses."""
        if self._error is not None:
            return
        self._error = error
        for task in self._tasks:
            task.cancel()
        for _, woken in self._paused.values():
            if not woken.done():
                woken.set_result(None)

    # What tasks and their owner call.

    @property
    def had_error(self) -> bool:
        """Did a task raise, or was a deadlock or a timeout found?"""
        return self._error is not None

    async def pause(self, task_id: Any, marker: Any = None) -> None:
        """Wait until the policy lets this task go on. Returns at once after an error."""
        if self._error is not None:
            return
        if task_id in self._paused:
            raise RuntimeError(f"task {task_id!r} is paused already")
        woken = asyncio.get_running_loop().create_future()
        self._paused[task_id] = (marker, woken)
        try:
            self._let_go()
            async with asyncio.timeout(self.deadlock_timeout):
                await woken
        except TimeoutError:
            self._handle_timeout(task_id, marker)
        finally:
            self._paused.pop(task_id, None)
        if self._error is not None:
            await asyncio.sleep(0)  # a cancellation is to arrive here, before any more code

    async def run_all(
        self,
        task_funcs: Mapping[Any, TaskFunc] | Sequence[TaskFunc],
        timeout: float | None = 10.0,
    ) -> None:
        """Run the tasks, and wait for them.

        Args:
            task_funcs: Functions without parameters that return coroutines, by task id, or in
                a list (ids are 0, 1, …).
            timeout: Seconds for everything; None is no limit.

        Raises:
            The first error of a task. The other tasks are cancelled.
            TimeoutError: after `timeout` seconds, and for a deadlock.
        """
        funcs = task_funcs if isinstance(task_funcs, Mapping) else dict(enumerate(task_funcs))
        self._error = None
        self.deadlocked = self.timed_out = False
        self._paused.clear()
        daemons = (thread for thread in threading.enumerate() if thread.daemon)
        self._uninvolved = {threading.current_thread(), *daemons}
        self._unfinished, self._ids = set(funcs), list(funcs)
        self._tasks = [asyncio.create_task(self._run(key, func)) for key, func in funcs.items()]
        try:
            async with asyncio.timeout(timeout):
                pending = set(self._tasks)
                while pending:
                    _, pending = await asyncio.wait(pending, timeout=_GLANCE)
                    self._look_for_deadlock(has_limit=timeout is not None)
        except TimeoutError:
            self.timed_out = self._error is None
            self._report_error(
                TimeoutError(f"tasks did not end within {timeout} s. {self._standing()}")
            )
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._ids, self._tasks = [], []
        if self._error is not None:
            raise self._error

    async def _run(self, task_id: Any, func: TaskFunc) -> None:
        self._setup_task_context(task_id)
        try:
            await func()
        except asyncio.CancelledError as error:
            # When it was not we who cancelled it, it is the task's own error.
            self._report_error(error)
        except Exception as error:
            self._report_error(error)
        finally:
            self._mark_done(task_id)
            self._cleanup_task_context(task_id)

    def _let_go(self) -> None:
        """Let go on who may, one after the other; recognise that nobody ever will."""
        if self._error is not None:
            return
        progress = True
        while progress:
            progress = False
            for task_id, (marker, woken) in list(self._paused.items()):
                if not woken.done() and self.should_proceed(task_id, marker):
                    self.on_proceed(task_id, marker)
                    woken.set_result(None)
                    progress = True
        stopped = [key for key, (_, woken) in self._paused.items() if not woken.done()]
        if stopped and self._unfinished and self._unfinished <= set(stopped):
            self._handle_timeout(stopped[0], self._paused[stopped[0]][0])

    def _look_for_deadlock(self, *, has_limit: bool) -> None:
        """Recognise that all wait for what only they could do.

        Nobody else must be there who might wake them: a timer, another task or thread. Those
        who are paused may be about to go on.
        """
        waiting = [task for task in self._tasks if not task.done()]
        if self._error is not None or self._paused or not all(map(_waits_for_task, waiting)):
            return
        others = asyncio.all_tasks() - {*waiting, asyncio.current_task()}
        threads = set(threading.enumerate()) - self._uninvolved
        if waiting and not others and not threads and _timers() <= has_limit:
            self.deadlocked = True
            self._report_error(
                TimeoutError(f"Deadlock: every task waits for another one. {self._standing()}")
            )

    def _standing(self) -> str:
        tasks = dict(zip(self._ids, self._tasks, strict=True))
        return "; ".join(
            f"task {key!r} "
            + (
                f"is paused at {self._paused[key][0]!r}"
                if key in self._paused
                else _where(tasks.get(key))
            )
            for key in sorted(self._unfinished, key=repr)
        )


# How often the tasks are looked at (s).
_GLANCE = 0.02
# Where a coroutine of asyncio waits for what only another task does.
_PRIMITIVES = (asyncio.locks.__file__, asyncio.queues.__file__)


def _waits_for_task(task: asyncio.Task[None]) -> bool:
    """Is it stopped in a primitive of asyncio?"""
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return False
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        coroutine = inner
    return coroutine.cr_code.co_filename in _PRIMITIVES


def _where(task: asyncio.Task[None] | None) -> str:
    """Where a task stands that is not paused, in words."""
    from frontrun._async_exploration import frames_of
    from frontrun._explain import is_user_file
    from frontrun._trace_format import show_place

    frames = list(frames_of(task)) if task is not None else []
    own = [frame for frame in frames if is_user_file(frame.f_code.co_filename)]
    if not own:
        return "is not paused"
    place = show_place(own[-1].f_code.co_filename, own[-1].f_lineno)
    inside = "" if own[-1] is frames[-1] else f" in {frames[-1].f_code.co_qualname}()"
    return f"waits{inside} at {place}"


def _timers() -> float:
    """How many timers the event loop has; infinitely many where it does not say."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", None)
    if scheduled is None:
        return float("inf")
    return sum(not handle.cancelled() for handle in scheduled)
