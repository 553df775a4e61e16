"""Which calls of the application have a thread at work.

A call whose client has left is cancelled when its time is over. Cancelling cannot stop a thread it
waits for; but it ends whoever takes what the thread produces, and a thread that waits for room in a
queue then waits for ever. With a2wsgi each such client would cost a thread. So a call is cancelled
when its threads are done, and for that the loop is asked to tell of each: ``asyncio.to_thread``,
``sync_to_async`` and the like all go through ``run_in_executor``.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["current_call", "watch"]

#: The native object of the call whose context this is; set when the call begins.
current_call: contextvars.ContextVar[Any] = contextvars.ContextVar("oxicorn_call", default=None)


class Work:
    """A function that a thread calls."""

    __slots__ = ("call", "function", "started")

    def __init__(self, function: Callable[..., Any], call: Any) -> None:
        self.function = function
        #: Whose work it is.
        self.call = call
        #: A thread has it; from then on nothing stops it.
        self.started = False

    def __call__(self, *args: Any) -> Any:
        self.started = True
        return self.function(*args)


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Has ``loop`` tell each call what it gives to threads."""
    run_in_executor = loop.run_in_executor

    def watched(executor: Any, function: Any, *args: Any) -> Any:
        call = current_call.get()
        # Other executors may want to pickle the function.
        if call is None or not (executor is None or isinstance(executor, ThreadPoolExecutor)):
            return run_in_executor(executor, function, *args)
        work = Work(function, call)
        future = run_in_executor(executor, work, *args)
        call._begin_work(work)
        future.add_done_callback(lambda _: call._end_work(work))
        return future

    loop.run_in_executor = watched  # type: ignore[assignment,method-assign]
