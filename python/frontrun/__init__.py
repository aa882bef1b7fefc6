"""Deterministic concurrency testing: every meaningfully different interleaving, at speed.

result = frontrun.explore(Counter, Counter.increment, lambda c: c.value == 2, count=2)
result.assert_holds()
"""

from typing import TYPE_CHECKING

from frontrun._exploration import explore, explore_random
from frontrun.common import InterleavingResult, NothingObservedWarning, Progress, Schedule, Step

if TYPE_CHECKING:
    from frontrun.trace_markers import TraceExecutor

__version__ = "0.1.0"

__all__ = [
    "InterleavingResult",
    "NothingObservedWarning",
    "Progress",
    "Schedule",
    "Step",
    "TraceExecutor",
    "explore",
    "explore_random",
]


def __getattr__(name: str) -> object:
    """Import what explorations do not need when it is asked for."""
    if name == "TraceExecutor":
        from frontrun.trace_markers import TraceExecutor

        return TraceExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
