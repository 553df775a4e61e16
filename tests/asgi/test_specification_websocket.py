"""WebSocket message format 2.5: each sentence that binds a server has a test. The first words name its section."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.applications.asgi_cases import answer, note, raised
from tests.support.http import ConnectionLost, encode
from tests.support.wait import stays, wait_for
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

pytestmark = pytest.mark.uvicorn


async def echo(scope, receive, send):
    """Gives back what it gets, and notes every event."""
    while True:
        event = await receive()
        note(**event)
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        else:
            return


def notes_of(case, kind):
    return [facts for facts in case.notes if facts.get("type") == f"websocket.{kind}"]


# Connection scope


@pytest.fixture
def scope_of(define):
    """``scope_of(target, headers)``: the scope of such a handshake."""

    async def application(scope, receive, send):
        note(scope={key: value for key, value in scope.items() if key != "state"}, state=sorted(scope["state"]))
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    case = define(application)

    def ask(target="", headers=()):
        with case.websocket(target, headers) as client:
            local = client.peer.socket.getsockname()
        return {**case.note("scope"), "case": case.target, "local": list(local), "port": case.server.port}

    return ask


def test_scope_of_a_handshake(scope_of):
    """Connection Scope: what the request said, as for HTTP."""
    scope = scope_of("/a%20b/%C3%A9?c=%20d", [("X-Two", "1"), ("X-Two", "2"), ("X-Latin", "caf\xe9")])
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] in {"2.0", "2.1", "2.2", "2.3", "2.4", "2.5"}
    assert scope.get("http_version", "1.1") == "1.1"
    assert scope.get("scheme", "ws") == "ws"
    assert scope["path"] == scope["case"] + "/a b/\xe9"
    assert scope["raw_path"] == scope["case"].encode() + b"/a%20b/%C3%A9"
    assert scope["query_string"] == b"c=%20d"
    assert scope.get("root_path", "") == ""
    assert list(scope["client"]) == scope["local"]
    assert list(scope["server"]) == ["127.0.0.1", scope["port"]]
    headers = [tuple(pair) for pair in scope["headers"]]
    assert [value for name, value in headers if name == b"x-two"] == [b"1", b"2"]
    assert (b"x-latin", b"caf\xe9") in headers
    assert (b"sec-websocket-version", b"13") in headers
    assert (b"host", b"example.org") in headers
    assert "method" not in scope


def test_no_subprotocols(scope_of):
    """Connection Scope: an empty list where the client advertised no subprotocol."""
    assert list(scope_of().get("subprotocols", [])) == []


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-WebSocket-Protocol", "chat, superchat,  v2.example")],
        [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "superchat, v2.example")],
    ],
    ids=["one_header", "two_headers"],
)
def test_subprotocols(scope_of, headers):
    """Connection Scope: `subprotocols` the client advertised, in its order."""
    assert list(scope_of(headers=headers)["subprotocols"]) == ["chat", "superchat", "v2.example"]


def test_state_is_a_copy(define):
    """Connection Scope: `state` is a copy of lifespan's namespace."""

    async def application(scope, receive, send):
        note(state=sorted(scope["state"]))
        scope["state"]["mine"] = True
        await receive()
        await send({"type": "websocket.close"})

    case = define(application)
    for _ in range(2):
        case.websocket().peer.close()
    assert case.wait_for_notes(2) == [{"state": ["number", "shared"]}] * 2


# Handshake


def test_handshake_waits_for_the_application(define):
    """Connect: the event comes first, and the handshake is not completed before it was responded to."""

    async def application(scope, receive, send):
        import os

        note(first=await receive())
        while not os.path.exists("let-in"):
            await asyncio.sleep(0.005)
        await send({"type": "websocket.accept"})
        await receive()

    case = define(application)
    clients = []
    thread = threading.Thread(target=lambda: clients.append(case.websocket()))
    thread.start()
    assert case.note("first") == {"type": "websocket.connect"}
    stays(lambda: not clients, 0.2)
    (case.server.directory / "let-in").touch()
    thread.join()
    (case.server.directory / "let-in").unlink()
    with clients[0] as client:
        assert client.answer.status == 101


