"""The hooks of the config file: which, in which process, in which order, with which arguments."""

from __future__ import annotations

import os
import signal
import socket
import textwrap

import pytest

from tests.support.greenlets import ALSO_IN_GREENLETS
from tests.support.ports import free_port
from tests.support.wait import wait_for

APP = """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError("on purpose")
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Answer", "yes")])
        return [b"hello"]
"""

#: Each call of a hook becomes one line: name, role of the process, facts about the arguments.
CONFIG = """
    import os

    MASTER = os.getpid()

    def note(name, *facts):
        role = "master" if os.getpid() == MASTER else "worker"
        with open("hooks.log", "a") as file:
            file.write(" ".join([name, role, *map(str, facts)]) + "\\n")

    def on_starting(server):
        note("on_starting", type(server).__name__, server.pid == os.getpid())

    def when_ready(server):
        note("when_ready", len(server.WORKERS), server.num_workers)

    def nworkers_changed(server, new_value, old_value):
        note("nworkers_changed", new_value, old_value)

    def pre_fork(server, worker):
        note("pre_fork", worker.age)

    def post_fork(server, worker):
        note("post_fork", worker.age, worker.pid == os.getpid())

    def post_worker_init(worker):
        note("post_worker_init", worker.age, callable(worker.wsgi))

    def pre_request(worker, req):
        req.seen_by_pre_request = "yes"
        note("pre_request", worker.pid == os.getpid(), req.method, req.path, req.query, dict(req.headers).get("X-ONE"))

    def post_request(worker, req, environ, resp):
        note("post_request", req.method, req.seen_by_pre_request, environ.get("PATH_INFO"), resp.status)

    def worker_int(worker):
        note("worker_int", worker.pid == os.getpid())

    def worker_abort(worker):
        note("worker_abort", worker.pid == os.getpid())

    def worker_exit(server, worker):
        note("worker_exit", worker.pid == os.getpid())

    def child_exit(server, worker):
        note("child_exit", worker.age)

    def on_reload(server):
        note("on_reload", type(server).__name__)

    def on_exit(server):
        note("on_exit", len(server.WORKERS))
"""


def hooks(server) -> list[str]:
    return server.lines("hooks.log")


def names(server) -> list[str]:
    return [line.split()[0] for line in hooks(server)]


@ALSO_IN_GREENLETS
def test_life_of_a_server(serve):
    server = serve(APP, config=CONFIG, ready=None)
    wait_for(lambda: "post_worker_init" in names(server))
    assert server.stop(signal.SIGTERM) == 0
    found = [line for line in hooks(server)]
    assert found == [
        "nworkers_changed master 1 None",
        "on_starting master Arbiter True",
        "when_ready master 0 1",
        "pre_fork master 1",
        "post_fork worker 1 True",
        "post_worker_init worker 1 True",
        "worker_exit worker True",
        "child_exit master 1",
        "on_exit master 0",
    ]


@ALSO_IN_GREENLETS
def test_request_hooks(serve):
    server = serve(APP, config=CONFIG)
    server.get("/path?a=1", [("X-One", "1")])
    wait_for(lambda: "post_request worker GET yes /path 200 OK" in hooks(server))
    assert "pre_request worker True GET /path a=1 1" in hooks(server)
    # Of two greenlets, that of the request that found the server ready may be the later one.
    wait_for(lambda: names(server).count("post_request") == 2)
    wait = len(hooks(server))
    assert server.get("/raises").status == 500
    wait_for(lambda: names(server)[wait:] == ["pre_request", "post_request"], what="also after an error")


@ALSO_IN_GREENLETS
@pytest.mark.parametrize("parameters", ["worker, req", "worker, req, environ", "worker, req, environ, resp"])
def test_post_request_may_take_fewer_arguments(serve, parameters):
    server = serve(
        APP,
        config=f"""
        def post_request({parameters}):
            open("hooks.log", "a").write("post_request " + req.path + "\\n")
    """,
    )
    server.get("/mine")
    wait_for(lambda: "post_request /mine" in hooks(server))


TRAILERS_SEEN = """
    def post_request(worker, req):
        open("hooks.log", "a").write(f"{req.path} {req.trailers}\\n")
"""
CHUNKED = "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
TRAILERS = b"0\r\nX-Sum: 42\r\nx-sum: 43\r\n\r\n"


@ALSO_IN_GREENLETS
def test_post_request_sees_trailers(serve):
    app = APP.replace("start_response(", 'environ["wsgi.input"].read()\n        start_response(', 1)
    server = serve(app, config=TRAILERS_SEEN)
    with server.connect() as peer:
        peer.send(CHUNKED.format("/with").encode() + TRAILERS)
        assert peer.answer("POST").status == 200
    with server.connect() as peer:
        peer.send(CHUNKED.format("/without").encode() + b"0\r\n\r\n")
        assert peer.answer("POST").status == 200
    wait_for(lambda: "/without []" in hooks(server))
    wait_for(lambda: "/with [('X-SUM', '42'), ('X-SUM', '43')]" in hooks(server))


