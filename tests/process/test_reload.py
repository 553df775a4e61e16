"""Reloads: new code serves, nobody notices the change, and broken code changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.gate import Gate
from tests.support.greenlets import GEVENT
from tests.support.http import encode
from tests.support.load import Load
from tests.support.wait import stays, wait_for

RELOADS = 20


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "new-connections"])
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_no_request_fails_in_20_reloads(serve, source, worker, keep_alive):
    server = serve(source, "--workers", "2", "--worker-class", worker, "--threads", "2" if worker == "gthread" else "1")
    with Load(server.address, clients=6, keep_alive=keep_alive, pause=0.004) as load:
        for _ in range(RELOADS):
            server.reload()
            load.wait_for_answers(20)
    load.assert_flawless(at_least=RELOADS * 20)
    if keep_alive:
        assert load.connections == 6, "no connection was closed by a reload"


@pytest.mark.parametrize("worker", ["gthread", GEVENT])
def test_slow_requests_survive_reloads(serve, source, worker):
    server = serve(source, "--workers", "2", "--worker-class", worker, "--threads", "4")
    with Load(server.address, clients=6, target="/?0.3") as load:
        load.wait_for_answers(3)
        for _ in range(3):
            server.reload()
        load.wait_for_answers(6)
    load.assert_flawless(at_least=9)


def test_new_code_serves_after_a_reload(serve, source):
    server = serve(source, "--workers", "2")
    assert server.get("/version").body == b"1"
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
    server.reload()
    assert {server.get("/version").body for _ in range(10)} == {b"2"}
    server.wait_for_log(r"\[INFO\] Handling signal: hup$")
    server.wait_for_log(r"\[INFO\] Hang up: Master$")


def test_old_code_serves_until_the_new_is_ready(serve, source):
    """However long the new one takes to import: there is always somebody."""
    server = serve(source)
    old = server.worker_pids()
    gate = server.directory / "gate"
    server.write(
        "app.py",
        f"""
import os, time
while not os.path.exists({str(gate)!r}):
    time.sleep(0.01)
"""
        + source.replace('VERSION = "1"', 'VERSION = "2"'),
    )
    server.kill(signal.SIGHUP)
    server.wait_for_log("Booting worker with pid", count=2)
    assert [server.get("/version").body for _ in range(20)] == [b"1"] * 20
    assert set(old) <= set(server.worker_pids())
    gate.touch()
    server.wait_for_workers(1, without=old)
    assert server.get("/version").body == b"2"


HUED = """
import os
from gunicorn.glogging import Logger

raw_env = ["COLOUR={colour}"]

