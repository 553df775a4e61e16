"""A pipe that nobody reads: it holds up neither the arbiter nor its workers for good."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.server import Server
from tests.support.wait import wait_for

SOURCE = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


class Pipe:
    """The smallest pipe there is."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self) -> None:
        """Until nothing more fits."""
        own = os.open(f"/proc/self/fd/{self.writing}", os.O_WRONLY | os.O_NONBLOCK)
        for size in (1024, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(own, b"\n" * size)
        os.close(own)

    def read(self) -> bytes:
        """Everything in it."""
        os.set_blocking(self.reading, False)
        found = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reading, 65536):
                found += data
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe, closed at the end."""
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


def start(server: Server, pipe: Pipe, *flags: str) -> None:
    """Starts the server with ``pipe`` as its standard error."""
    server.write("app.py", SOURCE)
    command = [server.kind.executable, "--bind", server.bind, "--log-level", "debug", *flags, "app:application"]
    server.command = command
    server.process = subprocess.Popen(
        command, cwd=server.directory, stdout=subprocess.DEVNULL, stderr=pipe.writing, start_new_session=True
    )
    server.wait_until_ready("/")


def test_term_is_heard_where_nobody_reads_the_log(serve, pipe):
    server = serve.new()
    start(server, pipe)
    pipe.fill()
    assert server.stop(signal.SIGTERM, deadline=20) == 0


def test_hup_is_heard_and_what_is_missing_is_told_when_somebody_reads(serve, pipe):
    server = serve.new()
    start(server, pipe)
    old = server.worker_pids()
    pipe.fill()
    server.kill(signal.SIGHUP)
    wait_for(lambda: set(server.worker_pids()) - set(old), 20, "the arbiter has begun with the reload")
    seen = bytearray()

    def told() -> bool:
        seen.extend(pipe.read())
        # Something to log, whatever becomes of it.
        server.kill(signal.SIGWINCH)
        return b"lines are missing: <stderr> was not read" in seen

    wait_for(told, 20, "what is missing is told")
    assert server.stop(signal.SIGINT, deadline=20) == 0


def test_requests_are_answered_where_nobody_reads_the_log(serve, pipe):
    """The debug line of the first one waits for a while, the others do not."""
    server = serve.new()
    start(server, pipe)
    pipe.fill()
    assert len({server.get(timeout=30).body for _ in range(5)}) == 1
