"""Markers in source code: where they are, which instructions they gate, and the gating itself."""

from __future__ import annotations

import bisect
import dis
import inspect
import io
import linecache
import os
import re
import sys
import sysconfig
import threading
import tokenize
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from frontrun import _native

_MARKER = re.compile(r"#\s*frontrun:\s*(\w+)(?=$|[\s#,;.)])")
_ALMOST = re.compile(r"#\s*frontrun\s*:", re.IGNORECASE)

# The first token of a logical line that has no code of its own, so that its markers gate what
# comes next.
_BARE_HEADERS = ("else", "finally", "try")

_LIBRARY = tuple(
    os.path.join(path, "")
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_path(name)) is not None
)
_OURSELVES = os.path.join(os.path.dirname(__file__), "")
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclass(frozen=True)
class Statement:
    """A statement with markers (only the header of a compound one): the lines it spans."""

    first: int
    last: int
    is_with: bool
    markers: tuple[tuple[str, int], ...]
    """Each marker's name and the line that it is written on, in the order of the lines."""


@dataclass(frozen=True)
class Markers:
    """The markers of one file."""

    statements: tuple[Statement, ...] = ()

    @property
    def names(self) -> set[str]:
        """The names of all of them."""
        return {name for statement in self.statements for name, _ in statement.markers}

    def at(self, line: int) -> str | None:
        """The first marker that is written on this line, or gates the statement there."""
        for statement in self.statements:
            for name, written in statement.markers:
                if line == written:
                    return name
        found = bisect.bisect_right(self.statements, line, key=lambda each: each.first) - 1
        if found >= 0 and line <= self.statements[found].last:
            return self.statements[found].markers[0][0]
        return None


NO_MARKERS = Markers()


def scan(source: bytes, filename: str) -> Markers:
    """Find the markers in a source text.

    Raises:
        ValueError: for a marker without a proper name, and one that no statement follows,
            with the place.
    """
    statements: list[Statement] = []
    # Markers on lines of their own that wait for a statement: name, line, column.
    pending: list[tuple[str, int, int]] = []
    inside: list[tuple[str, int]] = []
    head: list[str] = []
    start: tuple[int, int] | None = None
    decorated_from: int | None = None
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            name = _name_in(token.string, filename, token.start[0])
            if name is not None and start is None:
                pending.append((name, *token.start))
            elif name is not None:
                inside.append((name, token.start[0]))
        elif token.type == tokenize.NEWLINE:
            assert start is not None
            markers = [(name, line) for name, line, _ in pending] + inside
            pending, inside = [], []
            if head[0] == "@" or (head[0] in _BARE_HEADERS and head[1:] == [":"]):
                pending = [(name, line, 0) for name, line in markers]
                if head[0] == "@":
                    decorated_from = decorated_from or start[0]
            else:
                if markers:
                    first = decorated_from or start[0]
                    is_with = "with" in head[:2] and head[0] in ("with", "async")
                    statements.append(Statement(first, token.end[0], is_with, tuple(markers)))
                decorated_from = None
            start, head = None, []
        elif token.type not in _LAYOUT:
            if start is None:
                start = token.start
                _check_followed(pending, start[1], filename)
            if len(head) < 3:
                head.append(token.string)
    _check_followed(pending, -1, filename)
    return Markers(tuple(statements))


_LAYOUT = {
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def _name_in(comment: str, filename: str, line: int) -> str | None:
    found = _MARKER.search(comment)
    if found is not None:
        return found[1]
    if _ALMOST.search(comment):
        raise ValueError(
            f"{filename}:{line}: malformed marker {comment!r}: "
            "write '# frontrun: name' with a name of letters, digits and underscores"
        )
    return None


def _check_followed(pending: list[tuple[str, int, int]], column: int, filename: str) -> None:
    for name, line, marker_column in pending:
        if marker_column > column:
            raise ValueError(
                f"{filename}:{line}: the marker {name!r} gates nothing: no statement follows it "
                "in its block. Put it on the line of a statement, or before one"
            )


def markers_of(filename: str, module_globals: dict[str, Any] | None = None) -> Markers:
    """The markers of a file, or of source that `linecache` knows by this name.

    Raises:
        ValueError: for a malformed marker.
    """
    try:
        status = os.stat(filename)
    except (OSError, ValueError):
        text = "".join(linecache.getlines(filename, module_globals))
        return _scan_text(text.encode("utf-8", "surrogatepass"), filename, encoded=False)
    return _markers_of_file(filename, status.st_mtime_ns, status.st_size)


@cache
def _markers_of_file(filename: str, _changed: int, _size: int) -> Markers:
    try:
        with open(filename, "rb") as file:
            # The compiler ends lines here, too, and `tokenize` does not.
            source = re.sub(rb"\r\n?", b"\n", file.read())
    except OSError:
        return NO_MARKERS
    return _scan_text(source, filename, encoded=True)


def _scan_text(source: bytes, filename: str, *, encoded: bool) -> Markers:
    if b"frontrun" not in source.lower():
        return NO_MARKERS
    if not encoded:
        # A declared encoding is that of the file, which this text was decoded from.
        source = b"\xef\xbb\xbf" + re.sub(rb"coding[:=]", b"coding ", source)
    try:
        return scan(source, filename)
    except (tokenize.TokenError, SyntaxError):
        return NO_MARKERS  # not the source of any code that runs


def is_ours_to_read(filename: str) -> bool:
    """May this file have markers? The standard library and frontrun have none."""
    if filename.startswith(("<frozen ", _OURSELVES)):
        return False
    return not filename.startswith(_LIBRARY) or any(part in filename for part in _PACKAGES)


def all_names() -> set[str]:
    """The markers in everything that is loaded: modules, and source that `linecache` has."""
    files = {
        file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))
    }
    names: set[str] = set()
    for file in files | set(linecache.cache):
        if is_ours_to_read(file) and not file.endswith(".so"):
            try:
                names |= markers_of(file).names
            except ValueError:
                continue  # reported if it is run
    return names


