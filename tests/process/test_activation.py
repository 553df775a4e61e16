"""Listeners that somebody else holds (systemd), and what the service manager is told."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from tests.support.wait import DEADLINE

#: What systemd does before it runs the server: the sockets from number 3 on, LISTEN_PID, LISTEN_FDS.
ACTIVATE = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
aside = [os.dup(os.dup(number)) for number in numbers]
for position, number in enumerate(aside):
    os.dup2(number, 3 + position)
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ.pop("PID_OFF_BY", "0")))
os.environ["LISTEN_FDS"] = str(len(numbers))
os.execv(sys.argv[2], sys.argv[2:])
"""


def activated(server, sockets, *args: str, **options: object):
    numbers = [sock.fileno() for sock in sockets]
    command = [sys.executable, "-c", ACTIVATE, ",".join(map(str, numbers)), *server.kind.module_command]
    return server.start(*args, command=command, pass_fds=numbers, **options)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def start(serve, listener, *args: str, **options: object):
    server = serve.new()
    activated(server, [listener], *args, bind="", ready=None, **options)
    server.bind = address(listener)
    server.wait_until_ready()
    return server


def test_serves_the_socket_it_was_given(serve, source, listener):
    server = start(serve, listener, app=source)
    server.wait_for_log(rf"Listening at: http://{address(listener)} \({server.pid}\)")
    assert server.get().status == 200


def test_configured_addresses_give_way(serve, source, listener):
    server = serve.new()
    configured = server.bind
    activated(server, [listener], app=source, ready=None)
    server.bind = address(listener)
    server.wait_until_ready()
    server.bind = configured
    assert server.refuses()


def test_the_application_does_not_see_the_variables(serve, listener):
    source = """
        import os

        def application(environ, start_response):
            body = ",".join(sorted(name for name in os.environ if name.startswith("LISTEN_"))).encode()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]
    """
    assert start(serve, listener, app=source).get().body == b""


def test_sockets_for_another_process_are_not_taken(serve, source, listener):
    server = serve.new()
    activated(server, [listener], app=source, env={"PID_OFF_BY": "1"})
    assert server.bind != address(listener)
    assert server.get().status == 200


def test_nobody_is_refused_between_two_lives_of_the_service(serve, source, listener):
    """systemd keeps the socket: who comes while nobody serves waits for the next server."""
    first = start(serve, listener, app=source)
    first.stop(signal.SIGTERM)
    with first.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        start(serve, listener, app=source)
        assert peer.answer().status == 200


def test_reload_keeps_the_socket(serve, source, listener):
    server = start(serve, listener, app=source)
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get().status == 200


def test_unix_socket_of_somebody_else_is_not_removed(serve, source):
    server = serve.new()
    path = server.directory / "held"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        activated(server, [held], app=source, bind="", ready=None)
        server.bind = "unix:held"
        server.wait_until_ready()
        server.wait_for_log(rf"Listening at: unix:{path} ")
        server.stop(signal.SIGTERM)
        assert path.exists()


# The service manager


@pytest.fixture
def manager(serve):
    """What a service with ``Type=notify`` is listened to by."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(serve.new().directory / "notify"))
        found.settimeout(DEADLINE)
        yield found


def test_manager_is_told_when_the_server_is_up_reloads_and_stops(serve, source, manager):
    server = serve.new()
    slow = f"import os, time\nwhile not os.path.exists({str(server.directory / 'gate')!r}):\n    time.sleep(0.01)\n"
    server.start(app=slow + source, env={"NOTIFY_SOCKET": manager.getsockname()}, ready=None)
    server.wait_for_log("Booting worker")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    manager.settimeout(DEADLINE)
    (server.directory / "gate").touch()
    assert manager.recv(4096).startswith(b"READY=1\n")
    server.kill(signal.SIGHUP)
    assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert manager.recv(4096).startswith(b"READY=1\n")
    server.kill(signal.SIGTERM)
    assert manager.recv(4096).startswith(b"STOPPING=1")
    assert server.wait_for_exit() == 0


def test_manager_is_told_who_is_the_service_after_an_upgrade(serve, source, manager):
    """It would take the end of the old main process for the end of the service."""
    server = serve(source, "--pid", "pid", env={"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(4096).startswith(b"READY=1\n")
    server.kill(signal.SIGUSR2)
    assert manager.recv(4096).startswith(b"READY=1\n"), "the successor is up"
    successor = server.read("pid.2").strip()
    server.kill(signal.SIGTERM)
    assert manager.recv(4096).startswith(f"MAINPID={successor}\n".encode())
    assert server.wait_for_exit() == 0
    os.kill(int(successor), signal.SIGTERM)
    assert manager.recv(4096).startswith(b"STOPPING=1")


def test_manager_is_told_once_that_a_refused_reload_is_over(serve, source, manager):
    server = serve(source, env={"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(4096).startswith(b"READY=1\n")
    for name, broken in (("gunicorn.conf.py", "workers = 'many'\n"), ("app.py", "broken(\n")):
        server.write(name, broken)
        server.kill(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\n")
        assert manager.recv(4096).startswith(b"READY=1\n")
        (server.directory / "gunicorn.conf.py").unlink(missing_ok=True)
    assert server.get().status == 200


def test_a_manager_that_does_not_listen_is_no_harm(serve, source):
    server = serve(source, env={"NOTIFY_SOCKET": "/no/such/socket"})
    assert server.get().status == 200


def test_listen_fds_that_is_no_number_is_told(serve, source, listener):
    server = serve.new()
    wrong = ACTIVATE.replace("str(len(numbers))", "'many'")
    command = [sys.executable, "-c", wrong, str(listener.fileno()), *server.kind.module_command]
    server.start(app=source, command=command, pass_fds=[listener.fileno()], bind="", ready=None)
    assert server.wait_for_exit() == 1
    assert "LISTEN_FDS" in server.log
