"""Logging to syslog: over UDP, TCP and Unix sockets."""

from __future__ import annotations

import re

import pytest

from tests.logging.receivers import receiving
from tests.support.wait import wait_for

APP = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""
#: Facility local3 and severity INFO, as ``<19 * 8 + 6>``.
LOCAL3_INFO = "<158>"


@pytest.mark.parametrize(
    ("kind_of_socket", "form"),
    [
        ("udp", "udp://{}"),
        ("tcp", "tcp://{}"),
        ("unix-dgram", "unix://{}#dgram"),
        ("unix-dgram", "unix://{}"),
        ("unix-stream", "unix://{}"),
        ("unix-stream", "unix://{}#stream"),
    ],
)
def test_both_logs_reach_it(serve, kind_of_socket, form):
    server = serve.new()
    with receiving(kind_of_socket, server.directory) as syslog:
        server.start(
            "--log-syslog",
            "--log-syslog-to",
            form.format(syslog.address),
            "--log-syslog-prefix",
            "shop",
            "--log-syslog-facility",
            "local3",
            app=APP,
            ready="/ready",
        )
        server.get("/path")
        (worker,) = server.worker_pids()
        pattern = rf"{LOCAL3_INFO}gunicorn\.shop\.access: \[{worker}\] 127\.0\.0\.1 .*GET /path HTTP/1\.1\" 200"
        syslog.wait_for(lambda text: re.search(pattern, text))
        syslog.wait_for(lambda text: f"{LOCAL3_INFO}gunicorn.shop.error: [{worker}] Booting worker with pid" in text)
        assert len(re.findall("GET /path", syslog.text)) == 1
        # The usual places are not left out.
        server.wait_for_log("Booting worker")
        assert server.stop() == 0


def test_name_is_that_of_the_process(serve):
    server = serve.new()
    with receiving("udp", server.directory) as syslog:
        server.start("--log-syslog", "--log-syslog-to", f"udp://{syslog.address}", app=APP)
        syslog.wait_for(lambda text: "gunicorn.app.application.error: " in text)
        assert server.stop() == 0


def test_what_the_gateway_says_reaches_it(serve):
    server = serve.new()
    with receiving("udp", server.directory) as syslog:
        server.start("--log-syslog", "--log-syslog-to", f"udp://{syslog.address}", app=APP, ready="/ready")
        with server.connect() as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
            assert peer.answer().status == 400
        syslog.wait_for(lambda text: "Invalid request from ip=127.0.0.1" in text)
        assert server.stop() == 0


def test_access_log_may_be_kept_out(serve):
    server = serve.new()
    with receiving("udp", server.directory) as syslog:
        server.start(
            "--log-syslog",
            "--log-syslog-to",
            f"udp://{syslog.address}",
            "--disable-redirect-access-to-syslog",
            app=APP,
            access_log=True,
            ready="/ready",
        )
        server.get("/path")
        wait_for(lambda: [line for line in server.access_log if "/path" in line])
        assert server.stop() == 0
        syslog.wait_for(lambda text: "Shutting down: Master" in text)
        assert "/path" not in syslog.text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--log-syslog-to", "http://localhost"], r"Error: invalid syslog address"),
        (["--log-syslog-to", "udp://localhost:port"], r"Error: 'port' is not a valid port number"),
        (["--log-syslog-facility", "kitchen"], r"Error: unknown facility name"),
    ],
)
def test_unusable_syslog_is_one_clear_error(serve, flags, text):
    server = serve(APP, "--log-syslog", *flags, ready=None)
    assert server.wait_for_exit() == 1
    assert re.search(text, server.log), server.log
    assert "Traceback" not in server.log


def test_syslog_that_cannot_be_reached_is_one_clear_error(serve):
    server = serve(APP, "--log-syslog", "--log-syslog-to", "tcp://127.0.0.1:1", ready=None)
    assert server.wait_for_exit() == 1
    assert "Error: syslog at tcp://127.0.0.1:1 cannot be reached" in server.log
    assert "Traceback" not in server.log
