"""What can be asked and told: Gunicorn 27's commands with the same fields, and oxicorn's own.

A command is a function of the arbiter, the facts that the native side has gathered, and its words.
It never waits; what it changes is done by the arbiter's loop afterwards.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

from oxicorn.control import dirty
from oxicorn.control.stacks import WorkerStacks

#: Of Gunicorn's `show config`, in its order.
CONFIG_KEYS = (
    "bind workers worker_class threads timeout graceful_timeout keepalive max_requests "
    "max_requests_jitter worker_connections preload_app daemon pidfile proc_name reload "
    "dirty_workers dirty_apps dirty_timeout control_socket control_socket_disable"
).split()

Data = dict[str, Any]


class WorkerFact(TypedDict):
    """A worker as the scoreboard has it. Times are seconds before now."""

    pid: int
    age: int
    generation: int
    state: str
    uptime: float
    last_heartbeat: float
    busy: int
    requests: int
    capacity: int
    rss: int | None


@dataclass
class Facts:
    """What the native side knows."""

    workers: list[WorkerFact]
    #: Names and numbers of what the arbiter counts.
    counts: dict[str, int]
    wanted: int
    generation: int
    loading: int | None
    gateway_pid: int
    queued: int
    in_flight: int
    connections: int
    #: Requests, the oldest first, and how many there are; None: not asked for, or no answer.
    requests: list[Data] | None = None
    total: int = 0
    #: Responses by status class, and how long requests took: (microseconds at most, how many).
    responses: dict[str, int] = field(default_factory=dict)
    latency: list[tuple[int | None, int]] = field(default_factory=list)
    #: What a follower of requests is given, as JSON; None: not asked for, or no answer.
    followed: str | None = None
    #: What workers have said of their calls, by pid (``oxicorn.control.stacks``).
    stacks: dict[int, Data] = field(default_factory=dict)
    #: Of each heavy application: workers, calls that wait and run, and how others ended.
    pool: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What has to be gathered before a command can be answered."""

    #: So many requests at most.
    requests: int = 0
    #: Stacks of these workers; None: of all.
    stacks: list[int] | None = field(default_factory=list)
    #: Who follows requests, and which.
    follower: tuple[int, str] | None = None


class CommandError(ValueError):
    """The command cannot be followed; the text says why."""


def words_of(message: Data) -> list[str]:
    """The words of a request, as Gunicorn takes them apart."""
    command = message.get("command", "")
    arguments = message.get("args") or []
    if not isinstance(command, str) or not isinstance(arguments, list):
        raise CommandError("command must be a text and args a list")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(str(error)) from None
    words += map(str, arguments)
    return words


def needs(words: list[str]) -> Needs:
    """What the answer to these words takes."""
    match [word.lower() for word in words]:
        case ["show", "requests"]:
            return Needs(requests=REQUESTS_SHOWN)
        case ["show", "requests", most]:
            return Needs(requests=min(max(1, _number(most, "number of requests")), MOST_REQUESTS))
        case ["show", "queue"]:
            return Needs(requests=MOST_REQUESTS)
        case ["stacks", pid] if pid.isdecimal():
            return Needs(requests=MOST_REQUESTS, stacks=[_number(pid, "PID")])
        case ["stacks", *_]:
            return Needs(requests=MOST_REQUESTS, stacks=None)
        case ["trace", number, *_]:
            pattern = " ".join(words[2:])
            if len(pattern) > LONGEST_PATTERN:
                raise CommandError(f"the pattern is too long, {LONGEST_PATTERN} are allowed")
            return Needs(follower=(_number(number, "number") & MOST_FOLLOWER, pattern))
        case ["trace"]:
            raise CommandError("Missing number for trace (oxicornctl chooses it)")
    return Needs()


#: Characters of a pattern, and the largest number of a follower.
LONGEST_PATTERN = 1000
MOST_FOLLOWER = 2**63 - 1
#: Requests in a list where nobody says how many, and at most.
REQUESTS_SHOWN = 100
MOST_REQUESTS = 2000


def changes(words: list[str]) -> bool:
    """Whether it is more than a question."""
    match [word.lower() for word in words]:
        case ["loglevel"]:
            return False
        case [first, *_]:
            return first in CHANGES
    return False


CHANGES = frozenset(
    "worker dirty reload refork reopen drain undrain loglevel shutdown upgrade".split()
)


def execute(arbiter: Any, words: list[str], facts: Facts) -> Data:
    """Follows a command. CommandError: it cannot be."""
    for length in (2, 1):
        command = COMMANDS.get(" ".join(words[:length]).lower())
        if command is not None:
            return command(arbiter, facts, words[length:])
    raise CommandError(_unknown(words))


