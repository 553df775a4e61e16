"""Applications that cannot be loaded: who suffers from it, and who is told what."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from oxicorn.dirty import DirtyClient, DirtyNoWorkersAvailableError
from tests.monitoring.test_control import run
from tests.pool.conftest import HEAVY
from tests.pool.test_deaths import status
from tests.pool.test_life import booted
from tests.support.wait import wait_for

#: What its `init` does lies in a file, so that it can change without a reload.
BROKEN = """
import os
from pathlib import Path

class App:
    workers = 1
    def init(self):
        exec((Path(__file__).parent / "init").read_text())
    def close(self): pass
    def __call__(self, action):
        return os.getpid()
"""
WITH_BROKEN = 'dirty_apps = ["broken:App", "heavy:App"]\ncontrol_socket = "control"\n'


def ctl(pool, *words: str) -> subprocess.CompletedProcess[str]:
    return run("oxicornctl", pool.server, *words)


def asked(pool, *words: str):
    return json.loads(ctl(pool, "--json", *words).stdout)


def failure(pool) -> dict:
    apps = {app["import_path"]: app for app in asked(pool, "show", "dirty")["apps"]}
    assert apps["heavy:App"]["failure"] is None
    return apps["broken:App"]["failure"] or {}


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ("raise OSError('no model')", "OSError: no model"),
        ("import sys; sys.exit(3)", "the application called sys.exit(3)"),
        ("os._exit(7)", "its worker exited with code 7 while it was loaded"),
        ("os.kill(os.getpid(), 11)", "its worker was ended by signal 11 while it was loaded"),
    ],
    ids=["raises", "exits", "_exit", "segfault"],
)
def test_one_that_cannot_be_loaded_takes_no_other_with_it(start, init, reason):
    pool = start(WITH_BROKEN, files={"broken.py": BROKEN, "init": init})
    serving = pool.call("pid")
    wait_for(lambda: failure(pool).get("failures", 0) >= 3)
    found = failure(pool)
    assert found["reason"] == reason
    assert found["retry_in"] <= 10
    # Those that try are others: who serves is left alone.
    assert pool.call("pid") == serving or "kill" in init or "_exit" in init
    assert pool.call("echo", 1) == 1
    text = ctl(pool, "show", "dirty").stdout
    assert f"broken:App cannot be loaded: {reason} (" in text
    assert " times; " in text

    def refusal() -> str | None:
        try:
            DirtyClient(pool.path, timeout=5.0).execute("broken:App", "pid")
        except DirtyNoWorkersAvailableError as error:
            return error.message
        except Exception:
            # It is being tried at the moment, and who calls waits for that.
            return None

    assert wait_for(refusal) == f"No workers available for app: broken:App (it cannot be loaded: {reason})"
    # Nobody has to reload for what was wrong outside.
    pool.server.write("init", "pass")
    wait_for(lambda: not failure(pool))
    assert pool.client.execute("broken:App", "pid") == pool.call("pid")


def test_an_import_that_fails_leaves_the_others_their_workers(start):
    pool = start(WITH_BROKEN + "dirty_workers = 2\n", files={"broken.py": "import nowhere_to_be_found"})
    wait_for(lambda: len(booted(pool)) == 2)
    wait_for(lambda: failure(pool).get("failures", 0) >= 2)
    assert "No module named 'nowhere_to_be_found'" in failure(pool)["reason"]
    assert pool.call("echo", 1) == 1
    # When it can be imported its class says how many workers it wants.
    pool.server.write("broken.py", BROKEN.replace("workers = 1", "workers = 2"))
    pool.server.write("init", "")

    def pids() -> list[int]:
        (app,) = (app for app in status(pool)["apps"] if app["import_path"] == "broken:App")
        return app["worker_pids"]

    wait_for(lambda: len(pids()) == 2, what=lambda: str(pool.server.log))


def test_who_dies_beside_a_broken_one_is_followed_at_once(start):
    config = WITH_BROKEN.replace("heavy:App", "heavy:App:1") + "dirty_workers = 2\n"
    pool = start(config, files={"broken.py": BROKEN, "init": "raise OSError"})
    before = pool.call("pid")
    wait_for(lambda: failure(pool).get("failures", 0) >= 4)
    os.kill(before, signal.SIGKILL)
    assert pool.call("pid") != before


def test_a_reload_says_when_the_pool_has_refused_the_code(start):
    pool = start(WITH_BROKEN, files={"broken.py": BROKEN, "init": ""})
    old = pool.call("pid")
    done = ctl(pool, "reload")
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: pool.call("pid") != old)
    old = pool.call("pid")
    pool.server.write("heavy.py", "raise RuntimeError('broken deploy')")
    done = ctl(pool, "reload")
    reason = "heavy:App cannot be loaded: RuntimeError: broken deploy"
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: the reload was refused by the pool of heavy applications: {reason}. HTTP workers have the new code\n"
    )
    done = ctl(pool, "--json", "reload")
    outcome = json.loads(done.stdout)
    assert done.returncode == 1
    assert (outcome["status"], outcome["generation"], outcome["dirty"]) == (
        "failed",
        4,
        {"status": "failed", "generation": 2, "error": reason},
    )
    assert (pool.call("pid"), pool.call("version")) == (old, 1)
    # What fails already where it serves keeps the rest of a reload from nobody.
    pool.server.write("heavy.py", HEAVY.replace("VERSION = 1", "VERSION = 2"))
    pool.server.write("init", "raise OSError('gone')")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: failure(pool))
    done = ctl(pool, "reload")
    assert "broken:App cannot be loaded: OSError: gone" in done.stderr
    wait_for(lambda: pool.call("version") == 2)


def test_a_pool_that_a_reload_makes_says_so_too(start):
    pool = start(WITH_BROKEN, files={"broken.py": BROKEN, "init": ""})
    socket = 'control_socket = "control"\n'
    pool.server.write("gunicorn.conf.py", socket)
    assert ctl(pool, "reload").returncode == 0
    wait_for(lambda: not pool.server.pids("dirty-arbiter") and not pool.workers)
    pool.server.write("init", "raise OSError('no model')")
    pool.server.write("gunicorn.conf.py", socket + 'dirty_apps = ["broken:App"]\ndirty_workers = 1\n')
    done = ctl(pool, "reload")
    assert done.returncode == 1
    assert "broken:App cannot be loaded: OSError: no model" in done.stderr


def test_orders_count_by_what_the_applications_want(start):
    config = WITH_BROKEN.replace("heavy:App", "heavy:App:2") + "dirty_workers = 2\n"
    pool = start(config, files={"broken.py": BROKEN, "init": ""})
    wait_for(lambda: len(booted(pool)) == 2)
    # broken:App wants one, heavy:App two.
    assert ctl(pool, "dirty", "add", "5").stdout == (
        "added 1; dirty workers wanted: 3 (the applications want 3 workers in all: others would have none)\n"
    )
    wait_for(lambda: len(booted(pool)) == 3)
    done = asked(pool, "dirty", "add")
    assert (done["spawned"], done["target_workers"], done["requested"]) == (0, 3, 1)
    done = asked(pool, "dirty", "remove", "5")
    assert (done["removed"], done["target_workers"]) == (1, 2)
    assert "reason" in done
    wait_for(lambda: len(booted(pool)) == 2)
    assert ctl(pool, "worker", "add", "1").stdout == "added 1; workers wanted: 2 (before: 1)\n"
    assert ctl(pool, "worker", "remove").stdout == "removed 1; workers wanted: 1 (before: 2)\n"


@pytest.mark.parametrize(
    ("spec", "heavy", "expected"),
    [
        ("heavy:App", HEAVY, ""),
        ("heavy:Missing", HEAVY, "heavy:Missing cannot be loaded: Dirty app not found: heavy:Missing"),
        ("nowhere:App", HEAVY, "nowhere:App cannot be loaded: Dirty app not found: nowhere:App"),
        ("heavy:App", "import nowhere", "heavy:App cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
        ("heavy:App", "class App: pass", "heavy:App cannot be loaded: heavy:App is missing required method: init"),
        ("heavy:App", "App = 1", "heavy:App cannot be loaded: heavy:App is not a class"),
        ("heavy:App", "import os; os._exit(5)", "heavy:App cannot be loaded: it ended the process with code 5"),
        ("heavy:App:x", HEAVY, "Invalid value for dirty_apps: Invalid worker count in spec: heavy:App:x"),
    ],
)
def test_check_config_looks_at_them(serve, spec, heavy, expected):
    server = serve.new()
    server.write("heavy.py", heavy)
    app = "def application(environ, start_response): pass"
    server.start("--check-config", app=app, config=f'dirty_apps = ["{spec}"]\ndirty_workers = 1\n', ready=None)
    assert server.wait_for_exit() == (1 if expected else 0)
    assert expected in server.log
