"""Schedules of bytecode instructions: by hand, at random, and by Hypothesis."""

import dis
import inspect
import itertools
import queue
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import find, given, settings

import frontrun
from frontrun import _native
from frontrun._trace_format import TraceRecorder
from frontrun.bytecode import (
    BytecodeShuffler,
    OpcodeScheduler,
    controlled_interleaving,
    explore_interleavings,
    run_with_schedule,
    schedule_strategy,
)


class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        value = self.value
        self.value = value + 1


def invariant(counter):
    return counter.value == 2


BOTH = [Counter.increment, Counter.increment]


def recorded(schedule, *functions, max_ops=0):
    """(worker, opcode) of each instruction of one run."""
    recorder = TraceRecorder()
    scheduler = OpcodeScheduler(schedule, len(functions), max_ops=max_ops, trace_recorder=recorder)
    BytecodeShuffler(scheduler).run(functions)
    steps = {event.step_index: (event.thread_id, event.opcode) for event in recorder.events}
    return [steps[index] for index in sorted(steps)]


def workers_of(steps):
    return [worker for worker, _ in steps]


def instructions(function):
    """The names of a straight function's instructions, as the interpreter reports them."""
    all_of_them = [each.opname for each in dis.get_instructions(function)]
    return all_of_them[all_of_them.index("RESUME") + 1 :]


def straight():
    a = 1
    b = a
    return b


def other():
    c = 2
    d = c
    return d


# What an entry is


def test_an_entry_is_one_bytecode_instruction():
    length = len(instructions(straight))
    schedule = [0, 1] * length
    steps = recorded(schedule, straight, other)
    assert workers_of(steps) == schedule
    names = [name for worker, name in steps if worker == 0]
    assert names == instructions(straight)


def test_what_an_instruction_calls_in_the_standard_library_belongs_to_its_entry():
    def calls():
        textwrap.dedent("  a")

    steps = recorded([0, 1] * 100, calls, calls)
    assert len(steps) < 40
    assert workers_of(steps)[:8] == [0, 1] * 4


def test_a_lock_that_is_free_is_taken_within_the_entry_of_its_instruction():
    lock = threading.Lock()

    def locks():
        with lock:
            pass

    def counts_instructions():
        pass

    alone = recorded([], locks)
    shared = recorded([0] * 100 + [1] * 100, locks, counts_instructions)
    assert workers_of(shared).count(0) == len(alone)


def test_the_last_instruction_of_a_schedule_decides_what_is_lost():
    # Both read before either writes, as soon as worker 1 runs between read and write.
    outcomes = set()
    length = len(instructions(Counter.increment))
    for before in range(length + 1):
        schedule = [0] * before + [1] * length
        outcomes.add(run_with_schedule(schedule, Counter, BOTH).value)
    assert outcomes == {1, 2}
    assert run_with_schedule([0] * length, Counter, BOTH).value == 2


# What becomes of entries that cannot be followed, and after the last one


def test_entries_of_a_worker_that_has_ended_are_left_out():
    length = len(instructions(straight))
    steps = recorded([0] * (length + 50) + [1], straight, other)
    assert workers_of(steps) == [0] * length + [1] * len(instructions(other))


def test_entries_of_a_worker_that_waits_are_left_out():
    lock = threading.Lock()
    order = []

    def holds():
        with lock:
            order.append("in")
            order.append("out")

    for before in range(30):
        order.clear()
        scheduler = OpcodeScheduler([0] * before + [1] * 100 + [0] * 100, 2)
        BytecodeShuffler(scheduler).run([holds, holds])
        assert order == ["in", "out"] * 2


def test_a_waiting_worker_takes_one_entry_for_the_rest_of_its_instruction():
    lock = threading.Lock()

    def holds():
        with lock:
            pass

    alone = len(recorded([], holds))
    # Worker 0 stops inside the block; worker 1 comes to wait, and goes on once it may.
    inside = instructions(holds).index("POP_TOP")
    steps = recorded([0] * (inside + 1) + [1] * 50 + [0] * 50 + [1] * 50, holds, holds)
    assert workers_of(steps).count(0) == alone
    assert workers_of(steps).count(1) == alone + 1


