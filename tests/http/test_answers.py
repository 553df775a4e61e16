"""Answers that no application can spoil: what it says of the message is checked, of the connection not believed.

Each case is a status, headers and pieces of a body, and goes through a WSGI and an ASGI application alike. A second
request follows on the heels of each: either it gets its own answer, or the connection has ended with the first. There
is nothing in between.
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from time import time

import pytest

from tests.support.greenlets import GEVENT
from tests.support.http import Answer, BadAnswer, ConnectionLost, encode
from tests.support.server import Kind

WSGI = """
import json


def application(environ, start_response):
    case = json.loads(bytes.fromhex(environ["QUERY_STRING"]) or "{}")
    pairs = lambda name: [tuple(pair) for pair in case.get(name, [])]
    if "hints" in case:
        environ["wsgi.early_hints"](pairs("hints"))
    if "trailers" in case:
        environ["oxicorn.send_trailers"](pairs("trailers"))
    start_response(case.get("status", "200 OK"), pairs("headers"))
    pieces = [piece.encode() for piece in case.get("pieces", ["body"])]
    return pieces if len(pieces) == 1 else iter(pieces)
"""

ASGI = """
import asyncio, json


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    case = json.loads(bytes.fromhex(scope["query_string"].decode()) or "{}")
    pairs = lambda name: [(key.encode("latin-1"), value.encode("latin-1")) for key, value in case.get(name, [])]
    if "hints" in case:
        event = "http.response.informational"
        await send({"type": event, "status": 103, "headers": pairs("hints")})
    status, trailers = int(case.get("status", "200").partition(" ")[0]), "trailers" in case
    await send({"type": "http.response.start", "status": status, "headers": pairs("headers"), "trailers": trailers})
    pieces = case.get("pieces", ["body"])
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        await send({"type": "http.response.body", "body": piece.encode(), "more_body": not last})
        # Pieces leave one by one.
        await asyncio.sleep(0.01)
    if trailers:
        await send({"type": "http.response.trailers", "headers": pairs("trailers")})
