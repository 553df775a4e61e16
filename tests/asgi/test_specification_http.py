"""HTTP message format 2.5: each sentence that binds a server has a test. The first words name its section."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.applications.asgi_cases import answer, drain, note, raised, start
from tests.support.http import ConnectionLost, encode
from tests.support.wait import wait_for

pytestmark = pytest.mark.uvicorn


@pytest.fixture
def scope_of(define):
    """``scope_of(method, target, headers, body, version)``: the scope of such a request."""

    async def application(scope, receive, send):
        note(scope={key: value for key, value in scope.items() if key != "state"})
        await answer(send)

    case = define(application)

    def ask(method="GET", target="", headers=(), body=None, version="1.1"):
        count = len(case.notes)
        assert case.request(method, target, headers, body, version).status == 200
        return {**case.wait_for_notes(count + 1)[-1]["scope"], "case": case.target}

    return ask


# HTTP Connection Scope


def test_scope_is_of_one_request(define):
    """HTTP: different scopes for different requests, also on one connection."""

    async def application(scope, receive, send):
        note(method=scope["method"], path=scope["path"], query=scope["query_string"])
        await answer(send, headers=[(b"content-length", b"4")])

    case = define(application)
    with case.server.connect() as peer:
        peer.get(f"{case.target}/one?1")
        peer.request("POST", f"{case.target}/two", body=b"x")
    assert case.wait_for_notes(2) == [
        {"method": "GET", "path": f"{case.target}/one", "query": b"1"},
        {"method": "POST", "path": f"{case.target}/two", "query": b""},
    ]


def test_nothing_of_a_request_is_left_for_the_next(scope_of):
    """What is as usual is not set anew for each request; what was unusual before must not show."""
    for round_ in range(3):
        usual = scope_of()
        assert (usual["method"], usual["http_version"], usual["query_string"]) == ("GET", "1.1", b"")
        assert b"x-round" not in dict(usual["headers"])
        headers = [("X-Round", str(round_)), ("X-Long", "x" * (127 + round_)), ("Cookie", f"a={round_}")]
        other = scope_of("POST", "/other?q=1", headers, b"abc", version="1.0" if round_ else "1.1")
        assert (other["method"], other["query_string"]) == ("POST", b"q=1")
        assert other["http_version"] == ("1.0" if round_ else "1.1")
        found = dict(other["headers"])
        assert found[b"x-round"] == found[b"cookie"].removeprefix(b"a=") == str(round_).encode()
        assert len(found[b"x-long"]) == 127 + round_


def test_type_and_versions(scope_of):
    """`type` is "http"; `asgi` has the version of ASGI and of this specification."""
    scope = scope_of()
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] in {"2.0", "2.1", "2.2", "2.3", "2.4", "2.5"}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_version(scope_of, version):
    """`http_version`."""
    assert scope_of(version=version)["http_version"] == version


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_method(scope_of, method):
    """`method` is the name, uppercased."""
    assert scope_of(method)["method"] == method


def test_method_of_head(scope_of):
    """`method`: HEAD stays HEAD."""
    assert scope_of("HEAD")["method"] == "HEAD"


def test_scheme(scope_of):
    """`scheme` is not empty."""
    assert scope_of().get("scheme", "http") == "http"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/plain", "/plain"),
        ("/a%20b", "/a b"),
        ("/%C3%A9%E2%82%AC", "/\xe9\u20ac"),
        ("/%F0%9F%A6%84", "/\U0001f984"),
        ("/slash%2Fslash", "/slash/slash"),
        ("/plus+plus", "/plus+plus"),
        ("/percent%2520", "/percent%20"),
        ("/%zz%4", "/%zz%4"),
        ("/a;b=c", "/a;b=c"),
        ("//double//", "//double//"),
        ("/a/../b/./c", "/a/../b/./c"),
        ("/question%3Fmark?query", "/question?mark"),
    ],
)
def test_path_and_raw_path(scope_of, target, path):
    """`path` without the query, percent sequences and UTF-8 decoded; `raw_path` as it was received."""
    scope = scope_of(target=target)
    assert scope["path"] == scope["case"] + path
    assert scope["raw_path"] == (scope["case"] + target.partition("?")[0]).encode()


def test_path_that_is_no_utf_8_is_served(scope_of):
    """`path` is text whatever was sent; `raw_path` has the truth."""
    scope = scope_of(target="/%ff%fe")
    assert scope["path"].startswith(scope["case"] + "/")
    assert scope["raw_path"].endswith(b"/%ff%fe")


@pytest.mark.parametrize(
    ("target", "query"),
    [("", b""), ("?", b""), ("?a=b&a=c", b"a=b&a=c"), ("?%20+%C3%A9", b"%20+%C3%A9"), ("?a?b/c", b"a?b/c")],
)
def test_query_string(scope_of, target, query):
    """`query_string`: what follows the `?`, still percent-encoded."""
    assert scope_of(target=target)["query_string"] == query


def test_root_path(scope_of):
    """`root_path` is text, empty where nothing is mounted."""
    assert scope_of().get("root_path", "") == ""


def test_headers(scope_of):
    """`headers`: pairs of byte strings, names in lower case, in order, duplicates as they were sent."""
    sent = [
        ("X-First", "1"),
        ("Accept", "a"),
        ("X-MiXeD", "Case Is Kept"),
        ("Accept", "b"),
        ("X-Latin", "caf\xe9"),
        ("X-Space", "  around  "),
        ("X-Empty", ""),
        ("Cookie", "a=b; c=d"),
    ]
    headers = [tuple(pair) for pair in scope_of(headers=sent)["headers"]]
    expected = [(name.lower().encode(), value.strip().encode("latin-1")) for name, value in sent]
    assert [pair for pair in headers if pair[0] != b"host"] == expected
    assert (b"host", b"example.org") in headers


def test_framing_headers_are_there(scope_of):
    """`headers`: as received, those of the body too."""
    headers = dict(map(tuple, scope_of("POST", headers=[("Content-Type", "a/b")], body=b"12345")["headers"]))
    assert headers[b"content-length"] == b"5"
    assert headers[b"content-type"] == b"a/b"


def test_client_and_server(define):
    """`client` and `server`: the address as text, the port as a number."""

    async def application(scope, receive, send):
        note(client=list(scope["client"]), server=list(scope["server"]))
        await answer(send)

    case = define(application)
    with case.server.connect() as peer:
        local = peer.socket.getsockname()
        peer.get(case.target)
    assert case.note("client") == list(local)
    assert case.note("server") == ["127.0.0.1", case.server.port]


def test_server_on_a_unix_socket(serve, worker):
    """`server`: the path of the socket and no port."""
    server = serve(None, *worker, bind="unix:here.sock", spec="asgi_cases")
    server.write(
        "unix.py",
        """
        from asgi_cases import *

        async def application(scope, receive, send):
            note(client=scope.get("client"), server=scope["server"])
            await answer(send)
        """,
    )
    assert server.get("/unix").body == b"done"
    facts = wait_for(lambda: server.read("unix.notes"))
    assert "here.sock', None" in facts


def test_state_is_a_shallow_copy(define):
    """`state`: a copy of lifespan's namespace for each request; what is in it is shared."""

    async def application(scope, receive, send):
        state = scope["state"]
        note(keys=sorted(state), number=state["number"])
        state["mine"] = True
        state["number"] += 1
        state["shared"].append(1)
        await answer(send, str(len(state["shared"])).encode())

    case = define(application)
    counts = [int(case.get().body) for _ in range(2)]
    assert counts[1] == counts[0] + 1, "the list is the same one"
    assert case.wait_for_notes(2) == [{"keys": ["number", "shared"], "number": 1}] * 2


