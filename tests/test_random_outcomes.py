"""Random programs over locks, conditions, queues and threads do all that they can, and no more.

Every interleaving of their textbook models is tried, and the outcomes are those that an
exploration finds. A longer search than CI's:
``FRONTRUN_EXAMPLES=5000 pytest tests/test_random_outcomes.py``.
"""

import os
import queue
import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textbook import MODEL, REAL, at_once, explored, outcomes

EXAMPLES = int(os.environ.get("FRONTRUN_EXAMPLES", "60"))


class ModelCell:
    def __init__(self):
        self.value = 0

    def get(self):
        yield at_once
        return self.value

    def set(self, value):
        yield at_once
        self.value = value


class Cell:
    def __init__(self):
        self.value = 0

    def get(self):
        return self.value

    def set(self, value):
        self.value = value


class ModelChild:
    """A thread that a worker starts; among the workers of the model it waits for that."""

    def __init__(self, body):
        self.started = self.ended = False

    def start(self, p):
        yield at_once
        self.started = True

    def join(self):
        yield lambda: self.ended


class Child:
    def __init__(self, body):
        self.body = body

    def start(self, p):
        self.thread = threading.Thread(target=lambda: list(self.body(p)))
        self.thread.start()

    def join(self):
        self.thread.join()


MODEL |= {"Cell": ModelCell, "Child": ModelChild}
REAL |= {"Cell": Cell, "Child": Child}


def locked(p, name, entry):
    yield from getattr(p, name).acquire()
    yield from p.log.append(entry)
    yield from getattr(p, name).release()


def tried(p, name, entry):
    got = yield from getattr(p, name).acquire(False)
    if got:
        yield from getattr(p, name).release()
    yield from p.log.append((entry, got))


def nested(p, first, second, entry):
    yield from getattr(p, first).acquire()
    yield from locked(p, second, entry)
    yield from getattr(p, first).release()


def added(p, amount):
    value = yield from p.cell.get()
    yield from p.cell.set(value + amount)


def told(p, entry):
    value = yield from p.cell.get()
    yield from p.log.append((entry, value))


def waits(p, entry):
    yield from p.changed.acquire()
    yield from p.changed.wait()
    yield from p.log.append(entry)
    yield from p.changed.release()


def waits_for_more(p, entry):
    """As conditions are meant to be used."""
    yield from p.changed.acquire()
    while (yield from p.cell.get()) == 0:
        yield from p.changed.wait()
    yield from p.log.append(entry)
    yield from p.changed.release()


def notifies(p, n):
    yield from p.changed.acquire()
    yield from p.changed.notify(n)
    yield from p.changed.release()


def sets_and_notifies(p, n):
    yield from p.changed.acquire()
    yield from p.cell.set(n)
    yield from p.changed.notify_all()
    yield from p.changed.release()


def puts(p, item):
    yield from p.queue.put(item)


def gets(p, entry):
    item = yield from p.queue.get()
    yield from p.log.append((entry, item))


def gets_at_once(p, entry):
    try:
        item = yield from p.queue.get(False)
    except queue.Empty:
        item = None
    yield from p.log.append((entry, item))


def sets(p):
    yield from p.event.set()


def waits_for_event(p, entry):
    yield from p.event.wait()
    yield from p.log.append(entry)


def starts(p):
    yield from p.child.start(p)


def joins(p):
    yield from p.child.join()


entries = st.sampled_from("abc")
locks = st.sampled_from(["lock", "other", "gate"])
small = st.integers(1, 2)
OPERATIONS = st.one_of(
    st.tuples(st.just(locked), locks, entries),
    st.tuples(st.just(tried), locks, entries),
    st.tuples(st.just(nested), st.just("lock"), st.just("other"), entries),
    st.tuples(st.just(nested), st.just("other"), st.just("lock"), entries),
    st.tuples(st.just(added), small),
    st.tuples(st.just(told), entries),
    st.tuples(st.just(waits), entries),
    st.tuples(st.just(waits_for_more), entries),
    st.tuples(st.just(notifies), small),
    st.tuples(st.just(sets_and_notifies), small),
    st.tuples(st.just(puts), small),
    st.tuples(st.just(gets), entries),
    st.tuples(st.just(gets_at_once), entries),
    st.tuples(st.just(sets)),
    st.tuples(st.just(waits_for_event), entries),
)


def body(operations):
    def run(p):
        for operation, *arguments in operations:
            yield from operation(p, *arguments)

    return run


@st.composite
def programs(draw):
    """Workers as lists of operations, and what a thread does that the first one starts."""
    sizes = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (1, 1, 1), (2, 1, 1)]))
    workers = [[draw(OPERATIONS) for _ in range(size)] for size in sizes]
    if draw(st.booleans()) and sum(sizes) < 4:
        first = workers[0]
        at = draw(st.integers(0, len(first)))
        child = [draw(OPERATIONS)]
        workers[0] = [*first[:at], (starts,), *first[at:]]
        if draw(st.booleans()):
            workers[0].append((joins,))
        return workers, child
    return workers, None


NAMED = {
    "lock": ("Lock",),
    "other": ("Lock",),
    "gate": ("Semaphore", 2),
    "changed": ("Condition",),
    "event": ("Event",),
    "queue": ("Queue", 1),
    "cell": ("Cell",),
}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), search=st.sampled_from(["few-preemptions", "depth-first", "diverse"]))
def test_an_exploration_finds_every_outcome_and_no_other(program, search):
    lists, child = program
    workers = [body(operations) for operations in lists]
    named = dict(NAMED)
    in_model = list(workers)
    if child is not None:
        named["child"] = ("Child", body(child))

        def wait_and_run(p):
            yield lambda: p.child.started
            yield from body(child)(p)
            p.child.ended = True

        in_model.append(wait_and_run)
    expected = outcomes(named, in_model, most=20_000)
    if expected is None:
        return
    found, result = explored(named, workers, search=search)
    assert found == expected
    assert result.exhaustive
