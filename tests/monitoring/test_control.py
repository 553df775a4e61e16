"""The control socket: Gunicorn's own ``gunicornc``, ``oxicornctl``, and whoever sends something else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import pwd
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.support import processes
from tests.support.gate import APPLICATION, Gate
from tests.support.greenlets import NEEDS_GEVENT
from tests.support.wait import patient, wait_for


def start(serve, *args: str, source: str = APPLICATION, **options: object):
    server = serve(source, "--control-socket", "control", *args, **options)
    wait_for(lambda: listens(server))
    return server


def listens(server) -> bool:
    """Whether somebody answers at the control socket: its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(server.directory / "control")) == 0


@pytest.fixture(scope="module")
def shared(serve_module):
    return start(serve_module, "--workers", "2")


def ctl(program: str) -> str:
    return str(Path(sys.executable).with_name(program))


def run(program: str, server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [ctl(program), "-s", str(server.directory / "control"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def ask(server, *words: str) -> dict[str, object]:
    """What ``oxicornctl`` has to say to these words."""
    done = run("oxicornctl", server, "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stacks_of(server, *words: str, taken_by: str = "interpreter") -> dict[str, object] | None:
    """The one worker's requests with their stacks.

    None where a busy machine let some of them not come in time, or had them taken from outside, which knows no names.
    """
    (worker,) = ask(server, "stacks", *words)["workers"]
    is_whole = worker["requests"] and all(one["stacks"] for one in worker["requests"])
    return worker if is_whole and worker["taken_by"] == taken_by else None


def functions(stack: dict[str, object]) -> list[str]:
    """Names of the functions of a stack, the most recent call first."""
    return [name.rpartition(".")[2] for _, _, name in stack["frames"]]


def exchange(server, payload: bytes) -> dict[str, object] | None:
    """Sends these bytes; the reply, or None where the connection ended without one."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(server.directory / "control"))
        peer.sendall(payload)
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    return json.loads(answer[4:]) if answer else None


def framed(message: object) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">I", len(payload)) + payload


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("show all", "WEB WORKERS (2)"),
        ("show workers", "Total: 2 workers"),
        ("show dirty", "Dirty arbiter not running"),
        ("show config", "worker_class: oxicorn.workers.sync.SyncWorker"),
        ("show stats", "Workers target:   2"),
        ("show listeners", "Total: 1 listeners"),
        ("reopen", '"status": "reopening"'),
        ("worker kill 1", '"error": "Worker 1 not found"'),
        ("dirty add", '"error": "Dirty arbiter not running"'),
        ("help", "shutdown [graceful|quick]"),
    ],
)
def test_gunicornc_finds_what_it_knows(shared, command, expected):
    done = run("gunicornc", shared, "-c", command)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


def test_workers_are_booted_and_their_heartbeats_true(shared):
    def booted() -> list[dict[str, object]]:
        # The arbiter hears of it a little later than the test does by the hook.
        workers = json.loads(run("gunicornc", shared, "-j", "-c", "show workers").stdout)["workers"]
        return workers if [worker["booted"] for worker in workers] == [True, True] else []

    workers = wait_for(booted)
    assert all(0 <= worker["last_heartbeat"] < 30 for worker in workers)
    assert sorted(worker["pid"] for worker in workers) == sorted(shared.worker_pids())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nonsense", "Invalid argument: Unknown command: nonsense"),
        ("show", "Invalid argument: Missing show target"),
        ("show nothing", "Invalid argument: Unknown show target: nothing"),
        ("worker kill", "Invalid argument: Missing PID for worker kill"),
        ("worker add many", "Invalid argument: 'many' is no number of workers"),
        ("worker add 1000000", "Invalid argument: 1000000 workers are too many"),
        ("shutdown now", "Invalid argument: Unknown shutdown mode: now"),
        ("'", "Invalid argument: No closing quotation"),
    ],
)
def test_wrong_commands_change_nothing_and_say_why(shared, words, expected):
    reply = exchange(shared, framed({"id": 5, "command": words, "args": []}))
    assert reply is not None
    assert (reply["id"], reply["status"]) == (5, "error")
    assert str(reply["error"]).startswith(expected)


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 4) + b"\xff\xfe\x00{",
        framed([1, 2]),
        struct.pack(">I", 60_000) + b"[" * 60_000,
    ],
    ids=["http", "endless", "not-json", "not-an-object", "deep"],
)
def test_other_bytes_get_an_error(shared, payload):
    reply = exchange(shared, payload)
    assert reply is not None
    assert reply["status"] == "error"
    assert str(reply["error"]).startswith("Invalid message: ")
    assert shared.get("/").status == 200


def test_no_bytes_change_anything_or_stop_it(shared):
    random = Random(16)
    before = sorted(shared.worker_pids())
    for _ in range(150):
        payload = random.randbytes(random.randrange(1, 200))
        if random.random() < 0.5:
            payload = struct.pack(">I", len(payload)) + payload
        reply = exchange(shared, payload)
        assert reply is None or reply["status"] == "error"
    assert sorted(shared.worker_pids()) == before
    assert shared.get("/").status == 200


def test_who_does_not_read_its_answers_costs_a_bounded_buffer(shared):
    question = framed({"id": 1, "command": "show config all"})
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(shared.directory / "control"))
        deaf.setblocking(False)
        with contextlib.suppress(OSError):  # It may be sent away, too.
            while select.select([], [deaf], [], 0.5)[1]:  # Until no more is read from it, either.
                deaf.send(question)
        assert run("oxicornctl", shared, "show", "stats").returncode == 0
        assert shared.get("/").status == 200


@pytest.mark.parametrize("message", [{}, {"id": 1, "command": ""}, {"command": "  "}])
def test_empty_commands_are_named(shared, message):
    reply = exchange(shared, framed(message))
    assert reply == {"id": message.get("id", 0), "status": "error", "error": "Empty command"}


def test_requests_of_one_connection_are_answered_in_order(shared):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(shared.directory / "control"))
        peer.sendall(b"".join(framed({"id": number, "command": "stacks"}) for number in range(3)))
        with peer.makefile("rb") as file:
            for number in range(3):
                (length,) = struct.unpack(">I", file.read(4))
                assert json.loads(file.read(length))["id"] == number


def test_silent_and_slow_clients_hold_nobody_up(shared):
    peers = []
    try:
        for _ in range(40):  # More than may be there at a time.
            peer = socket.socket(socket.AF_UNIX)
            peers.append(peer)
            peer.connect(str(shared.directory / "control"))
            with contextlib.suppress(BrokenPipeError):  # One too many.
                peer.sendall(b"\0\0")
        assert shared.get("/").status == 200
    finally:
        for peer in peers:
            peer.close()
    wait_for(lambda: run("oxicornctl", shared, "show", "stats").returncode == 0)


def test_requests_and_stacks_show_what_is_going_on(serve):
    """The stack of each request in flight, while the worker goes on."""
    server = start(serve, "--workers", "1", "--prefetch", "0")
    with Gate(server) as gate, server.connect() as first, server.connect() as second:
        first.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        second.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: ask(server, "show", "queue")["queued"] == 1)
        requests = ask(server, "show", "requests")["requests"]
        assert [(one["request"], one["state"]) for one in requests] == [
            (f"GET {gate.target} HTTP/1.1", "working"),
            ("GET /waits HTTP/1.1", "queued"),
        ]
        assert [one["pid"] for one in requests] == [*server.worker_pids(), None]
        for _ in range(2):  # The second shows itself alone.
            (request,) = wait_for(lambda: stacks_of(server))["requests"]
            assert (request["request"], request["id"]) == (f"GET {gate.target} HTTP/1.1", requests[0]["id"])
            (stack,) = request["stacks"]
            assert stack["where"] == "thread MainThread"
            assert functions(stack)[-2:] == ["held", "application"]
        gate.open()
        assert first.answer().status == second.answer().status == 200


def test_each_request_has_the_stack_of_its_own_thread(serve):
    server = start(serve, "--threads", "8")
    with Gate(server) as gate, ThreadPoolExecutor() as pool:
        answers = [pool.submit(server.get, gate.target) for _ in range(4)]
        gate.wait_until_reached(4)
        requests = wait_for(lambda: stacks_of(server))["requests"]
        places = [stack["where"] for request in requests for stack in request["stacks"]]
        assert len(places) == len(set(places)) == 4
        assert all(place.startswith("thread gthread-") for place in places), places
        (only,) = wait_for(lambda: stacks_of(server, requests[2]["id"]))["requests"]
        # Of two looks at a thread that polls the gate, each may meet it in another line.
        assert [stack["where"] for stack in only["stacks"]] == [stack["where"] for stack in requests[2]["stacks"]]
        assert functions(only["stacks"][0])[-2:] == ["held", "application"]

        def is_shown() -> bool:
            # A busy machine may let a stack not come in time.
            shown = run("oxicornctl", server, "stacks", requests[1]["request"]).stdout
            return requests[1]["id"] in shown and ", in held" in shown

        wait_for(is_shown)
        gate.open()
        assert [answer.result().status for answer in answers] == [200] * 4


TASKS = """
    import asyncio, threading

    ready = []
    free = threading.Event()

    async def child(event):
        await event.wait()

    def blocking():
        ready.append("thread")
        free.wait()

    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/free":
            free.set()
            waiting.set()
        elif scope["path"] in ("/", "/ready"):
            await asyncio.sleep(0)
        elif scope["path"] == "/thread":
            await asyncio.to_thread(blocking)
        elif scope["path"] == "/child":
            ready.append("child")
            await asyncio.create_task(child(waiting), name="the child")
        else:
            ready.append("task")
            await child(waiting)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(len(ready)).encode()})

    waiting = asyncio.Event()
"""


def test_tasks_are_shown_with_what_works_for_them(serve):
    server = start(serve, "-k", "asgi", "--worker-connections", "300", source=TASKS)
    targets = ["/thread", "/child", *["/task"] * 150]
    with ThreadPoolExecutor(len(targets)) as pool:
        answers = [pool.submit(server.get, target) for target in targets]
        wait_for(lambda: int(server.get("/ready").body) == len(targets))
        # Those that asked whether all are there are over a little later than they are answered.
        wait_for(lambda: ask(server, "show", "requests")["count"] == len(targets))
        assert len(ask(server, "show", "requests", "1000")["requests"]) == len(targets)
        requests = wait_for(lambda: stacks_of(server))["requests"]
        found = {request["request"].split()[1]: request["stacks"] for request in requests}
        assert len(requests) == len(targets)
        assert functions(found["/task"][0])[-3:] == ["wait", "child", "application"]
        assert functions(found["/child"][0]) == ["application"]
        assert [functions(stack)[-1] for stack in found["/child"][1:]] == ["child"]
        task, thread = found["/thread"]
        assert functions(task)[-1] == "application"
        assert thread["where"].startswith("thread ")
        assert "blocking" in functions(thread)
        assert server.get("/free").status == 200
        assert [answer.result().status for answer in answers] == [200] * len(targets)


@NEEDS_GEVENT
def test_greenlets_are_shown_where_they_wait(serve):
    """Each request's own greenlet, and none that belongs to another."""
    source = """
        import gevent.event

        free, waiting = gevent.event.Event(), []

        def waits(name):
            waiting.append(name)
            free.wait()

        def application(environ, start_response):
            path = environ["PATH_INFO"]
            if path.startswith("/wait"):
                waits(path)
            elif path == "/free":
                free.set()
            start_response("200 OK", [])
            return [str(len(waiting)).encode()]
    """
    server = start(serve, "-k", "gevent", source=source)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.get, f"/wait{number}") for number in range(3)]
        wait_for(lambda: server.get("/").text == "3")
        requests = wait_for(lambda: stacks_of(server))["requests"]
        assert sorted(one["request"].split()[1] for one in requests) == ["/wait0", "/wait1", "/wait2"]
        places = [stack["where"] for one in requests for stack in one["stacks"]]
        assert len(places) == len(set(places)) == 3, "one stack each, of a greenlet of its own"
        assert all(place.startswith("greenlet ") for place in places), places
        for one in requests:
            found = functions(one["stacks"][0])
            assert found[-2:] == ["waits", "application"], found
        wait_for(lambda: "in waits" in run("oxicornctl", server, "stacks", requests[0]["id"]).stdout)
        assert server.get("/free").status == 200
        assert [answer.result().status for answer in answers] == [200] * 3


