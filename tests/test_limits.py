"""A limit ends things cleanly, says which one it was, and is never a pass."""

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import frontrun


class State:
    def __init__(self):
        self.value = 0


def increment(state):
    state.value += 1


def count_for_ever(state):
    while True:
        state.value += 1


def spin(state):
    while True:
        pass


def go_on():
    for _ in range(10**12):
        pass


def explore(workers, **options):
    return frontrun.explore(State, workers, lambda state: True, **options)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    threads = threading.enumerate()
    yield
    assert threading.enumerate() == threads
    again = explore([increment, increment], stop_on_first=False)
    assert (again.num_explored, again.exhaustive) == (4, True)


@pytest.fixture
def interrupted_soon():
    """Ctrl-C while the test runs."""
    # A shell starts what runs in its background with the signal ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    signal.signal(signal.SIGINT, handler)
    timer.join()


def test_max_executions_ends_the_search_and_keeps_its_verdict():
    result = explore([increment] * 3, max_executions=5)
    assert result.num_explored == 5
    assert result.property_holds is True
    assert not result.exhaustive
    assert result.limit == "max_executions=5"


def test_total_timeout_ends_the_search_and_keeps_its_verdict():
    def many(state):
        for _ in range(8):
            state.value += 1

    result = explore([many] * 3, total_timeout=0.2)
    assert result.property_holds is True
    assert not result.exhaustive
    assert result.limit == "total_timeout=0.2"


def test_total_timeout_ends_what_is_told_of_the_progress():
    def many(state):
        for _ in range(8):
            state.value += 1

    result = explore([many] * 3, total_timeout=0.2, on_progress=lambda progress: go_on())
    assert result.property_holds is True
    assert result.limit == "total_timeout=0.2"


def test_a_search_that_ends_before_its_first_execution_is_inconclusive():
    result = frontrun.explore(
        lambda: time.sleep(60), [increment], lambda state: True, total_timeout=0.1
    )
    assert result.property_holds is None
    assert "total_timeout=0.1" in result.inconclusive_reason
    assert result.limit == "total_timeout=0.1"


@pytest.mark.parametrize("where", ["setup", "invariant"])
def test_total_timeout_ends_setup_and_invariant(where):
    def setup():
        if where == "setup":
            go_on()
        return State()

    def invariant(state):
        go_on()

    result = frontrun.explore(setup, [increment], invariant, total_timeout=0.1)
    assert result.property_holds is None
    assert "total_timeout=0.1" in result.inconclusive_reason


def test_a_search_that_is_complete_met_no_limit():
    assert explore([increment] * 2, max_executions=4).limit is None


def test_an_execution_with_too_many_events_is_inconclusive():
    result = explore([count_for_ever, increment], max_branches=1000)
    assert result.property_holds is None
    assert "max_branches=1000" in result.inconclusive_reason
    with pytest.raises(AssertionError, match="inconclusive"):
        result.assert_holds()


def test_an_execution_that_takes_too_long_is_inconclusive():
    result = explore([count_for_ever, increment], timeout_per_run=0.2, max_branches=10**9)
    assert result.property_holds is None
    assert "timeout_per_run=0.2" in result.inconclusive_reason


def test_a_worker_that_never_reaches_a_scheduling_point_is_named():
    result = explore([spin, increment], deadlock_timeout=0.2)
    assert result.property_holds is None
    assert "deadlock_timeout=0.2" in result.inconclusive_reason
    assert "worker 0" in result.inconclusive_reason
    assert "in spin" in result.inconclusive_reason


@pytest.mark.parametrize("worker", [spin, count_for_ever, go_on])
@pytest.mark.parametrize("limit", ["timeout_per_run", "total_timeout"])
def test_a_worker_that_does_not_end_is_ended_by_whichever_limit_comes_first(worker, limit):
    def work(state):
        worker(state) if worker is not go_on else worker()

    result = explore([work, increment], max_branches=10**9, **{limit: 0.2})
    assert result.property_holds is None
    assert f"{limit}=0.2" in result.inconclusive_reason
    assert "worker 0" in result.inconclusive_reason


