"""The native backend on its own: exploring, recording and tracing at full speed.

`explore_dpor` and `explore_interleavings` are the functions of `frontrun.dpor` and
`frontrun.bytecode`. `record` runs something once and
tells what it accessed; `on_access` tells it while it happens; `settrace` is `sys.settrace`,
delivered natively.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, overload

from frontrun import _native
from frontrun._exploration import default_carrier, library_directories
from frontrun._native import gettrace, settrace
from frontrun.bytecode import explore_interleavings
from frontrun.dpor import explore_dpor

__all__ = [
    "Access",
    "Backend",
    "Instruction",
    "Recording",
    "backend",
    "explore_dpor",
    "explore_interleavings",
    "gettrace",
    "on_access",
    "record",
    "settrace",
    "stats",
]

Result = TypeVar("Result")
Entry = TypeVar("Entry")


class Access(NamedTuple):
    """One read or write of something that threads could share."""

    worker: int
    """The thread, numbered from 0 in the order in which they are first seen."""
    filename: str
    """Path of the source file."""
    lineno: int
    """Line in that file, from 1; 0 where the instruction has none."""
    offset: int
    """Offset of the instruction in its code object, in bytes."""
    opcode: str
    """Name of the instruction."""
    kind: str
    """``"read"`` or ``"write"``."""
    type_name: str
    """Type of the object; ``"global"`` for a global variable."""
    name: str
    """What is accessed of it: an attribute, ``"[key]"``, or ``"<structure>"``."""
    object_id: int
    """The object's `id`, which is its own for as long as it lives."""


class Instruction(NamedTuple):
    """One bytecode instruction that ran."""

    worker: int
    """The thread, numbered from 0 in the order in which they are first seen."""
    filename: str
    """Path of the source file."""
    lineno: int
    """Line in that file, from 1; 0 where the instruction has none."""
    offset: int
    """Offset of the instruction in its code object, in bytes."""
    opcode: str
    """Name of the instruction."""


class _Entries(Sequence[Entry]):
    """Entries of a native buffer, made when they are asked for."""

    def __init__(self, count: int, entry: Callable[[int], Entry]) -> None:
        self._count = count
        self._entry = entry

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self._entry(each) for each in range(*index.indices(self._count))]
        return self._entry(range(self._count)[index])

    def __repr__(self) -> str:
        return f"<{self._count} entries>"


class Recording(Generic[Result]):
    """What a function did. Every object that it accessed lives as long as this does."""

    result: Result
    """What the function returned."""
    accesses: Sequence[Access]
    """The accesses in the order in which they happened."""
    instructions: Sequence[Instruction]
    """Every instruction that ran, with ``opcodes=True``; else empty."""

    def __init__(self, result: Result, buffer: object) -> None:
        self.result = result
        accesses, instructions = _native.recorded_counts(buffer)
        self.accesses = _Entries(
            accesses, lambda index: _native.recorded_access(buffer, index, Access)
        )
        self.instructions = _Entries(
            instructions, lambda index: _native.recorded_instruction(buffer, index, Instruction)
        )

    def __repr__(self) -> str:
        return f"<Recording of {len(self.accesses)} accesses, result={self.result!r}>"


def record(
    fn: Callable[..., Result],
    /,
    *args: Any,
    files: Sequence[str] | None = None,
    opcodes: bool = False,
    **kwargs: Any,
) -> Recording[Result]:
    """Run ``fn(*args, **kwargs)`` once, and record what it accesses.

    Args:
        fn: What to run. Threads that run meanwhile are recorded as well; on Python 3.11 the
            `threading.Thread`s that it starts, and no others.
        files: Patterns of paths, as in `fnmatch` (``"*/shop.py"``). None: the files that an
            exploration traces, which are those outside the standard library and the
            installed packages.
        opcodes: Record every instruction as well.

    Raises:
        TypeError: for a bad argument, before anything runs.
        RuntimeError: in an exploration or in another recording.
        BaseException: what `fn` raises.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")
    with _new_threads_traced():
        result, buffer = _native.record(
            partial(fn, *args, **kwargs), library_directories(), _patterns(files), bool(opcodes)
        )
    return Recording(result, buffer)


def on_access(
    callback: Callable[[Access], object] | None, files: Sequence[str] | None = None
) -> None:
    """Call ``callback(access)`` before each access from now on, until `on_access` is called again.

    What the callback itself does is not told. An exception of the callback is raised where the
    access would have happened. Meanwhile nothing can be explored or recorded.

    Args:
        callback: Called in the thread of the access. None ends it.
        files: As for `record`. Functions that run already are told of when they are called anew.

    Raises:
        TypeError: for a bad argument.
        RuntimeError: in an exploration or a recording.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, not {callback!r}")
    patterns = _patterns(files)
    _native.tell_no_accesses()
    if callback is not None:
        _native.tell_accesses(callback, Access, library_directories(), patterns)


def _patterns(files: Sequence[str] | None) -> list[str] | None:
    if files is None:
        return None
    if isinstance(files, str) or not all(isinstance(pattern, str) for pattern in files):
        raise TypeError(f"files must be a list of patterns of paths or None, not {files!r}")
    return list(files)


@contextmanager
def _new_threads_traced() -> Iterator[None]:
    """Before 3.12 each thread has a trace function of its own, and has to be given ours."""
    if sys.version_info >= (3, 12):
        yield
        return
    before = threading.gettrace()
    threading.settrace(_native.trace_thread)
    try:
        yield
    finally:
        threading.settrace(before)


@dataclass(frozen=True)
class Backend:
    """What frontrun works with on this interpreter."""

    name: str
    """``"monitoring"`` (`sys.monitoring`, 3.12 and newer) or ``"settrace"`` (3.11)."""
    python: str
    """Version of this CPython."""
    free_threaded: bool
    """Is it a build that can do without the GIL?"""
    carrier: str
    """What runs the workers by default: ``"fibers"``, or ``"threads"`` on a free-threaded build
    and where the environment variable ``FRONTRUN_CARRIER`` says so."""
    intercepted: tuple[str, ...]
    """The functions that are intercepted while workers run, by dotted name."""
    intercepted_in_c: tuple[str, ...] = ()
    """The functions of the C library that are intercepted with ``detect_io``, whoever calls
    them."""


def backend() -> Backend:
    """Tell what frontrun works with on this interpreter."""
    told = _native.backend()
    return Backend(
        name=told["name"],
        python=".".join(map(str, sys.version_info[:3])),
        free_threaded="t" in sys.abiflags,
        carrier=default_carrier(),
        intercepted=tuple(told["intercepted"]),
        intercepted_in_c=tuple(told["intercepted_in_c"]),
    )


def stats() -> Mapping[str, Any]:
    """What this process has done so far.

    Returns:
        ``executions``; ``switches`` (turns that went from one worker to another);
        ``events_seen`` (instructions that the interpreter reported) and ``events_delivered``
        (those that became part of an execution or of a recording); ``setup_ns``,
        ``workers_ns`` and ``engine_ns`` (nanoseconds in setup and invariant, in workers, and in
        choosing what to run next); ``unknown_calls``: how often C functions were called whose
        effect on a container that they were given is not known, by name.
    """
    return {**_native.stats(), "unknown_calls": _native.unknown_calls(False)}
