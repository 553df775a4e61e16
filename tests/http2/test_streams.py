"""HTTP/2 from the client to the application: what each kind of application sees of a stream."""

from __future__ import annotations

import asyncio
import json
import socket

import h2.connection
import httpx
import pytest
from h2.errors import ErrorCodes

from tests.support.wait import wait_for

WSGI = """
    import json, os

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/wait":
            while not os.path.exists("open"):
                pass
        body = environ["wsgi.input"].read()
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        seen = {
            name: environ.get(name)
            for name in ("SERVER_PROTOCOL", "HTTP_HOST", "HTTP_COOKIE", "wsgi.url_scheme", "REQUEST_METHOD")
        }
        start_response("200 OK", [("Content-Type", "application/json"), ("X-Case", "Kept")])
        return [json.dumps({**seen, "length": len(body)}).encode()]
"""

ASGI = """
    import asyncio, json

    left = []

    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        if scope["path"] == "/left":
            left.append("asked")
            while (await receive())["type"] != "http.disconnect":
                pass
            left.append("gone")
            return
        length = 0
        while True:
            message = await receive()
            length += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        seen = {"version": scope["http_version"], "scheme": scope["scheme"], "length": length, "left": left}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
"""

CLEARTEXT = ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")


def client(server) -> httpx.Client:
    host, port = server.address
    return httpx.Client(http1=False, http2=True, base_url=f"http://{host}:{port}", timeout=20)


@pytest.fixture(scope="module")
def wsgi(serve_module):
    return serve_module(WSGI, *CLEARTEXT, "--workers", "2", "--access-logfile", "access.log")


@pytest.fixture(scope="module")
def asgi(serve_module):
    return serve_module(ASGI, *CLEARTEXT, "-k", "asgi")


def test_wsgi_application_sees_a_request(wsgi):
    with client(wsgi) as http:
        answer = http.post("/a", content=b"x" * 200_000, headers={"cookie": "a=1"})
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
    assert answer.headers["x-case"] == "Kept"
    host, port = wsgi.address
    assert answer.json() == {
        "SERVER_PROTOCOL": "HTTP/2.0",
        "HTTP_HOST": f"{host}:{port}",
        "HTTP_COOKIE": "a=1",
        "wsgi.url_scheme": "http",
        "REQUEST_METHOD": "POST",
        "length": 200_000,
    }
    log = wsgi.directory / "access.log"
    wait_for(lambda: '"POST /a HTTP/2.0" 200 ' in log.read_text())


def test_streams_of_one_connection_go_to_whoever_is_free(wsgi):
    gate = wsgi.directory / "open"
    host, port = wsgi.address

    async def ask():
        base = f"http://{host}:{port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=base, timeout=20) as http:
            waits = asyncio.create_task(http.get("/wait"))
            try:
                assert (await http.get("/quick")).status_code == 200
                assert not waits.done()
            finally:
                gate.touch()
            assert (await waits).status_code == 200

    asyncio.run(ask())
    gate.unlink()


def test_asgi_application_sees_a_request(asgi):
    def pieces():
        for _ in range(10):
            yield b"x" * 10_000

    with client(asgi) as http:
        answer = http.post("/", content=pieces())
    seen = answer.json()
    assert (seen["version"], seen["scheme"], seen["length"]) == ("2", "http", 100_000)


def test_reset_of_a_stream_is_a_disconnect(asgi):
    def left():
        return http.get("/").json()["left"]

    with client(asgi) as http, socket.create_connection(asgi.address, timeout=20) as sock:
        other = h2.connection.H2Connection()
        other.initiate_connection()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "t"), (":path", "/left")]
        other.send_headers(1, fields, end_stream=True)
        sock.sendall(other.data_to_send())
        wait_for(lambda: left() == ["asked"])
        other.reset_stream(1, ErrorCodes.CANCEL)
        sock.sendall(other.data_to_send())
        wait_for(lambda: left() == ["asked", "gone"])


def test_http1_is_served_beside_it(wsgi):
    host, port = wsgi.address
    answer = httpx.get(f"http://{host}:{port}/")
    assert answer.http_version == "HTTP/1.1"
    assert json.loads(answer.text)["SERVER_PROTOCOL"] == "HTTP/1.1"
