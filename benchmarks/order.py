"""How soon each order of the systematic search finds a bug: the number of executions to it.

Run it as ``python benchmarks/order.py``. "no bug" stands for the size of a space without one, and
a dash says that there was none among the first 20,000 executions. A search is the same on every
run, so no seeds are needed.
"""

from __future__ import annotations

from collections.abc import Callable

from sampling import PROGRAMS, Program, State, total

import frontrun
from frontrun._exploration import SEARCHES

BUDGET = 20_000


def early(state: State) -> None:
    """The narrow window comes first, and then much that is shared and does no harm."""
    state.value += 1
    for _ in range(6):
        state.other += 1


def late(state: State) -> None:
    """The same the other way round."""
    for _ in range(6):
        state.other += 1
    state.value += 1


def check_then_act(state: State) -> None:
    if state.value == 0:
        state.value = 1
        state.log.append(1)
    for _ in range(4):
        state.other += 1


def acted_once(state: State) -> bool:
    return len(state.log) == 1


MORE: dict[str, Program] = {
    "early window, two": ([early] * 2, total(2)),
    "early window, three": ([early] * 3, total(3)),
    "late window, two": ([late] * 2, total(2)),
    "late window, three": ([late] * 3, total(3)),
    "check, then act": ([check_then_act] * 3, acted_once),
}


def executions(
    workers: list[Callable[[State], object]], invariant: Callable[[State], bool], search: str
) -> str:
    result = frontrun.explore(
        State,
        workers,
        invariant,
        search=search,
        preemption_bound=None,
        max_executions=BUDGET,
        reproduce_on_failure=0,
    )
    if not result.property_holds:
        return str(result.num_explored)
    return "no bug" if result.exhaustive else "-"


def main() -> None:
    print(f"{'':20}" + "".join(f"{search:>17}" for search in SEARCHES))
    for name, (workers, invariant) in (PROGRAMS | MORE).items():
        row = [executions(workers, invariant, search) for search in SEARCHES]
        print(f"{name:20}" + "".join(f"{each:>17}" for each in row), flush=True)


if __name__ == "__main__":
    main()
