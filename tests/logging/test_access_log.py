"""The access log: every atom, both default formats, nothing a client can forge, reopened on USR1."""

from __future__ import annotations

import base64
import os
import re
import signal

import pytest

from tests.support.greenlets import GEVENT
from tests.support.http import encode
from tests.support.load import Load
from tests.support.wait import wait_for

APP = """
    import time

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        environ["wsgi.input"].read()
        if path == "/slow":
            time.sleep(0.25)
        if path == "/raises":
            raise RuntimeError("on purpose")
        body = b"" if path == "/empty" else b"hello"
        if path == "/none":
            start_response("204 No Content", [])
            return []
        headers = [("Content-Type", "text/plain"), ("X-Answer", "forty-two"), ("Content-Length", str(len(body)))]
        start_response("201 Created", headers)
        return [body]
"""
STAMP = r"\[\d\d/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def logged(server, target: str) -> str:
    """The one line about the request for ``target``."""
    (line,) = wait_for(
        lambda: [line for line in server.access_log if f"{target} " in line or line.endswith(target)],
        what=lambda: f"{target} in {server.access_log}",
    )
    return line


def line(serve, format_: str, headers=(), target="/path?a=1", method="GET", body=None) -> str:
    """What ``format_`` gives for one request."""
    server = serve(APP, "--access-logformat", f"{format_} %(U)s", access_log=True, ready="/ready")
    server.request(method, target, headers, body)
    path = target.partition("?")[0]
    found = wait_for(lambda: [text for text in server.access_log if text.endswith(f" {path}")])
    assert len(found) == 1
    return found[0].removesuffix(f" {path}")


def test_default_format(serve):
    server = serve(APP, access_log=True, ready="/ready")
    server.get("/path?a=1", [("Referer", "http://from.example/"), ("User-Agent", "Mozilla/5.0 (X)")])
    assert re.fullmatch(
        rf'127\.0\.0\.1 - - {STAMP} "GET /path\?a=1 HTTP/1\.1" 201 5 "http://from\.example/" "Mozilla/5\.0 \(X\)"',
        logged(server, "/path?a=1"),
    )


def test_default_format_without_headers(serve):
    server = serve(APP, access_log=True, ready="/ready")
    server.request("POST", "/empty", body=b"", version="1.0")
    assert re.fullmatch(rf'127\.0\.0\.1 - - {STAMP} "POST /empty HTTP/1\.0" 201 0 "-" "-"', logged(server, "/empty"))


#: What each atom gives for the one request of ``atoms``.
ATOMS = [
    ("%(h)s", r"127\.0\.0\.1"),
    ("%(l)s", "-"),
    ("%(u)s", "-"),
    ("%(t)s", STAMP),
    ("%(r)s", r"GET /path\?a=1 HTTP/1\.1"),
    ("%(m)s", "GET"),
    ("%(U)s", "/path"),
    ("%(q)s", "a=1"),
    ("%(H)s", r"HTTP/1\.1"),
    ("%(s)s", "201"),
    ("%(B)s", "5"),
    ("%(b)s", "5"),
    ("%(f)s", "http://from"),
    ("%(a)s", "agent"),
    ("%(T)s", r"\d+"),
    ("%(M)s", r"\d+"),
    ("%(D)s", r"\d{2,}"),
    ("%(L)s", r"\d+\.\d{6}"),
    ("%(p)s", r"<\d+>"),
    ("%({x-one}i)s", "1"),
    ("%({X-One}i)s", "1"),
    ("%({x-missing}i)s", "-"),
    ("%({x-answer}o)s", "forty-two"),
    ("%({X-Answer}o)s", "forty-two"),
    ("%({x-missing}o)s", "-"),
    ("%({request_method}e)s", "GET"),
    ("%({SERVER_PROTOCOL}e)s", r"HTTP/1\.1"),
    ("%({missing}e)s", "-"),
    ("100%%", "100%"),
    ("%(s)5s", "  201"),
    ("%(s)-5s|", r"201  \|"),
]


@pytest.fixture(scope="module")
def atoms(serve_module):
    """The fields of one line with every atom."""
    format_ = " ~ ".join(atom for atom, _ in ATOMS)
    server = serve_module(APP, "--access-logformat", format_, access_log=True, ready="/ready")
    server.get("/path?a=1", [("X-One", "1"), ("Referer", "http://from"), ("User-Agent", "agent")])
    (line,) = wait_for(lambda: [text for text in server.access_log if "/path" in text])
    return dict(zip([atom for atom, _ in ATOMS], line.split(" ~ "), strict=True))


@pytest.mark.parametrize(("atom", "value"), ATOMS)
def test_atom(atoms, atom, value):
    assert re.fullmatch(value, atoms[atom])


def test_pid_is_that_of_the_worker(serve):
    server = serve(APP, "--access-logformat", "%(p)s %(U)s", access_log=True, ready="/ready")
    server.get("/path")
    wait_for(lambda: f"<{server.worker_pids()[0]}> /path" in server.access_log)


def test_times_agree_with_each_other(serve):
    found = line(serve, "%(T)s %(M)s %(D)s %(L)s", target="/slow")
    seconds, milliseconds, microseconds, decimal = found.split()
    assert int(milliseconds) >= 250
    assert int(seconds) == int(milliseconds) // 1000
    assert int(microseconds) // 1000 == int(milliseconds)
    assert float(decimal) == pytest.approx(int(microseconds) / 1_000_000, abs=2e-6)


def test_basic_auth_user(serve):
    credentials = base64.b64encode(b"alice:secret").decode()
    assert line(serve, "%(u)s", [("Authorization", f"Basic {credentials}")]) == "alice"


