"""Servers from within a Python program, by Gunicorn's classes."""

from __future__ import annotations

import json
import signal

import pytest

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["wsgi.multiprocess"]).encode()]
"""

#: As the page "Custom Application" of Gunicorn's documentation does it.
STANDALONE = (
    """
import PACKAGE.app.base
"""
    + APPLICATION
    + """
class Standalone(PACKAGE.app.base.BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        config = {
            key: value for key, value in self.options.items()
            if key in self.cfg.settings and value is not None
        }
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        return self.application

if __name__ == "__main__":
    Standalone(application, {"bind": "{bind}", "workers": 2, "unknown": 1, "pidfile": None}).run()
"""
)


def source(kind, text: str) -> str:
    return text.replace("PACKAGE", kind.name)


def test_standalone_application(program, kind):
    server = program(source(kind, STANDALONE))
    server.wait_until_ready()
    assert server.get().text == "True"
    assert len(server.wait_for_workers(2)) == 2
    assert server.stop(signal.SIGTERM) == 0


def test_standalone_application_reloads_its_settings(program, kind):
    server = program(source(kind, STANDALONE))
    server.wait_until_ready()
    old = server.wait_for_workers(2)
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    assert server.get().text == "True"


def test_command_line_is_not_read_by_a_standalone_application(program, kind):
    server = program(source(kind, STANDALONE), "--workers", "1", "--no-such-flag", env={"GUNICORN_CMD_ARGS": "-w 1"})
    server.wait_until_ready()
    server.wait_for_workers(2)


@pytest.mark.parametrize(
    ("options", "said"),
    [('{"workers": "many"}', "Invalid value for workers: 'many'"), ('{"bind": 5}', "Invalid value for bind: 5")],
)
def test_refused_setting_of_a_program(program, kind, options, said):
    text = source(kind, STANDALONE).replace('{"bind": "{bind}", "workers": 2, "unknown": 1, "pidfile": None}', options)
    server = program(text)
    assert server.wait_for_exit() == 1
    assert f"Error: {said} (the program that runs the server): must be" in server.log
    assert "Traceback" not in server.log


APPLICATION_CLASS = (
    """
from PACKAGE.app.base import Application
"""
    + APPLICATION
    + """
class Program(Application):
    def init(self, parser, opts, args):
        print("init", args, opts.threads, opts.bind, parser.prog, flush=True)
        if len(args) != 1:
            parser.error("one thing to serve")
        self.thing = args[0]
        return {"bind": "{bind}", "WORKERS": 2}

    def load(self):
        print("load", self.thing, flush=True)
        return application

if __name__ == "__main__":
    Program("%(prog)s [OPTIONS] THING", prog="things").run()
"""
)


def test_application_gets_its_own_settings_and_the_command_line(program, kind):
    server = program(source(kind, APPLICATION_CLASS), "--threads", "3", "shop")
    server.wait_until_ready()
    server.wait_for_workers(2)
    server.wait_for_log("Using worker: gthread")
    lines = server.lines("stdout.log")
    assert lines[0] == "init ['shop'] 3 None things"
    assert "load shop" in lines


def test_command_line_and_config_file_win_over_the_program(program, kind):
    server = program(source(kind, APPLICATION_CLASS), "shop", config="workers = 1\n")
    server.wait_until_ready()
    server.wait_for_workers(1)


@pytest.mark.parametrize(
    ("args", "said"),
    [([], "things: error: one thing to serve"), (["--threads", "x"], "things: error: argument --threads: invalid int")],
)
def test_errors_of_the_command_line_name_the_program(program, kind, args, said):
    server = program(source(kind, APPLICATION_CLASS), *args)
    assert server.wait_for_exit() == 2
    assert said in server.log
    assert "usage: things [OPTIONS] " in server.log


def test_wsgi_application_of_a_program(program, kind):
    """Subclasses of WSGIApplication bring their own settings and load what the command line names."""
    text = """
        from PACKAGE.app.wsgiapp import WSGIApplication

        class Program(WSGIApplication):
            def __init__(self, app_uri, options):
                self.options = options
                self.app_uri = app_uri
                super().__init__()

            def load_config(self):
                for key, value in self.options.items():
                    self.cfg.set(key, value)

        if __name__ == "__main__":
            Program("module:application", {"bind": "{bind}"}).run()
    """
    server = program(source(kind, text), app=APPLICATION)
    server.kill(signal.SIGKILL)
    server.wait_for_exit()
    server.write("module.py", APPLICATION)
    server.spawn({})
    server.wait_until_ready()
    assert server.get().text == "False"


def test_run_with_arguments_put_into_argv(program, kind):
    """What many projects' entry points do."""
    text = """
        import sys
        from PACKAGE.app.wsgiapp import run

        sys.argv = ["shop", "--bind", "{bind}", "--workers", "2", "app:application"]
        sys.exit(run(prog="shop"))
    """
    server = program(source(kind, text), app=APPLICATION)
    server.wait_until_ready()
    assert server.get().text == "True"


def test_settings_may_be_changed_after_loading(program, kind):
    """``super().load_config()``, then ``cfg.set``: the last word is the program's."""
    text = """
        from PACKAGE.app.wsgiapp import WSGIApplication

        class Program(WSGIApplication):
            def load_config(self):
                super().load_config()
                self.cfg.set("workers", self.cfg.workers + 1)
                self.cfg.set("bind", ["{bind}"])

        if __name__ == "__main__":
            Program().run()
    """
    server = program(source(kind, text), "--workers", "2", "app:application", app=APPLICATION)
    server.wait_until_ready()
    server.wait_for_workers(3)


CONFIG_API = """
import json, os, sys
from PACKAGE.config import Config, get_default_config_file, make_settings

os.environ["SENDFILE"] = "no"
cfg = Config("%(prog)s [OPTIONS]", prog="things")
for name, value in {
    "bind": ["127.0.0.1:80", "unix:/x", "[::1]:5"], "raw_env": ["A=1=2"], "threads": 2, "certfile": "a.pem",
    "user": 12, "group": 13, "proc_name": None, "default_proc_name": "shop", "ciphers": "X",
    "forwarded_allow_ips": "10.0.0.0/8,*,::1", "raw_paste_global_conf": ["a=b", "c\\\\=d=e"],
    "statsd_host": "localhost:9", "pre_request": lambda worker, req: None,
}.items():
    cfg.set(name, value)
parser = cfg.parser()
args = parser.parse_args(["--workers", "3", "-b", ":1", "--bind", ":2", "-m", "022", "--preload", "--proxy-protocol",
                          "--no-sendfile", "app:app"])
given = {name: value for name, value in vars(args).items() if value is not None}
errors = {}
for name, value in {"workers": -1, "nothing": 1, "when_ready": 5}.items():
    try:
        cfg.set(name, value)
    except (ValueError, TypeError, AttributeError) as error:
        errors[name] = isinstance(error, AttributeError)
try:
    cfg.workers = 3
except AttributeError as error:
    errors["attribute"] = str(error)
try:
    cfg.nothing
except AttributeError as error:
    errors["unknown"] = str(error)
backlog = cfg.settings["backlog"]
print(json.dumps({
    "address": cfg.address, "env": cfg.env, "uid": cfg.uid, "gid": cfg.gid, "proc_name": cfg.proc_name,
    "is_ssl": bool(cfg.is_ssl), "ssl_options": cfg.ssl_options["ciphers"], "sendfile": cfg.sendfile,
    "networks": [str(network) for network in cfg.forwarded_allow_networks()], "reuse_port": cfg.reuse_port,
    "paste": cfg.paste_global_conf, "worker_class_str": cfg.worker_class_str, "statsd": cfg.statsd_host,
    "worker_class": cfg.worker_class.__name__, "given": given, "errors": errors, "prog": parser.prog,
    "setting": [backlog.name, backlog.value, backlog.get(), backlog.default, backlog.section, list(backlog.cli),
                backlog.meta, backlog.validator(12) if hasattr(backlog, "validator") else 12],
    "made": make_settings(ignore=("bind",))["workers"].value, "file": get_default_config_file(),
    "settings": sorted(set(cfg.settings) & {"bind", "workers", "nothing"}), "copied": cfg.env_orig == dict(os.environ),
    "hook": callable(cfg.pre_fork), "arity": cfg.pre_request.__code__.co_argcount,
}))
"""


def test_config_object(program, kind):
    server = program(source(kind, CONFIG_API))
    assert server.wait_for_exit() == 0, server.log
    found = json.loads(server.read("stdout.log"))
    assert found == {
        "address": [["127.0.0.1", 80], "/x", ["::1", 5]],
        "env": {"A": "1=2"},
        "uid": 12,
        "gid": 13,
        "proc_name": "shop",
        "is_ssl": True,
        "ssl_options": "X",
        "sendfile": False,
        "networks": ["10.0.0.0/8", "::1/128"],
        "reuse_port": False,
        "paste": {"a": "b", "c=d": "e"},
        "worker_class_str": "gthread",
        "worker_class": "ThreadWorker",
        "statsd": ["localhost", 9],
        "given": {
            "args": ["app:app"],
            "workers": 3,
            "bind": [":1", ":2"],
            "umask": 18,
            "preload_app": True,
            "proxy_protocol": "auto",
            "sendfile": False,
        },
        "errors": {
            "workers": False,
            "nothing": True,
            "when_ready": False,
            "attribute": "Invalid access!",
            "unknown": "No configuration setting for: nothing",
        },
        "prog": "things",
        "setting": ["backlog", 2048, 2048, 2048, "Server Socket", ["--backlog"], "INT", 12],
        "made": 1,
        "file": None,
        "settings": ["bind", "workers"],
        "copied": True,
        "hook": True,
        "arity": 2,
    }
