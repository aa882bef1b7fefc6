"""Explanations in colour, for terminals."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.text import Text

__all__ = ["show"]

_STYLES = {
    r"(?m)\A.*$": "bold red",
    r"\[(?:read|write|acquire|release|waits|start|join)[^\]\n]*\]?": "cyan",
    r"\bwrite \S+": "yellow",
    r"(?m)^  worker \d+.*$": "bold",
    r"(?m)^(?:Lost update|Order violation|Circular wait|Self-deadlock|Exception in)[^:]*:": "bold",
    r"(?m)^(?:This can happen|This takes|Whether this)[^:]*:": "magenta",
}


def show(text: str, file: TextIO) -> None:
    """Print an explanation to a terminal."""
    coloured = Text(text)
    for pattern, style in _STYLES.items():
        coloured.highlight_regex(pattern, style)
    Console(file=file, highlight=False, soft_wrap=True).print(coloured)
