"""What a user reads, word for word, for each kind of failure."""

import linecache
import textwrap
from types import CodeType, SimpleNamespace

import pytest

from frontrun import _explain
from frontrun.common import Access, Blocked, Race

SOURCE = """\
class Counter:
    def increment(self):
        temp = self.value
        self.value = temp + 1

    def add(self, n):
        self.value += n

    def touch(self, who):
        self.last = who

def pop_if_any(items):
    if items:
        return items.pop()

def on_call(doctor, other):
    if other.on_duty:
        doctor.on_duty = False

def move(pair):
    pair.x = 1
    pair.y = 1

def look(pair):
    return pair.x, pair.y

def transfer(source, target, amount):
    with source.lock:
        with target.lock:
            source.balance -= amount

def again(lock):
    with lock:
        lock.acquire()

def locked(counter):
    with counter.lock:
        counter.value += 1

def check(counter):
    assert counter.value == 2, f"value is {counter.value}"

def main(threads):
    threads[0].start()
    threads[0].join()

class Condition:
    def wait(self):
        self.waiter.acquire()
"""
FILE = "/app/bank.py"


def _code_objects(code: CodeType) -> dict[str, CodeType]:
    found = {code.co_qualname: code}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _code_objects(const)
    return found


CODE = _code_objects(compile(SOURCE, FILE, "exec"))


@pytest.fixture(autouse=True)
def _source_in_linecache():
    linecache.cache[FILE] = (len(SOURCE), None, SOURCE.splitlines(True), FILE)
    yield
    del linecache.cache[FILE]


def at(function: str, text: str) -> tuple[CodeType, int]:
    """Code and offset of the line of `function` that reads `text`."""
    code = CODE[function]
    wanted = [
        n
        for n, line in enumerate(SOURCE.splitlines(), 1)
        if line.strip() == text and n >= code.co_firstlineno
    ]
    return code, next(s for s, _, line in code.co_lines() if line == wanted[0] and s)


def event(worker, function, text, *accesses):
    code, offset = at(function, text)
    return worker, code, offset, "op", list(accesses)


def read(loc, value=None, type_name="Counter", field="value"):
    return "read", loc, type_name, field, value


def write(loc, value=None, type_name="Counter", field="value"):
    return "write", loc, type_name, field, value


def lock(kind, loc):
    return kind, loc, "lock", "", None


def waiting(worker, function, text, loc, holder, holds=(), waits_for="lock", type_name="lock"):
    code, offset = at(function, text)
    return {
        "worker": worker,
        "waits_for": waits_for,
        "loc": loc,
        "type_name": type_name,
        "holder": holder,
        "code": code,
        "offset": offset,
        "holds": list(holds),
    }


def failure(kind, *events, execution=2, workers=2, **more):
    return {
        "kind": kind,
        "execution": execution,
        "schedule": [e[0] for e in events],
        "events": list(events),
        "exception": None,
        "error": None,
        "blocked": [],
        "callers": [],
        "labels": [],
        "worker_names": [f"worker {i}" for i in range(workers)],
        **more,
    }


def explain(failed, **more):
    return _explain.explain(failed, **{"num_explored": failed["execution"], **more})


def expect(text, expected):
    assert text == textwrap.dedent(expected).strip("\n")


def raised_by(function, *args):
    scope = {}
    exec(CODE["<module>"], scope)
    with pytest.raises(Exception) as caught:
        scope[function](*args)
    error = caught.value
    return error.with_traceback(error.__traceback__.tb_next)  # starts in the worker


READ, STORE = "temp = self.value", "self.value = temp + 1"
LOST_UPDATE = failure(
    "invariant",
    event(0, "Counter.increment", READ, read(1, "0")),
    event(1, "Counter.increment", READ, read(1, "0")),
    event(1, "Counter.increment", STORE, write(1, "1")),
    event(0, "Counter.increment", STORE, write(1, "1")),
)
A, B = "with source.lock:", "with target.lock:"
AB_BA = failure(
    "deadlock",
    event(0, "transfer", A, lock("acquire", 1)),
    event(1, "transfer", A, lock("acquire", 2)),
    blocked=[
        waiting(0, "transfer", B, 2, 1, [1]),
        waiting(1, "transfer", B, 1, 0, [2]),
    ],
)


