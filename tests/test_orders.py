"""Counterexamples that are orders of markers or of await points: minimal, replayed, kept."""

import asyncio
import contextlib
import functools
import itertools
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from frontrun import InterleavingResult, ReplayMismatchError
from frontrun._replay import replay_file, replaying
from frontrun.async_bytecode import await_point, explore_interleavings
from frontrun.trace_markers import explore_marker_interleavings


class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
        self.other = threading.Lock()

    def increment(self):
        value = self.value  # frontrun: read
        self.value = value + 1  # frontrun: write

    async def increment_later(self):
        await await_point()
        value = self.value
        await await_point()
        self.value = value + 1


def both_counted(counter):
    return counter.value == 2


MARKED = {
    "a": (Counter.increment, ["read", "write"]),
    "b": (Counter.increment, ["read", "write"]),
}
TASKS = [Counter.increment_later] * 2


def markers(threads=MARKED, invariant=both_counted, setup=Counter, **options):
    return explore_marker_interleavings(setup, threads, invariant, **options)


def await_points(tasks=TASKS, invariant=both_counted, setup=Counter, **options):
    return asyncio.run(explore_interleavings(setup, tasks, invariant, seed=1, **options))


def switches(schedule):
    return sum(a != b for a, b in itertools.pairwise(schedule))


FOUND = {
    "markers": (markers, (Counter, MARKED, both_counted)),
    "await points": (await_points, (Counter, TASKS, both_counted)),
}
each_kind = pytest.mark.parametrize(("find", "functions"), FOUND.values(), ids=FOUND)


# Minimal


def test_an_order_of_markers_has_as_few_preemptions_as_any():
    def work(counter):
        pass  # frontrun: before
        counter.increment()
        pass  # frontrun: after

    spec = (work, ["before", "read", "write", "after"])
    result = markers({"a": spec, "b": spec})
    assert result.counterexample == [0, 0, 1, 1, 1, 1, 0, 0]
    every = markers({"a": spec, "b": spec}, stop_on_first=False)
    assert min(switches(order) for _, order in every.failures) == 2
    assert every.num_explored == 70


def test_an_order_of_markers_ends_with_the_failure():
    def pop(items):
        if items:  # frontrun: check
            items.pop()  # frontrun: pop
            items.append(1)  # frontrun: push

    spec = (pop, ["check", "pop", "push"])
    result = explore_marker_interleavings(lambda: [1], {"a": spec, "b": spec}, lambda items: True)
    assert isinstance(result.exception, IndexError)
    assert result.counterexample == [0, 1, 1, 0]
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)


def test_a_switch_from_a_task_that_waits_is_no_preemption():
    class Locked(Counter):
        def __init__(self):
            super().__init__()
            self.lock = asyncio.Lock()

        async def first(self):
            async with self.lock:
                await await_point()
                await await_point()
            await await_point()
            self.value += 1

        async def second(self):
            async with self.lock:
                await await_point()
            self.seen = self.value

    result = await_points([Locked.first, Locked.second], lambda c: c.seen != 0, Locked)
    assert result.counterexample == [0, 0, 1, 0]


@each_kind
def test_a_counterexample_is_reproduced_as_often_as_asked(find, functions):
    result = find(reproduce_on_failure=3)
    assert (result.reproduction_attempts, result.reproduction_successes) == (3, 3)
    assert "Reproduced 3/3 times" in result.explanation
    result = find(reproduce_on_failure=0)
    assert result.reproduction_attempts == 0
    assert "Reproduced" not in result.explanation


@pytest.mark.parametrize("find", [markers, await_points])
def test_a_failure_that_does_not_come_again_is_told_so(find):
    fails = iter([False])
    result = find(invariant=lambda counter: next(fails, True), reproduce_on_failure=4)
    assert (result.reproduction_attempts, result.reproduction_successes) == (4, 0)


# Replayed


@each_kind
def test_a_counterexample_replays(find, functions):
    result = find()
    assert result.explanation.endswith("To run it again: result.replay().")
    for again in (result.replay(), result.replay(*functions), result.replay().replay()):
        assert again.property_holds is False
        assert again.counterexample == result.counterexample
        assert again.num_explored == 1


