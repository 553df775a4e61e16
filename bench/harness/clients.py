"""The clients: wrk for load, oha for load at a constant rate, our own for WebSockets, a plain one for single requests, a
process full of slow ones.

Refuses to know which server answers. Everything goes to 127.0.0.1 and is bounded in time.
"""

import http.client
import json
import re
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.servers import CERTIFICATE, OPEN_LOOP_LOAD, RSA, WEBSOCKET_LOAD, rsa_certificate

SCRIPTS = Path(__file__).resolve().parent / "wrk"
#: wrk counts a request that takes longer as an error.
RESPONSE_PATIENCE = 10.0
#: How much longer than asked a load may take before it is killed.
LOAD_GRACE = 30.0


class ClientFailure(Exception):
    """A client could not do its work, or the answer was not the expected one."""


@dataclass(frozen=True)
class Load:
    """What wrk is to do."""

    path: str = "/"
    connections: int = 64
    headers: tuple[str, ...] = ()
    script: str | None = None
    tls: bool = False


@dataclass(frozen=True)
class WrkResult:
    requests: int
    seconds: float
    median_us: float
    p99_us: float
    errors: tuple[str, ...]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run_wrk(port: int, load: Load, seconds: float) -> WrkResult:
    """One thread: on a small machine the load must leave the server room."""
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += [f"--timeout={RESPONSE_PATIENCE:.0f}s"]
    for header in load.headers:
        command += ["-H", header]
    if load.script:
        command += ["-s", str(SCRIPTS / load.script)]
    command.append(f"http{'s' if load.tls else ''}://127.0.0.1:{port}{load.path}")
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
    except subprocess.TimeoutExpired as expired:
        raise ClientFailure("wrk did not end") from expired
    if finished.returncode:
        raise ClientFailure(f"wrk: {finished.stderr.strip() or finished.stdout.strip()}")
    return parse_wrk(finished.stdout)


_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}


def parse_wrk(output: str) -> WrkResult:
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h),", output)
    if not total or not int(total[1]):
        raise ClientFailure("wrk got no answer")
    errors = re.findall(r"^ +(Socket errors: .*|Non-2xx or 3xx responses: .*)$", output, re.MULTILINE)
    return WrkResult(
        requests=int(total[1]),
        seconds=float(total[2]) * _UNITS_US[total[3]] / 1e6,
        median_us=_percentile_us(output, "50%"),
        p99_us=_percentile_us(output, "99%"),
        errors=tuple(errors),
    )


def _percentile_us(output: str, name: str) -> float:
    # wrk pads units of one letter.
    found = re.search(rf"^ +{name} +([\d.]+)(us|ms|s|m|h) *$", output, re.MULTILINE)
    if not found:
        raise ClientFailure("wrk printed no latency distribution")
    return float(found[1]) * _UNITS_US[found[2]]


@dataclass(frozen=True)
class Arrivals:
    """What oha is to do: requests begin so many times a second, whether or not those before them were answered."""

    rate: int
    path: str = "/"
    connections: int = 64


@dataclass(frozen=True)
class ArrivalsResult:
    requests: int
    seconds: float
    #: microseconds since the moment at which each request was due
    median_us: float
    p99_us: float
    p999_us: float
    errors: tuple[str, ...]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run_arrivals(port: int, load: Arrivals, seconds: float) -> ArrivalsResult:
    """An open loop. In a closed one (wrk) a server that stands still is not asked meanwhile, and looks quick."""
    command = [str(OPEN_LOOP_LOAD), "--no-tui", "--output-format", "json", "--latency-correction"]
    command += ["-q", str(load.rate), "-c", str(load.connections), "-z", f"{max(1, round(seconds))}s"]
    command.append(f"http://127.0.0.1:{port}{load.path}")
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
    except subprocess.TimeoutExpired as expired:
        raise ClientFailure("oha did not end") from expired
    if finished.returncode:
        raise ClientFailure(f"oha: {finished.stderr.strip() or finished.stdout.strip()}")
    return parse_arrivals(finished.stdout)


#: oha's word for what was under way at the end.
_UNDER_WAY = "aborted due to deadline"


def parse_arrivals(output: str) -> ArrivalsResult:
    found = json.loads(output)
    answered = {int(status): count for status, count in found["statusCodeDistribution"].items()}
    good = sum(count for status, count in answered.items() if status < 400)
    if not good:
        raise ClientFailure("oha got no answer")
    failures = {f"status {status}": count for status, count in answered.items() if status >= 400}
    failures |= {error: count for error, count in found["errorDistribution"].items() if error != _UNDER_WAY}
    percentiles = found["latencyPercentiles"]
    return ArrivalsResult(
        requests=good,
        seconds=found["summary"]["total"],
        median_us=percentiles["p50"] * 1e6,
        p99_us=percentiles["p99"] * 1e6,
        p999_us=percentiles["p99.9"] * 1e6,
        errors=tuple(f"{error}: {count}" for error, count in failures.items()),
    )


