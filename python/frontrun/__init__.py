"""Deterministic concurrency testing: every meaningfully different interleaving, at speed.

result = frontrun.explore(Counter, Counter.increment, lambda c: c.value == 2, count=2)
result.assert_holds()
"""

from importlib import import_module

# Type checkers take it for true; importing `typing` would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from frontrun._exploration import explore, explore_random
    from frontrun._native import __version__
    from frontrun.common import (
        CarrierWarning,
        InterleavingResult,
        NothingObservedWarning,
        Progress,
        ReplayMismatchError,
        Schedule,
        Step,
    )
    from frontrun.trace_markers import TraceExecutor

__all__ = [
    "CarrierWarning",
    "InterleavingResult",
    "NothingObservedWarning",
    "Progress",
    "ReplayMismatchError",
    "Schedule",
    "Step",
    "TraceExecutor",
    "__version__",
    "explore",
    "explore_random",
]

_HOMES = {
    "CarrierWarning": "common",
    "InterleavingResult": "common",
    "NothingObservedWarning": "common",
    "Progress": "common",
    "ReplayMismatchError": "common",
    "Schedule": "common",
    "Step": "common",
    "TraceExecutor": "trace_markers",
    "__version__": "_native",
    "explore": "_exploration",
    "explore_random": "_exploration",
}


def __getattr__(name: str) -> object:
    """Import what is asked for, when it is: the package alone costs next to nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"frontrun.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
