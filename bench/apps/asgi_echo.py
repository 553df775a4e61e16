"""Gives back what it gets: the body of a request, each message of a WebSocket."""

from typing import Any

from asgi_hello import Receive, Send


async def echo_body(receive: Receive, send: Send) -> None:
    event = await receive()
    body = event["body"]
    if event.get("more_body"):
        parts = [body]
        while event.get("more_body"):
            event = await receive()
            parts.append(event.get("body", b""))
        body = b"".join(parts)
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo_messages(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event["bytes"]})


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await echo_body(receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)
    else:
        raise ValueError(f"no {scope['type']} here")
