"""What TLS and HTTP/2 cost: experiments of the catalogue, with the clients and measures that only they need.

Every server has the same certificate (ECDSA P-256, made by bench/setup.sh) unless the title says otherwise. The load of
new connections one after the other is Python's own client, because wrk and h2load cannot resume sessions; that of many
at a time is our own program, bench/connections, which is as cheap as a client can be.
"""

import json
import re
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.clients import (
    LOAD_GRACE,
    RESPONSE_PATIENCE,
    ClientFailure,
    Crowd,
    Load,
    crowd,
    run_wrk,
    tls_context,
)
from harness.experiment import Bench, Experiment, Measure, Sample, Target
from harness.measures import MEMORY_SETTLE, SETTLE, WARM_UP, Accounts, check_answer, cpu_per_request
from harness.servers import ASYNC, TLS_LOAD, Shape

HELLO_LENGTH = 14
CPU = "CPU us/request"
KIB = 1024
IDLE = 2000
PER_SECOND = "connections/s"
SERVER_CPU = "server CPU us"
CLIENT_CPU = "client CPU us"
ONE_THREAD = "oxicorn-threads-1"
#: of a load before what is measured beside it
HEAD_START = 0.5


@dataclass(frozen=True)
class Streams:
    """What h2load is to do: on each connection so many requests at a time."""

    path: str = "/"
    connections: int = 8
    streams: int = 16


@dataclass(frozen=True)
class StreamsResult:
    requests: int
    seconds: float
    errors: tuple[str, ...]


def run_h2load(port: int, load: Streams, seconds: float) -> StreamsResult:
    numbers = ["-c", str(load.connections), "-m", str(load.streams), "-D", str(max(1, round(seconds)))]
    command = ["h2load", "-t1", *numbers, f"https://127.0.0.1:{port}{load.path}"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
    except subprocess.TimeoutExpired as expired:
        raise ClientFailure("h2load did not end") from expired
    except FileNotFoundError as missing:
        raise ClientFailure("h2load is missing: run bench/setup.sh") from missing
    if finished.returncode:
        raise ClientFailure(f"h2load: {finished.stderr.strip()}")
    return parse_h2load(finished.stdout)


def parse_h2load(output: str) -> StreamsResult:
    seconds = re.search(r"^finished in ([\d.]+)(ms|s),", output, re.MULTILINE)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    statuses = re.search(r"status codes: (\d+) 2xx", output)
    if not seconds or not counts or not statuses or not int(statuses[1]):
        raise ClientFailure("h2load got no answer")
    if "Application protocol: h2\n" not in output:
        raise ClientFailure("the server does not speak HTTP/2")
    # What was under way when the time was up counts as an error, though nobody is to blame.
    errors = (f"{counts[2]} failed",) if int(counts[2]) else ()
    factor = 1e-3 if seconds[2] == "ms" else 1.0
    return StreamsResult(int(statuses[1]), float(seconds[1]) * factor, errors)


def cpu_per_stream(load: Streams, length: int) -> Measure:
    """CPU microseconds of the whole process tree for each request by HTTP/2."""

    def measure(bench: Bench) -> Sample:
        with bench.start(load.path) as server:
            check_answer(bench.port, load.path, length, None, tls=True)
            run_h2load(bench.port, load, min(WARM_UP, bench.settings.seconds))
            time.sleep(SETTLE)
            with Accounts(server.pid) as accounts:
                result = run_h2load(bench.port, load, bench.settings.seconds)
                time.sleep(SETTLE)
        rate = {"requests/s": round(result.requests / result.seconds)}
        return Sample(accounts.server / result.requests * 1e6, rate, result.errors, accounts.disturbance)

    return measure


# New connections, in a process of its own.


def connect_anew(port: int, seconds: float, resumes: bool) -> dict[str, float]:
    """Asks on new connections, one after the other, until the time is up."""
    context = tls_context()
    session, requests, resumed = None, 0, 0
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=RESPONSE_PATIENCE) as plain,
            context.wrap_socket(plain, session=session) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise ClientFailure(f"answered {answer[:40]!r}")
            resumed += bool(client.session_reused)
            requests += 1
            # Tickets of TLS 1.3 come behind the handshake.
            session = client.session if resumes else None
    return {"requests": requests, "resumed": resumed, "seconds": time.monotonic() - begun}


