"""FastCGI from real web servers: nginx, Apache, lighttpd, HAProxy; WSGI and ASGI."""

from __future__ import annotations

import hashlib
import os
import socket
import struct

import pytest

from tests.proxies.conftest import Proxy, run_behind_nginx, run_speaking
from tests.proxies.test_uwsgi import ASGI, WSGI, packet, told
from tests.support.load import Load
from tests.support.ports import free_port

FILES = (
    WSGI
    + """
    import os, wsgiref.util

    about = application

    def application(environ, start_response):
        if environ["PATH_INFO"] != "/file":
            return about(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1000000")])
        return environ["wsgi.file_wrapper"](open("large", "rb"))
"""
)


def run(serve, app: str, *arguments: str):
    return run_speaking(serve, "fastcgi", app, *arguments)


def run_nginx(serve, proxy: Proxy, app: str, *arguments: str):
    return run_behind_nginx(serve, proxy, "fastcgi", app, *arguments)


def digest(body: bytes) -> tuple[int, str]:
    return len(body), hashlib.sha1(body).hexdigest()


def test_nginx_tells_who_the_client_is_and_what_it_asked_for(serve, proxy):
    run_nginx(serve, proxy, WSGI)
    with proxy.connect() as peer:
        about = told(peer.get("/a%20b%2541?q=%20", headers=[("X-Name", "value"), ("Cookie", "a=1")]))
        assert (about["PATH_INFO"], about["RAW_URI"], about["SCRIPT_NAME"]) == ("/a b%41", "/a%20b%2541?q=%20", "")
        assert (about["REMOTE_ADDR"], about["SERVER_PORT"]) == ("127.0.0.1", str(proxy.port))
        assert (about["HTTP_X_NAME"], about["HTTP_COOKIE"]) == ("value", "a=1")
        assert peer.get("/a/../b").status == 400, "nginx has looked at another path"


def test_bodies_come_and_go_through_nginx(serve, proxy):
    server = run_nginx(serve, proxy, FILES, "-k", "gthread", "--threads", "4")
    (server.directory / "large").write_bytes(bytes(range(250)) * 4000)
    with proxy.connect() as peer:
        for length in (0, 1, 70_000, 900_000):
            body = os.urandom(length)
            about = told(peer.request("POST", "/up", body=body))
            assert (about["length"], about["sha1"]) == digest(body)
        assert peer.get("/stream").body.splitlines() == [b"%d" % number for number in range(1000)]
        assert peer.get("/file").body == bytes(range(250)) * 4000
        assert peer.request("HEAD", "/").body == b""


