import linecache
import sys
import textwrap
import threading
import time
import traceback
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings

from frontrun import _markers
from frontrun.common import Schedule, Step
from frontrun.trace_markers import (
    MarkerRegistry,
    ThreadCoordinator,
    TraceExecutor,
    all_marker_schedules,
    explore_marker_interleavings,
    frontrun,
    marker_schedule_strategy,
)


def steps(*pairs):
    """`steps("a read", "b write")`: a schedule."""
    return Schedule([Step(*pair.split()) for pair in pairs])


class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()

    def increment(self):
        value = self.value  # frontrun: read
        self.value = value + 1  # frontrun: write

    def increment_locked(self):
        with self.lock:  # frontrun: enter
            value = self.value  # frontrun: read
            self.value = value + 1  # frontrun: write


LOST = steps("a read", "b read", "a write", "b write")
KEPT = steps("a read", "a write", "b read", "b write")


# Running a schedule


def test_a_schedule_decides_whether_an_update_is_lost():
    for schedule, value in [(LOST, 1), (KEPT, 2)] * 20:
        counter = Counter()
        frontrun(schedule, {"a": counter.increment, "b": counter.increment})
        assert counter.value == value


def test_arguments_go_to_the_worker_of_that_name():
    log = []

    def work(*args, **kwargs):
        log.append((args, kwargs))  # frontrun: log

    frontrun(
        steps("b log", "a log"),
        {"a": work, "b": work},
        thread_args={"a": (1, 2)},
        thread_kwargs={"b": {"x": 3}},
    )
    assert log == [((), {"x": 3}), ((1, 2), {})]


def test_workers_can_be_started_one_by_one():
    counter = Counter()
    executor = TraceExecutor(LOST)
    executor.run("a", counter.increment)
    executor.run("b", Counter.increment, args=(counter,))
    executor.wait()
    assert counter.value == 1
    assert executor.coordinator.completed
    assert executor.coordinator.is_finished()
    assert executor.coordinator.current_step == 4
    assert [thread.is_alive() for thread in executor.threads] == [False, False]


def test_a_dict_of_workers_is_started_and_waited_for():
    counter = Counter()
    executor = TraceExecutor(LOST)
    executor.run({"a": counter.increment, "b": counter.increment}, timeout=5.0)
    assert counter.value == 1


def test_an_executor_can_be_reset_and_used_again():
    executor = TraceExecutor(LOST)
    for _ in range(3):
        counter = Counter()
        executor.run({"a": counter.increment, "b": counter.increment})
        assert counter.value == 1
        executor.reset()
        assert (executor.threads, executor.thread_errors) == ([], {})
        assert not executor.coordinator.completed


def test_waiting_again_says_the_same():
    executor = TraceExecutor(Schedule([Step("a", "read"), Step("a", "write")]))
    executor.run("a", Counter().increment)
    executor.wait()
    executor.wait(timeout=1)

    def fails():
        raise LookupError

    executor = TraceExecutor(Schedule([]))
    executor.run("a", fails)
    for _ in range(2):
        with pytest.raises(LookupError):
            executor.wait()


def test_a_second_run_without_reset_is_an_error():
    executor = TraceExecutor(LOST)
    counter = Counter()
    executor.run({"a": counter.increment, "b": counter.increment})
    with pytest.raises(RuntimeError, match="call reset"):
        executor.run({"a": counter.increment, "b": counter.increment})


def test_reset_ends_workers_that_are_stopped():
    executor = TraceExecutor(steps("b read", "a read"))
    executor.run("a", Counter().increment)
    threads = list(executor.threads)
    executor.reset()
    assert not threads[0].is_alive()


def test_the_gated_line_runs_before_the_next_step_is_granted():
    log = []

    def slow():
        time.sleep(0.1), log.append("slow")  # frontrun: go

    def quick():
        log.append("quick")  # frontrun: go

    frontrun(steps("a go", "b go"), {"a": slow, "b": quick})
    assert log == ["slow", "quick"]


