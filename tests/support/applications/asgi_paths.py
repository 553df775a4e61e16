"""An ASGI application in which each path does one thing; without any framework.

``/NAME`` calls the function ``NAME``. ``application.seen`` is what ``/seen`` tells as JSON.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import tempfile

SEEN: list[str] = []
TEXT = [(b"content-type", b"text/plain")]
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="fresh")


async def application(scope, receive, send):
    """Calls the function that the path names."""
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    name = scope["path"].strip("/").split("/")[0] or "hello"
    return await PATHS[name](scope, receive, send)


async def lifespan(scope, receive, send):
    """Startup leaves something in the state; shutdown is answered."""
    assert (await receive())["type"] == "lifespan.startup"
    VARIABLE.set("of the lifespan")
    scope["state"]["started"] = True
    scope["state"]["shared"] = []
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


async def start(send, status=200, headers=TEXT, **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def body(send, data=b"", more_body=False):
    await send({"type": "http.response.body", "body": data, "more_body": more_body})


async def answer(send, data, status=200):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    await start(send, status)
    await body(send, data)


async def read_all(receive):
    pieces = []
    while True:
        event = await receive()
        assert event["type"] == "http.request", event
        pieces.append(event["body"])
        if not event["more_body"]:
            return pieces


async def hello(scope, receive, send):
    await answer(send, b"Hello, world!")


async def scope(scope, receive, send):
    def plain(value):
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    types = {key: type(value).__name__ for key, value in scope.items()}
    await answer(send, {"scope": plain(scope), "types": types})


async def echo(scope, receive, send):
    await answer(send, b"".join(await read_all(receive)))


async def pieces(scope, receive, send):
    await answer(send, [len(piece) for piece in await read_all(receive)])


async def seen(scope, receive, send):
    await answer(send, SEEN)


async def status(scope, receive, send):
    await answer(send, b"body", int(scope["path"].split("/")[2]))


async def chunks(scope, receive, send):
    """N pieces of M bytes, the loop turning between them if a pause is asked for."""
    _, _, count, size, *pause = scope["path"].split("/")
    await start(send)
    for _ in range(int(count)):
        await body(send, b"x" * int(size), more_body=True)
        if pause:
            await asyncio.sleep(float(pause[0]))
    await body(send)


async def counted(scope, receive, send):
    """A Content-Length of N with M bytes."""
    _, _, promised, given = scope["path"].split("/")
    await start(send, headers=[(b"content-length", promised.encode())])
    await body(send, b"x" * int(given))


async def fails(scope, receive, send):
    """Raises: at once, after the head, after a piece of the body, after the end."""
    when = scope["path"].split("/")[2]
    if when != "at-once":
        await start(send)
    if when == "after-piece":
        await body(send, b"piece", more_body=True)
    if when == "after-end":
        await body(send, b"whole")
    raise ValueError(f"raised {when}")


async def silent(scope, receive, send):
    """Returns without a response; or with half of one."""
    if scope["path"].endswith("half"):
        await start(send)


async def wrong(scope, receive, send):
    """Sends what the path says, and answers with the error."""
    events = {
        "body-first": [{"type": "http.response.body"}],
        "twice": [{"type": "http.response.start", "status": 200}] * 2,
        "no-type": [{}],
        "not-a-dict": [["http.response.start"]],
        "unknown": [{"type": "http.response.dance"}],
        "websocket": [{"type": "websocket.accept"}],
        "no-status": [{"type": "http.response.start"}],
        "status-text": [{"type": "http.response.start", "status": "200"}],
        "status-range": [{"type": "http.response.start", "status": 99}],
        "name-text": [{"type": "http.response.start", "status": 200, "headers": [("a", b"b")]}],
        "value-text": [{"type": "http.response.start", "status": 200, "headers": [(b"a", "b")]}],
        "newline": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]}],
        "triple": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b", b"c")]}],
        "number": [{"type": "http.response.start", "status": 200, "headers": [1]}],
        "trailers": [{"type": "http.response.trailers", "headers": []}],
    }
    try:
        for event in events[scope["path"].split("/")[2]]:
            await send(event)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    else:
        text = "accepted"
    if not text.startswith("RuntimeError: unexpected ASGI event, http.response.start"):
        await start(send)
    await body(send, text.encode())


async def body_text(scope, receive, send):
    await start(send)
    try:
        await body(send, "text")
    except TypeError as error:
        await body(send, str(error).encode())


async def buffers(scope, receive, send):
    """Bytes-like objects that are not bytes."""
    await start(send)
    await body(send, bytearray(b"array "), more_body=True)
    await body(send, memoryview(b"view"))


async def after_end(scope, receive, send):
    """What receive and send do when the response is complete."""
    await answer(send, b"first")
    SEEN.append(f"receive: {(await receive())['type']}")
    try:
        await body(send, b"more")
    except Exception as error:
        SEEN.append(f"send: {type(error).__name__}")


async def trailers(scope, receive, send):
    await start(send, trailers=True)
    await body(send, b"with trailers")
    await send({"type": "http.response.trailers", "headers": [(b"x-first", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-second", b"2")]})


async def early_hint(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
    await send({"type": "http.response.informational", "status": 103, "headers": [(b"x-hint", b"yes")]})
    await answer(send, b"final")


def make_file(size):
    file = tempfile.NamedTemporaryFile(dir=os.getcwd(), delete=False)
    file.write(bytes(number % 251 for number in range(size)))
    file.flush()
    return file


async def path_send(scope, receive, send):
    with make_file(int(scope["path"].split("/")[2])) as file:
        await start(send)
        await send({"type": "http.response.pathsend", "path": file.name})
    os.unlink(file.name)


async def zero_copy(scope, receive, send):
    """Bytes, a part of a file, bytes, the rest of it."""
    with make_file(100_000) as file:
        os.unlink(file.name)
        await start(send)
        await body(send, b"<", more_body=True)
        event = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
        await send({**event, "offset": 10, "count": 20})
        await body(send, b"|", more_body=True)
        file.seek(99_990)
        await send({**event, "more_body": False})


async def variable(scope, receive, send):
    """A context variable: what it was, and what a second request must not see."""
    was = VARIABLE.get()
    VARIABLE.set("of another request")
    await answer(send, was.encode())


async def state(scope, receive, send):
    """The state is a copy; what is in it is shared."""
    scope["state"]["mine"] = True
    scope["state"]["shared"].append(1)
    await answer(send, [sorted(scope["state"]), len(scope["state"]["shared"])])


async def tasks(scope, receive, send):
    """What of asyncio looks at tasks and coroutines."""
    task = asyncio.current_task()
    first = await asyncio.create_task(receive())
    await asyncio.ensure_future(send({"type": "http.response.start", "status": 200, "headers": TEXT}))
    results = {
        "task": isinstance(task, asyncio.Task),
        "first": first["type"],
        "in_all": task in asyncio.all_tasks(),
        "loop": asyncio.get_running_loop() is task.get_loop(),
        "loop_name": type(asyncio.get_running_loop()).__module__,
    }
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    waiting.cancel()
    results["cancelled"] = isinstance(
        (await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError
    )
    try:
        await asyncio.wait_for(receive(), 0.01)
    except asyncio.TimeoutError:
        results["timeout"] = True
    await asyncio.gather(
        send({"type": "http.response.body", "body": b"", "more_body": True}),
        send({"type": "http.response.body", "body": json.dumps(results).encode()}),
    )


async def background(scope, receive, send):
    """Goes on after the response."""
    await answer(send, b"early")
    await asyncio.sleep(0.2)
    SEEN.append("background done")


async def slow(scope, receive, send):
    await asyncio.sleep(float(scope["path"].split("/")[2]))
    await answer(send, b"slow")


PATHS = {
    name.replace("_", "-"): function
    for name, function in list(globals().items())
    if asyncio.iscoroutinefunction(function) and name not in ("application", "lifespan", "start", "body", "answer")
}
