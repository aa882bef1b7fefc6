"""The reader of frames against the truth, over the execution of real library code.

Reading an operand from the wrong slot means memory corruption. So every instruction of the
workload below is checked through channels that do not read frames: the bytecode as `dis` decodes
it, the locals that `sys._getframe` gives, and what the instruction turns out to have done when
the next one of the same frame is reached.
"""

import argparse
import ast
import collections
import configparser
import contextlib
import csv
import dataclasses
import difflib
import dis
import email.message
import email.parser
import heapq
import html.parser
import inspect
import io
import json
import json.decoder
import json.encoder
import json.scanner
import shlex
import statistics
import string
import sys
import textwrap
import tokenize
import types
import urllib.parse
from types import CodeType, FunctionType

import pytest

from frontrun import _native

VERSION = sys.version_info[:2]
SAVES_DEPTH = VERSION in {(3, 11), (3, 14), (3, 15)}
LIBRARY = [
    argparse,
    ast,
    collections,
    configparser,
    contextlib,
    csv,
    dataclasses,
    difflib,
    email.message,
    email.parser,
    heapq,
    html.parser,
    inspect,
    json,
    json.decoder,
    json.encoder,
    json.scanner,
    shlex,
    statistics,
    string,
    textwrap,
    tokenize,
    urllib.parse,
]


class Null:
    """Stands for an operand that is no object."""


NULL = Null()
MISSING = object()


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)


class Plain:
    pass


class Derived(Plain):
    def __init__(self):
        super().__init__()
        self.equal = super().__eq__(1)


# More than 256 names, so that EXTENDED_ARG stands before attribute instructions.
LONG = "def long(plain):\n" + "".join(
    f" plain.name{i} = {i + 1000}; plain.name{i} = plain.name{i} + plain.name{i // 2}\n"
    for i in range(300)
)
namespace = {}
exec(LONG, namespace)


def delegating():
    def inner():
        try:
            received = yield 1
            yield received
        except KeyError:
            yield "caught"

    return (yield from inner())


def everything(plain):
    plain.a, plain.b, plain.c = 1, {"k": [1, 2, 3]}, plain
    for i in range(20):
        try:
            with contextlib.suppress(KeyError):
                plain.b["k"][i % 3] += plain.a
                plain.c.a += 1
                {}[i]
            if i % 3 == 0:
                raise ValueError(plain)
        except ValueError as error:
            plain.e = error.args[0].a
        finally:
            plain.f = [(k, v) for k, v in plain.b.items()]
            plain.g = {x: y for x, y in zip("ab", plain.b["k"], strict=False)}
            plain.h = f"{plain.a!r:>5}{plain.b}"
    try:
        try:
            raise ExceptionGroup("both", [TypeError(1), ValueError(2)])
        except* TypeError as group:
            plain.group = group
    except* ValueError as rest:
        plain.rest = rest.exceptions
    del plain.f
    _first, *_others = plain.b["k"]
    function = lambda q, *r, z=1: q.a + z  # noqa: E731
    function(plain, 1, 2, z=3)
    function(*[plain], **{"z": 2})
    match plain.b:
        case {"k": [x, y, z]}:
            plain.m = x + y + z
    plain.b["k"][:1] = plain.b["k"][1:]
    Derived()
    generator = delegating()
    next(generator)
    generator.send(5)
    generator.close()


def keeping_to_itself(values):
    """Containers that nobody else can reach, until they are given away."""
    mine, table, seen = [], {}, set()
    total = sum(mine) + len(sorted(mine)) + max([1, 2])
    for value in values:
        mine.append(value)
        table[value] = mine[-1]
        seen.add(value)
        if value in seen and len(mine) > 2:
            mine.pop()
    for key, value in table.items():
        mine[0] = key
        mine += [value] if value else ()
    alias = mine if values else []
    alias.append(1)
    published = []
    published.append(0)
    table["published"] = published
    published.append(1)
    for _ in range(3):
        one = []
        one.append(1)
        mine.append(one)
        one.append(2)
    try:
        before = []
        before.append(1)
        raising(before)
    except ValueError:
        before.append(2)
    for key in table:
        if key in mine:
            break
    else:
        table.clear()
    del mine[0]
    first, *rest = mine
    return total, sorted(seen), [x for x in mine], {k: v for k, v in table.items()}, first, rest


