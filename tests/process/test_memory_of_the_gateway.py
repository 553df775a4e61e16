"""The gateway has nothing of the objects that the arbiter made, unless a hook has Python run in it."""

from __future__ import annotations

import os
import sysconfig

import pytest

from tests.support import processes
from tests.support.wait import wait_for

#: Some 25 MB of small objects, and their list.
OBJECTS = """
import os, threading, time
KEPT = []

def on_starting(server):
    KEPT.extend(str(number) for number in range(400_000))
"""
#: A thread of Python's in each process that is forked off the arbiter: it looks at all of the objects again and again,
#: and says in a file of the process how often it has.
THREAD_IN_CHILDREN = """
def look():
    for rounds in range(1, 1_000_000):
        assert len("".join(KEPT)) == sum(map(len, KEPT)), "other objects"
        with open(f"looks.{os.getpid()}", "w") as file:
            file.write(str(rounds))
        time.sleep(0.01)

os.register_at_fork(after_in_child=lambda: threading.Thread(target=look, daemon=True).start())
"""


@pytest.fixture(autouse=True)
def interpreter_with_arenas(kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("has no gateway")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("objects of this interpreter do not lie in arenas")


def test_gateway_gives_back_the_objects_of_the_arbiter(serve, source):
    server = serve(source, config=OBJECTS)
    gateway, arbiter = server.gateway_pid(), server.pid
    assert processes.anonymous_memory(arbiter) > 30_000_000
    assert processes.anonymous_memory(gateway) < 20_000_000
    assert server.get().status == 200
    os.kill(gateway, 9)
    wait_for(lambda: server.pids("gateway") not in ([], [gateway]), what="another gateway")
    server.wait_until_ready()
    assert processes.anonymous_memory(server.gateway_pid()) < 20_000_000


def test_gateway_in_which_a_hook_runs_python_keeps_them(serve, source):
    server = serve(source, config=OBJECTS + THREAD_IN_CHILDREN)
    gateway = server.gateway_pid()

    def looks() -> int:
        return int(server.read(f"looks.{gateway}") or 0)

    wait_for(lambda: looks() > 2, what="objects that were looked at")
    assert server.get().status == 200
    assert server.gateway_pid() == gateway
    assert "Traceback" not in server.log