def test_entries_of_workers_that_are_not_there_are_left_out():
    assert workers_of(recorded([5, 0, 5, 5], straight)) == [0] * len(instructions(straight))


def test_a_used_up_schedule_lets_the_workers_run_on_one_after_the_other():
    length = len(instructions(straight))
    assert workers_of(recorded([1, 0], straight, straight)) == (
        [1, 0] + [0] * (length - 1) + [1] * (length - 1)
    )
    assert workers_of(recorded([], straight, straight)) == [0] * length + [1] * length


def test_a_worker_that_polls_after_the_schedule_does_not_keep_the_other_from_running():
    class Flag:
        def __init__(self):
            self.up = False

    def polls(flag):
        while not flag.up:
            pass

    def raises(flag):
        flag.up = True

    assert run_with_schedule([0] * 20, Flag, [polls, raises]).up


def test_max_ops_prolongs_a_short_schedule_by_rounds_and_cuts_a_long_one():
    length = len(instructions(straight))
    assert OpcodeScheduler([1], 2, max_ops=6).schedule == [1, 0, 1, 0, 1, 0]
    assert OpcodeScheduler([1, 1, 0, 0], 2, max_ops=3).schedule == [1, 1, 0]
    assert OpcodeScheduler([1, 0], 2).schedule == [1, 0]
    prolonged = workers_of(recorded([1], straight, straight, max_ops=5))
    assert prolonged[:5] == [1, 0, 1, 0, 1]
    assert prolonged[5:] == [1] * (length - 3) + [0] * (length - 2)


def test_sleeping_takes_no_time_and_lets_others_run():
    def sleeps(order):
        time.sleep(1000)
        order.append("slept")

    def works(order):
        order.append("worked")

    before = time.monotonic()
    assert run_with_schedule([0] * 50, list, [sleeps, works]) == ["worked", "slept"]
    assert time.monotonic() - before < 500


def test_threads_that_workers_start_have_the_next_indices():
    def starts(order):
        thread = threading.Thread(target=lambda: order.append("child"))
        thread.start()
        order.append("parent")
        thread.join()

    both = {
        tuple(run_with_schedule(schedule, list, [starts]))
        for schedule in ([0] * 200, [0] * 12 + [1] * 50)
    }
    assert both >= {("parent", "child")}
    result = explore_interleavings(
        list, [starts], lambda order: order[0] == "parent", seed=1, max_attempts=500
    )
    assert not result.property_holds
    assert 1 in result.counterexample
    assert run_with_schedule(result.counterexample, list, [starts]) == ["child", "parent"]


# What goes wrong


def test_run_with_schedule_raises_what_a_worker_raises():
    def fails(state):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        run_with_schedule([0, 1], dict, [len, fails])
    assert caught.traceback[-1].name == "fails"


def test_run_with_schedule_tells_a_deadlock_at_once():
    def one(locks):
        with locks[0], locks[1]:
            pass

    def two(locks):
        with locks[1], locks[0]:
            pass

    result = explore_interleavings(
        lambda: [threading.Lock(), threading.Lock()], [one, two], lambda locks: True, seed=3
    )
    assert result.deadlock is not None
    with pytest.raises(TimeoutError, match="Circular wait: worker 0 and worker 1"):
        run_with_schedule(
            result.counterexample, lambda: [threading.Lock(), threading.Lock()], [one, two]
        )


def test_run_with_schedule_tells_a_run_that_does_not_end():
    def spins(state):
        while True:
            sum(range(10_000))

    with pytest.raises(TimeoutError, match="an execution took longer than timeout_per_run"):
        run_with_schedule([0, 1], dict, [spins, len], timeout=0.2)


