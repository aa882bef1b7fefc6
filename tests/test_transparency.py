"""Tracing changes nothing that a program can see."""

import gc
import sys
import weakref

import pytest

from frontrun import _native
from frontrun.dpor import explore_dpor

RAN = []


class Noisy:
    """Whose every hook tells that it ran."""

    def __init__(self):
        self.plain = 1

    @property
    def prop(self):
        RAN.append("property")
        return 1

    def __getattr__(self, name):
        RAN.append("__getattr__")
        raise AttributeError(name)

    def __eq__(self, other):
        RAN.append("__eq__")
        return self is other

    def __hash__(self):
        RAN.append("__hash__")
        return 1

    def __repr__(self):
        RAN.append("__repr__")
        return "noisy"

    def __len__(self):
        RAN.append("__len__")
        return 1

    def __bool__(self):
        RAN.append("__bool__")
        return True

    def __iter__(self):
        RAN.append("__iter__")
        return iter(())

    def __getitem__(self, key):
        RAN.append("__getitem__")
        return key


def use(noisy, other, table):
    """Each hook runs exactly as often as the language says."""
    noisy.plain += 1
    noisy.prop
    getattr(noisy, "missing", None)
    noisy == other
    table[noisy] = 1
    table[1] = 2
    table.get(1)
    1 in table
    table[noisy]
    len(noisy)
    if noisy:
        pass
    [*noisy]
    noisy[0]
    {noisy} | {other}
    [noisy] == [other]
    f"{noisy}{[noisy]}"
    sorted([noisy, noisy], key=id)
    noisy.__dict__["plain"]
    table.pop(noisy)


def hooks_run(execute):
    RAN.clear()
    execute(lambda: use(Noisy(), Noisy(), {}))
    return list(RAN)


def test_no_hook_of_the_users_runs_because_of_tracing():
    def traced(work):
        explore_dpor(lambda: None, [lambda _: work()], lambda _: True)

    assert hooks_run(traced) == hooks_run(lambda work: work())


def test_no_hook_of_the_users_runs_because_of_listening():
    def listening(work):
        _native.listen([use.__code__], lambda *event: None, None)
        try:
            work()
        finally:
            _native.unlisten()

    assert hooks_run(listening) == hooks_run(lambda work: work())


def test_references_are_as_many_after_an_exploration_as_before():
    class Thing:
        pass

    thing, table, items = Thing(), {"key": object()}, [object()]
    thing.attribute = object()

    def work(_):
        thing.attribute = thing.attribute
        table["key"] = table["key"]
        items.append(items.pop())
        vars(thing)["attribute"]
        for item in items:
            [item] == [item]

    def counts():
        things = (thing, table, items, thing.attribute, table["key"], items[0], Thing)
        return [sys.getrefcount(one) for one in things]

    explore_dpor(lambda: None, [work, work], lambda _: True, max_executions=20)
    gc.collect()
    before = counts()
    explore_dpor(lambda: None, [work, work], lambda _: True, max_executions=20)
    gc.collect()
    assert counts() == before


def test_objects_of_an_execution_die_with_it():
    class Thing:
        pass

    alive = []

    def setup():
        gc.collect()
        alive.append(sum(ref() is not None for ref in seen))
        thing = Thing()
        seen.append(weakref.ref(thing))
        return [thing]

    def work(state):
        state[0].value = 1

    seen = []
    explore_dpor(setup, [work, work], lambda _: True, stop_on_first=False)
    gc.collect()
    assert max(alive) <= 1
    assert [ref() for ref in seen] == [None] * len(seen)


def test_finalisers_run():
    finalised = []

    class Thing:
        def __del__(self):
            finalised.append(1)

    def work(_):
        thing = Thing()
        thing.value = 1
        del thing

    explore_dpor(lambda: None, [work], lambda _: True)
    gc.collect()
    assert finalised == [1]


def computed(values):
    """A bit of everything, whose result depends on every step."""
    total, seen, names = 0, {}, []
    for index, value in enumerate(values):
        seen.setdefault(value % 3, []).append(value)
        total += sum(seen[value % 3][-2:]) * index
        try:
            names.append(f"{value:>3}" if value % 2 else seen[99])
        except KeyError as error:
            names.append(repr(error))
        finally:
            total ^= len(names)
    first, *rest = sorted(values, key=lambda v: -v)
    generator = (v * first for v in rest)
    return total, seen, names, list(generator), {v: str(v) for v in rest}


@pytest.mark.parametrize("values", [[1, 2, 3], [5, 5, 0, 7], list(range(30))])
def test_a_traced_program_computes_what_it_computes_untraced(values):
    results = []
    explore_dpor(lambda: None, [lambda _: results.append(computed(values))], lambda _: True)
    assert results[0] == computed(values)


def test_opcodes_are_traced_as_before_after_an_exploration():
    told = []

    def work(_):
        return len("work")

    def tracer(frame, event, argument):
        if frame.f_code is not work.__code__:
            return None
        frame.f_trace_opcodes = True
        told.append(event)
        return tracer

    def opcodes():
        told.clear()
        before = sys.gettrace()
        sys.settrace(tracer)
        work(None)
        sys.settrace(before)
        return told.count("opcode")

    # What an interpreter delivers can change after the first time.
    opcodes()
    opcodes()
    before = opcodes()
    assert before > 0
    explore_dpor(lambda: None, [work, work], lambda _: True)
    assert opcodes() == before
