"""The ``asgi`` worker class: an event loop on the main thread.

Requests are read, and responses written, by the native module, which the loop calls when the link's
doorbell rings. What is here: which loop, the order of start and end, signals.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from oxicorn import _native, boot
from oxicorn.errors import BootFailed
from oxicorn.forked import Guard, end
from oxicorn.unused import unused
from oxicorn.workers import executor_calls
from oxicorn.workers.asgi_callable import single_callable
from oxicorn.workers.base import Worker
from oxicorn.workers.finding import Finding
from oxicorn.workers.lifespan import Lifespan, StartupFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextvars import Context
    from types import FrameType

    Application = Callable[..., Awaitable[None]]

__all__ = ["AsgiWorker"]

#: Of ``graceful_timeout``, what is kept for the lifespan's shutdown when requests take all of it.
SHUTDOWN_SHARE = 0.25
#: Seconds tasks that were cancelled get to end.
CANCEL_PATIENCE = 1.0
#: By what asyncio's futures and anyio's threads tell a loop what became of a call.
REPORTS = frozenset({"_set_state", "_report_result"})


@unused(
    "the loop's signals come to handle_exit, handle_quit, handle_abort, handle_usr1, handle_winch",
    *(f"handle_{name}_signal" for name in ("abort", "exit", "quit", "usr1", "winch")),
)
class AsgiWorker(Worker):
    """Serves an ASGI application; up to ``worker_connections`` requests at a time."""

    SERVES: ClassVar[tuple[Finding, ...]] = (Finding.ASGI,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop: asyncio.AbstractEventLoop | None = None
        #: What the lifespan left for the requests.
        self.state: dict[str, Any] = {}
        #: The link's end, while it serves.
        self.exchanges: _native.AsgiServer | None = None
        self._hurry = False
        self._thread = 0
        self._news: asyncio.Event | None = None

    @property
    def should_exit(self) -> bool:
        """True once the worker was told to stop (as uvicorn's ``Server.should_exit``).

        sse-starlette ends its streams by it: it finds this object by the handler of SIGTERM.
        """
        return not self.alive

    def init_process(self) -> None:
        """The loop is there before the application is loaded, which may ask for it."""
        try:
            self.loop = self.new_event_loop()
        except ImportError:
            text = "asgi_loop: uvloop is not installed; install it, or use asyncio or auto"
            raise BootFailed(text) from None
        executor_calls.watch(self.loop)
        self.loop.set_exception_handler(handle_loop_error)
        asyncio.set_event_loop(self.loop)
        super().init_process()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that setting ``asgi_loop`` asks for; ImportError: there is no uvloop."""
        return new_event_loop(self.cfg.asgi_loop)

    def asgi_application(self) -> Application:
        """What is called for each request, as ASGI 3 does it."""
        assert self.wsgi is not None
        return single_callable(self.wsgi)

    def start(self, context: _native.WorkerContext) -> None:
        """The application is told of it by the lifespan protocol, and requests come behind that."""
        self.run()

    def run(self) -> None:
        """Runs the loop from the lifespan's startup to its shutdown."""
        assert self.loop is not None
        assert self.context is not None
        self._thread = threading.get_ident()
        try:
            with Guard(self.log):
                self.loop.run_until_complete(self._serve())
        finally:
            self._close_loop()

    def stacks(self) -> bytes:
        """What each call in hand is doing, as JSON; called on a native thread."""
        from oxicorn.workers import task_stacks  # only who is asked needs it

        calls = [] if self.exchanges is None else self.exchanges.calls()
        return task_stacks.of_tasks(calls, self.loop, self._thread)

    def failed_application(self, text: str) -> Callable[..., Any]:
        """An application that answers every request with 500 and ``text``."""
        body = text.encode()

        async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("the application could not be loaded")
            head = {
                "type": "http.response.start",
                "status": 500,
                "headers": [
                    (b"content-type", b"text/plain"),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
            await send(head)
            await send({"type": "http.response.body", "body": body})

        return application

    async def _serve(self) -> None:
        loop, context = self.loop, self.context
        assert loop is not None
        assert context is not None
        application = self.asgi_application()
        lifespan = await self._start_lifespan(application)
        try:
            self._news = asyncio.Event()
            server = _native.AsgiServer(context, application, loop, self.state)
            self.exchanges = server
            loop.add_reader(server.fileno(), server.wake)
            server.begin(self._news.set)
            self.booted = True
            context.ready()
            beats = [loop.create_task(self._call_every(*beat)) for beat in self.beats()]
            await self._wait_for_stop()
            await self._drain(context, server)
            for beat in beats:
                beat.cancel()
        finally:
            if lifespan is not None:
                await self._stop_lifespan(lifespan)
        loop.remove_reader(server.fileno())
        server.end()

    def beats(self) -> Iterator[tuple[float, Callable[[], Any]]]:
        """What Gunicorn's class calls now and then, where it is overridden; and how often."""
        if self.has_own_notify:
            yield self.notify_period, self.notify

    async def _call_every(self, period: float, function: Callable[[], Any]) -> None:
        while True:
            try:
                result = function()
                if hasattr(result, "__await__"):
                    await result
            except Exception:
                self.log.exception("Exception in %s", function.__qualname__)
            await asyncio.sleep(period)

    async def _start_lifespan(self, application: Application) -> Lifespan | None:
        if self.cfg.asgi_lifespan == "off":
            return None
        lifespan = Lifespan(application, self.state, required=self.cfg.asgi_lifespan == "on")
        try:
            supported = await lifespan.startup()
        except StartupFailed as failure:
            raise BootFailed(f"ASGI lifespan startup failed: {failure}") from failure.__cause__
        if not supported:
            self.log.debug("ASGI application without lifespan: %s", lifespan.refusal)
            return None
        return lifespan

    async def _wait_for_stop(self) -> None:
        assert self._news is not None
        while self.alive:
            await self._news.wait()
            self._news.clear()

    async def _drain(self, context: _native.WorkerContext, server: _native.AsgiServer) -> None:
        """Serves until the worker is released, or only the lifespan's share of the time is left."""
        assert self._news is not None
        deadline = time.monotonic() + (1 - SHUTDOWN_SHARE) * self.cfg.graceful_timeout
        while (context.serving() or server.active()) and not self._hurry:
            left = deadline - time.monotonic()
            if left <= 0:
                if active := server.active():
                    self.log.warning("Forcing end of %d requests", active)
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
            self._news.clear()
        context.stop()
        server.cancel_all()
        ending = time.monotonic() + CANCEL_PATIENCE
        while server.active() and time.monotonic() < ending:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), CANCEL_PATIENCE)
            self._news.clear()

    async def _stop_lifespan(self, lifespan: Lifespan) -> None:
        limit = self.cfg.graceful_timeout or None
        try:
            await asyncio.wait_for(lifespan.shutdown(), limit)
        except asyncio.TimeoutError:
            self.log.warning("ASGI lifespan shutdown timed out")
        except Exception as error:
            cause = error.__cause__
            exc_info = cause and boot.shown(cause, self.cfg)
            self.log.error(
                "ASGI lifespan shutdown failed: %s", boot.bounded(str(error)), exc_info=exc_info
            )

    def _close_loop(self) -> None:
        """Ends what the application left running."""
        assert self.loop is not None
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_PATIENCE))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        self.loop.close()

    def forked(self) -> None:
        """In a process that the application forked: the loop, and all it waits for, is not its own.

        Where the call that forked has ended, and so the process has to, is seen by what the loop is
        told then: by a task for those who await it; by the thread of a pool (``run_in_executor``,
        anyio's worker threads, asgiref), which would go on to wait for more to do.
        """
        super().forked()
        if self.loop is None:
            return
        loop: Any = self.loop
        if threading.get_ident() == self._thread:
            loop.call_soon = functools.partial(self._end_task, asyncio.current_task(self.loop))
        else:
            loop.call_soon_threadsafe = self._end_thread

    def _end_task(
        self,
        forker: asyncio.Task[Any] | None,
        callback: Callable[..., Any],
        *arguments: Any,
        context: Context | None = None,
    ) -> asyncio.Handle:
        assert self.loop is not None
        if forker is not None and forker.done() and forker in arguments:
            end(self.log, None if forker.cancelled() else forker.exception())
        # Nothing else is ever done by this loop.
        return asyncio.Handle(callback, arguments, self.loop, context)

    def _end_thread(self, callback: Callable[..., Any], *results: Any, **_context: Any) -> NoReturn:
        if getattr(callback, "__name__", "") not in REPORTS:
            text = "a forked process cannot call its parent's event loop"
            end(self.log, RuntimeError(text))
        for result in results:
            if isinstance(result, concurrent.futures.Future) and result.done():
                end(self.log, None if result.cancelled() else result.exception())
            if isinstance(result, BaseException):
                end(self.log, result)
        end(self.log, None)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT, SIGINT: end now, but not in the middle of a callback. Hook ``worker_int``."""
        self._hurry = True
        self._take_no_more()
        self.cfg.worker_int(self)
        # While it boots there is nothing to finish.
        if self.loop is None or self._news is None or not self.loop.is_running():
            sys.exit(0)
        self.loop.call_soon_threadsafe(self._news.set)

    def request_expired(self, task: asyncio.Task[Any]) -> None:
        """A request is older than ``timeout`` and about to be cancelled: logs where it waits."""
        stack = "\n".join(task_stack(task))
        self.log.error("Stack of the request that timed out:\n%s", stack)


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """The loop that setting ``asgi_loop`` asks for."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does it, but for tasks that failed because their client has left (WebSockets).

    Frameworks turn that into an exception of their own, such as Starlette's WebSocketDisconnect.
    """
    error = context.get("exception")
    while error is not None and not isinstance(error, _native.ClientGone):
        error = error.__cause__ or error.__context__
    if error is None:
        loop.default_exception_handler(context)


def task_stack(task: asyncio.Task[Any]) -> list[str]:
    """Where a task waits, the outermost call first, as a traceback shows it."""
    lines = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = _first_of(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            code = frame.f_code
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        awaited = _first_of(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return lines


def _first_of(what: object, *names: str) -> Any:
    found = (getattr(what, name, None) for name in names)
    return next((value for value in found if value is not None), None)
