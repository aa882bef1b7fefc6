"""What the native core reports about a failing execution, explained.

The core speaks of code objects, byte offsets and numbered locations; here they become
files, lines and names. The writing itself is done by `frontrun._trace_format`.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import textwrap
import traceback
from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from types import CodeType, TracebackType
from typing import Literal, NotRequired, TypedDict

from frontrun._trace_format import (
    IO,
    WIDTH,
    ConflictInfo,
    Layout,
    Namer,
    Row,
    TraceEvent,
    classify,
    found_after,
    function_name,
    interleaving,
    label_locations,
    location_of,
    namer,
    paragraphs,
    reproduction,
    shared_locations,
    show_place,
    wrap,
)
from frontrun.common import Access, Blocked, Race

__all__ = [
    "Failure",
    "NativeEvent",
    "WaitingWorker",
    "deadlock",
    "explain",
    "place_of",
    "races",
    "trace_events",
]

Labels = Mapping[Hashable, str]

NativeAccess = tuple[str, int, str, str, str | None]
"""Kind (``read``, ``write``, ``acquire``, ``release``, ``tryacquire`` for an attempt that
failed, ``start``, ``join``), location (for ``start`` and ``join`` the other worker), type name,
field (``"value"``, ``"['k']"``, ``"<structure>"``, ``""`` for locks), value as text."""

NativeEvent = tuple[int, CodeType | None, int, str, Sequence[NativeAccess]]
"""Worker, code, offset of the instruction in bytes, operation, what it accessed."""


class WaitingWorker(TypedDict):
    """A worker that is blocked for ever."""

    worker: int
    waits_for: str
    loc: int
    type_name: str
    holder: int | None
    code: CodeType | None
    offset: int
    holds: Sequence[int]
    within: NotRequired[Sequence[CodeType]]
    """The functions of libraries that it has called there, innermost first."""
    goal: NotRequired[str]


class Failure(TypedDict):
    """A failing execution as the native core reports it."""

    kind: Literal["invariant", "exception", "deadlock", "invariant_error"]
    execution: int
    schedule: Sequence[int]
    events: Sequence[NativeEvent]
    exception: tuple[int, BaseException] | None
    error: BaseException | None
    answer: NotRequired[str]
    """What the invariant returned, as text."""
    blocked: Sequence[WaitingWorker]
    worker_names: Sequence[str]
    timeouts: NotRequired[Sequence[tuple[int, float, CodeType | None, int]]]
    """Those that have expired: who set it, for how many seconds, and where."""
    blocks: Sequence[tuple[NativeEvent, tuple[str, Sequence[tuple[str, str, int]]]]] | None
    """Of tasks, what each does between two suspensions, with its label as in `labels`."""
    callers: Sequence[Sequence[CodeType]]
    """Of each event the functions that led to the one it happened in, outermost last."""
    within: NotRequired[Sequence[Sequence[CodeType]]]
    """Of each event the functions of libraries that were called there, innermost first."""
    labels: Sequence[tuple[str, Sequence[tuple[str, str, int]]]]
    """Of each event, in terms that last: the function, and (kind, name of the location,
    its number in this execution) of each access."""


def explain(
    failure: Failure,
    *,
    num_explored: int,
    reproduction_attempts: int = 0,
    reproduction_successes: int = 0,
    invariant_desc: str | None = None,
    notes: Iterable[str] = (),
    max_lines: int = 30,
) -> str:
    """The failure in words.

    Args:
        failure: what the core reported.
        num_explored: executions in the whole exploration.
        reproduction_attempts: how often the schedule was replayed; 0 leaves that out.
        reproduction_successes: how many of these failed again.
        invariant_desc: what should have held, when the invariant says.
        notes: further paragraphs, put before the reproduction.
        max_lines: limit on the number of source lines shown.
    """
    name = namer(failure["worker_names"])
    trace = _shown_events(failure)
    labels = labels_of(failure, trace)
    if failure["kind"] == "deadlock":
        what = "Deadlock"
        story = _tell_deadlock(failure, trace, name, labels)
        in_order = bool(trace) and not _cycle(failure["blocked"])
    else:
        what = "Race condition"
        story = _tell_exception(failure, name)
        if trace:
            story += _tell_race(failure, trace, name, labels)
        elif failure["kind"] == "exception":
            what = "Exception"
        in_order = True
    return paragraphs(
        [
            found_after(what, failure["execution"], num_explored),
            *story,
            _tell_timeouts(failure, name),
            _tell_order(failure, trace, name, labels, max_lines) if in_order else "",
            _verdict(failure, invariant_desc),
            *map(wrap, notes),
            reproduction(reproduction_attempts, reproduction_successes),
        ]
    )


def tell_reach(reachable: str | None) -> str:
    """Where a failure can happen, and how that is known."""
    points = "where a function begins, a loop goes round, a call of C code ends or a worker waits"
    here = "as here" if has_gil() else "unlike here"
    match reachable:
        case "gil":
            return (
                "This can happen on this interpreter: it happens even if threads switch only "
                f"where they do with a GIL, {points}."
            )
        case "free-threaded":
            return (
                f"This takes a free-threaded build of Python: with a GIL, {here}, threads switch "
                f"only {points}, and no order with such switches fails."
            )
    return (
        f"Whether this can happen with a GIL, {here}, was not decided: there are too many orders "
        "to try."
    )


def has_gil() -> bool:
    """Does this interpreter run one thread at a time?"""
    return "t" not in sys.abiflags


def races(failure: Failure) -> list[Race]:
    """The conflicting accesses of shared state that nothing puts in order.

    Locks, and the start and join of a worker, put accesses in order. Accesses that repeat
    at the same lines are listed once.
    """
    labels = labels_of(failure, _shown_events(failure))
    distinct = dict.fromkeys(
        (location_of(a), _site(a), _site(b)) for a, b in unordered(_trace_events(failure))
    )
    return list(dict.fromkeys(Race(labels[loc], Access(*a), Access(*b)) for loc, a, b in distinct))


def deadlock(failure: Failure) -> list[Blocked] | None:
    """The workers that wait for ever; None when the failure is no deadlock."""
    if failure["kind"] != "deadlock":
        return None
    name = namer(failure["worker_names"])
    labels = labels_of(failure, _shown_events(failure))
    return [
        Blocked(b["worker"], _goal(b, name, labels), b["holder"], *place_of(b["code"], b["offset"]))
        for b in failure["blocked"]
    ]


# From native events to trace events


def told_accesses(failure: Failure) -> list[TraceEvent]:
    """The accesses that matter; all of them, when none is shared."""
    return _shown_events(failure) or _trace_events(failure)


def tell_waits(failure: Failure, labels: Labels) -> list[str]:
    """A sentence for each worker that waits for ever."""
    name, blocked = namer(failure["worker_names"]), failure["blocked"]
    return [
        f"{name(b['worker'])} waits for {_goal(b, name, labels)}{_held_by(b, blocked, name)}"
        for b in blocked
    ]


def _trace_events(failure: Failure) -> list[TraceEvent]:
    """One event for each access of every kind."""
    events = trace_events(failure["events"], failure["worker_names"])
    callers = failure["callers"]
    for event in events:
        chain = [function_name(code) for code in callers[event.step_index]] if callers else []
        while chain and chain[-1].endswith("<lambda>"):
            chain.pop()  # merely what a worker was written as
        event.call_chain = chain or None
    return [
        event
        for event in events
        # Of a buffered file, the lock is nothing but a part of its C code.
        if event.access_type is not None
        and not (event.access_type in _OF_LOCKS and event.obj_type_name in _BUFFERED)
    ]


def trace_events(events: Sequence[NativeEvent], worker_names: Sequence[str]) -> list[TraceEvent]:
    """One event for each access, and one for each instruction that accesses nothing."""
    name = namer(worker_names)
    none: Sequence[NativeAccess | None] = [None]
    return [
        _trace_event(step, worker, code, offset, op, access, name)
        for step, (worker, code, offset, op, accesses) in enumerate(events)
        for access in accesses or none
    ]


def _trace_event(
    step: int,
    worker: int,
    code: CodeType | None,
    offset: int,
    op: str | None,
    access: NativeAccess | None,
    name: Namer,
) -> TraceEvent:
    filename, line = place_of(code, offset)
    function = function_name(code) if code else ""
    if access is None:
        return TraceEvent(step, worker, filename, line, function, op)
    kind, loc, type_name, field, value = access
    of_worker = kind in ("start", "join")
    return TraceEvent(
        step,
        worker,
        filename,
        line,
        function,
        op,
        kind,
        name(loc) if of_worker else field,
        None if of_worker else type_name,
        location=_worker_location(loc) if of_worker else loc,
        value=value,
    )


def labels_of(failure: Failure, trace: Sequence[TraceEvent]) -> Labels:
    """Names of the locations of some events and of what blocked workers wait for."""
    return label_locations([*trace, *_waits(failure)])


def _waits(failure: Failure) -> list[TraceEvent]:
    """What blocked workers wait for, as events, so that it gets a label like the rest."""
    return [
        _trace_event(
            len(failure["events"]),
            b["worker"],
            b["code"],
            b["offset"],
            None,
            (b["waits_for"], b["loc"], *_split(b["type_name"]), None),
            namer(failure["worker_names"]),
        )
        for b in failure["blocked"]
    ]


def _split(type_name: str) -> tuple[str, str]:
    """Type and field of what a worker waits for: what is no object is known by a text."""
    return (IO, type_name) if ":" in type_name else (type_name, "")


@lru_cache(maxsize=4096)
def place_of(code: CodeType | None, offset: int) -> tuple[str, int]:
    """File and line of an instruction; ``("", 0)`` when it has none."""
    if code is not None:
        for start, end, line in code.co_lines():
            if start <= offset < end and line is not None:
                return code.co_filename, line
    return "", 0


def _site(event: TraceEvent) -> tuple[int, str, str, int]:
    """Who did what where: an `Access` as a tuple, which a dict finds faster."""
    return event.thread_id, event.access_type or "", event.filename, event.lineno


def _shown_events(failure: Failure) -> list[TraceEvent]:
    """The accesses that matter: of shared state, and of the locks that have to do with it."""
    events = _trace_events(failure)
    shown = shared_locations(events)
    if failure["kind"] == "deadlock":
        shown |= {location for b in failure["blocked"] for location in (_wanted(b), *b["holds"])}
        shown -= {_wanted(b) for b in failure["blocked"] if _awaits_notification(b)}
    else:
        # Locks that have nothing to do with any data only distract from what has.
        shown = shown - {e.location for e in events if e.access_type in _OF_LOCKS} or shown
    shown |= {e.location for e in events if e.access_type in ("call", "expires")}
    shown |= {lock for e, locks in _with_locks(events) if e.location in shown for lock in locks}
    return [e for e in events if e.location in shown]


_OF_LOCKS = ("acquire", "release", "tryacquire")
_BUFFERED = ("BufferedReader", "BufferedWriter", "BufferedRandom")


def _with_locks(events: Iterable[TraceEvent]) -> Iterator[tuple[TraceEvent, set[Hashable]]]:
    """Each read and write with the locks that its worker holds then."""
    held: defaultdict[int, Counter[Hashable]] = defaultdict(Counter)
    for e in events:
        if e.obj_type_name == "SimpleQueue":
            continue
        if e.access_type == "acquire":
            held[e.thread_id][e.location] += 1
        elif e.access_type == "release":
            held[e.thread_id][e.location] = max(0, held[e.thread_id][e.location] - 1)
        elif e.access_type in ("read", "write"):
            yield e, set(+held[e.thread_id])


def unordered(events: Iterable[TraceEvent]) -> Iterator[tuple[TraceEvent, TraceEvent]]:
    """Conflicting accesses without a happens-before relation, by vector clocks."""
    clocks: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)  # workers, locks
    latest: defaultdict[Hashable, dict[Hashable, tuple[int, TraceEvent]]] = defaultdict(dict)
    for e in events:
        me = _worker_location(e.thread_id)
        mine, its = clocks[me], clocks[e.location]
        if e.access_type in ("release", "send", "start"):
            mine[me] += 1
            its |= mine
        elif e.access_type in ("acquire", "receive"):
            mine |= its
        elif e.access_type == "join":
            its[e.location] += 1
            mine |= its
        elif e.access_type in ("read", "write"):
            writes = e.access_type == "write"
            others = latest[e.location]
            for time, other in others.values():
                if other.thread_id == e.thread_id or not (writes or other.access_type == "write"):
                    continue
                if mine.get(_worker_location(other.thread_id), 0) <= time:
                    yield other, e
            others[_site(e)] = mine[me], e


def _wanted(b: WaitingWorker) -> Hashable:
    """The location of what a worker waits for."""
    return _worker_location(b["loc"]) if b["waits_for"] == "join" else b["loc"]


def _worker_location(worker: int) -> Hashable:
    return "worker", worker


# Telling it


def _tell_order(
    failure: Failure, trace: Sequence[TraceEvent], name: Namer, labels: Labels, max_lines: int
) -> str:
    """What happened, with the inner workings of libraries as calls of these."""
    within = failure.get("within")
    told = [_as_call(e, within[e.step_index]) for e in trace] if within else trace
    calls = {e.location: e.attr_name or "" for e in told if e.access_type == "call"}
    return interleaving(told, name, {**labels, **calls}, max_lines)


def _as_call(event: TraceEvent, within: Sequence[CodeType]) -> TraceEvent:
    """What a lock does inside of a library is nothing to its callers."""
    called = [code for code in within if not code.co_name.startswith("__")]
    if event.access_type not in _OF_LOCKS or not called:
        return event
    outermost = f"{function_name(called[-1])}()"
    where = "call", outermost
    return replace(
        event, access_type="call", attr_name=outermost, obj_type_name=None, location=where
    )


def _tell_serial(failure: Failure, name: Namer) -> str:
    """That the workers did not even overlap, if they did not."""
    turns = [worker for worker, _ in groupby(event[0] for event in failure["events"])]
    started = any(access[0] == "start" for event in failure["events"] for access in event[4])
    if started or len(turns) < 2 or len(set(turns)) < len(turns):
        return ""
    return (
        f"The workers ran one after the other here: {', then '.join(map(name, turns))}. So no "
        "switch within a worker is needed. If any order should do, look at setup and at the "
        "invariant as well."
    )


def _tell_race(
    failure: Failure, trace: Sequence[TraceEvent], name: Namer, labels: Labels
) -> list[str]:
    """How the workers collided: preferably where nothing puts their accesses in order."""
    racing = {location_of(a) for a, _ in unordered(trace)}
    conflict = classify([e for e in trace if location_of(e) in racing], name, labels)
    if conflict.pattern == "unknown":
        conflict = classify(trace, name, labels)
    summary, serial = conflict.summary, _tell_serial(failure, name)
    if conflict.pattern == "unknown" and failure.get("timeouts"):
        summary = ""
    elif conflict.pattern == "unknown":
        summary = (
            "The workers share no data that changes, only locks, queues or threads: the order "
            "in which they use these decides."
        )
    elif serial and failure["execution"] == 1 and conflict.pattern == "order_violation":
        summary = ""  # whether another order does better, nobody knows yet
    locks = _tell_locks(conflict, trace, name, labels)
    return [wrap(summary), wrap(locks), wrap(serial)]


def _tell_timeouts(failure: Failure, name: Namer) -> str:
    """Which timeouts expired."""
    told = []
    for worker, seconds, code, offset in failure.get("timeouts", ()):
        where = f" at {show_place(*place_of(code, offset))}" if code is not None else ""
        told.append(f"The timeout of {seconds:g} s that {name(worker)} set{where} expired.")
    return wrap(" ".join(dict.fromkeys(told)))


def _tell_locks(
    conflict: ConflictInfo, trace: Sequence[TraceEvent], name: Namer, labels: Labels
) -> str:
    """Which locks the workers held, when some did but none that protects all of them."""
    held: dict[int, set[Hashable]] = {}  # locks held at every access of the worker
    for e, locks in _with_locks(trace):
        if e.location == conflict.location:
            held[e.thread_id] = held.get(e.thread_id, locks) & locks
    if not any(held.values()) or set.intersection(*held.values()):
        return ""
    by_worker = (
        f"{name(worker)}: {' and '.join(sorted(labels[lock] for lock in locks)) or 'none'}"
        for worker, locks in sorted(held.items())
    )
    return f"Locks held at {labels[conflict.location]}: {'; '.join(by_worker)}."


def _tell_exception(failure: Failure, name: Namer) -> list[str]:
    if failure["exception"] is None:
        return []
    worker, exception = failure["exception"]
    return [_with_traceback(f"Exception in {name(worker)}: ", exception)]


def _verdict(failure: Failure, invariant_desc: str | None) -> str:
    if failure["kind"] == "invariant":
        desc = f": {invariant_desc}" if invariant_desc else _tell_answer(failure.get("answer", ""))
        return wrap(f"The invariant does not hold in the final state{desc}")
    if failure["kind"] == "invariant_error" and failure["error"] is not None:
        return _with_traceback("The invariant raised ", failure["error"])
    return ""


def _tell_answer(answer: str) -> str:
    match answer:
        case "" | "False":
            return "."
        case "None":
            return ": it returned None, and has to return something true if all is well."
    return f": it returned {answer}."


def _with_traceback(prefix: str, exception: BaseException) -> str:
    """The message, and below it the lines of the user's code that led to it."""
    message = "".join(traceback.format_exception_only(exception)).rstrip()
    rows = [
        _row(code.co_filename, line, f"in {function_name(code)}")
        for code, line in _user_frames(exception.__traceback__)[-8:]
    ]
    layout = Layout(rows)
    return "\n".join([prefix + message, *(line for row in rows for line in layout.lines(row))])


