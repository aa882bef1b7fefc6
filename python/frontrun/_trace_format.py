"""From recorded events of an execution to text that explains a failure.

The stages are plain functions, in this order: record (`TraceRecorder`), keep what matters
(`filter_to_shared_accesses`), name the conflict (`classify_conflict`), merge into source
lines (`deduplicate_to_source_lines`), shorten (`condense_trace`), write (`format_trace`).
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import os
import sys
import textwrap
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, pairwise
from types import CodeType, FrameType

__all__ = [
    "CollapsedRun",
    "ConflictInfo",
    "SourceLineEvent",
    "TraceEvent",
    "TraceRecorder",
    "build_call_chain",
    "classify_conflict",
    "condense_trace",
    "deduplicate_to_source_lines",
    "filter_to_shared_accesses",
    "format_trace",
    "qualified_name",
]

WIDTH = 80
"""Columns that an explanation fits into, as far as file names and values allow."""

STRUCTURE = "<structure>"
"""The field that stands for the structure of a container: its length, order and keys."""

IO = "IO"
"""The type name of events that concern a file or socket, not an object."""

Namer = Callable[[int], str]


@dataclass
class TraceEvent:
    """One executed instruction."""

    step_index: int
    """Position in the execution, from 0."""
    thread_id: int
    """Index of the worker."""
    filename: str
    lineno: int
    function_name: str
    opcode: str | None
    access_type: str | None = None
    """``"read"`` or ``"write"``; for locks ``"acquire"``, ``"release"`` and the like; None
    when the instruction touches nothing that can be shared."""
    attr_name: str | None = None
    """The attribute, or the element written as ``"['key']"``, or the resource of an I/O."""
    obj_type_name: str | None = None
    call_chain: list[str] | None = None
    """Names of the callers, outermost last."""
    location: Hashable = field(default=None, kw_only=True)
    """What tells this location from others; None: the type and attribute do."""
    value: str | None = field(default=None, kw_only=True)
    """The value read or written, as text."""


@dataclass
class SourceLineEvent:
    """A source line that one worker executed, with the one location that it accessed."""

    thread_id: int
    filename: str
    lineno: int
    function_name: str
    source_line: str
    """Text of the line without indentation; empty when the source cannot be had."""
    access_type: str | None = None
    """As in `TraceEvent`; ``"read+write"`` when the merged events did both."""
    attr_name: str | None = None
    obj_type_name: str | None = None
    call_chain: list[str] | None = None
    location: Hashable = field(default=None, kw_only=True)
    accesses: list[tuple[str | None, str | None]] = field(default_factory=list, kw_only=True)
    """(access type, value) of every merged event, in order."""
    opcodes: list[str] = field(default_factory=list, kw_only=True)
    """The merged instructions, in order."""


@dataclass
class ConflictInfo:
    """Which accesses collided, and how."""

    pattern: str
    """``"lost_update"``, ``"write_write"``, ``"order_violation"`` or ``"unknown"``."""
    summary: str
    """One or two sentences."""
    attr_name: str | None = None
    """The attribute or element at which it happened."""
    location: Hashable = field(default=None, kw_only=True)
    """The same, as in `TraceEvent`."""


@dataclass
class CollapsedRun:
    """Stands for lines left out of a long trace."""

    count: int
    thread_id: int | None
    """The worker that executed all of them; None when several did."""


# Recording


class TraceRecorder:
    """Collects the events of an execution; may be used from several threads at once."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        """Nothing is recorded while this is false."""
        self.events: list[TraceEvent] = []
        """What was recorded, in order."""
        self._lock = threading.Lock()

    def record(
        self,
        thread_id: int,
        frame: FrameType,
        opcode: str | None = None,
        access_type: str | None = None,
        attr_name: str | None = None,
        obj: object = None,
        obj_type_name: str | None = None,
        call_chain: list[str] | None = None,
    ) -> None:
        """Append what `frame` is doing; `obj` merely provides the type name."""
        if obj_type_name is None and obj is not None:
            obj_type_name = type(obj).__name__
        if self.enabled:
            self._append(
                thread_id=thread_id,
                filename=frame.f_code.co_filename,
                lineno=frame.f_lineno or 0,
                function_name=qualified_name(frame),
                opcode=opcode,
                access_type=access_type,
                attr_name=attr_name,
                obj_type_name=obj_type_name,
                call_chain=call_chain,
            )

    def record_io(self, thread_id: int, resource_id: str, kind: str) -> None:
        """Append a ``"read"`` or ``"write"`` of a resource such as ``file:/tmp/x``."""
        if self.enabled:
            self._append(
                thread_id=thread_id,
                filename="",
                lineno=0,
                function_name="",
                opcode=IO,
                access_type=kind,
                attr_name=resource_id,
                obj_type_name=IO,
            )

    def record_from_opcode(self, thread_id: int, frame: FrameType) -> None:
        """Append the access that the current instruction of `frame` makes, if it makes one.

        Attributes, subscripts, globals and closure variables are recognised. The object is
        looked up from the source text where that is a plain name or a chain of attributes;
        no code of the program is run for it.
        """
        if not self.enabled:
            return
        instruction = _instruction_at(frame.f_code, frame.f_lasti)
        access = _decode_access(frame, instruction) if instruction else None
        if instruction and access:
            kind, type_name, name = access
            self.record(thread_id, frame, instruction.opname, kind, name, None, type_name)

    def _append(
        self,
        *,
        thread_id: int,
        filename: str,
        lineno: int,
        function_name: str,
        opcode: str | None,
        access_type: str | None,
        attr_name: str | None,
        obj_type_name: str | None,
        call_chain: list[str] | None = None,
    ) -> None:
        with self._lock:
            self.events.append(
                TraceEvent(
                    len(self.events),
                    thread_id,
                    filename,
                    lineno,
                    function_name,
                    opcode,
                    access_type,
                    attr_name,
                    obj_type_name,
                    call_chain,
                )
            )


def qualified_name(frame: FrameType) -> str:
    """The function of `frame` with its class, such as ``Counter.increment``."""
    return function_name(frame.f_code)


def function_name(code: CodeType) -> str:
    """The function with its class, without the functions that it is nested in."""
    return code.co_qualname.rpartition("<locals>.")[2]


def build_call_chain(
    frame: FrameType, *, filter_fn: Callable[[str], bool], max_depth: int = 3
) -> list[str] | None:
    """The callers of `frame` in files that `filter_fn` accepts, at most `max_depth` of them.

    Outermost last; None when there is no such caller.
    """
    chain: list[str] = []
    caller = frame.f_back
    while caller is not None and len(chain) < max_depth:
        if filter_fn(caller.f_code.co_filename):
            chain.append(qualified_name(caller))
        caller = caller.f_back
    return chain or None


@lru_cache(maxsize=512)
def _instructions(code: CodeType) -> dict[int, dis.Instruction]:
    return {i.offset: i for i in dis.get_instructions(code)}


def _instruction_at(code: CodeType, offset: int) -> dis.Instruction | None:
    table = _instructions(code)
    instruction = table.get(offset)
    if sys.version_info < (3, 12):  # stops at the prefix only; newer ones at both
        while instruction is not None and instruction.opname == "EXTENDED_ARG":
            instruction = table.get(instruction.offset + 2)
    return instruction


_ATTRIBUTES = {
    "LOAD_ATTR": "read",
    "LOAD_METHOD": "read",
    "STORE_ATTR": "write",
    "DELETE_ATTR": "write",
}
_SUBSCRIPTS = {
    "BINARY_SUBSCR": "read",
    "BINARY_SLICE": "read",
    "STORE_SUBSCR": "write",
    "STORE_SLICE": "write",
    "DELETE_SUBSCR": "write",
}
_GLOBALS = {
    "LOAD_GLOBAL": "read",
    "LOAD_NAME": "read",
    "STORE_GLOBAL": "write",
    "STORE_NAME": "write",
    "DELETE_GLOBAL": "write",
    "DELETE_NAME": "write",
}
_CELLS = {"LOAD_DEREF": "read", "STORE_DEREF": "write", "DELETE_DEREF": "write"}


def _decode_access(
    frame: FrameType, instruction: dis.Instruction
) -> tuple[str, str | None, str] | None:
    """(kind, type name, field) of the access that `instruction` makes."""
    op, name = instruction.opname, instruction.argval
    if op in _ATTRIBUTES:
        return _ATTRIBUTES[op], _operand_types(frame, instruction)[0], name
    if op in _SUBSCRIPTS:
        return _SUBSCRIPTS[op], *_operand_types(frame, instruction)
    if op == "BINARY_OP" and instruction.argrepr == "[]":  # 3.14 and newer
        return "read", *_operand_types(frame, instruction)
    if op in _GLOBALS:
        of_module = op.endswith("GLOBAL") or frame.f_locals is frame.f_globals
        is_builtin = _GLOBALS[op] == "read" and name not in frame.f_globals
        return (_GLOBALS[op], "global", name) if of_module and not is_builtin else None
    if op in _CELLS:
        return _CELLS[op], "cell", name
    return None


def _operand_types(frame: FrameType, instruction: dis.Instruction) -> tuple[str | None, str]:
    """The type of the object that an attribute or subscript is taken of, and the subscript."""
    node = _expression(frame.f_code.co_filename, instruction.positions)
    owner: str | None = None
    key = "[…]"
    if isinstance(node, ast.Attribute | ast.Subscript):
        try:
            owner = type(_look_up(frame, node.value)).__name__
            if isinstance(node, ast.Subscript):
                subscript = _look_up(frame, node.slice)
                if type(subscript) in (str, bytes, int, float, bool, type(None)):
                    key = f"[{subscript!r}]"
        except LookupError:
            pass
    return owner, key


def _expression(filename: str, where: dis.Positions | None) -> ast.expr | None:
    if where is None or where.lineno is None or where.lineno != where.end_lineno:
        return None
    line = linecache.getline(filename, where.lineno).encode()
    try:
        text = line[where.col_offset : where.end_col_offset].decode()
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _look_up(frame: FrameType, node: ast.expr) -> object:
    """The value of a name, constant or chain of attributes, without running any code.

    Raises:
        LookupError: it is something else, or a descriptor would have to be called.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        scope = frame.f_locals if node.id in frame.f_locals else frame.f_globals
        return scope[node.id]
    if isinstance(node, ast.Attribute):
        missing = object()
        value = inspect.getattr_static(_look_up(frame, node.value), node.attr, missing)
        if value is not missing and not hasattr(type(value), "__get__"):
            return value
    raise LookupError(ast.dump(node))


