"""Races in released packages are found, and their corrected releases are silent.

Nothing here was written for this project: each test uses a package as its users do.
"""

import frontrun


def emit_from_two_threads():
    """A handler registered with `once` must run once, whoever emits."""
    from pyee import EventEmitter

    class Room:
        def __init__(self):
            self.calls = []
            self.emitter = EventEmitter()
            self.emitter.once("open", self.calls.append)

    return frontrun.explore(
        Room,
        [lambda room: room.emitter.emit("open", 1), lambda room: room.emitter.emit("open", 2)],
        lambda room: len(room.calls) == 1,
    )


def test_pyee_8_0_1_runs_a_once_handler_twice_or_fails(package):
    package("pyee==8.0.1")
    result = emit_from_two_threads()
    assert result.property_holds is False
    assert "_base.py:" in result.explanation


def test_pyee_8_1_0_runs_a_once_handler_once_in_every_execution(package):
    package("pyee==8.1.0")
    result = emit_from_two_threads()
    assert result.property_holds, result.explanation
    assert result.exhaustive


def increment_from_two_threads(cache):
    return frontrun.explore(
        cache,
        [lambda cache: cache.inc("hits"), lambda cache: cache.inc("hits")],
        lambda cache: cache.get("hits") == 2,
    )


def test_cachelib_0_13_0_loses_an_increment(package):
    package("cachelib==0.13.0")
    from cachelib import SimpleCache

    result = increment_from_two_threads(SimpleCache)
    assert result.property_holds is False
    assert "Lost update" in result.explanation
    assert "simple.py:" in result.explanation


def test_cachelib_with_a_lock_around_inc_loses_none(package):
    package("cachelib==0.13.0")
    import threading

    from cachelib import SimpleCache

    class LockedCache(SimpleCache):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def inc(self, key, delta=1):
            with self.lock:
                return super().inc(key, delta)

    result = increment_from_two_threads(LockedCache)
    assert result.property_holds, result.explanation
    assert result.exhaustive
