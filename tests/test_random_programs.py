"""Random programs: what is recorded is what their objects log, and nothing is changed by it.

Each program runs on objects that log their own accesses in Python, and on plain ones. More than
CI does, for a longer search: ``FRONTRUN_EXAMPLES=20000 pytest tests/test_random_programs.py``.
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontrun.dpor import explore_dpor
from frontrun.fast import record

EXAMPLES = int(os.environ.get("FRONTRUN_EXAMPLES", "150"))
STRUCTURE = "<structure>"


class Box:
    def __init__(self):
        self.x = 1
        self.y = 2


class Log(list):
    def read(self, owner, name):
        self.append(("read", owner, name))

    def write(self, owner, name):
        self.append(("write", owner, name))


def logging_box(log, owner):
    class LoggingBox(Box):
        def __getattribute__(self, name):
            log.read(owner, name)
            return object.__getattribute__(self, name)

        def __setattr__(self, name, value):
            new = name not in object.__getattribute__(self, "__dict__")
            log.write(owner, name)
            if new:
                log.write(owner, STRUCTURE)
            object.__setattr__(self, name, value)

        def __delattr__(self, name):
            if name in object.__getattribute__(self, "__dict__"):
                log.write(owner, name)
                log.write(owner, STRUCTURE)
            else:
                log.read(owner, name)
            object.__delattr__(self, name)

    box = LoggingBox()
    log.clear()
    return box


def of_key(key):
    """Equal keys are one location."""
    return f"[{int(key) if isinstance(key, bool) else key!r}]"


class LoggingList(list):
    def __init__(self, log, owner, items):
        super().__init__(items)
        self.log, self.owner = log, owner

    def reached(self, index, log):
        inside = -list.__len__(self) <= index < list.__len__(self)
        if inside:
            log(self.owner, f"[{index % list.__len__(self)}]")
        if index < 0 or not inside:
            self.log.read(self.owner, STRUCTURE)

    def __getitem__(self, index):
        self.reached(index, self.log.read)
        return list.__getitem__(self, index)

    def __setitem__(self, index, value):
        self.reached(index, self.log.write)
        list.__setitem__(self, index, value)

    def __len__(self):
        self.log.read(self.owner, STRUCTURE)
        return list.__len__(self)

    def __iter__(self):
        index = 0
        while index < list.__len__(self):
            self.log.read(self.owner, f"[{index}]")
            yield list.__getitem__(self, index)
            index += 1
        self.log.read(self.owner, STRUCTURE)

    def append(self, value):
        self.log.write(self.owner, f"[{list.__len__(self)}]")
        self.log.write(self.owner, STRUCTURE)
        list.append(self, value)

    def pop(self):
        if list.__len__(self):
            self.log.write(self.owner, f"[{list.__len__(self) - 1}]")
            self.log.write(self.owner, STRUCTURE)
        else:
            self.log.read(self.owner, STRUCTURE)
        return list.pop(self)


class LoggingDict(dict):
    def __init__(self, log, owner, items):
        super().__init__(items)
        self.log, self.owner = log, owner

    def found(self, key):
        self.log.read(self.owner, of_key(key))
        return dict.__contains__(self, key)

    def written(self, key, anew):
        self.log.write(self.owner, of_key(key))
        if anew:
            self.log.write(self.owner, STRUCTURE)

    def __getitem__(self, key):
        self.found(key)
        return dict.__getitem__(self, key)

    def __contains__(self, key):
        return self.found(key)

    def get(self, key, default=None):
        self.found(key)
        return dict.get(self, key, default)

    def __setitem__(self, key, value):
        self.written(key, not dict.__contains__(self, key))
        dict.__setitem__(self, key, value)

    def setdefault(self, key, value):
        if dict.__contains__(self, key):
            self.found(key)
        else:
            self.written(key, True)
        return dict.setdefault(self, key, value)

    def __delitem__(self, key):
        if dict.__contains__(self, key):
            self.written(key, True)
        else:
            self.found(key)
        dict.__delitem__(self, key)

    def pop(self, key, default):
        if dict.__contains__(self, key):
            self.written(key, True)
        else:
            self.found(key)
        return dict.pop(self, key, default)

    def __len__(self):
        self.log.read(self.owner, STRUCTURE)
        return dict.__len__(self)

    def __iter__(self):
        for key in dict.__iter__(self):
            self.log.read(self.owner, STRUCTURE)
            yield key
        self.log.read(self.owner, STRUCTURE)

    def values(self):
        for key in dict.__iter__(self):
            self.log.read(self.owner, of_key(key))
            yield dict.__getitem__(self, key)
        self.log.read(self.owner, STRUCTURE)


ITEMS = [3, 1, 2]
TABLE = {"k": 5, "m": 6}


@dataclass
class World:
    a: object
    b: object
    items: list
    table: dict
    log: Log = field(default_factory=Log)

    def arguments(self):
        return self.a, self.b, self.items, self.table

    def state(self):
        """What is left in the objects, read without leaving a trace."""
        boxes = [object.__getattribute__(box, "__dict__") for box in (self.a, self.b)]
        return boxes, list.__repr__(self.items), dict.__repr__(self.table)


def plain_world():
    return World(Box(), Box(), list(ITEMS), dict(TABLE))


def logging_world():
    log = Log()
    boxes = logging_box(log, "a"), logging_box(log, "b")
    return World(
        *boxes, LoggingList(log, "items", ITEMS), LoggingDict(log, "table", TABLE), log=log
    )


# Programs.

ATTRIBUTES = st.sampled_from(["a.x", "a.y", "b.x", "b.y", "b.z"])
ITEMS_AT = st.sampled_from([f"items[{index}]" for index in (0, 1, 2, -1, 7)])
KEYS_AT = st.sampled_from(["table['k']", "table['m']", "table['n']", "table[0]"])
PLACES = ATTRIBUTES | ITEMS_AT | KEYS_AT
LOCALS = st.sampled_from(["p", "q", "r"])
OPERATORS = st.sampled_from(["+", "-", "*", "|", "^", "<", "=="])

ATOMS = (
    st.integers(-3, 9).map(str)
    | PLACES
    | LOCALS
    | st.sampled_from(
        [
            "len(items)",
            "len(table)",
            "sum(items)",
            "max(items, default=0)",
            "sum(table.values())",
            "table.get('k', 0)",
            "table.get('n', 4)",
            "table.pop('m', 3)",
            "items.pop()",
            "getattr(a, 'x')",
            "getattr(b, 'z', 8)",
            "outer()",
            "[*items][-1]",
            "[*table].count('k')",
            "sorted(items)[0]",
            "list(map(int, items))[0]",
        ]
    )
)


def compounds(inner):
    return st.one_of(
        st.tuples(inner, OPERATORS, inner).map(lambda parts: "({} {} {})".format(*parts)),
        inner.map(lambda e: f"(-({e}))"),
        st.tuples(inner, inner, inner).map(lambda e: "({} if {} else {})".format(*e)),
        st.tuples(inner, inner).map(lambda e: "({} and {})".format(*e)),
        inner.map(lambda e: f"table.setdefault('s', {e})"),
        inner.map(lambda e: f"sum([v * 2 + ({e}) for v in items])"),
        inner.map(lambda e: f"sum(v + ({e}) for v in [1, 2])"),
        inner.map(lambda e: f"len({{k: ({e}) for k in table}})"),
        inner.map(lambda e: f"(lambda w: w + ({e}))(1)"),
        inner.map(lambda e: f"(lambda w: len(f'{{w}}'))({e})"),
        inner.map(lambda e: f"(({e}) in table)"),
        st.tuples(inner, inner).map(lambda e: "adds({}, {})".format(*e)),
        st.tuples(inner, inner).map(lambda e: "adds(*[{}], second={})".format(*e)),
        st.tuples(LOCALS, inner).map(lambda e: "({} := {})".format(*e)),
    )


EXPRESSIONS = st.recursive(ATOMS, compounds, max_leaves=4)

SIMPLE = st.one_of(
    st.tuples(PLACES | LOCALS, EXPRESSIONS).map(lambda e: "{} = {}".format(*e)),
    st.tuples(PLACES | LOCALS, OPERATORS.filter(lambda o: o not in "<=="), EXPRESSIONS).map(
        lambda e: "{} {}= {}".format(*e)
    ),
    st.tuples(PLACES, PLACES, EXPRESSIONS, EXPRESSIONS).map(lambda e: "{}, {} = {}, {}".format(*e)),
    EXPRESSIONS.map(lambda e: f"items.append({e})"),
    EXPRESSIONS.map(lambda e: f"setattr(a, 'y', {e})"),
    st.sampled_from(
        [
            "del b.z",
            "del table['n']",
            "p, *q_ = items",
            "[*p_] = table",
            "p, q, r = items",
            "append = items.append; append(1)",
            "counts()",
            "p = next(iter(items))",
        ]
    ),
    EXPRESSIONS.map(lambda e: f"assert not isinstance({e}, str)"),
)


def indented(block):
    return "\n".join(" " + line for line in block.splitlines())


def blocks(inner):
    body = st.lists(inner, min_size=1, max_size=3).map("\n".join).map(indented)
    return st.one_of(
        st.tuples(EXPRESSIONS, body, body).map(lambda b: "if {}:\n{}\nelse:\n{}".format(*b)),
        body.map(lambda b: f"for p in list(items):\n{b}"),
        body.map(lambda b: f"for q in items:\n if len(seen) > 5: break\n seen.append(q)\n{b}"),
        body.map(lambda b: f"for r in range(2):\n{b}"),
        body.map(lambda b: f"for key in [*table]:\n p = table.get(key, 0)\n{b}"),
        st.tuples(body, body).map(lambda b: "try:\n{}\nfinally:\n{}".format(*b)),
        st.tuples(body, body).map(
            lambda b: "try:\n{}\nexcept (LookupError, TypeError):\n{}".format(*b)
        ),
        body.map(lambda b: f"while len(seen) < 3:\n seen.append(0)\n{b}"),
        st.tuples(EXPRESSIONS, body).map(
            lambda b: f"match {b[0]}:\n case int(value): p = value\n case _:\n{indented(b[1])}"
        ),
        EXPRESSIONS.map(
            lambda e: (
                f"def gives():\n got = yield {e}\n yield a.x\n"
                "generator = gives(); p = next(generator); q = generator.send(p)"
            )
        ),
    )


STATEMENTS = st.recursive(SIMPLE, blocks, max_leaves=6)

FRAME = """
def adds(first, second):
    return first + second

