"""A raw WebSocket client (RFC 6455): frames are sent exactly as given and read as strictly as the RFC says.

Like ``http.py`` it uses no library: a test must be able to send what no library sends, and must see each
frame. It negotiates no extension unless the test asks for one, and answers nothing by itself.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.http import TIMEOUT, Address, Answer, BadAnswer, ConnectionLost, Headers, Peer, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Payload length from which on 16 and 64 bits carry it (RFC 6455, 5.2).
LENGTH_16, LENGTH_64 = 126, 127


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    fin: bool
    rsv: int
    opcode: int
    payload: bytes


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x11\x22\x33\x44"
) -> bytes:
    """The bytes of one frame; ``mask=None`` leaves it unmasked, which a client must not do."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if mask is not None else 0
    if len(payload) < LENGTH_16:
        head += bytes([flag | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([flag | LENGTH_16]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | LENGTH_64]) + struct.pack("!Q", len(payload))
    if mask is None:
        return head + payload
    return head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with the mask laid over it."""
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


class WebSocket:
    """A connection and its handshake. ``answer`` is what the server said to it; anything but 101 is a refusal."""

    def __init__(
        self,
        address: Address,
        target: str = "/",
        headers: Headers = (),
        subprotocols: Sequence[str] = (),
        timeout: float = TIMEOUT,
        receive_buffer: int | None = None,
        early: bytes = b"",
    ) -> None:
        """``early`` is sent together with the handshake; a header given in ``headers`` replaces the usual one."""
        self.peer = Peer(address, timeout, receive_buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        usual = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        if subprotocols:
            usual.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        given = {name.lower() for name, _ in headers}
        fields = [*(field for field in usual if field[0].lower() not in given), *headers]
        try:
            self.peer.send(encode("GET", target, fields) + early)
            self.answer: Answer = self.peer.answer()
            if self.answer.status == 101:
                self._check(dict((name.lower(), value) for name, value in fields)["sec-websocket-key"])
        except BaseException:
            self.peer.close()
            raise

    def _check(self, key: str) -> None:
        expected = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if self.answer.header("sec-websocket-accept") != expected:
            raise BadAnswer(f"Sec-WebSocket-Accept in {self.answer.headers}")
        if (self.answer.header("upgrade") or "").lower() != "websocket":
            raise BadAnswer(f"Upgrade in {self.answer.headers}")

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()

    # Sending.

    def send_frame(self, opcode: int, payload: bytes = b"", **options: object) -> None:
        """Sends one frame; see ``frame``."""
        self.peer.send(frame(opcode, payload, **options))  # type: ignore[arg-type]

    def send(self, message: str | bytes) -> None:
        """Sends a message in one frame."""
        if isinstance(message, str):
            self.send_frame(TEXT, message.encode())
        else:
            self.send_frame(BINARY, message)

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Sends a close frame; ``None``: one without a code."""
        self.send_frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())

    # Receiving.

    def frame(self) -> Frame:
        """The next frame."""
        first, second = self.peer.exactly(2)
        if second & 0x80:
            raise BadAnswer("a server masked a frame")
        length = second & 0x7F
        if length == LENGTH_16:
            (length,) = struct.unpack("!H", self.peer.exactly(2))
            minimum = LENGTH_16
        elif length == LENGTH_64:
            (length,) = struct.unpack("!Q", self.peer.exactly(8))
            minimum = 1 << 16
        else:
            minimum = 0
        if length < minimum:
            raise BadAnswer(f"length {length} not in its shortest form")
        found = Frame(bool(first & 0x80), first >> 4 & 7, first & 15, self.peer.exactly(length))
        if found.opcode >= CLOSE and (length >= LENGTH_16 or not found.fin):
            raise BadAnswer(f"control frame too long or fragmented: {found}")
        return found

    def receive(self) -> str | bytes:
        """The next message; control frames but the close are answered or left out."""
        opcode, parts = None, []
        while True:
            found = self.frame()
            if found.opcode == PING:
                self.send_frame(PONG, found.payload)
            elif found.opcode == CLOSE:
                raise ConnectionLost("closed instead of a message", found.payload)
            elif found.opcode != PONG:
                if (found.opcode == CONTINUATION) == (opcode is None):
                    raise BadAnswer(f"{found} out of place")
                opcode = found.opcode if opcode is None else opcode
                parts.append(found.payload)
                if found.fin:
                    data = b"".join(parts)
                    return data.decode() if opcode == TEXT else data

    def closed(self) -> tuple[int | None, str]:
        """Expects a close frame; its code and reason."""
        found = self.frame()
        while found.opcode in (PING, PONG):
            found = self.frame()
        if found.opcode != CLOSE:
            raise BadAnswer(f"{found} instead of a close")
        if not found.payload:
            return None, ""
        return struct.unpack("!H", found.payload[:2])[0], found.payload[2:].decode()

    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        """Closes as RFC 6455, 7.1 wants it: close frames both ways, then the server ends the connection."""
        self.send_close(code, reason)
        answer = self.closed()
        assert self.peer.rest() == b""
        return answer
