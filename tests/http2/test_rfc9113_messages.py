"""RFC 9113, section 8: requests and responses.

A malformed request (8.1.1) is reset with PROTOCOL_ERROR or answered 400, the connection goes on, and the application
never hears of it.
"""

from __future__ import annotations

import json

import pytest

from tests.support.http2 import NO_ERROR, PROTOCOL_ERROR, Http2, block, data, headers, request
from tests.support.wait import wait_for

pytestmark = pytest.mark.usefixtures("oxicorn_only")

METHOD, SCHEME, AUTHORITY = (":method", "GET"), (":scheme", "http"), (":authority", "localhost")


#: (rule, fields); a path of ``None`` is the row's own.
PATH = (":path", None)
ALL = [METHOD, SCHEME, PATH, AUTHORITY]
MALFORMED = [
    ("8.2 a name with a capital", [*ALL, ("X-Name", "1")]),
    ("8.2.1 a name with a space", [*ALL, ("x name", "1")]),
    ("8.2.1 a name with a control byte", [*ALL, ("x\x01name", "1")]),
    ("8.2.1 a name with DEL", [*ALL, ("x\x7fname", "1")]),
    ("8.2.1 a name beyond ASCII", [*ALL, (b"x-\xe9", "1")]),
    ("8.2.1 a name with a colon", [*ALL, ("x:name", "1")]),
    ("8.2.1 a name that is empty", [*ALL, ("", "1")]),
    ("8.2.1 a value with NUL", [*ALL, ("x-name", "a\0b")]),
    ("8.2.1 a value with CR", [*ALL, ("x-name", "a\rb")]),
    ("8.2.1 a value with LF", [*ALL, ("x-name", "a\nb: c")]),
    ("8.2.2 connection", [*ALL, ("connection", "close")]),
    ("8.2.2 proxy-connection", [*ALL, ("proxy-connection", "keep-alive")]),
    ("8.2.2 keep-alive", [*ALL, ("keep-alive", "timeout=5")]),
    ("8.2.2 transfer-encoding", [*ALL, ("transfer-encoding", "chunked")]),
    ("8.2.2 upgrade", [*ALL, ("upgrade", "websocket")]),
    ("8.2.2 te other than trailers", [*ALL, ("te", "gzip")]),
    ("8.3 an unknown pseudo-header", [*ALL, (":unknown", "1")]),
    ("8.3 one of responses", [*ALL, (":status", "200")]),
    ("8.3 one behind the others", [METHOD, SCHEME, PATH, ("x-name", "1"), AUTHORITY]),
    ("8.3 :method twice", [METHOD, *ALL]),
    ("8.3 :path twice", [*ALL[:3], PATH, AUTHORITY]),
    ("8.3 :scheme twice", [METHOD, SCHEME, SCHEME, PATH, AUTHORITY]),
    ("8.3 :authority twice", [*ALL, AUTHORITY]),
    ("8.3.1 no :method", [SCHEME, PATH, AUTHORITY]),
    ("8.3.1 no :scheme", [METHOD, PATH, AUTHORITY]),
    ("8.3.1 no :path", [METHOD, SCHEME, AUTHORITY]),
    ("8.3.1 a :path that is empty", [METHOD, SCHEME, (":path", ""), AUTHORITY]),
    ("8.3.1 a :path without a slash", [METHOD, SCHEME, (":path", "malformed"), AUTHORITY]),
    ("8.3.1 a star for another method", [METHOD, SCHEME, (":path", "*"), AUTHORITY]),
    ("8.3.1 :authority with a user", [METHOD, SCHEME, PATH, (":authority", "user@localhost")]),
    ("8.3.1 host says another", [*ALL, ("host", "other.example")]),
    ("8.3.1 a method that is none", [(":method", "GE T"), *ALL[1:]]),
    ("8.5 CONNECT with :path", [(":method", "CONNECT"), *ALL[1:]]),
    ("8.1.1 content-length without content", [(":method", "POST"), *ALL[1:], ("content-length", "5")]),
    ("8.1.1 content-length that is no number", [*ALL, ("content-length", "five")]),
    ("8.1.1 two lengths", [*ALL, ("content-length", "0"), ("content-length", "1")]),
    ("10.3 a space before the value's end", [*ALL, ("x-name", "value ")]),
    ("10.3 a space before the value", [*ALL, ("x-name", " value")]),
]


