"""Which interface an application speaks, and which version, told by what it can be called with.

ASGI 3 calls ``application(scope, receive, send)``; ASGI 2 called ``application(scope)`` and awaited
what that returned with ``(receive, send)``. Asking whether something is a coroutine function would
miss bound methods, partials and functions that return what another application returned.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from oxicorn.workers.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["find", "single_callable"]


def find(application: Any) -> Finding | None:
    """What ``application`` is, if that is certain. No WSGI application is taken for ASGI."""
    signature = _signature(application)
    if signature is None:
        return None
    if _is_asgi(application, signature):
        return Finding.ASGI
    if _is_coroutine_function(application):
        return None
    names = _required(signature)
    if len(names) == 2 and _binds(signature, 2) and not _binds(signature, 3):
        return Finding.WSGI
    return Finding.FACTORY if _is_factory(application, signature) else None


def _is_asgi(application: Any, signature: inspect.Signature) -> bool:
    names = _required(signature)
    if _could_be_wsgi(inspect.signature(application, follow_wrapped=False)):
        return False
    if _binds(signature, 3):
        # One that calls another and returns what that returned is known by the usual names.
        return _is_coroutine_function(application) or names == ["scope", "receive", "send"]
    # ASGI 2: called with the scope, it gives what is called with the rest.
    if names != ["scope"] or not _binds(signature, 1):
        return False
    return not isinstance(application, type) or _is_coroutine_function(_call_of(application))


def _could_be_wsgi(signature: inspect.Signature) -> bool:
    return _binds(signature, 2) and not _has_any_number(signature)


def _is_factory(application: Any, signature: inspect.Signature) -> bool:
    """Whether it is called without arguments; what takes any number of them is in doubt."""
    names = list(signature.parameters)
    if names and names[0] in ("environ", "env", "scope"):
        return False
    is_function = inspect.isroutine(application) or isinstance(application, type)
    return is_function and not _required(signature) and not _has_any_number(signature)


def _is_coroutine_function(application: Any) -> bool:
    """Whether calling it gives a coroutine, whatever is wrapped around it by ``functools``."""
    if isinstance(application, functools.partial):
        return _is_coroutine_function(application.func)
    if inspect.iscoroutinefunction(application):
        return True
    if inspect.isroutine(application):
        wrapped = getattr(application, "__wrapped__", None)
        return wrapped is not None and _is_coroutine_function(wrapped)
    return not isinstance(application, type) and inspect.iscoroutinefunction(_call_of(application))


def _call_of(application: Any) -> Any:
    """``__call__`` of an object, or of the objects of a class."""
    owner = application if isinstance(application, type) else type(application)
    return inspect.unwrap(vars(owner).get("__call__") or owner.__call__)


def _signature(application: Any) -> inspect.Signature | None:
    """What it can be called with; of what wraps another by ``functools.wraps``, what that can."""
    try:
        return inspect.signature(application)
    except (TypeError, ValueError):
        return None


def _required(signature: inspect.Signature) -> list[str]:
    """Names of the arguments that must be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]


def _has_any_number(signature: inspect.Signature) -> bool:
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


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
