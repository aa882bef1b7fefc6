"""A counterexample is as simple as can be, replays, and survives in a file."""

import functools
import io
import itertools
import json
import linecache
import pickle
import queue
import re
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import replayed

import frontrun
from frontrun import InterleavingResult, ReplayMismatchError
from frontrun._replay import replay_file, replaying

DATA = Path(__file__).parent / "data"


class Counter:
    def __init__(self):
        self.value = 0
        self.other = 0

    def increment(self):
        for _ in range(3):
            self.other = self.value
        temp = self.value
        self.value = temp + 1


def preemptive_switches(schedule):
    return [(a, b) for a, b in itertools.pairwise(schedule) if a != b]


@pytest.mark.parametrize("strategy", ["dpor", "walk", "pct", "pos", "surw"])
def test_a_lost_update_is_told_with_one_switch_there_and_one_back(strategy):
    options = {} if strategy == "dpor" else {"seed": 7}
    result = frontrun.explore(
        Counter,
        Counter.increment,
        lambda c: c.value == 3,
        count=3,
        strategy=strategy,
        **options,
    )
    assert result.property_holds is False
    assert len(preemptive_switches(result.counterexample)) == 3, result.explanation
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert result.stats["minimising"] <= 500


def test_a_counterexample_fails_in_the_way_that_was_found():
    def worker(state):
        with state["a"]:
            state["n"] += 1
            if state["n"] == 2:
                raise ValueError("two")

    result = frontrun.explore(
        lambda: {"a": threading.Lock(), "n": 0},
        worker,
        lambda s: s["n"] == 1,
        count=2,
        strategy="walk",
        seed=1,
    )
    assert isinstance(result.exception, ValueError)
    assert len(preemptive_switches(result.counterexample)) == 1


# Replaying


@pytest.fixture(scope="module")
def overdrawn():
    return replayed.find()


def test_a_counterexample_replays_with_the_functions_that_were_explored(overdrawn):
    again = overdrawn.replay()
    assert again.property_holds is False
    assert again.num_explored == 1
    assert "replayed.py" in again.explanation
    assert again.replay().property_holds is False


def test_a_result_without_failure_has_nothing_to_replay_or_save(tmp_path):
    result = frontrun.explore(lambda: [0], lambda s: s[0], lambda s: True, count=2)
    for use in (result.replay, lambda: result.save(tmp_path / "x.json")):
        with pytest.raises(ValueError, match="there is no counterexample"):
            use()
    assert not (tmp_path / "x.json").exists()


def test_a_saved_counterexample_is_json_that_tells_each_visible_event(overdrawn, tmp_path):
    overdrawn.save(tmp_path / "overdrawn.json")
    content = json.loads((tmp_path / "overdrawn.json").read_text())
    assert content["format"] == "frontrun counterexample"
    assert content["version"] == 1
    assert content["setup"] == "replayed:Account"
    assert content["threads"] == ["replayed:Account.audit", "replayed:withdraw_eighty"]
    reads = [s for s in content["steps"] if s["location"] == "Account.balance"]
    assert {s["function"] for s in reads} == {"Account.withdraw", "never_overdrawn"} - {
        "never_overdrawn"
    }
    assert {s["kind"] for s in content["steps"]} >= {"start", "join", "acquire", "read", "write"}
    assert all(set(s) >= {"worker", "file", "line", "kind"} for s in content["steps"])


def test_a_loaded_counterexample_replays_against_the_functions_it_is_given(overdrawn, tmp_path):
    overdrawn.save(tmp_path / "overdrawn.json")
    loaded = InterleavingResult.load(tmp_path / "overdrawn.json")
    assert loaded.property_holds is False
    assert loaded.explanation == overdrawn.explanation
    again = loaded.replay(replayed.Account, replayed.WORKERS, replayed.never_overdrawn)
    assert again.property_holds is False
    with pytest.raises(TypeError, match="does not bring its functions along"):
        loaded.replay()
    with pytest.raises(TypeError, match="all of setup, threads and invariant"):
        loaded.replay(replayed.Account)
    with pytest.raises(ValueError, match="threads must be as many as were recorded, 2, not 1"):
        loaded.replay(replayed.Account, replayed.WORKERS[:1], replayed.never_overdrawn)


@pytest.mark.parametrize("file", sorted(DATA.glob("*.json")), ids=lambda f: f.stem)
def test_a_file_made_on_another_cpython_fails_here_too(file):
    assert replay_file(file).property_holds is False


