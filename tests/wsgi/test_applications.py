"""PEP 3333 from the application's side: whatever it may return arrives, whatever it may not is a 500."""

from __future__ import annotations

import json

import pytest

from tests.support.applications import matrix
from tests.support.http import ConnectionLost
from tests.support.server import Server
from tests.support.wait import wait_for


def names(applications):
    return [application.__name__ for application in applications]


def closed(server: Server, name: str) -> int:
    return json.loads(server.get("/state").body)["closed"].count(name)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("prefix", ["", "valid/"])
@pytest.mark.parametrize("name", names(matrix.ALLOWED))
def test_allowed_application_is_answered(server, name, prefix, version):
    answer = server.request("GET", f"/{prefix}{name}", version=version)
    assert (answer.status, answer.body) == (200, b"onetwo"), server.log
    assert answer.header("content-type") == "text/plain"
    expected = "length" if answer.header("content-length") else {"1.0": "close", "1.1": "chunked"}[version]
    assert answer.framing == expected


@pytest.mark.parametrize("name", names(matrix.ALLOWED))
def test_head_has_the_head_of_get_and_no_body(server, name):
    with server.connect() as peer:
        answer = peer.request("HEAD", f"/{name}")
        assert (answer.status, answer.body) == (200, b"")
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
        else:
            assert peer.rest() == b""


@pytest.mark.parametrize("prefix", ["", "valid/"])
@pytest.mark.parametrize("name", names(matrix.EMPTY))
def test_empty_answer(server, name, prefix):
    if prefix and name in ("no_content", "not_modified"):
        prefix = ""  # wsgiref.validate knows no 304, and wants a type for it
    answer = server.get(f"/{prefix}{name}")
    assert answer.body == b""
    assert answer.status == {"no_content": 204, "not_modified": 304}.get(name, 200)
    if answer.status != 200:
        assert answer.header("transfer-encoding") is None
        assert answer.header("content-length") in (None, "0")


def test_validator_found_nothing(server):
    """wsgiref.validate tells about iterables that were never closed when they are collected."""
    before = server.log.count("AssertionError")
    for name in names(matrix.ALLOWED):
        server.get(f"/valid/{name}")
    assert "without being closed" not in server.log
    assert server.log.count("AssertionError") == before