def test_a_counterexample_replays_where_an_event_loop_runs():
    async def main():
        result = await explore_interleavings(Counter, TASKS, both_counted, seed=1)
        again = result.replay()
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)
        return again

    assert asyncio.run(main()).property_holds is False


@each_kind
def test_a_saved_counterexample_replays(find, functions, tmp_path):
    result = find()
    result.save(tmp_path / "x.json")
    loaded = InterleavingResult.load(tmp_path / "x.json")
    assert loaded.counterexample == result.counterexample
    assert loaded.explanation == result.explanation
    assert loaded.replay(*functions).property_holds is False
    with pytest.raises(TypeError, match="does not bring its functions along"):
        loaded.replay()


@each_kind
def test_a_file_names_the_functions(find, functions, tmp_path):
    find().save(tmp_path / "x.json")
    assert replay_file(tmp_path / "x.json").property_holds is False


def test_a_file_of_markers_tells_each_step(tmp_path):
    markers().save(tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    assert (content["format"], content["version"]) == ("frontrun counterexample", 1)
    assert (content["unit"], content["names"]) == ("marker", ["a", "b"])
    assert [(s["worker"], s["location"]) for s in content["steps"]] == [
        (0, "read"),
        (1, "read"),
        (1, "write"),
        (0, "write"),
    ]
    step = content["steps"][0]
    assert step["file"].endswith("test_orders.py")
    assert step["function"] == "Counter.increment"
    assert "# frontrun: read" in Path(__file__).read_text().splitlines()[step["line"] - 1]


@each_kind
def test_a_saved_counterexample_replays_in_place_of_the_exploration(find, functions, tmp_path):
    find().save(tmp_path / "x.json")
    with replaying(tmp_path / "x.json") as replays:
        again = find()
    assert again.num_explored == 1
    assert replays.results == [again]
    assert again.property_holds is False


@each_kind
def test_an_exploration_of_another_kind_is_not_replaced(find, functions, tmp_path):
    find().save(tmp_path / "x.json")
    other = markers if find is await_points else await_points
    with replaying(tmp_path / "x.json") as replays:
        assert other().property_holds is False
    assert not replays.results


def test_a_file_made_by_a_script_replays_from_the_command_line(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            from frontrun.trace_markers import explore_marker_interleavings

            def work(state):
                n = state["n"]  # frontrun: read
                state["n"] = n + 1  # frontrun: write

            spec = (lambda state: work(state), ["read", "write"])
            result = explore_marker_interleavings(
                lambda: {"n": 0}, {"a": spec, "b": spec}, lambda state: state["n"] == 2
            )
            if result.num_explored > 1:
                result.save("x.json")
            """
        )
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True)
    again = subprocess.run(
        [sys.executable, "-m", "frontrun", "replay", "x.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 1
    assert "The invariant does not hold in the final state." in again.stdout


@pytest.fixture
def counters():
    """All that were made. What waits for their locks at the end of the test is let go."""
    made = []
    yield made
    for counter in made:
        # One of the two: what it lets go releases the other.
        if counter.lock.locked() and counter.other.locked():
            counter.lock.release()
    for thread in threading.enumerate():
        if thread.name.startswith("frontrun-"):
            thread.join()


def test_a_deadlock_and_an_error_replay(counters):
    def make():
        counters.append(Counter())
        return counters[-1]

    def take(outer, inner):
        # One of its locks may have been released for it.
        with contextlib.suppress(RuntimeError), outer:
            with inner:  # frontrun: inner
                pass

    def forwards(counter):
        take(counter.lock, counter.other)

    def backwards(counter):
        take(counter.other, counter.lock)

    def fails(counter):
        if counter.value:  # frontrun: read
            raise KeyError("mine")

    spec = {"a": (forwards, ["inner"]), "b": (backwards, ["inner"])}
    result = markers(spec, setup=make)
    assert result.explanation.startswith("Deadlock")
    assert result.reproduction_successes == 10
    assert result.replay().explanation.startswith("Deadlock")
    spec = {"a": (fails, ["read"]), "b": (Counter.increment, ["read", "write"])}
    result = markers(spec, lambda counter: True)
    assert isinstance(result.exception, KeyError)
    assert isinstance(result.replay().exception, KeyError)


def test_what_is_corrected_does_not_fail_any_more():
    result = markers(reproduce_on_failure=0)
    assert result.replay(Counter, MARKED, lambda counter: counter.value == 1).property_holds is True
    result = await_points(reproduce_on_failure=0)
    assert result.replay(Counter, TASKS, lambda counter: counter.value == 1).property_holds is True


# Refused


def refused(result, *functions):
    with pytest.raises(ReplayMismatchError) as refusal:
        result.replay(*functions)
    return str(refusal.value)


def test_an_order_of_markers_that_does_not_fit_is_refused_with_the_first_difference():
    def checked(counter):
        if counter.value == 0:  # frontrun: read
            counter.value = 1  # frontrun: check

    def locked(counter):
        with counter.lock:
            counter.increment()

    result = markers(deadlock_timeout=1)
    text = refused(result, Counter, {**MARKED, "b": checked}, both_counted)
    assert "First difference, at step 3 of 4" in text
    assert "recorded: worker 'b': pass marker write in Counter.increment" in text
    assert "now:      worker 'b': is stopped before marker 'check'" in text
    text = refused(result, Counter, {"a": locked, "b": locked}, both_counted)
    assert "step 2 of 4" in text
    assert "worker 'b': waits (" in text


def test_a_worker_that_raises_before_its_step_is_a_difference():
    def fails(counter):
        counter.value += 1  # frontrun: read
        raise KeyError("early")

    text = refused(markers(), Counter, {**MARKED, "b": fails}, both_counted)
    assert "does not come to it: worker 'b' raised KeyError: 'early'" in text


def test_an_order_of_await_points_that_does_not_fit_is_refused_with_the_first_difference():
    async def hasty(counter):
        await await_point()
        counter.value += 1

    async def hesitant(counter):
        await counter.increment_later()
        await await_point()

    result = await_points()
    text = refused(result, Counter, [hasty, hasty], both_counted)
    assert "First difference, at step 1 of 4" in text
    assert "go on in Counter.increment_later" in text
    assert "hasty (" in text
    text = refused(result, Counter, [hesitant, hesitant], both_counted)
    assert "after its last step, number 4, more is done" in text


def test_a_task_that_does_not_come_to_its_step_is_a_difference():
    class Locked(Counter):
        def __init__(self):
            super().__init__()
            self.lock = asyncio.Lock()

    async def locked(counter):
        async with counter.lock:
            await counter.increment_later()

    text = refused(await_points(), Locked, [locked, locked], both_counted)
    assert "recorded: task 1: go on in" in text
    assert "now:      task 1: task 0 comes: go on in" in text


def test_other_workers_than_were_recorded_are_refused():
    result = markers()
    with pytest.raises(ValueError, match="threads must be those that were recorded, 'a', 'b'"):
        result.replay(Counter, {"a": Counter.increment, "c": Counter.increment}, both_counted)
    with pytest.raises(ValueError, match="as many as were recorded, 2, not 1"):
        result.replay(Counter, [Counter.increment], both_counted)
    with pytest.raises(ValueError, match="tasks must be as many as were recorded, 2, not 3"):
        await_points().replay(Counter, [Counter.increment_later] * 3, both_counted)


@each_kind
def test_a_page_is_refused_where_nothing_of_shared_state_is_known(find, functions, tmp_path):
    with pytest.raises(ValueError, match="tells nothing of shared state"):
        find().to_html(tmp_path / "x.html")


def test_an_invariant_that_raises_is_a_failure_of_its_own():
    def invariant(counter):
        raise KeyError("mine")

    for find in (markers, await_points):
        result = find(invariant=invariant)
        assert result.explanation.count("The invariant raised KeyError: 'mine'") == 1
        assert result.exception is None


def test_bound_functions_are_workers_too():
    spec = functools.partial(Counter.increment)
    assert markers({"a": (spec, ["read", "write"]), "b": (spec, ["read", "write"])}).replay()
