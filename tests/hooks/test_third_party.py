"""Hooks as real deployments write them: metrics, traces, a memory watcher."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal

import pytest

from tests.support.greenlets import ALSO_IN_GREENLETS
from tests.support.http import encode
from tests.support.wait import wait_for

pytestmark = ALSO_IN_GREENLETS

# prometheus_client: counters of all workers in one scrape, live gauges of living workers only.

METRICS_APP = """
    import os, time
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

    REQUESTS = Counter("requests_total", "Requests.", ["path"])
    ALIVE = Gauge("worker_alive", "One for each worker.", multiprocess_mode="liveall")
    BUSY = Gauge("busy", "Requests in hand.", multiprocess_mode="livesum")
    ALIVE.set(1)

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/metrics":
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
            return [generate_latest(registry)]
        with BUSY.track_inprogress():
            REQUESTS.labels(path).inc()
            if path == "/slow":
                time.sleep(0.2)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""
METRICS_CONFIG = """
    import os
    from prometheus_client import multiprocess

    def child_exit(server, worker):
        multiprocess.mark_process_dead(worker.pid)
"""


def samples(server, name: str) -> dict[str, float]:
    """Label set -> value of one metric."""
    lines = (
        line
        for line in server.get("/metrics").text.splitlines()
        if line.startswith(name + "{") or line.startswith(name + " ")
    )
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def answers_at_once(server, path: str, count: int) -> list[int]:
    """The pids that so many requests at a time are answered with."""
    with contextlib.ExitStack() as clients:
        peers = [clients.enter_context(server.connect()) for _ in range(count)]
        for peer in peers:
            peer.send(encode(target=path))
        return [int(peer.answer().text) for peer in peers]


def test_prometheus_multiprocess_metrics(serve):
    server = serve.new()
    (server.directory / "metrics").mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(server.directory / "metrics")}
    server.start("--workers", "3", app=METRICS_APP, config=METRICS_CONFIG, env=environment, ready="/metrics")
    answered = answers_at_once(server, "/slow", 12)
    if "gevent" not in server.command:  # One worker has room for all of them there.
        # One of them may stand still for a while.
        everybody = set(server.worker_pids())
        wait_for(lambda: answered.extend(answers_at_once(server, "/slow", 6)) or set(answered) == everybody)
    counted = {'requests_total{path="/slow"}': float(len(answered))}
    assert samples(server, "requests_total") == counted
    assert samples(server, "busy") == {"busy": 0.0}

    def alive() -> set[int]:
        return {int(re.search(r'pid="(\d+)"', label)[1]) for label in samples(server, "worker_alive")}

    assert alive() == set(server.worker_pids())
    dead = server.worker_pids()[0]
    os.kill(dead, signal.SIGKILL)
    server.wait_for_workers(3, without=[dead])
    wait_for(
        lambda: alive() == set(server.worker_pids()), what="the dead worker's gauge is gone, the new one's is there"
    )
    server.kill(signal.SIGHUP)
    server.wait_for_workers(3, without=answered)
    wait_for(lambda: alive() == set(server.worker_pids()))
    assert samples(server, "requests_total") == counted, "counters outlive workers"


# OpenTelemetry: the exporter's thread does not survive a fork, so it is started in each worker.

