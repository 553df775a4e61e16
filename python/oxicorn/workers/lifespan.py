"""The lifespan protocol of ASGI: the application is told of start and end of its worker."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["Lifespan", "StartupFailed"]

#: The protocol's version.
VERSIONS = {"version": "3.0", "spec_version": "2.0"}


class LifespanFailed(Exception):
    """Why, in the application's words; its exception, if it raised one, is the cause."""


class StartupFailed(LifespanFailed):
    """The application cannot serve."""


class ShutdownFailed(LifespanFailed):
    """The application says that its shutdown failed, or it ended without one."""


class Lifespan:
    """One call of the application that lasts as long as the worker."""

    def __init__(
        self, application: Callable[..., Any], state: dict[str, Any], *, required: bool
    ) -> None:
        self.application = application
        self.state = state
        self.required = required
        #: Why the application is taken not to know the protocol.
        self.refusal = ""
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        #: The application's answers: (type of the event, message).
        self._answers: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> bool:
        """Waits for the application; whether it knows the protocol.

        StartupFailed: it must not serve.
        """
        self._task = asyncio.create_task(self._run(), name="lifespan")
        # Who is told to quit exits wherever it is, also in here: asyncio wants that looked at.
        self._task.add_done_callback(lambda _: self._exception())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        answer = await self._answer()
        if answer is not None:
            kind, message = answer
            if kind == "lifespan.startup.failed":
                await self._end()
                raise self._failure(StartupFailed, message)
            return True
        error = self._exception()
        self.refusal = repr(error) if error else "it returned before startup was complete"
        if self.required:
            raise StartupFailed(self.refusal) from error
        return False

    async def shutdown(self) -> None:
        """Tells the application, and waits until it is done."""
        if self._task is None:
            return
        if self._task.done():
            if self._exception() is not None:
                raise self._failure(ShutdownFailed, "")
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        try:
            answer = await self._answer()
        finally:
            await self._end()
        if answer is not None and answer[0] == "lifespan.shutdown.failed":
            raise self._failure(ShutdownFailed, answer[1])
        if self._exception() is not None:
            raise self._failure(ShutdownFailed, "")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(VERSIONS), "state": self.state}
        await self.application(scope, self._inbox.get, self._send)

    async def _answer(self) -> tuple[str, str] | None:
        """The next answer; None if the call ends without one."""
        assert self._task is not None
        answer = asyncio.ensure_future(self._answers.get())
        try:
            await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            return None if self._answers.empty() else self._answers.get_nowait()
        finally:
            answer.cancel()

    async def _end(self) -> None:
        """The application may clean up behind its last answer, but not stay."""
        assert self._task is not None
        _, pending = await asyncio.wait((self._task,), timeout=END_PATIENCE)
        if pending:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=END_PATIENCE)

    def _exception(self) -> BaseException | None:
        """What the call raised, if it has ended so."""
        assert self._task is not None
        ended = self._task.done() and not self._task.cancelled()
        return self._task.exception() if ended else None

    def _failure(self, kind: type[LifespanFailed], message: str) -> LifespanFailed:
        """What to raise for an application that said ``message``, and may have raised behind it."""
        error = self._exception()
        # Starlette's message is the traceback of what it raises next: that is shown as such.
        if error is not None and (not message or message.startswith("Traceback ")):
            message = "".join(traceback.format_exception_only(error)).strip()
        failure = kind(message.strip() or "no reason given")
        failure.__cause__ = error
        return failure

    async def _send(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind not in ANSWERS:
            raise RuntimeError(f"unexpected ASGI event {kind!r} in the lifespan")
        self._answers.put_nowait((kind, str(event.get("message", ""))))


ANSWERS = frozenset(
    f"lifespan.{phase}.{outcome}"
    for phase in ("startup", "shutdown")
    for outcome in ("complete", "failed")
)
#: Seconds the application's call may last after its last answer.
END_PATIENCE = 1.0
