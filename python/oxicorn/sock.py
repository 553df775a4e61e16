"""The listeners as hooks see them: ``server.LISTENERS`` and ``worker.sockets``.

They are bound, handed to the gateway and closed by the native module. What is here stands on the
same descriptors as long as the arbiter has them, and never closes one. In a worker, which has none
of them, the addresses are left; one whose class accepts connections itself has descriptors of its
own.
"""

from __future__ import annotations

import os
import sys

from oxicorn.unused import unused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "BaseSocket",
    "TCP6Socket",
    "TCPSocket",
    "UnixSocket",
    "close_sockets",
    "listener_of",
    "ssl_context",
]

PLATFORM = sys.platform
#: Linux' ``struct tcp_info``; of a listener, the number at BACKLOG is how many connections wait.
TCP_INFO = "B" * 8 + "I" * 24
BACKLOG = 12


class _Family:
    """A constant of ``socket``, which is imported by who asks for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, listener: BaseSocket | None, owner: type) -> Any:
        import socket

        return getattr(socket, self._name)


#: What Gunicorn's listeners do to a socket, and who does it here.
bound_elsewhere = unused(
    "listeners are bound by the native module, as the settings backlog and reuse_port say",
    "bind",
    "set_options",
)


@bound_elsewhere
class BaseSocket:
    """A listener (Gunicorn's ``gunicorn.sock``): the socket's methods and what the settings say."""

    FAMILY: Any = _Family("AF_UNSPEC")

    def __init__(self, address: Any, conf: Any, log: Any, fd: int, text: str) -> None:
        self.conf = conf
        self.log = log
        #: As the settings name it: ``(host, port)`` or a path.
        self.cfg_addr = address
        self._text = text
        #: The descriptor, while nobody has asked for the socket.
        self._fd: int | None = fd
        self._sock: socket.socket | None = None
        self._name = _address_in(text) or self.sock.getsockname()
        if isinstance(address, int):
            self.cfg_addr = self._name

    @property
    def sock(self) -> socket.socket:
        """The socket; one that has been let go of where there is none any more."""
        if self._sock is None:
            from oxicorn.borrowed import Borrowed, detached  # few ask for more than the address

            self._sock = detached(self.FAMILY) if self._fd is None else Borrowed(fileno=self._fd)
            self._fd = None
        return self._sock

    @sock.setter
    def sock(self, value: socket.socket) -> None:
        self._fd, self._sock = None, value

    def renew(self, fd: int) -> None:
        """The same listener has another descriptor now."""
        self.close()
        self._fd, self._sock = fd, None

    def own(self) -> None:
        """The descriptor is this process's own: to close the listener closes it."""
        import socket

        self.sock = socket.socket(fileno=self.sock.detach())

    def getsockname(self) -> Any:
        """The address that is listened at, also where the socket is not to be had any more."""
        return self._name

    def close(self) -> None:
        """Lets go of the socket; clients are served as before, until the server stops."""
        self._fd = None
        if self._sock is not None:
            self._sock.close()

    def get_backlog(self) -> int:
        """How many connections wait in the kernel; -1 where that is not known."""
        return -1

    def __getattr__(self, name: str) -> Any:
        if name in ("_fd", "_sock"):
            raise AttributeError(name)  # A copy in the making has none.
        return getattr(self.sock, name)

    def __str__(self) -> str:
        """The address as logs have it."""
        return self._text


@bound_elsewhere
class TCPSocket(BaseSocket):
    """A listener on an IPv4 address."""

    FAMILY = _Family("AF_INET")

    def get_backlog(self) -> int:
        """How many connections wait in the kernel; -1 where that is not known."""
        import socket
        import struct  # only StatsD and a hook ask for it

        try:
            size = struct.calcsize(TCP_INFO)
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        except (AttributeError, OSError):
            return -1
        return int(struct.unpack(TCP_INFO, info)[BACKLOG])


@bound_elsewhere
class TCP6Socket(TCPSocket):
    """A listener on an IPv6 address."""

    FAMILY = _Family("AF_INET6")


@bound_elsewhere
class UnixSocket(BaseSocket):
    """A listener on a path or an abstract name."""

    FAMILY = _Family("AF_UNIX")


def listener_of(text: str, fd: int, address: Any, conf: Any, log: Any) -> BaseSocket:
    """The object for the listening socket ``fd``."""
    return _kind(text, fd)(address, conf, log, fd, text)


def _kind(text: str, fd: int) -> type[BaseSocket]:
    if _address_in(text):
        return TCPSocket
    from oxicorn.borrowed import Borrowed

    with Borrowed(fileno=fd) as sock:
        family = sock.family
    kinds: tuple[type[BaseSocket], ...] = (TCPSocket, TCP6Socket, UnixSocket)
    return next((kind for kind in kinds if family == kind.FAMILY), BaseSocket)


def _address_in(text: str) -> tuple[str, int] | None:
    """What ``getsockname()`` says, where it can be told without: of ``http://127.0.0.1:8000``."""
    scheme, _, place = text.partition("://")
    host, _, port = place.rpartition(":")
    parts = host.split(".")
    if scheme not in ("http", "https") or len(parts) != 4 or not port.isdecimal():
        return None
    return (host, int(port)) if all(part.isdecimal() for part in parts) else None


def ssl_context(conf: Any) -> Any:
    """TLS as the settings have it (hook ``ssl_context``), for classes that speak it themselves."""

    from oxicorn import tls  # a server that speaks none does without

    context = conf.ssl_context(conf, lambda: tls.default_context(conf))
    return tls.default_context(conf) if context is None else context


def close_sockets(listeners: Iterable[Any], unlink: bool = True) -> None:
    """Closes sockets, and removes the files of those that have one."""
    for sock in listeners:
        name = sock.getsockname()
        sock.close()
        if unlink and isinstance(name, str) and name.startswith("/"):
            os.unlink(name)
