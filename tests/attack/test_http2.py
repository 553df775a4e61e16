"""HTTP/2 clients that mean harm: floods, bombs, stalls. Each has a bound; nobody else notices.

What a flood is ended by is GOAWAY with ENHANCE_YOUR_CALM and the end of the connection; what only stands still
is ended by the same deadlines as in HTTP/1.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator

import pytest

from tests.attack.conftest import CONFIG, DEADLINE
from tests.support import http2
from tests.support.http2 import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    PREFACE,
    PROTOCOL_ERROR,
    Http2,
    block,
    continuation,
    data,
    frame,
    headers,
    indexed,
    literal,
    ping,
    priority,
    request,
    rst_stream,
    settings,
    window_update,
)
from tests.support.server import Server
from tests.support.swarm import Swarm, gateway_descriptors, siege
from tests.support.wait import wait_for

HTTP2 = (
    CONFIG.replace('forwarded_allow_ips = ""', 'forwarded_allow_ips = "127.0.0.1"')
    + """
http_protocols = "h2,h1"
http2_cleartext = "both"
"""
)

CLIENTS = 20
TIMES = 5000
HELLO = PREFACE + settings()
GET = block(request("/hello"))
POST = block(request("/measures_input", "POST"))
#: Without END_HEADERS, so that more must follow.
HALF = headers(1, GET[:10], end_headers=False)
OPEN = headers(1, POST, end=False)


@pytest.fixture(scope="module")
def server(serve_module) -> Server:
    """As the others here, for clients that begin with HTTP/2."""
    return serve_module(
        None, "--worker-class", "gthread", "--threads", "4", spec="matrix", config=HTTP2, access_log=True
    )


def streams(*frames: object) -> bytes:
    """For each new stream the frames that are made of its number."""
    return b"".join(make(number) for number in range(1, 2 * TIMES, 2) for make in frames)  # type: ignore[operator]


FLOODS = {
    "requests that are reset at once": lambda: streams(lambda n: headers(n, GET), rst_stream),
    "uploads that are reset at once": lambda: streams(lambda n: headers(n, POST, end=False), rst_stream),
    "requests that make the server reset": lambda: streams(lambda n: headers(n, GET), lambda n: window_update(n, 0)),
    "malformed requests": lambda: streams(lambda n: headers(n, GET + literal("connection", "close"))),
    "a head without an end": lambda: HALF + continuation(1, bytes(16_384), end_headers=False) * 500,
    "a head in pieces of nothing": lambda: HALF + continuation(1, b"", end_headers=False) * (10 * TIMES),
    "a head in pieces of a byte": lambda: HALF + continuation(1, b"x", end_headers=False) * (10 * TIMES),
    "SETTINGS": lambda: settings() * TIMES,
    "SETTINGS with many in each": lambda: settings(*[(4, 1000 + number) for number in range(100)]) * TIMES,
    "PING": lambda: ping() * TIMES,
    "PRIORITY": lambda: priority(1) * TIMES,
    "DATA of nothing": lambda: OPEN + data(1) * TIMES,
    "DATA of nothing but padding": lambda: OPEN + data(1, pad=0) * TIMES,
    "frames of no kind": lambda: frame(99) * TIMES,
    "WINDOW_UPDATE": lambda: OPEN + window_update(1, 1) * (10 * TIMES),
}


#: What breaks a rule before it is a flood.
BROKEN = {"requests that make the server reset", "a head without an end"}


class Flood:
    """What is sent to each of many connections, as far as the server takes it."""

    def __init__(self, swarm: Swarm, sent: bytes) -> None:
        self.swarm = swarm
        self.left = dict.fromkeys(swarm.sockets, memoryview(sent))
        self.received = dict.fromkeys(swarm.sockets, b"")

    def go_on(self, reads: bool = True) -> bool:
        """Sends and reads what can be at once; whether something could."""
        went = False
        for peer, rest in list(self.left.items()):
            if reads:
                went = self._read(peer) or went
            try:
                count = peer.send(rest[:65_536])
            except BlockingIOError:
                continue
            except OSError:
                del self.left[peer]
                continue
            went = True
            self.left[peer] = rest[count:]
            if not self.left[peer]:
                del self.left[peer]
        return went

    def _read(self, peer) -> bool:
        went = False
        with contextlib.suppress(OSError):
            while piece := peer.recv(65_536):
                # What matters comes last.
                self.received[peer] = (self.received[peer] + piece)[-65_536:]
                went = True
        return went

    def run(self, reads: bool = True, deadline: float = 20.0) -> None:
        """Until everything is sent, or nobody takes any more."""
        end = time.monotonic() + deadline
        moved = time.monotonic()
        while self.left and time.monotonic() < min(end, moved + 1):
            if self.go_on(reads):
                moved = time.monotonic()
            else:
                time.sleep(0.001)

    def told(self, codes: set[int]) -> int:
        """How many were sent GOAWAY with one of the codes."""
        for peer in self.swarm.sockets:
            self._read(peer)
        ends = {struct.pack("!I", code) for code in codes}
        return sum(any(last[4:8] in ends for last in goaways(data)) for data in self.received.values())


def goaways(received: bytes) -> Iterator[bytes]:
    """What may be a GOAWAY frame among the last bytes that came; the first of them may be in the middle of a frame."""
    at = received.find(b"\x07\x00\x00\x00\x00\x00")
    while at >= 0:
        yield received[at + 6 : at + 14]
        at = received.find(b"\x07\x00\x00\x00\x00\x00", at + 1)


def test_others_speak_it_meanwhile(server):
    """The normal client of these tests."""
    with Http2(server.address) as peer:
        assert peer.get("/hello").body == b"hello"


@pytest.mark.parametrize("attack", list(FLOODS))
def test_floods(server, attack):
    sent = HELLO + FLOODS[attack]()
    with siege(server, 32 << 20) as under, Swarm(server.address, CLIENTS) as swarm:
        flood = Flood(swarm, sent)
        flood.run()
        under.holds()
        with Http2(server.address) as normal:
            assert normal.get("/hello").body == b"hello"
        swarm.wait_until_closed(3 * DEADLINE + 10)
        # Who sends on until the connection is reset may lose what the server said.
        codes = {ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR} if attack in BROKEN else {ENHANCE_YOUR_CALM}
        assert flood.told(codes) > CLIENTS / 2, f"{flood.told(codes)} were told why"
        under.holds()


@pytest.mark.parametrize("attack", ["SETTINGS", "PING", "requests that are reset at once"])
def test_floods_of_clients_that_read_nothing(server, attack):
    """What the server has to answer piles up in it, unless it ends that."""
    with siege(server, 32 << 20) as under, Swarm(server.address, CLIENTS, receive_buffer=4096) as swarm:
        Flood(swarm, HELLO + FLOODS[attack]()).run(reads=False)
        under.holds()
        # The end itself cannot reach who does not read; the server's part is over all the same.
        wait_for(lambda: gateway_descriptors(server) <= under.descriptors_before, 3 * DEADLINE + 10)


def test_a_bomb_of_fields(server):
    """RFC 7541: a field of 4000 bytes is entered once and named 16,000 times, with a byte each: 64 MB of fields."""
    big = literal("x-bomb", "x" * 4000, http2.INCREMENTAL)
    bomb = headers(1, GET + big) + headers(3, GET + indexed(62) * 16_000)
    with siege(server, 32 << 20) as under, Swarm(server.address, CLIENTS) as swarm:
        Flood(swarm, HELLO + bomb).run()
        under.holds()
        with Http2(server.address) as normal:
            normal.send(bomb)
            kind, code = normal.outcome(3)
            assert (kind, code) in (("status", 431), ("reset", ENHANCE_YOUR_CALM), ("goaway", ENHANCE_YOUR_CALM))
            under.holds()


def test_responses_that_nobody_takes(server):
    """A window of nothing: 1 MiB waits on each of 20 connections' 50 streams, and holds neither thread nor memory."""
    asks = b"".join(headers(2 * number + 1, block(request("/big?105"))) for number in range(50))
    sent = PREFACE + settings((http2.INITIAL_WINDOW_SIZE, 0)) + asks
    with siege(server, 48 << 20) as under, Swarm(server.address, CLIENTS) as swarm:
        Flood(swarm, sent).run()
        under.holds()
        swarm.wait_until_closed(6 * DEADLINE + 10)