@pytest.mark.parametrize(
    ("schedule", "error", "text"),
    [
        ("01", TypeError, "schedule must be a list of worker indices"),
        ([0, "1"], TypeError, r"schedule\[1\] must be the index of a worker, not '1'"),
        ([0, True], TypeError, r"schedule\[1\]"),
        ([-1], ValueError, r"schedule\[0\] must be the index of a worker \(0, 1, …\), not -1"),
    ],
)
def test_a_bad_schedule_is_refused_before_anything_runs(schedule, error, text):
    ran = []
    with pytest.raises(error, match=text):
        run_with_schedule(schedule, lambda: ran.append(1), [ran.append])
    with pytest.raises(error, match=text):
        OpcodeScheduler(schedule, 2)
    assert not ran


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_ops": -1}, ValueError, "max_ops must be at least 0, not -1"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1, not 0"),
        ({"seed": 2**63}, ValueError, "seed must be less than 2"),
        ({"max_ops": 1.5}, TypeError, "max_ops must be an int, not 1.5"),
    ],
)
def test_a_bad_option_is_refused_before_anything_runs(options, error, text):
    ran = []
    with pytest.raises(error, match=text):
        explore_interleavings(lambda: ran.append(1), [ran.append], len, **options)
    assert not ran


# Exploring at random


def test_random_schedules_find_a_lost_update_and_replay_it():
    result = explore_interleavings(Counter, BOTH, invariant, seed=5)
    assert result.property_holds is False
    assert "Lost update" in result.explanation
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert result.seed == 5
    assert not result.exhaustive
    assert run_with_schedule(result.counterexample, Counter, BOTH).value == 1


def test_random_schedules_pass_what_is_right():
    class Locked(Counter):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def increment(self):
            with self.lock:
                super().increment()

    result = explore_interleavings(
        Locked, [Locked.increment, Locked.increment], invariant, max_attempts=50, seed=5
    )
    assert result.property_holds is True
    assert result.num_explored == 50
    assert not result.exhaustive


def chacha8(seed, stream):
    """The 32-bit numbers of the documented generator, from its definition (Bernstein 2008)."""
    key = []
    for _ in range(8):  # PCG32 (O'Neill 2014) makes a key of the seed
        seed = (seed * 6364136223846793005 + 11634580027462260723) % 2**64
        word, turn = ((seed >> 18 ^ seed) >> 27) % 2**32, seed >> 59
        key.append((word >> turn | word << (32 - turn)) % 2**32)
    for block in itertools.count():
        counters = [block % 2**32, block >> 32, stream % 2**32, stream >> 32]
        start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key, *counters]
        x = list(start)
        columns = [(i, i + 4, i + 8, i + 12) for i in range(4)]
        diagonals = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
        for a, b, c, d in (columns + diagonals) * 4:
            for p, q, r, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] = (x[p] + x[q]) % 2**32
                x[r] = ((x[r] ^ x[p]) << turn | (x[r] ^ x[p]) >> (32 - turn)) % 2**32
        yield from ((each + first) % 2**32 for each, first in zip(x, start))


@pytest.mark.parametrize(
    ("seed", "execution", "workers"), [(1, 0, 2), (7, 3, 3), (2**63 - 1, 2**32 + 5, 5)]
)
def test_a_seed_draws_the_documented_schedules(seed, execution, workers):
    numbers = itertools.islice(chacha8(seed, execution), 100)
    expected = [number * workers >> 32 for number in numbers]
    assert _native.random_schedule(seed, execution, workers, 100) == expected


def test_a_schedule_starts_as_its_seed_says():
    result = frontrun.explore(
        Counter,
        BOTH,
        lambda counter: False,
        strategy="random",
        seed=1,
        max_attempts=2,
        max_ops=10,
        stop_on_first=False,
    )
    for execution, schedule in result.failures:
        assert schedule[:10] == _native.random_schedule(1, execution - 1, 2, 10)
    assert len(result.failures) == 2