def _user_frames(tb: TracebackType | None) -> list[tuple[CodeType, int]]:
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(tb)]
    return [(code, line) for code, line in frames if is_user_file(code.co_filename)]


_OURS = os.path.dirname(__file__) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep


def is_user_file(filename: str) -> bool:
    if filename.startswith(("<frozen ", _OURS)):
        return False
    return "site-packages" in filename or not filename.startswith(_STDLIB)


def _tell_deadlock(
    failure: Failure, trace: Sequence[TraceEvent], name: Namer, labels: Labels
) -> list[str]:
    blocked = failure["blocked"]
    cycle = _cycle(blocked)
    others = [b for b in blocked if b not in cycle]
    acquired = {(e.thread_id, e.location): e for e in trace if e.access_type == "acquire"}
    within = _locks_within(failure)
    held = {b["worker"]: _held(b, within) for b in blocked}
    rows = {
        b["worker"]: _waiting_rows(b, held[b["worker"]], acquired, name, labels) for b in blocked
    }
    layout = Layout([row for some in rows.values() for row in some])

    def block(b: WaitingWorker) -> str:
        holds = " and ".join(labels[lock] for lock in held[b["worker"]] if lock in labels)
        head = (
            f"  {name(b['worker'])} "
            + (f"holds {holds}, " if holds else "")
            + f"waits for {_goal(b, name, labels)}{_held_by(b, blocked, name)}"
        )
        place = show_place(*place_of(b["code"], b["offset"]))
        if place:
            head += f" at {place}"
        lines = [line for row in rows[b["worker"]] for line in layout.lines(row)]
        return "\n".join([*textwrap.wrap(head, WIDTH, subsequent_indent="    "), *lines])

    return [
        wrap(_deadlock_sentence(cycle, name)),
        *map(block, cycle),
        "Also waiting for ever:" if cycle and others else "",
        *map(block, others),
    ]


