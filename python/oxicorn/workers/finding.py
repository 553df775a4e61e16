"""What a worker finds its application to be (``oxicorn.workers.asgi_callable.find``)."""

from __future__ import annotations

import enum
import sys
import types

__all__ = ["Finding", "find"]

_CALL = "__call__"
#: Flags of code that takes any number of arguments, or gives something to be awaited.
_NOT_PLAIN = 0x04 | 0x80 | 0x100 | 0x200


class Finding(enum.IntEnum):
    """What an application certainly is; what is in doubt is served as it is asked for."""

    ASGI = 1
    WSGI = 2
    #: A function that makes the application.
    FACTORY = 3
    #: An application of Tornado's, or whatever else its HTTP server calls.
    TORNADO = 4


def find(application: object) -> Finding | None:
    """What ``application`` is, if that is certain."""
    if _is_plainly_wsgi(application):
        return Finding.WSGI
    if _is_tornados(application):
        return Finding.TORNADO
    from oxicorn.workers import asgi_callable  # it needs ``inspect``, which is large

    return asgi_callable.find(application)


def _is_tornados(application: object) -> bool:
    # Where one is, its module is loaded.
    places = (("httputil", "HTTPServerConnectionDelegate"), ("wsgi", "WSGIContainer"))
    found = (getattr(sys.modules.get(f"tornado.{module}"), name, ()) for module, name in places)
    return isinstance(application, tuple(found))


def _is_plainly_wsgi(application: object) -> bool:
    """Whether it is a function of two arguments, or an object that is called by such a method."""
    is_function = isinstance(application, types.FunctionType)
    function = application if is_function else getattr(type(application), _CALL, None)
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        return False
    code = function.__code__
    count = 2 if is_function else 3
    is_plain = not code.co_flags & _NOT_PLAIN and not code.co_kwonlyargcount
    return is_plain and code.co_argcount == count and not function.__defaults__
