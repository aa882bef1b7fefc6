"""Many executions in a row leave nothing behind."""

import os
import subprocess
import sys
import textwrap

from frontrun import fast

# An execution on OS threads takes ten times as long.
EXECUTIONS = 100_000 if fast.backend().carrier == "fibers" else 30_000

PROGRAM = """
    import gc, os, sys, threading
    import frontrun

    class Counter:
        def __init__(self):
            self.value = 0
            self.lock = threading.Lock()

        def increment(self):
            with self.lock:
                self.value += 1

        def increment_in_a_thread(self):
            thread = threading.Thread(target=self.increment)
            thread.start()
            thread.join()

    def explore(worker, executions):
        result = frontrun.explore(
            Counter,
            worker,
            lambda counter: counter.value == 2,
            count=2,
            strategy="walk",
            max_attempts=executions,
            seed=1,
        )
        assert result.property_holds and result.num_explored == executions

    def world():
        tools = [sys.monitoring.get_tool(i) for i in range(6)] if hasattr(sys, "monitoring") else []
        return {
            "threads": threading.enumerate(),
            "os threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "frames": len(sys._current_frames()),
            "hooks": (sys.gettrace(), sys.getprofile(), threading.gettrace(), tools),
        }

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    explore(Counter.increment, 5_000)
    explore(Counter.increment_in_a_thread, 1_000)
    before, memory = world(), resident()
    explore(Counter.increment, EXECUTIONS)
    explore(Counter.increment_in_a_thread, 5_000)
    after = world()
    assert before == after, (before, after)
    grown = resident() - memory
    assert grown < 3 << 20, f"grew by {grown} bytes"
"""


def test_many_executions_in_a_row_leak_nothing():
    program = textwrap.dedent(PROGRAM).replace("EXECUTIONS", str(EXECUTIONS))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stderr
