"""What real primitives can do under exploration is what textbooks say they can do."""

import math

import pytest
from textbook import explored, outcomes


def section(name, times):
    def worker(p):
        for _ in range(times):
            yield from p.lock.acquire()
            yield from p.log.append(name)
            yield from p.lock.release()

    return worker


@pytest.mark.parametrize("sections", [(2, 2), (1, 1, 1), (2, 1, 1), (2, 2, 1)])
def test_locked_sections_come_in_every_order_once(sections):
    named = {"lock": ("Lock",)}
    workers = [section(name, times) for name, times in zip("abc", sections)]
    found, result = explored(named, workers)
    orders = math.factorial(sum(sections)) // math.prod(map(math.factorial, sections))
    assert found == outcomes(named, workers)
    assert len(found) == result.num_explored == orders
    assert result.exhaustive


def passing(semaphore):
    def worker(name):
        def run(p):
            yield from getattr(p, semaphore).acquire()
            yield from p.log.append("+" + name)
            yield from p.log.append("-" + name)
            yield from getattr(p, semaphore).release()

        return run

    return worker


def try_to_pass(p):
    got = yield from p.gate.acquire(False)
    yield from p.log.append(got)
    if got:
        yield from p.gate.release()


def enter(p):
    yield from p.gate.acquire()
    yield from p.log.append("in")
    yield from p.gate.release()


def waiter(name):
    def run(p):
        yield from p.changed.acquire()
        yield from p.changed.wait()
        yield from p.log.append(name)
        yield from p.changed.release()

    return run


def notifier(n):
    def run(p):
        yield from p.changed.acquire()
        yield from p.changed.notify(n)
        yield from p.log.append("notified")
        yield from p.changed.release()

    return run


def notify_one(p):
    yield from notifier(1)(p)


def setter(p):
    yield from p.log.append("before")
    yield from p.event.set()


def event_waiter(p):
    yield from p.event.wait()
    yield from p.log.append("after")


def meets(p):
    yield from p.log.append("before")
    index = yield from p.barrier.wait()
    yield from p.log.append(index)


def producer(*items):
    def run(p):
        for item in items:
            yield from p.queue.put(item)

    return run


def consumer(count):
    def run(p):
        for _ in range(count):
            item = yield from p.queue.get()
            yield from p.log.append(item)

    return run


PROGRAMS = {
    "semaphore of two, three workers": (
        {"gate": ("Semaphore", 2)},
        [passing("gate")(name) for name in "abc"],
    ),
    "semaphore, tried": ({"gate": ("Semaphore", 1)}, [try_to_pass, try_to_pass, enter]),
    "lock, tried": ({"gate": ("Lock",)}, [try_to_pass, enter]),
    "semaphore that starts at nothing": (
        {"gate": ("Semaphore", 0)},
        [enter, lambda p: p.gate.release()],
    ),
    "condition, one waits": ({"changed": ("Condition",)}, [waiter("w"), notify_one]),
    "condition, two wait": (
        {"changed": ("Condition",)},
        [waiter("v"), waiter("w"), notifier(2)],
    ),
    "condition, two wait, one is woken": (
        {"changed": ("Condition",)},
        [waiter("v"), waiter("w"), notify_one],
    ),
    "condition, two notify": (
        {"changed": ("Condition",)},
        [waiter("v"), notify_one, notify_one],
    ),
    "event": ({"event": ("Event",)}, [setter, event_waiter, event_waiter]),
    "event that nobody sets": ({"event": ("Event",)}, [event_waiter]),
    "barrier of two": ({"barrier": ("Barrier", 2)}, [meets, meets]),
    "barrier that too few meet at": ({"barrier": ("Barrier", 3)}, [meets, meets]),
    "bounded buffer, two producers, one consumer": (
        {"queue": ("Queue", 1)},
        [producer(1, 2), producer(3), consumer(3)],
    ),
    "unbounded queue": ({"queue": ("Queue",)}, [producer(1, 2), producer(3, 4), consumer(4)]),
    "bounded buffer, two consumers": (
        {"queue": ("Queue", 1)},
        [producer(1, 2), consumer(1), consumer(1)],
    ),
    "queue with an item too few": ({"queue": ("Queue",)}, [producer(1), consumer(2)]),
    "stack": ({"queue": ("LifoQueue",)}, [producer(1, 2, 3), consumer(3)]),
    "bounded stack": ({"queue": ("LifoQueue", 2)}, [producer(1, 2), producer(3), consumer(3)]),
    "priorities": ({"queue": ("PriorityQueue",)}, [producer(3, 1), producer(2), consumer(3)]),
    "simple queue": ({"queue": ("SimpleQueue",)}, [producer(1, 2), producer(3), consumer(3)]),
    "simple queue, two consumers": (
        {"queue": ("SimpleQueue",)},
        [producer(1, 2), consumer(1), consumer(1)],
    ),
    "simple queue with an item too few": (
        {"queue": ("SimpleQueue",)},
        [producer(1), consumer(1), consumer(1)],
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_outcome_of_the_textbook_is_found_and_no_other(program):
    named, workers = PROGRAMS[program]
    found, result = explored(named, workers)
    assert found == outcomes(named, workers)
    assert result.exhaustive
    assert result.stats["sleep_set_blocked"] == 0
