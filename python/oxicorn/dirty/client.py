"""How a request calls the pool (Gunicorn's ``gunicorn.dirty.client``).

A client opens connections as it needs them and keeps those that are free. A connection has one call
of a thread at a time, or all calls of an event loop; a stream has one of its own. So a call that is
given up is one whose connection is closed, and no answer meets the wrong call. In a process that
gevent has patched, a call lets other greenlets run while it waits.

A call takes as long as the pool lets it (``dirty_timeout``) unless the client has a ``timeout`` of
its own, in seconds. Its time is over wherever it is: while arguments are written, in the queue, in
the worker, or while the result is read.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from oxicorn._native import PoolConnection
from oxicorn.dirty.arbiter import SERIALIZER_VARIABLE, SOCKET_VARIABLE, TIMEOUT_VARIABLE
from oxicorn.dirty.errors import (
    DirtyConnectionError,
    DirtyError,
    DirtyTimeoutError,
    seconds_of,
    shown,
)

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "DirtyAsyncStreamIterator",
    "DirtyClient",
    "DirtyStreamIterator",
    "close_dirty_client",
    "close_dirty_client_async",
    "get_dirty_client",
    "get_dirty_client_async",
    "get_dirty_socket_path",
    "set_dirty_socket_path",
]

#: Kinds of frames.
RESPONSE, ERROR, CHUNK, END = 2, 3, 4, 5
#: In the place of a kind: a frame that cannot be read; its value is why, an exception.
UNREADABLE = 0
STASH, STATUS, MANAGE, STASH_VIEW = 0x10, 0x11, 0x12, 0x21

#: Seconds beyond ``dirty_timeout`` in which the pool's own error comes first.
PATIENCE = 5.0
#: Free connections that a client keeps, and clients that a thread keeps.
KEPT = 16
CLIENTS_KEPT = 64
#: Most seconds between two pieces of a stream, where the client has a timeout of its own.
IDLE_TIMEOUT = 30.0


class _PoolsOwn:
    """The timeout of who does not say one: what the pool gives a call."""

    def __repr__(self) -> str:
        return "dirty_timeout"


POOLS_OWN: Any = _PoolsOwn()


#: How often this process, or one it comes from, was forked: cheaper to ask than for the pid.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def pool_timeout() -> float | None:
    """Seconds after which a call has ended in any case; None: it may last for ever."""
    try:
        seconds = float(os.environ.get(TIMEOUT_VARIABLE, "300"))
    except ValueError:
        seconds = 300.0
    return seconds + PATIENCE if seconds > 0 else None


def checked_timeout(timeout: Any) -> Any:
    """``timeout``, if that is what it can be. DirtyError: it cannot."""
    if timeout is None or timeout is POOLS_OWN:
        return timeout
    seconds = seconds_of(timeout)
    if seconds is None or seconds < 0:
        raise DirtyError(f"timeout must be None or seconds, 0 or more, not {shown(timeout)}")
    return timeout


def _is_pickled() -> bool:
    return os.environ.get(SERIALIZER_VARIABLE) == "pickle"


def _gevent_socket() -> Any:
    """gevent's sockets, where it has put them in the place of Python's."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return None
    import gevent.socket

    return gevent.socket


def _readable(came: tuple[int, int, Any]) -> tuple[int, int, Any]:
    """What came, which can be read; raises why not."""
    if came[0] == UNREADABLE:
        raise came[2]
    return came


class _Cooperative:
    """A connection whose waits let other greenlets run."""

    def __init__(self, connection: PoolConnection, sockets: Any) -> None:
        self._connection = connection
        self._sockets = sockets
        self.close = connection.close
        self.is_open = connection.is_open
        self.cancel = connection.cancel

    def post(self, *call: Any) -> int:
        return self._connection.post(*call)

    def execute(self, *call: Any) -> tuple[int, int, Any]:
        timeout = call[-1]
        until = None if timeout is None else time.monotonic() + timeout
        return self._answer_to(self._connection.post(*call), until)

    def ask(self, kind: int, payload: dict[str, Any], timeout: float | None) -> Any:
        until = None if timeout is None else time.monotonic() + timeout
        return self._answer_to(self._connection.post_question(kind, payload, timeout), until)

    def _answer_to(self, number: int, until: float | None) -> tuple[int, int, Any]:
        while True:
            came = self.receive(None if until is None else max(0.0, until - time.monotonic()))
            if came[1] == number:
                return came

    def receive(self, timeout: float | None) -> tuple[int, int, Any]:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            sent = self._connection.flush()
            came = self._connection.take()
            if came is not None:
                return _readable(came)
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no answer in time")
            wait = self._sockets.wait_read if sent else self._sockets.wait_readwrite
            try:
                wait(self._connection.fileno(), timeout=left)
            except self._sockets.timeout:
                raise TimeoutError("no answer in time") from None


