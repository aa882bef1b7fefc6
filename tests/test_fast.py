"""The native backend on its own."""

import importlib.util
import subprocess
import sys
import sysconfig
import threading

import pytest

import frontrun
from frontrun import bytecode, dpor, fast

HERE = [__file__]


class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1


def of_value(accesses):
    return [access.kind for access in accesses if access.name == "value"]


def test_a_recording_has_the_result_and_the_accesses_in_order():
    counter = Counter()

    def work(amount, *, twice):
        counter.increment()
        return amount * twice

    recording = fast.record(work, 3, twice=2, files=HERE)
    assert recording.result == 6
    read, write = (access for access in recording.accesses if access.name == "value")
    assert (read.kind, read.opcode, read.type_name) == ("read", "LOAD_ATTR", "Counter")
    assert (write.kind, write.opcode, write.worker) == ("write", "STORE_ATTR", 0)
    assert read.filename == __file__
    assert read.lineno == write.lineno == Counter.increment.__code__.co_firstlineno + 1
    assert read.object_id == write.object_id == id(counter)
    assert read.offset < write.offset


def test_every_kind_of_place_has_its_name():
    table, items = {"key": 1}, [1, 2]

    def work():
        global touched
        touched = table["key"] + items[1]
        items.append(3)

    accesses = fast.record(work, files=HERE).accesses
    told = {(access.kind, access.type_name, access.name) for access in accesses}
    assert told >= {
        ("write", "global", "touched"),
        ("read", "dict", "['key']"),
        ("read", "list", "[1]"),
        ("write", "list", "[2]"),
        ("write", "list", "<structure>"),
    }


def test_accesses_are_a_sequence():
    accesses = fast.record(Counter().increment, files=HERE).accesses
    everything = list(accesses)
    assert accesses[0] == everything[0]
    assert accesses[-1] == everything[-1]
    assert accesses[1:] == everything[1:]
    assert len(accesses) == len(everything)
    with pytest.raises(IndexError):
        accesses[len(accesses)]


def test_objects_of_a_recording_live_as_long_as_it():
    recording = fast.record(lambda: [Counter().increment() for _ in range(3)], files=HERE)
    objects = {access.object_id for access in recording.accesses if access.name == "value"}
    assert len(objects) == 3


def test_threads_are_numbered_as_they_come():
    counter = Counter()

    def work():
        thread = threading.Thread(target=counter.increment)
        thread.start()
        thread.join()
        counter.increment()

    before = threading.gettrace()
    accesses = fast.record(work, files=HERE).accesses
    found = [(access.worker, access.kind) for access in accesses if access.name == "value"]
    assert found == [(1, "read"), (1, "write"), (0, "read"), (0, "write")]
    assert threading.gettrace() is before


def test_every_instruction_is_recorded_on_demand():
    def work(x):
        return x + 1 if x else None

    assert len(fast.record(work, 1, files=HERE).instructions) == 0
    instructions = fast.record(work, 1, files=HERE, opcodes=True).instructions
    names = [instruction.opcode for instruction in instructions]
    assert names[-1].startswith("RETURN_")
    assert any(name.startswith("BINARY_OP") for name in names)
    offsets = [instruction.offset for instruction in instructions]
    assert offsets == sorted(set(offsets))
    # What was switched off because it touches nothing is back the next time.
    fast.record(work, 1, files=HERE)
    again = fast.record(work, 1, files=HERE, opcodes=True).instructions
    assert list(again) == list(instructions)


def test_only_the_files_that_are_named_are_recorded(tmp_path):
    module = tmp_path / "shop.py"
    module.write_text("def sell(counter):\n    counter.value -= 1\n")
    namespace = {}
    exec(compile(module.read_text(), str(module), "exec"), namespace)

    def work():
        counter = Counter()
        counter.increment()
        namespace["sell"](counter)

    assert of_value(fast.record(work, files=["*/shop.py"]).accesses) == ["read", "write"]
    assert of_value(fast.record(work, files=["*/shop.py", *HERE]).accesses) == [
        "write",
        *["read", "write"] * 2,
    ]
    assert len(fast.record(work, files=[]).accesses) == 0


def test_an_exception_passes_through_a_recording_and_ends_it():
    def work():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fast.record(work)
    assert of_value(fast.record(Counter().increment, files=HERE).accesses) == ["read", "write"]


