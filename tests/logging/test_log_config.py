"""logconfig, logconfig_json, logconfig_dict: at the start, on reload, and what is wrong with them."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.support.wait import wait_for

APP = """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError("on purpose")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""

INI = """
    [loggers]
    keys=root, gunicorn.error, gunicorn.access

    [handlers]
    keys=errors, accesses

    [formatters]
    keys=plain

    [logger_root]
    level=INFO
    handlers=errors

    [logger_gunicorn.error]
    level=INFO
    handlers=errors
    propagate=0
    qualname=gunicorn.error

    [logger_gunicorn.access]
    level=INFO
    handlers=accesses
    propagate=0
    qualname=gunicorn.access

    [handler_errors]
    class=FileHandler
    formatter=plain
    args=('configured-errors.log',)

    [handler_accesses]
    class=FileHandler
    formatter=plain
    args=('configured-accesses.log',)

    [formatter_plain]
    format={} %(name)s %(levelname)s %(message)s
"""


def dictionary(mark):
    """The same as INI, for ``dictConfig``."""

    def logger(handler):
        return {"level": "INFO", "handlers": [handler], "propagate": False}

    def handler(name):
        return {"class": "logging.FileHandler", "formatter": "plain", "filename": f"configured-{name}.log"}

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "INFO", "handlers": ["errors"]},
        "loggers": {"gunicorn.error": logger("errors"), "gunicorn.access": logger("accesses")},
        "handlers": {"errors": handler("errors"), "accesses": handler("accesses")},
        "formatters": {"plain": {"format": f"{mark} %(name)s %(levelname)s %(message)s"}},
    }


def write(server, kind, mark):
    """Writes a configuration whose lines begin with ``mark``; the flags that name it."""
    if kind == "file":
        server.write("log.ini", INI.format(mark))
        return ["--log-config", "log.ini"]
    if kind == "json":
        server.write("log.json", json.dumps(dictionary(mark)))
        return ["--log-config-json", "log.json"]
    server.write("gunicorn.conf.py", f"logconfig_dict = {dictionary(mark)!r}\n")
    return []


def break_it(server, kind):
    """Makes the configuration one that cannot be used."""
    broken = {
        "file": ("log.ini", INI.format("BROKEN").replace("class=FileHandler", "class=NoSuchHandler")),
        "json": ("log.json", "{"),
        "dict": ("gunicorn.conf.py", f"logconfig_dict = {{**{dictionary('BROKEN')!r}, 'handlers': {{}}}}\n"),
    }
    server.write(*broken[kind])


KINDS = pytest.mark.parametrize("kind_of_config", ["file", "json", "dict"])


