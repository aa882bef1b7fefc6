"""The pytest plugin, in test suites of its own."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

COUNTER = """
    import frontrun, pytest, threading

    class Counter:
        def __init__(self):
            self.value = 0
            self.lock = threading.Lock()

        def increment(self):
            self.value += 1

        def increment_safely(self):
            with self.lock:
                self.value += 1

    def explore(increment=Counter.increment_safely, **options):
        return frontrun.explore(
            Counter, increment, lambda counter: counter.value == 2, count=2, **options
        )
"""


class Suite:
    """A test suite of one file, run by a pytest of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, text: str, *options: str, plugins=(), module=("pytest",), **environment: str):
        body = "\n".join(line.removeprefix("    ") for line in (COUNTER + text).splitlines())
        (self.path / "test_suite.py").write_text(body)
        plugins = ("frontrun.pytest_plugin", *plugins)
        command = [sys.executable, "-m", *module, "-p", "no:cacheprovider", "-rA"]
        for plugin in plugins:
            command += ["-p", plugin]
        # Exactly the plugins that are named, whatever is installed.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
        run = subprocess.run(
            [*command, *options],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return run.returncode, run.stdout + run.stderr


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path)


def test_what_was_explored_is_summed_up_at_the_end(suite):
    status, output = suite.run("""
    def test_safe():
        assert explore().property_holds

    def test_sampled():
        assert explore(strategy="pct", max_attempts=5, seed=1).property_holds

    def test_racy():
        assert explore(Counter.increment, stop_on_first=False).property_holds
    """)
    assert status == 1
    assert "3 explorations in 3 tests: 11 executions in" in output
    assert "2 exhaustive, 1 found a failure, 1 ended by a limit or sampled" in output
    assert re.search(r" 4 executions  .*test_suite.py::test_racy", output)


def test_a_failure_shows_the_line_of_the_test_and_the_explanation_only(suite):
    status, output = suite.run("""
    def test_racy():
        explore(Counter.increment).assert_holds()
    """)
    assert status == 1
    assert ">       explore(Counter.increment).assert_holds()" in output
    assert "   AssertionError: Race condition found after 2 interleavings." in output
    assert "def assert_holds" not in output
    assert " 2 executions  " in output


def test_a_suite_that_explores_nothing_is_told_nothing(suite):
    status, output = suite.run("""
    def test_nothing():
        assert True
    """)
    assert status == 0
    assert "exploration" not in output


def test_an_unused_plugin_imports_nothing_of_the_core():
    code = "import sys, frontrun.pytest_plugin; print(*(m for m in sys.modules if 'frontrun' in m))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["frontrun", "frontrun._host", "frontrun.pytest_plugin"]


def test_patching_locks_is_accepted_and_changes_nothing(suite):
    body = """
    def test_safe():
        assert explore().num_explored == 2
    """
    for options in ([], ["--frontrun-patch-locks"]):
        status, output = suite.run(body, *options)
        assert status == 0, output
        assert "1 passed" in output


def test_without_interception_tests_that_explore_are_skipped(suite):
    status, output = suite.run(
        """
    def test_explores():
        explore()

    def test_does_not():
        pass
    """,
        "--no-frontrun-patch-locks",
    )
    assert status == 0
    assert "1 passed, 1 skipped" in output
    assert "--no-frontrun-patch-locks: this test explores" in output


def test_the_command_line_limits_the_executions_of_every_exploration(suite):
    status, output = suite.run(
        """
    def test_limited():
        result = explore(Counter.increment, stop_on_first=False)
        assert (result.num_explored, result.exhaustive) == (2, False)

    def test_sampled():
        assert explore(strategy="walk", max_attempts=50, seed=1).num_explored == 2

    def test_already_lower():
        assert explore(Counter.increment, stop_on_first=False, max_executions=1).num_explored == 1
    """,
        "--frontrun-max-executions=2",
    )
    assert status == 0, output


def test_the_limit_must_be_a_positive_number(suite):
    status, output = suite.run("", "--frontrun-max-executions=none")
    assert status == 4
    assert "must be a number from 1, not 'none'" in output


def test_the_marker_sets_defaults_and_a_call_overrules_it(suite):
    status, output = suite.run("""
    pytestmark = pytest.mark.frontrun(stop_on_first=False, max_executions=1)

    def test_of_the_module():
        assert explore(Counter.increment).num_explored == 1

    @pytest.mark.frontrun(max_executions=3)
    def test_the_closest_marker_counts():
        assert explore(Counter.increment).num_explored == 3

    def test_the_call_counts_most():
        assert explore(Counter.increment, max_executions=2).num_explored == 2

    @pytest.mark.frontrun(max_attempts=7)
    def test_what_a_strategy_does_not_have_does_not_concern_it():
        assert explore(Counter.increment).num_explored == 1
        assert explore(strategy="walk", seed=1).num_explored == 7
    """)
    assert status == 0, output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("max_execution=1", "the frontrun marker has no 'max_execution'; it has "),
        ("max_executions=0", "in the frontrun marker, max_executions must be at least 1"),
        ("depth='deep'", "in the frontrun marker, depth must be an int"),
        ("3", "the frontrun marker takes options by name only"),
    ],
)
def test_a_wrong_marker_is_refused_before_any_test_runs(suite, arguments, complaint):
    status, output = suite.run(f"""
    @pytest.mark.frontrun({arguments})
    def test_marked():
        pass
    """)
    assert status == 4
    assert complaint in output


