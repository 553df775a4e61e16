"""Where processors are scarce one worker boots first, and the others wait for it, but not for long."""

from __future__ import annotations

import sys

import pytest

#: What the arbiter gives the first worker before the others start.
MOMENT = 0.2

#: Runs a program on one processor.
ON_ONE = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.execv(sys.executable, sys.argv[1:])"
)

#: The first worker is not ready before somebody else has started.
APPLICATION = """
import os, time

if os.environ["AGE"] == "1":
    deadline = time.monotonic() + 30
    while not os.path.exists("others") and time.monotonic() < deadline:
        time.sleep(0.01)

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""

CONFIG = """
import os, time

def pre_fork(server, worker):
    with open("starts", "a") as file:
        print(time.monotonic(), file=file)

def post_fork(server, worker):
    os.environ["AGE"] = str(worker.age)
    if worker.age > 1:
        open("others", "w").close()
"""


def test_a_first_worker_that_is_slow_is_alone_for_a_moment(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("it starts them one after the other, with a pause of its own")
    command = [sys.executable, "-c", ON_ONE, sys.executable, kind.executable]
    server = serve(APPLICATION, "--workers", "3", command=command, config=CONFIG)
    first, second, _ = map(float, server.lines("starts"))
    assert second - first >= MOMENT
