"""``oxicorn.run``: a server from within a Python program."""

from __future__ import annotations

import signal

import pytest

from tests.support.wait import wait_for

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["wsgi.multiprocess"]).encode()]
"""


@pytest.fixture(autouse=True)
def only_ours(kind):
    """Gunicorn has no such function."""
    if kind.is_gunicorn:
        pytest.skip("oxicorn.run is oxicorn's")


RUN = (
    """
import os, signal, sys
import oxicorn
"""
    + APPLICATION
    + """
def before(number, frame):
    print("my own handler", flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, before)
    main = os.getpid()
    try:
        oxicorn.run(WHAT, bind="{bind}", workers=2, EXTRA)
    except SystemExit as stop:
        if os.getpid() == main:
            print("code", stop.code, signal.getsignal(signal.SIGTERM) is before, flush=True)
            os.kill(main, signal.SIGTERM)
        raise
"""
)


@pytest.mark.parametrize("what", ["application", "'app:application'"])
def test_run(program, what):
    server = program(RUN.replace("WHAT", what).replace("EXTRA", ""), "--no-such-flag", app=APPLICATION)
    server.wait_until_ready()
    server.wait_for_workers(2)
    assert server.get().text == "True"
    assert server.stop(signal.SIGTERM) == 0
    assert server.lines("stdout.log") == ["code 0 True", "my own handler"]


def test_run_by_name_reloads_the_application(program):
    text = RUN.replace("WHAT", "'app:application'").replace("EXTRA", "")
    server = program(text, app=APPLICATION)
    server.wait_until_ready()
    server.write("app.py", APPLICATION.replace('str(environ["wsgi.multiprocess"])', "'new'"))
    server.kill(signal.SIGHUP)
    wait_for(lambda: server.get().text == "new")


def test_run_reads_a_config_file_only_if_it_is_named(program):
    text = RUN.replace("WHAT", "application").replace("EXTRA", "")
    server = program(text, config="workers = 1\nproc_name = 'of the file'\n", env={"GUNICORN_CMD_ARGS": "-w 1"})
    server.wait_until_ready()
    server.wait_for_workers(2)
    text = RUN.replace("WHAT", "application").replace("EXTRA", "config='gunicorn.conf.py'")
    server = program(text, config="workers = 1\nproc_name = 'of the file'\n")
    server.wait_until_ready()
    server.wait_for_workers(2)
    assert any(process.title == "oxicorn: master [of the file]" for process in server.processes())


@pytest.mark.parametrize(
    ("what", "extra", "code", "said"),
    [
        ("application", "wrokers=3", 1, "TypeError: no setting is called 'wrokers', did you mean 'workers'?"),
        ("5", "", 1, "TypeError: the application must be a callable or its name, unlike 5"),
        ("application", "timeout=-1", 1, "Error: Invalid value for timeout: -1 (the program that runs the server): "),
        ("'app:nothing'", "", 4, "Failed to find attribute 'nothing' in 'app'."),
        ("'nowhere'", "", 3, "No module named 'nowhere'"),
    ],
)
def test_run_refuses(program, what, extra, code, said):
    server = program(RUN.replace("WHAT", what).replace("EXTRA", extra), app=APPLICATION)
    assert server.wait_for_exit() == code
    assert said in server.log