@pytest.mark.parametrize("value", ["Basic !!!", "Basic", "Bearer abc", "Basic bm9jb2xvbg=="])
def test_authorization_that_is_no_user(serve, value):
    assert line(serve, "%(u)s", [("Authorization", value)]) in ("-", "nocolon")


@pytest.mark.parametrize("path", ["/none", "/raises"])
def test_other_answers_are_logged_too(serve, path):
    server = serve(APP, "--access-logformat", "%(s)s %(U)s", access_log=True, ready="/ready")
    server.get(path)
    status = {"/none": "204", "/raises": "500"}[path]
    assert logged(server, path) == f"{status} {path}"


def test_refused_request_is_logged(serve):
    """What the server refuses itself is the more worth a line."""
    server = serve(APP, "--access-logformat", "%(h)s %(s)s", access_log=True, ready=None)
    server.wait_until_ready()
    with server.connect() as peer:
        peer.send(b"BAD\r\n\r\n")
        assert peer.answer().status == 400
    wait_for(lambda: "127.0.0.1 400" in server.access_log)


def test_chunked_and_sent_bytes_are_body_bytes(serve):
    server = serve(None, "--access-logformat", "%(B)s %(U)s", access_log=True, spec="matrix")
    server.get("/returns_generator")
    wait_for(lambda: "6 /returns_generator" in server.access_log)
    server.request("HEAD", "/returns_list")
    wait_for(lambda: "0 /returns_list" in server.access_log)


def test_file_bytes_are_counted(serve):
    server = serve(None, "--access-logformat", "%(B)s %(U)s", access_log=True, spec="matrix")
    server.get("/file_options?1000,0,1000,8192")
    wait_for(lambda: "1000 /file_options" in server.access_log)


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_every_request_of_a_connection_has_its_line(serve, worker):
    server = serve(APP, "--worker-class", worker, "--threads", "4", access_log=True, ready="/ready")
    with server.connect() as peer:
        peer.send(b"".join(encode(target=f"/number-{number}-") for number in range(50)))
        for _ in range(50):
            peer.answer()
    wait_for(lambda: len([line for line in server.access_log if "/number-" in line]) == 50)


# Nothing a client sends may look like a line or break a field.

HOSTILE = ['quote " inside', "tab\tinside", "back\\slash", 'end\\"', "caf\xe9 \x80\x9b"]


@pytest.mark.parametrize("value", HOSTILE)
def test_header_values_stay_inside_their_quotes(serve, value):
    found = line(serve, '"%(a)s" "%(f)s"', [("User-Agent", value), ("Referer", "end")])
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*" "end"', found), found
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", found)


def test_user_name_cannot_forge_a_line(serve):
    credentials = base64.b64encode(b'eve\n127.0.0.1 - - "forged\r\x1b[31m:x').decode()
    server = serve(APP, "--access-logformat", "%(u)s|%(U)s", access_log=True, ready="/ready")
    server.get("/path", [("Authorization", f"Basic {credentials}")])
    wait_for(lambda: [text for text in server.access_log if text.endswith("|/path")])
    assert len(server.access_log) == 2, "one for the start, one for the request"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", server.read("access.log"))


def test_decoded_path_cannot_forge_a_line(serve):
    server = serve(APP, "--access-logformat", "%(U)s|%(s)s", access_log=True, ready="/ready")
    server.get("/a%0d%0aforged%20line%1b%5b31m")
    wait_for(lambda: len(server.access_log) >= 2)
    server.get("/last")
    wait_for(lambda: "/last|201" in server.access_log)
    assert len(server.access_log) == 3
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", server.read("access.log"))


# Where it goes


def test_dash_is_standard_output(serve):
    server = serve(APP, "--access-logfile", "-", ready="/ready")
    server.get("/path")
    wait_for(lambda: "GET /path HTTP/1.1" in server.read("stdout.log"))
    assert "GET /path" not in server.log


def test_there_is_none_unless_asked_for(serve):
    server = serve(APP)
    server.get("/path")
    assert server.stop() == 0
    assert "GET /path" not in server.log + server.read("stdout.log")


def test_lines_reach_the_file_without_further_requests(serve):
    server = serve(APP, access_log=True, ready="/ready")
    server.get("/only")
    assert logged(server, "/only")


def test_last_lines_are_written_at_the_end(serve):
    server = serve(APP, access_log=True, ready="/ready")
    for number in range(20):
        server.get(f"/n{number}-")
    assert server.stop() == 0
    assert len([text for text in server.access_log if "/n" in text]) == 20


def test_usr1_reopens_it(serve):
    """Log rotation: moved away, signalled, and not one line is lost or in the wrong file afterwards."""
    server = serve(APP, "--workers", "2", access_log=True, ready="/ready")
    path = server.directory / "access.log"
    server.get("/before")
    logged(server, "/before")
    os.rename(path, server.directory / "access.log.1")
    server.kill(signal.SIGUSR1)

    def both_write_to_the_new_file() -> bool:
        for _ in range(5):
            server.get("/after")
        return sum("/after" in text for text in server.access_log) >= 10

    wait_for(both_write_to_the_new_file)
    assert "/before" in server.read("access.log.1")
    assert "/before" not in server.read("access.log")


def test_rotation_under_load_loses_no_line(serve):
    server = serve(APP, "--workers", "2", "--access-logformat", "%(U)s", access_log=True, ready="/ready")
    with Load(server.address, clients=4, target="/counted") as load:
        for number in range(5):
            load.wait_for_answers(30)
            os.rename(server.directory / "access.log", server.directory / f"access.log.{number}")
            server.kill(signal.SIGUSR1)
            wait_for(lambda: (server.directory / "access.log").exists())
    assert server.stop() == 0
    files = ["access.log", *[f"access.log.{number}" for number in range(5)]]
    assert sum(server.lines(name).count("/counted") for name in files) == load.total
