"""Metrics and probes of ``metrics_bind``, read as Prometheus reads them."""

from __future__ import annotations

import contextlib
import os
import signal
from http.client import HTTPConnection

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.support import processes
from tests.support.gate import APPLICATION, Gate
from tests.support.http import Answer, Peer
from tests.support.ports import free_port
from tests.support.wait import wait_for

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Monitoring:
    """What asks the listener for metrics and probes."""

    def __init__(self, address: object) -> None:
        self.address = address

    def get(self, path: str, accept: str = "text/plain") -> Answer:
        with Peer(self.address) as peer:
            peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
            return peer.answer()

    def samples(self, accept: str = OPENMETRICS) -> dict[tuple[str, ...], float]:
        """Every number, by its name and its labels."""
        parse = parse_openmetrics if accept == OPENMETRICS else parse_prometheus
        families = parse(self.get("/metrics", accept).text)
        return {
            (sample.name, *map("=".join, sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


def start(serve, source, *args: str, **options: object):
    port = free_port()
    server = serve(source, "--metrics-bind", f"127.0.0.1:{port}", *args, **options)
    return server, Monitoring(("127.0.0.1", port))


def hold(gate: Gate, peer: Peer) -> None:
    peer.send(f"GET {gate.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    gate.wait_until_reached()


@pytest.fixture
def source() -> str:
    return APPLICATION


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"], ids=["openmetrics", "prometheus"])
def test_figures_are_what_parsers_understand(serve, source, accept):
    server, monitoring = start(serve, source, "--workers", "2")
    series = ("oxicorn_responses_total", "class=2xx", "method=GET")
    # What found the server ready is counted, too, perhaps only after it was answered.
    wait_for(lambda: monitoring.samples(accept).get(series) == 1)
    for _ in range(3):
        assert server.get("/").status == 200

    def counted() -> dict[tuple[str, ...], float] | None:
        samples = monitoring.samples(accept)
        is_whole = samples[series] == samples["oxicorn_request_service_seconds_count",] == 4
        return samples if is_whole and samples["oxicorn_workers_serving",] == 2 else None

    samples = wait_for(counted)
    assert samples["oxicorn_workers_wanted",] == 2
    assert samples["oxicorn_process_resident_memory_bytes", "process=worker", "worker=0"] > 1e6
    buckets = [value for key, value in samples.items() if key[0] == "oxicorn_request_service_seconds_bucket"]
    assert sorted(buckets) == buckets, "buckets count what is below their bound"
    assert max(buckets) == samples["oxicorn_request_service_seconds_count",]


def test_counters_never_go_back(serve, source):
    """Not when workers die, not when the gateway dies, not with a reload."""
    server, monitoring = start(serve, source, "--workers", "1")
    assert server.get("/").status == 200

    def counters() -> dict[tuple[str, ...], float]:
        return {key: value for key, value in monitoring.samples().items() if key[0].endswith(("_total", "_count"))}

    def grown(before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
        after = counters()
        assert not [key for key, value in before.items() if after.get(key, -1) < value]
        return after

    seen = counters()
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    server.wait_for_workers(1, without=[worker])
    wait_for(lambda: monitoring.samples()["oxicorn_worker_exits_total", "reason=signal"] == 1)
    seen = grown(seen)
    gateway = server.gateway_pid()
    os.kill(gateway, signal.SIGKILL)
    wait_for(lambda: server.gateway_pid() not in (None, gateway))
    server.wait_until_ready()
    seen = grown(seen)
    assert seen["oxicorn_gateways_spawned_total",] == 2
    (worker,) = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=[worker])
    wait_for(lambda: monitoring.samples()["oxicorn_generation",] == 2)
    seen = grown(seen)
    assert seen["oxicorn_reloads_total",] == 1


def test_probes_are_answered_while_every_worker_is_busy(serve, source):
    server, monitoring = start(serve, source, "--workers", "1", "--queue-limit", "1", "--prefetch", "0")
    assert [monitoring.get(path).text for path in ("/livez", "/readyz", "/startupz")] == ["ok\n"] * 3
    with Gate(server) as gate, server.connect() as first, server.connect() as second:
        hold(gate, first)
        second.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: monitoring.get("/readyz").status == 503)
        assert monitoring.get("/readyz").text == "1 requests wait for a worker (queue_limit: 1)\n"
        assert monitoring.get("/livez").status == 200
        assert monitoring.samples()["oxicorn_queue_depth",] == 1
        gate.open()
        assert first.answer().status == second.answer().status == 200


def test_stopping_is_not_ready(serve, source):
    server, monitoring = start(serve, source)
    with Gate(server) as gate, server.connect() as peer:
        hold(gate, peer)
        server.kill(signal.SIGTERM)
        wait_for(lambda: monitoring.get("/readyz").text == "the server is stopping\n")
        gate.open()
        assert peer.answer().status == 200
    assert server.wait_for_exit() == 0


def test_socket_files_go_with_the_server(serve, source):
    server = serve(source, "--metrics-bind", "unix:metrics.sock")
    path = server.directory / "metrics.sock"
    assert Monitoring(str(path)).get("/livez").status == 200
    assert server.stop() == 0
    assert not path.exists()


def test_address_in_use_is_said_at_the_start(serve, source):
    server = serve(source, "--metrics-bind", "unix:metrics.sock")
    other = serve(source, "--metrics-bind", f"unix:{server.directory}/metrics.sock", ready=None)
    assert other.wait_for_exit() == 1
    assert "Connection in use" in other.log
    assert Monitoring(str(server.directory / "metrics.sock")).get("/livez").status == 200


def test_successor_keeps_the_listener(serve, source):
    server, monitoring = start(serve, source, "--pid", "pid", "--workers", "1")
    (worker,) = server.worker_pids()
    server.kill(signal.SIGUSR2)
    successor = int(wait_for(lambda: server.read("pid.2").strip()))
    try:
        wait_for(lambda: set(server.worker_pids()) - {worker})
        assert server.stop() == 0
        wait_for(lambda: monitoring.samples()["oxicorn_workers_spawned_total",] == 1)
        wait_for(lambda: monitoring.get("/readyz").status == 200)
    finally:
        os.kill(successor, signal.SIGTERM)
        wait_for(lambda: not processes.is_alive(successor))


def test_waits_for_the_interpreter_and_shared_memory_are_counted(serve, source):
    server, monitoring = start(serve, source, "--workers", "2", "--threads", "2")
    for _ in range(5):
        assert server.get("/").status == 200
    # A worker counts after it has answered.
    wait_for(lambda: monitoring.samples()["oxicorn_interpreter_wait_seconds_count",] >= 5)
    proportional = "oxicorn_process_proportional_memory_bytes"
    key = (proportional, "process=worker", "worker=1")

    def measured() -> bool:
        samples = monitoring.samples()
        shared = {name: value for name, value in samples.items() if name[0] == proportional}
        # The two are not read at the same time: a process that still grows may have the larger one later.
        resident = samples.get(("oxicorn_process_resident_memory_bytes", *key[1:]), 0)
        return len(shared) == 4 and 0 < samples.get(key, 0) <= resident

    wait_for(measured)
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_for_workers(2, without=[victim])
    assert monitoring.samples()["oxicorn_interpreter_wait_seconds_count",] >= 5


def test_lag_of_event_loops_is_counted(serve):
    source = """
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
    """
    _, monitoring = start(serve, source, "-k", "asgi", "--asgi-lifespan", "off")
    wait_for(lambda: monitoring.samples()["oxicorn_loop_lag_seconds_count",] > 0, deadline=30)


def test_chosen_peers_are_answered_on_the_listener_of_the_clients(serve, source):
    server = serve(source, "--monitoring-path", "/-", "--monitoring-allow-ips", "127.0.0.2,::1", "--threads", "1")

    def ask(path: str, source_address: str = "127.0.0.2", headers: str = "", method: str = "GET") -> bytes:
        connection = HTTPConnection(*server.address, timeout=10, source_address=(source_address, 0))
        with contextlib.closing(connection):
            connection.putrequest(method, path)
            for name, value in (header.split(": ") for header in headers.splitlines()):
                connection.putheader(name, value)
            connection.endheaders()
            return connection.getresponse().read()

    with Gate(server) as gate, server.connect() as busy:
        hold(gate, busy)
        assert ask("/-/livez") == ask("/-/readyz") == b"ok\n"
        assert "oxicorn_requests_in_flight 1" in ask("/-/metrics").decode()
        gate.open()
        assert busy.answer().status == 200
    # Everything else is the application's.
    for answer in (
        ask("/-/livez", "127.0.0.1"),
        ask("/-/livez", headers="X-Forwarded-For: 127.0.0.2"),
        ask("/-/livez", headers="via: 1.1 proxy"),
        ask("/-/other"),
        ask("/livez"),
        ask("/-/livez", method="POST", headers="Content-Length: 0"),
    ):
        assert answer == b"ok"


def test_nobody_is_answered_there_by_mistake(serve, source):
    server = serve(source, "--monitoring-path", "/-", ready=None)
    assert server.wait_for_exit() == 1
    assert "monitoring_path: /- (command line, --monitoring-path): needs monitoring_allow_ips" in server.log
