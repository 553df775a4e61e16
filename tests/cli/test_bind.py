"""Where the server listens: TCP, IPv6, unix sockets, inherited descriptors, several at once, none free."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time

import pytest

from tests.support.ports import free_port
from tests.support.wait import wait_for

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]
"""


def test_several_binds(serve):
    first, second = free_port(), free_port()
    binds = [f"127.0.0.1:{first}", "unix:server.sock", f"127.0.0.1:{second}"]
    server = serve(HELLO, bind=binds)
    server.wait_for_log(
        rf"Listening at: http://127\.0\.0\.1:{first},unix:server\.sock,http://127\.0\.0\.1:{second} \({server.pid}\)"
    )
    for bind in binds:
        server.bind = bind
        assert server.get().body == b"hello"


def test_binds_of_the_config_file(serve):
    port = free_port()
    server = serve(HELLO, config=f"bind = ['127.0.0.1:{port}', 'unix:server.sock']\n", bind="", ready=None)
    for bind in (f"127.0.0.1:{port}", "unix:server.sock"):
        server.bind = bind
        server.wait_until_ready()


def test_ipv6(serve):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = serve(HELLO, bind=f"[::1]:{free_port()}")
    assert server.get().body == b"hello"
    server.wait_for_log(rf"Listening at: http://\[::1\]:{server.port}")


def test_unix_socket_is_made_and_removed(serve):
    server = serve(HELLO, bind="unix:server.sock")
    path = server.directory / "server.sock"
    assert stat.S_ISSOCK(path.stat().st_mode)
    server.wait_for_log(r"Listening at: unix:server\.sock")
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(("umask", "mode"), [("0", 0o777), ("0o77", 0o700), ("022", 0o755), ("7", 0o770)])
def test_umask_of_a_unix_socket(serve, umask, mode):
    server = serve(HELLO, "--umask", umask, bind="unix:server.sock")
    assert stat.S_IMODE((server.directory / "server.sock").stat().st_mode) == mode


def test_socket_file_of_a_dead_server_is_replaced(serve):
    server = serve.new()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(server.directory / "server.sock"))
    server.start(app=HELLO, bind="unix:server.sock")
    assert server.get().body == b"hello"


def test_file_that_is_no_socket_is_not_removed(serve):
    server = serve.new()
    server.write("server.sock", "precious")
    server.start(app=HELLO, bind="unix:server.sock", ready=None)
    assert server.wait_for_exit() == 1
    assert server.read("server.sock") == "precious"


def test_unix_socket_survives_a_reload(serve):
    server = serve(HELLO, bind="unix:server.sock")
    inode = (server.directory / "server.sock").stat().st_ino
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get().body == b"hello"
    assert (server.directory / "server.sock").stat().st_ino == inode


def test_inherited_descriptor(serve):
    server = serve.new()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", server.port))
        listener.listen()
        address = server.bind
        server.start(app=HELLO, bind=f"fd://{listener.fileno()}", pass_fds=[listener.fileno()], ready=None)
        server.bind = address
        server.wait_until_ready()
    assert server.get().body == b"hello"


def test_address_in_use_is_tried_again(serve):
    """A predecessor that needs a moment to leave is waited for."""
    server = serve.new()
    taken = socket.socket()
    taken.bind(("127.0.0.1", server.port))
    taken.listen()
    server.start(app=HELLO, ready=None)
    server.wait_for_log(rf"\[ERROR\] Connection in use: \('127\.0\.0\.1', {server.port}\)")
    taken.close()
    server.wait_until_ready()


def test_address_that_stays_in_use_ends_the_server(serve):
    server = serve.new()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        start = time.monotonic()
        server.start(app=HELLO, ready=None)
        assert server.wait_for_exit() == 1
        assert time.monotonic() - start > 3
    assert server.log.count("Connection in use") == 5
    end = "Can't connect to" if server.kind.is_gunicorn else "Cannot listen at"
    assert f"[ERROR] {end} ('127.0.0.1', " in server.log
    if not server.kind.is_gunicorn:
        assert f" (pid {os.getpid()}) listens there" in server.log
    assert "Booting worker" not in server.log


@pytest.mark.parametrize("second", ["127.0.0.1:{port}", "localhost:{port}", "unix:twice.sock"])
def test_address_that_is_named_twice_is_an_error_at_once(serve, second):
    server = serve.new()
    second = second.format(port=server.port)
    first = second if second.startswith("unix:") else f"127.0.0.1:{server.port}"
    server.start("--bind", second, app=HELLO, bind=first, ready=None)
    assert server.wait_for_exit() == 1
    assert "this server listens there already (bind and metrics_bind may name an address once)" in server.log
    assert "Retrying" not in server.log
    assert not (server.directory / "twice.sock").exists()


def test_backlog_is_used(serve):
    server = serve(HELLO, "--backlog", "7")
    wanted = f"{server.port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    listening = [row for row in rows if row[3] == "0A" and row[1].endswith(":" + wanted)]
    assert listening
    # What /proc does not show, the socket diagnostics do: Send-Q of a listener is its backlog.
    assert _backlog(server.port) == 7


