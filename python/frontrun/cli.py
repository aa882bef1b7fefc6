"""The command line: ``frontrun COMMAND ARGS…`` and a few commands of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["is_active", "main", "require_active"]

ACTIVE = "FRONTRUN_ACTIVE"

USAGE = """\
usage: frontrun COMMAND [ARGS...]         run a command, with FRONTRUN_ACTIVE=1
       frontrun replay FILE               run a saved counterexample again
       frontrun bench [ARGS...]           measure a program or a test suite
       frontrun doctor                    tell what works on this interpreter
       frontrun --help | --version

`frontrun pytest` explores as `pytest` does: what C code does with files and sockets is
intercepted either way. A program called like one of the words above runs after two
dashes: `frontrun -- replay`. The exit status is that of the command.
"""


def is_active() -> bool:
    """Does this process run under ``frontrun COMMAND``?"""
    return os.environ.get(ACTIVE) == "1"


def require_active(caller: str) -> None:
    """Make sure that this process runs under ``frontrun COMMAND``.

    No exploration needs it: what C extensions do on their own is intercepted without it. It
    is for code written against the older frontrun.

    Raises:
        RuntimeError: naming `caller`, when it does not.
    """
    if not is_active():
        raise RuntimeError(
            f"{caller} must run under the frontrun command: use `frontrun COMMAND ARGS...`, "
            "for instance `frontrun pytest`"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments (``sys.argv`` without one) say.

    Returns:
        The exit status: the command's own, 128 + n when signal n ended it, 127 when there
        is no such command, 130 after Ctrl-C, 1 without arguments.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(USAGE, end="", file=sys.stderr)
        return 1
    first, *rest = arguments
    try:
        match first:
            case "-h" | "--help":
                print(USAGE, end="")
                return 0
            case "-V" | "--version":
                from frontrun import __version__

                print(f"frontrun {__version__}")
                return 0
            case "replay":
                return replay(rest)
            case "doctor":
                from frontrun._doctor import main as doctor

                return doctor(rest)
            case "bench":
                from frontrun.bench import main as bench

                return bench(rest)
            case "--":
                return run(rest) if rest else main([])
        if first.startswith("-"):
            print(f"frontrun: unknown option {first}\n{USAGE}", end="", file=sys.stderr)
            return 2
        return run(arguments)
    except KeyboardInterrupt:
        return 130


def replay(arguments: Sequence[str]) -> int:
    """Run a saved counterexample again, and tell what comes of it.

    Returns:
        The exit status: 1 when it fails again, 0 when it does not any more, 2 when it cannot
        be replayed.
    """
    import argparse

    parser = argparse.ArgumentParser(
        prog="frontrun replay",
        description="Run a saved counterexample again, against the code as it is now.",
        epilog="Exit status: 1 when it fails again, 0 when it does not, 2 when it does not fit.",
    )
    parser.add_argument("file", help="what result.save(file) has written")
    path = parser.parse_args(arguments).file
    from frontrun._replay import replay_file
    from frontrun.common import ReplayMismatchError

    # As `python FILE` would: modules are found from here.
    sys.path.insert(0, os.getcwd())
    try:
        result = replay_file(path)
    except (OSError, ValueError, ImportError, ReplayMismatchError) as error:
        print(f"frontrun replay: {error}", file=sys.stderr)
        return 2
    if result.property_holds:
        print(f"{path} does not fail any more: the invariant holds under its schedule")
        return 0
    print(result.explanation or f"inconclusive: {result.inconclusive_reason}")
    return 1


def run(command: Sequence[str]) -> int:
    """Run a command with ``FRONTRUN_ACTIVE=1``, and give its exit status."""
    name, *rest = command
    if shutil.which(name) is None:
        # In a virtual environment that is not activated, the usual one lies beside us.
        name = shutil.which(name, path=os.path.dirname(sys.executable)) or name
    try:
        process = subprocess.Popen([name, *rest], env={**os.environ, ACTIVE: "1"})
    except FileNotFoundError:
        print(f"frontrun: {command[0]}: command not found", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"frontrun: {command[0]}: {error.strerror}", file=sys.stderr)
        return 126
    interrupted = False
    with _passing_on(process):
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                if not _in_foreground():
                    process.send_signal(signal.SIGINT)
    if interrupted:
        return 130
    return status if status >= 0 else 128 - status


def _in_foreground() -> bool:
    """Would Ctrl-C reach the command as well, which shares our process group?"""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


@contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Send a request to end to the command, too."""
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
