"""Running in the background."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.wait import DEADLINE, wait_for

DAEMON = ("--daemon", "--pid", "pid", "--error-logfile", "error.log")


def daemon(serve, source, *args: str, **options: object):
    server = serve.new()
    server.start(*DAEMON, *args, app=source, ready=None, **options)
    assert server.popen.wait(DEADLINE) == 0
    server.follow("pid")
    server.wait_until_ready()
    return server


def wait_for_error_log(server, text: str) -> None:
    wait_for(lambda: text in server.read("error.log"), what=lambda: f"{text!r} in {server.read('error.log')}")


def test_daemon_leaves_terminal_session_and_caller(serve, source):
    server = daemon(serve, source)
    arbiter = processes.read(server.pid)
    assert arbiter is not None
    assert server.read("pid") == f"{server.pid}\n"
    assert arbiter.session not in (server.popen.pid, server.pid), "a session of its own, and not its leader"
    assert [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in (0, 1, 2)] == ["/dev/null"] * 3
    assert os.readlink(f"/proc/{server.pid}/cwd") == str(server.directory)
    assert "Umask:\t0022" in Path(f"/proc/{server.pid}/status").read_text()
    assert server.log == ""
    wait_for_error_log(server, f"({server.pid})")


def test_daemon_is_ruled_by_its_pid_file(serve, source):
    server = daemon(serve, source)
    assert server.get("/version").body == b"1"
    old = server.worker_pids()
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get("/version").body == b"2"
    server.stop(signal.SIGTERM)
    assert not (server.directory / "pid").exists()
    wait_for(lambda: not server.processes())


def test_daemon_listens_when_its_starter_ends(serve, source):
    server = serve.new()
    server.start(*DAEMON, app=source, ready=None)
    assert server.popen.wait(DEADLINE) == 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        server.follow("pid")


def test_output_that_goes_to_a_file_is_kept_where_wanted(serve, source):
    printing = source + "\nprint('loaded', flush=True)\n"
    server = daemon(serve, printing, "--enable-stdio-inheritance")
    wait_for(lambda: "loaded" in server.read("stdout.log"))
    other = daemon(serve, printing)
    other.get("/")
    assert other.read("stdout.log") == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--bind", "127.0.0.1:{port}"), 1, "cannot listen at"),
        (("--pid", "no/such/directory/pid"), 1, "no/such/directory doesn't exist"),
        (("--error-logfile", "no/such/directory/log"), 1, "isn't writable"),
        (("--worker-class", "does_not_exist"), 1, "does_not_exist"),
    ],
)
def test_what_keeps_it_from_starting_is_told_on_the_terminal(serve, source, args, code, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        args = [arg.format(port=taken.getsockname()[1]) for arg in args]
        server = serve.new()
        bind = "" if "--bind" in args else None
        server.start(*DAEMON, *args, app=source, bind=bind, ready=None)
        assert server.popen.wait(DEADLINE) == code
    assert message in server.log
    assert not (server.directory / "pid").exists()


def test_a_hook_that_fails_is_told_on_the_terminal(serve, source):
    config = "def on_starting(server):\n    raise ValueError('no stars')\n"
    server = serve.new()
    server.start(*DAEMON, app=source, config=config, ready=None)
    assert server.popen.wait(DEADLINE) == 1
    assert "no stars" in server.log


def test_pid_file_of_a_living_daemon_keeps_a_second_one_from_starting(serve, source):
    server = daemon(serve, source)
    second = subprocess.run(
        [server.kind.executable, *DAEMON, "--bind", "127.0.0.1:0", "app"],
        cwd=server.directory,
        env=server.environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"Already running on PID {server.pid}" in second.stderr
    assert server.get().status == 200


def test_winch_stops_the_workers_of_a_daemon_and_hup_starts_them_again(serve, source):
    server = daemon(serve, source)
    server.kill(signal.SIGWINCH)
    wait_for(lambda: not server.worker_pids())
    wait_for_error_log(server, "graceful stop of workers")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1)
    assert server.get().status == 200


def test_winch_means_nothing_in_the_foreground(serve, source):
    server = serve(source, "--log-level", "debug")
    old = server.worker_pids()
    server.kill(signal.SIGWINCH)
    server.wait_for_log(r"\[DEBUG\] SIGWINCH ignored\. Not daemonized")
    assert server.worker_pids() == old
