"""Programs with an arbiter of their own, as Airflow's API server has one."""

from __future__ import annotations

import signal

import pytest

from tests.support.server import BOOTED
from tests.support.wait import wait_for

#: An application that says which process serves, run by the arbiter that a test writes.
PROGRAM = """
import os, signal, time
import oxicorn.compat
oxicorn.compat.install()
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

def note_boot(worker):
    with open("BOOTED", "a") as file:
        file.write(f"{worker.pid}\\n")

class Application(BaseApplication):
    def load_config(self):
        options = {"bind": "{bind}", "workers": 2, "graceful_timeout": 5, "post_worker_init": note_boot}
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self):
        return application

    def run(self):
        Own(self).run()

class Own(Arbiter):
BODY

if __name__ == "__main__":
    Application().run()
"""

#: Every worker is replaced in turn, one more than wanted at a time, the oldest first.
ROLLING = """
    def __init__(self, app):
        super().__init__(app)
        self.to_replace = None

    def manage_workers(self):
        super().manage_workers()
        if self.to_replace is None and len(self.WORKERS) == self.num_workers and os.path.exists("refresh"):
            self.to_replace = set(self.WORKERS)
        if self.to_replace:
            self.refresh()

    def refresh(self):
        self.to_replace &= set(self.WORKERS)
        if len(self.WORKERS) <= self.num_workers:
            if self.to_replace:
                self.spawn_worker()
            return
        oldest = min((self.WORKERS[pid].age, pid) for pid in self.WORKERS)[1]
        if oldest in self.to_replace:
            self.to_replace.discard(oldest)
            self.kill_worker(oldest, signal.SIGTERM)
"""


@pytest.fixture
def run(program, kind):
    def start(body):
        if kind.is_gunicorn:
            pytest.skip("what Gunicorn's own arbiter does in these programs is what oxicorn's is made after")
        server = program(PROGRAM.replace("BODY", body).replace("BOOTED", BOOTED))
        server.wait_until_ready()
        server.wait_until_booted(2)
        return server

    return start


def test_a_rolling_refresh_replaces_every_worker(run):
    server = run(ROLLING)
    old = server.worker_pids()
    (server.directory / "refresh").touch()
    new = wait_for(
        lambda: len(pids := server.worker_pids()) == 2 and not set(pids) & set(old) and pids,
        20,
        lambda: f"two new workers instead of {old}:\n{server.log}",
    )
    assert int(server.get().text) in new
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_manage_workers_is_called_each_second_and_when_something_changed(run):
    server = run(
        """
    def manage_workers(self):
        with open("calls", "a") as file:
            file.write(f"{len(self.WORKERS)}\\n")
"""
    )
    before = len(server.lines("calls"))
    wait_for(lambda: len(server.lines("calls")) >= before + 2, 10, "two further calls while nothing happens")
    server.kill(signal.SIGTTIN)
    wait_for(lambda: server.lines("calls")[-1:] == ["3"], 10, "a call that sees the third worker")


def test_hup_may_mean_a_stop(run):
    server = run("    def handle_hup(self):\n        self.log.info('no reloads here')\n        self.handle_term()\n")
    assert server.stop(signal.SIGHUP) == 0
    assert "no reloads here" in server.log
    assert "Handling signal: term" in server.log


@pytest.mark.parametrize("how", ["raise StopIteration", "self.stop(); raise StopIteration", "self.stop()"])
def test_a_handler_that_ends_the_server(run, how):
    server = run(f"    def handle_usr2(self):\n        {how}\n")
    assert server.stop(signal.SIGUSR2) == 0
    assert "Quick shutdown" not in server.log


def test_what_reload_and_stop_call_and_in_which_order(run):
    server = run(
        """
    def say(self, what):
        with open("said", "a") as file:
            file.write(what + "\\n")

    def setup(self, app):
        super().setup(app)
        self.say(f"setup {self.num_workers}")

    def init_signals(self):
        super().init_signals()
        self.say("init_signals")

    def reload(self):
        self.say("reload")
        super().reload()

    def stop(self, graceful=True):
        self.say(f"stop {graceful}")
        super().stop(graceful)

    def kill_worker(self, pid, sig):
        self.say(f"kill {signal.Signals(sig).name}")
        super().kill_worker(pid, sig)
"""
    )
    assert server.lines("said") == ["setup 0", "init_signals"]
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    wait_for(lambda: not set(old) & set(server.worker_pids()), what="the end of the old workers")
    said = server.lines("said")
    assert said[2:4] == ["reload", "setup 2"]
    assert set(said[4:]) == {"kill SIGTERM"}
    server.stop()
    assert "stop True" in server.lines("said")


def test_stop_is_called_where_nobody_asked_for_the_end(program, kind):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's own")
    body = "    def stop(self, graceful=True):\n        print('stop', graceful, flush=True)\n"
    text = PROGRAM.replace("BODY", body).replace("return application", "raise ValueError('no application')")
    server = program(text)
    assert server.wait_for_exit() == 3
    assert server.lines("stdout.log") == ["stop True"]


def test_what_a_handler_raises_is_logged(run):
    server = run("    def handle_usr2(self):\n        raise ValueError('a slip')\n")
    server.kill(signal.SIGUSR2)
    server.wait_for_log("ValueError: a slip")
    assert server.get().status == 200


@pytest.mark.parametrize("name", ["spawn_worker", "murder_workers", "reap_workers", "handle_chld"])
def test_what_nobody_would_call_is_refused_by_name(program, kind, name):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's own")
    server = program(PROGRAM.replace("BODY", f"    def {name}(self):\n        return super().{name}()\n"))
    assert server.wait_for_exit() == 1
    assert f"Own.{name} is never called by oxicorn. Use " in server.log


def test_reload_of_an_application_is_called(program, kind):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's own")
    body = "    pass\n"
    own = """
    def reload(self):
        super().reload()
        if os.path.exists("bad"):
            raise SystemExit("bad settings")
        self.cfg.set("workers", 3)
"""
    text = PROGRAM.replace("BODY", body).replace("    def load(self):", f"{own}\n    def load(self):")
    server = program(text)
    server.wait_until_ready()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(3)
    (server.directory / "bad").touch()
    server.kill(signal.SIGHUP)
    server.wait_for_log("Reload refused, the old settings stay: the application's reload\\(\\) ended with")
    assert server.get().status == 200


def test_settings_as_airflow_sets_them(program, kind):
    """An empty `forwarded_allow_ips`, and a `config` that a BaseApplication never reads."""
    text = PROGRAM.replace("BODY", "    pass\n").replace(
        '"graceful_timeout": 5', '"forwarded_allow_ips": "", "config": "python:no.such.module", "keepalive": 120'
    )
    server = program(text)
    server.wait_until_ready()
