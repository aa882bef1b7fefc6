"""`frontrun bench`, with programs and suites of its own."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import frontrun

class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1

def test_counter():
    frontrun.explore(Counter, Counter.increment, bool, count=2, stop_on_first=False)

if __name__ == "__main__":
    print("arguments:", sys.argv[1:])
    test_counter()
    sys.exit(3)
"""


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "test_program.py").write_text(PROGRAM)

    ours = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}

    def run(*arguments, **environment):
        command = [sys.executable, "-m", "frontrun.bench", "--json=told.json", *arguments]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**ours, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        told = tmp_path / "told.json"
        return run, json.loads(told.read_text())["explorations"] if told.exists() else None

    return run


def check(measured):
    assert measured["executions"] == 4
    assert measured["events"] == 16
    for name in ("executions", "events", "traced_executions", "traced_opcodes"):
        assert measured[f"{name}_per_second"] > 0
    # Two workers of some ten opcodes each.
    assert 10 <= measured["traced_opcodes"] / measured["traced_executions"] <= 60


def test_a_program_is_measured_and_its_exit_status_passed_on(bench):
    run, told = bench("test_program.py", "-x", "--json", "mine")
    assert run.returncode == 3, run.stderr
    assert "arguments: ['-x', '--json', 'mine']" in run.stdout
    (measured,) = told
    assert measured["name"] == "Counter.increment"
    check(measured)


def test_a_test_suite_is_measured_test_by_test(bench):
    run, told = bench(
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "counter",
        "test_program.py",
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    (measured,) = told
    assert measured["name"] == "test_program.py::test_counter"
    check(measured)


def test_a_module_is_measured(bench):
    run, told = bench("-m", "test_program")
    assert run.returncode == 3, run.stderr
    check(told[0])


def test_known_programs_are_measured_when_none_is_given(bench):
    run, told = bench()
    assert run.returncode == 0, run.stderr
    assert [measured["executions"] for measured in told] == [4, 576, 24, 4]
    assert all(measured["traced_opcodes"] > 0 for measured in told)
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_a_program_that_waits_for_ever_without_a_schedule_has_no_comparison(bench, tmp_path):
    (tmp_path / "test_program.py").write_text(
        "import frontrun, threading\n"
        "def wait(event):\n"
        "    event.wait()\n"
        "frontrun.explore(threading.Event, [wait], bool)\n"
    )
    run, (measured,) = bench("test_program.py")
    assert run.returncode == 0, run.stderr
    assert measured["executions"] == 1
    assert measured["traced_executions_per_second"] is None


def test_a_program_that_explores_nothing_is_told_so(bench, tmp_path):
    (tmp_path / "test_program.py").write_text("")
    run, told = bench("test_program.py")
    assert run.returncode == 1
    assert told is None
    assert "nothing was explored" in run.stderr


@pytest.mark.parametrize("what", [["missing.py"], ["-m", "missing"]])
def test_what_does_not_exist_is_told_so(bench, what):
    run, told = bench(*what)
    assert run.returncode == 2
    assert run.stderr.startswith("frontrun bench: there is no ")
    assert told is None
