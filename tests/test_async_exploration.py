"""`frontrun.explore` with async workers: the interleavings of tasks at their suspensions."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import os
import random
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import frontrun
from frontrun import InterleavingResult


class State:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def explore(
    setup: Callable[[], Any],
    workers: Any,
    invariant: Callable[[Any], object] = lambda state: True,
    **options: Any,
) -> InterleavingResult:
    return asyncio.run(frontrun.explore(setup, workers, invariant, **options))


def counter() -> State:
    return State(value=0, lock=asyncio.Lock())


async def add(state: State) -> None:
    value = state.value
    await asyncio.sleep(0)
    state.value = value + 1


async def add_locked(state: State) -> None:
    async with state.lock:
        value = state.value
        await asyncio.sleep(0)
        state.value = value + 1


# What is found


def test_a_lost_update_across_an_await_is_found_and_explained() -> None:
    result = explore(counter, add, lambda state: state.value == 2, count=2)
    assert not result.property_holds
    assert result.explanation is not None
    assert "Lost update: worker 0 and worker 1 both read State.value" in result.explanation
    assert "value = state.value" in result.explanation
    assert "state.value = value + 1" in result.explanation
    assert result.reproduction_successes == result.reproduction_attempts == 10
    assert result.races


def test_a_lock_over_the_await_keeps_the_update() -> None:
    result = explore(counter, add_locked, lambda state: state.value == 2, count=2)
    assert result.property_holds
    assert result.exhaustive


def test_steps_between_suspensions_are_atomic() -> None:
    async def add_at_once(state: State) -> None:
        state.value += 1
        await asyncio.sleep(0)
        state.value += 1

    result = explore(counter, add_at_once, lambda state: state.value == 6, count=3)
    assert result.property_holds
    assert result.exhaustive


def test_locks_taken_in_opposite_order_deadlock() -> None:
    async def both(state: State, first: str, second: str) -> None:
        async with getattr(state, first):
            await asyncio.sleep(0)
            async with getattr(state, second):
                pass

    result = explore(
        lambda: State(a=asyncio.Lock(), b=asyncio.Lock()),
        [
            functools.partial(both, first="a", second="b"),
            functools.partial(both, first="b", second="a"),
        ],
    )
    assert not result.property_holds
    assert result.deadlock is not None
    assert [blocked.worker for blocked in result.deadlock] == [0, 1]
    assert result.explanation is not None
    assert "Circular wait: worker 0 and worker 1 each wait for the other." in result.explanation
    assert "worker 0 holds Lock #1, waits for Lock #2 (held by worker 1)" in result.explanation


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        (lambda s: s.event.wait(), "waits for Event.wait()"),
        (lambda s: s.queue.get(), "waits for Queue.get()"),
        (lambda s: s.semaphore.acquire(), "waits for Semaphore.acquire()"),
        (lambda s: asyncio.get_running_loop().create_future(), "a future that nobody completes"),
    ],
)
def test_a_wait_without_end_tells_what_is_awaited(
    wait: Callable[[State], Awaitable[object]], told: str
) -> None:
    async def waiter(state: State) -> None:
        await wait(state)

    async def other(state: State) -> None:
        await asyncio.sleep(5)

    result = explore(
        lambda: State(event=asyncio.Event(), queue=asyncio.Queue(), semaphore=asyncio.Semaphore(0)),
        [waiter, other],
    )
    assert result.deadlock is not None
    assert result.explanation is not None
    assert f"worker 0 {told}" in result.explanation or told in result.explanation
    assert "await wait(state)" in result.explanation


def test_a_task_that_waits_for_a_stuck_one_names_it() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def parent(state: State) -> None:
        await asyncio.create_task(never())

    result = explore(State, [parent])
    assert result.deadlock is not None
    assert "worker 0 waits for the end of task" in (result.explanation or "")
    assert "never" in (result.explanation or "")


def test_a_lock_of_threading_held_over_an_await_blocks_the_whole_loop() -> None:
    import threading

    async def hold(state: State) -> None:
        with state.lock:
            await asyncio.sleep(0)

    result = explore(lambda: State(lock=threading.Lock()), hold, count=2)
    assert result.deadlock is not None
    assert result.reproduction_successes == 10
    assert "worker 1 waits for" in (result.explanation or "")
    assert "held by worker 0)" in (result.explanation or "")
    assert "worker 0 waits for its turn" in (result.explanation or "")


def test_a_worker_that_raises_is_a_failure() -> None:
    async def check(state: State) -> None:
        assert state.value < 2

    result = explore(counter, [add, add, check])
    assert not result.property_holds
    assert isinstance(result.exception, AssertionError)
    assert "Exception in worker 2: AssertionError" in (result.explanation or "")


def test_an_exception_that_nobody_retrieves_is_a_failure() -> None:
    async def broken() -> None:
        raise ValueError("lost")

    async def starter(state: State) -> None:
        state.task = asyncio.create_task(broken())

    result = explore(State, [starter])
    assert not result.property_holds
    assert isinstance(result.exception, ValueError)
    assert "broken: ValueError: lost" in (result.explanation or "")


def test_an_exception_in_a_callback_is_a_failure() -> None:
    async def starter(state: State) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)

    result = explore(State, [starter])
    assert isinstance(result.exception, ZeroDivisionError)


# How many interleavings there are


@pytest.mark.parametrize(
    ("worker", "count", "expected"),
    [(add, 1, 1), (add, 2, 4), (add, 3, 36), (add_locked, 2, 4), (add_locked, 3, 36)],
)
def test_counts_are_known(
    worker: Callable[[State], Awaitable[None]], count: int, expected: int
) -> None:
    result = explore(counter, worker, count=count)
    assert result.exhaustive
    assert result.num_explored == result.unique_interleavings == expected


def test_tasks_that_share_nothing_have_one_interleaving() -> None:
    async def own(state: State, name: str) -> None:
        for _ in range(3):
            setattr(state, name, getattr(state, name) + 1)
            await asyncio.sleep(0)

    workers = [functools.partial(own, name=name) for name in "abc"]
    result = explore(lambda: State(a=0, b=0, c=0), workers)
    assert result.exhaustive
    assert result.num_explored == 1


Block = tuple[tuple[str, str], ...]  # (variable, what is done to it), …


def traces(program: list[list[Block]]) -> int:
    """Brute force: all orders of blocks, up to swapping those that do not conflict."""
    steps = [worker for worker, blocks in enumerate(program) for _ in blocks]
    found = set()
    for order in set(itertools.permutations(steps)):
        position = [0] * len(program)
        orders = {}
        seen: list[tuple[int, int]] = []
        for worker in order:
            event = (worker, position[worker])
            position[worker] += 1
            for other in seen:
                mine, theirs = program[worker][event[1]], program[other[0]][other[1]]
                if other[0] != worker and any(
                    a == b and "write" in (x, y) for a, x in mine for b, y in theirs
                ):
                    orders[other, event] = True
            seen.append(event)
        found.add(frozenset(orders))
    return len(found)


@pytest.mark.parametrize("seed", range(12))
def test_every_trace_of_a_random_program_is_explored(seed: int) -> None:
    dice = random.Random(seed)

    def block() -> Block:
        names = dice.sample("xyz", dice.randint(1, 2))
        return tuple((name, dice.choice(["read", "write"])) for name in names)

    program = [[block() for _ in range(dice.randint(1, 3))] for _ in range(3)]

    async def run(state: State, blocks: list[Block]) -> None:
        for number, accesses in enumerate(blocks):
            for name, kind in accesses:
                if kind == "read":
                    getattr(state, name)
                else:
                    setattr(state, name, number)
            if number + 1 < len(blocks):
                await asyncio.sleep(0)

    workers = [functools.partial(run, blocks=blocks) for blocks in program]
    result = explore(lambda: State(x=0, y=0, z=0), workers, max_executions=20_000)
    assert result.exhaustive
    assert result.unique_interleavings == traces(program)
    assert result.num_explored <= 2 * result.unique_interleavings


def test_all_final_states_of_brute_force_are_reached() -> None:
    async def double(state: State) -> None:
        value = state.value
        await asyncio.sleep(0)
        state.value = value * 2
        await asyncio.sleep(0)
        state.value += 3

    def brute() -> set[int]:
        finals = set()
        for order in set(itertools.permutations([0] * 3 + [1] * 3)):
            state = State(value=1)
            runs = [double(state), double(state)]
            for worker in order:
                try:
                    runs[worker].send(None)
                except StopIteration:
                    pass
            finals.add(state.value)
        return finals

    reached = set()

    def note(state: State) -> bool:
        reached.add(state.value)
        return True

    assert explore(lambda: State(value=1), double, note, count=2).exhaustive
    assert reached == brute()


# What asyncio promises is kept


def test_callbacks_run_in_the_order_in_which_they_were_registered() -> None:
    async def worker(state: State) -> None:
        loop = asyncio.get_running_loop()
        for number in range(3):
            loop.call_soon(state.log.append, number)
        await asyncio.sleep(0)
        state.log.append("after")

    result = explore(
        lambda: State(log=[]), [worker, add_nothing], lambda s: s.log == [0, 1, 2, "after"]
    )
    assert result.property_holds
    assert result.exhaustive


async def add_nothing(state: State) -> None:
    await asyncio.sleep(0)


def test_a_created_task_begins_before_its_creator_goes_on_after_sleeping() -> None:
    async def child(state: State) -> None:
        state.begun = True

    async def parent(state: State) -> None:
        task = asyncio.create_task(child(state))
        await asyncio.sleep(0)
        assert state.begun
        await task

    result = explore(lambda: State(begun=False), [parent, add_nothing])
    assert result.property_holds
    assert result.exhaustive


def test_waiters_of_a_lock_are_served_in_order() -> None:
    async def waiter(state: State, name: int) -> None:
        state.asked.append(name)
        async with state.lock:
            state.served.append(name)
            await asyncio.sleep(0)

    workers = [functools.partial(waiter, name=name) for name in range(3)]
    result = explore(
        lambda: State(lock=asyncio.Lock(), asked=[], served=[]),
        workers,
        lambda state: state.asked == state.served,
    )
    assert result.property_holds
    assert result.exhaustive


# asyncio's primitives work unchanged


def test_a_queue_hands_everything_over_in_order() -> None:
    async def producer(state: State) -> None:
        for item in range(3):
            await state.queue.put(item)

    async def consumer(state: State) -> None:
        for _ in range(3):
            state.got.append(await state.queue.get())
            state.queue.task_done()

    for kind in (asyncio.Queue, asyncio.PriorityQueue):
        result = explore(
            lambda kind=kind: State(queue=kind(1), got=[]),
            [producer, consumer],
            lambda state: state.got == [0, 1, 2],
        )
        assert result.property_holds
        assert result.exhaustive


def test_two_consumers_may_share_a_queue_either_way() -> None:
    seen = set()

    async def producer(state: State) -> None:
        for item in range(2):
            await state.queue.put(item)

    async def consumer(state: State, name: str) -> None:
        state.got[name] = await state.queue.get()

    def note(state: State) -> bool:
        seen.add((state.got["a"], state.got["b"]))
        return True

    workers = [producer, *(functools.partial(consumer, name=name) for name in "ab")]
    assert explore(lambda: State(queue=asyncio.Queue(), got={}), workers, note).exhaustive
    assert seen == {(0, 1), (1, 0)}


def test_a_task_group_schedules_its_children() -> None:
    async def group(state: State) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(add(state))
            tasks.create_task(add(state))

    result = explore(counter, [group], lambda state: state.value == 2)
    assert not result.property_holds
    assert "task add 1 and task add 2 both read State.value" in (result.explanation or "")


def test_gather_wait_and_as_completed_see_every_order() -> None:
    async def gathered(state: State) -> None:
        await asyncio.gather(add(state), add(state))

    async def waited(state: State) -> None:
        done, pending = await asyncio.wait([asyncio.create_task(add(state)) for _ in range(2)])
        assert len(done) == 2 and not pending

    async def completed(state: State) -> None:
        for next_one in asyncio.as_completed([add(state), add(state)]):
            await next_one

    for worker in (gathered, waited, completed):
        reached = set()

        def note(state: State, reached: set[int] = reached) -> bool:
            reached.add(state.value)
            return True

        result = explore(counter, [worker], note)
        assert result.exhaustive, result.inconclusive_reason
        assert reached == {1, 2}


def test_event_condition_semaphore_and_barrier() -> None:
    async def setter(state: State) -> None:
        state.ready = True
        state.event.set()
        async with state.condition:
            state.condition.notify_all()
        async with state.semaphore:
            state.inside += 1
            assert state.inside == 1
            await asyncio.sleep(0)
            state.inside -= 1
        await state.barrier.wait()

    async def waiter(state: State) -> None:
        await state.event.wait()
        async with state.condition:
            await state.condition.wait_for(lambda: state.ready)
        async with state.semaphore:
            state.inside += 1
            assert state.inside == 1
            await asyncio.sleep(0)
            state.inside -= 1
        await state.barrier.wait()

    result = explore(
        lambda: State(
            ready=False,
            inside=0,
            event=asyncio.Event(),
            condition=asyncio.Condition(),
            semaphore=asyncio.BoundedSemaphore(1),
            barrier=asyncio.Barrier(2),
        ),
        [setter, waiter],
        lambda state: state.inside == 0,
    )
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_timeouts_run_on_virtual_time() -> None:
    async def worker(state: State) -> None:
        loop = asyncio.get_running_loop()
        began, clock = loop.time(), time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        state.passed = round(loop.time() - began, 2), round(time.monotonic() - clock, 2)

    result = explore(State, [worker], lambda state: state.passed == (120.0, 120.0))
    assert result.property_holds, result.explanation


def test_timers_that_are_due_together_come_in_any_order() -> None:
    finals = set()

    async def sleeper(state: State, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        state.last = name

    def note(state: State) -> bool:
        finals.add(state.last)
        return True

    alike = [functools.partial(sleeper, name=name, seconds=1) for name in "ab"]
    assert explore(State, alike, note).num_explored == 2
    assert finals == {"a", "b"}
    finals.clear()
    apart = [functools.partial(sleeper, name=n, seconds=s) for n, s in (("a", 1), ("b", 2))]
    assert explore(State, apart, note).num_explored == 1
    assert finals == {"b"}


def test_a_timeout_may_strike_when_the_lock_was_just_handed_over() -> None:
    outcomes = set()

    async def holder(state: State) -> None:
        async with state.lock:
            await asyncio.sleep(1)

    async def waiter(state: State) -> None:
        try:
            async with asyncio.timeout(1):
                async with state.lock:
                    state.outcome = "in time"
        except TimeoutError:
            state.outcome = "late"

    def note(state: State) -> bool:
        outcomes.add(getattr(state, "outcome", None))
        return not state.lock.locked()

    result = explore(lambda: State(lock=asyncio.Lock()), [holder, waiter], note)
    assert result.property_holds, result.explanation
    assert outcomes == {"in time", "late"}


def test_cancellation_reaches_a_task_at_every_suspension() -> None:
    stages = set()

    async def victim(state: State) -> None:
        state.victim = asyncio.current_task()
        state.known.set()
        try:
            for stage in range(3):
                state.stage = stage
                await asyncio.sleep(0)
        finally:
            stages.add(state.stage)

    async def canceller(state: State) -> None:
        await state.known.wait()
        state.victim.cancel()

    result = explore(lambda: State(known=asyncio.Event()), [victim, canceller])
    assert result.property_holds, result.explanation
    assert result.exhaustive
    assert stages == {0, 1, 2}


def test_shield_futures_and_executors() -> None:
    async def worker(state: State) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(1, future.set_result, "timer")
        assert await future == "timer"
        assert await asyncio.shield(asyncio.create_task(asyncio.sleep(1, "shielded"))) == "shielded"
        assert await asyncio.to_thread(lambda: 5) == 5
        assert await loop.run_in_executor(None, max, 3, 4) == 4

    result = explore(State, [worker, worker])
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_async_generators_and_context_managers() -> None:
    import contextlib

    async def numbers(state: State) -> Any:
        try:
            for number in range(2):
                await asyncio.sleep(0)
                yield number
        finally:
            state.closed += 1

    @contextlib.asynccontextmanager
    async def held(state: State) -> Any:
        await state.lock.acquire()
        try:
            yield
        finally:
            state.lock.release()

    async def worker(state: State) -> None:
        async with held(state):
            state.seen.append([number async for number in numbers(state)])

    result = explore(
        lambda: State(lock=asyncio.Lock(), closed=0, seen=[]),
        [worker, worker],
        lambda state: state.closed == 2 and state.seen == [[0, 1]] * 2,
    )
    assert result.property_holds, result.explanation


def test_each_task_has_its_own_context_and_sees_the_callers() -> None:
    variable = contextvars.ContextVar("variable", default="default")

    async def worker(state: State) -> None:
        assert variable.get() == "callers"
        variable.set("own")
        await asyncio.sleep(0)
        assert variable.get() == "own"

    async def test() -> InterleavingResult:
        variable.set("callers")
        return await frontrun.explore(State, worker, lambda state: True, count=2)

    result = asyncio.run(test())
    assert result.property_holds, result.explanation


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_begin_within_the_step_that_makes_them() -> None:
    async def child(state: State) -> None:
        state.order.append("child")
        await asyncio.sleep(0)

    async def worker(state: State) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child(state))
        state.order.append("parent")
        await task

    result = explore(
        lambda: State(order=[]), [worker], lambda state: state.order == ["child", "parent"]
    )
    assert result.property_holds, result.explanation


def test_tasks_written_in_python_are_scheduled_too() -> None:
    python_task = asyncio.tasks._PyTask  # type: ignore[attr-defined]

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        return python_task(coro, loop=loop, **options)

    async def group(state: State) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await asyncio.gather(add(state), add(state))

    result = explore(counter, [group], lambda state: state.value == 2)
    assert not result.property_holds
    assert "Lost update" in (result.explanation or "")


# How it is called


def test_setup_and_invariant_may_be_async() -> None:
    async def setup() -> State:
        await asyncio.sleep(1)
        return counter()

    async def invariant(state: State) -> bool:
        async with state.lock:
            await asyncio.sleep(1)
            return bool(state.value == 2)

    assert explore(setup, add_locked, invariant, count=2).property_holds
    assert not explore(setup, add, invariant, count=2).property_holds


def test_a_task_that_setup_leaves_running_is_scheduled() -> None:
    async def setup() -> State:
        state = State(queue=asyncio.Queue(), total=0)

        async def server() -> None:
            while True:
                item = await state.queue.get()
                state.total += item
                state.queue.task_done()

        state.server = asyncio.create_task(server())
        await asyncio.sleep(0)
        return state

    async def client(state: State) -> None:
        await state.queue.put(1)
        await state.queue.join()

    result = explore(setup, client, lambda state: state.total == 2, count=2)
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_what_is_left_is_cancelled_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    ended = []

    async def background(state: State) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(state)

    async def worker(state: State) -> None:
        state.task = asyncio.create_task(background(state))
        await asyncio.sleep(0)

    assert explore(State, [worker]).property_holds
    assert ended
    assert capsys.readouterr().err == ""


def test_the_callers_loop_goes_on_afterwards() -> None:
    async def test() -> str:
        task = asyncio.create_task(asyncio.sleep(0.01, "done"))
        await frontrun.explore(counter, add, lambda state: True, count=2)
        assert asyncio.current_task() is not None
        return await task

    assert asyncio.run(test()) == "done"


@pytest.mark.parametrize("strategy", ["walk", "pct", "pos", "surw"])
def test_strategies_sample_with_a_seed(strategy: str) -> None:
    def sample(seed: int) -> list[int] | None:
        result = explore(
            counter, add, lambda s: s.value == 3, count=3, strategy=strategy, seed=seed
        )
        assert not result.property_holds
        return result.counterexample

    assert sample(7) == sample(7)


def test_limits_end_the_search() -> None:
    result = explore(counter, add, count=3, max_executions=5)
    assert result.num_explored == 5
    assert result.property_holds
    assert not result.exhaustive


@pytest.mark.filterwarnings("error")
def test_executions_that_are_cut_off_leave_nothing_behind() -> None:
    ended = []

    async def busy(state: State) -> None:
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            ended.append(state)

    explore(State, [busy, add], max_branches=20)
    gc.collect()
    assert ended


def test_tasks_take_turns_at_the_same_points_with_a_gil() -> None:
    result = explore(counter, add, lambda state: state.value == 2, count=2, granularity="gil")
    assert (result.property_holds, result.reachable) == (False, "gil")
    assert explore(counter, add_locked, count=2, granularity="gil").exhaustive


# Counterexamples


def lost_update(*workers: Any) -> InterleavingResult:
    return explore(counter, workers, lambda state: state.value == len(workers))


def test_a_counterexample_replays_with_a_running_loop_and_without() -> None:
    result = lost_update(add, add)
    assert result.replay().counterexample == result.counterexample

    async def replay() -> InterleavingResult:
        return result.replay()

    assert asyncio.run(replay()).property_holds is False


def test_a_deadlock_an_exception_and_a_timeout_replay() -> None:
    async def take(state: State, first: str, second: str) -> None:
        async with getattr(state, first):
            await asyncio.sleep(0)
            async with getattr(state, second):
                pass

    def locks() -> State:
        return State(a=asyncio.Lock(), b=asyncio.Lock())

    forwards = functools.partial(take, first="a", second="b")
    backwards = functools.partial(take, first="b", second="a")
    assert explore(locks, [forwards, backwards]).replay().deadlock is not None

    async def first_only(state: State) -> None:
        state.value += 1
        await asyncio.sleep(0)
        if state.value > 1:
            raise LookupError

    assert isinstance(explore(counter, first_only, count=2).replay().exception, LookupError)

    async def impatient(state: State) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await state.event.wait()
                state.value = 1

    async def late(state: State) -> None:
        await asyncio.sleep(1)
        state.event.set()

    def state() -> State:
        return State(event=asyncio.Event(), value=0)

    for outcome in (0, 1):
        result = explore(state, [impatient, late], lambda s, bad=outcome: s.value != bad)
        assert result.replay().property_holds is False


def test_as_completed_makes_tasks_in_the_order_of_its_coroutines() -> None:
    async def named(state: State, name: int) -> int:
        state.seen.append(name)
        return name

    async def worker(state: State) -> None:
        # What lies between them in memory shuffles their addresses.
        coroutines = []
        for name in range(8):
            coroutines.append(named(state, name))
            state.kept.append(bytearray(random.randrange(2000)))
        for earliest in asyncio.as_completed(coroutines):
            await earliest

    def setup() -> State:
        return State(seen=[], kept=[])

    result = explore(
        setup, worker, lambda s: s.seen == list(range(8)), count=1, strategy="walk", max_attempts=20
    )
    assert result.property_holds is True, result.explanation
    assert "set" not in vars(asyncio.tasks)


async def by_timeout(state: State) -> None:
    async with asyncio.timeout(1.5):
        await state.queue.get()


async def by_wait_for(state: State) -> None:
    await asyncio.wait_for(state.queue.get(), 1.5)


async def by_wait(state: State) -> None:
    waiting = asyncio.ensure_future(state.queue.get())
    _, pending = await asyncio.wait([waiting], timeout=1.5)
    if pending:
        raise TimeoutError


@pytest.mark.parametrize("patient", [by_timeout, by_wait_for, by_wait])
def test_a_timeout_that_decides_is_told_in_the_words_of_the_program(
    patient: Callable[[State], Awaitable[None]],
) -> None:
    async def consumer(state: State) -> None:
        await patient(state)

    async def producer(state: State) -> None:
        await asyncio.sleep(1.5)
        state.queue.put_nowait(1)

    result = explore(lambda: State(queue=asyncio.Queue()), [consumer, producer], lambda s: True)
    assert isinstance(result.exception, TimeoutError)
    text = " ".join(result.explanation.split())
    assert re.search(
        r"The timeout of 1\.5 s that worker 0 set at \S*test_async_exploration\.py:\d+ expired",
        text,
    )
    assert re.search(r"the timeout of worker 0 in by_\w+ .{40,120} \[expires after 1\.5 s\]", text)
    for internal in ("_timeout_handler", "_on_timeout", "_release_waiter", "deque", "Future"):
        assert internal not in text


def test_a_timeout_is_told_beside_the_state_that_it_lets_collide() -> None:
    async def hasty(state: State) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        state.value = 0

    async def other(state: State) -> None:
        await asyncio.sleep(1)
        state.value = 1

    result = explore(counter, [hasty, other], lambda state: state.value == 0)
    text = " ".join(result.explanation.split())
    assert "Write-write conflict: worker 0 and worker 1 both wrote State.value" in text
    assert "The timeout of 1 s that worker 0 set at" in text
    assert text.index("[expires after 1 s]") < text.index("state.value = 0")


def test_a_timeout_that_ends_too_late_is_not_told() -> None:
    async def in_time(state: State) -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(0.5)
        await add(state)

    result = explore(counter, in_time, lambda state: state.value == 2, count=2)
    assert result.property_holds is False
    assert "timeout of" not in result.explanation


def test_tasks_of_tasks_replay_whoever_makes_his_first() -> None:
    async def parent(state: State, name: str) -> None:
        state.order.append(name)
        await asyncio.gather(add(state), add(state))

    workers = [functools.partial(parent, name=name) for name in "ab"]
    result = explore(
        lambda: State(value=0, order=[]), workers, lambda s: s.value == 4 or s.order[0] == "a"
    )
    assert result.property_holds is False
    assert result.reproduction_successes == 10
    assert result.replay().property_holds is False


def edited(source: str) -> Any:
    """`add`, written anew."""
    names: dict[str, Any] = {"asyncio": asyncio}
    source = "async def add(state):\n" + textwrap.indent(textwrap.dedent(source), "    ")
    exec(compile(source, __file__, "exec"), names)
    return names["add"]


def test_a_saved_counterexample_survives_edits_that_do_not_matter(tmp_path: Path) -> None:
    lost_update(add, add).save(tmp_path / "x.json")
    again = edited(
        """
        private = [state]
        await asyncio.sleep(0)
        value = state.value
        await asyncio.sleep(0)
        private.append(value)
        await asyncio.sleep(0)
        state.value = value + 1
        """
    )
    loaded = InterleavingResult.load(tmp_path / "x.json")
    assert loaded.replay(counter, [again] * 2, lambda s: s.value == 2).property_holds is False


@pytest.mark.parametrize(
    ("source", "difference"),
    [
        ("state.value += 1", "recorded: worker 0: read State.value in add"),
        (
            """
            async with state.lock:
                value = state.value
                await asyncio.sleep(0)
                state.value = value + 1
            """,
            "now: +worker 1: has to wait, and worker 0 comes first: write State.value",
        ),
        (
            """
            value = state.value
            await asyncio.sleep(0)
            state.value = value + 1
            await asyncio.sleep(0)
            state.value = 2
            """,
            "after its last step, number 4, more is done",
        ),
        ("value = state.value", "now: +worker 1: has ended"),
    ],
)
def test_a_replay_that_does_not_fit_tells_the_first_difference(
    source: str, difference: str
) -> None:
    result = lost_update(add, add)
    with pytest.raises(frontrun.ReplayMismatchError, match=difference):
        result.replay(counter, [edited(source)] * 2, lambda state: state.value == 2)


def test_tasks_and_threads_do_not_replay_each_other() -> None:
    with pytest.raises(TypeError, match="threads must be coroutine functions, as they were"):
        lost_update(add, add).replay(counter, [sync_worker] * 2, lambda state: True)


def test_a_saved_counterexample_replays_through_its_test(tmp_path: Path) -> None:
    script = tmp_path / "test_tickets.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio
            import frontrun

            async def test_tickets():
                async def sell(left):
                    if left[0]:
                        await asyncio.sleep(0)
                        left[0] -= 1

                result = await frontrun.explore(lambda: [1], sell, lambda s: s == [0], count=2)
                if result.num_explored > 1:
                    result.save("tickets.json")
                result.assert_holds()

            if __name__ == "__main__":
                asyncio.run(test_tickets())
            """
        )
    )

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert "AssertionError" in run("test_tickets.py").stderr
    replayed = run("-m", "frontrun", "replay", "tickets.json")
    assert "after 1 interleavings" in replayed.stdout
    assert replayed.returncode == 1


