"""The values that every way of exploring takes and gives: schedules and results."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from frontrun._explain import Failure
    from frontrun._replay import Recording
    from frontrun._report import Story

__all__ = [
    "Access",
    "Blocked",
    "CarrierWarning",
    "InterleavingResult",
    "NothingObservedWarning",
    "Progress",
    "Race",
    "ReplayMismatchError",
    "Schedule",
    "Step",
]

_LONGEST_SHOWN_SCHEDULE = 10


@dataclass(frozen=True)
class Step:
    """One step of a marker schedule: a worker passes a marker."""

    execution_name: str
    """Name of the worker that takes the step."""
    marker_name: str
    """The marker that it passes, as in ``# frontrun: marker_name``."""


@dataclass
class Schedule:
    """The order in which workers pass their markers."""

    steps: list[Step]


@dataclass(frozen=True)
class Progress:
    """How far an exploration has come."""

    executions: int
    """Executions so far."""
    estimated_total: float | None
    """About how many there will be in all; None where that cannot be told."""
    elapsed: float
    """Seconds since the start."""
    failures: int
    """Failing executions so far."""
    estimated_low: float | None = None
    """Lower end of a 95 % confidence interval of the estimate."""
    estimated_high: float | None = None
    """Its upper end."""


class CarrierWarning(UserWarning):
    """An exploration needed real threads, and was started again on them."""


class NothingObservedWarning(UserWarning):
    """An exploration in which no code of a traced file ran: it proves nothing."""


class ReplayMismatchError(Exception):
    """A recorded schedule does not fit the program; the message tells the first difference."""


@dataclass(frozen=True)
class Access:
    """One read or write of shared state."""

    worker: int
    kind: str
    """``"read"`` or ``"write"``."""
    filename: str
    """Path of the source file; empty when the access has no Python source."""
    lineno: int
    """Line in that file, from 1; 0 when unknown."""


@dataclass(frozen=True)
class Race:
    """Two accesses of one location, one of them a write, that nothing puts in order."""

    location: str
    """What is accessed, for instance ``"Counter.value"`` or ``"dict['key']"``."""
    first: Access
    """The one that came first in the failing execution."""
    second: Access


@dataclass(frozen=True)
class Blocked:
    """A worker that waits for ever."""

    worker: int
    waits_for: str
    """What it waits for, for instance ``"lock #2"``."""
    holder: int | None
    """The worker that holds it, or None when no worker does."""
    filename: str
    """Where it waits; empty when that is not known."""
    lineno: int
    """Line in that file, from 1; 0 when unknown."""