def test_what_precedes_the_first_marker_runs_in_the_order_of_start():
    for _ in range(20):
        log = []

        def work(name):
            for each in range(100):
                log.append((name, each))
            pass  # frontrun: reached

        names = "cab"
        frontrun(
            steps("a reached", "b reached", "c reached"),
            dict.fromkeys(names, work),
            {name: (name,) for name in names},
        )
        assert log == [(name, each) for name in names for each in range(100)]


def test_after_the_last_step_markers_are_open():
    one, other = Counter(), Counter()
    frontrun(steps("b read"), {"a": one.increment, "b": other.increment})
    assert one.value == other.value == 1


def test_a_marker_that_is_not_its_turn_holds_until_the_schedule_is_completed():
    log = []

    def first():
        log.append(1)  # frontrun: first

    def other():
        log.append(2)  # frontrun: unscheduled

    frontrun(steps("a first"), {"b": other, "a": first})
    assert log == [1, 2]


def test_a_loop_takes_a_step_in_each_pass():
    log = []

    def work(name):
        for each in range(3):
            log.append(name + str(each))  # frontrun: each

    frontrun(
        steps("a each", "b each", "b each", "a each", "b each", "a each"),
        {"a": work, "b": work},
        {"a": ("a",), "b": ("b",)},
    )
    assert log == ["a0", "b0", "b1", "a1", "b2", "a2"]


def test_a_worker_that_waits_for_a_lock_does_not_hold_the_turn():
    counter = Counter()
    schedule = steps("a enter", "a read", "b enter", "a write", "b read", "b write")
    frontrun(
        schedule,
        {"a": counter.increment_locked, "b": counter.increment_locked},
        deadlock_timeout=3600,
    )
    assert counter.value == 2


def test_a_worker_that_waits_on_a_queue_or_an_event_does_not_hold_the_turn():
    event, log = threading.Event(), []

    def waiter():
        event.wait(timeout=5)  # frontrun: wait
        log.append("woken")

    def setter():
        log.append("set")  # frontrun: set
        event.set()

    frontrun(steps("a wait", "b set"), {"a": waiter, "b": setter})
    assert log == ["set", "woken"]


def test_a_worker_that_polls_loses_the_turn_after_half_of_the_deadlock_timeout():
    flag = []

    def poll():
        while not flag:  # frontrun: poll
            time.sleep(0.001)

    def work():
        flag.append(1)  # frontrun: set

    frontrun(steps("a poll", "b set"), {"a": poll, "b": work}, deadlock_timeout=1.0)


def test_threads_that_are_no_workers_are_not_gated():
    counter = Counter()

    def work():
        helper = threading.Thread(target=counter.increment)
        helper.start()
        helper.join()
        counter.increment()

    frontrun(steps("a read", "a write"), {"a": work})
    assert counter.value == 2


# What goes wrong


def test_the_error_of_a_worker_is_raised_with_its_traceback():
    def fail():
        pass  # frontrun: before
        raise KeyError("mine")

    executor = TraceExecutor(steps("a before", "b read"))
    with pytest.raises(KeyError, match="mine") as caught:
        executor.run({"a": fail, "b": Counter().increment})
    assert traceback.extract_tb(caught.tb)[-1].name == "fail"
    assert executor.thread_errors == {"a": caught.value}
    assert executor.coordinator.error is caught.value


def test_the_others_are_unwound_after_an_error():
    log = []

    def fail():
        raise KeyError

    def stopped():
        try:
            log.append("passed")  # frontrun: never
        finally:
            log.append("finally")

    executor = TraceExecutor(steps("b never"))
    with pytest.raises(KeyError):
        executor.run({"b": stopped, "a": fail})
    assert log == ["finally"]
    assert not any(thread.is_alive() for thread in executor.threads)


