"""A cache that several threads of a pool fill: is a value ever computed twice?"""

from concurrent.futures import ThreadPoolExecutor

import frontrun


class Cache:
    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self.computed = 0

    def square(self, number: int) -> int:
        if number not in self.values:
            self.computed += 1
            self.values[number] = number * number
        return self.values[number]


def fill(cache: Cache) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        assert list(pool.map(cache.square, [3, 3])) == [9, 9]


result = frontrun.explore(Cache, [fill], lambda cache: cache.computed == 1)
assert result.property_holds is False
print(result.explanation)
