"""A raw HTTP/1 client: bytes are sent exactly as given, and answers are read as strictly as RFC 9112 says.

No library is used because libraries repair, retry and normalise: a test must see every byte and every
connection that ends too early. Whatever is malformed in an answer raises ``BadAnswer``; a connection
that ends before an answer is complete raises ``ConnectionLost`` with what had arrived.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.support.wait import patient

Address = tuple[str, int] | str
Headers = Sequence[tuple[str, str]]

#: Seconds a single read or write may take.
TIMEOUT = 25.0
BLOCK = 64 * 1024

STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) (\d{3}) ([\t\x20-\x7e\x80-\xff]*)\r\n")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n")
BODILESS = frozenset({204, 304})


class BadAnswer(AssertionError):
    """The server broke the protocol."""


class ConnectionLost(ConnectionError):
    """The connection ended before the answer was complete; ``received`` is what there was."""

    def __init__(self, reason: str, received: bytes = b"") -> None:
        super().__init__(f"{reason} (received {received[:200]!r})")
        self.received = received


@dataclass
class Answer:
    """One response with everything that came before it."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    #: How the body was delimited: none, length, chunked or close.
    framing: str = "none"
    #: Sizes of the chunks, in order, if it was chunked.
    chunks: list[int] = field(default_factory=list)
    #: 1xx responses that came first.
    informational: list[Answer] = field(default_factory=list)
    #: Fields after the last chunk.
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Every value of the header ``name``."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of the header ``name``, which must not be there twice; None without it."""
        values = self.all(name)
        assert len(values) < 2, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def keeps_connection(self) -> bool:
        """Whether the server announced that the connection stays open (RFC 9112, 9.3)."""
        options = [part.strip().lower() for value in self.all("connection") for part in value.split(",")]
        if "close" in options or self.framing == "close":
            return False
        return self.version == "1.1" or "keep-alive" in options


