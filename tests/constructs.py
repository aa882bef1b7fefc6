"""Constructs of Python that touch shared state, and what must and must not race with them.

Each line names a construct, says what the shared state `s` is, and gives three pieces of code:
the construct itself, something that conflicts with it, and something similar that does not.
"""

import sysconfig
import textwrap
from dataclasses import dataclass

from frontrun.dpor import explore_dpor


@dataclass(frozen=True)
class Construct:
    group: str
    name: str
    setup: str
    code: str
    conflicting: str
    independent: str

    def __str__(self):
        return f"{self.group}: {self.name}"

    def races(self):
        """Do executions of the construct beside what conflicts end differently?"""
        outcomes, result = explore(self.setup, self.code, self.conflicting)
        return len(set(outcomes)) > 1 and result.num_explored > 1 and result.exhaustive

    def is_free(self):
        """Is beside what does not conflict one execution enough?"""
        _, result = explore(self.setup, self.code, self.independent)
        return result.num_explored == 1 and result.exhaustive


class Shared:
    """The state of a construct."""

    def __init__(self):
        self.results = {"first": None, "second": None}


SUPPORT = """
class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("x", "y")

    def __init__(self):
        self.x = self.y = 0


class Base:
    x = y = 0

    def method(self):
        return 0


class Derived(Base):
    def through_super(self):
        return super().x


class WithProperty:
    def __init__(self):
        self.hidden = 0
        self.y = 0

    @property
    def x(self):
        return self.hidden


class Listing(list):
    pass


class Manager:
    def __enter__(self):
        return 1

    def __exit__(self, *exception):
        return False


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class OwnKey:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def __hash__(self):
        return hash(self.number)


def cells():
    x = y = 0

    def read():
        return x

    def write():
        nonlocal x
        x += 1
        return x

    def other():
        nonlocal y
        y += 1

    return read, write, other


class Meta(type):
    x = y = 0


class WithMeta(metaclass=Meta):
    pass


class Inheriting(Base):
    @classmethod
    def through_super(cls):
        return super().x


class FallsBack(dict):
    def __getattr__(self, name):
        return 0


class Remembering:
    def __init__(self):
        self.computed = 0

    @functools.cached_property
    def value(self):
        self.computed += 1
        return self.computed


class Sized:
    pass


class Other(Sized):
    pass


@dataclasses.dataclass(slots=True)
class Point:
    x: int = 0
    y: int = 0


def count_up(n):
    i = 0
    while i < n:
        yield i
        i += 1
"""


# An installed package, as far as its file is concerned.
LIBRARY = """
import threading


class Tally:
    def __init__(self, **items):
        self.count = 0
        self.items = items

    def peek(self):
        return int(str(self.count))

    def look(self):
        return self.count

    def add(self, n):
        self.count += n

    @property
    def value(self):
        return self.count

    @value.setter
    def value(self, value):
        self.count = value

    def __call__(self, n):
        self.count += n

    def __getitem__(self, key):
        return self.items[key]

    def __setitem__(self, key, value):
        self.items[key] = value

    def __delitem__(self, key):
        del self.items[key]

    def __contains__(self, key):
        return key in self.items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)

    def __eq__(self, other):
        return self.count == other

    def __lt__(self, other):
        return self.count < other

    def __add__(self, other):
        return self.count + other

    def __iadd__(self, other):
        self.count += other
        return self

    def __repr__(self):
        return str(self.count)

    def __enter__(self):
        self.count += 1

    def __exit__(self, *exception):
        pass

    def pairs(self):
        yield from self.items.items()


class Tickets:
    def __init__(self):
        self.count = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.count += 1
        return self.count


class Locked:
    def __init__(self):
        self.count = 0
        self.lock = threading.Lock()

    def add(self, n):
        with self.lock:
            self.count += n
            return self.count


class Record:
    def __init__(self):
        self.x = self.y = 0

    def __setattr__(self, name, value):
        self.__dict__[name] = value


class Magic(dict):
    def __getattr__(self, name):
        return self[name]

    def __setattr__(self, name, value):
        self[name] = value


class Slots:
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0

    def add(self, n):
        self.count += n


def bump(tally):
    tally.count += 1
"""
LIBRARY_FILE = sysconfig.get_path("purelib") + "/library.py"


def library():
    """The classes of the package, and one of the user's own that inherits."""
    module = {"__name__": "library"}
    exec(compile(LIBRARY, LIBRARY_FILE, "exec"), module)
    return {name: value for name, value in module.items() if not name.startswith("__")}


INHERITING = """
class OwnTally(Tally):
    def add_twice(self):
        super().add(2)
"""


def explore(setup, first, second):
    namespace = library()
    exec(compile(INHERITING, "<support>", "exec"), namespace)
    imports = (
        "import array, bisect, collections, configparser, contextlib, contextvars, copy, csv\n"
        "import ctypes, dataclasses, decimal, enum, functools, hashlib, heapq, io, itertools\n"
        "import logging, mmap, operator, os, random, struct, sys, threading, types, weakref\n"
        "import xml.etree.ElementTree as tree\n"
        "from collections import ChainMap, Counter, OrderedDict, defaultdict, deque\n"
    )
    support = compile(imports + SUPPORT, "<support>", "exec")
    exec(support, namespace)
    body = textwrap.indent(setup, "    ")
    source = f"def setup(s):\n{body}\n{function('first', first)}{function('second', second)}"
    exec(compile(source, "<construct>", "exec"), namespace)
    outcomes = []

    def make():
        # Classes and globals are as new in each execution, too.
        exec(support, namespace)
        namespace.update(shared_global=0, other_global=0)
        state = Shared()
        namespace["setup"](state)
        return state

    def judge(state):
        globals_now = namespace.get("shared_global"), namespace.get("other_global")
        outcomes.append(repr((summary(vars(state)), globals_now)))
        return True

    workers = [namespace["first"], namespace["second"]]
    result = explore_dpor(
        make, workers, judge, preemption_bound=None, stop_on_first=False, max_executions=500
    )
    return outcomes, result


def function(name, code):
    try:
        compile(code, "<construct>", "eval")
    except SyntaxError:
        lines = f"try:\n{textwrap.indent(code, '    ')}\nexcept Exception as e:\n    r = repr(e)"
        return f"def {name}(s):\n    r = None\n{textwrap.indent(lines, '    ')}\n    s.results[{name!r}] = r\n"  # noqa: E501
    lines = f"try:\n    r = {code}\nexcept Exception as e:\n    r = repr(e)"
    return f"def {name}(s):\n{textwrap.indent(lines, '    ')}\n    s.results[{name!r}] = r\n"


def summary(value, depth=6):
    """What of a state can be told from another one."""
    kind = type(value).__name__
    if depth == 0:
        return kind
    deeper = lambda item: summary(item, depth - 1)  # noqa: E731
    if isinstance(value, dict):
        items = [(deeper(k), deeper(v)) for k, v in value.items() if str(k) != "__builtins__"]
        return kind, items, deeper(getattr(value, "__dict__", None))
    if isinstance(value, (list, tuple, set, frozenset)) or kind in {"deque", "array", "bytearray"}:
        return kind, [deeper(item) for item in value]
    if kind in {"Holder", "WithProperty", "Derived", "Base", "ChainMap", "SimpleNamespace"}:
        return kind, deeper(vars(value))
    if kind in {"Tally", "OwnTally", "Tickets", "Locked", "Record", "Logger", "UserDict"}:
        return kind, deeper(vars(value))
    if kind == "Element":
        return kind, deeper(value.attrib)
    if kind in {"Slotted", "Point"}:
        return kind, value.x, value.y
    if kind == "Slots":
        return kind, value.count
    if kind == "_Hash" or kind == "HASH":
        return kind, value.hexdigest()
    if kind == "Context":
        return kind, value.prec
    if kind in {"StringIO", "BytesIO"}:
        return kind, value.getvalue()
    if kind == "module":
        return kind, value.x, value.y
    if isinstance(value, type):
        return kind, getattr(value, "x", None), getattr(value, "y", None)
    if kind == "OwnKey":
        return kind, value.number
    return repr(value) if kind in {"int", "str", "bytes", "NoneType", "bool", "Color"} else kind


