"""Ids of requests (``request_id``), where an operator looks for them, and the time before the server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.monitoring.test_control import listens
from tests.support.gate import APPLICATION, Gate
from tests.support.greenlets import GEVENT
from tests.support.wait import wait_for

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

WSGI = """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("as asked")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(environ.get("HTTP_X_REQUEST_ID")).encode()]
"""
ASGI = """
    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        if scope["path"] == "/fails":
            raise RuntimeError("as asked")
        ids = [value.decode() for name, value in scope["headers"] if name == b"x-request-id"]
        text = repr(ids[0] if len(ids) == 1 else ids or None).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": text})
"""
#: As any class of the user's: lines are written by Python.
LOGGER_CLASS = """
    from gunicorn.glogging import Logger

    class Own(Logger):
        def now(self):
            return "[own]"

    logger_class = Own
"""
FORMAT = "%(t)s %(U)s %(request_id)s %({x-request-id}i)s %(trace_id)s"


def start(serve, source: str, *args: str, **options: object):
    asgi = ["--worker-class", "asgi"] if source is ASGI else []
    return serve(source, "--request-id", "--request-id-response", *asgi, *args, **options)


@pytest.mark.parametrize("source", [WSGI, ASGI], ids=["wsgi", "asgi"])
def test_the_application_has_the_id_and_logs_name_it(serve, source):
    server = start(serve, source)
    answer = server.get("/", [("X-Request-ID", "abc-1")])
    assert (answer.text, answer.header("X-Request-ID")) == ("'abc-1'", "abc-1")
    answer = server.get("/", [("X-Request-ID", "not an id")])
    made = answer.header("X-Request-ID")
    assert UUID.fullmatch(made)
    assert answer.text == repr(made)
    answer = server.get("/fails", [("X-Request-ID", "abc-2")])
    assert (answer.status, answer.header("X-Request-ID")) == (500, "abc-2")
    server.wait_for_log(r"Error handling request GET /fails request_id=abc-2$")


@pytest.mark.parametrize("source", [WSGI, ASGI], ids=["wsgi", "asgi"])
def test_strangers_do_not_name_requests(serve, source):
    server = start(serve, source, "--forwarded-allow-ips", "192.0.2.1")
    answer = server.get("/", [("X-Request-ID", "abc-1")])
    assert UUID.fullmatch(answer.header("X-Request-ID"))
    assert answer.text == repr(answer.header("X-Request-ID"))


@pytest.mark.parametrize("source", [WSGI, ASGI], ids=["wsgi", "asgi"])
def test_without_the_setting_headers_are_what_was_sent(serve, source):
    server = serve(source, *(["--worker-class", "asgi"] if source is ASGI else []))
    answer = server.get("/", [("X-Request-ID", "not an id")])
    assert (answer.text, answer.header("X-Request-ID")) == ("'not an id'", None)


@pytest.mark.parametrize("source", [WSGI, ASGI], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("config", [None, LOGGER_CLASS], ids=["native", "python"])
def test_access_lines_show_the_id_whoever_writes_them(serve, source, config):
    server = start(
        serve, source, "--trace-context", "any", "--access-logformat", FORMAT, config=config, access_log=True
    )
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    server.get("/named", [("X-Request-ID", "abc-1"), ("traceparent", parent)])

    def line() -> str | None:
        return next((line for line in server.access_log if "/named" in line), None)

    assert wait_for(line).endswith("] /named abc-1 abc-1 4bf92f3577b34da6a3ce929d0e0e4736")
    assert ("[own]" in line()) == (config is not None)


def test_another_header_may_have_the_id(serve):
    server = start(
        serve, WSGI, "--request-id-header", "X-Correlation-ID", "--json-access-logfile", "access.json", ready="/ready"
    )
    answer = server.get("/named", [("X-Correlation-ID", "abc-1"), ("X-Request-ID", "other")])
    assert (answer.text, answer.header("X-Correlation-ID")) == ("'other'", "abc-1")

    def line() -> dict | None:
        lines = [json.loads(line) for line in server.lines("access.json")]
        return next((line for line in lines if line["path"] == "/named"), None)

    assert wait_for(line)["request_id"] == "abc-1"


def test_requests_in_hand_and_lost_ones_are_shown_with_their_id(serve):
    server = start(serve, APPLICATION, "--control-socket", "control")
    wait_for(lambda: listens(server))
    oxicornctl = [str(Path(sys.executable).with_name("oxicornctl")), "-s", str(server.directory / "control")]
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc-1\r\n\r\n".encode())
        gate.wait_until_reached()
        shown = subprocess.run(
            [*oxicornctl, "show", "requests"], capture_output=True, text=True, check=True, timeout=60
        )
        assert f"GET {gate.target} HTTP/1.1 request_id=abc-1\n" in shown.stdout
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        answer = peer.answer()
    assert (answer.status, answer.header("X-Request-ID")) == (502, "abc-1")
    server.wait_for_log(r"Lost with worker .* request_id=abc-1$")


def test_the_time_before_the_server_is_in_log_and_header(serve):
    server = serve(WSGI, "--request-start", "--server-timing", "--json-access-logfile", "access.json")
    # Whole seconds: what is written is the time that is meant, to the last digit.
    started = int(time.time()) - 5
    answer = server.get("/timed", [("X-Request-Start", f"t={started}.000")])
    times = dict(part.split(";dur=") for part in answer.header("Server-Timing").split(", "))
    assert list(times) == ["proxy", "queue", "app"]
    assert 5000 <= float(times["proxy"]) < 1_000_000

    def line() -> dict | None:
        lines = [json.loads(line) for line in server.lines("access.json")]
        return next((line for line in lines if line["path"] == "/timed"), None)

    assert 5 <= wait_for(line)["proxy_time"] < 1000
    assert line()["queue_time"] >= 0


OWN_LOGGER = """
    from gunicorn.glogging import Logger
    class Mine(Logger):
        def atoms(self, resp, req, environ, request_time):
            return {**super().atoms(resp, req, environ, request_time), "mine": "own"}
    logger_class = Mine
    accesslog = "access.log"
    access_log_format = "%(mine)s %(m)s %(U)s %(s)s proxy=%(proxy_time)s queue=%(queue_time)s"
    request_start = True
