"""Inside a worker everything that belongs to a thread is its own, as in a real thread."""

import asyncio
import contextvars
import ctypes
import decimal
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import frontrun
from frontrun.dpor import explore_dpor


class Shared:
    def __init__(self):
        self.value = 0
        self.seen = []

    def touch(self):
        """A scheduling point that conflicts with those of the other workers."""
        self.value += 1


def explore_twice(worker):
    """Every interleaving of two of `worker`, which asserts for itself."""
    result = explore_dpor(
        Shared, [worker, worker], lambda s: True, preemption_bound=None, max_executions=3000
    )
    assert result.property_holds, result.explanation
    assert result.num_explored > 1


def test_context_variables_are_a_workers_own():
    variable = contextvars.ContextVar("variable", default=0)

    def worker(shared):
        assert variable.get() == 0
        mine = id(object())
        variable.set(mine)
        shared.touch()
        assert variable.get() == mine
        with decimal.localcontext() as context:
            context.prec = 7
            shared.touch()
            assert decimal.getcontext().prec == 7

    explore_twice(worker)
    assert variable.get() == 0


def test_the_exception_that_is_handled_is_a_workers_own():
    def worker(shared):
        assert sys.exc_info() == (None, None, None)
        try:
            raise KeyError(shared)
        except KeyError as error:
            shared.touch()
            assert sys.exc_info()[1] is error
            try:
                raise ValueError
            except ValueError as inner:
                shared.touch()
                assert inner.__context__ is error
        assert sys.exc_info() == (None, None, None)

    explore_twice(worker)


def test_generators_and_comprehensions_go_on_where_they_were():
    def numbers(shared):
        for number in range(3):
            shared.touch()
            yield number

    def worker(shared):
        assert list(numbers(shared)) == [0, 1, 2]
        assert {n: n * n for n in range(3)} == {0: 0, 1: 1, 2: 4}

    result = explore_dpor(Shared, [worker, worker], lambda s: True, max_executions=500)
    assert result.property_holds, result.explanation


def compare_nested(depth):
    """Too deep for C code. (To represent it would take time quadratic in the depth.)"""
    found = []
    for _ in range(depth):
        found = [found]
    return found == [found]


def test_a_worker_may_recurse_as_deep_as_a_thread():
    def depth(shared, n):
        return 0 if n == 0 else 1 + depth(shared, n - 1)

    def worker(shared):
        shared.touch()
        assert depth(shared, sys.getrecursionlimit() - 200) > 500
        with pytest.raises(RecursionError):
            compare_nested(150_000)
        shared.touch()

    # To nest so deep takes its time on a busy machine.
    result = explore_dpor(Shared, [worker], lambda s: True, deadlock_timeout=60, timeout_per_run=60)
    assert result.property_holds, result.explanation


def test_setup_and_invariant_may_recurse_as_deep_as_the_caller():
    def nest():
        with pytest.raises(RecursionError):
            compare_nested(300_000)
        return Shared()

    assert frontrun.explore(nest, [Shared.touch], lambda s: bool(nest())).property_holds


def test_callbacks_from_c_find_their_thread():
    compare = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )

    def sort(shared):
        def by_value(a, b):
            shared.touch()
            return a[0] - b[0]

        numbers = (ctypes.c_int * 3)(3, 1, 2)
        ctypes.CDLL(None).qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), compare(by_value))
        assert list(numbers) == [1, 2, 3]
        return shared

    def worker(shared):
        sort(shared)

    result = explore_dpor(
        lambda: sort(Shared()), [worker, worker], lambda s: bool(sort(s)), max_executions=200
    )
    assert result.property_holds, result.explanation


def test_an_event_loop_of_its_own_runs_in_each_worker():
    async def main(shared):
        shared.touch()
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    def worker(shared):
        shared.seen.append(asyncio.run(main(shared)))

    result = explore_dpor(Shared, [worker, worker], lambda s: len(s.seen) == 2, max_executions=50)
    assert result.property_holds, result.explanation


def test_collecting_garbage_inside_a_worker_finalises_as_usual():
    finalised = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            finalised.append(1)

    def worker(shared):
        Cycle()
        shared.touch()
        gc.collect()

    explore_twice(worker)
    gc.collect()
    assert finalised


def test_finally_of_a_daemon_thread_does_not_spoil_the_final_state():
    def worker(shared):
        def wait():
            try:
                threading.Event().wait()
            finally:
                shared.value = -1

        threading.Thread(target=wait, daemon=True).start()

    result = explore_dpor(Shared, [worker], lambda shared: shared.value == 0)
    assert result.property_holds, result.explanation


def test_a_trace_function_of_a_worker_does_not_blind_us():
    def worker(shared):
        sys.settrace(None)
        shared.touch()

    before = sys.gettrace()
    result = explore_dpor(Shared, [worker, worker], lambda shared: shared.value == 2)
    assert result.property_holds is False
    assert sys.gettrace() is before


