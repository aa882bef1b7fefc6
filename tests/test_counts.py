"""Published numbers of traces, from Python programs: one execution for each, no more.

The programs are those of Abdulla et al. (JACM 2017) and of the SCTBench collection; a
location is an attribute or an element of its own.
"""

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


@pytest.mark.parametrize(("n", "traces"), [(13, 1), (14, 2)])
def test_filesystem(n, traces):
    blocks, inodes = 26, 32

    class Disk:
        def __init__(self):
            self.inode, self.busy = [0] * inodes, [False] * blocks
            self.inode_locks = [threading.Lock() for _ in range(inodes)]
            self.block_locks = [threading.Lock() for _ in range(blocks)]

    def writer(number):
        def write(disk):
            i = number % inodes
            with disk.inode_locks[i]:
                if disk.inode[i] == 0:
                    b = (i * 2) % blocks
                    while True:
                        with disk.block_locks[b]:
                            if not disk.busy[b]:
                                disk.busy[b] = True
                                disk.inode[i] = b + 1
                                break
                        b = (b + 1) % blocks

        return write

    assert count(Disk, [writer(number) for number in range(n)]) == (traces, 0)


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
