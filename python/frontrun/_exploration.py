"""One entry point to exploration: checks arguments, calls the native core, tells the result."""

from __future__ import annotations

import atexit
import inspect
import os
import site
import sys
import sysconfig
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from frontrun import _host, _native
from frontrun.common import (
    CarrierWarning,
    InterleavingResult,
    NothingObservedWarning,
    Progress,
)

if TYPE_CHECKING:
    from frontrun._replay import Recording, Replaying

# A thread must not be in the midst of one when the interpreter takes itself to pieces.
atexit.register(_native.end_explorations)

State = TypeVar("State")
Worker = Callable[[State], object]
AsyncWorker = Callable[[State], Coroutine[Any, Any, object]]


# Without a GIL, what a thread has allocated belongs to its OS thread: fibers would mix that up.
CARRIERS = ("threads",) if "t" in sys.abiflags else ("fibers", "threads")
_CARRIERS = " or ".join(map(repr, CARRIERS))
GRANULARITIES = ("instruction", "gil")
SEARCHES = ("few-preemptions", "depth-first", "diverse")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every strategy is told, checked when made.

    Raises:
        TypeError, ValueError: naming the argument and what is allowed.
    """

    max_branches: int = 100_000
    timeout_per_run: float = 5.0
    stop_on_first: bool = True
    detect_io: bool = True
    deadlock_timeout: float = 5.0
    reproduce_on_failure: int = 10
    total_timeout: float | None = None
    clock: str = "virtual"
    carrier: str | None = None
    granularity: str = "instruction"
    max_timeouts: int = 3
    trace_packages: Sequence[str] = ()
    on_progress: Callable[[Progress], object] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_int("max_branches", self.max_branches, 1)
        check_int("reproduce_on_failure", self.reproduce_on_failure, 0)
        _check_seconds("timeout_per_run", self.timeout_per_run)
        _check_seconds("deadlock_timeout", self.deadlock_timeout)
        _check_seconds("total_timeout", self.total_timeout, optional=True)
        check_int("max_timeouts", self.max_timeouts, 1)
        if self.clock not in ("virtual", "real", "explored"):
            raise ValueError(f"clock must be 'virtual', 'real' or 'explored', not {self.clock!r}")
        if self.carrier not in (None, *CARRIERS):
            raise ValueError(f"carrier must be {_CARRIERS} or None, not {self.carrier!r}")
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"granularity must be 'instruction' or 'gil', not {self.granularity!r}"
            )
        packages = self.trace_packages
        if isinstance(packages, str) or not all(isinstance(p, str) for p in packages):
            raise TypeError(f"trace_packages must be a list of module names, not {packages!r}")
        if not isinstance(self.progress, bool):
            raise TypeError(f"progress must be True or False, not {self.progress!r}")
        if self.on_progress is not None and not callable(self.on_progress):
            raise TypeError(f"on_progress must be callable or None, not {self.on_progress!r}")


@dataclass(frozen=True, kw_only=True)
class DporOptions(Options):
    """The options of the systematic search."""

    max_executions: int | None = None
    preemption_bound: int | None = 2
    search: str = "few-preemptions"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("max_executions", self.max_executions, 1, optional=True)
        check_int("preemption_bound", self.preemption_bound, 0, optional=True)
        if self.search not in SEARCHES:
            raise ValueError(
                f"search must be 'few-preemptions', 'depth-first' or 'diverse', not {self.search!r}"
            )


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """The options of the strategies that sample executions."""

    max_attempts: int = 200
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("max_attempts", self.max_attempts, 1)
        check_int("seed", self.seed, 0, optional=True)
        if self.seed is not None and self.seed >= 2**63:
            raise ValueError(f"seed must be less than 2**63, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class PctOptions(SampleOptions):
    """The options of PCT."""

    depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("depth", self.depth, 1)


@dataclass(frozen=True, kw_only=True)
class RandomOptions(SampleOptions):
    """The options of random schedules of instructions."""

    max_branches: int = 1_000_000
    max_ops: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("max_ops", self.max_ops, 0)
        if self.granularity != "instruction":
            raise ValueError("granularity must be 'instruction' with strategy 'random'")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Options):
    """The options of one execution under a schedule of instructions."""

    max_branches: int = 10_000_000
    schedule: Sequence[int]
    tells_events: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self.schedule)


replaying: Replaying | None = None
"""Set while explorations are replaced by a replay (`frontrun._replay.replaying`)."""

STRATEGIES: dict[str, type[Options]] = {
    "dpor": DporOptions,
    "walk": SampleOptions,
    "pct": PctOptions,
    "pos": SampleOptions,
    "surw": SampleOptions,
    "portfolio": SampleOptions,
    "random": RandomOptions,
}


def check_int(name: str, value: object, least: int, *, optional: bool = False) -> None:
    """Refuse what is no integer, or less than `least`."""
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int{' or None' if optional else ''}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def check_schedule(schedule: object) -> None:
    """Refuse what is not a list of worker indices."""
    if isinstance(schedule, str | bytes) or not isinstance(schedule, Sequence):
        raise TypeError(f"schedule must be a list of worker indices, not {schedule!r}")
    for index, worker in enumerate(schedule):
        if not isinstance(worker, int) or isinstance(worker, bool):
            raise TypeError(f"schedule[{index}] must be the index of a worker, not {worker!r}")
        if not 0 <= worker < _MOST_WORKERS:
            raise ValueError(
                f"schedule[{index}] must be the index of a worker (0, 1, …), not {worker}"
            )


# Workers of one execution, with the threads that they start.
_MOST_WORKERS = 2**16


def _check_seconds(name: str, value: object, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        kind = "a number of seconds" + (" or None" if optional else "")
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")


@overload
def explore(
    setup: Callable[[], State | Awaitable[State]],
    workers: AsyncWorker[State] | Sequence[AsyncWorker[State]],
    invariant: Callable[[State], object],
    *,
    count: int | None = None,
    strategy: str = "dpor",
    **options: Any,
) -> Coroutine[Any, Any, InterleavingResult]: ...


@overload
def explore(
    setup: Callable[[], State],
    workers: Worker[State] | Sequence[Worker[State]],
    invariant: Callable[[State], object],
    *,
    count: int | None = None,
    strategy: str = "dpor",
    **options: Any,
) -> InterleavingResult: ...


def explore(
    setup: Callable[[], Any],
    workers: Worker[Any] | Sequence[Worker[Any]],
    invariant: Callable[[Any], object],
    *,
    count: int | None = None,
    strategy: str = "dpor",
    **options: Any,
) -> InterleavingResult | Coroutine[Any, Any, InterleavingResult]:
    """Explore the interleavings of workers that share state.

    Args:
        setup: Builds fresh state for each execution.
        workers: A callable that ``count`` workers run, or a list with one for each worker.
            Each receives the state. Ordinary functions run as threads, ``async def`` functions
            as tasks of an event loop; then the result has to be awaited, and `setup` and
            `invariant` may be async as well.
        invariant: Asked with the state when all workers have finished.
        count: Number of workers, where `workers` is one callable.
        strategy: ``"dpor"`` runs every meaningfully different interleaving. The others
            sample: ``"walk"`` picks any worker at each step, ``"pct"`` gives workers random
            priorities (Burckhardt et al., ASPLOS 2010), ``"pos"`` gives each access one
            (Yuan et al., CAV 2018), ``"surw"`` makes all orders of the shared accesses about
            equally likely (Zhao et al., ASPLOS 2025), ``"portfolio"`` takes turns with the last
            three, ``"random"`` picks any worker at each bytecode
            instruction (see `frontrun.bytecode`).
        **options: For ``"dpor"`` those of `frontrun.dpor.explore_dpor`. The others take
            ``max_attempts`` (200), ``seed`` (None: a random one, told in the result), ``"pct"``
            also ``depth`` (3) and ``"random"`` also ``max_ops`` (300), in place of
            ``max_executions``, ``preemption_bound`` and ``search``. All take ``clock``:
            ``"virtual"`` (time stands still while a worker can run), ``"real"`` (the same, and
            readings are left alone) or ``"explored"`` (a sleep or a timeout may end between any two
            steps of others; of each worker the first ``max_timeouts`` (3) in an execution),
            ``carrier``: ``"fibers"`` or ``"threads"`` (see `frontrun.dpor.explore_dpor`),
            ``trace_packages``: patterns of dotted module names (``"pkg.*"``, as in `fnmatch`) of
            installed packages and of the standard library that are traced like the user's own
            files, ``on_progress``: called with a `Progress` now and then, and ``progress`` (True):
            draw a progress bar when the exploration takes longer than a second and a terminal shows
            the standard error (``FRONTRUN_PROGRESS=0`` turns all off). An option that the strategy
            does not support is an error.

    Raises:
        TypeError, ValueError: for a bad argument, before anything runs.
    """
    if strategy not in STRATEGIES:
        allowed = ", ".join(map(repr, STRATEGIES))
        raise ValueError(f"strategy must be one of {allowed}, not {strategy!r}")
    kind = STRATEGIES[strategy]
    known = kind.__dataclass_fields__
    for name in options:
        if name not in known:
            raise TypeError(
                f"strategy {strategy!r} has no option {name!r}; it has {', '.join(sorted(known))}"
            )
    if callable(workers):
        if count is None:
            raise TypeError("count must be given when workers is a single callable")
        check_int("count", count, 1)
        workers = [workers] * count
    elif count is not None:
        raise TypeError("count goes with a single callable; workers is a list already")
    workers = _checked_workers(workers, "workers")
    if are_async(workers):
        _check_async(strategy, options)
        if strategy == "dpor":
            options["preemption_bound"] = None
        from frontrun._async_exploration import explore_tasks

        return explore_tasks(setup, workers, invariant, strategy, kind(**options))
    return explore_natively(
        setup, workers, invariant, strategy, kind(**options), argument="workers"
    )[0]


def _check_async(strategy: str, options: dict[str, Any]) -> None:
    """Refuse what makes no sense for tasks."""
    if strategy == "random":
        raise ValueError(
            "strategy must not be 'random' for async workers: it schedules single instructions, "
            "and a task goes on to its next await; 'walk' samples what tasks can do"
        )
    if "preemption_bound" in options:
        raise TypeError(
            "async workers have no option 'preemption_bound': a task gives its turn away itself"
        )
    if options.get("clock") == "explored":
        raise ValueError("clock must be 'virtual' or 'real' for async workers, not 'explored'")


@overload
def explore_random(
    setup: Callable[[], State | Awaitable[State]],
    workers: AsyncWorker[State] | Sequence[AsyncWorker[State]],
    invariant: Callable[[State], object],
    *,
    strategy: str = "portfolio",
    **options: Any,
) -> Coroutine[Any, Any, InterleavingResult]: ...


@overload
def explore_random(
    setup: Callable[[], State],
    workers: Worker[State] | Sequence[Worker[State]],
    invariant: Callable[[State], object],
    *,
    strategy: str = "portfolio",
    **options: Any,
) -> InterleavingResult: ...


def explore_random(
    setup: Callable[[], Any],
    workers: Worker[Any] | Sequence[Worker[Any]],
    invariant: Callable[[Any], object],
    *,
    strategy: str = "portfolio",
    **options: Any,
) -> InterleavingResult | Coroutine[Any, Any, InterleavingResult]:
    """Sample interleavings: `explore` with a strategy that is not exhaustive.

    By default strategies take turns, because which one is best depends on the program.
    """
    if strategy == "dpor":
        raise ValueError("strategy must be one that samples; 'dpor' is for frontrun.explore")
    return explore(setup, workers, invariant, strategy=strategy, **options)


def explore_threads(
    setup: Callable[[], State],
    workers: Sequence[Worker[State]],
    invariant: Callable[[State], object],
    strategy: str,
    options: Options,
    *,
    argument: str,
) -> InterleavingResult:
    """Explore with checked options; `argument` is what the caller calls the workers."""
    workers = checked_threads(workers, argument)
    return explore_natively(setup, workers, invariant, strategy, options, argument=argument)[0]


def explore_natively(
    setup: Callable[[], State],
    workers: Sequence[Worker[State]],
    invariant: Callable[[State], object],
    strategy: str,
    options: Options,
    *,
    argument: str,
) -> tuple[InterleavingResult, dict[str, Any]]:
    """As `explore_threads`, with checked workers; gives also what the core told."""
    check_functions(setup=setup, invariant=invariant)
    if replaying is not None and replaying.fits(len(workers)):
        result = replay_events(replaying.recording, setup, workers, invariant, argument=argument)
        replaying.results.append(result)
        return result, {}
    return run(_host.Program(setup, workers, invariant), strategy, options)


def run(
    program: _host.Program,
    strategy: str,
    options: Options,
    *,
    shown: _host.Program | None = None,
    amend: Callable[[dict[str, Any]], None] | None = None,
    **more: object,
) -> tuple[InterleavingResult, dict[str, Any]]:
    """Explore checked functions; gives also what the core told.

    `shown` is the program as the user wrote it, where that is another one. `amend` adds to
    a failure what only the caller knows.
    """
    from frontrun._progress import drawn

    began = time.monotonic()
    shown = shown or program
    for host in _host.hosts:
        options = host.before(shown, options)
    if isinstance(options, SampleOptions) and options.seed is None:
        options = replace(options, seed=int.from_bytes(os.urandom(4), "big"))
    setup, workers, invariant = program
    with drawn(options.progress, options.on_progress) as on_progress:
        if on_progress is not None:
            more["on_progress"] = _progress_teller(on_progress)
        told, stuck = _run(setup, workers, invariant, strategy, options, **more)
    result = _result(told, shown, options, stuck, amend)
    seconds = time.monotonic() - began
    for host in _host.hosts:
        host.after(shown, options, result, seconds)
    return result, told


def replay_events(
    recording: Recording,
    setup: Callable[[], State],
    threads: Sequence[Worker[State]],
    invariant: Callable[[State], object],
    *,
    argument: str = "threads",
) -> InterleavingResult:
    """One execution in the recorded order of events.

    Raises:
        ReplayMismatchError: the program does not do what was recorded.
    """
    workers = _checked_workers(threads, argument)
    recording.check_number(len(workers), argument)
    if are_async(workers) != recording.tasks:
        kind = "coroutine functions" if recording.tasks else "ordinary functions"
        raise TypeError(f"{argument} must be {kind}, as they were when recorded")
    if recording.tasks:
        from frontrun._async_exploration import replay_tasks

        return replay_tasks(recording, setup, workers, invariant)
    check_functions(setup=setup, invariant=invariant)
    return follow(recording, _host.Program(setup, workers, invariant))


def follow(
    recording: Recording,
    program: _host.Program,
    *,
    shown: _host.Program | None = None,
    amend: Callable[[dict[str, Any]], None] | None = None,
    **more: object,
) -> InterleavingResult:
    """One execution in the recorded order; the arguments are those of `run`."""
    options = DporOptions(**recording.options, reproduce_on_failure=0)
    setup, workers, invariant = program
    steps = recording.script()
    told, stuck = _run(setup, workers, invariant, "follow", options, **steps, **more)
    result = _result(told, shown or program, options, stuck, amend, followed=True)
    if told.get("difference") is not None and result.inconclusive_reason is None:
        raise recording.mismatch(*told["difference"])
    return result


def _run(
    setup: Callable[[], State],
    workers: Sequence[Worker[State]],
    invariant: Callable[[State], object],
    strategy: str,
    options: Options,
    **more: object,
) -> tuple[dict[str, Any], str | None]:
    """What the native core tells, and where a worker was stuck."""
    from frontrun._worker_threads import _DummyThread

    native = dict(vars(options))
    native["dummy_thread"] = _DummyThread
    native["strategy"] = strategy
    native["carrier"] = options.carrier or default_carrier()
    may_fall_back = options.carrier is None and not os.environ.get("FRONTRUN_CARRIER")
    native["may_fall_back"] = may_fall_back
    native["excluded"] = library_directories()
    native["trace_packages"] = list(options.trace_packages)
    native["on_progress"] = None
    if isinstance(options, SampleOptions):
        native["max_executions"] = options.max_attempts
    native |= more
    told, place, stuck, unfit = _native.explore(setup, tuple(workers), invariant, native)
    if unfit:
        what = f"a worker {unfit} ({place or 'in C'})"
        if not may_fall_back:
            raise RuntimeError(f"{what}: it cannot be a fiber, say carrier='threads'")
        native["carrier"] = "threads"
        told, place, stuck, _ = _native.explore(setup, tuple(workers), invariant, native)
        if told.get("inconclusive") != "deadlock_timeout":
            _warn(
                CarrierWarning,
                f"{what}, so the exploration was started again on OS threads: "
                "say carrier='threads'",
            )
    return told, place and f"worker {stuck} at {place}"


def _warn(category: type[Warning], message: str) -> None:
    """Warns at the line, outside this package, that asked for the exploration."""
    level, frame = 1, sys._getframe()
    while frame.f_back and os.path.dirname(frame.f_code.co_filename) == _HERE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


_HERE = os.path.dirname(__file__)


def default_carrier() -> str:
    """What workers run on where the call does not say."""
    carrier = os.environ.get("FRONTRUN_CARRIER") or CARRIERS[0]
    if carrier not in CARRIERS:
        raise ValueError(f"FRONTRUN_CARRIER must be {_CARRIERS}, not {carrier!r}")
    return carrier


def _progress_teller(callback: Callable[[Progress], object]) -> Callable[..., object]:
    def tell(
        executions: float,
        total: float | None,
        elapsed: float,
        failures: float,
        low: float | None,
        high: float | None,
    ) -> None:
        callback(Progress(int(executions), total, elapsed, int(failures), low, high))

    return tell


def _checked_workers(workers: Sequence[Worker[State]], argument: str) -> list[Worker[State]]:
    if isinstance(workers, str | bytes) or not isinstance(workers, Sequence):
        raise TypeError(f"{argument} must be a sequence of callables, not {workers!r}")
    if not workers:
        raise ValueError(f"{argument} must name at least one worker")
    for index, worker in enumerate(workers):
        if not callable(worker):
            raise TypeError(f"{argument}[{index}] must be callable, not {worker!r}")
        if kind := _generator(worker):
            raise TypeError(f"{argument}[{index}] is {kind}: a call runs nothing")
    kinds = [_is_async(worker) for worker in workers]
    if any(kinds) and not all(kinds):
        raise TypeError(
            f"{argument} must be all async or all ordinary functions, and "
            f"{argument}[{kinds.index(True)}] is async while {argument}[{kinds.index(False)}] is "
            "not: write an ordinary function that returns a coroutine as async def"
        )
    return list(workers)


def check_callables(**functions: object) -> None:
    """Check that what the caller names so can be called, and an invariant to some effect."""
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be callable, not {function!r}")
    if kind := _generator(functions.get("invariant")):
        raise TypeError(f"invariant is {kind}: a call judges nothing")


def check_functions(**functions: object) -> None:
    """Check that what the caller names so are ordinary functions."""
    check_callables(**functions)
    for name, function in functions.items():
        if not _is_plain(function) and inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be an ordinary function, not a coroutine function")


def checked_threads(workers: Sequence[Worker[State]], argument: str) -> list[Worker[State]]:
    """Check workers that are to run as threads; `argument` is what the caller calls them."""
    checked = _checked_workers(workers, argument)
    if are_async(checked):
        raise TypeError(
            f"{argument}[0] is a coroutine function, and these workers are threads: pass an "
            "ordinary function, or use frontrun.explore"
        )
    return checked


def are_async(workers: Sequence[Callable[[Any], object]]) -> bool:
    """Are these workers coroutine functions? (They all are, or none is.)"""
    return _is_async(workers[0])


_UNUSUAL = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def _is_plain(function: object) -> bool:
    """Is it an ordinary function or class, as most are? (`inspect` takes its time.)"""
    if type(function) is FunctionType:
        return not function.__code__.co_flags & _UNUSUAL and not function.__dict__
    return type(function) is type


def _is_async(worker: object) -> bool:
    return _is(worker, inspect.iscoroutinefunction)


def _generator(function: object) -> str | None:
    """What it is, if a call of it only makes a generator."""
    if _is(function, inspect.isasyncgenfunction):
        return "an async generator function"
    return "a generator function" if _is(function, inspect.isgeneratorfunction) else None


def _is(function: object, kind: Callable[[object], bool]) -> bool:
    """Is it a function of that kind, or does its class have one as `__call__`?"""
    if _is_plain(function):
        return False
    return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004


def _installed(name: str) -> str:
    """`sysconfig.get_path`, without what it reads at first: a signal's handler that raises then
    leaves it half read for good (3.15), and it takes 10 ms.
    """
    known = {
        "base": sys.prefix,
        "installed_base": sys.base_prefix,
        "platbase": sys.exec_prefix,
        "installed_platbase": sys.base_exec_prefix,
        "platlibdir": sys.platlibdir,
        "implementation_lower": "python",
        "py_version_short": f"{sys.version_info.major}.{sys.version_info.minor}",
        "abi_thread": "t" if "t" in sys.abiflags else "",
    }
    try:
        return os.path.normpath(sysconfig.get_path(name, expand=False).format_map(known))
    except KeyError:  # a distributor's own
        return sysconfig.get_path(name)


@cache
def library_directories() -> list[str]:
    """Where code is not traced: the standard library, installed packages, frontrun itself."""
    found = {_installed(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.update(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        found.add(site.getusersitepackages())
    found.add(os.path.dirname(__file__))
    found |= {os.path.realpath(path) for path in found}
    return sorted(os.path.join(path, "") for path in found)


def _result(
    told: dict[str, Any],
    program: _host.Program,
    options: Options,
    stuck: str | None,
    amend: Callable[[dict[str, Any]], None] | None = None,
    *,
    followed: bool = False,
) -> InterleavingResult:
    """`followed`: a recording was, and nothing else tried."""
    failure = told.get("failure")
    inconclusive = _INCONCLUSIVE.get(told.get("inconclusive") or "")
    limit = told.get("limit")
    if limit == "max_executions" and isinstance(options, SampleOptions):
        limit = "max_attempts"
    if limit:
        limit = f"{limit}={getattr(options, limit)}"
        if not told["executions"] and not failure:
            inconclusive = limit + " s had passed before the first execution ended"
    if inconclusive:
        inconclusive = inconclusive.format_map(vars(options)) + (f" ({stuck})" if stuck else "")
    divergence = told.get("diverged")
    if divergence is not None:
        inconclusive = _tell_divergence(divergence)
    if failure is not None:
        holds: bool | None = False
    else:
        holds = None if inconclusive else True
    if divergence is None and not inconclusive and not told.get("traced", True):
        _warn(
            NothingObservedWarning,
            "nothing was observed: no worker ran code of a traced file, so the one execution "
            "that was run says nothing about others",
        )
    sampled = isinstance(options, SampleOptions | ScheduleOptions)
    result = InterleavingResult(
        property_holds=holds,
        num_explored=told["executions"],
        unique_interleavings=told["orderings"] if sampled else _distinct(told, options),
        exhaustive=told.get("exhaustive", False),
        seed=options.seed if isinstance(options, SampleOptions) else None,
        stats=told.get("stats", {}),
        inconclusive_reason=inconclusive,
        limit=limit,
    )
    if failure is not None:
        if amend is None:
            failure["worker_names"] = [f"worker {index}" for index in range(len(program.workers))]
        else:
            amend(failure)
        _tell_failure(result, failure, told, options, followed=followed)
        _record(result, failure, program, options)
    return result


def _distinct(told: dict[str, Any], options: Options) -> int:
    """How many executions of a systematic search were no repetitions."""
    traces: int | None = told.get("traces")
    executions: int = told["executions"]
    if traces is None:
        return executions
    # The search does not learn from the failure that ends it; no other one was like it.
    return traces + (told.get("failure") is not None and options.stop_on_first)


# Why an execution could not be judged, by the name of the limit that cut it off.
_INCONCLUSIVE = {
    "max_branches": "an execution had more than max_branches={max_branches} events",
    "timeout_per_run": "an execution took longer than timeout_per_run={timeout_per_run} s",
    "deadlock_timeout": "a worker ran for deadlock_timeout={deadlock_timeout} s without "
    "reaching a scheduling point",
    "outside": "no worker could run, and no other thread changed that within "
    "deadlock_timeout={deadlock_timeout} s",
}


def _tell_divergence(divergence: dict[str, Any]) -> str:
    """Say where two executions of one schedule went different ways, and what to do."""
    from frontrun._explain import place_of

    where = "did not come to it"
    if divergence["code"] is not None:
        filename, line = place_of(divergence["code"], divergence["offset"])
        where = f"at {filename}:{line}"
    return (
        "the program does not do the same when it is run the same way: two executions of one "
        f"schedule differ at event {divergence['index']} (worker {divergence['worker']} {where}). "
        "Seed random numbers, and keep time, id(), the order of sets and other threads out of what "
        "the workers decide on"
    )


HOW_TO_GO_ON = '\n\nTo run it again: result.replay(). To look at it: result.to_html("report.html").'
_REACHABLE = {True: "gil", False: "free-threaded", None: None}


def _tell_failure(
    result: InterleavingResult,
    failure: dict[str, Any],
    told: dict[str, Any],
    options: Options,
    *,
    followed: bool = False,
) -> None:
    # Explaining takes modules that an exploration without a failure can do without.
    from frontrun._explain import Failure, deadlock, explain, races, tell_reach

    typed = cast(Failure, failure)
    of_threads = typed["blocks"] is None
    result.counterexample = failure["schedule"]
    result.failures = [] if options.stop_on_first else told["failures"]
    if options.reproduce_on_failure:
        result.reproduction_attempts = told["attempts"]
        result.reproduction_successes = told["successes"]
    # Tasks of one event loop take turns at the same points on every build.
    result.reachable = _REACHABLE[told.get("reachable") if of_threads else True]
    reach = tell_reach(result.reachable)
    result.explanation = explain(
        typed,
        notes=_advice(failure) if not of_threads else [] if followed else [reach],
        num_explored=result.num_explored,
        reproduction_attempts=result.reproduction_attempts,
        reproduction_successes=result.reproduction_successes,
    )
    result.explanation += HOW_TO_GO_ON
    result.races = races(typed)
    result.deadlock = deadlock(typed)
    if failure["exception"] is not None:
        result.exception = failure["exception"][1]
    result._failure = typed


def _advice(failure: dict[str, Any]) -> list[str]:
    """What to do about a failure of tasks that is the test's own."""
    exception = failure["exception"] and failure["exception"][1]
    if not isinstance(exception, RuntimeError) or "different event loop" not in str(exception):
        return []
    return [
        "Each execution has an event loop of its own: make the locks, events and queues of asyncio "
        "in setup, not beforehand."
    ]


def _record(
    result: InterleavingResult, failure: dict[str, Any], program: _host.Program, options: Options
) -> None:
    """Let the counterexample be replayed."""
    from frontrun._explain import Failure
    from frontrun._replay import Recording, keep

    typed = cast(Failure, failure)
    keep(result, Recording.of(typed, result.explanation or "", program, options), program)
