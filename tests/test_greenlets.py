"""Greenlets belong to an OS thread, so workers that use them run on threads of their own."""

import os
import subprocess
import sys
import textwrap

import pytest

from frontrun._exploration import CARRIERS

# The newest with a wheel for this Python.
GREENLET = "greenlet==3.5.6" if "fibers" in CARRIERS else "greenlet==3.2.2"

PROGRAM = """
    import sys, warnings
    import frontrun

    class Counter:
        def __init__(self):
            self.value = 0

    def count_in_greenlets(counter):
        import greenlet

        def twice():
            counter.value += 1
            outer.switch()
            counter.value += 1

        outer = greenlet.getcurrent()
        inner = greenlet.greenlet(twice)
        inner.switch()
        counter.value += 1
        inner.switch()

    def explore(**options):
        return frontrun.explore(
            Counter,
            count_in_greenlets,
            lambda counter: counter.value == 6,
            count=2,
            **{"stop_on_first": False, **options},
        )
"""


def run(package, ending, **environment):
    """What a program of its own prints: greenlet is never imported into this process."""
    package(GREENLET, pure=False)
    environment = {**os.environ, "PYTHONPATH": sys.path[0], **environment}
    source = textwrap.dedent(PROGRAM) + textwrap.dedent(ending)
    command = [sys.executable, "-X", "faulthandler", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_greenlets_on_threads_are_explored_like_any_code(package):
    ending = """
        result = explore(carrier="threads")
        print(result.property_holds, result.exhaustive, len(result.failures) > 1)
    """
    assert run(package, ending) == ["False True True"]


with_fibers = pytest.mark.skipif("fibers" not in CARRIERS, reason="free-threaded: no fibers")


@with_fibers
@pytest.mark.parametrize("beginning", ["import greenlet", ""], ids=["imported before", "not yet"])
def test_fibers_with_greenlets_are_replaced_by_threads(package, beginning):
    ending = f"""
        {beginning}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = explore()
        print(result.property_holds, result.num_explored == explore(carrier="threads").num_explored)
        [warning] = caught
        print(warning.category.__name__, "used greenlets" in str(warning.message))
    """
    assert run(package, ending, FRONTRUN_CARRIER="") == ["False True", "CarrierWarning True"]


@with_fibers
def test_fibers_with_greenlets_that_were_asked_for_are_refused(package):
    ending = """
        try:
            explore(carrier="fibers")
        except RuntimeError as error:
            print(error)
        result = explore(carrier="threads", stop_on_first=True)
        print(result.property_holds)
    """
    refusal, after = run(package, ending)
    assert "used greenlets" in refusal and "say carrier='threads'" in refusal
    assert after == "False"