def test_post_request_of_an_asgi_application_sees_trailers(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("there the asgi worker skips them")
    app = """
        async def application(scope, receive, send):
            while scope["type"] == "http" and (await receive())["more_body"]:
                open("called", "w").close()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})
    """
    server = serve(app, "--worker-class", "asgi", config=TRAILERS_SEEN)
    with server.connect() as peer:
        peer.send(CHUNKED.format("/whole").encode() + TRAILERS)
        assert peer.answer("POST").status == 200
        peer.send(CHUNKED.format("/streamed").encode())
        wait_for((server.directory / "called").exists)
        peer.send(TRAILERS)
        assert peer.answer("POST").status == 200
        peer.send(CHUNKED.format("/without").encode() + b"0\r\n\r\n")
        assert peer.answer("POST").status == 200
    for path in "/whole", "/streamed":
        wait_for(lambda path=path: f"{path} [('X-SUM', '42'), ('X-SUM', '43')]" in hooks(server))
    wait_for(lambda: "/without []" in hooks(server))


@ALSO_IN_GREENLETS
def test_failing_post_request_costs_no_answer(serve):
    server = serve(
        APP,
        config="""
        def post_request(worker, req):
            raise RuntimeError("in the hook")
    """,
    )
    assert server.get().body == b"hello"
    server.wait_for_log("Exception in post_request hook")
    assert server.get().body == b"hello"


def test_reload_hooks(serve):
    server = serve(APP, config=CONFIG)
    before, old = len(hooks(server)), server.worker_pids()
    server.write("app.py", "import time\ntime.sleep(0.3)\n" + textwrap.dedent(APP))
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    wait_for(lambda: "child_exit" in names(server)[before:])
    found = [name for name in names(server)[before:] if "request" not in name]
    for name in ("on_reload", "pre_fork", "post_fork", "post_worker_init", "worker_exit", "child_exit"):
        assert found.count(name) == 1, found
    assert found.index("on_reload") < found.index("pre_fork")
    assert found.index("post_worker_init") < found.index("worker_exit"), "the new one is ready first"


def test_scaling_hooks(serve):
    server = serve(APP, config=CONFIG)
    server.kill(signal.SIGTTIN)
    server.wait_for_workers(2)
    wait_for(lambda: "nworkers_changed master 2 1" in hooks(server))
    server.kill(signal.SIGTTOU)
    server.wait_for_workers(1)
    wait_for(lambda: "nworkers_changed master 1 2" in hooks(server))


@ALSO_IN_GREENLETS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_interrupt_hook(serve, number):
    server = serve(APP, config=CONFIG)
    assert server.stop(number) == 0
    assert "worker_int worker True" in hooks(server)


def test_abort_hook_when_a_worker_times_out(serve):
    server = serve(
        """
        import time

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/stuck":
                time.sleep(60)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]
        """,
        "--timeout",
        "1",
        config=CONFIG,
    )
    server.get("/stuck")
    wait_for(lambda: "worker_abort worker True" in hooks(server))


@ALSO_IN_GREENLETS
def test_child_exit_after_a_death(serve):
    server = serve(APP, config=CONFIG)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "child_exit master 1" in hooks(server))
    server.wait_for_workers(1, without=[pid])
    wait_for(lambda: "post_worker_init worker 2 True" in hooks(server))


@pytest.mark.parametrize(
    ("hook", "code"),
    [
        ("def post_fork(server, worker): raise RuntimeError('in the hook')", 3),
        ("def post_worker_init(worker): raise RuntimeError('in the hook')", 3),
    ],
)
def test_failing_boot_hook_stops_the_start(serve, hook, code):
    server = serve(APP, config=hook + "\n", ready=None)
    assert server.wait_for_exit() == code
    assert "in the hook" in server.log
    assert "Reason: Worker failed to boot." in server.log


@pytest.mark.parametrize("hook", ["def on_starting(): pass", "def pre_fork(worker): pass", "when_ready = 5"])
def test_hook_with_wrong_arguments_is_refused(serve, hook):
    server = serve(APP, config=hook + "\n", ready=None)
    assert server.wait_for_exit() == 1
    assert "Error: " in server.log


def test_hooks_may_use_what_the_server_offers(serve):
    """Killing a worker from a hook, as memory watchers do."""
    server = serve(
        APP,
        "--workers",
        "2",
        config="""
        import os, signal, threading, time

        def when_ready(server):
            def watch():
                while not os.path.exists("go"):
                    time.sleep(0.01)
                server.kill_worker(min(server.WORKERS), signal.SIGTERM)
            threading.Thread(target=watch, daemon=True).start()
    """,
    )
    first = server.worker_pids()
    server.write("go", "")
    server.wait_for_workers(2, without=first[:1])
    assert server.get().body == b"hello"


def test_commands_of_a_hooks_thread_keep_their_exit_codes(serve):
    """The arbiter waits for its own children only, however often one of them ends meanwhile."""
    server = serve(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"]
        """,
        config="""
            import os, subprocess, threading, time

            def run():
                # A worker that is forked meanwhile would hold the pipes of the command.
                while not os.path.exists("go"):
                    time.sleep(0.01)
                codes = {subprocess.run(["sh", "-c", "exit 7"]).returncode for _ in range(100)}
                with open("codes", "w") as file:
                    file.write(f"{codes}\\n")

            def when_ready(server):
                threading.Thread(target=run, daemon=True).start()
        """,
    )
    server.write("go", "")
    codes = wait_for(lambda: server.lines("codes"), what="all commands have run")
    assert codes == ["{7}"]


def test_a_reload_whose_hook_raises_is_refused_for_that_reason(serve):
    """Nothing of it stays: neither its settings nor its addresses."""
    server, other = serve.new(), free_port()
    server.start(app=APP, bind="", config=f'bind = "{server.bind}"')
    server.write(
        "gunicorn.conf.py",
        f"""
        bind = ["{server.bind}", "127.0.0.1:{other}"]

        def on_reload(server):
            raise LookupError("no such thing")
        """,
    )
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_log(r"Exception in hook on_reload$")
    server.wait_for_log(r"Reason: Hook on_reload raised an exception\.$")
    assert "LookupError: no such thing" in server.log
    assert "Configuration is not valid" not in server.log
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", other)).close()
    assert server.get().status == 200
    assert server.worker_pids() == old