def test_a_schedule_that_cannot_complete_is_given_up_at_once():
    counter = Counter()
    with pytest.raises(TimeoutError, match="Schedule incomplete") as caught:
        frontrun(
            steps("a read", "b write", "a write"),
            {"a": counter.increment, "b": counter.increment},
            deadlock_timeout=3600,
        )
    told = str(caught.value)
    assert "2 of 3 steps were never reached: Step('b', 'write'), Step('a', 'write')" in told
    assert "'a' is stopped before marker 'write'" in told
    assert "'b' is stopped before marker 'read'" in told
    assert "test_trace_markers.py" in told
    assert "in increment" in told


def test_a_worker_that_ends_before_its_steps_is_noticed_at_once():
    with pytest.raises(TimeoutError, match="'a' has ended"):
        frontrun(steps("a read"), {"a": lambda: None}, deadlock_timeout=3600)


def test_a_lock_that_a_stopped_worker_holds_is_noticed_at_once():
    counter = Counter()
    with pytest.raises(TimeoutError, match=r"'b' waits \(.* in increment_locked\)"):
        frontrun(
            steps("a enter", "b enter", "b read"),
            {"a": counter.increment_locked, "b": counter.increment_locked},
            deadlock_timeout=3600,
        )


def test_a_deadlock_after_the_last_step_is_noticed_at_once():
    one, two = threading.Lock(), threading.Lock()

    def nested(outer, inner):
        with outer:
            with inner:  # frontrun: inner
                pass

    with pytest.raises(TimeoutError, match="Deadlock after the last step"):
        frontrun(
            steps("a inner", "b inner"),
            {"a": nested, "b": nested},
            {"a": (one, two), "b": (two, one)},
            deadlock_timeout=3600,
        )


def test_a_deadlock_is_noticed_at_once_although_idle_threads_exist():
    idle = threading.Event()
    threading.Thread(target=idle.wait, daemon=True).start()
    test_a_lock_that_a_stopped_worker_holds_is_noticed_at_once()
    test_a_deadlock_after_the_last_step_is_noticed_at_once()
    idle.set()


def test_a_wait_that_ends_by_itself_is_no_deadlock():
    def work():
        threading.Event().wait(timeout=0.5)
        pass  # frontrun: late

    frontrun(steps("a late"), {"a": work})


def test_a_wait_for_a_thread_that_is_no_worker_is_no_deadlock():
    def work():
        helper = threading.Thread(target=time.sleep, args=(0.5,))
        helper.start()
        helper.join()
        pass  # frontrun: late

    frontrun(steps("a late"), {"a": work})


def test_a_step_that_takes_too_long_is_given_up_after_deadlock_timeout():
    with pytest.raises(TimeoutError, match=r"Schedule incomplete: .*Step\('a', 'read'\)"):
        frontrun(steps("a read"), {"a": lambda: time.sleep(1)}, deadlock_timeout=0.1)


def test_a_timeout_limits_everything():
    with pytest.raises(TimeoutError, match=r"(?s)Workers did not end in time.*'a' runs"):
        frontrun(steps("a nap"), {"a": nap}, timeout=0.5)


def nap():
    time.sleep(1)  # frontrun: nap


def test_an_unknown_worker_is_refused_before_anything_runs():
    ran = []
    with pytest.raises(ValueError, match=r"worker 'c' in Step\('c', 'read'\).* are 'a', 'b'"):
        frontrun(steps("c read"), {"a": lambda: ran.append(1), "b": lambda: ran.append(1)})
    assert ran == []


def test_a_worker_that_was_never_started_is_told_by_wait():
    executor = TraceExecutor(LOST)
    executor.run("a", Counter().increment)
    with pytest.raises(ValueError, match="worker 'b'"):
        executor.wait()
    assert not executor.threads[0].is_alive()


