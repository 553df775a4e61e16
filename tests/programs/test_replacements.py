"""Parts of Gunicorn's modules that config files and applications replace: honoured, or said once."""

from __future__ import annotations

import re

import pytest

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SERVER_SOFTWARE"].encode()]
"""

SUBCLASS = """
from gunicorn.http import wsgi

class Response(wsgi.Response):
    def default_headers(self, *args, **kwargs):
        headers = super().default_headers(*args, **kwargs)
        return [header for header in headers if not header.startswith("Server:")]

wsgi.Response = Response
"""
PATCH = """
import gunicorn.http.wsgi
default_headers = gunicorn.http.wsgi.Response.default_headers

def renamed(self):
    return ["Server: shop\\r\\n" if line.startswith("Server") else line for line in default_headers(self)]

gunicorn.http.wsgi.Response.default_headers = renamed
"""
VERSION = """
import gunicorn.http.wsgi

class Response(gunicorn.http.wsgi.Response):
    def __init__(self, req, sock, cfg):
        super().__init__(req, sock, cfg)
        self.version = "shop"

gunicorn.http.wsgi.Response = Response
"""


@pytest.mark.parametrize(
    ("config", "header"),
    [
        (SUBCLASS, None),
        (PATCH, "shop"),
        (VERSION, "shop"),
        ("import gunicorn.http.wsgi\ngunicorn.http.wsgi.SERVER = 'shop'\n", "shop"),
        ("import gunicorn.http.wsgi\ngunicorn.http.wsgi.SERVER = ''\n", ""),
        ("import gunicorn\ngunicorn.SERVER = 'shop'\n", "shop"),
        ("def on_starting(server):" + SUBCLASS.replace("\n", "\n    "), None),
    ],
    ids=["subclass", "patch", "version", "SERVER of wsgi", "empty", "SERVER", "in a hook"],
)
@pytest.mark.parametrize("hook", ["", "def post_request(worker, req, environ, resp): resp.should_close()\n"])
def test_server_header(serve, kind, config, header, hook):
    server = serve(APPLICATION, config=config + "\n" + hook)
    answer = server.get()
    # An empty header of Gunicorn's is none here.
    assert answer.header("server") == (header if kind.is_gunicorn else header or None)
    assert answer.text.startswith("gunicorn/")
    assert "WARNING" not in server.log


def test_software_of_the_module_that_makes_the_environ(serve):
    config = "import gunicorn.http.wsgi\ngunicorn.http.wsgi.SERVER_SOFTWARE = 'shop/1'\n"
    assert serve(APPLICATION, config=config).get().text == "shop/1"


ADDING = """
from gunicorn.http import wsgi

class Response(wsgi.Response):
    def default_headers(self):
        return [*super().default_headers(), "X-Shop: 1\\r\\n"]

wsgi.Response = Response
"""
BROKEN = """
import gunicorn.http.wsgi
gunicorn.http.wsgi.Response.default_headers = lambda self: self.nothing
"""
HANDLER = """
from gunicorn.workers.sync import SyncWorker
handle = SyncWorker.handle

def timed(self, *args):
    return handle(self, *args)

SyncWorker.handle = timed
"""


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        (ADDING, "gunicorn.http.wsgi.Response.default_headers adds 'x-shop', which has no effect: set headers in"),
        (BROKEN, "gunicorn.http.wsgi.Response was changed, which has no effect, because it cannot be tried: Attr"),
        (HANDLER, "gunicorn.workers.sync.SyncWorker.handle was replaced, which has no effect: connections "),
        (
            "import gunicorn.http.wsgi\ngunicorn.http.wsgi.create = None\n",
            "gunicorn.http.wsgi.create was replaced, which has no effect: the environ is made by the native",
        ),
        (
            "import gunicorn.sock\ngunicorn.sock.TCPSocket.set_options = lambda self, sock, bound=False: sock\n",
            "gunicorn.sock.TCPSocket.set_options was replaced, which has no effect: listeners are bound by",
        ),
    ],
    ids=["header", "broken", "handler", "function", "listener"],
)
def test_what_has_no_effect_is_said_once(serve, kind, config, warning):
    if kind.is_gunicorn:
        pytest.skip("there it has one")
    import signal

    server = serve(APPLICATION, config=config)
    assert server.get().status == 200
    (pid,) = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[pid])
    assert server.stop() == 0
    assert len(re.findall(re.escape(warning), server.log)) == 1, server.log


def test_application_that_replaces_too_late(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("there it is in time")
    server = serve(SUBCLASS + HANDLER + APPLICATION)
    assert server.get().header("server") == "oxicorn"
    server.wait_for_log("WARNING.*Response was changed in a worker, which has no effect: do it in the config file")
    server.wait_for_log("WARNING.*SyncWorker.handle was replaced, which has no effect")


@pytest.mark.parametrize("place", ["config", "application"])
def test_handling_of_requests_may_be_wrapped(serve, place):
    patch = """
from gunicorn.workers.sync import SyncWorker
handle_request = SyncWorker.handle_request

def timed(self, listener, req, *args):
    try:
        return handle_request(self, listener, req, *args)
    finally:
        self.log.info("timed %s", req.path)

SyncWorker.handle_request = timed
"""
    server = serve(APPLICATION, config=patch) if place == "config" else serve(APPLICATION + patch)
    assert server.get("/wrapped").status == 200
    server.wait_for_log("timed /wrapped")


HONOURED = """
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

init_signals, atoms = Worker.init_signals, Logger.atoms

def init_signals_and_note(self):
    init_signals(self)
    self.log.info("signals of %s", self.pid)

def atoms_of_the_shop(self, *args):
    return {**atoms(self, *args), "shop": "red"}

Worker.init_signals, Logger.atoms = init_signals_and_note, atoms_of_the_shop
access_log_format = "%(m)s %(shop)s"
"""


def test_what_has_an_effect(serve):
    server = serve(APPLICATION, config=HONOURED, access_log=True)
    (pid,) = server.worker_pids()
    server.wait_for_log(rf"signals of {pid}$")
    server.get("/")
    assert server.stop() == 0
    assert set(server.access_log) == {"GET red"}
    assert "WARNING" not in server.log
