"""What an application sees of the event loop: tasks, contexts, cancellation, libraries that look."""

from __future__ import annotations

import json

import pytest

from tests.support.server import Server, Servers

pytestmark = pytest.mark.usefixtures("only_oxicorn")


@pytest.fixture(scope="module")
def server(loop: str, serve_module: Servers) -> Server:
    """A server running ``asgi_paths.py``."""
    return serve_module(None, "--worker-class", "asgi", "--asgi-loop", loop, spec="asgi_paths")


def test_tasks_coroutines_and_timeouts(server: Server, loop: str) -> None:
    found = json.loads(server.get("/tasks").text)
    assert found.pop("loop_name").partition(".")[0] == loop
    assert found.pop("first") == "http.request"
    assert found == dict.fromkeys(("task", "in_all", "loop", "cancelled", "timeout"), True)


def test_auto_takes_uvloop_where_it_is_installed(serve: Servers) -> None:
    server = serve(None, "--worker-class", "asgi", spec="asgi_paths")
    assert json.loads(server.get("/tasks").text)["loop_name"].startswith("uvloop")


def test_uvloop_that_is_not_installed_is_an_error_only_if_asked_for(serve: Servers) -> None:
    hidden = "import sys; sys.modules['uvloop'] = None"
    server = serve(None, "--worker-class", "asgi", config=hidden, spec="asgi_paths")
    assert json.loads(server.get("/tasks").text)["loop_name"].startswith("asyncio")
    flags = ("--worker-class", "asgi", "--asgi-loop", "uvloop")
    refused = serve(None, *flags, config=hidden, spec="asgi_paths", ready=None)
    assert refused.wait_for_exit() == 3
    assert "asgi_loop: uvloop is not installed" in refused.log
