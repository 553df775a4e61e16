"""``--check-config``: a line for everything that would only show later."""

from __future__ import annotations

import socket

import pytest

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b""]
"""


def check(serve, *args: str, code: int, app: str = HELLO, **options: object):
    server = serve(app, "--check-config", *args, ready=None, **options)
    assert server.wait_for_exit() == code
    assert "Starting" not in server.log
    return server


def errors(server) -> list[str]:
    return [line for line in server.log.splitlines() if line.startswith("Error: ")]


def test_nothing_is_said_where_all_is_well(serve):
    server = check(
        serve,
        "--pid",
        "pid",
        "--error-logfile",
        "error.log",
        "--worker-tmp-dir",
        "/tmp",
        "--statsd-host",
        "127.0.0.1:8125",
        code=0,
    )
    assert errors(server) == []
    assert sorted(path.name for path in server.directory.iterdir() if not path.name.startswith("__")) == [
        "app.py",
        "stderr.log",
        "stdout.log",
    ], "checking leaves nothing behind"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--pid", "no/such/pid"], "pidfile: there is no directory"),
        (["--error-logfile", "no/such/log"], "errorlog: there is no directory"),
        (["--json-access-logfile", "no/such/log"], "json_accesslog: there is no directory"),
        (["--access-logfile", "/"], "accesslog: '/' is a directory"),
        (["--worker-tmp-dir", "no/such"], "worker_tmp_dir: 'no/such' is not a directory"),
        (["--log-config", "no-such.ini"], "logconfig: 'no-such.ini' cannot be read"),
        (["--statsd-host", "no-such-host.invalid:8125"], "statsd_host: 'no-such-host.invalid' is not known"),
        (["--bind", "no-such-host.invalid:80"], "bind: 'no-such-host.invalid' is not known"),
        (["--bind", "unix:no/such/socket"], "bind: there is no directory"),
        (["--bind", "unix:app.py"], "bind: 'app.py' is there and not a socket"),
        (["--bind", "fd://99"], "bind: fd://99: Bad file descriptor"),
        (["--ca-certs", "no-such.pem"], "ca_certs: 'no-such.pem' cannot be read"),
        (["--logger-class", "no.such.Logger"], "logger_class: "),
    ],
)
def test_what_would_only_show_later_is_one_line(serve, args, said):
    server = check(serve, *args, code=1, bind="")
    (line,) = errors(server)
    assert said in line
    assert "Traceback" not in server.log


def test_every_problem_has_its_line_and_the_application_is_loaded_all_the_same(serve):
    server = check(serve, "--pid", "no/such/pid", "--bind", "fd://99", code=1, app="raise ValueError('no')\n", bind="")
    assert len(errors(server)) == 2
    assert "Error while loading the application:" in server.log
    assert "ValueError: no" in server.log


def test_module_that_is_not_there_is_told_with_the_place_it_was_looked_for_in(serve):
    server = check(serve, code=1, spec="no_such_module:app")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in server.log
    assert f"(modules are looked for in {server.directory.resolve()})" in server.log


@pytest.mark.parametrize("setting", ["certfile", "keyfile", "worker_class"])
def test_certificates_and_worker_class_must_be_there(serve, setting):
    server = check(serve, code=1, config=f"{setting} = 'no_such_thing'\n")
    assert any(setting in line for line in errors(server)), server.log


def test_configuration_of_logging_is_tried(serve):
    server = serve.new()
    server.write("log.ini", "[loggers]\nkeys = root\n\n[handlers]\nkeys = none_of_these\n")
    server.start("--check-config", "--log-config", "log.ini", app=HELLO, ready=None)
    assert server.wait_for_exit() == 1
    (line,) = errors(server)
    assert line.startswith("Error: logging: ")


def test_an_address_in_use_is_no_problem_of_the_configuration(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check(serve, "--bind", f"127.0.0.1:{taken.getsockname()[1]}", code=0, bind="")


def test_an_import_that_hangs_is_shown_where_it_stands(serve):
    app = """
        import threading
        def wait_for_the_database():
            threading.Event().wait()
        wait_for_the_database()
        """
    server = check(serve, "--boot-timeout", "1", code=1, app=app)
    assert "Error: the application was not loaded after 1 s (boot_timeout). It stands here:" in server.log
    assert "in wait_for_the_database" in server.log
    assert "Error: the application cannot be loaded: it hangs" in server.log


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("os._exit(7)", "it ended the process with code 7 (os._exit?)"),
        ("os._exit(0)", "it ended the process with code 0 (os._exit?)"),
        ("os.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
    ],
)
def test_an_application_that_ends_the_process_is_told_from_one_that_loads(serve, ending, said):
    server = check(serve, code=1, app=f"import os\n{ending}\n")
    assert errors(server) == [f"Error: the application cannot be loaded: {said}"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys; sys.stderr = None; raise RuntimeError('unseen')", "RuntimeError: unseen"),
    ],
)
def test_whatever_the_application_raises_is_said_once(serve, source, reason):
    server = check(serve, code=1, app=source + "\n")
    assert server.log.count(f"\n{reason}\n") == 1
    assert errors(server) == []


def test_an_application_that_closes_all_descriptors_is_no_riddle(serve):
    server = check(serve, code=1, app="import os; os.closerange(3, 64)\n" + HELLO.replace("\n    ", "\n"))
    (line,) = errors(server)
    assert "it closes descriptors that are not its own" in line


def test_a_process_that_the_application_forks_has_no_part_in_the_answer(serve):
    app = """
        import os

        if (pid := os.fork()) == 0:
            raise RuntimeError("in the child")
        os.waitpid(pid, 0)
        application = print
        """
    server = check(serve, code=0, app=app)
    assert "in the child" in server.log


def test_threads_of_the_application_keep_nobody(serve):
    app = (
        HELLO
        + """
    import threading
    threading.Thread(target=threading.Event().wait).start()
    """
    )
    check(serve, code=0, app=app)


def test_pythonpath_counts(serve):
    server = serve.new()
    (server.directory / "lib").mkdir()
    server.write("lib/part.py", "")
    server.start("--check-config", "--pythonpath", "lib", app="import part\n" + "application = print\n", ready=None)
    assert server.wait_for_exit() == 0
