"""What the standard library builds on threads and locks works unchanged inside workers."""

import concurrent.futures
import contextlib
import functools
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

import frontrun


class State:
    def __init__(self):
        self.value = 0
        self.seen = []
        self.lock = threading.Lock()


def explore(*workers, invariant=lambda state: True, setup=State, **options):
    options = {"stop_on_first": False, "preemption_bound": None, **options}
    result = frontrun.explore(setup, workers, invariant, **options)
    assert result.inconclusive_reason is None
    return result


def increment(state):
    with state.lock:
        state.value += 1


def test_a_finaliser_runs_in_the_worker_that_calls_it():
    class Resource:
        pass

    def worker(state):
        resource = Resource()
        weakref.finalize(resource, state.seen.append, 1)()

    result = explore(worker, worker, invariant=lambda s: s.seen == [1, 1])
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_log_records_of_several_workers_all_arrive():
    class Counting(logging.Handler):
        def __init__(self):
            super().__init__()
            self.messages = []

        def emit(self, record):
            self.messages.append(record.getMessage())

    def setup():
        state = State()
        state.log, state.handler = logging.Logger("test"), Counting()
        state.log.addHandler(state.handler)
        return state

    result = explore(
        *[lambda state: state.log.info("hello")] * 3,
        setup=setup,
        invariant=lambda state: state.handler.messages == ["hello"] * 3,
    )
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_cached_functions_and_properties_give_their_value():
    class Cached:
        def __init__(self):
            self.twice = functools.lru_cache(lambda n: 2 * n)
            self.seen = []

        @functools.cached_property
        def value(self):
            return 42

        def use(self):
            self.seen.append((self.twice(3), self.value))

    result = explore(
        Cached.use, Cached.use, setup=Cached, invariant=lambda c: c.seen == [(6, 42)] * 2
    )
    assert result.property_holds, result.explanation


def test_an_event_that_is_looked_at_without_waiting_races_with_its_setting():
    def look(state):
        if not state.stop.is_set():
            state.seen.append("ran")

    def stop(state):
        state.stop.set()
        state.seen.append("stopped")

    def setup():
        state = State()
        state.stop = threading.Event()
        return state

    outcomes = set()
    result = explore(
        look,
        stop,
        setup=setup,
        invariant=lambda s: outcomes.add(tuple(s.seen)) or len(outcomes) < 3,
    )
    assert outcomes == {("stopped",), ("ran", "stopped"), ("stopped", "ran")}
    assert result.exhaustive
    assert "state.stop.is_set()" in result.explanation and "state.stop.set()" in result.explanation
    assert "threading.py" not in result.explanation


def test_starting_a_thread_needs_no_execution_for_the_events_of_threading():
    def start(state):
        thread = threading.Thread(target=increment, args=[state])
        thread.start()
        thread.join()

    assert explore(start, invariant=lambda state: state.value == 1).num_explored == 1


@pytest.mark.parametrize("locked", [False, True], ids=["without a lock", "with a lock"])
def test_a_cached_property_is_computed_twice_unless_a_lock_is_held(locked):
    class Cached:
        def __init__(self):
            self.lock = threading.Lock()
            self.seen = [None, None]

        @functools.cached_property
        def value(self):
            return object()

    def ask(index):
        def worker(cached):
            with cached.lock if locked else contextlib.nullcontext():
                cached.seen[index] = cached.value

        return worker

    result = explore(ask(0), ask(1), setup=Cached, invariant=lambda c: len(set(c.seen)) == 1)
    # Up to 3.11 it has a lock of its own.
    assert result.property_holds is (locked or sys.version_info < (3, 12)), result.explanation
    assert result.exhaustive