class DirtyClient:
    """Calls applications of the pool at ``socket_path``; threads may share it.

    Every call raises a DirtyError: DirtyConnectionError where the pool cannot be reached,
    DirtyTimeoutError after ``timeout`` seconds, DirtyAppError for what the application raised,
    DirtyWorkerError if the worker ended meanwhile, DirtyNoWorkersAvailableError if none has the
    application.
    """

    def __init__(self, socket_path: str, timeout: float | None = POOLS_OWN) -> None:
        self.socket_path = socket_path
        self._timeout: Any = checked_timeout(timeout)
        self._forks = _forks
        self._free: deque[Any] = deque()
        self._loops: dict[int, _LoopConnection] = {}

    @property
    def timeout(self) -> Any:
        """Seconds that a call may take; None: any number."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._timeout = checked_timeout(timeout)

    def _seconds(self) -> float | None:
        seconds: float | None = pool_timeout() if self._timeout is POOLS_OWN else self._timeout
        return seconds

    # Calls that wait.

    def connect(self) -> None:
        """Connects now, not with the first call."""
        self._give_back(self._take(self._seconds()))

    def execute(self, app_path: str, action: str, *args: Any, **kwargs: Any) -> Any:
        """Runs an action of an application and gives its result."""
        seconds = self._seconds()
        connection = self._take(seconds)
        try:
            kind, _, value = connection.execute(
                app_path, action, args, kwargs, _is_pickled(), seconds
            )
        except BaseException as error:
            connection.close()
            self._explain(error, seconds)
        if kind == RESPONSE:
            self._give_back(connection)
            return value
        if kind == ERROR:
            self._give_back(connection)
            raise DirtyError.from_dict(value)
        connection.close()  # Which cancels the rest.
        raise DirtyError(f"{app_path}.{action} gives a stream: call it with stream()")

    def stream(self, app_path: str, action: str, *args: Any, **kwargs: Any) -> DirtyStreamIterator:
        """What an action gives piece by piece, as an iterator."""
        return DirtyStreamIterator(self, app_path, action, args, kwargs)

    def ask(self, kind: int, payload: dict[str, Any]) -> Any:
        """Asks the pool itself for something that is no call."""
        seconds = self._seconds()
        connection = self._take(seconds)
        try:
            came, _, value = connection.ask(kind, payload, seconds)
        except BaseException as error:
            connection.close()
            self._explain(error, seconds)
        self._give_back(connection)
        if came == ERROR:
            raise DirtyError.from_dict(value)
        return value

    def _take(self, seconds: float | None) -> Any:
        """A free connection, or a new one: those to a broker that has died lead nowhere."""
        self._look_whether_forked()
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:
                # Another thread was quicker.
                break
            if connection.is_open():
                return connection
            connection.close()
        return self._connected(seconds)

    def _connected(self, seconds: float | None) -> Any:
        try:
            connection = PoolConnection.connect(self.socket_path, seconds)
        except TimeoutError as error:
            raise DirtyTimeoutError("Timeout connecting to dirty arbiter", seconds) from error
        except (OSError, TypeError) as error:
            raise self._unreachable(error) from error
        sockets = _gevent_socket()
        return connection if sockets is None else _Cooperative(connection, sockets)

    def _unreachable(self, error: Exception) -> DirtyConnectionError:
        text = f"Failed to connect to dirty arbiter: {error}"
        return DirtyConnectionError(text, socket_path=self.socket_path)

    def _give_back(self, connection: Any) -> None:
        if len(self._free) < KEPT:
            self._free.append(connection)
        else:
            connection.close()

    def _look_whether_forked(self) -> None:
        """Connections are the parent's; a child has its own."""
        if self._forks != _forks:
            self._forks = _forks
            self._free = deque()
            self._loops = {}

    def _explain(self, error: BaseException, seconds: float | None) -> NoReturn:
        if isinstance(error, TimeoutError):
            text = "Timeout waiting for dirty app response"
            raise DirtyTimeoutError(text, timeout=seconds) from error
        if isinstance(error, OSError):
            raise DirtyConnectionError(
                f"Communication error: {error}", socket_path=self.socket_path
            ) from error
        raise error

    def close(self) -> None:
        """Closes the connections that are free."""
        self._look_whether_forked()
        while self._free:
            self._free.pop().close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Calls that are awaited.

    async def connect_async(self) -> None:
        """Connects now, not with the first call."""
        self._of_loop()

    async def execute_async(self, app_path: str, action: str, *args: Any, **kwargs: Any) -> Any:
        """Runs an action of an application and gives its result.

        A task that is cancelled meanwhile cancels the call.
        """
        seconds = self._seconds()
        return await self._awaited(
            seconds, lambda of_loop: of_loop.call(app_path, action, args, kwargs, seconds)
        )

    async def ask_async(self, kind: int, payload: dict[str, Any]) -> Any:
        """``ask``, awaited."""
        seconds = self._seconds()
        return await self._awaited(seconds, lambda of_loop: of_loop.ask(kind, payload, seconds))

    async def _awaited(self, seconds: float | None, begin: Any) -> Any:
        import asyncio

        # To write large arguments takes time, too.
        until = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            of_loop = self._of_loop()
            number, future = begin(of_loop)
        except OSError as error:
            self._explain(error, seconds)
        try:
            async with asyncio.timeout_at(until):
                kind, value = await future
        except TimeoutError as error:
            of_loop.give_up(number)
            self._explain(error, seconds)
        except OSError as error:
            self._explain(error, seconds)
        except BaseException:
            # The task was cancelled, or the answer cannot be read.
            of_loop.give_up(number)
            raise
        if kind == RESPONSE:
            return value
        if kind == ERROR:
            raise DirtyError.from_dict(value)
        of_loop.give_up(number)
        raise DirtyError("The action gives a stream: call it with stream_async()")

    def stream_async(
        self, app_path: str, action: str, *args: Any, **kwargs: Any
    ) -> DirtyAsyncStreamIterator:
        """What an action gives piece by piece, as an asynchronous iterator."""
        return DirtyAsyncStreamIterator(self, app_path, action, args, kwargs)

    def _of_loop(self) -> _LoopConnection:
        import asyncio

        self._look_whether_forked()
        loop = asyncio.get_running_loop()
        found = self._loops.get(id(loop))
        if found is None or found.loop is not loop or found.is_closed:
            for number, each in list(self._loops.items()):
                if each.loop.is_closed():
                    del self._loops[number]
            found = self._loops[id(loop)] = _LoopConnection(self._connected_at_once(), loop)
        return found

    def _connected_at_once(self) -> PoolConnection:
        """A connection to a socket of this machine is there at once, or not at all."""
        try:
            return PoolConnection.connect(self.socket_path, 0.0)
        except (OSError, TypeError) as error:
            raise self._unreachable(error) from error

    async def close_async(self) -> None:
        """Closes the connection of the running event loop; calls under way are cancelled."""
        import asyncio

        found = self._loops.pop(id(asyncio.get_running_loop()), None)
        if found is not None:
            found.close(ConnectionError("the client was closed"))

    async def __aenter__(self) -> Self:
        await self.connect_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close_async()


