"""Systematic exploration by dynamic partial-order reduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from frontrun._exploration import DporOptions, explore_threads
from frontrun.common import InterleavingResult

__all__ = ["explore_dpor"]

State = TypeVar("State")


def explore_dpor(
    setup: Callable[[], State],
    threads: Sequence[Callable[[State], object]],
    invariant: Callable[[State], object],
    max_executions: int | None = None,
    preemption_bound: int | None = 2,
    max_branches: int = 100_000,
    timeout_per_run: float = 5.0,
    stop_on_first: bool = True,
    detect_io: bool = True,
    deadlock_timeout: float = 5.0,
    reproduce_on_failure: int = 10,
    total_timeout: float | None = None,
    *,
    progress: bool = True,
    clock: str = "virtual",
    max_timeouts: int = 3,
    trace_packages: Sequence[str] = (),
    carrier: str | None = None,
    granularity: str = "instruction",
    search: str = "few-preemptions",
) -> InterleavingResult:
    """Run the workers in every meaningfully different order, once each.

    Two interleavings that order all conflicting accesses alike are one (Mazurkiewicz
    trace); optimal DPOR (Abdulla, Aronis, Jonsson, Sagonas, JACM 2017) runs each once.

    Args:
        setup: Builds fresh state for each execution.
        threads: The workers; each receives the state.
        invariant: Asked with the state when all workers have finished. False, or an
            AssertionError, is a violation.
        max_executions: At most so many executions; None for no limit.
        preemption_bound: Executions that need more preemptions than this to happen may be
            left out; None covers everything.
        max_branches: At most so many visible events in one execution.
        timeout_per_run: Seconds that one execution may take.
        stop_on_first: End at the first failure; otherwise collect all in ``failures``.
        detect_io: Let files, sockets and SQLite databases count as shared state.
        deadlock_timeout: Seconds that a worker may take between two scheduling points.
        reproduce_on_failure: How often the counterexample is replayed.
        total_timeout: Seconds after which the whole exploration ends; None for no limit.
        progress: Draw a progress bar when the exploration takes longer than a second and a
            terminal shows the standard error. The environment variable
            ``FRONTRUN_PROGRESS=0`` turns all off.
        clock: ``"virtual"``: time stands still while a worker can run; ``"real"``: the same,
            and readings of clocks are left alone; ``"explored"``: a sleep or a timeout may
            end between any two steps of other workers.
        max_timeouts: With ``clock="explored"``, so many waits of each worker may end early
            in one execution; further ones end when nobody can run.
        trace_packages: Patterns of module names (``"pkg.*"``) outside the user's own files
            that are traced as well. Of code that is not traced, a call is one step, which
            concerns the whole object whose method is called.
        carrier: What workers run on: ``"fibers"`` or ``"threads"`` of the operating system,
            which are slower. None: what the environment variable ``FRONTRUN_CARRIER`` says,
            fibers if it says nothing.
        granularity: ``"instruction"`` lets workers switch between any two accesses,
            ``"gil"`` only where threads of this CPython with a GIL do.
        search: What is executed first; in the end everything is. ``"few-preemptions"``: of
            what is known to be left, the execution with the fewest preemptions.
            ``"depth-first"``: the one that has most in common with the last.
            ``"diverse"``: the one that leaves earlier ones the soonest; without a preemption
            bound, what is not planned happens at random, too (the same on every run).

    Returns:
        What was found. A deadlock and an exception that a worker does not catch are
        failures, with an explanation.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    options = DporOptions(
        max_executions=max_executions,
        preemption_bound=preemption_bound,
        max_branches=max_branches,
        timeout_per_run=timeout_per_run,
        stop_on_first=stop_on_first,
        detect_io=detect_io,
        deadlock_timeout=deadlock_timeout,
        reproduce_on_failure=reproduce_on_failure,
        total_timeout=total_timeout,
        progress=progress,
        clock=clock,
        max_timeouts=max_timeouts,
        trace_packages=trace_packages,
        carrier=carrier,
        granularity=granularity,
        search=search,
    )
    return explore_threads(setup, threads, invariant, "dpor", options, argument="threads")
