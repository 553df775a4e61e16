"""Real clients over TLS and without: curl, nghttp, h2load, httpx, Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import httpx
import pytest

from tests.http2.conftest import CLEARTEXT
from tests.http2.conftest import WSGI as APPLICATION
from tests.support.browser import Browser
from tests.support.server import Server
from tests.tls.conftest import Pki

pytestmark = pytest.mark.usefixtures("oxicorn_only")

ASGI = """
    import json

    PAGE = b'<!doctype html><link rel="icon" href="data:,"><title>h2</title>'

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept", "subprotocol": None})
            text = (await receive())["text"]
            await send({"type": "websocket.send", "text": f"{text} by {scope['http_version']}"})
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        if scope["path"] == "/page":
            await send({"type": "http.response.body", "body": PAGE})
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        told = {"version": scope["http_version"], "scheme": scope["scheme"], "path": scope["path"]}
        told |= {"body": len(body + message["body"])}
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""


def program(name: str) -> str:
    """A client; one that is not installed skips the test, but not in CI."""
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"{name} is missing: tests/system-packages.sh installs it"
        pytest.skip(f"{name} is not installed (tests/system-packages.sh)")
    return found


def run(name: str, *arguments: str) -> str:
    command = [program(name), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, f"{command}: {found.stdout}{found.stderr}"
    return found.stdout + found.stderr


@pytest.fixture(scope="module")
def plain(serve_module) -> Server:
    return serve_module(ASGI, *CLEARTEXT, "-k", "asgi", access_log=True)


@pytest.fixture(scope="module")
def wsgi(serve_module, pki) -> Server:
    flags = [*pki.flags, "--http-protocols", "h2,h1"]
    return serve_module(APPLICATION, *flags, "-k", "gthread", "--threads", "4", access_log=True)


@pytest.fixture(scope="module")
def asgi(serve_module, pki) -> Server:
    return serve_module(ASGI, *pki.flags, "--http-protocols", "h2,h1", "-k", "asgi", access_log=True)


def at(server: Server, path: str = "/", scheme: str = "https") -> str:
    return f"{scheme}://localhost:{server.port}{path}"


# curl


def curl(pki: Pki, *arguments: str) -> str:
    return run("curl", "-sS", "--cacert", pki.path("ca.pem"), *arguments)


def test_curl_over_tls(asgi, wsgi, pki, tmp_path):
    (tmp_path / "body").write_bytes(b"x" * 200_000)
    told = json.loads(curl(pki, "--http2", "--data-binary", f"@{tmp_path}/body", at(asgi, "/up")))
    assert told == {"version": "2", "scheme": "https", "path": "/up", "body": 200_000}
    assert "HTTP/2 200" in curl(pki, "--http2", "-i", at(wsgi, "/fields"))
    assert len(curl(pki, "--http2", at(wsgi, "/big?1000000"))) == 1_000_000


def test_curl_takes_http1_where_it_asks_for_it(asgi, pki):
    assert json.loads(curl(pki, "--http1.1", at(asgi)))["version"] == "1.1"


def test_curl_without_tls(plain, pki):
    """One request a command: curl 7.88 does not use such a connection twice, whatever server it is."""
    assert json.loads(curl(pki, "--http2-prior-knowledge", at(plain, "/a", "http")))["version"] == "2"


def test_a_check_by_http1_is_served_beside_it(plain):
    """Where a client that may begin with HTTP/2 does not, `h1` in `http_protocols` is what counts."""
    assert json.loads(plain.get("/health").body)["version"] == "1.1"


# nghttp, h2load


def test_nghttp(plain, asgi):
    for url in (at(plain, "/b", "http"), at(asgi, "/b")):
        found = run("nghttp", "-nv", url)
        assert ":status: 200" in found
        assert "GOAWAY" not in found.partition(":status: 200")[0]
    # The body, and a head that comes in the dynamic table the second time.
    assert json.loads(run("nghttp", "-d", "/etc/passwd", at(plain, "/c", "http")))["path"] == "/c"
    assert run("nghttp", "-nv", "-m", "20", at(asgi)).count(":status: 200") == 20


@pytest.mark.parametrize("which", ["plain", "asgi", "wsgi"])
def test_h2load_loses_nothing(request, which):
    server = request.getfixturevalue(which)
    scheme = "http" if which == "plain" else "https"
    found = run("h2load", "-n", "2000", "-c", "8", "-m", "16", at(server, "/", scheme))
    assert re.search(r"2000 succeeded, 0 failed, 0 errored, 0 timeout", found), found


def test_h2load_of_long_responses(wsgi):
    found = run("h2load", "-n", "100", "-c", "4", "-m", "8", at(wsgi, "/big?300000"))
    assert re.search(r"100 succeeded, 0 failed, 0 errored, 0 timeout", found), found
    assert re.search(r"\((30\d{6})\) data|28\.\d+MB", found), found


# httpx


@pytest.mark.parametrize("which", ["asgi", "wsgi"])
def test_httpx(request, which, pki):
    server = request.getfixturevalue(which)
    with httpx.Client(http2=True, verify=pki.context(), timeout=20) as client:
        for number in range(5):
            answer = client.post(at(server, f"/{number}"), content=b"x" * 100_000)
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            assert answer.json()["body"] == 100_000
        assert client.head(at(server)).content == b""


def test_httpx_streams(wsgi, pki):
    with (
        httpx.Client(http2=True, verify=pki.context(), timeout=20) as client,
        client.stream("GET", at(wsgi, "/big?2000000")) as answer,
    ):
        assert sum(map(len, answer.iter_bytes())) == 2_000_000


# Chromium


def test_chromium(asgi):
    """A page by HTTP/2, a body, and fifty requests at once."""
    browser = Browser("--ignore-certificate-errors")
    try:
        browser.open(at(asgi, "/page"))
        assert browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        told = browser.run("fetch('/f', {method: 'POST', body: 'x'.repeat(50000)}).then(one => one.text())")
        assert json.loads(told) == {"version": "2", "scheme": "https", "path": "/f", "body": 50_000}
        many = "Promise.all([...Array(50).keys()].map(n => fetch('/' + n).then(one => one.status)))"
        assert browser.run(f"{many}.then(all => all.filter(one => one == 200).length)") == 50
    finally:
        browser.close()
