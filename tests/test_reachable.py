"""Whether a failure can happen on an interpreter with a GIL, which switches at few points."""

import threading

import pytest

import frontrun
from frontrun.dpor import explore_dpor


class Counter:
    def __init__(self):
        self.value = 0
        self.other = {}
        self.lock = threading.Lock()


def two(counter):
    return counter.value == 2


def nothing():
    pass


def inline(c):
    c.value += 1


def two_statements(c):
    old = c.value
    c.other["k"] = 1
    c.value = old + 1


def getter(c):
    c.value = get(c) + 1


def get(c):
    return c.value


def call(c):
    old = c.value
    nothing()
    c.value = old + 1


def call_of_c_code(c):
    old = c.value
    abs(-1)
    c.value = old + 1


def loop(c):
    old = c.value
    for _ in (1, 2):
        pass
    c.value = old + 1


def wait(c):
    old = c.value
    with c.lock:
        pass
    c.value = old + 1


WITHOUT_SWITCH_POINT = [inline, two_statements, getter]
WITH_SWITCH_POINT = [call, call_of_c_code, loop, wait]


@pytest.mark.parametrize("body", WITHOUT_SWITCH_POINT)
def test_what_nothing_interrupts_takes_a_free_threaded_build(body):
    result = frontrun.explore(Counter, body, two, count=2)
    assert result.reachable == "free-threaded"
    assert "This takes a free-threaded build" in result.explanation


@pytest.mark.parametrize("body", WITH_SWITCH_POINT)
def test_a_call_a_loop_or_a_wait_in_between_makes_it_happen_with_a_gil(body):
    result = frontrun.explore(Counter, body, two, count=2)
    assert result.reachable == "gil"
    assert "This can happen on this interpreter" in result.explanation


@pytest.mark.parametrize("body", WITHOUT_SWITCH_POINT)
def test_granularity_gil_finds_nothing_that_takes_a_free_threaded_build(body):
    result = frontrun.explore(Counter, body, two, count=2, granularity="gil")
    assert result.property_holds
    assert result.exhaustive
    assert result.num_explored == 2


@pytest.mark.parametrize("strategy", ["dpor", "walk", "pct", "pos", "surw"])
def test_granularity_gil_finds_what_happens_with_a_gil(strategy):
    options = {} if strategy == "dpor" else {"seed": 1}
    result = frontrun.explore(
        Counter, call, two, count=2, strategy=strategy, granularity="gil", **options
    )
    assert result.property_holds is False
    assert result.reachable == "gil"


@pytest.mark.parametrize("strategy", ["walk", "pct", "pos", "surw"])
def test_a_sample_never_switches_elsewhere(strategy):
    result = frontrun.explore(
        Counter, two_statements, two, count=2, strategy=strategy, granularity="gil", seed=1
    )
    assert result.property_holds
    assert result.num_explored == 200


def test_a_failure_found_by_chance_is_labelled_too():
    result = frontrun.explore(Counter, inline, two, count=2, strategy="walk", seed=1)
    assert result.reachable == "free-threaded"


def test_a_deadlock_needs_no_more_than_waiting():
    def worker(first, second):
        def run(locks):
            with locks[first], locks[second]:
                pass

        return run

    result = explore_dpor(
        lambda: [threading.Lock(), threading.Lock()],
        [worker(0, 1), worker(1, 0)],
        lambda locks: True,
        granularity="gil",
    )
    assert result.deadlock
    assert result.reachable == "gil"


def test_what_is_too_much_to_search_is_not_decided():
    def body(c):
        for _ in range(30):
            c.value += 1

    result = frontrun.explore(
        Counter, body, lambda c: c.value >= 3, count=2, strategy="walk", max_attempts=500, seed=3
    )
    if result.property_holds is False:
        assert result.reachable in ("gil", "free-threaded", None)
    ends_low = frontrun.explore(Counter, body, lambda c: c.value == 60, count=2)
    assert ends_low.reachable == "free-threaded" or ends_low.reachable is None
    assert (ends_low.reachable is None) == ("was not decided" in ends_low.explanation)


def test_a_result_without_failure_says_nothing():
    assert frontrun.explore(Counter, inline, lambda c: True, count=2).reachable is None


def test_other_granularities_are_refused():
    with pytest.raises(ValueError, match="granularity must be 'instruction' or 'gil', not 'line'"):
        frontrun.explore(Counter, inline, two, count=2, granularity="line")
    with pytest.raises(ValueError, match="granularity must be 'instruction' with"):
        frontrun.explore(Counter, inline, two, count=2, strategy="random", granularity="gil")