class Telling(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        with open({setups!r}, "a") as file:
            print(os.getpid(), cfg.env["COLOUR"], file=file)

logger_class = Telling

def post_fork(server, worker):
    server.log.info("post_fork: %s, %s", os.environ["COLOUR"], server.cfg.env["COLOUR"])
"""


def test_a_worker_replaced_during_a_reload_has_its_own_settings_and_changes_nothing(serve, source, tmp_path):
    """Settings are put in force in the process that is of them: not in the arbiter, for the time of a fork."""
    setups, gate, begun = (str(tmp_path / name) for name in ("setups", "gate", "begun"))
    server = serve(source, "--preload", config=HUED.format(colour="red", setups=setups))
    (old,) = server.worker_pids()
    server.write("gunicorn.conf.py", HUED.format(colour="blue", setups=setups))
    waiting = f"open({begun!r}, 'w').close()\nwhile not os.path.exists({gate!r}):\n    time.sleep(0.01)\n"
    server.write("app.py", "import os, time\n" + waiting + source)
    server.kill(signal.SIGHUP)
    wait_for(lambda: os.path.exists(begun), what="the new application's import")
    os.kill(old, signal.SIGKILL)
    server.wait_for_log("post_fork: red, red", count=2)
    of_arbiter = [
        line.split()[1] for line in Path(setups).read_text().splitlines() if line.startswith(f"{server.pid} ")
    ]
    assert of_arbiter == ["red", "blue"]
    Path(gate).touch()
    server.wait_for_log("post_fork: blue, blue")
    server.wait_for_log("Reloaded: generation 2 serves")


def test_a_second_reload_does_not_wait_for_those_who_finish(serve, source):
    """A release that turns out to be broken is replaced although requests of the one before are still under way."""
    server = serve(source)
    with Gate(server) as gate, server.connect() as slow:
        slow.send(encode(target=gate.target))
        gate.wait_until_reached()
        server.kill(signal.SIGHUP)
        server.wait_for_log("Reloaded: generation 2 serves")
        server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "3"'))
        server.kill(signal.SIGHUP)
        server.wait_for_log("Reloaded: generation 3 serves")
        assert server.get("/version").body == b"3"
        gate.open()
        assert slow.answer().status == 200


def test_settings_of_the_config_file_are_read_anew(serve, source):
    server = serve(source, config="workers = 1\nraw_env = ['COLOUR=red']\n")
    server.write("gunicorn.conf.py", "workers = 3\nraw_env = ['COLOUR=blue']\n")
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = os.environ["COLOUR"]'))
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(3, without=old)
    assert server.get("/version").body == b"blue"


@pytest.mark.parametrize(
    "broken", ["raise RuntimeError('broken deploy')", "import does_not_exist", "def broken(:", "application = 5"]
)
def test_broken_code_leaves_the_old_one_serving(serve, source, broken):
    server = serve(source, "--workers", "2")
    old, all_before = server.worker_pids(), server.processes()
    server.write("app.py", broken + "\n")
    with Load(server.address, clients=4) as load:
        load.wait_for_answers(20)
        server.kill(signal.SIGHUP)
        server.wait_for_log(r"RuntimeError: broken deploy|No module named|SyntaxError|must be callable")
        server.wait_for_log("generation 2 is given up")
        # What was given up is gone (also who was just forked, and has no title yet); what serves served before.
        wait_for(lambda: server.processes() == all_before)
        load.wait_for_answers(100)
    load.assert_flawless(at_least=120)
    stays(lambda: server.worker_pids() == old, 0.5)
    # And a good deploy afterwards works.
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "3"'))
    server.reload()
    assert server.get("/version").body == b"3"


@pytest.mark.parametrize("broken", ["raise RuntimeError('broken settings')", "workers = 'many'", "def broken(:"])
def test_broken_config_file_leaves_the_old_one_in_force(serve, source, broken):
    server = serve(source, config="workers = 2\n")
    old = server.wait_for_workers(2)
    server.write("gunicorn.conf.py", broken + "\n")
    server.kill(signal.SIGHUP)
    server.wait_for_log(r"broken settings|many|SyntaxError")
    stays(lambda: server.worker_pids() == old, 0.5)
    assert server.get().body == b"hello"
    server.write("gunicorn.conf.py", "workers = 1\n")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)


def test_preloaded_code_is_reloaded_too(serve, source):
    server = serve(source, "--preload")
    assert server.get("/version").body == b"1"
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
    server.reload()
    assert server.get("/version").body == b"2"


def test_reload_during_a_long_request_serves_others_and_ends_it_well(serve, source):
    server = serve(with_version_behind_the_gate(source))
    with Gate(server) as gate, server.connect() as peer:
        peer.send(encode(target=gate.target))
        gate.wait_until_reached()
        server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
        server.kill(signal.SIGHUP)
        wait_for(lambda: server.get("/version").body == b"2", what="new code serves meanwhile")
        gate.open()
        assert peer.answer().body == b"1"


def with_version_behind_the_gate(source: str) -> str:
    """``/gate`` says which code it is."""
    return source.replace('"/version": VERSION', '"/version": VERSION, "/gate": VERSION')


def test_changed_bind_moves_the_listener(serve, source):
    from tests.support.ports import free_port

    port, other = free_port(), free_port()
    server = serve(source, config=f"bind = '127.0.0.1:{port}'\n", bind="", ready=None)
    server.bind = f"127.0.0.1:{port}"
    server.wait_until_ready()
    server.write("gunicorn.conf.py", f"bind = '127.0.0.1:{other}'\n")
    server.kill(signal.SIGHUP)
    wait_for(server.refuses, what="the old port is free")
    server.bind = f"127.0.0.1:{other}"
    server.wait_until_ready()
