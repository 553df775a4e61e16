"""docs/containers.md: process 1 of a PID namespace, on a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.pages import example
from tests.support.wait import DEADLINE, wait_for

APPLICATION = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{os.getppid()} {os.access('/', os.W_OK)}".encode()]
"""

#: What the container's engine does before it starts process 1.
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]
READ_ONLY = (
    "mount --make-rprivate / && mount --rbind / / && mount -o remount,bind,ro / && mount -t proc proc /proc "
    '&& exec "$@"'
)

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="only root makes namespaces of its own"
)


@pytest.fixture
def container(serve):
    """The command of the page's Dockerfile, as process 1."""
    server = serve.new()
    server.write("shop.py", APPLICATION)
    line = next(line for line in example("containers.md", "Dockerfile").splitlines() if line.startswith("CMD"))
    command = json.loads(line.removeprefix("CMD"))
    assert command[0] == "oxicorn"
    arguments = [server.bind if word == "0.0.0.0:8000" else word for word in command[1:]]
    command = [*NAMESPACES, READ_ONLY, "sh", server.kind.executable, *arguments]
    server.start(command=command, bind="", spec=None, ready=None)
    server.wait_until_ready()
    server.followed = next(process for process in server.processes() if process.title.startswith("oxicorn: master"))
    return server


def test_it_serves_logs_and_stops_in_time(container):
    parent, writable = container.get().text.split()
    assert (parent, writable) == ("1", "False")
    wait_for(lambda: "GET / HTTP/1.1" in container.read("stdout.log"), what="an access line on standard output")
    container.kill(signal.SIGTERM)
    assert container.popen.wait(DEADLINE) == 0
    assert "Shutting down" in container.log


def test_its_end_is_the_end_of_all(container):
    pids = [process.pid for process in container.processes()]
    container.kill(signal.SIGKILL)
    wait_for(lambda: not any(processes.is_alive(pid) for pid in pids), what="the end of all processes")
    container.popen.wait(DEADLINE)


def test_the_health_check_answers(container):
    line = next(line for line in example("containers.md", "Dockerfile").splitlines() if line.startswith("HEALTHCHECK"))
    command = json.loads(line.removeprefix("HEALTHCHECK CMD"))
    command = [sys.executable, *command[1:]]
    assert (
        subprocess.run([word.replace("127.0.0.1:8000", container.bind) for word in command], check=False).returncode
        == 0
    )
    assert subprocess.run(
        [word.replace("127.0.0.1:8000", "127.0.0.1:9") for word in command], check=False, stderr=subprocess.DEVNULL
    ).returncode
