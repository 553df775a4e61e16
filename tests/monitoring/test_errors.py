"""What the error log says of requests that are slow, and of those that are lost with their worker."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.gate import APPLICATION, Gate


@pytest.mark.parametrize("args", [(), ("--threads", "2")], ids=["sync", "gthread"])
def test_slow_request_is_shown_with_its_stack_and_goes_on(serve, args):
    server = serve(APPLICATION, "--workers", "1", "--slow-request-time", "1", *args)
    (worker,) = server.worker_pids()
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        server.wait_for_log(
            rf"\[WARNING\] Slow request, \d+\.\d s in worker \(pid:{worker}\) after 0\.0 s in the queue: "
            r"GET /gate\?gate HTTP/1\.1 from 127\.0\.0\.1"
        )
        server.wait_for_log(
            r"^  Time: client \d+\.\d{3} s, queue \d+\.\d{3} s, interpreter \d+\.\d{3} s, application \d+\.\d{3} s"
        )
        server.wait_for_log(r"File .*, in held")
        gate.open()
        assert peer.answer().status == 200
    assert server.worker_pids() == [worker]
    assert server.log.count("Slow request") == 1


def test_requests_lost_with_a_worker_are_named(serve):
    server = serve(APPLICATION, "--workers", "1")
    (worker,) = server.worker_pids()
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        os.kill(worker, signal.SIGSEGV)
        assert peer.answer().status == 502
    server.wait_for_log(rf"\[ERROR\] Lost with worker \(pid:{worker}\): GET /gate\?gate HTTP/1\.1 from 127\.0\.0\.1")
    server.wait_for_log(rf"Worker \(pid:{worker}\) was sent SIGSEGV!")
