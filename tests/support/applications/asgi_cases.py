"""Runs ASGI applications that tests define while the server runs: see ``tests/support/asgi.py``.

``/NAME...`` (or any path with the header ``x-case: NAME``) is served by ``application`` of the file ``NAME.py`` in the
server's directory; everything else is greeted. What such an application wants to tell its test it passes to
``note``. The names in ``__all__`` are there for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import os

__all__ = ["answer", "asyncio", "drain", "note", "raised", "start"]

case = contextvars.ContextVar("case")
applications = {}


def note(**facts):
    """Tells the test; values must be literals."""
    with open(f"{case.get()}.notes", "a") as file:
        file.write(f"{facts!r}\n")


async def raised(awaitable):
    """Names of the classes of what ``awaitable`` raises; None if it returns."""
    try:
        await awaitable
    except Exception as error:
        return [kind.__name__ for kind in type(error).__mro__]
    return None


async def start(send, status=200, headers=(), **more):
    """Sends the head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def answer(send, body=b"done", status=200, headers=()):
    """Sends a whole answer."""
    await start(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def drain(receive):
    """The whole body of the request, or None if the client left before its end."""
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


def load(name):
    """The application of a file, loaded once."""
    if name not in applications:
        spec = importlib.util.spec_from_file_location(name, f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        applications[name] = module.application
    return applications[name]


def called(scope):
    """Name of the case a scope is for."""
    for name, value in scope["headers"]:
        if name == b"x-case":
            return value.decode()
    return scope["path"].strip("/").partition("/")[0]


async def lifespan(scope, receive, send):
    """Leaves something in the state, which every request must find."""
    await receive()
    scope["state"].update(number=1, shared=[])
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    name = called(scope)
    if os.path.exists(f"{name}.py"):
        case.set(name)
        return await load(name)(scope, receive, send)
    return await answer(send, b"hello", headers=[(b"content-length", b"5")])
