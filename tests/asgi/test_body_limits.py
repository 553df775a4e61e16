"""Streamed bodies that are too long, too slow, malformed or abandoned: what client, application and logs are told.

The application has the request already, and may have begun to answer. Whatever ends the body ends the request: the
application hears ``http.disconnect``, its place is free again, and nothing that follows on the connection is believed.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct

import pytest

from tests.support.http import chunk
from tests.support.wait import stays, wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")

LIMIT = 100_000
#: Seconds in which so many bytes must come.
SPAN, RATE = 1, 1000
#: Places for requests: a place that is not given back is soon missing.
PLACES = 4
CONFIG = f"""
limit_request_body = {LIMIT}
body_memory = 100
body_timeout = write_timeout = {SPAN}
body_min_rate = {RATE}
worker_connections = {PLACES}
keepalive = 20
"""

APP = """
    import asyncio, json

    running, told, received = set(), [], 0

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/told":
            facts = {"running": len(running), "told": told, "received": received}
            return await answer(send, json.dumps(facts).encode())
        me = object()
        running.add(me)
        try:
            await serve(scope, receive, send)
        finally:
            running.discard(me)

    async def serve(scope, receive, send):
        global received
        if scope["path"] == "/early":
            await start(send)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if scope["path"] == "/deaf":
            await asyncio.sleep(2.5)
        if scope["path"] == "/speaks":
            await start(send)
            for _ in range(40):
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            await asyncio.sleep(2.5)
        size = 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                told.append(size)
                return
            size += len(event["body"])
            received += len(event["body"])
            if not event["more_body"]:
                break
        if scope["path"] in ("/early", "/speaks"):
            await send({"type": "http.response.body", "body": b"%d" % size})
        else:
            await answer(send, b"%d" % size)

    async def answer(send, body):
        await start(send)
        await send({"type": "http.response.body", "body": body})

    async def start(send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
"""

HEAD = "POST {} HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
COUNTED = HEAD + "Content-Length: {}\r\n\r\n"
LOST = (BrokenPipeError, ConnectionResetError)


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--worker-class", "asgi", config=CONFIG, access_log=True, ready="/told")


@pytest.fixture
def told(server):
    """``told()``: the sizes at which applications of this test heard of a disconnect, once all have ended."""
    before = len(facts(server)["told"])

    def ended():
        now = facts(server)
        return now["running"] == 0 and now["told"][before:]

    return lambda: wait_for(ended, what=lambda: f"a disconnect: {server.get('/told').body!r}")


@pytest.fixture
def lines(server):
    """``lines(pattern)``: the line of the access log about this test's one request, once it is there."""
    before = len(server.access_log)

    def about(pattern):
        found = wait_for(
            lambda: [line for line in server.access_log[before:] if re.search(pattern, line)],
            what=lambda: f"{pattern} in {server.access_log[before:]}",
        )
        assert len(found) == 1, found
        return found[0]

    return about


def facts(server):
    return json.loads(server.get("/told").body)


def send_on(peer, data):
    """Sends until the connection is gone, as who does not listen does."""
    for _ in range(1000):
        try:
            peer.send(data)
        except LOST:
            return
    pytest.fail("nobody ended the connection")


def test_body_announced_as_too_long_is_refused_before_the_application_hears_of_it(server, lines):
    with server.connect() as peer:
        peer.send(COUNTED.format("/announced", LIMIT + 1).encode() + bytes(LIMIT // 2))
        answer = peer.answer("POST")
        assert (answer.status, answer.keeps_connection) == (413, False)
        # In order, although half of it was never asked for.
        assert peer.rest() == b""
    assert '"POST /announced HTTP/1.1" 413 ' in lines("announced")
    assert facts(server)["running"] == 0


def test_chunked_body_that_grows_too_long_is_answered_with_413(server, told, lines):
    with server.connect() as peer:
        peer.send(CHUNKED.format("/grows").encode())
        for _ in range(LIMIT // 10_000):
            peer.send(chunk(bytes(10_000)))
        peer.send(chunk(b"x"))
        answer = peer.answer("POST")
        assert (answer.status, answer.keeps_connection) == (413, False)
        peer.send(chunk(bytes(10_000)))
        assert peer.rest() == b"", "what came after it is no request"
    assert len(told()) == 1
    assert '"POST /grows HTTP/1.1" 413 ' in lines("/grows")
    server.wait_for_log("WARNING.*Invalid request from ip=127.0.0.1: request body too large")


def test_body_that_grows_too_long_under_a_response_ends_it_visibly(server, told, lines):
    warnings = server.log.count("request body too large")
    with server.connect() as peer:
        peer.send(CHUNKED.format("/early").encode())
        for _ in range(LIMIT // 10_000):
            peer.send(chunk(bytes(10_000)))
        assert peer.head().status == 200
        peer.send(chunk(b"x"))
        assert peer.rest() == b"5\r\nbegun\r\n", "the end of the response was never written"
    assert len(told()) == 1
    assert '"POST /early HTTP/1.1" 200 5 ' in lines("/early")
    wait_for(lambda: server.log.count("request body too large") > warnings, what=lambda: server.log)


def test_client_that_goes_on_after_413_is_cut(server):
    with server.connect() as peer:
        peer.send(CHUNKED.format("/on").encode())
        send_on(peer, chunk(bytes(50_000)))


@pytest.mark.parametrize("form", ["counted", "chunked"])
def test_slow_body_is_answered_with_408(server, told, lines, form):
    head = COUNTED.format("/slow", 5000) if form == "counted" else CHUNKED.format("/slow")
    with server.connect() as peer:
        peer.send(head.encode())
        peer.socket.settimeout(0.05)
        while True:
            try:
                peer.send(b"x" if form == "counted" else b"1\r\nx\r\n")
                if peer._fill("waiting for an answer"):
                    break
            except TimeoutError:
                continue
        peer.socket.settimeout(10)
        answer = peer.answer("POST")
        assert (answer.status, answer.keeps_connection) == (408, False)
    assert told()
    assert '"POST /slow HTTP/1.1" 408 ' in lines("/slow")
    server.wait_for_log("WARNING.*Invalid request from ip=127.0.0.1: request body came too slowly")


@pytest.mark.parametrize("size", [50, 1000, 5000, 9000])
def test_what_comes_with_the_head_is_not_lost(server, size):
    """However little of a body may be kept in memory: one that is streamed is not put into a file."""
    with server.connect() as peer:
        peer.send(COUNTED.format("/begins", 10_000).encode() + bytes(size))
        wait_for(lambda: facts(server)["running"] == 1)
        peer.send(bytes(10_000 - size))
        assert peer.answer("POST").body == b"10000"


def test_slow_body_under_a_response_ends_it_visibly(server, told, lines):
    warnings = server.log.count("request body came too slowly")
    with server.connect() as peer:
        peer.send(COUNTED.format("/early", 5000).encode() + b"x")
        assert peer.head().status == 200
        assert peer.exactly(10) == b"5\r\nbegun\r\n"
        assert peer.is_closed(10)
    assert told() == [1]
    assert '"POST /early HTTP/1.1" 200 5 ' in lines("/early")
    wait_for(lambda: server.log.count("request body came too slowly") > warnings, what=lambda: server.log)


def test_application_that_does_not_ask_is_not_the_clients_slowness(server):
    """Both spans pass while nobody wants the body: whoever waits for 100 is told it late, and is in time."""
    with server.connect() as peer:
        peer.send((HEAD + "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n").format("/deaf").encode())
        assert peer.head().status == 100
        peer.send(b"body")
        assert peer.answer("POST").body == b"4"
    with server.connect() as peer:
        # More than is read ahead.
        peer.send(COUNTED.format("/deaf", LIMIT).encode() + bytes(LIMIT - 1))
        stays(lambda: not peer.buffer, 2 * SPAN + 0.2)
        peer.send(b"x")
        assert peer.answer("POST").body == str(LIMIT).encode()


def test_client_that_was_slow_to_read_is_not_slow_to_send(server):
    """It had to wait with its body all the time, and has read everything: nothing is owed in either direction."""
    with server.connect(receive_buffer=4096) as peer:
        peer.send(COUNTED.format("/speaks", LIMIT).encode() + bytes(LIMIT - 1))
        assert peer.head().status == 200
        read = 0
        while read < 4_000_000:
            size = int(peer._line("a chunk"), 16)
            peer.exactly(size + 2)
            read += size
        assert not peer.is_closed(2 * SPAN)
        peer.send(b"x")
        assert peer._line("a chunk") == b"6\r\n"
        assert peer.exactly(8) == b"100000\r\n"


def test_server_that_stops_does_not_wait_for_a_body_that_nobody_wants(serve):
    app = """
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"early"})
    """
    server = serve(app, "--worker-class", "asgi", "--graceful-timeout", "20")
    with server.connect() as peer:
        peer.send(COUNTED.format("/", 100_000).encode())
        assert peer.answer("POST").body == b"early"
        assert server.stop(deadline=5) == 0


def test_places_of_slow_bodies_are_free_again(server, told):
    peers = [server.connect() for _ in range(PLACES - 1)]
    for peer in peers:
        peer.send(COUNTED.format("/slow", 5000).encode() + b"x")
    assert told() == [1] * len(peers)
    for peer in peers:
        assert peer.answer("POST").status == 408
        peer.close()
    peers = [server.connect() for _ in range(PLACES - 1)]
    for peer in peers:
        peer.send(COUNTED.format("/fast", 1).encode())
    for peer in peers:
        peer.send(b"x")
    for peer in peers:
        assert peer.answer("POST").body == b"1"
        peer.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [(b"1;name=value\r\nx\r\n" * 64, 400), (b"0\r\n" + b"X-Trailer: value\r\n" * 128, 431), (b"1;a\r\r\n", 400)],
    ids=["chunk extensions", "trailers", "bare CR"],
)
def test_endless_framing_is_refused(server, told, lines, more, status):
    with server.connect() as peer:
        peer.send(CHUNKED.format("/framing").encode() + chunk(b"good"))
        wait_for(lambda: facts(server)["running"] == 1)
        with contextlib.suppress(*LOST):
            for _ in range(50):
                peer.send(more)
        assert peer.answer("POST").status == status
    assert len(told()) == 1
    assert f'"POST /framing HTTP/1.1" {status} ' in lines("/framing")


@pytest.mark.parametrize("how", ["half close", "reset"])
@pytest.mark.parametrize("path", ["/gone", "/early"])
def test_client_that_goes_away_in_the_body(server, told, lines, path, how):
    before = facts(server)["received"]
    with server.connect() as peer:
        peer.send(CHUNKED.format(path).encode())
        peer.send(chunk(b"part"))
        wait_for(lambda: facts(server)["received"] == before + 4)
        if how == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        else:
            peer.half_close()
            assert b"\r\n0\r\n" not in peer.rest()
    assert told() == [4]
    status = {"/early": 200, "/gone": 499 if how == "reset" else 400}[path]
    assert f'"POST {path} HTTP/1.1" {status} ' in lines(path)


def test_other_expectations_are_refused(server, lines):
    with server.connect() as peer:
        peer.send((HEAD + "Content-Length: 4\r\nExpect: 100-continue, more\r\n\r\n").format("/expects").encode())
        answer = peer.answer("POST")
        assert (answer.status, answer.keeps_connection, answer.informational) == (417, False, [])
    assert " 417 " in lines("/expects")


def test_no_continue_once_the_body_has_begun_to_come(server):
    with server.connect() as peer:
        peer.send((HEAD + "Content-Length: 4\r\nExpect: 100-continue\r\n\r\nbo").format("/begun").encode())
        peer.send(b"dy")
        answer = peer.answer("POST")
        assert (answer.body, answer.informational) == (b"4", [])


def test_no_continue_for_http_1_0(server):
    with server.connect() as peer:
        peer.send(b"POST /old HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert not peer.is_closed(0.1)
        peer.send(b"body")
        answer = peer.answer("POST")
        assert (answer.body, answer.informational) == (b"4", [])


WRITTEN_IN_PYTHON = """
from oxicorn.glogging import Logger

class Mine(Logger):
    def now(self):
        return "[now]"

logger_class = Mine
"""


@pytest.mark.parametrize("path", ["/grows", "/early"])
def test_one_access_line_where_the_worker_writes_it(serve, path):
    server = serve(APP, "--worker-class", "asgi", config=CONFIG + WRITTEN_IN_PYTHON, access_log=True, ready="/told")
    with server.connect() as peer:
        peer.send(CHUNKED.format(path).encode())
        for _ in range(LIMIT // 10_000):
            peer.send(chunk(bytes(10_000)))
        if path == "/early":
            assert peer.head().status == 200
        peer.send(chunk(b"x"))
        peer.rest()
    wait_for(lambda: facts(server)["told"])
    # Whatever the worker writes, it has written before its next one.
    server.get("/last")
    wait_for(lambda: all(any(name in line for line in server.access_log) for name in ("/last", path)))
    status = 200 if path == "/early" else 413
    found = [line for line in server.access_log if path in line]
    assert len(found) == 1, found
    assert f'"POST {path} HTTP/1.1" {status} ' in found[0]
