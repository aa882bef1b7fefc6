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
from typing import Any

import frontrun


class State:
    """Shared by the workers."""

    def __init__(self) -> None:
        self.x = 0
        self.v = [0] * 16
        self.lock = threading.Lock()
        self.lists: list[list[int]] = [[], []]


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


def append(number: int) -> Callable[[State], None]:
    def worker(state: State) -> None:
        for i in range(6_200):
            state.lists[number].append(i)
        if number == 0:
            state.x += 1
        else:
            state.x

    return worker


BLOCKS, INODES = 26, 32


class Disk:
    """Inodes and blocks, each with a lock."""

    def __init__(self) -> None:
        self.inode, self.busy = [0] * INODES, [False] * BLOCKS
        self.inode_locks = [threading.Lock() for _ in range(INODES)]
        self.block_locks = [threading.Lock() for _ in range(BLOCKS)]


def file_writer(number: int) -> Callable[[Disk], None]:
    def worker(disk: Disk) -> None:
        i = number % INODES
        with disk.inode_locks[i]:
            if disk.inode[i] == 0:
                b = (i * 2) % BLOCKS
                while True:
                    with disk.block_locks[b]:
                        if not disk.busy[b]:
                            disk.busy[b] = True
                            disk.inode[i] = b + 1
                            break
                    b = (b + 1) % BLOCKS

    return worker


PROGRAMS: dict[str, tuple[Callable[[], Any], list[Callable[[Any], None]]]] = {
    "counter 2x1": (State, [increment(1)] * 2),
    "counter 3x2": (State, [increment(2)] * 3),
    "locked counter 3x3": (State, [increment_locked] * 3),
    "lastzero(10)": (State, lastzero(10)),
    "filesystem(19)": (Disk, [file_writer(number) for number in range(19)]),
    "two threads": (State, [start_threads]),
    "long, 3 shared accesses": (State, [append(number) for number in range(2)]),
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
    for name, (setup, workers) in PROGRAMS.items():
        best = None
        for _ in range(repeat):
            started = time.perf_counter()
            result = frontrun.explore(
                setup, workers, lambda s: True, preemption_bound=None, reproduce_on_failure=0
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
