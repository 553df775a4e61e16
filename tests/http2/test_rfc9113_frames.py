"""RFC 9113, sections 3 to 6: frames, streams, settings. One row for each sentence that binds a server.

A row is what a client sends on a connection that has said hello, and how the server must end the connection or the
stream. Any rule may be answered with a more general code (5.4), and an error of a stream as one of the connection
(5.4.1), but never the other way round.
"""

from __future__ import annotations

import struct

import pytest

from tests.support import http2
from tests.support.http2 import (
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Http2,
    continuation,
    data,
    frame,
    goaway,
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

pytestmark = pytest.mark.usefixtures("oxicorn_only")

GET = http2.block(request())
POST = http2.block(request(method="POST"))
#: A request whose answer has come: the stream is closed.
DONE = headers(1, GET)
#: One whose body has not ended: the stream is open.
OPEN = headers(1, POST, end=False)
TRAILERS = http2.block([("x-check", "1")])
HALF, REST = GET[:10], GET[10:]

MOST = 2**31 - 1

# Errors of the connection: (rule, what is sent, code). The rule names its section.
CONNECTION = [
    ("4.2 a frame longer than the largest: HEADERS", headers(1, GET + bytes(16_384)), FRAME_SIZE_ERROR),
    ("4.2 a frame longer than the largest: SETTINGS", frame(SETTINGS, payload=bytes(16_386)), FRAME_SIZE_ERROR),
    ("4.2 a frame longer than the largest: of an unknown kind", frame(99, payload=bytes(16_385)), FRAME_SIZE_ERROR),
    ("4.3 a field block that cannot be decoded", headers(1, b"\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
    ("4.3 a field block is one: PING between", headers(1, HALF, end_headers=False) + ping(), PROTOCOL_ERROR),
    ("4.3 a field block is one: DATA between", headers(1, HALF, end_headers=False) + data(1, b"x"), PROTOCOL_ERROR),
    ("4.3 a field block is one: another stream", headers(1, HALF, end_headers=False) + headers(3, GET), PROTOCOL_ERROR),
    (
        "4.3 a field block is one: CONTINUATION of another stream",
        headers(1, HALF, end_headers=False) + continuation(3, REST),
        PROTOCOL_ERROR,
    ),
    ("5.1 idle: DATA", data(1, b"x", end=True), PROTOCOL_ERROR),
    ("5.1 idle: RST_STREAM", rst_stream(1), PROTOCOL_ERROR),
    ("5.1 idle: WINDOW_UPDATE", window_update(1, 1), PROTOCOL_ERROR),
    ("5.1 idle: CONTINUATION", continuation(1, GET), PROTOCOL_ERROR),
    ("5.1.1 a client's streams are odd", headers(2, GET), PROTOCOL_ERROR),
    ("5.1.1 numbers grow", headers(5, GET) + headers(3, GET), PROTOCOL_ERROR),
    ("5.1.1 a number is used once", DONE + DONE, STREAM_CLOSED),
    (
        "5.5 no frame of an unknown kind in a field block",
        headers(1, HALF, end_headers=False) + frame(99),
        PROTOCOL_ERROR,
    ),
    ("6.1 DATA belongs to a stream", data(0, b"x"), PROTOCOL_ERROR),
    ("6.1 padding as long as the payload", OPEN + frame(DATA, PADDED, 1, b"\x06hello"), PROTOCOL_ERROR),
    ("6.1 padding without its length", OPEN + frame(DATA, PADDED, 1), FRAME_SIZE_ERROR),
    ("6.2 HEADERS belong to a stream", headers(0, GET), PROTOCOL_ERROR),
    ("6.2 padding longer than the block", frame(HEADERS, PADDED | END_HEADERS, 1, b"\xff" + GET), PROTOCOL_ERROR),
    ("6.2 a priority that is not all there", frame(HEADERS, 0x24, 1, b"\0\0"), FRAME_SIZE_ERROR),
    ("6.3 PRIORITY belongs to a stream", priority(0, 1), PROTOCOL_ERROR),
    ("6.4 RST_STREAM belongs to a stream", rst_stream(0), PROTOCOL_ERROR),
    ("6.4 RST_STREAM has four bytes", OPEN + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    ("6.5 SETTINGS belong to no stream", frame(SETTINGS, 0, 1, struct.pack("!HI", 3, 1)), PROTOCOL_ERROR),
    ("6.5 an acknowledgement is empty", frame(SETTINGS, 1, 0, struct.pack("!HI", 3, 1)), FRAME_SIZE_ERROR),
    ("6.5 a setting has six bytes", frame(SETTINGS, payload=bytes(5)), FRAME_SIZE_ERROR),
    ("6.5.2 push is on or off", settings((http2.ENABLE_PUSH, 2)), PROTOCOL_ERROR),
    ("6.5.2 the largest window", settings((http2.INITIAL_WINDOW_SIZE, 2**31)), FLOW_CONTROL_ERROR),
    ("6.5.2 the smallest frame size", settings((http2.MAX_FRAME_SIZE, 16_383)), PROTOCOL_ERROR),
    ("6.5.2 the largest frame size", settings((http2.MAX_FRAME_SIZE, 2**24)), PROTOCOL_ERROR),
    ("6.6 a client does not push", OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + GET), PROTOCOL_ERROR),
    ("6.7 PING belongs to no stream", frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    ("6.7 PING has eight bytes", frame(PING, 0, 0, bytes(6)), FRAME_SIZE_ERROR),
    ("6.8 GOAWAY belongs to no stream", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    ("6.9 WINDOW_UPDATE of the connection by nothing", window_update(0, 0), PROTOCOL_ERROR),
    ("6.9 WINDOW_UPDATE has four bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    ("6.9.1 the connection's window has an end", window_update(0, MOST) + window_update(0, MOST), FLOW_CONTROL_ERROR),
    (
        "6.10 CONTINUATION belongs to a stream",
        headers(1, HALF, end_headers=False) + continuation(0, REST),
        PROTOCOL_ERROR,
    ),
    ("6.10 nothing to continue: behind END_HEADERS", OPEN + continuation(1, TRAILERS), PROTOCOL_ERROR),
    (
        "6.10 nothing to continue: behind its own end",
        headers(1, HALF, end_headers=False) + continuation(1, REST) + continuation(1, TRAILERS),
        PROTOCOL_ERROR,
    ),
    ("6.10 nothing to continue: behind DATA", OPEN + data(1, b"x") + continuation(1, TRAILERS), PROTOCOL_ERROR),
]

# Errors of stream 1: (rule, what is sent, code). It is open, or its answer was not waited for.
STREAM = [
    ("4.2 a frame longer than the largest: DATA", OPEN + data(1, bytes(16_385)), FRAME_SIZE_ERROR),
    ("5.1 half closed: DATA", headers(1, POST) + data(1, b"x", end=True), STREAM_CLOSED),
    ("5.1 half closed: HEADERS", headers(1, POST) + headers(1, TRAILERS), STREAM_CLOSED),
    ("5.1 half closed by trailers: DATA", OPEN + headers(1, TRAILERS) + data(1, b"x", end=True), STREAM_CLOSED),
    ("5.1 half closed by trailers: HEADERS", OPEN + headers(1, TRAILERS) + headers(1, TRAILERS), STREAM_CLOSED),
    ("6.3 PRIORITY has five bytes", OPEN + frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    ("6.9 WINDOW_UPDATE of a stream by nothing", OPEN + window_update(1, 0), PROTOCOL_ERROR),
    ("6.9.1 a stream's window has an end", OPEN + window_update(1, MOST) + window_update(1, MOST), FLOW_CONTROL_ERROR),
    (
        "6.9.2 a change of the first window fills one that is full",
        OPEN + window_update(1, MOST - 65_535) + settings((http2.INITIAL_WINDOW_SIZE, 65_536)),
        FLOW_CONTROL_ERROR,
    ),
]

# What changes nothing: (rule, what is sent before a request that is served).
IGNORED = [
    ("4.1 frames of unknown kinds", frame(99, 0xFF, 0, b"x" * 100) + frame(0xF3, 0, 7)),
    ("4.1 flags without a meaning", frame(PING, 0xFE, 0, bytes(8)) + frame(SETTINGS, 0xFE)),
    ("4.1 the reserved bit", struct.pack("!I", 8)[1:] + struct.pack("!BBI", PING, 0, 2**31) + bytes(8)),
    ("5.1 idle: PRIORITY", priority(9, 3)),
    ("6.5.2 unknown settings", settings((0xFFFF, 7), (99, 0))),
    ("6.5.2 push off", settings((http2.ENABLE_PUSH, 0))),
    ("6.5.2 the same setting twice, the last counts", settings((http2.MAX_FRAME_SIZE, 2**14), (5, 2**24 - 1))),
    ("6.5 settings without a setting", settings()),
    ("6.7 an acknowledged PING that nobody sent", ping(ack=True)),
]


def names(rows: list) -> list[str]:
    return [row[0] for row in rows]


def general(code: int) -> set[int]:
    """The codes that may stand for one (5.4)."""
    return {code, PROTOCOL_ERROR, INTERNAL_ERROR}


@pytest.mark.parametrize(("rule", "sent", "code"), CONNECTION, ids=names(CONNECTION))
def test_errors_of_the_connection(peer, rule, sent, code):
    peer.send(sent)
    found = peer.ends()
    assert found in general(code), rule
    assert peer.is_closed, "5.4.1: the connection is closed behind GOAWAY"


@pytest.mark.parametrize(("rule", "sent", "code"), STREAM, ids=names(STREAM))
def test_errors_of_a_stream(peer, rule, sent, code):
    peer.send(sent)
    kind, found = peer.outcome(1)
    assert kind in ("reset", "goaway"), rule
    assert found in general(code), rule


@pytest.mark.parametrize(("rule", "sent"), IGNORED, ids=names(IGNORED))
def test_what_changes_nothing(peer, rule, sent):
    peer.send(sent)
    peer._next = 11
    assert peer.get("/").status == 200, rule
    assert peer.is_alive()


# 3.4


def test_the_server_begins_with_its_settings(connect):
    peer = connect(begin=False)
    peer.send(PREFACE, settings())
    first = peer.take()
    assert (first.kind, first.flags, first.stream) == (SETTINGS, 0, 0)


@pytest.mark.parametrize(
    "preface", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"], ids=["end", "middle"]
)
def test_another_preface_is_refused(connect, preface):
    peer = connect(begin=False)
    peer.send(preface, settings())
    assert _is_refused(peer)


def _is_refused(peer: Http2) -> bool:
    """GOAWAY, or an answer in HTTP/1, and the end of the connection."""
    received = b""
    try:
        while piece := peer.socket.recv(65536):
            received += piece
    except ConnectionError:
        return True
    return b"HTTP/1.1 200" not in received and b"HTTP/1.1 2" not in received


def test_a_client_begins_with_its_settings(connect):
    peer = connect(begin=False)
    peer.send(PREFACE, headers(1, GET))
    assert peer.ends() in (PROTOCOL_ERROR, None)
    assert not peer.streams.get(1)
    assert peer.is_closed


# 5.1


@pytest.mark.parametrize("sent", [data(1, b"x", end=True), headers(1, TRAILERS)], ids=["DATA", "HEADERS"])
def test_a_stream_that_has_ended_stays_closed(peer, sent):
    """5.1, closed: whoever sends more is told, on the stream or on the connection."""
    assert peer.get().status == 200
    peer.send(sent)
    end = peer.ends() if peer_is_told(peer) else None
    assert end in (STREAM_CLOSED, PROTOCOL_ERROR, None)
    assert end is not None or peer.of(1).reset in (STREAM_CLOSED, PROTOCOL_ERROR)


def peer_is_told(peer: Http2) -> bool:
    """Whether it is an error of the connection, and not of the stream alone."""
    peer.wait(lambda: peer.goaway is not None or peer.of(1).reset is not None)
    return peer.goaway is not None


@pytest.mark.parametrize(
    "sent", [window_update(1, 1), rst_stream(1), priority(1, 0)], ids=["WINDOW_UPDATE", "RST_STREAM", "PRIORITY"]
)
def test_late_frames_of_a_stream_that_has_ended_are_ignored(peer, sent):
    """5.1: these may have been on their way."""
    assert peer.get().status == 200
    peer.send(sent)
    assert peer.is_alive()
    assert peer.get().status == 200


def test_frames_on_their_way_when_the_server_has_reset_a_stream_are_ignored(peer):
    """5.1: whoever sent RST_STREAM takes what was sent before the peer knew of it."""
    peer.send(headers(1, http2.block(request(method="POST", more=[("connection", "close")])), end=False))
    peer.send(data(1, b"x" * 1000), data(1, b"y" * 1000, end=True))
    kind, _ = peer.outcome(1)
    assert kind in ("reset", "status")
    peer._next = 3
    assert peer.is_alive()
    assert peer.get().status == 200


def test_a_stream_that_the_client_has_reset_is_answered_no_more(peer):
    peer.send(OPEN, rst_stream(1))
    peer._next = 3
    assert peer.get().status == 200
    assert not peer.of(1).fields


def test_more_streams_than_were_offered_are_refused(connect):
    """5.1.2: with RST_STREAM, or as an error of the connection."""
    peer = connect()
    most = peer.settings[http2.MAX_CONCURRENT_STREAMS]
    assert most >= 100, "6.5.2: at least 100 are recommended"
    numbers = [2 * place + 1 for place in range(most + 1)]
    # Bodies that never end keep them open.
    peer.send(*(headers(number, POST, end=False) for number in numbers))
    kind, code = peer.outcome(numbers[-1])
    assert (kind, code) in (("reset", http2.REFUSED_STREAM), ("reset", PROTOCOL_ERROR), ("goaway", PROTOCOL_ERROR))
    if kind == "reset":
        peer.send(*(data(number, end=True) for number in numbers[:5]))
        assert all(peer.response(number).status == 200 for number in numbers[:5])


# 6.1, 6.2


def test_padding_is_no_content(peer):
    peer.send(headers(1, POST, end=False, pad=200), data(1, b"hello", pad=255), data(1, b"", end=True, pad=0))
    assert b'"body": 5' in peer.response(1).body


def test_padding_counts_for_the_windows(peer):
    """6.9.1: the whole payload does; so the server must give room for all of it again."""
    peer.send(OPEN)
    peer.upload(1, b"x" * 1000, piece=1, pad=255)
    assert b'"body": 1000' in peer.response(1).body


def test_a_priority_in_the_head_means_nothing(peer):
    peer.send(headers(1, GET, priority=struct.pack("!IB", 0x8000_0000, 255)))
    assert peer.response(1).status == 200


def test_a_head_in_pieces(peer):
    """6.10, cut anywhere, and with one that is empty."""
    peer.send(headers(1, GET[:1], end_headers=False), continuation(1, b"", end_headers=False))
    peer.send(continuation(1, GET[1:20], end_headers=False), continuation(1, GET[20:]))
    assert peer.response(1).status == 200


# 6.5, 6.7, 6.8


def test_settings_are_acknowledged_in_their_order(peer):
    before = peer.acknowledged
    peer.send(*(settings((http2.INITIAL_WINDOW_SIZE, 70_000 + number)) for number in range(20)))
    peer.wait(lambda: peer.acknowledged == before + 20)


def test_the_server_does_not_speak_of_push(peer):
    """6.5.2: a server must not say anything but 0."""
    assert peer.settings.get(http2.ENABLE_PUSH, 0) == 0


def test_a_ping_comes_back_as_it_was(peer):
    for payload in (b"\0" * 8, b"\xff" * 8, b"12345678"):
        peer.send(ping(payload))
        peer.wait(lambda payload=payload: payload in peer.pongs)


def test_streams_that_a_client_has_begun_end_behind_its_goaway(peer):
    """6.8."""
    stream = peer.start("/", "POST", end=False)
    peer.send(goaway(0), data(stream, b"hello", end=True))
    assert peer.response(stream).status == 200


# 6.9


def test_the_server_keeps_to_the_window_of_a_stream(connect):
    peer = connect(own=[(http2.INITIAL_WINDOW_SIZE, 10)], opens_windows=False)
    stream = peer.start("/big?100")
    peer.wait(lambda: len(peer.of(stream).body) == 10)
    assert peer.is_alive(), "nobody else waits for it"
    assert len(peer.of(stream).body) == 10
    peer.send(window_update(stream, 1))
    peer.wait(lambda: len(peer.of(stream).body) == 11)
    peer.send(window_update(stream, 89))
    assert len(peer.response(stream).body) == 100


def test_the_server_keeps_to_the_window_of_the_connection(connect):
    peer = connect(own=[(http2.INITIAL_WINDOW_SIZE, 1 << 20)], opens_windows=False)
    first, second = peer.start("/big?60000"), peer.start("/big?60000")
    peer.wait(lambda: len(peer.of(first).body) + len(peer.of(second).body) == 65_535)
    assert peer.is_alive()
    assert len(peer.of(first).body) + len(peer.of(second).body) == 65_535
    peer.send(window_update(0, 1 << 20))
    assert len(peer.response(first).body) == len(peer.response(second).body) == 60_000


def test_a_window_may_become_negative(connect):
    """6.9.2: what was sent already is not taken back, and has to be made up for."""
    peer = connect(opens_windows=False)
    stream = peer.start("/big?100000")
    peer.wait(lambda: len(peer.of(stream).body) == 65_535)
    peer.send(window_update(0, 1 << 20), settings((http2.INITIAL_WINDOW_SIZE, 0)))
    peer.send(window_update(stream, 65_535))
    assert peer.is_alive()
    assert len(peer.of(stream).body) == 65_535, "the window is at 0"
    peer.send(window_update(stream, 1000))
    peer.wait(lambda: len(peer.of(stream).body) == 66_535)
    peer.send(settings((http2.INITIAL_WINDOW_SIZE, 1 << 20)))
    assert len(peer.response(stream).body) == 100_000


def test_no_window_is_needed_for_an_end(connect):
    """6.9: frames without content may be sent when there is no room; heads are not counted at all."""
    peer = connect(own=[(http2.INITIAL_WINDOW_SIZE, 0)], opens_windows=False)
    assert peer.get("/empty").status == 204
    assert peer.get("/", "HEAD").status == 200


def test_frames_are_as_long_as_the_client_takes_them(connect):
    peer = connect(own=[(http2.INITIAL_WINDOW_SIZE, 1 << 22)])
    peer.send(window_update(0, 1 << 22))
    found = peer.get("/big?1000000")
    assert len(found.body) == 1_000_000
    assert max(found.pieces) <= 16_384


def test_windows_are_opened_again_for_a_long_body(peer):
    """6.9: a body beyond the first windows comes through."""
    stream = peer.start("/", "POST", end=False)
    peer.upload(stream, b"x" * 1_000_000)
    assert b'"body": 1000000' in peer.response(stream).body


def test_streams_that_are_reset_leave_the_connections_window_as_it_was(peer):
    """5.4.2, 6.9: what came on them counts for the connection's window, which is opened again all the same."""
    piece = b"x" * http2.FRAME_SIZE
    for _ in range(120):
        while peer.room(0) < 4 * len(piece):
            peer.take()
        stream = peer.start("/", "POST", end=False)
        peer.upload(stream, piece * 3, end=False)
        peer.send(rst_stream(stream))
    stream = peer.start("/", "POST", end=False)
    peer.upload(stream, piece * 64)
    assert f'"body": {64 * len(piece)}'.encode() in peer.response(stream).body
    # All of it was more than the window is without being opened again.
    assert (3 * 120 + 64) * len(piece) > http2.WINDOW * 101


def test_streams_are_served_beside_each_other(peer):
    """5.1.2: an upload that stands still holds nobody."""
    waiting = peer.start("/", "POST", end=False)
    numbers = [peer.start(f"/{number}") for number in range(20)]
    assert all(peer.response(number).status == 200 for number in numbers)
    peer.send(data(waiting, b"x", end=True))
    assert peer.response(waiting).status == 200


def test_literals_in_every_form_are_one_request(peer):
    forms = (http2.WITHOUT_INDEXING, http2.NEVER_INDEXED, http2.INCREMENTAL)
    for number, form in enumerate(forms):
        stream = peer.open()
        peer.send(headers(stream, http2.block(request()) + literal("x-name", f"value {number}", form)))
        assert f'"value {number}"'.encode() in peer.response(stream).body
    # What was entered last is at the front of the table.
    stream = peer.open()
    peer.send(headers(stream, http2.block(request()) + indexed(62)))
    assert b'"value 2"' in peer.response(stream).body


def test_the_kinds_of_frames_are_those_of_the_rfc():
    """The table above would say nothing with a wrong number."""
    assert (DATA, HEADERS, CONTINUATION, END_STREAM) == (0, 1, 9, 1)