def test_processes_of_xdist_report_their_explorations(suite):
    status, output = suite.run(
        """
    @pytest.mark.parametrize("number", range(4))
    def test_safe(number):
        assert explore().num_explored == 2
    """,
        "-n2",
        plugins=["xdist"],
    )
    assert status == 0, output
    assert "4 explorations in 4 tests: 8 executions in" in output


def test_coroutine_tests_of_pytest_asyncio_explore(suite):
    status, output = suite.run(
        """
    import asyncio

    @pytest.mark.asyncio
    async def test_safe():
        before = asyncio.get_running_loop()
        await asyncio.sleep(0)
        assert explore().num_explored == 2
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is before

    @pytest.mark.asyncio
    async def test_racy():
        assert explore(Counter.increment).property_holds is False
    """,
        "--override-ini=asyncio_default_fixture_loop_scope=function",
        plugins=["asyncio"],
    )
    assert status == 0, output


ENDLESS = """
    def spin(state):
        while True:
            pass

    def test_endless():
        frontrun.explore(dict, [spin], bool, timeout_per_run=60.0, deadlock_timeout=60.0)

    def test_after():
        assert explore().num_explored == 2
"""


def test_pytest_timeout_ends_an_exploration_and_the_next_one_works(suite):
    status, output = suite.run(ENDLESS, "--timeout=1", plugins=["timeout"])
    assert status == 1
    assert "Timeout (>1.0s) from pytest-timeout" in output
    assert "1 failed, 1 passed" in output


def test_pytest_timeout_by_a_thread_ends_the_process_and_shows_where(suite):
    options = ["--timeout=1", "--timeout-method=thread"]
    status, output = suite.run(ENDLESS, *options, plugins=["timeout"])
    assert status == 1
    assert "in test_endless" in output


@pytest.mark.parametrize("name", ["pytest11", "console_scripts"])
def test_the_entry_points_exist(name):
    entry_points = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}[name]
    assert entry_points.keys() == {"frontrun"}
    module, _, attribute = entry_points["frontrun"].partition(":")
    found = import_module(module)
    assert callable(getattr(found, attribute or "pytest_addoption"))


RACY = """
    @pytest.mark.parametrize("text", ["a+b", "a b"])
    def test_racy(text):
        explore(Counter.increment).assert_holds()

    def test_twice():
        for _ in range(2):
            assert not explore(Counter.increment).property_holds
"""


def with_path(suite):
    return os.pathsep.join([str(suite.path), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_failures_are_reported_in_a_directory(suite):
    reports = suite.path / "out" / "reports"
    status, output = suite.run(RACY, f"--frontrun-report={reports}")
    assert status == 1
    assert f"failures are reported in {reports}" in output
    assert f"pytest --frontrun-replay={reports}/….json runs one again" in output
    texts = {path.name.partition("test_suite.py.")[2] for path in reports.glob("*.txt")}
    # Two names that differ in characters that a file name should not have.
    names = ["test_racy-a-b", "test_racy-a-b-2", "test_twice", "test_twice-2"]
    assert texts == {f"{name}.txt" for name in names}
    assert all("Lost update" in path.read_text() for path in reports.glob("*.txt"))
    assert len(list(reports.glob("*.json"))) == 4
    assert all("<html" in path.read_text() for path in reports.glob("*.html"))
    assert len(list(reports.glob("*.html"))) == 4


def test_failures_are_reported_without_pages_where_jinja2_is_missing(suite):
    (suite.path / "jinja2.py").write_text("raise ImportError('no jinja2')")
    status, output = suite.run(RACY, f"--frontrun-report={suite.path}", PYTHONPATH=with_path(suite))
    assert status == 1
    assert "ImportError" not in output
    assert sorted({path.suffix for path in suite.path.glob("*test_racy*")}) == [".json", ".txt"]


def test_no_report_is_written_without_a_failure(suite):
    reports = suite.path / "reports"
    suite.run(
        """
    def test_safe():
        explore().assert_holds()
    """,
        f"--frontrun-report={reports}",
    )
    assert not reports.exists()


REPLAYED = """
    def test_other():
        assert explore(stop_on_first=False).num_explored == 2

    def test_racy():
        result = explore(Counter.increment, stop_on_first=False)
        assert result.num_explored == 1
        result.assert_holds()
"""


def test_a_saved_counterexample_replaces_its_exploration(suite):
    suite.run(REPLAYED, f"--frontrun-report={suite.path}")
    (saved,) = suite.path.glob("*test_racy.json")
    status, output = suite.run(REPLAYED, f"--frontrun-replay={saved}")
    assert status == 1
    assert "Lost update" in output
    assert "1 failed, 1 passed" in output
    assert f"replayed {saved}" in output


def test_a_counterexample_that_fits_no_test_is_told(suite):
    suite.run(REPLAYED, f"--frontrun-report={suite.path}")
    (saved,) = suite.path.glob("*test_racy.json")
    _, output = suite.run(REPLAYED, f"--frontrun-replay={saved}", "-k", "other")
    assert f"{saved} fits no exploration of these tests" in output


def test_a_file_that_is_no_counterexample_is_refused(suite):
    (suite.path / "other.json").write_text("{}")
    for name, complaint in [("other.json", "no saved counterexample"), ("none", "No such file")]:
        status, output = suite.run(REPLAYED, f"--frontrun-replay={suite.path / name}")
        assert status == 4
        assert "--frontrun-replay: " in output
        assert complaint in output
