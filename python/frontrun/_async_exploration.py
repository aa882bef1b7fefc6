"""Exploration of async workers: the tasks of an event loop of ours, in one fiber."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from asyncio import events, tasks
from collections import Counter, defaultdict
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from itertools import groupby
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from frontrun import _exploration
from frontrun._event_loop import EventLoop, Timeout
from frontrun._explain import NativeEvent, is_user_file, place_of
from frontrun._exploration import Options, check_callables, follow, run
from frontrun._host import Program
from frontrun._trace_format import IO
from frontrun.common import InterleavingResult

if TYPE_CHECKING:
    from frontrun._replay import Recording

# Modules that order tasks: what they read and write tells which steps can be exchanged.
TRACED = (
    "asyncio.futures",
    "asyncio.locks",
    "asyncio.queues",
    "asyncio.taskgroups",
    "asyncio.tasks",
    "asyncio.timeouts",
    "anyio.*",
)

LOCKED = ("Lock", "_locked")


def explore_tasks(
    setup: Callable[[], object],
    workers: Sequence[Callable[[Any], object]],
    invariant: Callable[[Any], object],
    strategy: str,
    options: Options,
) -> Coroutine[Any, Any, InterleavingResult]:
    """A coroutine that explores; the arguments are checked before it is awaited."""
    check_callables(setup=setup, invariant=invariant)

    async def explore() -> InterleavingResult:
        replaying = _exploration.replaying
        if replaying is not None and replaying.fits(len(workers)):
            result = replay_tasks(replaying.recording, setup, workers, invariant)
            replaying.results.append(result)
            return result
        with _explorer(setup, workers, invariant) as explorer:
            return run(
                explorer.program, strategy, options, **explorer.options(options.trace_packages)
            )[0]

    return explore()


def replay_tasks(
    recording: Recording,
    setup: Callable[[], object],
    workers: Sequence[Callable[[Any], object]],
    invariant: Callable[[Any], object],
) -> InterleavingResult:
    """One execution in the recorded order; also where an event loop runs."""
    check_callables(setup=setup, invariant=invariant)
    with _explorer(setup, workers, invariant) as explorer:
        options = explorer.options(recording.options["trace_packages"])
        return follow(recording, explorer.program, **options)


@contextmanager
def _explorer(
    setup: Callable[[], object],
    workers: Sequence[Callable[[Any], object]],
    invariant: Callable[[Any], object],
) -> Iterator[_Explorer]:
    explorer = _Explorer(setup, workers, invariant)
    with no_running_loop(), _ordered_sets():
        try:
            yield explorer
        finally:
            explorer.dispose()


@contextmanager
def no_running_loop() -> Iterator[None]:
    """Hide the caller's event loop: ours takes its place meanwhile."""
    loop = events._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    if loop is not None and task is not None:
        tasks._leave_task(loop, task)
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(loop)
        if loop is not None and task is not None:
            tasks._enter_task(loop, task)


# The function that makes tasks of what `asyncio.as_completed` is given.
_AS_COMPLETED = getattr(tasks, "_AsCompletedIterator", None)


@contextmanager
def _ordered_sets() -> Iterator[None]:
    """Let `as_completed` make tasks in the order in which it is given coroutines.

    It keeps them in a set, whose order is that of addresses.
    """
    maker = _AS_COMPLETED.__init__ if _AS_COMPLETED is not None else asyncio.as_completed

    def ordered(items: Iterable[Any] = ()) -> Iterable[Any]:
        is_it = sys._getframe(1).f_code is maker.__code__
        return dict.fromkeys(items) if is_it else set(items)

    vars(tasks)["set"] = ordered
    try:
        yield
    finally:
        del vars(tasks)["set"]