#: What cannot be a field of any message ends the connection, as an error of a stream may (5.4.1).
NO_FIELD = ("8.2 ", "8.2.1 ", "8.3 an unknown", "8.3.1 a method that is none")


@pytest.mark.parametrize("number", range(len(MALFORMED)), ids=[rule for rule, _ in MALFORMED])
def test_a_malformed_request(server, peer, number):
    rule, fields = MALFORMED[number]
    own = f"/malformed/{number}"
    stream = peer.open()
    peer.send(headers(stream, block([(name, own if value is None else value) for name, value in fields])))
    outcome = peer.outcome(stream)
    if rule.startswith(NO_FIELD) and outcome == ("goaway", PROTOCOL_ERROR):
        assert peer.ends() == PROTOCOL_ERROR
    else:
        assert outcome in (("reset", PROTOCOL_ERROR), ("status", 400)), rule
        assert peer.is_alive(), "an error of the stream alone"
    with Http2(server.address) as another:
        assert own not in json.loads(another.get("/seen").body), "the application has not seen it"


def malformed(peer: Http2, stream: int) -> bool:
    return peer.outcome(stream) in (("reset", PROTOCOL_ERROR), ("status", 400))


# 8.1


@pytest.mark.parametrize("lengths", [(3, 1), (6,), (5, 1)], ids=["short", "long at once", "long in the end"])
def test_content_of_another_length_than_was_said(peer, lengths):
    """8.1.1."""
    stream = peer.start("/length", "POST", [("content-length", "5")], end=False)
    for place, length in enumerate(lengths):
        peer.send(data(stream, b"x" * length, end=place == len(lengths) - 1))
    assert malformed(peer, stream)
    assert peer.is_alive()
    assert "/length" not in json.loads(peer.get("/seen").body)


def test_content_of_the_length_that_was_said(peer):
    assert json.loads(peer.get("/", "POST", [("content-length", "5")], b"hello").body)["body"] == 5
    assert json.loads(peer.get("/", "POST", [], b"hello").body)["CONTENT_LENGTH"] is None


def test_trailers_end_a_request(peer):
    stream = peer.start("/", "POST", [("trailer", "x-check")], end=False)
    peer.send(data(stream, b"hello"), headers(stream, [("x-check", "1")]))
    assert json.loads(peer.response(stream).body)["body"] == 5


@pytest.mark.parametrize(
    ("fields", "end"),
    [([("x-check", "1")], False), ([("X-Check", "1")], True), ([("te", "x")], True)],
    ids=["that do not end", "with a capital", "with te"],
)
def test_trailers_that_are_malformed(peer, fields, end):
    """8.1: a second head that does not end the request; 8.2."""
    stream = peer.start("/trailers", "POST", end=False)
    peer.send(data(stream, b"hello"), headers(stream, fields, end=end))
    assert peer.outcome(stream) in (("reset", PROTOCOL_ERROR), ("status", 400), ("goaway", PROTOCOL_ERROR))


def test_a_pseudo_header_among_trailers_means_nothing(peer):
    """8.3: the request is malformed; what reads the fields here drops it without a word, and nobody sees it."""
    stream = peer.start("/", "POST", end=False)
    peer.send(data(stream, b"hello"), headers(stream, [(":path", "/other"), ("x-check", "1")]))
    kind, code = peer.outcome(stream)
    if (kind, code) == ("status", 200):
        told = json.loads(peer.of(stream).body)
        assert (told["PATH_INFO"], told["trailers"]) == ("/", [["x-check", "1"]])
    else:
        assert (kind, code) in (("reset", PROTOCOL_ERROR), ("status", 400))


def test_a_field_behind_the_head_of_a_get(peer):
    """A body may be empty, and a request end with an empty DATA frame."""
    stream = peer.start(end=False)
    peer.send(data(stream, b""), data(stream, b"", end=True))
    assert peer.response(stream).status == 200


# 8.2.3


def test_cookies_in_crumbs_are_one_field(peer):
    found = peer.get(more=[("cookie", "a=1"), ("cookie", "b=2"), ("x-name", "1"), ("cookie", "c=3")])
    assert json.loads(found.body)["HTTP_COOKIE"] == "a=1; b=2; c=3"


# 8.3


