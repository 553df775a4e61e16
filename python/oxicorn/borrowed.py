"""Sockets on descriptors that are somebody else's."""

from __future__ import annotations

import os
import socket

__all__ = ["Borrowed", "detached"]


class Borrowed(socket.socket):
    """A socket whose descriptor is somebody else's: to close it is to let go of it."""

    def close(self) -> None:
        """The descriptor stays open, and is not known here any more."""
        self.detach()

    def __del__(self) -> None:
        self.detach()


def detached(family: int) -> Borrowed:
    """One that has been let go of."""
    made = Borrowed(family, socket.SOCK_STREAM)
    os.close(made.detach())
    return made
