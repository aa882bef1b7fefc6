"""An event loop whose next step is chosen by the native scheduler, on virtual time.

Between `setup` and the workers, and after them, it is an ordinary loop: first in, first out.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from asyncio import futures, tasks
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from types import CodeType, FrameType
from typing import Any, NamedTuple

from frontrun import _native
from frontrun._explain import is_user_file

Callback = Callable[..., object]

# Timers that are due within so many seconds of the earliest are due with it.
RESOLUTION = 1e-4

# Each reading of the clock moves it on, so that a loop that waits for time to pass ends.
TICK = 1e-6


class _Handle(asyncio.Handle):
    __slots__ = ()

    def cancel(self) -> None:
        _native.loop_cancel(self)
        super().cancel()


class Timeout(NamedTuple):
    """A timeout that a task has set."""

    worker: int
    seconds: float
    code: CodeType | None
    """Where, if that is known."""
    offset: int


# What ends `asyncio.timeout` and `wait_for`, `wait`, and `anyio.move_on_after`.
_ON_TIMEOUT = ("Timeout._on_timeout", "_release_waiter", "CancelScope._timeout")


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ("owner", "timeout")

    _scheduled: bool
    owner: tuple[int, int] | None
    timeout: Timeout | None

    def cancel(self) -> None:
        _native.loop_cancel(self)
        super().cancel()


class _Task(tasks.Task):  # type: ignore[type-arg]
    """A task whose place in a set is the same in every execution."""

    __slots__ = ("number",)

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self.number = number
        if options.get("name") is None:
            options["name"] = f"Task-{number}"
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


def _task_of(callback: Callback) -> asyncio.Task[Any] | None:
    """The task whose next step this callback is."""
    owner = getattr(callback, "__self__", None)
    if not isinstance(owner, tasks.Task | tasks._PyTask):  # type: ignore[attr-defined]
        return None
    name = getattr(callback, "__name__", None)
    # The step of a C task has no name; its wake-up has this one; the others are Python's.
    is_step = name in (None, "task_wakeup", "__step", "__wakeup")
    return owner if is_step else None


# The timers of `asyncio.sleep`: they do nothing but wake their task.
_WAKE = futures._set_result_unless_cancelled  # type: ignore[attr-defined]


class EventLoop(asyncio.BaseEventLoop):
    """The loop of one execution."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: Any
        self._scheduled: list[_TimerHandle]
        self._stopping: bool
        self._now = 0.0
        self._readings = 0
        self._made = 0
        self._scheduling = False
        self._awaited: list[asyncio.Task[Any]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.labels: dict[int, str] = {}
        self.numbers: dict[asyncio.Task[Any], int] = {}
        self.expired: dict[int, Timeout] = {}
        """By the worker that its timer is."""
        self.errors: list[tuple[int, BaseException]] = []

    # Time

    def time(self) -> float:
        self._readings += 1
        return self._clock() + self._readings * TICK

    def _clock(self) -> float:
        self._now = _native.loop_clock(self._now)
        return self._now

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self._clock() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        self._check_closed()  # type: ignore[attr-defined]
        timer = _TimerHandle(when, callback, args, self, context)
        timer.owner, timer.timeout = None, None
        if self._scheduling and callback is not _WAKE:
            timer.owner = _native.loop_timer()
            if getattr(callback, "__qualname__", None) in _ON_TIMEOUT:
                timer.timeout = self._timeout(when)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _timeout(self, when: float) -> Timeout:
        """What the running task has set, which ends then."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not is_user_file(frame.f_code.co_filename):
            frame = frame.f_back if frame.f_code is not _run.__code__ else None
        place = (frame.f_code, frame.f_lasti) if frame is not None else (None, 0)
        return Timeout(_native.loop_worker() or 0, round(when - self._clock(), 4), *place)

    def _due(self) -> list[_TimerHandle]:
        """Let time jump to the earliest timer; those that are due."""
        timers = self._scheduled
        self._now = max(self._now, timers[0].when())
        self._clock()
        due: list[_TimerHandle] = []
        while timers and timers[0].when() <= self._now + RESOLUTION:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            due.append(timer)
        return due

    def _has_timers(self) -> bool:
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False
        return bool(timers)

    # Callbacks

    def _call_soon(
        self, callback: Callback, args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        if self._scheduling:
            self._make_ready(handle, _task_of(callback))
        else:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callback, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _make_ready(self, handle: asyncio.Handle, task: asyncio.Task[Any] | None) -> None:
        worker = _native.loop_ready(handle, task, self)
        if worker not in self.labels:
            self.labels[worker] = _label(task, handle)
        if task is not None:
            self.numbers[task] = worker

    def _run_once(self) -> None:
        if self._scheduling:
            self._run_chosen()
        elif self._ready:
            _run(self._ready.popleft())
        elif self._has_timers():
            self._ready.extend(self._due())
        else:
            self._stopping = True

    def _run_chosen(self) -> None:
        """One block, of whoever the scheduler chooses."""
        handle = _native.loop_next(False)
        if handle is None and self._has_timers() and not all(t.done() for t in self._awaited):
            handle = _native.loop_next(True)
        if handle is None:
            self._stopping = True
        elif handle is True:
            self._pass_time()
        else:
            self._note_timeout(handle)
            _run(handle)

    def _note_timeout(self, handle: asyncio.Handle) -> None:
        if handle.cancelled() or not isinstance(handle, _TimerHandle) or handle.timeout is None:
            return
        awaited: Sequence[Any] = handle._args
        # What has ended already does not time out any more.
        if not any(isinstance(each, asyncio.Future) and each.done() for each in awaited):
            self.expired[_native.loop_worker() or 0] = handle.timeout

    def _label_of(self, timer: _TimerHandle) -> str:
        if timer.timeout is None:
            return _label(None, timer)
        return f"the timeout of {self.labels.get(timer.timeout.worker, 'a callback')}"

    def _pass_time(self) -> None:
        for timer in self._due():
            if timer.cancelled():
                continue
            if timer.owner is None:
                timer._run()
            else:
                worker = _native.loop_ready(timer, timer.owner, self)
                self.labels.setdefault(worker, self._label_of(timer))

    # Tasks

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self.get_task_factory() is not None:
            task: asyncio.Task[Any] = super().create_task(coro, **options)
        else:
            self._check_closed()  # type: ignore[attr-defined]
            task = self._new_task(coro, **options)
        self.tasks.append(task)
        return task

    def _new_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self._made += 1
        return _Task(self._made, coro, loop=self, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callback, *args: Any
    ) -> Any:
        """Run the function as one step of a task of its own."""

        async def call() -> object:
            return func(*args)

        call.__qualname__ = getattr(func, "__qualname__", "run_in_executor")
        return self.create_task(call())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take the exception of a callback for a failure, unless the program handles it."""
        exception = context.get("exception")
        if self._scheduling and exception is not None and self.get_exception_handler() is None:
            self.errors.append((_native.loop_worker() or 0, exception))
        elif self.get_exception_handler() is not None:
            super().call_exception_handler(context)

    # Executions

    def schedule(self, coroutines: list[Coroutine[Any, Any, object]], context: Context) -> None:
        """Run workers by the native scheduler until nobody can go on.

        Once the workers have ended, what is left runs on only as long as no time passes.
        """
        left = list(self._ready)
        self._ready.clear()
        others = [task for task in self.tasks if not task.done()]
        self._scheduling = True
        try:
            # Made without the program's task factory: no step runs before it is chosen.
            self._awaited = [self._new_task(coro, context=context.copy()) for coro in coroutines]
            self.labels.update((i, f"worker {i}") for i in range(len(self._awaited)))
            self.labels[len(self._awaited)] = "the clock"
            for task in others:
                self.numbers[task] = _native.loop_adopt(task)
                self.labels[self.numbers[task]] = _label(task)
            for handle in left:
                self._make_ready(handle, _task_of(handle._callback))
            for timer in self._scheduled:
                if timer._callback is not _WAKE:  # type: ignore[attr-defined]
                    timer.owner = _native.loop_timer()
            self.run_forever()
        finally:
            self._scheduling = False

    def complete(self, what: str, coroutine: Coroutine[Any, Any, object]) -> object:
        """Run the coroutine to its end, and everything else meanwhile, first in, first out.

        Raises:
            RuntimeError: `what` waits for something that nobody does.
        """
        task = self._new_task(coroutine)
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if not task.done():
            self.tasks.append(task)
            raise RuntimeError(f"{what} waits for something that nobody does")
        return task.result()

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """If a worker has not ended, all tasks that have not."""
        if all(task.done() for task in self._awaited):
            return []
        return [task for task in (*self._awaited, *self.tasks) if not task.done()]

    @property
    def workers(self) -> list[asyncio.Task[Any]]:
        """The tasks of the workers."""
        return self._awaited

    def dispose(self) -> None:
        """End what is left, and close."""
        if self.is_closed() or self.is_running():
            return  # Whoever runs it was interrupted, and still ends on its own thread.
        self.set_exception_handler(lambda loop, context: None)
        pending = [task for task in (*self._awaited, *self.tasks) if not task.done()]
        for task in pending:
            task.cancel()
        self.call_later(3600.0, self.stop)
        self.run_forever()
        self.run_until_complete(self.shutdown_asyncgens())
        for task in (*self._awaited, *self.tasks):
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task)
            elif not task.cancelled():
                task.exception()  # seen: not logged any more
        self.close()


