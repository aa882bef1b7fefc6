import itertools
import sys
import textwrap
import threading

import pytest

from frontrun._trace_format import (
    CollapsedRun,
    ConflictInfo,
    SourceLineEvent,
    TraceEvent,
    TraceRecorder,
    build_call_chain,
    classify_conflict,
    condense_trace,
    deduplicate_to_source_lines,
    filter_to_shared_accesses,
    format_trace,
    qualified_name,
)


def access(spec, step=0, **more):
    """An event from a word: "R0" is a read by worker 0, "W1.x" a write of x by worker 1."""
    head, _, attr = spec.partition(".")
    kind = {"R": "read", "W": "write", "-": None}[head[0]]
    given = {"lineno": step + 1, "obj_type_name": "Counter", "attr_name": attr or "value", **more}
    return TraceEvent(
        step,
        int(head[1:]),
        given.pop("filename", "counter.py"),
        given.pop("lineno"),
        "Counter.increment",
        "LOAD_ATTR",
        kind,
        given.pop("attr_name"),
        given.pop("obj_type_name"),
        **given,
    )


def trace(specs, **more):
    return [access(spec, step, **more) for step, spec in enumerate(specs.split())]


def line(worker, lineno=1):
    return SourceLineEvent(worker, "a.py", lineno, "f", "x = 1", "write", "x", "A")


# Shapes


def test_positional_order_of_the_dataclasses():
    event = TraceEvent(3, 1, "a.py", 7, "A.f", "STORE_ATTR", "write", "x", "A", ["g"])
    assert (event.step_index, event.thread_id, event.filename, event.lineno) == (3, 1, "a.py", 7)
    assert (event.function_name, event.opcode, event.access_type) == ("A.f", "STORE_ATTR", "write")
    assert (event.attr_name, event.obj_type_name, event.call_chain) == ("x", "A", ["g"])
    plain = TraceEvent(0, 0, "a.py", 1, "f", "NOP")
    assert plain.access_type is plain.attr_name is plain.obj_type_name is plain.call_chain is None
    source = SourceLineEvent(1, "a.py", 7, "A.f", "self.x = 1", "write", "x", "A", ["g"])
    assert (source.source_line, source.call_chain) == ("self.x = 1", ["g"])
    assert ConflictInfo("unknown", "?").attr_name is None
    assert CollapsedRun(4, 1) == CollapsedRun(count=4, thread_id=1)


# Recording


class Box:
    def __init__(self):
        self.value = 0

    def frame(self):
        return sys._getframe()

    def outer(self):
        return self.frame()


def test_record_takes_place_and_type_from_what_it_is_given():
    box = Box()
    recorder = TraceRecorder()
    recorder.record(1, box.frame(), "LOAD_ATTR", "read", "value", obj=box, call_chain=["main"])
    recorder.record(0, box.frame(), "LOAD_ATTR", "read", "value", obj_type_name="Other")
    first, second = recorder.events
    assert (first.step_index, first.thread_id, first.filename) == (0, 1, __file__)
    assert first.lineno > Box.frame.__code__.co_firstlineno
    assert (first.function_name, first.opcode) == ("Box.frame", "LOAD_ATTR")
    assert (first.access_type, first.attr_name, first.obj_type_name) == ("read", "value", "Box")
    assert first.call_chain == ["main"]
    assert (second.step_index, second.obj_type_name) == (1, "Other")


def test_a_disabled_recorder_records_nothing():
    recorder = TraceRecorder(enabled=False)
    recorder.record(0, sys._getframe())
    recorder.record_io(0, "file:/tmp/x", "write")
    recorder.record_from_opcode(0, sys._getframe())
    assert recorder.events == []
    recorder.enabled = True
    recorder.record(0, sys._getframe())
    assert len(recorder.events) == 1