KEPT = []


def raising(value):
    KEPT.append(value)
    raise ValueError


def workload():
    for values in ([], [1], [3, 1, 2, 3]):
        with contextlib.suppress(IndexError):
            keeping_to_itself(values)
    text = json.dumps({"a": [1, 2.5, None, True, {"x": "yé"}] * 5, "b": {"k": [1]}}, indent=2)
    json.JSONDecoder(strict=False).decode(text)
    list(json.JSONEncoder(indent=1).iterencode(json.loads(text)))
    json.decoder.py_scanstring('abc\\u00e9\\n"', 0)
    json.scanner.py_make_scanner(json.JSONDecoder())(text, 0)
    textwrap.fill("the quick brown fox jumps over the lazy dog " * 10, 30)
    textwrap.dedent("   a\n   b\n")
    dataclasses.make_dataclass("Made", [("x", int), ("y", str, "q")])(1)
    dataclasses.asdict(Point(1, [Point(2)]))
    repr(dataclasses.replace(Point(1), x=3))
    parser = argparse.ArgumentParser(prog="x")
    parser.add_argument("-v", action="store_true")
    parser.add_argument("n", type=int, nargs="*")
    parser.parse_args(["-v", "1", "2"])
    parser.format_help()
    collections.Counter("abracadabra").most_common(2)
    collections.ChainMap({1: 2}, {3: 4})[3]
    collections.namedtuple("Named", "a b")(1, 2)
    inspect.signature(json.dumps)
    ast.unparse(ast.parse(inspect.getsource(everything)))
    statistics.stdev([1, 2, 3, 4.5])
    list(difflib.unified_diff(["a\n", "b\n"], ["a\n", "c\n"]))
    string.Template("$a ${b}").substitute(a=1, b=2)
    config = configparser.ConfigParser()
    config.read_string("[a]\nx=1\ny=%(x)s\n")
    config.get("a", "y")
    csv.DictWriter(io.StringIO(), ["a", "b"]).writerow({"a": 1, "b": 2})
    list(heapq.merge([1, 4], [2, 3]))
    list(tokenize.generate_tokens(io.StringIO("def f(x):\n  return x+1\n").readline))
    urllib.parse.urlsplit("http://u:p@h:1/p?q=1#f").hostname
    urllib.parse.urlencode({"a": [1, 2]}, doseq=True)
    html.parser.HTMLParser().feed("<a href='x'>b</a><!-- c --><p>&amp;")
    shlex.split("a 'b c' d")
    email.parser.Parser().parsestr("Subject: hello\nTo: a@b\n\nbody\n").as_string()
    everything(Plain())
    namespace["long"](Plain())


