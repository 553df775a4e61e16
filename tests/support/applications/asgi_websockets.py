"""An ASGI application that speaks WebSocket; each path does one thing.

What it wants to tell is printed as a line ``told: ...``; the log has it.
"""

from __future__ import annotations

import asyncio
import os
import sys


def tell(what):
    """A line for the test."""
    print(f"told: {what}", file=sys.stderr, flush=True)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        return await send({"type": "http.response.body", "body": b"hello"})
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    return await PATHS[scope["path"].strip("/")](receive, send)


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def echo(receive, send):
    """Sends back what comes, and tells how it ended."""
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            tell(f"{event['code']} {event['reason']!r}")
            return
        await send({**event, "type": "websocket.send"})


async def think(receive, send):
    """As ``echo``, but takes its time for each; and tries to say something when it is over."""
    while (event := await receive())["type"] == "websocket.receive":
        await asyncio.sleep(0.1)
        await send({"type": "websocket.send", "text": event["text"]})
    tell(f"{event['code']} {event['reason']!r}")
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except OSError as error:
        tell(f"stopped by {type(error).__name__}")
        await send({"type": "websocket.close"})
        tell("closed what was closed")


async def talk(receive, send):
    """Sends for ever and listens to nobody,."""
    try:
        while True:
            await send({"type": "websocket.send", "text": "news"})
            await asyncio.sleep(0.01)
    except OSError as error:
        tell(f"stopped by {type(error).__name__}")


async def subscribe(receive, send):
    """As ``talk``, after a first message."""
    await receive()
    await talk(receive, send)


async def fail(receive, send):
    """Raises on the first message."""
    await receive()
    raise ValueError("told to fail")


async def leave(receive, send):
    """Returns on the first message."""
    await receive()


async def flood(receive, send):
    """Sends as fast as it may, and tells how far it came."""
    try:
        for number in range(2000):
            await send({"type": "websocket.send", "bytes": number.to_bytes(4, "big") * 16384})
            tell(f"sent {number}")
    except OSError as error:
        tell(f"stopped by {type(error).__name__}")


async def deaf(receive, send):
    """Receives nothing until it is told to by a file."""
    tell("deaf")
    try:
        while not os.path.exists("listen"):
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        tell("deaf was cancelled")
        raise
    size = 0
    while (event := await receive())["type"] == "websocket.receive":
        size += len(event["bytes"])
        if not event["bytes"]:
            await send({"type": "websocket.send", "text": str(size)})


async def stubborn(receive, send):
    """Goes on after the end, until it is cancelled."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
    tell("disconnected")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        tell("cancelled")
        raise


PATHS = {function.__name__: function for function in (echo, think, talk, subscribe, fail, leave, flood, deaf, stubborn)}
