"""Schedules of await points: by hand, at random, by Hypothesis, in any event loop."""

import asyncio
import itertools
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from random import Random

import pytest
from hypothesis import find, given, settings

from frontrun import _native
from frontrun.async_bytecode import (
    AsyncBytecodeShuffler,
    AwaitScheduler,
    await_point,
    controlled_interleaving,
    explore_interleavings,
    run_with_schedule,
    schedule_strategy,
)


class Counter:
    def __init__(self):
        self.value = 0

    async def increment(self):
        value = self.value
        await await_point()
        self.value = value + 1


BOTH = [Counter.increment, Counter.increment]


def steps(log, name, count):
    """A task that logs its name before its first and after each await point."""

    async def task():
        log.append(name)
        for _ in range(count):
            await await_point()
            log.append(name)

    return task


def run(schedule, *tasks, **options):
    scheduler = AwaitScheduler(schedule, len(tasks), **options)
    asyncio.run(AsyncBytecodeShuffler(scheduler).run(tasks))
    return scheduler


# What an entry is


def test_an_entry_lets_a_task_go_on_to_its_next_await_point():
    log = []
    run([1, 0, 0, 1], steps(log, "a", 2), steps(log, "b", 2))
    assert "".join(log) == "ab" + "baab"


def test_an_await_point_without_a_scheduler_does_nothing():
    async def alone():
        assert await await_point() is None

    asyncio.run(alone())


def test_an_await_point_in_a_task_of_a_task_does_nothing():
    log = []

    async def parent():
        await asyncio.gather(steps(log, "x", 3)())
        await await_point()
        log.append("parent")

    run([0], parent)
    assert log == ["x"] * 4 + ["parent"]


def test_a_used_up_schedule_lets_the_tasks_run_on_freely():
    log = []
    scheduler = run([1, 1], steps(log, "a", 3), steps(log, "b", 3))
    assert "".join(log[:4]) == "abbb"
    assert sorted(log) == ["a"] * 4 + ["b"] * 4
    assert scheduler.taken[:2] == [1, 1]
    assert sorted(scheduler.taken) == [0, 0, 0, 1, 1, 1]


def test_entries_of_a_task_that_has_ended_are_left_out():
    log = []
    scheduler = run([1] * 9 + [0], steps(log, "a", 1), steps(log, "b", 1))
    assert "".join(log) == "abba"
    assert scheduler.taken == [1, 0]


def test_entries_of_a_task_that_waits_for_another_one_are_left_out():
    log = []
    lock = asyncio.Lock()

    def holds(name):
        async def task():
            async with lock:
                log.append(name)
                await await_point()
                log.append(name)

        return task

    began = time.monotonic()
    # Task 1 has the turn, and waits for the lock that task 0 holds at its await point.
    scheduler = run([1, 1, 0, 1], holds("a"), holds("b"), deadlock_timeout=300)
    assert "".join(log) == "aabb"
    assert scheduler.taken == [0, 1]
    assert time.monotonic() - began < 100


def test_a_task_that_is_about_to_go_on_keeps_its_entry():
    log = []

    async def sleeps():
        for _ in range(5):
            await asyncio.sleep(0)
        await await_point()
        log.append("slept")

    run([1, 0], steps(log, "a", 1), sleeps)
    assert log == ["a", "slept", "a"]


# What goes wrong


def test_the_exception_of_a_task_is_raised_and_the_others_are_cancelled():
    ended = []

    async def fails():
        await await_point()
        raise KeyError("mine")

    async def waits():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    with pytest.raises(KeyError, match="mine"):
        run([], waits, fails)
    assert ended == [True]


def crossed(locks, order):
    """A task that takes two locks in this order, with an await point between."""

    async def task():
        async with locks[order[0]]:
            await await_point()
            async with locks[order[1]]:
                pass

    return task