TRACES_CONFIG = """
    import os
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    def post_fork(server, worker):
        server.log.info("Worker spawned (pid: %s)", worker.pid)
        resource = Resource.create({"service.name": "shop", "worker": worker.pid})
        out = open(f"spans.{worker.pid}.json", "a")
        exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\\n")
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
"""
TRACES_APP = """
    import os, time
    from opentelemetry import trace

    tracer = trace.get_tracer(__name__)

    def application(environ, start_response):
        with tracer.start_as_current_span("request") as span:
            span.set_attribute("pid", os.getpid())
            span.set_attribute("path", environ["PATH_INFO"])
            time.sleep(0.05)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_opentelemetry_spans_of_every_worker(serve, preload):
    server = serve(TRACES_APP, "--workers", "2", *preload, config=TRACES_CONFIG)
    pids = answers_at_once(server, "/asked", 8)
    if "gevent" not in server.command:
        wait_for(lambda: pids.extend(answers_at_once(server, "/asked", 4)) or len(set(pids)) == 2)
    assert server.stop(signal.SIGTERM) == 0
    spans = [
        json.loads(line) for path in server.directory.glob("spans.*.json") for line in path.read_text().splitlines()
    ]
    # Beside what the harness asked when it waited, of either worker.
    asked = [span["attributes"]["pid"] for span in spans if span["attributes"]["path"] == "/asked"]
    assert sorted(asked) == sorted(pids), "none is lost at the end"
    assert all(span["resource"]["attributes"]["worker"] == span["attributes"]["pid"] for span in spans)


# A thread in the master that looks after memory.

WATCHER_CONFIG = """
    import signal, threading, time

    LIMIT = 150 * 1024

    def resident(pid):
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def watch(server):
        while True:
            for pid, worker in list(server.WORKERS.items()):
                try:
                    if worker.alive and resident(pid) > LIMIT:
                        server.log.warning("worker %s (age %s) is too large", pid, worker.age)
                        server.kill_worker(pid, signal.SIGTERM)
                        time.sleep(1)
                except FileNotFoundError:
                    pass
            time.sleep(0.05)

    def when_ready(server):
        threading.Thread(target=watch, args=(server,), daemon=True).start()
"""
WATCHED_APP = """
    kept = []

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/leak":
            kept.append(b"x" * (200 << 20))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""


def test_memory_watcher_replaces_a_worker_that_grew(serve):
    server = serve(WATCHED_APP, config=WATCHER_CONFIG)
    old = server.worker_pids()
    assert server.get("/leak").body == b"hello"
    server.wait_for_log(rf"\[WARNING\] worker {old[0]} \(age 1\) is too large$")
    server.wait_for_workers(1, without=old)
    assert server.get().body == b"hello"
    assert server.stop(signal.SIGTERM) == 0


# What hooks may ask of the server.


def test_number_of_workers_may_be_set(serve):
    config = """
        import threading, time

        def when_ready(server):
            def scale():
                while not server.WORKERS:
                    time.sleep(0.01)
                server.num_workers = 2
            threading.Thread(target=scale, daemon=True).start()

        def nworkers_changed(server, new_value, old_value):
            open("changes.log", "a").write(f"{old_value} {new_value}\\n")
    """
    server = serve(WATCHED_APP, config=config)
    server.wait_for_workers(2)
    wait_for(lambda: server.lines("changes.log") == ["None 1", "1 2"])


@pytest.mark.parametrize(("call", "code"), [("server.halt()", 0), ("server.halt('no database', 7)", 7)])
def test_hook_may_end_the_server(serve, call, code):
    server = serve(WATCHED_APP, config=f"def when_ready(server):\n    {call}\n", ready=None)
    assert server.wait_for_exit() == code


def test_requests_are_logged_at_level_debug(serve):
    server = serve(WATCHED_APP, "--log-level", "debug")
    server.get("/path?query")
    server.wait_for_log(r"\[DEBUG\] GET /path$")


OBJECTS = """
import json

def look(what, thing, names):
    with open("missing.log", "a") as file:
        file.write(json.dumps([what, [name for name in names if not hasattr(thing, name)]]) + "\\n")

def when_ready(server):
    look("server", server, {server})

def post_worker_init(worker):
    look("worker", worker, {worker})

def pre_request(worker, req):
    req.mine = worker.nr
    look("req", req, {req})

def post_request(worker, req, environ, resp):
    look("resp", resp, {resp})
"""


def documented(name: str) -> list[str]:
    """The attributes that the reference page lists for one of the objects."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/reference/hooks.md").read_text()
    row = re.search(rf"^\| `{name}` \|(.*)\|$", page, re.MULTILINE)
    assert row, name
    return re.findall(r"`(\w+)", row[1])


def test_objects_have_what_the_reference_lists(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("the reference is oxicorn's")
    names = {name: documented(name) for name in ("server", "worker", "req", "resp")}
    assert all(len(found) > 5 for found in names.values())
    server = serve(WATCHED_APP, config=OBJECTS.format(**names))
    wait_for(lambda: len(server.lines("missing.log")) >= 4)
    assert {json.dumps(json.loads(line)) for line in server.lines("missing.log")} == {
        json.dumps([name, []]) for name in names
    }