def test_lost_update():
    expect(
        explain(LOST_UPDATE, reproduction_attempts=10, reproduction_successes=9),
        """
        Race condition found after 2 interleavings.

        Lost update: worker 0 and worker 1 both read Counter.value before either wrote
        it. The later write, by worker 0, discards what worker 1 wrote.

        What happened to shared state, in order:

          worker 0 in Counter.increment
            bank.py:3  temp = self.value      [read Counter.value = 0]
          worker 1 in Counter.increment
            bank.py:3  temp = self.value      [read Counter.value = 0]
            bank.py:4  self.value = temp + 1  [write Counter.value = 1]
          worker 0 in Counter.increment
            bank.py:4  self.value = temp + 1  [write Counter.value = 1]

        The invariant does not hold in the final state.

        Reproduced 9/10 times (90%)
        """,
    )


def test_lost_update_between_augmented_assignments_with_half_a_lock():
    lock_line, add = "with counter.lock:", "self.value += n"
    failed = failure(
        "invariant",
        event(0, "locked", lock_line, lock("acquire", 9)),
        event(0, "locked", "counter.value += 1", read(1, "0")),
        event(1, "Counter.add", add, read(1, "0")),
        event(1, "Counter.add", add, write(1, "1")),
        event(0, "locked", "counter.value += 1", write(1, "1")),
        event(0, "locked", lock_line, lock("release", 9)),
    )
    expect(
        explain(failed, num_explored=36, notes=["Reachable on this interpreter."]),
        """
        Race condition found after 2 interleavings (36 explored in all).

        Lost update: worker 0 and worker 1 both read Counter.value before either wrote
        it. The later write, by worker 0, discards what worker 1 wrote.

        Locks held at Counter.value: worker 0: lock #1; worker 1: none.

        What happened to shared state, in order:

          worker 0 in locked
            bank.py:37  with counter.lock:  [acquire lock #1]
            bank.py:38  counter.value += 1  [read Counter.value = 0]
          worker 1 in Counter.add
            bank.py:7   self.value += n     [read Counter.value = 0, write 1]
          worker 0 in locked
            bank.py:38  counter.value += 1  [write Counter.value = 1]
            bank.py:37  with counter.lock:  [release lock #1]

        The invariant does not hold in the final state.

        Reachable on this interpreter.
        """,
    )


def test_write_write_with_names_of_workers_and_a_described_invariant():
    failed = failure(
        "invariant",
        event(0, "Counter.touch", "self.last = who", write(1, "'a'", field="last")),
        event(1, "Counter.touch", "self.last = who", write(1, "'b'", field="last")),
        worker_names=["alice", "bob"],
    )
    expect(
        explain(failed, invariant_desc="alice came last"),
        """
        Race condition found after 2 interleavings.

        Write-write conflict: alice and bob both wrote Counter.last. The later write, by
        bob, replaces the other.

        The workers ran one after the other here: alice, then bob. So no switch within a
        worker is needed. If any order should do, look at setup and at the invariant as
        well.

        What happened to shared state, in order:

          alice in Counter.touch
            bank.py:10  self.last = who  [write Counter.last = 'a']
          bob in Counter.touch
            bank.py:10  self.last = who  [write Counter.last = 'b']

        The invariant does not hold in the final state: alice came last
        """,
    )


