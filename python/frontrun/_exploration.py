"""One entry point to exploration: checks arguments, calls the native core, tells the result."""

from __future__ import annotations

import inspect
import os
import site
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, TypeVar, cast

from frontrun import _native
from frontrun._explain import Failure, deadlock, explain, races
from frontrun.common import InterleavingResult

State = TypeVar("State")
Worker = Callable[[State], object]

STRATEGIES = ("dpor",)


@dataclass(frozen=True)
class Limits:
    """How far an exploration goes, checked when made.

    Raises:
        TypeError, ValueError: naming the argument and what is allowed.
    """

    max_executions: int | None = None
    preemption_bound: int | None = 2
    max_branches: int = 100_000
    timeout_per_run: float = 5.0
    stop_on_first: bool = True
    detect_io: bool = True
    deadlock_timeout: float = 5.0
    reproduce_on_failure: int = 10
    total_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, least, optional in (
            ("max_executions", 1, True),
            ("preemption_bound", 0, True),
            ("max_branches", 1, False),
            ("reproduce_on_failure", 0, False),
        ):
            _check_int(name, getattr(self, name), least, optional)
        for name, optional in (
            ("timeout_per_run", False),
            ("deadlock_timeout", False),
            ("total_timeout", True),
        ):
            _check_seconds(name, getattr(self, name), optional)


def _check_int(name: str, value: object, least: int, optional: bool) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int{' or None' if optional else ''}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def _check_seconds(name: str, value: object, optional: bool) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        kind = "a number of seconds" + (" or None" if optional else "")
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")


def explore(
    setup: Callable[[], State],
    workers: Worker[State] | Sequence[Worker[State]],
    invariant: Callable[[State], object],
    *,
    count: int | None = None,
    strategy: str = "dpor",
    **options: Any,
) -> InterleavingResult:
    """Explore the interleavings of workers that share state.

    Args:
        setup: Builds fresh state for each execution.
        workers: A callable that ``count`` workers run, or a list with one for each worker.
            Each receives the state.
        invariant: Asked with the state when all workers have finished.
        count: Number of workers, where `workers` is one callable.
        strategy: ``"dpor"`` runs every meaningfully different interleaving.
        **options: Those of `frontrun.dpor.explore_dpor`. An option that the strategy does
            not support is an error.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    if strategy not in STRATEGIES:
        allowed = ", ".join(map(repr, STRATEGIES))
        raise ValueError(f"strategy must be one of {allowed}, not {strategy!r}")
    known = {f.name for f in fields(Limits)}
    for name in options:
        if name not in known:
            raise TypeError(
                f"strategy {strategy!r} has no option {name!r}; it has {', '.join(sorted(known))}"
            )
    if callable(workers):
        if count is None:
            raise TypeError("count must be given when workers is a single callable")
        _check_int("count", count, 1, False)
        workers = [workers] * count
    elif count is not None:
        raise TypeError("count goes with a single callable; workers is a list already")
    return explore_threads(setup, workers, invariant, Limits(**options), argument="workers")


def explore_threads(
    setup: Callable[[], State],
    workers: Sequence[Worker[State]],
    invariant: Callable[[State], object],
    limits: Limits,
    *,
    argument: str,
) -> InterleavingResult:
    """Explore with checked limits; `argument` is what the caller calls the workers."""
    workers = _checked_workers(workers, argument)
    for name, function in (("setup", setup), ("invariant", invariant)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, not {function!r}")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be an ordinary function, not a coroutine function")
    options = asdict(limits)
    options["excluded"], options["included"] = _library_directories(), []
    told, place, stuck = _native.explore(setup, tuple(workers), invariant, options)
    return _result(told, len(workers), limits, place and f"worker {stuck} at {place}")


def _checked_workers(workers: Sequence[Worker[State]], argument: str) -> list[Worker[State]]:
    if isinstance(workers, str | bytes) or not isinstance(workers, Sequence):
        raise TypeError(f"{argument} must be a sequence of callables, not {workers!r}")
    if not workers:
        raise ValueError(f"{argument} must name at least one worker")
    for index, worker in enumerate(workers):
        if not callable(worker):
            raise TypeError(f"{argument}[{index}] must be callable, not {worker!r}")
        if inspect.iscoroutinefunction(worker):
            raise TypeError(
                f"{argument}[{index}] is a coroutine function, and these workers are threads: "
                "pass an ordinary function"
            )
    return list(workers)


@cache
def _library_directories() -> list[str]:
    """Where code is not traced: the standard library, installed packages, frontrun itself."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_path(name) for name in names}
    found.update(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        found.add(site.getusersitepackages())
    found.add(os.path.dirname(__file__))
    found |= {os.path.realpath(path) for path in found}
    return sorted(os.path.join(path, "") for path in found)


def _result(
    told: dict[str, Any], workers: int, limits: Limits, stuck: str | None
) -> InterleavingResult:
    failure = told.get("failure")
    inconclusive = _INCONCLUSIVE.get(told.get("inconclusive") or "")
    if inconclusive and stuck:
        inconclusive += f" ({stuck})"
    if failure is not None:
        holds: bool | None = False
    else:
        holds = None if inconclusive else True
    result = InterleavingResult(
        property_holds=holds,
        num_explored=told["executions"],
        unique_interleavings=told["executions"],
        exhaustive=told.get("exhaustive", False),
        stats=told.get("stats", {}),
        inconclusive_reason=inconclusive and inconclusive.format(**asdict(limits)),
    )
    if failure is not None:
        _tell_failure(result, failure, told, workers, limits)
    return result


# Why an execution could not be judged, by the name of the limit that cut it off.
_INCONCLUSIVE = {
    "max_branches": "an execution had more than max_branches={max_branches} events",
    "timeout_per_run": "an execution took longer than timeout_per_run={timeout_per_run} s",
    "deadlock_timeout": "a worker ran for deadlock_timeout={deadlock_timeout} s without "
    "reaching a scheduling point",
}


def _tell_failure(
    result: InterleavingResult,
    failure: dict[str, Any],
    told: dict[str, Any],
    workers: int,
    limits: Limits,
) -> None:
    failure["worker_names"] = [f"worker {index}" for index in range(workers)]
    typed = cast(Failure, failure)
    result.counterexample = failure["schedule"]
    result.failures = [] if limits.stop_on_first else told["failures"]
    if limits.reproduce_on_failure:
        result.reproduction_attempts = told["attempts"]
        result.reproduction_successes = told["successes"]
    result.explanation = explain(
        typed,
        num_explored=result.num_explored,
        reproduction_attempts=result.reproduction_attempts,
        reproduction_successes=result.reproduction_successes,
    )
    result.races = races(typed)
    result.deadlock = deadlock(typed)
    if failure["exception"] is not None:
        result.exception = failure["exception"][1]