def test_a_deadlock_of_asyncio_locks_is_recognised_at_once():
    locks = [asyncio.Lock(), asyncio.Lock()]
    scheduler = AwaitScheduler([1, 0], 2)
    runner = AsyncBytecodeShuffler(scheduler)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="Deadlock: every task waits for another one"):
        asyncio.run(runner.run([crossed(locks, (0, 1)), crossed(locks, (1, 0))], timeout=300))
    assert scheduler.deadlocked
    assert scheduler.had_error
    assert time.monotonic() - began < 100


def test_a_wait_that_a_timer_ends_is_no_deadlock():
    async def gives_up():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.Event().wait()

    run([0], gives_up)


def test_a_wait_that_another_task_or_thread_ends_is_no_deadlock():
    async def woken_by_task():
        event = asyncio.Event()
        reader, writer = socket.socketpair()

        async def helper():
            loop = asyncio.get_running_loop()
            reader.setblocking(False)
            await loop.sock_recv(reader, 1)
            event.set()

        task = asyncio.create_task(helper())
        thread = threading.Thread(target=lambda: (time.sleep(0.1), writer.send(b"x")))
        thread.start()
        await event.wait()
        await task
        thread.join()
        reader.close()
        writer.close()

    async def woken_by_thread():
        event = asyncio.Event()
        wake = asyncio.get_running_loop().call_soon_threadsafe
        thread = threading.Thread(target=lambda: (time.sleep(0.1), wake(event.set)))
        thread.start()
        await event.wait()
        thread.join()

    run([], woken_by_task)
    run([], woken_by_thread)


def test_a_task_that_takes_too_long_is_told():
    async def sleeps():
        await asyncio.sleep(3600)

    scheduler = AwaitScheduler([], 1)
    with pytest.raises(TimeoutError, match=r"tasks did not end within 0\.05 s"):
        asyncio.run(AsyncBytecodeShuffler(scheduler).run([sleeps], timeout=0.05))
    assert scheduler.timed_out
    assert not scheduler.deadlocked


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([0], 0), ValueError, "num_tasks must be at least 1, not 0"),
        (([0, 2], 2), ValueError, r"schedule\[1\] must be less than num_tasks=2, not 2"),
        (("01", 2), TypeError, "schedule must be a list of worker indices"),
        (([0], True), TypeError, "num_tasks must be an int, not True"),
    ],
)
def test_a_scheduler_refuses_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        AwaitScheduler(*arguments)


def test_a_shuffler_refuses_what_does_not_fit():
    runner = AsyncBytecodeShuffler(AwaitScheduler([0], 1))
    with pytest.raises(ValueError, match="funcs must be at most num_tasks=1, not 2"):
        asyncio.run(runner.run([Counter.increment, Counter.increment]))
    with pytest.raises(ValueError, match="kwargs must have one entry for each of the 1 funcs"):
        asyncio.run(runner.run([Counter.increment], kwargs=[]))
    with pytest.raises(TypeError, match=r"funcs\[0\] must be callable, not 3"):
        asyncio.run(runner.run([3]))


# The functions


def test_a_shuffler_passes_arguments():
    got = []

    async def task(a, b=0):
        await await_point()
        got.append((a, b))

    async def main():
        async with controlled_interleaving([1, 0], num_tasks=2) as runner:
            await runner.run([task, task], args=[(1,), (2,)], kwargs=[{}, {"b": 3}])

    asyncio.run(main())
    assert got == [(2, 3), (1, 0)]


def test_run_with_schedule_gives_the_state():
    assert asyncio.run(run_with_schedule([0, 1], Counter, BOTH)).value == 2
    assert asyncio.run(run_with_schedule([1, 0], Counter, BOTH)).value == 1


def test_run_with_schedule_raises_what_a_task_raises():
    async def fails(state):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(run_with_schedule([], dict, [fails]))