# Request


def test_request_without_body(define):
    """Request: one event with an empty body and nothing more to come."""

    async def application(scope, receive, send):
        event = await receive()
        note(type=event["type"], body=event.get("body", b""), more=event.get("more_body", False))
        await answer(send)

    case = define(application)
    case.get()
    assert case.notes == [{"type": "http.request", "body": b"", "more": False}]


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_request_body(define, framing, size):
    """Request: `body` of all events together is the body, decoded; `more_body` is false in the last."""

    async def application(scope, receive, send):
        body, more, events = b"", True, 0
        while more:
            event = await receive()
            assert event["type"] == "http.request"
            body, more, events = body + event.get("body", b""), event.get("more_body", False), events + 1
        note(events=events)
        await answer(send, body)

    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    pieces = [data[at : at + 50_000] for at in range(0, size, 50_000)]
    assert define(application).request("POST", body=data if framing == "counted" else pieces).body == data


def test_body_may_be_left_unread(define):
    """Request: the body is there for those who want it; the next request is served all the same."""

    async def application(scope, receive, send):
        await answer(send, headers=[(b"content-length", b"4")])

    case = define(application)
    with case.server.connect() as peer:
        first = peer.request("POST", case.target, body=b"x" * 100_000)
        assert first.body == b"done"
        if first.keeps_connection:
            assert peer.get("/").body == b"hello"


def test_receive_waits_while_the_answer_is_made(define):
    """Disconnect: it comes when the answer was sent or the client has left, not before."""

    async def application(scope, receive, send):
        await drain(receive)
        waiting = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        note(early=bool(done))
        await answer(send, headers=[(b"content-length", b"4")])
        note(event=await waiting)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == b"done"
        assert case.note("early") is False
        assert case.note("event")["type"] == "http.disconnect"


