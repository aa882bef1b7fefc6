"""Workers run on fibers or on OS threads, and a program cannot tell which, unless it asks."""

import contextlib
import ctypes
import io
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

import frontrun
from frontrun._exploration import CARRIERS
from frontrun.dpor import explore_dpor

with_fibers = pytest.mark.skipif("fibers" not in CARRIERS, reason="free-threaded: no fibers")


def untraced(source):
    """A function that no scheduling point lies in, made from its source."""
    names = {}
    exec(compile(source, threading.__file__, "exec"), names)
    return names["function"]


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


@with_fibers
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


@with_fibers
def test_all_workers_share_an_os_thread_on_the_fibers_carrier():
    for ids in native_ids("fibers"):
        assert len(ids) == 1


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_library_with_thread_affinity_tells_os_threads_apart(carrier):
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
        State,
        [own, borrow],
        lambda s: (s.error is not None) == (carrier == "threads"),
        carrier=carrier,
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

    enter = untraced("""def function(state):
    state.inside += 1
    for _ in range(200):
        state.worst = max(state.worst, state.inside)
    state.inside -= 1
""")
    result = explore_dpor(
        State, [work] * 3, lambda s: s.worst == 1, max_executions=300, carrier=carrier
    )
    assert result.property_holds, result.explanation


def test_the_environment_names_the_carrier_where_the_call_does_not(monkeypatch):
    monkeypatch.setenv("FRONTRUN_CARRIER", "threads")
    assert all(len(ids) == 3 for ids in native_ids(None))
    for carrier in CARRIERS:
        assert all((len(ids) == 3) == (carrier == "threads") for ids in native_ids(carrier))


def test_an_unknown_carrier_is_named_before_anything_runs(monkeypatch):
    def setup():
        pytest.fail("setup ran")

    with pytest.raises(ValueError, match=r"carrier must be .*'threads' or None"):
        frontrun.explore(setup, Account.deposit, bool, count=2, carrier="goroutines")
    monkeypatch.setenv("FRONTRUN_CARRIER", "goroutines")
    with pytest.raises(ValueError, match="FRONTRUN_CARRIER must be"):
        frontrun.explore(setup, Account.deposit, bool, count=2)


# A call that waits, as a C extension makes it: nobody can intercept it.
READ = ctypes.CDLL(None).read


class Pipe:
    """A pipe, and what its two ends have done."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.value, self.log = 0, []

    def __del__(self):
        os.close(self.reader)
        os.close(self.writer)

    def receive(self):
        self.value += 1
        assert READ(self.reader, ctypes.create_string_buffer(1), 1) == 1
        self.log.append("received")

    def send(self):
        self.value += 1
        self.log.append("sending")
        os.write(self.writer, b"x")


@with_fibers
def test_fibers_that_wait_for_each_other_in_c_are_replaced_by_threads(monkeypatch):
    monkeypatch.delenv("FRONTRUN_CARRIER", raising=False)

    def holds(pipe):
        return pipe.log == ["sending", "received"] and pipe.value == 2

    with pytest.warns(frontrun.CarrierWarning, match=r"in receive.*say carrier='threads'"):
        result = explore_dpor(Pipe, [Pipe.receive, Pipe.send], holds, reproduce_on_failure=0)
    assert result.property_holds is False
    assert "Lost update" in result.explanation


def test_what_ends_a_wait_in_c_is_not_seen_so_the_search_is_not_exhaustive():
    result = explore_dpor(
        Pipe,
        [lambda pipe: pipe.receive(), lambda pipe: pipe.send()],
        lambda pipe: pipe.log == ["sending", "received"],
        carrier="threads",
    )
    assert result.property_holds, result.explanation
    assert not result.exhaustive


@pytest.fixture
def uninterruptibly(tmp_path):
    """A function that the kernel makes wait for 0.15 s as a slow disk would: not to be woken.

    A thread waits like that for a program that it starts, until that has opened its files.
    """
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    libc = ctypes.CDLL(None)

    def wait():
        later = subprocess.Popen(["sh", "-c", f"sleep 0.15; : > {shlex.quote(fifo)}"])
        actions, number = ctypes.create_string_buffer(1024), ctypes.c_int()
        arguments = (ctypes.c_char_p * 2)(b"true", None)
        libc.posix_spawn_file_actions_init(actions)
        libc.posix_spawn_file_actions_addopen(actions, 0, fifo.encode(), os.O_RDONLY, 0)
        program = shutil.which("true").encode()
        libc.posix_spawn(ctypes.byref(number), program, actions, None, arguments, None)
        libc.waitpid(number.value, None, 0)
        later.wait()

    return wait


def test_who_waits_for_a_disk_does_not_wait_for_another_worker(uninterruptibly):
    def slowly(account):
        uninterruptibly()
        account.balance = 1

    def look(account):
        assert account.balance in (0, 1)

    result = explore_dpor(Account, [slowly, look], lambda _: True, carrier="threads")
    assert result.property_holds, result.explanation
    assert result.num_explored == 2
    assert result.exhaustive


@with_fibers
def test_fibers_that_were_asked_for_are_kept():
    pipe = Pipe()
    result = explore_dpor(
        lambda: pipe, [Pipe.receive, Pipe.send], bool, carrier="fibers", deadlock_timeout=0.3
    )
    assert result.property_holds is None
    assert "deadlock_timeout=0.3" in result.inconclusive_reason
    os.write(pipe.writer, b"x")


def test_a_worker_that_comes_back_from_a_wait_in_c_waits_for_its_turn():
    # Long enough for the interpreter to switch threads, were it asked to.
    stay = untraced("""def function(pipe):
    pipe.busy = True
    for _ in range(1_000_000):
        pass
    pipe.busy = False
