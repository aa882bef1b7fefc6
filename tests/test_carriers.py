"""Workers run on fibers or on OS threads, and a program cannot tell which, unless it asks."""

import sqlite3
import threading

import pytest

import frontrun
from frontrun.dpor import explore_dpor

CARRIERS = ["fibers", "threads"]


class Account:
    def __init__(self):
        self.balance = 0
        self.lock, self.paid = threading.Lock(), threading.Event()

    def deposit(self):
        with self.lock:
            self.balance += 1
        self.balance += 1
        self.paid.set()

    def wait(self):
        self.paid.wait()
        self.balance += 1


def explore_account(**options):
    workers = [Account.deposit, Account.deposit, Account.wait]
    return explore_dpor(Account, workers, lambda a: a.balance == 5, stop_on_first=False, **options)


def test_both_carriers_explore_the_same_executions_and_find_the_same_failures():
    fibers, threads = (explore_account(carrier=carrier) for carrier in CARRIERS)
    assert fibers.num_explored == threads.num_explored
    assert fibers.failures == threads.failures != []
    assert fibers.counterexample == threads.counterexample
    assert fibers.explanation == threads.explanation


def native_ids(carrier):
    """The ids of three workers in each execution, by the operating system."""
    found = []

    def invariant(ids):
        found.append(set(ids))
        return True

    def note(ids):
        ids.append(threading.get_native_id())

    explore_dpor(list, [note] * 3, invariant, max_executions=5, carrier=carrier)
    return found


def test_each_worker_has_an_os_thread_of_its_own_on_the_threads_carrier():
    for ids in native_ids("threads"):
        assert len(ids | {threading.get_native_id()}) == 4


def test_all_workers_share_an_os_thread_on_the_fibers_carrier():
    for ids in native_ids("fibers"):
        assert len(ids) == 1


@pytest.mark.parametrize(("carrier", "tells_apart"), [("fibers", False), ("threads", True)])
def test_a_library_with_thread_affinity_tells_os_threads_apart(carrier, tells_apart):
    class State:
        def __init__(self):
            self.connection = self.error = None
            self.opened, self.used = threading.Event(), threading.Event()

    def own(state):
        state.connection = sqlite3.connect(":memory:")
        state.opened.set()
        state.used.wait()
        state.connection.close()

    def borrow(state):
        state.opened.wait()
        try:
            state.connection.execute("select 1").close()
        except sqlite3.ProgrammingError as error:
            state.error = error
        state.used.set()

    result = explore_dpor(
        State, [own, borrow], lambda s: (s.error is not None) == tells_apart, carrier=carrier
    )
    assert result.property_holds, result.explanation


@pytest.mark.parametrize("carrier", CARRIERS)
def test_one_worker_runs_at_a_time(carrier):
    class State:
        def __init__(self):
            self.inside = self.worst = self.shared = 0

    def work(state):
        for _ in range(3):
            enter(state)
            state.shared += 1

    # Nobody switches inside of code that is not traced: an overlap would be ours.
    source = """def enter(state):
    state.inside += 1
    for _ in range(200):
        state.worst = max(state.worst, state.inside)
    state.inside -= 1
"""
    names = {}
    exec(compile(source, threading.__file__, "exec"), names)
    enter = names["enter"]
    result = explore_dpor(
        State, [work] * 3, lambda s: s.worst == 1, max_executions=300, carrier=carrier
    )
    assert result.property_holds, result.explanation


def test_the_environment_names_the_carrier_where_the_call_does_not(monkeypatch):
    monkeypatch.setenv("FRONTRUN_CARRIER", "threads")
    assert all(len(ids) == 3 for ids in native_ids(None))
    assert all(len(ids) == 1 for ids in native_ids("fibers"))


def test_an_unknown_carrier_is_named_before_anything_runs(monkeypatch):
    def setup():
        pytest.fail("setup ran")

    with pytest.raises(ValueError, match="carrier must be 'fibers', 'threads' or None"):
        frontrun.explore(setup, Account.deposit, bool, count=2, carrier="goroutines")
    monkeypatch.setenv("FRONTRUN_CARRIER", "goroutines")
    with pytest.raises(ValueError, match="FRONTRUN_CARRIER must be"):
        frontrun.explore(setup, Account.deposit, bool, count=2)
