"""Races in released packages are found, and their corrected releases are silent.

Nothing here was written for this project: each test uses a package as its users do.
"""

import io

import pytest

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


def fetch_from_two_hosts(**options):
    """A pool manager with room for one pool, used for two hosts by two threads."""
    import urllib3
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Answer:
        def settimeout(self, seconds):
            pass

        def sendall(self, data):
            pass

        def makefile(self, mode):
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        def close(self):
            pass

    class Connection(HTTPConnection):
        def connect(self):
            self.sock = Answer()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    def manager():
        made = urllib3.PoolManager(num_pools=1)
        made.pool_classes_by_scheme = {"http": Pool}
        return made

    def fetch(host):
        return lambda manager: manager.request("GET", f"http://{host}/", retries=False)

    return frontrun.explore(manager, [fetch("a"), fetch("b")], lambda manager: True, **options)


@pytest.mark.parametrize("seed", range(5))
def test_urllib3_1_26_15_closes_a_pool_in_use_within_tens_of_pct_schedules(package, seed):
    package("urllib3==1.26.15")
    result = fetch_from_two_hosts(strategy="pct", depth=2, seed=seed, max_attempts=60)
    assert result.property_holds is False
    assert type(result.exception).__name__ == "ClosedPoolError"
    assert "connectionpool.py:" in result.explanation


def test_urllib3_1_26_15_seems_right_to_a_plain_walk_over_instructions(package):
    package("urllib3==1.26.15")
    result = fetch_from_two_hosts(strategy="random", seed=0, max_attempts=60)
    assert result.property_holds is True


def test_urllib3_1_26_16_closes_no_pool_in_use(package):
    package("urllib3==1.26.16")
    result = fetch_from_two_hosts(strategy="pct", depth=2, seed=0, max_attempts=100)
    assert result.property_holds, result.explanation
    assert result.num_explored == 100
