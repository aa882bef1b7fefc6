"""What an exploration costs: executions per second, and nanoseconds in each part.

Run it as ``python benchmarks/exploration.py [--repeat N]``; the best of N is shown. Ratios
against another commit: install each into a venv of its own and compare the tables.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable

import frontrun


class State:
    """Shared by the workers."""

    def __init__(self) -> None:
        self.x = 0
        self.v = [0] * 16
        self.lock = threading.Lock()


def increment(times: int) -> Callable[[State], None]:
    def worker(state: State) -> None:
        for _ in range(times):
            state.x += 1

    return worker


def increment_locked(state: State) -> None:
    for _ in range(3):
        with state.lock:
            state.x += 1


def lastzero(n: int) -> list[Callable[[State], None]]:
    def reader(state: State) -> None:
        i = n
        while state.v[i] != 0:
            i -= 1

    def writer(j: int) -> Callable[[State], None]:
        def write(state: State) -> None:
            state.v[j] = state.v[j - 1] + 1

        return write

    return [reader, *(writer(j) for j in range(1, n + 1))]


def start_threads(state: State) -> None:
    threads = [threading.Thread(target=increment(1), args=(state,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def long_and_private(state: State) -> None:
    mine = []
    for i in range(12_500):
        mine.append(i)
    state.x += 1


PROGRAMS: dict[str, list[Callable[[State], None]]] = {
    "counter 2x1": [increment(1)] * 2,
    "counter 3x2": [increment(2)] * 3,
    "locked counter 3x3": [increment_locked] * 3,
    "lastzero(8)": lastzero(8),
    "two threads": [start_threads],
    "25,000 private events": [long_and_private] * 2,
}


def hand_over(carrier: str, executions: int) -> float:
    """Nanoseconds from one worker's event to the next one's, each of which is chosen."""
    result = frontrun.explore(
        State,
        [increment(200)] * 2,
        lambda s: True,
        strategy="walk",
        seed=1,
        max_attempts=executions,
        carrier=carrier,
    )
    return float(result.stats["workers_ns"]) / float(result.stats["events"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many (3)")
    repeat = parser.parse_args().repeat
    print(f"CPython {sys.version.split()[0]}")
    print(f"{'program':24}{'executions':>11}{'events':>9}{'seconds':>9}{'µs each':>9}")
    print(" " * 24 + "of which µs: workers, setup and invariant, engine")
    for name, workers in PROGRAMS.items():
        best = None
        for _ in range(repeat):
            started = time.perf_counter()
            result = frontrun.explore(
                State, workers, lambda s: True, preemption_bound=None, reproduce_on_failure=0
            )
            spent = time.perf_counter() - started
            if best is None or spent < best[0]:
                best = spent, result
        assert best is not None
        spent, result = best
        n = result.num_explored
        parts = [result.stats[part] / n / 1e3 for part in ("workers_ns", "setup_ns", "engine_ns")]
        print(
            f"{name:24}{n:11}{result.stats['events']:9}{spent:9.3f}{spent / n * 1e6:9.1f}   "
            + " ".join(f"{part:8.2f}" for part in parts)
        )
    fibers = min(hand_over("fibers", 20) for _ in range(repeat))
    threads = min(hand_over("threads", 20) for _ in range(repeat))
    print(f"a hand-over: fibers {fibers:.0f} ns, threads {threads:.0f} ns, ×{threads / fibers:.0f}")


if __name__ == "__main__":
    main()
