"""The pytest plugin: options, the ``frontrun`` marker, a summary of the explorations."""

from __future__ import annotations

import argparse
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frontrun import _host

if TYPE_CHECKING:
    from frontrun._exploration import Options
    from frontrun.common import InterleavingResult

_MARKER = (
    "frontrun(**options): what the explorations of this test use in place of an option's "
    "default, for instance max_executions=100 or preemption_bound=None"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line options."""
    group = parser.getgroup("frontrun", "deterministic concurrency testing")
    group.addoption(
        "--frontrun-patch-locks",
        action="store_true",
        default=True,
        dest="frontrun_intercept",
        help="intercept locks and threads: always so, accepted for older configurations",
    )
    group.addoption(
        "--no-frontrun-patch-locks",
        action="store_false",
        dest="frontrun_intercept",
        help="do not intercept anything: tests that explore are skipped",
    )
    group.addoption(
        "--frontrun-max-executions",
        type=_positive,
        metavar="N",
        help="end each exploration after at most N executions",
    )
    group.addoption(
        "--frontrun-report",
        metavar="DIR",
        type=Path,
        help="write each failure there: as text, as a page (extra html), as JSON to replay it from",
    )
    group.addoption(
        "--frontrun-replay",
        metavar="FILE",
        help="in place of the exploration that FILE was saved from, replay its counterexample",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1, not {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)
    path = config.getoption("frontrun_replay")
    if path is not None:
        from frontrun._replay import replaying

        until_the_end = ExitStack()
        config.add_cleanup(until_the_end.close)
        try:
            config.stash[_REPLAY] = until_the_end.enter_context(replaying(path, in_suite=True))
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--frontrun-replay: {error}") from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers that say what no strategy understands, before any test runs."""
    for item in items:
        for mark in item.iter_markers("frontrun"):
            _check(mark, item.nodeid)


def _check(mark: pytest.Mark, test: str) -> None:
    from frontrun._exploration import STRATEGIES

    if mark.args:
        raise pytest.UsageError(f"{test}: the frontrun marker takes options by name only")
    kinds = list(dict.fromkeys(STRATEGIES.values()))
    known = {name for kind in kinds for name in kind.__dataclass_fields__}
    for name, value in mark.kwargs.items():
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise pytest.UsageError(
                f"{test}: the frontrun marker has no {name!r}; it has {allowed}"
            )
        try:
            next(kind for kind in kinds if name in kind.__dataclass_fields__)(**{name: value})
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"{test}: in the frontrun marker, {error}") from None


class _Test:
    """The explorations of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.explorations: list[dict[str, Any]] = []

    def before(self, program: _host.Program, options: Options) -> Options:
        config = self.item.config
        if not config.getoption("frontrun_intercept"):
            pytest.skip("--no-frontrun-patch-locks: this test explores, which needs interception")
        changes: dict[str, Any] = {}
        for mark in reversed(list(self.item.iter_markers("frontrun"))):
            changes |= _at_default(options, mark.kwargs)
        most = config.getoption("frontrun_max_executions")
        if most is not None:
            changes |= _capped(options, changes, most)
        from dataclasses import replace

        return replace(options, **changes) if changes else options

    def after(
        self,
        program: _host.Program,
        options: Options,
        result: InterleavingResult,
        seconds: float,
    ) -> None:
        self.explorations.append(
            {
                "test": self.item.nodeid,
                "executions": result.num_explored,
                "exhaustive": result.exhaustive,
                "holds": result.property_holds,
                "seconds": seconds,
            }
        )
        directory = self.item.config.getoption("frontrun_report")
        if directory is not None and result.property_holds is False:
            self._write_report(directory, result)

    def _write_report(self, directory: Path, result: InterleavingResult) -> None:
        test = self.item.nodeid.replace("/", ".").replace("::", ".")
        base = re.sub(r"[^\w.-]+", "-", test).strip("-")[:150]
        written = self.item.config.stash.setdefault(_WRITTEN, set())
        number = next(n for n in count(1) if (base, n) not in written)
        written.add((base, number))
        path = directory / (base if number == 1 else f"{base}-{number}")
        directory.mkdir(parents=True, exist_ok=True)
        Path(f"{path}.txt").write_text(f"{result.explanation}\n", encoding="utf-8")
        result.save(f"{path}.json")
        with suppress(ImportError):  # without the extra `html`
            result.to_html(f"{path}.html")


def _at_default(options: Options, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the wanted options that this strategy has, and that the call left alone."""
    known = options.__dataclass_fields__
    return {
        name: value
        for name, value in wanted.items()
        if name in known and getattr(options, name) == known[name].default
    }


