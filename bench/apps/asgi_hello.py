"""Hello, as an ASGI application; /sleep answers after 10 ms, as a quick query would."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"Hello, World!\n"
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(BODY))]
START = {"type": "http.response.start", "status": 200, "headers": HEADERS}
REST = {"type": "http.response.body", "body": BODY}
WAIT = 0.010

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    if scope["path"] == "/sleep":
        await asyncio.sleep(WAIT)
    await send(START)
    await send(REST)
