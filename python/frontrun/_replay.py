"""A failing execution, kept in terms that last, and led through a program once more.

What lasts is the order of the steps that matter: those on locations that several workers
touch and one changes, and those on locks and threads. A step is known by its worker, its
function and what it does to which location. Lines and addresses change with every edit and
every interpreter, so they are told and not compared. Where the program says itself what a
step is, with markers or await points, the order is that of these.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from frontrun.common import InterleavingResult, ReplayMismatchError

if TYPE_CHECKING:
    from frontrun._explain import Failure
    from frontrun._exploration import Options

__all__ = ["Recording", "Step", "keep", "read", "replay", "replay_file", "replaying"]

FORMAT = "frontrun counterexample"
VERSION = 1

SHAPING = ("clock", "max_timeouts", "trace_packages", "detect_io", "max_branches")
"""The options that decide what happens in one execution."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """One visible event, or what the recording's `unit` says."""

    worker: int
    file: str
    function: str
    line: int
    kind: str
    """What is done: ``"read"``, ``"write"``, ``"update"`` (a write under a condition, such as
    ``setdefault``), ``"acquire"``, ``"release"``, ``"start"``, ``"join"``; ``"block"``: a task
    goes on to its next suspension and does nothing that matters; ``"pass marker"``; ``"go on"``: a
    task goes on from an await point."""
    location: str
    """To what, such as ``"Counter.value"``, ``"dict['key']"``, ``"lock"``, ``"worker 2"``,
    or a marker; empty for a ``"block"`` and a ``"go on"``."""
    also: list[list[str]] = field(default_factory=list)
    """Further (kind, location) of the same event."""

    @property
    def accesses(self) -> list[list[str]]:
        """All (kind, location)."""
        return [[self.kind, self.location], *self.also]

    def __str__(self) -> str:
        what = ", ".join(f"{kind} {location}".rstrip() for kind, location in self.accesses)
        return what + (f" in {self.function}" if self.function else "")


@dataclass(frozen=True)
class Test:
    """The code that explored."""

    file: str
    module: str | None
    """The module that it can be imported from."""
    function: str | None
    """The function in that module that explored; None for the module itself."""
    case: str | None = None
    """The test of pytest that it was in, without its file: several may share a function."""