def test_a_profile_function_ends_with_its_worker():
    found = []

    def worker(shared):
        found.append(sys.getprofile())
        sys.setprofile(lambda *event: None)
        shared.touch()

    explore_dpor(Shared, [worker, worker], lambda shared: True)
    assert set(found) == {None}
    assert sys.getprofile() is None


def test_a_signal_handler_runs_in_the_main_thread_while_workers_run():
    threads = []

    def handle(number, frame):
        threads.append(threading.current_thread())

    def worker(shared):
        for _ in range(6):
            shared.touch()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        explore_dpor(Shared, [worker] * 3, lambda s: True, preemption_bound=None, total_timeout=0.4)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert threads == [threading.main_thread()]


def test_an_endless_timeout_is_endless():
    forever = float("inf")
    result = frontrun.explore(
        Shared,
        Shared.touch,
        lambda s: True,
        count=2,
        stop_on_first=False,
        timeout_per_run=forever,
        deadlock_timeout=forever,
        total_timeout=forever,
    )
    assert result.num_explored == 4


def test_an_exception_for_a_worker_that_has_ended_is_forgotten():
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raise_in.argtypes = [ctypes.c_ulong, ctypes.py_object]

    def last_words(shared):
        shared.identity = threading.get_ident()
        shared.touch()

    def interrupt(shared):
        if shared.value == 0 and hasattr(shared, "identity"):
            raise_in(shared.identity, KeyboardInterrupt)

    forever = float("inf")
    for _ in range(2):
        explore_dpor(
            Shared,
            [last_words, interrupt],
            lambda s: True,
            stop_on_first=False,
            timeout_per_run=forever,
            deadlock_timeout=forever,
        )
    assert frontrun.explore(Shared, Shared.touch, lambda s: True, count=2).property_holds


def test_an_exception_for_another_worker_waits_until_that_one_runs():
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raise_in.argtypes = [ctypes.c_ulong, ctypes.py_object]

    class Stop(Exception):
        pass

    def victim(shared):
        shared.identity = threading.get_ident()
        try:
            for _ in range(3):
                shared.touch()
        except Stop:
            shared.stopped = True

    def interrupt(shared):
        if hasattr(shared, "identity"):
            raise_in(shared.identity, Stop)
        shared.touch()

    stopped = []
    result = frontrun.explore(
        Shared,
        [victim, interrupt],
        lambda s: stopped.append(hasattr(s, "stopped")) or True,
        max_executions=50,
    )
    assert result.property_holds, result.inconclusive_reason
    assert set(stopped) == {False, True}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_explores_too():
    frontrun.explore(Shared, Shared.touch, lambda s: True, count=2)
    child = os.fork()
    if child == 0:
        result = frontrun.explore(
            Shared, Shared.touch, lambda s: True, count=2, stop_on_first=False
        )
        os._exit(result.num_explored)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_the_end_of_the_program_unwinds_what_a_daemon_thread_explores():
    program = """
        import atexit, os, threading
        import frontrun

        atexit.register(os.write, 1, b"ending\\n")
        reader, writer = os.pipe()

        class State:
            value = 0

        def worker(state):
            os.write(writer, b"x")
            try:
                while True:
                    state.value += 1
            finally:
                os.write(1, b"unwound\\n")

        def explore():
            forever = dict(timeout_per_run=1000, deadlock_timeout=1000, max_branches=10**12)
            frontrun.explore(State, worker, lambda s: True, count=2, detect_io=False, **forever)

        threading.Thread(target=explore, daemon=True).start()
        os.read(reader, 2)
    """
    run = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    *unwound, last = done.stdout.splitlines()
    assert "unwound" in unwound
    assert last == "ending"


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "class Late:\n    def __del__(self): explore()\nsys.late = Late()\n",
        "threading.Thread(target=explore, daemon=True).start()\n",
        "explore_stuck()\n",
    ],
    ids=["plainly", "exploring", "with an exploration under way", "with a worker left behind"],
)
def test_the_interpreter_ends_quietly(ending, tmp_path):
    program = """
        import os, sys, threading
        import frontrun

        class State:
            value = 0

        def worker(state):
            for _ in range(9):
                state.value += 1

        def explore():
            frontrun.explore(State, worker, lambda s: True, count=3, preemption_bound=None)

        def explore_stuck():
            reader, writer = os.pipe()
            frontrun.explore(
                State,
                lambda s: os.read(reader, 1),
                lambda s: True,
                count=1,
                deadlock_timeout=0.1,
                detect_io=False,
            )
            os.write(writer, b"x")

        frontrun.explore(State, worker, lambda s: True, count=2, max_executions=5)
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program) + ending)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