# Response


def test_status_and_headers(define):
    """Response Start: the status; headers in the order given, duplicates too."""

    async def application(scope, receive, send):
        headers = [
            (b"x-one", b"1"),
            [b"set-cookie", b"a=1"],
            (b"x-latin", b"caf\xe9"),
            (b"set-cookie", b"b=2"),
            (b"x-empty", b""),
            (b"x-one", b"2"),
        ]
        await answer(send, b"body", 418, headers)

    found = define(application).get()
    assert found.status == 418
    assert [pair for pair in found.headers if pair[0].lower() in ("x-one", "set-cookie", "x-latin", "x-empty")] == [
        ("x-one", "1"),
        ("set-cookie", "a=1"),
        ("x-latin", "caf\xe9"),
        ("set-cookie", "b=2"),
        ("x-empty", ""),
        ("x-one", "2"),
    ]


@pytest.mark.parametrize("headers", ["()", "[]", "iter([(b'x-a', b'b')])", "((name, b'b') for name in [b'x-a'])"])
def test_headers_are_any_iterable(define, headers):
    """Response Start: `headers` is an iterable of two-item iterables."""

    async def application(scope, receive, send):
        await answer(send, headers=eval(await drain(receive)))

    found = define(application).request("POST", body=headers.encode())
    assert found.body == b"done"
    assert found.header("x-a") == ("b" if "x-a" in headers else None)


def test_headers_are_optional(define):
    """Response Start: no `headers` is an empty list."""

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})

    assert define(application).get().body == b"done"


@pytest.mark.parametrize("status", [200, 201, 299, 304, 404, 451, 500, 599])
def test_every_status_is_sent(define, status):
    """Response Start: `status` is the code, whether it has a name or not."""

    async def application(scope, receive, send):
        await answer(send, b"", int(scope["query_string"]))

    assert define(application).get(f"?{status}").status == status


@pytest.mark.parametrize("coding", ["chunked", "identity", "gzip, chunked"])
def test_transfer_encoding_of_the_application_is_ignored(define, coding):
    """Response Start: Transfer-Encoding is the server's."""

    async def application(scope, receive, send):
        await start(send, 200, [(b"transfer-encoding", scope["query_string"].replace(b"_", b", "))])
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    found = define(application).get(f"?{coding.replace(', ', '_')}")
    assert found.body == b"one two"
    assert found.all("transfer-encoding") in ([], ["chunked"])


def test_body_keys_are_optional(define):
    """Response Body: no `body` is an empty one, no `more_body` is the end."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body"})

    assert define(application).get().body == b"one"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_bodies_are_joined(define, version):
    """Response Body: each `body` follows the one before."""

    async def application(scope, receive, send):
        await start(send)
        for number in range(100):
            await send({"type": "http.response.body", "body": b"%03d" % number * 500, "more_body": number < 99})

    found = define(application).request("GET", version=version)
    assert found.body == b"".join(b"%03d" % number * 500 for number in range(100))
    assert found.framing == {"1.0": "close", "1.1": "chunked"}[version]


def test_counted_body_is_not_chunked(define):
    """HTTP Connection Scope: chunking is the server's affair, where no Content-Length was given."""

    async def application(scope, receive, send):
        await start(send, 200, [(b"content-length", b"6")])
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    found = define(application).get()
    assert (found.framing, found.body) == ("length", b"onetwo")


def test_body_is_sent_when_it_is_given(define):
    """Response Body: a server passes on what it is given before send returns; nothing waits for the next."""

    async def application(scope, receive, send):
        import os

        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while not os.path.exists("go-on"):
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"second"})

    case = define(application)
    go_on = case.server.directory / "go-on"
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
        received = b""
        while b"first" not in received:
            received += peer.receive(100)
        assert b"second" not in received
        go_on.touch()
        while b"second" not in received:
            received += peer.receive(100)
    go_on.unlink()


def test_head_does_not_wait_for_a_body_that_is_not_there_yet(define):
    """Response Start: a server need not send it before the first body; EventSource waits for it all the same."""

    async def application(scope, receive, send):
        import os

        await start(send, 200, [(b"content-type", b"text/event-stream")])
        while not os.path.exists("go-on"):
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    case = define(application)
    go_on = case.server.directory / "go-on"
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        assert peer.head().status == 200
        go_on.touch()
        received = b""
        while b"data: 1\n\n" not in received:
            received += peer.receive(100)
    go_on.unlink()


