"""Lifespan 2.0: each sentence that binds a server has a test. The first words name its section."""

from __future__ import annotations

import ast
import signal
import textwrap

import pytest

from tests.support.wait import stays, wait_for

pytestmark = pytest.mark.uvicorn

#: Writes what happens to ``events``, one literal a line.
PREAMBLE = """
import asyncio, os

def tell(**facts):
    with open("events", "a") as file:
        file.write(f"{facts!r}\\n")

async def hello(scope, receive, send, body=b"hello"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""

COMPLETE = """
async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        tell(request=scope["path"], loop=id(asyncio.get_running_loop()))
        return await hello(scope, receive, send)
    tell(scope=scope, loop=id(asyncio.get_running_loop()))
    while True:
        event = await receive()
        tell(event=event, pid=os.getpid())
        await send({"type": event["type"] + ".complete"})
        tell(sent=event["type"])
        if event["type"] == "lifespan.shutdown":
            return
"""


def source(text):
    return PREAMBLE + textwrap.dedent(text)


def events(server):
    return [ast.literal_eval(line) for line in server.lines("events")]


def told(server, key):
    return [facts[key] for facts in events(server) if key in facts]


def test_scope(serve, worker):
    """Scope: `type`, the versions of ASGI and of this specification, an empty `state`; nothing of a request."""
    server = serve(source(COMPLETE), *worker)
    (scope,) = told(server, "scope")
    assert scope["type"] == "lifespan"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"].get("spec_version", "1.0") in {"1.0", "2.0"}
    assert scope.get("state") == {}
    assert "path" not in scope


def test_events_are_told_once_and_in_order(serve, worker):
    """Startup, Shutdown: each once, startup before the first request, shutdown after the last."""
    server = serve(source(COMPLETE), *worker)
    server.get("/last")
    server.stop()
    facts = events(server)
    assert told(server, "event") == [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    order = [next(iter(fact)) for fact in facts]
    assert order[:3] == ["scope", "event", "sent"]
    assert order[-2:] == ["event", "sent"]
    assert set(order[3:-2]) == {"request"}


def test_scope_lives_as_long_as_the_event_loop(serve, worker):
    """Scope: it exists for the duration of the event loop, the one that serves."""
    server = serve(source(COMPLETE), *worker)
    assert len(set(told(server, "loop"))) == 1


def test_every_worker_has_its_own(serve, worker):
    """Scope: one for each event loop."""
    server = serve(source(COMPLETE), *worker, "--workers", "2")

    def started() -> list[int]:
        facts = events(server)
        return sorted(fact["pid"] for fact in facts if fact.get("event") == {"type": "lifespan.startup"})

    # The server answers as soon as one of them has begun.
    wait_for(lambda: len(started()) == 2)
    assert started() == server.worker_pids()
    server.stop()
    wait_for(lambda: told(server, "event").count({"type": "lifespan.shutdown"}) == 2)


def test_no_connection_is_served_before_startup_is_complete(serve, worker):
    """Startup Complete: the server waits for it before it processes connections."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                if scope["type"] == "lifespan":
                    await receive()
                    tell(starting=True)
                    while not os.path.exists("go-on"):
                        await asyncio.sleep(0.005)
                    tell(started=True)
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    await send({"type": "lifespan.shutdown.complete"})
                else:
                    tell(request=True)
                    await hello(scope, receive, send)
            """
        ),
        *worker,
        ready=None,
    )
    wait_for(lambda: told(server, "starting"))
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        stays(lambda: not told(server, "request"), 0.3)
        (server.directory / "go-on").touch()
        assert peer.answer().body == b"hello"
    assert [next(iter(fact)) for fact in events(server)] == ["starting", "started", "request"]


@pytest.mark.parametrize(
    "way",
    ['raise ValueError(scope["type"])', "assert False", "await receive(); raise ValueError()", "return"],
    ids=["raises", "asserts", "raises_at_startup", "returns"],
)
def test_application_without_lifespan_is_served(serve, worker, way):
    """Scope: where the call with such a scope fails the server goes on and sends no lifespan events."""
    text = f"""
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        tell(lifespan=True)
        {way}
    await hello(scope, receive, send)
