"""Functions of ``gunicorn.util`` that this server has no use for itself and other code imports."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import html
import inspect
import os
import pwd
import random
import socket
import sys
import time
from email.utils import formatdate
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from oxicorn import _native
from oxicorn.daemon import daemonize
from oxicorn.workers import SUPPORTED_WORKERS

__all__ = [
    "REDIRECT_TO",
    "SUPPORTED_WORKERS",
    "bytes_to_str",
    "check_is_writable",
    "chown",
    "close",
    "close_graceful",
    "close_on_exec",
    "daemonize",
    "get_username",
    "has_fileno",
    "hop_headers",
    "http_date",
    "is_glob_pattern",
    "is_hoppish",
    "is_ipv6",
    "load_entry_point",
    "parse_address",
    "positionals",
    "reraise",
    "seed",
    "set_non_blocking",
    "split_request_uri",
    "to_bytestring",
    "unlink",
    "unquote_to_wsgi_str",
    "warn",
    "write",
    "write_chunk",
    "write_error",
    "write_nonblock",
]

REDIRECT_TO = os.devnull
positionals = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
#: Headers that belong to a connection, and those that the server writes itself.
hop_headers = frozenset(
    """
    connection keep-alive proxy-authenticate proxy-authorization te trailers transfer-encoding
    upgrade server date
    """.split()
)


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


def close_graceful(sock: socket.socket, timeout: float = 2.0, max_drain: int = 65536) -> None:
    """Closes a connection so that the peer reads what was sent (RFC 9112, section 9.6).

    It has ``timeout`` seconds and ``max_drain`` bytes to come to its own end.
    """
    with contextlib.suppress(OSError), sock:
        sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + timeout
        while max_drain > 0 and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(4096)
            if not data:
                break
            max_drain -= len(data)


def write(sock: socket.socket, data: bytes, chunked: bool = False) -> None:
    """Sends bytes, on demand as one chunk of a body."""
    if chunked:
        write_chunk(sock, data)
    else:
        sock.sendall(data)


def write_chunk(sock: socket.socket, data: str | bytes) -> None:
    """Sends one chunk of a body."""
    data = to_bytestring(data)
    sock.sendall(b"%X\r\n%b\r\n" % (len(data), data))


def write_nonblock(sock: socket.socket, data: bytes, chunked: bool = False) -> None:
    """Sends what can be sent without waiting; BlockingIOError if not everything can."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        write(sock, data, chunked)
    finally:
        sock.settimeout(timeout)


def write_error(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    """Sends a page that tells of an error, without waiting."""
    page = (
        f"<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n"
        f"    <h1><p>{reason}</p></h1>\n    {html.escape(mesg)}\n  </body>\n</html>\n"
    )
    head = (
        f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: text/html\r\n"
        f"Content-Length: {len(page)}\r\n\r\n"
    )
    write_nonblock(sock, (head + page).encode("latin-1"))


def is_hoppish(header: str) -> bool:
    """Whether an application's header of this name is not passed on."""
    return header.lower().strip() in hop_headers


def is_glob_pattern(value: str) -> bool:
    """Whether a path has wildcards."""
    return glob.has_magic(value)


def split_request_uri(uri: str) -> SplitResult:
    """The parts of a request target; two slashes at its beginning are a path's."""
    if uri.startswith("//"):
        parts = urlsplit("." + uri)
        return parts._replace(path=parts.path[1:])
    return urlsplit(uri)


def unquote_to_wsgi_str(string: str | bytes) -> str:
    """A path without percent signs, as ``PATH_INFO`` has it."""
    return unquote_to_bytes(string).decode("latin-1")


def reraise(
    tp: type[BaseException], value: BaseException | None, tb: TracebackType | None = None
) -> NoReturn:
    """Raises an exception again, with its traceback."""
    raise (value if value is not None else tp()).with_traceback(tb)


def load_entry_point(distribution: str, group: str, name: str) -> Any:
    """The object of an entry point; ImportError if there is none."""
    from importlib import metadata  # slow to load

    points = metadata.distribution(distribution).entry_points.select(group=group, name=name)
    for point in points:
        return point.load()
    raise ImportError(f"Entry point {(group, name)!r} not found")


def get_username(uid: int) -> str:
    """The name of a user."""
    return pwd.getpwuid(uid).pw_name


def seed() -> None:
    """Makes random numbers random, for processes that were forked."""
    random.seed(os.urandom(64))


def unlink(filename: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(filename)
