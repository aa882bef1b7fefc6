"""How far a long exploration has come, for people and for programs."""

import os
import pty
import subprocess
import sys

import pytest

import frontrun
from frontrun._progress import describe
from frontrun.common import Progress

LONG = """
import sys, frontrun

class State:
    x = 0

def increment(state):
    for _ in range(3):
        state.x += 1

result = frontrun.explore(
    State, increment, lambda s: True, count=4, preemption_bound=None, total_timeout={seconds}{more}
)
assert not result.exhaustive
print("rich" in sys.modules)
"""


def explore_at_a_terminal(seconds, more="", **environment):
    """What a terminal shows of the standard error, and whether rich was imported."""
    reader, terminal = pty.openpty()
    command = [sys.executable, "-c", LONG.format(seconds=seconds, more=more)]
    # Line by line: a terminal that nobody reads holds only a few kilobytes.
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"} | environment
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, env=env, text=True
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                some = os.read(reader, 4096)
            except OSError:  # The other end is closed.
                break
            if not some:
                break
            shown += some
        imported = process.stdout.read().strip()
    os.close(reader)
    assert process.returncode == 0, shown.decode()
    return shown.decode(), imported == "True"


def test_a_terminal_shows_a_bar_after_a_second():
    # To import what draws it takes its time on a busy machine.
    shown, imported = explore_at_a_terminal(3)
    assert "executions" in shown
    assert "of about" in shown
    assert imported


@pytest.mark.parametrize(
    ("seconds", "more", "environment"),
    [(0.2, "", {}), (1.6, ", progress=False", {}), (1.6, "", {"FRONTRUN_PROGRESS": "0"})],
    ids=["a short exploration", "progress=False", "FRONTRUN_PROGRESS=0"],
)
def test_no_bar_and_no_import_for(seconds, more, environment):
    assert explore_at_a_terminal(seconds, more, **environment) == ("", False)


def test_the_bar_tells_the_estimate_with_its_confidence_interval():
    assert describe(Progress(1200, 7134.4, 1.5, 0, 5300.0, 8900.0)) == (
        "1,200 of about 7,134 (5,300–8,900) executions"
    )
    assert describe(Progress(1200, None, 1.5, 0)) == "1,200 executions"


def test_progress_must_be_a_truth_value():
    with pytest.raises(TypeError, match="progress must be True or False, not 'no'"):
        frontrun.explore(list, [print], bool, progress="no")


def test_programs_are_told_the_estimate_with_its_confidence_interval():
    class State:
        x = 0

    def increment(state):
        for _ in range(4):
            state.x += 1

    told = []
    result = frontrun.explore(
        State,
        increment,
        lambda s: True,
        count=2,
        preemption_bound=None,
        on_progress=told.append,
    )
    for progress in told:
        low, high = progress.estimated_low, progress.estimated_high
        assert progress.executions <= low <= progress.estimated_total <= high
    stats = result.stats
    ends = [stats[f"estimated_{name}"] for name in ("total", "low", "high")]
    assert ends == [3334] * 3