def test_a_worker_that_keeps_the_gil_is_named_when_it_lets_it_go():
    sleep = ctypes.PyDLL(None).usleep

    def keep_the_gil(state):
        for _ in range(5):
            sleep(200_000)

    result = explore([keep_the_gil, increment], deadlock_timeout=0.1)
    assert result.property_holds is None
    assert "deadlock_timeout=0.1" in result.inconclusive_reason
    assert "worker 0" in result.inconclusive_reason


def test_a_worker_stuck_in_a_blocking_call_is_left_behind():
    reader, writer = os.pipe()

    def read(state):
        os.read(reader, 1)

    result = explore([read, increment], deadlock_timeout=0.2, detect_io=False)
    assert result.property_holds is None
    assert "in read" in result.inconclusive_reason
    os.write(writer, b"x")


def test_a_worker_that_is_given_up_runs_its_clean_up():
    cleaned = []

    def worker(state):
        try:
            spin(state)
        finally:
            cleaned.append(True)

    explore([worker], deadlock_timeout=0.2)
    assert cleaned == [True]


def test_no_clean_up_is_cut_short():
    begun, cleaned = [], []

    def worker(state):
        try:
            begun.append(threading.get_ident())
            count_for_ever(state)
        finally:
            increment(state)
            state.value += 1
            cleaned.append(threading.get_ident())

    for limit in ({"timeout_per_run": 0.05}, {"total_timeout": 0.05}):
        explore([worker] * 3, strategy="walk", max_attempts=1, seed=1, max_branches=10**9, **limit)
        assert sorted(cleaned) == sorted(begun)
        assert len(begun) == 3
        begun.clear()
        cleaned.clear()


def test_a_worker_that_swallows_what_ends_it_is_ended_again():
    ended = []

    def stubborn(state):
        with contextlib.suppress(BaseException):
            spin(state)
        try:
            spin(state)
        finally:
            ended.append(True)

    result = explore([stubborn], deadlock_timeout=0.1)
    assert result.property_holds is None
    assert ended == [True]


def test_threads_that_are_being_started_are_forgotten():
    def start(state):
        for _ in range(3):
            threading.Thread(target=increment, args=[state]).start()

    for most in range(1, 20):
        explore([start], max_branches=most)


def test_the_end_of_a_thread_pool_is_not_reported(capfd):
    def worker(state):
        with ThreadPoolExecutor(2) as pool:
            pool.submit(threading.Event().wait).result()

    assert explore([worker]).deadlock
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wait", [lambda _: threading.Event().wait(), spin])
@pytest.mark.parametrize("in_thread", [False, True])
def test_the_end_of_a_finaliser_is_not_reported(wait, in_thread, capfd, monkeypatch):
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    hook = sys.unraisablehook

    class Stubborn:
        def __del__(self):
            wait(None)

    def work(state):
        Stubborn()

    def worker(state):
        if in_thread:
            thread = threading.Thread(target=work, args=[state])
            thread.start()
            thread.join()
        else:
            work(state)

    assert not explore([worker], deadlock_timeout=0.2).property_holds
    assert reports == []
    assert capfd.readouterr() == ("", "")
    assert sys.unraisablehook is hook


def test_what_a_finaliser_raises_by_itself_is_reported(monkeypatch):
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reports.append(told.exc_type))

    class Broken:
        def __del__(self):
            raise LookupError

    assert explore([lambda state: Broken() and None]).property_holds
    assert reports == [LookupError]


def test_blocked_workers_are_unwound_and_release_their_locks():
    lock, cleaned = threading.Lock(), []

    def worker(state):
        with lock:
            try:
                threading.Event().wait()
            finally:
                cleaned.append(True)

    result = explore([worker], reproduce_on_failure=0)
    assert result.deadlock
    assert cleaned
    assert not lock.locked()