def test_a_counterexample_can_be_saved_and_replayed(tmp_path):
    class Queued:
        def __init__(self):
            self.queue = queue.Queue()
            self.value = 0

        def work(self):
            self.queue.put(1)
            value = self.value
            self.queue.get()
            self.value = value + 1

    def is_two(queued):
        return queued.value == 2

    result = explore_interleavings(Queued, [Queued.work] * 2, is_two, seed=1)
    assert result.property_holds is False
    assert result.replay().property_holds is False
    result.save(tmp_path / "found.json")
    loaded = frontrun.InterleavingResult.load(tmp_path / "found.json")
    assert loaded.replay(Queued, [Queued.work] * 2, is_two).property_holds is False


def test_a_counterexample_is_minimised_to_one_preemption():
    result = explore_interleavings(Counter, BOTH, invariant, seed=1)
    switches = sum(a != b for a, b in itertools.pairwise(result.counterexample))
    assert switches == 2


def test_every_worker_is_drawn_equally_often():
    drawn = [
        worker
        for execution in range(100)
        for worker in _native.random_schedule(9, execution, 3, 300)
    ]
    for worker in range(3):
        assert abs(drawn.count(worker) / len(drawn) - 1 / 3) < 0.01


def test_one_instruction_against_one_comes_first_half_of_the_time():
    # A worker alone in its first instruction: the chance that the other is before is 1/2.
    def first(order):
        order.append(0)

    def second(order):
        order.append(1)

    result = explore_interleavings(
        list,
        [first, second],
        lambda order: order == [0, 1],
        seed=2,
        max_attempts=4000,
        total_timeout=60,
    )
    assert not result.property_holds
    counts = frontrun.explore(
        list,
        [first, second],
        lambda order: order == [0, 1],
        strategy="random",
        seed=2,
        max_attempts=4000,
        stop_on_first=False,
    )
    assert abs(len(counts.failures) / 4000 - 0.5) < 0.04


def test_unique_interleavings_counts_the_orderings_that_differ_in_what_touches_state():
    result = explore_interleavings(Counter, BOTH, lambda counter: True, seed=1, max_attempts=500)
    # Two reads and writes of each: (4 over 2) orders; of instructions there are far more.
    assert result.unique_interleavings == 6


def test_explore_takes_random_as_a_strategy():
    result = frontrun.explore(
        Counter, Counter.increment, invariant, count=2, strategy="random", seed=5, max_ops=30
    )
    assert result.property_holds is False
    result = frontrun.explore_random(Counter, BOTH, invariant, strategy="random", seed=5)
    assert result.property_holds is False
    with pytest.raises(TypeError, match="strategy 'walk' has no option 'max_ops'"):
        frontrun.explore(Counter, BOTH, invariant, strategy="walk", max_ops=3)


def test_without_entries_the_workers_run_one_after_the_other():
    result = explore_interleavings(Counter, BOTH, invariant, max_ops=0, max_attempts=20)
    assert result.property_holds is True
    assert result.unique_interleavings == 1


def test_debug_says_what_ran(capsys):
    explore_interleavings(Counter, BOTH, lambda c: True, seed=4, max_attempts=3, debug=True)
    assert capsys.readouterr().err.startswith("frontrun: 3 schedules of seed 4, ")
    run_with_schedule([], Counter, [Counter.increment], debug=True)
    assert "worker 0" in capsys.readouterr().err


def test_instructions_that_another_exploration_had_switched_off_are_seen():
    frontrun.explore(Counter, Counter.increment, invariant, count=2)
    length = len(instructions(Counter.increment))
    run = recorded([], *(lambda c=c: c.increment() for c in [Counter()]))
    assert len(run) > length
    assert frontrun.explore(Counter, Counter.increment, invariant, count=2).num_explored == 2


# The classes


def test_a_shuffler_passes_arguments():
    got = []

    def worker(a, b=0):
        got.append((a, b))

    with controlled_interleaving([0, 1], num_threads=2) as runner:
        runner.run([worker, worker], args=[(1,), (2,)], kwargs=[{}, {"b": 3}])
    assert sorted(got) == [(1, 0), (2, 3)]


