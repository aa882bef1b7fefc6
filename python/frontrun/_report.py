"""A failing execution as a page to look at, and as a trace for Perfetto."""

from __future__ import annotations

import json
import linecache
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from frontrun import _explain
from frontrun._trace_format import TraceEvent, location_of, namer

if TYPE_CHECKING:
    from frontrun._explain import Failure

__all__ = ["Story", "html", "perfetto"]

MOST_CONFLICTS = 1000
"""So many pairs of conflicting accesses are drawn."""


@dataclass
class Story:
    """What a page shows."""

    headline: str
    summary: list[str]
    facts: list[str]
    """Short remarks about the whole."""
    explanation: str
    data: dict[str, Any]
    """What the page's script draws."""

    @property
    def events(self) -> list[Any]:
        """Each (worker, index of its place, accesses)."""
        return self.data["events"]  # type: ignore[no-any-return]

    @property
    def switches(self) -> int:
        """How often the turn goes to another worker."""
        return sum(a[0] != b[0] for a, b in pairwise(self.events))

    @classmethod
    def of(cls, failure: Failure, explanation: str, facts: Sequence[str]) -> Story:
        """The story of a failing execution."""
        headline, *rest = explanation.split("\n\n")
        return cls(
            headline=" ".join(headline.split()),
            summary=[" ".join(rest[0].split())] if rest else [],
            facts=list(facts),
            explanation=explanation,
            data=_data(failure),
        )


def html(story: Story) -> str:
    """One self-contained page.

    Raises:
        ImportError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise ImportError(
            "the HTML report needs Jinja2: pip install 'frontrun-fast[html]'"
        ) from None
    source = files("frontrun").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(source).render(story=story)


def perfetto(story: Story) -> str:
    """The execution in the Trace Event Format, one microsecond for each event."""
    data = story.data
    events: list[dict[str, Any]] = []
    for worker, name in enumerate(data["workers"]):
        about = {"ph": "M", "pid": 1, "tid": worker}
        events.append({**about, "name": "thread_name", "args": {"name": name}})
        events.append({**about, "name": "thread_sort_index", "args": {"sort_index": worker}})
    for step, (worker, place, accesses) in enumerate(data["events"]):
        filename, line, function, source = data["places"][place]
        told = [f"{kind} {data['locations'][where]}" for kind, where, _ in accesses]
        values = [value for _, _, value in accesses if value is not None]
        args = {"step": step + 1, "at": f"{filename}:{line}", "function": function}
        args |= {"accesses": told, "values": values}
        name = source or ", ".join(told)
        events.append(_slice(name, "event", step, 1, worker, args))
    for worker, start, end, where, _ in data["held"]:
        lock = {"cat": "lock", "name": data["locations"][where], "pid": 1, "tid": worker}
        lock |= {"id": f"{worker}-{where}-{start}"}
        events += [{**lock, "ph": "b", "ts": start}, {**lock, "ph": "e", "ts": end + 1}]
    for number, (first, second, where) in enumerate(data["conflicts"]):
        flow = {"cat": "conflict", "name": data["locations"][where], "id": number, "pid": 1}
        for phase, step in (("s", first), ("f", second)):
            more = {"bp": "e"} if phase == "f" else {}
            tid = data["events"][step][0]
            events.append({**flow, "ph": phase, "ts": step + 0.5, "tid": tid, **more})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})


def _slice(
    name: str, category: str, start: int, duration: int, worker: int, args: dict[str, Any]
) -> dict[str, Any]:
    where = {"pid": 1, "tid": worker, "ts": start, "dur": duration}
    return {"ph": "X", "name": name, "cat": category, **where, "args": args}


def _data(failure: Failure) -> dict[str, Any]:
    trace = _explain.told_accesses(failure)
    labels = _explain.labels_of(failure, trace)
    by_step: defaultdict[int, list[TraceEvent]] = defaultdict(list)
    for access in trace:
        by_step[access.step_index].append(access)
    steps = {step: number for number, step in enumerate(sorted(by_step))}
    places: dict[tuple[str, int, str], int] = {}
    locations: dict[str, int] = {}

    def number_of(where: Hashable) -> int:
        return locations.setdefault(labels[where], len(locations))

    events: list[tuple[int, int, list[list[Any]]]] = []
    for _, accesses in sorted(by_step.items()):
        first = accesses[0]
        place = (first.filename, first.lineno, first.function_name)
        told = [[a.access_type, number_of(location_of(a)), a.value] for a in accesses]
        events.append((first.thread_id, places.setdefault(place, len(places)), told))
    workers = 1 + max((worker for worker, *_ in events), default=0)
    name = namer(failure["worker_names"])
    pairs = (
        (steps[a.step_index], steps[b.step_index], location_of(a))
        for a, b in _explain.unordered(trace)
    )
    return {
        "workers": [name(worker) for worker in range(max(workers, len(failure["worker_names"])))],
        "places": [[*place, _source(place[0], place[1])] for place in places],
        "events": events,
        "conflicts": [
            [a, b, number_of(where)] for a, b, where in islice(dict.fromkeys(pairs), MOST_CONFLICTS)
        ],
        "held": [
            [worker, start, end, number_of(where), depth]
            for worker, start, end, where, depth in _held(trace, steps, len(events))
        ],
        "blocked": _explain.tell_waits(failure, labels),
        "locations": list(locations),
    }


@cache
def _source(filename: str, line: int) -> str:
    return linecache.getline(filename, line).strip()


def _held(
    trace: Sequence[TraceEvent], steps: dict[int, int], end: int
) -> Iterator[tuple[int, int, int, Hashable, int]]:
    """(worker, first step, last step, lock, how many locks it held already)."""
    since: dict[tuple[int, Hashable], tuple[int, int]] = {}
    for event in trace:
        key = (event.thread_id, location_of(event))
        if event.access_type == "acquire":
            depth = sum(worker == event.thread_id for worker, _ in since)
            since.setdefault(key, (steps[event.step_index], depth))
        elif event.access_type == "release" and key in since:
            start, depth = since.pop(key)
            yield event.thread_id, start, steps[event.step_index], key[1], depth
    for (worker, where), (start, depth) in since.items():
        yield worker, start, end - 1, where, depth
