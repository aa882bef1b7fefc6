"""The command line, as somebody types it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from frontrun import __version__, cli


def frontrun(*arguments, **options):
    """Runs `python -m frontrun ARGUMENTS`."""
    command = [sys.executable, "-m", "frontrun", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_of_the_command_is_passed_on(status):
    assert frontrun(*python(f"raise SystemExit({status})")).returncode == status


def test_the_arguments_and_streams_belong_to_the_command():
    code = "import sys; print(sys.argv[1:], sys.stdin.read())"
    run = frontrun(*python(code), "--help", "-x", "a b", input="typed")
    assert run.stdout == "['--help', '-x', 'a b'] typed\n"


def test_a_command_knows_that_it_runs_under_frontrun():
    code = "from frontrun import cli; cli.require_active('me'); print(cli.is_active())"
    assert frontrun(*python(code)).stdout == "True\n"
    assert cli.is_active() is False
    with pytest.raises(RuntimeError, match=r"^me must run under the frontrun command"):
        cli.require_active("me")


def test_an_unknown_command_gives_127():
    run = frontrun("no-such-command-anywhere")
    assert run.returncode == 127
    assert run.stderr == "frontrun: no-such-command-anywhere: command not found\n"


def test_a_command_of_the_same_environment_is_found_though_it_is_not_activated():
    run = frontrun(os.path.basename(sys.executable), "--version", env={**os.environ, "PATH": ""})
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Python 3.")


def test_a_file_that_cannot_be_run_gives_126(tmp_path):
    script = tmp_path / "script"
    script.write_text("")
    run = frontrun(str(script))
    assert run.returncode == 126
    assert "Permission denied" in run.stderr


def test_a_command_that_a_signal_ended_gives_128_more():
    assert frontrun(*python("import os; os.kill(os.getpid(), 9)")).returncode == 128 + 9


@pytest.mark.parametrize(
    ("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_request_to_end_reaches_the_command(signal_number, status, tmp_path):
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    code = (
        "import pathlib, time\n"
        "try:\n"
        f"    pathlib.Path({str(ready)!r}).touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        f"    pathlib.Path({str(cleaned)!r}).touch(); raise\n"
    )
    command = [sys.executable, "-m", "frontrun", *python(code)]
    # A session of its own has no terminal, like a job of CI.
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not ready.exists():
        time.sleep(0.01)
    process.send_signal(signal_number)
    assert process.wait(timeout=60) == status
    assert cleaned.exists() == (signal_number == signal.SIGINT)


def test_without_arguments_it_shows_how_to_use_it():
    run = frontrun()
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == cli.USAGE


def test_help_shows_every_command():
    run = frontrun("--help")
    assert (run.returncode, run.stdout) == (0, cli.USAGE)
    for word in ("COMMAND", "replay", "bench", "doctor"):
        assert f"frontrun {word}" in run.stdout


def test_the_version_is_told():
    assert frontrun("--version").stdout == f"frontrun {__version__}\n"


def test_an_unknown_option_is_refused():
    run = frontrun("--verison")
    assert run.returncode == 2
    assert run.stderr.startswith("frontrun: unknown option --verison\n")


def test_after_two_dashes_everything_is_a_command(tmp_path):
    program = tmp_path / "doctor"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = frontrun("--", "doctor", env={**os.environ, "PATH": path})
    assert run.stdout == "mine\n"


def test_main_gives_the_status_to_who_calls_it(capfd):
    assert cli.main(python("print('hello')")) == 0
    assert cli.main(["no-such-command-anywhere"]) == 127
    assert capfd.readouterr().out == "hello\n"


def test_the_doctor_tells_what_works_here():
    run = frontrun("doctor")
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"CPython {sys.version_info.major}.{sys.version_info.minor}." in run.stdout
    assert "self-check     a lost update was found, and a deadlock" in run.stdout
    told = " ".join(run.stdout.split())
    assert "time: sleep, " in told
    assert " pread, " in told
    assert "limits One exploration at a time in a process." in told
    assert max(map(len, run.stdout.splitlines())) <= 80


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no tool ids")
def test_the_doctor_sees_that_no_tool_id_is_free():
    code = (
        "import sys\n"
        "for number in range(6): sys.monitoring.use_tool_id(number, f'tool {number}')\n"
        "from frontrun.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    run = subprocess.run(python(code), capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "no tool id of sys.monitoring is free (tool 0," in run.stdout
    assert "FAILED: frontrun needs a free tool id" in run.stdout


SHOP = """
import frontrun

class Shop:
    def __init__(self):
        self.sold = 0

    def sell(self):
        self.sold += 1

def is_right(shop):
    return shop.sold == 2

def test():
    return frontrun.explore(Shop, Shop.sell, is_right, count=2)

if __name__ == "__main__":
    import shop
    shop.test().save("race.json")
"""


def test_a_saved_counterexample_is_replayed_against_the_code_as_it_is_now(tmp_path):
    module = tmp_path / "shop.py"
    module.write_text(SHOP)
    subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, check=True, timeout=60)
    run = frontrun("replay", "race.json", cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert "Lost update" in run.stdout
    module.write_text(SHOP.replace("shop.sold == 2", "shop.sold > 0"))
    run = frontrun("replay", "race.json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("race.json does not fail any more")
    module.write_text(SHOP.replace("self.sold += 1", "self.bought = 1"))
    run = frontrun("replay", "race.json", cwd=tmp_path)
    assert run.returncode == 2
    assert "does not fit the program any more" in run.stderr


def test_what_cannot_be_replayed_is_told(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    for name in ("other.json", "missing.json"):
        run = frontrun("replay", name, cwd=tmp_path)
        assert run.returncode == 2
        assert run.stderr.startswith("frontrun replay: ")
        assert "Traceback" not in run.stderr


def test_importing_the_package_imports_next_to_nothing():
    code = (
        "import sys; before = set(sys.modules); import frontrun; print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "typing" not in run.stdout
    assert {name for name in run.stdout.split() if name.startswith("frontrun")} <= {"frontrun"}
