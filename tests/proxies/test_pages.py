"""The configurations of docs/proxies.md: what the application is told, uploads, WebSockets, kept connections."""

from __future__ import annotations

import json
import os
import signal

import pytest
import simple_websocket

from tests.proxies.conftest import Proxy
from tests.support.load import Load
from tests.support.pages import example
from tests.support.wait import wait_for

APPLICATION = """
    import hashlib, json, os
    from flask import Flask, Response, request
    from flask_sock import Sock

    application = Flask(__name__)
    sock = Sock(application)

    @application.route("/", methods=["GET", "POST"])
    @application.route("/<path:path>", methods=["GET", "POST"])
    def about(path=""):
        environ = request.environ
        names = "REMOTE_ADDR HTTP_HOST HTTP_X_FORWARDED_FOR wsgi.url_scheme PATH_INFO RAW_URI QUERY_STRING".split()
        body = request.get_data()
        about = {name: environ.get(name) for name in names}
        return {**about, "length": len(body), "sha1": hashlib.sha1(body).hexdigest()}

    @application.get("/events")
    def events():
        def stream():
            yield "data: first\\n\\n"
            while not os.path.exists("go-on"):
                yield ": still there\\n\\n"
            yield "data: last\\n\\n"
        return Response(stream(), content_type="text/event-stream")

    @application.get("/report")
    def report():
        return Response(headers={"X-Accel-Redirect": "/private/report.pdf", "Content-Type": "application/pdf"})

    @sock.route("/echo")
    def echo(ws):
        while True:
            ws.send(ws.receive())
"""

THREADS = ("--worker-class", "gthread", "--threads", "8")


def run_nginx(serve, proxy, *arguments: str):
    server = serve.new()
    server.start(*THREADS, "--umask", "0", *arguments, app=APPLICATION, bind="unix:oxicorn.sock")
    os.chmod(server.directory, 0o755)
    block = example(
        "proxies.md",
        "nginx",
        **{
            "unix:/run/shop/oxicorn.sock": f"unix:{server.directory}/oxicorn.sock",
            "listen 80;": f"listen 127.0.0.1:{proxy.port};",
            "root /srv/shop;": f"root {server.directory};",
        },
    )
    proxy.start_nginx(block)
    return server


def run_haproxy(serve, proxy, *arguments: str):
    server = serve(APPLICATION, *THREADS, "--proxy-protocol", "v2", *arguments, ready=None)
    server.wait_for_log("Booting worker")
    block = example(
        "proxies.md",
        "haproxy",
        **{"bind :80": f"bind 127.0.0.1:{proxy.port}", "127.0.0.1:8000": server.bind},
    )
    (proxy.directory / "haproxy.cfg").write_text(block)
    proxy.start("haproxy", "-db", "-f", str(proxy.directory / "haproxy.cfg"))
    return server


APACHE_MODULES = ("headers", "alias", "proxy", "proxy_http")


def run_apache(serve, proxy, *arguments: str):
    server = serve(APPLICATION, *THREADS, *arguments)
    block = example(
        "proxies.md",
        "apache",
        **{
            "*:80": f"127.0.0.1:{proxy.port}",
            "http://127.0.0.1:8000/": f"http://{server.bind}/",
            '"/srv/shop/assets/"': f'"{server.directory}/assets/"',
        },
    )
    os.chmod(server.directory, 0o755)
    proxy.start_apache(block, *APACHE_MODULES)
    return server


RUNS = {"nginx": run_nginx, "haproxy": run_haproxy, "apache": run_apache}


@pytest.fixture(scope="module", params=sorted(RUNS))
def front(request, serve_module, tmp_path_factory):
    """Name of a proxy, the proxy, and the server behind it."""
    with Proxy.in_directory(tmp_path_factory.mktemp("proxy")) as one:
        yield request.param, one, RUNS[request.param](serve_module, one)


def test_the_application_learns_who_asked_for_what(front):
    name, proxy, _ = front
    with proxy.connect() as peer:
        answer = peer.get("/a%20b?q=%2F", [("Host", "shop.example:8080")])
        about = json.loads(answer.body)
        assert (about["HTTP_HOST"], about["PATH_INFO"]) == ("shop.example:8080", "/a b")
        assert (about["QUERY_STRING"], about["wsgi.url_scheme"]) == ("q=%2F", "http")
        if name == "haproxy":
            assert (about["REMOTE_ADDR"], about["HTTP_X_FORWARDED_FOR"]) == ("127.0.0.1", None)
        else:
            assert about["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"


def test_uploads_of_many_megabytes(front):
    _, proxy, _ = front
    body = os.urandom(1 << 20) * 8
    with proxy.connect() as peer:
        about = json.loads(peer.request("POST", "/", body=body).body)
        assert about["length"] == len(body)
        # The same connection goes on.
        assert json.loads(peer.get().body)["length"] == 0


def read_until(peer, text):
    """Reads until `text` has come; a silent connection raises."""
    seen = b""
    while text not in seen:
        seen += peer.receive(65536)


def test_event_streams_are_not_held_back(front):
    _, proxy, server = front
    with proxy.connect() as peer:
        peer.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(peer, b"data: first")
        (server.directory / "go-on").touch()
        read_until(peer, b"data: last")


def test_websockets(front):
    _, proxy, _ = front
    client = simple_websocket.Client(f"ws://127.0.0.1:{proxy.port}/echo")
    for message in ("hello", "x" * 100_000, b"\0\1"):
        client.send(message)
        assert client.receive(timeout=10) == message
    client.close()
    client.thread.join(5)


def test_a_reload_under_load_fails_no_request(front):
    _, proxy, server = front
    with Load(("127.0.0.1", proxy.port), clients=4) as load:
        for generation in (2, 3):
            load.wait_for_answers(20)
            server.kill(signal.SIGHUP)
            server.wait_for_log("Worker exiting", count=generation - 1)
        load.wait_for_answers(20)
    load.assert_flawless()


def test_nginx_gives_out_files_for_the_application(serve, proxy):
    server = run_nginx(serve, proxy)
    (server.directory / "private").mkdir()
    (server.directory / "private" / "report.pdf").write_bytes(b"%PDF" + b"\0" * 10_000)
    with proxy.connect() as peer:
        answer = peer.get("/report")
        assert (answer.status, len(answer.body), answer.header("content-type")) == (200, 10_004, "application/pdf")
        assert peer.get("/private/report.pdf").status == 404


def test_the_trusted_proxy_says_https(serve, proxy):
    server = run_nginx(serve, proxy)
    conf = proxy.directory / "nginx.conf"
    conf.write_text(conf.read_text().replace("X-Forwarded-Proto $scheme", "X-Forwarded-Proto https"))
    assert proxy.process is not None
    proxy.process.send_signal(signal.SIGHUP)

    def scheme():
        with proxy.connect() as peer:
            return json.loads(peer.get().body)["wsgi.url_scheme"]

    wait_for(lambda: scheme() == "https", what=lambda: f"https:\n{server.log}")


def test_haproxy_checks_are_answered(serve, proxy):
    server = run_haproxy(serve, proxy, "--access-logfile", "-")
    wait_for(lambda: "GET /health" in server.read("stdout.log"), what=lambda: f"a check:\n{server.log}\n{proxy.log}")
    assert "PROXY" not in server.log