class Peer:
    """One connection to a server, over TCP or a unix socket."""

    def __init__(self, address: Address, timeout: float = TIMEOUT, receive_buffer: int | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patient(timeout))
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection in both directions."""
        self.socket.close()

    # Sending.

    def send(self, data: bytes) -> None:
        """Sends ``data`` as it is."""
        self.socket.sendall(data)

    def send_slowly(self, data: bytes, pause: float = 0.0, step: int = 1) -> None:
        """Sends ``step`` bytes at a time, each in a segment of its own."""
        for start in range(0, len(data), step):
            self.socket.sendall(data[start : start + step])
            if pause:
                time.sleep(pause)

    def half_close(self) -> None:
        """Ends our sending side; the answer can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Headers = (),
        body: bytes | Iterable[bytes] | None = None,
        version: str = "1.1",
    ) -> Answer:
        """Sends one request and reads its answer. An iterable body is sent chunked."""
        self.send(encode(method, target, headers, body, version))
        return self.answer(method)

    def get(self, target: str = "/", headers: Headers = ()) -> Answer:
        """GET."""
        return self.request("GET", target, headers)

    # Receiving.

    def _fill(self, doing: str) -> bool:
        """Reads more; False at the end of the connection."""
        try:
            data = self.socket.recv(BLOCK)
        except TimeoutError:
            raise TimeoutError(f"nothing came while {doing}; had {self.buffer[:200]!r}") from None
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ConnectionLost(f"{error} while {doing}", self.buffer) from error
        self.buffer += data
        return bool(data)

    def _line(self, doing: str, body: bytes = b"") -> bytes:
        while b"\n" not in self.buffer:
            if not self._fill(doing):
                raise ConnectionLost(f"closed while {doing}", body + self.buffer)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def _exactly(self, length: int, body: bytes, doing: str) -> bytes:
        parts, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < length:
            if not self._fill(doing):
                raise ConnectionLost(f"closed {length - have} bytes early while {doing}", body + b"".join(parts))
            parts.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        data = b"".join(parts)
        self.buffer = data[length:]
        return data[:length]

    def head(self) -> Answer:
        """Reads one status line and its headers, informational or final."""
        line = self._line("reading the status line")
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise BadAnswer(f"status line {line!r}")
        version, status, reason = (group.decode("latin-1") for group in match.groups())
        headers = []
        while (line := self._line("reading headers")) != b"\r\n":
            headers.append(_field(line, "header"))
        return Answer(version, int(status), reason, headers)

    def answer(self, method: str = "GET") -> Answer:
        """Reads the answer to a request that was sent with ``method``."""
        informational = []
        answer = self.head()
        while 100 <= answer.status < 200 and answer.status != 101:
            informational.append(answer)
            answer = self.head()
        answer.informational = informational
        self._read_body(answer, method)
        return answer

    def _read_body(self, answer: Answer, method: str) -> None:
        """RFC 9112, 6.3."""
        coding, length = answer.header("transfer-encoding"), answer.header("content-length")
        if coding is not None and length is not None:
            raise BadAnswer("both Transfer-Encoding and Content-Length")
        if method == "HEAD" or answer.status in BODILESS or answer.status == 101:
            return
        if method == "CONNECT" and answer.status < 300:
            return
        if coding is not None:
            if coding.lower() != "chunked":
                raise BadAnswer(f"Transfer-Encoding {coding!r}")
            answer.framing = "chunked"
            self._read_chunks(answer)
        elif length is not None:
            if not re.fullmatch("[0-9]+", length):
                raise BadAnswer(f"Content-Length {length!r}")
            answer.framing = "length"
            answer.body = self._exactly(int(length), b"", "reading a counted body")
        else:
            answer.framing = "close"
            answer.body = self.rest()

    def _read_chunks(self, answer: Answer) -> None:
        while True:
            line = self._line("reading a chunk size", answer.body)
            match = re.fullmatch(rb"([0-9A-Fa-f]+)\r\n", line)
            if match is None:
                raise BadAnswer(f"chunk size line {line!r}")
            size = int(match[1], 16)
            if size == 0:
                break
            answer.chunks.append(size)
            answer.body += self._exactly(size, answer.body, "reading a chunk")
            end = self._exactly(2, answer.body, "reading the end of a chunk")
            if end != b"\r\n":
                raise BadAnswer(f"chunk ends with {end!r}")
        while (line := self._line("reading trailers")) != b"\r\n":
            answer.trailers.append(_field(line, "trailer"))

    def rest(self) -> bytes:
        """Everything until the server closes."""
        parts = [self.buffer]
        self.buffer = b""
        while self._fill("waiting for the end of the connection"):
            parts.append(self.buffer)
            self.buffer = b""
        return b"".join(parts)

    def receive(self, size: int) -> bytes:
        """At most ``size`` bytes, as they come; empty at the end."""
        if not self.buffer:
            self._fill("receiving")
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def exactly(self, size: int) -> bytes:
        """``size`` bytes, for protocols other than HTTP."""
        return self._exactly(size, b"", "receiving")

    def is_closed(self, within: float) -> bool:
        """Whether the server closes within ``within`` seconds, sending nothing before."""
        assert not self.buffer, f"unread {self.buffer[:200]!r}"
        before = self.socket.gettimeout()
        self.socket.settimeout(within)
        try:
            data = self.socket.recv(1)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(before)
        assert not data, f"sent {data!r} instead of closing"
        return True


def _field(line: bytes, what: str) -> tuple[str, str]:
    match = HEADER_LINE.fullmatch(line)
    if match is None:
        raise BadAnswer(f"{what} line {line!r}")
    name, value = (group.decode("latin-1") for group in match.groups())
    return name, value


def encode(
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),
    body: bytes | Iterable[bytes] | None = None,
    version: str = "1.1",
) -> bytes:
    """The bytes of one request. ``Host`` and the framing are added where they are not given."""
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/{version}"]
    if "host" not in names:
        lines.append("Host: example.org")
    lines += [f"{name}: {value}" for name, value in headers]
    payload = b""
    if isinstance(body, bytes):
        payload = body
        if "content-length" not in names:
            lines.append(f"Content-Length: {len(body)}")
    elif body is not None:
        lines.append("Transfer-Encoding: chunked")
        payload = b"".join(chunk(piece) for piece in body) + b"0\r\n\r\n"
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + payload


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
