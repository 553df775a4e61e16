"""Flags, environment and config file: who wins, and how mistakes are told."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from tests.support.wait import wait_for

HELLO = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [os.environ.get("COLOUR", "none").encode()]
"""


def output(server) -> str:
    return server.read("stdout.log")


def test_version(serve):
    server = serve(None, "--version", bind="", spec=None, ready=None)
    assert server.wait_for_exit() == 0
    assert output(server) == f"{server.kind.name} (version {server.kind.version})\n"


def test_help_names_every_flag_with_its_meaning(serve):
    server = serve(None, "--help", bind="", spec=None, ready=None)
    assert server.wait_for_exit() == 0
    for flag in (
        "--bind",
        "--backlog",
        "--workers",
        "--worker-class",
        "--threads",
        "--worker-connections",
        "--timeout",
        "--graceful-timeout",
        "--keep-alive",
        "--max-requests",
        "--max-requests-jitter",
        "--preload",
        "--chdir",
        "--pythonpath",
        "--pid",
        "--name",
        "--umask",
        "--access-logfile",
        "--access-logformat",
        "--error-logfile",
        "--log-level",
        "--capture-output",
        "--env",
        "--limit-request-line",
        "--limit-request-fields",
        "--limit-request-field_size",
        "--no-sendfile",
        "--config",
        "--check-config",
        "--print-config",
    ):
        assert flag in output(server), flag


def test_python_dash_m(serve, kind):
    server = serve(HELLO, command=kind.module_command)
    assert server.get().text == "none"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--does-not-exist"], 2, "--does-not-exist"),
        (["--workers", "many"], 2, "many"),
        (["--timeout", "soon"], 2, "soon"),
        (["--workers"], 2, "--workers"),
        (["--workers=-1"], 1, "-1"),
        (["--chdir", "does-not-exist"], 1, "'does-not-exist'"),
        (["--config", "does-not-exist.py"], 1, "Error: 'does-not-exist.py' doesn't exist"),
        (["--worker-class", "does_not_exist"], 1, "does_not_exist"),
        (["--header-map", "maybe"], 1, "maybe"),
        (["--forwarded-allow-ips", "10.0.0.1/24"], 1, "has host bits set"),
        (["--user", "does-not-exist"], 1, "user"),
        (["--group", "does-not-exist"], 1, "group"),
        (["--error-logfile", "no/such/directory/log"], 1, "isn't writable"),
        (["--bind", "127.0.0.1:port"], 1, "'port' is not a valid port number"),
    ],
)
def test_mistakes(serve, args, code, message):
    server = serve(HELLO, *args, ready=None)
    assert server.wait_for_exit() == code
    assert message in server.log
    if code == 1 and "does_not_exist" not in message:
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("args", "config", "refusal"),
    [
        (["--workers=-1"], "", "workers: -1 (command line, --workers): must be an integer from 0 to 4096"),
        (["--chdir", "nowhere"], "", "chdir: 'nowhere' (command line, --chdir): must be an existing directory"),
        ([], "header_map = 'maybe'", "must be one of: drop, refuse, dangerous"),
        ([], "when_ready = 5", "gunicorn.conf.py, line 1): must be a callable with the arguments (server)"),
    ],
)
def test_refusal_names_setting_value_source_and_what_is_allowed(serve, args, config, refusal):
    server = serve(HELLO, *args, config=config + "\n", ready=None)
    assert server.wait_for_exit() == 1
    lines = [line for line in server.log.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert refusal in lines[0]


def test_no_application(serve):
    server = serve(None, spec=None, ready=None)
    assert server.wait_for_exit() == 1
    assert "Error: No application module specified." in server.log


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("raise RuntimeError('in the config file')", "in the config file"),
        ("def broken(:", "SyntaxError"),
        ("workers = 'many'", "Invalid value for workers: "),
        ("workers = -1", "Invalid value for workers: -1"),
        ("reload = 1", "Invalid value for reload: 1"),
        ("bind = 5", "Error:"),
    ],
)
def test_mistakes_in_the_config_file(serve, config, message):
    server = serve(HELLO, config=config + "\n", bind="", ready=None)
    assert server.wait_for_exit() == 1
    assert message in server.log


