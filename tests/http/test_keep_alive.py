"""When a connection stays open, when it does not, and that both sides always agree about it."""

from __future__ import annotations

import pytest

from tests.http.conftest import WORKERS
from tests.support.greenlets import GEVENT
from tests.support.http import encode


def test_connection_is_kept(server):
    with server.connect() as peer:
        for _ in range(20):
            answer = peer.get("/hello")
            assert answer.body == b"hello"
            assert answer.keeps_connection


def test_connection_is_kept_after_every_framing(server):
    with server.connect() as peer:
        for target in ("/returns_list", "/returns_generator", "/returns_file", "/empty_list", "/no_content"):
            assert peer.get(target).keeps_connection, target
        assert peer.request("HEAD", "/returns_generator").keeps_connection
        assert peer.request("POST", "/reads_input", body=b"abc").body == b"abc"
        assert peer.request("POST", "/measures_input", body=[b"abc", b"def"]).status == 200
        assert peer.get("/raises_at_once").status == 500


def test_client_ends_the_connection(server):
    with server.connect() as peer:
        answer = peer.get("/hello", [("Connection", "close")])
        assert answer.body == b"hello"
        assert answer.header("connection").lower() == "close"
        assert peer.is_closed(within=5)


def test_close_is_found_in_any_case(server):
    with server.connect() as peer:
        assert peer.get("/hello", [("Connection", "Close")]).body == b"hello"
        assert peer.is_closed(within=5)


@pytest.mark.parametrize("options", ["close, TE", "TE, close", "x-option,close"])
def test_close_is_found_in_a_list_of_options(server, options):
    with server.connect() as peer:
        assert peer.get("/hello", [("Connection", options), ("TE", "trailers")]).body == b"hello"
        assert peer.is_closed(within=5)


def test_http_1_0_connection_ends(server):
    with server.connect() as peer:
        answer = peer.request("GET", "/hello", version="1.0")
        assert answer.body == b"hello"
        assert peer.is_closed(within=5)


def test_http_1_0_connection_is_kept_on_request(server):
    with server.connect() as peer:
        for _ in range(3):
            answer = peer.request("GET", "/hello", [("Connection", "keep-alive")], version="1.0")
            assert answer.body == b"hello"
            assert answer.header("connection").lower() == "keep-alive"


def test_http_1_0_without_length_ends_with_the_connection(server):
    with server.connect() as peer:
        answer = peer.request("GET", "/returns_generator", [("Connection", "keep-alive")], version="1.0")
        assert (answer.framing, answer.body) == ("close", b"onetwo")


def test_http_1_0_without_host_is_answered(server):
    with server.connect() as peer:
        peer.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert peer.answer().body == b"hello"


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_idle_connection_is_closed_after_keepalive(serve, worker):
    server = serve(None, "--keep-alive", "2", *WORKERS[worker], spec="matrix")
    with server.connect() as peer:
        assert peer.get("/hello").keeps_connection
        assert not peer.is_closed(within=0.5)
        assert peer.is_closed(within=10)


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_keepalive_0_closes_after_each_answer(serve, worker):
    server = serve(None, "--keep-alive", "0", *WORKERS[worker], spec="matrix")
    with server.connect() as peer:
        answer = peer.get("/hello")
        assert not answer.keeps_connection
        assert peer.is_closed(within=5)


# Pipelining


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as peer:
        bodies = [b"%d" % number * 5 for number in range(30)]
        peer.send(b"".join(encode("POST", "/reads_input", body=body) for body in bodies))
        assert [peer.answer().body for _ in bodies] == bodies


def test_pipelined_in_a_trickle(server):
    with server.connect() as peer:
        data = encode("POST", "/reads_input", body=b"first") + encode("POST", "/reads_input", body=[b"se", b"cond"])
        peer.send_slowly(data, step=7)
        assert [peer.answer().body for _ in range(2)] == [b"first", b"onetwo"]


def test_pipelined_after_a_large_answer(server):
    with server.connect() as peer:
        peer.send(encode(target="/big?3000000") + encode(target="/hello"))
        assert len(peer.answer().body) == 3_000_000
        assert peer.answer().body == b"hello"


def test_nothing_is_answered_after_the_last_request(server):
    with server.connect() as peer:
        last = encode(target="/hello", headers=[("Connection", "close")])
        peer.send(last + encode(target="/hello"))
        assert peer.answer().body == b"hello"
        assert peer.rest() == b""


def test_pipelined_with_a_bad_one_answers_the_good_ones_first(server):
    with server.connect() as peer:
        peer.send(encode(target="/hello") + b"BAD\r\n\r\n" + encode(target="/hello"))
        assert peer.answer().body == b"hello"
        answer = peer.answer()
        assert (answer.status, answer.keeps_connection) == (400, False)
        assert peer.rest() == b""


def test_half_closed_client_still_gets_its_answers(server):
    with server.connect() as peer:
        peer.send(encode(target="/hello") + encode(target="/returns_generator"))
        peer.half_close()
        assert peer.answer().body == b"hello"
        assert peer.answer().body == b"onetwo"
        assert peer.rest() == b""


def test_empty_line_before_a_request_is_skipped(server):
    """RFC 9112, 2.2: old clients send one after a body."""
    with server.connect() as peer:
        peer.send(encode("POST", "/reads_input", body=b"abc") + b"\r\n" + encode(target="/hello"))
        assert peer.answer().body == b"abc"
        assert peer.answer().body == b"hello"
