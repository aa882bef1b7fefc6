"""Explorations beside what else traces a process: coverage.py, debuggers, profilers."""

import importlib.util
import json
import os
import subprocess
import sys
import threading

import pytest

import frontrun

PROGRAM = """\
import frontrun

class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        seen = self.value
        self.value = seen + 1

def work(counter):
    counter.increment()
    if counter is None:
        print("never")

result = frontrun.explore(
    Counter, work, lambda counter: counter.value == 2, count=2, stop_on_first=False
)
print(result.num_explored)
"""
NEVER = PROGRAM.splitlines().index('        print("never")') + 1
# Where there is no wheel of coverage.py for this Python its tracer is not in C.
CORES = ["ctrace" if importlib.util.find_spec("coverage.tracer") else "pytrace"]
CORES += ["sysmon"] if sys.version_info >= (3, 12) else []


@pytest.mark.parametrize("core", CORES)
def test_coverage_measures_what_workers_run(core, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def coverage(*arguments):
        command = [sys.executable, "-m", "coverage", *arguments]
        environment = {**os.environ, "COVERAGE_CORE": core}
        environment.pop("COVERAGE_PROCESS_START", None)
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    assert coverage("run", "--include=program.py", "program.py") == "4\n"
    coverage("json", "-o", "told.json")
    told = json.loads((tmp_path / "told.json").read_text())["files"]["program.py"]
    assert told["missing_lines"] == [NEVER]


class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()

    def increment(self):
        self.value += 1


def explore():
    result = frontrun.explore(
        Counter, Counter.increment, lambda counter: counter.value == 2, count=2, stop_on_first=False
    )
    assert (result.num_explored, result.property_holds) == (4, False)


@pytest.fixture
def lines():
    """The lines of `Counter.increment` that a trace function of all new threads is told of."""
    told, lock = [], threading.Lock()

    def tracer(frame, event, argument):
        with lock:  # a lock of the tracer's own is no part of the program
            if frame.f_code is not Counter.increment.__code__:
                return None
            told.append((threading.get_ident(), event))
        return tracer

    before, before_here = threading.gettrace(), sys.gettrace()
    threading.settrace(tracer)
    yield told
    threading.settrace(before)
    sys.settrace(before_here)


def test_workers_are_threads_to_threading_settrace(lines):
    explore()
    assert [event for _, event in lines].count("call") >= 8
    assert {event for _, event in lines} == {"call", "line", "return"}
    assert len({identity for identity, _ in lines}) == 2


def test_a_trace_function_of_the_caller_is_there_afterwards(lines):
    def tracer(frame, event, argument):
        return None

    sys.settrace(tracer)
    explore()
    assert sys.gettrace() is tracer


def test_a_worker_may_set_a_trace_function_of_its_own():
    told = []

    def tracer(frame, event, argument):
        told.append((frame.f_code.co_name, event))
        return tracer

    def work(counter):
        sys.settrace(tracer)
        counter.increment()
        sys.settrace(None)

    result = frontrun.explore(Counter, work, lambda counter: counter.value == 1, count=1)
    assert result.property_holds
    assert [event for name, event in told if name == "increment"][:3] == ["call", "line", "return"]


@pytest.mark.parametrize("begin", [sys.settrace, sys.setprofile])
def test_a_tracer_that_begins_in_a_running_function_hides_nothing(begin):
    def work(counter):
        begin(lambda *_: None)
        counter.value += 1
        begin(None)

    result = frontrun.explore(
        Counter, work, lambda counter: counter.value == 2, count=2, stop_on_first=False
    )
    assert (result.num_explored, len(result.failures)) == (4, 2)


def test_workers_are_threads_to_threading_setprofile():
    told = []

    def profiler(frame, event, argument):
        if frame.f_code is Counter.increment.__code__:
            told.append(event)

    before = threading.getprofile()
    threading.setprofile(profiler)
    try:
        explore()
    finally:
        threading.setprofile(before)
    assert told.count("call") == told.count("return") >= 8


def test_a_profile_function_of_the_caller_is_there_afterwards():
    def profiler(frame, event, argument):
        return None

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        explore()
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)


def test_a_debugger_stops_in_a_worker(tmp_path):
    (tmp_path / "program.py").write_text(
        PROGRAM.replace(
            "    counter.increment()\n", "    breakpoint()\n    counter.increment()\n", 1
        )
    )
    run = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        input="p ('value is', counter.value)\ncontinue\n" * 50,
        env={**os.environ, "PYTHONBREAKPOINT": "pdb.set_trace"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "('value is', 0)" in run.stdout