class _Explorer:
    """What the native core calls, once for each execution."""

    def __init__(
        self,
        setup: Callable[[], object],
        workers: Sequence[Callable[[Any], object]],
        invariant: Callable[[Any], object],
    ) -> None:
        self.setup = setup
        self.workers = workers
        self.invariant = invariant
        self.context = contextvars.copy_context()
        self.loop: EventLoop | None = None
        self.labels: dict[int, str] = {}
        self.expired: dict[int, Timeout] = {}
        self.waiting: list[dict[str, Any]] = []

    @property
    def program(self) -> Program:
        """What the native core calls."""
        return Program(self.set_up, [self.play], self.judge)

    def options(self, trace_packages: Sequence[str]) -> dict[str, Any]:
        """What the native core has to be told besides."""
        return {
            "shown": Program(self.setup, self.workers, self.invariant),
            "amend": self.amend,
            "tasks": len(self.workers),
            "trace_packages": [*trace_packages, *TRACED],
        }

    def set_up(self) -> object:
        self.dispose()
        self.loop = EventLoop()
        return _complete(self.loop, "setup", self.setup)

    def play(self, state: object) -> object:
        """None, True when tasks wait for good, or a worker and its exception."""
        loop = self.loop
        assert loop is not None
        coroutines = [_body(worker, state) for worker in self.workers]
        self.labels, self.expired = loop.labels, loop.expired
        try:
            loop.schedule(coroutines, self.context)
        except BaseException:
            # Cut off, by a lock of `threading` that another task holds for example.
            self.waiting = [_waiting(loop, task, "its turn") for task in loop.unfinished()]
            raise
        for index, task in enumerate(loop.workers):
            if task.done() and not task.cancelled() and (exception := task.exception()):
                return index, exception
        if loop.errors:
            return loop.errors[0]
        for task in loop.tasks:
            if task.done() and not task.cancelled() and task._log_traceback:
                return loop.numbers[task], task.exception()
        unfinished = loop.unfinished()
        self.waiting = [_waiting(loop, task) for task in unfinished]
        return True if unfinished else None

    def judge(self, state: object) -> object:
        assert self.loop is not None
        return _complete(self.loop, "invariant", self.invariant, state)

    def amend(self, failure: dict[str, Any]) -> None:
        failure["worker_names"] = _names(self.labels)
        # A step of a library is told at the user's line that called it.
        told = [
            (_locked(event), [] if _in_library(event) else callers)
            for event, callers in zip(failure["events"], failure["callers"], strict=True)
        ]
        own = [event for event, _ in told if not _in_library(event)]
        if failure["kind"] == "deadlock" and failure["blocked"]:
            known = {blocked["worker"] for blocked in failure["blocked"]}
            failure["blocked"] += [w for w in self.waiting if w["worker"] not in known]
        elif failure["kind"] == "deadlock":
            failure["blocked"] = _with_locks(self.waiting, failure["events"], own)
            # Of what libraries do, what concerns the objects that are waited for.
            types = {wait["type_name"] for wait in self.waiting}
            told = [(e, callers) for e, callers in told if any(a[2] in types for a in e[4])]
        told = list(_with_timeouts(told, self.expired))
        failure["timeouts"] = list(self.expired.values())
        if _tells_something(own):
            told = [(event, callers) for event, callers in told if not _in_library(event)]
        elif self.expired and failure["kind"] != "deadlock":
            told = list(_as_calls(told))
        failure["events"] = [event for event, _ in told]
        failure["callers"] = [callers for _, callers in told]
        failure["within"] = []  # what libraries do is told above

    def dispose(self) -> None:
        if self.loop is not None:
            self.loop.dispose()
            self.loop = None


Told = Iterable[tuple[NativeEvent, Sequence[CodeType]]]


def _with_timeouts(told: Told, expired: Mapping[int, Timeout]) -> Told:
    """The same, where what a timer does for a library is told as the end of a timeout."""
    for worker, group in groupby(told, key=lambda each: each[0][0]):
        timeout = expired.get(worker)
        if timeout is None:
            yield from group
        else:
            end = "expires", -1 - worker, IO, f"after {timeout.seconds:g} s", None
            yield (worker, timeout.code, timeout.offset, "", [end]), ()


def _as_calls(told: Told) -> Told:
    """Instead of what libraries do, the user's lines that called them."""

    def line(each: tuple[NativeEvent, object]) -> tuple[int, tuple[str, int], bool]:
        worker, code, offset, *_ = each[0]
        return worker, place_of(code, offset), _in_library(each[0])

    above = None
    for (*here, inside), group in groupby(told, key=line):
        steps = list(group)
        (worker, code, offset, *_), callers = steps[0]
        if not inside:
            yield from steps
        elif here != above and code is not None and is_user_file(code.co_filename):
            above = here
            called = [event[3] for event, _ in steps if "._" not in f".{event[3]}"]
            calls = [("call", hash(name), IO, _called(name), None) for name in called[:1]]
            yield (worker, code, offset, "", calls), callers


def _called(name: str) -> str:
    owner, _, function = name.rpartition(".")
    return f"{function if owner.islower() else name}()"