def test_an_upload_in_chunks_is_streamed_to_asgi(serve, proxy):
    run_nginx(serve, proxy, ASGI, "-k", "asgi")
    body = os.urandom(200_000)
    with proxy.connect() as peer:
        peer.send(b"POST /a%2541?x=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 1000):
            peer.send(b"3e8\r\n" + body[at : at + 1000] + b"\r\n")
        peer.send(b"0\r\n\r\n")
        about = told(peer.answer("POST"))
        assert (about["path"], about["raw_path"], about["query"]) == ("/a%41", "/a%2541", "x=1")
        assert (about["length"], about["sha1"]) == digest(body)


def test_reloads_lose_nothing_behind_fastcgi_pass(serve, proxy):
    server = run_nginx(serve, proxy, WSGI, "-w", "2")
    with Load(("127.0.0.1", proxy.port), clients=4) as load:
        load.wait_for_answers(100)
        server.reload()
        load.wait_for_answers(100)
    load.assert_flawless()


APACHE = """
ProxyPass "/" "fcgi://{backend}/" enablereuse=on
"""


def test_apache(serve, proxy):
    server = run(serve, WSGI)
    proxy.start_apache(APACHE.format(backend=server.bind), "proxy", "proxy_fcgi")
    with proxy.connect() as peer:
        for _ in range(3):
            about = told(peer.get("/shop/a%20b?q=1"))
            assert (about["SCRIPT_NAME"], about["PATH_INFO"]) == ("", "/shop/a b")
        body = os.urandom(100_000)
        about = told(peer.request("POST", "/up", body=body))
        assert (about["length"], about["sha1"]) == digest(body)


def test_lighttpd(serve, proxy):
    server = run(serve, WSGI)
    proxy.start_lighttpd(server.bind, "fastcgi")
    with proxy.connect() as peer:
        about = told(peer.get("/shop/a%20b?q=1"))
        assert (about["SCRIPT_NAME"], about["PATH_INFO"]) == ("/shop", "/a b")
        body = os.urandom(100_000)
        about = told(peer.request("POST", "/shop/up", body=body))
        assert (about["length"], about["sha1"]) == digest(body)


HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
fcgi-app shop
    docroot /
    option keep-conn
    option mpxs-conns
    option get-values
frontend web
    bind 127.0.0.1:{port}
    default_backend shop
backend shop
    use-fcgi-app shop
    http-reuse always
    server shop {backend} proto fcgi
"""


def test_haproxy(serve, proxy):
    server = run(serve, WSGI, "-k", "gthread", "--threads", "4")
    (proxy.directory / "haproxy.cfg").write_text(HAPROXY.format(port=proxy.port, backend=server.bind))
    proxy.start("haproxy", "-db", "-f", str(proxy.directory / "haproxy.cfg"))
    with proxy.connect() as peer:
        for _ in range(3):
            about = told(peer.get("/a%20b?q=1"))
            assert (about["PATH_INFO"], about["QUERY_STRING"]) == ("/a b", "q=1")
        body = os.urandom(100_000)
        about = told(peer.request("POST", "/up", body=body))
        assert (about["length"], about["sha1"]) == digest(body)
    # Several clients at once, which it would put on one connection if it were told that it may.
    with Load(("127.0.0.1", proxy.port), clients=8) as load:
        load.wait_for_answers(200)
    load.assert_flawless()


# By hand


def record(kind: int, number: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBHHBB", 1, kind, number, len(content), 0, 0) + content


def pairs(*variables: tuple[str, str]) -> bytes:
    return b"".join(bytes([len(name), len(value)]) + name.encode() + value.encode() for name, value in variables)


def request(number: int, *variables: tuple[str, str], keep: bool = False, body: bytes = b"", role: int = 1) -> bytes:
    stdin = record(5, number, body) if body else b""
    begin = struct.pack(">HB5x", role, keep)
    return (
        record(1, number, begin) + record(4, number, pairs(*variables)) + record(4, number) + stdin + record(5, number)
    )


GET = (("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "a.example"))


class Records:
    """A connection whose answers are records."""

    def __init__(self, address) -> None:
        self.socket = socket.create_connection(address, 10)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "the connection ended"
            data += piece
        return data

    def read(self) -> tuple[int, int, bytes]:
        _, kind, number, length, padding, _ = struct.unpack(">BBHHBB", self.take(8))
        return kind, number, self.take(length + padding)[:length]

    def answer(self, number: int = 1) -> tuple[bytes, bytes]:
        """What comes by STDOUT, and the content of END_REQUEST."""
        output = b""
        while True:
            kind, of, content = self.read()
            assert of == number
            if kind == 3:
                return output, content
            assert kind == 6
            output += content

    def is_closed(self) -> bool:
        return self.socket.recv(1) == b""


@pytest.fixture(scope="module")
def fastcgi(serve_module):
    server = serve_module(WSGI, "--protocol", "fastcgi", ready=None)
    server.wait_for_log("Booting worker")
    return server


def test_a_kept_connection_serves_one_request_after_the_other(fastcgi):
    with Records(fastcgi.address) as peer:
        for number in (1, 7):
            peer.socket.sendall(request(number, *GET, keep=True))
            output, end = peer.answer(number)
            assert output.startswith(b"Status: 200 OK\r\n")
            assert b"onnection" not in output.split(b"\r\n\r\n")[0]
            assert end == bytes(8)
        peer.socket.sendall(request(1, *GET))
        assert peer.answer()[0].startswith(b"Status: 200 OK\r\n")
        assert peer.is_closed()


def test_a_request_may_come_in_any_pieces(fastcgi):
    whole = request(1, ("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/a%20b"), ("CONTENT_LENGTH", "4"), body=b"body")
    with Records(fastcgi.address) as peer:
        for at in range(len(whole)):
            peer.socket.sendall(whole[at : at + 1])
        output, _ = peer.answer()
        assert b'"PATH_INFO": "/a b"' in output
        assert b'"length": 4' in output


def test_a_second_request_at_once_is_refused_by_the_protocol(fastcgi):
    first = request(1, *GET, keep=True)
    with Records(fastcgi.address) as peer:
        peer.socket.sendall(first[:16] + request(3, *GET) + first[16:])
        assert peer.read() == (3, 3, bytes([0, 0, 0, 0, 1, 0, 0, 0]))
        assert peer.answer()[0].startswith(b"Status: 200 OK\r\n")


def test_who_asks_is_told_that_it_is_one_at_a_time(fastcgi):
    with Records(fastcgi.address) as peer:
        peer.socket.sendall(record(9, 0, pairs(("FCGI_MPXS_CONNS", ""))))
        assert peer.read() == (10, 0, pairs(("FCGI_MPXS_CONNS", "0")))


@pytest.mark.parametrize(
    ("sent", "status", "line"),
    [
        (b"\x02\x01\x00\x01\x00\x08\x00\x00", b"400", "invalid fastcgi record"),
        (request(1, *GET, role=3), b"501", "unsupported fastcgi role"),
        (request(1, *GET, ("CONTENT_LENGTH", "5"), body=b"four"), b"400", "invalid content-length"),
        (request(1, *GET, ("CONTENT_LENGTH", "3"), body=b"four"), b"400", "invalid content-length"),
        (request(1, ("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/a/../b")), b"400", "invalid request target"),
        (request(1, *GET, ("HTTP_X", "a\nb")), b"400", "invalid byte in a header value"),
    ],
)
def test_what_is_wrong_is_answered_once_and_logged_once(fastcgi, sent, status, line):
    with Records(fastcgi.address) as peer:
        peer.socket.sendall(sent)
        kind, _, output = peer.read()
        assert (kind, output[:11]) == (6, b"Status: " + status)
    fastcgi.wait_for_log(f"Invalid request from ip=127.0.0.1: {line}")
    assert "Traceback" not in fastcgi.log


def test_who_may_not_speak_it_is_told_so(serve):
    server = run(serve, WSGI, "--uwsgi-allow-from", "192.0.2.0/24")
    with Records(server.address) as peer:
        peer.socket.sendall(request(1, *GET))
        assert peer.answer()[0].startswith(b"Status: 403 Forbidden\r\n")


def test_one_server_speaks_another_protocol_at_each_address(serve):
    server = serve.new()
    ports = [free_port(), free_port()]
    binds = [server.bind, f"uwsgi://127.0.0.1:{ports[0]}", f"fastcgi://127.0.0.1:{ports[1]}"]
    server.start(app=WSGI, bind=binds)
    assert server.get().status == 200
    with socket.create_connection(("127.0.0.1", ports[0]), 10) as peer:
        peer.sendall(packet(("REQUEST_METHOD", "GET"), ("PATH_INFO", "/")))
        assert peer.recv(15) == b"HTTP/1.1 200 OK"
    with Records(("127.0.0.1", ports[1])) as peer:
        peer.socket.sendall(request(1, *GET))
        assert peer.answer()[0].startswith(b"Status: 200 OK\r\n")
