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
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from frontrun import _exploration, _markers
from frontrun._exploration import check_functions, check_int
from frontrun._orders import Execution, replayed, tell
from frontrun._replay import Step as RecordedStep
from frontrun._replay import short_path
from frontrun._turns import Stopped, ThreadCoordinator, Worker, named
from frontrun.common import InterleavingResult, Schedule, Step

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from frontrun._replay import Recording

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
        def gate(marker: str, code: CodeType) -> None:
            worker.place = code.co_filename, _line_in(code), code.co_qualname
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
        result = target()
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"{worker.name!r} returned a coroutine, which nobody awaits: "
                "frontrun.async_trace_markers is for coroutines"
            )

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


def _line_in(code: CodeType) -> int:
    """Where the calling thread stands in this code."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else code.co_firstlineno


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
    place = {name: index for index, name in enumerate(threads)}
    orders = list(_orders({name: markers_in(spec) for name, spec in threads.items()}))
    orders.sort(key=lambda steps: [place[step.execution_name] for step in steps])
    return list(map(Schedule, orders))


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


def _orders(
    markers: Mapping[str, Sequence[str]], impossible: Container[tuple[Step, ...]] = ()
) -> Iterator[list[Step]]:
    """Those first that leave the fewest workers which have steps left.

    Without those that begin like an impossible one, of which more may become known meanwhile.
    """

    def orders(
        begun: tuple[Step, ...], rest: Mapping[str, Sequence[str]], preemptions: int
    ) -> Iterator[list[Step]]:
        current = begun[-1].execution_name if begun else None
        goes_on = current is not None and bool(rest[current])
        possible = goes_on + sum(len(each) - 1 for each in rest.values() if each)
        if begun in impossible or preemptions > possible:
            return
        if not any(rest.values()):
            yield list(begun)
        for name, each in rest.items():
            left = preemptions - (goes_on and name != current)
            if each and left >= 0:
                yield from orders((*begun, Step(name, each[0])), {**rest, name: each[1:]}, left)
            if begun in impossible:
                return

    for preemptions in range(1 + sum(map(len, markers.values()))):
        yield from orders((), markers, preemptions)


def explore_marker_interleavings(
    setup: Callable[[], State],
    threads: Mapping[str, tuple[Callable[[State], object], Sequence[str]]],
    invariant: Callable[[State], object],
    *,
    stop_on_first: bool = True,
    deadlock_timeout: float = 5.0,
    reproduce_on_failure: int = 10,
) -> InterleavingResult:
    """Run every order in which workers can pass their markers.

    An order that locks make impossible, or in which a worker never reaches one of its
    markers, is no failure: it is left out, together with all that begin like it. A deadlock
    among the workers is a failure, and so is an error that one of them raises.

    Orders with fewer preemptions (switches away from a worker that has markers left) come
    first, so that a counterexample has as few as any.

    Args:
        setup: Builds fresh state for each execution.
        threads: For each worker its callable, which receives the state, and the markers that
            it passes, in order.
        invariant: Asked with the state when all workers have ended.
        stop_on_first: End at the first failure.
        deadlock_timeout: Seconds without a step after which an execution is given up. The
            result is inconclusive then, because that may be an order that is merely slow.
        reproduce_on_failure: How often the counterexample is replayed.

    Returns:
        The result: `num_explored` counts executions, `unique_interleavings` those that
        completed, and schedules are the workers' positions in `threads`, one for each step
        that was taken.

    Raises:
        TypeError: for a bad argument, before anything runs.
        ValueError: for that, too, for an unknown or malformed marker, and when no execution
            could complete.
    """
    check_functions(setup=setup, invariant=invariant)
    check_int("reproduce_on_failure", reproduce_on_failure, 0)
    _check_specs(threads)
    names = list(threads)
    markers = {name: markers_in(spec) for name, spec in threads.items()}
    everything = Schedule([Step(name, each) for name in names for each in markers[name]])
    targets = {name: spec[0] for name, spec in threads.items()}
    check_markers(everything, targets)
    functions = (setup, targets, invariant)
    replaying = _exploration.replaying
    if replaying is not None and replaying.fits(len(names), "marker"):
        again = replay_order(replaying.recording, setup, targets, invariant)
        replaying.results.append(again)
        return again

    def run(steps: list[Step]) -> _Execution:
        return _execute(Schedule(steps), *functions, deadlock_timeout)

    result = InterleavingResult(True, exhaustive=True)
    impossible: set[tuple[Step, ...]] = set()
    last_reason: str | None = None
    for steps in _orders(markers, impossible):
        result.num_explored += 1
        execution = run(steps)
        coordinator = execution.coordinator
        if execution.incomplete:
            impossible.add(tuple(steps[: coordinator.current_step + 1]))
            last_reason = execution.incomplete
            if not coordinator.stuck_at_once and not coordinator.all_ended:
                result.exhaustive = False
                result.inconclusive_reason = (
                    f"no step for deadlock_timeout={deadlock_timeout} s. {execution.incomplete}"
                )
            continue
        result.unique_interleavings += coordinator.error is None
        if not execution.kind:
            continue
        result.failures.append((result.num_explored, execution.schedule))
        if result.counterexample is None:
            taken = steps[: len(execution.steps)]
            again_all = [run(taken) for _ in range(reproduce_on_failure)]
            options = {"deadlock_timeout": deadlock_timeout}
            tell(result, execution, again_all, functions, options, unit="marker", names=names)
        if stop_on_first:
            result.exhaustive, result.failures = False, []
            break
    if result.property_holds and result.inconclusive_reason:
        result.property_holds = None
    if not result.unique_interleavings and result.property_holds:
        raise ValueError(f"no order of the markers could be completed. {last_reason}")
    return result


def _check_specs(threads: object) -> None:
    if not isinstance(threads, Mapping):
        raise TypeError(f"threads must be a dict of (callable, markers), not {threads!r}")
    if not threads:
        raise ValueError("threads must name at least one worker")
    for name, spec in threads.items():
        if not isinstance(spec, Sequence) or len(spec) != 2 or not callable(spec[0]):
            raise TypeError(f"threads[{name!r}] must be (callable, markers), not {spec!r}")


@dataclass
class _Execution(Execution):
    """One execution of an order of markers."""

    coordinator: ThreadCoordinator = field(kw_only=True)
    incomplete: str = ""
    """Why the schedule could not be completed; empty when it was, or a worker failed before."""


def _execute(
    schedule: Schedule,
    setup: Callable[[], Any],
    threads: Mapping[str, Callable[[Any], object]],
    invariant: Callable[[Any], object],
    deadlock_timeout: float,
) -> _Execution:
    state = setup()
    executor = TraceExecutor(schedule, deadlock_timeout=deadlock_timeout)
    execution = _Execution(coordinator=executor.coordinator)
    try:
        executor.run({name: functools.partial(each, state) for name, each in threads.items()})
    except BaseException as raised:
        worker = next((k for k, v in executor.thread_errors.items() if v is raised), None)
        if worker is not None:
            what = f"worker {worker!r} raised {type(raised).__name__}: {raised}"
            execution.fail("exception", what, raised)
        elif raised is not execution.coordinator.error or not isinstance(raised, TimeoutError):
            raise
        elif execution.coordinator.deadlocked:
            execution.fail("deadlock", f"Deadlock.{str(raised).partition('.')[2]}")
        else:
            execution.incomplete = str(raised)
    else:
        execution.judge(invariant, state)
    names = list(threads)
    taken = list(zip(schedule.steps, execution.coordinator.places, strict=False))
    execution.steps = [
        RecordedStep(
            names.index(step.execution_name),
            short_path(filename),
            function,
            line,
            "pass marker",
            step.marker_name,
        )
        for step, (filename, line, function) in taken
    ]
    steps = "".join(f"\n  {named(step)}" for step, _ in taken)
    execution.story = f"Markers were passed in this order:{steps}"
    return execution


def replay_order(
    recording: Recording,
    setup: Callable[[], Any],
    threads: Mapping[str, Any] | Sequence[Callable[[Any], object]],
    invariant: Callable[[Any], object],
) -> InterleavingResult:
    """One execution in the recorded order of markers.

    `threads` are as `explore_marker_interleavings` takes them, or callables alone, by name or
    in the recorded order.

    Raises:
        ReplayMismatchError: the program does not do what was recorded.
    """
    names = recording.names
    if not isinstance(threads, Mapping):
        recording.check_number(len(threads))
        threads = dict(zip(names, threads, strict=True))
    if set(threads) != set(names):
        raise ValueError(
            f"threads must be those that were recorded, {_listed(names)}, not {_listed(threads)}"
        )
    check_functions(setup=setup, invariant=invariant)
    specs = {name: threads[name] for name in names}
    targets = {name: spec if callable(spec) else spec[0] for name, spec in specs.items()}
    check_targets(targets)
    steps = [Step(names[step.worker], step.location) for step in recording.steps]
    execution = _execute(
        Schedule(steps), setup, targets, invariant, recording.options["deadlock_timeout"]
    )
    coordinator = execution.coordinator
    if not coordinator.completed:
        at = coordinator.current_step
        found = coordinator.standing.get(steps[at].execution_name, "does not come to it")
        if execution.kind == "exception":
            found = f"does not come to it: {execution.failure}"
        raise recording.mismatch(at, found) from execution.exception
    return replayed(recording, execution, (setup, targets, invariant))
