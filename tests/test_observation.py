"""Every construct that touches shared state is seen, and only what it touches."""

import functools
import gc
from pathlib import Path

import pytest
from constructs import CONSTRUCTS

from frontrun import _native
from frontrun.dpor import explore_dpor


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=str)
def test_a_conflict_is_explored_both_ways(construct):
    assert construct.races()


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=str)
def test_what_does_not_conflict_is_explored_once(construct):
    assert construct.is_free()


def test_every_opcode_of_this_interpreter_has_its_meaning():
    unknown = [name for _, name, known in _native.opcodes() if not known]
    assert unknown == []


def test_functions_that_are_not_known_write_what_they_are_given_and_are_counted():
    _native.unknown_calls()

    def work(items):
        gc.is_finalized(items)

    result = explore_dpor(
        lambda: [1], [work, work], lambda _: True, preemption_bound=None, stop_on_first=False
    )
    assert result.num_explored == 2
    assert _native.unknown_calls().keys() == {"is_finalized"}
    assert _native.unknown_calls() == {}


def test_the_table_in_the_documentation_is_up_to_date():
    page = (Path(__file__).parent.parent / "docs" / "observed.md").read_text()
    for construct in CONSTRUCTS:
        name = construct.name.replace("|", "∣")
        assert f"| {construct.group} | `{name}` |{' exact |' * 5}\n" in page


def test_two_workers_may_both_compute_what_lru_cache_keeps():
    calls = []

    def setup():
        calls.clear()
        return functools.lru_cache(lambda: calls.append(1))

    result = explore_dpor(setup, [lambda cached: cached()] * 2, lambda _: len(calls) == 1)
    assert not result.property_holds


@pytest.mark.parametrize("pop", [lambda it: it.pop(), lambda it: it.update(it)])
def test_what_depends_on_all_of_a_container_is_explored_in_each_order_once(pop):
    result = explore_dpor(
        lambda: {1, 2, 3}, [pop, pop], lambda _: True, preemption_bound=None, max_executions=50
    )
    assert result.exhaustive
    assert result.num_explored == 2


def test_containers_that_hold_each_other_are_looked_at_once():
    def setup():
        lists = [[] for _ in range(100)]
        for one in lists:
            one.extend(lists)
        return lists

    result = explore_dpor(
        setup, [lambda lists: [1] in lists, lambda lists: lists.append(1)], lambda _: True
    )
    assert result.num_explored == 2
