"""Bytes in lines that Python writes, and in ``resp.sent``: those that went to the client."""

from __future__ import annotations

import pytest

from tests.support.wait import wait_for

CONFIG = """
    from gunicorn.glogging import Logger

    class logger_class(Logger):
        def access(self, resp, req, environ, request_time):
            self.access_log.info("by Python %s %s %s", environ.get("PATH_INFO"), req.method, resp.sent)

    def post_request(worker, req, environ, resp):
        with open("hook", "a") as file:
            file.write(f"{req.path} {req.method} {resp.sent}\\n")
"""

WSGI = """
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        status = {"/204": "204 No Content", "/304": "304 Not Modified"}.get(path, "200 OK")
        headers = [("Content-Length", "5")] if path == "/length" else []
        start_response(status, headers)
        if path == "/trailers":
            environ["oxicorn.send_trailers"]([("X-Sum", "1")])
        return iter([b"he", b"llo"]) if path == "/pieces" else [b"hello"]
"""

ASGI = """
    async def application(scope, receive, send):
        status = {"/204": 204, "/304": 304}.get(scope["path"], 200)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""

#: Path, method, bytes sent.
EXPECTED = [
    ("/", "GET", 5),
    ("/", "HEAD", 0),
    ("/204", "GET", 0),
    ("/304", "GET", 0),
    ("/length", "HEAD", 0),
    ("/pieces", "GET", 5),
    ("/pieces", "HEAD", 0),
    ("/trailers", "GET", 5),
]


@pytest.mark.parametrize("worker", ["sync", "asgi"])
def test_lines_and_hooks_have_what_was_sent(serve, kind, worker):
    if kind.is_gunicorn:
        pytest.skip("it counts what the application gave")
    server = serve(
        WSGI if worker == "sync" else ASGI,
        "-k",
        worker,
        config=CONFIG.replace("gunicorn.glogging", "oxicorn.glogging"),
        access_log=True,
        ready=None,
    )
    server.wait_for_log("Booting worker")
    expected = [entry for entry in EXPECTED if worker == "sync" or entry[0] not in ("/trailers", "/length", "/pieces")]
    with server.connect() as peer:
        for path, method, _ in expected:
            peer.request(method, path, [("TE", "trailers")])
    lines = [f"by Python {path} {method} {sent}" for path, method, sent in expected]
    wait_for(
        lambda: len(server.access_log) == len(server.lines("hook")) == len(lines),
        what=lambda: "\n".join(server.access_log),
    )
    # An event loop may begin with the next request before it has told of the last.
    assert sorted(server.access_log) == sorted(lines)
    assert sorted(server.lines("hook")) == sorted(f"{path} {method} {sent}" for path, method, sent in expected)
