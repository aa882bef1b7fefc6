"""Run threads in an order that is written down with markers in their source.

    def deposit(account):
        balance = account.balance  # frontrun: read
        account.balance = balance + 10  # frontrun: write

    schedule = Schedule([Step("a", "read"), Step("b", "read"), Step("a", "write"), ...])
    frontrun(schedule, {"a": lambda: deposit(account), "b": lambda: deposit(account)})

``docs/markers.md`` says exactly what a marker gates and who runs when.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from frontrun import _markers
from frontrun._turns import Stopped, ThreadCoordinator, Worker, named
from frontrun.common import InterleavingResult, Schedule, Step

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "MarkerRegistry",
    "Schedule",
    "Step",
    "ThreadCoordinator",
    "TraceExecutor",
    "all_marker_schedules",
    "explore_marker_interleavings",
    "frontrun",
    "marker_schedule_strategy",
]

State = TypeVar("State")

# How long threads may take to unwind once their schedule was given up (s).
_UNWINDING = 1.0


class MarkerRegistry:
    """The markers of source files, each scanned once."""

    def __init__(self) -> None:
        self._files: dict[str, _markers.Markers] = {}

    def scan_frame(self, frame: FrameType) -> None:
        """Find the markers in the source file of a frame.

        Raises:
            ValueError: for a malformed marker, with its place.
        """
        filename = frame.f_code.co_filename
        if filename not in self._files:
            self._files[filename] = _markers.markers_of(filename, frame.f_globals)

    def get_marker(self, filename: str, lineno: int) -> str | None:
        """The marker that gates this line (from 1) or is written on it.

        None when there is none, or the file was never scanned.
        """
        return self._files.get(filename, _markers.NO_MARKERS).at(lineno)


class TraceExecutor:
    """Runs workers, each in a thread of its own, in the order of a schedule.

    Args:
        schedule: Which worker passes which marker, in order.
        deadlock_timeout: Seconds without a step after which the schedule is given up. It is
            given up at once when every worker is stopped or has ended.
    """

    def __init__(self, schedule: Schedule, *, deadlock_timeout: float = 5.0) -> None:
        self.schedule = schedule
        self.deadlock_timeout = deadlock_timeout
        self.marker_registry = MarkerRegistry()
        self._clear()

    def _clear(self) -> None:
        self.coordinator = ThreadCoordinator(self.schedule, deadlock_timeout=self.deadlock_timeout)
        self.coordinator.expect(step.execution_name for step in self.schedule.steps)
        self.threads: list[threading.Thread] = []
        """The workers' threads, in the order of their start."""
        self.thread_errors: dict[str, BaseException] = {}
        """What each worker raised, in the order of time."""
        self._gated: dict[str, Worker] = {}

    def run(
        self,
        execution_name: str | Mapping[str, Callable[..., object]],
        target: Callable[..., object] | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Start a worker; or, given a dict of names and callables, run all of them.

        The first form returns at once, and `wait` waits. The second waits for the workers, at
        most `timeout` seconds, as `wait` does.

        Raises:
            ValueError: when the schedule names a worker (second form) or a marker that does
                not exist, or a name is used twice; nothing has run then.
            RuntimeError: when no tool id of `sys.monitoring` is free, and without a `reset`
                after an earlier run.
        """
        if isinstance(execution_name, str):
            if target is None:
                raise TypeError("run needs a target, or a dict of names and targets")
            self._start({execution_name: functools.partial(target, *args, **(kwargs or {}))})
            return
        if target is not None:
            raise TypeError("run takes a name and a target, or a dict of both")
        check_workers(self.schedule, execution_name)
        self._start(execution_name)
        self.wait(timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the workers have ended.

        Afterwards nothing of the gating is left in the interpreter. A worker that could not
        be ended (it waits for a lock that nobody will release) stays behind as a daemon
        thread. To wait again says the same again.

        Raises:
            The first error of a worker, with its traceback.
            TimeoutError: when `timeout` seconds have passed, or the schedule cannot be
                completed: names the steps never reached and where each worker stands.
            ValueError: when the schedule names a worker that was never started.
        """
        until = None if timeout is None else time.monotonic() + timeout
        was_waited_for = self.threads and not self._gated
        try:
            if not was_waited_for:
                check_workers(self.schedule, self._gated)
                self.coordinator.wait_until_ended(until)
        except BaseException as error:
            self.coordinator.report_error(error)
            raise
        finally:
            self._end()
        if self.coordinator.error is not None:
            raise self.coordinator.error
        if not self.coordinator.completed:
            rest = self.schedule.steps[self.coordinator.current_step :]
            raise TimeoutError(
                "Schedule incomplete: every worker has ended before " + ", ".join(map(named, rest))
            )

    def reset(self) -> None:
        """Forget what ran, so that the same schedule can be run again."""
        self.coordinator.report_error(Stopped())
        self._end()
        self._clear()

    def _start(self, targets: Mapping[str, Callable[..., object]]) -> None:
        check_targets(targets)
        for name in targets:
            if name in self._gated:
                raise ValueError(f"there is a worker named {name!r} already")
        if self.threads and not self._gated:
            raise RuntimeError("the schedule was run already: call reset() to run it again")
        check_markers(self.schedule, targets)
        self.coordinator.expect(targets)
        for name, target in targets.items():
            self._start_one(name, target)

    def _start_one(self, name: str, target: Callable[..., object]) -> None:
        coordinator = self.coordinator
        thread = threading.Thread(
            target=lambda: self._work(coordinator, worker, target),
            name=f"frontrun-{name}",
            daemon=True,
        )
        _markers.install()
        worker = self._gated[name] = coordinator.started(name, thread)
        self.threads.append(thread)
        thread.start()

    def _work(
        self, coordinator: ThreadCoordinator, worker: Worker, target: Callable[..., object]
    ) -> None:
        def gate(marker: str, _code: CodeType) -> None:
            try:
                coordinator.wait_for_turn(worker.name, marker)
            except TimeoutError:
                raise Stopped from None
            if coordinator.error is not None:
                raise Stopped

        try:
            coordinator.begin(worker)
            if coordinator.error is None:
                _markers.enter(gate)
                try:
                    self._call(worker, target)
                finally:
                    _markers.leave()
        except Stopped:
            pass
        except BaseException as error:
            self.thread_errors[worker.name] = error
            coordinator.report_error(error)
        finally:
            coordinator.ended(worker)

    def _call(self, worker: Worker, target: Callable[..., object]) -> None:
        target()

    def _interrupt(self) -> None:
        """Wake workers that are not at a gate, when the schedule was given up."""

    def _end(self) -> None:
        if self.coordinator.error is not None:
            self._interrupt()
        self.coordinator.unwind(_UNWINDING)
        for worker in self._gated.values():
            if worker.ended:
                worker.thread.join()
            _markers.uninstall()
        self._gated.clear()


def frontrun(
    schedule: Schedule,
    threads: Mapping[str, Callable[..., object]],
    thread_args: Mapping[str, Sequence[Any]] | None = None,
    thread_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    timeout: float | None = None,
    deadlock_timeout: float = 5.0,
) -> TraceExecutor:
    """Run threads in the order of a schedule, and wait for them.

    Args:
        schedule: Which worker passes which marker, in order.
        threads: The workers: their names and what they call.
        thread_args: Positional arguments, by name.
        thread_kwargs: Keyword arguments, by name.
        timeout: Seconds for everything; None is no limit.
        deadlock_timeout: Seconds without a step after which the schedule is given up.

    Raises:
        What `TraceExecutor.run` and `TraceExecutor.wait` raise.
    """
    executor = TraceExecutor(schedule, deadlock_timeout=deadlock_timeout)
    executor.run(bound(threads, thread_args, thread_kwargs), timeout=timeout)
    return executor


def bound(
    targets: Mapping[str, Callable[..., Any]],
    args: Mapping[str, Sequence[Any]] | None,
    kwargs: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Callable[[], Any]]:
    """The targets with their arguments.

    Raises:
        ValueError: for arguments of a worker that does not exist.
        TypeError: for a target that cannot be called.
    """
    args, kwargs = args or {}, kwargs or {}
    check_targets(targets)
    for name in (*args, *kwargs):
        if name not in targets:
            raise ValueError(f"arguments for {name!r}, but the workers are {_listed(targets)}")
    return {
        name: functools.partial(target, *args.get(name, ()), **kwargs.get(name, {}))
        for name, target in targets.items()
    }


def check_targets(targets: Mapping[str, Callable[..., object]]) -> None:
    """Refuse a target that cannot be called."""
    for name, target in targets.items():
        if not callable(target):
            raise TypeError(f"the target of {name!r} must be callable, not {target!r}")


def check_workers(schedule: Schedule, names: Iterable[str]) -> None:
    """Refuse a schedule with a worker that is not among these."""
    names = list(names)
    for step in schedule.steps:
        if step.execution_name not in names:
            raise ValueError(
                f"the schedule names the worker {step.execution_name!r} in {named(step)}, "
                f"and the workers are {_listed(names)}"
            )


def check_markers(schedule: Schedule, targets: Mapping[str, Callable[..., object]]) -> None:
    """Refuse a schedule with a marker for one of these workers that is in no source."""
    wanted = {each.marker_name: each for each in schedule.steps if each.execution_name in targets}
    known: set[str] = set()
    for target in targets.values():
        code = _code_of(target)
        if code is not None and _markers.is_ours_to_read(code.co_filename):
            known |= _markers.markers_of(code.co_filename).names
    if wanted.keys() <= known:
        return
    known |= _markers.all_names()
    for name, step in wanted.items():
        if name not in known:
            raise ValueError(
                f"the schedule names the marker {name!r} in {named(step)}, "
                f"and the markers are {_listed(sorted(known))}"
            )


def _code_of(target: object) -> CodeType | None:
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target) if callable(target) else target
    target = getattr(target, "__func__", target)
    if not hasattr(target, "__code__"):
        target = vars(type(target)).get("__call__")
    code = getattr(target, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


MarkedThreads = Mapping[str, Sequence[str] | tuple[Callable[[State], object], Sequence[str]]]


def all_marker_schedules(threads: MarkedThreads[Any]) -> list[Schedule]:
    """Every order in which workers can pass their markers.

    Args:
        threads: For each worker the markers that it passes, in order, or a tuple of its
            callable and these.

    There are (m + n)! / (m! n!) orders of two workers with m and n markers.
    """
    return list(_schedules({name: markers_in(spec) for name, spec in threads.items()}))


def marker_schedule_strategy(threads: MarkedThreads[Any]) -> SearchStrategy[Schedule]:
    """A Hypothesis strategy of the schedules that `all_marker_schedules` lists.

    Shrinks towards workers that run one after the other.

    Raises:
        ImportError: when Hypothesis is not installed.
    """
    from frontrun._hypothesis import strategies

    markers = {name: markers_in(spec) for name, spec in threads.items()}
    turns = [name for name, each in markers.items() for _ in each]

    def schedule(order: Sequence[str]) -> Schedule:
        rest = {name: iter(each) for name, each in markers.items()}
        return Schedule([Step(name, next(rest[name])) for name in order])

    drawn: SearchStrategy[Schedule] = strategies().permutations(turns).map(schedule)
    return drawn


def markers_in(
    spec: Sequence[str] | tuple[Callable[[State], object], Sequence[str]],
) -> list[str]:
    """The markers of one worker, given alone or with its callable."""
    if isinstance(spec, str):
        raise TypeError(f"the markers must be a sequence of names, not {spec!r}")
    markers = spec[1] if len(spec) == 2 and callable(spec[0]) else spec
    if isinstance(markers, str) or not all(isinstance(marker, str) for marker in markers):
        raise TypeError(f"the markers must be a sequence of names, not {markers!r}")
    return [str(marker) for marker in markers]


def _schedules(rest: Mapping[str, Sequence[str]]) -> Iterator[Schedule]:
    def orders(rest: Mapping[str, Sequence[str]]) -> Iterator[list[Step]]:
        if not any(rest.values()):
            yield []
        for name, markers in rest.items():
            if markers:
                step = Step(name, markers[0])
                for others in orders({**rest, name: markers[1:]}):
                    yield [step, *others]

    yield from map(Schedule, orders(rest))


def explore_marker_interleavings(
    setup: Callable[[], State],
    threads: Mapping[str, tuple[Callable[[State], object], Sequence[str]]],
    invariant: Callable[[State], object],
    *,
    stop_on_first: bool = True,
    deadlock_timeout: float = 5.0,
) -> InterleavingResult:
    """Run every order in which workers can pass their markers.

    An order that locks make impossible, or in which a worker never reaches one of its
    markers, is no failure: it is left out, together with all that begin like it. A deadlock
    among the workers is a failure, and so is an error that one of them raises.

    Args:
        setup: Builds fresh state for each execution.
        threads: For each worker its callable, which receives the state, and the markers that
            it passes, in order.
        invariant: Asked with the state when all workers have ended.
        stop_on_first: End at the first failure.
        deadlock_timeout: Seconds without a step after which an execution is given up. The
            result is inconclusive then, because that may be an order that is merely slow.

    Returns:
        The result: `num_explored` counts executions, `unique_interleavings` those that
        completed, and schedules are the workers' positions in `threads`, one for each step.

    Raises:
        ValueError: for an unknown or malformed marker, and when no execution could complete.
    """
    names = list(threads)
    markers = {name: markers_in(spec) for name, spec in threads.items()}
    everything = Schedule([Step(name, each) for name in names for each in markers[name]])
    check_markers(everything, {name: spec[0] for name, spec in threads.items()})
    result = InterleavingResult(True, exhaustive=True)
    impossible: list[Step] = []
    last_reason: str | None = None
    for schedule in _schedules(markers):
        if impossible and schedule.steps[: len(impossible)] == impossible:
            continue
        result.num_explored += 1
        failure: str | None = None
        error: BaseException | None = None
        state = setup()
        executor = TraceExecutor(schedule, deadlock_timeout=deadlock_timeout)
        targets = {name: functools.partial(spec[0], state) for name, spec in threads.items()}
        try:
            executor.run(targets)
        except BaseException as raised:
            coordinator = executor.coordinator
            worker = next((k for k, v in executor.thread_errors.items() if v is raised), None)
            if worker is not None:
                failure = f"worker {worker!r} raised {type(raised).__name__}: {raised}"
                error = raised
            elif raised is not coordinator.error or not isinstance(raised, TimeoutError):
                raise
            elif coordinator.deadlocked:
                failure = f"Deadlock.{str(raised).partition('.')[2]}"
            else:
                impossible = schedule.steps[: coordinator.current_step + 1]
                last_reason = str(raised)
                if not coordinator.stuck_at_once and not coordinator.all_ended:
                    result.exhaustive = False
                    result.inconclusive_reason = (
                        f"no step for deadlock_timeout={deadlock_timeout} s. {raised}"
                    )
                continue
        else:
            result.unique_interleavings += 1
            if not invariant(state):
                failure = "The invariant does not hold in the final state."
        if failure is None:
            continue
        order = [names.index(step.execution_name) for step in schedule.steps]
        result.failures.append((result.num_explored, order))
        if result.counterexample is None:
            result.property_holds, result.counterexample = False, order
            result.exception = error
            steps = "".join(f"\n  {named(step)}" for step in schedule.steps)
            result.explanation = f"{failure}\n\nMarkers were passed in this order:{steps}"
        if stop_on_first:
            result.exhaustive, result.failures = False, []
            break
    if result.property_holds and result.inconclusive_reason:
        result.property_holds = None
    if not result.unique_interleavings and result.property_holds:
        raise ValueError(f"no order of the markers could be completed. {last_reason}")
    return result
