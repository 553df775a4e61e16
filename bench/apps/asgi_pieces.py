"""100 pieces of 1 KiB, each sent by itself, without a Content-Length."""

from typing import Any

from asgi_hello import Receive, Send

PIECE = b"x" * 1024
PIECES = 100


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})