def test_a_task_begins_when_the_one_before_it_stops():
    async def task(log, name):
        log.append(f"{name} begins")
        await await_point()
        log.append(f"{name} ends")

    tasks = [lambda log, name=name: task(log, name) for name in "ab"]

    def order(*schedule):
        return asyncio.run(run_with_schedule(schedule, list, tasks))

    assert order(0, 1) == ["a begins", "a ends", "b begins", "b ends"]
    assert order(1, 0) == ["a begins", "b begins", "b ends", "a ends"]


# Exploring at random


def explore(*arguments, **options):
    return asyncio.run(explore_interleavings(*arguments, **options))


def test_random_schedules_find_a_lost_update_and_replay_it():
    result = explore(Counter, BOTH, lambda counter: counter.value == 2, seed=1)
    assert result.property_holds is False
    assert result.seed == 1
    assert asyncio.run(run_with_schedule(result.counterexample, Counter, BOTH)).value == 1
    assert "The invariant does not hold" in result.explanation
    assert result.explanation.count("await await_point()") == 2
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert "test_async_bytecode.py" in result.explanation


def test_a_counterexample_has_few_switches():
    class Steps(Counter):
        async def increment(self):
            for _ in range(8):
                await await_point()
            await super().increment()

    result = explore(Steps, [Steps.increment] * 3, lambda steps: steps.value == 3, seed=1)
    switches = sum(a != b for a, b in itertools.pairwise(result.counterexample))
    assert switches <= 4
    assert (
        asyncio.run(run_with_schedule(result.counterexample, Steps, [Steps.increment] * 3)).value
        < 3
    )


def test_random_schedules_pass_what_is_right():
    class Locked(Counter):
        def __init__(self):
            super().__init__()
            self.lock = asyncio.Lock()

        async def increment(self):
            async with self.lock:
                await super().increment()

    result = explore(
        Locked,
        [Locked.increment, Locked.increment],
        lambda counter: counter.value == 2,
        max_attempts=30,
    )
    assert result.property_holds is True
    assert result.num_explored == 30
    assert not result.exhaustive


def test_a_seed_draws_the_schedules_that_the_threads_have():
    seen = []

    async def task(log, name):
        await await_point()
        log.append(name)

    def remember(log):
        seen.append(log)
        return True

    tasks = [lambda log, name=name: task(log, name) for name in range(3)]
    explore(list, tasks, remember, seed=11, max_attempts=20)
    for execution, log in enumerate(seen):
        drawn = _native.random_schedule(11, execution, 3, 100)
        assert log == list(dict.fromkeys(drawn))


def test_unique_interleavings_counts_orderings():
    result = explore(Counter, BOTH, lambda counter: True, seed=1, max_attempts=50)
    assert (result.num_explored, result.unique_interleavings) == (50, 2)


def test_two_orders_are_equally_likely():
    first = []

    def remember(log):
        first.append(log[0])
        return True

    async def task(log, name):
        await await_point()
        log.append(name)

    tasks = [lambda log, name=name: task(log, name) for name in range(2)]
    explore(list, tasks, remember, seed=5, max_attempts=2000)
    assert abs(sum(first) / 2000 - 0.5) < 0.04


def test_exploring_tells_an_exception_of_a_task():
    async def fails(counter):
        await await_point()
        raise KeyError("mine")

    result = explore(Counter, [fails], lambda counter: True)
    assert result.property_holds is False
    assert isinstance(result.exception, KeyError)
    assert "KeyError" in result.explanation
    with pytest.raises(AssertionError, match="KeyError"):
        result.assert_holds()


def test_exploring_tells_a_task_that_ends_cancelled():
    async def gives_up(counter):
        await await_point()
        raise asyncio.CancelledError

    result = explore(Counter, [gives_up], lambda counter: True)
    assert result.property_holds is False
    assert isinstance(result.exception, asyncio.CancelledError)


