"""Whatever a worker waits for disables it, and nothing really waits."""

import concurrent.futures
import datetime
import logging
import os
import queue
import threading
import time

import pytest

import frontrun
from frontrun.dpor import explore_dpor


class State:
    def __init__(self):
        self.value = 0
        self.seen = []
        self.lock = threading.Lock()


def explore(*workers, invariant=lambda state: True, **options):
    options = {"stop_on_first": False, "preemption_bound": None, **options}
    return explore_dpor(State, workers, invariant, **options)


def run_threads(*functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        assert not thread.is_alive()


def test_threads_that_a_worker_starts_are_explored_like_workers():
    def worker(state):
        def increment():
            state.value += 1

        run_threads(increment, increment)

    result = explore(worker, invariant=lambda state: state.value == 2)
    assert result.num_explored == 4
    assert len(result.failures) == 2
    assert "Lost update" in result.explanation
    assert result.exhaustive


@pytest.mark.parametrize(("count", "traces"), [(2, 2), (3, 6)])
def test_start_and_join_add_no_executions_to_those_of_the_locked_sections(count, traces):
    def worker(state):
        def increment():
            with state.lock:
                state.value += 1

        run_threads(*[increment] * count)

    result = explore(worker, invariant=lambda state: state.value == count)
    assert result.property_holds, result.explanation
    assert result.num_explored == traces


def test_a_thread_sees_what_came_before_its_start_and_is_seen_after_its_join():
    def worker(state):
        state.value = 1
        run_threads(lambda: state.seen.append(state.value))
        state.seen.append("joined")

    result = explore(worker, invariant=lambda state: state.seen == [1, "joined"])
    assert result.property_holds, result.explanation
    assert result.num_explored == 1


def test_join_with_a_timeout_gives_up_in_virtual_time():
    def worker(state):
        release = threading.Event()
        thread = threading.Thread(target=release.wait)
        thread.start()
        thread.join(timeout=3600)
        state.seen.append(thread.is_alive())
        release.set()
        thread.join()
        state.seen.append(thread.is_alive())

    result = explore(worker, invariant=lambda state: state.seen == [True, False])
    assert result.property_holds, result.explanation


def test_a_thread_that_nobody_joins_ends_before_the_final_state():
    def late(state):
        time.sleep(1)
        state.append(threading.current_thread().daemon)

    def worker(state):
        assert not threading.current_thread().daemon
        threading.Thread(target=late, args=(state,)).start()

    assert frontrun.explore(list, [worker], lambda state: state == [False]).property_holds


def test_a_thread_that_nobody_joins_can_wait_for_ever():
    def worker(state):
        threading.Thread(target=threading.Event().wait).start()

    assert frontrun.explore(list, [worker], lambda state: True).deadlock is not None


def test_a_pool_that_is_not_shut_down_need_not_end():
    def worker(state):
        state.append(concurrent.futures.ThreadPoolExecutor(1))
        state[0].submit(state.append, 1).result()

    assert frontrun.explore(list, [worker], lambda state: state[1:] == [1]).property_holds


def test_a_daemon_thread_need_not_end():
    def worker(state):
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    known = threading.enumerate()
    assert explore(worker).property_holds
    assert threading.enumerate() == known


def test_waits_of_one_length_end_in_the_order_of_the_workers():
    def waits(state):
        # Readings of the clock shorten what is left to wait.
        time.monotonic()
        threading.Event().wait(1)
        state.seen.append("wait")

    def sleeps(state):
        time.sleep(1)
        state.seen.append("sleep")

    for workers in ([waits, sleeps], [sleeps, waits]):
        first = "wait" if workers[0] is waits else "sleep"
        result = explore(*workers, invariant=lambda s, first=first: s.seen[0] == first)
        assert result.property_holds and result.exhaustive


def test_sleeping_takes_no_time_and_orders_by_the_virtual_clock():
    def sleeper(seconds):
        def worker(state):
            time.sleep(seconds)
            state.seen.append(seconds)

        return worker

    result = explore(sleeper(3600), sleeper(60), invariant=lambda s: s.seen == [60, 3600])
    assert result.property_holds, result.explanation
    assert result.num_explored == 1


def test_clocks_show_virtual_time():
    def worker(state):
        before = time.monotonic(), time.time(), datetime.datetime.now()
        time.sleep(1000)
        state.seen = [
            time.monotonic() - before[0],
            time.time() - before[1],
            (datetime.datetime.now() - before[2]).total_seconds(),
        ]

    result = explore(worker, invariant=lambda state: all(1000 <= t < 1001 for t in state.seen))
    assert result.property_holds, result.explanation


def test_a_loop_that_waits_for_time_to_pass_ends():
    def worker(state):
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            state.value += 1

    assert explore(worker, max_branches=10**6).property_holds


def test_an_event_is_waited_for_and_a_timed_wait_ends():
    def worker(state):
        event = threading.Event()
        state.seen.append(event.wait(timeout=10))
        thread = threading.Thread(target=event.set)
        thread.start()
        state.seen.append(event.wait(timeout=10))
        thread.join()

    result = explore(worker, invariant=lambda state: state.seen == [False, True])
    assert result.property_holds, result.explanation


def test_a_condition_hands_every_item_over():
    condition = threading.Condition

    class Buffer:
        def __init__(self):
            self.changed, self.items, self.taken = condition(), [], []

        def put(self):
            with self.changed:
                self.items.append(1)
                self.changed.notify()

        def take(self):
            with self.changed:
                while not self.items:
                    self.changed.wait()
                self.taken.append(self.items.pop())

    result = frontrun.explore(
        Buffer, [Buffer.put, Buffer.take], lambda b: b.taken == [1], stop_on_first=False
    )
    assert result.property_holds, result.explanation
    assert result.num_explored == 2
    assert result.exhaustive


def test_a_lost_wakeup_is_found_as_a_deadlock():
    class Signal:
        def __init__(self):
            self.changed = threading.Condition()

        def notify(self):
            with self.changed:
                self.changed.notify()

        def wait(self):
            with self.changed:
                self.changed.wait()

    result = frontrun.explore(
        Signal, [Signal.notify, Signal.wait], lambda s: True, stop_on_first=False
    )
    assert result.num_explored == 2
    assert len(result.failures) == 1
    [blocked] = result.deadlock
    assert (blocked.worker, blocked.waits_for, blocked.holder) == (1, "a notification", None)
    assert "No way out" in result.explanation


def test_taking_a_lock_twice_is_a_deadlock_with_oneself():
    def worker(state):
        with state.lock, state.lock:
            pass

    result = explore(worker)
    assert result.property_holds is False
    assert [(b.worker, b.holder) for b in result.deadlock] == [(0, 0)]


def test_a_try_lock_fails_in_some_executions_and_succeeds_in_others():
    outcomes = set()

    def worker(state):
        if state.lock.acquire(blocking=False):
            state.value += 1
            state.lock.release()

    def invariant(state):
        outcomes.add(state.value)
        return True

    result = explore(worker, worker, invariant=invariant)
    assert outcomes == {1, 2}
    assert result.exhaustive


def test_a_timed_acquire_of_a_held_lock_gives_up():
    def worker(state):
        state.lock.acquire()
        state.seen.append(state.lock.acquire(timeout=5))
        state.lock.release()

    result = explore(worker, invariant=lambda state: state.seen == [False])
    assert result.property_holds, result.explanation


def test_queues_hand_items_over_in_order():
    def worker(state):
        bounded = queue.Queue(1)
        thread = threading.Thread(target=lambda: [bounded.put(i) for i in range(2)])
        thread.start()
        state.seen = [bounded.get(), bounded.get()]
        thread.join()

    result = explore(worker, invariant=lambda state: state.seen == [0, 1])
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_a_simple_queue_disables_its_reader_while_it_is_empty():
    def worker(state):
        items = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: (items.put(1), items.put(2)))
        thread.start()
        state.seen = [items.get(), items.get()]
        thread.join()
        with pytest.raises(queue.Empty):
            items.get(timeout=100)
        with pytest.raises(queue.Empty):
            items.get_nowait()

    result = explore(worker, invariant=lambda state: state.seen == [1, 2])
    assert result.property_holds, result.explanation


