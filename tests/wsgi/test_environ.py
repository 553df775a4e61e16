"""Every key of the environ (PEP 3333 and Gunicorn's own), for every kind of request."""

from __future__ import annotations

import json

import pytest

from tests.support.http import Peer
from tests.support.ports import free_port


def environ(server, target="/shows_environ", headers=(), method="GET", body=None, version="1.1"):
    answer = server.request(method, target, headers, body, version)
    assert answer.status == 200, server.log
    return json.loads(answer.body)


def test_request_line(server):
    found = environ(server, "/shows_environ?a=1&b=%20")
    assert found["REQUEST_METHOD"] == "GET"
    assert found["RAW_URI"] == "/shows_environ?a=1&b=%20"
    assert found["PATH_INFO"] == "/shows_environ"
    assert found["QUERY_STRING"] == "a=1&b=%20"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert found["SCRIPT_NAME"] == ""


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_method(server, method):
    assert environ(server, method=method, body=b"x" if method == "POST" else None)["REQUEST_METHOD"] == method


def test_http_1_0(server):
    assert environ(server, version="1.0")["SERVER_PROTOCOL"] == "HTTP/1.0"


@pytest.mark.parametrize(
    ("path", "path_info"),
    [
        ("/shows_environ/", "/shows_environ/"),
        ("//shows_environ", "//shows_environ"),
        ("/%73hows_environ", "/shows_environ"),
        ("/shows_environ%2F", "/shows_environ/"),
        ("http://other.example/shows_environ", "/shows_environ"),
    ],
)
def test_path_is_decoded_once(server, path, path_info):
    host = "other.example" if path.startswith("http:") else "example.org"
    found = environ(server, path, headers=[("Host", host)])
    assert found["PATH_INFO"] == path_info
    assert found["RAW_URI"] == path


@pytest.mark.parametrize(
    ("path", "path_info"),
    [
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/a%2520b", "/a%20b"),
        ("/a+b", "/a+b"),
        ("/bad%zz%4", "/bad%zz%4"),
        ("/%00%0A", "/\x00\n"),
        ("/a;b=c", "/a;b=c"),
    ],
)
def test_path_is_latin_1_text_of_the_decoded_bytes(serve, path, path_info):
    server = serve("""
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode("latin-1"), b"|", environ["QUERY_STRING"].encode("latin-1")]
    """)
    assert server.get(f"{path}?q=%C3%A9").body == path_info.encode("latin-1") + b"|q=%C3%A9"


def test_empty_query_string_is_there(server):
    assert environ(server)["QUERY_STRING"] == ""
    assert environ(server, "/shows_environ?")["QUERY_STRING"] == ""


def test_wsgi_keys(server):
    found = environ(server)
    threaded = not {"gthread", "gevent"}.isdisjoint(server.command)
    assert found["wsgi.version"] == [1, 0]
    assert found["wsgi.url_scheme"] == "http"
    assert found["wsgi.multithread"] is threaded
    assert found["wsgi.multiprocess"] is False
    assert found["wsgi.run_once"] is False
    assert found["wsgi.input_terminated"] is True
    assert found["SERVER_SOFTWARE"] == server.kind.server_software
    for key in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket"):
        assert key in found["types"]


def test_multiprocess_says_whether_there_are_several_workers(serve):
    server = serve(None, "--workers", "2", spec="matrix")
    assert environ(server)["wsgi.multiprocess"] is True


def test_addresses(server):
    with server.connect() as peer:
        host, port = peer.socket.getsockname()
        found = json.loads(peer.get("/shows_environ").body)
    assert found["REMOTE_ADDR"] == host
    assert found["REMOTE_PORT"] == str(port)
    assert found["SERVER_NAME"] == "127.0.0.1"
    assert found["SERVER_PORT"] == str(server.port)
    assert {found["types"][key] for key in ("REMOTE_PORT", "SERVER_PORT")} == {"str"}


def test_headers(server):
    found = environ(
        server,
        headers=[
            ("Host", "shop.example:81"),
            ("X-One", "1"),
            ("x-two-words", "  padded  "),
            ("Accept", "text/html"),
            ("Accept", "text/plain"),
            ("Cookie", "a=1"),
            ("Cookie", "b=2"),
            ("X-Empty", ""),
            ("X-Latin", "caf\xe9"),
        ],
    )
    assert found["HTTP_HOST"] == "shop.example:81"
    assert found["HTTP_X_ONE"] == "1"
    assert found["HTTP_X_TWO_WORDS"] == "padded"
    assert found["HTTP_ACCEPT"] == "text/html,text/plain"
    assert found["HTTP_X_EMPTY"] == ""
    assert found["HTTP_X_LATIN"] == "caf\xe9"
    assert "CONTENT_TYPE" not in found or found["CONTENT_TYPE"] == ""


def test_cookies_stay_readable(server):
    """Repeated Cookie headers are one list of pairs, whatever joins them."""
    found = environ(server, headers=[("Cookie", "a=1"), ("Cookie", "b=2")])
    assert found["HTTP_COOKIE"].replace(" ", "") in ("a=1,b=2", "a=1;b=2")


