import asyncio
import sys
import threading
import traceback

import pytest

from frontrun.async_trace_markers import AsyncTraceExecutor, async_frontrun
from frontrun.common import Schedule, Step


def steps(*pairs):
    """`steps("a read", "b write")`: a schedule."""
    return Schedule([Step(*pair.split()) for pair in pairs])


class Counter:
    def __init__(self):
        self.value = 0

    async def increment(self):
        value = self.value  # frontrun: read
        await asyncio.sleep(0)
        self.store(value + 1)

    def store(self, value):
        self.value = value  # frontrun: write

    async def increment_without_suspending(self):
        value = self.value  # frontrun: read
        self.value = value + 1  # frontrun: write


LOST = steps("a read", "b read", "a write", "b write")
KEPT = steps("b read", "b write", "a read", "a write")


def both(task):
    return {"a": task, "b": task}


@pytest.mark.parametrize("schedule, value", [(LOST, 1), (KEPT, 2)])
@pytest.mark.parametrize("method", ["increment", "increment_without_suspending"])
def test_a_schedule_decides_whether_an_update_is_lost(schedule, value, method):
    for _ in range(10):
        counter = Counter()
        executor = async_frontrun(schedule, both(getattr(counter, method)))
        assert counter.value == value
        assert executor.task_errors == {}


def test_a_marker_gates_an_await():
    log = []

    async def say(name):
        log.append(name)

    async def work(name):
        await say(name)  # frontrun: say

    async_frontrun(steps("b say", "a say"), both(work), {"a": ("a",)}, {"b": {"name": "b"}})
    assert log == ["b", "a"]


def test_tasks_of_a_task_are_gated_too():
    log = []

    async def child(name):
        log.append(name)  # frontrun: child

    async def parent(name):
        await asyncio.gather(child(name + "0"), child(name + "1"))

    async_frontrun(
        steps("a child", "b child", "b child", "a child"),
        both(parent),
        {"a": ("a",), "b": ("b",)},
    )
    assert log == ["a0", "b0", "b1", "a1"]


def test_async_for_and_with_are_gated_like_their_plain_forms():
    log = []

    class Context:
        async def __aenter__(self):
            log.append("enter")

        async def __aexit__(self, *_):
            log.append("exit")

    async def numbers():
        for each in range(2):
            yield each

    async def loop():
        async for each in numbers():  # frontrun: each
            log.append(each)

    async def context():
        async with Context():  # frontrun: enter
            log.append("inside")

    async_frontrun(steps("a each", "b enter", "a each", "a each"), {"a": loop, "b": context})
    assert log == [0, "enter", "inside", "exit", 1]


def test_a_task_that_sleeps_holds_the_turn():
    log = []

    async def slow():
        await asyncio.sleep(0.3), log.append("slow")  # frontrun: go

    async def quick():
        log.append("quick")  # frontrun: go

    async_frontrun(steps("a go", "b go"), {"a": slow, "b": quick})
    assert log == ["slow", "quick"]


def test_each_task_has_a_thread_and_an_event_loop_of_its_own():
    seen = set()

    async def work():
        seen.add((threading.get_ident(), id(asyncio.get_running_loop())))  # frontrun: see

    async_frontrun(steps("a see", "b see"), both(work))
    assert len({thread for thread, _ in seen}) == 2
    assert threading.get_ident() not in {thread for thread, _ in seen}


def test_it_runs_where_an_event_loop_runs_already():
    async def main():
        counter = Counter()
        async_frontrun(LOST, both(counter.increment))
        return counter.value

    assert asyncio.run(main()) == 1


def test_an_executor_can_be_reset_and_used_again():
    executor = AsyncTraceExecutor(LOST)
    for _ in range(3):
        counter = Counter()
        executor.run(both(counter.increment))
        assert counter.value == 1
        executor.reset()


def test_the_error_of_a_task_is_raised_with_its_traceback():
    async def fail():
        raise KeyError("mine")  # frontrun: fail

    executor = AsyncTraceExecutor(steps("a fail", "b read"))
    with pytest.raises(KeyError, match="mine") as caught:
        executor.run({"a": fail, "b": Counter().increment})
    assert traceback.extract_tb(caught.tb)[-1].name == "fail"
    assert executor.task_errors == {"a": caught.value}


def test_a_task_that_is_stopped_is_unwound_after_an_error_of_another():
    log = []

    async def fail():
        raise KeyError

    async def stopped():
        try:
            log.append("passed")  # frontrun: never
        finally:
            log.append("finally")

    with pytest.raises(KeyError):
        async_frontrun(steps("b never"), {"b": stopped, "a": fail})
    assert log == ["finally"]


def test_a_task_that_awaits_is_cancelled_after_a_timeout():
    log = []

    async def wait():
        try:
            await asyncio.Event().wait()  # frontrun: wait
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    with pytest.raises(TimeoutError, match="Workers did not end in time"):
        async_frontrun(steps("a wait"), {"a": wait}, timeout=1.0)
    assert log == ["cancelled"]


def test_a_task_that_cancels_itself_raises_that():
    async def work():
        asyncio.current_task().cancel()  # frontrun: cancel
        await asyncio.sleep(0)

    executor = AsyncTraceExecutor(steps("a cancel"))
    with pytest.raises(asyncio.CancelledError):
        executor.run({"a": work})
    assert list(executor.task_errors) == ["a"]


def test_a_schedule_that_cannot_complete_is_given_up_at_once():
    counter = Counter()
    with pytest.raises(TimeoutError, match=r"Step\('b', 'write'\)"):
        async_frontrun(steps("b write"), both(counter.increment), deadlock_timeout=3600)


def test_a_task_that_never_reaches_its_marker_is_given_up_after_deadlock_timeout():
    async def wait():
        await asyncio.sleep(60)
        pass  # frontrun: late

    with pytest.raises(TimeoutError, match=r"Schedule incomplete.*Step\('a', 'late'\)") as raised:
        async_frontrun(steps("a late"), {"a": wait}, deadlock_timeout=1.0)
    first = wait.__code__.co_firstlineno
    assert f"test_async_trace_markers.py:{first + 1} in wait" in str(raised.value)


def test_unknown_names_are_refused_before_anything_runs():
    counter = Counter()
    with pytest.raises(ValueError, match="worker 'c'"):
        async_frontrun(steps("c read"), both(counter.increment))
    with pytest.raises(ValueError, match="marker 'raed'"):
        async_frontrun(steps("a raed"), both(counter.increment))
    assert counter.value == 0


def test_a_target_must_return_a_coroutine():
    with pytest.raises(TypeError, match="task 'a' must return a coroutine"):
        async_frontrun(Schedule([]), {"a": lambda: None})
    with pytest.raises(TypeError, match="the target of 'a' must be callable, not 5"):
        async_frontrun(Schedule([]), {"a": 5})


def test_nothing_stays_installed():
    async_frontrun(LOST, both(Counter().increment))
    if sys.version_info >= (3, 12):
        assert "frontrun markers" not in [sys.monitoring.get_tool(tool) for tool in range(6)]
