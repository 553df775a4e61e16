"""The cases of the Autobahn test suite (fuzzing client) in equivalent form, against an application that echoes.

What Autobahn sends is sent here byte for byte (or, where Autobahn draws random texts, with a seed), and what it
calls OK is expected, never its "NON-STRICT". Each row is called as the case is called there.

| section | covered |
|---|---|
| 1 framing | all: 1.1.1 to 1.1.8, 1.2.1 to 1.2.8 |
| 2 pings and pongs | all: 2.1 to 2.11 |
| 3 reserved bits | all: 3.1 to 3.7 |
| 4 opcodes | all: 4.1.1 to 4.2.5 |
| 5 fragmentation | all: 5.1 to 5.20 |
| 6 UTF-8 | 6.1 to 6.4 all; 6.5 to 6.23 all sequences of their tables, by what makes each of them valid or not |
| 7 close handling | all: 7.1.1 to 7.13.2 |
| 9 limits | 9.1 to 9.6 with messages to 4 MiB instead of 16, 9.7 and 9.8 with 200 messages of each size instead of 1000 |
| 10 auto-fragmentation | 10.1.1 |
| 12, 13 compression | the messages of 12.1 to 12.5 (sizes from 16 bytes to 128 KiB, 2 to 6 instead of 1000 each) with each of the offers of 13.1 to 13.7 |
"""  # noqa: E501

from __future__ import annotations

import asyncio
import json
import random
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.server import Server, Servers
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket, frame

pytestmark = pytest.mark.usefixtures("only_oxicorn")

#: Frames of the server: opcode and payload.
Expected = list[tuple[int, bytes]]

NORMAL = struct.pack("!H", 1000)
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007


@dataclass
class Case:
    """What is sent, how it is cut, what comes back: frames, then a close with ``code``."""

    name: str
    frames: list[bytes]
    expected: Expected = field(default_factory=list)
    #: ``None``: the client closes in order at the end.
    code: int | None = None
    #: Bytes sent at a time; 0: all at once.
    chop: int = 0


@pytest.fixture(scope="module")
def server(serve_module: Servers) -> Server:
    """The echo; messages of up to 4 MiB."""
    flags = ("--worker-class", "asgi", "--websocket-max-message-size", str(4 << 20))
    return serve_module(None, *flags, spec="asgi_websockets")


def text(payload: str | bytes, fin: bool = True, rsv: int = 0) -> bytes:
    """A text frame."""
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload, fin=fin, rsv=rsv)


