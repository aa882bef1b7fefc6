"""``frontrun bench``: what exploring costs, beside a tracer written in Python.

Every exploration of a program or a test suite is measured, and then its workers are run again,
in the same process, under a `sys.settrace` function that counts opcodes and does nothing
else. That is the least that a tool pays which watches each opcode from Python.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from frontrun import _host

if TYPE_CHECKING:
    from frontrun._exploration import Options
    from frontrun.common import InterleavingResult

__all__ = ["Measurement", "main"]

_TRACER_SECONDS = 0.1
"""So long each program is repeated under the Python tracer."""
_PATIENCE = 2.0
"""Seconds after which a program that does not end by itself is given up under it."""


@dataclass(frozen=True)
class Measurement:
    """One exploration, and the same program under a tracer written in Python."""

    name: str
    """The test, or where ``setup`` comes from."""
    executions: int
    seconds: float
    """The whole exploration."""
    events: int
    """Accesses and operations of locks and threads, in all executions."""
    traced_executions: int
    """Executions under the Python tracer; 0 when they did not end by themselves."""
    traced_seconds: float
    traced_opcodes: int

    @property
    def rate(self) -> float:
        """Executions per second."""
        return self.executions / self.seconds

    @property
    def event_rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def traced_rate(self) -> float | None:
        """Executions per second under the Python tracer."""
        return self.traced_executions / self.traced_seconds if self.traced_executions else None

    @property
    def traced_opcode_rate(self) -> float | None:
        """Opcodes per second under the Python tracer."""
        return self.traced_opcodes / self.traced_seconds if self.traced_executions else None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self),
            "executions_per_second": self.rate,
            "events_per_second": self.event_rate,
            "traced_executions_per_second": self.traced_rate,
            "traced_opcodes_per_second": self.traced_opcode_rate,
        }


class _Bench:
    """Measures every exploration of this process."""

    def __init__(self) -> None:
        self.done: list[Measurement] = []

    def before(self, program: _host.Program, options: Options) -> Options:
        return options

    def after(
        self,
        program: _host.Program,
        options: Options,
        result: InterleavingResult,
        seconds: float,
    ) -> None:
        from frontrun._exploration import are_async

        if are_async(program.workers):
            return  # Nothing else schedules tasks: there is nothing to compare with.
        executions, elapsed, opcodes = _run_traced(program, options)
        self.done.append(
            Measurement(
                _name_of(program),
                result.num_explored,
                seconds,
                result.stats.get("events", 0),
                executions,
                elapsed,
                opcodes,
            )
        )


def _name_of(program: _host.Program) -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test is not None:
        return test.partition(" ")[0].rpartition("/")[2]
    worker = program.workers[0]
    return getattr(worker, "__qualname__", repr(worker))


def _run_traced(program: _host.Program, options: Options) -> tuple[int, float, int]:
    """Executions, seconds and opcodes of a program in threads that Python traces."""
    count = 0

    def local(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        if event == "opcode":
            count += 1
        return local

    def tracer(frame: FrameType, event: str, argument: object) -> object:
        if not _is_traced(frame.f_code.co_filename, tuple(options.trace_packages)):
            return None
        frame.f_trace_opcodes = True
        return local

    def work(worker: Callable[[Any], object], state: object) -> None:
        sys.settrace(tracer)  # type: ignore[arg-type]  # what a tracer gives is open
        try:
            worker(state)
        except BaseException:
            pass  # that it fails is the exploration's business
        finally:
            sys.settrace(None)

    executions, began = 0, time.perf_counter()
    while executions < 3 or time.perf_counter() - began < _TRACER_SECONDS:
        state = program.setup()
        threads = [
            threading.Thread(target=work, args=(worker, state), daemon=True)
            for worker in program.workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_PATIENCE)
            if thread.is_alive():
                return 0, 0.0, 0
        executions += 1
    return executions, time.perf_counter() - began, count


@cache
def _is_traced(filename: str, packages: tuple[str, ...]) -> bool:
    from frontrun._exploration import library_directories

    if filename.startswith("<frozen"):
        return False
    roots = [root for root in library_directories() if filename.startswith(root)]
    if not roots:
        return True
    rest = filename[len(max(roots, key=len)) :].removesuffix(".py").removesuffix("/__init__")
    return any(fnmatchcase(rest.replace("/", "."), pattern) for pattern in packages)


# The programs that are measured when none is given


class _Counter:
    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()

    def increment(self) -> None:
        self.value += 1

    def increment_safely(self) -> None:
        with self.lock:
            self.value += 1

    def count_alone(self) -> None:
        mine: list[int] = []
        for number in range(1000):
            mine.append(number)
        self.value += 1


def _explore_known_programs() -> None:
    from frontrun import explore

    options: dict[str, Any] = {
        "trace_packages": ["bench"],
        "stop_on_first": False,
        "reproduce_on_failure": 0,
        "preemption_bound": None,
    }
    for worker, count in (
        (_Counter.increment, 2),
        (_Counter.increment, 4),
        (_Counter.increment_safely, 4),
        (_Counter.count_alone, 2),
    ):
        explore(_Counter, worker, lambda _: True, count=count, **options)


# Command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments (``sys.argv`` without one) say, and show a table.

    Returns:
        The exit status of what was run; 1 when it explored nothing.
    """
    parser = argparse.ArgumentParser(
        prog="frontrun bench",
        description="Measure every exploration of a program, beside a tracer in Python.",
        usage="frontrun bench [--json FILE] [pytest ARGS... | -m MODULE ARGS... | FILE ARGS...]",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="what to run; a few known programs if missing"
    )
    given = parser.parse_args(arguments)
    _explore_known_programs()  # what the first exploration of a process costs counts for none
    bench = _Bench()
    with _host.host(bench):
        status = _run(given.command, given.module)
    if not bench.done:
        print("nothing was explored, so there is nothing to tell", file=sys.stderr)
        return status or 1
    _show(bench.done)
    if given.json is not None:
        told = {
            "python": platform.python_version(),
            "explorations": [one.told() for one in bench.done],
        }
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
            file.write("\n")
    return status