def test_recordings_and_explorations_do_not_mix():
    def explore():
        return frontrun.explore(Counter, Counter.increment, bool, count=2)

    for inner in (explore, lambda: fast.record(print)):
        with pytest.raises(RuntimeError, match=r"^accesses are being recorded in this process"):
            fast.record(inner)
    with pytest.raises(RuntimeError, match=r"^an exploration runs already"):
        frontrun.explore(lambda: fast.record(print), [print], bool)
    assert explore().num_explored == 4


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: fast.record(3), "fn must be callable, not 3"),
        (lambda: fast.record(print, files="a.py"), "files must be a list of patterns"),
        (lambda: fast.record(print, files=[1]), "files must be a list of patterns"),
        (lambda: fast.on_access(3), "callback must be callable or None, not 3"),
        (lambda: fast.on_access(print, "a.py"), "files must be a list of patterns"),
    ],
)
def test_bad_arguments_are_refused(call, complaint):
    with pytest.raises(TypeError, match=complaint):
        call()


def test_a_callback_is_told_of_each_access_before_it_happens():
    counter, told = Counter(), []

    def callback(access):
        counter.value  # of no interest: the callback's own
        if access.name == "value":
            told.append((access.kind, counter.value))

    fast.on_access(callback, files=HERE)
    counter.increment()
    counter.increment()
    fast.on_access(None)
    counter.increment()
    assert told == [("read", 0), ("write", 0), ("read", 1), ("write", 1)]


def test_a_callback_replaces_the_one_before():
    first, second, counter = [], [], Counter()
    fast.on_access(first.append, files=HERE)
    fast.on_access(second.append, files=HERE)
    counter.increment()
    fast.on_access(None)
    assert (len(first), of_value(second)) == (0, ["read", "write"])


def test_an_exception_of_a_callback_is_raised_at_the_access():
    counter = Counter()

    def refuse(access):
        if access.kind == "write":
            raise PermissionError(access.name)

    fast.on_access(refuse, files=HERE)
    try:
        with pytest.raises(PermissionError, match="value"):
            counter.increment()
    finally:
        fast.on_access(None)
    assert counter.value == 0


def test_a_recording_gives_the_trace_function_back():
    def tracer(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        fast.record(Counter().increment)
        fast.on_access(print)
        fast.on_access(None)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_a_trace_function_is_told_of_opcodes_on_demand():
    told = []

    def tracer(frame, event, argument):
        if frame.f_code is not Counter.increment.__code__:
            return None
        frame.f_trace_opcodes = True
        told.append(event)
        return tracer

    counter, before = Counter(), fast.gettrace()
    fast.settrace(tracer)
    assert fast.gettrace() is sys.gettrace() is tracer
    counter.increment()
    counter.increment()
    fast.settrace(before)
    assert fast.gettrace() is before
    assert told.count("call") == told.count("return") == 2
    assert told.count("opcode") > 10
    assert set(told) == {"call", "line", "opcode", "return"}


CPYTHONS_OWN_TESTS = """
import sys, unittest
from frontrun import fast
sys.settrace, sys.gettrace = fast.settrace, fast.gettrace
from test import test_sys_settrace
suite = unittest.defaultTestLoader.loadTestsFromModule(test_sys_settrace)
result = unittest.TextTestRunner().run(suite)
print(result.testsRun)
sys.exit(not result.wasSuccessful())
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("test") or not importlib.util.find_spec("test.test_sys_settrace"),
    reason="this Python comes without CPython's tests",
)
def test_trace_functions_pass_cpythons_own_tests():
    command = [sys.executable, "-c", CPYTHONS_OWN_TESTS]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


def test_the_exploring_functions_are_the_same():
    assert fast.explore_dpor is dpor.explore_dpor
    assert fast.explore_interleavings is bytecode.explore_interleavings


def test_the_backend_is_what_this_interpreter_offers(monkeypatch):
    monkeypatch.delenv("FRONTRUN_CARRIER", raising=False)
    backend = fast.backend()
    assert backend.name == ("settrace" if sys.version_info < (3, 12) else "monitoring")
    assert sys.version.startswith(backend.python)
    assert backend.free_threaded == bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert backend.carrier == ("threads" if backend.free_threaded else "fibers")
    assert {"time.sleep", "_queue.SimpleQueue.get"} < set(backend.intercepted)


def test_the_statistics_grow_with_what_is_done():
    before = fast.stats()
    result = frontrun.explore(Counter, Counter.increment, bool, count=2, stop_on_first=False)
    after = fast.stats()
    more = {name: after[name] - before[name] for name in before if name != "unknown_calls"}
    assert more["executions"] == result.num_explored
    assert more["events_delivered"] == result.stats["events"]
    assert more["events_seen"] >= more["events_delivered"] > 0
    assert more["switches"] >= result.num_explored
    assert more["workers_ns"] > 0
    assert more["engine_ns"] > 0


def test_functions_of_unknown_effect_are_listed():
    import gc

    def work(items):
        gc.is_finalized(items)

    before = fast.stats()["unknown_calls"].get("is_finalized", 0)
    frontrun.explore(lambda: [1], [work], lambda _: True)
    assert fast.stats()["unknown_calls"]["is_finalized"] > before