def test_files_of_the_oldest_and_the_newest_cpython_are_kept():
    assert {f.stem for f in DATA.glob("*.json")} >= {
        f"{name}-{version}" for name in ("overdrawn", "oversold") for version in ("3.11", "3.15")
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "another format"),
        ('{"format": "x"}', "another format"),
        (
            '{"format": "frontrun counterexample", "version": 2}',
            "it has version 2, and this frontrun reads version 1",
        ),
        ('{"format": "frontrun counterexample", "version": 1, "steps": [{}]}', "missing"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_name(content, reason, tmp_path):
    file = tmp_path / "some.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"some\.json is no saved counterexample.*{reason}"):
        InterleavingResult.load(file)


def test_a_result_can_be_pickled_and_keeps_its_recording(overdrawn, tmp_path):
    copy = pickle.loads(pickle.dumps(overdrawn))
    assert copy == overdrawn
    copy.save(tmp_path / "copy.json")


@pytest.mark.parametrize("clock", ["virtual", "explored"])
def test_timeouts_of_queues_events_and_locks_replay(clock):
    class State:
        def __init__(self):
            self.queue, self.event, self.lock = queue.Queue(1), threading.Event(), threading.Lock()
            self.seen = []

    def patient(state):
        try:
            state.seen.append(state.queue.get(timeout=1))
        except queue.Empty:
            state.seen.append("empty")
        if state.lock.acquire(timeout=1):
            state.seen.append("locked")
            state.lock.release()

    def slow(state):
        with state.lock:
            state.event.wait(3)
        state.queue.put_nowait(1)
        state.seen.append("put")

    outcomes = set()
    explore = functools.partial(frontrun.explore, State, [patient, slow], clock=clock)
    explore(lambda s: outcomes.add(tuple(s.seen)) or True, max_executions=300)
    assert outcomes
    for outcome in outcomes:
        result = explore(lambda s, bad=outcome: tuple(s.seen) != bad)
        assert result.replay().property_holds is False


def test_threads_that_workers_start_replay_whoever_starts_his_first():
    class State:
        def __init__(self):
            self.value = 0
            self.order = []

        def add(self, number):
            value = self.value
            self.value = value + number

    def one(state):
        state.order.append(1)
        thread = threading.Thread(target=state.add, args=(1,))
        thread.start()
        thread.join()

    def ten(state):
        state.order.append(10)
        thread = threading.Thread(target=state.add, args=(10,))
        thread.start()
        thread.join()

    # The first execution starts that of `one` first.
    result = frontrun.explore(
        State, [one, ten], lambda s: s.value == 11 or s.order[0] == 1, reproduce_on_failure=3
    )
    assert result.property_holds is False
    assert result.reproduction_successes == 3
    assert result.replay().property_holds is False


@pytest.mark.parametrize("clock", ["virtual", "explored"])
def test_whether_a_thread_was_seen_to_have_ended_replays(clock, tmp_path):
    def child(seen):
        seen.append("child")

    def parent(seen):
        thread = threading.Thread(target=child, args=(seen,))
        thread.start()
        thread.join(0)
        seen.append(thread.is_alive())
        thread.join(1)
        seen.append(thread.is_alive())
        thread.join()
        thread.join()

    explore = functools.partial(frontrun.explore, list, [parent], clock=clock)
    outcomes = set()
    explore(lambda seen: outcomes.add(tuple(seen)) or True)
    assert len(outcomes) >= 3
    for outcome in outcomes:
        result = explore(lambda seen, bad=outcome: tuple(seen) != bad)
        assert result.replay().property_holds is False
        result.save(tmp_path / "x.json")
        steps = json.loads((tmp_path / "x.json").read_text())["steps"]
        assert [step["kind"] for step in steps].count("join") <= 1  # as it differs by version


def test_whether_a_lock_was_seen_to_be_held_replays():
    def holder(state):
        with state["lock"]:
            pass

    def onlooker(state):
        state["seen"] = state["lock"].locked()

    explore = functools.partial(
        frontrun.explore, lambda: {"lock": threading.Lock()}, [holder, onlooker]
    )
    for seen in (True, False):
        result = explore(lambda state, bad=seen: state["seen"] != bad)
        assert result.replay().property_holds is False


def test_a_minimised_counterexample_lets_waits_end_in_their_order():
    class State:
        def __init__(self):
            self.event, self.seen = threading.Event(), []

    def wait(name, seconds):
        def run(state):
            state.event.wait(seconds)
            state.seen.append(name)

        return run

    workers = [wait("long", 2), wait("short", 1), lambda state: state.seen.append("at once")]
    for strategy in ("walk", "pct", "pos", "surw"):
        result = frontrun.explore(
            State, workers, lambda s: s.seen[0] != "at once", strategy=strategy, seed=1
        )
        again = []
        result.replay(State, workers, lambda s: again.append(s.seen) or s.seen[0] != "at once")
        assert again[0] == ["at once", "short", "long"]


def test_timeouts_that_fire_in_between_replay():
    def work(state):
        with state["lock"]:
            state["half"] = True
            state["half"] = False

    def look(state):
        if not state["lock"].acquire(timeout=1):
            state["seen"] = state["half"]

    result = frontrun.explore(
        lambda: {"lock": threading.Lock(), "half": False, "seen": False},
        [work, look],
        lambda s: not s["seen"],
        clock="explored",
    )
    assert result.property_holds is False
    assert result.replay().property_holds is False


def test_a_timeout_of_a_lock_that_was_free_before_replays():
    def work(state):
        state["turn"] = "work"
        with state["lock"]:
            state["half"] = True
            state["half"] = False

    def look(state):
        lock = state["lock"]
        state["turn"] = "look"
        if not lock.acquire(timeout=1):
            state["seen"] = state["half"]

    result = frontrun.explore(
        lambda: {"lock": threading.Lock(), "half": False, "seen": False},
        [work, look],
        lambda s: not s["seen"] or s["turn"] == "look",
        clock="explored",
    )
    assert result.property_holds is False
    assert result.replay().property_holds is False


def test_a_timeout_of_a_lock_that_nobody_else_gets_replays():
    class State:
        def __init__(self):
            self.lock, self.event, self.seen = threading.Lock(), threading.Event(), []

    def holder(state):
        with state.lock:
            state.event.wait(2)
            state.seen.append("held")

    def impatient(state):
        state.seen.append("got" if state.lock.acquire(timeout=1) else "late")

    for workers in ([holder, impatient], [impatient, holder]):
        result = frontrun.explore(State, workers, lambda s: s.seen[0] != "late")
        assert result.property_holds is False
        assert result.replay().property_holds is False


def test_a_join_that_comes_late_replays():
    def parent(name):
        def run(seen):
            thread = threading.Thread(target=seen.append, args=(name,))
            thread.start()
            thread.join()
            seen.append(name.upper())

        return run

    explore = functools.partial(frontrun.explore, list, [parent("a"), parent("b")])
    outcomes = set()
    explore(lambda seen: outcomes.add(tuple(seen)) or True)
    assert len(outcomes) == 6
    for outcome in outcomes:
        result = explore(lambda seen, bad=outcome: tuple(seen) != bad)
        assert result.replay().property_holds is False


def test_a_deadlock_replays():
    def worker(first, second):
        def run(locks):
            with locks[first], locks[second]:
                pass

        return run

    result = frontrun.explore(
        lambda: [threading.Lock(), threading.Lock()],
        [worker(0, 1), worker(1, 0)],
        lambda s: True,
    )
    assert [blocked.worker for blocked in result.replay().deadlock] == [0, 1]


# Showing


def deposit(account):
    increase(account, 10)


def increase(account, amount):
    account["balance"] += amount


def test_an_explanation_names_who_called_the_functions_in_it():
    result = frontrun.explore(
        lambda: {"balance": 0}, deposit, lambda a: a["balance"] == 20, count=2
    )
    heads = [line for line in result.explanation.splitlines() if "Called from" in line]
    assert heads == ["    Called from deposit"] * 3


def test_a_lambda_that_is_a_worker_is_not_named():
    result = explored(SOURCE)
    counter = counter_of(SOURCE)
    by_lambda = frontrun.explore(counter, lambda c: c.increment(), lambda c: c.value == 2, count=2)
    assert by_lambda.explanation == result.explanation


def test_an_explanation_ends_with_how_to_go_on():
    last = explored(SOURCE).explanation.splitlines()[-1]
    assert last == 'To run it again: result.replay(). To look at it: result.to_html("report.html").'


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_show_prints_the_explanation_in_colour_on_a_terminal_only(monkeypatch):
    result = explored(SOURCE)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    plain, coloured, refused = io.StringIO(), Terminal(), Terminal()
    result.show(plain)
    result.show(coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    result.show(refused)
    assert plain.getvalue() == refused.getvalue() == result.explanation + "\n"
    assert "\x1b[" in coloured.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue()) == plain.getvalue()


# Edits

SOURCE = """\
class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        temp = self.value
        self.value = temp + 1
"""


def counter_of(source, name="counter.py"):
    """The class Counter of a file with this source."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace = {"__name__": "counter"}
    exec(compile(source, name, "exec"), namespace)
    return namespace["Counter"]


def explored(source):
    counter = counter_of(source)
    return frontrun.explore(counter, counter.increment, lambda c: c.value == 2, count=2)


def replayed_after(edit):
    counter = counter_of(edit(SOURCE))
    recorded = explored(SOURCE)
    threads = [counter.increment] * 2
    # What else is in the file must not matter.
    return InterleavingResult.replay(recorded, counter, threads, lambda c: c.value == 2)


def test_lines_above_do_not_matter():
    assert replayed_after(lambda s: "import os\n\nX = 1\n\n" + s).property_holds is False


def test_steps_on_what_no_other_worker_touches_do_not_matter():
    def edit(source):
        return source.replace(
            "        temp =", "        mine = {}\n        mine['k'] = len('abc')\n        temp ="
        )

    assert replayed_after(edit).property_holds is False


@pytest.mark.parametrize(
    ("old", "new", "step", "recorded", "now"),
    [
        (
            "temp = self.value\n",
            "self.value = temp = 0\n",
            "step 1 of 4",
            "worker 0: read Counter.value in Counter.increment (counter.py:6 when recorded)",
            "worker 0: write Counter.value",
        ),
        (
            "temp = self.value\n",
            "temp = self.value\n        temp = self.value\n",
            "step 3 of 4",
            "worker 1: write Counter.value",
            "worker 1: read Counter.value in Counter.increment",
        ),
        (
            "        self.value = temp + 1\n",
            "        return\n",
            "step 3 of 4",
            "worker 1: write Counter.value",
            "worker 1: has ended",
        ),
        (
            "temp + 1\n",
            "temp + 1\n        self.value = 1\n",
            "step 4 of 4",
            "worker 0: write Counter.value",
            "",
        ),
    ],
)
def test_an_edit_inside_the_racy_function_is_refused_with_the_first_difference(
    old, new, step, recorded, now
):
    if not now:  # the additional step comes behind the last one
        step, recorded, now = "after its last step", "number 4", "write Counter.value"
    with pytest.raises(ReplayMismatchError) as refused:
        replayed_after(lambda source: source.replace(old, new))
    for text in (step, recorded, now):
        assert text in str(refused.value)


def test_a_lock_that_was_put_in_is_a_difference():
    def edit(source):
        return "import threading\nLOCK = threading.Lock()\n" + source.replace(
            textwrap.indent("temp = self.value\nself.value = temp + 1\n", " " * 8),
            textwrap.indent(
                "with LOCK:\n    temp = self.value\n    self.value = temp + 1\n", " " * 8
            ),
        )

    with pytest.raises(ReplayMismatchError, match=r"has to wait: acquire lock in Counter\.incr"):
        replayed_after(edit)


# The code that a file belongs to


def a_test():
    counter = counter_of(SOURCE)
    frontrun.explore(counter, counter.increment, lambda c: c.value == 2, count=2).assert_holds()


def test_a_file_whose_functions_cannot_be_imported_replays_through_its_test(tmp_path):
    with pytest.raises(AssertionError):
        a_test()
    try:
        a_test()
    except AssertionError as error:
        assert "Lost update" in str(error)
    counter = counter_of(SOURCE)
    result = frontrun.explore(counter, counter.increment, lambda c: c.value == 2, count=2)
    result.save(tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["threads"] == [None, None]
    content["test"]["function"] = "a_test"
    (tmp_path / "x.json").write_text(json.dumps(content))
    sys.modules.setdefault(content["test"]["module"], sys.modules[__name__])
    again = replay_file(tmp_path / "x.json")
    assert (again.property_holds, again.num_explored) == (False, 1)


def test_a_file_made_by_a_script_replays_by_running_the_script(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(
        SOURCE
        + textwrap.dedent(
            """
            import frontrun

            result = frontrun.explore(
                Counter, Counter.increment, lambda c: c.value == 2, count=2
            )
            print(result.num_explored)
            """
        )
    )
    import runpy

    result = runpy.run_path(str(script), run_name="__main__")["result"]
    result.save(tmp_path / "x.json")
    assert replay_file(tmp_path / "x.json").property_holds is False
    assert capsys.readouterr().out == "2\n1\n"


def test_only_the_exploration_that_was_recorded_is_replaced(overdrawn, tmp_path):
    overdrawn.save(tmp_path / "x.json")
    with replaying(tmp_path / "x.json") as replays:
        other = explored(SOURCE)
        again = replayed.find()
        later = replayed.find()
    assert other.num_explored == 2
    assert (again.num_explored, replays.results) == (1, [again])
    assert later.num_explored == overdrawn.num_explored
