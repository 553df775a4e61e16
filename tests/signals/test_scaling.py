"""TTIN and TTOU, WINCH, USR1, HUP to the wrong process, and signals in quick succession."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.support.gate import APPLICATION as GATED
from tests.support.gate import Gate
from tests.support.http import encode
from tests.support.load import Load
from tests.support.wait import stays, wait_for

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]
"""


def test_ttin_adds_and_ttou_removes_a_worker(serve):
    server = serve(GATED)
    first = server.worker_pids()
    server.kill(signal.SIGTTIN)
    server.wait_for_workers(2)
    server.kill(signal.SIGTTIN)
    three = server.wait_for_workers(3)
    assert set(first) <= set(three)
    # Whoever does not serve yet would go before the oldest: all of them have a request in hand.
    with Gate(server) as gate, ExitStack() as clients:
        peers = [clients.enter_context(server.connect()) for _ in three]
        for peer in peers:
            peer.send(encode(target=gate.target))
        gate.wait_until_reached(len(three))
        gate.open()
        assert [peer.answer().status for peer in peers] == [200] * len(three)
    server.kill(signal.SIGTTOU)
    two = server.wait_for_workers(2)
    assert first[0] not in two, "the oldest goes first"
    server.wait_for_log("Handling signal: ttin", count=2)
    server.wait_for_log("Handling signal: ttou")


def test_ttou_leaves_the_last_worker(serve):
    server = serve(HELLO)
    only = server.worker_pids()
    for _ in range(3):
        server.kill(signal.SIGTTOU)
    server.wait_for_log("Handling signal: ttou")
    stays(lambda: server.worker_pids() == only, 0.5)


def test_scaling_under_load_loses_nothing(serve):
    server = serve(HELLO)
    with Load(server.address, clients=6) as load:
        for count, number in [(2, signal.SIGTTIN), (3, signal.SIGTTIN), (2, signal.SIGTTOU), (1, signal.SIGTTOU)]:
            server.kill(number)
            server.wait_for_workers(count)
            load.wait_for_answers(50)
    load.assert_flawless(at_least=200)


def test_scaling_survives_a_reload(serve):
    server = serve(HELLO)
    server.kill(signal.SIGTTIN)
    old = server.wait_for_workers(2)
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    stays(lambda: len(server.worker_pids()) == 2, 0.3)


def test_winch_without_a_daemon_changes_nothing(serve):
    server = serve(HELLO, "--workers", "2")
    before = server.worker_pids()
    server.kill(signal.SIGWINCH)
    stays(lambda: server.worker_pids() == before, 0.5)
    assert server.get().body == b"hello"


def test_winch_to_every_process_changes_nothing(serve):
    """A terminal that is resized sends it to the whole group."""
    server = serve(HELLO, "--workers", "2")
    before = server.worker_pids()
    os.killpg(server.pid, signal.SIGWINCH)
    stays(lambda: server.worker_pids() == before, 0.5)
    assert server.get().body == b"hello"


def test_usr1_disturbs_nobody(serve):
    server = serve(HELLO, "--workers", "2")
    before = server.worker_pids()
    with Load(server.address, clients=4) as load:
        for _ in range(5):
            server.kill(signal.SIGUSR1)
            load.wait_for_answers(20)
    load.assert_flawless(at_least=100)
    assert server.worker_pids() == before
    server.wait_for_log("Handling signal: usr1")


def test_hangup_that_reaches_the_workers_kills_none(serve):
    """`pkill -HUP` means the server, and hits every process of it."""
    server = serve(HELLO, "--workers", "2")
    old = server.worker_pids()
    with Load(server.address, clients=4) as load:
        load.wait_for_answers(20)
        for process in server.processes():
            if process.pid != server.pid:
                os.kill(process.pid, signal.SIGHUP)
        stays(lambda: server.worker_pids() == old, 0.5)
        server.kill(signal.SIGHUP)
        server.wait_for_workers(2, without=old)
        load.wait_for_answers(50)
    load.assert_flawless(at_least=70)


@pytest.mark.parametrize("count", [10])
def test_hangups_in_quick_succession_end_in_one_generation(serve, count):
    server = serve(HELLO, "--workers", "2")
    old = server.worker_pids()
    with Load(server.address, clients=4) as load:
        for _ in range(count):
            server.kill(signal.SIGHUP)
        server.wait_for_workers(2, without=old)
        load.wait_for_answers(100)
    load.assert_flawless(at_least=100)
    settled = server.wait_for_workers(2)
    wait_for(lambda: server.log.count("Handling signal: hup") >= 1)
    assert server.get().body == b"hello"
    assert server.stop() == 0
    assert settled


def test_term_during_a_reload_is_obeyed(serve):
    """A reload that waits for a slow import does not keep the server from stopping."""
    server = serve(HELLO, "--graceful-timeout", "2")
    server.write("app.py", "import time\ntime.sleep(300)\n" + "application = None\n")
    server.kill(signal.SIGHUP)
    server.wait_for_log("Booting worker with pid", count=2)
    assert server.stop(signal.SIGTERM) == 0
    assert server.processes() == []