def test_answer_is_complete_when_the_last_body_was_sent(define):
    """Response Body: without `more_body` the answer is complete, whatever the application does after it."""

    async def application(scope, receive, send):
        await answer(send)
        note(sent=True)
        while (await receive())["type"] != "http.disconnect":
            pass
        note(disconnected=True)
        await asyncio.sleep(0.2)
        note(finished=True)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == b"done"
        assert peer.get("/").body == b"hello", "the connection does not wait for it"
        assert case.note("finished")


def test_head_has_no_body(define):
    """Response Body: what is sent for HEAD is taken and not sent on."""

    async def application(scope, receive, send):
        await answer(send, b"a body", headers=[(b"content-length", b"6")])

    case = define(application)
    with case.server.connect() as peer:
        found = peer.request("HEAD", case.target)
        assert (found.status, found.header("content-length")) == (200, "6")
        assert peer.get("/").body == b"hello"


def test_body_before_the_start_raises(define):
    """Response Start: it comes first."""

    async def application(scope, receive, send):
        note(raised=await raised(send({"type": "http.response.body", "body": b"early"})))
        await answer(send)

    case = define(application)
    assert case.get().body == b"done"
    assert case.note("raised") is not None


def test_second_start_raises(define):
    """Response Start: there is one."""

    async def application(scope, receive, send):
        await start(send)
        note(raised=await raised(start(send, 500)))
        await send({"type": "http.response.body", "body": b"done"})

    case = define(application)
    found = case.get()
    assert (found.status, found.body) == (200, b"done")
    assert case.note("raised") is not None


def test_start_needs_a_body(define):
    """Response Start: at least one body follows; without it the answer is none."""

    async def application(scope, receive, send):
        await start(send)

    case = define(application)
    try:
        assert case.get().status == 500
    except ConnectionLost:
        pass


def test_end_that_never_comes_is_no_end(define):
    """Response Body: an application that ends with `more_body` has not answered; the client must see that."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with pytest.raises(ConnectionLost):
        define(application).get()


def test_more_than_promised_is_never_sent(define):
    """HTTP: a body beyond its Content-Length would be taken for the next answer."""

    async def application(scope, receive, send):
        await start(send, 200, [(b"content-length", b"4")])
        note(raised=await raised(send({"type": "http.response.body", "body": b"four and more"})))

    case = define(application)
    with case.server.connect() as peer:
        peer.send(encode(target=case.target))
        try:
            found = peer.answer()
        except ConnectionLost as lost:
            received = lost.received
        else:
            received = b"" if found.status == 500 else found.body
            assert found.status == 500 or not found.keeps_connection
        assert b"and more" not in received


def test_less_than_promised_is_no_answer(define):
    """HTTP: a body shorter than its Content-Length is never taken for a whole one."""

    async def application(scope, receive, send):
        await answer(send, b"four", headers=[(b"content-length", b"10")])

    try:
        assert define(application).get().status == 500
    except ConnectionLost:
        pass


def test_long_polling_scope_lives_until_the_answer(define):
    """HTTP Connection Scope: it lasts until the answer ends, however long it is held open."""

    async def application(scope, receive, send):
        await start(send, headers=[(b"content-type", b"text/event-stream")])
        for number in range(5):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body"})

    assert define(application).get().text == "".join(f"data: {number}\n\n" for number in range(5))


# WSGI Compatibility


def test_wsgi_application_inside(serve, worker):
    """WSGI Compatibility: asgiref's adapter maps scope and events to a WSGI application and back."""
    server = serve(
        """
        import json
        from asgiref.wsgi import WsgiToAsgi

        def wsgi(environ, start_response):
            body = environ["wsgi.input"].read()
            names = ["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH",
                     "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "SERVER_PROTOCOL", "wsgi.url_scheme", "HTTP_X_ONE"]
            start_response("200 OK", [("Content-Type", "application/json")])
            yield json.dumps({name: environ.get(name) for name in names}).encode()
            yield b"\\n" + body

        application = WsgiToAsgi(wsgi)
        """,
        *worker,
    )
    found = server.request("POST", "/a%20b?c=d", [("X-One", "1"), ("Content-Type", "text/plain")], b"the body")
    environ, _, body = found.body.partition(b"\n")
    assert body == b"the body"
    assert json.loads(environ) == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=d",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "8",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "HTTP_X_ONE": "1",
    }


def test_synchronous_code_runs_in_threads(define):
    """WSGI Compatibility: synchronous code beside the loop, by asgiref's helpers, in both directions."""

    async def application(scope, receive, send):
        import threading

        from asgiref.sync import async_to_sync, sync_to_async

        async def back():
            return threading.current_thread() is threading.main_thread()

        def work():
            return threading.current_thread() is threading.main_thread(), async_to_sync(back)()

        note(threads=await sync_to_async(work, thread_sensitive=False)())
        await answer(send)

    case = define(application)
    assert case.get().body == b"done"
    assert case.note("threads") == (False, True)