def program(a, b, items, table):
    p, q, r, seen, outcome = 1, 2, 3, [], "done"
    shared = 0
    def outer():
        return a.x + shared
    def counts():
        nonlocal shared
        shared += b.x
    try:
{}
    except Exception as error:
        outcome = type(error).__name__
    return outcome, repr((p, q, r, seen, shared))
"""


@st.composite
def programs(draw):
    lines = draw(st.lists(STATEMENTS, min_size=1, max_size=5))
    body = indented(indented("\n".join(lines))).replace("\n", "\n      ")
    return FRAME.format("      " + body)


def compiled(text):
    namespace = {}
    exec(compile(text, __file__, "exec"), namespace)
    return namespace["program"]


def projected(accesses):
    """Elements in order; of the structure the writes, and that it was read at all."""
    elements = [one for one in accesses if one[2] != STRUCTURE]
    writes = [one for one in accesses if one[2] == STRUCTURE and one[0] == "write"]
    return elements, writes


def recorded(program, world):
    recording = record(program, *world.arguments())
    names = ("a", "b", "items", "table")
    owners = {id(one): name for name, one in zip(names, world.arguments(), strict=True)}
    same = {"[False]": "[0]", "[True]": "[1]"}
    accesses = [
        (access.kind, owners[access.object_id], same.get(access.name, access.name))
        for access in recording.accesses
        if access.object_id in owners
    ]
    return recording.result, accesses


def random_programs(test):
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    configured = settings(
        max_examples=EXAMPLES,
        derandomize="FRONTRUN_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=quiet,
    )
    return configured(given(programs())(test))


@random_programs
def test_what_is_recorded_is_what_the_objects_log(text):
    program = compiled(text)
    logging = logging_world()
    result = program(*logging.arguments())
    logged = list(logging.log)
    plain = plain_world()
    same, accesses = recorded(program, plain)
    assert same == result
    assert projected(accesses) == projected(logged)
    read = {one for one in logged if one[2] == STRUCTURE}
    assert read <= set(accesses)


@random_programs
def test_a_program_computes_in_an_exploration_what_it_computes_outside(text):
    program = compiled(text)
    outside = plain_world()
    expected = program(*outside.arguments()), outside.state()
    seen = []

    def work(world):
        seen.append((program(*world.arguments()), world.state()))

    result = explore_dpor(plain_world, [work], lambda _: True)
    assert result.property_holds
    assert seen == [expected] * len(seen)
