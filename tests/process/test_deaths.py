"""kill -9 of every process under load; what a client may lose is written in the architecture, section 3."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.support.gate import Gate
from tests.support.greenlets import GEVENT
from tests.support.http import encode
from tests.support.load import Load
from tests.support.wait import wait_for


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def answer_of(server) -> int:
    """Status of an answer; 0 where the connection is lost with a process that dies."""
    with contextlib.suppress(OSError):
        return server.get().status
    return 0


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "new-connections"])
def test_killed_workers_cost_only_what_they_were_working_on(serve, source, keep_alive):
    """Claimed and unanswered: 502. Everything else is given to another worker; no connection is lost."""
    server = serve(source, "--workers", "2")
    kills = 5
    with Load(server.address, clients=8, target="/?0.01", keep_alive=keep_alive) as load:
        load.wait_for_answers(50)
        for _ in range(kills):
            victim = server.worker_pids()[0]
            kill(victim)
            server.wait_for_workers(2, without=[victim])
            load.wait_for_answers(50)
    assert load.lost == [], "a dead worker takes no connection with it"
    assert set(load.statuses) <= {200, 502}, load.statuses
    # A sync worker has one request in hand.
    assert load.statuses[502] <= kills
    if keep_alive:
        assert load.connections == 8
    server.wait_for_log(r"\[ERROR\] Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?", count=kills)


def test_killed_worker_in_hand_is_a_502_at_once(serve, source):
    server = serve(source)
    (victim,) = server.worker_pids()
    with Gate(server) as gate, server.connect() as peer:
        peer.send(encode(target=gate.target) + encode(target="/pid"))
        gate.wait_until_reached()
        kill(victim)
        assert peer.answer().status == 502
        answer = peer.answer()
        assert answer.status == 200
        assert int(answer.body) != victim


def test_killed_worker_in_mid_body_ends_visibly_incomplete(serve):
    server = serve("""
        import os, signal

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            if environ["PATH_INFO"] == "/":
                return [b"hello"]
            return dies()

        def dies():
            yield b"one"
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    with server.connect() as peer:
        from tests.support.http import ConnectionLost

        with pytest.raises(ConnectionLost) as lost:
            peer.get("/dies")
        assert lost.value.received == b"one"
    assert server.get().body == b"hello"


def test_worker_that_dies_again_and_again_makes_no_fork_storm(serve):
    server = serve("""
        import os, threading, time

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]

        if os.path.exists("die"):
            threading.Timer(0.05, os._exit, [7]).start()
    """)
    (server.directory / "die").touch()
    before = server.log.count("Booting worker")
    kill(server.worker_pids()[0])
    server.wait_for_log(r"\[ERROR\] Worker \(pid:\d+\) exited with code 7\.", count=3)
    start = server.log.count("Booting worker")
    # Without back-off each life takes about 0.2 s.
    began = time.monotonic()
    wait_for(lambda: time.monotonic() > began + 2.0)
    lives = server.log.count("Booting worker") - start
    assert lives <= 3 * (time.monotonic() - began)
    assert server.log.count("Booting worker") > before
    (server.directory / "die").unlink()
    wait_for(lambda: answer_of(server) == 200)


def test_killed_gateway_is_replaced_and_the_workers_stay(serve, source):
    server = serve(source, "--workers", "2")
    workers = server.worker_pids()
    with Load(server.address, clients=6) as load:
        load.wait_for_answers(50)
        for _ in range(3):
            gateway = server.gateway_pid()
            kill(gateway)
            wait_for(lambda gateway=gateway: server.gateway_pid() != gateway)
            load.wait_for_answers(50)
    assert server.worker_pids() == workers
    assert set(load.statuses) == {200}
    # Open connections are lost with it, listeners are not: nobody was refused, each client lost one
    # request at most with its connection.
    assert len(load.lost) <= 3 * 6
    assert not [text for text in load.lost if "Refused" in text]


def test_killed_gateway_while_workers_are_busy(serve, source):
    """What a worker answers to a gateway that is gone must not confuse the next one."""
    server = serve(source, "--workers", "1")
    with Gate(server) as gate, server.connect() as peer:
        peer.send(encode(target=gate.target))
        gate.wait_until_reached()
        gateway = server.gateway_pid()
        kill(gateway)
        wait_for(lambda: server.gateway_pid() != gateway)
        gate.open()
        assert [server.get("/version").body for _ in range(10)] == [b"1"] * 10


@pytest.mark.parametrize("worker", ["sync", "gthread", GEVENT])
def test_killed_arbiter_leaves_no_process(serve, source, worker):
    server = serve(source, "--workers", "3", "--worker-class", worker, "--threads", "2" if worker == "gthread" else "1")
    kill(server.pid)
    server.wait_for_exit()
    wait_for(lambda: not server.processes(), what="no process left")
    assert server.refuses()


def test_killed_arbiter_under_load_finishes_what_is_in_flight(serve, source):
    server = serve(source, "--workers", "2")
    with server.connect() as peer:
        peer.send(b"GET /?1 HTTP/1.1\r\nHost: x\r\n\r\n")
        with Load(server.address, clients=4, target="/?0.01") as load:
            load.wait_for_answers(20)
            kill(server.pid)
            server.wait_for_exit()
        assert peer.answer().status == 200
    wait_for(lambda: not server.processes(), what="no process left")
    assert server.refuses()


def test_whole_server_killed_leaves_nothing(serve, source):
    """Also the other way round: the arbiter notices when everything else dies at once, and goes on."""
    server = serve(source, "--workers", "2")
    for process in server.processes():
        if process.pid != server.pid:
            kill(process.pid)
    wait_for(lambda: answer_of(server) == 200, what="it recovers")
