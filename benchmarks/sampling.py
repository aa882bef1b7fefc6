"""How soon each strategy that samples finds a bug: the median number of executions to it.

Run it as ``python benchmarks/sampling.py [SEEDS]``. Small programs with one bug each, from
shallow to deep; a dash means that half of the seeds did not find it within the budget.
"""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Callable
from typing import Any

import frontrun

BUDGET = 2000
STRATEGIES: dict[str, dict[str, Any]] = {
    "walk": {"strategy": "walk"},
    "pct2": {"strategy": "pct", "depth": 2},
    "pct3": {"strategy": "pct", "depth": 3},
    "pos": {"strategy": "pos"},
    "surw": {"strategy": "surw"},
    "random": {"strategy": "random"},
    "portfolio": {"strategy": "portfolio"},
}


class State:
    """Shared by the workers of all programs."""

    def __init__(self) -> None:
        self.value = 0
        self.other = 0
        self.log: list[int] = []
        self.locks = [threading.Lock() for _ in range(5)]


def increment(state: State) -> None:
    state.value += 1


def long_then_increment(state: State) -> None:
    """The race comes after much that does not matter."""
    mine = State()
    for _ in range(100):
        mine.value += 1
    state.value += 1


def increment_after_long(state: State) -> None:
    """Only one worker has much to do first: they hardly meet."""
    for _ in range(100):
        state.other += 1
    state.value += 1


def philosopher(index: int, count: int) -> Callable[[State], None]:
    def dine(state: State) -> None:
        with state.locks[index], state.locks[(index + 1) % count]:
            pass

    return dine


def hand_over(state: State) -> None:
    """Fails when the other one reads in each of two narrow windows."""
    state.value = 1
    state.value = 0
    for _ in range(30):
        state.other += 1
    state.value = 2
    state.value = 0


def look_twice(state: State) -> None:
    if state.value == 1:
        for _ in range(10):
            state.log.append(0)
        if state.value == 2:
            state.log.append(-1)


def stepper(state: State) -> None:
    for _ in range(4):
        state.value = state.value + 1


def total(count: int) -> Callable[[State], bool]:
    return lambda state: state.value == count


Program = tuple[list[Callable[[State], object]], Callable[[State], bool]]
PROGRAMS: dict[str, Program] = {
    "lost update": ([increment] * 2, total(2)),
    "after private work": ([long_then_increment] * 2, total(2)),
    "after work of one": ([increment_after_long, increment], total(2)),
    "one of eight": ([increment] * 2 + [lambda s: s.log.append(1)] * 6, total(2)),
    "three philosophers": ([philosopher(i, 3) for i in range(3)], lambda state: True),
    "five philosophers": ([philosopher(i, 5) for i in range(5)], lambda state: True),
    "two windows": ([hand_over, look_twice], lambda state: -1 not in state.log),
    "down to two": ([stepper] * 2, lambda state: state.value > 2),
}


def executions(program: Program, options: dict[str, Any], seed: int) -> float:
    """Executions to the first failure; infinitely many when there was none."""
    workers, invariant = program
    result = frontrun.explore(
        State,
        workers,
        invariant,
        seed=seed,
        max_attempts=BUDGET,
        reproduce_on_failure=0,
        **options,
    )
    return float("inf") if result.property_holds else result.num_explored


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'':20}" + "".join(f"{name:>11}" for name in STRATEGIES))
    for name, program in PROGRAMS.items():
        row = []
        for options in STRATEGIES.values():
            found = [executions(program, options, seed) for seed in range(seeds)]
            middle = statistics.median_high(found)
            row.append("-" if middle == float("inf") else f"{middle:.0f}")
        print(f"{name:20}" + "".join(f"{each:>11}" for each in row), flush=True)


if __name__ == "__main__":
    main()
