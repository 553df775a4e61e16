"""Messages of the control socket, as in Gunicorn 27: a length of 4 bytes, big-endian, then JSON.

A request is ``{"id": 1, "command": "show workers", "args": []}``; a reply has the same ``id``,
``"status": "ok"`` with ``data``, or ``"status": "error"`` with ``error``.
"""

from __future__ import annotations

import json
import struct
from typing import Any

#: Bytes of a request. Commands are short; more is a mistake, or somebody who means harm.
REQUEST_LIMIT = 64 * 1024
#: Bytes of a reply, for clients.
REPLY_LIMIT = 16 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The bytes are no message."""


def encode(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    payload = json.dumps(message).encode()
    return _LENGTH.pack(len(payload)) + payload


def has_message(buffer: bytearray, limit: int) -> bool:
    """Whether ``take`` has something to give, or to raise."""
    if len(buffer) < _LENGTH.size:
        return False
    length = _length(buffer)
    return length > limit or len(buffer) >= _LENGTH.size + length


def take(buffer: bytearray, limit: int) -> dict[str, Any] | None:
    """Takes the first message out of ``buffer``; None if it is not complete.

    Raises ProtocolError if it can never become one.
    """
    if not has_message(buffer, limit):
        return None
    length = _length(buffer)
    if length > limit:
        raise ProtocolError(f"a message of {length} bytes is too long, {limit} are allowed")
    end = _LENGTH.size + length
    payload = bytes(buffer[_LENGTH.size : end])
    del buffer[:end]
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message must be a JSON object")
    return message


def _length(buffer: bytearray) -> int:
    """Bytes of the first message, behind its length."""
    (length,) = _LENGTH.unpack_from(buffer)
    return int(length)


def reply(number: object, data: dict[str, Any]) -> dict[str, Any]:
    """What was asked for."""
    return {"id": number, "status": "ok", "data": data}


def refusal(number: object, error: str) -> dict[str, Any]:
    """Why there is nothing to give."""
    return {"id": number, "status": "error", "error": error}
