"""Strategies that sample, progress, and what happens to programs that are not deterministic."""

import itertools
import random
import re

import pytest

import frontrun


class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1


def invariant(counter):
    return counter.value == 3


SAMPLING = ["walk", "pct", "pos", "surw", "portfolio"]


@pytest.mark.parametrize("strategy", SAMPLING)
def test_a_lost_update_is_found_by_sampling(strategy):
    result = frontrun.explore(
        Counter, Counter.increment, invariant, count=3, strategy=strategy, seed=1
    )
    assert result.property_holds is False
    assert "Lost update" in result.explanation
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 10)
    assert not result.exhaustive


@pytest.mark.parametrize("strategy", SAMPLING)
def test_a_seed_repeats_the_sample(strategy):
    def sample(seed):
        result = frontrun.explore(
            Counter,
            Counter.increment,
            invariant,
            count=3,
            strategy=strategy,
            seed=seed,
            max_attempts=50,
            stop_on_first=False,
        )
        assert result.num_explored == 50
        assert 1 < result.unique_interleavings <= 50
        return result.failures

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_an_unseeded_sample_tells_the_seed_that_repeats_it():
    first = frontrun.explore_random(Counter, Counter.increment, invariant, count=3)
    again = frontrun.explore_random(Counter, Counter.increment, invariant, count=3, seed=first.seed)
    assert first.seed is not None
    assert first.counterexample == again.counterexample


def test_options_of_another_strategy_are_refused():
    for strategy, option in [("walk", "depth"), ("pct", "preemption_bound"), ("dpor", "seed")]:
        with pytest.raises(TypeError, match=f"{strategy!r} has no option {option!r}"):
            frontrun.explore(
                Counter, Counter.increment, invariant, count=2, strategy=strategy, **{option: 1}
            )
    with pytest.raises(ValueError, match="one that samples"):
        frontrun.explore_random(Counter, Counter.increment, invariant, count=2, strategy="dpor")


def test_progress_is_told_while_an_exploration_runs():
    told = []

    def many(counter):
        for _ in range(6):
            counter.value += 1

    result = frontrun.explore(
        Counter,
        many,
        lambda counter: True,
        count=3,
        preemption_bound=None,
        total_timeout=0.4,
        on_progress=told.append,
    )
    assert told
    executions = [progress.executions for progress in told]
    assert executions == sorted(executions)
    assert 0 < executions[-1] <= result.num_explored
    assert all(progress.failures == 0 and progress.elapsed > 0 for progress in told)
    assert told[-1].estimated_total > told[-1].executions


def test_an_exception_of_the_progress_callback_ends_the_exploration():
    def many(counter):
        for _ in range(6):
            counter.value += 1

    def stop(progress):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        frontrun.explore(
            Counter,
            many,
            lambda counter: True,
            count=3,
            preemption_bound=None,
            on_progress=stop,
        )


def test_what_only_the_first_execution_does_is_forgiven():
    cache = {}

    def worker(counter):
        if "filled" not in cache:
            cache["filled"] = True
            counter.value += 0
        counter.value += 1

    result = frontrun.explore(Counter, worker, lambda c: c.value == 2, count=2, stop_on_first=False)
    assert result.property_holds is False
    assert result.exhaustive
    assert result.stats["restarts"] == 1


def test_a_program_that_is_not_deterministic_is_not_judged_but_told_where_it_differs():
    step = itertools.count()

    def worker(counter):
        for _ in range(next(step) % 7 + 1):
            counter.value += 1

    result = frontrun.explore(Counter, worker, lambda c: True, count=2)
    assert result.property_holds is None
    assert "two executions of one schedule differ at event" in result.inconclusive_reason
    assert not result.exhaustive


@pytest.mark.parametrize("search", ["few-preemptions", "depth-first", "diverse"])
def test_the_first_event_that_differs_is_named_with_its_worker_and_line(search):
    step = itertools.count()

    def worker(counter):
        counter.value += 0
        if next(step) % 3 == 0:
            counter.value += 1
        else:
            counter.value -= 1

    result = frontrun.explore(
        Counter, worker, lambda c: True, count=2, search=search, preemption_bound=None
    )
    found = re.search(r"event \d+ \(worker [01] at (.+):(\d+)\)", result.inconclusive_reason)
    assert found is not None, result.inconclusive_reason
    first = worker.__code__.co_firstlineno
    assert found[1] == __file__
    assert int(found[2]) - first in (3, 5)


@pytest.mark.parametrize("search", ["few-preemptions", "depth-first", "diverse"])
def test_the_same_exploration_runs_the_same_executions_in_the_same_order(search):
    def worker(counter):
        for name in random.Random(3).sample(["a", "b", "c"], 3):
            setattr(counter, name, 1)

    def explore():
        return frontrun.explore(
            Counter,
            worker,
            lambda c: False,
            count=2,
            stop_on_first=False,
            preemption_bound=None,
            search=search,
        ).failures

    assert explore() == explore()


def test_an_exploration_that_observes_nothing_warns():
    with pytest.warns(frontrun.NothingObservedWarning, match="nothing was observed") as warned:
        frontrun.explore(dict, [len, len], lambda state: True)
    assert [warning.filename for warning in warned] == [__file__]
