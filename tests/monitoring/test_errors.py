"""What the error log says of requests that are slow, and of those that are lost with their worker."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gate import APPLICATION, Gate
from tests.support.wait import wait_for


@pytest.mark.parametrize("args", [(), ("--threads", "2")], ids=["sync", "gthread"])
def test_slow_request_is_shown_with_its_stack_and_goes_on(serve, args):
    server = serve(APPLICATION, "--workers", "1", "--slow-request-time", "1", *args)
    (worker,) = server.worker_pids()
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        server.wait_for_log(
            rf"\[WARNING\] Slow request, \d+\.\d s in worker \(pid:{worker}\) after \d+\.\d s in the queue: "
            r"GET /gate\?gate HTTP/1\.1 from 127\.0\.0\.1"
        )
        server.wait_for_log(
            r"^  Time: client \d+\.\d{3} s, queue \d+\.\d{3} s, interpreter \d+\.\d{3} s, application \d+\.\d{3} s"
        )
        server.wait_for_log(r"File .*, in held")
        gate.open()
        assert peer.answer().status == 200
    assert server.worker_pids() == [worker]
    # Where the machine is slow, the request that found the server ready may be one, too.
    assert len(re.findall(r"Slow request, .*: GET /gate", server.log)) == 1


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_requests_lost_with_a_worker_are_named(serve, name):
    server = serve(APPLICATION, "--workers", "1")
    (worker,) = server.worker_pids()
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        os.kill(worker, signal.Signals[name])
        assert peer.answer().status == 502
    server.wait_for_log(rf"\[ERROR\] Lost with worker \(pid:{worker}\): GET /gate\?gate HTTP/1\.1 from 127\.0\.0\.1")
    server.wait_for_log(rf"Worker \(pid:{worker}\) was sent {name}!")


def test_worker_that_aborts_is_named(serve):
    source = """
        import os

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/abort":
                os.abort()
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
    """
    server = serve(source, "--workers", "1")
    (worker,) = server.worker_pids()
    assert server.get("/abort").status == 502
    server.wait_for_log(rf"\[ERROR\] Lost with worker \(pid:{worker}\): GET /abort HTTP/1\.1 from 127\.0\.0\.1")
    server.wait_for_log(rf"Worker \(pid:{worker}\) was sent SIGABRT!")


def test_faults_of_workers_are_shown_with_their_stack_where_python_is_told_to(serve):
    source = """
        import os, signal

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
    """
    server = serve(source, "--workers", "1", env={"PYTHONFAULTHANDLER": "1"})
    (worker,) = server.worker_pids()
    assert server.get("/crash").status == 502
    server.wait_for_log("Fatal Python error: Segmentation fault")
    server.wait_for_log(r'File ".*app\.py", line 6 in application')
    server.wait_for_log(rf"Worker \(pid:{worker}\) was sent SIGSEGV!")
    server.wait_for_workers(1, without=[worker])


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group of the kernel's with 128 MiB of memory, for who writes themselves into it."""
    root = Path("/sys/fs/cgroup")
    base, limit = root / "memory", "memory.limit_in_bytes"
    if (root / "cgroup.controllers").exists():
        base, limit = root, "memory.max"
    group = base / f"oxicorn-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        (group / limit).write_text(str(128 << 20))
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):
                (group / swap).write_text("0" if swap.endswith("max") else str(128 << 20))
        yield group
    except OSError as error:
        pytest.skip(f"memory cannot be limited here: {error}")
    finally:
        wait_for(lambda: removed(group), what=f"nobody is left in {group}")


def removed(group: Path) -> bool:
    """Whether it is; the kernel refuses while the last process is on its way out."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_worker_that_the_kernel_ended_for_want_of_memory_is_named(control_group, serve):
    source = """
        def application(environ, start_response):
            eaten = []
            while environ["PATH_INFO"] == "/eat":
                eaten.append(b"x" * (1 << 20))
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
    """
    procs = str(control_group / "cgroup.procs")
    config = f"import os\nwith open({procs!r}, 'w') as file: file.write(str(os.getpid()))\n"
    server = serve(source, "--workers", "1", config=config)
    (worker,) = server.worker_pids()
    assert server.get("/eat").status == 502
    server.wait_for_log(rf"\[ERROR\] Lost with worker \(pid:{worker}\): GET /eat HTTP/1\.1 from 127\.0\.0\.1")
    server.wait_for_log(
        rf"\[ERROR\] Worker \(pid:{worker}\) was ended by the kernel: the memory of its control group was used up"
    )
    server.wait_for_workers(1, without=[worker])
    assert server.get("/").status == 200
    assert server.stop() == 0