def test_exception_after_a_check_that_another_worker_made_stale():
    structure = read(1, None, "list", "<structure>")
    failed = failure(
        "exception",
        event(0, "pop_if_any", "if items:", structure),
        event(1, "pop_if_any", "if items:", structure),
        event(
            1,
            "pop_if_any",
            "return items.pop()",
            read(2, "7", "list", "[0]"),
            write(1, None, "list", "<structure>"),
        ),
        event(0, "pop_if_any", "return items.pop()", structure),
        exception=(0, raised_by("pop_if_any", EmptyButTrue())),
    )
    expect(
        explain(failed),
        """
        Race condition found after 2 interleavings.

        Exception in worker 0: IndexError: pop from empty list
            bank.py:14  return items.pop()  in pop_if_any

        Order violation: worker 0 read list contents twice, and worker 1 changed it in
        between.

        What happened to shared state, in order:

          worker 0 in pop_if_any
            bank.py:13  if items:           [read list contents]
          worker 1 in pop_if_any
            bank.py:13  if items:           [read list contents]
            bank.py:14  return items.pop()  [write list contents]
          worker 0 in pop_if_any
            bank.py:14  return items.pop()  [read list contents]
        """,
    )


def test_exception_without_shared_state():
    failed = failure("exception", exception=(0, raised_by("look", None)), execution=1)
    expect(
        explain(failed),
        """
        Exception found after 1 interleavings.

        Exception in worker 0: AttributeError: 'NoneType' object has no attribute 'x'
            bank.py:25  return pair.x, pair.y  in look

        The execution recorded no shared-state accesses: either the workers share
        nothing that changes, or they do so in code that is not traced.
        """,
    )


def test_write_skew_over_two_objects_of_one_class():
    check, act = "if other.on_duty:", "doctor.on_duty = False"
    failed = failure(
        "invariant",
        event(0, "on_call", check, read(2, "True", "Doctor", "on_duty")),
        event(1, "on_call", check, read(1, "True", "Doctor", "on_duty")),
        event(0, "on_call", act, write(1, "False", "Doctor", "on_duty")),
        event(1, "on_call", act, write(2, "False", "Doctor", "on_duty")),
    )
    expect(
        explain(failed),
        """
        Race condition found after 2 interleavings.

        Order violation: worker 0 and worker 1 each read what the other wrote afterwards
        (Doctor.on_duty #1, Doctor.on_duty #2), so neither saw the other's write (write
        skew).

        What happened to shared state, in order (#1, #2 tell objects apart):

          worker 0 in on_call
            bank.py:17  if other.on_duty:       [read Doctor.on_duty #1 = True]
          worker 1 in on_call
            bank.py:17  if other.on_duty:       [read Doctor.on_duty #2 = True]
          worker 0 in on_call
            bank.py:18  doctor.on_duty = False  [write Doctor.on_duty #2 = False]
          worker 1 in on_call
            bank.py:18  doctor.on_duty = False  [write Doctor.on_duty #1 = False]

        The invariant does not hold in the final state.
        """,
    )


def test_half_finished_update_seen_and_an_invariant_that_raises():
    failed = failure(
        "invariant_error",
        event(0, "move", "pair.x = 1", write(1, "1", "Pair", "x")),
        event(
            1,
            "look",
            "return pair.x, pair.y",
            read(1, "1", "Pair", "x"),
            read(2, "0", "Pair", "y"),
        ),
        event(0, "move", "pair.y = 1", write(2, "1", "Pair", "y")),
        error=raised_by("check", SimpleNamespace(value=1)),
    )
    expect(
        explain(failed),
        """
        Race condition found after 2 interleavings.

        Order violation: worker 1 came before worker 0 at Pair.y, but after it at
        Pair.x. No execution of one worker after the other does that.

        What happened to shared state, in order:

          worker 0 in move
            bank.py:21  pair.x = 1             [write Pair.x = 1]
          worker 1 in look
            bank.py:25  return pair.x, pair.y  [read Pair.x = 1]
                                               [read Pair.y = 0]
          worker 0 in move
            bank.py:22  pair.y = 1             [write Pair.y = 1]

        The invariant raised AssertionError: value is 1
            bank.py:41  assert counter.value == 2, f"value is {counter.value}"  in check
        """,
    )


def test_invariant_fails_but_nothing_was_recorded():
    expect(
        explain(failure("invariant")),
        """
        Race condition found after 2 interleavings.

        The execution recorded no shared-state accesses: either the workers share
        nothing that changes, or they do so in code that is not traced.

        The invariant does not hold in the final state.
        """,
    )