def codes_below(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_below(constant)


def codes_of(module):
    for value in list(vars(module).values()):
        members = vars(value).values() if isinstance(value, type) else [value]
        for member in members:
            member = getattr(member, "__func__", member)
            member = member.fget if isinstance(member, property) else member
            if isinstance(member, FunctionType) and member.__module__ == module.__name__:
                yield from codes_below(member.__code__)


def plain_attribute(owner, name):
    """What `owner.name` gives when only an instance or module dict or a slot is asked."""
    kind = type(owner)
    if isinstance(owner, types.ModuleType):
        return vars(owner).get(name, MISSING)
    if isinstance(owner, type) or kind.__getattribute__ is not object.__getattribute__:
        return MISSING
    for base in kind.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            if isinstance(found, types.MemberDescriptorType):
                try:
                    return found.__get__(owner, kind)
                except AttributeError:
                    return MISSING
            if hasattr(type(found), "__set__"):
                return MISSING
    return getattr(owner, "__dict__", {}).get(name, MISSING)


class Oracle:
    """Judges what the native reader tells about each instruction."""

    def __init__(self):
        self.instructions = {}
        self.expected = {}
        self.checked = collections.Counter()
        self.wrong = []

    def decoded(self, code):
        if code not in self.instructions:
            self.instructions[code] = {i.offset: i for i in self.decode(code)}
        return self.instructions[code]

    @staticmethod
    def decode(code):
        prefix = None
        for instruction in dis.get_instructions(code):
            if instruction.opname == "EXTENDED_ARG":
                prefix = instruction.offset if prefix is None else prefix
                continue
            # 3.11 reports an instruction at its first prefix.
            if prefix is not None and VERSION == (3, 11):
                instruction = instruction._replace(offset=prefix)
            prefix = None
            yield instruction

    def check(self, what, right, *context):
        self.checked[what] += 1
        if not right:
            self.wrong.append((what, *map(str, context)))

    def __call__(self, code, offset, opcode, depth, saved, operands, accesses, quiet, exact):
        instruction = self.decoded(code).get(offset)
        if instruction is None:
            self.check("prefix", opcode == "EXTENDED_ARG" or VERSION > (3, 11), code, offset)
            return
        where = (code.co_qualname, offset, instruction.opname)
        self.check("opcode", opcode == instruction.opname, *where, opcode)
        self.check("depth within the stack", depth == len(operands) <= code.co_stacksize, *where)
        if SAVES_DEPTH:
            self.check("saved depth", saved == depth, *where, saved, depth)
        frame = sys._getframe(1)
        consequence = self.expected.pop(id(frame), None)
        if consequence is not None:
            before, judge = consequence
            if before is code and offset in judge.offsets:
                judge(operands, where)
        judge = self.judge(instruction, operands, where)
        if judge is not None:
            judge.offsets = self.following(code, offset)
            self.expected[id(frame)] = (code, judge)
        if VERSION < (3, 12) or opcode != "LOAD_FAST_AND_CLEAR":
            self.remember_local(frame, code, instruction)

    def remember_local(self, frame, code, instruction):
        """The next instruction must find on top what this one loads from the locals."""
        if instruction.opname not in {"LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK"}:
            return
        value = frame.f_locals.get(instruction.argval, MISSING)
        if value is MISSING or instruction.argval in code.co_cellvars + code.co_freevars:
            return

        def judge(operands, where):
            self.check("local on top", operands[-1] is value, *where)

        judge.offsets = self.following(code, instruction.offset)
        self.expected[id(frame)] = (code, judge)

    def following(self, code, offset):
        later = [o for o in self.decoded(code) if o > offset]
        return {min(later)} if later else set()

    def judge(self, instruction, operands, where):
        opcode, argument = instruction.opname, instruction.argval
        if opcode in {"LOAD_ATTR", "LOAD_METHOD"}:
            return self.judge_load(plain_attribute(operands[-1], argument), argument)
        if opcode == "STORE_ATTR":
            return self.judge_store(operands[-1], argument, operands[-2])
        if opcode == "BINARY_SUBSCR" or (opcode == "BINARY_OP" and instruction.argrepr == "[]"):
            return self.judge_subscript(operands[-2], operands[-1])
        if opcode == "STORE_SUBSCR":
            return self.judge_subscript_store(operands[-2], operands[-1], operands[-3])
        if opcode in {"CALL", "CALL_KW"}:
            self.check("callee", callable(self.callee(opcode, instruction.arg, operands)), *where)
        if opcode == "FOR_ITER" and VERSION < (3, 15):
            self.check("iterator", hasattr(type(operands[-1]), "__next__"), *where)
        return None

    @staticmethod
    def callee(opcode, count, operands):
        if VERSION >= (3, 13):
            return operands[-(count + 2 + (opcode == "CALL_KW"))]
        below, above = operands[-(count + 2)], operands[-(count + 1)]
        return above if below is NULL else below

    def judge_load(self, expected, name):
        def judge(operands, where):
            results = [operands[-1]] if operands[-1] is not NULL else [operands[-2]]
            # A method is pushed with its object, in this or that order.
            results += operands[-2:-1]
            right = any(got is expected or got == expected for got in results)
            self.check("attribute", right, *where, name)

        return None if expected is MISSING else judge

    def judge_store(self, owner, name, value):
        if plain_attribute(owner, name) is MISSING and not isinstance(owner, Plain):
            return None

        def judge(operands, where):
            self.check("stored attribute", plain_attribute(owner, name) is value, *where, name)

        return judge

    def judge_subscript(self, container, key):
        if type(container) not in (list, dict, tuple, str) or type(key) not in (int, str):
            return None
        try:
            expected = container[key]
        except LookupError:
            return None

        def judge(operands, where):
            right = operands[-1] is expected or operands[-1] == expected
            self.check("subscript", right, *where)

        return judge

    def judge_subscript_store(self, container, key, value):
        if type(container) not in (list, dict) or type(key) not in (int, str):
            return None

        def judge(operands, where):
            self.check("stored subscript", container[key] is value, *where)

        return judge


def listen_to_the_workload(listener):
    codes = {code for module in LIBRARY for code in codes_of(module)}
    functions = [everything, keeping_to_itself, raising, delegating, Derived.__init__]
    for function in [*functions, namespace["long"]]:
        codes.update(codes_below(function.__code__))
    workload()  # imports and caches, once
    before = sys.gettrace()
    _native.listen(sorted(codes, key=id), listener, NULL)
    try:
        workload()
    finally:
        _native.unlisten()
    assert sys.gettrace() is before


@pytest.fixture(scope="module")
def oracle():
    oracle = Oracle()
    listen_to_the_workload(oracle)
    return oracle


def test_the_reader_is_right_about_every_instruction(oracle):
    assert oracle.wrong[:10] == []


@pytest.mark.parametrize(
    "what",
    [
        "opcode",
        "depth within the stack",
        "local on top",
        "attribute",
        "stored attribute",
        "subscript",
        "stored subscript",
        "callee",
        "iterator",
        *(["saved depth"] if SAVES_DEPTH else []),
    ],
)
def test_thousands_of_instructions_were_judged(oracle, what):
    least = {"iterator": 0 if VERSION >= (3, 15) else 300, "subscript": 200}
    least |= {"stored subscript": 50, "stored attribute": 500}
    assert oracle.checked[what] >= least.get(what, 1000), dict(oracle.checked)


def test_what_is_not_observed_concerns_objects_that_nobody_else_can_reach():
    wrong, judged = [], 0

    def listener(code, offset, opcode, depth, saved, operands, accesses, quiet, exact):
        nonlocal judged
        if quiet and accesses:
            judged += 1
            if not exact:
                wrong.append((code.co_qualname, offset, opcode, str(accesses)))

    listen_to_the_workload(listener)
    assert wrong == []
    assert judged > 200


def test_the_stack_never_outgrows_what_the_compiler_reserved():
    for module in LIBRARY:
        for code in codes_of(module):
            depths = [depth for depth in _native.depths(code) if depth is not None]
            assert max(depths) <= code.co_stacksize, code


def test_nothing_is_told_after_listening_ended():
    told = []
    _native.listen([everything.__code__], lambda *event: told.append(event), NULL)
    _native.unlisten()
    everything(Plain())
    assert told == []


def test_references_are_as_many_after_listening_as_before():
    def touch(owner):
        owner.value = owner.value
        return [owner][0]

    owner = Plain()
    owner.value = object()
    touch(owner)
    before = sys.getrefcount(owner), sys.getrefcount(owner.value)
    _native.listen([touch.__code__], lambda *event: None, NULL)
    try:
        for _ in range(100):
            touch(owner)
    finally:
        _native.unlisten()
    assert (sys.getrefcount(owner), sys.getrefcount(owner.value)) == before
