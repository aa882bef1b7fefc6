"""A progress bar for explorations that last, where a terminal watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from frontrun.common import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Display

# Before so many seconds nobody wants to see one, and nothing is imported for it.
PATIENCE = 1.0


def is_watched() -> bool:
    """Does a terminal show the standard error, and may a bar be drawn on it?"""
    wanted = os.environ.get("FRONTRUN_PROGRESS", "1") not in ("0", "")
    return wanted and sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def drawn(wanted: bool, then: Callable[[Progress], object] | None) -> Iterator[Any]:
    """The ``on_progress`` callback of an exploration, which draws a bar where it can."""
    if not wanted:
        yield then
        return
    bar = ProgressBar(then)
    try:
        yield bar
    finally:
        bar.close()


class ProgressBar:
    """Called like an ``on_progress`` callback; `close` removes it from the terminal."""

    def __init__(self, then: Callable[[Progress], object] | None = None) -> None:
        self._then = then
        self._display: Display | None = None
        self._works: bool | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.elapsed >= PATIENCE and self._works is None:
            self._works = is_watched()
        if self._works:
            try:
                self._show(progress)
            except (ImportError, OSError):
                # The exploration is worth more than the bar.
                self._works = False
        if self._then is not None:
            self._then(progress)

    def _show(self, progress: Progress) -> None:
        if self._display is None:
            self._display = _display()
            self._display.add_task("exploring", total=None, failures="")
            self._display.start()
        task = self._display.task_ids[0]
        self._display.update(
            task,
            total=progress.estimated_total,
            completed=progress.executions,
            description=describe(progress),
            failures=f"[red]{progress.failures:,} failed" if progress.failures else "",
        )
        self._display.refresh()

    def close(self) -> None:
        """Removes the bar from the terminal."""
        if self._display is not None:
            self._display.stop()


def describe(progress: Progress) -> str:
    """``1,200 of about 7,100 (5,300–8,900) executions``."""
    text = f"{progress.executions:,}"
    if progress.estimated_total is not None:
        text += f" of about {progress.estimated_total:,.0f}"
        low, high = progress.estimated_low, progress.estimated_high
        if low is not None and high is not None and low < high:
            text += f" ({low:,.0f}–{high:,.0f})"
    return text + " executions"


def _display() -> Display:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    return Display(
        BarColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[failures]}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        # No thread of its own: it is drawn between two executions.
        auto_refresh=False,
        transient=True,
    )