"""
    server = serve(source(text), *worker)
    assert server.get().body == b"hello"
    server.stop()
    assert told(server, "lifespan") == [True]


def test_failed_startup_is_logged_and_ends_the_server(serve, worker):
    """Startup Failed: the message is logged, the server exits."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                assert scope["type"] == "lifespan"
                await receive()
                await send({"type": "lifespan.startup.failed", "message": "the database is not there"})
            """
        ),
        *worker,
        ready=None,
    )
    assert server.wait_for_exit() == 3
    assert "the database is not there" in server.log


def test_message_of_a_failed_startup_is_optional(serve, worker):
    """Startup Failed: no `message` is an empty one."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                await receive()
                await send({"type": "lifespan.startup.failed"})
            """
        ),
        *worker,
        ready=None,
    )
    assert server.wait_for_exit() == 3


def test_shutdown_comes_after_the_last_request(serve, worker):
    """Shutdown: when the server has stopped accepting and all connections are closed."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                if scope["type"] == "lifespan":
                    await receive()
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    tell(shutdown=True)
                    await send({"type": "lifespan.shutdown.complete"})
                elif scope["path"] == "/slow":
                    tell(begun=True)
                    await asyncio.sleep(0.5)
                    tell(answered=True)
                    await hello(scope, receive, send, b"slow")
                else:
                    await hello(scope, receive, send)
            """
        ),
        *worker,
    )
    with server.connect() as peer:
        peer.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: told(server, "begun"))
        server.kill(signal.SIGTERM)
        assert peer.answer().body == b"slow"
    assert server.wait_for_exit() == 0
    assert [next(iter(fact)) for fact in events(server)] == ["begun", "answered", "shutdown"]


def test_server_waits_for_the_end_of_the_shutdown(serve, worker):
    """Shutdown Complete: the server waits for it before it ends."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                if scope["type"] != "lifespan":
                    return await hello(scope, receive, send)
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await asyncio.sleep(0.7)
                tell(cleaned=True)
                await send({"type": "lifespan.shutdown.complete"})
            """
        ),
        *worker,
    )
    assert server.stop() == 0
    assert told(server, "cleaned") == [True]


def test_failed_shutdown_is_logged_and_the_server_ends(serve, worker):
    """Shutdown Failed: the message is logged, the server ends."""
    server = serve(
        source(
            """
            async def application(scope, receive, send):
                if scope["type"] != "lifespan":
                    return await hello(scope, receive, send)
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.failed", "message": "could not flush"})
            """
        ),
        *worker,
    )
    server.stop()
    assert "could not flush" in server.log


def test_state_of_lifespan_reaches_every_request(serve, worker):
    """Lifespan State: a shallow copy for each request; the server puts nothing of its own into it."""
    server = serve(
        source(
            """
            class Pool:
                used = 0

            async def application(scope, receive, send):
                if scope["type"] == "lifespan":
                    await receive()
                    scope["state"]["pool"] = Pool()
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    tell(used=scope["state"]["pool"].used, keys=list(scope["state"]))
                    await send({"type": "lifespan.shutdown.complete"})
                else:
                    tell(seen=list(scope["state"]), kind=type(scope["state"]).__name__)
                    scope["state"]["pool"].used += 1
                    scope["state"]["own"] = scope["path"]
                    await hello(scope, receive, send)
            """
        ),
        *worker,
    )
    for _ in range(3):
        server.get()
    server.stop()
    assert set(told(server, "kind")) == {"dict"}
    seen = told(server, "seen")
    assert seen == [["pool"]] * len(seen)
    assert told(server, "used") == [len(seen)]
    assert told(server, "keys") == [["pool"]]
