"""Published numbers of traces, from Python programs: one execution for each, no more.

The programs are those of Abdulla et al. (JACM 2017) and of the SCTBench collection; a
location is an attribute or an element of its own.
"""

import os
import subprocess
import sys
import threading

import pytest

from frontrun.dpor import explore_dpor


def count(setup, workers, invariant=lambda state: True):
    """Number of executions of an exhaustive search, and of deadlocks among them."""
    result = explore_dpor(
        setup,
        workers,
        invariant,
        preemption_bound=None,
        stop_on_first=False,
        reproduce_on_failure=0,
    )
    assert result.exhaustive
    assert result.stats["sleep_set_blocked"] == 0
    return result.num_explored, len(result.failures)


class Variables:
    """Ten variables and eight locks."""

    def __init__(self):
        self.x = self.y = self.z = 0
        self.v = [0] * 32
        self.locks = [threading.Lock() for _ in range(8)]


@pytest.mark.parametrize(("n", "traces"), [(1, 2), (2, 4), (3, 8), (4, 16), (8, 256)])
def test_readers(n, traces):
    def write(state):
        state.x = 42

    def read(state):
        state.x

    assert count(Variables, [write] + [read] * n) == (traces, 0)


@pytest.mark.parametrize(("n", "traces"), [(1, 2), (2, 5), (3, 12), (4, 28), (5, 64), (6, 144)])
def test_lastzero(n, traces):
    def reader(state):
        i = n
        while state.v[i] != 0:
            i -= 1

    def writer(j):
        def write(state):
            state.v[j] = state.v[j - 1] + 1

        return write

    workers = [reader] + [writer(j) for j in range(1, n + 1)]
    assert count(Variables, workers) == (traces, 0)


@pytest.mark.parametrize(
    ("n", "k", "traces"),
    [(2, 1, 4), (3, 1, 36), (4, 1, 576), (2, 2, 34), (2, 3, 328), (2, 4, 3334), (3, 2, 7134)],
)
def test_counter(n, k, traces):
    def increment(state):
        for _ in range(k):
            state.x += 1

    assert count(Variables, [increment] * n)[0] == traces


@pytest.mark.parametrize(("n", "k", "traces"), [(2, 1, 4), (3, 1, 36), (2, 2, 34), (2, 3, 328)])
def test_counter_that_begins_as_a_default_in_its_class(n, k, traces):
    class State:
        x = 0

    def increment(state):
        for _ in range(k):
            state.x += 1

    assert count(State, [increment] * n)[0] == traces


@pytest.mark.parametrize(
    ("n", "k", "traces"), [(2, 1, 2), (3, 1, 6), (4, 1, 24), (2, 2, 6), (2, 3, 20), (3, 2, 90)]
)
def test_locked_counter(n, k, traces):
    def increment(state):
        for _ in range(k):
            with state.locks[0]:
                state.x += 1

    assert count(Variables, [increment] * n) == (traces, 0)


@pytest.mark.parametrize(("k", "traces"), [(1, 11), (2, 140), (3, 1698)])
def test_fibonacci_with_an_observer(k, traces):
    def setup():
        state = Variables()
        state.x = state.y = 1
        return state

    def left(state):
        for _ in range(k):
            state.x = state.x + state.y

    def right(state):
        for _ in range(k):
            a = state.x
            state.y = a + state.y

    def observe(state):
        if state.x <= 10**9:
            state.y

    assert count(setup, [left, right, observe]) == (traces, 0)


@pytest.mark.parametrize(("n", "traces"), [(2, 3), (3, 7), (4, 15), (5, 31)])
def test_store_buffer(n, traces):
    def worker(i):
        def run(state):
            state.v[i] = 1
            state.v[(i + 1) % n]

        return run

    assert count(Variables, [worker(i) for i in range(n)]) == (traces, 0)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_dining_philosophers_deadlock_in_exactly_one_way(n):
    def philosopher(i):
        def dine(state):
            with state.locks[i], state.locks[(i + 1) % n]:
                pass

        return dine

    assert count(Variables, [philosopher(i) for i in range(n)]) == (2**n - 1, 1)


