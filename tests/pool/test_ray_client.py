"""The pool on a cluster elsewhere, by Ray's client server: a real ``ray start``, which dies and comes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oxicorn.dirty import DirtyClient
from oxicorn.dirty.errors import DirtyAppError, DirtyError
from tests.pool.conftest import Pool, started
from tests.support.ports import free_port
from tests.support.wait import wait_for

pytest.importorskip("ray", reason="Ray is not installed")
# Each start of a cluster, and of who connects to it, takes many seconds.
pytestmark = pytest.mark.timeout(400)

LONG = 180.0


class Cluster:
    """A head node; its processes are a session of their own, so that all of them end together."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.port, self.client_port = free_port(), free_port()
        self.environment = {"HOME": directory, "RAY_TMPDIR": directory, "RAY_USAGE_STATS_ENABLED": "0"}
        self.start()

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
        command += [f"--port={self.port}", f"--ray-client-server-port={self.client_port}", "--include-dashboard=false"]
        command += [
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--dashboard-agent-listen-port={free_port()}",
            "--object-store-memory=100000000",
        ]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        def are_gone() -> bool:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()

        wait_for(are_gone, LONG)
        self.process.wait()

    def processes(self) -> list[int]:
        """What has the directory in its environment: Ray gives some processes sessions of their own."""
        found = []
        mark = f"RAY_TMPDIR={self.directory}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                is_ours = b"ray" in (entry / "cmdline").read_bytes() and mark in environment
            except OSError:
                continue
            if is_ours and b"OXICORN_TEST_SERVER=1" not in environment:
                found.append(int(entry.name))
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Sockets lie deep below it, and paths of sockets are short.
    directory = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    cluster = Cluster(directory)
    yield cluster
    cluster.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def pool(cluster, serve_module) -> Iterator[Pool]:
    config = f'dirty_pool = "ray://127.0.0.1:{cluster.client_port}"\ndirty_apps = ["heavy:App:1"]\ndirty_timeout = 20\n'
    # That it was lost is known sooner than in Ray's thirty seconds.
    environment = {**cluster.environment, "OXICORN_TEST_SERVER": "1", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"}
    pool = started(serve_module, config, env=environment)
    wait_for(lambda: "Initialized dirty app: heavy:App (1 actors)" in pool.server.log, LONG, lambda: pool.server.log)
    yield pool
    pool.close()
    pool.server.stop()


def outcome(pool: Pool) -> str:
    """How a call ends; it does, within its time."""
    with DirtyClient(pool.path, timeout=LONG) as client:
        try:
            return str(client.execute("heavy:App", "echo", "answered"))
        except DirtyError as error:
            return f"{type(error).__name__}: {error.message}"


def test_calls_streams_and_errors_are_what_they_are_elsewhere(pool):
    assert pool.call("take", 1, None, b"x", key=(1, [2.5])) == [[1, None, b"x"], {"key": (1, [2.5])}]
    assert pool.call("later", "awaited") == "awaited"
    assert list(pool.client.stream("heavy:App", "count", 5)) == list(range(5))
    assert pool.call("echo", b"x" * 1_000_000) == b"x" * 1_000_000
    for view in (memoryview(b"abcd").cast("I"), memoryview(bytes(1_000_000)).cast("d", (500, 250))):
        back = pool.call("echo", view)
        assert (back.format, back.shape, back.readonly) == (view.format, view.shape, False)
        assert back.tobytes() == view.tobytes()
    assert list(pool.client.stream("heavy:App", "count", 2, 200_000)) == [b"x" * 200_000] * 2
    with pytest.raises(DirtyAppError, match="Cannot send result: a value of type set"):
        pool.call("give_set")
    with pytest.raises(DirtyAppError, match="a reason") as caught:
        pool.call("fail", "a reason")
    assert caught.value.exception == "KeyError"


def test_a_cluster_that_dies_fails_calls_in_words_and_its_successor_is_used(cluster, pool):
    cluster.kill()
    wait_for(lambda: "was lost" in outcome(pool) or "cannot be reached" in outcome(pool), LONG, lambda: pool.server.log)
    wait_for(lambda: "Ray cannot be reached" in pool.server.log, LONG, lambda: pool.server.log)
    cluster.start()
    wait_for(lambda: outcome(pool) == "answered", LONG, lambda: pool.server.log[-4000:])
    assert "Ray Client is not connected" not in pool.server.log