def _close(task: asyncio.Task[Any]) -> None:
    """End a task that was cut off, or never began, and that its loop cannot reach."""
    coro = task.get_coro()
    try:
        if coro is not None:
            coro.close()
    except Exception as error:
        # It goes on when it should end.
        task.get_loop().call_exception_handler({"message": str(error)})


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


def _label(task: asyncio.Task[Any] | None, handle: asyncio.Handle | None = None) -> str:
    """What people are told a task or a callback is."""
    if task is not None:
        coro = task.get_coro()
        return f"task {getattr(coro, '__qualname__', None) or type(coro).__name__}"
    callback = getattr(handle, "_callback", None)
    name = getattr(callback, "__qualname__", None) or type(callback).__name__
    return f"callback {name}"


def _unsupported(name: str) -> Callback:
    def method(self: EventLoop, *args: object, **options: object) -> object:
        raise NotImplementedError(
            f"loop.{name} does real I/O, which a deterministic event loop cannot do: give the "
            "workers something in its place that keeps to asyncio's own primitives"
        )

    method.__name__ = name
    return method


for _name in (
    "add_reader",
    "add_writer",
    "remove_reader",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "create_connection",
    "create_server",
    "create_datagram_endpoint",
    "create_unix_connection",
    "create_unix_server",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_exec",
    "subprocess_shell",
    "start_tls",
    "sendfile",
    "getaddrinfo",
    "getnameinfo",
    "add_signal_handler",
    "remove_signal_handler",
):
    setattr(EventLoop, _name, _unsupported(_name))