def test_an_exploration_can_be_cancelled():
    async def sleeps(counter):
        await asyncio.sleep(60)

    async def main():
        exploration = explore_interleavings(Counter, [sleeps], lambda c: True)
        async with asyncio.timeout(0.05):
            await exploration

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_a_deadlock_tells_what_each_task_waits_in():
    async def waits(event):
        await event.wait()

    result = explore(asyncio.Event, [waits], lambda event: True)
    assert re.search(
        r"task 0 waits in Event\.wait\(\) at .*test_async_bytecode\.py:\d+", result.explanation
    )


def test_exploring_tells_a_deadlock():
    def setup():
        return [asyncio.Lock(), asyncio.Lock()]

    tasks = [lambda locks: crossed(locks, (0, 1))(), lambda locks: crossed(locks, (1, 0))()]
    result = explore(setup, tasks, lambda locks: True, timeout_per_run=300, seed=1)
    assert result.property_holds is False
    assert result.explanation.startswith("Deadlock found after")
    assert result.exception is None


def test_exploring_tells_an_invariant_that_raises():
    def invariant(counter):
        raise KeyError("mine")

    result = explore(Counter, BOTH, invariant)
    assert result.property_holds is False
    assert "The invariant raised KeyError: 'mine'" in result.explanation


def test_an_execution_that_takes_too_long_is_inconclusive():
    async def sleeps(counter):
        await asyncio.sleep(3600)

    result = explore(Counter, [sleeps], lambda counter: True, timeout_per_run=0.05)
    assert result.property_holds is None
    assert "timeout_per_run=0.05" in result.inconclusive_reason


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1, not 0"),
        ({"max_ops": -1}, ValueError, "max_ops must be at least 0, not -1"),
        ({"seed": "x"}, TypeError, "seed must be an int or None, not 'x'"),
        ({"timeout_per_run": 0}, ValueError, "timeout_per_run must be more than 0 seconds"),
        ({"tasks": []}, ValueError, "tasks must name at least one task"),
        ({"invariant": Counter.increment}, TypeError, "invariant must be an ordinary function"),
    ],
)
def test_a_bad_option_is_refused_before_anything_runs(options, error, text):
    ran = []
    arguments = {"setup": lambda: ran.append(1), "tasks": BOTH, "invariant": len, **options}
    with pytest.raises(error, match=text):
        explore(**arguments)
    assert not ran


# Hypothesis


@settings(max_examples=30, deadline=None)
@given(schedule_strategy(2, max_ops=10))
def test_drawn_schedules_are_rounds_of_all_tasks(schedule):
    assert len(schedule) <= 10
    assert all(sorted(schedule[i : i + 2]) == [0, 1] for i in range(0, len(schedule), 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_tasks must be at least 1, not 0"),
        ((2, -1), "max_ops must be at least 0, not -1"),
    ],
)
def test_a_strategy_of_schedules_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule_strategy(*arguments)


def test_hypothesis_shrinks_a_failing_schedule():
    def second_is_last(schedule):
        log = []
        run(schedule, steps(log, "a", 1), steps(log, "b", 1))
        return log[-2:] == ["b", "a"]

    found = find(
        schedule_strategy(2, max_ops=10),
        second_is_last,
        settings=settings(database=None, deadline=None),
        random=Random(1),
    )
    assert found == [1, 0]


# Other event loops


def test_it_works_under_pytest_asyncio(tmp_path):
    suite = tmp_path / "test_it.py"
    suite.write_text(
        textwrap.dedent("""
        import pytest
        from frontrun.async_bytecode import await_point, explore_interleavings, run_with_schedule


        class Counter:
            def __init__(self):
                self.value = 0

            async def increment(self):
                value = self.value
                await await_point()
                self.value = value + 1


        @pytest.mark.asyncio
        async def test_exploring():
            result = await explore_interleavings(
                Counter, [Counter.increment] * 2, lambda counter: counter.value == 2, seed=1
            )
            assert not result.property_holds


        @pytest.mark.asyncio
        async def test_a_schedule():
            state = await run_with_schedule([1, 0], Counter, [Counter.increment] * 2)
            assert state.value == 1
        """)
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in run.stdout, run.stdout + run.stderr
