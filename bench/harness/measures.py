"""The measures: what is done to a started server, and which figure comes out.

CPU time is the measure of throughput here, not requests per second: on a machine that also runs the load, the latter
tells who got the cores.
"""

import os
import resource
import threading
import time
from collections.abc import Callable

from harness import processes
from harness.clients import ClientFailure, Load, WrkResult, answers, fetch, run_wrk, slow_clients
from harness.experiment import START_PATIENCE, Bench, Measure, Sample

WARM_UP = 1.0
#: After a load: the server notices that its clients have gone; that belongs to its work.
SETTLE = 0.1

NEIGHBOUR_REQUESTS = 40
NEIGHBOUR_SPACING = 0.05
#: Slower than this has waited for somebody; the long request takes 4 s.
NEIGHBOUR_WAITED = 0.2

SLOW_CLIENTS = 500
MEMORY_SETTLE = 0.5
START_PAUSE = 0.001


def check_answer(port: int, path: str, length: int, body: bytes | None) -> None:
    """A server that does not do the work must not be compared with those that do."""
    content = fetch(port, path, body)
    if len(content) != length:
        raise ClientFailure(f"{path} gave {len(content)} bytes instead of {length}")


def cpu_per_request(load: Load, length: int, body: bytes | None = None) -> Measure:
    """CPU microseconds of the whole process tree for each answered request."""

    def measure(bench: Bench) -> Sample:
        with bench.start(load.path) as server:
            check_answer(bench.port, load.path, length, body)
            run_wrk(bench.port, load, min(WARM_UP, bench.settings.seconds))
            return _loaded_sample(server, bench, load)

    return measure


def _loaded_sample(server: processes.Server, bench: Bench, load: Load) -> Sample:
    time.sleep(SETTLE)
    accounts = Accounts(server.pid)
    result = run_wrk(bench.port, load, bench.settings.seconds)
    time.sleep(SETTLE)
    accounts.close()
    return Sample(
        accounts.server / result.requests * 1e6,
        {"requests/s": round(result.per_second), "p99 ms": result.p99_us / 1e3},
        result.errors,
        accounts.disturbance,
    )


class Accounts:
    """Who used the processors between the making of this and `close`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._now()
        self.server = 0.0
        self.disturbance = 0.0

    def _now(self) -> tuple[float, float, float, float]:
        ours = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        )
        return processes.cpu_seconds(self._pid), ours, processes.machine_busy_seconds(), time.monotonic()

    def close(self) -> None:
        self.server, ours, machine, elapsed = (
            after - before for after, before in zip(self._now(), self._before, strict=True)
        )
        others = machine - self.server - ours
        self.disturbance = max(0.0, others / elapsed / (os.cpu_count() or 1))


def median_latency(bench: Bench) -> Sample:
    """Microseconds; one connection, one request at a time."""
    with bench.start():
        load = Load(connections=1)
        run_wrk(bench.port, load, min(WARM_UP, bench.settings.seconds))
        result = run_wrk(bench.port, load, bench.settings.seconds)
        return Sample(result.median_us, {"p99 us": result.p99_us}, result.errors)


def waiting_neighbours(bench: Bench) -> Sample:
    """How many of the fast requests, each on a new connection, waited while a long one was being worked on."""
    with bench.start():
        waits: list[float] = []

        def timed(path: str, into: Callable[[float], None]) -> None:
            begun = time.monotonic()
            fetch(bench.port, path)
            into(time.monotonic() - begun)

        long: list[float] = []
        clients = [threading.Thread(target=timed, args=("/long", long.append))]
        clients[0].start()
        time.sleep(0.3)
        for _ in range(NEIGHBOUR_REQUESTS):
            client = threading.Thread(target=timed, args=("/", waits.append))
            client.start()
            clients.append(client)
            time.sleep(NEIGHBOUR_SPACING)
        for client in clients:
            client.join()
        unanswered = NEIGHBOUR_REQUESTS - len(waits) + (not long)
        return Sample(
            sum(wait > NEIGHBOUR_WAITED for wait in waits),
            {"of": len(waits), "longest wait ms": max(waits, default=0) * 1e3},
            (f"{unanswered} requests failed",) if unanswered else (),
        )


def slow_company(bench: Bench) -> Sample:
    """A normal client's p99 in the company of slow ones, as a multiple of what it is alone."""
    with bench.start():
        _normal_client(bench, min(WARM_UP, bench.settings.seconds))
        alone = _normal_client(bench, bench.settings.seconds)
        with slow_clients(bench.port, SLOW_CLIENTS) as crowd:
            accompanied = _normal_client(bench, bench.settings.seconds)
        errors = alone.errors + accompanied.errors
        details = {"p99 us alone": alone.p99_us, "with slow clients": accompanied.p99_us, "cut off": crowd.cut}
        return Sample(accompanied.p99_us / alone.p99_us, details, errors)


def _normal_client(bench: Bench, seconds: float) -> WrkResult:
    return run_wrk(bench.port, Load(connections=1), seconds)


def memory_after_load(bench: Bench) -> Sample:
    """PSS of the process tree in MiB."""
    with bench.start() as server:
        result = run_wrk(bench.port, Load(), bench.settings.seconds)
        time.sleep(MEMORY_SETTLE)
        count = len(processes.tree(server.pid))
        return Sample(processes.pss_kib(server.pid) / 1024, {"processes": count}, result.errors)


def first_answer(bench: Bench) -> Sample:
    """Milliseconds from the start of the command to the end of the first answer."""
    begun = time.monotonic()
    with bench.launch() as server:
        server.wait_until(lambda: answers(bench.port), START_PATIENCE, START_PAUSE)
        return Sample((time.monotonic() - begun) * 1e3)
