"""Logger classes of one's own, and access lines that Python writes in the worker."""

from __future__ import annotations

import json
import os
import re
import signal
import textwrap

import pytest

from tests.support.greenlets import GEVENT
from tests.support.wait import wait_for

APP = """
    import time

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/raises":
            raise RuntimeError("on purpose")
        if path == "/late":
            start_response("200 OK", [("Content-Type", "text/plain")])
            def body():
                yield b"begun"
                raise RuntimeError("too late")
            return body()
        if path == "/stuck":
            open("stuck", "w").close()
            time.sleep(60)
        environ["shop.user"] = "alice"
        if "HTTP_X_FORWARDED_FOR" in environ:
            environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_FOR"]
        start_response("201 Created", [("Content-Type", "text/plain"), ("X-Answer", "forty-two")])
        return [b"hello"]
"""

#: Says everything that a logger is told of a request.
TELLING = """
    import json
    from gunicorn.glogging import Logger

    class Telling(Logger):
        def access(self, resp, req, environ, request_time):
            super().access(resp, req, environ, request_time)
            with open("told.log", "a") as file:
                print(json.dumps({
                    "status": resp.status, "sent": resp.sent, "headers": list(map(list, resp.headers)),
                    "response_length": resp.response_length, "method": req.method, "uri": req.uri,
                    "request_headers": list(map(list, req.headers)), "user": environ.get("shop.user"),
                    "microseconds": request_time.microseconds, "path": environ["PATH_INFO"],
                }), file=file)

    logger_class = Telling
"""

#: The same import where Gunicorn is not installed.
OWN_IMPORTS = ("from gunicorn.", "from oxicorn.")


@pytest.fixture
def own(kind):
    """Rewrites imports for the server under test."""
    return lambda source: source if kind.is_gunicorn else source.replace(*OWN_IMPORTS)


def told(server, path):
    """What the logger was told of the request for ``path``."""

    def found():
        records = [json.loads(line) for line in server.lines("told.log")]
        return [record for record in records if record["uri"] == path]

    records = wait_for(found, what=lambda: server.log)
    assert len(records) == 1
    return records[0]


@pytest.mark.parametrize("worker", ["sync", "gthread", GEVENT])
def test_logger_class_of_the_config_file_is_told_everything(serve, own, worker):
    server = serve(APP, "--worker-class", worker, config=own(TELLING), ready="/ready")
    server.get("/path?a=1", [("X-One", "1")])
    record = told(server, "/path?a=1")
    assert record["status"] == "201 Created"
    assert record["sent"] == 5
    assert ["X-Answer", "forty-two"] in record["headers"]
    assert record["method"] == "GET"
    assert ["X-ONE", "1"] in record["request_headers"]
    assert record["user"] == "alice"
    assert record["microseconds"] > 0


def test_logger_class_writes_the_access_log_too(serve, own):
    server = serve(
        APP,
        "--access-logformat",
        "%(s)s %(U)s %({shop.user}e)s %({x-answer}o)s %(p)s",
        config=own(TELLING),
        access_log=True,
        ready="/ready",
    )
    server.get("/path")
    (worker,) = server.worker_pids()
    wait_for(lambda: f"201 /path alice forty-two <{worker}>" in server.access_log, what=lambda: server.access_log)
    assert [line for line in server.access_log if "/path" in line] == [server.access_log[-1]]


def test_dotted_logger_class(serve, own):
    server = serve.new()
    server.write(
        "shoplog.py",
        own("""
        from gunicorn.glogging import Logger

        class Quiet(Logger):
            def access(self, resp, req, environ, request_time):
                if environ["PATH_INFO"] != "/health":
                    super().access(resp, req, environ, request_time)

            def atoms(self, resp, req, environ, request_time):
                atoms = super().atoms(resp, req, environ, request_time)
                atoms["U"] = atoms["U"].replace("secret", "***")
                return atoms

            def now(self):
                return "[now]"
    """),
    )
    server.start(
        "--logger-class", "shoplog.Quiet", "--access-logformat", "%(t)s %(U)s", app=APP, access_log=True, ready="/ready"
    )
    server.get("/health")
    server.get("/secret")
    wait_for(lambda: "[now] /***" in server.access_log, what=lambda: server.log)
    assert not [line for line in server.access_log if "/health" in line]


