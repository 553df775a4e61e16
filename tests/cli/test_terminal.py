"""What a person at a terminal sees, and nobody else: colours, where to look, how to stop."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.wait import DEADLINE, wait_for

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""


class Terminal:
    """The other end of the terminal a server was started in."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.text = ""

    def read(self) -> str:
        """All that was written so far."""
        try:
            while chunk := os.read(self._descriptor, 65536):
                self.text += chunk.decode()
        except OSError:  # Nothing at the moment, or nobody writes any more.
            pass
        return self.text


@contextmanager
def started(server, *args: str, **environment: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """The server in a terminal of its own; ended with Ctrl-C."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [server.kind.executable, "--bind", server.bind, *args, "app"],
        cwd=server.directory,
        env=server.environment({"TERM": "xterm", **environment}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(DEADLINE)
        os.close(ours)


@pytest.fixture
def server(serve):
    """A server that is not started yet, with an application."""
    server = serve.new()
    server.write("app.py", HELLO)
    return server


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_says_where_to_look_and_how_to_stop(server, bind):
    server.bind = f"{bind}:{server.port}"
    host = "localhost" if bind == "0.0.0.0" else bind
    with started(server) as (terminal, process):
        line = f"[INFO] Serving at http://{host}:{server.port} (Ctrl-C stops)"
        wait_for(lambda: line in terminal.read(), what=lambda: terminal.text)
        assert server.get().text == "hello"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    assert terminal.text.count("Serving at") == 1


def test_levels_have_colours(server):
    with started(server, "--log-level", "loud", "--threads", "0") as (terminal, _):
        wait_for(lambda: "Serving at" in terminal.read(), what=lambda: terminal.text)
    assert "\x1b[33m[WARNING]\x1b[0m loglevel: 'loud'" in terminal.text
    assert "\x1b[" not in "".join(line for line in terminal.text.splitlines() if "[INFO]" in line)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(server, environment):
    with started(server, "--threads", "0", **environment) as (terminal, _):
        wait_for(lambda: "Serving at" in terminal.read(), what=lambda: terminal.text)
    assert "[WARNING] threads: 0 means 1" in terminal.text
    assert "\x1b" not in terminal.text


def test_a_log_file_has_neither(server):
    with started(server, "--threads", "0", "--error-logfile", "error.log"):
        wait_for(lambda: "Booting worker" in server.read("error.log"))
        assert server.get().text == "hello"
    assert "threads: 0 means 1" in server.read("error.log")
    assert "\x1b" not in server.read("error.log")
    assert "Serving at" not in server.read("error.log")


def test_a_pipe_has_neither(serve):
    server = serve(HELLO, "--threads", "0")
    server.wait_for_log("threads: 0 means 1")
    assert "\x1b" not in server.log
    assert "Serving at" not in server.log


@pytest.mark.parametrize(
    ("topic", "first"),
    [
        ("logging", "Logging:"),
        ("Worker Processes", "Worker Processes:"),
        ("--bind", "bind (Server Socket)"),
        ("app:application", "usage: oxicorn"),
    ],
)
def test_help_for_a_topic(serve, topic, first):
    server = serve(None, "--help", topic, bind="", spec=None, ready=None)
    assert server.wait_for_exit() == 0
    assert server.read("stdout.log").startswith(first)
