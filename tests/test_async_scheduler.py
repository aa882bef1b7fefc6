import asyncio

import pytest

from frontrun.async_scheduler import InterleavedLoop


class Order(InterleavedLoop):
    """Lets tasks go on in a given order; freely after it."""

    def __init__(self, *order, **options):
        super().__init__(**options)
        self.order = order
        self.position = 0

    def should_proceed(self, task_id, marker=None):
        return self.position >= len(self.order) or self.order[self.position] == task_id

    def on_proceed(self, task_id, marker=None):
        self.position += 1


def run(loop, tasks, **options):
    asyncio.run(loop.run_all(tasks, **options))


def logging(loop, log, *markers):
    """Makes a task that logs each marker after a pause there."""

    def task(task_id):
        async def work():
            for marker in markers:
                await loop.pause(task_id, marker)
                log.append(f"{task_id}{marker}")

        return work

    return task


def test_the_subclass_decides_who_goes_on():
    log = []
    loop = Order(0, 1, 1, 0)
    task = logging(loop, log, "x", "y")
    run(loop, [task(0), task(1)])
    assert log == ["0x", "1x", "1y", "0y"]
    assert not loop.had_error


def test_without_a_policy_everybody_goes_on():
    log = []
    loop = InterleavedLoop()
    run(loop, [logging(loop, log, "x")(0)])
    assert log == ["0x"]


def test_tasks_can_have_names():
    log = []
    loop = Order("b", "a")
    task = logging(loop, log, "x")
    run(loop, {"a": task("a"), "b": task("b")})
    assert log == ["bx", "ax"]


def test_policies_see_the_marker():
    class Asked(InterleavedLoop):
        asked = ()

        def should_proceed(self, task_id, marker=None):
            self.asked += (task_id, marker)
            return True

    loop = Asked()
    run(loop, [logging(loop, [], "x")(0)])
    assert loop.asked == (0, "x")


def test_a_task_that_ends_makes_way():
    log = []

    class LastOneFirst(InterleavedLoop):
        def should_proceed(self, task_id, marker=None):
            return task_id == 1 or "1x" in log

    loop = LastOneFirst()
    task = logging(loop, log, "x")
    run(loop, [task(0), task(1)])
    assert log == ["1x", "0x"]


def test_a_deadlock_is_recognised_at_once():
    loop = Order(0, 5, deadlock_timeout=3600)
    task = logging(loop, [], "x", "y")
    with pytest.raises(TimeoutError, match="Deadlock") as caught:
        run(loop, [task(0), task(1)], timeout=3600)
    assert "task 0 is paused at 'y'; task 1 is paused at 'x'" in str(caught.value)
    assert loop.had_error


def test_a_deadlock_that_the_end_of_a_task_leaves_is_recognised_at_once():
    loop = Order(5, deadlock_timeout=3600)

    async def short():
        await asyncio.sleep(0)

    with pytest.raises(TimeoutError, match="Deadlock"):
        run(loop, [logging(loop, [], "x")(0), short], timeout=60)


def test_a_pause_that_takes_too_long_is_given_up():
    loop = Order(5, deadlock_timeout=0.1)

    async def sleep():
        await asyncio.sleep(60)

    with pytest.raises(
        TimeoutError, match=r"task 0 is paused at 'x'; task 1 waits in sleep\(\) at"
    ):
        run(loop, [logging(loop, [], "x")(0), sleep])


def test_a_paused_task_runs_no_further_after_a_deadlock():
    log = []
    loop = Order(5)
    task = logging(loop, log, "x")
    with pytest.raises(TimeoutError):
        run(loop, [task(0), task(1)])
    assert log == []


def test_a_timeout_limits_everything():
    loop = InterleavedLoop()

    async def sleep():
        await asyncio.sleep(60)

    with pytest.raises(
        TimeoutError, match=r"did not end within 0.1 s. task 0 waits in sleep\(\) at"
    ):
        run(loop, [sleep], timeout=0.1)
    assert loop.had_error


def test_the_first_error_is_raised_and_the_others_are_cancelled():
    log = []

    async def fail():
        raise KeyError("mine")

    async def sleep():
        try:
            await asyncio.sleep(60)
        finally:
            log.append("cancelled")

    loop = InterleavedLoop()
    with pytest.raises(KeyError, match="mine"):
        run(loop, [sleep, fail])
    assert log == ["cancelled"]
    assert loop.had_error


def test_a_task_that_cancels_itself_raises_that():
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run(InterleavedLoop(), [work])


def test_cancelling_run_all_cancels_the_tasks():
    log = []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            log.append("cancelled")

    async def main():
        running = asyncio.create_task(InterleavedLoop().run_all([work]))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert log == ["cancelled"]


def test_no_tasks_are_done_at_once():
    run(InterleavedLoop(), [])


def test_hooks_surround_each_task():
    log = []

    class Hooked(InterleavedLoop):
        def _setup_task_context(self, task_id):
            log.append(f"setup {task_id}")

        def _cleanup_task_context(self, task_id):
            log.append(f"cleanup {task_id}")

        def _mark_done(self, task_id):
            log.append(f"done {task_id}")
            super()._mark_done(task_id)

        def _report_error(self, error):
            log.append(type(error).__name__)
            super()._report_error(error)

    async def fail():
        log.append("run")
        raise KeyError

    with pytest.raises(KeyError):
        run(Hooked(), {"t": fail})
    assert log == ["setup t", "run", "KeyError", "done t", "cleanup t"]


def test_a_subclass_can_say_otherwise_what_a_deadlock_is():
    class Tolerant(Order):
        def _handle_timeout(self, task_id, marker=None):
            self._report_error(ValueError(f"{task_id} at {marker}"))

    loop = Tolerant(5)
    with pytest.raises(ValueError, match="0 at x"):
        run(loop, [logging(loop, [], "x")(0)])


def test_a_loop_can_be_used_inside_a_running_one_and_again():
    async def main():
        for _ in range(3):
            log = []
            loop = Order(1, 0)
            task = logging(loop, log, "x")
            await loop.run_all([task(0), task(1)])
            assert log == ["1x", "0x"]

    asyncio.run(main())


def test_one_task_pauses_in_one_place_at_a_time():
    loop = Order(5)

    async def twice():
        await asyncio.gather(loop.pause(0), loop.pause(0))

    async def sleep():
        await asyncio.sleep(60)

    with pytest.raises(RuntimeError, match="paused already"):
        run(loop, [twice, sleep])


def test_deadlock_timeout_must_be_positive():
    with pytest.raises(ValueError, match="deadlock_timeout must be more than 0"):
        InterleavedLoop(deadlock_timeout=0)
