"""Log files for those who may not open them.

Gateway and workers run as another user (settings ``user``, ``group``), and a log may lie where only
the arbiter's user may enter. The arbiter opens such files, anew after each rotation, and offers the
descriptors (``log_offer``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    import logging
    from typing import Any

    from oxicorn.log_offer import Offer

__all__ = ["advice", "appended", "offer", "only_look", "open_for", "reopened"]

#: The arbiter's, where gateway and workers run as somebody else.
_offer: Offer | None = None


def offer() -> Offer:
    """The one of this server, made where there is none."""
    global _offer
    if _offer is None:
        from oxicorn.log_offer import Offer  # only a server with two users needs it

        _offer = Offer()
    return _offer


def only_look() -> None:
    """This process runs as another user from now on."""
    if _offer is not None:
        _offer.only_look()


def reopened(handler: logging.FileHandler) -> io.TextIOWrapper[Any] | Any:
    """A new stream for ``handler``, by its own means or from the arbiter; OSError if neither."""
    try:
        return handler._open()
    except PermissionError:
        descriptor = _offered(handler.baseFilename)
        if descriptor is None:
            raise
        return open(descriptor, "a", encoding=handler.encoding, errors=handler.errors)


def appended(path: str) -> Any:
    """``path`` to append to, opened here or by the arbiter; OSError if neither can."""
    try:
        return open(path, "a+")
    except PermissionError:
        descriptor = _offered(path)
        if descriptor is None:
            raise
        return open(descriptor, "a")


def _offered(path: str) -> int | None:
    return None if _offer is None else _offer.descriptor(path)


def open_for(path: str, owner: tuple[int, int] | None) -> int | None:
    """Opens the log ``path``, made if it is not there, to be written by somebody else.

    It is given to ``owner`` (user and group), if there is one to be. What is not a plain file (a
    terminal, ``/dev/null``) keeps its owner, and so does what a symbolic link leads to. Links are
    followed only where nobody but root and we could have made them. None: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        is_link = os.path.islink(path)
        if not (is_link and _is_ours(os.path.dirname(os.path.abspath(path)))):
            flags |= os.O_NOFOLLOW
            is_link = False
        descriptor = os.open(path, flags, 0o666)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if owner is not None and not is_link and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, *owner)
        os.set_blocking(descriptor, True)
    return descriptor


def _is_ours(directory: str) -> bool:
    """Whether nobody but root and we can put anything into it."""
    found = os.stat(directory)
    writable = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & writable


def advice(error: OSError) -> str:
    """What to do about a log file that cannot be opened."""
    if error.errno == errno.ENOENT:
        return "make its directory"
    if isinstance(error, PermissionError):
        return f"let user {os.geteuid()} write it, or name another file"
    return "name another file"