def test_deadlock_of_two_locks():
    expect(
        explain(AB_BA, reproduction_attempts=10, reproduction_successes=10),
        """
        Deadlock found after 2 interleavings.

        Circular wait: worker 0 and worker 1 each wait for the other.

          worker 0 holds lock #1, waits for lock #2 (held by worker 1) at bank.py:29
            bank.py:28  with source.lock:  [acquired lock #1]
            bank.py:29  with target.lock:  [waits for lock #2]

          worker 1 holds lock #2, waits for lock #1 (held by worker 0) at bank.py:29
            bank.py:28  with source.lock:  [acquired lock #2]
            bank.py:29  with target.lock:  [waits for lock #1]

        Reproduced 10/10 times (100%)
        """,
    )


def test_deadlock_of_a_worker_with_itself():
    failed = failure(
        "deadlock",
        event(0, "again", "with lock:", lock("acquire", 1)),
        blocked=[waiting(0, "again", "lock.acquire()", 1, 0, [1])],
        workers=1,
        execution=1,
    )
    expect(
        explain(failed),
        """
        Deadlock found after 1 interleavings.

        Self-deadlock: worker 0 waits for what only worker 0 itself could release.

          worker 0 holds lock #1, waits for lock #1 (held by itself) at bank.py:34
            bank.py:33  with lock:      [acquired lock #1]
            bank.py:34  lock.acquire()  [waits for lock #1]
        """,
    )


def test_deadlock_on_a_lock_that_was_never_released():
    failed = failure(
        "deadlock",
        event(0, "again", "lock.acquire()", lock("acquire", 1)),
        event(1, "transfer", A, lock("acquire", 2)),
        blocked=[waiting(1, "transfer", B, 1, 0, [2])],
    )
    expect(
        explain(failed),
        """
        Deadlock found after 2 interleavings.

        No way out: nobody is left who could end these waits.

          worker 1 holds lock #2, waits for lock #1 (held by worker 0, which has ended)
            at bank.py:29
            bank.py:28  with source.lock:  [acquired lock #2]
            bank.py:29  with target.lock:  [waits for lock #1]

        What happened to shared state, in order:

          worker 0 in again
            bank.py:34  lock.acquire()     [acquire lock #1]
          worker 1 in transfer
            bank.py:28  with source.lock:  [acquire lock #2]
        """,
    )


def test_deadlock_through_a_join_with_a_bystander():
    failed = failure(
        "deadlock",
        event(0, "transfer", A, lock("acquire", 1)),
        blocked=[
            waiting(0, "main", "threads[0].join()", 1, 1, [1], "join", "thread"),
            waiting(1, "transfer", A, 1, 0),
            waiting(2, "transfer", A, 1, 0),
        ],
        workers=3,
    )
    expect(
        explain(failed),
        """
        Deadlock found after 2 interleavings.

        Circular wait: worker 0 and worker 1 each wait for the other.

          worker 0 holds lock #1, waits for the end of worker 1 at bank.py:45
            bank.py:28  with source.lock:  [acquired lock #1]
            bank.py:45  threads[0].join()  [waits for the end of worker 1]

          worker 1 waits for lock #1 (held by worker 0) at bank.py:28
            bank.py:28  with source.lock:  [waits for lock #1]

        Also waiting for ever:

          worker 2 waits for lock #1 (held by worker 0) at bank.py:28
            bank.py:28  with source.lock:  [waits for lock #1]
        """,
    )


def test_deadlock_on_a_notification_that_was_lost():
    failed = failure(
        "deadlock",
        event(0, "look", "return pair.x, pair.y", read(3, "False", "Flag", "set")),
        event(1, "move", "pair.x = 1", write(3, "True", "Flag", "set")),
        blocked=[
            waiting(0, "Condition.wait", "self.waiter.acquire()", 1, None, [1], "notification")
        ],
    )
    expect(
        explain(failed),
        """
        Deadlock found after 2 interleavings.

        No way out: nobody is left who could end these waits.

          worker 0 waits for a notification at bank.py:49
            bank.py:49  self.waiter.acquire()  [waits for a notification]

        What happened to shared state, in order:

          worker 0 in look
            bank.py:25  return pair.x, pair.y  [read Flag.set = False]
          worker 1 in move
            bank.py:21  pair.x = 1             [write Flag.set = True]
        """,
    )


