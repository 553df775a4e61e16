"""Going to the background (setting ``daemon``): the way of Gunicorn, with one thing more.

The process that was started waits until the server listens, and ends with exit code 0. If the
server fails before that, it tells why on the terminal it still has and ends with the server's exit
code. Two forks: the first to leave the caller's process group and session, the second so that the
server is no session leader, whose controlling terminal any terminal opened later would become.

These are the only forks that do not go through the native loop: there is no arbiter yet.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Launch", "daemonize", "detach"]

#: In the environment of one that takes over from a server in the background.
ALREADY_DETACHED = "GUNICORN_FD"
#: Gunicorn's umask of a daemon.
UMASK = 0o22
#: Told to the waiting process where the server ended without a word.
UNTOLD = "The server ended while it was starting; its error log may say why."


class Launch:
    """The server's line to the process that was started and waits."""

    def __init__(self, line: int | None) -> None:
        self._line = line

    def succeeded(self) -> None:
        """The server listens; whoever waits may end."""
        self._tell(0, "")

    def failed(self, text: str, code: int) -> None:
        """Why the server does not start, and its exit code. After ``succeeded`` nobody hears it."""
        self._tell(code, text)

    def _tell(self, code: int, text: str) -> None:
        if self._line is None:
            return
        line, self._line = self._line, None
        try:
            with open(line, "w") as file:
                file.write(f"{code}\n{text}")
        except OSError:
            return  # Nobody waits any more.


def detach(keep_output: bool) -> Launch:
    """Returns in the server's process, in the background; the one that called it never returns.

    ``keep_output`` (setting ``enable_stdio_inheritance``) leaves output alone that goes to a file.
    """
    if ALREADY_DETACHED in os.environ:
        return Launch(None)
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        _wait(told)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(told)
    os.umask(UMASK)
    _redirect(keep_output)
    return Launch(tell)


def daemonize(enable_stdio_inheritance: bool = False) -> None:
    """Gunicorn's ``util.daemonize``: goes to the background, and nobody waits."""
    if ALREADY_DETACHED in os.environ:
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(UMASK)
    _redirect(enable_stdio_inheritance)


def _wait(told: int) -> NoReturn:
    with open(told) as file:
        code, _, text = file.read().partition("\n")
    if not code:
        code, text = "1", f"\nError: {UNTOLD}\n"
    if text:
        print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # What is to run at the exit of an interpreter is the server's.
    os._exit(int(code))


def _redirect(keep_output: bool) -> None:
    """The terminal may be closed: nothing of it is kept, neither to read from nor to write to."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for descriptor in (1, 2):
        if not keep_output or os.isatty(descriptor):
            os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
