"""``arbiter``, as the pool's hooks see it.

The pool has no arbiter of its own: the server's forks its broker and its workers and decides about
them. What is here is what hooks get (with the attributes of Gunicorn's ``DirtyArbiter``), and what
of the pool must be Python: its directory, its environment, its objects.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from oxicorn import forked
from oxicorn.dirty.app import parse_dirty_app_spec
from oxicorn.dirty.errors import DirtyAppError
from oxicorn.errors import ConfigError

if TYPE_CHECKING:
    from oxicorn.config import Config
    from oxicorn.dirty.worker import DirtyWorker

__all__ = [
    "DirtyArbiter",
    "Failure",
    "affinity_of",
    "environment_of",
    "plan",
    "processors_of",
    "refuse_nonsense",
    "refuse_unusable_stash",
    "use_stash",
]

#: Gunicorn's variable by which callers find the pool; and what they must know besides.
SOCKET_VARIABLE = "GUNICORN_DIRTY_SOCKET"
TIMEOUT_VARIABLE = "OXICORN_DIRTY_TIMEOUT"
SERIALIZER_VARIABLE = "OXICORN_DIRTY_SERIALIZER"

#: What the native side reads: see ``arbiter/pool.rs``.
Plan = tuple[
    int,
    list[tuple[str, int | None]],
    int,
    tuple[float, float, float, float],
    tuple[int, int],
    bool,
    bool,
]


def plan(cfg: Config) -> Plan | None:
    """What ``cfg`` says of the pool; None: it wants none. ConfigError: it makes no sense."""
    if cfg.dirty_workers <= 0 or not cfg.dirty_apps:
        return None
    apps = refuse_nonsense(cfg)
    return (
        cfg.dirty_workers,
        apps,
        cfg.dirty_threads,
        (
            float(cfg.dirty_timeout),
            float(cfg.dirty_graceful_timeout),
            float(cfg.boot_timeout),
            float(cfg.dirty_idle_timeout),
        ),
        (cfg.dirty_queue_limit, cfg.dirty_stash_size),
        cfg.dirty_serializer == "pickle",
        cfg.dirty_pool != "processes",
    )


def refuse_nonsense(cfg: Config) -> list[tuple[str, int | None]]:
    """The applications, by path and number of workers. ConfigError: a setting makes no sense."""
    try:
        apps = [parse_dirty_app_spec(spec) for spec in cfg.dirty_apps]
    except DirtyAppError as error:
        raise ConfigError(f"Invalid value for dirty_apps: {error.message}") from error
    paths = [path for path, _ in apps]
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise ConfigError(f"Invalid value for dirty_apps: {min(twice)} is there twice")
    if cfg.dirty_pool != "processes":
        from oxicorn.dirty import ray_settings

        ray_settings.check(cfg, paths)
    for name in ("dirty_app_env", "dirty_affinity"):
        for entry in cfg.get(name):
            app, _ = _addressee(entry)
            if app is not None and app not in paths:
                text = f"Invalid value for {name}: {entry!r}: {app} is not in dirty_apps"
                raise ConfigError(text)
    environment_of(cfg, 0, dict.fromkeys(paths, 0))
    for entry in cfg.dirty_affinity:
        processors_of(_addressee(entry)[1])
    refuse_unusable_stash(cfg)
    return apps


def refuse_unusable_stash(cfg: Config) -> None:
    """ConfigError: there can be no stash at the address of ``dirty_stash``."""
    if cfg.dirty_stash:
        from oxicorn.dirty import redis_stash

        redis_stash.verify(cfg.dirty_stash)


def use_stash(cfg: Config) -> None:
    """From now on the stash of this process, and of those it forks, is where ``cfg`` says."""
    if cfg.dirty_stash or "oxicorn.dirty.stash" in sys.modules:
        from oxicorn.dirty import stash

        stash.use_redis(cfg.dirty_stash, cfg.dirty_stash_size)


def _addressee(entry: str) -> tuple[str | None, str]:
    """The application that an entry (``model:Model NAME=VALUE``) is for, None: all; the rest."""
    head, space, rest = entry.strip().partition(" ")
    if space and ":" in head and "=" not in head:
        return head, rest.strip()
    return None, entry.strip()


def environment_of(cfg: Config, place: int, indexes: dict[str, int]) -> dict[str, str]:
    """What ``dirty_app_env`` gives to a worker, the later of two entries for a name.

    ``place`` is its place in the pool, ``indexes`` has the applications it has and which of their
    workers it is. ConfigError: an entry makes no sense.
    """
    found = {}
    for entry in cfg.dirty_app_env:
        app, rest = _addressee(entry)
        name, equals, value = rest.partition("=")
        wrong = ""
        if not name or not equals:
            wrong = "must be NAME=VALUE, or APP NAME=VALUE"
        elif app is None and "{index}" in value:
            wrong = "{index} needs APP before NAME=VALUE"
        if wrong:
            raise ConfigError(f"Invalid value for dirty_app_env: {entry!r}: {wrong}")
        if app is None or app in indexes:
            value = value.replace("{place}", str(place))
            found[name] = value.replace("{index}", str(indexes[app])) if app else value
    return found


def affinity_of(cfg: Config, place: int, indexes: dict[str, int]) -> set[int] | None:
    """The processors that ``dirty_affinity`` gives to a worker; None: it says nothing of it.

    Those of its applications go before those of its place.
    """
    entries = [_addressee(entry) for entry in cfg.dirty_affinity]
    found: set[int] = set()
    for path, index in indexes.items():
        own = [processors for app, processors in entries if app == path]
        if own:
            found |= processors_of(own[index % len(own)])
    if found:
        return found
    of_all = [processors for app, processors in entries if app is None]
    return processors_of(of_all[place % len(of_all)]) if of_all else None


def processors_of(entry: str) -> set[int]:
    """The numbers of an entry of ``dirty_affinity`` (``0-3,8``). ConfigError: it is none."""
    found: set[int] = set()
    try:
        for part in entry.split(","):
            first, dash, last = part.partition("-")
            found |= set(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        found = set()
    there = range(os.cpu_count() or 1)
    if not found or found - set(there):
        raise ConfigError(
            f"Invalid value for dirty_affinity: {entry!r}: must be numbers of processors "
            f"from 0 to {there[-1]}, such as 0-3,8"
        )
    return found


class Failure(NamedTuple):
    """Why an application cannot be loaded."""

    reason: str
    #: How often, one after the other.
    times: int
    #: When it is tried again, in seconds of ``time.monotonic``.
    not_before: float


class DirtyArbiter:
    """What hooks get (Gunicorn's ``gunicorn.dirty.arbiter.DirtyArbiter``)."""

    def __init__(self, cfg: Config, log: Any) -> None:
        self.cfg = cfg
        self.log = log
        #: Of the broker, once there is one.
        self.pid = os.getpid()
        self.ppid = os.getpid()
        self.tmpdir = tempfile.mkdtemp(prefix="gunicorn-dirty-")
        self.socket_path = os.path.join(self.tmpdir, "arbiter.sock")
        #: pid -> worker, for every living one.
        self.workers: dict[int, DirtyWorker] = {}
        self.worker_age = 0
        self.alive = True
        #: How many workers there are to be, the fewest there can be, and the most that have
        #: applications (None: any number).
        self.num_workers = cfg.dirty_workers
        self.least_workers = 1
        self.most_workers: int | None = None
        #: Which load of the settings serves, which one is being loaded, how many reloads of the
        #: pool were refused, and why the last one was.
        self.generation = 1
        self.loading: int | None = 1
        self.reloads_failed = 0
        self.refusal = ""
        #: Workers that have ended because nobody called them, and come again when somebody does.
        self.resting = 0
        #: Applications that cannot be loaded, by their paths.
        self.failures: dict[str, Failure] = {}

    def wanted_by(self, path: str) -> int | None:
        """How many workers the settings give the application; None: all, or what its class says."""
        specs = (parse_dirty_app_spec(spec) for spec in self.cfg.dirty_apps)
        return dict(specs).get(path)

    # Called by the native loop.

    def bound(self) -> None:
        """The socket is there: it is the user's that the workers run as, and theirs to find."""
        if os.geteuid() == 0:
            for path in (self.tmpdir, self.socket_path):
                os.chown(path, self.cfg.uid, self.cfg.gid)
        self._announce()

    def _announce(self) -> None:
        os.environ[SOCKET_VARIABLE] = self.socket_path
        os.environ[TIMEOUT_VARIABLE] = str(self.cfg.dirty_timeout)
        os.environ[SERIALIZER_VARIABLE] = str(self.cfg.dirty_serializer)

    def starting(self) -> None:
        """Hook ``on_dirty_starting``."""
        with forked.Guard(self.log):
            self.cfg.on_dirty_starting(self)

    def broker_started(self, pid: int) -> None:
        """The broker runs."""
        self.pid = pid
        self.log.info("Spawned dirty arbiter (pid: %s) at %s", pid, self.socket_path)

    def make_worker(
        self,
        age: int,
        place: int,
        app_paths: list[str] | None,
        indexes: dict[str, int],
        cfg: Config,
        all_apps: list[str],
    ) -> DirtyWorker:
        """The object that stands for the next worker, before its fork."""
        kind: type[DirtyWorker]
        if cfg.dirty_pool == "processes":
            from oxicorn.dirty.worker import DirtyWorker as kind
        else:
            from oxicorn.dirty.ray_worker import RayWorker as kind

        self.worker_age = age
        worker = kind(age, os.getpid(), app_paths or [], cfg, self.log, self.socket_path)
        worker.undecided = all_apps if app_paths is None else None
        worker.place = place
        # The first of its generation is the first of whatever it will have.
        worker.indexes = indexes if app_paths is not None else dict.fromkeys(all_apps, 0)
        return worker

    def worker_started(self, worker: DirtyWorker, pid: int) -> None:
        """Its process exists. Hook ``dirty_post_fork``, here and not in the worker, as Gunicorn."""
        worker.pid = pid
        self.workers[pid] = worker
        with forked.Guard(self.log):
            self.cfg.dirty_post_fork(self, worker)

    def worker_reaped(self, worker: DirtyWorker) -> None:
        """Its process has ended. Hook ``dirty_worker_exit``."""
        self.workers.pop(worker.pid, None)
        with forked.Guard(self.log):
            self.cfg.dirty_worker_exit(self, worker)

    def serve(self, cfg: Config) -> None:
        """A reload is complete: these settings are the pool's."""
        self.cfg = cfg
        self._announce()

    def set_numbers(self, wanted: int, least: int, most: int | None) -> None:
        """There are to be so many workers, never fewer than ``least``, and ``most`` are of use."""
        self.num_workers, self.least_workers, self.most_workers = wanted, least, most

    def staffed(self, workers: int) -> int:
        """How many of so many workers have an application: the others are not started."""
        return workers if self.most_workers is None else min(workers, self.most_workers)

    def set_state(
        self,
        reload: tuple[int, int | None, int, str],
        resting: int,
        failures: list[tuple[str, str, int, float]],
    ) -> None:
        """What serves, is being loaded and was refused; who rests; what cannot be loaded."""
        self.resting = resting
        self.generation, self.loading, self.reloads_failed, self.refusal = reload
        self.failures = {
            path: Failure(reason, times, again) for path, reason, times, again in failures
        }

    def ended(self) -> None:
        """Everything of the pool has ended."""
        self.alive = False
        for name in (SOCKET_VARIABLE, TIMEOUT_VARIABLE, SERIALIZER_VARIABLE):
            os.environ.pop(name, None)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.tmpdir)
