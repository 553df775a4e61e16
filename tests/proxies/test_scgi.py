"""SCGI from real web servers: nginx with its stock parameters, Apache, lighttpd; WSGI and ASGI."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from tests.proxies.conftest import Proxy, run_behind_nginx, run_speaking
from tests.proxies.test_uwsgi import ASGI, WSGI, exchange, told
from tests.support.load import Load
from tests.support.wait import wait_for


def run(serve, app: str, *arguments: str):
    return run_speaking(serve, "scgi", app, *arguments)


def run_nginx(serve, proxy: Proxy, app: str, *arguments: str):
    return run_behind_nginx(serve, proxy, "scgi", app, *arguments)


def test_nginx_tells_who_the_client_is_and_what_it_asked_for(serve, proxy):
    run_nginx(serve, proxy, WSGI, "-k", "gthread", "--threads", "4")
    with proxy.connect() as peer:
        about = told(peer.get("/a%20b%2541?q=%20", headers=[("X-Name", "value"), ("Cookie", "a=1")]))
        assert (about["PATH_INFO"], about["RAW_URI"], about["SCRIPT_NAME"]) == ("/a b%41", "/a%20b%2541?q=%20", "")
        assert (about["REMOTE_ADDR"], about["SERVER_PORT"]) == ("127.0.0.1", str(proxy.port))
        assert (about["HTTP_X_NAME"], about["HTTP_COOKIE"]) == ("value", "a=1")
        assert about["HTTP_CONNECTION"] is None
        for length in (0, 1, 70_000, 900_000):
            body = os.urandom(length)
            about = told(peer.request("POST", "/up", body=body))
            assert (about["length"], about["sha1"]) == (length, hashlib.sha1(body).hexdigest())
        # Without a length the response ends where its connection does.
        for _ in range(3):
            assert peer.get("/stream").body.splitlines() == [b"%d" % number for number in range(1000)]
        assert peer.request("HEAD", "/").body == b""
        assert peer.get("/a/../b").status == 400, "nginx has looked at another path"


def test_asgi_has_the_same_facts(serve, proxy):
    run_nginx(serve, proxy, ASGI, "-k", "asgi")
    body = os.urandom(300_000)
    with proxy.connect() as peer:
        about = told(peer.request("POST", "/a%2541?x=1", body=body))
    assert (about["path"], about["raw_path"], about["query"]) == ("/a%41", "/a%2541", "x=1")
    assert (about["client"][0], about["scheme"]) == ("127.0.0.1", "http")
    assert (about["length"], about["sha1"]) == (len(body), hashlib.sha1(body).hexdigest())


def test_reloads_lose_nothing_behind_scgi_pass(serve, proxy):
    server = run_nginx(serve, proxy, WSGI, "-w", "2")
    with Load(("127.0.0.1", proxy.port), clients=4) as load:
        load.wait_for_answers(100)
        server.reload()
        load.wait_for_answers(100)
    load.assert_flawless()


def test_apache(serve, proxy):
    server = run(serve, WSGI)
    proxy.start_apache(f'ProxyPass "/" "scgi://{server.bind}/"\n', "proxy", "proxy_scgi")
    with proxy.connect() as peer:
        for _ in range(2):
            about = told(peer.get("/shop/a%20b?q=1"))
            assert (about["SCRIPT_NAME"], about["PATH_INFO"], about["QUERY_STRING"]) == ("", "/shop/a b", "q=1")
        body = os.urandom(100_000)
        assert told(peer.request("POST", "/up", body=body))["sha1"] == hashlib.sha1(body).hexdigest()


def test_lighttpd_mounts_the_application(serve, proxy):
    server = run(serve, WSGI)
    proxy.start_lighttpd(server.bind, "scgi")
    with proxy.connect() as peer:
        about = told(peer.get("/shop/a%20b?q=1"))
        assert (about["SCRIPT_NAME"], about["PATH_INFO"]) == ("/shop", "/a b")
        body = os.urandom(100_000)
        assert told(peer.request("POST", "/shop/up", body=body))["sha1"] == hashlib.sha1(body).hexdigest()


# By hand


def head(*variables: tuple[str, str]) -> bytes:
    """The variables in a netstring."""
    text = "".join(f"{name}\0{value}\0" for name, value in variables).encode("latin-1")
    return b"%d:%b," % (len(text), text)


def request(*variables: tuple[str, str], body: bytes = b"") -> bytes:
    """A request with its body."""
    return head(("CONTENT_LENGTH", str(len(body))), ("SCGI", "1"), *variables) + body


GET = (("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "a.example"))


@pytest.fixture(scope="module")
def scgi(serve_module):
    server = serve_module(
        WSGI,
        "--protocol",
        "scgi",
        "--access-logfile",
        "access.log",
        "--access-logformat",
        "%(h)s %(r)s %(s)s",
        ready=None,
    )
    server.wait_for_log("Booting worker")
    return server


def test_a_request_may_come_in_any_pieces(scgi):
    whole = request(("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/a%20b"), body=b"body")
    answer = exchange(scgi, *(whole[at : at + 1] for at in range(len(whole))))
    text, _, body = answer.partition(b"\r\n\r\n")
    assert text.startswith(b"Status: 200 OK\r\n")
    assert b"onnection" not in text
    assert b"chunked" not in text
    assert (json.loads(body)["PATH_INFO"], json.loads(body)["length"]) == ("/a b", 4)


def test_what_the_web_server_says_of_the_client_is_believed(scgi):
    answer = exchange(scgi, request(*GET, ("REMOTE_ADDR", "192.0.2.7"), ("HTTPS", "on"), ("MINE", "yes")))
    about = json.loads(answer.split(b"\r\n\r\n")[1])
    assert (about["REMOTE_ADDR"], about["wsgi.url_scheme"], about["MINE"]) == ("192.0.2.7", "https", None)
    wait_for(lambda: "192.0.2.7 GET / HTTP/1.1 200" in scgi.lines("access.log"), 10, lambda: scgi.read("access.log"))


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"{", 400, "invalid scgi head"),
        (b"012:", 400, "invalid scgi head"),
        (b"999999999:", 431, "header section too long"),
        (head(("SCGI", "1"), ("CONTENT_LENGTH", "0")), 400, "invalid scgi head"),
        (head(("CONTENT_LENGTH", "0")), 400, "invalid scgi head"),
        (head(("CONTENT_LENGTH", "-1"), ("SCGI", "1")), 400, "invalid content-length"),
        (request(("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/a/../b")), 400, "invalid request target"),
        (request(*GET, ("HTTP_X", "a\r\nB: c")), 400, "invalid byte in a header value"),
    ],
)
def test_what_is_wrong_is_answered_once_and_logged_once(scgi, sent, status, reason):
    assert exchange(scgi, sent).startswith(b"Status: %d " % status)
    scgi.wait_for_log(f"Invalid request from ip=127.0.0.1: {reason}")
    assert "Traceback" not in scgi.log


def test_who_may_not_speak_it_is_told_so(serve):
    server = run(serve, WSGI, "--uwsgi-allow-from", "192.0.2.0/24")
    assert exchange(server, request(*GET)).startswith(b"Status: 403 Forbidden\r\n")
    server.wait_for_log("uwsgi_allow_ips")
