"""Switches of the native interception, and names that older code imports.

Locks are intercepted natively, whenever they were made, and by itself when an exploration
begins: nothing here is needed. `patch_locks` begins it earlier, and the ``Cooperative`` names
are the classes of the standard library.
"""

from queue import LifoQueue, PriorityQueue, Queue, SimpleQueue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

from frontrun import _native

__all__ = [
    "CooperativeBarrier",
    "CooperativeBoundedSemaphore",
    "CooperativeCondition",
    "CooperativeEvent",
    "CooperativeLifoQueue",
    "CooperativeLock",
    "CooperativePriorityQueue",
    "CooperativeQueue",
    "CooperativeRLock",
    "CooperativeSemaphore",
    "CooperativeSimpleQueue",
    "is_patched",
    "patch_locks",
    "unpatch_locks",
]

CooperativeLock = Lock
CooperativeRLock = RLock
CooperativeSemaphore = Semaphore
CooperativeBoundedSemaphore = BoundedSemaphore
CooperativeCondition = Condition
CooperativeEvent = Event
CooperativeBarrier = Barrier
CooperativeQueue = Queue
CooperativeLifoQueue = LifoQueue
CooperativePriorityQueue = PriorityQueue
CooperativeSimpleQueue = SimpleQueue

_count = 0
_guard = Lock()


def patch_locks() -> None:
    """Redirect the primitives that block, until `unpatch_locks` has been called as often."""
    global _count
    with _guard:
        _native.intercept(True)
        _count += 1


def unpatch_locks() -> None:
    """Undo one `patch_locks`; the last one restores the originals.

    An exploration redirects them again for itself. Calls without a `patch_locks` do nothing.

    Raises:
        RuntimeError: when an exploration is running.
    """
    global _count
    with _guard:
        if _count == 1:
            _native.intercept(False)
        _count = max(_count - 1, 0)


def is_patched() -> bool:
    """Has `patch_locks` been called more often than `unpatch_locks`?"""
    return _count > 0