def test_what_the_application_is_told(peer):
    found = peer.get("/a%20b?q=%31", more=[("x-name", "1"), ("x-name", "2"), ("te", "trailers")])
    told = json.loads(found.body)
    assert (told["REQUEST_METHOD"], told["PATH_INFO"], told["QUERY_STRING"]) == ("GET", "/a b", "q=%31")
    assert told["RAW_URI"] == "/a%20b?q=%31"
    assert (told["HTTP_HOST"], told["HTTP_X_NAME"], told["wsgi.url_scheme"]) == ("localhost", "1,2", "http")
    assert told["SERVER_PROTOCOL"].startswith("HTTP/2")


def test_host_stands_for_an_authority_that_is_missing(peer):
    stream = peer.open()
    peer.send(headers(stream, [METHOD, SCHEME, (":path", "/"), ("host", "shop.example")]))
    assert json.loads(peer.response(stream).body)["HTTP_HOST"] == "shop.example"


def test_options_of_the_server_itself(peer):
    """8.3.1: `*` is the path of OPTIONS without a path."""
    stream = peer.open()
    peer.send(headers(stream, request("*", "OPTIONS")))
    assert peer.outcome(stream) == ("status", 200)


def test_connect_is_not_permitted(peer):
    """8.5: nobody is made a proxy."""
    stream = peer.open()
    peer.send(headers(stream, [(":method", "CONNECT"), (":authority", "localhost:80")]))
    kind, code = peer.outcome(stream)
    assert kind == "reset" or code in (400, 405, 501)


def test_any_method_reaches_the_application(peer):
    assert json.loads(peer.get("/", "PROPFIND").body)["REQUEST_METHOD"] == "PROPFIND"


# Responses


def test_a_response_has_no_fields_of_the_connection(peer):
    """8.2.2; the client here refuses them, and capitals (8.2)."""
    found = peer.get("/fields")
    assert (found.status, found.body) == (200, b"fields")
    assert found.all("x-mixed-case") == ["Value"]


def test_a_response_says_who_and_when(peer):
    found = peer.get()
    assert len(found.all("date")) == 1
    assert found.all("server") == ["oxicorn"]


def test_head_has_no_content_and_says_its_length(peer):
    found = peer.get("/big?12345", "HEAD")
    assert (found.status, found.body, found.all("content-length")) == (200, b"", ["12345"])


@pytest.mark.parametrize(("path", "status"), [("/empty", 204), ("/unchanged", 304)])
def test_responses_without_content(peer, path, status):
    found = peer.get(path)
    assert (found.status, found.body) == (status, b"")


def test_fields_that_repeat_stay_apart(peer):
    assert peer.get("/cookies").all("set-cookie") == ["a=1", "b=2"]


def test_a_response_that_is_complete_resets_nothing(peer):
    """8.1: if at all, an early end is told with NO_ERROR."""
    found = peer.get("/big?100000")
    assert len(found.body) == 100_000
    assert found.reset in (None, NO_ERROR)


def test_expectations_are_met(peer):
    """8.1: 100 comes before the response, if the body has not begun."""
    stream = peer.start("/", "POST", [("expect", "100-continue")], end=False)
    peer.wait(lambda: bool(peer.of(stream).informational))
    assert peer.of(stream).informational[0][0] == (":status", "100")
    peer.send(data(stream, b"hello", end=True))
    assert json.loads(peer.response(stream).body)["body"] == 5


def test_the_access_log_has_each_request_once(server, peer):
    numbers = [peer.start(f"/logged/{number}") for number in range(5)]
    assert all(peer.response(number).status == 200 for number in numbers)
    for number in range(5):
        lines = _lines(server, f"GET /logged/{number} HTTP/2")
        assert len(lines) == 1
        assert '" 200 ' in lines[0]


def _lines(server, text: str) -> list[str]:
    return wait_for(lambda: [line for line in server.lines("access.log") if text in line])


# Limits


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (request("/" + "x" * 5000), 414),
        (request(more=[("x-long", "x" * 9000)]), 431),
        (request(more=[(f"x-{number}", "1") for number in range(200)]), 431),
    ],
    ids=["target", "field", "fields"],
)
def test_limits_are_answered_as_in_http1(server, peer, fields, status):
    """One place decides (limit_request_line, ..._field_size, ..._fields); the connection goes on."""
    stream = peer.open()
    peer.send(headers(stream, block(fields)))
    assert peer.outcome(stream) == ("status", status)
    assert peer.get().status == 200
