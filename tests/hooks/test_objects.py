"""``server`` and ``worker`` in hooks: the objects that Gunicorn's hooks work with, real ones."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.greenlets import ALSO_IN_GREENLETS
from tests.support.wait import wait_for

pytestmark = ALSO_IN_GREENLETS

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""

LISTENERS = """
import json, os, socket, sys

def note(event, **what):
    with open("notes.log", "a") as file:
        file.write(json.dumps({"event": event, **what}) + "\\n")

def facts(listener):
    return {
        "text": str(listener),
        "name": listener.getsockname(),
        "configured": listener.cfg_addr,
        "family": listener.FAMILY.name,
        "class": type(listener).__name__,
    }

def real(listener):
    option = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    same = os.fstat(listener.fileno()).st_ino == os.fstat(listener.sock.fileno()).st_ino
    return bool(option) and same and listener.sock.getsockname() == listener.getsockname()

def when_ready(server):
    from gunicorn.sock import BaseSocket
    assert all(isinstance(listener, BaseSocket) for listener in server.LISTENERS)
    note("ready", facts=[facts(one) for one in server.LISTENERS], real=[real(one) for one in server.LISTENERS])
    backlogs = [listener.get_backlog() for listener in server.LISTENERS]
    assert backlogs[0] >= 0 and backlogs[1:] in ([], [-1]), backlogs

def pre_fork(server, worker):
    note("pre_fork", same=worker.sockets is server.LISTENERS, real=[real(one) for one in worker.sockets])

def post_fork(server, worker):
    note("post_fork", facts=[facts(one) for one in worker.sockets])

def on_reload(server):
    note("reload", facts=[facts(one) for one in server.LISTENERS])

def on_exit(server):
    note("exit", listeners=len(server.LISTENERS))
"""


def notes(server, event: str) -> list[dict[str, object]]:
    """What the hooks have written of one kind of event."""
    return [note for line in server.lines("notes.log") if (note := json.loads(line))["event"] == event]


def test_listeners_are_objects_on_real_sockets(serve):
    server = serve.new()
    path = str(server.directory / "second.sock")
    server.start(app=HELLO, config=LISTENERS, bind=[server.bind, f"unix:{path}"])
    host, _, port = server.bind.rpartition(":")
    expected = [
        {
            "text": f"http://{server.bind}",
            "name": [host, int(port)],
            "configured": [host, int(port)],
            "family": "AF_INET",
            "class": "TCPSocket",
        },
        {"text": f"unix:{path}", "name": path, "configured": path, "family": "AF_UNIX", "class": "UnixSocket"},
    ]
    (ready,) = notes(server, "ready")
    assert ready["facts"] == expected
    assert ready["real"] == [True, True]
    (forked,) = notes(server, "pre_fork")
    assert forked["same"] is True
    assert forked["real"] == [True, True]
    (worker,) = notes(server, "post_fork")
    assert worker["facts"] == expected
    (pid,) = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[pid])
    assert notes(server, "reload") == [{"event": "reload", "facts": expected}]
    assert server.stop() == 0
    assert notes(server, "exit") == [{"event": "exit", "listeners": 0}]


CLOSING = """
def post_fork(server, worker):
    assert [listener.fileno() for listener in worker.sockets] == [-1]
    worker.sockets[0].close()

def on_reload(server):
    listener = server.LISTENERS[0]
    descriptor = listener.fileno()
    listener.close()
    server.log.info("closed %s, was %s, is %s", listener, descriptor >= 0, listener.fileno())
"""


def test_hook_that_closes_listeners_takes_nothing_from_clients(serve, kind):
    """They are the native module's; in workers there are none, since nobody would accept from them."""
    if kind.is_gunicorn:
        pytest.skip("there it is the socket that is served")
    server = serve(HELLO, config=CLOSING)
    (pid,) = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[pid])
    server.wait_for_log(rf"closed http://{server.bind}, was True, is -1$")
    assert server.get().text == "hello"


HEARTBEAT = """
import json, time

def post_worker_init(worker):
    worker.notify()
    # In this order: another sign of life may come between.
    last = worker.tmp.last_update()
    age = time.monotonic() - last
    worker.log.info("worker was alive %s", 0 <= age < 60 and worker.tmp.fileno() >= 0)

def pre_fork(server, worker):
    assert worker.tmp.last_update() > 0

def nworkers_changed(server, new, old):
    if old is not None:
        last = {pid: worker.tmp.last_update() for pid, worker in server.WORKERS.items()}
        ages = {pid: time.monotonic() - at for pid, at in last.items()}
        with open("ages.json", "w") as file:
            json.dump(ages, file)
"""


def test_sign_of_life_of_a_worker(serve):
    """What watchers written as hooks look at: ``worker.tmp.last_update()`` of each worker, in the arbiter."""
    server = serve(HELLO, "--timeout", "30", config=HEARTBEAT)
    server.wait_for_log("worker was alive True")
    (pid,) = server.worker_pids()
    server.kill(signal.SIGTTIN)
    text = wait_for(lambda: server.read("ages.json"))
    ages = json.loads(text)
    assert 0 <= ages[str(pid)] < 60


MESSAGES = """
import json

def post_request(worker, req, environ, resp):
    found = {
        "bounds": [req.limit_request_line, req.limit_request_fields, req.limit_request_field_size],
        "buffer": req.max_buffer_headers,
        "client": req.unreader.sock.getpeername()[0],
        "held": req.unreader.take_buffered().decode(),
        "closes": [req.should_close(), resp.should_close()],
        "chunked": [resp.is_chunked(), resp.chunked],
        "length": resp.response_length,
        "code": resp.status_code,
        "of": resp.req is req,
        "upgrade": resp.upgrade,
        "first": resp.default_headers()[0],
    }
    with open("messages.json", "w") as file:
        file.write(json.dumps(found))
"""
SIZED = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


@pytest.mark.parametrize(("app", "length", "chunked"), [(SIZED, 5, False), (HELLO, None, True)])
def test_request_and_response_have_gunicorns_attributes(serve, app, length, chunked):
    flags = ["--limit-request-line", "1000", "--limit-request-fields", "50", "--threads", "2"]
    server = serve(app, *flags, config=MESSAGES)
    server.get()
    found = json.loads(wait_for(lambda: server.read("messages.json")))
    assert found == {
        "bounds": [1000, 50, 8190],
        "buffer": 50 * 8192 + 4,
        "client": "127.0.0.1",
        "held": "",
        "closes": [False, False],
        "chunked": [chunked, chunked],
        "length": length,
        "code": 200,
        "of": True,
        "upgrade": False,
        "first": "HTTP/1.1 200 OK\r\n",
    }
