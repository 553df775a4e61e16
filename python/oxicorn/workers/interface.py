"""Which version of ASGI an application speaks, told by what it can be called with.

ASGI 3 calls ``application(scope, receive, send)``; ASGI 2 called ``application(scope)`` and awaited
what that returned with ``(receive, send)``. Asking whether something is a coroutine function would
miss bound methods, partials and functions that return what another application returned.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["single_callable"]


def single_callable(application: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """The application, to be called as ASGI 3 does."""
    if not _takes_scope_alone(application):
        return application

    def called(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        awaited: Awaitable[None] = application(scope)(receive, send)
        return awaited

    return called


def _takes_scope_alone(application: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        return False
    return not _binds(signature, 3) and _binds(signature, 1)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
