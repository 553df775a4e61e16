"""A raw HTTP/2 client (RFC 9113): frames are sent exactly as given, and every frame that comes is seen.

Like ``http.py`` it repairs nothing and answers nothing by itself but what it is told to. Fields are sent as literals
(RFC 7541, 6.2), so that a test can say what no library says; what comes is decoded by ``hpack``, which is strict.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import hpack

from tests.support.http import TIMEOUT, Address, BadAnswer, ConnectionLost
from tests.support.wait import patient

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS = "DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION".split()
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    1, 2, 3, 4, 5, 6,
)  # fmt: skip
ENABLE_CONNECT_PROTOCOL = 8

(
    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED,
) = range(14)  # fmt: skip

#: What every peer takes (RFC 9113, 4.2), and what windows are without a word (6.9.2).
FRAME_SIZE, WINDOW = 16_384, 65_535

Fields = Sequence[tuple[str | bytes, str | bytes]]


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def has(self, flag: int) -> bool:
        """Whether a flag is set."""
        return bool(self.flags & flag)

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def last_stream(self) -> int:
        """Of GOAWAY: the last stream that is served."""
        return int.from_bytes(self.payload[:4], "big") & 0x7FFF_FFFF

    @property
    def settings(self) -> dict[int, int]:
        """Of SETTINGS."""
        return dict(struct.iter_unpack("!HI", self.payload))

    def __repr__(self) -> str:
        name = KINDS[self.kind] if self.kind < len(KINDS) else f"kind {self.kind}"
        return f"<{name} flags={self.flags:#x} stream={self.stream} {self.payload[:40]!r}>"


# Frames to send.


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """Any frame; ``length`` may lie."""
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def data(stream: int, payload: bytes = b"", end: bool = False, pad: int | None = None, flags: int = 0) -> bytes:
    """DATA; ``pad``: that many bytes of padding."""
    flags |= END_STREAM if end else 0
    if pad is not None:
        flags, payload = flags | PADDED, bytes([pad]) + payload + bytes(pad)
    return frame(DATA, flags, stream, payload)


def headers(
    stream: int,
    fields: Fields | bytes,
    end: bool = True,
    end_headers: bool = True,
    pad: int | None = None,
    priority: bytes = b"",
    flags: int = 0,
) -> bytes:
    """HEADERS with fields, or with a block that was encoded before."""
    payload = priority + (fields if isinstance(fields, bytes) else block(fields))
    flags |= (END_STREAM if end else 0) | (END_HEADERS if end_headers else 0) | (PRIORITIZED if priority else 0)
    if pad is not None:
        flags, payload = flags | PADDED, bytes([pad]) + payload + bytes(pad)
    return frame(HEADERS, flags, stream, payload)


def continuation(stream: int, part: bytes, end_headers: bool = True) -> bytes:
    """CONTINUATION."""
    return frame(CONTINUATION, END_HEADERS if end_headers else 0, stream, part)


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, payload=b"".join(struct.pack("!HI", *pair) for pair in pairs))


def settings_ack() -> bytes:
    """The answer to SETTINGS."""
    return frame(SETTINGS, ACK)


def ping(payload: bytes = b"12345678", ack: bool = False) -> bytes:
    """PING."""
    return frame(PING, ACK if ack else 0, 0, payload)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """PRIORITY, which means nothing any more."""
    return frame(PRIORITY, 0, stream, struct.pack("!IB", depends_on, weight))


def goaway(last: int = 0, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, struct.pack("!II", last, code) + debug)


# Fields as literals (RFC 7541).

WITHOUT_INDEXING, NEVER_INDEXED, INCREMENTAL = 0x00, 0x10, 0x40


def integer(number: int, bits: int, first: int = 0) -> bytes:
    """A number behind the first bits of a byte (5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    out, number = [first | most], number - most
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def string(text: str | bytes) -> bytes:
    """A string without Huffman's code (5.2)."""
    text = text.encode() if isinstance(text, str) else text
    return integer(len(text), 7) + text


def literal(name: str | bytes, value: str | bytes, form: int = WITHOUT_INDEXING) -> bytes:
    """One field whose name is spelled out (6.2)."""
    return bytes([form]) + string(name) + string(value)


def indexed(index: int) -> bytes:
    """One field of the tables (6.1)."""
    return integer(index, 7, 0x80)


def table_size(size: int) -> bytes:
    """A dynamic table size update (6.3)."""
    return integer(size, 5, 0x20)


def block(fields: Fields) -> bytes:
    """A field block."""
    return b"".join(literal(name, value) for name, value in fields)


def request(
    path: str = "/", method: str = "GET", more: Fields = (), scheme: str = "http", authority: str = "localhost"
) -> list[tuple[str | bytes, str | bytes]]:
    """The fields of a request."""
    first = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return [*first, *more]


@dataclass
class Response:
    """What came on a stream."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    #: Fields of 1xx responses that came first.
    informational: list[list[tuple[str, str]]] = field(default_factory=list)
    #: Sizes of the DATA frames.
    pieces: list[int] = field(default_factory=list)
    ended: bool = False
    #: The code of RST_STREAM.
    reset: int | None = None

    @property
    def status(self) -> int:
        """Its status; 0 before there is one."""
        return int(dict(self.fields).get(":status", 0))

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.fields if key == name]


class Http2:
    """One connection. ``with Http2(address) as peer: ...``

    ``begin`` says hello and waits for the server's; afterwards every frame goes through ``take``, which keeps
    what belongs to streams in ``streams``. SETTINGS and PING are answered, and windows opened again, unless told not
    to.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None = None,
        *,
        own: Sequence[tuple[int, int]] = (),
        opens_windows: bool = True,
        receive_buffer: int | None = None,
        begin: bool = True,
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(patient(TIMEOUT))
        plain.connect(address)
        if family == socket.AF_INET:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if context is not None:
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.opens_windows = opens_windows
        self.answers = True
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = dict(own).get(HEADER_TABLE_SIZE, 4096)
        self.streams: dict[int, Response] = {}
        self.frames: list[Frame] = []
        self.settings: dict[int, int] = {}
        self.goaway: Frame | None = None
        #: How many of our SETTINGS were acknowledged.
        self.acknowledged = 0
        self._granted: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self.pongs: list[bytes] = []
        self.is_closed = False
        self._next = 1
        self._received = bytearray()
        self._block = bytearray()
        self._block_flags = 0
        if begin:
            try:
                self.begin(own)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()

    def begin(self, own: Sequence[tuple[int, int]] = ()) -> None:
        """The connection preface (3.4), and the server's."""
        self.send(PREFACE, settings(*own))
        self.wait(lambda: bool(self.settings) or any(one.kind == SETTINGS for one in self.frames))
        self.wait(lambda: self.acknowledged > 0)

    def send(self, *frames: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(b"".join(frames))

    def open(self) -> int:
        """The number of a new stream."""
        self._next += 2
        return self._next - 2

    def start(self, path: str = "/", method: str = "GET", more: Fields = (), end: bool = True) -> int:
        """Sends a request's head; the stream's number."""
        stream = self.open()
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        self.send(headers(stream, request(path, method, more, scheme), end=end))
        return stream

    def upload(
        self, stream: int, body: bytes, end: bool = True, piece: int = FRAME_SIZE, pad: int | None = None
    ) -> None:
        """Sends a body as the server's windows allow."""
        at, extra = 0, 0 if pad is None else pad + 1
        while at < len(body):
            count = min(len(body) - at, piece)
            if min(self.room(0), self.room(stream)) < count + extra:
                self.take()
                continue
            self.send(data(stream, body[at : at + count], end and at + count == len(body), pad))
            for place in (0, stream):
                self._sent[place] = self._sent.get(place, 0) + count + extra
            at += count

    def room(self, stream: int) -> int:
        """Bytes of DATA that may be sent on a stream; 0: on the connection."""
        first = WINDOW if stream == 0 else self.settings.get(INITIAL_WINDOW_SIZE, WINDOW)
        return first + self._granted.get(stream, 0) - self._sent.get(stream, 0)

    def response(self, stream: int) -> Response:
        """The response on a stream, when it has ended."""
        self.wait(lambda: self.of(stream).ended or self.of(stream).reset is not None, f"stream {stream} ends")
        return self.of(stream)

    def get(self, path: str = "/", method: str = "GET", more: Fields = (), body: bytes = b"") -> Response:
        """One request and its response. A body must fit into a frame and the windows."""
        stream = self.start(path, method, more, end=not body)
        if body:
            self.send(data(stream, body, end=True))
        return self.response(stream)

    def of(self, stream: int) -> Response:
        """What has come on a stream."""
        return self.streams.setdefault(stream, Response())

    def is_alive(self) -> bool:
        """Whether a PING is answered."""
        payload = struct.pack("!Q", len(self.frames))
        try:
            self.send(ping(payload))
            self.wait(lambda: payload in self.pongs)
        except (OSError, ConnectionLost):
            return False
        return self.goaway is None

    def wait(self, condition: Callable[[], bool], what: str = "") -> None:
        """Takes frames until a condition holds."""
        end = time.monotonic() + patient(TIMEOUT)
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what or condition} did not come true; last frames: {self.frames[-5:]}")
            self.take(left)

    def outcome(self, stream: int) -> tuple[str, int]:
        """How a stream ends: ``status`` N, ``reset`` CODE, ``goaway`` CODE, or ``closed`` 0 without a word."""
        with contextlib.suppress(ConnectionLost, ConnectionError):
            self.wait(
                lambda: self.goaway is not None or self.of(stream).ended or self.of(stream).reset is not None,
                f"the end of stream {stream}",
            )
        found = self.of(stream)
        if self.goaway is not None and self.goaway.code != NO_ERROR:
            return "goaway", self.goaway.code
        if found.reset is not None and not (found.ended and found.reset == NO_ERROR):
            return "reset", found.reset
        if found.ended:
            return "status", found.status
        return ("goaway", self.goaway.code) if self.goaway is not None else ("closed", 0)

    def ends(self) -> int | None:
        """Waits until the server closes; the code of its GOAWAY, if it has sent one."""
        with contextlib.suppress(ConnectionLost, ConnectionError):
            self.wait(lambda: False, "the connection ends")
        return None if self.goaway is None else self.goaway.code

    def take(self, timeout: float = TIMEOUT) -> Frame:
        """The next frame, with what follows from it."""
        found = self._read(timeout)
        self.frames.append(found)
        if self._block_flags and not (found.kind == CONTINUATION):
            raise BadAnswer(f"{found} in the middle of a field block")
        handlers = {
            SETTINGS: self._settings,
            PING: self._ping,
            GOAWAY: self._goaway,
            DATA: self._data,
            HEADERS: self._headers,
            CONTINUATION: self._continuation,
            RST_STREAM: self._rst_stream,
            WINDOW_UPDATE: self._window_update,
        }
        handler = handlers.get(found.kind)
        if handler is not None:
            handler(found)
        return found

    def _settings(self, found: Frame) -> None:
        if found.has(ACK):
            self.acknowledged += 1
            return
        self.settings |= found.settings
        if self.answers:
            self.send(settings_ack())

    def _ping(self, found: Frame) -> None:
        if found.has(ACK):
            self.pongs.append(found.payload)
        elif self.answers:
            self.send(ping(found.payload, ack=True))

    def _goaway(self, found: Frame) -> None:
        self.goaway = found

    def _rst_stream(self, found: Frame) -> None:
        self.of(found.stream).reset = found.code

    def _window_update(self, found: Frame) -> None:
        increment = int.from_bytes(found.payload, "big")
        self._granted[found.stream] = self._granted.get(found.stream, 0) + increment

    def _data(self, found: Frame) -> None:
        response = self.of(found.stream)
        if not response.fields or response.ended:
            raise BadAnswer(f"{found} before the head, or behind the end")
        payload = found.payload
        if found.has(PADDED):
            payload = payload[1 : len(payload) - payload[0]]
        response.body += payload
        response.pieces.append(len(payload))
        response.ended = found.has(END_STREAM)
        if self.opens_windows and found.payload:
            updates = window_update(0, len(found.payload))
            if not response.ended:
                updates += window_update(found.stream, len(found.payload))
            with contextlib.suppress(OSError):
                self.send(updates)

    def _headers(self, found: Frame) -> None:
        payload = found.payload
        pad = 0
        if found.has(PADDED):
            pad, payload = payload[0], payload[1:]
        if found.has(PRIORITIZED):
            payload = payload[5:]
        self._block = bytearray(payload[: len(payload) - pad])
        self._end_block(found, found.flags)

    def _continuation(self, found: Frame) -> None:
        self._block += found.payload
        self._end_block(found, self._block_flags | found.flags & END_HEADERS)

    def _end_block(self, found: Frame, flags: int) -> None:
        if not flags & END_HEADERS:
            self._block_flags = flags | 0x100
            return
        self._block_flags = 0
        fields = [(str(name), str(value)) for name, value in self.decoder.decode(bytes(self._block))]
        response = self.of(found.stream)
        self._check(fields, bool(response.fields))
        if response.fields:
            response.trailers = fields
        elif fields[0][1].startswith("1"):
            response.informational.append(fields)
        else:
            response.fields = fields
        response.ended = bool(flags & END_STREAM)

    @staticmethod
    def _check(fields: list[tuple[str, str]], are_trailers: bool) -> None:
        """What no response may have (8.2, 8.3)."""
        pseudo = [name for name, _ in fields if name.startswith(":")]
        if are_trailers and pseudo:
            raise BadAnswer(f"{pseudo} in trailers")
        if not are_trailers and (pseudo != [":status"] or fields[0][0] != ":status"):
            raise BadAnswer(f"{fields} do not begin with a status alone")
        for name, value in fields:
            if name != name.lower() or name in FORBIDDEN or value != value.strip(" \t"):
                raise BadAnswer(f"{name}: {value!r} must not be in a response")

    def _read(self, timeout: float) -> Frame:
        end = time.monotonic() + timeout
        while True:
            if len(self._received) >= 9:
                length = int.from_bytes(self._received[:3], "big")
                if len(self._received) >= 9 + length:
                    kind, flags, stream = struct.unpack("!BBI", self._received[3:9])
                    payload = bytes(self._received[9 : 9 + length])
                    del self._received[: 9 + length]
                    return Frame(kind, flags, stream & 0x7FFF_FFFF, payload)
            self._fill(end - time.monotonic())

    def _fill(self, left: float) -> None:
        if left <= 0:
            raise TimeoutError(f"no frame came; last frames: {self.frames[-5:]}")
        self.socket.settimeout(left)
        try:
            piece = self.socket.recv(65536)
        except TimeoutError:
            raise TimeoutError(f"no frame came; last frames: {self.frames[-5:]}") from None
        except OSError as error:
            self.is_closed = True
            raise ConnectionLost(f"{error}", bytes(self._received)) from None
        finally:
            self.socket.settimeout(patient(TIMEOUT))
        if not piece:
            self.is_closed = True
            raise ConnectionLost("the connection ended", bytes(self._received))
        self._received += piece

    def has_something(self) -> bool:
        """Whether something has come that was not read."""
        pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0
        return pending or bool(self._received) or bool(select.select([self.socket], [], [], 0)[0])


#: Fields that mean the connection, which HTTP/2 does not have (8.2.2).
FORBIDDEN = frozenset(("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"))


def names(fields: Iterable[tuple[str, str]]) -> list[str]:
    """The names of fields."""
    return [name for name, _ in fields]
