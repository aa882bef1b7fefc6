"""Two workers add one to a counter. Is it always two in the end?"""

import frontrun


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        self.value += 1


result = frontrun.explore(
    setup=Counter,
    workers=lambda counter: counter.increment(),
    count=2,
    invariant=lambda counter: counter.value == 2,
    stop_on_first=False,
)
print(result.explanation)
print(f"{result.num_explored} executions, exhaustive: {result.exhaustive}")
