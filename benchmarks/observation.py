"""What observing costs: each program untraced, in an execution of frontrun, and under a
``sys.settrace`` tracer of opcodes, in one process.

Run it as ``python benchmarks/observation.py [--markdown]``. All times are the best of many runs,
in nanoseconds per iteration of the program's loop. The programs take turns, because a machine that
is shared is fast in one second and slow in the next. ``per callback`` is what an execution takes
longer than the untraced program, divided by the number of instructions that the interpreter
delivers to the tracer; ``per event`` is the same, divided by the number of events that come of
them. The search for the next execution is not part of either. From 3.12 on the last line tells what
of a callback is the interpreter's: the cost of one that does nothing.
"""

from __future__ import annotations

import dis
import json
import operator
import sys
import textwrap
import time
from collections.abc import Callable
from math import inf
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


def with_empty_callback(program: Callable[[State], None]) -> float:
    """As much as a tracer in C costs that is told of each attribute that is stored."""
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    instruction = monitoring.events.INSTRUCTION
    code = program.__code__
    wanted = {i.offset for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    tool = next(tool for tool in range(6) if monitoring.get_tool(tool) is None)
    monitoring.use_tool_id(tool, "empty")
    try:
        monitoring.register_callback(
            tool,
            instruction,
            lambda _, offset: None if offset in wanted else monitoring.DISABLE,
        )
        monitoring.set_local_events(tool, code, instruction)
        program(State())
        # A C function that takes a code object and an offset, and does nothing.
        monitoring.register_callback(tool, instruction, operator.is_)
        return min(untraced(program) for _ in range(3))
    finally:
        monitoring.set_local_events(tool, code, 0)
        monitoring.free_tool_id(tool)


def row(
    program: Callable[[State], None], bare: float, here: tuple[float, float, float], other: float
) -> list[str]:
    took, callbacks, events = here

    def per(count: float) -> str:
        return f"{(took - bare) / count:.0f}" if count > STEPS / 2 else ""

    return [
        program.__name__.replace("_", " "),
        f"{bare / STEPS:.0f}",
        f"{took / STEPS:.0f}",
        f"{took / bare:.1f}×",
        per(callbacks),
        per(events),
        f"{other / STEPS:.0f}",
        f"{other / took:.0f}×",
    ]


def measured(rounds: int = 40) -> tuple[list[list[str]], float]:
    """The rows of the table, and the nanoseconds of a callback that does nothing."""
    bare = dict.fromkeys(PROGRAMS, inf)
    here = dict.fromkeys(PROGRAMS, (inf, 0.0, 0.0))
    other = dict.fromkeys(PROGRAMS, inf)
    empty = inf
    for number in range(rounds):
        for program in PROGRAMS:
            bare[program] = min(bare[program], *(untraced(program) for _ in range(3)))
            here[program] = min(here[program], explored(program))
            if number % 8 == 0:
                # From 3.12 on, the first run is told of no opcode: tracing begins with the next.
                with_opcode_tracer(program)
                other[program] = min(other[program], with_opcode_tracer(program))
        if hasattr(sys, "monitoring"):
            empty = min(empty, with_empty_callback(stores_an_attribute))
    rows = [row(program, bare[program], here[program], other[program]) for program in PROGRAMS]
    return rows, (empty - bare[stores_an_attribute]) / STEPS


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
    measurements, empty = measured()
    rows = [[f"Python {version}", *HEADINGS[1:]], *measurements]
    if "--markdown" in sys.argv:
        rows.insert(1, ["---"] + ["---:"] * (len(HEADINGS) - 1))
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        for row in rows:
            cells = (f"{cell:>{len(above) + 2}}" for cell, above in zip(row, HEADINGS, strict=True))
            print(f"{row[0]:28}" + "".join(list(cells)[1:]))
    if empty < inf:
        print(f"\nA callback in C that does nothing: {empty:.0f} ns.")


if __name__ == "__main__":
    main()