def _backlog(port: int) -> int:
    """tcpi_sacked of a listening socket, by inet_diag (what ``ss`` reads)."""
    import struct

    NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, TCP_LISTEN = 4, 20, 0x301, 10
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN) + bytes(48)
    header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        netlink.send(header + request)
        data = b""
        while True:
            # A long list comes in several pieces.
            data = data or netlink.recv(1 << 16)
            length, kind = struct.unpack_from("=IH", data)
            assert kind == SOCK_DIAG_BY_FAMILY, "the listener is in the list"
            body = data[16:length]
            if int.from_bytes(body[4:6], "big") == port:
                return struct.unpack_from("=I", body, 4 + 48 + 4 + 4)[0]
            data = data[(length + 3) & ~3 :]


# Pid file


def test_pid_file(serve):
    server = serve(HELLO, "--pid", "server.pid")
    path = server.directory / "server.pid"
    assert path.read_text() == f"{server.pid}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    wait_for(lambda: path.read_text() == f"{server.pid}\n")
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "garbage", "999999999", "0", "-1"])
def test_stale_pid_file_is_replaced(serve, content):
    server = serve.new()
    server.write("server.pid", content)
    server.start("--pid", "server.pid", app=HELLO)
    assert server.read("server.pid") == f"{server.pid}\n"


def test_pid_file_of_a_living_process_is_respected(serve):
    server = serve.new()
    server.write("server.pid", f"{os.getpid()}\n")
    server.start("--pid", "server.pid", app=HELLO, ready=None)
    assert server.wait_for_exit() == 1
    assert f"Already running on PID {os.getpid()} (or pid file 'server.pid' is stale)" in server.log
    assert server.read("server.pid") == f"{os.getpid()}\n"


def test_pid_file_that_cannot_be_written_ends_the_server(serve):
    server = serve(HELLO, "--pid", "no/such/directory/server.pid", ready=None)
    assert server.wait_for_exit() == 1
    assert "no/such/directory" in server.log
    assert "Booting worker" not in server.log


def test_pid_file_follows_the_setting_on_reload(serve):
    server = serve(HELLO, config="pidfile = 'one.pid'\n")
    assert server.read("one.pid") == f"{server.pid}\n"
    server.write("gunicorn.conf.py", "pidfile = 'two.pid'\n")
    server.kill(signal.SIGHUP)
    wait_for(lambda: server.read("two.pid") == f"{server.pid}\n")
    wait_for(lambda: not (server.directory / "one.pid").exists())
    server.write("gunicorn.conf.py", "pidfile = None\n")
    server.kill(signal.SIGHUP)
    wait_for(lambda: not (server.directory / "two.pid").exists())


@pytest.mark.parametrize("path", ["no/such/directory/pid", "taken.pid"])
def test_pid_file_that_cannot_be_written_refuses_the_reload(serve, path):
    server = serve.new()
    server.write("taken.pid", f"{os.getpid()}\n")
    server.start(app=HELLO, config="pidfile = 'one.pid'\n")
    old = server.worker_pids()
    server.write("gunicorn.conf.py", f"pidfile = {path!r}\n")
    server.kill(signal.SIGHUP)
    server.wait_for_log("Already running on PID|no/such/directory doesn't exist")
    server.wait_for_log(r"Reload failed, generation 2 is given up")
    assert server.worker_pids() == old
    assert server.read("one.pid") == f"{server.pid}\n"
    assert server.stop() == 0
    assert not (server.directory / "one.pid").exists()
    assert server.read("taken.pid") == f"{os.getpid()}\n"


def test_pid_file_of_somebody_else_is_left_alone_at_the_end(serve):
    server = serve(HELLO, "--pid", "server.pid")
    server.write("server.pid", f"{os.getpid()}\n")
    assert server.stop() == 0
    assert server.read("server.pid") == f"{os.getpid()}\n"


def test_failed_start_leaves_no_pid_file(serve):
    server = serve("raise RuntimeError('no')\n", "--pid", "server.pid", ready=None)
    assert server.wait_for_exit() == 3
    assert not (server.directory / "server.pid").exists()


# Several servers on one port


def test_reuse_port_shares_a_port(serve):
    first = serve(HELLO, "--reuse-port")
    second = serve.new()
    second.bind = first.bind
    second.start("--reuse-port", app=HELLO, bind=first.bind, ready=None)
    second.wait_for_log("Booting worker")
    assert "Connection in use" not in second.log
    # What one of them leaves is served by the other.
    first.stop()
    second.wait_until_ready()
    assert second.get().status == 200


def test_without_reuse_port_a_port_is_taken(serve):
    first = serve(HELLO, "--reuse-port")
    second = serve.new()
    second.start(app=HELLO, bind=first.bind, ready=None)
    second.wait_for_log("Connection in use")


# The backlog


def test_backlog_metric(serve):
    """What a logger that sends metrics is given: Gunicorn's name, type and value."""
    config = """
        enable_backlog_metric = True

        def when_ready(server):
            def debug(msg, *args, extra=None, **kwargs):
                if extra:
                    server.log.info("metric %s %s %s", extra["metric"], extra["mtype"], extra["value"])
            server.log.debug = debug
    """
    server = serve(HELLO, config=config)
    server.wait_for_log(r"metric gunicorn\.backlog histogram \d+$")


# Directories


def test_worker_tmp_dir_must_exist(serve):
    server = serve(HELLO, "--worker-tmp-dir", "no/such/directory", ready=None)
    assert server.wait_for_exit() == 1
    assert "no/such/directory doesn't exist. Can't create workertmp." in server.log


def test_worker_tmp_dir_is_accepted(serve):
    server = serve.new()
    assert server.start("--worker-tmp-dir", str(server.directory), app=HELLO).get().status == 200