def test_three_workers_in_a_circle():
    blocked = [waiting(i, "transfer", B, (i + 1) % 3, (i + 1) % 3, [i]) for i in range(3)]
    events = [event(i, "transfer", A, lock("acquire", i)) for i in range(3)]
    text = explain(failure("deadlock", *events, blocked=blocked, workers=3))
    assert "Circular wait: worker 0, worker 1 and worker 2 each wait for the next one." in text
    assert "worker 2 holds lock #3, waits for lock #1 (held by worker 0)" in text


def test_private_state_and_private_locks_are_left_out():
    failed = failure(
        "invariant",
        event(0, "locked", "with counter.lock:", lock("acquire", 9)),
        event(0, "locked", "counter.value += 1", read(5, "0", "Private")),
        event(0, "locked", "with counter.lock:", lock("release", 9)),
        *LOST_UPDATE["events"],
    )
    assert explain(failed) == explain(LOST_UPDATE)


def test_pattern_is_taken_from_what_no_lock_orders():
    """Each holds the lock for `value`, in turn; only `last` is accessed freely."""
    ordered = [
        event(worker, "locked", *step)
        for worker in (0, 1)
        for step in [
            ("with counter.lock:", lock("acquire", 9)),
            ("counter.value += 1", write(1)),
            ("with counter.lock:", lock("release", 9)),
        ]
    ]
    free = [event(w, "Counter.touch", "self.last = who", write(2, field="last")) for w in (0, 1)]
    assert "both wrote Counter.last" in explain(failure("invariant", *ordered, *free))


def test_code_without_a_line_or_without_code_at_all():
    failed = failure("invariant", *((w, None, 0, "op", [write(1)]) for w in (0, 1)))
    assert "    [write Counter.value]" in explain(failed)


def test_races_are_the_unordered_conflicting_pairs():
    first, second = (
        Access(w, kind, FILE, line) for w, kind, line in [(0, "read", 3), (1, "write", 4)]
    )
    found = _explain.races(LOST_UPDATE)
    assert Race("Counter.value", first, second) in found
    assert len(found) == 3


@pytest.mark.parametrize("release", [True, False])
def test_a_lock_orders_accesses_once_it_is_released(release):
    steps = [
        (0, lock("acquire", 9)),
        (0, write(1)),
        *([(0, lock("release", 9))] if release else []),
        (1, lock("acquire", 9)),
        (1, write(1)),
    ]
    events = [event(w, "locked", "counter.value += 1", access) for w, access in steps]
    assert len(_explain.races(failure("invariant", *events))) == (0 if release else 1)


def test_start_and_join_order_accesses():
    def step(worker, *accesses):
        return event(worker, "locked", "counter.value += 1", *accesses)

    events = [
        step(0, write(1)),
        step(0, ("start", 1, "thread", "", None)),
        step(1, write(1)),
        step(0, ("join", 1, "thread", "", None)),
        step(0, read(1)),
    ]
    assert _explain.races(failure("invariant", *events)) == []
    without_join = [e for e in events if e[4][0][0] != "join"]
    assert len(_explain.races(failure("invariant", *without_join))) == 1


def test_race_repeated_in_a_loop_is_listed_once():
    events = [
        event(w, "Counter.touch", "self.last = who", write(1)) for _ in range(5) for w in (0, 1)
    ]
    assert len(_explain.races(failure("invariant", *events))) == 2  # either order


def test_deadlock_as_data():
    assert _explain.deadlock(AB_BA) == [
        Blocked(0, "lock #2", 1, FILE, 29),
        Blocked(1, "lock #1", 0, FILE, 29),
    ]
    assert _explain.deadlock(LOST_UPDATE) is None


class EmptyButTrue:
    """What a list is that another worker empties after it was checked."""

    def __bool__(self):
        return True

    pop = [].pop
