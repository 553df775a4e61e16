"""The tornado class: what Tornado's handlers can do, behind the gateway (and with Tornado's server)."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING

import pytest
import websocket

from tests.support.http import BadAnswer, ConnectionLost, chunk, encode
from tests.support.wait import stays, wait_for
from tests.support.websocket import WebSocket

if TYPE_CHECKING:
    from tests.support.server import Kind, Server, Servers

pytest.importorskip("tornado")

SOURCE = "import tornado_cases\napplication = tornado_cases.make()\n"
DIRECT = "oxicorn.workers.gtornado.DirectTornadoWorker"


@pytest.fixture(scope="module", params=["tornado", DIRECT], ids=["tornado", "direct"])
def server(serve_module: Servers, request: pytest.FixtureRequest) -> Server:
    """One server for the tests that leave it as it is."""
    if serve_module.kind.is_gunicorn and request.param == DIRECT:
        pytest.skip("Gunicorn's class is the direct one")
    return serve_module(SOURCE, "-k", request.param, access_log=request.param == "tornado")


def is_direct(server: Server) -> bool:
    return server.kind.is_gunicorn or DIRECT in server.command


def about(server: Server, target: str = "/about", headers: list[tuple[str, str]] | None = None) -> dict[str, object]:
    answer = server.get(target, headers or [])
    assert answer.status == 200
    found: dict[str, object] = json.loads(answer.body)
    return found


def test_request_is_told_as_it_came(server: Server) -> None:
    headers = [("X-Many", "1"), ("x-many", "2"), ("Cookie", "flavour=oat"), ("Host", "shop.example")]
    found = about(server, "/about?a=1&a=%C3%A9&b=", headers)
    assert found["uri"] == "/about?a=1&a=%C3%A9&b="
    assert (found["path"], found["version"], found["host"]) == ("/about", "HTTP/1.1", "shop.example")
    assert found["arguments"] == ["1", "é"]
    assert (found["many"], found["cookie"]) == (["1", "2"], "oat")
    assert (found["remote_ip"], found["protocol"]) == ("127.0.0.1", "http")
    assert found["pid"] in server.worker_pids()


def test_answers(server: Server) -> None:
    with server.connect() as peer:
        answer = peer.request("POST", "/echo", body=b"x" * 300_000)
        assert (answer.status, answer.reason, answer.body) == (201, "Made So", b"x" * 300_000)
        assert answer.all("x-two") == ["1", "2"]
        assert peer.request("POST", "/echo", body=[b"in ", b"chunks"]).body == b"in chunks"
        hello = peer.request("GET", "/")
        assert (hello.body, hello.framing) == (b"hello", "length")
        etag = hello.header("etag")
        assert etag
        assert peer.request("GET", "/", [("If-None-Match", etag)]).status == 304
        head = peer.request("HEAD", "/")
        assert (head.status, head.header("content-length")) == (200, "5")
        assert peer.request("DELETE", "/").status == 405
        assert peer.request("GET", "/nowhere").status == 404
        assert peer.request("GET", "/broken").status == 500
        assert peer.request("GET", "/").body == b"hello"
    assert server.request(version="1.0").body == b"hello"
    wait_for(lambda: "broken on purpose" in server.log)
    if not is_direct(server):
        wait_for(lambda: any('"POST /echo HTTP/1.1" 201 300000' in line for line in server.access_log))


def test_form_with_a_file(server: Server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nAnna\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n12345\r\n--b--\r\n'
    )
    answer = server.request("POST", "/form", [("Content-Type", "multipart/form-data; boundary=b")], body)
    assert answer.body == b"Anna a.txt 5"


def test_malformed_form_is_a_400(server: Server) -> None:
    headers = [("Content-Type", "multipart/form-data; boundary=b")]
    assert server.request("POST", "/form", headers, b"no form").status == 400


def test_more_than_promised_ends_the_connection(server: Server) -> None:
    with server.connect() as peer, pytest.raises((ConnectionLost, BadAnswer)):
        peer.request("GET", "/too-long")


def test_pieces_leave_when_they_are_flushed(server: Server) -> None:
    for number in range(3):
        (server.directory / f"piece{number}.open").unlink(missing_ok=True)
    with server.connect() as peer:
        peer.send(encode(target="/pieces"))
        assert peer.head().header("transfer-encoding") == "chunked"
        for number in range(3):
            assert peer.exactly(13) == chunk(f"piece {number}\n".encode())
            server.write(f"piece{number}.open", "")
        assert peer.exactly(5) == b"0\r\n\r\n"


def test_writer_waits_for_its_reader_and_hears_of_its_leave(server: Server) -> None:
    for name in ("endless", "endless.closed"):
        server.write(name, "")
    with server.connect(receive_buffer=4096) as peer:
        peer.send(encode(target="/endless"))
        peer.receive(1)
        counts = [-1, -2]

        def has_stopped() -> bool:
            counts.append(len(server.lines("endless")))
            return counts[-1] == counts[-40] if len(counts) > 40 else False

        wait_for(has_stopped)
        # Whoever is served meanwhile is not held up by it.
        assert server.get("/").body == b"hello"
    wait_for(lambda: server.lines("endless.closed"))


def test_long_poll(server: Server) -> None:
    for name in ("poll.waits", "poll.closed", "poll.open"):
        (server.directory / name).unlink(missing_ok=True)
    with server.connect() as stays_on, server.connect() as leaves:
        for peer in (stays_on, leaves):
            peer.send(encode(target="/poll"))
        wait_for(lambda: len(server.lines("poll.waits")) == 2)
        assert server.lines("poll.waits") == ["False 127.0.0.1"] * 2
        leaves.close()
        wait_for(lambda: server.lines("poll.closed") == ["True"])
        server.write("poll.open", "")
        assert stays_on.answer().body == b"news"
    assert len(server.lines("poll.closed")) == 1


def test_body_is_taken_as_it_comes(server: Server) -> None:
    server.write("upload", "")
    with server.connect() as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + bytes(50_000))
        wait_for(lambda: server.lines("upload")[-1:] == ["50000"])
        peer.send(bytes(150_000))
        assert peer.answer().body == b"200000"
        assert peer.request("POST", "/upload", body=[bytes(1000)] * 5).body == b"5000"


def test_body_is_invited_when_it_is_wanted(server: Server) -> None:
    with server.connect() as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert peer.head().status == 100
        peer.send(b"abc")
        assert peer.answer().body == b"3"


def test_body_that_was_refused_is_not_waited_for(server: Server) -> None:
    with server.connect() as peer:
        peer.send(b"POST /upload?refuse=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc")
        answer = peer.answer()
        assert (answer.status, answer.body) == (403, b"no")


def test_body_has_the_limits_that_its_handler_sets(server: Server) -> None:
    status = 400 if is_direct(server) else 413
    assert server.request("POST", "/upload?limit=10", body=bytes(10)).body == b"10"
    assert server.request("POST", "/upload?limit=10", body=bytes(11)).status == status
    assert server.request("POST", "/upload?limit=10", body=[bytes(6), bytes(6)]).status == status
    with server.connect() as peer:
        peer.send(b"POST /upload?timeout=0.1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        assert peer.is_closed(within=10)


def test_client_that_leaves_in_its_body(server: Server) -> None:
    (server.directory / "upload.closed").unlink(missing_ok=True)
    server.write("upload", "")
    with server.connect() as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        wait_for(lambda: server.lines("upload"))
    wait_for(lambda: server.lines("upload.closed"))


def test_detached_stream(server: Server) -> None:
    with server.connect() as peer:
        peer.send(encode(target="/detach") + b"what was ")
        assert peer.exactly(11) == b"as I like: "
        wait_for(lambda: server.lines("detached"))
        peer.send(b"read ahead\n")
        assert peer.rest() == b"WHAT WAS READ AHEAD\n"


def test_stream_that_is_detached_when_the_response_has_begun(server: Server) -> None:
    """Only Tornado's own server gives it; the other cuts the response and says who does."""
    with server.connect() as peer:
        peer.send(encode(target="/detach/late"))
        received = peer.rest()
    if is_direct(server):
        assert b"begun " in received
        assert received.endswith(b"and detached")
    else:
        assert not received.endswith(b"0\r\n\r\n")
        server.wait_for_log(r"detach\(\) after the response has begun: .* with worker_class \S+\.DirectTornadoWorker")


