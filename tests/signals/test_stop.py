"""TERM, INT and QUIT: what is finished, what is cut, what is left, and with which exit code."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest

from tests.support.gate import APPLICATION as GATED
from tests.support.gate import Gate
from tests.support.greenlets import GEVENT
from tests.support.http import ConnectionLost, encode
from tests.support.load import Load
from tests.support.wait import DEADLINE, wait_for

SLOW = """
    import os, time

    def application(environ, start_response):
        if environ["QUERY_STRING"]:
            open("started", "w").close()
            time.sleep(float(environ["QUERY_STRING"]))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]
"""

WORKERS = {
    "sync": [],
    "gthread": ["--worker-class", "gthread", "--threads", "2"],
    "gevent": ["--worker-class", "gevent"],
}
EACH = ["sync", "gthread", GEVENT]
STOP = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


def start_slow_request(server, peer, seconds: float) -> None:
    """Sends a request that takes so long, and waits until the application works on it."""
    peer.send(encode(target=f"/?{seconds}"))
    wait_for(lambda: (server.directory / "started").exists(), what="the application was called")


@pytest.mark.parametrize("worker", EACH)
@pytest.mark.parametrize("number", STOP, ids=lambda number: number.name)
def test_idle_server_stops_with_code_0(serve, number, worker):
    server = serve(SLOW, "--workers", "2", *WORKERS[worker], "--pid", "pid")
    assert server.stop(number) == 0
    assert server.processes() == []
    assert server.refuses()
    assert not (server.directory / "pid").exists()
    name = number.name.removeprefix("SIG").lower()
    server.wait_for_log(rf"\[INFO\] Handling signal: {name}$")
    server.wait_for_log(r"\[INFO\] Worker exiting \(pid: \d+\)$", count=2)
    server.wait_for_log(r"\[INFO\] Shutting down: Master$")


@pytest.mark.parametrize("worker", EACH)
def test_term_finishes_what_is_in_flight(serve, worker):
    server = serve(SLOW, *WORKERS[worker])
    with server.connect() as peer:
        start_slow_request(server, peer, 1.0)
        server.kill(signal.SIGTERM)
        assert peer.answer().body == b"hello"
        assert peer.is_closed(within=DEADLINE)
    assert server.wait_for_exit() == 0
    assert server.refuses()


def test_term_lets_nobody_new_in(serve):
    """Also while a request is being finished: a load balancer has to notice."""
    server = serve(GATED)
    with Gate(server) as gate, server.connect() as peer:
        peer.send(encode(target=gate.target))
        gate.wait_until_reached()
        server.kill(signal.SIGTERM)
        wait_for(server.refuses, what="nobody new is let in")
        gate.open()
        assert peer.answer().status == 200
    assert server.wait_for_exit() == 0


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_term_under_load_answers_everything_it_accepted(serve, worker):
    """Clients see complete answers, then a refused connection; never half an answer."""
    server = serve(SLOW, "--workers", "2", *WORKERS[worker])
    with Load(server.address, clients=6, keep_alive=False, target="/?0.05") as load:
        load.wait_for_answers(30)
        assert server.stop(signal.SIGTERM) == 0
    assert set(load.statuses) == {200}
    assert [text for text in load.lost if "refused" not in text.lower()] == []


def test_term_closes_idle_connections(serve):
    server = serve(SLOW, "--keep-alive", "60", *WORKERS["gthread"])
    with server.connect() as peer:
        assert peer.get().keeps_connection
        start = time.monotonic()
        server.kill(signal.SIGTERM)
        assert peer.is_closed(within=DEADLINE)
        assert server.wait_for_exit() == 0
        assert time.monotonic() - start < 50


def test_term_answers_one_more_request_on_a_kept_connection(serve):
    """A load balancer may be sending it while the server is told to stop: closing at once would be a reset."""
    server = serve(SLOW, "--keep-alive", "60", "--keep-alive-drain", "60", *WORKERS["gthread"])
    with server.connect() as peer:
        assert peer.get().keeps_connection
        server.kill(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        answer = peer.request("POST", body=b"order")
        # The arbiter says so before the gateway has heard of it.
        while answer.keeps_connection:
            answer = peer.request("POST", body=b"order")
        assert answer.body == b"hello"
        assert peer.is_closed(within=DEADLINE)
    assert server.wait_for_exit() == 0


def test_term_does_not_wait_where_no_connection_is_kept(serve):
    """The time for kept connections is a bound, not a delay."""
    server = serve(SLOW, "--keep-alive", "60", "--keep-alive-drain", "60", "--graceful-timeout", "300")
    assert server.get(headers=[("Connection", "close")]).body == b"hello"
    assert server.stop(signal.SIGTERM, deadline=50) == 0


def test_ctrl_c_does_not_wait_for_kept_connections(serve):
    server = serve(SLOW, "--keep-alive", "60", "--keep-alive-drain", "60", "--graceful-timeout", "300")
    with server.connect() as peer:
        assert peer.get().keeps_connection
        assert server.stop(signal.SIGINT, deadline=50) == 0


def test_term_serves_the_backlog(serve):
    """Connections that were made before TERM and could not be served yet are not reset."""
    server = serve(SLOW)
    with server.connect() as busy:
        start_slow_request(server, busy, 1.0)
        waiting = [server.connect() for _ in range(5)]
        for peer in waiting:
            peer.send(encode())
        server.kill(signal.SIGTERM)
        assert busy.answer().body == b"hello"
        assert [peer.answer().body for peer in waiting] == [b"hello"] * 5
        for peer in waiting:
            peer.close()
    assert server.wait_for_exit() == 0


@pytest.mark.parametrize("worker", EACH)
def test_graceful_timeout_bounds_the_wait(serve, worker):
    server = serve(SLOW, "--graceful-timeout", "1", *WORKERS[worker])
    with server.connect() as peer:
        start_slow_request(server, peer, 100)
        start = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - start > 0.9
        # Who is told by whom that it is over is not certain: an answer that says so, or the end of the connection.
        with contextlib.suppress(ConnectionLost):
            assert peer.answer().status >= 500
    assert server.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_quick_stop_does_not_wait_for_requests(serve, number):
    server = serve(SLOW, "--graceful-timeout", "100")
    with server.connect() as peer:
        start_slow_request(server, peer, 100)
        assert server.stop(number, deadline=50) == 0
    assert server.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_quick_stop_after_term_ends_the_wait(serve, number):
    server = serve(SLOW, "--graceful-timeout", "100")
    with server.connect() as peer:
        start_slow_request(server, peer, 100)
        server.kill(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        assert server.stop(number, deadline=50) == 0


#: Each request comes back to the interpreter again and again, and does not end.
BUSY = """
    import atexit, os, time

    @atexit.register
    def note():
        with open("at-exit", "a") as file:
            print(os.getpid(), file=file)

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        if not environ["QUERY_STRING"]:
            return [b"hello"]
        return pieces()

    def pieces():
        yield b"begun"
        while True:
            time.sleep(0.001)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=lambda number: number.name)