@dataclass(frozen=True)
class Recording:
    """A failing execution."""

    kind: str
    """``"invariant"``, ``"invariant_error"``, ``"exception"`` or ``"deadlock"``."""
    explanation: str
    steps: list[Step]
    workers: int
    """How many workers the test has; further ones are threads that these start."""
    python: str
    """The version that it was found on."""
    test: Test | None
    setup: str | None
    """Where to import the function from (``"module:name"``); None where that is not possible."""
    threads: list[str | None]
    invariant: str | None
    options: dict[str, Any]
    """Those options of the exploration that an execution depends on."""
    tasks: bool = False
    """Are the workers tasks of an event loop, of which each step is all they do between two
    suspensions?"""
    unit: str = "event"
    """What one step is: an ``"event"``, a ``"marker"`` or an ``"await point"``."""
    names: list[str] = field(default_factory=list)
    """Those of the workers, where they have some."""

    @classmethod
    def of(
        cls,
        failure: Failure,
        explanation: str,
        functions: tuple[Function, Sequence[Function], Function],
        options: Options,
    ) -> Recording:
        """What is to be kept of a failure that the native core found."""
        return cls.now(
            failure["kind"],
            explanation,
            _steps(failure),
            functions,
            {name: getattr(options, name) for name in SHAPING},
            tasks=failure["blocks"] is not None,
        )

    @classmethod
    def now(
        cls,
        kind: str,
        explanation: str,
        steps: list[Step],
        functions: tuple[Function, Sequence[Function], Function],
        options: dict[str, Any],
        **more: Any,
    ) -> Recording:
        """What is to be kept of an execution of this process, which has just failed."""
        setup, workers, invariant = functions
        return cls(
            kind=kind,
            explanation=explanation,
            steps=steps,
            workers=len(workers),
            python=platform.python_version(),
            test=_find_test(),
            setup=_reference(setup),
            threads=[_reference(worker) for worker in workers],
            invariant=_reference(invariant),
            options=options,
            **more,
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file.

        Raises:
            OSError: as `open` does.
        """
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        Path(path).write_text(_to_json(content), encoding="utf-8")

    def script(self) -> dict[str, Any]:
        """The steps as the native core takes them."""
        steps = [(s.worker, s.function, tuple(map(tuple, s.accesses))) for s in self.steps]
        names = {location for s in self.steps for _, location in s.accesses if location}
        return {"steps": steps, "names": sorted(names)}

    def functions(self) -> tuple[Function, list[Function], Function] | None:
        """`setup`, `threads` and `invariant`, imported; None where one cannot be.

        Raises:
            ImportError: one is no longer where it was.
        """
        if self.setup is None or self.invariant is None:
            return None
        threads = [_import(name) for name in self.threads if name is not None]
        if len(threads) < len(self.threads):
            return None
        return _import(self.setup), threads, _import(self.invariant)

    @property
    def schedule(self) -> list[int]:
        """The worker of each step."""
        return [step.worker for step in self.steps]

    def worker(self, index: int) -> str:
        """What people are told a worker is."""
        name = repr(self.names[index]) if self.names else index
        return f"{'task' if self.unit == 'await point' else 'worker'} {name}"

    def check_number(self, workers: int, argument: str = "threads") -> None:
        """Refuse another number of workers than there were."""
        if workers != self.workers:
            raise ValueError(
                f"{argument} must be as many as were recorded, {self.workers}, not {workers}"
            )

    def mismatch(self, index: int, found: str) -> ReplayMismatchError:
        """The error that tells where a program did not do what was recorded."""
        if index >= len(self.steps):
            return ReplayMismatchError(
                "the recorded schedule does not fit the program any more: after its last step, "
                f"number {index}, more is done than was recorded:\n  now:      {found}"
            )
        step = self.steps[index]
        where = f" ({step.file}:{step.line} when recorded)" if step.file else ""
        return ReplayMismatchError(
            "the recorded schedule does not fit the program any more. First difference, at "
            f"step {index + 1} of {len(self.steps)}:\n"
            f"  recorded: {self.worker(step.worker)}: {step}{where}\n"
            f"  now:      {self.worker(step.worker)}: {found}"
        )


def read(path: str | os.PathLike[str]) -> Recording:
    """Read what `Recording.write` wrote.

    Raises:
        ValueError: the file is something else, or of a newer version.
        OSError: as `open` does.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError("it has another format")
        version = content.pop("version")
        if version != VERSION:
            raise ValueError(f"it has version {version}, and this frontrun reads version {VERSION}")
        content["steps"] = [Step(**step) for step in content["steps"]]
        content["test"] = content["test"] and Test(**content["test"])
        if content.get("unit", "event") not in ("event", "marker", "await point"):
            raise ValueError(f"its steps are of an unknown kind, {content['unit']!r}")
        return Recording(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{os.fspath(path)} is no saved counterexample: {error}") from None


def keep(result: InterleavingResult, recording: Recording, functions: tuple[Any, Any, Any]) -> None:
    """Let the counterexample of a result be saved, and replayed with these functions."""
    result._recording = recording
    result._rerun = lambda: replay(recording, *functions)


def replay(
    recording: Recording,
    setup: Function,
    threads: Sequence[Function] | Mapping[str, Any],
    invariant: Function,
) -> InterleavingResult:
    """One execution in the recorded order.

    Raises:
        ReplayMismatchError: the program does not do what was recorded.
    """
    if recording.unit == "marker":
        from frontrun.trace_markers import replay_order

        return replay_order(recording, setup, threads, invariant)
    if isinstance(threads, Mapping):
        raise TypeError("threads must be a list: those that were recorded have no names")
    if recording.unit == "await point":
        from frontrun.async_bytecode import replay_schedule

        return replay_schedule(recording, setup, threads, invariant)
    from frontrun._exploration import replay_events

    return replay_events(recording, setup, threads, invariant)


def _to_json(content: Mapping[str, Any]) -> str:
    """JSON with one line for each step, for whoever reads or compares files."""
    steps = [f"    {json.dumps(_without_defaults(step))}" for step in content["steps"]]
    rest = json.dumps({**content, "steps": []}, indent=2)
    listed = "[\n" + ",\n".join(steps) + "\n  ]" if steps else "[]"
    return rest.replace('"steps": []', '"steps": ' + listed, 1) + "\n"


def _without_defaults(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "also" or value}


def _steps(failure: Failure) -> list[Step]:
    """The events that matter for the order of things."""
    from frontrun._explain import place_of

    touched: defaultdict[Hashable, set[int]] = defaultdict(set)
    changed: dict[Hashable, str] = {}
    of_tasks = failure["blocks"] is not None
    told = failure["blocks"] or list(zip(failure["events"], failure["labels"], strict=True))
    for (worker, *_), (_, accesses) in told:
        for kind, name, number in accesses:
            of_worker = kind in ("start", "join")
            where = (of_worker, number)
            touched[where] |= {worker, -1} if of_worker else {worker}
            if kind not in ("read", "wait"):
                changed[where] = name
    for blocked in failure["blocked"]:
        touched[False, blocked["loc"]].add(blocked["worker"])
    shared = {name for where, name in changed.items() if len(touched[where]) > 1}
    steps = []
    ends = _Ends()
    short = cache(short_path)
    for event, (function, accesses) in told:
        worker, code, offset, *_ = event
        matter = [
            [kind, name]
            for kind, name, _ in accesses
            if not ends.are_known(kind, name) and name in shared and kind != "wait"
        ]
        if not matter and of_tasks:
            # It may order what asyncio does.
            matter, function = [["block", ""]], ""
        if matter:
            filename, line = place_of(code, offset)
            (kind, location), *also = matter
            steps.append(Step(worker, short(filename), function, line, kind, location, also))
    return steps


class _Ends:
    """The ends of threads in an execution. How often one is asked for differs by version."""

    def __init__(self) -> None:
        self.come: set[str] = set()
        self.seen: set[str] = set()

    def are_known(self, kind: str, name: str) -> bool:
        """Does the next access ask once more for an end that has come?"""
        whose = name.removeprefix("end of ")
        if kind == "join":
            again = whose in self.seen
            self.seen.add(whose)
            return again
        if whose == name:
            return False
        if kind == "write":
            self.come.add(whose)
            return False
        if whose in self.come:
            self.seen.add(whose)
        return whose in self.come


def short_path(filename: str) -> str:
    """A path as seen from the working directory, if it is inside."""
    relative = os.path.relpath(filename) if filename else ""
    return filename if relative.startswith("..") else relative


def _reference(function: Function) -> str | None:
    """``"module:name"`` of a function that can be imported by it."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "<>")
    if module in (None, "__main__", "builtins") or "<" in name:
        return None
    try:
        return f"{module}:{name}" if _import(f"{module}:{name}") == function else None
    except (ImportError, AttributeError):
        return None


def _import(reference: str) -> Function:
    module, _, name = reference.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise ImportError(f"there is no {reference} any more")
    return found  # type: ignore[no-any-return]


_OURS = os.path.dirname(__file__) + os.sep


def _case() -> str | None:
    running = os.environ.get("PYTEST_CURRENT_TEST")
    return running and running.partition("::")[2].rpartition(" ")[0]


def _find_test() -> Test | None:
    """The function that explores, as far out as it has a name of its own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__")
        if module is not None and module.partition(".")[0] in sys.stdlib_module_names:
            frame = frame.f_back  # an event loop, in which the user's code runs
            continue
        if code.co_name == "<module>":
            return Test(short_path(code.co_filename), module, None, _case())
        found: Any = sys.modules.get(module or "")
        for part in code.co_qualname.split("."):
            found = getattr(found, part, None)
        if found is not None and getattr(inspect.unwrap(found), "__code__", None) is code:
            return Test(short_path(code.co_filename), module, code.co_qualname, _case())
        frame = frame.f_back
    return None


# Replaying instead of exploring


@dataclass
class Replaying:
    """Explorations of the recorded test are replaced by replays for now."""

    recording: Recording
    in_suite: bool = False
    """Does only the very test of pytest fit?"""
    results: list[InterleavingResult] = field(default_factory=list)
    """What the replays gave."""

    def fits(self, workers: int, unit: str = "event") -> bool:
        """Is the exploration that is asked for the one that was recorded?"""
        test = self.recording.test
        if (workers, unit) != (self.recording.workers, self.recording.unit) or self.results:
            return False
        now = _find_test()
        if test is None or now is None:
            return True
        if self.in_suite and test.case is not None:
            return test.case == now.case
        return test.function == now.function


@contextmanager
def replaying(path: str | os.PathLike[str], *, in_suite: bool = False) -> Iterator[Replaying]:
    """Let the first exploration that fits replay the counterexample of a file.

    Args:
        path: The file.
        in_suite: A whole suite runs: only the very test of pytest fits.

    Raises:
        ValueError: the file is no saved counterexample.
    """
    from frontrun import _exploration

    before = _exploration.replaying
    _exploration.replaying = Replaying(read(path), in_suite)
    try:
        yield _exploration.replaying
    finally:
        _exploration.replaying = before


def replay_file(path: str | os.PathLike[str]) -> InterleavingResult:
    """Replay a saved counterexample against the code that it was found in.

    The functions are imported if that is possible; else the test function is called, or
    the script run, with the exploration in it replaced by the replay.

    Raises:
        ValueError: the file is no saved counterexample, or does not say where its code is.
        ReplayMismatchError: the program does not do what was recorded.
    """
    recording = read(path)
    functions = recording.functions()
    if functions is not None:
        return InterleavingResult.load(path).replay(*functions)
    test = recording.test
    advice = f"run its test with pytest --frontrun-replay={os.fspath(path)}"
    if test is None:
        raise ValueError(f"{os.fspath(path)} does not tell what to run: {advice}")
    with replaying(path) as replays:
        try:
            if test.function is None or test.module == "__main__":
                import runpy

                runpy.run_path(test.file, run_name="__main__")
            else:
                function = _import(f"{test.module}:{test.function}")
                if "." in test.function or inspect.signature(function).parameters:
                    raise ValueError(f"{test.module}:{test.function} takes arguments: {advice}")
                running = function()
                if inspect.iscoroutine(running):
                    asyncio.run(running)
        except (AssertionError, SystemExit):
            # The test says what we asked it to find out.
            if not replays.results:
                raise
    if not replays.results:
        raise ValueError(f"{test.file} did not get to the exploration that was recorded")
    return replays.results[0]
