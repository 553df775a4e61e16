"""Functions of ``gunicorn.util`` that this server has no use for itself and other code imports."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from email.utils import formatdate
from typing import Any

from oxicorn import _native

__all__ = [
    "bytes_to_str",
    "check_is_writable",
    "chown",
    "close",
    "close_on_exec",
    "has_fileno",
    "http_date",
    "is_ipv6",
    "parse_address",
    "set_non_blocking",
    "to_bytestring",
    "warn",
]


def bytes_to_str(value: str | bytes) -> str:
    """Text as it is, bytes as latin-1."""
    return value if isinstance(value, str) else value.decode("latin1")


def to_bytestring(value: str | bytes, encoding: str = "utf8") -> bytes:
    """Bytes as they are, text encoded."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value.encode(encoding)


def http_date(timestamp: float | None = None) -> str:
    """The moment (now if None) as the ``Date`` header writes it."""
    return formatdate(timestamp, localtime=False, usegmt=True)


def is_ipv6(addr: str) -> bool:
    """Whether the text is an IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6, addr)
    except (OSError, ValueError):
        return False
    return True


def parse_address(netloc: str, default_port: str | int = "8000") -> tuple[str, int] | str | int:
    """A bind address: ``(host, port)``, a path or a descriptor; RuntimeError for others."""
    try:
        return _native.parse_address(netloc, int(default_port))
    except ValueError as error:
        raise RuntimeError(str(error)) from None


def close_on_exec(fd: int) -> None:
    """The descriptor is closed when another program is run."""
    os.set_inheritable(fd, False)


def set_non_blocking(fd: int) -> None:
    """Reading and writing never wait."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


def close(sock: socket.socket) -> None:
    """Closes the socket whatever its state."""
    try:
        sock.close()
    except OSError:
        return


def chown(path: str, uid: int, gid: int) -> None:
    """Changes the owner of a file."""
    os.chown(path, uid, gid)


def check_is_writable(path: str) -> None:
    """RuntimeError if the file cannot be opened for appending."""
    try:
        with open(path, "a"):
            return
    except OSError as error:
        raise RuntimeError(f"Error: '{path}' isn't writable [{error!r}]") from error


def has_fileno(obj: Any) -> bool:
    """Whether there is a file descriptor behind the object."""
    try:
        obj.fileno()
    except (AttributeError, OSError):
        return False
    return True


def warn(msg: str) -> None:
    """Says something on standard error."""
    print(f"Warning: {msg.strip()}", file=sys.stderr, flush=True)
