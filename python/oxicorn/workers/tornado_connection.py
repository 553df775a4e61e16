"""Tornado's seam to its HTTP server, implemented over the link.

What ``tornado.http1connection`` does with a socket is done here with an exchange of the asgi class:
a request is told to Tornado's delegates (``tornado.httputil.HTTPMessageDelegate``) piece by piece,
and what they write becomes the response. Framing, keep-alive and limits are the gateway's.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import weakref
from typing import TYPE_CHECKING, Any

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPOutputError,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.log import gen_log
from tornado.websocket import WebSocketHandler

from oxicorn.client_socket import ClientSocket
from oxicorn.http.unreader import RequestUnreader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oxicorn.workers.gtornado import TornadoWorker

__all__ = ["Callback", "ClientStream", "Connection", "tasks_of"]

#: Bytes of a body that Tornado's handlers collect in memory, unless they say otherwise
#: (``max_buffer_size`` of Tornado's streams, which bounds it there).
MAX_BODY_SIZE = 100 * 1024 * 1024
LATE_DETACH = (
    "detach() after the response has begun: the gateway has the connection; with worker_class "
    "oxicorn.workers.gtornado.DirectTornadoWorker Tornado's own server has it"
)
#: The last event of a response.
END = {"type": "http.response.body"}
#: Names of headers, and reasons, that are remembered as bytes or as text.
NAMES = 256
#: Close code of WebSockets of a worker that ends: come again (registered with RFC 6455).
SERVICE_RESTART = 1012


class Callback(HTTPServerConnectionDelegate):
    """Serves by a function that is called with each whole request, such as a WSGIContainer."""

    def __init__(self, function: Callable[[HTTPServerRequest], object]) -> None:
        self._function = function

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """What is told of one request."""
        return _WholeRequest(self._function, request_conn)


class _WholeRequest(HTTPMessageDelegate):
    def __init__(
        self, function: Callable[[HTTPServerRequest], object], connection: HTTPConnection
    ) -> None:
        self._function = function
        self._connection = connection
        self._body = bytearray()

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self._request = HTTPServerRequest(
            connection=self._connection, start_line=start_line, headers=headers
        )

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def finish(self) -> None:
        self._request.body = bytes(self._body)
        self._request._parse_body()
        self._function(self._request)


class Context:
    """``connection.context``: what is known of the client, after the trust rules."""

    def __init__(self, scope: dict[str, Any]) -> None:
        client = scope["client"]
        self.address = client if client is not None else ""
        # As Tornado: a client on a Unix socket has none.
        self.remote_ip = "0.0.0.0" if client is None else client[0]
        self.protocol = scope["scheme"]

    @property
    def address_family(self) -> socket.AddressFamily:
        """The kind of socket that the client is connected by."""
        if not self.address:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET

    def __str__(self) -> str:
        return self.remote_ip if self.address else ""


class ClientStream(IOStream):
    """A client's connection that a handler has taken over."""

    def __init__(self, descriptor: int, unread: bytes) -> None:
        super().__init__(ClientSocket(descriptor, unread))
        loop = asyncio.get_running_loop()
        #: Done when the connection is closed, by whichever side, or nobody has the stream any more.
        self.ended = loop.create_future()
        dropped = weakref.finalize(self, _tell_dropped, loop, self.ended)
        dropped.atexit = False

    def close_fd(self) -> None:
        """Closes the socket."""
        super().close_fd()
        _settle(self.ended)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _tell_dropped(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    """In whatever thread the garbage is collected."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, ended)


class GatewaysStream:
    """``connection.stream`` of a request whose connection the gateway has.

    Handlers ask it whether the client is still there. For more they detach the stream.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: Knows the client's address.
        self.socket = RequestUnreader(connection.context.address).sock

    def closed(self) -> bool:
        """Whether nobody waits for the response any more."""
        return self._connection._is_closed()

    def close(self, exc_info: object = False) -> None:
        """Cuts the client's connection."""
        self._connection.close()

    def set_nodelay(self, value: bool) -> None:
        """Does nothing: what is flushed leaves at once."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the stream has no {name!r} as long as the gateway has the connection: detach() it"
        )


def _closed_stream() -> IOStream:
    stream = IOStream(socket.socket())
    stream.close()
    return stream


class Connection(HTTPConnection):
    """One request and its response.

    States of the response: nothing was written; ``write_headers``; ``finish``. A connection whose
    stream was detached has none: the handler speaks to the client itself.
    """

    def __init__(
        self,
        worker: TornadoWorker,
        router: HTTPServerConnectionDelegate,
        scope: dict[str, Any],
        receive: Any,
        send: Any,
    ) -> None:
        self._worker = worker
        self._router = router
        self._scope = scope
        self._exchange = receive.__self__
        self._receive = receive
        self._send = send
        self.context = Context(scope)
        self._owner: Any = None
        self._close_callback: Callable[[], None] | None = None
        self._closed = False
        self._has_head = False
        self._write_finished = False
        #: All of the response has left, whether ``finish()`` was called or is yet to be.
        self._has_all = False
        #: Of a response with ``Content-Length``: bytes that are still to be written.
        self._expected: int | None = None
        #: The head of a response after which the stream will be detached.
        self._kept_head: bytes | None = None
        #: Of a stream that was detached: done when it is closed. The stream is its user's own.
        self._detached: asyncio.Future[None] | None = None
        self._stream: weakref.ref[ClientStream] | None = None
        self._max_body_size = MAX_BODY_SIZE
        self._body_timeout: float | None = None

    # The request.

    async def serve(self) -> None:
        """Tells the delegates of the request, and waits until the response is over."""
        delegate = self._router.start_request(self, self)
        is_told_the_end = False
        try:
            await self._tell_head(delegate)
            if self._detached is None and await self._tell_body(delegate):
                delegate.finish()
                is_told_the_end = True
            if not self._write_finished and self._detached is None:
                # What comes next is the client's leave, the response's end or the stream's detach.
                await self._receive()
            await self._see_to_the_end()
        except HTTPInputError as error:
            gen_log.info("Malformed HTTP message from %s: %s", self.context, error)
            self._refuse(400)
        except asyncio.CancelledError:
            self._give_up()
            raise
        finally:
            if not is_told_the_end and self._detached is None:
                delegate.on_connection_close()
            self._router.on_close(self)
            self._worker.request_ended()

    async def _tell_head(self, delegate: HTTPMessageDelegate) -> None:
        scope = self._scope
        headers = HTTPHeaders()
        length = 0
        seen = set()
        # The gateway has seen to it that they are well-formed, and lengths numbers.
        for name, value in scope["headers"]:
            if name in seen:
                headers.add(_text(name), value.decode("latin-1"))
            else:
                seen.add(name)
                headers[_text(name)] = value.decode("latin-1")
            if name == b"content-length":
                length = int(value)
        target = scope["raw_path"].decode("latin-1")
        if query := scope["query_string"]:
            target = f"{target}?{query.decode('latin-1')}"
        version = f"HTTP/{scope['http_version']}"
        start_line = RequestStartLine(scope["method"], target, version)
        told = delegate.headers_received(start_line, headers)
        if told is not None:
            await told
        if length > self._max_body_size:
            self._refuse(413)

    async def _tell_body(self, delegate: HTTPMessageDelegate) -> bool:
        """Whether there is an end of the body to be told of."""
        if self._exchange._take_empty_body():
            return not self._write_finished
        count = 0
        loop = asyncio.get_running_loop()
        deadline = None if self._body_timeout is None else loop.time() + self._body_timeout
        while not self._write_finished:
            if deadline is None:
                message = await self._receive()
            else:
                message = await self._receive_until(deadline)
            if message["type"] == "http.disconnect":
                return False
            if body := message["body"]:
                count += len(body)
                if count > self._max_body_size:
                    self._refuse(413)
                    return False
                told = delegate.data_received(body)
                if told is not None:
                    await told
            if not message["more_body"]:
                return not self._write_finished
        return False

    async def _receive_until(self, deadline: float) -> dict[str, Any]:
        left = deadline - asyncio.get_running_loop().time()
        try:
            message: dict[str, Any] = await asyncio.wait_for(self._receive(), max(left, 0))
        except asyncio.TimeoutError:
            gen_log.info("Timeout reading body from %s", self.context)
            self.close()
            return {"type": "http.disconnect"}
        return message

    async def _see_to_the_end(self) -> None:
        if self._detached is None:
            if not self._write_finished and not self._has_all:
                self._handle_close()
            return
        # Until it is closed it is one of the worker's connections.
        self._worker.websockets.add(self)
        try:
            await self._detached
        finally:
            self._worker.websockets.discard(self)
            stream = self._stream() if self._stream is not None else None
            if stream is not None:
                stream.close()

    def _handle_close(self) -> None:
        self._closed = True
        callback, self._close_callback = self._close_callback, None
        if callback is not None:
            callback()

    def _give_up(self) -> None:
        """The request took too long, or the worker ends: so does what works for it."""
        self._closed = True
        # A worker that ends cancels all there are.
        if self._detached is None and self._worker.takes_requests:
            for task in tasks_of(self):
                task.cancel()

    def _refuse(self, status: int) -> None:
        if self._write_finished:
            return
        if self._has_head:
            return self.close()
        headers = HTTPHeaders({"Content-Length": "0", "Connection": "close"})
        self.write_headers(ResponseStartLine("HTTP/1.1", status, ""), headers)
        self.finish()

    # The response.

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """The head, and perhaps the first of the body."""
        assert isinstance(start_line, ResponseStartLine)
        pairs = [
            (_name(name), value.encode("latin-1") if isinstance(value, str) else value)
            for name, value in headers.get_all()
        ]
        status = start_line.code
        self._has_head = True
        if self._scope["method"] == "HEAD" or status == 304:
            self._expected = 0
        elif "Content-Length" in headers:
            self._expected = int(headers["Content-Length"])
        if status == 101 or (self._scope["method"] == "CONNECT" and 200 <= status < 300):
            self._kept_head = _head(start_line, pairs)
            return self._worker.done
        event = {"type": "http.response.start", "status": status, "headers": pairs}
        if start_line.reason:
            event["oxicorn.reason"] = _name(start_line.reason)
        # Who does not want to hear of its client any more, and has all there is of the response
        # here, calls ``finish()`` next.
        if self._close_callback is None and len(chunk or b"") == self._expected:
            event["oxicorn.body"] = bytes(chunk or b"")
            sent = self._emit(event)
            self._has_all = True
            self._expected = 0
            return sent
        sent = self._emit(event)
        return self.write(chunk) if chunk else sent

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """More of the body; the future is done when it has left, or the client."""
        if self._expected is not None:
            self._expected -= len(chunk)
            if self._expected < 0:
                self.close()
                raise HTTPOutputError("Tried to write more data than Content-Length")
        if self._has_all:
            return self._worker.done
        body = chunk if isinstance(chunk, bytes) else bytes(chunk)
        return self._emit({"type": "http.response.body", "body": body, "more_body": True})

    def finish(self) -> None:
        """The response is complete."""
        if self._expected and not self._is_closed():
            expected = self._expected
            self.close()
            raise HTTPOutputError(f"Tried to write {expected} bytes less than Content-Length")
        self._write_finished = True
        if self._kept_head is None and not self._has_all:
            self._emit(END)

    def _emit(self, event: dict[str, Any]) -> asyncio.Future[None]:
        if self._closed or self._exchange._gone:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(StreamClosedError())
            future.exception()  # Who does not wait for it need not know.
            return future
        sending = self._send(event)
        if next(sending, None) is None:
            return self._worker.done
        left = asyncio.ensure_future(self._wait_until_left(sending))
        left.add_done_callback(lambda task: task.cancelled() or task.exception())
        return left

    async def _wait_until_left(self, sending: Awaitable[None]) -> None:
        await sending
        if self._is_closed():
            raise StreamClosedError

    # The connection.

    @property
    def stream(self) -> GatewaysStream | None:
        """What stands for the client's connection, until it is detached."""
        return GatewaysStream(self) if self._detached is None else None

    def _is_closed(self) -> bool:
        return self._closed or self._exchange._gone

    def close(self) -> None:
        """Cuts the client's connection."""
        self._closed = True
        self._exchange._abort()

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """What to call if the client leaves between its request and the end of the response."""
        self._close_callback = callback
        if callback is not None:
            self._owner = getattr(callback, "__self__", None)

    def set_max_body_size(self, max_body_size: int) -> None:
        """How long this request's body may be; a longer one is answered with 413."""
        self._max_body_size = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """How many seconds this request's body may take; then the connection is cut."""
        self._body_timeout = timeout

    def detach(self) -> IOStream:
        """Takes the client's connection over from the gateway; nothing was sent on it yet."""
        if self._has_head and self._kept_head is None:
            self.close()  # The handler takes itself for finished.
            raise RuntimeError(LATE_DETACH)
        self._close_callback = None
        self._write_finished = True
        server = self._worker.exchanges
        assert server is not None
        try:
            descriptor, unread = server.take_socket(self._exchange)
        except ConnectionResetError:
            return _closed_stream()
        stream = ClientStream(descriptor, unread)
        self._detached, self._stream = stream.ended, weakref.ref(stream)
        if self._kept_head is not None:
            stream.write(self._kept_head)
        return stream

    def hang_up(self) -> None:
        """The worker ends: a WebSocket is told so; who else has the stream is left alone."""
        if isinstance(self._owner, WebSocketHandler):
            self._owner.close(SERVICE_RESTART, "Service Restart")


@functools.lru_cache(maxsize=NAMES)
def _name(name: str) -> bytes:
    return _bytes_of(name)


@functools.lru_cache(maxsize=NAMES)
def _text(name: bytes) -> str:
    return name.decode("latin-1")


def _bytes_of(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def _head(start_line: ResponseStartLine, pairs: list[tuple[bytes, bytes]]) -> bytes:
    lines = [f"HTTP/1.1 {start_line.code} {start_line.reason}".encode("latin-1")]
    lines += [name + b": " + value for name, value in pairs]
    for line in lines:
        if b"\r" in line or b"\n" in line:
            raise ValueError(f"Illegal characters (CR or LF) in header: {line!r}")
    return b"\r\n".join([*lines, b"", b""])


def tasks_of(connection: Connection) -> list[asyncio.Task[Any]]:
    """The tasks of handlers that answer the connection's request.

    Tornado starts them and keeps no record, so they are found by what they have in hand.
    """
    found = []
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is None:
            continue
        request = frame.f_locals.get("request")
        if request is None:
            request = getattr(frame.f_locals.get("self"), "request", None)
        if getattr(request, "connection", None) is connection:
            found.append(task)
    return found
