"""Exploration from Python: exact numbers of executions, and what is found."""

import functools
import threading

import pytest

import frontrun
from frontrun.dpor import explore_dpor


class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
        self.rlock = threading.RLock()

    def increment(self):
        self.value += 1

    def increment_locked(self):
        with self.lock:
            self.value += 1

    def increment_reentrant(self):
        with self.rlock, self.rlock:
            self.value += 1


def explore_counter(method, count, **options):
    return frontrun.explore(
        Counter, method, lambda c: c.value == count, count=count, stop_on_first=False, **options
    )


@pytest.mark.parametrize(("count", "traces"), [(1, 1), (2, 4), (3, 36), (4, 576)])
def test_unlocked_counter_runs_each_trace_once(count, traces):
    result = explore_counter(Counter.increment, count)
    assert result.num_explored == result.unique_interleavings == traces
    assert result.exhaustive


@pytest.mark.parametrize("method", [Counter.increment_locked, Counter.increment_reentrant])
@pytest.mark.parametrize(("count", "traces"), [(2, 2), (3, 6), (4, 24)])
def test_locked_counter_holds_in_every_order_of_the_sections(method, count, traces):
    result = explore_counter(method, count)
    assert result.property_holds
    assert result.num_explored == traces
    assert result.exhaustive


def test_lost_update_is_explained_with_its_source_lines_and_reproduced():
    result = explore_counter(Counter.increment, 2)
    assert result.property_holds is False
    assert "Lost update" in result.explanation
    assert "self.value += 1" in result.explanation
    assert "Reproduced 10/10 times (100%)" in result.explanation
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert {race.location for race in result.races} == {"Counter.value"}
    with pytest.raises(AssertionError, match="Lost update"):
        result.assert_holds()


def test_the_first_failure_ends_the_search():
    result = frontrun.explore(
        Counter, Counter.increment, lambda c: c.value == 2, count=2, reproduce_on_failure=0
    )
    assert result.property_holds is False
    assert result.failures == []
    assert not result.exhaustive
    assert result.reproduction_attempts == 0
    assert "Reproduced" not in result.explanation


class TwoLocks:
    def __init__(self):
        self.a, self.b = threading.Lock(), threading.Lock()

    def ab(self):
        with self.a, self.b:
            pass

    def ba(self):
        with self.b, self.a:
            pass


def test_opposite_lock_orders_deadlock_once_in_three_executions():
    result = explore_dpor(TwoLocks, [TwoLocks.ab, TwoLocks.ba], lambda s: True, stop_on_first=False)
    assert result.num_explored == 3
    assert len(result.failures) == 1
    assert "Deadlock" in result.explanation
    assert {(b.worker, b.holder) for b in result.deadlock} == {(0, 1), (1, 0)}
    assert result.exhaustive


def test_an_uncaught_exception_of_a_worker_is_a_failure_with_its_traceback():
    def fail(state):
        raise LookupError("no such thing")

    result = explore_dpor(Counter, [Counter.increment, fail], lambda s: True)
    assert result.property_holds is False
    assert isinstance(result.exception, LookupError)
    assert result.exception.__traceback__ is not None
    assert "LookupError: no such thing" in result.explanation
    with pytest.raises(AssertionError) as caught:
        result.assert_holds()
    assert caught.value.__cause__ is result.exception


def test_an_assertion_of_the_invariant_is_a_violation_that_keeps_its_message():
    def invariant(counter):
        assert counter.value == 2, "lost one"
        return True

    result = frontrun.explore(Counter, Counter.increment, invariant, count=2)
    assert result.property_holds is False
    assert "lost one" in result.explanation


def test_an_exception_of_setup_is_raised_as_it_is():
    def setup():
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        frontrun.explore(setup, Counter.increment, lambda c: True, count=2)


def test_setup_and_invariant_see_the_callers_thread():
    seen = []
    local = threading.local()
    local.here = True

    def look():
        seen.append((threading.get_ident(), threading.current_thread(), hasattr(local, "here")))
        return Counter()

    frontrun.explore(look, Counter.increment_locked, lambda c: bool(look()), count=2)
    assert set(seen) == {(threading.get_ident(), threading.current_thread(), True)}


def test_workers_have_threads_of_their_own():
    local = threading.local()

    class State:
        def __init__(self):
            self.idents, self.threads, self.fresh = {}, {}, {}

    def worker(index):
        def run(state):
            state.fresh[index] = not hasattr(local, "value")
            local.value = index
            state.idents[index] = threading.get_ident()
            state.threads[index] = threading.current_thread()
            assert threading.current_thread().ident == threading.get_ident()
            assert local.value == index

        return run

    def invariant(state):
        assert all(state.fresh.values())
        assert len(set(state.idents.values()) | {threading.get_ident()}) == 3
        assert len(set(state.threads.values()) | {threading.current_thread()}) == 3
        return True

    known = threading.enumerate()
    result = explore_dpor(State, [worker(0), worker(1)], invariant, max_executions=20)
    assert result.property_holds, result.explanation
    assert threading.enumerate() == known


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_executions": 0}, ValueError, "max_executions must be at least 1"),
        ({"preemption_bound": -1}, ValueError, "preemption_bound must be at least 0"),
        ({"preemption_bound": "2"}, TypeError, "preemption_bound must be an int or None"),
        ({"search": "dfs"}, ValueError, "search must be 'few-preemptions', 'depth-first' or"),
        ({"timeout_per_run": 0}, ValueError, "timeout_per_run must be more than 0 seconds"),
        ({"total_timeout": "soon"}, TypeError, "total_timeout must be a number of seconds"),
        ({"seed": 1}, TypeError, "has no option 'seed'"),
        ({"strategy": "luck"}, ValueError, "strategy must be one of"),
        ({"count": 0}, ValueError, "count must be at least 1"),
        ({"count": None}, TypeError, "count must be given"),
    ],
)
def test_bad_options_are_named_before_anything_runs(options, error, message):
    def setup():
        pytest.fail("setup ran")

    with pytest.raises(error, match=message):
        frontrun.explore(setup, Counter.increment, bool, **{"count": 2, **options})


def test_bad_workers_are_named_before_anything_runs():
    async def coroutine(state):
        pass

    with pytest.raises(ValueError, match="workers must name at least one"):
        frontrun.explore(Counter, [], bool)
    with pytest.raises(TypeError, match=r"workers\[1\] must be callable, not 3"):
        frontrun.explore(Counter, [Counter.increment, 3], bool)
    with pytest.raises(TypeError, match=r"threads\[0\] is a coroutine function"):
        explore_dpor(Counter, [coroutine], bool)
    with pytest.raises(TypeError, match="invariant must be callable"):
        frontrun.explore(Counter, Counter.increment, True, count=2)


def test_generator_functions_are_refused_before_anything_runs():
    def generator(state):
        yield

    async def async_generator(state):
        yield

    class Callable:
        def __call__(self, state):
            yield

    def setup():
        pytest.fail("setup ran")

    kinds = [generator, async_generator, Callable(), functools.partial(generator)]
    for explore in (frontrun.explore, explore_dpor):
        for kind in kinds:
            with pytest.raises(TypeError, match=r"\[1\] is an? (async )?generator function"):
                explore(setup, [Counter.increment, kind], bool)
            with pytest.raises(TypeError, match=r"invariant is an? (async )?generator function"):
                explore(setup, [Counter.increment], kind)
