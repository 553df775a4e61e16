"""The measures: what is done to a started server, and which figure comes out.

CPU time is the measure of throughput here, not requests per second: on a machine that also runs the load, the latter
tells who got the cores.
"""

import os
import resource
import threading
import time
from dataclasses import replace
from typing import Self

from harness import processes
from harness.clients import (
    SLOW_PERIOD,
    Arrivals,
    ClientFailure,
    Load,
    Messages,
    WrkResult,
    answers,
    fetch,
    idle_websockets,
    run_arrivals,
    run_websockets,
    run_wrk,
    slow_clients,
)
from harness.experiment import START_PATIENCE, Bench, Measure, Sample
from harness.servers import free_port

WARM_UP = 1.0
#: After a load: the server notices that its clients have gone; that belongs to its work.
SETTLE = 0.1

#: Of a rate: a server that serves less has a queue that grows, and no percentiles worth telling.
RATE_REACHED = 0.95

NEIGHBOUR_REQUESTS = 40
NEIGHBOUR_SPACING = 0.05
NEIGHBOUR_HEAD_START = 0.3
#: Slower than this has waited for somebody; the long request takes 4 s.
NEIGHBOUR_WAITED = 0.2

SLOW_CLIENTS = 500
MEMORY_SETTLE = 0.5
START_PAUSE = 0.001

#: A server is at rest so many seconds after its last request; oxicorn's gateway ticks for one second more.
REST_SETTLE = 6.0
#: Longer than the longest time between two signs of life of a worker (an eighth of oxicorn's timeout of 30 s), twice.
REST_WINDOW = 8.0

#: Columns.
WORKERS_MEMORY = "without gateway"
START_CPU = "CPU ms"


def check_answer(port: int, path: str, length: int, body: bytes | None, tls: bool = False) -> None:
    """A server that does not do the work must not be compared with those that do."""
    content = fetch(port, path, body, tls=tls)
    if len(content) != length:
        raise ClientFailure(f"{path} gave {len(content)} bytes instead of {length}")


def cpu_per_request(load: Load, length: int, body: bytes | None = None) -> Measure:
    """CPU microseconds of the whole process tree for each answered request."""

    def measure(bench: Bench) -> Sample:
        with bench.start(load.path) as server:
            check_answer(bench.port, load.path, length, body, load.tls)
            run_wrk(bench.port, load, min(WARM_UP, bench.settings.seconds))
            return _loaded_sample(server, bench, load)

    return measure


def beside_redis(measure: Measure) -> Measure:
    """The same with a Redis that the application can ask; what it uses is not the server's."""

    def with_redis(bench: Bench) -> Sample:
        port = free_port()
        with processes.helper(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]):
            bench.shape = replace(bench.shape, variables=(*bench.shape.variables, ("BENCH_REDIS", str(port))))
            return measure(bench)

    return with_redis


def _loaded_sample(server: processes.Server, bench: Bench, load: Load) -> Sample:
    time.sleep(SETTLE)
    with Accounts(server.pid) as accounts:
        result = run_wrk(bench.port, load, bench.settings.seconds)
        time.sleep(SETTLE)
    return Sample(
        accounts.server / result.requests * 1e6,
        {"requests/s": round(result.per_second), "p99 ms": result.p99_us / 1e3},
        result.errors,
        accounts.disturbance,
    )


def cpu_per_message(load: Messages) -> Measure:
    """CPU microseconds of the whole process tree for each WebSocket message that came back."""

    def measure(bench: Bench) -> Sample:
        with bench.start(load.path) as server:
            run_websockets(bench.port, load, min(WARM_UP, bench.settings.seconds))
            time.sleep(SETTLE)
            with Accounts(server.pid) as accounts:
                result = run_websockets(bench.port, load, bench.settings.seconds)
                time.sleep(SETTLE)
        return Sample(
            accounts.server / result.messages * 1e6,
            {"messages/s": round(result.per_second), "p99 ms": result.p99_us / 1e3},
            disturbance=accounts.disturbance,
        )

    return measure