def test_recording_from_several_threads_keeps_every_event_in_its_place():
    recorder = TraceRecorder()

    def work(n):
        for _ in range(500):
            recorder.record(n, sys._getframe())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [e.step_index for e in recorder.events] == list(range(2000))


def test_io_is_recorded_by_resource():
    recorder = TraceRecorder()
    recorder.record_io(0, "file:/tmp/a.json", "read")
    recorder.record_io(1, "file:/tmp/a.json", "write")
    text = format_trace(recorder.events, num_threads=2)
    assert "[read file:/tmp/a.json]" in text
    assert "worker 1 wrote it" in text


counter = 0
table = {"k": 1}


def traced(function, *args):
    """The (opcode's first word, kind, type, name) that `function` makes, by sys.settrace."""
    recorder = TraceRecorder()

    def on_event(frame, event, arg):
        if frame.f_code is not function.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            recorder.record_from_opcode(0, frame)
        return on_event

    sys._getframe().f_trace_opcodes = True  # 3.12 wants to know before it traces
    before = sys.gettrace()
    sys.settrace(on_event)
    try:
        function(*args)
    finally:
        sys.settrace(before)
    return [(e.access_type, e.obj_type_name, e.attr_name) for e in recorder.events]


def test_attributes_from_opcodes():
    def work(box):
        box.value += 1
        del box.value

    assert traced(work, Box()) == [
        ("read", "Box", "value"),
        ("write", "Box", "value"),
        ("write", "Box", "value"),
    ]


def test_subscripts_from_opcodes():
    def work(box, key):
        box.value["k"] += 1
        box.value[key]
        box.value[(1, 2)] = 3
        del box.value["k"]

    box = Box()
    box.value = {"k": 1, 5: 2}
    assert [a for a in traced(work, box, 5) if a[2] != "value"] == [
        ("read", "dict", "['k']"),
        ("write", "dict", "['k']"),
        ("read", "dict", "[5]"),
        ("write", "dict", "[…]"),
        ("write", "dict", "['k']"),
    ]


def test_globals_and_closure_variables_from_opcodes():
    total = 0

    def work():
        global counter
        nonlocal total
        counter += 1
        total += len(table)

    assert traced(work) == [
        ("read", "global", "counter"),
        ("write", "global", "counter"),
        ("read", "cell", "total"),
        ("read", "global", "table"),
        ("write", "cell", "total"),
    ]


def test_no_code_of_the_program_runs_to_decode_an_opcode():
    class Lazy:
        calls = 0

        @property
        def inner(self):
            Lazy.calls += 1
            return Box()

    def work(lazy):
        return lazy.inner.value

    assert ("read", None, "value") in traced(work, Lazy())
    assert Lazy.calls == 1


def test_extended_arguments_and_locals_are_no_obstacle():
    names = "".join(f"    box.a{n} = {n}\n" for n in range(300))
    scope = {}
    exec(f"def work(box):\n    x = 1\n{names}", scope)
    assert [name for _, _, name in traced(scope["work"], Box())] == [f"a{n}" for n in range(300)]


def test_qualified_name_leaves_out_enclosing_functions():
    assert qualified_name(Box().frame()) == "Box.frame"
    assert qualified_name((lambda: sys._getframe())()) == "<lambda>"


def test_call_chain_is_that_of_the_callers_outermost_last():
    def here(filename):
        return filename == __file__

    frame = Box().outer()
    chain = build_call_chain(frame, filter_fn=here, max_depth=2)
    assert chain == ["Box.outer", "test_call_chain_is_that_of_the_callers_outermost_last"]
    assert build_call_chain(frame, filter_fn=here, max_depth=1) == ["Box.outer"]
    assert build_call_chain(frame, filter_fn=lambda filename: False) is None


# Selecting and merging


def test_only_locations_of_several_workers_that_change_are_shared():
    events = trace("R0.x W1.x R0.private W0.private R0.constant R1.constant -0")
    assert filter_to_shared_accesses(events) == events[:2]


