"""With ``clock="explored"`` a timeout may come between any two steps of other workers."""

import queue
import threading
import time

import pytest
from textbook import explored, outcomes

import frontrun


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.simple, self.queue = queue.SimpleQueue(), queue.Queue()
        self.event = threading.Event()
        self.ready = self.done = False
        self.seen = []


def explore(*workers, invariant=lambda state: True, **options):
    return frontrun.explore(
        State,
        workers,
        invariant,
        **{"preemption_bound": None, "stop_on_first": False, "clock": "explored", **options},
    )


def look(state):
    state.seen.append((state.ready, state.done))


def works(state):
    state.ready = True
    state.done = True


def works_locked(state):
    with state.lock:
        works(state)


def acquires_with_timeout(state):
    if state.lock.acquire(timeout=1):
        state.lock.release()
    else:
        look(state)


def puts(items):
    def worker(state):
        state.ready = True
        getattr(state, items).put(1)
        state.done = True

    return worker


def gets_with_timeout(items):
    def worker(state):
        try:
            getattr(state, items).get(timeout=1)
        except queue.Empty:
            look(state)

    return worker


def sets(state):
    works(state)
    state.event.set()


def waits_with_timeout(state):
    if not state.event.wait(timeout=1):
        look(state)


def sleeps(state):
    time.sleep(1)
    look(state)


def starts_timer(state):
    timer = threading.Timer(60, look, [state])
    timer.start()
    works(state)
    timer.cancel()
    timer.join()


def joins_with_timeout(state):
    thread = threading.Thread(target=works, args=[state])
    thread.start()
    thread.join(timeout=1)
    look(state)
    thread.join()


PROGRAMS = {
    "lock": [works_locked, acquires_with_timeout],
    "simple queue": [puts("simple"), gets_with_timeout("simple")],
    "queue": [puts("queue"), gets_with_timeout("queue")],
    "event": [sets, waits_with_timeout],
    "sleep": [works, sleeps],
    "timer": [starts_timer],
    "join": [joins_with_timeout],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_timeout_between_two_statements_is_found_only_when_time_is_explored(program):
    def invariant(state):
        return (True, False) not in state.seen

    in_virtual_time = explore(*PROGRAMS[program], invariant=invariant, clock="virtual")
    assert in_virtual_time.property_holds, in_virtual_time.explanation
    assert in_virtual_time.exhaustive
    result = explore(*PROGRAMS[program], invariant=invariant)
    assert result.property_holds is False
    assert result.reproduction_successes == result.reproduction_attempts == 10
    assert result.exhaustive
    assert result.stats["sleep_set_blocked"] == 0


# Two reads race with two writes in four ways. A wait that does not time out ends after the
# release or the put; a lock may also be taken first.
@pytest.mark.parametrize(
    ("program", "executions"), [("sleep", 4), ("simple queue", 4 + 1), ("lock", 4 + 2)]
)
def test_each_place_of_a_timeout_is_executed_once(program, executions):
    assert explore(*PROGRAMS[program]).num_explored == executions


def tries(take):
    def worker(p):
        try:
            got = yield from take(p)
        except queue.Empty:
            got = "empty"
        yield from p.log.append(got)

    return worker


def holds(p):
    yield from p.lock.acquire()
    yield from p.log.append("held")
    yield from p.lock.release()


def acquires(p):
    got = yield from p.lock.acquire(True, 1)
    yield from p.log.append(got)
    if got:
        yield from p.lock.release()


def puts_two(p):
    yield from p.queue.put(1)
    yield from p.queue.put(2)


gets = tries(lambda p: p.queue.get(True, 1))
waits = tries(lambda p: p.event.wait(1))


def sets_between(p):
    yield from p.log.append("before")
    yield from p.event.set()
    yield from p.log.append("after")


TIMED = {
    "lock": ({"lock": ("Lock",)}, [holds, acquires]),
    "lock, two with timeouts": ({"lock": ("Lock",)}, [acquires, acquires, holds]),
    "semaphore": ({"lock": ("Semaphore", 1)}, [holds, acquires]),
    "event": ({"event": ("Event",)}, [sets_between, waits]),
    "simple queue": ({"queue": ("SimpleQueue",)}, [puts_two, gets, gets]),
    "queue": ({"queue": ("Queue",)}, [puts_two, gets, gets]),
    "stack": ({"queue": ("LifoQueue",)}, [puts_two, gets]),
}


@pytest.mark.parametrize("program", TIMED)
def test_every_outcome_of_the_textbook_is_found_and_no_other(program):
    named, workers = TIMED[program]
    found, result = explored(named, workers, clock="explored")
    assert found == outcomes(named, workers)
    assert result.exhaustive


def test_waits_take_at_least_as_long_as_they_say():
    def worker(state):
        begun = time.monotonic()
        time.sleep(5)
        with pytest.raises(queue.Empty):
            state.simple.get(timeout=7)
        state.seen.append(time.monotonic() - begun >= 12)

    result = explore(worker, sleeps, invariant=lambda state: True in state.seen)
    assert result.property_holds, result.explanation
    assert result.exhaustive


def test_what_the_clock_shows_depends_on_who_has_waited():
    def reads(state):
        begun = time.monotonic()
        state.seen.append(round(time.monotonic() - begun))

    found = set()
    result = explore(
        reads, lambda state: time.sleep(5), invariant=lambda s: found.add(*s.seen) or True
    )
    assert found == {0, 5}
    assert result.num_explored == 3


def test_waits_that_time_out_do_not_depend_on_each_other():
    result = explore(*[lambda state: time.sleep(5)] * 4)
    assert result.num_explored == 1


def polls(state):
    while True:
        try:
            item = state.simple.get(timeout=1)
        except queue.Empty:
            continue
        if item is None:
            return


@pytest.mark.parametrize("max_timeouts", [1, 2, 3])
def test_a_loop_that_waits_again_and_again_times_out_so_many_times(max_timeouts):
    result = explore(lambda s: s.simple.put(None), polls, max_timeouts=max_timeouts)
    assert result.num_explored == max_timeouts + 1
    assert result.exhaustive


@pytest.mark.parametrize("strategy", ["walk", "pct", "pos", "surw"])
def test_samples_meet_timeouts_too(strategy):
    result = frontrun.explore(
        State,
        PROGRAMS["lock"],
        lambda state: not state.seen,
        strategy=strategy,
        clock="explored",
        seed=1,
    )
    assert result.property_holds is False


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="clock must be 'virtual', 'real' or 'explored'"):
        explore(works, clock="fast")
    with pytest.raises(ValueError, match="max_timeouts must be at least 1"):
        explore(works, max_timeouts=0)
