"""One request, one response: scope, receive, send and their errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.http import ConnectionLost, Peer
from tests.support.server import Server, Servers
from tests.support.wait import wait_for


@pytest.fixture(scope="module")
def server(loop: str, serve_module: Servers) -> Server:
    """A server running ``asgi_paths.py`` that keeps connections as long as any test lasts."""
    flags = ("--worker-class", "asgi", "--keep-alive", "20", "--asgi-loop", loop, "--asgi-file-extensions")
    return serve_module(None, *flags, spec="asgi_paths", access_log=True)


pytestmark = pytest.mark.usefixtures("only_oxicorn")


def seen(server: Server) -> list[str]:
    """What the application has noted."""
    found: list[str] = json.loads(server.get("/seen").text)
    return found


def scope_of(peer: Peer, target: str, *headers: tuple[str, str], method: str = "GET", version: str = "1.1") -> Any:
    """The scope of a request as the application saw it."""
    return json.loads(peer.request(method, target, headers, version=version).text)


def test_hello_has_a_length_and_keeps_the_connection(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(3):
            answer = peer.get("/")
            assert (answer.status, answer.reason, answer.body) == (200, "OK", b"Hello, world!")
            assert answer.framing == "length"
            assert answer.keeps_connection


def test_scope_of_a_request(server: Server) -> None:
    with server.connect() as peer:
        port = peer.socket.getsockname()[1]
        found = scope_of(peer, "/scope/%C3%A4%2Fb?q=%20&x", ("X-Two", "1"), ("x-two", "\xe4"), method="PATCH")
    scope, types = found["scope"], found["types"]
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "PATCH", "http")
    assert (scope["path"], scope["raw_path"]) == ("/scope/ä/b", "/scope/%C3%A4%2Fb")
    assert (scope["query_string"], scope["root_path"]) == ("q=%20&x", "")
    assert scope["headers"] == [["host", "example.org"], ["x-two", "1"], ["x-two", "\xe4"]]
    assert scope["client"] == ["127.0.0.1", port]
    assert scope["server"] == list(server.address)
    assert scope["state"] == {"started": True, "shared": scope["state"]["shared"]}
    assert (types["path"], types["raw_path"], types["query_string"]) == ("str", "bytes", "bytes")
    assert types["headers"] == "list"


def test_extensions_are_what_the_version_can_do(server: Server) -> None:
    with server.connect() as peer:
        later = set(scope_of(peer, "/scope")["scope"]["extensions"])
    with server.connect() as peer:
        found = scope_of(peer, "/scope", version="1.0")["scope"]
    assert found["http_version"] == "1.0"
    assert set(found["extensions"]) == {"http.response.pathsend", "http.response.zerocopysend"}
    assert later - set(found["extensions"]) == {
        "http.response.early_hint",
        "http.response.informational",
        "http.response.trailers",
    }


def test_absolute_target_gives_its_path(server: Server) -> None:
    with server.connect() as peer:
        found = scope_of(peer, "http://example.org/scope?a=b")["scope"]
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/scope", "/scope", "a=b")


def test_scheme_of_a_trusted_proxy(server: Server) -> None:
    with server.connect() as peer:
        assert scope_of(peer, "/scope", ("X-Forwarded-Proto", "https"))["scope"]["scheme"] == "https"


@pytest.mark.parametrize("size", [0, 1, 5000, 100_000, 1_000_000])
def test_body_comes_as_it_was_sent(server: Server, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    with server.connect() as peer:
        assert peer.request("POST", "/echo", body=data).body == data
        assert peer.request("POST", "/echo", body=[data[:7], data[7:]] if size > 7 else data).body == data


def test_small_body_is_one_piece(server: Server) -> None:
    with server.connect() as peer:
        assert json.loads(peer.request("POST", "/pieces", body=b"x" * 100).text) == [100]


@pytest.mark.parametrize("status", [200, 201, 404, 418, 503, 599])
def test_status_has_its_reason(server: Server, status: int) -> None:
    with server.connect() as peer:
        answer = peer.get(f"/status/{status}")
        assert (answer.status, answer.body) == (status, b"body")
        assert bool(answer.reason) == (status != 599)


@pytest.mark.parametrize("status", [204, 304])
def test_no_body_where_there_is_none(server: Server, status: int) -> None:
    with server.connect() as peer:
        assert peer.get(f"/status/{status}").body == b""
        assert peer.get("/").body == b"Hello, world!"


def test_head_has_no_body(server: Server) -> None:
    with server.connect() as peer:
        answer = peer.request("HEAD", "/counted/13/13")
        assert (answer.header("content-length"), answer.body) == ("13", b"")
        assert peer.get("/").body == b"Hello, world!"


def test_http10_ends_with_the_connection(server: Server) -> None:
    with server.connect() as peer:
        answer = peer.request("GET", "/chunks/3/10/0.001", version="1.0")
        assert (answer.framing, answer.body) == ("close", b"x" * 30)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("body-first", "RuntimeError: unexpected ASGI event, http.response.body: http.response.start must come first"),
        ("twice", "RuntimeError: unexpected ASGI event, http.response.start: the response has been started"),
        ("no-type", "ValueError: an ASGI event needs the key 'type'"),
        ("not-a-dict", "TypeError: an ASGI event must be a dict, not ['http.response.start']"),
        ("unknown", "RuntimeError: unexpected ASGI event 'http.response.dance' for an HTTP request"),
        ("websocket", "RuntimeError: unexpected ASGI event 'websocket.accept' for an HTTP request"),
        ("no-status", "ValueError: http.response.start needs the key 'status'"),
        ("status-text", "TypeError: 'status' must be an int, not '200'"),
        ("status-range", "ValueError: 'status' must be 200 to 999, not 99"),
        ("name-text", "TypeError: header name must be a byte string, not 'a'"),
        ("value-text", "TypeError: header value must be a byte string, not 'b'"),
        ("newline", "ValueError: invalid header value: b'b\\r\\nc: d'"),
        ("triple", "TypeError: header must be a pair [name, value], not (b'a', b'b', b'c')"),
        ("number", "TypeError: header must be a pair [name, value], not 1"),
        (
            "trailers",
            "RuntimeError: unexpected ASGI event, http.response.trailers: http.response.start must come first",
        ),
    ],
)
def test_wrong_events_are_refused_and_change_nothing(server: Server, what: str, text: str) -> None:
    with server.connect() as peer:
        assert peer.get(f"/wrong/{what}").text == text
        assert peer.get("/").body == b"Hello, world!"


def test_body_must_be_bytes(server: Server) -> None:
    assert server.get("/body-text").text == "'body' of http.response.body must be bytes, not str"
    assert server.get("/buffers").text == "array view"


def test_body_longer_than_promised_fails_before_it_is_sent(server: Server) -> None:
    with server.connect() as peer:
        assert peer.get("/counted/3/4").status == 500
    server.wait_for_log("longer than its Content-Length: 4 bytes, 3 promised")


def test_body_shorter_than_promised_fails(server: Server) -> None:
    with server.connect() as peer:
        assert peer.get("/counted/4/3").status == 500
    server.wait_for_log("shorter than its Content-Length: 3 bytes, 4 promised")


def test_exception_before_anything_was_sent_is_a_500(server: Server) -> None:
    with server.connect() as peer:
        for when in ("at-once", "after-head"):
            assert peer.get(f"/fails/{when}?query").status == 500
            server.wait_for_log(rf"Error handling request GET /fails/{when}\?query\nTraceback")
            server.wait_for_log(f"ValueError: raised {when}")
        assert peer.get("/").body == b"Hello, world!"


def test_exception_in_the_body_cuts_it(server: Server) -> None:
    with server.connect() as peer, pytest.raises(ConnectionLost) as lost:
        peer.get("/fails/after-piece")
    assert lost.value.received.endswith(b"piece")
    server.wait_for_log("ValueError: raised after-piece")


def test_exception_after_the_end_is_only_logged(server: Server) -> None:
    with server.connect() as peer:
        assert peer.get("/fails/after-end").body == b"whole"
        server.wait_for_log("ValueError: raised after-end")
        assert peer.get("/").body == b"Hello, world!"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/silent", "returned without starting a response GET /silent"),
        ("/silent/half", "returned without completing the response GET /silent/half"),
    ],
)
def test_no_response_is_an_error(server: Server, path: str, text: str) -> None:
    assert server.get(path).status == 500
    server.wait_for_log(text)


def test_receive_and_send_after_the_end(server: Server) -> None:
    assert server.get("/after-end").text == "first"
    wait_for(lambda: {"receive: http.disconnect", "send: RuntimeError"} <= set(seen(server)))


def test_trailers(server: Server) -> None:
    with server.connect() as peer:
        peer.send(b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
        raw = peer.rest()
    assert raw.endswith(b"\r\nd\r\nwith trailers\r\n0\r\nx-first: 1\r\nx-second: 2\r\n\r\n")


def test_early_hints(server: Server) -> None:
    answer = server.get("/early-hint")
    first, second = answer.informational
    assert (first.status, first.all("link")) == (103, ["</a.css>; rel=preload", "</b.js>; rel=preload"])
    assert (second.status, second.header("x-hint")) == (103, "yes")
    assert answer.text == "final"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_path_send(server: Server, size: int) -> None:
    with server.connect() as peer:
        assert peer.get(f"/path-send/{size}").body == bytes(number % 251 for number in range(size))
        assert peer.get("/").body == b"Hello, world!"


def test_zero_copy_send(server: Server) -> None:
    content = bytes(number % 251 for number in range(100_000))
    assert server.get("/zero-copy").body == b"<" + content[10:30] + b"|" + content[-10:]


def test_context_and_state_are_each_requests_own(server: Server) -> None:
    with server.connect() as peer:
        assert [peer.get("/variable").text for _ in range(3)] == ["fresh"] * 3
        before = json.loads(peer.get("/state").text)
        after = json.loads(peer.get("/state").text)
    assert before[0] == after[0] == ["mine", "shared", "started"]
    assert after[1] == before[1] + 1
    assert "mine" not in json.loads(server.get("/scope").text)["scope"]["state"]


def test_access_log(server: Server) -> None:
    server.get("/status/201?logged")
    wait_for(lambda: [line for line in server.access_log if '"GET /status/201?logged HTTP/1.1" 201 4' in line])
