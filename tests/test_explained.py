"""What a user reads about programs that really ran, not about events made up by hand."""

import asyncio
import contextlib
import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import frontrun


def explained(setup, workers, invariant=lambda state: True, **options):
    result = frontrun.explore(setup, workers, invariant, **options)
    assert result.property_holds is False
    return result.explanation


# Waiting


def wait_for_event(state):
    state.event.wait()


def wait_for_event_in_a_thread(state):
    thread = threading.Thread(target=wait_for_event, args=(state,))
    thread.start()
    thread.join()


def wait_for_result(state):
    with state.lock, ThreadPoolExecutor(1) as pool:
        pool.submit(state.lock.acquire).result()


@pytest.mark.parametrize(
    "worker, goal",
    [
        (lambda state: state.queue.get(), "an item in the queue"),
        (lambda state: [state.queue.put(item) for item in "abc"], "room in the queue"),
        (lambda state: (state.queue.put(1), state.queue.join()), "the items of the queue to be"),
        (wait_for_event, "the event to be set"),
        (wait_for_event_in_a_thread, "the event to be set"),
        (lambda state: [state.semaphore.acquire() for _ in "ab"], "the semaphore to be released"),
        (lambda state: state.barrier.wait(), "others at the barrier"),
        (lambda state: state.condition.acquire() and state.condition.wait(), "a notification"),
        (wait_for_result, "the result of a future"),
    ],
)
def test_what_is_waited_for_goes_by_the_name_that_the_user_knows(worker, goal, capfd):
    def setup():
        return SimpleNamespace(
            queue=queue.Queue(2),
            event=threading.Event(),
            semaphore=threading.Semaphore(),
            barrier=threading.Barrier(2),
            condition=threading.Condition(),
            lock=threading.Lock(),
        )

    text = explained(setup, [worker])
    assert f" waits for {goal}" in " ".join(text.split())
    assert "No way out: nobody is left who could end these waits." in text
    assert "Self-deadlock" not in text
    assert text.count("holds lock #") == (worker is wait_for_result)
    assert "holds lock #1 and" not in text
    assert capfd.readouterr().err == ""  # pools say nothing of workers that are ended


def test_a_lock_that_is_taken_twice_is_no_notification():
    def take_twice(lock):
        with lock, lock:
            pass

    assert "Self-deadlock: worker 0 waits for" in explained(threading.Lock, [take_twice])


def test_a_simple_queue_is_not_held_but_empty():
    text = explained(queue.SimpleQueue, [lambda items: items.get()])
    assert "waits for SimpleQueue #1 (where nobody puts anything)" in text


def test_a_socket_goes_by_its_address():
    pair = socket.socketpair()
    with contextlib.closing(pair[0]), contextlib.closing(pair[1]):
        text = explained(lambda: None, [lambda _: pair[0].recv(1)])
    assert "waits for socketpair:" in text
    assert "#1" not in text


def test_a_join_is_not_mistaken_for_a_location():
    def join_while_locked(lock):
        thread = threading.Thread(target=lock.acquire)
        with lock:
            thread.start()
            thread.join()

    text = explained(threading.Lock, [join_while_locked])
    assert "waits for the end of worker 1" in text
    assert "[start worker 1]" in text
    assert "Thread'" not in text  # how the module `threading` is looked up matters to nobody


# The inner workings of libraries


class Totals:
    shared = 0

    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount

    def add_in_a_pool(self):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self.add, [1, 2]))


def test_a_race_in_a_pool_shows_nothing_of_the_pool():
    text = explained(Totals, [Totals.add_in_a_pool], lambda totals: totals.total == 3)
    told = text.partition("in order:")[2].partition("The invariant")[0]
    assert told.count("Totals.total") == 3
    assert "Lock" not in told
    assert "Queue" not in told
    assert "thread.py" not in told


def test_order_of_a_queue_is_told_in_calls_of_the_queue():
    def put(item):
        return lambda items: items.put(item)

    text = explained(queue.Queue, [put("a"), put("b")], lambda items: items.get() == "a")
    assert "share no data that changes, only locks, queues or threads" in " ".join(text.split())
    assert text.count("[call Queue.put()]") == 2
    assert "lock #" not in text


def test_a_race_on_a_file_shows_no_locks_of_its_buffer(tmp_path):
    path = tmp_path / "once"

    def setup():
        path.unlink(missing_ok=True)

    def write_once(state):
        if not path.exists():
            with open(path, "a") as file:
                file.write("x")

    text = explained(setup, write_once, lambda _: path.read_text() == "x", count=2)
    assert "[write existence of file:" in text
    assert "BufferedWriter" not in text


def test_a_race_of_tasks_shows_nothing_of_asyncio():
    async def add(totals):
        total = totals.total
        await asyncio.sleep(1)
        totals.total = total + 1

    exploration = frontrun.explore(Totals, add, lambda totals: totals.total == 2, count=2)
    result = asyncio.run(exploration)
    assert "Lost update" in result.explanation
    assert result.unique_interleavings == 1
    assert "Future" not in result.explanation
    assert "Called from add" not in result.explanation
    assert "worker 2" not in result.explanation


# Names


def test_attributes_of_classes_and_modules_go_by_their_names():
    def setup():
        Totals.shared = threading.shared_by_test = 0

    def add_to_class(state):
        Totals.shared += 1

    def add_to_module(state):
        threading.shared_by_test += 1

    try:
        text = explained(setup, add_to_class, lambda _: Totals.shared == 2, count=2)
        assert "both read class Totals.shared before" in text
        text = explained(setup, add_to_module, lambda _: threading.shared_by_test == 2, count=2)
        assert "both read threading.shared_by_test before" in " ".join(text.split())
    finally:
        del threading.shared_by_test


def test_a_function_is_introduced_once_with_its_callers():
    def outer(state):
        inner(state)

    def inner(state):
        with state.lock:
            value = state.value
        state.value = value + 1

    def setup():
        return SimpleNamespace(lock=threading.Lock(), value=0)

    text = explained(setup, outer, lambda state: state.value == 2, count=2)
    assert text.count("worker 1 in inner\n    Called from outer\n") == 1
    assert text.count("worker 0 in inner\n    Called from outer\n") == 2


# What a newcomer gets wrong


def test_an_invariant_that_returns_nothing_is_told_so():
    def invariant(totals):
        assert totals.total == 3

    text = explained(Totals, [lambda totals: totals.add(3)], invariant)
    assert "it returned None, and has to return something true" in " ".join(text.split())


def test_what_an_invariant_returned_is_told():
    text = explained(Totals, [lambda totals: totals.add(0)], lambda totals: totals.total)
    assert "The invariant does not hold in the final state: it returned 0." in text


def test_a_failure_that_needs_no_switch_says_so():
    text = explained(Totals, lambda totals: totals.add(1), lambda totals: False, count=2)
    assert "ran one after the other here: worker 0, then worker 1." in text
    assert "the outcome depends on that order" not in " ".join(text.split())
    text = explained(Totals, lambda totals: totals.add(1), lambda t: t.total == 2, count=2)
    assert "one after the other" not in text


def test_a_replay_does_not_speak_of_what_it_has_not_tried():
    result = frontrun.explore(Totals, lambda t: t.add(1), lambda t: t.total == 2, count=2)
    assert "GIL" in result.explanation
    assert "GIL" not in result.replay().explanation