# Which instructions a marker gates.


def gates_in(code: CodeType, markers: Markers) -> dict[int, tuple[str, ...]]:
    """The offsets of `code` where control enters a marked statement, with its markers.

    A statement is entered where an instruction outside of it comes before one inside: so a
    call that spans lines counts once, each pass of a loop counts, and the end of a ``with``
    block does not, although it has the line of its beginning.
    """
    if not _can_be_gated(code):
        return {}
    flow = _Flow(code)
    gates: dict[int, tuple[str, ...]] = {}
    for statement in markers.statements:
        names = [name for name, _ in statement.markers]
        if statement.first <= code.co_firstlineno <= statement.last and code.co_name != "<module>":
            if _is_class_body(code):
                continue
            # A function within the statement is gated by markers on its own lines only.
            names = [name for name, line in statement.markers if line in flow.own_lines]
        if names:
            gates |= dict.fromkeys(flow.entries(statement), tuple(names))
    return gates


def _can_be_gated(code: CodeType) -> bool:
    # Comprehensions are a part of their statement, however this Python compiles them.
    generated = code.co_name.startswith("<") and code.co_name not in ("<lambda>", "<module>")
    return not generated and code.co_name not in ("__annotate__", "__annotate_func__")


def _is_class_body(code: CodeType) -> bool:
    return not code.co_flags & inspect.CO_OPTIMIZED and "__qualname__" in code.co_names


_NO_SUCCESSOR = {
    "JUMP_FORWARD",
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "RETURN_VALUE",
    "RETURN_CONST",
    "RAISE_VARARGS",
    "RERAISE",
}
_ENTERS_WITH = {"BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"}
# Does a gate open at every execution of its instruction (or only when the line changes)?
_BY_OFFSET = sys.version_info >= (3, 12)
_JUMPS = {*dis.hasjrel, *dis.hasjabs}


class _Flow:
    """The control flow of a code object."""

    def __init__(self, code: CodeType) -> None:
        bytecode = dis.Bytecode(code)
        instructions = list(bytecode)
        self.names = {each.offset: each.opname for each in instructions}
        self.lines: dict[int, int | None] = {}
        self.after: dict[int, list[int]] = {each.offset: [] for each in instructions}
        self.before: dict[int, list[int]] = {each.offset: [] for each in instructions}
        started = False
        for this, following in zip(instructions, [*instructions[1:], None], strict=True):
            # What comes before the body has the line of the header.
            line = this.positions.lineno if this.positions else None
            self.lines[this.offset] = line if started else 0
            started = started or this.opname == "RESUME"
            if following is not None and this.opname not in _NO_SUCCESSOR:
                self._connect(this.offset, following.offset)
            if this.opcode in _JUMPS:
                self._connect(this.offset, this.argval)
        for entry in bytecode.exception_entries:  # type: ignore[attr-defined]
            for offset in self.lines:
                if entry.start <= offset < entry.end:
                    self.before[entry.target].append(offset)
        self.own_lines = {line for line in self.lines.values() if line}

    def _connect(self, source: int, target: int) -> None:
        self.after[source].append(target)
        self.before[target].append(source)

    def entries(self, statement: Statement) -> set[int]:
        """The offsets where control enters the statement from outside of it."""
        found: set[int] = set()
        for offset, line in self.lines.items():
            if line is None or not statement.first <= line <= statement.last:
                continue
            outside = [
                origin for origin in self.before[offset] if self._is_outside(origin, statement)
            ]
            if not outside or (statement.is_with and not self._enters_with(offset, statement)):
                continue
            jumps_only = all(self.after[origin] == [offset] for origin in outside)
            if _BY_OFFSET and jumps_only and len(outside) < len(self.before[offset]):
                # The next pass of a loop, which its first pass runs into from above.
                found.update(outside)
            else:
                found.add(offset)
        return found

    def _is_outside(self, offset: int, statement: Statement) -> bool:
        """Is this outside, or when it has no line, reached from there?"""
        seen, todo = {offset}, [offset]
        while todo:
            here = todo.pop()
            line = self.lines[here]
            if line is None:
                todo += set(self.before[here]) - seen
                seen |= set(self.before[here])
            elif not statement.first <= line <= statement.last:
                return True
        return False

    def _enters_with(self, offset: int, statement: Statement) -> bool:
        seen, todo = {offset}, [offset]
        while todo:
            here = todo.pop()
            if self.names[here] in _ENTERS_WITH:
                return True
            for target in self.after[here]:
                line = self.lines[target]
                inside = line is None or statement.first <= line <= statement.last
                if inside and target not in seen:
                    seen.add(target)
                    todo.append(target)
        return False


