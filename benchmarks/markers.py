"""What gating costs where there is no marker: a marked function, called outside its markers.

Run it as ``python benchmarks/markers.py``: the ratio of a gated run to a bare one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from frontrun.common import Schedule, Step
from frontrun.trace_markers import frontrun


def work(rare: bool = False) -> int:
    x = 0
    for each in range(20):
        x += each
    if rare:
        x += 1  # frontrun: rare
    return x


def best_of(function: Callable[[], object], runs: int = 7, calls: int = 20_000) -> float:
    """Seconds of the fastest of so many runs of so many calls."""
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    best_of(work)
    bare = best_of(work)
    gated: list[float] = []

    def worker() -> None:
        work(True)
        gated.append(best_of(work))

    frontrun(Schedule([Step("worker", "rare")]), {"worker": worker}, timeout=60)
    print(f"CPython {sys.version.split()[0]}: gated {gated[0] / bare:.2f} times as long as bare")


if __name__ == "__main__":
    main()