"""


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "asgi", GEVENT])
def test_lines_that_python_writes_have_the_time_before_the_application(serve, worker_class):
    """In the worker that served the request; and in the arbiter, of one that no worker has had."""
    source = ASGI if worker_class == "asgi" else APPLICATION
    server = serve(source, "-k", worker_class, "--workers", "1", config=OWN_LOGGER)
    started = int(time.time()) - 5
    assert server.get("/timed", [("X-Request-Start", f"t={started}.000")]).status == 200
    assert server.get("/untold").status == 200

    def line(path: str) -> re.Match[str] | None:
        found = (
            re.match(rf"own \w+ {path} (\d+) proxy=(\S+) queue=(\S+)$", line) for line in server.lines("access.log")
        )
        return next(filter(None, found), None)

    _, proxy, queue = wait_for(lambda: line("/timed")).groups()
    assert 5 <= float(proxy) < 1000
    assert 0 <= float(queue) < 60
    assert "." in proxy
    assert len(queue.partition(".")[2]) == 6
    assert wait_for(lambda: line("/untold"))[2] == "-"


def test_lines_of_requests_that_no_worker_has_had_say_how_long_they_waited(serve):
    server = serve(APPLICATION, "--queue-timeout", "1", "--workers", "1", "--prefetch", "0", config=OWN_LOGGER)
    # What found the server ready may have waited too long for the first worker.
    wait_for(lambda: server.get("/").status == 200)
    with Gate(server) as gate, server.connect() as first:
        first.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        assert server.get("/waits").status == 503
        line = wait_for(lambda: next((one for one in server.lines("access.log") if " /waits " in one), None))
        gate.open()
        assert first.answer().status == 200
    found = re.match(r"own GET /waits 503 proxy=- queue=(\S+)$", line)
    assert found is not None, line
    assert 1 <= float(found[1]) < 60
