"""Start, hooks, reload, scaling and stop of the pool."""

from __future__ import annotations

import os
import signal

import pytest

from oxicorn.dirty import DirtyConnectionError
from tests.pool.conftest import HEAVY
from tests.pool.test_deaths import Calling, status
from tests.support.load import Load
from tests.support.processes import is_alive
from tests.support.wait import wait_for

HOOKS = """
import os
def write(*words):
    with open("hooks", "a") as file:
        print(*words, os.getpid(), file=file)
def on_dirty_starting(arbiter):
    write("starting", arbiter.num_workers, bool(arbiter.cfg), bool(arbiter.log), arbiter.socket_path != "")
def dirty_post_fork(arbiter, worker):
    write("post_fork", worker.age, worker.pid, worker.pid in arbiter.workers)
def dirty_worker_init(worker):
    write("init", worker.age, worker.pid, *worker.app_paths, *(type(app).__name__ for app in worker.apps.values()))
def dirty_worker_exit(arbiter, worker):
    write("exit", worker.age, worker.pid)
"""


def booted(pool) -> list[int]:
    """The pids of workers that can be called."""
    return [worker["pid"] for worker in status(pool)["workers"] if worker["state"] == "ready"]


def test_hooks_have_gunicorns_arguments(start):
    pool = start(HOOKS)
    worker = pool.call("pid")
    arbiter = pool.server.pid
    lines = wait_for(lambda: len(pool.server.lines("hooks")) >= 3 and sorted(pool.server.lines("hooks")))
    assert lines == [
        f"init 1 {worker} heavy:App App {worker}",
        f"post_fork 1 {worker} True {arbiter}",
        f"starting 1 True True True {arbiter}",
    ]
    assert pool.server.stop() == 0
    assert pool.server.lines("hooks")[3:] == [f"exit 1 {worker} {arbiter}"]


def test_an_exception_in_a_hook_is_logged_and_harms_nobody(start):
    pool = start("def on_dirty_starting(arbiter): raise RuntimeError('mine')\n")
    pool.server.wait_for_log("Exception in hook on_dirty_starting")
    assert pool.call("echo", 1) == 1


def test_requests_call_the_pool(serve):
    server = serve.new()
    server.write("heavy.py", HEAVY)
    app = """
        from gunicorn.dirty import get_dirty_client, stash
        def application(environ, start_response):
            number = stash.increment("requests", "count")
            value = get_dirty_client().execute("heavy:App", "echo", number)
            start_response("200 OK", [])
            return [str(value).encode()]
    """
    server.start("--dirty-app", "heavy:App", "--dirty-workers", "1", app=app)
    first = int(server.get().text)
    assert [int(server.get().text) for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_a_reload_loads_new_code_and_calls_in_hand_finish_in_the_old(start):
    pool = start()
    old = pool.call("pid")
    assert pool.call("version") == 1
    call = Calling(lambda: pool.call("wait"))
    pool.wait_for_begun(1)
    pool.server.write("heavy.py", HEAVY.replace("VERSION = 1", "VERSION = 2"))
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: booted(pool) not in ([], [old]))
    assert pool.call("version") == 2
    assert is_alive(old)
    pool.open_gate()
    assert call.ended().result == old
    wait_for(lambda: not is_alive(old))


def test_new_code_that_cannot_be_loaded_leaves_the_old_in_place(start):
    pool = start()
    old = pool.call("pid")
    pool.server.write("heavy.py", "raise RuntimeError('broken deploy')")
    pool.server.kill(signal.SIGHUP)
    pool.server.wait_for_log("Dirty workers were not reloaded, the old ones go on")
    assert (pool.call("pid"), pool.call("version")) == (old, 1)


def test_no_call_is_lost_in_reloads_and_deaths_of_idle_workers(serve):
    server = serve.new()
    server.write("heavy.py", HEAVY)
    app = """
        from gunicorn.dirty import get_dirty_client
        def application(environ, start_response):
            value = get_dirty_client().execute("heavy:App", "echo", b"echo")
            start_response("200 OK", [])
            return [value]
    """
    config = 'dirty_apps = ["heavy:App"]\ndirty_workers = 2\nthreads = 4\n'
    server.start(app=app, config=config)
    with Load(server.address, clients=6) as load:
        for _ in range(10):
            before = set(server.pids("dirty-worker"))
            server.kill(signal.SIGHUP)
            wait_for(lambda before=before: len(now := set(server.pids("dirty-worker"))) == 2 and not now & before)
            load.wait_for_answers(20)
    load.assert_flawless(at_least=200)


def test_settings_of_a_reload_are_the_pools(start):
    pool = start()
    pool.server.write("gunicorn.conf.py", 'dirty_apps = ["heavy:Two", "heavy:App"]\ndirty_workers = 3\n')
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: len(booted(pool)) == 3)
    pids = {pool.client.execute("heavy:Two", "x")[1] for _ in range(20)}
    assert len(pids) <= 2
    pool.server.write("gunicorn.conf.py", 'dirty_apps = ["heavy:App:x"]\ndirty_workers = 3\n')
    pool.server.kill(signal.SIGHUP)
    pool.server.wait_for_log(r"Reload refused.*Invalid worker count in spec: heavy:App:x")
    assert pool.call("echo", 1) == 1


def test_a_pool_comes_and_goes_with_reloads(start):
    pool = start()
    pool.server.write("gunicorn.conf.py", "")
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: not pool.server.pids("dirty-arbiter") and not pool.workers)
    with pytest.raises(DirtyConnectionError):
        pool.call("echo", 1)
    pool.server.write("gunicorn.conf.py", 'dirty_apps = ["heavy:App"]\ndirty_workers = 1\n')
    pool.server.kill(signal.SIGHUP)
    wait_for(lambda: pool.workers)


