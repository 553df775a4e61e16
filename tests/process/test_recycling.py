"""max_requests, timeouts, the queue: what happens to requests while workers come, go and are busy."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.http import encode
from tests.support.load import Load
from tests.support.wait import stays, wait_for


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "new-connections"])
@pytest.mark.parametrize("worker", ["sync", "gthread"])
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
        server.wait_for_workers(2, without=first)
    load.assert_flawless(at_least=600)
    server.wait_for_log("Autorestarting worker after current request.", count=4)
    if keep_alive:
        assert load.connections == 6


def test_single_worker_is_recycled_without_a_gap(serve, source):
    """With one worker the successor has to be ready first."""
    slow_import = "import time\ntime.sleep(0.4)\n"
    server = serve(slow_import + source, "--max-requests", "40")
    first = server.worker_pids()
    with Load(server.address, clients=2) as load:
        load.wait_for_answers(200)
        wait_for(lambda: not set(first) & set(server.worker_pids()))
    load.assert_flawless(at_least=200)
    assert load.slowest < 0.35, f"somebody waited {load.slowest:.2f} s for an import"


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
        assert 0.9 < time.monotonic() - start < 4
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
            server.wait_for_log("WORKER TIMEOUT", deadline=8)
            load.wait_for_answers(20)
        assert stuck.answer().status == 504
    load.assert_flawless(at_least=20)


def test_timeout_0_never_expires(serve, source):
    server = serve(source, "--timeout", "0")
    assert server.get("/?1.5").body == b"hello"
    assert "WORKER TIMEOUT" not in server.log


def test_idle_server_times_nobody_out(serve, source):
    server = serve(source, "--timeout", "1", "--workers", "2")
    workers = server.worker_pids()
    stays(lambda: server.worker_pids() == workers, 2.5)
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
    """One worker of two is busy for seconds: fast requests all go to the other."""
    server = serve(source, "--workers", "2")
    with server.connect() as slow:
        slow.send(encode(target="/?3"))
        with Load(server.address, clients=4) as load:
            load.wait_for_answers(200)
        load.assert_flawless(at_least=200)
        assert load.slowest < 1.5, f"a fast request waited {load.slowest:.2f} s"
        assert slow.answer().status == 200


def test_request_placed_ahead_of_a_slow_one_is_taken_back(serve, source):
    """While fast requests flow, some are placed ahead; one that turns out slow must not hold them up."""
    server = serve(source, "--workers", "2")
    with Load(server.address, clients=8, pause=0.0) as load:
        load.wait_for_answers(500)
        for _ in range(3):
            with server.connect() as slow:
                slow.send(encode(target="/?1.5"))
                load.wait_for_answers(200)
                assert slow.answer().status == 200
    load.assert_flawless(at_least=1100)
    assert load.slowest < 1.0, f"a fast request waited {load.slowest:.2f} s"


def test_busy_moments_spread_over_all_workers(serve, source):
    server = serve(source, "--workers", "3")
    with Load(server.address, clients=6, target="/pid?0.02") as load:
        load.wait_for_answers(60)
    load.assert_flawless()
    assert {int(body) for body in load.bodies} == set(server.worker_pids())


def test_gthread_serves_as_many_at_once_as_it_has_threads(serve, source):
    server = serve(source, "--worker-class", "gthread", "--threads", "4")
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.get, ["/?1"] * 4))
    assert [answer.status for answer in answers] == [200] * 4
    assert time.monotonic() - start < 2.5, "four requests of one second each, side by side"


def test_full_queue_is_a_503_at_once(serve, source):
    server = serve(source, config="queue_limit = 4\n")
    with server.connect() as busy:
        busy.send(encode(target="/?2"))

        def client(_: int) -> tuple[int, float, str | None]:
            start = time.monotonic()
            answer = server.get()
            return answer.status, time.monotonic() - start, answer.header("retry-after")

        with server.connect(timeout=0.3) as other:
            other.send(encode())
            with pytest.raises(TimeoutError):
                other.answer()  # now the worker is surely busy
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(client, range(12)))
        assert busy.answer().status == 200
    # Four wait; one more may be placed ahead in the worker's ring.
    assert 4 <= len([status for status, _, _ in answers if status == 200]) <= 5
    refused = [answer for answer in answers if answer[0] == 503]
    assert len(refused) >= 7
    for _, waited, retry_after in refused:
        assert waited < 1.0
        assert retry_after is not None
        assert retry_after.isdigit()


def test_request_that_waited_too_long_is_a_503(serve, source):
    server = serve(source, config="queue_timeout = 1\n")
    with server.connect() as busy:
        busy.send(encode(target="/?3"))
        with server.connect(timeout=0.3) as other:
            other.send(encode())
            with pytest.raises(TimeoutError):
                other.answer()
        start = time.monotonic()
        answer = server.get()
        assert answer.status == 503
        assert answer.header("retry-after") is not None
        assert 0.8 < time.monotonic() - start < 2.0
        assert busy.answer().status == 200


def test_client_that_leaves_the_queue_costs_no_worker_time(serve):
    """A request whose client is gone before a worker had it is never run."""
    server = serve("""
        import time
        calls = []

        def application(environ, start_response):
            calls.append(environ["PATH_INFO"])
            if environ["PATH_INFO"] == "/slow":
                time.sleep(1.0)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [" ".join(calls).encode()]
    """)
    with server.connect() as slow:
        slow.send(encode(target="/slow"))
        with server.connect(timeout=0.3) as other:
            other.send(encode(target="/left"))
            with pytest.raises(TimeoutError):
                other.answer()
        assert slow.answer().status == 200
    assert b"/left" not in server.get("/after").body