def rest(payload: str | bytes, fin: bool = True) -> bytes:
    """A continuation."""
    return frame(CONTINUATION, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def echo(payload: str | bytes) -> tuple[int, bytes]:
    """The echo of a text."""
    return TEXT, payload.encode() if isinstance(payload, str) else payload


# 1: framing.


def framing() -> list[Case]:
    cases = []
    for section, opcode in ((1, TEXT), (2, BINARY)):
        for number, (size, chop) in enumerate(
            [(0, 0), (125, 0), (126, 0), (127, 0), (128, 0), (65535, 0), (65536, 0), (65536, 997)], start=1
        ):
            payload = (b"*" if opcode == TEXT else b"\xfe") * size
            cases.append(Case(f"1.{section}.{number}", [frame(opcode, payload)], [(opcode, payload)], chop=chop))
    return cases


# 2: pings and pongs.


def pings() -> list[Case]:
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    ten = [f"payload-{number}".encode() for number in range(10)]
    return [
        Case("2.1", [frame(PING)], [(PONG, b"")]),
        Case("2.2", [frame(PING, b"Hello, world!")], [(PONG, b"Hello, world!")]),
        Case("2.3", [frame(PING, binary)], [(PONG, binary)]),
        Case("2.4", [frame(PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)]),
        Case("2.5", [frame(PING, b"\xfe" * 126)], code=PROTOCOL_ERROR),
        Case("2.6", [frame(PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], chop=1),
        Case("2.7", [frame(PONG)]),
        Case("2.8", [frame(PONG, b"unsolicited pong payload")]),
        Case("2.9", [frame(PONG, b"unsolicited"), frame(PING, b"ping payload")], [(PONG, b"ping payload")]),
        Case("2.10", [frame(PING, payload) for payload in ten], [(PONG, payload) for payload in ten]),
        Case("2.11", [frame(PING, payload) for payload in ten], [(PONG, payload) for payload in ten], chop=1),
    ]


# 3: reserved bits; 4: reserved opcodes.


def reserved() -> list[Case]:
    hello = text("Hello, world!")
    cases = [
        Case("3.1", [text("Hello, world!", rsv=1)], code=PROTOCOL_ERROR),
        Case("3.2", [hello, text("Hello, world!", rsv=2), frame(PING)], [echo("Hello, world!")], PROTOCOL_ERROR),
        Case("3.3", [hello, text("Hello, world!", rsv=3), frame(PING)], [echo("Hello, world!")], PROTOCOL_ERROR, 8),
        Case("3.4", [hello, text("Hello, world!", rsv=4), frame(PING)], [echo("Hello, world!")], PROTOCOL_ERROR, 1),
        Case("3.5", [frame(BINARY, b"\x00\xff", rsv=5)], code=PROTOCOL_ERROR),
        Case("3.6", [frame(PING, b"Hello, world!", rsv=6)], code=PROTOCOL_ERROR),
        Case("3.7", [frame(CLOSE, NORMAL, rsv=7)], code=PROTOCOL_ERROR),
    ]
    for section, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
        for number, opcode in enumerate(opcodes, start=1):
            payload = b"" if number == 1 else b"reserved opcode payload"
            before = [] if number < 3 else [hello]
            answers = [echo("Hello, world!")] * len(before)
            frames = [*before, frame(opcode, payload), frame(PING)]
            cases.append(Case(f"4.{section}.{number}", frames, answers, PROTOCOL_ERROR, number == 4))
    return cases


# 5: fragmentation.


def fragmentation() -> list[Case]:
    first, second = "fragment1", "fragment2"
    both = echo(first + second)
    ping, pong = frame(PING, b"ping payload"), (PONG, b"ping payload")
    stray = rest("non-continuation payload")
    open_stray = rest("non-continuation payload", fin=False)
    hello = text("Hello, world!")
    repeated = [rest("fragment1", fin=False), text("fragment2", fin=False), rest("fragment3")] * 2
    repeated_open = [rest("fragment1"), text("fragment2", fin=False), rest("fragment3")] * 2
    five = [
        text("fragment1", fin=False),
        rest("fragment2", fin=False),
        frame(PING, b"pongme 1!"),
        rest("fragment3", fin=False),
        rest("fragment4", fin=False),
        frame(PING, b"pongme 2!"),
        rest("fragment5"),
    ]
    answers = [
        (PONG, b"pongme 1!"),
        (PONG, b"pongme 2!"),
        echo("fragment1fragment2fragment3fragment4fragment5"),
    ]
    halves = [text(first, fin=False), rest(second)]
    between = [text(first, fin=False), ping, rest(second)]
    return [
        Case("5.1", [frame(PING, first.encode(), fin=False), rest(second)], code=PROTOCOL_ERROR),
        Case("5.2", [frame(PONG, first.encode(), fin=False), rest(second)], code=PROTOCOL_ERROR),
        Case("5.3", halves, [both]),
        Case("5.4", halves, [both], chop=15),
        Case("5.5", halves, [both], chop=1),
        Case("5.6", between, [pong, both]),
        Case("5.7", between, [pong, both], chop=15),
        Case("5.8", between, [pong, both], chop=1),
        Case("5.9", [stray, hello], code=PROTOCOL_ERROR),
        Case("5.10", [stray, hello], code=PROTOCOL_ERROR, chop=20),
        Case("5.11", [stray, hello], code=PROTOCOL_ERROR, chop=1),
        Case("5.12", [open_stray, hello], code=PROTOCOL_ERROR),
        Case("5.13", [open_stray, hello], code=PROTOCOL_ERROR, chop=20),
        Case("5.14", [open_stray, hello], code=PROTOCOL_ERROR, chop=1),
        Case("5.15", [*halves, rest("fragment3", fin=False), text("fragment4")], [both], PROTOCOL_ERROR),
        Case("5.16", repeated, code=PROTOCOL_ERROR),
        Case("5.17", repeated_open, code=PROTOCOL_ERROR),
        Case("5.18", [text(first, fin=False), text(second)], code=PROTOCOL_ERROR),
        Case("5.19", five, answers),
        Case("5.20", five, answers, chop=7),
    ]


# 6: UTF-8.

KOSME = "\u03ba\u1f79\u03c3\u03bc\u03b5"
GREETING = "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!"
#: Autobahn's own: a valid beginning, a surrogate, more.
BROKEN = KOSME.encode() + b"\xed\xa0\x80edited"
#: A code point beyond Unicode.
BEYOND = KOSME.encode() + b"\xf4\x90\x80\x80edited"

VALID = {
    "6.5": [KOSME, "hello\u0024world", "hello\u00a2world", "hello\u20acworld", "hello\U00024b62world"],
    "6.6": [KOSME[: number + 1] for number in range(5)],
    "6.7": ["\x00", "\u0080", "\u0800", "\U00010000"],
    "6.9": ["\x7f", "\u07ff", "\uffff", "\U0010ffff"],
    "6.11": ["\ud7ff", "\ue000", "\ufffd", "\U0010ffff"],
    "6.22": [chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)],
    "6.23": [chr(number) for number in range(0xFFF9, 0xFFFE)],
}
INVALID = {
    # Characters cut short.
    "6.6": [KOSME.encode()[:end] for end in (1, 3, 4, 6, 8, 10)],
    # Five and six bytes; the first and last code point of each length.
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11": [b"\xf4\x90\x80\x80"],
    # Continuation bytes without a beginning.
    "6.12": [b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf", bytes(range(0x80, 0xC0))],
    # Beginnings without continuation.
    "6.13": [b" ".join(bytes([lead]) for lead in range(*span)) for span in ((192, 224), (224, 240), (240, 248))],
    # Characters without their last byte.
    "6.14": [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf"],
    "6.15": [b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf"],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    # Longer than needed.
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    # Surrogates, alone and in pairs.
    "6.20": [struct.pack("BBB", 0xED, 0xA0 | half, last) for half in (0, 15, 16, 31) for last in (0x80, 0xBF)],
    "6.21": [b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"],
}


def by_byte(payload: bytes) -> list[bytes]:
    """A text in a frame for each byte, and an empty one at the end."""
    single = [payload[at : at + 1] for at in range(len(payload))]
    return [text(single[0], fin=False), *(rest(byte, fin=False) for byte in single[1:]), rest("")]


def utf8() -> list[Case]:
    whole = GREETING.encode()
    middle = len(whole) // 2
    cases = [
        Case("6.1.1", [text("")], [echo("")]),
        Case("6.1.2", [text("", fin=False), rest("", fin=False), rest("")], [echo("")]),
        Case("6.1.3", [text("", fin=False), rest("middle frame", fin=False), rest("")], [echo("middle frame")]),
        Case("6.2.1", [text(whole)], [echo(whole)]),
        Case("6.2.2", [text(whole[:15], fin=False), rest(whole[15:])], [echo(whole)]),
        Case("6.2.3", by_byte(whole), [echo(whole)]),
        Case("6.2.4", by_byte(KOSME.encode()), [echo(KOSME)]),
        Case("6.3.1", [text(BROKEN)], code=INVALID_DATA),
        Case("6.3.2", by_byte(BROKEN), code=INVALID_DATA),
        # Fail fast: the rest of the message never comes, and the wrong byte is enough.
        Case("6.4.1", [text(KOSME.encode(), fin=False), rest(b"\xf4\x90\x80\x80", fin=False)], code=INVALID_DATA),
        Case("6.4.2", [text(KOSME.encode() + b"\xf4", fin=False), rest(b"\x90", fin=False)], code=INVALID_DATA),
        Case("6.4.3", [text(BEYOND)[: 6 + len(KOSME.encode()) + 4]], code=INVALID_DATA),
        Case("6.4.4", [text(BEYOND)[: 6 + len(KOSME.encode()) + 2]], code=INVALID_DATA, chop=1),
        Case("6.2.5", [text(whole[:middle], fin=False), frame(PING), rest(whole[middle:])], [(PONG, b""), echo(whole)]),
    ]  # fmt: skip
    for section, texts in VALID.items():
        frames = [text(one) for one in texts]
        cases.append(Case(f"{section} valid", frames, [echo(one) for one in texts]))
    for section, sequences in INVALID.items():
        for number, one in enumerate(sequences):
            cases.append(Case(f"{section} invalid {number}", [text(one)], code=INVALID_DATA))
    return cases


# 7: close handling.


def closes() -> list[Case]:
    hello = text("Hello World!")
    close = frame(CLOSE, NORMAL)
    large = "BAsd7&jh23" * 26_000
    answer = (CLOSE, NORMAL)
    cases = [
        Case("7.1.1", [hello, close], [echo("Hello World!"), answer]),
        Case("7.1.2", [close, close], [answer]),
        Case("7.1.3", [close, frame(PING)], [answer]),
        Case("7.1.4", [close, hello], [answer]),
        Case("7.1.5", [text("fragment1", fin=False), close, rest("fragment2")], [answer]),
        Case("7.1.6", [text(large), hello, close, frame(PING)], [echo(large), echo("Hello World!"), answer]),
        Case("7.3.1", [frame(CLOSE)], [(CLOSE, b"")]),
        Case("7.3.2", [frame(CLOSE, b"a")], code=PROTOCOL_ERROR),
        Case("7.3.3", [close], [answer]),
        Case("7.3.4", [frame(CLOSE, NORMAL + b"Hello World!")], [answer]),
        Case("7.3.5", [frame(CLOSE, NORMAL + b"*" * 123)], [answer]),
        Case("7.3.6", [frame(CLOSE, NORMAL + b"*" * 124)], code=PROTOCOL_ERROR),
        Case("7.5.1", [frame(CLOSE, NORMAL + BROKEN)], code=INVALID_DATA),
    ]
    for number, code in enumerate(
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999], start=1
    ):
        payload = struct.pack("!H", code)
        cases.append(Case(f"7.7.{number}", [frame(CLOSE, payload)], [(CLOSE, payload)]))
    for number, code in enumerate([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999], start=1):
        cases.append(Case(f"7.9.{number}", [frame(CLOSE, struct.pack("!H", code))], code=PROTOCOL_ERROR))
    for number, code in enumerate([5000, 65535], start=1):
        cases.append(Case(f"7.13.{number}", [frame(CLOSE, struct.pack("!H", code))], code=PROTOCOL_ERROR))
    return cases


# 9: limits; 10: fragmentation on its own.


def limits() -> list[Case]:
    cases = []
    sizes = [64 << 10, 256 << 10, 1 << 20, 4 << 20]
    for section, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate(sizes, start=1):
            payload = b"\x5a" * size
            cases.append(Case(f"9.{section}.{number}", [frame(opcode, payload)], [(opcode, payload)]))
    for section, opcode in ((3, TEXT), (4, BINARY)):
        payload = b"\x5a" * (1 << 20)
        for number, piece in enumerate([64, 256, 1024, 4096, 16384, 65536, 262_144, 1 << 20], start=1):
            ends = range(0, len(payload), piece)
            frames = [
                frame(opcode if at == 0 else CONTINUATION, payload[at : at + piece], fin=at + piece == len(payload))
                for at in ends
            ]
            cases.append(Case(f"9.{section}.{number}", frames, [(opcode, payload)]))
    for section, opcode in ((5, TEXT), (6, BINARY)):
        for number, chop in enumerate([64, 128, 256, 512, 1024, 2048], start=1):
            payload = b"\x5a" * (1 << 17)
            cases.append(Case(f"9.{section}.{number}", [frame(opcode, payload)], [(opcode, payload)], chop=chop))
    for section, opcode in ((7, TEXT), (8, BINARY)):
        for number, size in enumerate([0, 16, 64, 256, 1024, 4096], start=1):
            payload = b"\x5a" * size
            cases.append(Case(f"9.{section}.{number}", [frame(opcode, payload)] * 200, [(opcode, payload)] * 200))
    payload = b"*" * 65_536
    pieces = [payload[at : at + 1300] for at in range(0, len(payload), 1300)]
    frames = [text(pieces[0], fin=False), *(rest(piece, fin=False) for piece in pieces[1:-1]), rest(pieces[-1])]
    return [*cases, Case("10.1.1", frames, [echo(payload)])]


CASES = [*framing(), *pings(), *reserved(), *fragmentation(), *utf8(), *closes(), *limits()]


def whole(client: WebSocket) -> tuple[int, bytes]:
    """The next control frame, or a message with its fragments put together."""
    found = client.frame()
    opcode, payload = found.opcode, found.payload
    while opcode < CLOSE and not found.fin:
        found = client.frame()
        assert found.opcode == CONTINUATION
        payload += found.payload
    return opcode, payload


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(server: Server, case: Case) -> None:
    with WebSocket(server.address, "/echo") as client:
        data = b"".join(case.frames)
        step = case.chop or len(data) or 1
        for at in range(0, len(data), step):
            client.peer.send(data[at : at + step])
        for one in case.expected:
            assert whole(client) == one
        if case.code is not None:
            code, _ = client.closed()
            assert code == case.code
        elif not case.expected or case.expected[-1][0] != CLOSE:
            client.send_close()
            assert client.closed() == (1000, "")
        # The server ends the connection (RFC 6455, 7.1.1).
        assert client.peer.rest() == b""


def test_the_list_is_whole() -> None:
    """Each section has as many rows as Autobahn has cases, but for 6.5 to 6.23 (tables) and 9."""
    count = {}
    for case in CASES:
        section = case.name.partition(".")[0]
        count[section] = count.get(section, 0) + 1
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {section: count[section] for section in "1234"} == {"1": 16, "2": 11, "3": 7, "4": 10}
    assert (count["5"], count["10"]) == (20, 1)
    assert (count["6"], count["7"], count["9"]) == (78, 37, 48)


# 12 and 13: compression.

OFFERS = {
    "13.1": {},
    "13.2": {"server_no_context_takeover": True},
    "13.3": {"server_max_window_bits": 9},
    "13.4": {"server_max_window_bits": 15},
    "13.5": {"server_no_context_takeover": True, "server_max_window_bits": 9},
    "13.6": {"server_no_context_takeover": True, "server_max_window_bits": 15},
    "13.7": {"client_no_context_takeover": True, "client_max_window_bits": 10, "server_max_window_bits": 10},
}


def messages(kind: int, size: int, count: int) -> list[str | bytes]:
    """What 12.1 to 12.5 send: texts, JSON, random bytes, one letter again and again, words."""
    source = random.Random(kind * 1_000_003 + size)
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "\u00e4\u00f6\u00fc", "consectetur", "adipiscing"]

    def one() -> str | bytes:
        if kind == 1:
            return json.dumps({"id": source.random(), "value": source.choice(words)}).ljust(size)[:size]
        if kind == 2:
            return source.randbytes(size)
        if kind == 3:
            return "*" * size
        if kind == 4:
            return b"\x00\x01" * (size // 2)
        return " ".join(source.choices(words, k=size // 5 + 1))[:size]

    return [one() for _ in range(count)]


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_compressed_messages(mode: str, serve: Servers) -> None:
    server = serve(None, "--worker-class", "asgi", "--websocket-compression", mode, spec="asgi_websockets")

    async def talk(offer: dict[str, Any], kind: int) -> None:
        if mode == "shared":
            offer = {"client_no_context_takeover": True, **offer, "server_no_context_takeover": True}
        factory = ClientPerMessageDeflateFactory(**offer)
        uri = f"ws://127.0.0.1:{server.port}/echo"
        async with connect(uri, compression=None, extensions=[factory], max_size=None) as client:
            assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
            for size in (16, 64, 256, 1024, 4096, 16_384, 131_072):
                sent = messages(kind, size, 2 if size > 10_000 else 6)
                for message in sent:
                    await client.send(message)
                for message in sent:
                    assert await client.recv() == message

    async def all_of_them() -> None:
        for offer in OFFERS.values():
            for kind in range(1, 6):
                await talk(offer, kind)

    asyncio.run(asyncio.wait_for(all_of_them(), 50))
