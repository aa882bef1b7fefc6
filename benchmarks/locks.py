"""What locks cost outside explorations: a pair of acquire and release.

python benchmarks/locks.py

Counts instructions, where Linux's perf can; elsewhere it takes the least of many times.
"""

import os
import shutil
import subprocess
import sys

PAIRS = 1_000_000
PROCESSES = 5

PROGRAM = """
import sys, threading, time, frontrun
if sys.argv[1] == "explored":
    frontrun.explore(list, [lambda s: s.append(1)] * 2, lambda s: True)
lock = threading.Lock()
acquire, release = lock.acquire, lock.release
pairs, least = int(sys.argv[2]) // 100, float("inf")
for _ in range(100):
    begun = time.perf_counter_ns()
    for _ in range(pairs):
        acquire()
        release()
    least = min(least, time.perf_counter_ns() - begun)
print(least / max(pairs, 1))
"""
MODES = ("untouched", "explored")


def run(mode: str, pairs: int, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", PROGRAM, mode, str(pairs)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)


def instructions(mode: str, pairs: int) -> int | None:
    """Instructions of a process, in user mode; None where they cannot be counted."""
    if shutil.which("perf") is None:
        return None
    told = run(mode, pairs, "perf", "stat", "-x,", "-e", "instructions:u").stderr
    number = told.strip().splitlines()[-1].partition(",")[0]
    return int(number) if number.isdigit() else None


def instructions_of_a_pair(mode: str) -> float | None:
    few, many = instructions(mode, 0), instructions(mode, PAIRS)
    return None if few is None or many is None else (many - few) / PAIRS


def nanoseconds_of_a_pair() -> dict[str, float]:
    """The modes take turns, so that both meet the machine in the same states."""
    times = [[float(run(mode, PAIRS).stdout) for mode in MODES] for _ in range(PROCESSES)]
    return dict(zip(MODES, map(min, *times), strict=True))


def main() -> None:
    """Print the pair's cost before and after the first exploration of a process."""
    counted = {mode: instructions_of_a_pair(mode) for mode in MODES}
    costs = {mode: count for mode, count in counted.items() if count is not None}
    unit = "instructions"
    if len(costs) < len(MODES):
        costs, unit = nanoseconds_of_a_pair(), "ns"
    untouched, explored = (costs[mode] for mode in MODES)
    more = explored - untouched
    print(f"untouched {untouched:.1f} {unit}, redirected {explored:.1f}: {more:+.1f}")


if __name__ == "__main__":
    main()
