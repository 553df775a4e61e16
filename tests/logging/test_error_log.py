"""The error log: its format, its level, its file, what applications print, reopened on USR1."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.support.wait import wait_for

APP = """
    import logging, os, sys

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError("on purpose")
        if environ["PATH_INFO"] == "/prints":
            print("printed to stdout", flush=True)
            print("printed to stderr", file=sys.stderr, flush=True)
            os.write(1, b"written to descriptor 1\\n")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""
LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\] .*")


def test_format_of_every_line(serve):
    server = serve(APP, "--workers", "2", "--log-level", "debug")
    assert server.stop() == 0
    for text in server.log.splitlines():
        # "Current configuration:" at level debug is followed by its lines.
        assert LINE.fullmatch(text) or text.startswith("  ") or "Current configuration" in server.log, text
    assert len([text for text in server.log.splitlines() if LINE.fullmatch(text)]) >= 8


def test_pid_in_a_line_is_that_of_its_writer(serve):
    server = serve(APP)
    server.wait_for_log(rf"\[{server.pid}\] \[INFO\] Listening at")
    (worker,) = server.worker_pids()
    server.wait_for_log(rf"\[{worker}\] \[INFO\] Booting worker with pid: {worker}")


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", "di"), ("info", "i"), ("warning", ""), ("error", ""), ("critical", ""), ("INFO", "i")],
)
def test_level(serve, level, seen):
    server = serve(APP, "--log-level", level)
    server.get("/raises")
    assert server.stop() == 0
    assert ("[INFO]" in server.log) is ("i" in seen)
    assert ("[DEBUG]" in server.log) is ("d" in seen)
    assert ("[ERROR] Error handling request GET /raises" in server.log) is (level != "critical")


def test_traceback_follows_its_line(serve):
    server = serve(APP)
    server.get("/raises?secret=1")
    server.wait_for_log(
        r"\[ERROR\] Error handling request GET /raises\?secret=1\nTraceback \(most recent call last\):\n(.*\n)*?"
        r"RuntimeError: on purpose\n"
    )


def test_file(serve):
    server = serve(APP, "--error-logfile", "error.log")
    server.get("/raises")
    wait_for(lambda: "RuntimeError: on purpose" in server.read("error.log"))
    assert server.stop() == 0
    assert server.kind.banner in server.read("error.log")
    assert server.log == ""


def test_usr1_reopens_it_in_every_process(serve):
    server = serve(APP, "--workers", "2", "--error-logfile", "error.log")
    os.rename(server.directory / "error.log", server.directory / "error.log.1")
    server.kill(signal.SIGUSR1)
    wait_for(lambda: (server.directory / "error.log").exists())
    pids = set(server.worker_pids())

    def every_worker_writes_to_the_new_file() -> bool:
        server.get("/raises")
        writers = {int(pid) for pid in re.findall(r"\[(\d+)\] \[ERROR\] Error handling", server.read("error.log"))}
        return pids <= writers

    wait_for(every_worker_writes_to_the_new_file)
    server.kill(signal.SIGTTIN)
    wait_for(lambda: f"[{server.pid}] [INFO] Handling signal: ttin" in server.read("error.log"))


def test_capture_output(serve):
    server = serve(APP, "--error-logfile", "error.log", "--capture-output")
    server.get("/prints")
    for text in ("printed to stdout", "printed to stderr", "written to descriptor 1"):
        wait_for(lambda text=text: text in server.read("error.log"))
    assert "printed" not in server.read("stdout.log")


def test_captured_output_follows_a_rotation(serve):
    server = serve(APP, "--error-logfile", "error.log", "--capture-output")
    os.rename(server.directory / "error.log", server.directory / "error.log.1")
    server.kill(signal.SIGUSR1)
    wait_for(lambda: server.get("/prints").status == 200 and "printed to stdout" in server.read("error.log"))


def test_without_capture_output_goes_where_it_went(serve):
    server = serve(APP, "--error-logfile", "error.log")
    server.get("/prints")
    wait_for(lambda: "printed to stdout" in server.read("stdout.log"))
    wait_for(lambda: "printed to stderr" in server.log)
    assert "printed" not in server.read("error.log")


def test_bad_requests_are_warned_about(serve):
    server = serve(APP)
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
        assert peer.answer().status == 400
    server.wait_for_log(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: ")


def test_hostile_request_cannot_forge_a_line(serve):
    server = serve(APP)
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nX\x1b[31mBad: \x1b\r\n\r\n")
        assert peer.answer().status == 400
    server.wait_for_log("Invalid request")
    assert "\x1b" not in server.log


def test_application_may_use_logging_itself(serve):
    server = serve("""
        import logging
        logging.basicConfig(level=logging.INFO, format="MINE %(message)s")
        log = logging.getLogger("shop")

        def application(environ, start_response):
            log.info("sold %s", environ["PATH_INFO"])
            logging.getLogger("gunicorn.error").info("through the server's logger")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]
    """)
    server.get("/hat")
    server.wait_for_log("^MINE sold /hat$")
    server.wait_for_log(r"\[INFO\] through the server's logger$")
    assert "MINE through" not in server.log
    assert "MINE Booting" not in server.log


def test_worker_says_that_its_arbiter_is_gone(serve):
    server = serve(APP, "--worker-class", "gthread")
    (worker,) = server.worker_pids()
    server.kill(signal.SIGKILL)
    server.wait_for_exit()
    server.wait_for_log(rf"\[{worker}\] \[INFO\] Parent changed, shutting down: <Worker {worker}>$")
