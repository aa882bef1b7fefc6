"""Deterministic concurrency testing: every meaningfully different interleaving, at speed.

result = frontrun.explore(Counter, Counter.increment, lambda c: c.value == 2, count=2)
result.assert_holds()
"""

from frontrun._exploration import explore, explore_random
from frontrun.common import InterleavingResult, NothingObservedWarning, Progress, Schedule, Step

__version__ = "0.1.0"

__all__ = [
    "InterleavingResult",
    "NothingObservedWarning",
    "Progress",
    "Schedule",
    "Step",
    "explore",
    "explore_random",
]
