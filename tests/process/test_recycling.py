"""max_requests, timeouts, the queue: what happens to requests while workers come, go and are busy."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from operator import gt
from pathlib import Path

import pytest

from tests.monitoring.test_metrics import Monitoring
from tests.support.gate import SOURCE, Gate
from tests.support.greenlets import GEVENT
from tests.support.http import Answer, encode
from tests.support.load import Load
from tests.support.wait import stays, wait_for


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "new-connections"])
@pytest.mark.parametrize("worker", ["sync", "gthread", GEVENT])
def test_max_requests_loses_nothing(serve, source, worker, keep_alive):
    threads = "2" if worker == "gthread" else "1"
    server = serve(
        source,
        "--workers",
        "2",
        "--worker-class",
        worker,
        "--threads",
        threads,
        "--max-requests",
        "50",
        "--max-requests-jitter",
        "20",
    )
    first = server.worker_pids()
    with Load(server.address, clients=6, keep_alive=keep_alive) as load:
        load.wait_for_answers(600)
        server.wait_for_log("Autorestarting worker after current request.", count=4)
        server.wait_for_workers(2, without=first)
    load.assert_flawless(at_least=600)
    if keep_alive:
        assert load.connections == 6


def test_single_worker_is_recycled_without_a_gap(serve, source):
    """With one worker the successor has to be ready first: until it has imported everything, the old one serves."""
    server = serve(source + "\nif os.path.exists('booted'):\n    held('import')\n", "--max-requests", "40")
    first = server.worker_pids()
    server.write("booted", "")
    with Load(server.address, clients=2) as load, Gate(server, "import") as gate:
        gate.wait_until_reached()
        load.wait_for_answers(200)
        gate.open()
        wait_for(lambda: not set(first) & set(server.worker_pids()))
    load.assert_flawless(at_least=200)


# Timeout


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_request_beyond_timeout_is_a_504_with_the_stack_in_the_log(serve, source, worker):
    threads = "2" if worker == "gthread" else "1"
    server = serve(
        source,
        "--timeout",
        "1",
        "--worker-class",
        worker,
        "--threads",
        threads,
        "--graceful-timeout",
        "3",
    )
    (old,) = server.worker_pids()
    start = time.monotonic()
    with server.connect() as peer:
        answer = peer.get("/stuck?60")
        assert answer.status == 504
        assert time.monotonic() - start > 0.9
        # The connection is the gateway's: it goes on.
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
    server.wait_for_log(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{old}\)")
    server.wait_for_log("GET /stuck")
    server.wait_for_log("slow_view")
    server.wait_for_workers(1, without=[old])
    assert server.get().body == b"hello"


def test_timeout_spares_the_requests_beside_it(serve, source):
    server = serve(source, "--timeout", "2", "--worker-class", "gthread", "--threads", "4")
    with server.connect() as stuck:
        stuck.send(encode(target="/?60"))
        with Load(server.address, clients=3, target="/?0.1") as load:
            server.wait_for_log("WORKER TIMEOUT")
            load.wait_for_answers(20)
        assert stuck.answer().status == 504
    load.assert_flawless(at_least=20)


def test_timeout_0_never_expires(serve, source):
    server = serve(source, "--timeout", "0")
    assert server.get("/?1.5").body == b"hello"
    assert "WORKER TIMEOUT" not in server.log


def test_idle_server_times_nobody_out(serve, source):
    server = serve(source, "--timeout", "3", "--workers", "2")
    workers = server.worker_pids()
    stays(lambda: server.worker_pids() == workers, 4.5)
    assert "WORKER TIMEOUT" not in server.log


def test_stuck_worker_that_ignores_every_signal_is_killed(serve):
    server = serve(
        """
        import signal, time

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/stuck":
                for number in (signal.SIGTERM, signal.SIGABRT, signal.SIGQUIT, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
                while True:
                    time.sleep(0.1)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]
        """,
        "--timeout",
        "1",
    )
    (old,) = server.worker_pids()
    assert server.get("/stuck").status == 504
    server.wait_for_workers(1, without=[old])
    assert server.get().body == b"hello"


def test_stopped_worker_is_replaced(serve, source):
    """A worker that makes no progress at all (here: SIGSTOP) with a request in hand."""
    server = serve(source, "--timeout", "1")
    (old,) = server.worker_pids()
    os.kill(old, signal.SIGSTOP)
    assert server.get().status in (200, 504)
    server.wait_for_workers(1, without=[old])
    assert server.get().body == b"hello"


# The one queue


def test_no_request_waits_behind_a_busy_worker(serve, source):
    """One worker of two is busy: fast requests all go to the other."""
    server = serve(source, "--workers", "2")
    with Gate(server) as gate, server.connect() as slow:
        slow.send(encode(target=gate.target))
        with Load(server.address, clients=4) as load:
            gate.wait_until_reached()
            load.wait_for_answers(200)
        load.assert_flawless(at_least=200)
        gate.open()
        assert slow.answer().status == 200


def test_request_placed_ahead_of_a_slow_one_is_taken_back(serve, source):
    """While fast requests flow, some are placed ahead; one that turns out slow must not hold them up."""
    server = serve(source, "--workers", "2")
    with Load(server.address, clients=8, pause=0.0) as load:
        load.wait_for_answers(500)
        for name in ("one", "two", "three"):
            with Gate(server, name) as gate, server.connect() as slow:
                slow.send(encode(target=gate.target))
                gate.wait_until_reached()
                # Each client has one request at a time: who waits for the gate is answered no more.
                before = load.answers_of_clients
                wait_for(
                    lambda before=before: all(map(gt, load.answers_of_clients, before)), what="every client goes on"
                )
                gate.open()
                assert slow.answer().status == 200
    load.assert_flawless(at_least=500)


def test_busy_moments_spread_over_all_workers(serve, source):
    server = serve(source, "--workers", "3")
    workers = set(server.worker_pids())
    with Load(server.address, clients=6, target="/pid?0.02") as load:
        load.wait_for_answers(60)
        # One of them may stand still for a while.
        wait_for(lambda: {int(body) for body in load.seen_bodies} == workers, what="all workers have served")
    load.assert_flawless()


def test_gthread_serves_as_many_at_once_as_it_has_threads(serve, source):
    server = serve(source, "--worker-class", "gthread", "--threads", "4")
    with Gate(server) as gate, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.get, gate.target) for _ in range(4)]
        gate.wait_until_reached(4)
        gate.open()
        assert [answer.result().status for answer in answers] == [200] * 4


def test_threads_are_started_when_requests_need_them(serve, source):
    server = serve(source, "--threads", "100000")
    (worker,) = server.worker_pids()

    def threads() -> int:
        return len(list(Path(f"/proc/{worker}/task").iterdir()))

    before = threads()
    assert before < 10
    with Gate(server) as gate, ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(server.get, gate.target) for _ in range(20)]
        gate.wait_until_reached(20)
        # Where the machine is slow a few more are called than come to serve.
        assert before + 19 <= threads() < before + 100
        gate.open()
        assert [answer.result().status for answer in answers] == [200] * 20


def test_full_queue_is_a_503_at_once(serve, source):
    server = serve(source, config="queue_limit = 4\n")
    with Gate(server) as gate, server.connect() as busy, ThreadPoolExecutor(12) as pool:
        busy.send(encode(target=gate.target))
        gate.wait_until_reached()
        answers = [pool.submit(server.get) for _ in range(12)]

        def refused() -> list[Answer]:
            return [answer.result() for answer in answers if answer.done()]

        # While the worker is busy: four wait; one more may be placed ahead in the worker's ring.
        wait_for(lambda: len(refused()) >= 7, what="those beyond the queue are told")
        for answer in refused():
            assert answer.status == 503
            assert (answer.header("retry-after") or "").isdigit()
        gate.open()
        assert busy.answer().status == 200
        statuses = Counter(answer.result().status for answer in answers)
    assert 4 <= statuses[200] <= 5
    assert statuses.total() == statuses[200] + statuses[503]


def test_request_that_waited_too_long_is_a_503(serve, source):
    server = serve(source, config="queue_timeout = 1\n")
    # What found the server ready may have waited too long for the first worker.
    wait_for(lambda: server.get().status == 200)
    with Gate(server) as gate, server.connect() as busy:
        busy.send(encode(target=gate.target))
        gate.wait_until_reached()
        start = time.monotonic()
        answer = server.get()
        assert answer.status == 503
        assert answer.header("retry-after") is not None
        assert time.monotonic() - start > 0.8
        gate.open()
        assert busy.answer().status == 200


def test_client_that_leaves_the_queue_costs_no_worker_time(serve, kind):
    """A request whose client is gone before a worker had it is never run."""
    server = serve(
        SOURCE
        + """
calls = []

def application(environ, start_response):
    calls.append(environ["PATH_INFO"])
    if environ["PATH_INFO"] == "/gate":
        held(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(calls).encode()]
""",
        *([] if kind.is_gunicorn else ["--metrics-bind", "unix:metrics"]),
        access_log=True,
    )
    monitoring = Monitoring(str(server.directory / "metrics"))
    with Gate(server) as gate, server.connect() as slow:
        slow.send(encode(target=gate.target))
        gate.wait_until_reached()
        with server.connect() as other:
            other.send(encode(target="/left"))
            # A reset: an end alone could be a half-close.
            other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for(lambda: known(monitoring.samples()) == 2, what="it has been read")
        wait_for(lambda: any("/left" in line for line in server.access_log), what="it is known to have left")
        gate.open()
        assert slow.answer().status == 200
    assert b"/left" not in server.get("/after").body


def known(samples: dict[tuple[str, ...], float]) -> float:
    """How many requests the gateway has."""
    return samples["oxicorn_requests_in_flight",] + samples["oxicorn_queue_depth",]
