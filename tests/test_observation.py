"""Every construct that touches shared state is seen, and only what it touches."""

import configparser
import functools
import gc
import hashlib
import logging
from pathlib import Path
from xml.etree import ElementTree

import pytest
from constructs import CONSTRUCTS, library

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


def test_what_a_full_lru_cache_forgets_is_seen():
    calls = []

    def setup():
        calls.clear()
        square = functools.lru_cache(maxsize=1)(lambda n: calls.append(n) or n * n)
        square(1)
        return square

    counts = set()
    result = explore_dpor(
        setup,
        [lambda square: square(2), lambda square: square(1)],
        lambda _: counts.add(len(calls)) or True,
        stop_on_first=False,
    )
    assert counts == {2, 3}
    assert result.exhaustive


def use_configparser():
    parser = configparser.ConfigParser()
    parser["section"] = {"key": "0"}
    for _ in range(3):
        parser["section"]["key"] = str(parser.getint("section", "key") + 1)


def use_element():
    element = ElementTree.Element("e")
    ElementTree.SubElement(element, "child").set("key", "value")
    element.text = str(len(element))


def use_digest():
    digest = hashlib.md5()
    digest.update(b"text")
    return digest.hexdigest()


@pytest.mark.parametrize("use", [use_configparser, use_element, use_digest])
def test_objects_of_libraries_that_each_worker_has_for_itself_cost_no_execution(use):
    result = explore_dpor(lambda: None, [lambda _: use()] * 2, lambda _: True)
    assert result.num_explored == 1
    assert result.exhaustive


def test_a_library_object_with_a_lock_of_its_own_costs_the_executions_of_the_lock():
    locked = library()["Locked"]
    result = explore_dpor(
        locked, [lambda it: it.add(1)] * 2, lambda it: it.count == 2, preemption_bound=None
    )
    assert result.property_holds
    assert result.num_explored == 2


def test_reports_of_a_shared_logger_cost_no_execution():
    log = logging.Logger("shared")
    result = explore_dpor(lambda: log, [lambda log: log.debug("here")] * 3, lambda _: True)
    assert result.num_explored == 1