def test_stacks_come_also_while_c_code_keeps_the_interpreter(serve):
    source = """
        import ctypes, os

        libc = ctypes.PyDLL(None)

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/fifo":
                open("reached", "w").close()
                libc.open(b"fifo", 0)
            start_response("200 OK", [])
            return [b""]
    """
    server = start(serve, "--threads", "2", source=source)
    fifo = server.directory / "fifo"
    os.mkfifo(fifo)
    with server.connect() as peer:
        peer.send(b"GET /fifo HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for((server.directory / "reached").exists)
        worker = wait_for(lambda: stacks_of(server, taken_by="signal"))
        (request,) = worker["requests"]
        (stack,) = request["stacks"]
        assert functions(stack) == ["application"]
        with fifo.open("w"):
            assert peer.answer().status == 200


def test_orders_are_followed_and_logged(serve):
    server = start(serve, "--workers", "1")
    assert ask(server, "worker", "add", "2") == {"added": 2, "previous": 1, "total": 3}
    pids = server.wait_for_workers(3)
    assert ask(server, "worker", "recycle", str(pids[0])) == {"recycled": [pids[0]]}
    server.wait_for_workers(3, without=[pids[0]])
    assert ask(server, "worker", "remove", "9") == {"removed": 2, "previous": 3, "total": 1}
    server.wait_for_workers(1)
    server.wait_for_log(
        rf"\[INFO\] Control: 'worker recycle {pids[0]}' by pid \d+ of user {pwd.getpwuid(os.getuid()).pw_name}"
    )
    assert ask(server, "shutdown") == {"status": "shutting_down", "mode": "graceful"}
    assert server.wait_for_exit() == 0
    assert not (server.directory / "control").exists()


def test_orders_say_in_words_what_they_have_done(serve):
    server = start(serve, "--workers", "1")
    (pid,) = server.worker_pids()
    for words, expected in [
        (f"worker kill {pid}", f"Worker {pid} finishes what it has and is replaced"),
        ("worker add 2", "added 2; workers wanted: 3 (before: 1)"),
        ("worker remove", "removed 1; workers wanted: 2 (before: 3)"),
        ("reopen", "reopening"),
        ("reload --no-wait", "reloading"),
    ]:
        done = run("oxicornctl", server, *words.split())
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")
    refused = run("oxicornctl", server, "worker", "kill", "1")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "Error: Worker 1 not found\n")
    everybody = run("oxicornctl", server, "show", "all").stdout
    assert re.search(rf"^{server.pid} +arbiter ", everybody, re.MULTILINE)
    assert re.search(r"^\d+ +worker +\d+ +yes$", everybody, re.MULTILINE)
    for line in run("oxicornctl", server, "show", "config", "all").stdout.splitlines():
        assert re.match(r"\w+(  |$)", line), line
    assert run("oxicornctl", server, "shutdown").stdout == "shutting down (graceful)\n"
    assert server.wait_for_exit() == 0


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("missing", "No such file or directory. Is control_socket set to this path? (-s PATH)"),
        ("app.py", "Connection refused. It is no socket, or of a server that was killed."),
    ],
)
def test_who_finds_no_server_is_told_what_to_do(shared, path, advice):
    path = str(shared.directory / path)
    done = subprocess.run([ctl("oxicornctl"), "-s", path, "top"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"Error: no server answers at {path}: {advice}\n")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_who_may_not_use_the_socket_is_told_whose_it_is(serve):
    server = start(serve)
    code = (
        "import os, sys; os.chdir('/'); sys.path[:] = [path for path in sys.path if path]\n"
        "from oxicorn.control.client import ControlClient, ControlError\n"
        f"os.chmod({str(server.directory)!r}, 0o755); os.setuid(65534)\n"
        f"try: ControlClient({str(server.directory / 'control')!r})\n"
        "except ControlError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(
        "Permission denied. It belongs to the server's user: call this as that one, or as root."
    )


def test_idle_workers_and_refused_orders_are_told_of(shared):
    stacks = run("oxicornctl", shared, "stacks").stdout
    assert len(re.findall(r"^Worker \d+: no request$", stacks, re.MULTILINE)) == 2
    assert run("oxicornctl", shared, "loglevel", "loud").returncode == 1
    shared.wait_for_log(r"Control: 'loglevel loud' was refused: Unknown log level: loud \(")


def test_who_follows_a_server_that_stops_is_told_so(serve):
    server = start(serve, "--workers", "1")
    command = [ctl("oxicornctl"), "-s", str(server.directory / "control"), "--json", "-d", "0.05"]
    with contextlib.ExitStack() as ending:
        followers = [
            ending.enter_context(subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            for words in (["trace"], ["top", "-n", "100000"])
        ]
        for follower in followers:

            def is_told(follower=follower) -> bool:
                assert server.get("/").status == 200
                return bool(select.select([follower.stdout], [], [], 0.05)[0])

            wait_for(is_told)
        assert server.stop() == 0
        for follower in followers:
            _, complaint = follower.communicate(timeout=60)
            assert follower.returncode == 1
            assert complaint.decode() == f"Error: the server at {server.directory / 'control'} has gone\n"


def test_who_has_seen_enough_ends_the_output_without_a_word(shared):
    command = f"{ctl('oxicornctl')} -s {shared.directory / 'control'} show config all | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_clients_of_unix_sockets_have_a_name(serve):
    server = start(serve, "--workers", "1", bind="unix:clients.sock")
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        (request,) = ask(server, "show", "requests")["requests"]
        assert request["client"] == "unix"
        gate.open()
        assert peer.answer().status == 200
    with server.connect() as peer:
        peer.send(b"nonsense\r\n\r\n")
        assert peer.answer().status == 400
    server.wait_for_log("Invalid request from ip=unix: ")


def test_requests_are_followed_as_they_pass(serve):
    server = start(serve, "--workers", "1", "--request-id")
    command = [ctl("oxicornctl"), "-s", str(server.directory / "control"), "trace", "--json", "GET /*gate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        output = follower.stdout

        def shows_something() -> bool:
            assert server.get("/first-gate").status == server.get("/other").status == 200
            return bool(select.select([output], [], [], 0.05)[0])

        wait_for(shows_something)
        with Gate(server) as gate, server.connect() as peer:
            peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc\r\n\r\n".encode())
            events = [json.loads(output.readline())]
            while events[-1]["request"] != f"GET {gate.target}":
                events.append(json.loads(output.readline()))
            gate.open()
            begin, end = events[-1], json.loads(output.readline())
            while end["id"] != begin["id"]:
                # The end of one that was answered before.
                events.append(end)
                end = json.loads(output.readline())
            assert peer.answer().status == 200
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130
    assert {event["request"] for event in events} == {f"GET {gate.target}", "GET /first-gate"}
    assert (begin["event"], begin["client"]) == ("begin", "127.0.0.1")
    assert (end["event"], end["id"], end["status"], end["bytes"]) == ("end", begin["id"], 200, 2)
    assert begin["request_id"] == end["request_id"] == "abc"
    assert [end["pid"]] == server.worker_pids()
    assert end["total_ms"] >= end["worker_ms"]


def test_server_is_taken_out_of_rotation_and_put_back(serve):
    server = start(serve, "--metrics-bind", "unix:metrics")

    def ready() -> bytes:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(server.directory / "metrics"))
            peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            return b"".join(iter(lambda: peer.recv(65536), b""))

    wait_for(lambda: b" 200 " in ready())
    assert ask(server, "drain") == {"status": "out of rotation", "changed": True}
    wait_for(lambda: b"out of rotation" in ready())
    assert server.get("/").header("Connection") == "close"
    server.kill(signal.SIGHUP)
    wait_for(lambda: ask(server, "show", "stats")["generation"] == 2)
    assert b" 503 " in ready(), "a reload does not put it back"
    assert ask(server, "undrain") == {"status": "in rotation", "changed": True}
    wait_for(lambda: b" 200 " in ready())
    assert server.get("/").header("Connection") == "keep-alive"


def test_log_level_is_changed_in_every_process(serve):
    source = """
        import logging

        def application(environ, start_response):
            logging.getLogger("gunicorn.error").debug("seen by %s", environ["PATH_INFO"])
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
    """
    server = start(serve, "--workers", "1", source=source)
    assert server.get("/before").status == 200
    assert ask(server, "loglevel", "debug") == {"loglevel": "debug", "previous": "info"}
    wait_for(lambda: server.get("/asked").status == 200 and "seen by /asked" in server.log)
    (first,) = server.worker_pids()
    ask(server, "worker", "recycle", "all")
    server.wait_for_workers(1, without=[first])
    wait_for(lambda: server.get("/successor").status == 200 and "seen by /successor" in server.log)
    assert ask(server, "reload")["status"] == "reloaded"
    assert ask(server, "loglevel") == {"loglevel": "info"}
    assert "seen by /before" not in server.log


def test_refork_takes_new_workers_from_the_template(serve):
    server = start(serve, "--workers", "2", "--preload")
    before = server.worker_pids()
    server.write("app.py", "raise RuntimeError('not loaded again')\n")
    assert sorted(ask(server, "refork")["workers"]) == sorted(before)
    server.wait_for_workers(2, without=before)
    assert server.get("/").status == 200


def test_refork_needs_a_template(shared):
    done = run("oxicornctl", shared, "refork")
    assert done.returncode == 1
    assert "preload_app" in done.stderr


class Terminal:
    """``oxicornctl top`` on a terminal of its own."""

    def __init__(self, server) -> None:
        pid, self._descriptor = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(ctl("oxicornctl"), ["oxicornctl", "-s", str(server.directory / "control"), "-d", "0.1", "top"])
        self.pid = pid
        self.resize(24, 100)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, text: str) -> str:
        """What was written up to a look at which ``text`` had come."""
        seen = b""
        end = time.monotonic() + patient(20)
        while text not in re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]", " ", seen.decode(errors="replace")):
            assert time.monotonic() < end, seen[-2000:]
            if select.select([self._descriptor], [], [], 0.2)[0]:
                seen += os.read(self._descriptor, 65536)
        return seen.decode(errors="replace")

    def end(self) -> int:
        """Its exit code."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status)


def test_top_is_a_live_view_with_the_keys_of_htop(serve):
    server = start(serve, "--workers", "2")
    with Gate(server) as gate, server.connect() as peer:
        peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.wait_until_reached()
        top = Terminal(server)
        top.wait_for("GET /gate")
        top.press("M")
        top.wait_for("MEM*")
        top.press("<")
        top.wait_for("CPU%*")
        top.press("N")
        top.wait_for("PID*")
        top.press("s")
        top.wait_for("lines; Up Down")
        top.press("x")
        top.wait_for("F10 Quit")
        top.press("+")
        top.wait_for("One worker more? (y/n)")
        top.press("y")
        server.wait_for_workers(3)
        top.resize(8, 40)
        top.wait_for("Workers")
        top.resize(50, 200)
        top.wait_for("GET /gate")
        top.press("?")
        top.wait_for("any key goes back")
        top.press("xq")
        assert top.end() == 0
        gate.open()
        assert peer.answer().status == 200


def test_top_prints_where_there_is_no_terminal(shared):
    def states() -> list[str]:
        return [worker["state"] for worker in json.loads(run("oxicornctl", shared, "top", "--json").stdout)["workers"]]

    wait_for(lambda: states() == ["ready", "ready"])
    assert "REQ/S" in run("oxicornctl", shared, "top").stdout


def test_reload_tells_how_it_went(serve):
    server = start(serve, "--workers", "1")
    (before,) = server.worker_pids()
    outcome = ask(server, "reload")
    assert (outcome["status"], outcome["generation"]) == ("reloaded", 2)
    assert server.worker_pids() != [before]
    server.write("app.py", "raise RuntimeError('broken')\n")
    done = run("oxicornctl", server, "reload")
    assert done.returncode == 1
    assert "the error log says why" in done.stderr
    assert server.get("/").status == 200


def test_socket_is_its_users_alone_and_nobody_elses_is_taken(serve):
    server = start(serve)
    path = server.directory / "control"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = serve(APPLICATION, "--control-socket", str(path))
    other.wait_for_log(rf"No control socket at {path}: the server with pid {server.pid} listens there")
    assert ask(server, "show", "stats")["pid"] == server.pid
    assert other.stop() == 0
    assert ask(server, "show", "stats")["pid"] == server.pid


def test_socket_of_a_server_that_was_killed_is_replaced(serve):
    server = start(serve, "--workers", "1")
    server.kill(signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(server.pid) and not server.processes())
    path = server.directory / "control"
    assert path.exists()
    other = serve(APPLICATION, "--control-socket", str(path), "--control-socket-mode", "0o660")
    wait_for(lambda: run("oxicornctl", server, "show", "stats").returncode == 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert ask(server, "show", "stats")["pid"] == other.pid


def test_nobody_makes_a_socket_unasked(serve, tmp_path):
    server = serve(APPLICATION, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    disabled = serve(APPLICATION, "--control-socket", "control", "--no-control-socket")
    assert server.get("/").status == disabled.get("/").status == 200
    assert list(tmp_path.iterdir()) == []
    assert not (disabled.directory / "control").exists()


@pytest.mark.parametrize("by", ["signal", "order"])
def test_successor_takes_the_path_when_its_predecessor_is_gone(serve, by):
    server = start(serve, "--pid", "pid", "--workers", "1")
    old = server.pid
    if by == "signal":
        server.kill(signal.SIGUSR2)
    else:
        ask(server, "upgrade")
    successor = int(wait_for(lambda: server.read("pid.2").strip()))
    try:
        server.wait_for_workers(2)
        assert ask(server, "show", "stats")["pid"] == old
        assert server.stop() == 0
        wait_for(lambda: listens(server))
        assert ask(server, "show", "stats")["pid"] == successor
    finally:
        os.kill(successor, signal.SIGTERM)
        wait_for(lambda: not processes.is_alive(successor))
    assert not (server.directory / "control").exists()
