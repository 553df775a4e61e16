"""What workers of the pool are given, and when others take their place."""

from __future__ import annotations

import asyncio
import os

import pytest

from oxicorn.dirty import DirtyClient
from tests.pool.test_life import booted
from tests.support.processes import is_alive
from tests.support.wait import wait_for


def test_each_place_has_its_environment_and_keeps_it(start):
    pool = start('dirty_workers = 2\ndirty_app_env = ["DEVICE=gpu{place}", "A=b=c"]\n')
    wait_for(lambda: len(booted(pool)) == 2)

    def device_of(pid: int) -> str:
        return (pool.server.directory / f"device-{pid}").read_text()

    before = {pid: device_of(pid) for pid in booted(pool)}
    assert sorted(before.values()) == ["gpu0 b=c", "gpu1 b=c"]
    victim, device = before.popitem()
    os.kill(victim, 9)
    successors = wait_for(lambda: len(now := set(booted(pool)) - {victim}) == 2 and now - set(before))
    assert [device_of(pid) for pid in successors] == [device]


def test_workers_run_on_their_processors(start):
    pool = start('dirty_affinity = ["0"]\n')
    pid = pool.call("pid")
    assert os.sched_getaffinity(pid) == {0}
    assert os.sched_getaffinity(pool.server.pid) != {0} or os.cpu_count() == 1


def test_after_so_many_calls_another_takes_the_place(start):
    pool = start("dirty_max_calls = 10\n")
    pids = [pool.call("pid") for _ in range(10)]
    assert len(set(pids)) == 1
    wait_for(lambda: not is_alive(pids[0]))
    assert pool.call("pid") != pids[0]
    pool.server.wait_for_log(rf"Dirty worker {pids[0]} is to be replaced: it has run 10 calls")


def test_a_worker_that_has_grown_is_replaced(start):
    pool = start(f"dirty_memory_limit = {200 << 20}\n")
    before = pool.call("grow", 300 << 20)

    def replaced() -> bool:
        return pool.call("pid") != before

    wait_for(replaced)
    pool.server.wait_for_log(rf"Dirty worker {before} is to be replaced: it holds \d+ bytes")


def test_a_worker_runs_no_more_calls_at_once_than_the_log_says(start):
    pool = start("dirty_threads = 500\n")
    pool.server.wait_for_log("dirty_threads: a worker of the pool runs 120 calls at once, not 500")

    async def call_all() -> list[object]:
        async with DirtyClient(pool.path, timeout=60.0) as client:
            calls = [asyncio.ensure_future(client.execute_async("heavy:App", "wait")) for _ in range(125)]
            await asyncio.to_thread(pool.wait_for_begun, 120)
            await asyncio.to_thread(pool.open_gate)
            return await asyncio.gather(*calls)

    assert len(asyncio.run(call_all())) == 125
    assert pool.call("most_together") == 120


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('dirty_app_env = ["DEVICE"]', "Invalid value for dirty_app_env: 'DEVICE': must be NAME=VALUE"),
        ('dirty_affinity = ["x"]', "Invalid value for dirty_affinity: 'x': must be numbers of processors"),
        ('dirty_affinity = ["0-9999"]', "Invalid value for dirty_affinity: '0-9999'"),
    ],
)
def test_what_makes_no_sense_stops_the_start(serve, config, text):
    config += '\ndirty_apps = ["heavy:App"]\ndirty_workers = 1\n'
    server = serve.new().start(app="", config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert text in server.log