def _capped(options: Options, changes: Mapping[str, Any], most: int) -> dict[str, Any]:
    for name in ("max_executions", "max_attempts"):
        if name in options.__dataclass_fields__:
            given = changes.get(name, getattr(options, name))
            return {name: most if given is None else min(given, most)}
    return {}


_TEST = pytest.StashKey[_Test]()
_REPLAY = pytest.StashKey[Any]()
_WRITTEN = pytest.StashKey[set[tuple[str, int]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the explorations of a test and of its fixtures."""
    item.stash[_TEST] = test = _Test(item)
    with _host.host(test):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report carry the explorations: also from a process of pytest-xdist."""
    report = yield
    test = item.stash.get(_TEST, None)
    # Attributes of a report survive the way from a process of pytest-xdist.
    if test is not None and test.explorations:
        vars(report)["frontrun"], test.explorations = test.explorations, []
    replay = item.config.stash.get(_REPLAY, None)
    if replay is not None:
        vars(report)["frontrun_replays"] = len(replay.results)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was explored."""
    reports = [each for kind in terminalreporter.stats.values() for each in kind]
    done = [one for report in reports for one in getattr(report, "frontrun", ())]
    if done:
        terminalreporter.section("frontrun", sep="-")
        for line in _summary(done):
            terminalreporter.write_line(line)
        directory = terminalreporter.config.getoption("frontrun_report")
        if directory is not None and any(one["holds"] is False for one in done):
            terminalreporter.write_line(
                f"failures are reported in {directory}; "
                f"pytest --frontrun-replay={directory}/….json runs one again"
            )
    path = terminalreporter.config.getoption("frontrun_replay")
    if path is not None:
        replayed = any(getattr(report, "frontrun_replays", 0) for report in reports)
        terminalreporter.section("frontrun", sep="-")
        terminalreporter.write_line(
            f"replayed {path}" if replayed else f"{path} fits no exploration of these tests"
        )


def _summary(done: list[dict[str, Any]]) -> Iterable[str]:
    exhaustive = sum(one["exhaustive"] for one in done)
    failed = sum(one["holds"] is False for one in done)
    unclear = sum(one["holds"] is None for one in done)
    tests = len({one["test"] for one in done})
    executions = sum(one["executions"] for one in done)
    seconds = sum(one["seconds"] for one in done)
    yield (
        f"{_number(len(done), 'exploration')} in {_number(tests, 'test')}: "
        f"{_number(executions, 'execution')} in {seconds:.2f} s"
    )
    ends = [
        (exhaustive, "exhaustive"),
        (failed, "found a failure"),
        (unclear, "inconclusive"),
    ]
    rest = len(done) - sum(one["exhaustive"] or not one["holds"] for one in done)
    ends.append((rest, "ended by a limit or sampled"))
    yield ", ".join(f"{count} {what}" for count, what in ends if count)
    for one in sorted(done, key=lambda one: -one["seconds"])[:3]:
        executions = "execution " if one["executions"] == 1 else "executions"
        yield f"{one['seconds']:8.2f} s {one['executions']:8} {executions}  {one['test']}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
