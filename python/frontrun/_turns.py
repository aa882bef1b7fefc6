"""Who runs next among workers on OS threads that stop at gates."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType

from frontrun._markers import is_ours_to_read
from frontrun.common import Schedule, Step

# How often those who wait look whether a running worker has come to wait for something (s).
_GLANCE = 0.005
# For how long a worker that was just woken may still seem to wait (s).
_SETTLING = 0.005
# A worker waits for a lock when it used no processor for this long (s): longer than the
# periods in which a thread that merely wants the GIL wakes up.
_LOCK_IDLE = 0.02
# The same for any other wait, which may be a slow answer.
_OTHER_IDLE = 0.2

_FUTEX = "202"
# System calls that sleep, with the position of their time limit where it may be missing.
_SLEEPS = {"35": None, "230": None, "232": 4, "281": 4, "441": 4}


class Stopped(BaseException):
    """Unwinds a worker whose run was given up; not to be caught."""


# Threads of workers that could not be ended: they will never do anything for anybody.
_left_behind: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@dataclass(eq=False)
class Worker:
    """A thread of a schedule, and where it stands."""

    name: str
    thread: threading.Thread
    native_id: int = 0
    gate: str | None = None
    """The marker it is stopped at; the empty one is the start."""
    ended: bool = False
    inside: bool = False
    """Is it in the coordinator, whose lock it may wait for?"""
    place: tuple[str, int, str] = ("", 0, "")
    """File, line and function of its latest marker."""
    suspended: Callable[[], FrameType | None] = lambda: None
    """The frame of the user's that it is suspended in, where its thread runs an event loop."""
    cpu: int = -1
    idle_since: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        """Is it neither at a gate nor at its end?"""
        return self.gate is None and not self.ended

    def attach(self) -> None:
        """Say that the calling thread is the worker's."""
        self.thread, self.native_id = threading.current_thread(), threading.get_native_id()
        self.cpu = -1

    def waits(self, at: float) -> bool:
        """Did it wait, at this time and until now, for what another worker may have to do?"""
        return self._waits_in(at) is not None

    def waits_for_lock(self, at: float) -> bool:
        """Is that a lock, and without a time limit?"""
        call = self._waits_in(at)
        return call is not None and call[:1] == [_FUTEX] and int(call[4], 16) == 0

    def _waits_in(self, at: float) -> list[str] | None:
        """The system call that it waits in and its arguments; empty where that is unknown."""
        idle = self._idle_at(at)
        if self.inside or idle < max(_LOCK_IDLE, 4 * sys.getswitchinterval()):
            return None
        call = self._system_call()
        # Reading that lets other threads run: only of one that did not is it true.
        if call == ["running"] or self._idle_at(at) != idle:
            return None
        if call[:1] == [_FUTEX]:
            return call
        if call and call[0] in _SLEEPS:
            limit = _SLEEPS[call[0]]
            if limit is None or not int(call[limit], 16) & 0x8000_0000:
                return None
        return call if idle >= _OTHER_IDLE else None

    def _idle_at(self, at: float) -> float:
        """For how long it had used no processor at this time; negative when it has since."""
        try:
            # The clock of a thread's processor time, as pthread_getcpuclockid makes it, but
            # refused by the kernel when the thread is gone.
            cpu = time.clock_gettime_ns((~self.native_id << 3) | 6)
        except OSError:
            self.ended = True
            return -1.0
        if cpu != self.cpu:
            self.cpu, self.idle_since = cpu, time.monotonic()
        return at - self.idle_since

    def _system_call(self) -> list[str]:
        try:
            with open(f"/proc/self/task/{self.native_id}/syscall") as file:
                return file.read().split()
        except OSError:
            return []

    def where(self) -> str:
        """Where it stands, in words."""
        if self.ended:
            return "has ended"
        if self.gate == "":
            return "has not begun"
        frame = self.suspended() if self.gate is None else None
        frame = frame or sys._current_frames().get(self.thread.ident or 0)
        at = f" ({_place(frame)})" if frame is not None else ""
        if self.gate is not None:
            return f"is stopped before marker {self.gate!r}{at}"
        return f"{'waits' if self.waits(time.monotonic()) else 'runs'}{at}"


def _place(frame: FrameType) -> str:
    innermost: FrameType | None = frame
    while innermost is not None and not is_ours_to_read(innermost.f_code.co_filename):
        innermost = innermost.f_back
    frame = innermost or frame
    code = frame.f_code
    return f"{os.path.relpath(code.co_filename)}:{frame.f_lineno} in {code.co_name}"


def named(step: Step) -> str:
    """A step as it is written in a schedule."""
    return f"Step({step.execution_name!r}, {step.marker_name!r})"


