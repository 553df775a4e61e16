"""The pool as actors of a real Ray: the same calls, errors, timeouts, streams; what Ray does to servers is held off."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oxicorn.dirty import DirtyClient
from oxicorn.dirty.errors import (
    DirtyAppError,
    DirtyNoWorkersAvailableError,
    DirtyTimeoutError,
    DirtyWorkerError,
)
from tests.pool.conftest import HEAVY, Pool, started
from tests.support.processes import is_alive
from tests.support.wait import wait_for

pytest.importorskip("ray", reason="Ray is not installed")

#: Ray takes its time: a dozen processes start before the first call is done.
LONG = 60.0
pytestmark = pytest.mark.timeout(5 * LONG)
CONFIG = """
dirty_pool = "ray"
dirty_apps = ["heavy:App:1", "heavy:Pair", "broken:App:1"]
dirty_workers = 3
dirty_timeout = 3
dirty_app_env = ["DEVICE=gpu{place}", "A=b=c"]
"""
PAIR = """

class Pair:
    workers = 2

    def init(self):
        pass

    def __call__(self, action):
        if action != "meet":
            return action
        # Two of them at once, in two processes.
        (HERE / f"met-{os.getpid()}").touch()
        while len(list(HERE.glob("met-*"))) < 2:
            time.sleep(0.005)
        return os.getpid()

    def close(self):
        pass
"""
BROKEN = """
class App:
    def init(self):
        raise LookupError("no weights")

    def __call__(self, action): ...

    def close(self): ...
"""


@pytest.fixture(scope="module")
def pool(serve_module) -> Iterator[Pool]:
    # Sockets lie deep below it, and paths of sockets are short.
    directory = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    environment = {"RAY_TMPDIR": directory, "HOME": directory}
    pool = started(serve_module, CONFIG, env=environment, heavy=HEAVY + PAIR, files={"broken.py": BROKEN})
    wait_for(lambda: "Initialized dirty app: heavy:Pair (2 actors)" in pool.server.log, LONG, lambda: pool.server.log)
    yield pool
    pool.close()
    pool.server.stop()
    wait_for(lambda: not pool.server.processes(), LONG, lambda: str(pool.server.processes()))
    shutil.rmtree(directory, ignore_errors=True)


def has_ray(pid: int) -> bool:
    return "_raylet" in Path(f"/proc/{pid}/maps").read_text()


def test_calls_are_what_they_are_in_the_servers_own_processes(pool):
    assert pool.call("take", 1, None, b"x", key={"a": (1, [2.5])}) == [[1, None, b"x"], {"key": {"a": (1, [2.5])}}]
    assert pool.call("later", "awaited") == "awaited"
    view = memoryview(bytes(range(200)) * 1000).cast("H", (500, 200))
    back = pool.call("echo", view)
    assert (back.format, back.shape, back.tobytes()) == ("H", (500, 200), view.tobytes())
    assert pool.call("pid") not in pool.workers


def test_only_the_pools_process_has_ray(pool):
    (driver,) = pool.workers
    assert has_ray(driver)
    assert not any(map(has_ray, (pool.server.pid, pool.broker, *pool.server.worker_pids())))


def test_errors_keep_class_message_and_traceback(pool):
    with pytest.raises(DirtyAppError) as caught:
        pool.call("fail", "a reason")
    assert (caught.value.exception, caught.value.message) == ("KeyError", "'a reason'")
    assert "raise KeyError(text)" in caught.value.traceback
    assert "ray" not in caught.value.traceback


def test_an_application_that_cannot_be_loaded_takes_no_other_with_it(pool):
    with pytest.raises(DirtyNoWorkersAvailableError, match="LookupError: no weights"):
        pool.client.execute("broken:App", "x")
    assert 'raise LookupError("no weights")' in pool.server.log


def test_streams_wait_for_who_reads_and_end_with_them(pool):
    assert list(pool.client.stream("heavy:App", "count", 20)) == list(range(20))
    assert list(pool.client.stream("heavy:App", "count_async", 3)) == [0, 1, 2]
    broken = pool.client.stream("heavy:App", "break_off", 1)
    assert next(broken) == 0
    with pytest.raises(DirtyAppError, match="in the middle"):
        next(broken)
    closed = pool.server.directory / "closed"
    for number in range(30):
        endless = pool.client.stream("heavy:App", "advance")
        for _ in range(number % 5 + 1):
            next(endless)
        endless.close()
        wait_for(closed.exists)
        closed.unlink()
    assert pool.call("echo", 1) == 1


def test_each_application_has_its_actors_and_they_their_environment(pool):
    async def ask() -> list[int]:
        async with DirtyClient(pool.path, timeout=LONG) as client:
            return await asyncio.gather(*(client.execute_async("heavy:Pair", "meet") for _ in range(2)))

    one, two = asyncio.run(ask())
    assert one != two
    wait_for(lambda: list(pool.server.directory.glob("device-*")))
    (device,) = pool.server.directory.glob("device-*")
    assert device.read_text() == "gpu0 b=c"


def test_calls_of_one_application_wait_and_those_of_others_do_not(pool):
    held = threading.Thread(target=lambda: DirtyClient(pool.path).execute("heavy:App", "wait", "ray"))
    held.start()
    pool.wait_for_begun(1)
    behind = threading.Thread(target=lambda: DirtyClient(pool.path).execute("heavy:App", "echo", 1))
    behind.start()
    assert pool.client.execute("heavy:Pair", "x") == "x"
    pool.open_gate("ray")
    for thread in (held, behind):
        thread.join(LONG)


def test_a_call_over_its_time_is_ended_and_one_that_hears_nothing_takes_its_actor_along(pool):
    before = pool.call("pid")
    with pytest.raises(DirtyTimeoutError, match="timed out after 3 s"):
        pool.call("wait", "never")
    assert pool.call("pid") == before
    with pytest.raises(DirtyTimeoutError):
        pool.call("deaf")
    patient = DirtyClient(pool.path, timeout=LONG)
    after = wait_for(lambda: answered(patient), LONG)
    assert after != before
    pool.server.wait_for_log(rf"DIRTY WORKER TIMEOUT \(actor, pid:{before}\)")
    (driver,) = pool.workers
    assert is_alive(driver)


def answered(client: DirtyClient) -> object:
    try:
        return client.execute("heavy:App", "pid")
    except (DirtyTimeoutError, DirtyWorkerError):
        return None


def test_an_actor_that_dies_fails_its_call_and_is_started_again_by_ray(pool):
    before = pool.call("pid")
    with pytest.raises(DirtyWorkerError, match="was lost") as caught:
        pool.call("die")
    assert caught.value.worker_id == before
    assert wait_for(lambda: answered(pool.client), LONG) != before


def test_term_is_the_pools_and_a_successor_has_the_new_code(pool):
    """Ray would end the process at once; as it is, a call in flight ends as it would have."""
    (driver,) = pool.workers
    source = pool.server.directory / "heavy.py"
    source.write_text((HEAVY + PAIR).replace("VERSION = 1", "VERSION = 2"))
    assert pool.call("version") == 1
    os.kill(driver, signal.SIGTERM)
    until = time.monotonic() + LONG
    while pool.call("version") == 1:
        assert time.monotonic() < until, pool.server.log
    wait_for(lambda: not is_alive(driver), LONG)
    assert len(pool.workers) == 1
    assert "exited with code" not in pool.server.log