def _deadlock_sentence(cycle: Sequence[WaitingWorker], name: Namer) -> str:
    match [name(b["worker"]) for b in cycle]:
        case []:
            return "No way out: nobody is left who could end these waits."
        case [alone]:
            return f"Self-deadlock: {alone} waits for what only {alone} itself could release."
        case [first, second]:
            return f"Circular wait: {first} and {second} each wait for the other."
        case [*names, last]:
            return f"Circular wait: {', '.join(names)} and {last} each wait for the next one."
    raise AssertionError("a list has some length")


def _cycle(blocked: Sequence[WaitingWorker]) -> list[WaitingWorker]:
    """Workers of which each waits for what the next one holds; empty when there are none."""
    by_worker = {b["worker"]: b for b in blocked}
    for start in blocked:
        path: list[WaitingWorker] = []
        b: WaitingWorker | None = start
        while b is not None and b not in path and b["waits_for"] != "notification":
            path.append(b)
            b = by_worker.get(b["holder"]) if b["holder"] is not None else None
        if path and b is start:
            return path
    return []


def _awaits_notification(b: WaitingWorker) -> bool:
    """`threading.Condition.wait` waits for a lock that it made and took itself."""
    code = next(iter(b.get("within", ())), b["code"])
    of_condition = code is not None and code.co_qualname == "Condition.wait"
    return b["waits_for"] == "notification" or (of_condition and b["holder"] == b["worker"])