def test_an_unknown_marker_is_refused_before_anything_runs():
    ran = []
    with pytest.raises(ValueError, match=r"marker 'raed' .*'read'") as caught:
        frontrun(steps("a raed"), {"a": lambda: ran.append(1)})
    assert "'write'" in str(caught.value)
    assert ran == []


def test_a_name_is_used_once():
    executor = TraceExecutor(steps("b read", "a read"))
    executor.run("a", Counter().increment)
    with pytest.raises(ValueError, match="'a' already"):
        executor.run("a", Counter().increment)
    executor.reset()


def test_arguments_for_an_unknown_worker_are_refused():
    with pytest.raises(ValueError, match="arguments for 'b'"):
        frontrun(steps("a read"), {"a": Counter().increment}, {"b": (1,)})


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ([Step("a", "read")], "schedule must be a Schedule, not"),
        (Schedule([("a", "read")]), r"schedule\.steps\[0\] must be a Step, not \('a', 'read'\)"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, text):
    with pytest.raises(TypeError, match=text):
        frontrun(schedule, {"a": Counter().increment})


def test_timeouts_must_be_positive():
    with pytest.raises(ValueError, match="deadlock_timeout must be more than 0"):
        TraceExecutor(LOST, deadlock_timeout=0)


def test_nothing_stays_installed():
    frontrun(LOST, {"a": (counter := Counter()).increment, "b": counter.increment})
    with pytest.raises(TimeoutError):
        frontrun(steps("a write"), {"a": Counter().increment})
    if sys.version_info >= (3, 12):
        names = [sys.monitoring.get_tool(tool) for tool in range(6)]
        assert "frontrun markers" not in names
    assert threading.gettrace() is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_it_is_an_error_when_no_tool_id_is_free():
    free = [tool for tool in range(6) if sys.monitoring.get_tool(tool) is None]
    for tool in free:
        sys.monitoring.use_tool_id(tool, "test")
    try:
        with pytest.raises(RuntimeError, match="free tool id"):
            frontrun(steps("a read"), {"a": Counter().increment})
    finally:
        for tool in free:
            sys.monitoring.free_tool_id(tool)
    frontrun(steps("a read"), {"a": Counter().increment})


def test_executors_run_side_by_side():
    values = []

    def one():
        counter = Counter()
        frontrun(LOST, {"a": counter.increment, "b": counter.increment})
        values.append(counter.value)

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [1] * 5


# The coordinator on its own


