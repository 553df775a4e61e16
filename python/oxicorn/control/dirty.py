"""What can be asked about the pool of heavy applications, and told it.

Answers come from the pool's broker, which always has one at hand; an order goes by way of it to the
arbiter's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oxicorn.dirty.arbiter import DirtyArbiter

__all__ = ["NOT_RUNNING", "add", "remove", "show", "workers"]

NOT_RUNNING = "Dirty arbiter not running"
#: Seconds for the broker's answer; the arbiter waits for it.
PATIENCE = 1.0
#: Orders, as the broker knows them.
ADD, REMOVE = 1, 2

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
            {**one, "worker_count": pool.wanted_by(one["import_path"])} for one in status["apps"]
        ],
        "target_workers": pool.num_workers,
        "queued": sum(one["queued"] for one in status["apps"]),
    }


def _order(pool: DirtyArbiter | None, op: int, count: int) -> Data | None:
    if pool is None:
        return None
    from oxicorn.dirty.client import MANAGE

    _ask(pool, MANAGE, {"op": op, "count": count})
    return {"success": True, "operation": "add" if op == ADD else "remove", "requested": count}


def add(pool: DirtyArbiter | None, count: int) -> Data:
    """``dirty add``."""
    done = _order(pool, ADD, count)
    if pool is None or done is None:
        return {"success": False, "error": NOT_RUNNING}
    total = len(pool.workers)
    return {
        **done,
        "spawned": count,
        "total_workers": total,
        "target_workers": pool.num_workers + count,
    }


def remove(pool: DirtyArbiter | None, count: int) -> Data:
    """``dirty remove``: never below what an application wants."""
    done = _order(pool, REMOVE, count)
    if pool is None or done is None:
        return {"success": False, "error": NOT_RUNNING}
    target = max(pool.num_workers - count, min(pool.least_workers, pool.num_workers))
    return {
        **done,
        "removed": pool.num_workers - target,
        "total_workers": len(pool.workers),
        "target_workers": target,
    }