_NOTIFICATIONS = {
    "Queue.get": "an item in the queue",
    "Queue.put": "room in the queue",
    "Queue.join": "the items of the queue to be done",
    "Event.wait": "the event to be set",
    "Semaphore.acquire": "the semaphore to be released",
    "Barrier.wait": "others at the barrier",
    "Future.result": "the result of a future",
    "Future.exception": "the result of a future",
}
"""What a notification means to those who wait for it in a function of the standard library."""


def _notification(b: WaitingWorker) -> str:
    """What a worker waits for that waits for a notification."""
    called = [function_name(code) for code in b.get("within", ())][1:]
    meant = (_NOTIFICATIONS[name] for name in called if name in _NOTIFICATIONS)
    return next(meant, "a notification")


def _held(b: WaitingWorker, within: Container[Hashable]) -> list[int]:
    """The locks that a worker holds, without the one that stands for a notification, and
    without those that are `within` libraries."""
    awaits = _awaits_notification(b)
    return [lock for lock in b["holds"] if not ((lock == b["loc"] and awaits) or lock in within)]


def _locks_within(failure: Failure) -> set[Hashable]:
    """The locks that only functions of libraries have taken, and that no worker waits for."""
    within = failure.get("within")
    if not within:
        return set()
    acquired = [e for e in _trace_events(failure) if e.access_type == "acquire"]
    inner = {e.location for e in acquired if _as_call(e, within[e.step_index]) is not e}
    outer = {e.location for e in acquired if _as_call(e, within[e.step_index]) is e}
    return inner - outer - {_wanted(b) for b in failure["blocked"]}