def test_no_message_is_passed_on_before_the_handshake(define):
    """Connect: it must be responded to before the socket passes any message."""

    async def application(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        waiting = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        note(early=bool(done))
        await send({"type": "websocket.accept"})
        note(message=(await waiting).get("text"))
        await send({"type": "websocket.close"})

    case = define(application)
    with case.websocket() as client:
        client.send("first")
        assert case.note("early") is False
        assert case.note("message") == "first"


def test_accepted(define):
    """Accept: 101, no subprotocol unless one is named."""
    case = define(echo)
    with case.websocket(subprotocols=["chat"]) as client:
        assert client.answer.status == 101
        assert client.answer.header("sec-websocket-protocol") is None
        assert client.answer.header("connection").lower() == "upgrade"
        assert client.close() == (1000, "")


def test_accepted_with_subprotocol_and_headers(define):
    """Accept: `subprotocol` and `headers`, in their order."""

    async def application(scope, receive, send):
        await receive()
        headers = [(b"x-one", b"1"), (b"set-cookie", b"a=b"), [b"set-cookie", b"c=d"], (b"x-latin", b"caf\xe9")]
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][1], "headers": headers})
        await receive()

    with define(application).websocket(subprotocols=["chat", "superchat"]) as client:
        assert client.answer.status == 101
        assert client.answer.header("sec-websocket-protocol") == "superchat"
        assert client.answer.header("x-one") == "1"
        assert client.answer.all("set-cookie") == ["a=b", "c=d"]
        assert client.answer.header("x-latin") == "caf\xe9"


@pytest.mark.parametrize("extra", ["", ", 'code': 3000, 'reason': 'not you'"])
def test_closed_before_accepted_is_a_403(define, extra):
    """Close: before the handshake was completed the client gets a 403, and no handshake."""

    async def application(scope, receive, send):
        await receive()
        await send(eval("{'type': 'websocket.close'" + dict(scope["headers"])[b"x-extra"].decode() + "}"))

    with define(application).websocket(headers=[("X-Extra", extra)]) as client:
        assert client.answer.status == 403
        assert client.answer.header("sec-websocket-accept") is None


@pytest.mark.parametrize("way", ["return", "raise ValueError('told to')"])
def test_application_that_ends_before_its_reply_refuses(define, way):
    """Connection Scope: if the application dies the socket is closed, also one that was never opened."""

    async def application(scope, receive, send):
        if scope["query_string"] == b"return":
            return
        raise ValueError("told to fail in the handshake")

    with define(application).websocket("?" + way.partition(" ")[0]) as client:
        assert client.answer.status in (403, 500)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.receive"},
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "websocket.nonsense"},
        {},
        {"type": "websocket.accept", "subprotocol": 5},
        {"type": "websocket.accept", "headers": [("text", b"x")]},
    ],
    ids=str,
)
def test_malformed_event_before_the_handshake_raises(define, event):
    """Error Handling: unknown types, wrong types of values, and what does not come first."""

    async def application(scope, receive, send):
        await receive()
        event = eval(dict(scope["headers"])[b"x-event"].decode())
        note(raised=await raised(send(event)))

    case = define(application)
    with case.websocket(headers=[("X-Event", repr(event))]):
        assert case.note("raised") is not None


# Messages


@pytest.mark.parametrize(
    "message", ["text", "\u20ac\U0001f984", "", b"bytes", b"", "x" * 70_000, bytes(range(256)) * 1000], ids=range(7)
)
def test_messages_in_both_directions(define, message):
    """Receive, Send: text as text, binary as bytes; one of the two and not the other."""
    case = define(echo)
    with case.websocket() as client:
        client.send(message)
        assert client.receive() == message
        assert client.close() == (1000, "")
    (event,) = notes_of(case, "receive")
    text, data = event.get("text"), event.get("bytes")
    assert (text, data) == ((message, None) if isinstance(message, str) else (None, message))


def test_fragments_are_joined(define):
    """WebSocket: fragmentation is handled by the server; the application gets whole messages."""
    case = define(echo)
    with case.websocket() as client:
        client.send_frame(TEXT, "caf\xe9".encode()[:4], fin=False)
        client.send_frame(PING, b"between")
        client.send_frame(CONTINUATION, b"", fin=False)
        client.send_frame(CONTINUATION, "caf\xe9".encode()[4:])
        found = client.frame()
        assert (found.opcode, found.payload) == (PONG, b"between")
        assert client.receive() == "caf\xe9"
        client.send_frame(BINARY, b"\x00", fin=False)
        client.send_frame(CONTINUATION, b"\xff")
        assert client.receive() == b"\x00\xff"
    assert [event.get("text") or event.get("bytes") for event in notes_of(case, "receive")] == ["caf\xe9", b"\x00\xff"]


