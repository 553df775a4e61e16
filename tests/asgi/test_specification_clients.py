"""HTTP message format 2.5, bodies that are on their way and clients that leave. The first words name the section."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.applications.asgi_cases import answer, drain, note, start
from tests.support.http import chunk, encode

pytestmark = pytest.mark.uvicorn


def test_request_body_is_streamed(define):
    """Request: large bodies come in pieces, while the client still sends."""

    async def application(scope, receive, send):
        event = await receive()
        body = event["body"]
        note(first=body, more=event["more_body"])
        while event["more_body"]:
            event = await receive()
            body += event["body"]
        await answer(send, body)

    case = define(application)
    with case.server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        peer.send(chunk(b"first"))
        assert case.note("more") is True
        assert b"first".startswith(case.note("first"))
        peer.send(chunk(b" second") + b"0\r\n\r\n")
        assert peer.answer().body == b"first second"


def test_receive_that_is_given_up_loses_nothing(define):
    """Applications: receive gives the next event when there is one; who stopped waiting may wait again."""

    async def application(scope, receive, send):
        late = 0
        body, more = b"", True
        while more:
            try:
                event = await asyncio.wait_for(receive(), 0.01)
            except asyncio.TimeoutError:
                late += 1
                note(late=late)
                continue
            body, more = body + event.get("body", b""), event.get("more_body", False)
        await answer(send, body)

    case = define(application)
    with case.server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n".encode())
        for piece in (b"ab", b"cd", b"ef"):
            case.wait_for_notes(len(case.notes) + 3)
            peer.send(piece)
        assert peer.answer().body == b"abcdef"


def test_receive_tells_that_the_client_left(define):
    """Disconnect: after the connection was closed."""

    async def application(scope, receive, send):
        await drain(receive)
        note(waiting=True)
        note(event=await receive())
        note(again=await receive())

    case = define(application)
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert case.note("waiting")
    assert case.note("event")["type"] == "http.disconnect"
    assert case.note("again")["type"] == "http.disconnect"


def test_receive_tells_that_the_client_left_in_its_body(define):
    """Disconnect: early, in the middle of the body."""

    async def application(scope, receive, send):
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            note(have=len(body))
        note(event=event, body=body)

    case = define(application)
    with case.server.connect() as peer:
        peer.send(f"POST {case.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".encode())
        assert case.note("have")
    assert case.note("event")["type"] == "http.disconnect"
    assert case.note("body") == b"half"


def test_send_to_a_client_that_left_has_no_effect(define):
    """Disconnected Client: an OSError is what 2.4 recommends and 2.3, which the scope names, does not know."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"second"})
        note(version=scope["asgi"]["spec_version"])

    case = define(application)
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
    assert case.note("version") == "2.3"


def test_error_of_a_disconnected_send_is_not_logged(define):
    """Disconnected Client: the server catches what it raised, and logs no error."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await send({"type": "http.response.body", "body": b"second"})
        finally:
            note(ended=True)

    case = define(application)
    before = case.server.log
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
    assert case.note("ended")
    assert case.server.get("/").status == 200
    assert "Traceback" not in case.server.log[len(before) :]