def test_content_headers_have_no_prefix(server):
    found = environ(server, headers=[("Content-Type", "text/csv")], method="POST", body=b"abc")
    assert found["CONTENT_TYPE"] == "text/csv"
    assert found["CONTENT_LENGTH"] == "3"
    assert "HTTP_CONTENT_TYPE" not in found
    assert "HTTP_CONTENT_LENGTH" not in found


def test_underscore_headers_are_dropped(server):
    """X_User would become the same key as X-User."""
    found = environ(server, headers=[("X_User", "evil"), ("X-User", "good")])
    assert found["HTTP_X_USER"] == "good"


def test_trusted_scheme_header_makes_it_https(server):
    assert environ(server, headers=[("X-Forwarded-Proto", "https")])["wsgi.url_scheme"] == "https"


def test_untrusted_scheme_header_does_not(serve):
    server = serve(None, "--forwarded-allow-ips", "10.0.0.1", spec="matrix")
    found = environ(server, headers=[("X-Forwarded-Proto", "https")])
    assert found["wsgi.url_scheme"] == "http"
    assert found["HTTP_X_FORWARDED_PROTO"] == "https"


def test_script_name_from_the_environment(serve):
    server = serve(None, spec="matrix", env={"SCRIPT_NAME": "/shop"}, ready="/shop/")
    found = environ(server, "/shop/shows_environ")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/shop", "/shows_environ")


def test_script_name_from_a_trusted_forwarder(server):
    found = environ(server, "/shop/shows_environ", headers=[("SCRIPT_NAME", "/shop")])
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/shop", "/shows_environ")


def test_unix_socket(serve):
    server = serve(None, spec="matrix", bind="unix:server.sock")
    found = environ(server, headers=[("Host", "shop.example:81")])
    assert found["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in found
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("shop.example", "81")
    with server.connect() as peer:
        peer.send(b"GET /shows_environ HTTP/1.0\r\n\r\n")
        found = json.loads(peer.answer().body)
    assert found["SERVER_NAME"].endswith("server.sock"), "PEP 3333: never empty"
    assert found["SERVER_PORT"] == "80"


def test_every_text_value_is_str(server):
    found = environ(server, headers=[("X-Latin", "caf\xe9")], method="POST", body=b"abc")
    wrong = [
        key for key, value in found["types"].items() if not key.startswith(("wsgi.", "gunicorn.")) and value != "str"
    ]
    assert wrong == []


def test_environ_is_private_to_the_request(serve):
    server = serve("""
        def application(environ, start_response):
            before = str(environ.get("mine", "nothing"))
            environ["mine"] = "left behind"
            environ["HTTP_X_OWN"] = "left behind"
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [before.encode()]
    """)
    with server.connect() as peer:
        assert peer.get().body == b"nothing"
    assert server.get().body == b"nothing"


def test_nothing_of_a_request_is_left_for_the_next(serve):
    """What is as usual is not set anew for each request; what was unusual before must not show."""
    server = serve(None, spec="matrix")
    unusual = {"X-Forwarded-Proto": "https", "SCRIPT_NAME": "/shop", "X-One": "1", "Cookie": "a=1"}
    for round_ in range(3):
        with server.connect() as peer:
            host, port = peer.socket.getsockname()
            usual = json.loads(peer.get("/shows_environ").body)
            assert usual["REQUEST_METHOD"] == "GET"
            assert usual["SERVER_PROTOCOL"] == "HTTP/1.1"
            assert usual["wsgi.url_scheme"] == "http"
            assert (usual["SCRIPT_NAME"], usual["PATH_INFO"], usual["QUERY_STRING"]) == ("", "/shows_environ", "")
            assert (usual["REMOTE_ADDR"], usual["REMOTE_PORT"]) == (host, str(port))
            assert not {"HTTP_X_ONE", "HTTP_COOKIE", "CONTENT_LENGTH"}.intersection(usual)
            headers = [*unusual.items(), ("X-Round", str(round_)), ("X-Long", "x" * (127 + round_))]
            other = json.loads(peer.request("POST", "/shop/shows_environ?q=1", headers, b"abc").body)
            assert other["REQUEST_METHOD"] == "POST"
            assert other["wsgi.url_scheme"] == "https"
            assert (other["SCRIPT_NAME"], other["PATH_INFO"]) == ("/shop", "/shows_environ")
            assert (other["QUERY_STRING"], other["CONTENT_LENGTH"]) == ("q=1", "3")
            assert (other["HTTP_X_ROUND"], other["HTTP_X_LONG"]) == (str(round_), "x" * (127 + round_))
    assert environ(server, version="1.0")["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert environ(server)["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_each_listener_has_its_own_name(serve):
    port = free_port()
    server = serve(None, "--bind", f"127.0.0.1:{port}", spec="matrix")
    assert environ(server)["SERVER_NAME"] == "127.0.0.1"
    for expected in (server.port, port, server.port):
        with Peer(("127.0.0.1", expected)) as peer:
            found = json.loads(peer.get("/shows_environ").body)
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("127.0.0.1", str(expected))