def test_stream_that_is_lost_is_closed(server: Server) -> None:
    if is_direct(server):
        pytest.skip("Tornado's own server keeps it")
    for _ in range(3):
        with server.connect() as peer:
            peer.send(encode(target="/drop"))
            assert peer.is_closed(within=10)
    assert server.get("/").body == b"hello"


def test_websocket(server: Server) -> None:
    with WebSocket(server.address, "/channel", subprotocols=["none", "chat"]) as channel:
        assert channel.answer.header("sec-websocket-protocol") == "chat"
        for message in ("hello", b"\x00\xff", "x" * 200_000):
            channel.send(message)
            assert channel.receive() == message
        assert channel.close(1000)[0] == 1000
    client = websocket.create_connection(f"ws://{server.bind}/channel?compressed=1", timeout=10)
    client.send("hello")
    assert client.recv() == "hello"
    client.close()


def test_websocket_that_is_refused(server: Server) -> None:
    with WebSocket(server.address, "/channel", headers=[("Origin", "http://elsewhere.example")]) as channel:
        assert channel.answer.status == 403
    assert server.get("/channel").status == 400


def test_websocket_that_vanishes(server: Server) -> None:
    server.write("channel.closed", "")
    with WebSocket(server.address, "/channel") as channel:
        channel.send("here")
        assert channel.receive() == "here"
    wait_for(lambda: server.lines("channel.closed") == ["None"])


