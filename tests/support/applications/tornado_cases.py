"""A Tornado application with a handler for each thing that its interface can do."""

from __future__ import annotations

import asyncio
import os

import tornado.autoreload
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler


def note(name: str, text: str = "") -> None:
    """A line in a file of the server's directory, for the test to read."""
    with open(name, "a") as file:
        file.write(f"{text}\n")


async def gate(name: str) -> None:
    """Waits until the test makes the file; one that is forgotten is there after half a minute."""
    for _ in range(6000):
        if os.path.exists(name):
            return
        await asyncio.sleep(0.005)


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("hello")

    def head(self) -> None:
        self.get()


class About(RequestHandler):
    """What a handler knows of its request."""

    def get(self) -> None:
        request: HTTPServerRequest = self.request
        self.write(
            {
                "uri": request.uri,
                "path": request.path,
                "version": request.version,
                "host": request.host,
                "remote_ip": request.remote_ip,
                "protocol": request.protocol,
                "arguments": self.get_arguments("a"),
                "many": request.headers.get_list("X-Many"),
                "cookie": self.get_cookie("flavour"),
                "pid": os.getpid(),
                "autoreload": tornado.autoreload.start.__module__,
            }
        )


class Echo(RequestHandler):
    def post(self) -> None:
        self.set_status(201, "Made So")
        self.add_header("X-Two", "1")
        self.add_header("X-Two", "2")
        self.write(self.request.body)


class Form(RequestHandler):
    def post(self) -> None:
        (part,) = self.request.files["file"]
        self.write(f"{self.get_body_argument('name')} {part.filename} {len(part.body)}")


class Broken(RequestHandler):
    def get(self) -> None:
        raise RuntimeError("broken on purpose")


class TooLong(RequestHandler):
    """More than was promised."""

    async def get(self) -> None:
        self.set_header("Content-Length", "3")
        self.write(b"x")
        await self.flush()
        self.write(b"xyz")
        await self.flush()


class Pieces(RequestHandler):
    """Each piece leaves when it is flushed, not when the next one comes."""

    async def get(self) -> None:
        for number in range(3):
            self.write(f"piece {number}\n")
            await self.flush()
            await gate(f"piece{number}.open")


class Endless(RequestHandler):
    """Writes until the client has left, which the future of a write says."""

    async def get(self) -> None:
        try:
            while True:
                self.write(bytes(64 * 1024))
                await self.flush()
                note("endless")
        except StreamClosedError:
            note("endless.closed")


class Poll(RequestHandler):
    """Long polling."""

    async def get(self) -> None:
        stream = self.request.connection.stream
        note("poll.waits", f"{stream.closed()} {stream.socket.getpeername()[0]}")
        try:
            await gate("poll.open")
        except asyncio.CancelledError:
            note("poll.cancelled")
            raise
        self.write("news")

    def on_connection_close(self) -> None:
        note("poll.closed", str(self.request.connection.stream.closed()))


@stream_request_body
class Upload(RequestHandler):
    """Takes a body as it comes."""

    def prepare(self) -> None:
        self.count = 0
        limit = self.get_argument("limit", "")
        if limit:
            self.request.connection.set_max_body_size(int(limit))
        timeout = self.get_argument("timeout", "")
        if timeout:
            self.request.connection.set_body_timeout(float(timeout))
        if self.get_argument("refuse", ""):
            self.set_status(403)
            self.finish("no")

    async def data_received(self, chunk: bytes) -> None:
        self.count += len(chunk)
        note("upload", str(self.count))
        await asyncio.sleep(0)

    def post(self) -> None:
        self.write(str(self.count))

    def on_connection_close(self) -> None:
        note("upload.closed")


class Detach(RequestHandler):
    """Speaks to the client itself."""

    async def get(self) -> None:
        stream = self.detach()
        await stream.write(b"as I like: ")
        note("detached", str(self.request.connection.stream))
        line = await stream.read_until(b"\n")
        await stream.write(line.upper())
        stream.close()


class DetachLate(RequestHandler):
    """Does so when its response has begun."""

    async def get(self) -> None:
        self.write("begun ")
        await self.flush()
        stream = self.detach()
        await stream.write(b"and detached")
        stream.close()


class Drop(RequestHandler):
    """Takes the stream and loses it."""

    def get(self) -> None:
        self.detach()


class Channel(WebSocketHandler):
    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "chat" if "chat" in subprotocols else None

    def get_compression_options(self) -> dict[str, object] | None:
        return {} if self.get_argument("compressed", "") else None

    async def open(self) -> None:
        self.set_nodelay(True)
        note("channel.open")

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        note("channel.closed", str(self.close_code))


def make(**settings: object) -> Application:
    handlers = [
        ("/", Hello),
        ("/about", About),
        ("/echo", Echo),
        ("/form", Form),
        ("/broken", Broken),
        ("/too-long", TooLong),
        ("/pieces", Pieces),
        ("/endless", Endless),
        ("/poll", Poll),
        ("/upload", Upload),
        ("/detach", Detach),
        ("/detach/late", DetachLate),
        ("/drop", Drop),
        ("/channel", Channel),
    ]
    return Application(handlers, **settings)