class _LoopConnection:
    """A connection that an event loop reads from, for all its calls."""

    def __init__(self, connection: PoolConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self.loop = loop
        self._fileno = connection.fileno()
        #: Who waits for which answer; a stream has a queue of its own.
        self._waiting: dict[int, Any] = {}
        self._writes = False
        self.is_closed = False
        loop.add_reader(self._fileno, self._readable)

    def call(
        self,
        app_path: str,
        action: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        seconds: float | None,
    ) -> tuple[int, Any]:
        number = self._connection.post(app_path, action, args, kwargs, _is_pickled(), seconds)
        return self._posted(number)

    def ask(self, kind: int, payload: dict[str, Any], seconds: float | None) -> tuple[int, Any]:
        return self._posted(self._connection.post_question(kind, payload, seconds))

    def _posted(self, number: int) -> tuple[int, Any]:
        future: Any = self.loop.create_future()
        self._waiting[number] = future
        self._flush()
        return number, future

    def _flush(self) -> None:
        try:
            everything = self._connection.flush()
        except OSError as error:
            return self.close(error)
        if everything and self._writes:
            self.loop.remove_writer(self._fileno)
        elif not everything and not self._writes:
            self.loop.add_writer(self._fileno, self._flush)
        self._writes = not everything
        return None

    def _readable(self) -> None:
        while True:
            try:
                came = self._connection.take()
            except OSError as error:
                return self.close(error)
            if came is None:
                return None
            kind, number, value = came
            future = self._waiting.pop(number, None)
            if future is None or future.done():
                continue
            if kind == UNREADABLE:
                future.set_exception(value)
            else:
                future.set_result((kind, value))

    def give_up(self, number: int) -> None:
        self._waiting.pop(number, None)
        if not self.is_closed:
            try:
                self._connection.cancel(number)
            except OSError as error:
                self.close(error)
            else:
                self._flush()

    def close(self, error: BaseException) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if not self.loop.is_closed():
            self.loop.remove_reader(self._fileno)
            self.loop.remove_writer(self._fileno)
        self._connection.close()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)


