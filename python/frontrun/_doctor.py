"""``frontrun doctor``: what works on this interpreter, and what is in the way."""

from __future__ import annotations

import argparse
import platform
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from frontrun import __version__

if TYPE_CHECKING:
    from frontrun.fast import Backend


def main(arguments: Sequence[str]) -> int:
    """Tell all about it.

    Returns:
        The exit status: 0 when an exploration finds what it must, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="frontrun doctor", description="Tell what works on this interpreter."
    )
    parser.parse_args(arguments)
    try:
        from frontrun.fast import backend

        found = backend()
    except ImportError as error:
        print(f"frontrun cannot be used with this Python: {error}", file=sys.stderr)
        return 1
    rows = {
        "frontrun": __version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}"
        + (", free-threaded" if found.free_threaded else ", with the GIL"),
        "system": f"{platform.system()} {platform.machine()}",
        "tracing": {
            "monitoring": "sys.monitoring, native callback",
            "settrace": "native trace function",
        }[found.name],
        "workers are": found.carrier,
        "intercepted": "; ".join(_grouped(found.intercepted)),
        "and in C code": ", ".join(found.intercepted_in_c),
        "limits": " ".join(_limits(found)),
    }
    for name, text in rows.items():
        print(textwrap.fill(text, 80, initial_indent=f"{name:15}", subsequent_indent=" " * 15))
    for obstacle in _obstacles():
        print(textwrap.fill(obstacle, 80, initial_indent="note: ", subsequent_indent="      "))
    complaint = _try_out()
    print(f"{'self-check':15}{complaint or 'a lost update was found, and a deadlock'}")
    return 1 if complaint else 0


def _grouped(names: Iterable[str]) -> Iterator[str]:
    """Dotted names, those of one class together."""
    for owner, group in groupby((name.rpartition(".") for name in names), key=lambda n: n[0]):
        yield f"{owner}: {', '.join(last for _, _, last in group)}"


def _limits(found: Backend) -> Iterator[str]:
    """What does not work on this interpreter."""
    yield "One exploration at a time in a process. A worker cannot fork."
    yield "What C code does to objects is seen for the builtin containers only."
    if found.free_threaded:
        yield "There are no fibers without a GIL: workers are OS threads."
    elif found.name == "settrace":
        yield (
            "Before Python 3.12, trace functions of the program and of debuggers get no opcode "
            "events from workers."
        )
    yield "More of them: docs/limits.md."


def _obstacles() -> list[str]:
    """What is in the way of explorations."""
    if sys.version_info >= (3, 12):
        tools = {number: sys.monitoring.get_tool(number) for number in range(6)}
        if all(tools.values()):
            names = ", ".join(map(str, tools.values()))
            return [f"no tool id of sys.monitoring is free ({names}): explorations cannot begin"]
    return []


class _Pair:
    def __init__(self) -> None:
        import threading

        self.value = 0
        self.locks = [threading.Lock(), threading.Lock()]

    def increment(self) -> None:
        self.value += 1

    def lock(self, first: int) -> None:
        with self.locks[first], self.locks[1 - first]:
            pass


def _try_out() -> str | None:
    """Explore two programs whose outcome is known; what went wrong, if anything did."""
    from frontrun import explore

    # This file belongs to frontrun, whose own code is not traced unless it is named.
    options: dict[str, Any] = {"trace_packages": ["_doctor"], "stop_on_first": False}
    try:
        race = explore(_Pair, _Pair.increment, lambda pair: pair.value == 2, count=2, **options)
        workers = [lambda pair: pair.lock(0), lambda pair: pair.lock(1)]
        deadlock = explore(_Pair, workers, lambda _: True, **options)
    except RuntimeError as error:
        return f"FAILED: {error}"
    if race.property_holds is not False:
        return f"FAILED: a lost update was missed ({race})"
    if deadlock.deadlock is None:
        return f"FAILED: a deadlock was missed ({deadlock})"
    return None
