"""What locks cost outside explorations: instructions of a pair of acquire and release.

python benchmarks/locks.py    (needs Linux's perf)
"""

import os
import subprocess
import sys

PAIRS = 1_000_000

PROGRAM = """
import sys, threading, frontrun
if sys.argv[1] == "explored":
    frontrun.explore(list, [lambda s: s.append(1)] * 2, lambda s: True)
lock = threading.Lock()
acquire, release = lock.acquire, lock.release
for _ in range(int(sys.argv[2])):
    acquire()
    release()
"""


def instructions(mode: str, pairs: int) -> int:
    """Instructions of a process, in user mode."""
    command = ["perf", "stat", "-x,", "-e", "instructions:u", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [*command, mode, str(pairs)], stderr=subprocess.PIPE, text=True, check=True, env=os.environ
    )
    return int(done.stderr.partition(",")[0])


def main() -> None:
    """Print the pair's cost before and after the first exploration of a process."""
    costs = {
        mode: (instructions(mode, PAIRS) - instructions(mode, 0)) / PAIRS
        for mode in ("untouched", "explored")
    }
    more = costs["explored"] - costs["untouched"]
    print(f"untouched {costs['untouched']:.0f}, redirected {costs['explored']:.0f}: +{more:.0f}")


if __name__ == "__main__":
    main()