def cpu_per_connection(resumes: bool) -> Measure:
    """CPU microseconds of the whole process tree for each request on a connection of its own."""

    def load(port: int, seconds: float) -> dict[str, float]:
        call = f"connect_anew({port}, {seconds}, {resumes})"
        program = f"import json; from harness.tls import connect_anew; print(json.dumps({call}))"
        directory = Path(__file__).resolve().parent.parent
        command = [sys.executable, "-c", program]
        finished = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
        if finished.returncode:
            raise ClientFailure(finished.stderr.strip().splitlines()[-1])
        found: dict[str, float] = json.loads(finished.stdout)
        return found

    def measure(bench: Bench) -> Sample:
        with bench.start() as server:
            load(bench.port, min(WARM_UP, bench.settings.seconds))
            time.sleep(SETTLE)
            with Accounts(server.pid) as accounts:
                result = load(bench.port, bench.settings.seconds)
                time.sleep(SETTLE)
        requests, expected = result["requests"], result["requests"] - 1 if resumes else 0
        complaints = () if result["resumed"] == expected else (f"{result['resumed']:.0f} sessions were resumed",)
        rate = {"requests/s": round(requests / result["seconds"])}
        return Sample(accounts.server / requests * 1e6, rate, complaints, accounts.disturbance)

    return measure


# New connections, many at a time.


@dataclass(frozen=True)
class NewConnections:
    connections: int
    seconds: float
    p99_us: float
    #: of the clients, for all of them
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.connections / self.seconds


