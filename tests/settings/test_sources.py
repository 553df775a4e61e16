"""Where settings come from: who wins, in which forms, and what a refusal says about the place."""

from __future__ import annotations

import py_compile
import re
import signal

import pytest

from tests.support.wait import wait_for

HELLO = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [os.environ.get("COLOUR", "none").encode()]
"""


def settings_of(server) -> dict[str, str]:
    """What ``--print-config`` said."""
    assert server.wait_for_exit() == 0, server.log
    pairs = (line.split("=", 1) for line in server.lines("stdout.log") if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def refusals(server) -> list[str]:
    assert server.wait_for_exit() == 1
    assert "Traceback" not in server.log
    return [line for line in server.log.splitlines() if line]


# Precedence

SOURCES = ("default", "framework", "file", "gunicorn arguments", "own arguments", "line")
PROGRAM = """
    import sys
    from {package}.app.base import Application

    class Program(Application):
        def init(self, parser, opts, args):
            return {{"threads": 11}} if {framework} else None

        def load(self):
            return lambda environ, start_response: []

    Program().run()
"""


@pytest.mark.parametrize("highest", range(len(SOURCES)), ids=SOURCES)
def test_higher_sources_win(serve, kind, highest):
    """defaults < framework < config file < GUNICORN_CMD_ARGS < OXICORN_CMD_ARGS < command line."""
    server = serve.new()
    program = server.write("program.py", PROGRAM.format(package=kind.name, framework=highest >= 1))
    config = "threads = 12\n" if highest >= 2 else ""
    env = {}
    if highest >= 3:
        env["GUNICORN_CMD_ARGS"] = "--threads 13"
    if highest >= 4:
        env["OXICORN_CMD_ARGS"] = "--threads=14"
    line = ["--threads", "15"] if highest >= 5 else []
    server.start(
        "--print-config",
        *line,
        command=[*kind.module_command[:1], str(program)],
        config=config,
        env=env,
        bind="",
        spec=None,
        ready=None,
    )
    assert settings_of(server)["threads"] == str([1, 11, 12, 13, 14, 15][highest])


def test_lists_replace_each_other(serve):
    server = serve(
        HELLO,
        "--print-config",
        "--env=LINE=1",
        config="raw_env = ['FILE=1', 'FILE=2']\nbind = [':1', ':2']\n",
        env={"GUNICORN_CMD_ARGS": "--env ENVIRONMENT=1 --bind :3 --bind :4"},
        bind="",
        ready=None,
    )
    found = settings_of(server)
    assert found["raw_env"] == "['LINE=1']"
    assert found["bind"] == "[':3', ':4']"


def test_arguments_of_the_environment_are_split_as_a_shell_does(serve):
    arguments = '--name \'a shop\' --access-logformat "%(h)s \\"%(r)s\\""'
    found = settings_of(
        serve(HELLO, "--print-config", env={"GUNICORN_CMD_ARGS": arguments}, ready=None),
    )
    assert (found["proc_name"], found["access_log_format"]) == ("a shop", '%(h)s "%(r)s"')


def test_config_file_named_by_the_environment(serve):
    server = serve.new()
    server.write("other.py", "raw_env = ['COLOUR=blue']\n")
    server.start(app=HELLO, env={"GUNICORN_CMD_ARGS": "-c other.py"}, config="raw_env = ['COLOUR=red']\n")
    assert server.get().text == "blue"


@pytest.mark.parametrize("location", ["sub/settings.py", "file:sub/settings.py", "python:sub.settings"])
def test_forms_of_the_config_file(serve, location):
    server = serve.new()
    (server.directory / "sub").mkdir()
    server.write("sub/__init__.py", "")
    server.write("sub/settings.py", "import helper\nraw_env = [helper.ENTRY]\n")
    server.write("helper.py", "ENTRY = 'COLOUR=' + __name__\n")
    server.start("-c", location, app=HELLO)
    assert server.get().text == "helper"


def test_config_file_of_another_extension(serve):
    server = serve.new()
    server.write("gunicorn.cfg", "raw_env = ['COLOUR=red']\n")
    server.start("-c", "gunicorn.cfg", app=HELLO)
    assert server.get().text == "red"
    assert re.search("(?i)warning", server.log)


def test_compiled_config_file(serve):
    server = serve.new()
    source = server.write("settings.py", "raw_env = ['COLOUR=red']\n")
    py_compile.compile(str(source), cfile=str(server.directory / "settings.pyc"))
    source.unlink()
    server.start("-c", "settings.pyc", app=HELLO)
    assert server.get().text == "red"


def test_reload_reads_a_relative_config_file_again_despite_chdir(serve):
    server = serve.new()
    (server.directory / "elsewhere").mkdir()
    server.write("settings.py", "raw_env = ['COLOUR=red']\n")
    server.write("elsewhere/app.py", HELLO)
    server.start("-c", "settings.py", "--chdir", "elsewhere")
    old = server.worker_pids()
    server.write("settings.py", "raw_env = ['COLOUR=blue']\n")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get().text == "blue"


def test_reload_reads_a_config_module_again(serve):
    server = serve.new()
    server.write("settings.py", "raw_env = ['COLOUR=red']\n")
    server.start("-c", "python:settings", app=HELLO)
    old = server.worker_pids()
    server.write("settings.py", "raw_env = ['COLOUR=blue']\n")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get().text == "blue"


# Command line


@pytest.mark.parametrize(
    ("args", "name", "value"),
    [
        (["--worker-cl", "gthread"], "worker_class", "gthread"),
        (["--bin=:1"], "bind", "[':1']"),
        (["--keep", "7"], "keepalive", "7"),
        (["--pre"], "preload_app", "True"),
        (["--no-send"], "sendfile", "False"),
        (["--limit-request-field_", "10"], "limit_request_field_size", "10"),
        (["-w3"], "workers", "3"),
        (["-m", "022"], "umask", "18"),
        (["--log-file", "x.log"], "errorlog", "x.log"),
    ],
)
def test_flags_as_argparse_accepts_them(serve, args, name, value):
    server = serve(HELLO, *args, "--print-config", bind="", ready=None)
    assert settings_of(server)[name] == value


def test_ambiguous_abbreviation(serve):
    server = serve(HELLO, "--work", "3", ready=None)
    assert server.wait_for_exit() == 2
    assert "ambiguous option: --work could match --worker" in server.log


# Refusals

#: The setting whose value is refused, the value as Python writes it, the flag that says the same.
REFUSED = [
    ("workers", "-1", "--workers=-1"),
    ("header_map", "'maybe'", "--header-map=maybe"),
    ("forwarded_allow_ips", "'10.0.0.1/24'", "--forwarded-allow-ips=10.0.0.1/24"),
    ("reload_extra_files", "['nowhere.txt']", "--reload-extra-file=nowhere.txt"),
    ("bind", "['127.0.0.1:port']", "--bind=127.0.0.1:port"),
    ("raw_env", "['COLOUR']", "--env=COLOUR"),
]


@pytest.mark.parametrize(("name", "value", "flag"), REFUSED)
def test_refusal_names_the_line_of_the_config_file(serve, name, value, flag):
    config = f"import os\n\nworkers = 2\n\nif os:\n    {name} = {value}\n"
    server = serve(HELLO, config=config, bind="", ready=None)
    (line,) = refusals(server)
    path = server.directory / "gunicorn.conf.py"
    assert line.startswith(f"Error: Invalid value for {name}: {value} ({path}, line 6): must ")


@pytest.mark.parametrize(("name", "value", "flag"), REFUSED)
def test_refusal_names_the_flag(serve, name, value, flag):
    (line,) = refusals(serve(HELLO, flag, bind="", ready=None))
    assert line.startswith(f"Error: Invalid value for {name}: {value} (command line, {flag.partition('=')[0]}): must ")


@pytest.mark.parametrize("variable", ["GUNICORN_CMD_ARGS", "OXICORN_CMD_ARGS"])
@pytest.mark.parametrize(("name", "value", "flag"), REFUSED)
def test_refusal_names_the_variable(serve, name, value, flag, variable):
    (line,) = refusals(serve(HELLO, bind="", env={variable: flag}, ready=None))
    assert line.startswith(f"Error: Invalid value for {name}: {value} (environment variable {variable}): must ")


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [("WEB_CONCURRENCY", "many", "workers"), ("PORT", "http", "bind"), ("FORWARDED_ALLOW_IPS", "10.0.0.1/24", "")],
)
def test_refusal_names_the_variable_of_a_default(serve, variable, value, setting):
    (line,) = refusals(serve(HELLO, bind="", env={variable: value}, ready=None))
    assert re.match(rf"Error: Invalid value for {setting}.*{value}.* \(environment variable {variable}\): must ", line)


@pytest.mark.parametrize(
    ("config", "line", "said"),
    [
        ("from os import path as workers\n", 1, "an object"),
        ("workers = 1\nworkers = -1\n", 2, "-1"),
        ("for workers in (1, -1):\n    pass\n", 1, "-1"),
        ("def pre_fork(worker):\n    pass\n", 1, "a function or class"),
        ("\n@staticmethod\ndef on_exit(one, two): pass\n", 3, "a function or class"),
        ("pre_fork = 'os.no_such_thing'\n", 1, "'os.no_such_thing'"),
        ("pre_fork = 'nowhere'\n", 1, "'nowhere'"),
        ("workers: int = -1\n", 1, "-1"),
        ("(workers := -1)\n", 1, "-1"),
        ("workers = -1; timeout = 3\ndef f():\n    workers = 3\n", 1, "-1"),
    ],
)
def test_line_of_every_kind_of_assignment(serve, config, line, said):
    server = serve(HELLO, config=config, ready=None)
    (refusal,) = refusals(server)
    assert f": {said} ({server.directory / 'gunicorn.conf.py'}, line {line}): " in refusal


@pytest.mark.parametrize("location", ["file:other.py", "python:other"])
def test_refusal_names_the_config_file_as_it_was_named(serve, location):
    server = serve.new()
    server.write("other.py", "\nworkers = 'many'\n")
    server.start("-c", location, app=HELLO, ready=None)
    (line,) = refusals(server)
    assert line == f"Error: Invalid value for workers: 'many' ({location}, line 2): must be an integer from 0 to 4096"


def test_what_is_not_available_names_the_line(serve):
    server = serve(HELLO, config="\n\nworker_class = 'gaiohttp'\n", ready=None)
    (line,) = refusals(server)
    assert re.search(r"worker_class \(.*gunicorn\.conf\.py, line 3\): .* is not available", line)


# Config files that fail


@pytest.mark.parametrize("location", ["gunicorn.conf.py", "python:settings"])
@pytest.mark.parametrize("broken", ["raise RuntimeError('in the file')", "def broken(:", "import no_such_module"])
def test_config_file_that_raises_shows_its_traceback_once(serve, location, broken):
    server = serve.new()
    name = "settings.py" if location.startswith("python:") else location
    server.write(name, f"workers = 1\n{broken}\n")
    server.start("-c", location, app=HELLO, ready=None)
    assert server.wait_for_exit() == 1
    # Nobody raises a syntax error: its file and line are all there is to show.
    assert server.log.count("Traceback") == 1 or "def broken" in broken
    assert f"Failed to read config file: {location}" in server.log
    assert f"{name}" in server.log
    assert "line 2" in server.log


def test_reload_with_a_refused_value_keeps_the_settings_and_logs_one_line(serve):
    server = serve(HELLO, config="raw_env = ['COLOUR=red']\n")
    old = server.worker_pids()
    server.write("gunicorn.conf.py", "raw_env = ['COLOUR=blue']\nworkers = 'many'\n")
    server.kill(signal.SIGHUP)
    path = server.directory / "gunicorn.conf.py"
    text = f"Invalid value for workers: 'many' ({path}, line 2): must be an integer from 0 to 4096"
    server.wait_for_log(r"\[ERROR\] Reload refused, the old settings stay: " + re.escape(text))
    assert "Traceback" not in server.log
    assert server.worker_pids() == old
    assert server.get().text == "red"


def test_reload_of_a_config_file_that_raises_logs_its_traceback_once(serve):
    server = serve(HELLO, "--error-logfile", "error.log", config="raw_env = ['COLOUR=red']\n")
    server.write("gunicorn.conf.py", "raise RuntimeError('in the file')\n")
    server.kill(signal.SIGHUP)
    wait_for(lambda: "RuntimeError: in the file" in server.read("error.log"))
    assert server.read("error.log").count("Traceback") == 1
    assert "Traceback" not in server.log
    assert server.get().text == "red"


# Names that are no settings


def test_misspelled_names_get_a_warning_with_the_nearest_name(serve):
    config = "import os as wrokers\n\nworker = 3\nkeep_alive = 5\n\ndef time_outs(): pass\n\nDEBUG = True\ncores = 4\n"
    server = serve(HELLO, config=config)
    warnings = [line for line in server.log.splitlines() if line.startswith("Warning: ")]
    path = server.directory / "gunicorn.conf.py"
    assert warnings == [
        f"Warning: {path}, line 3: 'worker' is not a setting and has no effect; did you mean 'workers'?",
        f"Warning: {path}, line 4: 'keep_alive' is not a setting and has no effect; did you mean 'keepalive'?",
    ]
    assert server.get().text == "none"
