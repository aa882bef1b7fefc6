"""A signal may come at any moment: no exploration hangs for it, and none leaves anything."""

import queue
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import frontrun
from frontrun._exploration import CARRIERS


class State:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
        self.changed = threading.Condition()
        self.event = threading.Event()
        self.items = queue.Queue(1)


def increment(state):
    state.value += 1


def increment_locked(state):
    with state.lock:
        state.value += 1


def notify(state):
    with state.changed:
        state.value += 1
        state.changed.notify_all()


def wait(state):
    with state.changed:
        while not state.value:
            state.changed.wait()


def wait_for_ever(state):
    try:
        state.event.wait()
    finally:
        state.value += 1


def put(state):
    state.items.put(1)


def get(state):
    state.items.get()


def sleep(state):
    time.sleep(5)


def start(state):
    threads = [threading.Thread(target=increment_locked, args=[state]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def use_pool(state):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(abs, [-1, -2]))


def compute(state):
    for _ in range(3000):
        pass


PROGRAMS = [
    [increment] * 3,
    [increment_locked] * 3,
    [notify, wait],
    [wait_for_ever, increment],
    [put, get],
    [sleep, increment],
    [start, increment_locked],
    [use_pool],
    [compute, increment],
]


def surroundings():
    monitoring = getattr(sys, "monitoring", None)
    tools = [tool for tool in range(6) if monitoring and monitoring.get_tool(tool)]
    return (
        threading.enumerate(),
        threading._limbo.copy(),
        threading._DummyThread,
        threading.excepthook,
        sys.unraisablehook,
        (sys.gettrace(), sys.getprofile()),
        [monitoring.get_events(tool) for tool in tools],
    )


class Alarm(Exception):
    pass


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("raises", [True, False])
def test_signals_at_random_moments_leave_nothing(carrier, raises, capfd, monkeypatch):
    moments = random.Random(1)
    is_armed = False

    def ring(*_):
        if raises and is_armed:
            raise Alarm

    def judge(state):
        compute(state)
        return True

    def explore(workers, **options):
        options = {"stop_on_first": False, "carrier": carrier, **options}
        return frontrun.explore(State, workers, judge, max_executions=30, **options)

    # A signal while modules are imported and sources read would leave files open.
    for workers in PROGRAMS:
        explore(workers)
    # A handler that raises in a callback of a weak reference can only be told of.
    tell = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", lambda told: told.exc_type is Alarm or tell(told))
    before, rung = surroundings(), signal.signal(signal.SIGALRM, ring)
    try:
        for workers in PROGRAMS * 15:
            try:
                try:
                    is_armed = True
                    signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-5, 5e-3))
                    explore(workers)
                finally:
                    is_armed = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                pass
            assert surroundings() == before
    finally:
        signal.signal(signal.SIGALRM, rung)
    assert explore([increment] * 2).num_explored == 4
    assert capfd.readouterr() == ("", "")
