"""Requests that are in hand until a test lets them go, so that no verdict depends on how long something takes.

An application that calls ``held(environ["QUERY_STRING"])`` (``SOURCE``) serves ``gate.target`` once the gate is open:

    with Gate(server) as gate, server.connect() as slow:
        slow.send(encode(target=gate.target))
        gate.wait_until_reached()
        ...                      # whatever is answered now did not wait for it
        gate.open()
        assert slow.answer().status == 200
"""

from __future__ import annotations

from tests.support.server import Server
from tests.support.wait import wait_for

#: Of an application. A gate that is forgotten opens by itself after a minute.
SOURCE = """
import os
import time

def held(gate):
    with open(gate + ".reached", "a") as file:
        file.write(f"{os.getpid()}\\n")
    end = time.monotonic() + 60
    while not os.path.exists(gate + ".open") and time.monotonic() < end:
        time.sleep(0.005)
"""

#: A WSGI application that answers ``ok``, behind the gate where it is asked for that.
APPLICATION = (
    SOURCE
    + """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/gate":
        held(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
)


class Gate:
    """A gate in the server's directory; it is open at the end of the context, so that the server can stop."""

    def __init__(self, server: Server, name: str = "gate") -> None:
        self._server = server
        self.name = name

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    @property
    def target(self) -> str:
        """What is asked for to stand before it."""
        return f"/gate?{self.name}"

    def wait_until_reached(self, count: int = 1) -> None:
        """Until so many stand, or stood, before it: the application has their requests."""
        wait_for(lambda: len(self._server.lines(f"{self.name}.reached")) >= count, what=f"{count} at {self.name}")

    def open(self) -> None:
        """Lets all go, also those who come later."""
        self._server.write(f"{self.name}.open", "")