class ThreadCoordinator:
    """Lets threads pass markers in the order of a schedule, one thread at a time.

    The worker that was let pass has the turn until it reaches its next marker, ends, or waits
    for a lock (or for anything else without a time limit). A worker that keeps the turn for
    half of `deadlock_timeout` loses it, so that one that polls for what another worker does is
    not waited for in vain. When the last step's turn is over, all markers are open.

    Args:
        schedule: The steps, in order.
        deadlock_timeout: Seconds without a step after which the schedule is given up.
    """

    def __init__(self, schedule: Schedule, *, deadlock_timeout: float = 5.0) -> None:
        if not deadlock_timeout > 0:
            raise ValueError(
                f"deadlock_timeout must be more than 0 seconds, not {deadlock_timeout}"
            )
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule, not {schedule!r}")
        for index, step in enumerate(schedule.steps):
            if not isinstance(step, Step):
                raise TypeError(f"schedule.steps[{index}] must be a Step, not {step!r}")
        self.schedule = schedule
        self.deadlock_timeout = deadlock_timeout
        self.current_step = 0
        """Number of steps taken."""
        self.places: list[tuple[str, int, str]] = []
        """File, line and function of the marker, for each step taken."""
        self.standing: dict[str, str] = {}
        """Where each worker stood when the schedule was given up for lack of a step."""
        self.error: BaseException | None = None
        """Why the schedule was given up; None while it was not."""
        self.stuck_at_once = False
        """Was it given up because no worker could run on, rather than after a time?"""
        self.deadlocked = False
        """Did every worker that had not ended wait for a lock by then?"""
        self._open = not schedule.steps
        self._expected: set[str] = set()
        # The thread that waits for the end of the workers.
        self._owner: threading.Thread | None = None
        self._others: dict[threading.Thread, Worker] = {}
        self._workers: dict[str, Worker] = {}
        # When a worker last stopped, went on or ended.
        self._since = time.monotonic()
        self._changed = threading.Condition()

    @property
    def completed(self) -> bool:
        """Was every step taken?"""
        return self.current_step == len(self.schedule.steps)

    @property
    def all_ended(self) -> bool:
        """Has every worker ended?"""
        return all(each.ended for each in self._workers.values())

    def is_finished(self) -> bool:
        """Is the schedule completed, or was it given up?"""
        return self.completed or self.error is not None

    def report_error(self, error: BaseException) -> None:
        """Give the schedule up; the first error counts. Opens all markers."""
        with self._changed:
            if self.error is None:
                self.error = error
            self._changed.notify_all()

    def wait_for_turn(
        self,
        execution_name: str,
        marker_name: str,
        *,
        _reacquire_execution_lock: bool = False,
    ) -> None:
        """Return when the schedule lets this worker pass this marker.

        Returns at once when the schedule is finished. `_reacquire_execution_lock` changes
        nothing: a worker that returns from here always has the turn.

        Raises:
            TimeoutError: when the schedule cannot be completed, with the steps that were
                never reached and where each worker stands.
        """
        worker = self._workers.get(execution_name)
        if worker is not None:
            worker.inside = True
        with self._changed:
            if worker is None:
                worker = self._add(execution_name, threading.current_thread())
                worker.inside = True
            for other in self._workers.values():
                # One thread that plays several workers is in one place only.
                if other is not worker and other.running and other.thread is _this_thread():
                    other.ended = True
            worker.ended = False
            worker.attach()
            try:
                self._stop(worker, marker_name)
            finally:
                worker.gate, worker.cpu, worker.inside = None, -1, False

    def started(self, worker_name: str, thread: threading.Thread) -> Worker:
        """Add a worker whose thread is about to start."""
        with self._changed:
            self._since = time.monotonic()
            worker = self._add(worker_name, thread)
            worker.gate = ""
            return worker

    def begin(self, worker: Worker) -> None:
        """Wait, on the worker's own thread, until it may run to its first marker."""
        with self._changed:
            worker.attach()
            worker.inside = True
            self._stop(worker, "")
            worker.inside, worker.cpu = False, -1

    def ended(self, worker: Worker) -> None:
        """Say that a worker has nothing more to do."""
        worker.inside = True
        with self._changed:
            worker.ended, worker.gate = True, None
            self._since = time.monotonic()
            self._advance()
            self._changed.notify_all()

    def expect(self, names: Iterable[str]) -> None:
        """Take no step before these workers have started."""
        self._expected |= set(names)

    def wait_until_ended(self, until: float | None) -> None:
        """Wait for all workers, until this time of the monotonic clock or an error."""
        with self._changed:
            self._owner = _this_thread()
            while self.error is None and not self.all_ended:
                rest = _GLANCE if until is None else until - time.monotonic()
                if rest <= 0:
                    self.error = TimeoutError(self._timed_out())
                    self._changed.notify_all()
                    return
                self._changed.wait(min(_GLANCE, rest))
                self._advance()

    def unwind(self, seconds: float) -> None:
        """Let workers end, this long at most; those that wait for a lock are left behind."""
        until = time.monotonic() + seconds
        rest: list[Worker] = []
        with self._changed:
            for worker in self._workers.values():
                worker.cpu = -1  # it was woken just now, whether it has noticed or not
            while time.monotonic() < until:
                rest = [each for each in self._workers.values() if not each.ended]
                if all(each.waits(time.monotonic()) for each in rest):
                    break
                self._changed.wait(_GLANCE)
            now = time.monotonic()
            _left_behind.update(each.thread for each in rest if each.waits(now))

    def _add(self, name: str, thread: threading.Thread) -> Worker:
        worker = self._workers[name] = Worker(name, thread)
        return worker

    def _stop(self, worker: Worker, gate: str) -> None:
        worker.gate = gate
        self._since = time.monotonic()
        self._advance()
        self._changed.notify_all()
        while worker.gate is not None and self.error is None:
            self._changed.wait(_GLANCE)
            self._advance()
        if self.error is not None and isinstance(self.error, TimeoutError) and gate:
            raise self.error

    def _advance(self) -> None:
        """Let those go on who may. The lock is held."""
        if self.error is not None:
            return
        now = time.monotonic()
        busy = [each for each in self._workers.values() if each.running and not each.waits(now)]
        quiet = now - self._since
        if self._open:
            self._let_all_go()
            if not busy and self._all_wait_for_locks(now):
                self._fail("Deadlock after the last step: every worker waits for a lock.")
            return
        if busy and quiet < self.deadlock_timeout / 2:
            return
        if quiet < _SETTLING and any(each.running for each in self._workers.values()):
            return  # what they wait for may have come with the latest event
        if self.completed:
            self._open = True
            self._let_all_go()
            return
        for worker in self._workers.values():
            if worker.gate == "":
                self._let_go(worker)
                return
        step = self.schedule.steps[self.current_step]
        next_worker = self._workers.get(step.execution_name)
        if next_worker is not None and next_worker.gate == step.marker_name:
            if self._expected <= self._workers.keys() or self._owner is not None:
                self.current_step += 1
                self.places.append(next_worker.place)
                self._let_go(next_worker)
        elif not busy and self._nobody_can_help(next_worker, now):
            self.stuck_at_once = True
            self._give_up()
        elif quiet >= self.deadlock_timeout:
            self._give_up()

    def _let_go(self, worker: Worker) -> None:
        worker.gate = None
        worker.cpu = -1
        self._since = time.monotonic()
        self._changed.notify_all()

    def _let_all_go(self) -> None:
        for worker in self._workers.values():
            if worker.gate is not None:
                self._let_go(worker)

    def _nobody_can_help(self, next_worker: Worker | None, now: float) -> bool:
        """Will the next step's worker never come, now that no worker runs on?"""
        if next_worker is None:
            return self._owner is not None
        if not next_worker.running:
            return True
        return self._all_wait_for_locks(now)

    def _all_wait_for_locks(self, now: float) -> bool:
        """Do all workers that are not stopped wait for locks that only they could release?"""
        if now - self._since < _LOCK_IDLE:
            return False
        known = {each.thread for each in self._workers.values()} | {*_left_behind, self._owner}
        # A thread that is no worker may do what is waited for, unless it waits itself.
        self._others = {
            thread: self._others.get(thread) or Worker("", thread, thread.native_id or 0)
            for thread in threading.enumerate()
            if thread not in known
        }
        waiting = [each for each in self._workers.values() if each.running]
        others = list(self._others.values())
        if not waiting or not all(each.waits_for_lock(now) for each in [*waiting, *others]):
            return False
        self.deadlocked = all(each.gate is None for each in self._workers.values())
        return True

    def _give_up(self) -> None:
        rest = self.schedule.steps[self.current_step :]
        count = f"{len(rest)} of {len(self.schedule.steps)} steps were never reached"
        self._fail(f"Schedule incomplete: {count}: {', '.join(map(named, rest))}.")

    def _fail(self, reason: str) -> None:
        self.error = TimeoutError(reason + self._standing())
        self._changed.notify_all()

    def _timed_out(self) -> str:
        if self.completed:
            return f"Workers did not end in time.{self._standing()}"
        rest = ", ".join(map(named, self.schedule.steps[self.current_step :]))
        return f"Schedule incomplete: time is up before {rest}.{self._standing()}"

    def _standing(self) -> str:
        self.standing = {name: each.where() for name, each in self._workers.items()}
        return "".join(f"\n  {name!r} {where}" for name, where in self.standing.items())


def _this_thread() -> threading.Thread:
    return threading.current_thread()