def test_a_task_that_never_ends_is_inconclusive() -> None:
    async def busy(state: State) -> None:
        while True:
            await asyncio.sleep(0)

    result = explore(State, [busy], max_branches=100)
    assert result.property_holds is None
    assert "max_branches" in (result.inconclusive_reason or "")


def test_callable_objects_and_partials_are_recognised() -> None:
    class Worker:
        async def __call__(self, state: State) -> None:
            await add(state)

    result = explore(counter, [Worker(), functools.partial(add)], lambda s: s.value == 2)
    assert not result.property_holds


def test_real_input_and_output_is_refused_clearly() -> None:
    async def connect(state: State) -> None:
        await asyncio.open_connection("localhost", 80)

    result = explore(State, [connect])
    assert isinstance(result.exception, NotImplementedError)
    assert "create_connection does real I/O" in str(result.exception)


def test_a_lock_from_outside_of_setup_is_told_to_belong_there() -> None:
    lock = asyncio.Lock()

    async def worker(state: State) -> None:
        async with lock:
            await asyncio.sleep(0)

    result = explore(State, worker, count=2)
    assert isinstance(result.exception, RuntimeError)
    words = " ".join((result.explanation or "").split())
    assert "make the locks, events and queues of asyncio in setup" in words


def test_threads_are_refused_clearly() -> None:
    import threading

    async def start(state: State) -> None:
        threading.Thread(target=print).start()

    result = explore(State, [start])
    assert "asyncio.to_thread" in str(result.exception)


