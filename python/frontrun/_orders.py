"""Executions in an order of steps that the program marks itself, with markers or await points.

How one ended, and how one that failed is told and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from frontrun._replay import Recording, Step, keep
from frontrun._trace_format import paragraphs, reproduction
from frontrun.common import InterleavingResult

__all__ = ["Execution", "replayed", "tell"]


@dataclass
class Execution:
    """What came of one execution."""

    steps: list[Step] = field(default_factory=list)
    """Those that were taken."""
    kind: str = ""
    """Of the failure: ``"invariant"``, ``"invariant_error"``, ``"exception"`` or
    ``"deadlock"``; empty when nothing failed."""
    failure: str = ""
    """What was wrong, in words."""
    exception: BaseException | None = None
    """What a worker raised."""
    story: str = ""
    """The steps, for people."""

    @property
    def schedule(self) -> list[int]:
        """The worker of each step."""
        return [step.worker for step in self.steps]

    def fail(self, kind: str, failure: str, exception: BaseException | None = None) -> None:
        """Note why it failed."""
        self.kind, self.failure, self.exception = kind, failure, exception

    def judge(self, invariant: Callable[[Any], object], state: object) -> None:
        """Ask the invariant, when all workers have ended."""
        try:
            if not invariant(state):
                self.fail("invariant", "The invariant does not hold in the final state.")
        except Exception as error:
            self.fail("invariant_error", f"The invariant raised {type(error).__name__}: {error}")


def tell(
    result: InterleavingResult,
    execution: Execution,
    again: Sequence[Execution],
    functions: tuple[Any, Any, Any],
    options: dict[str, Any],
    *,
    head: str = "",
    unit: str,
    names: Sequence[str] = (),
) -> None:
    """Tell a failure, which was reproduced, and let it be replayed.

    Args:
        result: What is told it.
        execution: The one that failed.
        again: What came of running it again.
        functions: `setup`, workers and `invariant`.
        options: What an execution depends on besides.
        head: How the explanation begins.
        unit: What a step is, as in `Recording.unit`.
        names: The workers' names, where they have some.
    """
    result.property_holds = False
    result.counterexample = execution.schedule
    result.exception = execution.exception
    result.reproduction_attempts = len(again)
    result.reproduction_successes = sum(each.kind == execution.kind for each in again)
    result.explanation = paragraphs(
        [
            head,
            execution.failure,
            execution.story,
            reproduction(result.reproduction_attempts, result.reproduction_successes),
            "To run it again: result.replay().",
        ]
    )
    setup, workers, invariant = functions
    listed = [workers[name] for name in names] if names else workers
    recording = Recording.now(
        execution.kind,
        result.explanation,
        execution.steps,
        (setup, listed, invariant),
        options,
        unit=unit,
        names=list(names),
    )
    keep(result, recording, functions)


def replayed(
    recording: Recording, execution: Execution, functions: tuple[Any, Any, Any], head: str = ""
) -> InterleavingResult:
    """The result of an execution that followed a recording."""
    result = InterleavingResult(True, num_explored=1, unique_interleavings=1)
    if execution.kind:
        unit, names, options = recording.unit, recording.names, recording.options
        tell(result, execution, [], functions, options, head=head, unit=unit, names=names)
    return result
