"""Whom the server believes about scheme, prefix and address of a client: trusted peers, and nobody else."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from tests.support.greenlets import GEVENT
from tests.support.http import encode
from tests.support.server import Kind, Servers

APP = """
import json

NAMES = ("wsgi.url_scheme", "REMOTE_ADDR", "REMOTE_PORT", "SCRIPT_NAME", "PATH_INFO", "HTTP_X_FORWARDED_FOR",
         "HTTP_X_UNDER", "HTTP_SCRIPT_NAME", "PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: environ[name] for name in NAMES if name in environ}).encode()]
"""

WORKERS = {
    "sync": [],
    "gthread": ["--worker-class", "gthread", "--threads", "2"],
    "gevent": ["--worker-class", "gevent"],
}
#: Documentation addresses: we are none of them.
OTHERS = "192.0.2.0/24,2001:db8::/32"
US = "10.0.0.0/8,127.0.0.0/8"
V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 5678 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12 + 7)
    + socket.inet_aton("203.0.113.7")
    + socket.inet_aton("198.51.100.1")
    + struct.pack("!HH", 5678, 443)
    # A TLV that nobody knows.
    + b"\xe0\0\4abcd"
)


@pytest.fixture(params=["sync", "gthread", GEVENT])
def start(request: pytest.FixtureRequest, serve: Servers):
    """Starts a server of each worker class."""

    def start(*flags: str, **options: object):
        return serve(APP, "--keep-alive", "20", *WORKERS[request.param], *flags, **options)

    return start


def told(answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return json.loads(answer.body)


FORWARDED = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Prefix", "/ignored"),
    ("SCRIPT_NAME", "/app"),
    ("X_Under", "score"),
]


def test_a_trusted_peer_is_believed(start):
    server = start("--forwarded-allow-ips", US)
    environ = told(server.get("/app/page", FORWARDED))
    assert environ["wsgi.url_scheme"] == "https"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/page")
    assert environ["REMOTE_ADDR"] == "127.0.0.1", "X-Forwarded-For is for the application to judge"
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"
    assert "HTTP_X_UNDER" not in environ, "not one of forwarder_headers"
    assert server.get("/app", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]).status == 400
    # Exactly the value that means https, as with Gunicorn.
    assert told(server.get("/", [("X-Forwarded-Proto", "HTTPS")]))["wsgi.url_scheme"] == "http"


def test_nobody_else_is(start):
    server = start("--forwarded-allow-ips", OTHERS)
    environ = told(server.get("/app/page", FORWARDED))
    assert environ["wsgi.url_scheme"] == "http"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/app/page")
    assert "HTTP_SCRIPT_NAME" not in environ
    assert "HTTP_X_UNDER" not in environ
    # What would contradict itself is of no interest from him.
    assert server.get("/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]).status == 200


def test_the_header_that_means_https_can_be_chosen(start):
    server = start(config='secure_scheme_headers = {"X-SCHEME": "tls"}\n')
    assert told(server.get("/", [("X-Scheme", "tls")]))["wsgi.url_scheme"] == "https"
    assert told(server.get("/", [("X-Forwarded-Proto", "https")]))["wsgi.url_scheme"] == "http"


def test_underscores_by_header_map(serve):
    header = [("X_Under", "score")]
    assert serve(APP, "--header-map", "refuse").get("/", header).status == 400
    assert told(serve(APP, "--header-map", "dangerous").get("/", header))["HTTP_X_UNDER"] == "score"
    everything = serve(APP, "--forwarder-headers", "*", "--header-map", "refuse")
    assert told(everything.get("/", header))["HTTP_X_UNDER"] == "score"


def test_a_unix_socket_is_trusted(start):
    server = start("--forwarded-allow-ips", "", bind="unix:server.sock")
    assert told(server.get("/app/x", FORWARDED))["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(("mode", "header"), [("v1", V1), ("v2", V2), ("auto", V1), ("auto", V2)])
def test_proxy_protocol_names_the_client_for_every_request(start, kind: Kind, mode, header):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's gthread forgets it after the first request")
    server = start("--proxy-protocol", mode, "--proxy-allow-from", US, access_log=True)
    with server.connect() as peer:
        peer.send(header)
        for _ in range(2):
            environ = told(peer.get("/"))
            assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.7", "5678")
            assert (environ["PROXY_PROTOCOL"], environ["PROXY_ADDR"]) == ("TCP4", "198.51.100.1")
            assert environ["PROXY_PORT"] == "443"
    assert told(server.get("/"))["REMOTE_ADDR"] == "127.0.0.1", "the header may be missing"


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_proxy_protocol_from_somebody_else_is_forbidden(start, header):
    server = start("--proxy-protocol", "auto", "--proxy-allow-from", OTHERS)
    with server.connect() as peer:
        peer.send(header + encode())
        assert peer.answer().status == 403
    assert told(server.get("/"))["REMOTE_ADDR"] == "127.0.0.1"
    server.wait_for_log("Invalid request from ip=127.0.0.1: ")


def test_without_proxy_protocol_its_header_is_no_request(start):
    server = start()
    with server.connect() as peer:
        peer.send(V1 + encode())
        assert peer.answer().status == 400
