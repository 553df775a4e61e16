"""Processes that the application forks: each ends as a program would, and the server notices nothing."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.support.wait import wait_for

#: What a child does after the fork, and its exit code (negative: the signal that ended it).
ENDS = {
    "exit": ("sys.exit(7)", 7),
    "exit-text": ("sys.exit('the reason')", 1),
    "exit-none": ("sys.exit()", 0),
    "exit-large": ("sys.exit(2**40 + 5)", 5),
    "raise": ("raise ValueError('in the child')", 1),
    "return": ("pass", 0),
    "os-exit": ("os._exit(9)", 9),
    "terminated": ("os.kill(os.getpid(), 15); time.sleep(60)", -15),
    "interrupted": ("os.kill(os.getpid(), 2); time.sleep(60)", -2),
    "thread": ("threading.Thread(target=lambda: (time.sleep(0.05), os._exit(8))).start()", 8),
    "exec": ("os.execvp('sh', ['sh', '-c', 'exit 6'])", 6),
}

SHARED = """
    import multiprocessing, os, pty, subprocess, sys, threading, time

    ENDS = {ends!r}

    def target():
        sys.exit(4)

    def sleeper():
        time.sleep(60)

    def code_of(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def forked(how):
        '''What the parent finds out; None in a child that comes back.'''
        if how == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=target)
            process.start()
            process.join()
            return process.exitcode
        if how == "multiprocessing-terminate":
            process = multiprocessing.get_context("fork").Process(target=sleeper)
            process.start()
            process.terminate()
            process.join()
            return process.exitcode
        if how == "subprocess":
            return subprocess.run(["sh", "-c", "exit 6"], check=False).returncode
        if how == "subprocess-preexec":
            return subprocess.run(["sh", "-c", "exit 6"], preexec_fn=os.setsid).returncode
        if how == "double":
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setsid()
                if os.fork() == 0:
                    os.write(write, b"daemon")
                    return None
                sys.exit(5)
            os.close(write)
            text = b""
            while piece := os.read(read, 100):
                text += piece
            return f"{{code_of(pid)}} {{text.decode()}}"
        if how.startswith("pty-"):
            pid, terminal = pty.fork()
            how = how[4:]
        else:
            pid, terminal = os.fork(), None
        if pid == 0:
            exec(ENDS[how][0])
            return None
        code = code_of(pid)
        if terminal is not None:
            os.close(terminal)
        return code
"""

WSGI = (
    SHARED
    + """
    def application(environ, start_response):
        how = environ["QUERY_STRING"]
        if environ["PATH_INFO"] == "/pid":
            body = str(os.getpid())
        elif environ["PATH_INFO"] == "/slow":
            time.sleep(0.2)
            body = "slow"
        elif environ["PATH_INFO"] == "/generator":
            start_response("200 OK", [])
            return generator(how)
        else:
            body = str(forked(how))
        start_response("200 OK", [])
        return [body.encode()]

    def generator(how):
        yield b"first "
        yield str(forked(how)).encode()
"""
)

ASGI = (
    SHARED
    + """
    import asyncio

    async def application(scope, receive, send):
        how = scope["query_string"].decode()
        path = scope["path"]
        if path == "/pid":
            body = str(os.getpid())
        elif path == "/slow":
            await asyncio.sleep(0.2)
            body = "slow"
        elif path == "/executor":
            body = str(await asyncio.get_running_loop().run_in_executor(None, forked, how))
        elif path == "/anyio":
            import anyio.to_thread
            body = str(await anyio.to_thread.run_sync(forked, how))
        elif path == "/task":
            body = str(await asyncio.create_task(forked_in_task(how)))
        else:
            body = str(forked(how))
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": body.encode()}})

    async def forked_in_task(how):
        return forked(how)
