"""What TLS and HTTP/2 cost: experiments of the catalogue, with the clients and measures that only they need.

Every server has the same certificate (ECDSA P-256, made by bench/setup.sh). The load of new connections is our own
program, because wrk and h2load cannot resume sessions.
"""

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.clients import LOAD_GRACE, RESPONSE_PATIENCE, ClientFailure, Crowd, Load, crowd
from harness.experiment import Bench, Experiment, Measure, Sample, Target
from harness.measures import MEMORY_SETTLE, SETTLE, WARM_UP, Accounts, check_answer, cpu_per_request
from harness.servers import ASYNC, CERTIFICATE, Shape

HELLO_LENGTH = 14
CPU = "CPU us/request"
KIB = 1024
IDLE = 2000


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
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.check_hostname = False
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


def hold_connections(port: int, count: int) -> None:
    """Says "ready" when each has had an answer; goes on until its standard input ends; says how many were cut off."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.check_hostname = False
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
)
