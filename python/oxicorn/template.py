"""What a template process has to do in Python, and what hooks keep, between it and the arbiter.

With ``preload_app`` the hook ``pre_fork`` runs in the template, where the application is, while the
other hooks about workers run in the arbiter. Recipes that number workers, for one, keep what they
know in ``server`` and in ``worker``: so plain data among the attributes (what ``marshal`` knows:
numbers, texts, lists, sets, dictionaries of such) goes with each order to the template, and what
``pre_fork`` has changed comes back. Other objects, whose classes may be the application's, stay
where they are.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oxicorn.arbiter import Arbiter
    from oxicorn.workers.base import Worker

__all__ = ["Attributes", "apply", "changes", "pack", "packed_state", "unpack"]

#: Names and their values as ``marshal`` writes them.
Attributes = dict[str, bytes]

#: What of the server's own attributes changes between forks and is looked at by hooks.
SHARED = frozenset(("_num_workers", "_settled", "reexec_pid", "worker_age"))


def plain(attributes: dict[str, Any], without: frozenset[str]) -> Attributes:
    """Those of ``attributes`` that are plain data, but for the names in ``without``."""
    packed = {}
    for name, value in attributes.items():
        if name not in without:
            try:
                packed[name] = marshal.dumps(value)
            except ValueError:
                continue
    return packed


def changes(before: Attributes, after: Attributes) -> Attributes:
    """What is new or different in ``after``."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def apply(target: object, attributes: Attributes) -> None:
    """Sets the attributes."""
    for name, value in attributes.items():
        setattr(target, name, marshal.loads(value))


def of_server(server: Arbiter) -> Attributes:
    """What hooks keep in ``server``."""
    return plain(vars(server), server.own_names - SHARED)


def of_worker(worker: Worker) -> Attributes:
    """What hooks keep in ``worker``."""
    return plain(vars(worker), worker.own_names)


def packed_state(server: Arbiter) -> bytes:
    """For the template: the server's attributes, and each worker's pid, age and attributes."""
    workers = [(pid, worker.age, of_worker(worker)) for pid, worker in server.WORKERS.items()]
    return pack(of_server(server), workers)


def pack(*parts: Any) -> bytes:
    """Plain data as bytes."""
    return marshal.dumps(parts)


def unpack(packed: bytes) -> Any:
    """The parts again."""
    return marshal.loads(packed)


def restore_workers(server: Arbiter, workers: Iterable[tuple[int, int, Attributes]]) -> None:
    """Makes ``server.WORKERS`` what it is in the arbiter."""
    known = {worker.age: worker for worker in server.WORKERS.values()}
    server.WORKERS.clear()
    for pid, age, attributes in workers:
        worker = known.get(age) or server.new_worker(age, server.cfg)
        worker.pid = pid
        apply(worker, attributes)
        server.WORKERS[pid] = worker
