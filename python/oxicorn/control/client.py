"""The client's end of the control socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from oxicorn.control import protocol

#: Seconds an answer may take.
TIMEOUT = 30.0


class ControlError(Exception):
    """The server cannot be reached, or refuses the command; the text says why."""


def default_path() -> str:
    """Where a control socket is looked for: the setting's default."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return os.path.join(runtime, "oxicorn.ctl")
    return os.path.join(os.path.expanduser("~"), ".oxicorn", "oxicorn.ctl")


#: What there is to do about errors of the system's.
ADVICE = {
    errno.ENOENT: "Is control_socket set to this path? (-s PATH)",
    errno.EACCES: "It belongs to the server's user: call this as that one, or as root.",
    errno.ECONNREFUSED: "It is no socket, or of a server that was killed.",
}


def _reason(error: OSError) -> str:
    advice = ADVICE.get(error.errno or 0, "Is control_socket set there? (-s PATH)")
    return f"{error.strerror or error}. {advice}"


class ControlClient:
    """A connection to the server at ``path``."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._buffer = bytearray()
        self._next = 1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A server whose backlog is full is waited for, but not for ever.
            limit = struct.pack("ll", round(timeout), 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(path)
            self._socket.settimeout(timeout)
        except BlockingIOError:
            self._socket.close()
            raise ControlError(f"the server at {path} does not answer") from None
        except OSError as error:
            self._socket.close()
            raise ControlError(f"no server answers at {path}: {_reason(error)}") from None

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def send(self, *words: str) -> dict[str, Any]:
        """Sends a command and gives its data. ControlError: refused, or the server is gone."""
        number, self._next = self._next, self._next + 1
        request = {"id": number, "command": words[0], "args": list(words[1:])}
        try:
            self._socket.sendall(protocol.encode(request))
            reply = self._receive()
        except TimeoutError:
            raise ControlError("the server did not answer in time") from None
        except OSError:
            raise ControlError(f"the server at {self._path} has gone") from None
        except protocol.ProtocolError as error:
            raise ControlError(
                f"what listens at {self._path} does not speak as a server's control socket: {error}"
            ) from None
        if reply.get("status") != "ok":
            raise ControlError(str(reply.get("error", "the server refused")))
        data = reply.get("data")
        return data if isinstance(data, dict) else {}

    def _receive(self) -> dict[str, Any]:
        while True:
            message = protocol.take(self._buffer, protocol.REPLY_LIMIT)
            if message is not None:
                return message
            block = self._socket.recv(65536)
            if not block:
                raise ConnectionError("the server closed the connection")
            self._buffer += block