def make_connections(port: int, seconds: float, at_a_time: int = 32) -> NewConnections:
    """Each asks once and is closed; that many are under way."""
    command = [str(TLS_LOAD), str(port), str(at_a_time), str(max(1, round(seconds)))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
    except subprocess.TimeoutExpired as expired:
        raise ClientFailure("the load of connections did not end") from expired
    except FileNotFoundError as missing:
        raise ClientFailure("the load of connections is missing: run bench/setup.sh") from missing
    if finished.returncode:
        raise ClientFailure(finished.stderr.strip())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(finished.stdout)
    return NewConnections(found["connections"], found["seconds"], found["p99_us"], used)


def time_per_new_connection(bench: Bench) -> Sample:
    """Microseconds of the clock for each new connection, and whose CPU time they are."""
    with bench.start() as server:
        make_connections(bench.port, min(WARM_UP, bench.settings.seconds))
        time.sleep(SETTLE)
        with Accounts(server.pid) as accounts:
            made = make_connections(bench.port, bench.settings.seconds)
            time.sleep(SETTLE)
    details = {
        PER_SECOND: round(made.per_second),
        SERVER_CPU: accounts.server / made.connections * 1e6,
        CLIENT_CPU: made.cpu_seconds / made.connections * 1e6,
        "p99 ms": made.p99_us / 1e3,
    }
    return Sample(1e6 / made.per_second, details, disturbance=accounts.disturbance)


def tail_beside_new_connections(bench: Bench) -> Sample:
    """The p99, in microseconds, of one client that keeps its connection while others are made."""
    seconds = bench.settings.seconds
    with bench.start() as server, ThreadPoolExecutor(1) as beside:
        make_connections(bench.port, min(WARM_UP, seconds))
        with Accounts(server.pid) as accounts:
            # It begins earlier and ends later: the client is never without company.
            flood = beside.submit(make_connections, bench.port, seconds + 2 * HEAD_START)
            time.sleep(HEAD_START)
            kept = run_wrk(bench.port, Load(connections=1, tls=True), seconds)
            made = flood.result()
    details = {PER_SECOND: round(made.per_second), "requests/s": round(kept.per_second), "p50 us": kept.median_us}
    return Sample(kept.p99_us, details, kept.errors, accounts.disturbance)


def with_threads() -> tuple[Experiment, ...]:
    """A server with two gateway threads beside the same with one."""
    keys = {"rsa-2048": 2048, "rsa-3072": 3072, "p256": None}
    return tuple(
        Experiment(
            f"tls-threads-{name}",
            f"new TLS connections, 32 at a time, two gateway threads ({name})",
            "us/connection",
            https("hello", rsa=bits, gateway_threads=2),
            time_per_new_connection,
            ("oxicorn", ONE_THREAD),
            # With P-256 the client costs too much beside the server.
            (Target(1 / 1.7, ONE_THREAD),) if bits else (),
            columns=(PER_SECOND, SERVER_CPU, CLIENT_CPU),
            group="tls-threads",
        )
        for name, bits in keys.items()
    )


def hold_connections(port: int, count: int) -> None:
    """Says "ready" when each has had an answer; goes on until its standard input ends; says how many were cut off."""
    context = tls_context()
    held = []
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port), timeout=RESPONSE_PATIENCE)
        held.append(context.wrap_socket(plain))
        held[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        held[-1].recv(65536)
    print("ready", flush=True)
    sys.stdin.read()
    cut = 0
    for client in held:
        client.setblocking(False)
        try:
            cut += client.recv(1) == b""
        except ssl.SSLWantReadError:
            pass
        except OSError:
            cut += 1
    print(cut, flush=True)


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[Crowd]:
    program = f"from harness.tls import hold_connections; hold_connections({port}, {count})"
    with crowd([sys.executable, "-c", program], "the idle clients") as found:
        yield found


def memory_of_idle_connections(bench: Bench) -> Sample:
    """By how many KiB the PSS of the process tree grows for each connection that has had an answer and is silent."""
    with bench.start() as server:
        check_answer(bench.port, "/", HELLO_LENGTH, None, tls=True)
        time.sleep(MEMORY_SETTLE)
        before = processes.pss_kib(server.pid)
        with idle_connections(bench.port, IDLE) as found:
            time.sleep(MEMORY_SETTLE)
            grown = processes.pss_kib(server.pid) - before
    complaints = (f"{found.cut} cut off",) if found.cut else ()
    return Sample(grown / IDLE, {"MiB": grown / 1024}, complaints)


def https(application: str, **more: object) -> Shape:
    return Shape(application, tls=True, **more)  # type: ignore[arg-type]


def asgi(application: str, **more: object) -> Shape:
    return https(application, variables=(("PYTHONPATH", str(ASYNC)),), interface="asgi", **more)


EXPERIMENTS = (
    Experiment(
        "h2-hello",
        "WSGI hello by HTTP/2 over TLS, 8 connections with 16 streams each",
        CPU,
        https("hello", http2=True),
        cpu_per_stream(Streams(), HELLO_LENGTH),
        ("oxicorn", "granian", "gunicorn"),
        (Target(0.60, "granian"),),
        group="h2",
    ),
    Experiment(
        "asgi-h2-hello",
        "ASGI hello by HTTP/2 over TLS, 8 connections with 16 streams each",
        CPU,
        asgi("asgi_hello", http2=True),
        cpu_per_stream(Streams(), HELLO_LENGTH),
        ("oxicorn", "granian", "hypercorn", "gunicorn"),
        (Target(0.60, "granian"),),
        group="h2",
    ),
    Experiment(
        "h2-page",
        "32 KiB by HTTP/2 over TLS, 32 connections with 2 streams each",
        CPU,
        https("download", http2=True),
        cpu_per_stream(Streams("/page", 32, 2), 32 * KIB),
        ("oxicorn", "granian"),
        (Target(1.0, "granian"),),
        group="h2",
    ),
    Experiment(
        "tls-hello",
        "WSGI hello over TLS, 64 connections with keep-alive",
        CPU,
        https("hello"),
        cpu_per_request(Load(tls=True), HELLO_LENGTH),
        ("oxicorn", "granian", "gunicorn", "floor"),
        (Target(0.60, "granian"),),
        group="tls",
    ),
    Experiment(
        # nginx proxies to oxicorn without TLS by a Unix socket; both count.
        "tls-new",
        "WSGI hello over TLS (ECDSA P-256), a new connection for each request",
        CPU,
        https("hello"),
        cpu_per_connection(resumes=False),
        ("oxicorn", "nginx", "granian"),
        (Target(1.0, "nginx"),),
        group="tls",
    ),
    Experiment(
        "tls-resumed",
        "WSGI hello over TLS, a new connection for each request that resumes a session",
        CPU,
        https("hello"),
        cpu_per_connection(resumes=True),
        ("oxicorn", "nginx"),
        (Target(1.0, "nginx"),),
        group="tls",
    ),
    Experiment(
        "tls-file",
        "100 KiB by wsgi.file_wrapper over TLS",
        CPU,
        https("download"),
        cpu_per_request(Load("/file", tls=True), 100 * KIB),
        ("oxicorn", "granian"),
        (Target(0.90, "granian"),),
        group="tls",
    ),
    Experiment(
        "tls-large-file",
        "1 MiB by wsgi.file_wrapper over TLS",
        CPU,
        https("download"),
        cpu_per_request(Load("/large-file", tls=True), KIB * KIB),
        ("oxicorn", "granian"),
        (Target(0.90, "granian"),),
        group="tls",
    ),
    Experiment(
        "tls-idle",
        f"PSS for each of {IDLE:,} idle TLS connections",
        "KiB",
        https("hello", connections=IDLE + 1000),
        memory_of_idle_connections,
        ("oxicorn", "granian"),
        (Target(0.70, "granian"),),
        most_rounds=3,
        group="tls",
    ),
    *with_threads(),
    Experiment(
        "tls-threads-tail",
        "one client with keep-alive beside new TLS connections (rsa-2048, 32 at a time), two gateway threads: its p99",
        "us",
        https("hello", rsa=2048, gateway_threads=2),
        tail_beside_new_connections,
        ("oxicorn", ONE_THREAD),
        (Target(1.0, ONE_THREAD),),
        columns=("p50 us", "requests/s", PER_SECOND),
        group="tls-threads",
    ),
)
