"""One clock for setup, the workers and the invariant of an execution."""

import time

import pytest

import frontrun

CLOCKS = [time.time, time.monotonic, time.perf_counter]


class Cache:
    """Its one entry lives for ten seconds."""

    def __init__(self, clock):
        self.clock, self.expires = clock, clock() + 10

    def is_fresh(self):
        return self.clock() < self.expires


def explore(read, worker, invariant, **options):
    return frontrun.explore(lambda: Cache(read), [worker], invariant, **options)


@pytest.mark.parametrize("clock", CLOCKS)
def test_workers_and_invariant_read_the_clock_that_setup_read(clock):
    def worker(cache):
        cache.was_fresh = cache.is_fresh()

    assert explore(clock, worker, lambda cache: cache.was_fresh and cache.is_fresh()).property_holds


@pytest.mark.parametrize("clock", CLOCKS)
def test_what_workers_slept_has_passed_for_the_invariant(clock):
    def worker(cache):
        time.sleep(11)

    assert explore(clock, worker, lambda cache: not cache.is_fresh()).property_holds


def test_what_setup_waits_has_passed_for_the_workers():
    def setup():
        began = time.monotonic()
        time.sleep(0.02)
        return [began, time.monotonic()]

    def worker(times):
        times.append(time.monotonic())

    def in_order(times):
        times.append(time.monotonic())
        return times == sorted(times) and times[2] - times[0] >= 0.02

    assert frontrun.explore(setup, [worker], in_order).property_holds


def test_real_readings_are_left_alone():
    def worker(cache):
        time.sleep(11)

    result = explore(time.monotonic, worker, Cache.is_fresh, clock="real")
    assert result.property_holds
