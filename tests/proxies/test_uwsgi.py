"""uwsgi from real web servers: nginx with its stock parameters, Apache, lighttpd; WSGI and ASGI."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct

import pytest

from tests.proxies.conftest import Proxy, run_behind_nginx
from tests.support.load import Load
from tests.support.wait import wait_for

WSGI = """
    import hashlib, json, time

    NAMES = (
        "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING RAW_URI REMOTE_ADDR REMOTE_PORT SERVER_NAME SERVER_PORT"
        " SERVER_PROTOCOL HTTP_HOST HTTP_COOKIE CONTENT_TYPE CONTENT_LENGTH wsgi.url_scheme MINE HTTP_X_NAME"
        " HTTP_CONNECTION HTTP_TRANSFER_ENCODING"
    ).split()

    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        about = {name: environ.get(name) for name in NAMES}
        about |= {"length": len(body), "sha1": hashlib.sha1(body).hexdigest()}
        start_response("200 OK", [("Content-Type", "application/json"), ("X-App", "wsgi")])
        if environ["PATH_INFO"] == "/stream":
            return (b"%d\\n" % number for number in range(1000))
        return [json.dumps(about).encode()]
"""

ASGI = """
    import hashlib, json

    async def application(scope, receive, send):
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        about = {name: scope[name] for name in ("method", "path", "root_path", "client", "server", "scheme")}
        about |= {"raw_path": scope["raw_path"].decode(), "query": scope["query_string"].decode()}
        about |= {"headers": [[a.decode(), b.decode()] for a, b in scope["headers"]]}
        about |= {"length": len(body), "sha1": hashlib.sha1(body).hexdigest()}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for byte in json.dumps(about):
            await send({"type": "http.response.body", "body": byte.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
"""


def run_nginx(serve, proxy: Proxy, app: str, *arguments: str):
    return run_behind_nginx(serve, proxy, "uwsgi", app, *arguments)


def told(answer) -> dict:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_nginx_tells_who_the_client_is_and_what_it_asked_for(serve, proxy):
    run_nginx(serve, proxy, WSGI)
    with proxy.connect() as peer:
        about = told(peer.get("/a%20b%2541/%C3%A9?q=%20", headers=[("X-Name", "value"), ("Cookie", "a=1")]))
    # Decoded once, as WSGI has it.
    assert about["PATH_INFO"] == "/a b%41/\u00c3\u00a9"
    assert about["RAW_URI"] == "/a%20b%2541/%C3%A9?q=%20"
    assert about["QUERY_STRING"] == "q=%20"
    assert (about["REMOTE_ADDR"], about["SCRIPT_NAME"]) == ("127.0.0.1", "")
    assert int(about["REMOTE_PORT"]) > 0
    assert about["SERVER_PORT"] == str(proxy.port)
    assert (about["HTTP_X_NAME"], about["HTTP_COOKIE"]) == ("value", "a=1")
    assert about["wsgi.url_scheme"] == "http"
    assert about["HTTP_CONNECTION"] is None


def test_bodies_of_any_length_come_through_nginx(serve, proxy):
    run_nginx(serve, proxy, WSGI, "-k", "gthread", "--threads", "4")
    with proxy.connect() as peer:
        for length in (0, 1, 70_000, 900_000):
            body = os.urandom(length)
            about = told(peer.request("POST", "/up", body=body))
            assert (about["length"], about["sha1"]) == (length, hashlib.sha1(body).hexdigest())


def test_a_response_without_a_length_ends_where_it_ends(serve, proxy):
    run_nginx(serve, proxy, WSGI)
    with proxy.connect() as peer:
        for _ in range(3):
            lines = peer.get("/stream").body.splitlines()
            assert lines == [b"%d" % number for number in range(1000)]
        # HEAD has none at all.
        assert peer.request("HEAD", "/").body == b""


def test_asgi_has_the_same_facts(serve, proxy):
    run_nginx(serve, proxy, ASGI, "-k", "asgi")
    body = os.urandom(300_000)
    with proxy.connect() as peer:
        about = told(peer.request("POST", "/a%2541?x=1", body=body))
    assert (about["path"], about["raw_path"], about["query"]) == ("/a%41", "/a%2541", "x=1")
    assert about["client"][0] == "127.0.0.1"
    assert about["scheme"] == "http"
    assert (about["length"], about["sha1"]) == (len(body), hashlib.sha1(body).hexdigest())


def test_reloads_lose_nothing_behind_uwsgi_pass(serve, proxy):
    server = run_nginx(serve, proxy, WSGI, "-w", "2")
    with Load(("127.0.0.1", proxy.port), clients=4) as load:
        load.wait_for_answers(100)
        server.reload()
        load.wait_for_answers(100)
    load.assert_flawless()


APACHE = """
ProxyPass "/shop" "uwsgi://{backend}/"
"""


def test_apache_mounts_the_application(serve, proxy):
    server = serve(WSGI, "--protocol", "uwsgi", ready=None)
    server.wait_for_log("Booting worker")
    proxy.start_apache(APACHE.format(backend=server.bind), "proxy", "proxy_uwsgi")
    with proxy.connect() as peer:
        for _ in range(2):
            about = told(peer.get("/shop/a%20b?q=1"))
            assert (about["SCRIPT_NAME"], about["PATH_INFO"]) == ("/shop", "/a b")
            assert about["REMOTE_ADDR"] == "127.0.0.1"
        body = os.urandom(100_000)
        assert told(peer.request("POST", "/shop/up", body=body))["sha1"] == hashlib.sha1(body).hexdigest()


def test_lighttpd_mounts_the_application(serve, proxy):
    server = serve(WSGI, "--protocol", "uwsgi", ready=None)
    server.wait_for_log("Booting worker")
    proxy.start_lighttpd(server.bind, "scgi", 'scgi.protocol = "uwsgi"')
    with proxy.connect() as peer:
        about = told(peer.get("/shop/a%20b?q=1"))
        assert (about["SCRIPT_NAME"], about["PATH_INFO"]) == ("/shop", "/a b")


# By hand


def packet(*variables: tuple[str, str], modifier: int = 0, body: bytes = b"") -> bytes:
    """A uwsgi packet with what follows it."""
    texts = [text.encode("latin-1") for pair in variables for text in pair]
    payload = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return struct.pack("<BHB", modifier, len(payload), 0) + payload + body


GET = (("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("PATH_INFO", "/"), ("HTTP_HOST", "a.example"))


@pytest.fixture(scope="module")
def uwsgi(serve_module):
    server = serve_module(
        WSGI,
        "--protocol",
        "uwsgi",
        "--access-logfile",
        "access.log",
        "--access-logformat",
        "%(h)s %(r)s %(s)s",
        ready=None,
    )
    server.wait_for_log("Booting worker")
    return server


def exchange(server, *pieces: bytes) -> bytes:
    with socket.create_connection(server.address, 10) as peer:
        for piece in pieces:
            peer.sendall(piece)
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
    return answer


def test_a_packet_may_come_in_any_pieces(uwsgi):
    whole = packet(*GET, ("CONTENT_LENGTH", "4"), ("MINE", "yes"), body=b"body")
    answer = exchange(uwsgi, *(whole[at : at + 1] for at in range(len(whole))))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection:" not in head.lower()
    assert b"chunked" not in head
    assert json.loads(body)["MINE"] == "yes"
    assert json.loads(body)["length"] == 4


def test_the_access_log_has_the_client(uwsgi):
    exchange(uwsgi, packet(*GET, ("REMOTE_ADDR", "192.0.2.7"), ("REMOTE_PORT", "1")))
    wait_for(lambda: "192.0.2.7 GET / HTTP/1.1 200" in uwsgi.lines("access.log"), 10, lambda: uwsgi.read("access.log"))


def test_https_is_believed(uwsgi):
    for said in (("HTTPS", "on"), ("REQUEST_SCHEME", "https")):
        assert json.loads(exchange(uwsgi, packet(*GET, said)).split(b"\r\n\r\n")[1])["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        (b"\x05\x00\x00\x00", 501, "no uwsgi request"),
        (packet(*GET, modifier=5), 501, "no uwsgi request"),
        (b"\0\x03\0\0\x01\0A", 400, "invalid uwsgi packet"),
        (packet(*GET, ("HTTP_X", "a\r\nB: c")), 400, "invalid byte in a header value"),
        (packet(*GET, ("CONTENT_LENGTH", "-1")), 400, "invalid content-length"),
        (packet(("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/a/../b")), 400, "invalid request target"),
    ],
)
def test_what_is_wrong_is_answered_once_and_logged_once(uwsgi, sent, status, told):
    answer = exchange(uwsgi, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    uwsgi.wait_for_log(f"Invalid request from ip=127.0.0.1: {told}")
    assert "Traceback" not in uwsgi.log


def test_who_may_not_speak_it_is_told_so(serve):
    server = serve(WSGI, "--protocol", "uwsgi", "--uwsgi-allow-from", "192.0.2.0/24", ready=None)
    server.wait_for_log("Booting worker")
    answer = exchange(server, packet(*GET))
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n"), answer
    server.wait_for_log("uwsgi_allow_ips")


def test_networks_are_allowed_as_networks(serve):
    server = serve(WSGI, "--protocol", "uwsgi", "--uwsgi-allow-from", "127.0.0.0/8", ready=None)
    server.wait_for_log("Booting worker")
    assert exchange(server, packet(*GET)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_reload_may_change_what_is_spoken(serve):
    server = serve(WSGI, config="protocol = 'http'\n")
    assert server.get().status == 200
    server.write("gunicorn.conf.py", "protocol = 'uwsgi'\n")
    server.reload()
    assert exchange(server, packet(*GET)).startswith(b"HTTP/1.1 200 OK\r\n")
