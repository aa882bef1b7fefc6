"""What `threading` makes of workers: they are threads that it did not start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from frontrun import _native


class _DummyThread(threading._DummyThread):
    """What `threading.current_thread` gives in a worker.

    Such a thread is a daemon to `threading`, and threads that it starts would be daemons, too.
    """

    @property
    def daemon(self) -> bool:
        return _native.loop_worker() is None and bool(self._daemonic)  # type: ignore[attr-defined]

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        threading.Thread.daemon.__set__(self, daemonic)  # type: ignore[attr-defined]


@contextmanager
def no_daemons() -> Iterator[None]:
    """Let threads that workers start be daemons only where the program says so."""
    before = threading._DummyThread
    threading._DummyThread = _DummyThread  # type: ignore[misc]
    try:
        yield
    finally:
        threading._DummyThread = before  # type: ignore[misc]
