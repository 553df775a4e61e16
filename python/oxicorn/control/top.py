"""``oxicornctl top``: workers and requests, looked at again and again, as in htop.

What is shown is made here from two looks (``Look``, ``lines``); the terminal is ``screen``'s.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oxicorn.control.client import ControlClient
from oxicorn.control.text import duration

Data = dict[str, Any]

#: Columns of workers: name, width, what is sorted by.
COLUMNS: tuple[tuple[str, int, Callable[[Data], Any]], ...] = (
    ("PID", 8, lambda one: one["pid"]),
    ("AGE", 5, lambda one: one["age"]),
    ("GEN", 4, lambda one: one["generation"]),
    ("STATE", 9, lambda one: one["state"]),
    ("BUSY", 9, lambda one: one["busy"] or 0),
    ("REQ/S", 8, lambda one: one["rate"]),
    ("REQUESTS", 10, lambda one: one["requests"] or 0),
    ("CPU%", 6, lambda one: one["cpu"] or 0.0),
    ("MEM", 9, lambda one: one["rss"] or 0),
    ("UPTIME", 8, lambda one: one["uptime"] or 0.0),
    ("BEAT", 7, lambda one: one["last_heartbeat"] or 0.0),
)
NAMES = [name for name, _, _ in COLUMNS]
#: Where the largest is what one looks for.
DESCENDING = frozenset(("BUSY", "REQ/S", "REQUESTS", "CPU%", "MEM", "UPTIME", "BEAT"))

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Look:
    """What one look has found, and what has changed since the one before."""

    stats: Data
    workers: list[Data]
    requests: list[Data]
    total: int
    #: Per second.
    rate: float
    errors: float
    #: Seconds; None: no request has ended since.
    median: float | None
    slowest: float | None


class Watcher:
    """Looks at a server."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._before: Data = {}
        self._counted: dict[int, tuple[int, float | None]] = {}
        self._when = 0.0

    def look(self) -> Look:
        """ControlError: the server is gone."""
        stats = self._client.send("show", "stats")
        workers = self._client.send("show", "workers")["workers"]
        requests = self._client.send("show", "requests")
        now = time.monotonic()
        took = now - self._when if self._before else 0.0
        for worker in workers:
            self._measure(worker, took)
        before = self._before.get("responses", stats["responses"])
        new = {name: count - before.get(name, 0) for name, count in stats["responses"].items()}
        ended = _difference(self._before.get("latency", stats["latency"]), stats["latency"])
        self._before, self._when = stats, now
        self._counted = {one["pid"]: (one["requests"] or 0, one["cpu_seconds"]) for one in workers}
        return Look(
            stats=stats,
            workers=workers,
            requests=requests["requests"],
            total=requests["count"],
            rate=sum(new.values()) / took if took else 0.0,
            errors=new.get("5xx", 0) / took if took else 0.0,
            median=_quantile(ended, 0.5),
            slowest=_quantile(ended, 0.99),
        )

    def _measure(self, worker: Data, took: float) -> None:
        seconds = cpu_seconds(worker["pid"])
        requests, before = self._counted.get(worker["pid"], (worker["requests"] or 0, seconds))
        worker["cpu_seconds"] = seconds
        worker["rate"] = ((worker["requests"] or 0) - requests) / took if took else 0.0
        worker["cpu"] = None
        if took and seconds is not None and before is not None:
            worker["cpu"] = 100 * (seconds - before) / took


