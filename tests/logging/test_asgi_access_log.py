"""Access lines of ASGI applications that Python writes, in the worker."""

from __future__ import annotations

import socket
import struct

from tests.support.wait import wait_for

APP = """
    import asyncio

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/raises":
            raise RuntimeError("on purpose")
        if scope["path"] == "/stuck":
            open("started", "w").close()
            await asyncio.sleep(60)
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-answer", b"forty-two")]})
        await send({"type": "http.response.body", "body": b"hello"})
"""
CONFIG = """
    from {}.glogging import Logger

    class Mine(Logger):
        def now(self):
            return "[now]"

    logger_class = Mine
"""
FORMAT = "%(t)s %(h)s %(m)s %(U)s %(q)s %(s)s %(b)s %({x-one}i)s %({x-answer}o)s %(p)s"


def start(serve, kind, *flags: str):
    return serve(
        APP,
        "--worker-class",
        "asgi",
        "--access-logformat",
        FORMAT,
        *flags,
        config=CONFIG.format("gunicorn" if kind.is_gunicorn else "oxicorn"),
        access_log=True,
        ready="/ready",
    )


def line(server, path):
    """The one line about ``path``."""
    wait_for(lambda: [text for text in server.access_log if f" {path} " in text], what=lambda: server.access_log)
    (found,) = [text for text in server.access_log if f" {path} " in text]
    return found


def test_worker_writes_the_line(serve, kind):
    server = start(serve, kind)
    (worker,) = server.worker_pids()
    server.get("/path?a=1", [("X-One", "1")])
    assert line(server, "/path") == f"[now] 127.0.0.1 GET /path a=1 201 5 1 forty-two <{worker}>"


def test_failed_request_has_one_line(serve, kind):
    server = start(serve, kind)
    assert server.get("/raises").status == 500
    assert " 500 " in line(server, "/raises")


def test_request_beyond_timeout_has_one_line(serve, kind):
    server = start(serve, kind, "--timeout", "1")
    assert server.get("/stuck").status == 504
    server.wait_for_log("Request timed out after")
    server.get("/last")
    assert line(server, "/last")
    assert " 504 " in line(server, "/stuck")


def test_client_that_left_has_one_line(serve, kind):
    server = start(serve, kind)
    with server.connect() as peer:
        peer.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for((server.directory / "started").exists)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert " 499 " in line(server, "/stuck")
    server.get("/last")
    assert line(server, "/last")
    assert line(server, "/stuck")