# Selecting and merging


def location_of(event: TraceEvent | SourceLineEvent) -> Hashable:
    """What two events must have in common to be about the same thing."""
    if event.location is not None:
        return event.location
    return event.obj_type_name, event.attr_name


def filter_to_shared_accesses(events: Iterable[TraceEvent]) -> list[TraceEvent]:
    """The accesses of locations that several workers touched and at least one changed.

    When there is no such location, all accesses: better too much than nothing.
    """
    accesses = [e for e in events if e.access_type is not None]
    shared = shared_locations(accesses)
    return [e for e in accesses if location_of(e) in shared] or accesses


def shared_locations(accesses: Iterable[TraceEvent]) -> set[Hashable]:
    """The locations that several workers touched and at least one changed."""
    workers: defaultdict[Hashable, set[int]] = defaultdict(set)
    changed: set[Hashable] = set()
    for e in accesses:
        workers[location_of(e)].add(e.thread_id)
        if e.access_type != "read":
            changed.add(location_of(e))
    return {where for where in changed if len(workers[where]) > 1}


def deduplicate_to_source_lines(events: Iterable[TraceEvent]) -> list[SourceLineEvent]:
    """Merge consecutive events of one worker on one line that concern one location."""

    def place(e: TraceEvent) -> Hashable:
        where = location_of(e)
        return e.thread_id, e.filename, e.lineno, where, e.obj_type_name, e.attr_name

    lines = []
    for _, group in groupby(events, key=place):
        merged = list(group)
        first = merged[0]
        kinds = dict.fromkeys(e.access_type for e in merged if e.access_type)
        lines.append(
            SourceLineEvent(
                first.thread_id,
                first.filename,
                first.lineno,
                first.function_name,
                linecache.getline(first.filename, first.lineno).strip(),
                "+".join(kinds) or None,
                first.attr_name,
                first.obj_type_name,
                first.call_chain,
                location=first.location,
                accesses=[(e.access_type, e.value) for e in merged],
                opcodes=[e.opcode for e in merged if e.opcode],
            )
        )
    return lines


