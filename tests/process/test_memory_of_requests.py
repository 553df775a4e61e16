"""Serving for a while leaves nothing behind: no memory, no descriptor, no process."""

from __future__ import annotations

import signal

from tests.support import processes
from tests.support.load import Load
from tests.support.wait import wait_for


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