def test_two_workers_import_one_module_and_each_other_s(tmp_path, monkeypatch):
    (tmp_path / "fr_first.py").write_text("import fr_second\nvalue = 1\n")
    (tmp_path / "fr_second.py").write_text("import fr_first\nvalue = 2\n")
    monkeypatch.syspath_prepend(tmp_path)

    def setup():
        for name in ("fr_first", "fr_second"):
            sys.modules.pop(name, None)
        return State()

    def first(state):
        import fr_first

        state.seen.append(fr_first.value)

    def second(state):
        import fr_second

        state.seen.append(fr_second.value)

    result = explore(
        first, second, first, setup=setup, invariant=lambda s: sorted(s.seen) == [1, 1, 2]
    )
    assert result.property_holds, result.explanation


def pool(workers):
    return concurrent.futures.ThreadPoolExecutor(workers)


def submits(state):
    with pool(2) as executor:
        futures = [executor.submit(increment, state) for _ in range(2)]
        state.seen = [future.result() for future in futures]


def maps(state):
    with pool(2) as executor:
        state.seen = list(executor.map(abs, [-1, -2]))


def completes(state):
    with pool(1) as executor:
        future = executor.submit(abs, -1)
        state.seen = [f.result() for f in concurrent.futures.as_completed([future])]


def waits(state):
    with pool(1) as executor:
        done, left = concurrent.futures.wait([executor.submit(abs, -1)])
        state.seen = [len(done), len(left)]


def cancels(state):
    executor = pool(1)
    future = executor.submit(time.sleep, 60)
    executor.submit(abs, -1)
    executor.shutdown(wait=True, cancel_futures=True)
    state.seen = [future.done()]


def fails(state):
    with pool(1) as executor:
        state.seen = [type(executor.submit(lambda: 1 / 0).exception())]


def gives_up(state):
    with pool(1) as executor:
        try:
            executor.submit(time.sleep, 60).result(timeout=1)
        except TimeoutError:
            state.seen = ["timeout"]


@pytest.mark.parametrize(
    ("worker", "seen"),
    [
        (submits, [None, None]),
        (maps, [1, 2]),
        (completes, [1]),
        (waits, [1, 0]),
        (cancels, [True]),
        (fails, [ZeroDivisionError]),
        (gives_up, ["timeout"]),
    ],
)
def test_a_thread_pool(worker, seen):
    result = explore(worker, invariant=lambda s: s.seen == seen, max_executions=100)
    assert result.property_holds, result.explanation


def test_an_exception_in_a_thread_goes_to_excepthook(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))

    def worker(state):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    assert explore(worker).property_holds
    assert seen == [ZeroDivisionError]


def test_thread_locals_are_each_thread_s_own():
    def worker(state):
        own = threading.local()
        own.value = 1
        thread = threading.Thread(target=lambda: state.seen.append(hasattr(own, "value")))
        thread.start()
        thread.join()

    assert explore(worker, invariant=lambda s: s.seen == [False]).property_holds


def test_a_timer_that_is_cancelled_in_time_does_not_fire():
    def worker(state):
        timer = threading.Timer(60, state.seen.append, ["fired"])
        timer.start()
        timer.cancel()
        timer.join()

    assert explore(worker, invariant=lambda s: s.seen == []).property_holds


@pytest.mark.parametrize("options", [{}, {"timeout": 600}, {"input": "hello"}])
def test_a_worker_may_run_another_program(options):
    program = [sys.executable, "-c", "import sys; print('hello')"]

    def worker(state):
        done = subprocess.run(program, capture_output=True, text=True, **options)
        state.seen.append((done.returncode, done.stdout))

    result = explore(worker, increment, invariant=lambda s: s.seen == [(0, "hello\n")])
    assert result.property_holds, result.explanation


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform"
)
def test_a_worker_that_would_fork_is_told_what_to_do_instead():
    def forks(state):
        multiprocessing.get_context("fork").Process(target=os.getpid).start()

    result = explore(forks)
    assert isinstance(result.exception, RuntimeError)
    assert "use subprocess" in str(result.exception)