def test_the_type_is_part_of_the_location():
    events = [access("W0.x", obj_type_name="A"), access("W1.x", obj_type_name="B")]
    assert filter_to_shared_accesses([*events, *trace("W0.y W1.y")]) == trace("W0.y W1.y")


def test_explicit_locations_tell_objects_of_one_type_apart():
    events = [access("W0.x", location=1), access("W1.x", location=2), *trace("W0.y W1.y")]
    assert filter_to_shared_accesses(events) == trace("W0.y W1.y")


def test_without_shared_locations_all_accesses_are_kept():
    events = trace("R0.x -0 W0.x")
    assert filter_to_shared_accesses(events) == [events[0], events[2]]
    assert filter_to_shared_accesses(trace("-0 -1")) == []


def test_consecutive_events_on_a_line_merge():
    lines = deduplicate_to_source_lines(trace("R0 W0 R1 R0", lineno=5))
    assert [(e.thread_id, e.access_type) for e in lines] == [
        (0, "read+write"),
        (1, "read"),
        (0, "read"),
    ]


def test_events_of_different_locations_or_lines_do_not_merge():
    assert len(deduplicate_to_source_lines(trace("R0.x R0.y W0.x", lineno=5))) == 3
    assert len(deduplicate_to_source_lines(trace("R0 W0"))) == 2
    other_type = access("W0", lineno=5, obj_type_name="Other")
    assert len(deduplicate_to_source_lines([*trace("R0", lineno=5), other_type])) == 2


def test_source_lines_come_without_indentation(tmp_path):
    file = tmp_path / "counter.py"
    file.write_text("def f(self):\n    self.value += 1\n")
    (event,) = deduplicate_to_source_lines([access("W0", lineno=2, filename=str(file))])
    assert event.source_line == "self.value += 1"
    (event,) = deduplicate_to_source_lines([access("W0", lineno=99, filename=str(file))])
    assert event.source_line == ""


# Condensing


def test_a_short_trace_is_left_alone():
    lines = [line(n % 2) for n in range(30)]
    assert condense_trace(lines) == lines


def test_the_middle_of_runs_is_left_out_and_the_lines_at_switches_are_kept():
    lines = [line(0, n) for n in range(40)] + [line(1, n) for n in range(40)]
    short = condense_trace(lines, max_lines=10)
    assert len(short) <= 10
    assert [entry for entry in short if isinstance(entry, CollapsedRun)] == [
        CollapsedRun(36, 0),
        CollapsedRun(36, 1),
    ]
    for kept in (lines[0], lines[39], lines[40], lines[79]):
        assert kept in short


def test_with_too_many_switches_the_middle_of_the_trace_is_left_out():
    lines = [line(n % 2, n) for n in range(100)]
    assert condense_trace(lines, max_lines=5) == [
        *lines[:2],
        CollapsedRun(96, None),
        *lines[98:],
    ]


@pytest.mark.parametrize("max_lines", range(1, 12))
def test_condensing_respects_the_limit_and_loses_no_line(max_lines):
    for lengths in itertools.product(range(1, 6), repeat=3):
        lines = [line(i % 2, n) for i, length in enumerate(lengths) for n in range(length)]
        short = condense_trace(lines, max_lines=max_lines)
        assert len(short) <= max_lines
        count = sum(e.count if isinstance(e, CollapsedRun) else 1 for e in short)
        assert count == len(lines)


# Classification


