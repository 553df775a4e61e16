"""What ``oxicornctl`` prints for people: tables, and the rest as it came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from oxicorn import request_ids
from oxicorn.control import stacks

Data = dict[str, Any]


def of(words: Sequence[str], data: Data) -> str:
    """The text of an answer to these words."""
    write = _WRITERS.get(" ".join(words[:2])) or _WRITERS.get(words[0])
    return write(data) if write else json.dumps(data, indent=2)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as what is in them; the last one as long as it is."""
    cells = [list(head), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head) - 1)]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return "\n".join(lines)


def _shown(cell: object) -> str:
    return "-" if cell is None else str(cell)


def duration(seconds: float | None) -> str | None:
    """Seconds as people read them."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _mebibytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.1f}M"


def _workers(data: Data) -> str:
    rows = [
        (
            one["pid"],
            one["age"],
            one["generation"],
            one["state"],
            f"{_shown(one['busy'])}/{one['capacity']}",
            one["requests"],
            duration(one["uptime"]),
            duration(one["last_heartbeat"]),
            _mebibytes(one["rss"]),
        )
        for one in data["workers"]
    ]
    return table(("PID", "AGE", "GEN", "STATE", "BUSY", "REQUESTS", "UPTIME", "BEAT", "RSS"), rows)


def _requests(data: Data) -> str:
    text = table(
        ("ID", "AGE", "WAITED", "STATE", "PID", "CLIENT", "REQUEST"),
        [_row(one) for one in data["requests"]],
    )
    left_out = data.get("count", 0) - len(data["requests"])
    return f"{text}\n({left_out} more)" if left_out > 0 else text


def _row(one: Data) -> tuple[object, ...]:
    waited = duration(one["queued_ms"] / 1000)
    return (
        one["id"],
        duration(one["age_ms"] / 1000),
        waited,
        one["state"],
        one["pid"],
        one["client"],
        one["request"] + request_ids.of_fact(one),
    )


def _stacks(data: Data) -> str:
    return "\n\n".join("\n".join(_worker_stacks(worker)) for worker in data["workers"])


def _worker_stacks(worker: Data) -> list[str]:
    how = {"signal": " (its interpreter is busy: taken without it)", None: " (gave no stacks)"}
    none = "" if worker["requests"] or worker["others"] else ": no request"
    shown = [f"Worker {worker['pid']}{how.get(worker['taken_by'], '')}{none}"]
    for one in worker["requests"]:
        age = duration(one["age_ms"] / 1000)
        line = f"{one['request']} from {one['client']}{request_ids.of_fact(one)}"
        shown.append(f"  {one['id']} {age} {one['state']}: {line}")
        shown += _places(one["stacks"])
    if worker["others"]:
        shown.append("  no request:")
        shown += _places(worker["others"])
    return shown


def _places(found: list[Data]) -> list[str]:
    shown = []
    for stack in found:
        shown.append(f"    in {stack['where']}")
        shown += [f"      {line}" for line in stacks.lines(stack)]
    return shown


def _pairs(data: Data) -> str:
    rows = [
        (key, json.dumps(value) if isinstance(value, dict | list) else value)
        for key, value in data.items()
    ]
    width = max((len(key) for key, _ in rows), default=0)
    return "\n".join(f"{key:<{width}}  {_shown(value)}".rstrip() for key, value in rows)


def _everybody(data: Data) -> str:
    """All processes, as ``ps`` would list them."""
    arbiter, gateway, pool = data["arbiter"], data["gateway"], data["dirty_arbiter"]
    rows: list[tuple[object, ...]] = [
        (arbiter["pid"], arbiter["type"], None, None),
        (gateway["pid"], gateway["type"], None, None),
    ]
    rows += [_process(one, "worker") for one in data["web_workers"]]
    if pool:
        rows.append((pool["pid"], "dirty arbiter", None, None))
    rows += [_process(one, "dirty worker") for one in data["dirty_workers"]]
    return table(("PID", "PROCESS", "AGE", "BOOTED"), rows)


def _process(one: Data, what: str) -> tuple[object, ...]:
    return one["pid"], what, one["age"], "yes" if one["booted"] else "no"


def _changed(data: Data) -> str:
    """Of workers that are more or fewer now."""
    words = [f"{name} {data[name]}" for name in ("added", "removed") if name in data]
    return f"{', '.join(words)}; workers wanted: {data['total']} (before: {data['previous']})"


def _pool_changed(data: Data) -> str:
    words = f"added {data['spawned']}" if "spawned" in data else f"removed {data['removed']}"
    text = f"{words}; dirty workers wanted: {data['target_workers']}"
    return f"{text} ({data['reason']})" if "reason" in data else text


def _killed(data: Data) -> str:
    return f"Worker {data['killed']} finishes what it has and is replaced"


def _recycled(data: Data) -> str:
    return f"Replacing {', '.join(map(str, data['recycled'])) or 'no worker'}"


def _status(data: Data) -> str:
    words = str(data["status"]).replace("_", " ")
    return f"{words} ({data['mode']})" if "mode" in data else words


def _listeners(data: Data) -> str:
    rows = [(one["type"], one["fd"], one["address"]) for one in data["listeners"]]
    return table(("TYPE", "FD", "ADDRESS"), rows)


def _loglevel(data: Data) -> str:
    before = f" (before: {data['previous']})" if "previous" in data else ""
    return f"{data['loglevel']}{before}"


def _rotation(data: Data) -> str:
    return f"{data['status']}{'' if data['changed'] else ' (as before)'}"


def _refork(data: Data) -> str:
    return f"Replacing {', '.join(map(str, data['workers'])) or 'no worker'}"


def followed(event: Data, when: float) -> str:
    """A line about a request that is followed; ``when``: seconds since 1970."""
    clock = time.strftime("%H:%M:%S", time.localtime(when)) + f".{int(when * 1000) % 1000:03}"
    head = f"{clock} {event['id'] or '-':<8}"
    ids = request_ids.of_fact(event)
    if event["event"] == "begin":
        return f"{head} --> {event['request']} from {event['client']}{ids}"
    parts = [f"client {event['received_ms']} ms", f"queue {event['queued_ms']} ms"]
    if event["worker_ms"] is not None:
        parts.append(f"worker {event['worker_ms']} ms")
    who = f" pid {event['pid']}" if event["pid"] else ""
    why = f" ({event['reason']})" if event["reason"] else ""
    return (
        f"{head} {event['status']} {event['request']}{why}: {event['bytes']} bytes in "
        f"{event['total_ms']} ms ({', '.join(parts)}){who}{ids}"
    )


def _dirty(data: Data) -> str:
    if not data["enabled"]:
        return "Dirty arbiter not running"
    calls = [
        (
            duration(call["age"]),
            duration(call["queued"]),
            one["pid"],
            call["caller_pid"],
            f"{call['app_path']}.{call['action']}",
        )
        for one in data["workers"]
        for call in one["calls"]
    ]
    workers = [
        (
            one["pid"],
            one["age"],
            one["generation"],
            one["state"],
            len(one["calls"]),
            ", ".join(one["apps"]),
        )
        for one in data["workers"]
    ]
    apps = [
        (one["current_workers"], one["worker_count"], one["queued"], one["import_path"])
        for one in data["apps"]
    ]
    failures = [
        f"{one['import_path']} cannot be loaded: {one['failure']['reason']} "
        f"({_attempts(one['failure'])})"
        for one in data["apps"]
        if one.get("failure")
    ]
    return "\n\n".join(
        [
            f"Dirty arbiter PID: {data['pid']}{_resting(data)}",
            table(("PID", "AGE", "GEN", "STATE", "BUSY", "APPS"), workers),
            table(("WORKERS", "WANTED", "QUEUED", "APP"), apps),
            *(["\n".join(failures)] if failures else []),
            table(("AGE", "WAITED", "PID", "CALLER", "CALL"), calls),
        ]
    )


def _resting(data: Data) -> str:
    count = data.get("resting_workers", 0)
    return (
        f" ({count} of {data['target_workers']} workers rest until they are called)"
        if count
        else ""
    )


def _attempts(failure: Data) -> str:
    times = "once" if failure["failures"] == 1 else f"{failure['failures']} times"
    left = failure["retry_in"]
    return f"{times}; " + (f"tried again in {duration(left)}" if left else "being tried again")


def _help(data: Data) -> str:
    return "\n".join(f"  {name:<28}{text}" for name, text in data["commands"].items())


_WRITERS: dict[str, Callable[[Data], str]] = {
    "show all": _everybody,
    "show workers": _workers,
    "show requests": _requests,
    "show queue": _requests,
    "show stats": _pairs,
    "show config": _pairs,
    "show listeners": _listeners,
    "show dirty": _dirty,
    "stacks": _stacks,
    "worker add": _changed,
    "worker remove": _changed,
    "worker kill": _killed,
    "worker recycle": _recycled,
    "dirty add": _pool_changed,
    "dirty remove": _pool_changed,
    "reload": _status,
    "reopen": _status,
    "upgrade": _status,
    "shutdown": _status,
    "loglevel": _loglevel,
    "drain": _rotation,
    "undrain": _rotation,
    "refork": _refork,
    "help": _help,
}
