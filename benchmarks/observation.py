"""What observing costs: each program untraced, in an execution of frontrun, and under a
``sys.settrace`` tracer of opcodes, in one process.

Run it as ``python benchmarks/observation.py [--markdown]``. All times are the best of several
runs, in nanoseconds per iteration of the program's loop. ``per callback`` is what an execution
takes longer than the untraced program, divided by the number of instructions that the interpreter
reports to the tracer; ``per event`` is the same, divided by the number of events that come of
them. The search for the next execution is not part of either.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from frontrun import fast
from frontrun.dpor import explore_dpor

STEPS = 50_000


class State:
    def __init__(self) -> None:
        self.value = 0
        self.items = [0]
        self.table = {"a": 0}


def local_arithmetic(state: State) -> None:
    total = 0
    for i in range(STEPS):
        total += i * 2 % 7


def appends_to_its_own_list(state: State) -> None:
    mine = []
    for i in range(STEPS):
        mine.append(i)
    state.value += 1


def stores_an_attribute(state: State) -> None:
    for i in range(STEPS):
        state.value = i


def adds_to_an_attribute(state: State) -> None:
    for _ in range(STEPS):
        state.value += 1


def stores_an_item(state: State) -> None:
    items = state.items
    for i in range(STEPS):
        items[0] = i


def stores_a_key(state: State) -> None:
    table = state.table
    for i in range(STEPS):
        table["a"] = i


def calls_a_function(state: State) -> None:
    for i in range(STEPS):
        doubled(i)


def doubled(number: int) -> int:
    return number + number


def uses_the_standard_library(state: State) -> None:
    for i in range(STEPS // 100):
        text = json.dumps({"index": i, "items": [1, 2.5, None]}, indent=1)
        textwrap.wrap(text, 20)
        state.value = json.loads(text)["index"]


PROGRAMS = (
    local_arithmetic,
    appends_to_its_own_list,
    stores_an_attribute,
    adds_to_an_attribute,
    stores_an_item,
    stores_a_key,
    calls_a_function,
    uses_the_standard_library,
)


def untraced(program: Callable[[State], None]) -> float:
    state = State()
    started = time.perf_counter_ns()
    program(state)
    return time.perf_counter_ns() - started


def explored(program: Callable[[State], None]) -> tuple[float, float, float]:
    """Nanoseconds, callbacks and events of one execution."""
    before = fast.stats()["events_seen"]
    result = explore_dpor(
        State,
        [program],
        lambda _: True,
        max_branches=100 * STEPS,
        timeout_per_run=60.0,
        reproduce_on_failure=0,
    )
    runs = result.num_explored
    callbacks = fast.stats()["events_seen"] - before
    return result.stats["workers_ns"] / runs, callbacks / runs, result.stats["events"] / runs


def with_opcode_tracer(program: Callable[[State], None]) -> float:
    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    sys.settrace(trace)
    try:
        return untraced(program)
    finally:
        sys.settrace(None)


def measured(program: Callable[[State], None], runs: int = 7) -> list[str]:
    bare = min(untraced(program) for _ in range(runs))
    here, callbacks, events = min(explored(program) for _ in range(runs))

    def per(count: float) -> str:
        return f"{(here - bare) / count:.0f}" if count > STEPS / 2 else ""

    # From 3.12 on, the first run is told of no opcode: tracing them begins with the next one.
    with_opcode_tracer(program)
    other = min(with_opcode_tracer(program) for _ in range(2))
    return [
        program.__name__.replace("_", " "),
        f"{bare / STEPS:.0f}",
        f"{here / STEPS:.0f}",
        f"{here / bare:.1f}×",
        per(callbacks),
        per(events),
        f"{other / STEPS:.0f}",
        f"{other / here:.0f}×",
    ]


HEADINGS = [
    "",
    "untraced",
    "frontrun",
    "ratio",
    "per callback",
    "per event",
    "settrace",
    "settrace / frontrun",
]


def main() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    rows = [[f"Python {version}", *HEADINGS[1:]], *map(measured, PROGRAMS)]
    if "--markdown" in sys.argv:
        rows.insert(1, ["---"] + ["---:"] * (len(HEADINGS) - 1))
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        for row in rows:
            cells = (f"{cell:>{len(above) + 2}}" for cell, above in zip(row, HEADINGS, strict=True))
            print(f"{row[0]:28}" + "".join(list(cells)[1:]))


if __name__ == "__main__":
    main()