def test_responses_that_are_taken_byte_by_byte(server):
    """A window of one byte, and one more from time to time: slower than `write_min_rate`."""
    asks = b"".join(headers(2 * number + 1, block(request("/big?105"))) for number in range(10))
    sent = PREFACE + settings((http2.INITIAL_WINDOW_SIZE, 1)) + asks
    more = b"".join(window_update(2 * number + 1, 1) for number in range(10))
    with siege(server, 48 << 20) as under, Swarm(server.address, CLIENTS) as swarm:
        Flood(swarm, sent).run()
        end = time.monotonic() + 6 * DEADLINE + 10
        while swarm.closed() < CLIENTS:
            assert time.monotonic() < end, f"{swarm.closed()} were closed"
            swarm.send(more)
            swarm.received()
            under.holds()


def test_requests_that_never_end(server):
    """Heads without bodies on all streams of a connection; `body_timeout` ends them."""
    asks = b"".join(headers(2 * number + 1, POST, end=False) for number in range(100))
    with siege(server, 48 << 20) as under, Swarm(server.address, CLIENTS) as swarm:
        Flood(swarm, HELLO + asks).run()
        under.holds()
        swarm.wait_until_closed(6 * DEADLINE + 10)


@pytest.mark.parametrize(
    "sent", [PREFACE[:10], PREFACE, HELLO + HALF, HELLO], ids=["preface", "settings", "head", "requests"]
)
def test_what_does_not_go_on(server, sent):
    """Half of a preface, no settings, half of a head, no request at all: `header_timeout` and `keepalive` end them."""
    with siege(server, 32 << 20) as under, Swarm(server.address, 200) as swarm:
        swarm.send(sent)
        under.holds()
        swarm.wait_until_closed(3 * DEADLINE + 10)


def test_floods_are_told_of_in_the_log(server):
    with Http2(server.address) as peer:
        with contextlib.suppress(OSError):
            peer.send(ping() * TIMES)
        assert peer.ends() in (ENHANCE_YOUR_CALM, None)
    wait_for(lambda: "frames that ask for nothing" in server.log)
