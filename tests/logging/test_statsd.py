"""StatsD: names, types, prefix and tags of the metrics, and that nobody waits for the server."""

from __future__ import annotations

import re

import pytest

from tests.logging.receivers import receiving
from tests.support.wait import wait_for

APP = """
    import time

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/raises":
            raise RuntimeError("on purpose")
        if path == "/slow":
            time.sleep(0.25)
        if path == "/stuck":
            time.sleep(60)
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [b"hello"]
"""


def start(serve, statsd, *flags: str, unix: bool = False, **options: object):
    server = serve.new()
    address = f"unix://{statsd.address}" if unix else statsd.address
    return server.start("--statsd-host", address, *flags, app=APP, ready=options.pop("ready", "/ready"), **options)


@pytest.mark.parametrize("kind_of_socket", ["udp", "unix-dgram"])
@pytest.mark.parametrize("access_log", [True, False])
def test_each_request_is_measured(serve, tmp_path, kind_of_socket, access_log):
    with receiving(kind_of_socket, tmp_path) as statsd:
        server = start(serve, statsd, unix=kind_of_socket != "udp", access_log=access_log)
        for _ in range(3):
            server.get("/path")
        server.get("/slow")
        assert server.stop() == 0
        statsd.drain()
        lines = statsd.lines
        requests = lines.count("gunicorn.requests:1|c|@1.0")
        assert requests >= 5
        assert lines.count("gunicorn.request.status.201:1|c|@1.0") == requests
        times = [
            float(value) for value in re.findall(r"^gunicorn\.request\.duration:([0-9.]+)\|ms$", statsd.text, re.M)
        ]
        assert len(times) == requests
        assert [time for time in times if 250 <= time < 60_000], "the slow one"


def test_prefix_and_tags(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd, "--statsd-prefix", "shop", "--dogstatsd-tags", "env:test,red")
        server.get("/path")
        statsd.wait_for(lambda text: "shop.gunicorn.requests:1|c|@1.0|#env:test,red" in text)
        statsd.wait_for(lambda text: "shop.gunicorn.workers:1|g|#env:test,red" in text)
        assert all(line.startswith("shop.") and line.endswith("|#env:test,red") for line in statsd.lines if line)


def test_workers_are_counted(serve, tmp_path):
    import signal

    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd, "--workers", "2")
        statsd.wait_for(lambda text: "gunicorn.workers:2|g" in text)
        server.kill(signal.SIGTTIN)
        statsd.wait_for(lambda text: "gunicorn.workers:3|g" in text)