@KINDS
def test_both_logs_go_where_it_says(serve, kind_of_config):
    server = serve.new()
    flags = write(server, kind_of_config, "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    server.get("/path")
    server.get("/raises")
    wait_for(
        lambda: re.search(
            "^FIRST gunicorn.access INFO .*GET /path HTTP/1.1", server.read("configured-accesses.log"), re.M
        )
    )
    wait_for(
        lambda: (
            "FIRST gunicorn.error ERROR Error handling request GET /raises\nTraceback"
            in server.read("configured-errors.log")
        )
    )
    assert "FIRST gunicorn.error INFO Booting worker" in server.read("configured-errors.log")


@KINDS
def test_what_the_gateway_says_goes_there_too(serve, kind_of_config):
    server = serve.new()
    flags = write(server, kind_of_config, "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    with server.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
        assert peer.answer().status == 400
    wait_for(
        lambda: "FIRST gunicorn.error WARNING Invalid request from ip=127.0.0.1" in server.read("configured-errors.log")
    )


def test_refused_request_is_in_the_configured_access_log(serve):
    server = serve.new()
    flags = write(server, "dict", "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    with server.connect() as peer:
        peer.send(b"GET /refused HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
        assert peer.answer().status == 400
    wait_for(lambda: re.search(r'INFO 127\.0\.0\.1 .*" 400 ', server.read("configured-accesses.log")))


def test_usr1_reopens_its_files(serve):
    server = serve.new()
    flags = write(server, "dict", "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    path = server.directory / "configured-accesses.log"
    path.rename(server.directory / "old.log")
    server.kill(signal.SIGUSR1)
    wait_for(path.exists)
    wait_for(lambda: server.get("/after").status == 200 and "/after" in server.read("configured-accesses.log"))


def test_defaults_complete_a_dictionary(serve):
    """Only loggers given: handlers and formatters are those of CONFIG_DEFAULTS, access lines on standard output."""
    config = """
        logconfig_dict = {"loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": False},
            "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False},
        }}
    """
    server = serve(APP, config=config, ready="/ready")
    server.get("/path")
    wait_for(
        lambda: re.search(r"^\[\d{4}-.*\] \[\d+\] \[INFO\] 127\.0\.0\.1 .*GET /path", server.read("stdout.log"), re.M)
    )
    server.wait_for_log(r"^\[\d{4}-.*\] \[\d+\] \[INFO\] Booting worker")


def test_missing_file_is_one_clear_error(serve):
    server = serve(APP, "--log-config", "missing.ini", ready=None)
    assert server.wait_for_exit() == 1
    assert "Error: log config 'missing.ini' not found" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("flags", "config", "text"),
    [
        (["--log-config-json", "missing.json"], None, r"Error: .*log config 'missing\.json' not found"),
        (["--log-config-json", "app.py"], None, r"Error: logconfig_json 'app\.py' cannot be read"),
        (["--log-config", "app.py"], None, r"Error: logconfig 'app\.py' cannot be read"),
        (
            [],
            "logconfig_dict = {'handlers': {'x': {'class': 'no.Such'}}}",
            r"Error: logconfig_dict cannot be used: .*'x'.*no",
        ),
        ([], "logconfig_dict = {'version': 2}", r"Error: logconfig_dict cannot be used: Unsupported version: 2"),
    ],
)
def test_unusable_configuration_is_one_clear_error(serve, flags, config, text):
    server = serve(APP, *flags, config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert re.search(text, server.log), server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--log-config", "missing.ini"], "logconfig: 'missing.ini' cannot be read"),
        (["--log-config-json", "app.py"], "logconfig_json 'app.py' cannot be read"),
        (["--logger-class", "nowhere.Logger"], "logger_class 'nowhere.Logger' invalid or not found"),
        (["--log-syslog", "--log-syslog-to", "nowhere"], "invalid syslog address 'nowhere'"),
    ],
)
def test_check_config_looks_at_the_logs(serve, flags, text):
    server = serve(APP, "--check-config", *flags, ready=None)
    assert server.wait_for_exit() == 1
    assert text in server.log
    assert "Traceback" not in server.log


# Reload


@KINDS
def test_reload_puts_the_new_one_in_force(serve, kind_of_config):
    server = serve.new()
    flags = write(server, kind_of_config, "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    (old,) = server.worker_pids()
    write(server, kind_of_config, "SECOND")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[old])
    server.get("/path")
    wait_for(lambda: re.search("^SECOND .*GET /path", server.read("configured-accesses.log"), re.M))
    # Nothing is written twice.
    assert len(re.findall("GET /path", server.read("configured-accesses.log"))) == 1


@KINDS
def test_broken_one_at_reload_leaves_the_old_one(serve, kind_of_config):
    """Although the file with the old one is not there any more; and everything else is reloaded."""
    server = serve.new()
    flags = write(server, kind_of_config, "FIRST")
    server.start(*flags, app=APP, ready="/ready")
    (old,) = server.worker_pids()
    break_it(server, kind_of_config)
    server.write("app.py", APP.replace("hello", "goodbye"))
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[old])
    assert server.get("/path").body == b"goodbye"
    wait_for(lambda: re.search("^FIRST .*GET /path", server.read("configured-accesses.log"), re.M))
    errors = server.read("configured-errors.log")
    assert "FIRST gunicorn.error ERROR Logging configuration refused, the old one stays: logconfig" in errors
    # It can be mended.
    (old,) = server.worker_pids()
    write(server, kind_of_config, "THIRD")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[old])
    server.get("/mended")
    wait_for(lambda: re.search("^THIRD .*GET /mended", server.read("configured-accesses.log"), re.M))


def test_reload_changes_log_level_and_files(serve):
    server = serve(APP, config='accesslog = "first.log"\nloglevel = "warning"\n', ready="/ready")
    (old,) = server.worker_pids()
    server.write("gunicorn.conf.py", 'accesslog = "second.log"\nloglevel = "info"\n')
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[old])
    server.wait_for_log(r"\[INFO\] Booting worker")
    server.get("/path")
    wait_for(lambda: "GET /path" in server.read("second.log"))
    assert "GET /path" not in server.read("first.log")


def test_reload_may_begin_and_end_it(serve):
    """From lines of the gateway to lines of Python and back; each request has one."""
    server = serve(APP, config='accesslog = "access.log"\n', ready="/ready")

    def reload() -> None:
        (old,) = server.worker_pids()
        server.kill(signal.SIGHUP)
        server.wait_for_workers(1, without=[old])

    server.get("/one")
    wait_for(lambda: [line for line in server.access_log if "/one" in line])
    write(server, "dict", "PYTHON")
    reload()
    server.get("/two")
    wait_for(lambda: "GET /two" in server.read("configured-accesses.log"))
    server.write("gunicorn.conf.py", 'accesslog = "access.log"\n')
    reload()
    server.get("/three")
    wait_for(lambda: [line for line in server.access_log if "/three" in line])
    assert not [line for line in server.access_log if "/two" in line]
    assert "/three" not in server.read("configured-accesses.log")