@pytest.mark.parametrize(("n", "traces", "deadlocks"), [(2, 3, 1), (3, 10, 4), (4, 44, 20)])
def test_lock_order(n, traces, deadlocks):
    def worker(i):
        def run(state):
            first, second = state.locks[:2] if i % 2 == 0 else reversed(state.locks[:2])
            with first, second:
                pass

        return run

    assert count(Variables, [worker(i) for i in range(n)]) == (traces, deadlocks)


BLOCKS, INODES = 26, 32


def file_writers(n, lock_of_block):
    """Workers that each look for a free block, from one on that others try, too."""

    def writer(number):
        def write(disk):
            i = number % INODES
            with disk.inode_locks[i]:
                if disk.inode[i] == 0:
                    b = (i * 2) % BLOCKS
                    while True:
                        with lock_of_block(disk, b):
                            if not disk.busy[b]:
                                disk.busy[b] = True
                                disk.inode[i] = b + 1
                                break
                        b = (b + 1) % BLOCKS

        return write

    return [writer(number) for number in range(n)]


class Disk:
    """Inodes and blocks, each with a lock."""

    def __init__(self, block_locks=None):
        self.inode, self.busy = [0] * INODES, [False] * BLOCKS
        self.inode_locks = [threading.Lock() for _ in range(INODES)]
        self.block_locks = block_locks


@pytest.mark.parametrize(("n", "traces"), [(13, 1), (14, 2), (16, 8), (18, 32), (19, 64)])
def test_filesystem(n, traces):
    def setup():
        return Disk([threading.Lock() for _ in range(BLOCKS)])

    assert count(setup, file_writers(n, lambda disk, b: disk.block_locks[b])) == (traces, 0)


class Block:
    """A lock in an instance's dict."""

    def __init__(self):
        self.lock = threading.Lock()


class SlottedBlock:
    """A lock in a slot."""

    __slots__ = ("lock",)

    def __init__(self):
        self.lock = threading.Lock()


OUTER_LOCKS = [threading.Lock() for _ in range(BLOCKS)]


@pytest.mark.parametrize(
    ("block_locks", "lock_of_block"),
    [
        (lambda: {f"b{b}": threading.Lock() for b in range(BLOCKS)}, lambda d, b: d[f"b{b}"]),
        (lambda: tuple(threading.Lock() for _ in range(BLOCKS)), lambda d, b: d[b]),
        (lambda: [Block() for _ in range(BLOCKS)], lambda d, b: d[b].lock),
        (lambda: [SlottedBlock() for _ in range(BLOCKS)], lambda d, b: d[b].lock),
        (lambda: [threading.RLock() for _ in range(BLOCKS)], lambda d, b: d[b]),
        (lambda: None, lambda _, b, locks=OUTER_LOCKS: locks[b]),
        (lambda: None, lambda _, b: OUTER_LOCKS[b]),
    ],
    ids=["dict", "tuple", "instances", "slots", "RLock", "default argument", "global"],
)
def test_objects_are_known_again_in_other_executions(block_locks, lock_of_block):
    def setup():
        return Disk(block_locks())

    def lock(disk, b):
        return lock_of_block(disk.block_locks, b)

    assert count(setup, file_writers(16, lock)) == (8, 0)


def test_keys_of_which_every_execution_has_its_own_hide_no_trace():
    class Key:
        pass

    def setup():
        state = Variables()
        state.keys = [Key() for _ in range(3)]
        state.table = dict.fromkeys(state.keys, 0)
        return state

    def writer(i):
        def write(state):
            state.table[state.keys[i]] += 1

        return write

    # Two of the writers share a key: they race as a counter does.
    assert count(setup, [writer(i) for i in (0, 1, 2, 2)]) == (4, 0)


