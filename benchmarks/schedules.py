"""What a schedule of instructions costs, against the same done with `sys.settrace`.

Run it as ``python benchmarks/schedules.py``: random schedules a second of two workers that
increment a counter, by frontrun and by threads that a trace function stops at each opcode.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from frontrun.bytecode import explore_interleavings

LENGTH = 300


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        for _ in range(5):
            value = self.value
            self.value = value + 1


def native(schedules: int) -> float:
    """Schedules a second by frontrun."""
    started = time.perf_counter()
    result = explore_interleavings(
        Counter,
        [Counter.increment] * 2,
        lambda counter: True,
        max_attempts=schedules,
        max_ops=LENGTH,
        seed=1,
    )
    return result.num_explored / (time.perf_counter() - started)


class Turns:
    """Lets one of the traced threads run one opcode at a time."""

    def __init__(self, schedule: list[int]) -> None:
        self.schedule, self.position = schedule, 0
        self.ended: set[int] = set()
        self.changed = threading.Condition()

    def wait(self, me: int) -> None:
        with self.changed:
            while (following := self.following()) is not None and following != me:
                self.changed.wait()
            self.position += 1
            self.changed.notify_all()

    def following(self) -> int | None:
        while self.position < len(self.schedule) and self.schedule[self.position] in self.ended:
            self.position += 1
        return self.schedule[self.position] if self.position < len(self.schedule) else None

    def end(self, me: int) -> None:
        with self.changed:
            self.ended.add(me)
            self.changed.notify_all()


def traced(turns: Turns, me: int, work: Callable[[], None]) -> None:
    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != __file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            turns.wait(me)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
        turns.end(me)


def with_settrace(schedules: int) -> float:
    """Schedules a second by threads and a trace function in Python."""
    dice = random.Random(1)
    started = time.perf_counter()
    for _ in range(schedules):
        turns = Turns([dice.randrange(2) for _ in range(LENGTH)])
        counter = Counter()
        threads = [
            threading.Thread(target=traced, args=(turns, me, counter.increment)) for me in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return schedules / (time.perf_counter() - started)


def main() -> None:
    native(1000)
    ours = max(native(5000) for _ in range(3))
    theirs = max(with_settrace(50) for _ in range(3))
    print(
        f"CPython {sys.version.split()[0]}: {ours:,.0f} schedules/s, with sys.settrace "
        f"{theirs:,.0f}: {ours / theirs:,.0f} times as many"
    )


if __name__ == "__main__":
    main()
