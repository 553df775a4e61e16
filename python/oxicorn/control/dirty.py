"""What can be asked about the pool of heavy applications, and told it.

Answers come from the pool's broker, which always has one at hand, and from what the arbiter knows
of applications that cannot be loaded; an order goes to the arbiter's loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oxicorn.dirty.arbiter import DirtyArbiter

__all__ = ["NOT_RUNNING", "add", "reload_state", "remove", "show", "workers"]

NOT_RUNNING = "Dirty arbiter not running"
#: Seconds for the broker's answer; the arbiter waits for it.
PATIENCE = 1.0

Data = dict[str, Any]


def _ask(pool: DirtyArbiter, kind: int, payload: Data) -> Any:
    from oxicorn.dirty.client import DirtyClient

    with DirtyClient(pool.socket_path, timeout=PATIENCE) as client:
        return client.ask(kind, payload)


def _status(pool: DirtyArbiter) -> Data:
    from oxicorn.dirty.client import STATUS
    from oxicorn.dirty.errors import DirtyError

    try:
        status: Data = _ask(pool, STATUS, {})
    except DirtyError:
        # It has just died, and another one is on its way.
        return {"workers": [], "apps": []}
    return status


def workers(pool: DirtyArbiter | None) -> list[Data]:
    """The pool's workers with Gunicorn's fields, and what they run."""
    if pool is None:
        return []
    return [{**one, "last_heartbeat": None} for one in _status(pool)["workers"]]


def show(pool: DirtyArbiter | None) -> Data:
    """``show dirty``."""
    if pool is None:
        return {"enabled": False, "pid": None, "workers": [], "apps": []}
    status = _status(pool)
    return {
        "enabled": True,
        "pid": pool.pid,
        "workers": [{**one, "last_heartbeat": None} for one in status["workers"]],
        "apps": [
            {
                **one,
                "worker_count": pool.wanted_by(one["import_path"]),
                "failure": _failure(pool, one["import_path"]),
            }
            for one in status["apps"]
        ],
        "target_workers": pool.num_workers,
        "resting_workers": pool.resting,
        "queued": sum(one["queued"] for one in status["apps"]),
    }


def _failure(pool: DirtyArbiter, path: str) -> Data | None:
    """Why an application cannot be loaded, how often it could not be, and when it is tried again.

    ``retry_in`` is in seconds; 0: it is tried now.
    """
    failure = pool.failures.get(path)
    if failure is None:
        return None
    left = max(0.0, failure.not_before - time.monotonic())
    return {"reason": failure.reason, "failures": failure.times, "retry_in": round(left, 1)}


def reload_state(pool: DirtyArbiter | None) -> Data | None:
    """Which load of the settings the pool serves with, and how its reloads have ended."""
    if pool is None:
        return None
    return {
        "generation": pool.generation,
        "loading": pool.loading,
        "reloads_failed": pool.reloads_failed,
        "error": pool.refusal or None,
        "failures": {path: failure.reason for path, failure in pool.failures.items()},
    }


def add(arbiter: Any, count: int) -> Data:
    """``dirty add``: no more than have an application."""
    pool = arbiter.dirty_arbiter
    if pool is None:
        return {"success": False, "error": NOT_RUNNING}
    before, most = pool.num_workers, pool.most_workers
    target = before + count
    if most is not None:
        target = min(target, max(before, most))
    done = _order(arbiter, "add", "spawned", count, target)
    if target < before + count:
        done["reason"] = f"the applications want {most} workers in all: others would have none"
    return done


def remove(arbiter: Any, count: int) -> Data:
    """``dirty remove``: never below what an application wants."""
    pool = arbiter.dirty_arbiter
    if pool is None:
        return {"success": False, "error": NOT_RUNNING}
    before, least = pool.num_workers, pool.least_workers
    target = max(before - count, min(least, before))
    done = _order(arbiter, "remove", "removed", count, target)
    if target > before - count:
        done["reason"] = f"{least} workers are the fewest (an application wants them, or one is)"
    return done


def _order(arbiter: Any, operation: str, what: str, count: int, target: int) -> Data:
    """Asks the arbiter's loop for ``target`` workers; ``what`` names how many come or go."""
    pool = arbiter.dirty_arbiter
    before = pool.num_workers
    if target != before:
        arbiter.ask_for(f"dirty {target - before}")
        # The next order counts from there; the loop says what it came to.
        pool.num_workers = target
    return {
        "success": True,
        "operation": operation,
        "requested": count,
        what: abs(pool.staffed(target) - pool.staffed(before)),
        "total_workers": len(pool.workers),
        "target_workers": target,
    }
