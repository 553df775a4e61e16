"""Start and end of the worker, as the application is told of them."""

from __future__ import annotations

import signal

import pytest

from tests.support.server import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")
ASGI = ("--worker-class", "asgi")

#: An application that writes what happens to ``lifespan.log``; `{startup}` and `{shutdown}` are code.
SOURCE = """
import asyncio, os

def note(text):
    with open("lifespan.log", "a") as file:
        file.write(text + "\\n")

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": repr(scope.get("state")).encode()}})

async def lifespan(scope, receive, send):
    assert (await receive()) == {{"type": "lifespan.startup"}}
    note("startup")
    {startup}
    await send({{"type": "lifespan.startup.complete"}})
    assert (await receive()) == {{"type": "lifespan.shutdown"}}
    note("shutdown")
    {shutdown}
    await send({{"type": "lifespan.shutdown.complete"}})
    note("end")
"""


def source(startup: str = "pass", shutdown: str = "pass") -> str:
    """The application with code of the test's own."""
    return SOURCE.format(startup=startup, shutdown=shutdown)


@pytest.mark.parametrize("flags", [(), ("--preload",), ("--asgi-loop", "asyncio")], ids=["plain", "preload", "asyncio"])
def test_startup_state_shutdown(serve: Servers, flags: tuple[str, ...]) -> None:
    server = serve(source(startup='scope["state"]["of"] = "startup"'), *ASGI, *flags)
    assert server.get("/").text == "{'of': 'startup'}"
    server.stop()
    assert server.lines("lifespan.log") == ["startup", "shutdown", "end"]


def test_off_tells_nothing(serve: Servers) -> None:
    server = serve(source(), *ASGI, "--asgi-lifespan", "off")
    assert server.get("/").text == "{}"
    server.stop()
    assert server.lines("lifespan.log") == []


@pytest.mark.parametrize("startup", ['raise ValueError("no lifespan")', "return"])
def test_auto_serves_applications_that_do_not_know_it(serve: Servers, startup: str) -> None:
    server = serve(source(startup=startup), *ASGI)
    assert server.get("/").status == 200


@pytest.mark.parametrize(
    ("mode", "startup", "reason"),
    [
        ("on", 'raise ValueError("not today")', "ValueError('not today')"),
        ("on", "return", "it returned before startup was complete"),
        ("auto", 'return await send({"type": "lifespan.startup.failed", "message": "no database"})', "no database"),
    ],
)
def test_failed_startup_ends_the_first_boot_with_3(serve: Servers, mode: str, startup: str, reason: str) -> None:
    server = serve(source(startup=startup), *ASGI, "--asgi-lifespan", mode, ready=None)
    assert server.wait_for_exit() == 3
    assert f"ASGI lifespan startup failed: {reason}" in server.log
    assert "Worker failed to boot" in server.log


STARLETTE = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette

def connect():
    raise ConnectionError("no route to the database")

@asynccontextmanager
async def lifespan(app):
    {startup}
    yield
    {shutdown}

application = Starlette(lifespan=lifespan)
"""


@pytest.mark.parametrize(
    "flags", [(), ("--preload",), ("--error-logfile", "error.log")], ids=["plain", "preload", "file"]
)
def test_why_a_lifespan_failed_is_in_the_log_once(serve: Servers, flags: tuple[str, ...]) -> None:
    source = STARLETTE.format(startup="connect()", shutdown="pass")
    server = serve(source, *ASGI, *flags, "--workers", "2", ready=None)
    assert server.wait_for_exit() == 3
    log = server.read("error.log") if "--error-logfile" in flags else server.log
    assert "ASGI lifespan startup failed: ConnectionError: no route to the database\n" in log
    assert log.count("Traceback (most recent call last):") == 1
    assert "in connect\n    raise ConnectionError(" in log
    assert "never retrieved" not in server.log


def test_a_worker_that_is_told_to_stop_in_its_startup_just_ends(serve: Servers) -> None:
    once = 'os.path.exists("told") or (open("told", "w").close(), os.kill(os.getpid(), 3))'
    server = serve(source(startup=once), *ASGI)
    server.wait_for_log("Booting worker", count=2)
    assert server.get("/").status == 200
    assert "Traceback" not in server.log
    assert "never retrieved" not in server.log


def test_each_line_of_a_reason_is_logged(serve: Servers) -> None:
    failing = 'return await send({"type": "lifespan.startup.failed", "message": "two faults:\\n- disk\\n- net\\n"})'
    server = serve(source(startup=failing), *ASGI, ready=None)
    assert server.wait_for_exit() == 3
    assert "ASGI lifespan startup failed: two faults:\n- disk\n- net\n" in server.log


@pytest.mark.parametrize(
    "application",
    [
        STARLETTE.format(startup="pass", shutdown="connect()"),
        source(shutdown='raise ConnectionError("no route to the database")'),
        source(
            startup='await send({"type": "lifespan.startup.complete"}); '
            'raise ConnectionError("no route to the database")'
        ),
    ],
    ids=["told", "raised", "while it served"],
)
def test_why_the_end_failed_is_in_the_log(serve: Servers, application: str) -> None:
    server = serve(application, *ASGI)
    server.stop()
    assert "ASGI lifespan shutdown failed: ConnectionError: no route to the database\n" in server.log
    assert server.log.count("Traceback (most recent call last):") == 1
    assert "never retrieved" not in server.log


def test_failed_startup_on_reload_keeps_the_old_generation(serve: Servers) -> None:
    server = serve(source(startup='scope["state"]["of"] = "old"'), *ASGI)
    failing = 'return await send({"type": "lifespan.startup.failed", "message": "no database"})'
    (old,) = server.worker_pids()
    server.write("app.py", source(startup=failing))
    server.kill(signal.SIGHUP)
    server.wait_for_log("ASGI lifespan startup failed: no database")
    wait_for(lambda: server.worker_pids() == [old])
    assert server.get("/").text == "{'of': 'old'}"