def saturation(bench: Bench, neighbours: int) -> float:
    """Requests a second that granian serves where it is given as many as it takes, beside so many spinning processes.

    Found out once for each shape: the rates of a run are parts of it, the same for all servers and rounds.
    """

    def find() -> float:
        granian = bench.beside("granian")
        with granian.start(), processes.spinning_neighbours(neighbours):
            run_wrk(granian.port, Load(), min(WARM_UP, bench.settings.seconds))
            return run_wrk(granian.port, Load(), bench.settings.seconds).per_second

    return bench.settings.once((bench.shape, neighbours), find)


def tail_at_a_share(percent: int, length: int, busy: bool = False) -> Measure:
    """The 99th percentile, in microseconds since each request was due, at `percent` of granian's saturation.

    `busy`: beside a spinning process per core, and so is the saturation.
    """
    neighbours = (os.cpu_count() or 1) if busy else 0

    def measure(bench: Bench) -> Sample:
        seconds = bench.settings.seconds
        load = Arrivals(max(1, round(saturation(bench, neighbours) * percent / 100)))
        with bench.start(load.path) as server:
            check_answer(bench.port, load.path, length, None)
            run_arrivals(bench.port, load, min(WARM_UP, seconds))
            # The neighbours are ours, not a disturbance: they are counted when they were waited for.
            with Accounts(server.pid) as accounts, processes.spinning_neighbours(neighbours):
                result = run_arrivals(bench.port, load, seconds)
        reached = result.per_second / load.rate
        late = () if reached >= RATE_REACHED else (f"served {result.per_second:,.0f}/s of {load.rate:,}/s",)
        return Sample(
            result.p99_us,
            {
                "requests/s": load.rate,
                "p50 us": result.median_us,
                "p99.9 us": result.p999_us,
                "CPU us/request": accounts.server / result.requests * 1e6,
            },
            (*result.errors, *late),
            accounts.disturbance,
        )

    return measure


