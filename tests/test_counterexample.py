"""A counterexample is as simple as can be, replays, and survives in a file."""

import itertools
import threading

import pytest

import frontrun


class Counter:
    def __init__(self):
        self.value = 0
        self.other = 0

    def increment(self):
        for _ in range(3):
            self.other = self.value
        temp = self.value
        self.value = temp + 1


def preemptive_switches(schedule):
    return [(a, b) for a, b in itertools.pairwise(schedule) if a != b]


@pytest.mark.parametrize("strategy", ["dpor", "walk", "pct", "pos", "surw"])
def test_a_lost_update_is_told_with_one_switch_there_and_one_back(strategy):
    options = {} if strategy == "dpor" else {"seed": 7}
    result = frontrun.explore(
        Counter,
        Counter.increment,
        lambda c: c.value == 3,
        count=3,
        strategy=strategy,
        **options,
    )
    assert result.property_holds is False
    assert len(preemptive_switches(result.counterexample)) == 3, result.explanation
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert result.stats["minimising"] <= 500


def test_a_counterexample_fails_in_the_way_that_was_found():
    def worker(state):
        with state["a"]:
            state["n"] += 1
            if state["n"] == 2:
                raise ValueError("two")

    result = frontrun.explore(
        lambda: {"a": threading.Lock(), "n": 0},
        worker,
        lambda s: s["n"] == 1,
        count=2,
        strategy="walk",
        seed=1,
    )
    assert isinstance(result.exception, ValueError)
    assert len(preemptive_switches(result.counterexample)) == 1