class _Stream:
    """What both kinds of streams have."""

    DEFAULT_IDLE_TIMEOUT = IDLE_TIMEOUT
    _connection: Any = None

    def __init__(
        self,
        client: DirtyClient,
        app_path: str,
        action: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        idle_timeout: float | None = None,
    ) -> None:
        self.client = client
        self.app_path = app_path
        self.action = action
        self.args = args
        self.kwargs = kwargs
        self._idle_timeout = checked_timeout(idle_timeout)
        self._total = client._seconds()
        if idle_timeout is None and client.timeout not in (None, POOLS_OWN):
            self._idle_timeout = min(self.DEFAULT_IDLE_TIMEOUT, client.timeout)
        self._until: float | None = None
        self._exhausted = False

    def _begin(self, connection: Any) -> None:
        self._connection = connection
        if self._total is not None:
            self._until = time.monotonic() + self._total
        connection.post(
            self.app_path, self.action, self.args, self.kwargs, _is_pickled(), self._total
        )

    def _patience(self) -> float | None:
        """Seconds for the next piece."""
        limits = [] if self._idle_timeout is None else [self._idle_timeout]
        if self._until is not None:
            limits.append(max(0.0, self._until - time.monotonic()))
        return min(limits, default=None)

    def _overdue(self) -> DirtyTimeoutError:
        if self._until is not None and time.monotonic() >= self._until:
            return DirtyTimeoutError("Stream exceeded total timeout", timeout=self._total)
        return DirtyTimeoutError("Timeout waiting for next chunk", timeout=self._idle_timeout)

    def _end(self) -> Any:
        """Nothing more comes; the connection, if it can be used again."""
        self._exhausted = True
        connection, self._connection = self._connection, None
        return connection

    def _abandon(self) -> None:
        """Nothing more is wanted: the call is cancelled."""
        connection = self._end()
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self._abandon()


class DirtyStreamIterator(_Stream, Iterator[Any]):
    """The pieces of a stream. ``close()``, or letting go of it, ends the call."""

    def __next__(self) -> Any:
        if self._exhausted:
            raise StopIteration
        try:
            if self._connection is None:
                self._begin(self.client._take(self._total))
            kind, _, value = self._connection.receive(self._patience())
        except BaseException as error:
            self._abandon()
            if isinstance(error, TimeoutError):
                raise self._overdue() from error
            self.client._explain(error, self._total)
        if kind == CHUNK:
            return value
        self.client._give_back(self._end())
        if kind == ERROR:
            raise DirtyError.from_dict(value)
        if kind == RESPONSE:
            # An action that gives no stream gives one piece less than none, as Gunicorn.
            raise StopIteration
        raise StopIteration

    def close(self) -> None:
        """Ends the call, if it has not ended."""
        self._abandon()