def test_ping_is_answered_by_the_server(define):
    """WebSocket: PING and PONG are the server's; the application sees neither."""
    case = define(echo)
    with case.websocket() as client:
        client.send_frame(PING, b"are you there")
        found = client.frame()
        assert (found.opcode, found.payload) == (PONG, b"are you there")
        client.send_frame(PONG, b"unasked")
        client.send("after")
        assert client.receive() == "after"
    assert len(notes_of(case, "receive")) == 1


def test_order_is_kept(define):
    """Receive, Send: messages keep their order."""
    case = define(echo)
    with case.websocket() as client:
        for number in range(200):
            client.send(f"message {number}")
        assert [client.receive() for _ in range(200)] == [f"message {number}" for number in range(200)]


def test_server_may_speak_first(define):
    """Send: whenever the application likes, before it received anything."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(3):
            await send({"type": "websocket.send", "text": str(number)})
        await send({"type": "websocket.close"})

    with define(application).websocket() as client:
        assert [client.receive() for _ in range(3)] == ["0", "1", "2"]
        assert client.closed() == (1000, "")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": b"bytes"},
        {"type": "websocket.send", "bytes": "text"},
        {"type": "websocket.send", "text": 5},
        {"type": "websocket.accept"},
        {"type": "websocket.nonsense"},
        {"type": "websocket.close", "code": "1000"},
        {"type": "websocket.close", "reason": 5},
    ],
    ids=str,
)
def test_malformed_event_raises(define, event):
    """Error Handling, Send: exactly one of `text` and `bytes`; the rest as everywhere."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        note(raised=await raised(send(eval((await receive())["text"]))))
        await receive()

    case = define(application)
    with case.websocket() as client:
        client.send(repr(event))
        assert case.note("raised") is not None


@pytest.mark.parametrize(
    "event", [{"text": "one", "bytes": None}, {"bytes": b"one", "text": None}, {"text": "one", "x": 1}]
)
def test_other_key_may_be_there(define, event):
    """Send: one or both keys may be present; additional ones do not matter."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "future": 1})
        await send({"type": "websocket.send", **eval((await receive())["text"])})

    with define(application).websocket() as client:
        client.send(repr(event))
        assert client.receive() in ("one", b"one")


# Ends


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "bye"), (1001, ""), (3000, "ours"), (4999, "\xe9\u20ac"), (None, "")]
)
def test_client_closes(define, code, reason):
    """Disconnect: the code and the reason the client gave; 1005 where it gave none."""
    case = define(echo)
    with case.websocket() as client:
        expected = code
        assert client.close(code, reason)[0] == expected
    event = case.note("code")
    assert event == (1005 if code is None else code)
    (event,) = notes_of(case, "disconnect")
    assert (event.get("reason") or "") == reason


def test_client_vanishes(define):
    """Disconnect: the loss of the socket; 1006 is RFC 6455's code for it, 1005 the specification's for no code."""
    case = define(echo)
    with case.websocket() as client:
        client.send("x")
        assert client.receive() == "x"
    assert case.note("code") in (1005, 1006)


def test_client_vanishes_in_the_handshake(define):
    """Disconnect: also while the application makes up its mind."""

    async def application(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        note(connecting=True)
        note(event=(await receive())["type"])

    case = define(application)
    with case.server.connect() as peer:
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        peer.send(encode("GET", case.target, [*headers, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]))
        assert case.note("connecting")
    assert case.note("event") == "websocket.disconnect"


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [("{}", 1000, ""), ("{'code': 3001}", 3001, ""), ("{'code': 4000, 'reason': 'enough'}", 4000, "enough")],
)
def test_application_closes(define, event, code, reason):
    """Close: with the code and reason of the message; 1000 where it has none."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", **eval((await receive())["text"])})

    with define(application).websocket() as client:
        client.send(event)
        assert client.closed() == (code, reason)
        client.send_close(code)
        assert client.peer.rest() == b""


@pytest.mark.parametrize("reason", ["None", "''"])
def test_close_without_reason(define, reason):
    """Close: `reason` is optional; None is an empty one."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "reason": eval((await receive())["text"])})

    with define(application).websocket() as client:
        client.send(reason)
        assert client.closed() == (1000, "")


def test_application_that_closed_is_told_of_the_disconnect(define):
    """Disconnect: also where the server closed the connection."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3002})
        note(event=await receive())

    case = define(application)
    with case.websocket() as client:
        assert client.closed() == (3002, "")
        client.send_close(3002)
        assert client.peer.rest() == b""
    assert case.note("event")["type"] == "websocket.disconnect"


