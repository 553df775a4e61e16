"""ASGI applications written inside the test that needs them, run by a server that many tests share.

    def test_something(define):
        async def application(scope, receive, send):
            note(method=scope["method"])
            await answer(send, b"done")

        case = define(application)
        assert case.get().body == b"done"
        assert case.note("method") == "GET"

The source of the function is written into the server's directory, where ``applications/asgi_cases.py`` loads it: it
sees what that module exports, and nothing of the test around it.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable
from typing import Any

from tests.support.http import Answer, Headers
from tests.support.server import Server
from tests.support.wait import wait_for
from tests.support.websocket import WebSocket

HEADER = "from asgi_cases import *\n\n"
numbers = itertools.count(1)


class Case:
    """One application of a test, served under ``target``."""

    def __init__(self, server: Server, application: Callable[..., object]) -> None:
        self.server = server
        self.name = f"case_{next(numbers)}"
        source = textwrap.dedent(inspect.getsource(application))
        server.write(f"{self.name}.py", HEADER + source.replace(f"def {application.__name__}(", "def application(", 1))

    @property
    def target(self) -> str:
        """Path of the application."""
        return f"/{self.name}"

    def get(self, target: str = "", headers: Headers = ()) -> Answer:
        """GET on a connection of its own; ``target`` is added to the path."""
        return self.request("GET", target, headers)

    def request(
        self,
        method: str,
        target: str = "",
        headers: Headers = (),
        body: bytes | list[bytes] | None = None,
        version: str = "1.1",
    ) -> Answer:
        """One request on a connection of its own; ``target`` is added to the path."""
        return self.server.request(method, self.target + target, headers, body, version)

    def websocket(self, target: str = "", headers: Headers = (), **options: Any) -> WebSocket:
        """A WebSocket handshake; ``target`` is added to the path."""
        return WebSocket(self.server.address, self.target + target, headers, **options)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the application told until now."""
        return [ast.literal_eval(line) for line in self.server.lines(f"{self.name}.notes")]

    def note(self, key: str) -> Any:
        """Waits until the application told ``key``; its first value."""

        def found() -> list[Any]:
            return [facts[key] for facts in self.notes if key in facts]

        return wait_for(found, what=lambda: f"a note {key!r} in {self.notes}:\n{self.server.log}")[0]

    def wait_for_notes(self, count: int) -> list[dict[str, Any]]:
        """Waits until the application told something ``count`` times."""
        return wait_for(
            lambda: self.notes if len(self.notes) >= count else None, what=lambda: f"{count} notes: {self.notes}"
        )
