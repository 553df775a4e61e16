"""What an application is taken for, told by what it can be called with. No WSGI application is taken for ASGI."""

# ruff: noqa: ANN002, ANN003, ANN204 - what these can be called with is all there is to them

from __future__ import annotations

import functools

import pytest

interface = pytest.importorskip("oxicorn.workers.finding")

pytestmark = pytest.mark.usefixtures("only_oxicorn")


async def asgi(scope, receive, send): ...


def wsgi(environ, start_response): ...


class AsyncCall:
    async def __call__(self, scope, receive, send): ...

    async def method(self, scope, receive, send): ...

    async def with_more(self, more, scope, receive, send): ...


class Inherits(AsyncCall): ...


class PassesOn:
    def __call__(self, scope, receive, send):
        return asgi(scope, receive, send)


class TwoSteps:
    def __init__(self, scope): ...

    async def __call__(self, receive, send): ...


def two_steps(scope): ...


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


async def any_number(*args): ...


def framework(module, name, *args):
    return getattr(pytest.importorskip(module), name)(*args)


ASGI = {
    "function": lambda: asgi,
    "object": AsyncCall,
    "inherited": Inherits,
    "method": lambda: AsyncCall().method,
    "partial": lambda: functools.partial(AsyncCall().with_more, "more"),
    "passes on": PassesOn,
    "class of two steps": lambda: TwoSteps,
    "function of two steps": lambda: two_steps,
    "decorated": lambda: decorated(asgi),
    "decorated twice": lambda: decorated(decorated(AsyncCall().method)),
    "any number": lambda: any_number,
    "fastapi": lambda: framework("fastapi", "FastAPI"),
    "starlette": lambda: framework("starlette.applications", "Starlette"),
    "middleware": lambda: framework("starlette.middleware.gzip", "GZipMiddleware", asgi),
    "quart": lambda: framework("quart", "Quart", "name"),
    "litestar": lambda: framework("litestar", "Litestar"),
    "falcon": lambda: framework("falcon.asgi", "App"),
    "blacksheep": lambda: framework("blacksheep", "Application"),
    "channels": lambda: framework("channels.routing", "ProtocolTypeRouter", {}),
    "a2wsgi": lambda: framework("a2wsgi", "WSGIMiddleware", wsgi),
    "socketio": lambda: framework("socketio", "ASGIApp", None),
}


class Response:
    def __init__(self, environ, start_response): ...

    def __iter__(self): ...


class WsgiCall:
    def __call__(self, environ, start_response): ...


@functools.wraps(asgi)
def around_asgi(environ, start_response): ...


def optional(environ, start_response=None): ...


def more(environ, start_response, exc_info=None): ...


#: No more certain than that they are not ASGI.
NOT_ASGI = {
    "around asgi": lambda: around_asgi,
    "any number": lambda: lambda *args: None,
    "decorated": lambda: decorated(wsgi),
    "optional": lambda: optional,
    "more": lambda: more,
    "partial": lambda: functools.partial(lambda more, environ, start_response: None, "more"),
    "three arguments": lambda: lambda one, two, three: None,
    "a2wsgi": lambda: framework("a2wsgi", "ASGIMiddleware", asgi),
}

WSGI = {
    "function": lambda: wsgi,
    "object": WsgiCall,
    "class": lambda: Response,
    "flask": lambda: framework("flask", "Flask", "name"),
    "bottle": lambda: framework("bottle", "Bottle"),
    "falcon": lambda: framework("falcon", "App"),
    "pyramid": lambda: pytest.importorskip("pyramid.config").Configurator().make_wsgi_app(),
    "proxy fix": lambda: framework("werkzeug.middleware.proxy_fix", "ProxyFix", wsgi),
}


def create_app(config=None, *, debug=False): ...


async def create_later(): ...


@pytest.mark.parametrize("name", ASGI)
def test_asgi(name):
    assert interface.find(ASGI[name]()).name == "ASGI"


@pytest.mark.parametrize("name", NOT_ASGI)
def test_never_taken_for_asgi(name):
    found = interface.find(NOT_ASGI[name]())
    assert found is None or found.name == "WSGI"


@pytest.mark.parametrize("name", WSGI)
def test_wsgi(name):
    assert interface.find(WSGI[name]()).name == "WSGI"


def test_django():
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    if not settings.configured:
        settings.configure()
    assert interface.find(ASGIHandler()).name == "ASGI"
    assert interface.find(WSGIHandler()).name == "WSGI"


@pytest.mark.parametrize("application", [create_app, lambda: None, WsgiCall])
def test_factories(application):
    assert interface.find(application).name == "FACTORY"


@pytest.mark.parametrize("application", [None, 5, object(), create_later, print, dict])
def test_no_application_is_no_finding(application):
    found = interface.find(application)
    assert found is None or found.name == "FACTORY"