""")
    look = untraced("""def function(pipe):
    pipe.overlap = pipe.busy
""")

    def receive(pipe):
        pipe.receive()
        look(pipe)

    def send(pipe):
        pipe.send()
        stay(pipe)

    result = explore_dpor(
        Pipe, [receive, send], lambda p: not p.overlap, max_executions=3, carrier="threads"
    )
    assert result.property_holds, result.explanation


def test_time_goes_on_while_a_worker_waits_in_c():
    def send_late(pipe):
        time.sleep(1000)
        pipe.send()

    result = explore_dpor(
        Pipe,
        [lambda pipe: pipe.receive(), send_late],
        lambda pipe: pipe.log == ["sending", "received"],
        max_executions=3,
        carrier="threads",
    )
    assert result.property_holds, result.explanation


def test_a_worker_that_never_comes_back_is_left_behind_and_ends_with_its_call():
    pipe, ended = Pipe(), threading.Event()
    lock = threading.Lock()

    def receive(_):
        with contextlib.ExitStack() as stack:
            stack.callback(ended.set)
            stack.enter_context(lock)
            pipe.receive()

    def other(_):
        pipe.value += 1

    result = explore_dpor(object, [receive, other], bool, carrier="threads", deadlock_timeout=0.2)
    assert result.property_holds is None
    assert "worker 0" in result.inconclusive_reason
    assert "in receive" in result.inconclusive_reason
    again = explore_account(carrier="threads", max_executions=20)
    assert again.num_explored == 20
    assert lock.locked()
    os.write(pipe.writer, b"x")
    assert ended.wait(60)
    assert not lock.locked()


def test_buffered_files_are_owned_by_os_threads():
    class Raw(io.RawIOBase):
        """Takes the data in two steps."""

        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            before = self.data
            self.data = before + bytes(data)
            return len(data)

    class File:
        def __init__(self):
            self.raw = Raw()
            self.buffered = io.BufferedWriter(self.raw, buffer_size=1)

        def write(self):
            self.buffered.write(b"two")
            self.buffered.flush()

    result = explore_dpor(
        File,
        [File.write, File.write],
        lambda file: file.raw.data == b"twotwo",
        max_executions=8,
        carrier="threads",
    )
    assert result.property_holds, result.explanation


@pytest.mark.skipif("fibers" in CARRIERS, reason="only where there is no GIL")
def test_without_a_gil_importing_us_switches_none_on_and_fibers_are_refused():
    assert not sys._is_gil_enabled()
    with pytest.raises(ValueError, match="carrier must be 'threads' or None, not 'fibers'"):
        frontrun.explore(Account, Account.deposit, bool, count=2, carrier="fibers")


def test_os_threads_of_many_workers_are_not_kept():
    def start_many(_):
        threads = [threading.Thread(target=int) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def os_threads():
        return len(os.listdir("/proc/self/task"))

    before = os_threads()
    options = {"carrier": "threads", "max_executions": 2}
    result = frontrun.explore(list, [start_many], lambda _: os_threads() > 100, **options)
    assert result.property_holds
    assert os_threads() < before + 50