def test_many_websockets_at_once(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(WebSocket(server.address, "/channel")) for _ in range(30)]
        for number, channel in enumerate(channels):
            channel.send(f"message {number}")
        assert [channel.receive() for channel in channels] == [f"message {number}" for number in range(30)]


# Servers of their own.


def test_autoreload_of_debug_mode_leaves_the_process_alone(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("there it executes the command anew")
    server = serve(SOURCE.replace("make()", "make(debug=True)"), "-k", "tornado")
    assert about(server)["autoreload"] == "oxicorn.workers.gtornado"


def test_client_and_scheme_by_the_trust_rules(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("its class believes nobody")
    headers = [("X-Forwarded-For", "9.8.7.6"), ("X-Forwarded-Proto", "https")]
    server = serve(SOURCE, "-k", "tornado")
    found = about(server, headers=headers)
    assert (found["remote_ip"], found["protocol"]) == ("127.0.0.1", "https")
    server = serve(SOURCE, "-k", "tornado", "--asgi-proxy-headers", "on")
    found = about(server, headers=headers)
    assert (found["remote_ip"], found["protocol"]) == ("9.8.7.6", "https")
    server = serve(SOURCE, "-k", "tornado", "--asgi-proxy-headers", "on", "--forwarded-allow-ips", "10.0.0.1")
    found = about(server, headers=headers)
    assert (found["remote_ip"], found["protocol"]) == ("127.0.0.1", "http")


def test_unix_socket(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "tornado", bind="unix:s.sock")
    assert about(server)["remote_ip"] == "0.0.0.0"
    with server.connect() as peer:
        peer.send(encode(target="/detach") + b"line\n")
        assert peer.rest() == b"as I like: LINE\n"


@pytest.mark.parametrize("container", ["application", "WSGIContainer(application)"], ids=["callable", "container"])
def test_wsgi_application(serve: Servers, kind: Kind, container: str) -> None:
    source = f"""
        from tornado.wsgi import WSGIContainer
        def application(environ, start_response):
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]
        application = {container}
    """
    server = serve(source, "-k", "tornado")
    with server.connect() as peer:
        assert peer.request("POST", "/", body=b"hello").body == b"hello"
        assert peer.request("POST", "/", body=b"again").body == b"again"
    told = "the application speaks WSGI and is called on the event loop" in server.log
    assert told == (container == "application" and not kind.is_gunicorn)


@pytest.mark.parametrize("application", ["application", "WSGIContainer(lambda environ, start_response: None)"])
def test_application_without_its_class_says_which(serve: Servers, kind: Kind, application: str) -> None:
    if kind.is_gunicorn:
        pytest.skip("it answers with 500")
    source = SOURCE + f"from tornado.wsgi import WSGIContainer\napplication = {application}\n"
    server = serve(source, "--threads", "2", "-k", "gthread", ready=None)
    server.wait_for_log("The application is Tornado's, which worker_class gthread does not serve: set worker_class to")
    server.stop()
    checked = serve(source, "--check-config", "-k", "sync", ready=None)
    assert checked.wait_for_exit() == 1
    assert "The application is Tornado's, which worker_class sync does not serve" in checked.log


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_application_is_served_where_nobody_chose(serve: Servers, kind: Kind, preload: tuple[str, ...]) -> None:
    if kind.is_gunicorn:
        pytest.skip("it answers with 500")
    server = serve(SOURCE, *preload)
    assert server.get("/").body == b"hello"
    assert "The application is Tornado's: worker class tornado serves it (worker_class is not set)" in server.log
    # The worker of the other class, which has found that out, goes by itself.
    server.wait_for_workers(1)
    server.reload()
    assert server.get("/").body == b"hello"
    assert server.stop() == 0


def test_missing_package_is_one_line(serve: Servers, kind: Kind) -> None:
    server = serve.new()
    server.write("tornado.py", "raise ImportError(\"No module named 'tornado'\")\n")
    server.start("-k", "tornado", app="application = None", ready=None)
    assert server.wait_for_exit() == 1
    if not kind.is_gunicorn:
        assert "worker class tornado needs the package tornado" in server.log
        assert "Traceback" not in server.log


def test_conversations_end_with_the_worker(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it cuts them")
    server = serve(SOURCE, "-k", "tornado")
    with WebSocket(server.address, "/channel") as channel, server.connect() as detached:
        channel.send("hello")
        assert channel.receive() == "hello"
        server.kill(signal.SIGHUP)
        assert channel.closed() == (1012, "Service Restart")
        channel.send_close(1012)
        server.wait_for_log("Worker exiting")
        detached.close()
    with WebSocket(server.address, "/channel") as channel:
        channel.send("hello")
        assert channel.receive() == "hello"
    assert server.stop() == 0


def test_late_request_is_shown_and_ended_and_harms_nobody(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it bounds no request")
    server = serve(SOURCE, "-k", "tornado", "--timeout", "1", access_log=True)
    pid = about(server)["pid"]
    with server.connect() as late, server.connect() as other:
        late.send(encode(target="/poll"))
        wait_for(lambda: server.lines("poll.waits"))
        assert other.get().body == b"hello"
        assert late.answer().status == 504
        server.wait_for_log(r'tornado_cases\.py", line \d+ in gate')
        wait_for(lambda: server.lines("poll.cancelled"))
        assert other.get("/about").status == 200
    assert about(server)["pid"] == pid
    wait_for(lambda: any('"GET /poll HTTP/1.1" 504' in line for line in server.access_log))


def test_stop_waits_for_what_is_in_hand(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it cuts what takes longer than a second or two")
    server = serve(SOURCE, "-k", "tornado")
    with server.connect() as peer:
        peer.send(encode(target="/poll"))
        wait_for(lambda: server.lines("poll.waits"))
        server.kill(signal.SIGTERM)
        wait_for(server.refuses)
        server.write("poll.open", "")
        assert peer.answer().body == b"news"
    assert server.wait_for_exit() == 0


def test_workers_are_recycled_and_preloaded(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "tornado", "--max-requests", "3", "--preload")
    first = about(server)["pid"]
    wait_for(lambda: about(server)["pid"] != first)
    server.wait_for_log("Autorestarting worker after current request")


def test_overridden_callbacks(serve: Servers) -> None:
    """What Gunicorn's class calls now and then, and after each request (there: each connection)."""
    source = SOURCE + (
        """
from gunicorn.workers.gtornado import TornadoWorker

class Mine(TornadoWorker):
    def watchdog(self):
        super().watchdog()
        tornado_cases.note("watchdog")
    def heartbeat(self):
        super().heartbeat()
        tornado_cases.note("heartbeat")
    def handle_request(self):
        super().handle_request()
        tornado_cases.note("handled")
"""
    )
    server = serve(source, "-k", "app.Mine")
    for name in ("watchdog", "heartbeat", "handled"):
        wait_for(lambda name=name: server.lines(name))  # type: ignore[misc]
    assert server.stop() == 0


def test_class_with_options_of_tornados_server(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("its class has none")
    source = SOURCE + (
        "from oxicorn.workers.gtornado import DirectTornadoWorker\n"
        "class Mine(DirectTornadoWorker):\n    server_options = {'xheaders': True}\n"
    )
    server = serve(source, "-k", "app.Mine")
    found = about(server, headers=[("X-Forwarded-For", "9.8.7.6"), ("X-Forwarded-Proto", "https")])
    assert (found["remote_ip"], found["protocol"]) == ("9.8.7.6", "https")
    assert server.stop() == 0


def test_subclass_with_a_run_of_its_own(serve: Servers) -> None:
    """As users of Gunicorn's class write it: its ``run()`` copied, with another argument."""
    source = SOURCE + (
        """
from gunicorn.workers.gtornado import TornadoWorker
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback

class Mine(TornadoWorker):
    def run(self):
        self.ioloop = IOLoop.current()
        self.alive = True
        self.callbacks = [PeriodicCallback(self.watchdog, 200), PeriodicCallback(self.heartbeat, 200)]
        for callback in self.callbacks:
            callback.start()
        self.server = HTTPServer(self.wsgi, xheaders=True)
        self.server_alive = True
        for sock in self.sockets:
            sock.setblocking(0)
            self.server.add_socket(sock)
        self.server.start(num_processes=1)
        self.ioloop.start()
"""
    )
    server = serve(source, "-k", "app.Mine")
    assert about(server, headers=[("X-Forwarded-For", "9.8.7.6")])["remote_ip"] == "9.8.7.6"
    assert server.stop() == 0
    stays(server.refuses, 0.05)