@dataclass(frozen=True)
class Messages:
    """What the WebSocket load is to do: on each connection a message to and fro, then the next."""

    path: str = "/"
    connections: int = 32
    size: int = 64


@dataclass(frozen=True)
class MessageResult:
    messages: int
    seconds: float
    median_us: float
    p99_us: float

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds


def run_websockets(port: int, load: Messages, seconds: float) -> MessageResult:
    numbers = (load.connections, load.size, max(1, round(seconds)))
    command = [str(WEBSOCKET_LOAD), "echo", str(port), load.path, *map(str, numbers)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_GRACE)
    except subprocess.TimeoutExpired as expired:
        raise ClientFailure("the WebSocket load did not end") from expired
    except FileNotFoundError as missing:
        raise ClientFailure("the WebSocket load is missing: run bench/setup.sh") from missing
    if finished.returncode:
        raise ClientFailure(finished.stderr.strip())
    return MessageResult(**json.loads(finished.stdout))


def tls_context() -> ssl.SSLContext:
    """Of a client that trusts the servers' own certificates, whichever of them it is shown."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    for certificate, _ in map(rsa_certificate, RSA):
        if certificate.exists():
            context.load_verify_locations(str(certificate))
    context.check_hostname = False
    return context


def fetch(
    port: int, path: str, body: bytes | None = None, patience: float = RESPONSE_PATIENCE, tls: bool = False
) -> bytes:
    """One request on its own connection; the body of a 200 answer."""
    connection: http.client.HTTPConnection
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=patience, context=tls_context())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        content = response.read()
    except http.client.HTTPException as error:
        raise ClientFailure(f"{path}: {type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ClientFailure(f"{path}: status {response.status}")
    return content


def answers(port: int, path: str = "/", tls: bool = False) -> bool:
    """Whether somebody listens and answers; a refused or cut connection is a no, a wrong status is an error."""
    try:
        fetch(port, path, tls=tls)
    except OSError:
        return False
    return True


# Slow clients live in a process of their own, so that the runner's interpreter lock is not part of the picture.

SLOW_PERIOD = 0.5
#: A period's bytes are spread over this many moments, or they would be one burst.
SLOW_MOMENTS = 500
SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: "


class SlowClient:
    """Sends a request head a byte at a time and never finishes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sent = 0
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=RESPONSE_PATIENCE)

    def send_byte(self) -> bool:
        """Returns False where the server had closed the connection and a new one was made."""
        try:
            self._socket.send(SLOW_HEAD[self._sent : self._sent + 1] or b"x")
        except OSError:
            self._socket.close()
            self._sent, self._socket = 0, self._connect()
            return False
        self._sent += 1
        return True


def run_slow_clients(port: int, count: int) -> None:
    """Says "ready" when all are connected; goes on until its standard input ends; says how many were cut off."""
    clients = [SlowClient(port) for _ in range(count)]
    print("ready", flush=True)
    cut = 0
    moment = 0
    next_time = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while not selector.select(max(0.0, next_time - time.monotonic())):
            cut += sum(not client.send_byte() for client in clients[moment::SLOW_MOMENTS])
            moment = (moment + 1) % SLOW_MOMENTS
            next_time += SLOW_PERIOD / SLOW_MOMENTS
    print(cut, flush=True)


@dataclass
class Crowd:
    """What became of many clients; filled when they have gone."""

    cut: int = 0


@contextmanager
def slow_clients(port: int, count: int) -> Iterator[Crowd]:
    program = f"from harness.clients import run_slow_clients; run_slow_clients({port}, {count})"
    with crowd([sys.executable, "-c", program], "the slow clients") as found:
        yield found


@contextmanager
def idle_websockets(port: int, count: int) -> Iterator[Crowd]:
    """Each has had a message echoed, and now holds its connection."""
    with crowd([str(WEBSOCKET_LOAD), "idle", str(port), "/", str(count)], "the WebSockets") as found:
        yield found


@contextmanager
def crowd(command: list[str], name: str) -> Iterator[Crowd]:
    """A process that says "ready", goes on until its standard input ends, and says how many clients were cut off."""
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = Crowd()
    try:
        assert process.stdout, "it is a pipe"
        if process.stdout.readline() != "ready\n":
            raise ClientFailure(f"{name} could not connect")
        yield found
        output, _ = process.communicate(timeout=RESPONSE_PATIENCE)
        found.cut = int(output)
    finally:
        process.kill()
        process.wait()
