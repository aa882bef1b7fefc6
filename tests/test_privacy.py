"""What only one worker can reach costs nothing, until others can reach it."""

import pytest

from frontrun.dpor import explore_dpor


class State:
    def __init__(self):
        self.value = 0
        self.box = None
        self.seen = []


def explored(*workers):
    """The outcomes, and the result of the exploration."""
    outcomes = []

    def invariant(state):
        outcomes.append(repr(state.seen))
        return True

    result = explore_dpor(
        State, list(workers), invariant, preemption_bound=None, stop_on_first=False
    )
    assert result.exhaustive
    return set(outcomes), result


def test_containers_of_ones_own_are_no_events():
    def work(state):
        mine, table, seen = [], {}, set()
        for i in range(1000):
            mine.append(i)
            table[i] = mine[-1] + len(mine)
            if i not in seen:
                seen.add(i)
        for i in mine:
            table.pop(i)
        state.value += 1

    _, result = explored(work, work)
    assert result.num_explored == 4
    # The names `range` and `len` are global: `len` is read in each turn of the loop.
    assert result.stats["events"] < 4 * 2 * 1010


def test_arithmetic_is_no_event():
    def work(state):
        total = 0
        for i in range(1000):
            total += i * 2 % 7
            if total > 100:
                total -= 100
        state.value += 1

    _, result = explored(work, work)
    assert result.num_explored == 4
    assert result.stats["events"] < 4 * 2 * 10


WAYS = {
    "an attribute": "state.box = mine",
    "a chained assignment": "state.box = other = mine",
    "unpacking": "state.box, _ = mine, 0",
    "an item": "inner = [0]; inner[0] = mine; state.box = inner[0]",
    "an alias": "alias = mine; state.box = alias",
    "one of two": "alias = mine if state.value == 0 else []; state.box = alias",
    "a bound method": "state.box = mine.append.__self__",
    "an iterator": "iterator = iter(mine); state.box = iterator.__reduce__()[1][0]",
    "a closure": "state.box = (lambda: mine)()",
    "a default": "state.box = (lambda m=mine: m)()",
    "a comprehension": "state.box = [m for m in [mine]][0]",
    "a generator": "state.box = next(m for m in [mine])",
    "an operator": "state.box = [mine] * 2; state.box = state.box[0]",
    "an exception": "try:\n  raise ValueError(mine)\n except ValueError as error:\n"
    "  state.box = error.args[0]",
    "a handler": "try:\n  state.box = mine; state.missing\n except AttributeError: pass",
    "star arguments": "state.box = (lambda *a: a)(*[mine])[0]",
    "keywords": "state.box = (lambda **k: k)(m=mine)['m']",
    "locals": "state.box = locals()['mine']",
    "eval": "state.box = eval('mine')",
    "matching": "match mine:\n  case x: state.box = x",
    "a walrus": "(state.box, (other := mine))[1]; state.box = other",
    "a dict": "table = {}; table['k'] = mine; state.box = table.get('k')",
    "setdefault": "table = {}; state.box = table.setdefault('k', mine)",
    "a with block": "import contextlib\n with contextlib.nullcontext(mine) as m: state.box = m",
    "a loop": "for one in (mine,): state.box = one",
    "a view": "table = {0: mine}; state.box = next(iter(table.values()))",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_container_is_observed_once_it_was_published_by(way):
    text = f"def work(state):\n mine = []\n mine.append(0)\n {WAYS[way]}\n mine.append(1)"
    namespace = {}
    exec(compile(text, __file__, "exec"), namespace)

    def reads(state):
        state.seen.append(state.box and len(state.box))

    outcomes, _ = explored(namespace["work"], reads)
    assert {eval(one)[-1] for one in outcomes} == {None, 1, 2}


def test_a_name_of_a_builtin_may_stand_for_something_else_later():
    namespace = {}
    text = """
def loops(state):
    for one in range(1):
        for two in range(1):
            pass
    state.seen.append(one)

def replaces(state):
    global range
    range = lambda n: state.box

def adds(state):
    state.box[0] += 1
"""
    exec(compile(text, __file__, "exec"), namespace)

    def setup():
        namespace.pop("range", None)
        state = State()
        state.box = [5]
        return state

    outcomes = set()
    result = explore_dpor(
        setup,
        [namespace[name] for name in ("loops", "replaces", "adds")],
        lambda state: outcomes.add(repr(state.seen)) or True,
        preemption_bound=None,
        stop_on_first=False,
    )
    assert result.exhaustive
    assert outcomes == {"[0]", "[5]", "[6]"}