def _unknown(words: list[str]) -> str:
    first = words[0].lower()
    seconds = [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]
    if not seconds:
        return f"Unknown command: {first}"
    targets = "|".join(seconds)
    what = {"show": "show target"}.get(first, f"{first} action")
    if len(words) == 1:
        return f"Missing {what} ({targets})"
    return f"Unknown {what}: {words[1].lower()}"


# Questions.


def show_all(arbiter: Any, facts: Facts, _: list[str]) -> Data:
    workers = [
        {"pid": one["pid"], "type": "web", **_gunicorns(one, "age", "booted", "last_heartbeat")}
        for one in facts.workers
    ]
    return {
        "arbiter": {"pid": arbiter.pid, "type": "arbiter", "role": "master"},
        "web_workers": workers,
        "web_worker_count": len(workers),
        **_dirty_processes(arbiter.dirty_arbiter),
        "gateway": {"pid": facts.gateway_pid, "type": "gateway"},
    }


def show_workers(_: Any, facts: Facts, __: list[str]) -> Data:
    workers = [
        {**_gunicorns(one, "pid", "age", "booted", "aborted", "last_heartbeat"), **one}
        for one in facts.workers
    ]
    return {"workers": workers, "count": len(workers)}


def _gunicorns(worker: WorkerFact, *keys: str) -> Data:
    """The fields Gunicorn has, with true values."""
    every: Data = {**worker, "booted": worker["state"] != "booting", "aborted": False}
    return {key: every[key] for key in keys}


def _dirty_processes(pool: Any) -> Data:
    workers = dirty.workers(pool)
    about = pool and {"pid": pool.pid, "type": "dirty_arbiter", "role": "dirty master"}
    return {
        "dirty_arbiter": about,
        "dirty_workers": workers,
        "dirty_worker_count": len(workers),
    }


def show_dirty(arbiter: Any, _: Facts, __: list[str]) -> Data:
    return dirty.show(arbiter.dirty_arbiter)


def show_config(arbiter: Any, _: Facts, words: list[str]) -> Data:
    cfg = arbiter.cfg
    names = list(cfg.settings) if words == ["all"] else CONFIG_KEYS
    found = {name: _plain(getattr(cfg, name)) for name in names if hasattr(cfg, name)}
    if found.get("dirty_stash"):
        from oxicorn.dirty.redis_stash import shown

        found["dirty_stash"] = shown(str(found["dirty_stash"]))
    return found


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if name else str(value)


def show_stats(arbiter: Any, facts: Facts, _: list[str]) -> Data:
    counts = facts.counts
    ended = ("exited", "failed", "signalled")
    return {
        "uptime": round(time.time() - counts["start_time"], 2),
        "pid": arbiter.pid,
        "workers_current": len(facts.workers),
        "workers_target": facts.wanted,
        "workers_spawned": counts["workers_spawned"],
        "workers_killed": sum(counts[name] for name in ended),
        "reloads": counts["reloads"],
        "dirty_arbiter_pid": arbiter.dirty_arbiter_pid or None,
        "reloads_failed": counts["reloads_failed"],
        "generation": facts.generation,
        "loading": facts.loading,
        "gateway_pid": facts.gateway_pid,
        "gateways_spawned": counts["gateways_spawned"],
        "queued": facts.queued,
        "in_flight": facts.in_flight,
        "connections": facts.connections,
        "worker_exits": {name: counts[name] for name in (*ended, "out_of_memory")},
        "responses": facts.responses,
        "latency": facts.latency,
        "out_of_rotation": arbiter.out_of_rotation,
        "loglevel": _level_name(arbiter),
        **({"dirty_calls": facts.pool} if facts.pool else {}),
        "dirty": dirty.reload_state(arbiter.dirty_arbiter),
    }


def show_listeners(arbiter: Any, _: Facts, __: list[str]) -> Data:
    kinds = {1: "unix", 2: "tcp", 10: "tcp6"}
    listeners = [
        {
            "address": str(listener),
            "fd": listener.fileno(),
            "type": kinds.get(int(listener.sock.family), "unknown"),
        }
        for listener in arbiter.LISTENERS
    ]
    return {"listeners": listeners, "count": len(listeners)}


def show_requests(_: Any, facts: Facts, __: list[str]) -> Data:
    return {"requests": _requests(facts), "count": facts.total}


def show_queue(_: Any, facts: Facts, __: list[str]) -> Data:
    waiting = [request for request in _requests(facts) if request["state"] == "queued"]
    return {
        "requests": waiting[:REQUESTS_SHOWN],
        "queued": facts.queued,
        "in_flight": facts.in_flight,
    }


