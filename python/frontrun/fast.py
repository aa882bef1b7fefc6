"""The native backend on its own: exploring, recording and tracing at full speed."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass

from frontrun import _native
from frontrun.dpor import explore_dpor

__all__ = ["Backend", "backend", "explore_dpor"]


@dataclass(frozen=True)
class Backend:
    """What frontrun works with on this interpreter."""

    name: str
    """``"monitoring"`` (`sys.monitoring`, 3.12 and newer) or ``"settrace"`` (3.11)."""
    python: str
    """Version of this CPython."""
    free_threaded: bool
    """Is it a build that can do without the GIL?"""
    carrier: str
    """What runs the workers by default: ``"fibers"`` on one thread of the system."""
    intercepted: tuple[str, ...]
    """The functions that are intercepted while workers run, by dotted name."""


def backend() -> Backend:
    """Tell what frontrun works with on this interpreter."""
    told = _native.backend()
    return Backend(
        name=told["name"],
        python=".".join(map(str, sys.version_info[:3])),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        carrier="fibers",
        intercepted=tuple(told["intercepted"]),
    )