"""

TE = [("TE", "trailers"), ("Connection", "TE")]
#: Whatever ends a line in anybody's eyes, or a string.
ENDS = {"CRLF": "\r\n", "CR": "\r", "LF": "\n", "NUL": "\0"}


@pytest.fixture(autouse=True)
def oxicorn_only(kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn has neither the same answers here nor keep-alive in its default class")


@pytest.fixture(scope="module", params=["sync", GEVENT, "asgi"])
def server(request, serve_module):
    app = ASGI if request.param == "asgi" else WSGI
    return serve_module(app, "--worker-class", request.param, "--keep-alive", "20")


def ask(
    server, method: str = "GET", version: str = "1.1", request_headers=(), fails: bool = False, **case: object
) -> Answer | None:
    """The answer to a case, None if the connection ended in the middle of it. A second request is sent with it.

    An application that ``fails`` may do so after all of its answer has left: the connection ends then.
    """
    target = "/?" + json.dumps(case).encode().hex()
    with server.connect() as peer:
        peer.send(encode(method, target, request_headers, version=version) + encode(target="/?"))
        try:
            answer = peer.answer(method)
        except ConnectionLost:
            return None
        if answer.keeps_connection:
            try:
                second = peer.answer()
            except ConnectionLost as lost:
                if fails and not lost.received:
                    return answer
                raise
            assert (second.status, second.body) == (200, b"body"), "the next answer is the next one's own"
        else:
            assert peer.rest() == b"", "nothing follows an answer that ends the connection"
        return answer


def is_wsgi(server) -> bool:
    return "asgi" not in server.command


# Splitting


@pytest.mark.parametrize("place", ["name", "value", "start of a value", "reason"])
@pytest.mark.parametrize("end", list(ENDS))
def test_head_cannot_be_split(server, place, end):
    bad = f"a{ENDS[end]}X-Injected: yes"
    headers = {"name": [(bad, "b")], "value": [("X-A", bad)], "start of a value": [("X-A", bad[1:] + bad)]}
    if place == "reason" and not is_wsgi(server):
        pytest.skip("ASGI has no reasons")
    status = f"200 {bad}" if place == "reason" else "200 OK"
    answer = ask(server, status=status, headers=headers.get(place, []))
    assert answer is not None
    assert (answer.status, answer.header("x-injected"), answer.header("x-a")) == (500, None, None)


@pytest.mark.parametrize("place", ["name", "value"])
@pytest.mark.parametrize("part", ["hints", "trailers"])
@pytest.mark.parametrize("end", list(ENDS))
def test_hints_and_trailers_cannot_be_split(server, end, part, place):
    bad = f"a{ENDS[end]}X-Injected: yes"
    pair = (bad, "b") if place == "name" else ("X-A", bad)
    answer = ask(server, request_headers=TE, **{part: [pair]})
    # Trailers of an ASGI application come when the head has left.
    assert answer is None or answer.status == 500
    assert answer is None or not answer.informational
    assert answer is not None or (part, is_wsgi(server)) == ("trailers", False)


@pytest.mark.parametrize("name", ["", "a b", "a:", "(a)", "\xe9"])
def test_names_are_tokens(server, name):
    answer = ask(server, headers=[(name, "b")])
    assert answer is not None
    assert answer.status == 500


# What the server says itself


def test_date_and_server_are_the_servers_own(server):
    answer = ask(server, headers=[("Date", "yesterday"), ("dAtE", "today"), ("Server", "mine"), ("SERVER", "yours")])
    assert answer is not None
    assert (answer.status, answer.header("server")) == (200, "oxicorn")
    assert abs(parsedate_to_datetime(answer.header("date")).timestamp() - time()) < 3


HOP_BY_HOP = [
    ("Connection", "upgrade"),
    ("Connection", "X-Kept"),
    ("Keep-Alive", "timeout=1000"),
    ("Proxy-Connection", "close"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "Basic eA=="),
    ("TE", "trailers"),
    ("Trailers", "X-Sum"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"),
    ("Transfer-Encoding", "identity"),
    ("Upgrade", "websocket"),
]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
@pytest.mark.parametrize("header", HOP_BY_HOP, ids=lambda header: ": ".join(header))
def test_headers_of_the_connection_are_not_the_applications(server, header, pieces, version):
    answer = ask(server, version=version, headers=[header, ("X-Kept", "yes")], pieces=pieces)
    assert answer is not None
    assert (answer.status, answer.body, answer.header("x-kept")) == (200, b"body", "yes")
    own = {"connection": "keep-alive" if version == "1.1" else "close"}
    if answer.framing == "chunked":
        own["transfer-encoding"] = "chunked"
    names = {name.lower() for name, _ in [*HOP_BY_HOP]}
    assert {name.lower(): value for name, value in answer.headers if name.lower() in names} == own


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
@pytest.mark.parametrize("value", ["close", "Close", "X-Kept, close"])
def test_application_may_end_the_connection(server, value, pieces):
    answer = ask(server, headers=[("connection", value)], pieces=pieces)
    assert answer is not None
    assert (answer.status, answer.body, answer.all("connection")) == (200, b"body", ["close"])
    assert not answer.keeps_connection


# No body


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"], [""]], ids=["whole", "pieces", "none"])
@pytest.mark.parametrize(
    "headers",
    [[], [("Content-Length", "4")], [("Content-Length", "0")], [("Transfer-Encoding", "chunked")]],
    ids=["plain", "counted", "empty", "chunked"],
)
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "205 Reset Content", "200 OK"])
def test_no_body_where_there_is_none(server, status, headers, pieces):
    """204 and 304 by any method, everything by HEAD: where a byte more came, the second answer would be malformed."""
    for method in ("GET", "HEAD") if status[:3] in ("204", "304") else ("HEAD",):
        answer = ask(server, method, status=status, headers=headers, pieces=pieces)
        if answer is None:
            # Too much or too little of what it promised; nothing but a clean end is wrong.
            continue
        assert answer.status in (int(status[:3]), 500)
        assert answer.header("transfer-encoding") is None
        if answer.status == 204:
            assert answer.header("content-length") is None


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"], [""]], ids=["whole", "pieces", "none"])
def test_reset_content_is_empty(server, pieces):
    answer = ask(server, status="205 Reset Content", pieces=pieces)
    assert answer is not None
    assert (answer.status, answer.body, answer.header("content-length")) == (205, b"", "0")


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "102 Processing", "103 Early Hints"])
def test_informational_status_is_no_answer(server, status):
    answer = ask(server, status=status, headers=[("Upgrade", "x"), ("Connection", "upgrade")])
    assert answer is not None
    assert (answer.status, answer.informational) == (500, [])


@pytest.mark.parametrize("status", ["000 None", "099 Low", "99", "-20", "abc", "2000", "", "1000 High"])
def test_what_is_no_status_is_an_error(server, status):
    answer = ask(server, status=status)
    assert answer is not None
    assert answer.status == 500


def test_hints_have_no_framing(server):
    hints = [("Link", "</a>"), ("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Connection", "close")]
    answer = ask(server, hints=hints)
    assert answer is not None
    assert [(hint.status, hint.headers) for hint in answer.informational] == [(103, [("Link", "</a>")])]


# Lengths


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
@pytest.mark.parametrize("length", ["5", "100000000"])
def test_less_than_promised_never_passes_for_a_whole(server, length, pieces):
    answer = ask(server, headers=[("Content-Length", length)], pieces=pieces)
    assert answer is None or answer.status == 500


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"], ["b", "o", "d", "y"]], ids=["whole", "two", "four"])
@pytest.mark.parametrize("length", ["0", "1", "3"])
def test_more_than_promised_never_reaches_the_next_answer(server, length, pieces):
    answer = ask(server, headers=[("Content-Length", length)], pieces=pieces, fails=not is_wsgi(server))
    assert answer is None or answer.status == 500 or answer.body == b"body"[: int(length)]


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
def test_equal_lengths_are_one(server, pieces):
    answer = ask(server, headers=[("Content-Length", "4"), ("content-length", "4")], pieces=pieces)
    assert answer is not None
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"body", "4")


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
@pytest.mark.parametrize(
    "lengths",
    [["4", "5"], ["5", "4"], ["4, 4"], ["4", "x"], ["-4"], ["+4"], ["4.0"], ["0x4"], [""], ["9" * 30], ["\xb2"]],
)
def test_lengths_that_contradict_or_are_none_are_errors(server, lengths, pieces):
    answer = ask(server, headers=[("Content-Length", length) for length in lengths], pieces=pieces)
    assert answer is not None
    assert answer.status == 500


@pytest.mark.parametrize("pieces", [["body"], ["bo", "dy"]], ids=["whole", "pieces"])
def test_length_counts_and_not_the_coding(server, pieces):
    answer = ask(server, headers=[("Transfer-Encoding", "chunked"), ("Content-Length", "4")], pieces=pieces)
    assert answer is not None
    assert (answer.status, answer.body, answer.framing) == (200, b"body", "length")


def test_client_of_these_tests_would_notice(server):
    """The same client refuses what a spoiled answer would look like."""
    with server.connect() as peer:
        peer.buffer = b"HTTP/1.1 200 OK\r\nX-A: a\rX-Injected: yes\r\n\r\n"
        with pytest.raises(BadAnswer):
            peer.answer()
