"""Clients that leave: what the application hears, how long it may go on, what it costs nobody else."""

# ruff: noqa: F821 - the applications of the tests see the names of asgi_cases

from __future__ import annotations

import contextlib

import pytest

from tests.support.server import Servers
from tests.support.wait import stays, wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")

ASGI = ("--worker-class", "asgi")


def leave(server, case, target=""):
    """A request whose client leaves once the application has it."""
    with server.connect() as peer:
        peer.send(f"GET {case.target}{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert case.note("called")


def test_receive_tells_it_and_send_has_no_effect(define, server):
    async def application(scope, receive, send):
        note(called=True)
        await receive()
        note(event=await receive())
        note(again=await receive())
        await start(send)
        # As uvicorn and Gunicorn do it: nobody looks at what is sent for nobody.
        await send({"type": "unknown"})
        await send({"type": "http.response.body", "body": b"lost"})
        note(after="reached")

    case = define(application)
    leave(server, case)
    assert case.note("event") == case.note("again") == {"type": "http.disconnect"}
    assert case.note("after") == "reached"


def test_send_that_waits_for_the_client_returns(define, server):
    async def application(scope, receive, send):
        await start(send)
        note(called=True)
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        note(after="reached")

    case = define(application)
    leave(server, case)
    assert case.note("after") == "reached"


def test_endless_stream_that_never_listens_is_cancelled_and_holds_up_nobody(serve: Servers):
    """Each of its sends gives the loop a turn, so that its time can be over."""
    source = """
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] != "/endless":
                return await send({"type": "http.response.body"})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            finally:
                open("ended", "w").close()
    """
    server = serve(source, *ASGI, "--asgi-disconnect-grace-period", "1", "--workers", "1", "--timeout", "20")
    with server.connect() as peer:
        peer.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.head().status == 200
    assert server.get("/").status == 200
    wait_for((server.directory / "ended").exists)
    assert server.get("/").status == 200
    assert "Error handling request" not in server.log
    assert "WORKER TIMEOUT" not in server.log


def test_senders_of_their_own_go_on_undisturbed(serve: Servers):
    """A task that sends from beside the call ends as it would with a client: nothing is raised in it."""
    source = """
        import asyncio
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] != "/beside":
                return await send({"type": "http.response.body"})
            left = asyncio.Event()
            async def sender():
                await left.wait()
                for _ in range(20):
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await send({"type": "http.response.body"})
                open("sent", "w").close()
            task = asyncio.create_task(sender())
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()
    """
    server = serve(source, *ASGI)
    with server.connect() as peer:
        peer.send(b"GET /beside HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.head().status == 200
    wait_for((server.directory / "sent").exists)
    server.stop()
    assert "never retrieved" not in server.log
    assert "Traceback" not in server.log


def test_call_with_a_thread_at_work_is_cancelled_when_that_is_done(serve: Servers):
    source = """
        import asyncio, pathlib, time
        def work():
            pathlib.Path("working").touch()
            deadline = time.monotonic() + 30
            while not pathlib.Path("stop").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            pathlib.Path("worked").touch()
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] != "/thread":
                return await send({"type": "http.response.body"})
            try:
                await asyncio.to_thread(work)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pathlib.Path("cancelled").write_text(str(pathlib.Path("worked").exists()))
                raise
    """
    server = serve(source, *ASGI, "--asgi-disconnect-grace-period", "0")
    with server.connect() as peer:
        peer.send(b"GET /thread HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for((server.directory / "working").exists)
    cancelled = server.directory / "cancelled"
    stays(lambda: not cancelled.exists(), 0.3)
    (server.directory / "stop").touch()
    wait_for(lambda: cancelled.exists() and cancelled.read_text())
    assert cancelled.read_text() == "True"


def test_nothing_waits_for_the_grace_period_of_a_call_that_has_ended(serve: Servers):
    source = """
        import asyncio
        def note(what):
            with open("notes", "a") as file:
                print(what, file=file)
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] == "/waits":
                note("called")
                while (await receive())["type"] != "http.disconnect":
                    pass
                return note("ended")
            timers = sum(not timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % timers})
    """
    server = serve(source, *ASGI, "--asgi-loop", "asyncio")
    before = server.get("/").body
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            peer = stack.enter_context(server.connect())
            peer.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: server.lines("notes").count("called") == 5)
        # Long enough that leaving is no half-close.
        stays(lambda: len(server.lines("notes")) == 5, 0.2)
    wait_for(lambda: server.lines("notes").count("ended") == 5)
    assert server.get("/").body == before


def test_task_is_cancelled_after_the_grace_period(serve: Servers):
    source = """
        import asyncio, time
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] != "/stays":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                return await send({"type": "http.response.body"})
            note("called")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                note("cancelled")
                raise
        def note(text):
            with open("notes", "a") as file:
                file.write(f"{text} {time.monotonic()}\\n")
    """
    server = serve(source, *ASGI, "--asgi-disconnect-grace-period", "1")
    with server.connect() as peer:
        peer.send(b"GET /stays HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: server.lines("notes"))
        # Long enough that leaving is no half-close.
        stays(lambda: len(server.lines("notes")) == 1, 0.2)
    wait_for(lambda: len(server.lines("notes")) == 2)
    (_, began), (what, ended) = (line.split() for line in server.lines("notes"))
    assert what == "cancelled"
    assert float(ended) - float(began) >= 1.0
    assert server.get("/").status == 200
    assert "Error handling request" not in server.log


def test_no_grace_cancels_at_once(serve: Servers):
    source = """
        import asyncio
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] != "/stays":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                return await send({"type": "http.response.body"})
            open("called", "w").close()
            try:
                await asyncio.sleep(60)
            finally:
                open("cancelled", "w").close()
    """
    server = serve(source, *ASGI, "--asgi-disconnect-grace-period", "0")
    with server.connect() as peer:
        peer.send(b"GET /stays HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for((server.directory / "called").exists)
    wait_for((server.directory / "cancelled").exists)


def test_work_behind_the_response_is_neither_cancelled_nor_in_the_way(define, server):
    async def application(scope, receive, send):
        note(called=True)
        await answer(send, b"early")
        await asyncio.sleep(0.3)
        note(done=True)

    case = define(application)
    with server.connect() as peer:
        answer = peer.get(case.target)
        assert answer.body == b"early"
        assert peer.get("/").status == 200
    assert case.note("done")


def test_half_closed_client_gets_its_answer(define, server):
    async def application(scope, receive, send):
        await asyncio.sleep(0.2)
        await answer(send, b"for who listens")

    case = define(application)
    with server.connect() as peer:
        peer.send(f"GET {case.target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        peer.half_close()
        assert peer.answer().body == b"for who listens"


def test_capacity_comes_back_from_clients_that_left(serve: Servers):
    source = """
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] == "/waits":
                await receive()
                with open("waiting", "a") as file:
                    file.write("x\\n")
                return await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
    """
    server = serve(source, *ASGI, "--worker-connections", "4")
    for round in range(1, 6):
        peers = [server.connect() for _ in range(4)]
        for peer in peers:
            peer.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: len(server.lines("waiting")) == 4 * round)  # noqa: B023
        for peer in peers:
            peer.close()
    assert server.get("/").status == 200


def test_leaving_at_every_moment(define, server):
    async def application(scope, receive, send):
        body = await drain(receive)
        if body is None:
            return
        await start(send)
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": body})

    case = define(application)
    request = f"POST {case.target} HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n".encode() + b"b" * 20
    for cut in range(0, len(request) + 1, 3):
        with server.connect() as peer:
            peer.send(request[:cut])
            if cut % 2:
                peer.half_close()
            if cut == len(request):
                peer.receive(10 + cut)
    assert server.get("/").status == 200
    assert "Traceback" not in server.log
    assert "Panic" not in server.log