def test_setup_may_add_filters_and_formats(serve, own):
    server = serve(
        APP,
        config=own("""
        import logging
        from gunicorn.glogging import Logger

        class Shop(Logger):
            error_fmt = "SHOP %(levelname)s %(message)s"
            def setup(self, cfg):
                super().setup(cfg)
                self.access_log.addFilter(lambda record: "GET /quiet" not in record.getMessage())

        logger_class = Shop
    """),
        access_log=True,
        ready="/ready",
    )
    server.get("/quiet")
    server.get("/loud")
    wait_for(lambda: [line for line in server.access_log if "/loud" in line])
    assert not [line for line in server.access_log if "/quiet" in line]
    server.wait_for_log("^SHOP INFO Booting worker")
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
        assert peer.answer().status == 400
    server.wait_for_log(r"^SHOP WARNING Invalid request from ip=127\.0\.0\.1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere.Logger", r"Error: .*'nowhere\.Logger' invalid or not found.*No module named 'nowhere'"),
        ("os.NoLogger", r"Error: .*'os\.NoLogger' invalid or not found.*has no attribute 'NoLogger'"),
        ("os.sep", r"Error: .*'os\.sep' is no class"),
        ("unknown", r"Error: .*'unknown' invalid or not found"),
    ],
)
def test_logger_class_that_is_none_is_one_clear_error(serve, name, text):
    server = serve(APP, "--logger-class", name, ready=None)
    assert server.wait_for_exit() == 1
    assert re.search(text, server.log), server.log
    assert "Traceback" not in server.log


def test_logger_that_raises_costs_no_request(serve, own):
    server = serve(
        APP,
        config=own("""
        from gunicorn.glogging import Logger

        class Broken(Logger):
            def access(self, resp, req, environ, request_time):
                raise RuntimeError("no log today")

        logger_class = Broken
    """),
    )
    with server.connect() as peer:
        assert peer.request("GET", "/one").status == 201
        assert peer.request("GET", "/two").status == 201
    server.wait_for_log("RuntimeError: no log today", count=2)


# Requests that went wrong have their line too, one each.


@pytest.mark.parametrize(("path", "line"), [("/raises", "500 /raises"), ("/late", "200 /late")])
def test_failed_request_has_one_line(serve, own, path, line):
    server = serve(APP, "--access-logformat", "%(s)s %(U)s", config=own(TELLING), access_log=True, ready="/ready")
    with server.connect() as peer:
        peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        peer.rest()
    server.get("/last")
    wait_for(lambda: "201 /last" in server.access_log)
    assert [text for text in server.access_log if path in text] == [line]


def test_request_beyond_timeout_has_one_line(serve, own):
    server = serve(
        APP,
        "--timeout",
        "1",
        "--access-logformat",
        "%(s)s %(U)s %(r)s",
        config=own(TELLING),
        access_log=True,
        ready="/ready",
    )
    assert server.get("/stuck").status == 504
    server.wait_for_log("Booting worker", count=2)
    server.get("/last")
    wait_for(lambda: "201 /last GET /last HTTP/1.1" in server.access_log)
    assert [text for text in server.access_log if "stuck" in text] == ["504 /stuck GET /stuck HTTP/1.1"]