def condense_trace(
    lines: Sequence[SourceLineEvent], *, max_lines: int = 30
) -> list[SourceLineEvent | CollapsedRun]:
    """Shorten a trace to at most `max_lines` entries, keeping what is next to switches.

    Lines in the middle of a worker's run go first. When even the ends of the runs are too
    many, the middle of the whole trace goes.
    """
    if len(lines) <= max_lines:
        return list(lines)
    runs = [list(run) for _, run in groupby(lines, key=lambda line: line.thread_id)]
    for margin in range(max_lines // 2, 0, -1):
        short = [entry for run in runs for entry in _shorten(run, margin, run[0].thread_id)]
        if len(short) <= max_lines:
            return short
    head = max_lines // 2
    tail = max(max_lines - head - 1, 0)
    left_out = lines[head : len(lines) - tail]
    workers = {line.thread_id for line in left_out}
    gap = CollapsedRun(len(left_out), workers.pop() if len(workers) == 1 else None)
    return [*lines[:head], gap, *lines[len(lines) - tail :]]


def _shorten(
    run: list[SourceLineEvent], margin: int, thread_id: int
) -> list[SourceLineEvent | CollapsedRun]:
    left_out = len(run) - 2 * margin
    if left_out < 2:  # a gap takes a line as well
        return list(run)
    return [*run[:margin], CollapsedRun(left_out, thread_id), *run[-margin:]]


# Naming the conflict


def classify_conflict(events: Iterable[TraceEvent]) -> ConflictInfo:
    """Recognise how the workers got in each other's way.

    - ``lost_update``: two workers read one location before either wrote it, then both wrote
      (R_a R_b W_a W_b or R_a R_b W_b W_a).
    - ``write_write``: one overwrote what another wrote, without having read it.
    - ``order_violation``: a read saw, or did not see, a write of another worker.
    - ``unknown``: no location was touched by several workers and changed by one.
    """
    events = list(events)
    return classify(events, default_name, label_locations(events))


def classify(
    events: Iterable[TraceEvent], name: Namer, labels: Mapping[Hashable, str]
) -> ConflictInfo:
    """`classify_conflict`, with the names to use in the summary."""
    by_location: defaultdict[Hashable, list[TraceEvent]] = defaultdict(list)
    for e in events:
        if e.access_type in ("read", "write"):
            by_location[location_of(e)].append(e)

    for find in (_lost_update, _overwritten, _interrupted):
        for where, accesses in by_location.items():
            found = find(accesses, name, labels[where])
            if found:
                return ConflictInfo(*found, accesses[0].attr_name, location=where)
    return (
        _skew(by_location, name, labels)
        or _simple_order(by_location, name, labels)
        or ConflictInfo("unknown", "The accesses match no known pattern of conflict.")
    )


Finding = tuple[str, str]  # pattern, summary


def _lost_update(accesses: list[TraceEvent], name: Namer, what: str) -> Finding | None:
    last_read: dict[int, int] = {}
    updates: list[tuple[int, int]] = []  # (position of the write, worker), having read before
    for i, e in enumerate(accesses):
        if e.access_type == "read":
            last_read[e.thread_id] = i
        elif e.thread_id in last_read:
            for written, other in reversed(updates):
                if written < last_read[e.thread_id]:
                    break
                if other != e.thread_id:
                    return "lost_update", (
                        f"Lost update: {_both(name, other, e.thread_id)} both read {what} "
                        f"before either wrote it. The later write, by {name(e.thread_id)}, "
                        f"discards what {name(other)} wrote."
                    )
            updates.append((i, e.thread_id))
    return None


def _overwritten(accesses: list[TraceEvent], name: Namer, what: str) -> Finding | None:
    for kinds, worker, other in _interruptions(accesses):
        if kinds == "RWW":
            return "write_write", (
                f"Write-write conflict: {name(worker)} read {what}, {name(other)} wrote it, "
                f"then {name(worker)} wrote it without having seen that."
            )
        if kinds == "WWR":
            return "write_write", (
                f"Write-write conflict: {name(worker)} wrote {what} and read it back later, "
                f"but {name(other)} wrote it in between."
            )
    for a, b in pairwise(accesses):
        if a.access_type == b.access_type == "write" and a.thread_id != b.thread_id:
            return "write_write", (
                f"Write-write conflict: {_both(name, a.thread_id, b.thread_id)} both wrote "
                f"{what}. The later write, by {name(b.thread_id)}, replaces the other."
            )
    return None


def _interrupted(accesses: list[TraceEvent], name: Namer, what: str) -> Finding | None:
    for kinds, worker, other in _interruptions(accesses):
        if kinds == "RWR":
            return "order_violation", (
                f"Order violation: {name(worker)} read {what} twice, and {name(other)} "
                "changed it in between."
            )
        if kinds == "WRW":
            return "order_violation", (
                f"Order violation: {name(other)} read {what} between two writes of it by "
                f"{name(worker)}."
            )
    return None


def _interruptions(accesses: list[TraceEvent]) -> Iterator[tuple[str, int, int]]:
    """Two accesses of one worker in a row, with one of another between that disturbs them.

    Gives the three kinds (R or W), the worker, and the other one. These are the orders
    that no execution without interruption could have had.
    """
    initial = {"read": "R", "write": "W"}
    previous: dict[int, int] = {}
    for i, e in enumerate(accesses):
        start = previous.get(e.thread_id)
        previous[e.thread_id] = i
        if start is None:
            continue
        for between in accesses[start + 1 : i]:
            kinds = "".join(initial[x.access_type or ""] for x in (accesses[start], between, e))
            if kinds in ("RWR", "RWW", "WWR", "WRW"):
                yield kinds, e.thread_id, between.thread_id


def _skew(
    by_location: Mapping[Hashable, list[TraceEvent]], name: Namer, labels: Mapping[Hashable, str]
) -> ConflictInfo | None:
    """One worker comes before another at one location and after it at a second."""
    first_at: dict[tuple[int, int], tuple[Hashable, TraceEvent, TraceEvent]] = {}
    for where, accesses in by_location.items():
        for a, b in _conflicts(accesses):
            back = first_at.get((b.thread_id, a.thread_id))
            if back is not None and back[0] != where:
                here, there = labels[where], labels[back[0]]
                if a.access_type == "read" and back[1].access_type == "read":
                    text = (
                        f"{_both(name, a.thread_id, b.thread_id)} each read what the other "
                        f"wrote afterwards ({there}, {here}), so neither saw the other's "
                        "write (write skew)."
                    )
                else:
                    before, after = name(a.thread_id), name(b.thread_id)
                    text = (
                        f"{before} came before {after} at {here}, but after it at {there}. "
                        "No execution of one worker after the other does that."
                    )
                return ConflictInfo(
                    "order_violation",
                    f"Order violation: {text}",
                    accesses[0].attr_name,
                    location=where,
                )
            first_at.setdefault((a.thread_id, b.thread_id), (where, a, b))
    return None


def _simple_order(
    by_location: Mapping[Hashable, list[TraceEvent]], name: Namer, labels: Mapping[Hashable, str]
) -> ConflictInfo | None:
    for where, accesses in by_location.items():
        for a, b in reversed(list(_conflicts(accesses))):
            verb = {"read": "read", "write": "wrote"}
            text = (
                f"Order violation: {name(a.thread_id)} {verb[a.access_type or '']} "
                f"{labels[where]} before {name(b.thread_id)} {verb[b.access_type or '']} it, "
                "and the outcome depends on that order."
            )
            return ConflictInfo("order_violation", text, a.attr_name, location=where)
    return None


def _conflicts(accesses: list[TraceEvent]) -> Iterator[tuple[TraceEvent, TraceEvent]]:
    """Each access with the latest earlier ones of other workers, when one of the two writes."""
    latest: dict[tuple[int, str | None], TraceEvent] = {}
    for b in accesses:
        for a in latest.values():
            if a.thread_id != b.thread_id and "write" in (a.access_type, b.access_type):
                yield a, b
        latest[b.thread_id, b.access_type] = b


def _both(name: Namer, a: int, b: int) -> str:
    a, b = sorted((a, b))
    return f"{name(a)} and {name(b)}"


# Writing


def format_trace(
    events: Iterable[TraceEvent],
    *,
    num_threads: int,
    thread_names: Sequence[str] | None = None,
    num_explored: int = 0,
    invariant_desc: str | None = None,
    show_opcodes: bool = False,
    reproduction_attempts: int = 0,
    reproduction_successes: int = 0,
    max_lines: int = 30,
) -> str:
    """The explanation of a failing execution.

    Args:
        events: everything recorded, in order; what is not shared is left out.
        num_threads: number of workers.
        thread_names: their names; default "worker 0", "worker 1", …
        num_explored: executions up to the failing one; 0 when not known.
        invariant_desc: what should have held.
        show_opcodes: name the instructions behind each line as well.
        reproduction_attempts: how often the schedule was replayed; 0 leaves that out.
        reproduction_successes: how many of these failed again.
        max_lines: limit on the number of source lines shown.
    """
    shared = filter_to_shared_accesses(events)
    name = namer((thread_names or ())[:num_threads])
    labels = label_locations(shared)
    parts = [found_after("Race condition", num_explored)]
    if shared:
        parts.append(wrap(classify(shared, name, labels).summary))
    parts.append(interleaving(shared, name, labels, max_lines, show_opcodes=show_opcodes))
    if invariant_desc:
        parts.append(wrap(f"The invariant does not hold: {invariant_desc}"))
    parts.append(reproduction(reproduction_attempts, reproduction_successes))
    return paragraphs(parts)


def paragraphs(parts: Iterable[str]) -> str:
    """The parts that are not empty, with a blank line between."""
    return "\n\n".join(part for part in parts if part)


def wrap(text: str) -> str:
    """Break a paragraph into lines of `WIDTH` columns."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def found_after(what: str, num_explored: int, total: int = 0) -> str:
    """The first line of an explanation."""
    after = f" after {num_explored} interleavings" if num_explored else ""
    more = f" ({total} explored in all)" if total > num_explored else ""
    return f"{what} found{after}{more}."


def reproduction(attempts: int, successes: int) -> str:
    """How often the failure came back when replayed; empty when that was not tried."""
    if not attempts:
        return ""
    return f"Reproduced {successes}/{attempts} times ({100 * successes / attempts:.0f}%)"


def default_name(worker: int) -> str:
    """What a worker without a name of its own is called."""
    return f"worker {worker}"


def namer(names: Sequence[str]) -> Namer:
    """From the index of a worker to its name."""
    return lambda worker: names[worker] if 0 <= worker < len(names) else default_name(worker)


def label_locations(events: Iterable[TraceEvent]) -> dict[Hashable, str]:
    """A readable name for each location; those that would share one are numbered."""
    plain: dict[Hashable, str] = {}
    nameless = set()
    for e in events:
        where = location_of(e)
        if where not in plain:
            plain[where] = _describe(e.obj_type_name, e.attr_name)
            if e.location is not None and not e.attr_name:
                nameless.add(where)
    count: defaultdict[str, int] = defaultdict(int)
    total: defaultdict[str, int] = defaultdict(int)
    for text in plain.values():
        total[text] += 1
    labels = {}
    for where, text in plain.items():
        count[text] += 1
        numbered = total[text] > 1 or where in nameless
        labels[where] = f"{text} #{count[text]}" if numbered else text
    return labels


def _describe(type_name: str | None, name: str | None) -> str:
    if type_name is None or type_name == IO:
        return name or "?"
    if not name:
        return type_name
    if name == STRUCTURE:
        return f"{type_name} contents"
    if name.startswith("["):
        return type_name + name
    return {"global": "global ", "cell": "variable "}.get(type_name, f"{type_name}.") + name


def interleaving(
    events: Sequence[TraceEvent],
    name: Namer,
    labels: Mapping[Hashable, str],
    max_lines: int,
    *,
    show_opcodes: bool = False,
) -> str:
    """The source lines in the order of their execution, under the worker that ran them."""
    if not events:
        return wrap(
            "The execution recorded no shared-state accesses: either the workers share "
            "nothing that changes, or they do so in code that is not traced."
        )
    entries = condense_trace(deduplicate_to_source_lines(events), max_lines=max_lines)
    numbered = any(
        e.attr_name and labels[location_of(e)] != _describe(e.obj_type_name, e.attr_name)
        for e in events
    )
    legend = " (#1, #2 tell objects apart)" if numbered else ""
    title = f"What happened to shared state, in order{legend}:"
    return "\n".join([title, "", *_timeline(entries, name, labels, show_opcodes)])


def _timeline(
    entries: Sequence[SourceLineEvent | CollapsedRun],
    name: Namer,
    labels: Mapping[Hashable, str],
    show_opcodes: bool,
) -> Iterator[str]:
    """A heading whenever the worker or function changes, and the lines below it."""
    layout = Layout(
        [_row(e, labels, show_opcodes) for e in entries if isinstance(e, SourceLineEvent)]
    )
    heading: object = None
    above: object = None  # the place shown last, which a next row on it does not repeat
    split = False  # did that row take two lines?
    for entry in entries:
        if isinstance(entry, CollapsedRun):
            if entry.thread_id is None:
                yield f"  … {entry.count} lines of several workers"
                heading = None
            else:
                yield f"    … {entry.count} more lines of {name(entry.thread_id)}"
            above = None
            continue
        if heading != (entry.thread_id, entry.function_name, entry.call_chain):
            heading = entry.thread_id, entry.function_name, entry.call_chain
            above = None
            within = f" in {entry.function_name}" if entry.function_name else ""
            yield f"  {name(entry.thread_id)}{within}"
            if entry.call_chain:
                yield f"    Called from {' <- '.join(entry.call_chain)}"
        place, source, tag = _row(entry, labels, show_opcodes)
        if place == above and split:
            yield layout.below(tag)
        elif place == above:
            yield from layout.lines(("", "", tag))
        else:
            lines = layout.lines((place, source, tag))
            split = len(lines) > 1
            yield from lines
        above = place


Row = tuple[str, str, str]  # place, source, tag


class Layout:
    """Puts rows of place, source and tag into columns that fit `WIDTH` where they can."""

    indent = 4

    def __init__(self, rows: Sequence[Row]) -> None:
        self.place = max((len(place) for place, _, _ in rows), default=0)
        tag = max((len(tag) for _, _, tag in rows), default=0)
        room = WIDTH - self.indent - self.place - 2
        longest = max((len(source) for _, source, _ in rows), default=0)
        self.most = max(room, 20)
        self.source = min(longest, max(room - 2 - tag, 24))

    def lines(self, row: Row) -> list[str]:
        """One line, or two when source and tag do not fit into one."""
        place, source, tag = row
        source = shorten(source, self.most)
        start = " " * self.indent + place.ljust(self.place) + "  "
        one = f"{start}{source.ljust(self.source)}  {tag}".rstrip()
        if not tag or (len(source) <= self.source and len(one) <= WIDTH):
            return [one]
        below = self.below(tag)
        return [(start + source).rstrip(), below] if place or source else [below]

    def below(self, tag: str) -> str:
        """A line for a tag alone, below one that has no room for it."""
        start = self.indent + self.place + 4
        return " " * max(self.indent, min(start, WIDTH - len(tag))) + tag


def _row(line: SourceLineEvent, labels: Mapping[Hashable, str], show_opcodes: bool) -> Row:
    tag = _tag(line, labels[location_of(line)])
    if show_opcodes and line.opcodes:
        tag += " " + " ".join(line.opcodes)
    return show_place(line.filename, line.lineno), line.source_line, tag


def _tag(line: SourceLineEvent, what: str) -> str:
    if all(value is None for _, value in line.accesses):
        return f"[{line.access_type} {what}]"
    parts = [_told(kind, value, "" if i else what) for i, (kind, value) in enumerate(line.accesses)]
    if len(parts) > 3:
        parts = [*parts[:2], "…", parts[-1]]
    return f"[{', '.join(parts)}]"


def _told(kind: str | None, value: str | None, what: str) -> str:
    words = [kind, what, "=" if what and value is not None else "", shorten(value or "", 30)]
    return " ".join(word for word in words if word)


def shorten(text: str, width: int) -> str:
    """`text` on one line, its end replaced by "…" when it is longer than `width`."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def show_place(filename: str, lineno: int) -> str:
    """``file:line``, the file relative to the current or the installation directory.

    Empty when there is no source file.
    """
    return "" if not filename else f"{_short_path(filename)}:{lineno}"


def _short_path(filename: str) -> str:
    if not os.path.isabs(filename):
        return filename
    _, installed, rest = filename.rpartition("site-packages" + os.sep)
    if installed:
        return rest
    try:
        here = os.path.join(os.getcwd(), "")
    except FileNotFoundError:  # it was removed
        here = ""
    if len(here) > 1 and filename.startswith(here):
        return filename[len(here) :]
    return os.path.basename(filename)
