"""Hypothesis strategies of schedules, for those who have Hypothesis."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["fair_schedules", "strategies"]


def strategies() -> ModuleType:
    """The module `hypothesis.strategies`.

    Raises:
        ImportError: when Hypothesis is not installed, with what to do.
    """
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError(
            "strategies of schedules need Hypothesis: pip install hypothesis"
        ) from error
    return strategies


def _joined(rounds: list[list[int]]) -> list[int]:
    return [worker for each in rounds for worker in each]


def fair_schedules(workers: int, length: int) -> SearchStrategy[list[int]]:
    """Schedules of rounds in which each worker has one entry, up to `length` entries in all."""
    st = strategies()
    a_round = st.permutations(range(workers))

    def rounds(count: int) -> SearchStrategy[list[int]]:
        many = st.lists(a_round, min_size=count, max_size=count)
        mapped: SearchStrategy[list[int]] = many.map(_joined)
        return mapped

    # A number of rounds first: a list alone would hardly ever be long.
    drawn: SearchStrategy[list[int]] = st.integers(0, length // workers).flatmap(rounds)
    return drawn
