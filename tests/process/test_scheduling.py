"""How the kernel schedules the server is for whoever starts it to decide: nothing in it changes policy or niceness.

A thread that is woken as ``SCHED_BATCH`` waits for the time slices of other programs; beside a busy neighbour that
made a p99 of most of a second out of a few milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.greenlets import NEEDS_GEVENT
from tests.support.server import Kind, Server
from tests.support.wait import wait_for

#: ``/``: the scheduling of what the application starts, a process and a thread, as JSON.
STARTED = """
import json
import os
import subprocess
import sys
import threading

SCHEDULING = "[os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]"
TELL = [sys.executable, "-S", "-c", f"import os; print({SCHEDULING})"]

def started():
    process = json.loads(subprocess.run(TELL, capture_output=True, check=True).stdout)
    found = []
    thread = threading.Thread(target=lambda: found.append(eval(SCHEDULING)))
    thread.start()
    thread.join()
    return json.dumps([process, *found]).encode()
"""
WSGI = (
    STARTED
    + """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [started()]
"""
)
ASGI = (
    STARTED
    + """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": started()})
"""
)


def scheduling(thread: int) -> tuple[int, int]:
    """Policy and niceness of a thread."""
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


def of_threads(server: Server) -> dict[str, tuple[int, int]]:
    """Scheduling of every thread of every process, by the process' title and the thread's name."""
    found = {}
    for process in server.processes():
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            # A thread may end meanwhile.
            with contextlib.suppress(OSError):
                name = (thread / "comm").read_text().strip()
                found[f"{process.title}: {name} {thread.name}"] = scheduling(int(thread.name))
    return found


@contextlib.contextmanager
def scheduled_as(policy: int) -> Iterator[None]:
    """What is started inside has this policy."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, policy, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


@pytest.mark.parametrize(
    ("worker_class", "source"),
    [("sync", WSGI), ("gthread", WSGI), pytest.param("gevent", WSGI, marks=NEEDS_GEVENT), ("asgi", ASGI)],
    ids=["sync", "gthread", "gevent", "asgi"],
)
@pytest.mark.parametrize("policy", [os.SCHED_OTHER, os.SCHED_BATCH], ids=["other", "batch"])
def test_every_thread_is_scheduled_as_the_server_was_started(serve, kind: Kind, worker_class, source, policy):
    worker_class = kind.asgi_worker if worker_class == "asgi" else worker_class
    expected = (policy, os.getpriority(os.PRIO_PROCESS, 0))
    with scheduled_as(policy):
        server = serve(source, "--worker-class", worker_class)
    # It has answered, so whatever serves has begun to.
    started = json.loads(server.get("/").body)
    assert started == [list(expected)] * 2, "a process and a thread that the application starts"
    threads = wait_for(lambda: of_threads(server))
    assert threads == dict.fromkeys(threads, expected)