def cpu_seconds(pid: int) -> float | None:
    """What a process has used; None where it cannot be seen from here."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return None


def _difference(before: list[Any], now: list[Any]) -> dict[float, int]:
    """Values by their upper bound, in microseconds."""
    known = {bound: count for bound, count in before}
    new = {bound: count - known.get(bound, 0) for bound, count in now}
    # What is beyond the last bound is shown as that.
    last = max((bound for bound in new if bound is not None), default=0)
    counts: dict[float, int] = {}
    for bound, count in new.items():
        if count > 0:
            counts[bound or last] = counts.get(bound or last, 0) + count
    return counts


def _quantile(values: dict[float, int], part: float) -> float | None:
    wanted = part * sum(values.values())
    for bound in sorted(values):
        wanted -= values[bound]
        if wanted <= 0:
            return bound / 1e6
    return None


@dataclass
class View:
    """What the user has chosen."""

    column: str = "PID"
    inverted: bool = False
    #: The worker that is marked, by its place.
    marked: int = 0

    def sorted(self, workers: list[Data]) -> list[Data]:
        """In the order chosen; it holds where values are equal."""
        key = COLUMNS[NAMES.index(self.column)][2]
        descending = (self.column in DESCENDING) != self.inverted
        workers = sorted(workers, key=lambda one: int(one["pid"]))
        return sorted(workers, key=key, reverse=descending)

    def sort_by(self, column: str) -> None:
        """The same column again turns the order round."""
        self.inverted = not self.inverted if column == self.column else False
        self.column = column

    def next_column(self, step: int) -> None:
        """The one beside it."""
        self.sort_by(NAMES[(NAMES.index(self.column) + step) % len(NAMES)])


def head(look: Look) -> list[str]:
    """What is known of the server."""
    stats = look.stats
    serving = sum(one["state"] == "ready" for one in look.workers)
    busy = sum(one["busy"] or 0 for one in look.workers)
    capacity = sum(one["capacity"] or 0 for one in look.workers)
    state = ", out of rotation" if stats["out_of_rotation"] else ""
    state += f", loading generation {stats['loading']}" if stats["loading"] else ""
    return [
        f"oxicorn {stats['pid']}  up {duration(stats['uptime'])}  generation "
        f"{stats['generation']}  reloads {stats['reloads']} ({stats['reloads_failed']} failed)"
        f"{state}",
        f"Workers {serving} ready of {stats['workers_target']}  busy {bar(busy, capacity)} "
        f"{busy}/{capacity}  connections {stats['connections']}",
        f"Requests {look.rate:.1f}/s  errors {look.errors:.1f}/s  in flight {stats['in_flight']}  "
        f"queued {stats['queued']}  median {_time(look.median)}  p99 {_time(look.slowest)}",
    ]


def bar(part: int, whole: int, width: int = 20) -> str:
    """How full something is."""
    full = min(width, round(width * part / whole)) if whole else 0
    return f"[{'|' * full}{' ' * (width - full)}]"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def worker_head(view: View) -> str:
    """The names of the columns, the chosen one marked."""
    names = [f"{name}*" if name == view.column else name for name in NAMES]
    columns = zip(names, COLUMNS, strict=True)
    return " ".join(name.rjust(width) for name, (_, width, _) in columns)


def worker_line(one: Data) -> str:
    """A worker."""
    cells = (
        one["pid"],
        one["age"],
        one["generation"],
        one["state"],
        f"{one['busy'] or 0}/{one['capacity']}",
        f"{one['rate']:.1f}",
        one["requests"] or 0,
        "-" if one["cpu"] is None else f"{one['cpu']:.1f}",
        "-" if one["rss"] is None else f"{one['rss'] / 2**20:.1f}M",
        duration(one["uptime"]) or "-",
        duration(one["last_heartbeat"]) or "-",
    )
    columns = zip(cells, COLUMNS, strict=True)
    return " ".join(str(cell).rjust(width) for cell, (_, width, _) in columns)


def request_lines(look: Look) -> list[str]:
    """Requests under way, the oldest first."""
    lines = [f"Requests under way: {look.total}, the oldest first"]
    for one in look.requests:
        age = duration(one["age_ms"] / 1000) or "-"
        lines.append(
            f"{one['id']:>8} {age:>8} {one['state']:<10} {one['pid'] or '-':>8} "
            f"{one['client']:<15} {one['request']}"
        )
    return lines


def plain(look: Look, view: View) -> list[str]:
    """All of it, for who has no terminal."""
    workers = [worker_line(one) for one in view.sorted(look.workers)]
    return [*head(look), "", worker_head(view), *workers, "", *request_lines(look)]


def run(client: ControlClient, options: argparse.Namespace) -> int:
    """Until the user has seen enough, or ``--count`` looks; without a terminal line by line."""
    watcher = Watcher(client)
    if options.json or not sys.stdout.isatty() or not sys.stdin.isatty():
        return _print(watcher, options)
    from oxicorn.control import screen  # curses is not everywhere

    return screen.run(watcher, client, options.delay, options.count)


def _print(watcher: Watcher, options: argparse.Namespace) -> int:
    looks = 0
    while True:
        look = watcher.look()
        if options.json:
            print(json.dumps(vars(look)), flush=True)
        else:
            print("\n".join(plain(look, View())), flush=True)
        looks += 1
        if looks >= max(1, options.count):
            return 0
        time.sleep(options.delay)