@pytest.mark.parametrize(
    ("specs", "pattern"),
    [
        ("R0 R1 W0 W1", "lost_update"),
        ("R0 R1 W1 W0", "lost_update"),
        ("R1 R0 W0 W1", "lost_update"),
        ("R0 W0 R0 R1 W1 W0", "lost_update"),
        ("R0 R1 R2 W2 W1 W0", "lost_update"),
        ("R0.x R1.y R0.y W0.x W1.y W0.y", "lost_update"),
        ("W0 W1", "write_write"),
        ("R0 W1 W0", "write_write"),
        ("W0 W1 R0", "write_write"),
        ("W0 R1", "order_violation"),
        ("R1 W0", "order_violation"),
        ("R0 W1 R0", "order_violation"),
        ("W0 R1 W0", "order_violation"),
        ("R0.x R1.y W0.y W1.x", "order_violation"),
        ("R0 W0 R1 W1", "order_violation"),
        ("R0 R1", "unknown"),
        ("R0 W0", "unknown"),
        ("-0 -1", "unknown"),
        ("", "unknown"),
    ],
)
def test_patterns(specs, pattern):
    conflict = classify_conflict(trace(specs))
    assert conflict.pattern == pattern
    assert conflict.summary


def test_summary_names_the_attribute_and_who_lost():
    conflict = classify_conflict(trace("R0.total R1.total W1.total W0.total"))
    assert conflict.attr_name == "total"
    assert conflict.summary == (
        "Lost update: worker 0 and worker 1 both read Counter.total before either wrote it. "
        "The later write, by worker 0, discards what worker 1 wrote."
    )


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ("R0 W1 W0", "worker 0 read Counter.value, worker 1 wrote it, then worker 0 wrote it"),
        ("W0 W1 R0", "worker 0 wrote Counter.value and read it back later"),
        ("R0 W1 R0", "worker 0 read Counter.value twice, and worker 1 changed it in between"),
        ("W0 R1 W0", "worker 1 read Counter.value between two writes of it by worker 0"),
        ("R0.x R1.y W0.y W1.x", "neither saw the other's write (write skew)"),
        ("W0.x R1.x R1.y W0.y", "worker 1 came before worker 0 at Counter.y, but after it at"),
        ("R1 W0", "worker 1 read Counter.value before worker 0 wrote it"),
        ("W0 R1", "worker 0 wrote Counter.value before worker 1 read it"),
    ],
)
def test_summaries_tell_the_order(specs, words):
    assert words in classify_conflict(trace(specs)).summary


# Writing


@pytest.fixture
def counter_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "counter.py"
    file.write_text(
        "class Counter:\n"
        "    def increment(self):\n"
        "        temp = self.value\n"
        "        self.value = temp + 1\n"
    )
    return str(file)


def lost_update(filename):
    return [
        access("R0", 0, lineno=3, filename=filename, call_chain=["Job.run", "main"]),
        access("R1", 1, lineno=3, filename=filename),
        access("W0", 2, lineno=4, filename=filename, call_chain=["Job.run", "main"]),
        access("W1", 3, lineno=4, filename=filename),
    ]


def test_the_whole_text(counter_file):
    text = format_trace(
        lost_update(counter_file),
        num_threads=2,
        num_explored=3,
        invariant_desc="value == 2",
        reproduction_attempts=8,
        reproduction_successes=6,
    )
    expected = """
        Race condition found after 3 interleavings.

        Lost update: worker 0 and worker 1 both read Counter.value before either wrote
        it. The later write, by worker 1, discards what worker 0 wrote.

        What happened to shared state, in order:

          worker 0 in Counter.increment
            Called from Job.run <- main
            counter.py:3  temp = self.value      [read Counter.value]
          worker 1 in Counter.increment
            counter.py:3  temp = self.value      [read Counter.value]
          worker 0 in Counter.increment
            Called from Job.run <- main
            counter.py:4  self.value = temp + 1  [write Counter.value]
          worker 1 in Counter.increment
            counter.py:4  self.value = temp + 1  [write Counter.value]

        The invariant does not hold: value == 2

        Reproduced 6/8 times (75%)
    """
    assert text == textwrap.dedent(expected).strip()


def test_what_is_not_known_is_not_said(counter_file):
    text = format_trace(lost_update(counter_file), num_threads=2)
    assert text.startswith("Race condition found.\n")
    assert "Reproduced" not in text
    assert "invariant" not in text