def test_a_shuffler_reports_and_raises_a_worker_s_error():
    def fails():
        raise KeyError("mine")

    scheduler = OpcodeScheduler([0, 1], 2)
    with pytest.raises(KeyError):
        BytecodeShuffler(scheduler).run([straight, fails])
    assert scheduler.had_error
    assert isinstance(scheduler.error, KeyError)


def test_a_shuffler_refuses_what_does_not_fit():
    runner = BytecodeShuffler(OpcodeScheduler([0], 1))
    with pytest.raises(ValueError, match="funcs must be at most num_threads=1, not 2"):
        runner.run([straight, straight])
    with pytest.raises(ValueError, match="args must have one entry for each of the 1 funcs"):
        runner.run([straight], args=[])
    with pytest.raises(TypeError, match="funcs must be callable, not 3"):
        runner.run([3])


def test_the_recorder_is_given_what_each_instruction_accessed():
    recorder = TraceRecorder()
    counter = Counter()
    scheduler = OpcodeScheduler([0] * 100, 1, trace_recorder=recorder)
    BytecodeShuffler(scheduler).run([Counter.increment], args=[(counter,)])
    touched = [e for e in recorder.events if e.access_type]
    assert [(e.access_type, e.obj_type_name, e.attr_name, e.value) for e in touched] == [
        ("read", "Counter", "value", "0"),
        ("write", "Counter", "value", "1"),
    ]
    assert {e.function_name for e in recorder.events} == {"Counter.increment"}
    assert len(recorder.events) == len(instructions(Counter.increment))


def test_a_recorder_that_is_switched_off_stays_empty():
    recorder = TraceRecorder(enabled=False)
    BytecodeShuffler(OpcodeScheduler([], 1, trace_recorder=recorder)).run([straight])
    assert recorder.events == []


def follow(scheduler, pause=0.0):
    """The workers of two threads that nobody traces, in the order of their turns."""
    order = []

    def worker(me):
        while scheduler.wait_for_turn(me):
            time.sleep(pause)
            order.append(me)
        scheduler.mark_done(me)

    threads = [threading.Thread(target=worker, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return order


def test_threads_that_nobody_traces_can_follow_a_schedule():
    scheduler = OpcodeScheduler([1, 0, 0, 1, 0], 2)
    assert follow(scheduler) == [1, 0, 0, 1, 0]
    assert not scheduler.had_error


def test_a_thread_has_the_turn_until_it_asks_for_the_next_one():
    # Long enough for the other one to come.
    assert follow(OpcodeScheduler([1, 0] * 5, 2), pause=0.002) == [1, 0] * 5


def test_a_turn_that_does_not_end_is_given_up():
    scheduler = OpcodeScheduler([0, 1], 2, deadlock_timeout=0.05)
    assert scheduler.wait_for_turn(0) is True
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(scheduler.wait_for_turn, 1).result() is False
    assert "worker 0 kept its turn for 0.05 s" in str(scheduler.error)


def test_one_thread_can_play_several_workers():
    scheduler = OpcodeScheduler([0, 1, 0], 2)
    assert [scheduler.wait_for_turn(me) for me in (0, 1, 0, 1)] == [True, True, True, False]


def test_entries_of_a_thread_that_is_done_are_left_out():
    scheduler = OpcodeScheduler([1, 0, 1, 0], 2)
    scheduler.mark_done(1)
    assert [scheduler.wait_for_turn(0) for _ in range(3)] == [True, True, False]


def test_a_thread_that_does_not_come_is_given_up():
    scheduler = OpcodeScheduler([1, 0], 2, deadlock_timeout=0.05)
    assert scheduler.wait_for_turn(0) is False
    assert scheduler.had_error
    assert "worker 1 did not come for entry 0 of the schedule" in str(scheduler.error)


def test_a_reported_error_lets_everybody_run_on():
    scheduler = OpcodeScheduler([1, 0], 2)
    scheduler.report_error(KeyError("first"))
    scheduler.report_error(KeyError("second"))
    assert scheduler.wait_for_turn(0) is False
    assert scheduler.error.args == ("first",)


def test_a_worker_can_ask_for_an_entry_without_an_instruction():
    scheduler = OpcodeScheduler([0] * 8 + [1] * 100, 2)
    left = []

    def asks():
        left.append(scheduler.wait_for_turn(0))

    BytecodeShuffler(scheduler).run([asks, other])
    assert len(left) == 1
    scheduler = OpcodeScheduler([], 1)
    BytecodeShuffler(scheduler).run([asks])
    assert left[1] is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_threads": 0}, "num_threads must be at least 1, not 0"),
        ({"num_threads": 2, "max_ops": -1}, "max_ops must be at least 0, not -1"),
        ({"num_threads": 2, "deadlock_timeout": 0}, "deadlock_timeout must be more than 0"),
    ],
)
def test_a_scheduler_refuses_bad_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        OpcodeScheduler([0], **arguments)


