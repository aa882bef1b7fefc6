"""What `threading` makes of workers: they are threads that it did not start."""

from __future__ import annotations

import threading

from frontrun import _native


class _DummyThread(threading._DummyThread):
    """What `threading.current_thread` gives in a worker, while an exploration runs.

    Such a thread is a daemon to `threading`, and threads that it starts would be daemons, too.
    """

    @property
    def daemon(self) -> bool:
        return _native.loop_worker() is None and bool(self._daemonic)  # type: ignore[attr-defined]

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        threading.Thread.daemon.__set__(self, daemonic)  # type: ignore[attr-defined]