def _waiting_rows(
    b: WaitingWorker,
    held: Sequence[int],
    acquired: Mapping[tuple[int, Hashable], TraceEvent],
    name: Namer,
    labels: Labels,
) -> list[Row]:
    """Where a worker took what it holds, and where it waits."""
    sites = [e for lock in held if (e := acquired.get((b["worker"], lock)))]
    sites.sort(key=lambda e: e.step_index)
    filename, lineno = place_of(b["code"], b["offset"])
    return [
        *(_row(e.filename, e.lineno, f"[acquired {labels[e.location]}]") for e in sites),
        _row(filename, lineno, f"[waits for {_goal(b, name, labels)}]"),
    ]


def _row(filename: str, lineno: int, tag: str) -> Row:
    return show_place(filename, lineno), linecache.getline(filename, lineno).strip(), tag


def _goal(b: WaitingWorker, name: Namer, labels: Labels) -> str:
    """What a worker waits for."""
    if _awaits_notification(b):
        return _notification(b)
    if b["waits_for"] == "task":
        return b["goal"]
    if b["waits_for"] == "join":
        return f"the end of {name(b['loc'])}"
    return labels[b["loc"]]


def _held_by(b: WaitingWorker, blocked: Sequence[WaitingWorker], name: Namer) -> str:
    """Who could end the wait, in parentheses; empty when that needs no saying."""
    if b["waits_for"] in ("join", "task", "notification"):
        return ""
    if b["waits_for"] == "data":
        return " (where nobody sends anything)"
    if b["type_name"] == "SimpleQueue":
        return " (where nobody puts anything)"
    if b["holder"] is None:
        return " (held by no worker)"
    if b["holder"] == b["worker"]:
        return " (held by itself)"
    ended = all(other["worker"] != b["holder"] for other in blocked)
    return f" (held by {name(b['holder'])}{', which has ended' if ended else ''})"
