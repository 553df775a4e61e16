"""What systemd and a service tell each other: sockets it listens on for us, and how we are.

Protocols: sd_listen_fds(3) and sd_notify(3). Others speak them too: nothing here asks for systemd.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SD_LISTEN_FDS_START", "listen_fds", "pass_on", "sd_notify"]

#: The number of the first socket.
SD_LISTEN_FDS_START = 3
#: How long a manager may take to make room for a word (seconds).
PATIENCE = 1.0


def listen_fds(unset_environment: bool = True) -> int:
    """How many sockets this process was given, from number 3 on; 0 if they are for another one.

    The variables that say so are removed, unless told otherwise: they are not for our children.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    text = os.environ.get("LISTEN_FDS", "0")
    if not text.isdecimal():
        raise RuntimeError(f"LISTEN_FDS={text!r} in the environment is not a number of sockets")
    if unset_environment:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
    return int(text)


def pass_on(sockets: list[int], environment: dict[str, str]) -> None:
    """Gives ``sockets`` to the program this process turns into next, as they were given to us."""
    count = len(sockets)
    # First out of the way, so that none is in the place of another.
    for position, aside in enumerate(
        [fcntl.fcntl(number, fcntl.F_DUPFD, SD_LISTEN_FDS_START + count) for number in sockets]
    ):
        os.dup2(aside, SD_LISTEN_FDS_START + position)
        os.close(aside)
    environment["LISTEN_PID"] = str(os.getpid())
    environment["LISTEN_FDS"] = str(count)


def sd_notify(state: str, logger: Any, unset_environment: bool = False) -> None:
    """Tells the service manager ``state``, if there is one that listens (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    import socket  # where nobody listens it is not needed

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(PATIENCE)
            line.connect(address)
            line.sendall(state.encode())
    except OSError:
        # It is told for its own good: that it does not listen is no reason not to serve.
        logger.debug("Exception while invoking sd_notify()", exc_info=True)
    finally:
        if unset_environment:
            with contextlib.suppress(KeyError):
                del os.environ["NOTIFY_SOCKET"]
