"""What runs around every exploration of this process: a test runner, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from frontrun._exploration import Options
    from frontrun.common import InterleavingResult


class Host(Protocol):
    """Changes the options of explorations before they begin, and hears how they ended."""

    def before(self, options: Options) -> Options:
        """The options to explore with; may raise in place of the exploration."""

    def after(self, result: InterleavingResult, seconds: float) -> None:
        """An exploration has ended, after so many seconds."""


current: Host | None = None