async def _body(worker: Callable[[Any], object], state: object) -> object:
    result = worker(state)
    return await result if isinstance(result, Awaitable) else result


def _complete(loop: EventLoop, what: str, function: Callable[..., object], *args: object) -> object:
    """Call an ordinary or an async function in the loop."""

    async def call() -> object:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    return loop.complete(what, call())


def _names(labels: dict[int, str]) -> list[str]:
    """A name for each worker; equal ones are numbered."""
    names = [labels.get(index, "") for index in range(max(labels, default=-1) + 1)]
    often, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        if often[name] > 1:
            seen[name] += 1
            names[index] = f"{name} {seen[name]}"
    return names


def _in_library(event: NativeEvent) -> bool:
    """Is it a step inside of a library function, which the user's line only called?"""
    _, code, _, what, _ = event
    return "." in what or (code is not None and not is_user_file(code.co_filename))


def _locked(event: NativeEvent) -> NativeEvent:
    """What `asyncio.Lock` does to its own state, as the lock that it is."""
    worker, code, offset, what, accesses = event
    kind = {"Lock.acquire": "acquire", "Lock.release": "release"}.get(what)
    of_lock = [a for a in accesses if tuple(a[2:4]) == LOCKED]
    if kind is None or not of_lock:
        return event
    taken = [(kind, loc, "Lock", "", None) for access, loc, *_ in of_lock if access == "write"]
    return worker, code, offset, kind, taken


def _tells_something(events: Sequence[NativeEvent]) -> bool:
    """Do two workers touch one location, which one of them changes?"""
    users: defaultdict[int, set[int]] = defaultdict(set)
    changed = set()
    for worker, _, _, _, accesses in events:
        for kind, loc, *_ in accesses:
            users[loc].add(worker)
            if kind != "read":
                changed.add(loc)
    return any(len(users[loc]) > 1 for loc in changed)


def _with_locks(
    waiting: list[dict[str, Any]], events: Sequence[NativeEvent], own: Sequence[NativeEvent]
) -> list[dict[str, Any]]:
    """The same, with the locks that tasks hold, and wait for."""
    holder: dict[int, int] = {}
    asked: dict[int, int] = {}  # the lock that a worker looked at last
    for worker, _, _, what, accesses in events:
        for kind, loc, type_name, field, _ in accesses:
            if kind == "read" and what == "Lock.acquire" and (type_name, field) == LOCKED:
                asked[worker] = loc
    for worker, _, _, _, accesses in own:
        for kind, loc, *_ in accesses:
            if kind == "acquire":
                holder[loc] = worker
            elif kind == "release":
                holder.pop(loc, None)
    told = []
    for wait in waiting:
        holds = [loc for loc, worker in holder.items() if worker == wait["worker"]]
        lock = asked.get(wait["worker"]) if wait["goal"] == "Lock.acquire()" else None
        if lock is not None and lock in holder:
            wait = {**wait, "waits_for": "lock", "loc": lock, "type_name": "Lock"}
            wait["holder"] = holder[lock]
        told.append({**wait, "holds": holds})
    return told


def _waiting(loop: EventLoop, task: asyncio.Task[Any], goal: str | None = None) -> dict[str, Any]:
    """What a task waits for, for good, and where."""
    frames = [frame for frame in frames_of(task) if frame.f_code is not _body.__code__]
    inner = frames[-1] if frames else None
    users = [frame for frame in frames if is_user_file(frame.f_code.co_filename)]
    place = users[-1] if users else inner
    awaited = task._fut_waiter  # type: ignore[attr-defined]
    if goal is not None:
        pass
    elif awaited in loop.numbers:
        goal = f"the end of {loop.labels[loop.numbers[awaited]]}"
    elif inner is not None and inner is not place:
        goal = f"{inner.f_code.co_qualname}()"
    else:
        goal = "a future that nobody completes"
    return {
        "worker": loop.numbers[task],
        "waits_for": "task",
        "goal": goal,
        "loc": 0,
        "type_name": type(inner.f_locals.get("self")).__name__ if inner is not None else "",
        "holder": None,
        "code": place and place.f_code,
        "offset": place.f_lasti if place else 0,
        "holds": [],
    }


def frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a suspended task, outermost first."""
    at: Any = task.get_coro()
    while at is not None:
        kind = next((k for k in ("cr", "ag", "gi") if hasattr(at, f"{k}_frame")), None)
        if kind is None or (frame := getattr(at, f"{kind}_frame")) is None:
            return
        yield frame
        at = getattr(at, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