def test_clean_up_is_cut_short_in_none_of_many_executions():
    lock, begun, ended = threading.Lock(), [], []

    def worker(state):
        with lock:
            try:
                threading.Event().wait()
            finally:
                begun.append(True)
                for _ in range(200):
                    state.value += 1
                ended.append(True)

    explore([worker], reproduce_on_failure=50)
    assert len(ended) == len(begun) > 50
    assert not lock.locked()


@pytest.mark.parametrize("worker", [spin, count_for_ever])
def test_ctrl_c_ends_the_exploration(worker, interrupted_soon):
    with pytest.raises(KeyboardInterrupt):
        explore([worker, increment], max_branches=10**9, timeout_per_run=600)


def sleep_on():
    time.sleep(60)


def wait_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_for_an_item():
    queue.SimpleQueue().get()


def wait_for_a_thread():
    thread = threading.Thread(target=time.sleep, args=[0.6])
    try:
        thread.start()
        thread.join()
    finally:
        # A join that was interrupted takes the thread for ended, up to 3.12.
        while thread in threading.enumerate():
            time.sleep(0.01)


@pytest.mark.parametrize(
    "wait", [sleep_on, wait_for_a_lock, wait_for_an_item, wait_for_a_thread, go_on]
)
@pytest.mark.parametrize("where", ["setup", "invariant"])
def test_ctrl_c_ends_setup_and_invariant(wait, where, interrupted_soon):
    def setup():
        if where == "setup":
            wait()
        return State()

    with pytest.raises(KeyboardInterrupt):
        frontrun.explore(setup, [increment], lambda state: where == "invariant" and wait())


@pytest.mark.parametrize(
    "exception",
    [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, Exception],
)
def test_any_exception_that_a_worker_does_not_catch_is_a_failure(exception):
    def worker(state):
        raise exception("on purpose")

    result = explore([increment, worker])
    assert result.property_holds is False
    assert type(result.exception) is exception


def test_ctrl_c_in_an_invariant_is_no_failure():
    def invariant(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frontrun.explore(State, [increment], invariant)


class Alarm(Exception):
    pass


@pytest.mark.parametrize("where", ["setup", "worker", "invariant"])
def test_what_the_handler_of_a_signal_raises_is_no_failure(where):
    def ring(*_):
        raise Alarm

    def run(here):
        if here == where:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            go_on()
        return State()

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Alarm):
            frontrun.explore(
                lambda: run("setup"), [lambda _: run("worker")], lambda _: run("invariant")
            )
    finally:
        signal.signal(signal.SIGALRM, before)


def test_unlimited_recursion_in_a_worker_is_a_recursion_error():
    def recurse(state):
        recurse(state)

    result = explore([recurse, increment])
    assert isinstance(result.exception, RecursionError)


def test_a_nested_exploration_is_refused():
    def worker(state):
        explore([increment])

    result = explore([worker])
    assert "nested" in str(result.exception)


def test_an_exploration_beside_another_one_is_refused():
    errors = []

    def setup():
        def run():
            try:
                explore([increment])
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return State()

    frontrun.explore(setup, [increment], lambda state: True)
    assert "side by side" in str(errors[0])


def test_an_exploration_runs_in_any_thread():
    results = []
    thread = threading.Thread(
        target=lambda: results.append(explore([increment] * 2, stop_on_first=False))
    )
    thread.start()
    thread.join()
    assert results[0].num_explored == 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has no sys.monitoring")
def test_no_monitoring_event_stays_on():
    explore([increment, increment])
    for tool in range(6):
        if sys.monitoring.get_tool(tool) == "frontrun":
            assert sys.monitoring.get_events(tool) == 0
            assert sys.monitoring.get_local_events(tool, increment.__code__) == 0
            break
    else:
        pytest.fail("no tool id in use")