def test_unambiguous_abbreviation_of_a_flag(serve):
    server = serve(HELLO, "--worker-cl", "gthread", "--thr", "2")
    server.wait_for_log("Using worker: gthread")


def test_threads_turn_sync_into_gthread(serve):
    server = serve(HELLO, "--threads", "2")
    server.wait_for_log(r"\[INFO\] Using worker: gthread$")


@pytest.mark.parametrize("file", ["-c {}/other.py", "--config {}/other.py", "-c file:{}/other.py", "-c python:other"])
def test_config_file_by_name(serve, file):
    server = serve.new()
    server.write("other.py", "raw_env = ['COLOUR=red']\n")
    server.start(*file.format(server.directory).split(), app=HELLO)
    assert server.get().text == "red"


def test_config_file_is_found_by_default(serve):
    assert serve(HELLO, config="raw_env = ['COLOUR=red']\n").get().text == "red"


def test_own_config_file_is_found_by_default(serve):
    server = serve.new()
    server.write("oxicorn.conf.py", "raw_env = ['COLOUR=red']\n")
    assert server.start(app=HELLO).get().text == "red"


def test_who_wins(serve):
    """defaults < config file < GUNICORN_CMD_ARGS < command line."""
    config = "workers = 2\nthreads = 2\nproc_name = 'file'\n"
    arguments = "--threads 3 --name arguments"
    server = serve(
        HELLO,
        "--name",
        "line",
        "--print-config",
        config=config,
        env={"GUNICORN_CMD_ARGS": arguments},
        ready=None,
    )
    assert server.wait_for_exit() == 0
    found = dict(line.split("=", 1) for line in output(server).splitlines() if "=" in line)
    found = {key.strip(): value.strip() for key, value in found.items()}
    assert (found["workers"], found["threads"], found["proc_name"]) == ("2", "3", "line")


def test_print_config_lists_every_setting_sorted(serve):
    server = serve(HELLO, "--print-config", "--timeout", "7", ready=None)
    assert server.wait_for_exit() == 0
    names = [line.split("=")[0].strip() for line in output(server).splitlines() if "=" in line]
    assert names == sorted(names)
    for name in ("accesslog", "bind", "graceful_timeout", "max_requests", "on_starting", "timeout", "workers"):
        assert name in names
    assert "= 7" in output(server)


@pytest.mark.parametrize(("source", "code"), [(HELLO, 0), ("raise RuntimeError('no')\n", 1), ("", 1)])
def test_check_config(serve, source, code):
    server = serve(source, "--check-config", ready=None)
    assert server.wait_for_exit() == code
    assert "Booting worker" not in server.log


# Environment


def test_web_concurrency(serve):
    server = serve(HELLO, env={"WEB_CONCURRENCY": "3"})
    server.wait_for_workers(3)


def test_workers_flag_wins_over_web_concurrency(serve):
    server = serve(HELLO, "--workers", "2", env={"WEB_CONCURRENCY": "3"})
    server.wait_for_workers(2)


def test_bad_web_concurrency(serve):
    server = serve(HELLO, env={"WEB_CONCURRENCY": "many"}, ready=None)
    assert server.wait_for_exit() == 1
    assert "many" in server.log


def test_port(serve):
    server = serve.new()
    port = server.port
    server.start(app=HELLO, env={"PORT": str(port)}, bind="", ready=None)
    server.bind = f"127.0.0.1:{port}"
    server.wait_until_ready()
    server.wait_for_log(rf"Listening at: http://0\.0\.0\.0:{port} ")