def test_names_of_workers(counter_file):
    text = format_trace(lost_update(counter_file), num_threads=2, thread_names=["reader", "writer"])
    assert "reader and writer both read" in text
    assert "  writer in Counter.increment" in text
    assert "worker" not in text
    some = format_trace(lost_update(counter_file), num_threads=2, thread_names=["reader"])
    assert "reader and worker 1" in some


def test_opcodes_on_request(counter_file):
    assert "LOAD_ATTR" not in format_trace(lost_update(counter_file), num_threads=2)
    text = format_trace(lost_update(counter_file), num_threads=2, show_opcodes=True)
    assert "[read Counter.value] LOAD_ATTR" in text


def test_nothing_recorded():
    text = format_trace([], num_threads=2, num_explored=5, reproduction_attempts=1)
    assert "Race condition found after 5 interleavings" in text
    assert "no shared-state accesses" in text
    assert "Reproduced 0/1 times (0%)" in text


def test_values_and_merged_accesses():
    def tag(*values):
        events = [
            access("RW"[n % 2] + "0", lineno=1, value=value) for n, value in enumerate(values)
        ]
        (found,) = [s for s in format_trace(events, num_threads=1).splitlines() if "[" in s]
        return found[found.index("[") :]

    assert tag(None, None) == "[read+write Counter.value]"
    assert tag("0") == "[read Counter.value = 0]"
    assert tag("0", "1") == "[read Counter.value = 0, write 1]"
    assert tag(*"00112233") == "[read Counter.value = 0, write 0, …, write 3]"
    assert tag("x\n" * 100) == f"[read Counter.value = {'x ' * 14}x…]"


@pytest.mark.parametrize(
    ("type_name", "field", "shown"),
    [
        ("dict", "['k']", "dict['k']"),
        ("list", "<structure>", "list contents"),
        ("global", "total", "global total"),
        ("cell", "total", "variable total"),
        (None, "total", "total"),
        ("IO", "socket:localhost:80", "socket:localhost:80"),
    ],
)
def test_names_of_locations(type_name, field, shown):
    events = trace("W0 W1", obj_type_name=type_name, attr_name=field)
    assert f"[write {shown}]" in format_trace(events, num_threads=2)


def test_a_line_with_several_locations_is_shown_once(counter_file):
    events = trace("R0.x R0.y W1.x W1.y", filename=counter_file, lineno=3)
    text = format_trace(events, num_threads=2)
    assert text.count("counter.py:3") == 2
    assert "temp = self.value  [read Counter.x]\n" + " " * 37 + "[read Counter.y]\n" in text


def test_long_traces_say_what_they_leave_out(counter_file):
    events = trace(" ".join("W0.x W0.y " * 50 + "W1.x W1.y " * 50 for _ in "a"), lineno=3)
    text = format_trace(events, num_threads=2, max_lines=10)
    assert "    … 96 more lines of worker 0" in text
    many = trace("W0.x W1.x " * 50)
    assert "  … 91 lines of several workers" in format_trace(many, num_threads=2, max_lines=10)


def test_eighty_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "services" / "test_account_management.py"
    file.parent.mkdir()
    file.write_text("self.accounts_by_owner[owner.name] = self.make_account(owner)  # " + "x" * 90)
    events = trace("R0 R1 W1 W0", lineno=1, filename=str(file), attr_name="accounts_by_owner")
    text = format_trace(events, num_threads=2, num_explored=2, invariant_desc="word " * 40)
    assert max(map(len, text.splitlines())) <= 80
    assert "services/test_account_management.py:1  self.accounts_by_owner[owner.name] =…" in text


def test_installed_files_are_named_by_package():
    path = "/usr/lib/python3/site-packages/pyee/base.py"
    text = format_trace(trace("W0 W1", filename=path), num_threads=2)
    assert "    pyee/base.py:1 " in text