def rows(group, setup, *lines):
    return [Construct(group, line[0], setup, *line[1:]) for line in lines]


CONSTRUCTS = [
    *rows(
        "attributes",
        "s.x = s.y = 0",
        ("load", "s.x", "s.x = 1", "s.y = 1"),
        ("store", "s.x = 1", "s.x = 2", "s.y = 2"),
        ("delete", "del s.x", "s.x = 2", "s.y = 2"),
        ("augmented", "s.x += 1", "s.x += 1", "s.y += 1"),
        ("getattr", "getattr(s, 'x')", "s.x = 1", "s.y = 1"),
        ("hasattr", "hasattr(s, 'z')", "s.z = 1", "s.y = 1"),
        ("setattr", "setattr(s, 'x', 1)", "setattr(s, 'x', 2)", "setattr(s, 'y', 2)"),
        ("delattr", "delattr(s, 'x')", "s.x = 2", "s.y = 1"),
        ("object.__setattr__", "object.__setattr__(s, 'x', 1)", "s.x = 2", "s.y = 1"),
        ("object.__getattribute__", "object.__getattribute__(s, 'x')", "s.x = 2", "s.y = 1"),
        ("operator.attrgetter", "operator.attrgetter('x')(s)", "s.x = 1", "s.y = 1"),
        ("saved setter", "set = s.__setattr__\nset('x', 1)", "s.x = 2", "s.y = 2"),
        ("unpacking into", "s.x, z = 1, 2", "s.x = 2", "s.y = 2"),
        ("for target", "for s.x in (1,): pass", "s.x = 2", "s.y = 2"),
        ("with target", "with Manager() as s.x: pass", "s.x = 2", "s.y = 2"),
    ),
    *rows(
        "attributes through __dict__",
        "s.o = Holder(x=0, y=0)",
        ("load beside store", "s.o.x", "s.o.__dict__['x'] = 1", "s.o.__dict__['y'] = 1"),
        ("vars store", "vars(s.o)['x'] = 1", "s.o.x = 2", "s.o.y = 2"),
        ("vars load", "vars(s.o)['x']", "s.o.x = 2", "s.o.y = 2"),
        ("update", "s.o.__dict__.update(x=1)", "s.o.x = 2", "s.other = 1"),
        ("len of vars", "len(vars(s.o))", "s.o.new = 2", "s.o.x = 2"),
        ("copy.copy", "vars(copy.copy(s.o))", "s.o.x = 1", "s.x = 1"),
    ),
    *rows(
        "slots, properties, classes",
        "s.o = Slotted(); s.p = WithProperty(); s.b = Base(); s.d = Derived(); s.classes = [Base]",
        ("slot load", "s.o.x", "s.o.x = 1", "s.o.y = 1"),
        ("slot store", "s.o.x += 1", "s.o.x += 1", "s.o.y += 1"),
        ("property", "s.p.x", "s.p.hidden = 1", "s.p.y = 1"),
        ("class through instance", "s.b.x", "Base.x = 1", "Base.y = 1"),
        ("class through type", "type(s.b).x", "Base.x = 1", "Base.y = 1"),
        ("class", "Base.x += 1", "Base.x += 1", "Base.y += 1"),
        ("base class", "s.d.x", "Base.x = 1", "Base.y = 1"),
        ("super", "s.d.through_super()", "Base.x = 1", "Base.y = 1"),
        ("method", "s.b.method()", "Base.method = lambda self: 1", "Base.y = 1"),
    ),
    *rows(
        "names",
        "s.cells = cells(); s.m = types.ModuleType('m'); s.m.x = s.m.y = 0; s.names = {'x': 0}",
        ("global", "shared_global", "global shared_global\nshared_global = 1", "s.y = 1"),
        (
            "global += ",
            "global shared_global\nshared_global += 1",
            "global shared_global\nshared_global += 1",
            "global other_global\nother_global += 1",
        ),
        ("del global", "global shared_global\ndel shared_global", "shared_global", "other_global"),
        ("globals()", "globals()['shared_global']", "global shared_global\nshared_global = 1", "1"),
        ("module attribute", "s.m.x", "s.m.x = 1", "s.m.y = 1"),
        ("module __dict__", "s.m.__dict__['x'] = 1", "s.m.x = 2", "s.m.y = 1"),
        ("closure", "s.cells[0]()", "s.cells[1]()", "s.cells[2]()"),
        ("nonlocal +=", "s.cells[1]()", "s.cells[1]()", "s.cells[2]()"),
        ("exec", "exec('x = x + 1', s.names)", "exec('x = x + 1', s.names)", "exec('y = 1', {})"),
        ("eval", "eval('x', s.names)", "s.names['x'] = 1", "s.names['y'] = 1"),
    ),
    *rows(
        "dict",
        "s.d = {'a': 1, 'b': 2}; s.e = {'c': 3}; s.list = [1]",
        ("load", "s.d['a']", "s.d['a'] = 2", "s.d['b'] = 3"),
        ("store", "s.d['a'] = 2", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("delete", "del s.d['a']", "s.d['a'] = 3", "s.d['b']"),
        ("augmented", "s.d['a'] += 1", "s.d['a'] += 1", "s.d['b'] += 1"),
        ("insert", "s.d['z'] = 2", "len(s.d)", "s.d['b'] = 3"),
        ("len", "len(s.d)", "s.d['z'] = 3", "s.d['b'] = 3"),
        ("truth", "if s.d: r = 1", "s.d.clear()", "s.d['b'] = 3"),
        ("in", "'a' in s.d", "del s.d['a']", "s.d['z'] = 1"),
        ("in, missing", "'z' in s.d", "s.d['z'] = 1", "s.d['y'] = 1"),
        ("get", "s.d.get('a')", "s.d['a'] = 2", "s.d['b'] = 2"),
        ("get, missing", "s.d.get('z')", "s.d['z'] = 2", "s.d['b'] = 2"),
        (
            "setdefault",
            "s.d.setdefault('z', 1)",
            "s.d.setdefault('z', 2)",
            "s.d.setdefault('a', 1)",
        ),
        ("setdefault, known", "s.d.setdefault('a', 1)", "s.d['a'] = 5", "s.d.setdefault('a', 3)"),
        ("pop", "s.d.pop('a')", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("popitem", "s.d.popitem()", "s.d['b'] = 3", "s.e['b'] = 3"),
        ("update", "s.d.update(a=5)", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("clear", "s.d.clear()", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("copy", "s.d.copy()", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("keys", "list(s.d.keys())", "s.d['z'] = 3", "s.e['a'] = 3"),
        ("values", "list(s.d.values())", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("items", "list(s.d.items())", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("for", "[k for k in s.d]", "s.d['z'] = 3", "s.e['a'] = 3"),
        ("for over values", "[v for v in s.d.values()]", "s.d['b'] = 3", "s.e['a'] = 3"),
        ("for over items", "[v for k, v in s.d.items()]", "s.d['b'] = 3", "s.e['a'] = 3"),
        ("|", "s.d | s.e", "s.d['a'] = 3", "s.list.append(1)"),
        ("|=", "s.d |= {'q': 1}", "s.d['z'] = 3", "s.e['a'] = 3"),
        ("**", "dict(**s.d)", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("{**}", "{**s.d}", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("==", "s.d == {'a': 1, 'b': 2}", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("dict()", "dict(s.d)", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("dict.__setitem__", "dict.__setitem__(s.d, 'a', 2)", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("dict.__getitem__", "dict.__getitem__(s.d, 'a')", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("saved method", "f = s.d.get\nr = f('a')", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("operator.setitem", "operator.setitem(s.d, 'a', 5)", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("operator.itemgetter", "operator.itemgetter('a')(s.d)", "s.d['a'] = 3", "s.e['b'] = 3"),
        ("str()", "str(s.d)", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("f-string", "f'{s.d}'", "s.d['a'] = 3", "s.e['a'] = 3"),
        ("sorted", "sorted(s.d)", "s.d['z'] = 3", "s.e['a'] = 3"),
        ("match", "match s.d:\n    case {'a': q}: r = q", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("partial", "functools.partial(s.d.get, 'a')()", "s.d['a'] = 3", "s.d['b'] = 3"),
        ("map", "list(map(s.d.get, 'a'))", "s.d['a'] = 3", "s.e['b'] = 3"),
        ("fromkeys", "dict.fromkeys(s.d)", "s.d['z'] = 3", "s.e['b'] = 3"),
    ),
    *rows(
        "keys",
        "s.d = {k: 0 for k in (1, 'x', b'x', None, (1, 'a'), Color.RED, Color.BLUE, -1, -2)}",
        ("int, bool and float", "s.d[1]", "s.d[True] = 1", "s.d['x'] = 1"),
        ("float", "s.d[1.0] = 4", "s.d[1] = 1", "s.d[-1] = 1"),
        ("str and bytes", "s.d['x']", "s.d['x'] = 1", "s.d[b'x'] = 1"),
        ("None", "s.d[None]", "s.d[None] = 1", "s.d['x'] = 1"),
        ("tuple", "s.d[1, 'a']", "s.d[(True, 'a')] = 1", "s.d['x'] = 1"),
        ("enum", "s.d[Color.RED]", "s.d[Color.RED] = 1", "s.d[Color.BLUE] = 1"),
        ("IntEnum", "s.d[Number.ONE]", "s.d[1] = 1", "s.d[-2] = 1"),
        ("-1 and -2", "s.d[-1]", "s.d[-1.0] = 1", "s.d[-2] = 1"),
        ("own __eq__", "s.d[OwnKey(3)] = 1", "s.d[OwnKey(3)] = 2", "s.d['x'] = 2"),
        ("complex", "s.d[1 + 0j]", "s.d[1] = 1", "s.d[-1] = 1"),
        ("complex, not real", "s.d.get(1j)", "s.d[1j] = 1", "s.d[2j] = 1"),
    ),
    *rows(
        "list",
        "s.l = [3, 1, 2]; s.k = [0]; s.sub = Listing([1, 2])",
        ("load", "s.l[0]", "s.l[0] = 1", "s.l[1] = 5"),
        ("store", "s.l[0] = 1", "s.l[0] = 2", "s.l[1] = 5"),
        ("augmented", "s.l[0] += 1", "s.l[0] += 1", "s.l[1] += 1"),
        ("from the end", "s.l[-1]", "s.l.append(5)", "s.l[0] = 5"),
        ("store beside append", "s.l[0] = 9", "s.l.insert(0, 8)", "s.l.append(5)"),
        ("delete", "del s.l[0]", "s.l[0] = 7", "s.k[0] = 5"),
        ("slice", "s.l[1:]", "s.l[2] = 5", "s.k[0] = 5"),
        ("slice store", "s.l[:1] = [7, 7]", "s.l[0] = 5", "s.k[0] = 5"),
        ("slice from", "s.k[:] = s.l", "s.l[0] = 5", "s.sub[0] = 5"),
        ("slice delete", "del s.l[:1]", "s.l[0] = 5", "s.k[0] = 5"),
        ("len", "len(s.l)", "s.l.append(1)", "s.l[0] = 5"),
        ("truth", "1 if s.k else 2", "s.k.clear()", "s.k[0] = 3"),
        ("not", "not s.k", "s.k.clear()", "s.k[0] = 3"),
        ("and", "s.k and 5", "s.k.clear()", "s.k[0] = 3"),
        ("in", "1 in s.l", "s.l[1] = 7", "s.k[0] = 5"),
        ("append", "s.l.append(4)", "s.l.append(5)", "s.l[0] = 5"),
        ("extend", "s.l.extend([4])", "s.l.append(5)", "s.l[0] = 5"),
        ("extend from", "s.k.extend(s.l)", "s.l[0] = 5", "s.sub[0] = 5"),
        ("+=", "s.l += [4]", "s.l.append(5)", "s.sub[0] = 5"),
        ("*=", "s.l *= 2", "s.l.append(5)", "s.k[0] = 5"),
        ("+", "s.l + [1]", "s.l[0] = 5", "s.k[0] = 5"),
        ("*", "s.l * 2", "s.l[0] = 5", "s.k[0] = 5"),
        ("pop", "s.l.pop()", "s.l.append(5)", "s.l[0] = 5"),
        ("pop first", "s.l.pop(0)", "s.l[0] = 5", "s.k[0] = 5"),
        ("insert", "s.l.insert(0, 4)", "s.l[0] = 5", "s.k[0] = 5"),
        ("remove", "s.l.remove(3)", "s.l[0] = 5", "s.k[0] = 5"),
        ("sort", "s.l.sort()", "s.l[0] = 5", "s.k[0] = 5"),
        ("reverse", "s.l.reverse()", "s.l[0] = 5", "s.k[0] = 5"),
        ("index", "s.l.index(2)", "s.l[0] = 2", "s.k[0] = 5"),
        ("copy", "s.l.copy()", "s.l[0] = 5", "s.k[0] = 5"),
        ("for", "[x for x in s.l]", "s.l[2] = 5", "s.k[0] = 5"),
        ("for beside append", "[x for x in s.l]", "s.l.append(5)", "s.k.append(5)"),
        ("for, stopped", "for x in s.l:\n    r = x\n    break", "s.l[0] = 5", "s.l[1] = 5"),
        ("unpacking", "a, b, c = s.l\nr = a", "s.l[0] = 5", "s.k[0] = 5"),
        ("star-unpacking", "a, *b = s.l\nr = b", "s.l[2] = 5", "s.k[0] = 5"),
        ("[*l]", "[*s.l]", "s.l[0] = 5", "s.k[0] = 5"),
        ("f(*l)", "max(*s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("==", "s.l == [3, 1, 2]", "s.l[0] = 5", "s.k[0] = 5"),
        ("== of nested", "(s.l,) == ([3, 1, 2],)", "s.l[0] = 5", "s.k[0] = 5"),
        ("<", "s.l < [3, 1, 3]", "s.l[0] = 5", "s.k[0] = 5"),
        ("sorted", "sorted(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("sorted with key", "sorted(s.l, key=lambda x: -x)", "s.l[0] = 5", "s.k[0] = 5"),
        ("sum", "sum(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("max", "max(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("any", "any(s.k)", "s.k[0] = 5", "s.l[0] = 5"),
        ("list()", "list(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("tuple()", "tuple(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("set()", "set(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("zip", "list(zip(s.l, 'abc'))", "s.l[0] = 5", "s.k[0] = 5"),
        ("for over zip", "[x for x in zip(s.l, 'abc')]", "s.l[2] = 5", "s.k[0] = 5"),
        ("enumerate", "[x for x in enumerate(s.l)]", "s.l[2] = 5", "s.k[0] = 5"),
        ("reversed", "[x for x in reversed(s.l)]", "s.l[0] = 5", "s.k[0] = 5"),
        ("map over", "[x for x in map(str, s.l)]", "s.l[2] = 5", "s.k[0] = 5"),
        ("filter", "[x for x in filter(None, s.l)]", "s.l[2] = 5", "s.k[0] = 5"),
        ("itertools.chain", "[x for x in itertools.chain(s.l)]", "s.l[2] = 5", "s.k[0] = 5"),
        ("itertools.islice", "list(itertools.islice(s.l, 2))", "s.l[1] = 5", "s.k[0] = 5"),
        ("map(append)", "list(map(s.l.append, [7]))", "s.l.append(5)", "s.k[0] = 5"),
        ("str.join", "','.join(map(str, s.l))", "s.l[2] = 5", "s.k[0] = 5"),
        ("repr", "repr(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("%-format", "'%s' % s.l", "s.l[0] = 5", "s.k[0] = 5"),
        ("format method", "'{}'.format(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("saved method", "add = s.l.append\nadd(4)", "s.l.append(5)", "s.k[0] = 5"),
        ("unbound method", "list.append(s.l, 4)", "s.l.append(5)", "s.k[0] = 5"),
        ("subclass", "s.sub[0]", "s.sub[0] = 5", "s.sub[1] = 5"),
        ("subclass append", "s.sub.append(1)", "s.sub.append(2)", "s.sub[1] = 5"),
        ("heappush", "heapq.heappush(s.k, 1)", "heapq.heappush(s.k, -1)", "heapq.heapify(s.l)"),
        ("heappop", "heapq.heappop(s.k)", "s.k.insert(0, -1)", "s.l.append(1)"),
        ("bisect", "bisect.bisect(s.l, 2)", "s.l[1] = 5", "s.k[0] = 5"),
        ("insort", "bisect.insort(s.k, 1)", "s.k[0] = 5", "s.l[0] = 5"),
        ("reduce", "functools.reduce(operator.add, s.l)", "s.l[1] = 5", "s.k[0] = 5"),
        ("operator.iadd", "operator.iadd(s.l, [4])", "s.l.append(5)", "s.k[0] = 5"),
        ("operator.getitem", "operator.getitem(s.l, 0)", "s.l[0] = 5", "s.l[1] = 5"),
        ("operator.methodcaller", "operator.methodcaller('append', 1)(s.l)", "s.l.append(5)", "1"),
        ("copy.copy", "copy.copy(s.l)", "s.l[0] = 5", "s.k[0] = 5"),
        ("copy.deepcopy", "copy.deepcopy([s.l])", "s.l[0] = 5", "s.k[0] = 5"),
        ("match", "match s.l:\n    case [a, *_]: r = a", "s.l[0] = 5", "s.k[0] = 5"),
        ("call().append", "(lambda: s.l)().append(4)", "s.l.append(5)", "s.k[0] = 5"),
        ("nested", "[s.l][0][0] += 1", "s.l[0] += 1", "s.l[1] += 1"),
    ),
    *rows(
        "set",
        "s.s = {1, 2}; s.t = {3}; s.l = [1]",
        ("add", "s.s.add(5)", "len(s.s)", "s.t.add(7)"),
        ("add, known", "s.s.add(1)", "s.s.discard(1)", "s.s.add(1)"),
        ("in", "1 in s.s", "s.s.discard(1)", "s.s.add(7)"),
        ("in, missing", "9 in s.s", "s.s.add(9)", "s.s.add(7)"),
        ("discard", "s.s.discard(1)", "1 in s.s", "2 in s.s"),
        ("remove", "s.s.remove(1)", "1 in s.s", "2 in s.s"),
        ("pop", "s.t.pop()", "3 in s.t", "s.s.add(9)"),
        ("update", "s.s.update([7])", "7 in s.s", "s.t.add(9)"),
        ("update from", "s.t.update(s.s)", "s.s.add(9)", "s.l.append(9)"),
        ("|=", "s.s |= {8}", "8 in s.s", "s.t.add(9)"),
        ("|", "s.s | {1}", "s.s.add(7)", "s.t.add(7)"),
        ("&", "s.s & {7}", "s.s.add(7)", "s.t.add(7)"),
        ("-", "s.s - {7}", "s.s.add(8)", "s.t.add(7)"),
        ("<=", "s.s <= {1, 2}", "s.s.add(8)", "s.t.add(7)"),
        ("for", "sorted([x for x in s.s])", "s.s.add(8)", "s.t.add(7)"),
        ("len", "len(s.s)", "s.s.add(8)", "s.s.add(1)"),
        ("{*s}", "{*s.s}", "s.s.add(8)", "s.t.add(7)"),
        ("frozenset()", "len(frozenset(s.s))", "s.s.add(8)", "s.t.add(7)"),
        ("issubset", "s.s.issubset({1, 2})", "s.s.add(8)", "s.t.add(7)"),
    ),
    *rows(
        "deque",
        "s.q = deque([1, 2, 3]); s.p = deque([1]); s.m = deque([1, 2], maxlen=2)",
        ("append", "s.q.append(4)", "s.q.append(5)", "s.q[0] = 9"),
        ("appendleft", "s.q.appendleft(4)", "s.q[0] = 5", "s.p[0] = 9"),
        ("popleft", "s.q.popleft()", "s.q[0] = 5", "s.p[0] = 5"),
        ("pop", "s.q.pop()", "s.q.append(5)", "s.q[0] = 5"),
        ("index", "s.q[0]", "s.q[0] = 5", "s.q[1] = 5"),
        ("extend", "s.q.extend([4])", "s.q.append(5)", "s.p[0] = 5"),
        ("rotate", "s.q.rotate()", "s.q[0] = 5", "s.p[0] = 5"),
        ("len", "len(s.q)", "s.q.append(5)", "s.q[0] = 5"),
        ("for", "[x for x in s.q]", "s.q.append(5)", "s.p[0] = 5"),
        ("list()", "list(s.q)", "s.q[1] = 5", "s.p[0] = 5"),
        ("maxlen", "s.m.append(4)", "s.m[0] = 5", "s.p[0] = 5"),
        ("clear", "s.q.clear()", "s.q.append(5)", "s.p[0] = 5"),
        ("in", "2 in s.q", "s.q[1] = 5", "s.p[0] = 5"),
    ),
    *rows(
        "other dicts",
        "s.o = OrderedDict(a=1, b=2); s.dd = defaultdict(list, a=[1]); s.c = Counter('ab'); "
        "s.m1 = {'a': 1}; s.m2 = {'b': 2}; s.cm = ChainMap(s.m1, s.m2)",
        ("OrderedDict store", "s.o['a'] = 5", "s.o['a'] = 6", "s.o['b'] = 6"),
        ("OrderedDict delete", "del s.o['a']", "s.o['a'] = 6", "s.o['b'] = 6"),
        ("OrderedDict move_to_end", "s.o.move_to_end('a')", "s.o['z'] = 6", "s.dd['b']"),
        ("OrderedDict popitem", "s.o.popitem()", "s.o['z'] = 6", "s.c['b'] = 7"),
        ("OrderedDict for", "[k for k in s.o]", "s.o['z'] = 6", "s.c['b'] = 7"),
        ("OrderedDict items", "list(s.o.items())", "s.o['a'] = 6", "s.c['b'] = 7"),
        ("defaultdict, missing", "s.dd['z']", "s.dd['z'] = 5", "s.dd['a'] = 7"),
        ("defaultdict, both", "s.dd['z'].append(1)", "s.dd['z'].append(2)", "s.dd['a'].append(1)"),
        ("defaultdict, known", "s.dd['a']", "s.dd['a'] = 6", "s.dd['b'] = 7"),
        ("Counter +=", "s.c['a'] += 1", "s.c['a'] += 1", "s.c['b'] += 1"),
        ("Counter, missing", "s.c['z']", "s.c['z'] = 1", "s.c['b'] = 1"),
        ("Counter.update", "s.c.update('a')", "s.c['a'] = 7", "s.o['b'] = 1"),
        ("Counter.most_common", "s.c.most_common(1)", "s.c['a'] = 7", "s.o['b'] = 1"),
        ("Counter()", "Counter(s.m1)", "s.m1['a'] = 7", "s.o['b'] = 1"),
        ("ChainMap load", "s.cm['b']", "s.m2['b'] = 7", "s.m2['c'] = 1"),
        ("ChainMap store", "s.cm['a'] = 5", "s.m1['a'] = 7", "s.m2['b'] = 1"),
        ("ChainMap.get", "s.cm.get('b')", "s.m2['b'] = 7", "s.m2['c'] = 1"),
        ("ChainMap.new_child", "s.cm.new_child()['b']", "s.m2['b'] = 7", "s.m2['c'] = 1"),
        ("ChainMap for", "list(s.cm)", "s.m2['z'] = 7", "s.o['c'] = 1"),
    ),
    *rows(
        "bytes, arrays and buffers",
        "s.b = bytearray(b'abc'); s.c = bytearray(b'x'); s.a = array.array('i', [1, 2]); "
        "s.v = memoryview(s.b)",
        ("bytearray load", "s.b[0]", "s.b[0] = 1", "s.b[1] = 1"),
        ("bytearray store", "s.b[0] = 5", "s.b[0] = 1", "s.b[1] = 1"),
        ("bytearray append", "s.c.append(5)", "s.c.append(6)", "s.c[0] = 1"),
        ("bytearray slice", "bytes(s.b[1:])", "s.b[1] = 1", "s.c[0] = 1"),
        ("bytearray +=", "s.c += b'1'", "s.c.append(1)", "s.b[0] = 1"),
        ("bytearray.find", "s.b.find(b'c')", "s.b[2] = 1", "s.c[0] = 1"),
        ("bytes()", "bytes(s.b)", "s.b[0] = 1", "s.c[0] = 1"),
        ("array load", "s.a[0]", "s.a[0] = 7", "s.a[1] = 7"),
        ("array append", "s.a.append(1)", "s.a.append(2)", "s.a[0] = 7"),
        ("array for", "[x for x in s.a]", "s.a[1] = 7", "s.c[0] = 7"),
        ("array.tolist", "s.a.tolist()", "s.a[1] = 7", "s.c[0] = 7"),
        ("memoryview load", "s.v[0]", "s.b[0] = 7", "s.b[1] = 7"),
        ("memoryview store", "s.v[0] = 7", "s.b[0] = 8", "s.v[1] = 7"),
        ("memoryview slice", "bytes(s.v[1:])", "s.b[1] = 7", "s.c[0] = 7"),
    ),
    *rows(
        "iterators and generators",
        "s.i = iter([1, 2, 3]); s.j = iter([1, 2, 3]); s.count = itertools.count(); "
        "s.other = itertools.count(); s.g = count_up(3); s.h = count_up(3)",
        ("next", "next(s.i)", "next(s.i)", "next(s.j)"),
        ("next of count", "next(s.count)", "next(s.count)", "next(s.other)"),
        ("__next__", "s.i.__next__()", "next(s.i)", "next(s.j)"),
        ("for", "[x for x in s.i]", "next(s.i)", "next(s.j)"),
        ("list()", "list(s.i)", "next(s.i)", "next(s.j)"),
        ("zip of", "list(zip(s.i, 'ab'))", "next(s.i)", "next(s.j)"),
        ("unpacking", "a, b, *c = s.i\nr = c", "next(s.i)", "next(s.j)"),
        ("generator", "next(s.g)", "next(s.g)", "next(s.h)"),
        ("generator for", "[x for x in s.g]", "next(s.g)", "next(s.h)"),
        ("generator send", "s.g.send(None)", "next(s.g)", "next(s.h)"),
        ("generator close", "s.g.close()", "next(s.g)", "next(s.h)"),
        ("yield from", "def f():\n    yield from s.g\nr = list(f())", "next(s.g)", "next(s.h)"),
    ),
    *rows(
        "objects of C code",
        "s.t = io.StringIO(); s.u = io.StringIO(); s.b = io.BytesIO(); s.key = Holder(); "
        "s.w = weakref.WeakKeyDictionary(); s.x = weakref.WeakKeyDictionary(); "
        "s.vals = weakref.WeakValueDictionary(); s.set = weakref.WeakSet()",
        ("StringIO.write", "s.t.write('a')", "s.t.write('b')", "s.u.write('b')"),
        ("StringIO.getvalue", "s.t.getvalue()", "s.t.write('b')", "s.u.write('b')"),
        ("print(file=)", "print('a', file=s.t)", "print('b', file=s.t)", "s.u.write('b')"),
        ("BytesIO.write", "s.b.write(b'a')", "s.b.write(b'b')", "s.u.write('b')"),
        ("WeakKeyDictionary", "s.w.get(s.key)", "s.w[s.key] = 1", "s.x[s.key] = 1"),
        ("WeakKeyDictionary in", "s.key in s.w", "s.w[s.key] = 1", "s.x[s.key] = 1"),
        ("WeakValueDictionary", "s.vals.get(1)", "s.vals[1] = s.key", "s.x[s.key] = 1"),
        ("WeakSet", "s.key in s.set", "s.set.add(s.key)", "s.x[s.key] = 1"),
    ),
    *rows(
        "match on classes",
        "s.o = Holder(x=1, y=1)",
        ("attribute", "match s.o:\n    case Holder(x=v): r = v", "s.o.x = 2", "s.o.y = 2"),
    ),
    *rows(
        "special methods of C code",
        "class K:\n    def __setattr__(self, name, value):\n"
        "        object.__setattr__(self, name, value)\n"
        "class L:\n    def __setattr__(self, name, value):\n"
        "        super().__setattr__(name, value)\n"
        "s.k = K(); s.k.x = s.k.y = 0; s.l = L(); s.l.x = s.l.y = 0\n"
        "s.d = {1: 1, 2: 2}; s.i = [1, 2]",
        ("__setattr__ to object", "s.k.x", "s.k.x = 5", "s.k.y = 5"),
        ("__setattr__ to super", "s.l.x", "s.l.x = 5", "s.l.y = 5"),
        ("object.__getattribute__", "object.__getattribute__(s.k, 'x')", "s.k.x = 5", "s.k.y = 5"),
        ("bound __getitem__", "max([1, 2], key=s.d.__getitem__)", "s.d[1] = 7", "s.k.x = 7"),
        ("bound __contains__", "list(filter(s.d.__contains__, [1, 3]))", "s.d[3] = 7", "s.k.x = 7"),
        ("list.__setitem__", "list.__setitem__(s.i, 0, 5)", "s.i[0]", "s.i[1]"),
        ("dir", "len(dir(s.k))", "s.k.z = 7", "s.k.x = 7"),
    ),
    *rows(
        "other things of the library",
        "s.h = Holder(x=0, y=0); s.p = weakref.proxy(s.h); s.c = itertools.cycle([1, 2])\n"
        "s.e = enumerate([1, 2]); s.r = reversed([1, 2]); s.f = io.StringIO('a\\nb\\n')\n"
        "s.o = OrderedDict(a=1, b=2); s.t = {(Color.RED, 1): 0, (Color.BLUE, 1): 0}\n"
        "s.l = [[1], [2]]; s.b = bytearray(b'abcd'); s.n = types.SimpleNamespace(x=0, y=0)\n"
        "s.q = deque([1, 2, 3]); s.u = Counter('ab')",
        ("weak proxy", "s.p.x", "s.h.x = 1", "s.h.y = 1"),
        ("weak proxy store", "s.p.x = 1", "s.h.x", "s.h.y"),
        ("cycle", "next(s.c)", "next(s.c)", "next(s.e)"),
        ("enumerate", "next(s.e)", "next(s.e)", "next(s.r)"),
        ("reversed", "next(s.r)", "next(s.r)", "next(s.e)"),
        ("next of StringIO", "next(s.f)", "s.f.read()", "s.h.x = 1"),
        ("reversed OrderedDict", "list(reversed(s.o))", "s.o['c'] = 3", "s.h.x = 1"),
        ("tuple of enum", "s.t[Color.RED, 1]", "s.t[Color.RED, 1] = 5", "s.t[Color.BLUE, 1] = 5"),
        ("from_iterable", "list(itertools.chain.from_iterable(s.l))", "s.l[0] = [5]", "s.h.x"),
        ("memoryview of part", "memoryview(s.b)[1:][0]", "s.b[1] = 0", "s.h.x"),
        ("SimpleNamespace", "s.n.x", "s.n.x = 1", "s.n.y = 1"),
        ("deque index", "s.q[1]", "s.q[1] = 5", "s.q[2] = 5"),
        ("Counter.elements", "list(s.u.elements())", "s.u['a'] = 7", "s.h.x"),
        (
            "mapping with rest",
            "match s.o:\n    case {'a': 1, **rest}: r = rest",
            "s.o['b'] = 7",
            "s.h.x",
        ),
    ),
    *rows(
        "functions over elements",
        "s.l = [[3], [1, 2], []]; s.o = [Holder(x=1), Holder(x=2)]; s.h = Holder(x=0, y=0)\n"
        "s.d = [{'a': 1, 'b': 0}, {'a': 2, 'b': 0}]; s.g = {'a': [1], 'b': [2]}; s.k = [0]",
        ("map(len)", "[n for n in map(len, s.l)]", "s.l[1].append(1)", "s.k.append(1)"),
        ("sum of map(len)", "sum(map(len, s.l))", "s.l[0].append(1)", "s.k.append(1)"),
        ("map(tuple)", "list(map(tuple, s.l))", "s.l[0].append(5)", "s.k.append(5)"),
        (
            "map(list) of values",
            "list(map(list, s.g.values()))",
            "s.g['a'].append(5)",
            "s.k.append(5)",
        ),
        ("map(list.append)", "list(map(list.append, [s.k], [1]))", "s.k.append(2)", "s.h.x = 1"),
        ("map(getattr)", "list(map(getattr, [s.h], ['x']))", "s.h.x = 2", "s.h.y = 2"),
        ("map(setattr)", "list(map(setattr, [s.h], ['x'], [1]))", "s.h.x = 2", "s.h.y = 2"),
        (
            "map(attrgetter)",
            "list(map(operator.attrgetter('x'), s.o))",
            "s.o[0].x = 5",
            "s.h.x = 1",
        ),
        (
            "map(itemgetter)",
            "list(map(operator.itemgetter('a'), s.d))",
            "s.d[0]['a'] = 5",
            "s.d[0]['b'] = 5",
        ),
        (
            "map(methodcaller)",
            "list(map(operator.methodcaller('copy'), s.l))",
            "s.l[0].append(5)",
            "s.k[0] = 1",
        ),
        ("starmap", "list(itertools.starmap(setattr, [(s.h, 'x', 1)]))", "s.h.x = 2", "s.h.y = 2"),
        ("max by len", "max(s.l, key=len)", "s.l[2].extend([1, 2, 3])", "s.k.append(1)"),
        ("sort by len", "s.l.sort(key=len)", "s.l[2].extend([1, 2, 3])", "s.k.append(1)"),
        (
            "sort by shared dict",
            "x = ['a', 'b']\nx.sort(key=s.g.get)\nr = x",
            "s.g['a'] = [7]",
            "s.k.append(1)",
        ),
        (
            "sorted by attrgetter",
            "sorted(s.o, key=operator.attrgetter('x')) == s.o",
            "s.o[0].x = 5",
            "s.h.x = 1",
        ),
        (
            "max by itemgetter",
            "max(s.d, key=operator.itemgetter('a')) is s.d[0]",
            "s.d[0]['a'] = 5",
            "s.k[0] = 1",
        ),
        (
            "nlargest by len",
            "heapq.nlargest(1, s.l, key=len) == [s.l[1]]",
            "s.l[0].extend([1, 2])",
            "s.k[0] = 1",
        ),
        (
            "groupby len",
            "[k for k, _ in itertools.groupby(s.l, len)]",
            "s.l[0].append(4)",
            "s.k[0] = 1",
        ),
        (
            "bisect by shared dict",
            "bisect.bisect(['a'], [2], key=s.g.get)",
            "s.g['a'] = [9]",
            "s.k[0] = 1",
        ),
        ("reduce(getattr)", "functools.reduce(getattr, ['h', 'x'], s)", "s.h.x = 2", "s.h.y = 2"),
        (
            "reduce(getitem)",
            "functools.reduce(operator.getitem, ['a', 0], s.g)",
            "s.g['a'][0] = 2",
            "s.g['b'][0] = 2",
        ),
        ("sorted lists", "sorted(s.l)[0] is s.l[2]", "s.l[2].append(9)", "s.k[0] = 1"),
        ("any of lists", "any(s.l[2:])", "s.l[2].append(9)", "s.k[0] = 1"),
        ("filter of lists", "len(list(filter(None, s.l)))", "s.l[2].append(9)", "s.k[0] = 1"),
        ("list in lists", "[9] in s.l", "s.l[2].append(9)", "s.k[0] = 1"),
        ("index of a list", "s.l.index([1, 2])", "s.l[1][0] = 9", "s.k[0] = 1"),
        ("remove a list", "s.l.remove([1, 2])", "s.l[1][0] = 9", "s.k[0] = 1"),
        ("sum of lists", "sum(s.l, [])", "s.l[1][0] = 9", "s.k[0] = 1"),
        ("chain of lists", "list(itertools.chain(*s.l))", "s.l[0].append(9)", "s.k[0] = 1"),
        (
            "itemgetter, exactly",
            "operator.itemgetter('a')(s.d[0])",
            "s.d[0]['a'] = 5",
            "s.d[0]['b'] = 5",
        ),
        (
            "methodcaller, exactly",
            "operator.methodcaller('get', 'a')(s.d[0])",
            "s.d[0]['a'] = 5",
            "s.d[0]['b'] = 5",
        ),
        ("dotted attrgetter", "operator.attrgetter('h.x')(s)", "s.h.x = 1", "s.h.y = 1"),
        ("any of an own list", "any([s.l[2], s.l[2]])", "s.l[2].append(9)", "s.l[0].append(9)"),
        ("all of an own tuple", "all((s.l[2], s.k))", "s.l[2].append(9)", "s.l[0].append(9)"),
        ("sum of an own list", "sum([s.l[2], s.k], [])", "s.l[2].append(9)", "s.l[0].append(9)"),
        ("max of an own list", "max([s.l[2], s.k])", "s.l[2].append(9)", "s.l[0].append(9)"),
        ("any of own values", "x = {1: s.l[2]}\nr = any(x.values())", "s.l[2].append(9)", "s.k[0]"),
        ("f(*own list)", "len(*[s.l[2]])", "s.l[2].append(9)", "s.l[0].append(9)"),
    ),
    *rows(
        "functions that call others",
        "s.k = [0]; s.d = {'a': 1, 'b': 1}; s.h = Holder(x=0, y=0)",
        ("operator.call", "operator.call(s.k.append, 1)", "s.k.append(2)", "s.h.x = 1"),
        ("__call__", "s.k.append.__call__(1)", "s.k.append(2)", "s.h.x = 1"),
        (
            "keyword of a partial",
            "functools.partial(sorted, key=s.d.get)('ab')",
            "s.d['a'] = 2",
            "s.h.x = 1",
        ),
        (
            "Context.run",
            "contextvars.copy_context().run(s.k.append, 1)",
            "s.k.append(2)",
            "s.h.x = 1",
        ),
        (
            "Thread",
            "t = threading.Thread(target=s.k.append, args=(1,))\nt.start()\nt.join()",
            "s.k.append(2)",
            "s.h.x = 1",
        ),
        (
            "ExitStack.callback",
            "with contextlib.ExitStack() as e:\n    e.callback(s.k.append, 1)",
            "s.k.append(2)",
            "s.h.x = 1",
        ),
        ("deque of a map", "deque(map(s.k.append, [1]), maxlen=0)", "s.k.append(2)", "s.h.x = 1"),
        ("fields of a format", "'{0.x} {h.x}'.format(s.h, h=s.h)", "s.h.x = 1", "s.h.y = 1"),
    ),
    *rows(
        "iterators over what cannot change",
        "s.t = iter((1, 2, 3)); s.s = iter('abc'); s.r = iter(range(5)); s.b = iter(b'ab'); "
        "s.o = iter((1,))",
        ("tuple", "next(s.t)", "next(s.t)", "next(s.o)"),
        ("str", "next(s.s)", "next(s.s)", "next(s.o)"),
        ("range", "next(s.r)", "next(s.r)", "next(s.o)"),
        ("bytes", "next(s.b)", "next(s.b)", "next(s.o)"),
        ("for", "[x for x in s.r]", "next(s.r)", "next(s.o)"),
        ("zip of one", "list(zip(s.t, s.t))", "next(s.t)", "next(s.o)"),
        ("in", "2 in s.t", "next(s.t)", "next(s.o)"),
        ("[*i]", "[*s.t]", "next(s.t)", "next(s.o)"),
    ),
    *rows(
        "iterators that draw from others",
        "s.l = [1, 2, 3]; s.i = iter([1, 2, 3]); s.j = iter([1]); s.tee = itertools.tee(s.i)\n"
        "s.csv = csv.reader(['a', 'b']); s.chain = itertools.chain.from_iterable([[0], s.l]); "
        "s.k = [0]\ns.pairs = itertools.pairwise(s.l); s.count = itertools.count()\n"
        "s.dd = defaultdict(s.count.__next__)",
        ("tee", "next(s.tee[0])", "next(s.i)", "next(s.j)"),
        ("csv.reader", "next(s.csv)", "next(s.csv)", "next(s.j)"),
        ("from_iterable", "list(s.chain)", "s.l[0] = 5", "next(s.j)"),
        ("pairwise", "next(s.pairs)", "s.l[1] = 7", "s.k[0] = 7"),
        (
            "filter that skips",
            "next(filter(lambda x: x > 2, s.l), None)",
            "s.l[2] = 0",
            "s.k[0] = 7",
        ),
        ("heapq.merge", "[x for x in heapq.merge(s.l, [2])]", "s.l[2] = 5", "s.k[0] = 5"),
        ("default_factory", "s.dd['a']", "next(s.count)", "next(s.j)"),
        ("copy", "list(copy.copy(s.i))", "next(s.i)", "next(s.j)"),
    ),
    *rows(
        "classes and instances",
        "s.m = WithMeta(); s.b = Inheriting(); s.f = FallsBack(); s.f.x = s.f.y = 0\n"
        "s.z = Sized(); s.p = Point(); s.h = Holder(x=0, y=0); s.a = Holder(o=s.h)\n"
        "s.n = types.SimpleNamespace(x=0); s.cells = cells(); s.c = s.cells[0].__closure__[0]",
        ("metaclass", "WithMeta.x", "type(WithMeta).x = 1", "type(WithMeta).y = 1"),
        ("super() in a class method", "s.b.through_super()", "Base.x = 1", "Base.y = 1"),
        ("vars of a class", "vars(Base)['x']", "Base.x = 1", "Base.y = 1"),
        ("for over vars of a class", "len([k for k in vars(Base)])", "Base.z = 1", "Base.y = 1"),
        ("dict with __getattr__", "s.f.x", "s.f.x = 5", "s.f.y = 5"),
        ("type()", "type(s.z) is Sized", "s.z.__class__ = Other", "s.h.x = 1"),
        ("isinstance", "isinstance(s.z, Other)", "s.z.__class__ = Other", "s.h.x = 1"),
        ("copy.copy of slots", "copy.copy(s.p).x", "s.p.x = 1", "s.h.x = 1"),
        ("copy.deepcopy", "copy.deepcopy(s.a).o.x", "s.h.x = 1", "s.p.x = 1"),
        ("== of namespaces", "s.n == types.SimpleNamespace(x=0)", "s.n.x = 1", "s.h.x = 1"),
        (
            "update with pairs",
            "s.h.__dict__.update([('z', 1)])",
            "getattr(s.h, 'z', 0)",
            "s.p.x = 1",
        ),
        ("|= of __dict__", "d = s.h.__dict__\nd |= {'z': 1}", "getattr(s.h, 'z', 0)", "s.h.x"),
        ("cell_contents", "s.c.cell_contents", "s.cells[1]()", "s.cells[2]()"),
        ("cell_contents =", "s.c.cell_contents = 7", "s.cells[0]()", "s.cells[2]()"),
    ),
    *rows(
        "functions that remember",
        "s.n = [0]; s.k = [0]\n@functools.lru_cache\ndef cached(a=0, b=0):\n    s.n[0] += 1\n"
        "    return s.n[0]\ns.f = cached\n@functools.lru_cache\ndef fresh(a=0):\n"
        "    return [a]\ns.fresh = fresh",
        ("lru_cache", "s.f()", "s.f()", "s.k[0]"),
        (
            "result of lru_cache",
            "len(s.fresh())",
            "s.fresh().append(2)",
            "s.fresh(1).append(2)",
        ),
        ("cache_clear", "s.f() + s.f()", "s.f.cache_clear()", "s.k[0]"),
        ("cache_info", "s.f.cache_info().misses", "s.f()", "s.k[0]"),
    ),
    *rows(
        "buffers beside bytes",
        "s.b = bytearray(b'abcd'); s.c = bytearray(b'x'); s.v = memoryview(s.b); s.k = [0]\n"
        "s.a = array.array('i', [1, 2]); s.w = memoryview(s.a)",
        ("bytearray == bytes", "s.b == b'abcd'", "s.b[0] = 1", "s.c[0] = 1"),
        ("bytes < bytearray", "b'abca' < s.b", "s.b[0] = 1", "s.c[0] = 1"),
        ("memoryview == bytes", "s.v == b'abcd'", "s.b[0] = 1", "s.c[0] = 1"),
        ("bytes.join", "bytes(b'-'.join([s.b]))", "s.b[1] = 1", "s.c[0] = 1"),
        ("struct.pack_into", "struct.pack_into('b', s.b, 0, 5)", "s.b[0]", "s.c[0]"),
        ("readinto", "io.BytesIO(b'zz').readinto(s.b)", "s.b[0]", "s.c[0]"),
        ("memoryview of an array", "s.w[0] = 9", "s.a[0]", "s.c[0]"),
        ("memoryview.release", "s.v[0]", "s.v.release()", "s.c[0] = 1"),
    ),
    *rows(
        "dicts and their views",
        "s.d = {'a': 1, 'b': 2}; s.keys = s.d.keys(); s.proxy = types.MappingProxyType(s.d); "
        "s.k = [0]\ns.c = Counter('aab'); s.own = {1: 0}",
        ("in keys()", "'z' in s.keys", "s.d['z'] = 1", "s.d['b'] = 1"),
        ("in a proxy", "'z' in s.proxy", "s.d['z'] = 1", "s.d['b'] = 1"),
        ("keys &", "s.keys & {'z'}", "s.d['z'] = 1", "s.k[0] = 1"),
        ("for beside a value", "[k for k in s.d]", "s.d['z'] = 1", "s.d['a'] = 5"),
        ("sorted beside a value", "sorted(s.d)", "s.d['z'] = 1", "s.d['a'] = 5"),
        ("|=, exactly", "d = s.d\nd |= {'a': 5}", "s.d['a'] = 6", "s.d['b'] = 6"),
        ("+Counter", "+s.c", "s.c['a'] = -1", "s.k[0] = 1"),
        ("del of a Counter", "del s.c['a']", "s.c['a'] = 7", "s.c['b'] = 7"),
        ("Decimal for an int", "s.own[decimal.Decimal(1)] = 5", "s.own[1]", "s.k[0] = 1"),
    ),
    *rows(
        "other shared things",
        "s.q = deque([1, 2], maxlen=2); s.p = deque([1]); s.r = random.Random(1); s.k = [0]\n"
        "s.t = ([1], [2]); "
        "sys.modules['shared_module'] = s.m = types.ModuleType('shared_module')\n"
        "s.m.x = s.m.y = 0; os.environ.pop('SHARED', None)",
        ("extend of a full deque", "s.q.extend([4])", "s.q[0]", "s.p[0]"),
        ("list in a tuple", "[1, 9] in s.t", "s.t[0].append(9)", "s.k[0] = 1"),
        (
            "import",
            "import shared_module\nr = shared_module is s.m",
            "sys.modules['shared_module'] = s.k",
            "s.k[0] = 1",
        ),
        ("os.environ", "os.environ.get('SHARED')", "os.environ['SHARED'] = '1'", "s.k[0] = 1"),
        ("os.getenv", "os.getenv('SHARED')", "os.environ['SHARED'] = '1'", "s.k[0] = 1"),
    ),
    *rows(
        "classes that are not traced",
        "s.t = Tally(a=0, b=0); s.u = Tally(a=0); s.k = Locked(); s.r = Record(); s.s = Slots()\n"
        "s.n = Tickets(); s.o = Tickets(); "
        "s.m = Magic(x=0, y=0); s.own = OwnTally(); s.t.mark = 0",
        ("method", "s.t.add(1)", "s.t.peek()", "s.u.add(1)"),
        ("method that only looks", "s.t.look()", "s.t.add(1)", "s.t.look()"),
        ("unbound method", "Tally.add(s.t, 1)", "s.t.peek()", "s.u.add(1)"),
        ("saved method", "add = s.t.add\nadd(1)", "s.t.peek()", "s.u.add(1)"),
        ("methodcaller", "operator.methodcaller('add', 1)(s.t)", "s.t.peek()", "s.u.add(1)"),
        ("map", "list(map(s.t.add, [1]))", "s.t.peek()", "s.u.add(1)"),
        ("super", "s.own.add_twice()", "s.own.peek()", "s.u.add(1)"),
        ("method of slots", "s.s.add(1)", "s.s.count", "s.u.add(1)"),
        ("attribute beside a method", "s.t.count", "s.t.add(1)", "s.u.add(1)"),
        ("store beside a method", "s.t.count = 5", "s.t.peek()", "s.t.mark = 5"),
        ("property", "s.t.value", "s.t.add(1)", "s.t.value"),
        ("property store", "s.t.value = 5", "s.t.count", "s.u.value = 5"),
        ("__getattr__", "s.m.x", "s.m.x = 5", "s.m.y"),
        ("__setattr__", "s.r.x = 5", "s.r.x", "s.r.y = 5"),
        ("__call__", "s.t(1)", "s.t.peek()", "s.u(1)"),
        ("load", "s.t['a']", "s.t['a'] = 5", "s.t['b']"),
        ("augmented", "s.t['a'] += 1", "s.t['a'] += 1", "s.u['a'] += 1"),
        ("delete", "del s.t['a']", "'a' in s.t", "del s.u['a']"),
        ("in", "'z' in s.t", "s.t['z'] = 1", "'a' in s.t"),
        ("len", "len(s.t)", "s.t['z'] = 1", "len(s.t)"),
        ("truth", "1 if s.t else 2", "s.t.items.clear() or s.t.add(1)", "not s.t"),
        ("for", "[k for k in s.t]", "s.t['z'] = 1", "[k for k in s.t]"),
        ("list()", "list(s.t)", "s.t['z'] = 1", "list(s.t)"),
        ("generator", "list(s.t.pairs())", "s.t['a'] = 5", "list(s.t.pairs())"),
        ("unpacking", "a, b = s.t\nr = a", "del s.t['a']", "a, *b = s.t"),
        ("next", "next(s.n)", "s.n.count", "next(s.o)"),
        ("iterator", "for x in s.n:\n    r = x\n    break", "next(s.n)", "next(s.o)"),
        ("==", "s.t == 0", "s.t.add(1)", "s.t == 1"),
        ("<", "s.t < 1", "s.t.add(1)", "s.t < 0"),
        ("+", "s.t + 1", "s.t.add(1)", "s.t + 2"),
        ("+=", "t = s.t\nt += 1", "s.t.peek()", "t = s.u\nt += 1"),
        ("repr", "repr(s.t)", "s.t.add(1)", "str(s.t)"),
        ("f-string", "f'{s.t}'", "s.t.add(1)", "f'{s.t}'"),
        ("with", "with s.t: pass", "s.t.peek()", "with s.u: pass"),
        ("given to a function", "bump(s.t)", "s.t.peek()", "bump(s.u)"),
        ("with a lock of its own", "s.k.add(1)", "s.k.add(1)", "s.k.count"),
    ),
    *rows(
        "classes of the library",
        "s.c = configparser.ConfigParser(); s.c['x'] = {'n': '0'}\n"
        "s.d = collections.UserDict(a=1); s.log = logging.Logger('x', 10)\n"
        "s.e = ValueError(); s.e.add_note('a'); s.bare = ValueError()\n"
        "s.i = iter([1, 2]); s.l = [1]; s.j = iter(s.l)",
        ("ConfigParser", "s.c.get('x', 'n')", "s.c.set('x', 'n', '1')", "s.c.get('x', 'n')"),
        ("section", "s.c['x']['n']", "s.c['x']['n'] = '1'", "s.d['a']"),
        ("UserDict", "s.d['a']", "s.d['a'] = 2", "s.d['a']"),
        ("UserDict.data", "s.d.data = {}", "s.d['a']", "len(s.l)"),
        ("setLevel", "s.log.isEnabledFor(10)", "s.log.setLevel(20)", "s.log.level"),
        ("level", "s.log.level", "s.log.setLevel(20)", "s.log.info('x')"),
        (
            "addHandler",
            "len(s.log.handlers)",
            "s.log.addHandler(logging.NullHandler())",
            "s.log.hasHandlers()",
        ),
        ("add_note", "s.e.__notes__[:]", "s.e.add_note('b')", "s.bare.add_note('b')"),
        ("first note", "hasattr(s.bare, '__notes__')", "s.bare.add_note('b')", "s.e.__notes__"),
        ("length_hint", "operator.length_hint(s.i)", "next(s.i)", "next(s.j)"),
        ("length_hint of a list", "operator.length_hint(s.j)", "s.l.append(1)", "s.l[0] = 2"),
    ),
    *rows(
        "unknown types of C code",
        "s.e = tree.Element('e'); s.f = tree.Element('f')\n"
        "s.h = hashlib.md5(); s.i = hashlib.md5()\n"
        "s.c = decimal.Context(prec=5); s.a = (ctypes.c_int * 2)(); s.m = mmap.mmap(-1, 8)\n"
        "class P(ctypes.Structure):\n    _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_int)]\n"
        "s.p = P()",
        ("method", "s.e.set('n', '1')", "s.e.get('n')", "s.f.get('n')"),
        ("method that reads", "s.e.get('n')", "s.e.set('n', '1')", "s.e.get('n')"),
        ("attribute", "s.e.text", "s.e.text = 'a'", "s.e.tail = 'a'"),
        ("attribute beside a method", "s.e.tail = 'a'", "s.e.clear() or s.e.tail", "s.f.tail"),
        ("attribute with a check", "s.c.prec", "s.c.prec = 3", "s.c.Emax"),
        ("digest", "s.h.hexdigest()", "s.h.update(b'a')", "s.i.update(b'a')"),
        ("element", "s.a[0]", "s.a[0] = 1", "s.a[1]"),
        ("element of a mapping of memory", "s.m[0]", "s.m[0] = 1", "s.m[1]"),
        ("field of a structure", "s.p.x", "s.p.x = 1", "s.p.y = 1"),
    ),
]