class Accounts:
    """Who used the processors while the context lasted. Clients must have been waited for at its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.server = 0.0
        self.disturbance = 0.0

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *exception: object) -> None:
        spent = (after - before for after, before in zip(self._now(), self._before, strict=True))
        self.server, ours, machine, elapsed = spent
        others = machine - self.server - ours
        self.disturbance = max(0.0, others / elapsed / (os.cpu_count() or 1))

    def _now(self) -> tuple[float, float, float, float]:
        usages = map(resource.getrusage, (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        ours = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        ours += sum(map(processes.cpu_seconds, processes.helpers))
        server, machine = processes.cpu_seconds(self._pid), processes.machine_busy_seconds()
        return server, ours, machine, time.monotonic()


def median_latency(bench: Bench) -> Sample:
    """Microseconds; one connection, one request at a time."""
    with bench.start() as server:
        _normal_client(bench, min(WARM_UP, bench.settings.seconds))
        with Accounts(server.pid) as accounts:
            result = _normal_client(bench, bench.settings.seconds)
        return Sample(result.median_us, {"p99 us": result.p99_us}, result.errors, accounts.disturbance)


def _normal_client(bench: Bench, seconds: float) -> WrkResult:
    return run_wrk(bench.port, Load(connections=1), seconds)


def waiting_neighbours(bench: Bench) -> Sample:
    """How many of the fast requests, each on a new connection, waited while a long one was being worked on."""
    with bench.start():
        long = TimedRequest(bench.port, "/long")
        time.sleep(NEIGHBOUR_HEAD_START)
        fast = [TimedRequest(bench.port, "/", NEIGHBOUR_SPACING) for _ in range(NEIGHBOUR_REQUESTS)]
        waits = [request.join() for request in fast]
        failed = sum(wait is None for wait in (*waits, long.join()))
    answered = [wait for wait in waits if wait is not None]
    return Sample(
        sum(wait > NEIGHBOUR_WAITED for wait in answered),
        {"of": len(answered), "longest wait ms": max(answered, default=0) * 1e3},
        (f"{failed} requests failed",) if failed else (),
    )


class TimedRequest:
    """A request of its own thread and connection, under way once this is made; `pause`: wait a little after that."""

    def __init__(self, port: int, path: str, pause: float = 0.0) -> None:
        self._seconds: float | None = None
        self._thread = threading.Thread(target=self._run, args=(port, path))
        self._thread.start()
        time.sleep(pause)

    def _run(self, port: int, path: str) -> None:
        begun = time.monotonic()
        try:
            fetch(port, path)
        except (OSError, ClientFailure):
            return
        self._seconds = time.monotonic() - begun

    def join(self) -> float | None:
        """How long it took; None where there was no good answer."""
        self._thread.join()
        return self._seconds


def slow_company(bench: Bench) -> Sample:
    """By how many milliseconds a normal client's p99 grows in the company of slow ones."""
    with bench.start() as server:
        _normal_client(bench, min(WARM_UP, bench.settings.seconds))
        with Accounts(server.pid) as accounts:
            alone = _normal_client(bench, bench.settings.seconds)
            with slow_clients(bench.port, SLOW_CLIENTS) as crowd:
                # Their being slow is measured, not the burst of their arrival: one request comes to its turn behind
                # them, then each has sent its first byte.
                fetch(bench.port, "/")
                time.sleep(SLOW_PERIOD)
                accompanied = _normal_client(bench, bench.settings.seconds)
    details = {"p99 us alone": alone.p99_us, "with slow clients": accompanied.p99_us, "cut off": crowd.cut}
    growth = (accompanied.p99_us - alone.p99_us) / 1e3
    return Sample(growth, details, alone.errors + accompanied.errors, accounts.disturbance)


def memory_after_load(bench: Bench) -> Sample:
    """PSS of the process tree in MiB; and of what remains without the one process that no peer has."""
    with bench.start() as server:
        result = run_wrk(bench.port, Load(), bench.settings.seconds)
        time.sleep(MEMORY_SETTLE)
        count = len(processes.tree(server.pid))
        workers = processes.pss_kib(server.pid, without="gateway") / 1024
        details = {"processes": count, WORKERS_MEMORY: workers}
        return Sample(processes.pss_kib(server.pid) / 1024, details, result.errors)


def wake_ups_at_rest(bench: Bench) -> Sample:
    """Changes of context a second, of all threads of the tree, while nobody asks for anything."""
    with bench.start() as server:
        run_wrk(bench.port, Load(), min(WARM_UP, bench.settings.seconds))
        time.sleep(REST_SETTLE)
        before = processes.context_switches(server.pid)
        time.sleep(REST_WINDOW)
        return Sample((processes.context_switches(server.pid) - before) / REST_WINDOW)


def memory_of_idle_websockets(count: int) -> Measure:
    """PSS of the process tree in MiB while so many clients are connected and silent."""

    def measure(bench: Bench) -> Sample:
        with bench.start() as server:
            with idle_websockets(bench.port, count) as crowd:
                time.sleep(MEMORY_SETTLE)
                memory = processes.pss_kib(server.pid) / 1024
        return Sample(memory, {"KiB/connection": memory * 1024 / count}, (f"{crowd.cut} cut off",) if crowd.cut else ())

    return measure


def first_answer(bench: Bench) -> Sample:
    """Milliseconds from the start of the command to the end of the first answer."""
    begun = time.monotonic()
    with bench.launch() as server:
        server.wait_until(lambda: answers(bench.port), START_PATIENCE, START_PAUSE)
        took = time.monotonic() - begun
        return Sample(took * 1e3, {START_CPU: processes.cpu_seconds(server.pid) * 1e3})