def test_long_piece_leaves_in_few_messages(server):
    """A message is a chunk. How much is under way before the client has taken some of it is a megabyte."""
    size = 1024 * 1024
    answer = server.get(f"/big_piece?{size}")
    assert answer.chunks == [size // 2, size // 2]
    assert answer.body == b"x" * size


def test_head_has_a_bound(server):
    assert server.get("/big_head?200000").body == b"hello"
    assert server.get("/big_head?300000").status == 500
    server.wait_for_log(r"the response head is too large: \d+ bytes, and 262144 are allowed")


@pytest.mark.parametrize("name", ["no_content_with_body", "not_modified_with_body"])
def test_body_is_dropped_where_none_is_allowed(server, name):
    with server.connect() as peer:
        answer = peer.request("GET", f"/{name}")
        assert answer.status in (204, 304)
        assert answer.header("transfer-encoding") is None
        if answer.status == 204:
            assert answer.header("content-length") is None
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
        else:
            assert peer.rest() == b""


def test_replaced_head_leaves_nothing_of_the_first(server):
    answer = server.get("/replaces_head")
    assert answer.reason == "Replaced"
    assert answer.header("x-replaced") == "yes"
    assert answer.header("content-length") != "3"


def test_items_are_sent_when_they_are_made(server):
    """PEP 3333: no item may wait for the next."""
    path = server.directory / "go-on"
    path.unlink(missing_ok=True)
    with server.connect() as peer:
        peer.send(f"GET /waits_for_file?{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = peer.head()
        assert head.status == 200
        received = b""
        while b"one" not in received:
            received += peer.receive(100)
        assert b"two" not in received
        path.touch()
        assert b"two" in received + peer.receive(100)


def test_big_counted_body_arrives_whole(server):
    answer = server.get(f"/big?{5 * 1024 * 1024}")
    assert len(answer.body) == 5 * 1024 * 1024
    assert answer.framing == "length"


def test_big_generated_body_arrives_whole(server):
    answer = server.get("/big_generator?200")
    assert answer.body == b"".join(b"%06d" % number * 2000 for number in range(200))


# close()


def test_close_is_called_once_after_the_last_item(server):
    before = closed(server, "returns_iterator")
    server.get("/returns_iterator")
    wait_for(lambda: closed(server, "returns_iterator") == before + 1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "name",
    ["not_modified_with_body", "too_short", "raises_in_first_item", "raises_in_body", "raises_in_counted_body"],
)
def test_close_is_called_however_the_answer_ends(server, name, method):
    before = closed(server, name)
    with server.connect() as peer:
        peer.send(f"{method} /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        peer.rest()
    wait_for(lambda: closed(server, name) == before + 1)


def test_close_is_called_when_the_client_leaves(server):
    before = closed(server, "endless")
    with server.connect() as peer:
        peer.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.head().status == 200
        peer.receive(100)
    wait_for(lambda: closed(server, "endless") == before + 1)
    assert "Error handling request GET /endless" not in server.log, "a client that leaves is no error"


# Errors


@pytest.mark.parametrize("name", names(matrix.BROKEN))
def test_broken_application_is_a_500(server, name):
    answer = server.get(f"/{name}")
    assert answer.status == 500
    assert answer.reason == "Internal Server Error"
    assert b"never" not in answer.body
    assert b"Traceback" not in answer.body, "the client must not see the source"
    server.wait_for_log(rf"\[ERROR\] Error handling request GET /{name}|\[ERROR\] Error handling request /{name}")
    assert server.get("/").body == b"hello"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raises_at_once", "RuntimeError: raised at once"),
        ("raises_after_start", "RuntimeError: raised after start_response"),
        ("raises_in_body", "RuntimeError: raised in the body"),
        ("raises_in_counted_body", "RuntimeError: raised in the counted body"),
        ("replaces_sent_head", "ValueError: found out too late"),
    ],
)
def test_traceback_of_the_application_is_logged(server, name, text):
    before = server.log.count(text)
    with server.connect() as peer:
        peer.send(f"GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        peer.rest()
    wait_for(lambda: server.log.count(text) > before)
    assert f"in {name}" in server.log or "__next__" in server.log, "the traceback names the place"


@pytest.mark.parametrize("name", ["raises_in_body", "raises_in_counted_body", "replaces_sent_head"])
def test_error_after_the_head_ends_visibly_incomplete(server, name):
    with server.connect() as peer:
        with pytest.raises(ConnectionLost) as lost:
            peer.get(f"/{name}")
        assert lost.value.received.endswith(b"one")


def test_error_after_an_empty_item_is_still_a_500(server):
    """PEP 3333: the head is not sent before the first item that is not empty."""
    assert server.get("/raises_after_empty_item").status == 500


@pytest.mark.parametrize("name", list(matrix.BAD_HEADS))
def test_bad_head_is_a_500(server, name):
    answer = server.get(f"/bad_head?{name}")
    assert answer.status == 500
    assert answer.header("x-injected") is None
    assert answer.header("x-bad") is None
    assert server.get("/").body == b"hello"


def test_stop_iteration_closes_without_a_word(server):
    with server.connect() as peer:
        peer.send(b"GET /raises_stop_iteration HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.rest() == b""
    assert server.get("/").body == b"hello"
    # Of other tests' requests lines may still come.
    assert "/raises_stop_iteration" not in server.log


# Content-Length


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_more_than_promised_is_cut(server, method):
    with server.connect() as peer:
        answer = peer.request(method, "/too_long")
        assert answer.body == (b"one" if method == "GET" else b"")
        assert answer.header("content-length") == "3"
        if answer.keeps_connection:
            assert peer.get("/").body == b"hello"
        else:
            assert peer.rest() == b""


@pytest.mark.parametrize("name", ["too_short", "too_short_written"])
def test_less_than_promised_ends_the_connection(server, name):
    with server.connect(timeout=3) as peer:
        with pytest.raises(ConnectionLost) as lost:
            peer.get(f"/{name}")
        assert lost.value.received == b"onetwo"


# Headers


def test_headers_of_the_application_arrive_as_they_are(server):
    answer = server.get("/odd_headers")
    assert (answer.status, answer.reason) == (299, "Something Else")
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.header("x-between") == "padded"
    assert answer.header("x-latin") == "caf\xe9"
    assert answer.header("x-empty") == ""
    assert ("content-type", "text/plain") in answer.headers, "names keep their case"


def test_server_speaks_for_the_connection_not_the_application(server):
    answer = server.get("/hop_by_hop")
    assert answer.body == b"onetwo"
    assert answer.header("server") == server.kind.name
    assert answer.header("date") != "yesterday"
    assert answer.header("transfer-encoding") in (None, "chunked")
    assert answer.header("upgrade") is None
    for name in ("keep-alive", "proxy-authenticate", "te", "trailers"):
        assert answer.header(name) is None
    assert answer.header("x-kept") == "yes"


def test_date_is_now(server):
    from email.utils import parsedate_to_datetime
    from time import time

    sent = parsedate_to_datetime(server.get("/").header("date"))
    assert abs(sent.timestamp() - time()) < 3


# Early hints


@pytest.mark.parametrize("name", ["early_hints", "late_hints"])
def test_early_hints(server, name):
    answer = server.get(f"/{name}")
    assert answer.body == b"onetwo"
    hints = [(hint.status, hint.all("link")) for hint in answer.informational]
    expected = [(103, ["</style.css>; rel=preload"]), (103, ["</script.js>; rel=preload"])]
    assert hints == (expected if name == "early_hints" else [])


def test_http_1_0_gets_no_early_hints(server):
    answer = server.request("GET", "/early_hints", version="1.0")
    assert answer.body == b"onetwo"
    assert answer.informational == []


# wsgi.errors


def test_wsgi_errors_is_the_error_log(server):
    server.get("/writes_errors")
    for text in ("said to wsgi.errors", "first of errors", "second of errors"):
        server.wait_for_log(f"^{text}$")
