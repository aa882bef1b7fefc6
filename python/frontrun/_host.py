"""What runs around the explorations of this process: test runners, benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from frontrun._exploration import Options
    from frontrun.common import InterleavingResult


class Program(NamedTuple):
    """What is explored."""

    setup: Callable[[], Any]
    workers: Sequence[Callable[[Any], object]]
    invariant: Callable[[Any], object]


class Host(Protocol):
    """Changes the options of explorations before they begin, and hears how they ended."""

    def before(self, program: Program, options: Options) -> Options:
        """The options to explore with; may raise in place of the exploration."""

    def after(
        self, program: Program, options: Options, result: InterleavingResult, seconds: float
    ) -> None:
        """An exploration has ended, after so many seconds."""


hosts: list[Host] = []


@contextmanager
def host(one: Host) -> Iterator[None]:
    """Let somebody take part in all explorations for now."""
    hosts.append(one)
    try:
        yield
    finally:
        hosts.remove(one)
