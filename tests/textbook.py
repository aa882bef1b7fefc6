"""Synchronisation primitives as textbooks define them, and all that programs over them can do.

A worker is a generator function over named primitives: ``yield from p.lock.acquire()``. It
runs in two ways. Over a model, a primitive yields the condition that it waits for, and what
follows up to the next yield is one atomic step: `outcomes` tries every interleaving of these
steps. Over the real thing, `explored` lets frontrun explore the same text.

In the model a timeout may come at any moment: what has one never waits.
"""

import itertools
import queue
import threading
from collections import deque

import frontrun

DEADLOCK = "deadlock"


def at_once():
    return True


class Log:
    def __init__(self):
        self.entries = []

    def append(self, entry):
        yield at_once
        self.entries.append(entry)


class Semaphore:
    def __init__(self, value=1):
        self.value = value

    def acquire(self, blocking=True, timeout=None):
        yield (lambda: self.value > 0) if blocking and timeout is None else at_once
        if self.value == 0:
            return False
        self.value -= 1
        return True

    def release(self):
        yield at_once
        self.value += 1


class Condition(Semaphore):
    """With its lock, which is free at first."""

    def __init__(self):
        super().__init__(1)
        self.waiting = deque()

    def wait(self):
        yield at_once
        me = object()
        self.waiting.append(me)
        self.value += 1
        yield lambda: me not in self.waiting
        yield from self.acquire()

    def notify(self, n=1):
        yield at_once
        for _ in range(min(n, len(self.waiting))):
            self.waiting.popleft()

    def notify_all(self):
        return self.notify(len(self.waiting))


class Event:
    def __init__(self):
        self.flag = False

    def set(self):
        yield at_once
        self.flag = True

    def wait(self, timeout=None):
        yield (lambda: self.flag) if timeout is None else at_once
        return self.flag


class Barrier:
    def __init__(self, parties):
        self.parties, self.arrived, self.generation = parties, 0, 0

    def wait(self):
        yield at_once
        index, generation = self.arrived, self.generation
        self.arrived += 1
        if self.arrived == self.parties:
            self.arrived, self.generation = 0, generation + 1
        yield lambda: self.generation > generation
        return index


class Queue:
    """`take` says which item comes first: of a list of items, its index."""

    def __init__(self, maxsize=0, take=lambda items: 0):
        self.maxsize, self.take, self.items = maxsize, take, []

    def put(self, item):
        yield lambda: not self.maxsize or len(self.items) < self.maxsize
        self.items.append(item)

    def get(self, block=True, timeout=None):
        yield (lambda: self.items) if block and timeout is None else at_once
        if not self.items:
            raise queue.Empty
        return self.items.pop(self.take(self.items))


def last_in(items):
    return len(items) - 1


def least(items):
    return items.index(min(items))


MODEL = {
    "Log": Log,
    "Lock": Semaphore,
    "Semaphore": Semaphore,
    "Condition": Condition,
    "Event": Event,
    "Barrier": Barrier,
    "Queue": Queue,
    "SimpleQueue": Queue,
    "LifoQueue": lambda maxsize=0: Queue(maxsize, last_in),
    "PriorityQueue": lambda maxsize=0: Queue(maxsize, least),
}


class Real:
    """A real primitive; its methods are generators that never yield."""

    def __init__(self, primitive):
        self.primitive = primitive

    def __getattr__(self, name):
        method = getattr(self.primitive, name)

        def call(*args):
            return method(*args)
            yield

        return call


REAL = {
    "Lock": threading.Lock,
    "Semaphore": threading.Semaphore,
    "Condition": threading.Condition,
    "Event": threading.Event,
    "Barrier": threading.Barrier,
    "Queue": queue.Queue,
    "SimpleQueue": queue.SimpleQueue,
    "LifoQueue": queue.LifoQueue,
    "PriorityQueue": queue.PriorityQueue,
}


class Primitives:
    """What a program shares: a log, and the primitives that it names."""

    def __init__(self, named, classes):
        self.log = Log() if classes is MODEL else Real([])
        for name, (kind, *args) in named.items():
            primitive = classes[kind](*args)
            setattr(self, name, primitive if classes is MODEL else Real(primitive))

    def outcome(self):
        return tuple(self.log.entries if isinstance(self.log, Log) else self.log.primitive)


def outcomes(named, workers, most=None):
    """The final logs of all interleavings, and `DEADLOCK` if one comes to a halt.

    None if there are more than `most` interleavings.
    """
    found, prefix = set(), []
    for number in itertools.count():
        if number == most:
            return None
        p = Primitives(named, MODEL)
        running = {index: worker(p) for index, worker in enumerate(workers)}
        guards = {index: next(generator, None) for index, generator in running.items()}
        choices = []
        while enabled := [i for i, guard in guards.items() if guard is not None and guard()]:
            choice = prefix[len(choices)] if len(choices) < len(prefix) else 0
            choices.append((choice, len(enabled)))
            guards[enabled[choice]] = next(running[enabled[choice]], None)
        halted = any(guard is not None for guard in guards.values())
        found.add(DEADLOCK if halted else p.outcome())
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return found
        prefix = [choice for choice, _ in choices]
        prefix[-1] += 1


def explored(named, workers, **options):
    """The same of the real primitives, and the result of the exploration."""
    found = set()

    def run(worker):
        return lambda p: list(worker(p))

    def invariant(p):
        found.add(p.outcome())
        return True

    options = {"stop_on_first": False, **options}
    if options.get("strategy", "dpor") == "dpor":
        options = {"preemption_bound": None, **options}
    result = frontrun.explore(
        lambda: Primitives(named, REAL), [run(worker) for worker in workers], invariant, **options
    )
    if result.deadlock:
        found.add(DEADLOCK)
    return found, result
