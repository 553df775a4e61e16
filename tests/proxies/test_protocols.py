"""What each address speaks: what is said to whoever speaks something else; uwsgi, FastCGI and SCGI in TLS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct

import pytest

from tests.proxies.conftest import Proxy
from tests.proxies.test_fastcgi import GET, Records, request
from tests.proxies.test_fastcgi import HAPROXY as FASTCGI_HAPROXY
from tests.proxies.test_scgi import request as scgi_request
from tests.proxies.test_uwsgi import WSGI
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.wait import wait_for
from tests.tls.conftest import Pki
from tests.tls.conftest import pki as pki

HTTP = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
VARIABLES = (b"REQUEST_METHOD", b"GET", b"PATH_INFO", b"/", b"SERVER_PROTOCOL", b"HTTP/1.1")
PACKET = b"".join(struct.pack("<H", len(text)) + text for text in VARIABLES)
UWSGI = struct.pack("<BHB", 0, len(PACKET), 0) + PACKET
FASTCGI = request(1, *GET)
SCGI = scgi_request(*GET)
TLS = bytes.fromhex("16030100c8010000c40303") + bytes(194)

SCHEMES = ("http", "uwsgi", "fastcgi", "scgi")
SENT = {"http": HTTP, "uwsgi": UWSGI, "fastcgi": FASTCGI, "scgi": SCGI, "tls": TLS}
REASONS = {
    "http": "http was sent to an address that speaks uwsgi, fastcgi or scgi: set protocol to http, or bind http://",
    "uwsgi": "uwsgi was sent to an address that does not speak it: set protocol to uwsgi, or bind uwsgi://",
    "fastcgi": "fastcgi was sent to an address that does not speak it: set protocol to fastcgi, or bind fastcgi://",
    "scgi": "scgi was sent to an address that does not speak it: set protocol to scgi, or bind scgi://",
    "tls": "tls was sent to an address that does not speak it: set certfile, or bind https://",
}


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {scheme: free_port() for scheme in SCHEMES}


@pytest.fixture(scope="module")
def server(serve_module, ports) -> Server:
    binds = [f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()]
    server = serve_module(WSGI, bind=binds, ready=None, access_log=True)
    server.wait_for_log("Booting worker")
    return server


def test_the_banner_says_what_is_spoken(server, ports):
    binds = ",".join(f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items())
    assert f"Listening at: {binds} (" in server.log


@pytest.mark.parametrize(("spoken", "sent"), [(one, other) for one in SCHEMES for other in SENT if one != other])
def test_another_protocol_is_told_in_one_line(server, ports, spoken, sent):
    lines = len(server.lines("access.log"))
    with socket.create_connection(("127.0.0.1", ports[spoken]), 10) as peer:
        peer.sendall(SENT[sent])
        answer = b""
        while piece := peer.recv(4096):
            answer += piece
    # Who speaks HTTP is told in HTTP, everybody else as the address has it.
    status = b"Status: 400" if spoken in ("fastcgi", "scgi") and sent != "http" else b"HTTP/1.1 400 "
    assert status in answer
    assert REASONS[sent].encode() in answer
    server.wait_for_log(f"Invalid request from ip=127.0.0.1: {re.escape(REASONS[sent])}")
    (line,) = wait_for(lambda: server.lines("access.log")[lines:])
    assert "\\x" not in line


# In TLS.


@pytest.fixture
def secure(serve, pki):
    """A server that speaks one of them in TLS."""

    def start(scheme: str) -> Server:
        server = serve(WSGI, *pki.flags, bind=f"{scheme}://127.0.0.1:{free_port()}", ready=None)
        server.wait_for_log("Booting worker")
        assert f"Listening at: {scheme}://127.0.0.1:" in server.log
        return server

    return start


def port_of(server: Server) -> int:
    return int(re.findall(r"Listening at: \S+:(\d+) ", server.log)[-1])


def test_uwsgi_in_tls_from_nginx(secure, proxy: Proxy, pki: Pki):
    server = secure("suwsgi")
    proxy.start_nginx(
        f"""server {{ listen 127.0.0.1:{proxy.port}; location / {{
            include /etc/nginx/uwsgi_params;
            uwsgi_pass suwsgi://localhost:{port_of(server)};
            uwsgi_ssl_verify on; uwsgi_ssl_trusted_certificate {pki.path("ca.pem")}; uwsgi_ssl_name localhost;
        }} }}"""
    )
    with proxy.connect() as peer:
        for path in ("/a", "/b"):
            answer = peer.get(path)
            assert (answer.status, json.loads(answer.body)["PATH_INFO"]) == (200, path)


def test_fastcgi_in_tls_from_haproxy(secure, proxy: Proxy, pki: Pki):
    server = secure("fastcgi+tls")
    backend = f"localhost:{port_of(server)} ssl verify required ca-file {pki.path('ca.pem')} verifyhost localhost"
    (proxy.directory / "haproxy.cfg").write_text(FASTCGI_HAPROXY.format(port=proxy.port, backend=backend))
    proxy.start("haproxy", "-db", "-f", str(proxy.directory / "haproxy.cfg"))
    with proxy.connect() as peer:
        for path in ("/a", "/b"):
            answer = peer.get(path)
            assert (answer.status, json.loads(answer.body)["PATH_INFO"]) == (200, path)


def test_fastcgi_in_tls_by_hand_and_by_the_settings_alone(serve, pki):
    server = serve(WSGI, *pki.flags, "--protocol", "fastcgi", ready=None)
    server.wait_for_log("Booting worker")
    assert "Listening at: fastcgi+tls://127.0.0.1:" in server.log
    peer = Records(server.address)
    peer.socket = pki.context().wrap_socket(peer.socket, server_hostname="localhost")
    assert isinstance(peer.socket, ssl.SSLSocket)
    with peer:
        peer.socket.sendall(request(1, *GET))
        assert peer.answer()[0].startswith(b"Status: 200 OK\r\n")


def test_scgi_in_tls_by_hand(secure, pki):
    server = secure("scgi+tls")
    with (
        socket.create_connection(("127.0.0.1", port_of(server)), 10) as plain,
        pki.context().wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(SCGI)
        assert peer.recv(15) == b"Status: 200 OK\r"


def test_a_scheme_of_others_is_named(serve):
    server = serve(WSGI, bind="fcgi://127.0.0.1:9000", ready=None)
    assert server.wait_for_exit() == 1
    assert "write fastcgi://127.0.0.1:9000" in server.log
