"""Does `result.reachable` tell the truth? Real threads try to lose updates.

python benchmarks/switch_points.py [SECONDS]

Every row is a way of adding one to a counter with something between the read and the write.
"explored" is what frontrun says about it, "lost" how many updates two real threads lose in so
many seconds (2) with the shortest switch interval. A row that says "free-threaded" and loses
one is a bug; one that says "gil" and loses none may merely have been lucky.
"""

import sys
import threading
import time
from contextlib import contextmanager

import frontrun


class Counter:
    def __init__(self):
        self.value = 0
        self.other = 0
        self.list = []
        self.dict = {}


LOCK = threading.Lock()


def nothing():
    pass


def get(counter):
    return counter.value


@contextmanager
def context():
    yield


def inline(c):
    c.value += 1


def two_statements(c):
    old = c.value
    c.value = old + 1


def through_a_getter(c):
    c.value = get(c) + 1


def other_attribute(c):
    old = c.value
    c.other = 1
    c.value = old + 1


def item_of_a_dict(c):
    old = c.value
    c.dict[1] = 1
    c.value = old + 1


def membership(c):
    old = c.value
    1 in c.dict
    c.value = old + 1


def len_of_a_string(c):
    old = c.value
    len("")
    c.value = old + 1


def abs_of_a_number(c):
    old = c.value
    abs(-1)
    c.value = old + 1


def get_of_a_dict(c):
    old = c.value
    c.dict.get(1)
    c.value = old + 1


def append_to_a_list(c):
    old = c.value
    c.list.append(1)
    c.list.clear()
    c.value = old + 1


def call(c):
    old = c.value
    nothing()
    c.value = old + 1


def loop(c):
    old = c.value
    for _ in (1, 2):
        pass
    c.value = old + 1


def comprehension(c):
    old = c.value
    [x for x in (1, 2)]
    c.value = old + 1


def with_a_lock(c):
    old = c.value
    with LOCK:
        pass
    c.value = old + 1


def with_a_generator(c):
    old = c.value
    with context():
        pass
    c.value = old + 1


def exception(c):
    old = c.value
    try:
        raise KeyError
    except KeyError:
        pass
    c.value = old + 1


def formatted(c):
    old = c.value
    f"{old:5}"
    c.value = old + 1


def slept(c):
    old = c.value
    time.sleep(0)
    c.value = old + 1


BODIES = [
    inline,
    two_statements,
    through_a_getter,
    other_attribute,
    item_of_a_dict,
    membership,
    formatted,
    exception,
    len_of_a_string,
    abs_of_a_number,
    get_of_a_dict,
    append_to_a_list,
    call,
    loop,
    comprehension,
    with_a_lock,
    with_a_generator,
    slept,
]


def explored(body):
    return frontrun.explore(Counter, body, lambda c: c.value == 2, count=2).reachable


def lost(body, seconds):
    """Updates that two threads lose."""
    counter, counts = Counter(), [0, 0]
    end = time.monotonic() + seconds

    def work(me):
        while time.monotonic() < end:
            for _ in range(100):
                body(counter)
            counts[me] += 100

    threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    return sum(counts) - counter.value, sum(counts)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print("CPython", sys.version.split()[0])
    print(f"{'between the two':20} {'explored':15} {'lost':>9} {'of':>10}")
    wrong = 0
    for body in BODIES:
        # Real threads first: an exploration leaves code specialised as it was run.
        missing, updates = lost(body, seconds)
        label = explored(body)
        verdict = "WRONG" if missing and label != "gil" else ""
        wrong += bool(verdict)
        name = body.__name__.replace("_", " ")
        print(f"{name:20} {label!s:15} {missing:9} {updates:10} {verdict}", flush=True)
    raise SystemExit(wrong)


if __name__ == "__main__":
    main()