def test_signatures_are_those_of_the_older_library():
    def parameters(function):
        return {
            name: each.default
            for name, each in inspect.signature(function).parameters.items()
            if each.kind is not each.KEYWORD_ONLY
        }

    needed = inspect.Parameter.empty
    assert parameters(explore_interleavings) == {
        "setup": needed,
        "threads": needed,
        "invariant": needed,
        "max_attempts": 200,
        "max_ops": 300,
        "timeout_per_run": 5.0,
        "seed": None,
        "debug": False,
        "detect_io": True,
        "deadlock_timeout": 5.0,
        "reproduce_on_failure": 10,
        "total_timeout": None,
    }
    assert parameters(run_with_schedule) == {
        "schedule": needed,
        "setup": needed,
        "threads": needed,
        "timeout": 5.0,
        "debug": False,
        "detect_io": True,
        "deadlock_timeout": 5.0,
    }
    assert parameters(schedule_strategy) == {"num_threads": needed, "max_ops": 300}
    assert parameters(controlled_interleaving) == {"schedule": needed, "num_threads": 2}
    assert parameters(BytecodeShuffler) == {"scheduler": needed, "detect_io": True}
    assert parameters(OpcodeScheduler) == {"schedule": needed, "num_threads": needed}
    assert list(parameters(BytecodeShuffler.run).items())[1:] == [
        ("funcs", needed),
        ("args", None),
        ("kwargs", None),
        ("timeout", 10.0),
    ]


# Hypothesis


@settings(max_examples=50, deadline=None)
@given(schedule_strategy(3, max_ops=30))
def test_drawn_schedules_are_rounds_of_all_workers(schedule):
    assert len(schedule) <= 30
    for start in range(0, len(schedule), 3):
        assert sorted(schedule[start : start + 3]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_threads must be at least 1, not 0"),
        ((2, -1), "max_ops must be at least 0, not -1"),
    ],
)
def test_a_strategy_of_schedules_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule_strategy(*arguments)


def test_hypothesis_shrinks_a_failing_schedule():
    def loses(schedule):
        return run_with_schedule(schedule, Counter, BOTH).value == 1

    smallest = find(schedule_strategy(2, max_ops=60), loses)
    assert loses(smallest)
    # Nothing is left to leave out: without its last round nothing is lost.
    assert not loses(smallest[:-2])
    assert smallest == [0, 1] * (len(smallest) // 2)


def test_without_hypothesis_the_strategy_says_what_to_install():
    code = """
    import sys
    sys.modules["hypothesis"] = None
    import frontrun.bytecode as bytecode
    try:
        bytecode.schedule_strategy(2)
    except ImportError as error:
        print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "strategies of schedules need Hypothesis: pip install hypothesis\n"
    assert run.stderr == ""