def test_a_coordinator_lets_threads_pass_in_order():
    coordinator = ThreadCoordinator(steps("a x", "b x", "a y"))
    log = []

    def work(name, *markers):
        for marker in markers:
            coordinator.wait_for_turn(name, marker)
            log.append(name + marker)

    threads = [
        threading.Thread(target=work, args=("a", "x", "y")),
        threading.Thread(target=work, args=("b", "x")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["ax", "bx", "ay"]
    assert coordinator.is_finished() and coordinator.completed and coordinator.error is None


def test_one_thread_can_play_all_workers():
    coordinator = ThreadCoordinator(steps("a x", "b x", "a y"))
    coordinator.wait_for_turn("a", "x", _reacquire_execution_lock=True)
    coordinator.wait_for_turn("b", "x")
    assert (coordinator.current_step, coordinator.is_finished()) == (2, False)
    coordinator.wait_for_turn("a", "y")
    coordinator.wait_for_turn("a", "anything")
    assert coordinator.is_finished()


def test_a_reported_error_opens_the_markers():
    coordinator = ThreadCoordinator(steps("a x"))
    error = KeyError()
    coordinator.report_error(error)
    coordinator.report_error(ValueError())
    coordinator.wait_for_turn("b", "y")
    assert (coordinator.error, coordinator.is_finished(), coordinator.completed) == (
        error,
        True,
        False,
    )


def test_a_turn_that_never_comes_raises():
    coordinator = ThreadCoordinator(steps("a x"), deadlock_timeout=0.1)
    with pytest.raises(TimeoutError, match=r"Schedule incomplete: .*Step\('a', 'x'\)"):
        coordinator.wait_for_turn("b", "y")


# What a marker gates

numbers = count()


def load(source, **names):
    """Runs source that `linecache` knows; its namespace."""
    filename = f"<marked {next(numbers)}>"
    source = textwrap.dedent(source)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    exec(compile(source, filename, "exec"), names)
    return names


def arrivals(source):
    """Runs `work` of this source; what it logs, and `<marker>` for each gate that it passes."""
    log = []
    namespace = load(source, log=log.append)
    return passing(namespace["work"], log)


def passing(function, log):
    _markers.install()
    _markers.enter(lambda name, _code: log.append(f"<{name}>"))
    try:
        function()
    finally:
        _markers.leave()
        _markers.uninstall()
    return log


@pytest.mark.parametrize(
    "source, expected",
    {
        "inline": (
            """
            def work():
                log("before")
                log("gated")  # frontrun: m
                log("after")
            """,
            "before <m> gated after",
        ),
        "a line of its own": (
            """
            def work():
                log("before")
                # frontrun: m

                # another comment
                log("gated")
                log("after")
            """,
            "before <m> gated after",
        ),
        "without spaces, with text around": (
            """
            def work():
                log(1)  #frontrun:m
                log(2)  # noqa: X  # frontrun: n (explained)
            """,
            "<m> 1 <n> 2",
        ),
        "several on one statement, in the order of lines": (
            """
            def work():
                # frontrun: m
                # frontrun: n
                log(1)  # frontrun: o
            """,
            "<m> <n> <o> 1",
        ),
        "text that is no comment": (
            """
            def work():
                '''
                # frontrun: m
                '''
                log("# frontrun: n")
            """,
            "# frontrun: n",
        ),
        "a call over several lines": (
            """
            def work():
                log(  # frontrun: first
                    str(
                        1
                    )
                )
                log(
                    str(
                        2
                    ),
                )  # frontrun: last
                log(
                    # frontrun: inside
                    str(3),
                )
            """,
            "<first> 1 <last> 2 <inside> 3",
        ),
        "a backslash": (
            """
            def work():
                log(1 +
                    1) or \\
                    log(3)  # frontrun: m
            """,
            "<m> 2 3",
        ),
        "decorators": (
            """
            def decorator(name):
                log(name)
                return lambda function: log("applied") or function

            def work():
                # frontrun: before
                @decorator(
                    "outer"
                )
                @decorator("inner")  # frontrun: on
                def nested():
                    log("called")
                nested()
            """,
            "<before> <on> outer inner applied applied called",
        ),
        "a comprehension": (
            """
            def work():
                [log(each) for each in range(2)]  # frontrun: list
                {
                    log(each)  # frontrun: set
                    for each in range(2)
                }
                list(log(each) for each in range(2))  # frontrun: generator
            """,
            "<list> 0 1 <set> 0 1 <generator> 0 1",
        ),
        "a lambda: where it is made and where it is called": (
            """
            made_outside = lambda: log(0)  # frontrun: m

            def work():
                made_outside()
                call = lambda: log(1)  # frontrun: n
                call()
                # frontrun: o
                call = lambda: log(2)
                call()
            """,
            "<m> 0 <n> <n> 1 <o> 2",
        ),
        "a nested function": (
            """
            def work():
                def nested(n):  # frontrun: def
                    log(n)  # frontrun: body
                nested(1)
                nested(2)
            """,
            "<def> <body> 1 <body> 2",
        ),
        "a function on one line": (
            """
            def work(): log(1)  # frontrun: m
            """,
            "<m> 1",
        ),
        "a class": (
            """
            def work():
                class Nested:  # frontrun: class
                    log(1)  # frontrun: body
            """,
            "<class> <body> 1",
        ),
        "the body of a loop": (
            """
            def work():
                for each in range(2):
                    log(each)  # frontrun: m
                log("end")
            """,
            "<m> 0 <m> 1 end",
        ),
        "the head of a loop: each time it is asked": (
            """
            def work():
                for each in range(2):  # frontrun: for
                    log(each)
                n = 0
                while n < 2:  # frontrun: while
                    n += 1
                    log(n)
            """,
            "<for> 0 <for> 1 <for> <while> 1 <while> 2 <while>",
        ),
        "a loop on one line": (
            """
            def work():
                for each in range(2): log(each)  # frontrun: m
            """,
            "<m> 0 1",
        ),
        "conditions": (
            """
            def work():
                for n in range(3):
                    if n == 0:  # frontrun: if
                        log(n)
                    elif n == 1:  # frontrun: elif
                        log(n)
                    else:  # frontrun: else
                        log(n)
            """,
            "<if> 0 <if> <elif> 1 <if> <elif> <else> 2",
        ),
        "with: entered, not left": (
            """
            from contextlib import contextmanager

            @contextmanager
            def context(name):
                log("enter" + name)
                try:
                    yield
                finally:
                    log("exit" + name)

            def work():
                with context("1"):  # frontrun: m
                    log(1)
                with (
                    context("2"),
                    context("3"),  # frontrun: n
                ):
                    log(2)
                try:
                    with context("4"):  # frontrun: o
                        raise KeyError
                except KeyError:
                    log(3)
                for each in "56":
                    with context(each):  # frontrun: p
                        if each == "5":
                            continue
                        return
            """,
            "<m> enter1 1 exit1 <n> enter2 enter3 2 exit3 exit2 <o> enter4 exit4 3 "
            "<p> enter5 exit5 <p> enter6 exit6",
        ),
        "exceptions": (
            """
            def work():
                for error in (KeyError, ValueError, None):
                    try:  # frontrun: try
                        if error:
                            raise error  # frontrun: raise
                    except KeyError:  # frontrun: except
                        log("key")
                    except ValueError as caught:
                        log("value")  # frontrun: handle
                    else:
                        log("else")  # frontrun: else
                    finally:  # frontrun: finally
                        log("finally")
            """,
            "<try> <raise> <except> key <finally> finally "
            "<try> <raise> <except> <handle> value <finally> finally "
            "<try> <else> else <finally> finally",
        ),
        "a generator: once, though it is left and resumed": (
            """
            def generate():
                got = yield 1  # frontrun: first
                log(got)
                yield (  # frontrun: second
                    2
                )

            def work():
                generator = generate()
                log(next(generator))
                log(generator.send("sent"))
            """,
            "<first> 1 sent <second> 2",
        ),
        "match": (
            """
            def work():
                for n in range(3):
                    match n:  # frontrun: match
                        case 1:
                            log(1)  # frontrun: one
                        case _:
                            log("other")
            """,
            "<match> other <match> <one> 1 <match> other",
        ),
        "statements without effect": (
            """
            def work():
                pass  # frontrun: pass
                for each in range(1):
                    continue  # frontrun: continue
                return  # frontrun: return
            """,
            "<pass> <continue> <return>",
        ),
        "recursion": (
            """
            def work(n=2):
                log(n)  # frontrun: m
                if n:
                    work(n - 1)  # frontrun: again
            """,
            "<m> 2 <again> <m> 1 <again> <m> 0",
        ),
        "code that is long enough for wide arguments": (
            "def work():\n"
            + "".join(f"    x{n} = {n}; x{n}.real\n" for n in range(300))
            + "    log(1)  # frontrun: m\n"
            + "    for x299.y in (): pass  # frontrun: n\n",
            "<m> 1 <n>",
        ),
    }.items(),
    ids=lambda each: each if isinstance(each, str) and "\n" not in each else "",
)
def test_a_marker_gates(source, expected):
    text, expected = expected
    assert " ".join(map(str, arrivals(text))) == expected


def test_each_run_gates_again():
    log = []
    namespace = load("def work():\n    log(1)  # frontrun: m\n", log=log.append)
    for _ in range(3):
        assert passing(namespace["work"], log) == ["<m>", 1]
        log.clear()
    namespace["work"]()
    assert log == [1]


def test_a_marked_function_that_ran_before_is_gated_too():
    log = []
    namespace = load("def work():\n    log(1)  # frontrun: m\n", log=log.append)
    for _ in range(1000):
        namespace["work"]()
    log.clear()
    assert passing(namespace["work"], log) == ["<m>", 1]


def test_a_marker_can_be_in_several_functions():
    log = []
    namespace = load(
        """
        def one():
            log("one")  # frontrun: m

        def two():
            log("two")  # frontrun: m
        """,
        log=log.append,
    )
    frontrun(steps("b m", "a m"), {"a": namespace["one"], "b": namespace["two"]})
    assert log == ["two", "one"]


@pytest.mark.parametrize(
    "name, encode",
    {
        "crlf": lambda text: text.replace("\n", "\r\n").encode(),
        "cr": lambda text: text.replace("\n", "\r").encode(),
        "bom": lambda text: b"\xef\xbb\xbf" + text.encode(),
        "latin": lambda text: b"# coding: latin-1\n" + text.encode("latin-1"),
        "utf": lambda text: text.encode(),
    }.items(),
)
def test_files_are_read_as_python_reads_them(name, encode, tmp_path, monkeypatch):
    text = "def work(log):\n    log('é')  # frontrun: é_marker\n"
    module = f"markers_{name}"
    (tmp_path / f"{module}.py").write_bytes(encode(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    work = __import__(module).work
    log = []
    assert passing(lambda: work(log.append), log) == ["<é_marker>", "é"]


@pytest.mark.parametrize(
    "comment",
    ["# frontrun:", "# frontrun: my-name", "# frontrun : m", "# Frontrun: m", "# frontrun: ?"],
)
def test_a_malformed_marker_is_an_error_that_says_where(comment):
    namespace = load(f"def work():\n    pass  {comment}\n")
    with pytest.raises(ValueError, match=r"<marked \d+>:2: malformed marker"):
        frontrun(Schedule([]), {"a": namespace["work"]})


@pytest.mark.parametrize(
    "source",
    [
        "def work():\n    pass\n    # frontrun: m\n",
        "def work():\n    if 1:\n        pass\n        # frontrun: m\n    pass\n",
    ],
)
def test_a_marker_that_no_statement_follows_is_an_error(source):
    namespace = load(source)
    with pytest.raises(ValueError, match="the marker 'm' gates nothing"):
        frontrun(Schedule([]), {"a": namespace["work"]})


def test_a_registry_knows_the_markers_of_a_scanned_file():
    registry = MarkerRegistry()
    frame = sys._getframe()
    here = frame.f_lineno  # frontrun: inline
    # frontrun: above
    gated = frame.f_lineno
    assert registry.get_marker(__file__, here) is None
    registry.scan_frame(frame)
    assert registry.get_marker(__file__, here) == "inline"
    assert registry.get_marker(__file__, gated) == "above"
    assert registry.get_marker(__file__, gated - 1) == "above"
    assert registry.get_marker(__file__, gated + 1) is None
    assert registry.get_marker("elsewhere.py", 1) is None


def test_the_example_in_the_documents_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "markers.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "markers_example.py").write_text(example)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert __import__("markers_example").counter.value == 1


# All schedules


def test_all_schedules_are_the_merges_of_the_workers_markers():
    assert all_marker_schedules({"a": ["x", "y"], "b": ["z"]}) == [
        steps("a x", "a y", "b z"),
        steps("a x", "b z", "a y"),
        steps("b z", "a x", "a y"),
    ]
    assert len(all_marker_schedules({"a": (print, ["x"] * 3), "b": (print, ["y"] * 3)})) == 20


def test_exploring_finds_the_order_that_breaks_the_invariant():
    work = (Counter.increment, ["read", "write"])
    result = explore_marker_interleavings(
        Counter, {"a": work, "b": work}, lambda counter: counter.value == 2
    )
    assert result.property_holds is False
    assert result.counterexample == [0, 1, 1, 0]
    assert (result.num_explored, result.exhaustive) == (3, False)
    assert "Step('a', 'read')\n  Step('b', 'read')" in result.explanation


def test_exploring_on_finds_every_order_that_does():
    work = (Counter.increment, ["read", "write"])
    result = explore_marker_interleavings(
        Counter, {"a": work, "b": work}, lambda counter: counter.value == 2, stop_on_first=False
    )
    assert [number for number, _ in result.failures] == [3, 4, 5, 6]
    assert (result.num_explored, result.unique_interleavings, result.exhaustive) == (6, 6, True)


def test_orders_that_a_lock_forbids_are_no_failures():
    work = (Counter.increment_locked, ["enter", "read", "write"])
    result = explore_marker_interleavings(
        Counter, {"a": work, "b": work}, lambda counter: counter.value == 2
    )
    assert result.property_holds and result.exhaustive
    assert result.unique_interleavings < result.num_explored < 20


def test_a_deadlock_is_a_failure():
    class Two:
        def __init__(self):
            self.locks = threading.Lock(), threading.Lock()

    def forwards(two):
        with two.locks[0]:
            with two.locks[1]:  # frontrun: inner
                pass

    def backwards(two):
        with two.locks[1]:
            with two.locks[0]:  # frontrun: inner
                pass

    result = explore_marker_interleavings(
        Two, {"a": (forwards, ["inner"]), "b": (backwards, ["inner"])}, lambda two: True
    )
    assert result.property_holds is False
    assert result.explanation.startswith("Deadlock")


def test_an_error_of_a_worker_is_a_failure():
    def pop(items):
        if items:  # frontrun: check
            items.pop()  # frontrun: pop

    work = (pop, ["check", "pop"])
    result = explore_marker_interleavings(lambda: [1], {"a": work, "b": work}, lambda items: True)
    assert isinstance(result.exception, IndexError)
    assert result.counterexample == [0, 1, 1, 0]
    with pytest.raises(AssertionError, match="worker 'a' raised IndexError"):
        result.assert_holds()


@pytest.mark.parametrize(
    ("threads", "error", "text"),
    [
        ([(print, [])], TypeError, r"threads must be a dict of \(callable, markers\), not \["),
        ({}, ValueError, "threads must name at least one worker"),
        ({"a": print}, TypeError, r"threads\['a'\] must be \(callable, markers\), not <built-in"),
        ({"a": (1, [])}, TypeError, r"threads\['a'\] must be \(callable, markers\), not \(1, "),
    ],
)
def test_exploring_refuses_bad_threads(threads, error, text):
    with pytest.raises(error, match=text):
        explore_marker_interleavings(Counter, threads, lambda counter: True)


def test_a_coroutine_that_nobody_awaits_is_an_error():
    async def work():
        pass

    with pytest.raises(TypeError, match="'a' returned a coroutine, which nobody awaits"):
        frontrun(Schedule([]), {"a": work})


def test_exploring_unreachable_markers_is_an_error():
    with pytest.raises(ValueError, match="no order of the markers could be completed"):
        explore_marker_interleavings(
            Counter, {"a": (Counter.increment, ["write", "read"])}, lambda counter: True
        )


@settings(max_examples=30, deadline=None)
@given(marker_schedule_strategy({"a": ["read", "write"], "b": ["read", "write"]}))
def test_hypothesis_draws_schedules(schedule):
    counter = Counter()
    frontrun(schedule, {"a": counter.increment, "b": counter.increment})
    names = "".join(step.execution_name for step in schedule.steps)
    assert counter.value == (2 if names in ("aabb", "bbaa") else 1)