def test_semaphores_and_barriers_work_unchanged():
    def worker(state):
        semaphore, barrier = threading.BoundedSemaphore(1), threading.Barrier(2)

        def pass_both():
            with semaphore:
                state.value += 1
            barrier.wait()
            state.seen.append(state.value)

        run_threads(pass_both, pass_both)

    result = explore(worker, invariant=lambda state: state.seen == [2, 2])
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_a_timer_fires_after_its_virtual_interval():
    def worker(state):
        timer = threading.Timer(3600, lambda: state.seen.append("fired"))
        timer.start()
        timer.join()

    result = explore(worker, invariant=lambda state: state.seen == ["fired"])
    assert result.property_holds, result.explanation


def test_a_thread_pool_works_unchanged():
    def worker(state):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            state.seen = list(pool.map(abs, [-1, -2, -3]))

    result = explore(worker, invariant=lambda s: s.seen == [1, 2, 3], max_executions=200)
    assert result.property_holds, result.explanation


def test_logging_and_imports_inside_workers_work():
    def worker(state):
        import colorsys  # noqa: F401

        logging.getLogger("frontrun.test").debug("hello")
        with state.lock:
            state.value += 1

    result = explore(worker, worker, invariant=lambda state: state.value == 2)
    assert result.property_holds, result.explanation


def test_a_worker_cannot_fork():
    result = explore(lambda state: os.fork())
    assert "cannot fork" in str(result.exception)


def test_outside_explorations_locks_are_what_they_were():
    lock, reentrant = threading.Lock(), threading.RLock()
    bound = lock.acquire
    explore(lambda state: None)
    assert bound() and lock.locked()
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01)
    lock.release()
    with reentrant, reentrant:
        assert reentrant._is_owned()
    with pytest.raises(RuntimeError):
        reentrant.release()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert lock.locked()


def test_other_threads_run_on_during_an_exploration():
    stop, counted = threading.Event(), []

    def count():
        while not stop.is_set():
            counted.append(1)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:

        def worker(state):
            for _ in range(4):
                state.value += 1

        before = len(counted)
        explore(worker, worker, invariant=lambda s: s.value >= 2, max_executions=30_000)
        assert len(counted) > before
    finally:
        stop.set()
        thread.join()


def test_a_thread_may_be_started_after_another_one_has_ended():
    # Up to 3.12 `threading` then looks through the locks of threads that have ended.
    def worker(state):
        receive, send = os.pipe()
        for _ in range(2):
            thread = threading.Thread(target=os.read, args=(receive, 1))
            thread.start()
            os.write(send, b"x")
            thread.join()
        os.close(send)
        os.close(receive)

    result = explore(worker)
    assert result.property_holds, result.explanation