class DirtyAsyncStreamIterator(_Stream, AsyncIterator[Any]):
    """The pieces of a stream. ``aclose()``, or letting go of it, ends the call."""

    async def __anext__(self) -> Any:
        if self._exhausted:
            raise StopAsyncIteration
        try:
            if self._connection is None:
                self._begin(self.client._connected_at_once())
            kind, value = await self._next()
        except BaseException as error:
            self._abandon()
            if isinstance(error, TimeoutError):
                raise self._overdue() from error
            self.client._explain(error, self._total)
        if kind == CHUNK:
            return value
        self._abandon()
        if kind == ERROR:
            raise DirtyError.from_dict(value)
        raise StopAsyncIteration

    async def _next(self) -> tuple[int, Any]:
        """The next piece, at once where it is there already."""
        import asyncio

        connection = self._connection
        sent = connection.flush()
        came = connection.take()
        if came is not None:
            return _opened(came)
        loop = asyncio.get_running_loop()
        fileno = connection.fileno()
        async with asyncio.timeout(self._patience()):
            while came is None:
                ready: asyncio.Future[None] = loop.create_future()
                loop.add_reader(fileno, _wake, ready)
                if not sent:
                    loop.add_writer(fileno, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fileno)
                    if not sent:
                        loop.remove_writer(fileno)
                sent = sent or connection.flush()
                came = connection.take()
        return _opened(came)

    async def aclose(self) -> None:
        """Ends the call, if it has not ended."""
        self._abandon()


def _opened(came: tuple[int, int, Any]) -> tuple[int, Any]:
    kind, _, value = _readable(came)
    return kind, value


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# The clients of threads and of contexts.

_of_thread = threading.local()
_of_context: contextvars.ContextVar[DirtyClient] = contextvars.ContextVar("dirty_client")
_socket_path: str | None = None


def set_dirty_socket_path(path: str | None) -> None:
    """Where the pool is, for a process that no server has started."""
    global _socket_path
    _socket_path = path


def get_dirty_socket_path() -> str:
    """Where the pool is. DirtyError: there is none."""
    path = _socket_path or os.environ.get(SOCKET_VARIABLE)
    if not path:
        raise DirtyError(
            "Dirty socket path not configured. "
            "Make sure dirty_workers > 0 and dirty_apps are configured."
        )
    return path


def get_dirty_client(timeout: float | None = POOLS_OWN) -> DirtyClient:
    """This thread's client whose calls take at most ``timeout`` seconds.

    The clients of a thread share its connections.
    """
    path = get_dirty_socket_path()
    clients: dict[Any, DirtyClient] = _of_thread.__dict__.setdefault("clients", {})
    try:
        client = clients.get((path, timeout))
    except TypeError:
        checked_timeout(timeout)
        raise
    if client is None:
        if len(clients) >= CLIENTS_KEPT:
            close_dirty_client()
        client = clients[path, timeout] = DirtyClient(path, timeout=timeout)
        for other in clients.values():
            if other.socket_path == path and other._forks == client._forks:
                client._free = other._free
                break
    return client


async def get_dirty_client_async(timeout: float | None = POOLS_OWN) -> DirtyClient:
    """A client for the running event loop whose calls take at most ``timeout`` seconds.

    All of a loop's clients use one connection.
    """
    path = get_dirty_socket_path()
    client = _of_context.get(None)
    if client is None or (client.socket_path, client.timeout) != (path, timeout):
        client = DirtyClient(path, timeout=timeout)
        client._loops = _shared_loops(path)
        _of_context.set(client)
    return client


_loops_of: dict[tuple[int, str], dict[int, _LoopConnection]] = {}


def _shared_loops(path: str) -> dict[int, _LoopConnection]:
    """Connections of loops: a context is a request's, a connection is not."""
    return _loops_of.setdefault((os.getpid(), path), {})


def close_dirty_client() -> None:
    """Closes this thread's clients."""
    clients: dict[Any, DirtyClient] = _of_thread.__dict__.pop("clients", {})
    for client in clients.values():
        client.close()


async def close_dirty_client_async() -> None:
    """Closes the connection of the running event loop."""
    client = _of_context.get(None)
    if client is not None:
        await client.close_async()