def test_backlog(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        start(serve, statsd, "--enable-backlog-metric")
        statsd.wait_for(lambda text: re.search(r"^gunicorn\.backlog:\d+\|h$", text, re.M))


def test_requests_in_the_queue_are_backlog(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd, "--enable-backlog-metric", "--prefetch", "0")
        peers = [server.connect() for _ in range(4)]
        for peer in peers:
            peer.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        statsd.wait_for(lambda text: "gunicorn.backlog:3|h" in text)
        for peer in peers:
            peer.close()


def test_what_is_logged_is_counted(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(
            serve,
            statsd,
            config="""
            def when_ready(server):
                server.log.warning("a warning")
                server.log.critical("critical")
                try:
                    1 / 0
                except ZeroDivisionError:
                    server.log.exception("an exception")
                server.log.error("an error")
        """,
        )
        server.get("/path")
        for level in ("warning", "critical", "exception", "error"):
            statsd.wait_for(lambda text, level=level: f"gunicorn.log.{level}:1|c|@1.0" in text)


def test_what_the_gateway_warns_of_is_counted(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd)
        with server.connect() as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
            assert peer.answer().status == 400
        statsd.wait_for(lambda text: "gunicorn.log.warning:1|c|@1.0" in text)
        server.wait_for_log("Invalid request from ip=127.0.0.1")


def test_metrics_in_log_calls(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(
            serve,
            statsd,
            config="""
            def post_request(worker, req, environ, resp):
                log = worker.log
                log.info("sold", extra={"metric": "shop.sold", "value": 2, "mtype": "counter"})
                log.info("", extra={"metric": "shop.stock", "value": 7, "mtype": "gauge"})
                log.debug("", extra={"metric": "shop.price", "value": 1.5, "mtype": "histogram"})
                log.log("info", "", extra={"metric": "shop.time", "value": 3, "mtype": "timer"})
                log.decrement("shop.left", 1)
        """,
        )
        server.get("/path")
        for metric in (
            "shop.sold:2|c|@1.0",
            "shop.stock:7|g",
            "shop.price:1.5|h",
            "shop.time:3|ms",
            "shop.left:-1|c|@1.0",
        ):
            statsd.wait_for(lambda text, metric=metric: metric in text.split("\n"))
        server.wait_for_log(r"\[INFO\] sold")


@pytest.mark.parametrize("name", ["access", "timer"])
def test_subclass_has_its_own_say(serve, kind, tmp_path, name):
    """What it does not send is not sent, what it sends is sent once."""
    module = "gunicorn" if kind.is_gunicorn else "oxicorn"
    own = {
        "access": "def access(self, resp, req, environ, request_time):\n"
        "        self.increment('mine.' + environ['PATH_INFO'].strip('/'), 1)",
        "timer": "def timer(self, name, value):\n        super().timer('mine.' + name, 1)",
    }[name]
    config = f"""
from {module}.instrument.statsd import Statsd

class Mine(Statsd):
    {own}

logger_class = Mine
"""
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd, config=config)
        server.get("/path")
        expected = {"access": "mine.path:1|c|@1.0", "timer": "mine.gunicorn.request.duration:1|ms"}[name]
        statsd.wait_for(lambda text: expected in text.split("\n"))
        assert server.stop() == 0
        statsd.drain()
        counted = statsd.lines.count("gunicorn.requests:1|c|@1.0")
        assert counted == {"access": 0, "timer": statsd.lines.count(expected)}[name]


def test_requests_no_worker_answered_are_measured(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd, "--timeout", "1")
        with server.connect() as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
            assert peer.answer().status == 400
        assert server.get("/stuck").status == 504
        statsd.wait_for(lambda text: "gunicorn.request.status.504:1|c|@1.0" in text)
        statsd.wait_for(lambda text: "gunicorn.request.status.400:1|c|@1.0" in text)


def test_nobody_has_to_listen(serve, tmp_path):
    server = serve(APP, "--statsd-host", "localhost:1", ready="/ready")
    assert [server.get("/path").status for _ in range(20)] == [201] * 20
    assert server.stop() == 0
    server = serve(APP, "--statsd-host", f"unix://{tmp_path}/nothing", ready="/ready")
    assert server.get("/path").status == 201
    assert server.stop() == 0


def test_server_that_does_not_read_holds_nobody_up(serve, tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "full"))
        server = serve(
            APP,
            "--statsd-host",
            f"unix://{tmp_path}/full",
            ready="/ready",
            config="""
            def post_request(worker, req):
                for _ in range(200):
                    worker.log.info("", extra={"metric": "shop.sold", "value": 1, "mtype": "counter"})
        """,
        )
        with server.connect() as peer:
            assert [peer.get("/path").status for _ in range(50)] == [201] * 50
        assert server.stop() == 0


def test_last_metrics_are_sent_at_the_end(serve, tmp_path):
    with receiving("udp", tmp_path) as statsd:
        server = start(serve, statsd)
        server.get("/path")
        assert server.stop() == 0
        wait_for(lambda: statsd.lines.count("gunicorn.requests:1|c|@1.0") >= 2, what=lambda: statsd.text)


def test_logger_class_that_derives_from_statsd_without_a_server_for_it(serve):
    config = """
        from gunicorn.instrument.statsd import Statsd

        class Logger(Statsd):
            def error(self, msg, *args, **kwargs):
                super().error("noted: " + msg, *args, **kwargs)

        logger_class = Logger

        def post_worker_init(worker):
            worker.log.increment("shop.workers", 1)
            worker.log.error("a word")
    """
    app = """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"]
    """
    server = serve(app, config=config, access_log=True)
    assert server.get().text == "hello"
    server.wait_for_log("noted: a word")
    assert server.stop() == 0
    assert len(server.access_log) >= 1
