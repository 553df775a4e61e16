"""Every way a boot can end: the reason is in the error log, in full once, and the exit code says so."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.wait import wait_for

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""

#: Lines of the server's own that a start-up failure may have beside the user's.
OURS = 12


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
        ("import sys; sys.exit('FATAL: no database')", "FATAL: no database"),
        ("import sys; sys.exit(0)", "the application called sys.exit(0)"),
        ("import sys; sys.exit(7)", "the application called sys.exit(7)"),
        ("import sys; sys.exit()", "the application called sys.exit()"),
        ("import argparse; argparse.ArgumentParser().parse_args(['--x'])", "the application called sys.exit(2)"),
        ("import os; os._exit(7)", "exited with code 7 before it was ready."),
    ],
)
def test_at_import(serve, source, reason):
    server = serve(source + "\n", "--error-logfile", "error.log", ready=None)
    assert server.wait_for_exit() == 3
    log = server.read("error.log")
    assert reason in log
    assert "Reason: Worker failed to boot." in log
    if "_exit" not in source:
        assert server.log.count(reason) == 1, "the terminal has it too"


@pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["arbiter", "template"])
def test_in_pre_fork(serve, flags):
    """No later fork would fare better: Gunicorn ends, too, and with the same code."""
    config = "def pre_fork(server, worker): raise RuntimeError('no licence')\n"
    server = serve(HELLO, *flags, config=config, ready=None)
    assert server.wait_for_exit() == 255
    assert server.log.count("RuntimeError: no licence") == 1
    assert "Reason: Hook pre_fork raised an exception." in server.log


@pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["worker", "template"])
@pytest.mark.parametrize(
    "silencing",
    [
        "import logging.config; logging.config.dictConfig({'version': 1})",
        "import logging; logging.disable(logging.CRITICAL)",
    ],
)
def test_after_the_application_has_silenced_the_log(serve, silencing, flags):
    """``disable_existing_loggers`` is true where nobody says otherwise."""
    source = f"{silencing}\nraise RuntimeError('no database')\n"
    server = serve(source, "--error-logfile", "error.log", *flags, ready=None)
    assert server.wait_for_exit() == (1 if flags else 3)
    assert "RuntimeError: no database" in server.read("error.log")


@pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["worker", "template"])
def test_an_exception_that_cannot_be_told_is_named(serve, flags):
    source = """
        class Unspeakable(Exception):
            def __str__(self):
                raise ValueError("no words")

        raise Unspeakable
    """
    server = serve(source, "--error-logfile", "error.log", *flags, ready=None)
    assert server.wait_for_exit() == (1 if flags else 3)
    log = server.read("error.log")
    assert "app.Unspeakable: <exception str() failed>" in log
    assert "in <module>" in log


@pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["worker", "template"])
@pytest.mark.parametrize(
    "left",
    [
        "import threading; threading.Thread(target=threading.Event().wait).start()",
        "import atexit, threading; atexit.register(threading.Event().wait)",
    ],
    ids=["thread", "atexit"],
)
def test_what_the_application_has_left_keeps_nobody(serve, left, flags):
    source = f"{left}\nraise RuntimeError('no database')\n"
    server = serve(source, "--graceful-timeout", "1", *flags, ready=None)
    assert server.wait_for_exit() == (1 if flags else 3)
    assert "RuntimeError: no database" in server.log


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import sys; sys.exit('FATAL: no database')", "FATAL: no database"),
        ("import sys; sys.exit(0)", "sys.exit(0)"),
    ],
)
def test_in_a_hook(serve, hook, source, reason):
    server = serve(HELLO, config=f"def {hook}:\n    {source}\n", ready=None)
    assert server.wait_for_exit() == 3
    assert reason in server.log
    assert "gunicorn.conf.py" in server.log


@pytest.mark.parametrize("hook", ["on_starting(server)", "when_ready(server)", "pre_fork(server, worker)"])
def test_exit_in_a_hook_of_the_arbiter_is_in_the_log(serve, hook):
    config = f"import sys\ndef {hook}:\n    sys.exit('FATAL: no licence')\n"
    server = serve(HELLO, "--error-logfile", "error.log", config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert "FATAL: no licence" in server.read("error.log")


@pytest.mark.parametrize(
    ("hook", "kind_of_error"),
    [
        ("on_starting(server)", "RuntimeError"),
        ("on_starting(server)", "OSError"),
        ("when_ready(server)", "RuntimeError"),
        ("when_ready(server)", "BaseException"),
        # After any other exception the next worker is tried.
        ("pre_fork(server, worker)", "BaseException"),
    ],
)
def test_an_exception_in_a_hook_that_ends_the_arbiter_is_in_the_log(serve, hook, kind_of_error):
    config = f"def {hook}:\n    raise {kind_of_error}('no licence')\n"
    server = serve(HELLO, "--error-logfile", "error.log", config=config, ready=None)
    assert server.wait_for_exit() == 1
    log = server.read("error.log")
    assert log.count(f"{kind_of_error}: no licence") == 1
    assert f"in {hook.partition('(')[0]}" in log
    assert "no licence" in server.log


@pytest.mark.parametrize(
    ("startup", "reason"),
    [
        ("await send({'type': 'lifespan.startup.failed', 'message': 'no cache'})", "no cache"),
        ("import sys; sys.exit('FATAL: no cache')", "FATAL: no cache"),
        ("import sys; sys.exit(0)", "sys.exit(0)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os._exit(9)", "exited with code 9 before it was ready."),
    ],
)
def test_in_the_lifespan(serve, startup, reason):
    server = serve(
        f"""
        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                {startup}
        """,
        "--worker-class",
        "asgi",
        "--error-logfile",
        "error.log",
        ready=None,
    )
    assert server.wait_for_exit() == 3
    assert server.read("error.log").count(reason) >= 1


def test_the_users_frames_come_first_and_once_for_all_workers(serve):
    source = """
        def connect():
            raise RuntimeError("no database")

        def setup():
            connect()

        setup()
    """
    server = serve(source, "--workers", "4", ready=None)
    assert server.wait_for_exit() == 3
    log = server.log
    assert log.count("Traceback (most recent call last):") == 1
    frames = [line.split('"')[1] for line in log.splitlines() if line.startswith('  File "')]
    assert frames == [str(server.directory / "app.py")] * 3
    assert log.count("RuntimeError: no database") in range(1, 5)
    others = [line for line in log.splitlines() if "said in full by pid" in line]
    assert all("RuntimeError: no database" in line for line in others)


def test_the_level_debug_has_all_frames(serve):
    server = serve("raise RuntimeError('no database')\n", "--log-level", "debug", ready=None)
    assert server.wait_for_exit() == 3
    assert "importlib" in server.log
    assert "init_process" in server.log


def test_a_syntax_error_under_the_reloader_has_no_frames_of_ours(serve):
    server = serve("def application(:\n", "--reload", ready=None)
    server.wait_for_log("SyntaxError: invalid syntax")
    answer = wait_for(lambda: server.get("/"))
    assert answer.status == 500
    for text in (answer.text, server.log):
        assert "app.py" in text
        assert "oxicorn/workers" not in text


def test_a_cause_is_folded_too(serve):
    source = """
        import importlib

        try:
            importlib.import_module("does_not_exist")
        except ImportError as error:
            raise RuntimeError("no plugin") from error
    """
    server = serve(source, ready=None)
    assert server.wait_for_exit() == 3
    assert "No module named 'does_not_exist'" in server.log
    assert "direct cause" in server.log
    assert "<frozen importlib" not in server.log


def test_a_module_that_is_not_there_says_where_it_was_looked_for(serve):
    server = serve(None, spec="nowhere", ready=None)
    assert server.wait_for_exit() == 3
    assert f"(modules are looked for in {server.directory})" in server.log
    assert len(server.log.splitlines()) <= OURS


def test_a_name_that_is_not_there_is_one_line(serve):
    server = serve(HELLO, spec="app:nothing", ready=None)
    assert server.wait_for_exit() == 4
    assert server.log.count("Failed to find attribute 'nothing' in 'app'.") == 1
    assert "Traceback" not in server.log


def test_a_reload_that_cannot_boot_has_its_reason_in_the_log(serve):
    server = serve(HELLO, "--error-logfile", "error.log")

    def given_up(count):
        return lambda: server.read("error.log").count("Reload failed, generation") == count

    for number, (source, reason) in enumerate(
        [
            ("nothing = 1\n", "Failed to find attribute 'application' in 'app'."),
            ("import sys; sys.exit('FATAL: no database')\n", "FATAL: no database"),
            ("import sys; sys.exit(0)\n", "the application called sys.exit(0)"),
        ],
        1,
    ):
        server.write("app.py", source)
        server.kill(signal.SIGHUP)
        wait_for(given_up(number))
        assert reason in server.read("error.log")
        assert reason not in server.log, "it is no start"
    assert server.get().text == "hello"


def test_a_daemon_has_its_reason_in_the_log(serve, kind):
    server = serve.new()
    server.write("app.py", "nothing = 1\n")
    started = subprocess.run(
        [kind.executable, "--daemon", "--bind", server.bind, "--error-logfile", "error.log", "app"],
        cwd=server.directory,
        env=server.environment({}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 0
    wait_for(lambda: "Reason: App failed to load." in server.read("error.log"))
    assert "Failed to find attribute 'application' in 'app'." in server.read("error.log")


def test_captured_output_does_not_double_it(serve):
    server = serve(HELLO, "--error-logfile", "error.log", "--capture-output", spec="app:nothing", ready=None)
    assert server.wait_for_exit() == 4
    assert server.read("error.log").count("Failed to find attribute") == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit('FATAL: no database')", "FATAL: no database"),
        ("import sys; sys.exit(0)", "the application called sys.exit(0)"),
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("application = None", "Failed to find application object"),
    ],
)
def test_check_config_fails_with_the_reason(serve, source, reason):
    server = serve(source + "\n", "--check-config", ready=None)
    assert server.wait_for_exit() == 1
    assert reason in server.log
    assert "<frozen importlib" not in server.log


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit('FATAL: no secret')", "SystemExit"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("raise BaseException('no secret')", "BaseException: no secret"),
    ],
)
def test_a_config_file_that_ends_otherwise_is_refused(serve, source, reason):
    server = serve(HELLO, config=source + "\n", ready=None)
    assert server.wait_for_exit() == 1
    assert server.log.startswith("Failed to read config file: ")
    assert reason in server.log
    assert "oxicorn/app" not in server.log, "the user's frames only"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_standard_stream_that_is_closed_changes_no_exit_code(serve, kind, stream):
    server = serve.new()
    server.write("app.py", "raise RuntimeError('no database')\n")
    flags = ("--bind", server.bind, "--error-logfile", "error.log", "app")
    started = subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}>&-', "sh", kind.executable, *flags],
        cwd=server.directory,
        env=server.environment({}),
        timeout=60,
        check=False,
    )
    assert started.returncode == 3
    assert "RuntimeError: no database" in server.read("error.log")


def test_exit_while_serving_is_as_before(serve):
    """A worker that has served is replaced, whatever its code."""
    source = """
        import sys

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/exit":
                sys.exit("enough")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]
    """
    server = serve(source)
    server.get("/exit")
    server.wait_for_log(r"\[ERROR\] enough$")
    server.wait_for_log("Booting worker", count=2)
    assert server.get().text == "hello"