def _requests(facts: Facts) -> list[Data]:
    if facts.requests is None:
        raise CommandError("the gateway did not answer")
    return facts.requests


def stacks(_: Any, facts: Facts, words: list[str]) -> Data:
    """Of all workers, of one (its pid), or of requests: their id, or a part of their line."""
    wanted = " ".join(words)
    is_pid = wanted.isdecimal()
    if is_pid and all(one["pid"] != int(wanted) for one in facts.workers):
        raise CommandError(f"Worker {wanted} not found")
    workers = [
        _worker_stacks(one["pid"], facts, "" if is_pid else wanted)
        for one in facts.workers
        if not is_pid or one["pid"] == int(wanted)
    ]
    if wanted and not is_pid:
        workers = [one for one in workers if one["requests"]]
        if not workers:
            raise CommandError(f"No worker has a request {wanted!r}")
    return {"workers": workers}


def _worker_stacks(pid: int, facts: Facts, wanted: str) -> Data:
    found = WorkerStacks(facts.stacks.get(pid))
    requests = [
        {**one, "stacks": found.of(one["id"])}
        for one in facts.requests or []
        if one["pid"] == pid and (not wanted or wanted == one["id"] or wanted in one["request"])
    ]
    others = [] if wanted else found.others
    return {"pid": pid, "taken_by": found.taken_by, "requests": requests, "others": others}


def trace(_: Any, facts: Facts, __: list[str]) -> Data:
    """What has become of the requests that a follower follows, since it has asked last."""
    if facts.followed is None:
        raise CommandError("the gateway did not answer")
    told: Data = json.loads(facts.followed)
    if told["refused"]:
        raise CommandError("too many follow requests already")
    return {key: told[key] for key in ("events", "more", "lost", "begins")}


def help_(*_: object) -> Data:
    return {"commands": HELP}


# Orders.


def worker_add(arbiter: Any, facts: Facts, words: list[str]) -> Data:
    count = max(1, _count(words))
    for _ in range(count):
        arbiter.handle_signal(signal.SIGTTIN)
    return {"added": count, "previous": facts.wanted, "total": facts.wanted + count}


def worker_remove(arbiter: Any, facts: Facts, words: list[str]) -> Data:
    count = min(max(1, _count(words)), facts.wanted - 1)
    for _ in range(count):
        arbiter.handle_signal(signal.SIGTTOU)
    return {"removed": count, "previous": facts.wanted, "total": facts.wanted - count}


def worker_kill(_: Any, facts: Facts, words: list[str]) -> Data:
    if not words:
        raise CommandError("Missing PID for worker kill")
    pid = _number(words[0], "PID")
    if all(one["pid"] != pid for one in facts.workers):
        return {"success": False, "error": f"Worker {pid} not found"}
    os.kill(pid, signal.SIGTERM)
    return {"success": True, "killed": pid}


def worker_recycle(_: Any, facts: Facts, words: list[str]) -> Data:
    """Each is replaced: its successor is ready before it leaves."""
    known = [one["pid"] for one in facts.workers]
    if not words:
        raise CommandError("Missing PID for worker recycle (or all)")
    pids = known if words == ["all"] else [_number(word, "PID") for word in words]
    for pid in pids:
        if pid not in known:
            raise CommandError(f"Worker {pid} not found")
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    return {"recycled": pids}


def dirty_add(arbiter: Any, _: Facts, words: list[str]) -> Data:
    return dirty.add(arbiter, max(1, _count(words)))


def dirty_remove(arbiter: Any, _: Facts, words: list[str]) -> Data:
    return dirty.remove(arbiter, max(1, _count(words)))


def reload(arbiter: Any, _: Facts, __: list[str]) -> Data:
    arbiter.handle_signal(signal.SIGHUP)
    return {"status": "reloading"}


def refork(arbiter: Any, facts: Facts, __: list[str]) -> Data:
    """New workers from the template of the code that serves; each successor is there first."""
    if not arbiter.cfg.preload_app or arbiter.cfg.preload_in_arbiter:
        raise CommandError(
            "there is no template to fork from (preload_app); worker recycle all starts anew"
        )
    arbiter.ask_for("refork")
    serving = [one["pid"] for one in facts.workers if one["generation"] == facts.generation]
    return {"status": "reforking", "workers": serving}


def drain(arbiter: Any, _: Facts, __: list[str]) -> Data:
    """Out of rotation: whoever comes is served, but the server is not ready for more."""
    return _rotate(arbiter, out=True)


def undrain(arbiter: Any, _: Facts, __: list[str]) -> Data:
    return _rotate(arbiter, out=False)


