"""``prometheus_client`` without files: the same results as its multiprocess mode, at ``metrics_bind``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.monitoring.test_metrics import OPENMETRICS, start
from tests.support.wait import wait_for

#: Several processes, some of which end; what is collected at the end is printed. Processes are called by their order.
WORKLOAD = """
import json, os, sys

shared = sys.argv[1] == "shared"
if shared:
    from oxicorn import prometheus
    prometheus.install()

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest, multiprocess
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]

def declare():
    metrics = {}
    metrics["failures"] = Counter("my_failures", "Description of counter")
    metrics["requests"] = Counter("my_requests_total", 'HTTP "Failures"\\nand more', ["method", "endpoint"])
    for mode in MODES:
        metrics[mode] = Gauge("level_" + mode, "A level", ["place"], multiprocess_mode=mode)
        metrics["plain_" + mode] = Gauge("plain_" + mode, "No labels", multiprocess_mode=mode)
    metrics["latency"] = Summary("request_latency_seconds", "Description of summary", ["path"])
    metrics["size"] = Histogram("request_size_bytes", "Description of histogram")
    metrics["bounds"] = Histogram("lookup", "Bounds of its own", ["kind"], buckets=(0.25, 3, 1e7), unit="seconds")
    metrics["untouched"] = Histogram("untouched", "Nobody observes it")
    return metrics

def work(metrics, number):
    metrics["failures"].inc()
    metrics["failures"].inc(1.5)
    metrics["requests"].labels("get", "/").inc()
    metrics["requests"].labels(method="post", endpoint=f'/submit"{number}\\\\').inc(number)
    for mode in MODES:
        metrics[mode].labels(f"p{number % 2}").set(10 * number - 15)
        metrics["plain_" + mode].set(number)
        if not mode.endswith("mostrecent"):
            metrics[mode].labels("p0").inc(0.5)
            metrics[mode].labels("p1").dec(number)
    with metrics["sum"].labels("busy").track_inprogress():
        metrics["latency"].labels("/").observe(number / 4)
        metrics["latency"].labels("/").observe(2)
    for observed in (0.001, 0.005, 0.3, 9, 1000):
        metrics["size"].observe(observed * number)
    metrics["bounds"].labels("a").observe(0.25)
    metrics["bounds"].labels("b").observe(number)
    with metrics["bounds"].labels("c").time():
        pass
    if number == 3:
        metrics["failures"].reset()

class Child:
    def __init__(self, body):
        self.told, tell = os.pipe()
        wait, self.ends = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                body()
            finally:
                os.write(tell, b"!")
                os.read(wait, 1)
                os._exit(0)
        os.read(self.told, 1)

    def end(self):
        os.write(self.ends, b"!")
        os.waitpid(self.pid, 0)
        multiprocess.mark_process_dead(self.pid)

early = declare() if sys.argv[2] == "preloaded" else None
pids = [os.getpid()]
children = []
for number in range(1, 5):
    child = Child(lambda: work(early or declare(), number))
    pids.append(child.pid)
    children.append(child)
    if number == 2:
        child.end()
children[0].end()

registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
found = {}
for family in registry.collect():
    for sample in family.samples:
        labels = dict(sample.labels)
        if "pid" in labels:
            labels["pid"] = pids.index(int(labels["pid"]))
        key = json.dumps([family.name, family.type, family.documentation, sample.name, sorted(labels.items())])
        assert key not in found, key
        # How long the block took differs from run to run.
        timed = sample.name == "lookup_seconds_sum" and labels["kind"] == "c"
        found[key] = round(sample.value, 9) if not timed else "some"
texts = [generate_latest(registry).decode(), generate_openmetrics(registry).decode()]
for child in children[2:]:
    child.end()
print(json.dumps([found, [text.count("\\n") for text in texts]]))
"""


def run(tmp_path: Path, kind: str, when: str) -> tuple[dict[str, float], list[int]]:
    script = tmp_path / "workload.py"
    script.write_text(WORKLOAD)
    environ = {name: value for name, value in os.environ.items() if "MULTIPROC" not in name.upper()}
    if kind == "files":
        directory = tmp_path / "files"
        directory.mkdir()
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    command = [sys.executable, str(script), kind, when]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, lines = json.loads(done.stdout)
    return found, lines


@pytest.mark.parametrize("when", ["each", "preloaded"])
def test_results_are_those_of_the_multiprocess_mode(tmp_path, when):
    expected, lines = run(tmp_path, "files", when)
    found, lines_found = run(tmp_path, "shared", when)
    assert len(expected) > 100
    assert found == expected
    assert lines_found == lines


APPLICATION = """
import os
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client import CollectorRegistry, multiprocess

done = Counter("done", "Requests done.", ["path"])
level = Gauge("level", "Of living workers.", multiprocess_mode="liveall")
took = Histogram("took_seconds", "Time.")
Info("build", "The build.").info({"version": "1"})

class Own:
    def collect(self):
        return []

REGISTRY.register(Own())

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = b""
    if path == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        done.labels(path).inc(exemplar={"trace_id": "abc"})
        level.set(os.getpid())
        took.observe(0.1)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

#: As prometheus_client's documentation has it for Gunicorn.
CONFIG = """
from prometheus_client import multiprocess
prometheus_client = True
workers = 2

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""

DONE = ("done_total", "path=/work")


@pytest.mark.parametrize(("args", "accept"), [((), OPENMETRICS), (("--preload",), "text/plain")])
def test_application_for_the_multiprocess_mode_works_without_files(serve, args, accept):
    server, monitoring = start(serve, APPLICATION, *args, config=CONFIG, ready=None)
    server.wait_for_workers(2)
    for _ in range(6):
        assert server.get("/work").status == 200
    samples = monitoring.samples(accept)
    assert samples[DONE] == samples["took_seconds_count",] == 6
    living = set(server.worker_pids())
    assert {value for key, value in samples.items() if key[0] == "level" and value} <= living
    text = server.get("/metrics").text
    assert 'done_total{path="/work"} 6.0' in text
    assert "took_seconds_count 6.0" in text
    (worker, _) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    server.wait_for_workers(2, without=[worker])
    assert server.get("/work").status == 200
    samples = monitoring.samples(accept)
    assert samples[DONE] == 7
    assert not [key for key in samples if key[0] == "level" and key[1] == f"pid={worker}"]
    assert "of one process alone, and so not at metrics_bind: Own, build" in server.log
    assert "Traceback" not in server.log


def test_what_is_declared_too_early_is_named(serve):
    config = """
import prometheus_client as client
early = client.Counter("early", "Declared by the config file.")
prometheus_client = True
"""
    server = serve(APPLICATION, config=config)
    assert "declared before oxicorn.prometheus.install()" in server.log
    assert "not at metrics_bind: early" in server.log


def test_config_file_may_install_it_before_its_own(serve):
    config = """
from oxicorn import prometheus
prometheus.install()
from prometheus_client import Counter
early = Counter("early", "Declared by the config file.")
def post_request(worker, request, environ, response):
    early.inc()
"""
    server, monitoring = start(serve, APPLICATION, config=config)
    before = monitoring.samples()["early_total",]
    assert server.get("/work").status == 200
    # The hook of the request that found the server ready may still be to come.
    wait_for(lambda: monitoring.samples()["early_total",] > before)


def test_missing_package_is_named(serve):
    config = """
import sys
sys.modules["prometheus_client"] = None
prometheus_client = True
"""
    server = serve(APPLICATION, config=config, ready=None)
    assert server.wait_for_exit() == 3
    assert "The setting prometheus_client needs the package prometheus_client" in server.log
