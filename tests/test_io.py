"""Files, sockets and databases are shared state (`detect_io=True`)."""

import ctypes
import errno
import fcntl
import http.client
import http.server
import json
import logging
import mmap
import os
import select
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
import warnings
from contextlib import closing

import pytest

import frontrun


def explore(setup, workers, invariant=lambda state: True, **options):
    return frontrun.explore(setup, workers, invariant, **options)


def holds(*arguments, **options):
    """The exploration covers everything and finds nothing; how many executions it took."""
    result = explore(*arguments, **options)
    assert result.property_holds, result.explanation
    assert result.exhaustive
    return result.num_explored


def fails(*arguments, **options):
    result = explore(*arguments, **options)
    assert result.property_holds is False
    return result


# Files


@pytest.fixture
def number(tmp_path):
    """Makes a file with the number 0, anew for each execution."""
    path = tmp_path / "number.json"

    def setup():
        path.write_text("0")
        return path

    return setup


def read_number(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def increment(path):
    with open(path) as file:
        value = json.load(file)
    with open(path, "w") as file:
        json.dump(value + 1, file)


def increment_with_os(path):
    descriptor = os.open(path, os.O_RDWR)
    value = int(os.pread(descriptor, 10, 0))
    os.pwrite(descriptor, b"%d" % (value + 1), 0)
    os.close(descriptor)


def increment_with_pathlib(path):
    path.write_text(str(int(path.read_text()) + 1))


def increment_by_replacing(path):
    value = json.loads(path.read_text())
    new = path.with_name(str(threading.get_ident()))
    new.write_text(str(value + 1))
    new.replace(path)


WAYS = [increment, increment_with_os, increment_with_pathlib, increment_by_replacing]


@pytest.mark.parametrize("way", WAYS)
def test_two_read_modify_writes_of_a_file_lose_one(number, way):
    result = fails(number, [way, way], lambda path: read_number(path) == 2)
    assert "file:" in result.explanation
    assert "number.json" in result.explanation


@pytest.mark.parametrize("way", WAYS)
def test_under_a_lock_they_do_not(number, way):
    lock = threading.Lock()

    def locked(path):
        with lock:
            way(path)

    assert holds(number, [locked, locked], lambda path: read_number(path) == 2) == 2


def test_nor_under_an_advisory_lock(number):
    def locked(path):
        with open(path.with_name("lock"), "w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            increment_with_pathlib(path)

    holds(number, [locked, locked], lambda path: read_number(path) == 2)


def test_record_locks_do_not_lock_out_threads_of_one_process(number):
    def locked(path):
        with open(path.with_name("lock"), "w") as guard:
            fcntl.lockf(guard, fcntl.LOCK_EX)
            increment_with_pathlib(path)

    fails(number, [locked, locked], lambda path: read_number(path) == 2)


def test_a_lock_file_that_is_held_is_seen_without_waiting(number):
    got = []

    def setup():
        got.clear()
        return number()

    def attempt(path):
        with open(path, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                got.append(error.errno)
            else:
                got.append(0)
                fcntl.flock(file, fcntl.LOCK_UN)

    outcomes = set()
    explore(setup, [attempt, attempt], lambda path: outcomes.add(tuple(got)) or True)
    assert (0, 0) in outcomes
    assert (errno.EWOULDBLOCK, 0) in outcomes


def test_files_of_which_each_worker_has_its_own_cause_no_executions(tmp_path):
    def write(path):
        name = str(threading.get_ident())
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        (path / "file").write_text(name)
        assert (path / "file").read_text() == name

    def setup():
        for each in tmp_path.iterdir():
            shutil.rmtree(each)

    # Which of the two directories is made first shows in their parent.
    assert holds(setup, [write, write]) == 2


def test_reads_of_one_file_cause_no_executions(number):
    assert holds(number, [read_number, read_number]) == 1


def test_without_detect_io_files_are_nobodys_business(number):
    assert holds(number, [increment, increment], detect_io=False) == 1


@pytest.fixture
def missing(tmp_path):
    path = tmp_path / "missing"

    def setup():
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        return path

    return setup


def append_unless_it_exists(path):
    if not os.path.exists(path):
        with open(path, "a") as file:
            file.write("once")


def append_if_new(path):
    try:
        with open(path, "x") as file:
            file.write("once")
    except FileExistsError:
        pass


def test_exists_then_create_is_found(missing):
    workers = [append_unless_it_exists, append_unless_it_exists]
    result = fails(missing, workers, lambda path: path.read_text() == "once")
    assert "existence of file:" in result.explanation


def test_exclusive_creation_is_silent(missing):
    holds(missing, [append_if_new, append_if_new], lambda path: path.read_text() == "once")


def test_check_then_make_directory_is_found(missing):
    def make(path):
        if not path.is_dir():
            path.mkdir()

    assert isinstance(fails(missing, [make, make]).exception, FileExistsError)


def test_make_directory_that_may_exist_is_silent(missing):
    def make(path):
        os.makedirs(path, exist_ok=True)

    assert holds(missing, [make, make]) == 2


def test_check_then_remove_is_found(missing):
    def setup():
        path = missing()
        path.touch()
        return path

    def remove(path):
        if path.exists():
            path.unlink()

    assert isinstance(fails(setup, [remove, remove]).exception, FileNotFoundError)


def test_listing_a_directory_conflicts_with_what_comes_and_goes(tmp_path):
    seen = set()

    def setup():
        (tmp_path / "new").unlink(missing_ok=True)

    workers = [
        lambda _: seen.add(len(os.listdir(tmp_path))),
        lambda _: (tmp_path / "new").touch(),
    ]
    assert holds(setup, workers) == 2
    assert seen == {0, 1}


def test_a_file_that_nobody_holds_any_more_is_closed_and_written(number):
    lock = threading.Lock()

    def increment(path):
        with lock:
            value = int(open(path).read())
            open(path, "w").write(str(value + 1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert holds(number, increment, lambda path: read_number(path) == 2, count=2) == 2


def test_the_mode_of_a_file_is_a_part_of_it(number):
    def claim(path):
        if path.stat().st_mode & 0o200:
            path.chmod(0o400)
            claimed.append(path)

    claimed = []

    def setup():
        claimed.clear()
        path = number()
        path.chmod(0o600)
        return path

    fails(setup, claim, lambda _: len(claimed) == 1, count=2)


def test_a_file_mapped_into_memory_is_read_when_it_is_mapped(number):
    seen = set()

    def look(path):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            seen.add(bytes(view))

    def change(path):
        with open(path, "r+b", buffering=0) as file:
            file.write(b"1")

    holds(number, [look, change])
    assert seen == {b"0", b"1"}


def test_workers_that_share_a_buffered_file_wait_for_each_other(tmp_path):
    class Shared:
        def __init__(self):
            self.file = open(tmp_path / "shared", "w")

    def write(line):
        def worker(shared):
            shared.file.write(line)
            shared.file.flush()

        return worker

    def both(shared):
        shared.file.close()
        return sorted((tmp_path / "shared").read_text()) == ["a", "b"]

    holds(Shared, [write("a"), write("b")], both)


def test_workers_that_log_to_one_file_do_so_in_either_order(tmp_path):
    seen = set()

    class Logger(logging.Logger):
        def __init__(self):
            super().__init__("test")
            self.handler = logging.FileHandler(tmp_path / "log", mode="w")
            self.addHandler(self.handler)

    def note(logger):
        logger.handler.close()
        seen.add((tmp_path / "log").read_text())
        return True

    holds(Logger, [lambda log: log.error("a"), lambda log: log.error("b")], note)
    assert seen == {"a\nb\n", "b\na\n"}


def test_printing_is_nobodys_business(capfd):
    assert holds(lambda: None, [lambda _: print("a"), lambda _: print("b")]) == 1


EXTENSION = """
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

void increment(const char *path) {
    char text[16] = {0};
    int file = open(path, O_RDWR);
    read(file, text, 15);
    int length = sprintf(text, "%d", atoi(text) + 1);
    pwrite(file, text, length, 0);
    close(file);
}
"""


def test_a_c_library_that_uses_files_itself_is_seen(number, tmp_path):
    (tmp_path / "extension.c").write_text(EXTENSION)
    command = ["gcc", "-shared", "-fPIC", "-w", "-o", "extension.so", "extension.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    library = ctypes.CDLL(str(tmp_path / "extension.so"))

    def worker(path):
        library.increment(str(path).encode())

    result = fails(number, [worker, worker], lambda path: read_number(path) == 2)
    assert "Lost update" in result.explanation


# Sockets and pipes


class Pair:
    def __init__(self):
        self.left, self.right = socket.socketpair()
        self.got = []

    def close(self):
        self.left.close()
        self.right.close()


def finally_closing(check):
    def invariant(pair):
        pair.close()
        return check(pair)

    return invariant


def test_who_receives_waits_until_something_was_sent():
    workers = [
        lambda pair: pair.got.append(pair.right.recv(10)),
        lambda pair: pair.left.send(b"x"),
    ]
    assert holds(Pair, workers, finally_closing(lambda pair: pair.got == [b"x"])) == 1


def test_a_stream_is_received_in_any_pieces():
    seen = set()

    def send(pair):
        pair.left.send(b"x")
        pair.left.send(b"y")

    def receive(pair):
        while sum(map(len, pair.got)) < 2:
            pair.got.append(pair.right.recv(10))

    holds(Pair, [send, receive], finally_closing(lambda p: seen.add(tuple(p.got)) or True))
    assert seen == {(b"xy",), (b"x", b"y")}


def test_the_end_of_a_stream_is_received():
    workers = [lambda pair: pair.got.append(pair.right.recv(10)), lambda pair: pair.left.close()]
    holds(Pair, workers, finally_closing(lambda pair: pair.got == [b""]))


class Pipe:
    def __init__(self):
        self.out, self.into = os.pipe()
        self.got = []

    def close(self):
        os.close(self.out)
        os.close(self.into)


def test_who_comes_first_at_a_pipe_is_open():
    seen = set()

    def read(pipe):
        while len(pipe.got) < 2:
            pipe.got.extend(os.read(pipe.out, 1))

    workers = [
        lambda pipe: os.write(pipe.into, b"a"),
        lambda pipe: os.write(pipe.into, b"b"),
        read,
    ]
    holds(Pipe, workers, finally_closing(lambda pipe: seen.add(bytes(pipe.got)) or True))
    assert seen == {b"ab", b"ba"}


def test_waiting_for_what_nobody_sends_is_a_deadlock():
    result = fails(Pipe, [lambda pipe: os.read(pipe.out, 1)])
    assert result.deadlock
    assert "nobody sends anything" in result.explanation


def ready_by_select(number):
    return bool(select.select([number], [], [], 3600)[0])


def ready_by_poll(number):
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(3600_000))


def ready_by_epoll(number):
    with select.epoll() as poll:
        poll.register(number, select.EPOLLIN)
        return bool(poll.poll(3600))


@pytest.mark.parametrize("ready", [ready_by_select, ready_by_poll, ready_by_epoll])
def test_waiting_for_several_ends_when_one_is_ready(ready):
    workers = [
        lambda pipe: pipe.got.append(ready(pipe.out)),
        lambda pipe: os.write(pipe.into, b"a"),
    ]
    assert holds(Pipe, workers, finally_closing(lambda pipe: pipe.got == [True])) == 1


@pytest.mark.parametrize("ready", [ready_by_select, ready_by_poll, ready_by_epoll])
def test_waiting_for_several_times_out_in_virtual_time(ready):
    workers = [lambda pipe: pipe.got.append(ready(pipe.out))]
    assert holds(Pipe, workers, finally_closing(lambda pipe: pipe.got == [False])) == 1


class Service:
    """A web server that counts its requests."""

    def __init__(self, lock=None):
        self.count = 0
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if lock:
                    with lock:
                        service.count += 1
                else:
                    service.count += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.timeout = None
        self.server.daemon_threads = False

    def serve(self):
        with self.server:
            self.server.handle_request()
            self.server.handle_request()

    def request(self):
        address = self.server.server_address
        with closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
            connection.request("GET", "/")
            connection.getresponse().read()


WEB = [Service.serve, Service.request, Service.request]


def test_a_web_server_that_counts_without_a_lock_is_found():
    result = fails(Service, WEB, lambda service: service.count == 2, preemption_bound=1)
    assert "Lost update" in result.explanation
    assert "Service.count" in result.explanation


def test_a_web_server_that_counts_under_a_lock_is_silent():
    result = explore(
        lambda: Service(threading.Lock()),
        WEB,
        lambda service: service.count == 2,
        strategy="pct",
        depth=2,
        max_attempts=200,
        seed=1,
    )
    assert result.property_holds, result.explanation


def test_a_server_outside_the_exploration_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    request = connection.recv(10)
                    time.sleep(0.05)
                    connection.sendall(request)

        def ask(_):
            with socket.create_connection(server.getsockname(), timeout=30) as connection:
                connection.sendall(b"ping")
                assert connection.recv(10) == b"ping"

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        result = explore(lambda: None, [ask, ask], max_executions=1, reproduce_on_failure=0)
        thread.join(timeout=30)
    assert result.property_holds, result.explanation


def test_what_a_thread_outside_does_in_between_is_not_covered():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                connection, _address = server.accept()
                with connection:
                    if connection.recv(10) == b"end":
                        return
                    connection.sendall(b"pong")

        def ask(question):
            with socket.create_connection(server.getsockname(), timeout=30) as connection:
                connection.sendall(question)
                return connection.recv(10)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        result = explore(lambda: None, lambda _: ask(b"ping"), count=2)
        ask(b"end")
        thread.join(timeout=30)
    assert result.property_holds, result.explanation
    assert not result.exhaustive


def test_a_program_that_a_worker_runs_is_waited_for():
    def run(_):
        command = ["sh", "-c", "sleep 0.1; echo done"]
        assert subprocess.run(command, capture_output=True, text=True).stdout == "done\n"

    holds(lambda: None, [run])


# Databases


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "database"

    def setup():
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute("create table counter (value)")
        connection.execute("insert into counter values (0)")
        connection.commit()
        connection.close()
        return path

    return setup


def counted(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select value from counter").fetchone()[0]


def read_then_update(path, begin=None):
    with closing(sqlite3.connect(path)) as connection:
        if begin:
            connection.execute(begin)
        value = connection.execute("select value from counter").fetchone()[0]
        connection.execute("update counter set value = ?", (value + 1,))
        connection.commit()


def update(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update counter set value = value + 1")
        connection.commit()


def test_a_read_modify_write_over_two_connections_is_found(database):
    workers = [read_then_update, read_then_update]
    result = fails(database, workers, lambda path: counted(path) == 2)
    assert "Lost update" in result.explanation
    assert "file:" in result.explanation


def test_an_update_in_one_statement_is_silent(database):
    holds(database, [update, update], lambda path: counted(path) == 2)


def test_a_transaction_that_locks_at_once_is_silent(database):
    def worker(path):
        read_then_update(path, "begin immediate")

    holds(database, [worker, worker], lambda path: counted(path) == 2)


def test_a_database_in_memory_is_shared_by_who_shares_its_connection():
    class Database:
        def __init__(self):
            self.lock = threading.Lock()
            self.connection = sqlite3.connect(":memory:", check_same_thread=False)
            self.connection.execute("CREATE TABLE t(n)")
            self.connection.execute("INSERT INTO t VALUES(0)")

        def get(self):
            return self.connection.execute("SELECT n FROM t").fetchone()[0]

        def increment(self):
            self.connection.execute("UPDATE t SET n = ?", (self.get() + 1,))

        def increment_safely(self):
            with self.lock:
                self.increment()

    def invariant(database):
        with closing(database.connection):
            return database.get() == 2

    assert (
        "both read Connection #1"
        in fails(Database, Database.increment, invariant, count=2).explanation
    )
    assert holds(Database, Database.increment_safely, invariant, count=2) == 2