def _rotate(arbiter: Any, *, out: bool) -> Data:
    before, arbiter.out_of_rotation = arbiter.out_of_rotation, out
    arbiter.ask_for("settings")
    return {"status": "out of rotation" if out else "in rotation", "changed": before != out}


def loglevel(arbiter: Any, _: Facts, words: list[str]) -> Data:
    """What is worth a line in the error log, of all processes, until the next reload."""
    if not words:
        return {"loglevel": _level_name(arbiter)}
    level = arbiter.log.LOG_LEVELS.get(words[0].lower())
    if level is None:
        raise CommandError(f"Unknown log level: {words[0]} ({'|'.join(arbiter.log.LOG_LEVELS)})")
    previous = _level_name(arbiter)
    arbiter.change_log_level(level)
    return {"loglevel": _level_name(arbiter), "previous": previous}


def _level_name(arbiter: Any) -> str:
    error_log = getattr(arbiter.log, "error_log", None)
    return logging.getLevelName(error_log.level).lower() if error_log is not None else "unknown"


def reopen(arbiter: Any, _: Facts, __: list[str]) -> Data:
    arbiter.handle_signal(signal.SIGUSR1)
    return {"status": "reopening"}


def shutdown(arbiter: Any, _: Facts, words: list[str]) -> Data:
    mode = words[0] if words else "graceful"
    if mode not in ("graceful", "quick"):
        raise CommandError(f"Unknown shutdown mode: {mode} (graceful|quick)")
    arbiter.handle_signal(signal.SIGINT if mode == "quick" else signal.SIGTERM)
    return {"status": "shutting_down", "mode": mode}


def upgrade(arbiter: Any, _: Facts, __: list[str]) -> Data:
    arbiter.handle_signal(signal.SIGUSR2)
    return {"status": "upgrading"}


#: More than anybody has, and few enough that asking for them does not stop the server.
WORKERS_AT_ONCE = 1000


def _count(words: list[str]) -> int:
    count = _number(words[0], "number of workers") if words else 1
    if count > WORKERS_AT_ONCE:
        raise CommandError(f"{count} workers are too many, {WORKERS_AT_ONCE} at once are allowed")
    return count


def _number(word: str, what: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise CommandError(f"{word!r} is no {what}") from None


COMMANDS: dict[str, Callable[[Any, Facts, list[str]], Data]] = {
    "show all": show_all,
    "show workers": show_workers,
    "show dirty": show_dirty,
    "show config": show_config,
    "show stats": show_stats,
    "show listeners": show_listeners,
    "show requests": show_requests,
    "show queue": show_queue,
    "stacks": stacks,
    "worker add": worker_add,
    "worker remove": worker_remove,
    "worker kill": worker_kill,
    "worker recycle": worker_recycle,
    "dirty add": dirty_add,
    "dirty remove": dirty_remove,
    "trace": trace,
    "reload": reload,
    "refork": refork,
    "drain": drain,
    "undrain": undrain,
    "loglevel": loglevel,
    "reopen": reopen,
    "upgrade": upgrade,
    "shutdown": shutdown,
    "help": help_,
}

HELP = {
    "show all": "Show all processes (arbiter, gateway, web workers)",
    "show workers": "List HTTP workers with their status",
    "show dirty": "List dirty workers and apps",
    "show config [all]": "Show current effective configuration",
    "show stats": "Show server statistics",
    "show listeners": "Show bound sockets",
    "show requests [N]": "List requests that wait or are worked on, the oldest first",
    "show queue": "List requests that wait for a worker",
    "stacks [PID|REQUEST]": "Show the Python stack of each request in flight",
    "worker add [N]": "Spawn N workers (default 1)",
    "worker remove [N]": "Remove N workers (default 1)",
    "worker kill <PID>": "Gracefully terminate specific worker",
    "worker recycle <PID|all>": "Replace workers, each successor first",
    "dirty add [N]": "Spawn N dirty workers (default 1)",
    "dirty remove [N]": "Remove N dirty workers (default 1)",
    "trace [PATTERN]": "Follow requests as they pass (* stands for anything)",
    "top": "Watch workers and requests",
    "reload": "Graceful reload (HUP)",
    "refork": "Replace workers by new ones from the template (preload_app)",
    "drain": "Take the server out of rotation: /readyz says 503, it goes on serving",
    "undrain": "Put it back",
    "loglevel [LEVEL]": "Show or change what is logged, until the next reload",
    "reopen": "Reopen log files (USR1)",
    "upgrade": "Start a successor of the whole server (USR2)",
    "shutdown [graceful|quick]": "Shutdown server (TERM/INT)",
    "help": "Show this help message",
}
