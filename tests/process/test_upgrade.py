"""USR2: the server itself is exchanged, on the same listeners, without a gap."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.support import processes
from tests.support.load import Load
from tests.support.wait import DEADLINE, wait_for


def upgrade(server) -> int:
    """Sends USR2 and waits until the successor has its workers; its pid."""
    old = set(server.worker_pids())
    server.kill(signal.SIGUSR2)
    successor = wait_for(lambda: server.read("pid.2").strip(), what=lambda: f"a successor's pid file:\n{server.log}")
    wait_for(lambda: len(set(server.worker_pids()) - old) == len(old), what=lambda: f"its workers:\n{server.log}")
    return int(successor)


def start(serve, source, *args: str, **options: object):
    return serve(source, "--pid", "pid", *args, **options)


def end_both(server, successor: int) -> None:
    """The harness follows one of them; the other is told here."""
    for pid in (successor, server.pid):
        if processes.is_alive(pid):
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda pid=pid: server.popen.poll() is not None or not processes.is_alive(pid))


@pytest.mark.parametrize(
    ("args", "bind"),
    [((), None), ((), "unix:socket"), (("--reuse-port",), None)],
    ids=["tcp", "unix", "reuse-port"],
)
def test_successor_takes_over_and_nobody_notices(serve, source, args, bind):
    server = start(serve, source, *args, bind=bind)
    old = server.pid
    with Load(server.address, clients=4, keep_alive=False, pause=0.004) as load:
        load.wait_for_answers(20)
        successor = upgrade(server)
        load.wait_for_answers(20)
        assert server.read("pid") == f"{old}\n"
        assert server.stop(signal.SIGTERM) == 0
        load.wait_for_answers(20)
        server.wait_for_log("Master has been promoted")
        wait_for(lambda: server.read("pid") == f"{successor}\n")
        load.wait_for_answers(20)
    load.assert_flawless(at_least=80)
    assert not (server.directory / "pid.2").exists()
    title = server.kind.title("master", "app:application")
    wait_for(lambda: title in [process.title for process in server.processes() if process.pid == successor])
    end_both(server, successor)
    if bind is not None:
        wait_for(lambda: not (server.directory / "socket").exists(), what="the promoted one removes the socket file")


def test_descriptors_are_handed_on(serve, source):
    """Whatever number the socket has in the successor, it stands for the same address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        number = listener.fileno()
        server = serve.new()
        server.start("--pid", "pid", app=source, bind=f"fd://{number}", pass_fds=[number], ready=None)
        server.bind = f"{host}:{port}"
        server.wait_until_ready()
    successor = upgrade(server)
    server.stop(signal.SIGTERM)
    for _ in range(5):
        assert server.get().status == 200
    end_both(server, successor)


def test_successor_runs_what_is_installed_now(serve, source):
    server = start(serve, source, config="raw_env = ['COLOUR=red']\n")
    server.write("gunicorn.conf.py", "import os\nassert 'COLOUR' not in os.environ\nworkers = 2\npidfile = 'pid'\n")
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
    server.kill(signal.SIGUSR2)
    successor = int(wait_for(lambda: server.read("pid.2").strip(), what=lambda: server.log))
    server.wait_for_workers(3)
    server.stop(signal.SIGTERM)
    wait_for(lambda: {server.get("/version").body for _ in range(5)} == {b"2"})
    end_both(server, successor)


def test_way_back(serve, source):
    """TERM to the successor leaves the old one serving, and it can be tried again."""
    server = start(serve, source)
    successor = upgrade(server)
    assert processes.read(successor).title == server.kind.title("master", "app:application.2")
    os.kill(successor, signal.SIGTERM)
    wait_for(lambda: not processes.is_alive(successor))
    wait_for(lambda: not (server.directory / "pid.2").exists())
    for _ in range(10):
        assert server.get().status == 200
    again = upgrade(server)
    assert again != successor
    end_both(server, again)


def test_there_are_never_more_than_two(serve, source):
    server = start(serve, source)
    successor = upgrade(server)
    server.kill(signal.SIGUSR2)
    server.wait_for_log(r"USR2 signal ignored\. Child exists\.")
    os.kill(successor, signal.SIGUSR2)
    server.wait_for_log(r"USR2 signal ignored\. Parent exists\.")
    end_both(server, successor)


def test_successor_that_does_not_start_changes_nothing(serve, source):
    server = start(serve, source)
    server.write("gunicorn.conf.py", "raise RuntimeError('broken upgrade')\n")
    server.kill(signal.SIGUSR2)
    server.wait_for_log("broken upgrade")
    (server.directory / "gunicorn.conf.py").unlink()
    assert server.get().status == 200

    def tried_again() -> str:
        # Ignored until the arbiter has seen the end of the first successor.
        server.kill(signal.SIGUSR2)
        return server.read("pid.2").strip()

    end_both(server, int(wait_for(tried_again, what=lambda: f"a second try:\n{server.log}")))


def test_pre_exec_runs_in_the_child(serve, source):
    config = """
        import os

        def pre_exec(server):
            server.log.info("pre_exec in a child: %s", os.getppid() == server.pid)
    """
    server = start(serve, source, config=config)
    successor = upgrade(server)
    server.wait_for_log("pre_exec in a child: True")
    end_both(server, successor)


def test_upgrade_of_a_daemon(serve, source):
    server = serve.new()
    server.start("--daemon", "--pid", "pid", "--error-logfile", "error.log", app=source, ready=None)
    assert server.popen.wait(DEADLINE) == 0
    server.follow("pid")
    server.wait_until_ready()
    old = server.pid
    successor = upgrade(server)
    server.kill(signal.SIGWINCH)
    wait_for(lambda: len(server.worker_pids()) == 1)
    server.stop(signal.SIGTERM)
    assert not processes.is_alive(old)
    wait_for(lambda: server.read("pid") == f"{successor}\n")
    server.follow("pid")
    assert server.get().status == 200