# The gating: the interpreter tells when a gated instruction is about to run.

Gate = Callable[[str, CodeType], None]
"""Called on a worker's thread before a gated instruction: the marker, and whose it is."""

_here = threading.local()
_lock = threading.RLock()
_users = 0

# Marked code that was seen: by identity, because equal code objects are not the same code.
_known: dict[int, tuple[weakref.ref[CodeType], dict[int, tuple[str, ...]]]] = {}


def _gates_of(code: CodeType) -> dict[int, tuple[str, ...]]:
    found = _known.get(id(code))
    if found is not None and found[0]() is code:
        return found[1]
    if not is_ours_to_read(code.co_filename):
        return {}
    markers = markers_of(code.co_filename)
    gates = gates_in(code, markers) if markers.statements else {}
    if gates:
        key = id(code)
        _known[key] = (weakref.ref(code, lambda _: _known.pop(key, None)), gates)
    return gates


def install() -> None:
    """Have marked code that starts from now on looked at; to be undone by `uninstall`.

    Raises:
        RuntimeError: when `sys.monitoring` has no free tool id (3.12+).
    """
    global _users
    with _lock:
        if _users == 0:
            _begin()
        _users += 1


def uninstall() -> None:
    """Undo one `install`; the last one leaves nothing in the interpreter."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _end()


def enter(gate: Gate) -> None:
    """Gate the calling thread."""
    _here.gate = gate
    _trace_thread()


def leave() -> None:
    """Gate the calling thread no longer."""
    _here.gate = None
    _untrace_thread()


def _pass(gate: Gate, names: tuple[str, ...], code: CodeType) -> None:
    for name in names:
        gate(name, code)


if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _START, _INSTRUCTION = _monitoring.events.PY_START, _monitoring.events.INSTRUCTION
    _tool = -1

    def _begin() -> None:
        global _tool
        # 0, 1, 2 and 5 are meant for debuggers, coverage, profilers, optimisers;
        # Hypothesis wants 3.
        for tool in (4, 5, 2, 1, 0, 3):
            if _monitoring.get_tool(tool) is None:
                break
        else:
            raise RuntimeError(
                "markers need a free tool id of sys.monitoring, and all six are taken: "
                "stop another tool (debugger, coverage, profiler)"
            )
        _tool = tool
        _monitoring.use_tool_id(tool, "frontrun markers")
        _monitoring.register_callback(tool, _START, _on_start)
        _monitoring.register_callback(tool, _INSTRUCTION, _on_instruction)
        for code in _live():
            _monitoring.set_local_events(tool, code, _INSTRUCTION)
        _monitoring.set_events(tool, _START)

    def _end() -> None:
        _monitoring.set_events(_tool, 0)
        for code in _live():
            _monitoring.set_local_events(_tool, code, 0)
        for event in (_START, _INSTRUCTION):
            _monitoring.register_callback(_tool, event, None)
        _monitoring.free_tool_id(_tool)

    def _live() -> list[CodeType]:
        return [code for reference, _ in list(_known.values()) if (code := reference()) is not None]

    def _on_start(code: CodeType, _offset: int) -> object:
        try:
            gates = _gates_of(code)
        except ValueError:
            if getattr(_here, "gate", None) is None:
                return None  # a malformed marker is the business of workers only
            raise
        if gates:
            with _lock:
                if _users:
                    _monitoring.set_local_events(_tool, code, _INSTRUCTION)
        return _monitoring.DISABLE

    def _on_instruction(code: CodeType, offset: int) -> object:
        found = _known.get(id(code))
        names = found[1].get(offset) if found is not None else None
        if names is None:
            return _monitoring.DISABLE
        gate = getattr(_here, "gate", None)
        if gate is not None:
            _pass(gate, names, code)
        return None

    def _trace_thread() -> None:
        pass

    def _untrace_thread() -> None:
        pass

else:

    def _begin() -> None:
        pass

    def _end() -> None:
        pass

    def _trace_thread() -> None:
        _native.trace_markers(_gates_of, _on_gate)

    def _untrace_thread() -> None:
        _native.trace_markers(None, None)

    def _on_gate(code: CodeType, offset: int) -> None:
        _pass(_here.gate, _gates_of(code)[offset], code)