def test_raw_env(serve):
    server = serve(HELLO, "--env", "COLOUR=green=blue", "-e", "OTHER=1")
    assert server.get().text == "green=blue"


# Directories


def test_chdir(serve):
    server = serve.new()
    (server.directory / "elsewhere").mkdir()
    server.write("elsewhere/app.py", HELLO.replace('os.environ.get("COLOUR", "none")', "os.getcwd()"))
    server.start("--chdir", "elsewhere")
    assert server.get().text == str(server.directory / "elsewhere")


def test_pythonpath(serve):
    server = serve.new()
    for name in ("first", "second"):
        (server.directory / name).mkdir()
        server.write(f"{name}/{name}_module.py", f"NAME = '{name}'\n")
    server.start(
        "--pythonpath",
        f"{server.directory}/first,{server.directory}/second",
        app="""
            import first_module, second_module

            def application(environ, start_response):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [(first_module.NAME + second_module.NAME).encode()]
        """,
    )
    assert server.get().text == "firstsecond"


# Titles


def test_process_titles(serve):
    server = serve(HELLO, "--workers", "2")
    kind = server.kind
    expected = sorted([kind.title("master", "app:application"), *[kind.title("worker", "app:application")] * 2])

    def titles() -> list[str]:
        return sorted(process.title for process in server.processes() if "gateway" not in process.title)

    # What was just forked bears its parent's for a moment.
    wait_for(lambda: titles() == expected, what=lambda: str(titles()))


def test_process_name(serve):
    server = serve(HELLO, "--name", "shop")
    assert {process.title for process in server.processes()} >= {
        server.kind.title("master", "shop"),
        server.kind.title("worker", "shop"),
    }


def test_gateway_has_a_title(serve):
    server = serve(HELLO, "--name", "shop")
    titles = [process.title for process in server.processes()]
    assert server.kind.title("gateway", "shop") in titles
    assert len(titles) == 3


def test_title_leaves_the_environment_readable(serve):
    """Overwriting argv must not destroy what the application sees."""
    server = serve(
        """
        import os, sys

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{os.environ['LONG'] == 'x' * 5000} {sys.argv[-1]}".encode()]
        """,
        "--name",
        "n" * 300,
        env={"LONG": "x" * 5000},
    )
    assert server.get().text == "True app:application"


# Start-up lines


def test_first_lines_of_the_log(serve):
    server = serve(HELLO, "--workers", "2")
    lines = [line.split("] ", 2)[-1] for line in server.log.splitlines()]
    stamp = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] "
    assert server.kind.banner == lines[0].removeprefix("[INFO] ")
    server.wait_for_log(stamp + server.kind.banner.replace(".", r"\.") + "$")
    server.wait_for_log(stamp + rf"Listening at: http://127\.0\.0\.1:{server.port} \({server.pid}\)$")
    server.wait_for_log(stamp + r"Using worker: sync$")
    server.wait_for_log(stamp + r"Booting worker with pid: \d+$", count=2)


def test_every_worker_is_announced_with_its_own_pid(serve):
    server = serve(HELLO, "--workers", "2")
    found = server.wait_for_log(r"\[\d+\] \[INFO\] Booting worker with pid: \d+$", count=2)
    said = sorted(int(line.rpartition(" ")[2]) for line in found)
    assert said == server.worker_pids()
    assert all(line.startswith(f"[{line.rpartition(' ')[2]}]") for line in found), "the worker says it itself"


def test_output_is_not_lost_when_it_is_no_terminal(serve, kind):
    """stderr closed altogether must not stop the server."""
    server = serve.new()
    server.write("app.py", HELLO)
    process = subprocess.run(
        [kind.executable, "--check-config", "app"],
        cwd=server.directory,
        env=server.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == 0


def test_environment_of_the_harness_is_not_inherited():
    """The tests mean what they say about the environment only if nothing of ours leaks in."""
    assert "GUNICORN_CMD_ARGS" not in os.environ
    assert socket.gethostbyname("localhost")
