"""The switches of the interception."""

import threading

import pytest

import frontrun
from frontrun import _cooperative
from frontrun._cooperative import is_patched, patch_locks, unpatch_locks


def test_the_switches_count():
    assert not is_patched()
    patch_locks()
    patch_locks()
    unpatch_locks()
    assert is_patched()
    unpatch_locks()
    assert not is_patched()
    unpatch_locks()
    patch_locks()
    assert is_patched()
    unpatch_locks()


class Guarded:
    def __init__(self):
        self.lock = threading.Lock()
        self.value = 0

    def increment(self):
        with self.lock:
            self.value += 1


@pytest.mark.parametrize("switch", [patch_locks, unpatch_locks])
def test_explorations_intercept_whatever_the_switch_says(switch):
    switch()
    result = frontrun.explore(Guarded, Guarded.increment, lambda it: it.value == 2, count=2)
    assert (result.property_holds, result.num_explored) == (True, 2)
    unpatch_locks()
    lock = threading.Lock()
    with lock:
        assert lock.locked()
    assert not lock.locked()


def test_the_interception_cannot_be_taken_from_an_exploration():
    patch_locks()
    try:
        with pytest.raises(RuntimeError, match="an exploration runs"):
            frontrun.explore(unpatch_locks, [print], bool)
    finally:
        unpatch_locks()
    assert not is_patched()


def test_the_cooperative_names_are_the_standard_classes():
    assert _cooperative.CooperativeLock is threading.Lock
    assert _cooperative.CooperativeCondition is threading.Condition
    for name in _cooperative.__all__:
        assert callable(getattr(_cooperative, name))