@pytest.mark.parametrize("spec", ["heavy", "heavy:App:0", "heavy:App:x", ":App", "a:b:c:d"])
def test_specs_that_make_no_sense_stop_the_start(serve, spec):
    config = f'dirty_apps = ["{spec}"]\ndirty_workers = 1\n'
    server = serve.new().start(app="", config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert "Invalid value for dirty_apps: Invalid" in server.log


def test_applications_have_as_many_workers_as_they_want(start):
    config = 'dirty_apps = ["heavy:App:1", "heavy:Two"]\ndirty_workers = 3\n'
    pool = start(config)
    wait_for(lambda: len(booted(pool)) == 3)
    by_app = {app["import_path"]: app["worker_pids"] for app in status(pool)["apps"]}
    assert (len(by_app["heavy:App"]), len(by_app["heavy:Two"])) == (1, 2)
    # Who dies is followed by one with the same applications.
    (only,) = by_app["heavy:App"]
    os.kill(only, signal.SIGKILL)
    assert pool.call("pid") != only


def test_workers_are_added_and_removed_by_signals(start):
    pool = start('dirty_apps = ["heavy:App", "heavy:Two"]\ndirty_workers = 2\n')
    os.kill(pool.broker, signal.SIGTTIN)
    wait_for(lambda: len(booted(pool)) == 3)
    # One after the other: of several that wait for a process it gets one.
    os.kill(pool.broker, signal.SIGTTOU)
    wait_for(lambda: len(booted(pool)) == len(pool.workers) == 2)
    os.kill(pool.broker, signal.SIGTTOU)
    pool.server.wait_for_log(r"Cannot decrease below 2 dirty workers")
    assert len(booted(pool)) == len(pool.workers) == 2
    assert len(pool.server.worker_pids()) == 1


def test_term_at_a_worker_replaces_it_when_its_calls_have_ended(start):
    pool = start()
    old = pool.call("pid")
    call = Calling(lambda: pool.call("wait"))
    pool.wait_for_begun(1)
    os.kill(old, signal.SIGTERM)
    wait_for(lambda: booted(pool) not in ([], [old]))
    assert pool.call("pid") != old
    pool.open_gate()
    assert call.ended().result == old
    wait_for(lambda: not is_alive(old))


def test_term_at_the_broker_replaces_the_workers(start):
    pool = start()
    old = pool.call("pid")
    os.kill(pool.broker, signal.SIGTERM)
    wait_for(lambda: booted(pool) not in ([], [old]))
    assert pool.call("pid") != old


def test_log_files_are_opened_anew_by_workers_too(start):
    pool = start('errorlog = "error.log"\n', ready="/")
    before = pool.server.directory / "before.log"
    (pool.server.directory / "error.log").rename(before)
    pool.server.kill(signal.SIGUSR1)
    wait_for(lambda: (pool.server.directory / "error.log").exists())
    with pytest.raises(Exception, match="again"):
        pool.call("fail", "again")
    wait_for(lambda: "Error executing heavy:App.fail" in pool.server.read("error.log"))


def test_a_stop_lets_requests_finish_their_calls(serve):
    server = serve.new()
    server.write("heavy.py", HEAVY)
    app = """
        from gunicorn.dirty import get_dirty_client
        def application(environ, start_response):
            value = "ready"
            if environ["PATH_INFO"] == "/wait":
                value = get_dirty_client().execute("heavy:App", "wait")
            start_response("200 OK", [])
            return [str(value).encode()]
    """
    server.start(app=app, config='dirty_apps = ["heavy:App"]\ndirty_workers = 1\n')
    with server.connect() as peer:
        peer.send(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_for(lambda: server.lines("begun"))
        server.kill(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        (server.directory / "gate").touch()
        assert peer.answer().status == 200
    assert server.wait_for_exit() == 0
    assert not server.processes()


def test_a_quick_stop_waits_for_no_call(start):
    pool = start()
    call = Calling(lambda: pool.call("wait"))
    pool.wait_for_begun(1)
    assert pool.server.stop(signal.SIGINT) == 0
    assert call.ended().error is not None


def test_a_graceful_stop_has_an_end(start):
    pool = start("dirty_graceful_timeout = 1\n")
    Calling(lambda: pool.call("deaf"))
    pool.wait_for_begun(1)
    assert pool.server.stop(signal.SIGTERM) == 0
    assert "did not finish its calls within dirty_graceful_timeout" in pool.server.log


USERS = """
import os
class App:
    def init(self): pass
    def close(self): pass
    def __call__(self, action):
        return [os.getuid(), os.getgid()]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_with_a_root_arbiter_everything_else_is_the_users(serve):
    from pathlib import Path

    server = serve.new()
    # The standard library may be closed to others, too.
    server.write("heavy.py", USERS)
    server.directory.chmod(0o777)
    app = """
        from gunicorn.dirty import get_dirty_client
        def application(environ, start_response):
            value = get_dirty_client().execute("heavy:App", "user")
            start_response("200 OK", [])
            return [str(value).encode()]
    """
    # The way to the application must be the user's, too.
    for parent in server.directory.parents:
        if not parent.stat().st_mode & 0o001:
            pytest.skip(f"{parent} is closed to others")
    server.start("--user", "65534", "--group", "65534", "--dirty-app", "heavy:App", "--dirty-workers", "1", app=app)
    assert server.get().text == "[65534, 65534]"
    broker = server.only_pid("dirty-arbiter")
    assert Path(f"/proc/{broker}").stat().st_uid == 65534