@dataclass(repr=False)
class InterleavingResult:
    """What an exploration found.

    A result has no truth value of its own: ask ``property_holds``, or call
    `assert_holds`, which also explains.
    """

    property_holds: bool | None
    """True when the invariant held after every execution that was run, False when it did
    not after some (or a worker raised, or deadlocked), None when no violation was seen but
    an execution had to be cut off before its end (`inconclusive_reason` says why)."""
    counterexample: list[int] | None = None
    """The first failing schedule: the worker that takes each step. None without failure."""
    num_explored: int = 0
    """Number of executions that were run."""
    unique_interleavings: int = 0
    """Number of different orderings among them."""
    failures: list[tuple[int, list[int]]] = field(default_factory=list)
    """Every failing (execution number from 1, schedule), with ``stop_on_first=False``."""
    explanation: str | None = None
    """The failure in words, with the source lines that led to it. None without failure."""
    reproduction_attempts: int = 0
    """How often the counterexample was replayed."""
    reproduction_successes: int = 0
    """How many of these replays failed again."""

    exception: BaseException | None = field(default=None, kw_only=True)
    """What a worker raised and did not catch."""
    deadlock: list[Blocked] | None = field(default=None, kw_only=True)
    """The workers that wait for ever; None when the failure is no deadlock."""
    races: list[Race] = field(default_factory=list, kw_only=True)
    """Accesses in the failing execution that nothing puts in order."""
    reachable: str | None = field(default=None, kw_only=True)
    """Where the failure can happen: ``"gil"``: a failure alike was found in which workers
    switch only where this CPython, which has a GIL, switches threads; ``"free-threaded"``:
    there is none, so that it takes an interpreter without a GIL; None: not decided."""
    exhaustive: bool = field(default=False, kw_only=True)
    """True only when every interleaving within the stated bounds was covered."""
    seed: int | None = field(default=None, kw_only=True)
    """The seed that repeats this exploration; None when nothing was random."""
    stats: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Counters and times of the exploration: ``executions`` that were played to their end and
    ``events`` in them; ``sleep_set_blocked``, executions that were cut off because others turned
    out to cover them; ``minimising``, executions spent on a shorter counterexample; ``restarts``,
    how often the search began anew because the first execution had filled a cache;
    ``estimated_total``, ``estimated_low`` and ``estimated_high``, the number of executions there
    are in all, with a 95 % confidence interval; nanoseconds spent in setup and invariant
    (``setup_ns``), in workers (``workers_ns``) and in choosing what to run (``engine_ns``)."""
    inconclusive_reason: str | None = field(default=None, kw_only=True)
    """The limit that cut an execution off, when one did."""
    limit: str | None = field(default=None, kw_only=True)
    """The limit that ended the search before it was exhaustive, as ``"max_executions=5"``."""

    _recording: Recording | None = field(default=None, init=False, compare=False)
    _failure: Failure | None = field(default=None, init=False, compare=False)
    _rerun: Callable[[], InterleavingResult] | None = field(default=None, init=False, compare=False)

    def show(self, file: TextIO | None = None) -> None:
        """Print the explanation, or that there is nothing to explain.

        In colour where `file` (standard output) is a terminal and rich is installed.
        """
        text = self.explanation or repr(self)
        file = file or sys.stdout
        if file.isatty() and "NO_COLOR" not in os.environ:
            try:
                from frontrun._colour import show
            except ImportError:
                pass
            else:
                return show(text, file)
        print(text, file=file)
        return None

    def replay(
        self,
        setup: Callable[[], Any] | None = None,
        threads: Sequence[Callable[[Any], object]] | Mapping[str, Any] | None = None,
        invariant: Callable[[Any], object] | None = None,
    ) -> InterleavingResult:
        """Run the counterexample once more, and tell what comes of it this time.

        Without arguments the functions are those that were explored. A loaded result has
        to be given them, all three, as the exploration was. Not to be awaited, even where
        the exploration was.

        Returns:
            A result with ``num_explored=1``.

        Raises:
            ReplayMismatchError: the program does not do what was recorded.
            ValueError: there is no counterexample.
            TypeError: some of the functions are missing.
        """
        recording = self._recorded()
        given = [f is not None for f in (setup, threads, invariant)]
        if any(given) and not all(given):
            raise TypeError("replay takes all of setup, threads and invariant, or none of them")
        if setup is not None and threads is not None and invariant is not None:
            from frontrun._replay import replay

            return replay(recording, setup, threads, invariant)
        if self._rerun is None:
            raise TypeError(
                "a loaded counterexample does not bring its functions along: "
                "replay(setup, threads, invariant)"
            )
        return self._rerun()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counterexample to a JSON file, to be replayed later or elsewhere.

        Raises:
            ValueError: there is no counterexample.
            OSError: as `open` does.
        """
        self._recorded().write(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InterleavingResult:
        """The counterexample that `save` wrote. `replay` takes it from there.

        Raises:
            ValueError: the file is no saved counterexample, or of a newer version.
            OSError: as `open` does.
        """
        from frontrun._replay import read

        recording = read(path)
        result = cls(False, recording.schedule, explanation=recording.explanation or None)
        result._recording = recording
        return result

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the counterexample as one self-contained page with a timeline.

        Raises:
            ValueError: there is no counterexample, or it was loaded and not replayed yet.
            ImportError: Jinja2 is not installed (the extra ``html``).
            OSError: as `open` does.
        """
        from frontrun._report import html

        Path(path).write_text(html(self._story()), encoding="utf-8")

    def to_perfetto(self, path: str | os.PathLike[str]) -> None:
        """Write the counterexample as a trace for https://ui.perfetto.dev and for Chrome.

        Raises:
            ValueError: there is no counterexample, or it was loaded and not replayed yet.
            OSError: as `open` does.
        """
        from frontrun._report import perfetto

        Path(path).write_text(perfetto(self._story()), encoding="utf-8")

    def _story(self) -> Story:
        from frontrun._report import Story

        if self._failure is None:
            unit = self._recorded().unit
            if unit != "event":
                raise ValueError(
                    f"this counterexample is an order of {unit}s, which tells nothing of shared "
                    "state: use what frontrun.explore gives"
                )
            raise ValueError(
                "this result was loaded, and does not know all about the execution: "
                "use what its replay(setup, threads, invariant) gives"
            )
        facts = [f"CPython {platform.python_version()}"]
        if self.reproduction_attempts:
            tried, failed = self.reproduction_attempts, self.reproduction_successes
            facts.append(f"failed {failed} of {tried} times when replayed")
        return Story.of(self._failure, self.explanation or "", facts)

    def _recorded(self) -> Recording:
        if self._recording is None:
            raise ValueError("there is no counterexample: the exploration found no failure")
        return self._recording

    def __getstate__(self) -> dict[str, Any]:
        """Functions and code objects stay in their process."""
        return {**self.__dict__, "_failure": None, "_rerun": None}

    def assert_holds(self, msg_prefix: str = "") -> None:
        """Do nothing when the property holds; otherwise say why not.

        Raises:
            AssertionError: with `msg_prefix` and the explanation, caused by the worker's
                exception if there is one; also for an inconclusive exploration.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        if self.property_holds:
            return
        if self.property_holds is None:
            reason = self.inconclusive_reason or "an execution was cut off before its end"
            text = (
                f"inconclusive: {reason}. No violation was seen in "
                f"{self.num_explored} interleavings, but not all of them ran to their end."
            )
        else:
            text = self.explanation or (
                "the property does not hold under the schedule "
                + _short_schedule(self.counterexample)
            )
        raise AssertionError(msg_prefix + text) from self.exception

    def __repr__(self) -> str:
        shown = [f"property_holds={self.property_holds}"]
        for f in fields(self)[1:]:
            value = getattr(self, f.name)
            if f.name == "stats" or f.name[0] == "_" or value in (f.default, [], {}):
                continue
            if f.name == "counterexample":
                value = _short_schedule(value)
            elif f.name == "explanation":
                value = repr(value.partition("\n")[0])
            elif isinstance(value, list):
                value = f"…({len(value)})"
            else:
                value = repr(value)
            shown.append(f"{f.name}={value}")
        return f"InterleavingResult({', '.join(shown)})"


def _short_schedule(schedule: list[int] | None) -> str:
    if schedule is not None and len(schedule) > _LONGEST_SHOWN_SCHEDULE:
        return f"…({len(schedule)} steps)"
    return str(schedule)
