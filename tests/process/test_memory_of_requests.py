"""Serving for a while leaves nothing behind: no memory, no descriptor, no process."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tests.support import processes
from tests.support.load import Load
from tests.support.wait import wait_for

#: Clients, the body that each of them sends, and what the gateway holds of all of them at least.
CLIENTS, BODY, HELD = 50, 60_000, 2_000_000
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def test_descriptors_and_memory_stay_flat_under_changing_connections(serve, source):
    server = serve(source, "--workers", "2")

    def descriptors() -> int:
        return sum(len(processes.open_files(process.pid)) for process in server.processes())

    with Load(server.address, clients=4, keep_alive=False) as load:
        load.wait_for_answers(300)
    before = descriptors()
    memory = processes.proportional_memory(server.pid)
    with Load(server.address, clients=4, keep_alive=False) as load:
        load.wait_for_answers(1500)
    load.assert_flawless()
    wait_for(lambda: descriptors() <= before, what="all connections closed")
    assert processes.proportional_memory(server.pid) - memory < 4 * 1024 * 1024


def test_reloads_leave_no_descriptor_behind(serve, source):
    server = serve(source, "--workers", "2")

    def reload() -> None:
        old = server.worker_pids()
        server.kill(signal.SIGHUP)
        server.wait_for_workers(2, without=old)

    def descriptors() -> dict[int, int]:
        lasting = [server.pid] if server.kind.is_gunicorn else [server.pid, server.gateway_pid()]
        return {pid: len(processes.open_files(pid)) for pid in lasting}

    for _ in range(2):
        reload()
    before = descriptors()
    for _ in range(5):
        reload()
    wait_for(lambda: all(descriptors()[pid] <= count for pid, count in before.items()))


def test_what_requests_needed_is_given_back_when_nobody_asks(serve):
    """Less than a flood, and more than the allocator would give back by itself."""
    application = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"%02d" % (len(environ["wsgi.input"].read()) % 100)]
"""
    server = serve(application, "--keep-alive", "60")
    if server.kind.is_gunicorn:
        pytest.skip("one process has its clients and its application")
    gateway = server.gateway_pid()
    assert server.request("POST", "/", [], b"x" * BODY).status == 200

    def memory() -> int:
        return processes.anonymous_memory(gateway)

    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
        before = memory()
        for peer in peers:
            peer.send(HEAD % BODY + b"x" * (BODY - 1))
        wait_for(lambda: memory() - before > HELD, what="bodies that are held in memory")
        for peer in peers:
            peer.send(b"x")
            assert peer.answer().status == 200
        wait_for(lambda: memory() - before < HELD // 2, what="memory that is given back")