def test_threads_that_go_on_do_not_make_the_end_of_their_worker_a_crash(serve, number):
    server = serve(BUSY, "--worker-class", "gthread", "--threads", "4", "--graceful-timeout", "1")
    (worker,) = server.worker_pids()
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            peer = clients.enter_context(server.connect())
            peer.send(encode(target="/?busy"))
            assert peer.head().status == 200
        assert server.stop(number) == 0
    assert not re.search(r"was sent SIG|FATAL", server.log), server.log
    # As of any program that ends.
    assert server.lines("at-exit") == [str(worker)]


def test_stop_while_booting(serve):
    server = serve(
        """
        import time
        open("importing", "w").close()
        time.sleep(300)
        """,
        "--graceful-timeout",
        "1",
        ready=None,
    )
    wait_for(lambda: (server.directory / "importing").exists())
    assert server.stop(signal.SIGTERM) == 0
    assert server.processes() == []


def test_whole_process_group_is_interrupted(serve):
    """Ctrl-C in a terminal reaches every process at once."""
    server = serve(SLOW, "--workers", "3")
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait_for_exit() == 0
    wait_for(lambda: not server.processes())
    assert "Traceback" not in server.log


def test_signals_to_a_worker(serve):
    """TERM and QUIT end it, and it is replaced."""
    server = serve(SLOW)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGABRT, signal.SIGKILL):
        (pid,) = server.worker_pids()
        os.kill(pid, number)
        server.wait_for_workers(1, without=[pid])
        assert server.get().body == b"hello"


def test_worker_that_is_asked_to_end_finishes_its_request(serve):
    server = serve(SLOW)
    (pid,) = server.worker_pids()
    with server.connect() as peer:
        start_slow_request(server, peer, 0.7)
        os.kill(pid, signal.SIGTERM)
        assert peer.answer().body == b"hello"
    server.wait_for_workers(1, without=[pid])