def test_indexer():
    size, limit = 128, 4

    def writer(number):
        def write(table):
            for m in range(1, limit + 1):
                w = m * 11 + number
                h = (w * 7) % size
                while table.setdefault(h, w) != w:
                    h = (h + 1) % size

        return write

    # With 12 workers 8 traces by the published count; the order of insertion is
    # visible in a dict, so the table here has all its keys from the start.
    class Table:
        def __init__(self):
            self.cells = [0] * size
            self.locks = [threading.Lock() for _ in range(size)]

        def setdefault(self, h, w):
            with self.locks[h]:
                if self.cells[h] == 0:
                    self.cells[h] = w
                return self.cells[h]

    assert count(Table, [writer(number) for number in range(12)]) == (8, 0)


def test_every_failing_trace_is_listed_once():
    def increment(state):
        for _ in range(2):
            state.x += 1

    result = explore_dpor(
        Variables,
        [increment] * 2,
        lambda state: state.x == 4,
        preemption_bound=None,
        stop_on_first=False,
        reproduce_on_failure=0,
    )
    assert result.num_explored == 34
    # Two serial orders of the four increments lose nothing, and four that mix them.
    assert len(result.failures) == 34 - 6
    schedules = [tuple(schedule) for _, schedule in result.failures]
    assert len(set(schedules)) == len(schedules)


class Window:
    def __init__(self):
        self.count = self.other = 0

    def pass_through(self):
        self.count += 1
        for _ in range(3):
            self.other += 1


@pytest.mark.parametrize("search", ["few-preemptions", "depth-first", "diverse"])
def test_every_order_of_the_search_comes_to_the_same(search):
    result = explore_dpor(
        Window,
        [Window.pass_through] * 2,
        lambda window: window.count == 2,
        preemption_bound=None,
        stop_on_first=False,
        search=search,
        reproduce_on_failure=0,
    )
    assert result.exhaustive
    # Four orders of the increments of one variable, with each of the 328 of the other's.
    assert (result.num_explored, len(result.failures)) == (4 * 328, 2 * 328)
    assert len({tuple(schedule) for _, schedule in result.failures}) == 2 * 328


@pytest.mark.parametrize("search", ["few-preemptions", "diverse"])
def test_a_window_at_the_beginning_of_much_is_found_early(search):
    class Long(Window):
        def pass_through(self):
            self.count += 1
            for _ in range(40):
                self.other += 1

    result = explore_dpor(
        Long, [Long.pass_through] * 3, lambda state: state.count == 3, search=search
    )
    assert not result.property_holds
    assert result.num_explored < 20


@pytest.mark.parametrize(("n", "bounds"), [(3, [24, 36]), (2, [4])])
def test_a_bound_never_takes_more_executions_than_none(n, bounds):
    def increment(state):
        state.x += 1

    for bound, most in zip(range(1, 3), [*bounds, bounds[-1]], strict=False):
        result = explore_dpor(
            Variables, [increment] * n, lambda s: True, preemption_bound=bound, stop_on_first=False
        )
        assert most <= result.num_explored <= bounds[-1]


ORDER = """
import frontrun

class State:
    def __init__(self):
        self.names = {name: 0 for name in "abcdefgh"}
        self.seen = {"x", "y"}

def worker(name):
    def work(state):
        for other in sorted(state.seen):
            state.names[name] += len(other)
        state.seen = state.seen | {name}
    return work

result = frontrun.explore(
    State, [worker(name) for name in "abc"], lambda s: len(s.seen) == 5,
    preemption_bound=None, stop_on_first=False, reproduce_on_failure=0,
)
print(result.num_explored, result.failures)
"""


def test_the_order_of_exploration_does_not_depend_on_the_hash_seed():
    told = {
        subprocess.run(
            [sys.executable, "-c", ORDER],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "4294967295")
    }
    assert len(told) == 1