"""
)

#: Others than plain forks, and what the parent sees.
OTHERS = {
    "multiprocessing": "4",
    "multiprocessing-terminate": "-15",
    "subprocess": "6",
    "subprocess-preexec": "6",
    "double": "5 daemon",
    "pty-exit": "7",
    "pty-raise": "1",
}

EXPECTED = {name: str(code) for name, (_, code) in ENDS.items()} | OTHERS

KINDS = {
    "sync": (WSGI, ["-k", "sync"], ["/", "/generator"]),
    "gthread": (WSGI, ["-k", "gthread", "--threads", "3"], ["/", "/generator"]),
    "gevent": (WSGI, ["-k", "gevent"], ["/", "/generator"]),
    "asyncio": (ASGI, ["-k", "asgi", "--asgi-loop", "asyncio"], ["/", "/executor", "/anyio", "/task"]),
    "uvloop": (ASGI, ["-k", "asgi", "--asgi-loop", "uvloop"], ["/", "/executor", "/anyio", "/task"]),
}


def is_lost(path: str) -> bool:
    """In a child of a task no loop runs: since 3.14 asyncio makes a RuntimeError of each exit."""
    return path == "/task" and sys.version_info >= (3, 14)


@pytest.mark.parametrize("kind_of_worker", KINDS)
def test_child_ends_as_a_program_and_harms_nobody(serve, kind, kind_of_worker):
    if kind.is_gunicorn:
        pytest.skip("there the child goes on as a second worker")
    if kind_of_worker == "gevent":
        pytest.importorskip("gevent")
    source, flags, paths = KINDS[kind_of_worker]
    server = serve(source.format(ends=ENDS), *flags, "--timeout", "20")
    pid = server.get("/pid").body
    for path in paths:
        first = b"first " if path == "/generator" else b""
        for how, expected in EXPECTED.items():
            # Without any server, too: it joins the executor's threads, one of which it is. Mended in 3.13.
            joins_itself = sys.version_info < (3, 13) and (path, how) == ("/executor", "multiprocessing")
            expected = "1" if joins_itself else expected
            if kind_of_worker == "gevent" and how == "double":
                continue  # Its os.close() leaves a pipe open until the hub turns, so reading that never ends.
            answer = server.get(f"{path}?{how}")
            if is_lost(path):
                assert answer.status == 200
                continue
            assert (how, answer.body) == (how, first + expected.encode()), (path, server.log)
        with server.connect() as other:
            # In hand while the child lives, where a worker has several.
            other.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = server.get(f"{path}?raise")
            if not is_lost(path):
                assert answer.body == first + b"1"
            assert other.answer().body == b"slow"
    assert server.get("/pid").body == pid
    assert "nonsense" not in server.log
    assert "Link of worker" not in server.log
    wait_for(lambda: len(server.worker_pids()) == 1)
    # That of a child with a terminal of its own goes there.
    told = server.log.count("ValueError: in the child")
    assert 2 * len([path for path in paths if not is_lost(path)]) <= told <= 2 * len(paths)


HOOKS = """
    import os, sys

    seen = set()

    def fork_in(hook):
        if hook in seen:
            return
        seen.add(hook)
        for how in ("return", "exit", "raise"):
            pid = os.fork()
            if pid == 0:
                if how == "exit":
                    sys.exit(7)
                if how == "raise":
                    raise ValueError("in the child")
                return
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with open("codes", "a") as file:
                file.write(f"{hook} {how} {code}\\n")

    def on_starting(server):
        fork_in("on_starting")

    def when_ready(server):
        fork_in("when_ready")

    def nworkers_changed(server, new, old):
        if old is not None:
            fork_in("nworkers_changed")

    def pre_fork(server, worker):
        fork_in("pre_fork")

    def post_fork(server, worker):
        fork_in("post_fork")

    def post_worker_init(worker):
        fork_in("post_worker_init")

    def pre_request(worker, req):
        fork_in("pre_request")

    def post_request(worker, req, environ, resp):
        fork_in("post_request")

    def worker_exit(server, worker):
        fork_in("worker_exit")

    def child_exit(server, worker):
        fork_in("child_exit")

    def on_reload(server):
        fork_in("on_reload")

    def on_exit(server):
        fork_in("on_exit")
"""

FORKING_IMPORT = """
    import os
    import sys

    for how in ("return", "exit", "raise"):
        pid = os.fork()
        if pid == 0:
            if how == "exit":
                sys.exit(7)
            if how == "raise":
                raise ValueError("in the child")
            break
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with open("codes", "a") as file:
            file.write(f"import {how} {code}\\n")

    def application(environ, start_response):
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
"""


#: The hooks that run in this test, in the workers and in the arbiter.
EXPECTED_HOOKS = (
    "on_starting when_ready nworkers_changed pre_fork post_fork import post_worker_init pre_request post_request "
    "worker_exit child_exit on_reload on_exit"
).split()


@pytest.mark.parametrize("preload", [False, True], ids=["loaded-by-worker", "preloaded"])
def test_forks_in_hooks_and_at_import_make_no_second_server(serve, kind, preload):
    if kind.is_gunicorn:
        pytest.skip("there each child goes on as a second server or worker")
    server = serve(FORKING_IMPORT, *(["--preload"] if preload else []), config=HOOKS)
    server.wait_for_workers(1)
    server.kill(signal.SIGHUP)
    # The application is loaded again, by a worker or, preloaded, by the arbiter.
    wait_for(lambda: any("on_reload raise" in line for line in server.lines("codes")))
    server.kill(signal.SIGTTIN)
    # Two workers there are also in the middle of the reload.
    wait_for(lambda: any("nworkers_changed raise" in line for line in server.lines("codes")))
    server.wait_for_workers(2)
    server.get()
    assert server.stop() == 0
    codes = {"return": 0, "exit": 7, "raise": 1}
    expected = {f"{hook} {how} {code}" for hook in EXPECTED_HOOKS for how, code in codes.items()}
    assert set(server.lines("codes")) == expected
    assert server.log.count("Starting") == 1
    assert server.log.count("Shutting down: Master") == 1


HOLDING = """
    import os, time

    def sockets():
        targets = []
        for number in os.listdir("/proc/self/fd"):
            try:
                targets.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:
                pass
        return [target for target in targets if target.startswith("socket:")]

    def stay(name):
        if os.fork() == 0:
            with open(f"{name}.new", "w") as file:
                file.write(f"{os.getpid()} {len(sockets())}")
            os.rename(f"{name}.new", name)
            time.sleep(60)
            os._exit(0)
"""


def test_child_that_stays_holds_no_socket_of_the_server(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("its listeners stay bound")
    application = (
        HOLDING
        + """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/stay":
            stay("of-request")
        start_response("200 OK", [])
        return [b"hello"]
    """
    )
    server = serve(application, config=HOLDING + "\n    def when_ready(server):\n        stay('of-hook')\n")
    assert server.get("/stay").body == b"hello"
    found = [wait_for(lambda name=name: server.read(name)) for name in ("of-hook", "of-request")]
    pids = [int(text.split()[0]) for text in found]
    try:
        assert [text.split()[1] for text in found] == ["0", "0"]
        assert server.stop() == 0
        assert server.refuses(), "nobody listens any more"
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