def sync_worker(state: State) -> None:
    pass


async def generator_worker(state: State) -> Any:
    yield state


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([add, sync_worker],), {}, r"workers\[0\] is async while workers\[1\] is not"),
        (([generator_worker],), {}, r"workers\[0\] is an async generator"),
        (([add],), {"strategy": "random"}, "not be 'random' for async workers"),
        (([add],), {"clock": "explored"}, "clock must be 'virtual' or 'real' for async"),
        (([add],), {"preemption_bound": 2}, "no option 'preemption_bound'"),
        (([add],), {"max_attempts": 2}, "has no option 'max_attempts'"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(
    arguments: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        frontrun.explore(pytest.fail, *arguments, lambda state: True, **options)


def test_an_ordinary_function_that_returns_a_coroutine_is_told_so() -> None:
    def disguised(state: State) -> Coroutine[Any, Any, None]:
        return add(state)

    result = frontrun.explore(counter, [disguised, disguised], lambda state: True)
    assert isinstance(result.exception, TypeError)
    assert "async def" in str(result.exception)


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_it_works_under_async_test_plugins(
    plugin: str, tmp_path: Path, package: Callable[..., None]
) -> None:
    if plugin == "anyio":
        package("anyio==4.6.0", "sniffio==1.3.1", "idna==3.10")
    test = f"""
        import asyncio, frontrun, pytest

        class Counter:
            value = 0

        async def add(counter):
            value = counter.value
            await asyncio.sleep(0)
            counter.value = value + 1

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.{plugin}
        async def test_counter():
            result = await frontrun.explore(Counter, add, lambda c: c.value == 2, count=2)
            assert not result.property_holds
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope=function")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 passed" in run.stdout, run.stdout + run.stderr


# A real bug


def hand_over_a_lock() -> InterleavingResult:
    import anyio

    async def holder(lock: Any) -> None:
        async with lock:
            await asyncio.sleep(0)

    async def cancelled(lock: Any) -> None:
        async def wait() -> None:
            async with lock:
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await asyncio.sleep(0)
            tasks.cancel_scope.cancel()

    async def waiter(lock: Any) -> None:
        async with lock:
            pass

    return explore(anyio.Lock, [holder, cancelled, waiter], max_executions=4000)


def test_anyio_3_3_4_loses_a_lock_that_was_handed_to_a_cancelled_waiter(
    package: Callable[..., None],
) -> None:
    package("anyio==3.3.4", "sniffio==1.3.1", "idna==3.10")
    result = hand_over_a_lock()
    assert not result.property_holds
    assert result.deadlock is not None
    assert [blocked.worker for blocked in result.deadlock] == [2]
    assert "worker 2 waits for Event.wait()" in (result.explanation or "")
    assert result.replay().deadlock is not None


def test_anyio_3_4_0_does_not(package: Callable[..., None]) -> None:
    package("anyio==3.4.0", "sniffio==1.3.1", "idna==3.10")
    result = hand_over_a_lock()
    assert result.property_holds, result.explanation or result.inconclusive_reason
    assert result.exhaustive
