"""What observing costs: each figure against the untraced run and a sys.settrace opcode tracer.

python benchmarks/observation.py
"""

import sys
import time

from frontrun.dpor import explore_dpor

STEPS = 100_000


class State:
    def __init__(self):
        self.value = 0
        self.items = [0]
        self.table = {"a": 0}


def appends_to_its_own_list(state):
    mine = []
    for i in range(STEPS):
        mine.append(i)
    state.value += 1


def stores_an_attribute(state):
    for i in range(STEPS):
        state.value = i


def stores_an_item(state):
    items = state.items
    for i in range(STEPS):
        items[0] = i


def stores_a_key(state):
    table = state.table
    for i in range(STEPS):
        table["a"] = i


def adds_numbers(state):
    total = 0
    for i in range(STEPS):
        total += i * 2 % 7


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def with_opcode_tracer(work):
    def trace(frame, event, argument):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)


def explored(worker):
    def work():
        explore_dpor(
            State,
            [worker],
            lambda _: True,
            max_branches=100 * STEPS,
            timeout_per_run=60.0,
            reproduce_on_failure=0,
        )

    return work


def main():
    print(f"{'':28}{'untraced':>10}{'frontrun':>10}{'settrace':>10}   ns per iteration")
    for worker in (
        adds_numbers,
        appends_to_its_own_list,
        stores_an_attribute,
        stores_an_item,
        stores_a_key,
    ):
        run = lambda worker=worker: worker(State())  # noqa: E731
        times = [
            min(timed(run) for _ in range(3)),
            min(timed(explored(worker)) for _ in range(3)),
            timed(lambda run=run: with_opcode_tracer(run)),
        ]
        cells = "".join(f"{t / STEPS * 1e9:10.0f}" for t in times)
        print(f"{worker.__name__.replace('_', ' '):28}{cells}")


if __name__ == "__main__":
    main()