def test_application_that_returns_closes_the_socket(define):
    """Connection Scope: if the application ends the socket is closed."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    with define(application).websocket() as client:
        try:
            client.closed()
        except ConnectionLost:
            return
        client.send_close()
        assert client.peer.rest() == b""


def test_application_that_fails_closes_the_socket(define):
    """Error Handling: the error is surfaced, the connection ends; 1011 is RFC 6455's code for it."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("told to fail when connected")

    case = define(application)
    with case.websocket() as client:
        assert client.closed()[0] == 1011
        client.send_close()
        assert client.peer.rest() == b""
    case.server.wait_for_log("ValueError: told to fail when connected")


def test_send_after_the_client_left_raises_an_os_error(define):
    """Disconnected Client: a subclass of OSError after websocket.disconnect."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        note(raised=await raised(send({"type": "websocket.send", "text": "late"})))

    case = define(application)
    with case.websocket() as client:
        client.close()
    assert "OSError" in (case.note("raised") or [])


def test_error_of_a_disconnected_send_is_not_logged(define):
    """Disconnected Client: the server catches what it raised, and logs no error."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0.005)
        finally:
            note(ended=True)

    case = define(application)
    before = case.server.log
    with case.websocket() as client:
        assert client.receive() == "tick"
    assert case.note("ended")
    assert case.server.get("/").status == 200
    assert "Traceback" not in case.server.log[len(before) :]


def test_scope_lives_as_long_as_the_socket(define):
    """Connection Scope: many sockets at once, each with its own call, beside HTTP."""
    case = define(echo)
    clients = [case.websocket() for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(f"to {number}")
    assert case.server.get("/").body == b"hello"
    assert [client.receive() for client in clients] == [f"to {number}" for number in range(20)]
    for client in clients:
        client.close()
        client.peer.close()
    wait_for(lambda: len(notes_of(case, "disconnect")) == 20)


def test_http_at_the_same_address_is_http(define):
    """WebSocket: only an upgrade makes the scope a WebSocket's."""

    async def application(scope, receive, send):
        note(type=scope["type"])
        await answer(send)

    case = define(application)
    assert case.get().body == b"done"
    assert case.note("type") == "http"


def test_refused_frames_close_with_their_code(define):
    """WebSocket: what breaks RFC 6455 never reaches the application; it is told of the end."""
    case = define(echo)
    with case.websocket() as client:
        client.send_frame(TEXT, b"\xff\xfe")
        assert client.closed()[0] == 1007
    with case.websocket() as client:
        client.send_frame(TEXT, b"not masked", mask=None)
        assert client.closed()[0] == 1002
    with case.websocket() as client:
        client.send_frame(CLOSE, b"\x00")
        assert client.closed()[0] == 1002
    wait_for(lambda: len(notes_of(case, "disconnect")) == 3)
    assert notes_of(case, "receive") == []


# Extension: WebSocket Denial Response


def test_denial_response(define):
    """Websocket Denial Response: an HTTP answer of the application's, then the connection ends."""

    async def application(scope, receive, send):
        note(offered=scope["extensions"]["websocket.http.response"])
        await receive()
        headers = [(b"x-reason", b"quota"), (b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})

    case = define(application)
    with case.websocket() as client:
        assert client.answer.status == 429
        assert client.answer.body == b"too many"
        assert client.answer.header("x-reason") == "quota"
        assert client.answer.header("sec-websocket-accept") is None
    assert case.note("offered") == {}


@pytest.mark.parametrize(
    "event", [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}, {"type": "http.response.body"}]
)
def test_denial_cannot_be_followed_by_websocket_messages(define, event):
    """Websocket Denial Response: no other messages after it began."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        note(raised=await raised(send(eval(dict(scope["headers"])[b"x-event"].decode()))))
        await send({"type": "websocket.http.response.body", "body": b"no"})

    case = define(application)
    with case.websocket(headers=[("X-Event", repr(event))]) as client:
        assert (client.answer.status, client.answer.body) == (401, b"no")
    assert case.note("raised") is not None


def test_no_denial_after_the_handshake(define):
    """Websocket Denial Response: after websocket.connect, instead of an accept, not after it."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        note(raised=await raised(send({"type": "websocket.http.response.start", "status": 401, "headers": []})))
        await send({"type": "websocket.close"})

    case = define(application)
    with case.websocket() as client:
        assert client.closed() == (1000, "")
    assert case.note("raised") is not None