def _run(command: Sequence[str], module: bool) -> int:
    if not command:
        _explore_known_programs()
        return 0
    name, *rest = command
    if name == "pytest" and not module:
        module = True
    sys.argv = [name, *rest]
    sys.path.insert(0, os.getcwd() if module else os.path.dirname(os.path.abspath(name)))
    if not (find_spec(name.partition(".")[0]) if module else os.path.exists(name)):
        kind = "module" if module else "file"
        print(f"frontrun bench: there is no {kind} {name}", file=sys.stderr)
        return 2
    try:
        if module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
            return 1
        return exit.code or 0
    return 0


_HEADINGS = (
    "exploration",
    "executions",
    "per s",
    "events/s",
    "traced/s",
    "opcodes/s",
    "faster",
)
_TITLE = """\
executions: explored by frontrun; events are accesses and operations of locks
traced:     the same program under a sys.settrace function that counts opcodes
"""


def _show(done: Sequence[Measurement]) -> None:
    print(_TITLE)
    rows = [_row(one) for one in done]
    if len(done) > 1:
        # A program that did not end under the tracer tells nothing about it.
        ended = [one for one in done if one.traced_executions]
        rows.append(
            (
                "all",
                _figure(sum(one.executions for one in done)),
                _figure(sum(one.executions for one in done) / sum(one.seconds for one in done)),
                _figure(sum(one.events for one in done) / sum(one.seconds for one in done)),
                *_traced(ended),
            )
        )
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _show_plainly(rows)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(_HEADINGS[0], overflow="fold")
    for heading in _HEADINGS[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _show_plainly(rows: Iterable[Sequence[str]]) -> None:
    all_rows = [_HEADINGS, *rows]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(_HEADINGS))]
    # Names are cut to what 80 columns leave for them.
    widths[0] = min(widths[0], 80 - sum(2 + width for width in widths[1:]))
    for first, *figures in all_rows:
        if len(first) > widths[0]:
            first = first[: widths[0] - 1] + "…"
        shown = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        print(first.ljust(widths[0]), *shown)


def _row(one: Measurement) -> tuple[str, ...]:
    executions = _figure(one.executions)
    traced = _traced([one] if one.traced_executions else [])
    return one.name, executions, _figure(one.rate), _figure(one.event_rate), *traced


def _traced(done: Sequence[Measurement]) -> tuple[str, str, str]:
    """Executions and opcodes per second under the tracer; how many times faster frontrun is."""
    if not done:
        return "-", "-", "-"
    executions = sum(one.traced_executions for one in done)
    seconds = sum(one.traced_seconds for one in done)
    opcodes = sum(one.traced_opcodes for one in done)
    # How long each needs for the executions that were explored.
    theirs = sum(one.executions * one.traced_seconds / one.traced_executions for one in done)
    ours = sum(one.seconds for one in done)
    return _figure(executions / seconds), _figure(opcodes / seconds), f"{theirs / ours:.1f}x"


def _figure(value: float) -> str:
    return f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
