"""Every primitive, thousands of executions, beside threads that run on: no hang, leak or crash.

``FRONTRUN_STRESS=50 PYTHONDEVMODE=1 PYTHONMALLOC=debug pytest tests/test_stress.py`` runs fifty
times as many.
"""

import os
import sys
import threading

import pytest
from test_outcomes import PROGRAMS
from textbook import explored, outcomes

from frontrun._exploration import CARRIERS

ATTEMPTS = 200 * int(os.environ.get("FRONTRUN_STRESS", "1"))


@pytest.fixture
def busy_thread():
    """A thread that computes and locks all the while; gives the number of its rounds."""
    rounds, stop, lock = [0], threading.Event(), threading.Lock()

    def run():
        while not stop.is_set():
            with lock:
                rounds[0] += 1

    thread = threading.Thread(target=run)
    # It gives the GIL away when asked to, at once: OS threads hand over thousands of times.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread.start()
    yield rounds
    stop.set()
    thread.join()
    sys.setswitchinterval(interval)


def resident_pages():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_samples_stay_within_the_textbook(program, carrier):
    named, workers = PROGRAMS[program]
    options = {"strategy": "walk", "max_attempts": ATTEMPTS, "seed": 1, "stop_on_first": False}
    found, result = explored(named, workers, carrier=carrier, reproduce_on_failure=0, **options)
    assert found <= outcomes(named, workers)
    assert result.num_explored == ATTEMPTS
    assert result.inconclusive_reason is None


def test_nothing_is_left_behind_and_other_threads_run_on(busy_thread):
    named, workers = PROGRAMS["bounded buffer, two producers, one consumer"]
    options = {"strategy": "walk", "max_attempts": ATTEMPTS, "seed": 1}

    def run():
        explored(named, workers, **options)
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    handles, pages = run(), resident_pages()
    rounds = busy_thread[0]
    for _ in range(3):
        # What other tests have left may end meanwhile.
        assert all(now <= before for now, before in zip(run(), handles, strict=True))
    assert busy_thread[0] > rounds
    assert resident_pages() - pages < 16 * 1024 * 1024 // 4096
