"""What is refused with which status, Expect, and requests that end in the middle."""

from __future__ import annotations

import json

import pytest

from tests.support.http import encode

HOST = b"Host: x\r\n"

REFUSED = {
    "no-version": (b"GET /\r\n" + HOST + b"\r\n", 400),
    "http-2": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "http-0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "lower-case-version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "two-spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space-in-target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "relative-target": (b"GET hello HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "raw-byte-in-target": (b"GET /caf\xe9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "lower-case-method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bad-method": (b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bare-lf": (b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    "no-colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Bad\r\n\r\n", 400),
    "empty-name": (b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n", 400),
    "space-before-colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Bad : x\r\n\r\n", 400),
    "bad-name": (b"GET / HTTP/1.1\r\n" + HOST + b"X(Bad): x\r\n\r\n", 400),
    "nul-in-value": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Bad: \x00\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Bad: a\r\n b\r\n\r\n", 400),
    "two-hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "length-and-chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two-lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length-list": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "length-sign": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
    "length-hex": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "length-negative": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -3\r\n\r\nabc", 400),
    "length-huge": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc", 413),
    "chunked-1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "not-chunked-last": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "chunked-twice": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "identity": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "unknown-coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: wat\r\n\r\n", 501),
    "long-line": (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "many-headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 101 + b"\r\n", 431),
    "long-header": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"b" * 9000 + b"\r\n\r\n", 431),
    "other-expectation": (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: the-unexpected\r\n\r\n", 417),
}

BAD_CHUNKS = {
    "no-size": b"\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "space": b" 3\r\nabc\r\n0\r\n\r\n",
    "word": b"wat\r\nabc\r\n0\r\n\r\n",
    "no-end": b"3\r\nabcdef\r\n0\r\n\r\n",
    "bare-lf": b"3\nabc\n0\n\n",
    "huge": b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_with_its_status_and_the_connection_ends(server, case):
    request, status = REFUSED[case]
    with server.connect() as peer:
        peer.send(request)
        answer = peer.answer()
        assert answer.status == status
        assert not answer.keeps_connection
        assert peer.rest() == b""
    assert server.get("/hello").body == b"hello"


def test_missing_host_is_refused(server):
    """RFC 9112, 3.2."""
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.answer().status == 400


@pytest.mark.parametrize("target", ["/", "*", "http://x/"])
@pytest.mark.parametrize("host", [b"Host:\r\n", b"Host: :80\r\n"], ids=["empty", "port"])
def test_host_that_names_no_host_is_refused(server, target, host):
    """RFC 9110, 4.2.1."""
    method = b"OPTIONS" if target == "*" else b"GET"
    with server.connect() as peer:
        peer.send(method + b" " + target.encode() + b" HTTP/1.1\r\n" + host + b"\r\n")
        assert peer.answer().status == 400


CONNECT = b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"


def test_connect_is_not_implemented(server):
    """Whatever the application says to it: an answer of 200 would be a tunnel."""
    with server.connect() as peer:
        peer.send(CONNECT)
        answer = peer.answer("CONNECT")
        assert (answer.status, answer.reason) == (501, "Not Implemented")
        assert not answer.keeps_connection
        assert peer.rest() == b""


def test_connect_is_the_applications_where_it_is_asked_for(serve):
    server = serve(
        """
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            if environ["REQUEST_METHOD"] != "CONNECT":
                return [b"hello"]
            return [b"tunnel"]
        """,
        config="permit_connect = True",
    )
    with server.connect() as peer:
        peer.send(CONNECT)
        answer = peer.answer("CONNECT")
        assert answer.status == 200
        assert b"tunnel" in peer.rest()


@pytest.mark.parametrize("case", list(BAD_CHUNKS))
def test_bad_chunk_never_reads_as_a_body(server, case):
    with server.connect() as peer:
        peer.send(b"POST /measures_input HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[case])
        peer.half_close()
        refused = peer.rest()
    assert refused == b"" or refused.startswith(b"HTTP/1.1 400 ")
    assert server.get("/hello").body == b"hello"


def test_unterminated_line_is_refused_before_it_ends(server):
    with server.connect() as peer:
        peer.send(b"GET /" + b"x" * 20_000)
        assert peer.answer().status == 414


def test_limits_can_be_set(serve):
    server = serve(
        None,
        "--limit-request-line",
        "100",
        "--limit-request-fields",
        "5",
        "--limit-request-field_size",
        "200",
        spec="matrix",
    )
    assert server.get("/hello?" + "x" * 50).status == 200
    assert server.get("/hello?" + "x" * 100).status == 414
    assert server.get("/hello", [("X-A", "b")] * 4).status == 200
    assert server.get("/hello", [("X-A", "b")] * 5).status == 431
    assert server.get("/hello", [("X-A", "b" * 150)]).status == 200
    assert server.get("/hello", [("X-A", "b" * 250)]).status == 431


# Expect: 100-continue


def test_continue_is_sent_when_the_client_waits_for_it(server):
    with server.connect() as peer:
        peer.send(b"POST /reads_input HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert peer.head().status == 100
        peer.send(b"abc")
        assert peer.answer().body == b"abc"


def test_client_that_does_not_wait_gets_one_final_answer(server):
    with server.connect() as peer:
        peer.send(
            b"POST /reads_input HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
            + encode(target="/hello")
        )
        assert peer.answer().body == b"abc"
        answer = peer.answer()
        assert answer.body == b"hello"
        assert answer.informational == []


def test_http_1_0_client_is_never_told_to_continue(server):
    with server.connect() as peer:
        peer.send(b"POST /reads_input HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
        answer = peer.answer()
        assert (answer.body, answer.informational) == (b"abc", [])


# Requests that end in the middle


@pytest.mark.parametrize(
    "start",
    [
        b"POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST /state HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        b"POST /state HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
    ],
    ids=["counted", "in-chunk", "between-chunks"],
)
def test_truncated_upload_never_reaches_the_application(serve, start):
    server = serve("""
        calls = []
        def application(environ, start_response):
            calls.append(environ["REQUEST_METHOD"])
            environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [",".join(calls).encode()]
    """)
    before = server.get().body
    with server.connect() as peer:
        peer.send(start)
        peer.half_close()
        refused = peer.rest()
    assert refused == b"" or refused.startswith(b"HTTP/1.1 400 ")
    assert server.get().body == before + b",GET"


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x"])
def test_client_that_leaves_in_the_head_disturbs_nobody(server, data):
    errors = server.log.count("[ERROR]")
    for _ in range(5):
        with server.connect() as peer:
            peer.send(data)
    assert server.get("/hello").body == b"hello"
    assert server.log.count("[ERROR]") == errors


def test_absolute_target_and_options_star(server):
    same = server.get("http://other.example/hello", [("Host", "other.example")])
    assert same.body == b"hello"
    answer = server.request("OPTIONS", "*")
    assert answer.status in (200, 204, 500), "it is passed to the application"


def test_target_and_host_that_disagree_are_refused(server):
    """A proxy that routes by the one before an application that believes the other poisons caches."""
    assert server.get("http://other.example/hello", [("Host", "example.org")]).status == 400


def test_large_head_within_limits_arrives(server):
    headers = [(f"X-Header-{number}", "v" * 700) for number in range(90)]
    shown = json.loads(server.get("/shows_environ", headers).body)
    assert all(shown[f"HTTP_X_HEADER_{number}"] == "v" * 700 for number in range(90))
