"""Threads that are no workers: what they hold and give counts, and is waited for in earnest."""

import concurrent.futures
import queue
import threading
import time

import pytest

import frontrun


class State:
    def __init__(self):
        self.value = 0
        self.seen = []
        self.event, self.lock = threading.Event(), threading.Lock()


def explore(*workers, invariant=lambda state: True, setup=State, **options):
    return frontrun.explore(
        setup, workers, invariant, **{"stop_on_first": False, "preemption_bound": None, **options}
    )


@pytest.fixture
def run():
    """Runs functions in threads of their own, and waits for them at the end."""
    threads = []

    def run(function):
        threads.append(threading.Thread(target=function, name=function.__name__))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join()


class Held:
    """A lock that another thread holds until it is told to release it, or for some time."""

    def __init__(self, run, lock, seconds=None):
        self.released = threading.Event()
        held = threading.Event()

        def holder():
            with lock:
                held.set()
                self.released.wait(seconds)

        run(holder)
        held.wait()


def increments_under(lock):
    def worker(state):
        with lock:
            state.value += 1

    return worker


def test_a_lock_that_another_thread_releases_in_time_is_waited_for(run):
    lock = threading.Lock()
    Held(run, lock, seconds=0.2)
    result = explore(*[increments_under(lock)] * 2, invariant=lambda s: s.value == 2)
    assert result.property_holds, result.explanation
    assert result.num_explored == 2
    assert not result.exhaustive


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_another_thread_keeps_is_no_deadlock(run, kind):
    lock = kind()
    held = Held(run, lock)
    result = explore(increments_under(lock), deadlock_timeout=0.1)
    held.released.set()
    assert result.property_holds is None
    assert result.deadlock is None
    assert "no other thread changed that within deadlock_timeout=0.1" in result.inconclusive_reason
    assert "test_outside.py" in result.inconclusive_reason
    if kind is threading.RLock:
        assert 'held by thread "holder"' in result.inconclusive_reason


@pytest.mark.parametrize(("timeout", "got"), [(60, True), (0.01, False), (0, False)])
def test_a_timed_wait_for_such_a_lock_lasts_as_long_as_it_says(run, timeout, got):
    lock = threading.Lock()
    held = Held(run, lock, seconds=0.3 if got else None)

    def worker(state):
        state.seen.append(lock.acquire(timeout=timeout))
        if state.seen[0]:
            lock.release()

    result = explore(worker, invariant=lambda s: s.seen == [got])
    held.released.set()
    assert result.property_holds, result.explanation


def test_a_try_of_such_a_lock_fails(run):
    lock = threading.Lock()
    held = Held(run, lock)

    def worker(state):
        state.seen.append(lock.acquire(blocking=False))

    result = explore(worker, invariant=lambda s: s.seen == [False])
    held.released.set()
    assert result.property_holds, result.explanation


def test_a_thread_pool_that_runs_already_serves_workers():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(abs, -1).result()

        def worker(state):
            state.seen.append(pool.submit(abs, -42).result(timeout=600))

        result = explore(worker, invariant=lambda s: s.seen == [42], max_executions=2)
    assert result.property_holds, result.explanation


def test_a_service_answers_workers(run):
    requests = queue.Queue()

    def service():
        while (request := requests.get()) is not None:
            number, answers = request
            answers.put(2 * number)

    run(service)

    def worker(state):
        answers = queue.Queue()
        requests.put((21, answers))
        state.seen.append(answers.get())

    result = explore(worker, invariant=lambda s: s.seen == [42], max_executions=2)
    requests.put(None)
    assert result.property_holds, result.explanation


def test_a_thread_that_setup_starts_may_do_what_a_worker_waits_for(run):
    def setup():
        state = State()
        run(lambda: time.sleep(0.05) or state.event.set())
        return state

    result = explore(lambda state: state.event.wait(), setup=setup)
    assert result.property_holds, result.explanation


@pytest.fixture
def alone():
    """Waits for what threads of other tests have left to do."""
    deadline = time.monotonic() + 10
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(max(0, deadline - time.monotonic()))


def test_a_lock_that_setup_leaves_held_is_a_deadlock_when_nobody_else_runs(alone):
    def setup():
        state = State()
        state.lock.acquire()
        return state

    result = explore(lambda state: state.lock.acquire(), setup=setup)
    assert [(b.worker, b.holder) for b in result.deadlock] == [(0, None)]


def test_workers_that_wait_for_each_other_deadlock_whoever_else_runs(run):
    stop = threading.Event()
    run(stop.wait)
    first, second = threading.Lock(), threading.Lock()

    def both(a, b):
        def worker(state):
            with a, b:
                state.value += 1

        return worker

    result = explore(both(first, second), both(second, first), deadlock_timeout=600)
    stop.set()
    assert len(result.deadlock) == 2
    assert result.num_explored == 3
    assert result.exhaustive
