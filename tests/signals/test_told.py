"""Told first: what a worker hears when its end begins, and that it still serves what it is given."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.greenlets import GEVENT
from tests.support.http import Peer, encode
from tests.support.load import Load
from tests.support.server import Kind, Server, Servers
from tests.support.wait import stays, wait_for

#: ``/stream`` lasts until the application's own handler of SIGTERM says so; ``/?N`` takes N seconds. The handler calls
#: the one it found, as applications do that share the signal.
SOURCE = """
import os, signal, threading, time

told = threading.Event()
found = signal.getsignal(signal.SIGTERM)

def handle_term(number, frame):
    told.set()
    found(number, frame)

signal.signal(signal.SIGTERM, handle_term)
worker = found.__self__
PID = str(os.getpid()).encode()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/stream":
        return stream()
    time.sleep(float(environ["QUERY_STRING"] or 0))
    return [PID]

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

def stream():
    note("stream")
    yield b"begin "
    while not told.is_set():
        yield b"."
        time.sleep(0.01)
    yield f"end alive={worker.alive}".encode()
"""

CLASSES = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", "4"),
    "gevent": ("--worker-class", "gevent"),
}
EACH = ["sync", "gthread", GEVENT]
#: Long enough that nothing here ends by it.
PATIENT = ("--graceful-timeout", "60")


#: An import that takes a while, and an application that says who answers.
SLOW_BOOT = """
import os, time

time.sleep(0.5)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def start(serve: Servers, name: str, *flags: str) -> Server:
    """A server of this worker class."""
    return serve(SOURCE, *CLASSES[name], *PATIENT, *flags)


def begin_stream(server: Server) -> Peer:
    """A client in the middle of a stream."""
    before = server.lines("notes").count("stream")
    peer = server.connect()
    peer.send(encode(target="/stream"))
    wait_for(lambda: server.lines("notes").count("stream") > before, what="the stream has begun")
    return peer


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
@pytest.mark.parametrize("name", EACH)
def test_a_stream_that_waits_for_the_end_ends_with_it(serve: Servers, name: str, how: signal.Signals) -> None:
    """The application is told at once, not when nothing is left to do."""
    assert end_stream(start(serve, name), how).endswith(b"end alive=False")


def end_stream(server: Server, how: signal.Signals) -> bytes:
    """Body of a stream whose worker is made to leave meanwhile."""
    old = server.worker_pids()
    with begin_stream(server) as peer:
        server.kill(how)
        body = peer.answer().body
    if how == signal.SIGTERM:
        assert server.wait_for_exit() == 0
    else:
        server.wait_for_workers(1, without=old)
    assert "graceful timeout" not in server.log
    return body


def test_fewer_workers_end_a_stream(serve: Servers) -> None:
    server = start(serve, "sync", "--workers", "2")
    with begin_stream(server) as first, begin_stream(server) as second:
        server.kill(signal.SIGTTOU)
        server.wait_for_workers(1)
        server.kill(signal.SIGTERM)
        assert first.answer().body.endswith(b"end alive=False")
        assert second.answer().body.endswith(b"end alive=False")
    assert server.wait_for_exit() == 0


@pytest.mark.parametrize("name", EACH)
def test_term_to_every_process_loses_nothing(serve: Servers, name: str) -> None:
    """systemd's default KillMode and supervisor's stopasgroup tell arbiter, gateway and workers at once."""
    server = start(serve, name, "--workers", "2")
    peers = [server.connect() for _ in range(10)]
    for peer in peers:
        peer.send(encode(target="/?0.3"))
    os.killpg(server.pid, signal.SIGTERM)
    assert [peer.answer().status for peer in peers] == [200] * 10
    for peer in peers:
        peer.close()
    assert server.wait_for_exit() == 0


def test_nobody_takes_the_place_of_a_worker_that_is_told_with_the_server(serve: Servers, kind: Kind) -> None:
    """Both have been told before the arbiter looks, as when a whole group is."""
    if kind.is_gunicorn:
        pytest.skip("its worker ends in the stream")
    server = start(serve, "sync")
    (worker,) = server.worker_pids()
    with begin_stream(server) as peer:
        server.kill(signal.SIGSTOP)
        try:
            os.kill(worker, signal.SIGTERM)
            assert peer.answer().body.endswith(b"end alive=False")
            server.kill(signal.SIGTERM)
        finally:
            server.kill(signal.SIGCONT)
    assert server.wait_for_exit() == 0
    assert server.log.count("Booting worker") == 1


@pytest.mark.parametrize("name", EACH)
def test_a_single_worker_that_is_told_serves_until_its_successor_does(serve: Servers, name: str) -> None:
    server = serve(SLOW_BOOT, *CLASSES[name])
    (old,) = server.worker_pids()
    with Load(server.address, clients=2) as load:
        load.wait_for_answers(20)
        os.kill(old, signal.SIGTERM)
        server.wait_for_workers(1, without=[old])
        load.wait_for_answers(20)
    load.assert_flawless(at_least=40)


def test_a_child_of_a_request_that_is_told_speaks_for_itself(serve: Servers) -> None:
    """It has the worker's handler; the worker serves on."""
    server = serve(
        """
        import os, signal, time

        def application(environ, start_response):
            pid = os.fork()
            if not pid:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)
                os._exit(0)
            os.waitpid(pid, 0)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(os.getpid()).encode()]
        """
    )
    before = server.worker_pids()
    answers = {server.get().body for _ in range(3)}
    assert answers == {str(pid).encode() for pid in before}
    stays(lambda: server.worker_pids() == before, 0.5)