def test_request_whose_worker_died_has_one_line(serve, own):
    server = serve(APP, "--access-logformat", "%(s)s %(U)s", config=own(TELLING), access_log=True, ready="/ready")
    with server.connect() as peer:
        peer.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for((server.directory / "stuck").exists)
        with server.connect() as second:
            second.send(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            assert peer.answer().status == 502
            assert second.answer().status == 201
    wait_for(lambda: {"502 /stuck", "201 /second"} <= set(server.access_log), what=lambda: server.access_log)
    assert len([text for text in server.access_log if "stuck" in text]) == 1


def test_refused_request_goes_through_the_logger(serve, own):
    server = serve(APP, "--access-logformat", "%(h)s %(s)s %(r)s", config=own(TELLING), access_log=True, ready="/ready")
    with server.connect() as peer:
        peer.send(b"BAD\r\n\r\n")
        assert peer.answer().status == 400
    wait_for(lambda: "127.0.0.1 400 BAD - -" in server.access_log, what=lambda: server.access_log)


# Without a logger class of one's own.


def test_environ_that_only_the_application_knows(serve):
    server = serve(APP, "--access-logformat", "%({shop.user}e)s %(U)s", access_log=True, ready="/ready")
    server.get("/path")
    wait_for(lambda: "alice /path" in server.access_log, what=lambda: server.access_log)


@pytest.mark.parametrize("worker", ["sync", "gthread", GEVENT])
def test_client_that_the_application_put_into_the_environ(serve, worker):
    """As werkzeug's ProxyFix does."""
    server = serve(APP, "--worker-class", worker, "--access-logformat", "%(h)s %(U)s", access_log=True, ready="/ready")
    server.get("/direct")
    for number in range(3):
        server.get(f"/forwarded-{number}", [("X-Forwarded-For", f"192.0.2.{number}")])
    server.get("/again")
    expected = [
        "127.0.0.1 /direct",
        *[f"192.0.2.{number} /forwarded-{number}" for number in range(3)],
        "127.0.0.1 /again",
    ]
    wait_for(lambda: len(server.access_log) >= 6, what=lambda: server.access_log)
    assert sorted(line for line in server.access_log if not line.endswith("/ready")) == sorted(expected)


@pytest.mark.parametrize("place", ["config", "application", "post_worker_init"])
def test_filter_on_the_access_logger(serve, place):
    """A recipe for health checks: a filter added wherever there is room for code."""
    add = "import logging; logging.getLogger('gunicorn.access').addFilter(lambda r: '/health' not in r.getMessage())"
    config = {
        "config": f"def on_starting(server):\n    {add}\n",
        "post_worker_init": f"def post_worker_init(worker):\n    {add}\n",
    }.get(place)
    server = serve.new()
    app = "import textwrap\n" + (f"{add}\n" if place == "application" else "")
    server.start(app=app + textwrap.dedent(APP), config=config, access_log=True, ready="/ready")
    server.get("/health")
    server.get("/path")
    wait_for(lambda: [line for line in server.access_log if "/path" in line])
    assert not [line for line in server.access_log if "/health" in line]


def test_handler_added_to_the_access_logger_gets_every_line(serve):
    server = serve(
        APP,
        config="""
        import logging
        def when_ready(server):
            server.log.access_log.addHandler(logging.FileHandler("second.log"))
    """,
        access_log=True,
        ready="/ready",
    )
    server.get("/path")
    wait_for(lambda: [line for line in server.lines("second.log") if "GET /path" in line])
    wait_for(lambda: [line for line in server.access_log if "GET /path" in line])


def test_replaced_method_is_noticed(serve, own):
    server = serve(
        APP,
        "--access-logformat",
        "%(t)s %(U)s",
        config=own("""
        from gunicorn.glogging import Logger
        Logger.now = lambda self: "[noon]"
    """),
        access_log=True,
        ready="/ready",
    )
    server.get("/path")
    wait_for(lambda: "[noon] /path" in server.access_log, what=lambda: server.access_log)


def test_line_of_python_and_of_the_gateway_are_the_same(serve, own):
    """Byte for byte, whatever the client sends."""
    headers = [("User-Agent", 'a "b" \\ \t caf\xe9'), ("Authorization", "Basic YVx4Og=="), ("Referer", "http://x/\x80")]
    lines = []
    for config in ("", own("from gunicorn.glogging import Logger\nclass Mine(Logger): pass\nlogger_class = Mine\n")):
        server = serve(
            APP,
            "--access-logformat",
            '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(U)s %(q)s %(m)s',
            config=config,
            access_log=True,
            ready="/ready",
        )
        server.get("/p%0ath%ff?a=%22", headers)
        (line,) = wait_for(lambda server=server: [text for text in server.access_log if "/p" in text])
        lines.append(line)
    assert lines[0] == lines[1]


# USR1


def test_usr1_reopens_what_python_writes(serve, own):
    server = serve(APP, "--workers", "2", config=own(TELLING), access_log=True, ready="/ready")
    path = server.directory / "access.log"
    path.rename(server.directory / "access.log.1")
    server.kill(signal.SIGUSR1)
    wait_for(path.exists)

    def both_write_to_the_new_file() -> bool:
        for _ in range(5):
            server.get("/after")
        return sum("/after" in text for text in server.access_log) >= 10

    wait_for(both_write_to_the_new_file)
