"""The pool's one process where the applications run as actors of Ray (setting ``dirty_pool``).

It is forked before anything has imported Ray, because Ray cannot be used over a fork, and it alone
imports it: neither the arbiter nor a worker of requests does. A cluster that Ray starts dies with
the thread that made it: here that is the main thread, which lives as long as the process. Ray puts
its own handler in the place of SIGTERM's; the pool's are put back.

To the broker it is a worker with as many lanes as its actors may run calls at once, and a bound
for each application, so queues, timeouts and errors are those of the pool. Values it passes on as
they are on the wire, so nothing is imported or unpickled for them here. An actor that dies is
started again by Ray; what ran there fails, and is not run again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, ClassVar

from oxicorn.dirty import ray_host, ray_settings, ray_values
from oxicorn.dirty.arbiter import environment_of
from oxicorn.dirty.errors import (
    CallCancelled,
    DirtyAppNotFoundError,
    DirtyError,
    DirtyWorkerError,
)
from oxicorn.dirty.worker import DirtyWorker, Streamed
from oxicorn.errors import BootFailed

if TYPE_CHECKING:
    from oxicorn._native import DirtyContext

__all__ = ["RayWorker"]

#: Seconds a cancelled call has to end before its actor is killed; less than the broker waits.
PATIENCE = 1.0
#: Seconds that applications have to close when the process ends.
CLOSE_TIME = 2.0


class _RemoteError(Exception):
    """What an application raised in its actor; ``fields`` is what its caller is told."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields.get("message", ""))
        self.fields = fields


class _Actor:
    """An actor, and how many calls it has."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.pid = 0
        self.calls = 0

    def ask(self, method: str, *arguments: Any) -> Any:
        """Begins a call of a method of ``Host``; its reference."""
        return getattr(self.handle, method).remote(*arguments)

    def tell(self, method: str, *arguments: Any) -> None:
        """The same where nobody waits for an answer; one that is gone need not hear it."""
        with contextlib.suppress(Exception):
            self.ask(method, *arguments)


class _Actors:
    """Those of one application."""

    def __init__(self, actors: list[_Actor]) -> None:
        self.all = actors
        self._lock = threading.Lock()

    def take(self) -> _Actor:
        """The one that has the least to do."""
        with self._lock:
            chosen = min(self.all, key=lambda actor: actor.calls)
            chosen.calls += 1
            return chosen

    def give_back(self, actor: _Actor) -> None:
        with self._lock:
            actor.calls -= 1


class RayWorker(DirtyWorker):
    """See the head of this file."""

    RELAYS: ClassVar[bool] = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: How many actors each application has.
        self.numbers = Counter(self.app_paths)
        self.app_paths = list(self.numbers)
        self._ray: Any = None
        self._waiting: dict[int, tuple[_Actor, Future[Any]]] = {}
        #: That the connection to the cluster was lost, and why; empty: it was not.
        self._lost_text = ""
        #: Calls that nobody waits for any more.
        self._cancelled: set[int] = set()

    # The life of the process.

    def _take_resources(self) -> None:
        """Actors have them, not this process."""

    def _connect(self) -> Any:
        if self._ray is not None:
            return self._ray
        address = ray_settings.address(self.cfg.dirty_pool)
        # A server tells nobody about itself unless its user says so.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        options: dict[str, Any] = {"namespace": "oxicorn", "log_to_driver": True}
        if address is None:
            options |= {"include_dashboard": False, "configure_logging": False}
        self.log.info("Connecting to Ray (%s)", address or "the cluster found, or a new one")
        ray.init(address=address, **options)
        self.init_signals()
        self._ray = ray
        return ray

    def _connect_for(self, paths: list[str]) -> Any:
        """The same for these applications, whose callers are told why it cannot be done."""
        try:
            return self._connect()
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            reason = f"dirty_pool: {self.cfg.dirty_pool}: Ray cannot be reached: {text}"
            context = self._context
            if context is not None:
                for path in paths:
                    context.app_loading(path)
                    context.app_failed(path, reason)
            raise BootFailed(reason) from None

    def _settle_apps(self, context: DirtyContext, paths: list[str]) -> None:
        ray = self._connect_for(paths)
        task = ray.remote(num_cpus=0, max_calls=1)(ray_host.limits_of)
        limits: list[int | None] = []
        for path, answer in zip(paths, ray.get(task.remote(paths, *self._code())), strict=True):
            limits.append(None)
            with self._attempt(context, path):
                limits[-1] = self._loaded(answer)
        chosen = context.report_limits(limits)
        self.numbers = Counter(paths[place] for place in chosen)
        self.app_paths = list(self.numbers)

    def _code(self) -> tuple[list[str], str, bool]:
        """Where modules are, where files are, and whether tracebacks are folded."""
        paths = [path or os.getcwd() for path in sys.path]
        return paths, os.getcwd(), self.cfg.loglevel.lower() != "debug"

    def _loaded(self, answer: tuple[str, Any]) -> Any:
        """What an actor or a task says. BootFailed: it cannot load the application."""
        kind, value = answer
        if kind == "value":
            return value
        details = value.get("details", {})
        self.log.error("%s", details.get("traceback", "").rstrip())
        name = details.get("exception", value.get("error_type", ""))
        raise BootFailed(f"{name}: {value.get('message', '')}")

    def load_apps(self) -> None:
        """Starts all actors together, and waits until they are ready.

        An application that cannot be loaded is left out, as in all workers.
        """
        self._connect_for(self.app_paths)
        started = {
            path: _Actors(self._start(path, number))
            for path, number in self.numbers.items()
            if path not in self.failures
        }
        for path, actors in started.items():
            with self._attempt(self._context, path):
                self._wait_for(path, actors)
                self.apps[path] = actors
                self.log.info("Initialized dirty app: %s (%s actors)", path, len(actors.all))
            if path in self.failures:
                for actor in actors.all:
                    self._ray.kill(actor.handle)

    def _start(self, path: str, number: int) -> list[_Actor]:
        options = {
            "max_restarts": -1,
            # A call is never made twice.
            "max_task_retries": 0,
            "concurrency_groups": {
                ray_host.CALLS: max(1, self.cfg.dirty_threads),
                ray_host.CONTROL: 1,
            },
            **ray_settings.placement(self.cfg.dirty_ray_resources, path),
        }
        unpickles = self.cfg.dirty_serializer == "pickle"
        actors = []
        for place in range(number):
            env = environment_of(self.cfg, place, {path: place})
            own = {"runtime_env": {"env_vars": env}} if env else {}
            kind = self._ray.remote(**options, **own)(ray_host.Host)
            actors.append(_Actor(kind.remote(path, *self._code(), unpickles)))
        return actors

    def _wait_for(self, path: str, actors: _Actors) -> None:
        limit = None
        for actor in actors.all:
            actor.pid, limit = self._loaded(self._ray.get(actor.ask("ready")))
        if self._context is not None:
            self._context.app_limit(path, limit)

    def _close_apps(self) -> None:
        ray = self._ray
        if ray is None or self._lost_text:
            return
        try:
            actors = [actor for of_app in self.apps.values() for actor in of_app.all]
            closing = [actor.ask("close") for actor in actors]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIME)
            ray.shutdown()
        except Exception:
            self.log.exception("Error closing the dirty apps")

    # Calls.

    def relay(
        self, app_path: str, action: str, sealed: ray_values.Sealed, number: int
    ) -> Streamed | ray_values.Sealed:
        """Has a call run by an actor that has time for it; results are sealed, too."""
        actors = self.apps.get(app_path)
        if actors is None:
            raise DirtyAppNotFoundError(app_path)
        actor = actors.take()
        streams = False
        try:
            call = ray_values.packed(sealed)
            kind, value = self._answer(number, actor, "call", number, action, call)
            streams = kind == "stream"
        except CallCancelled:
            # It may have become a stream meanwhile.
            actor.tell("drop", number)
            raise
        finally:
            if not streams:
                self._call_ended(number, actors, actor)
        if streams:
            return Streamed(self._pieces(number, actors, actor, action))
        return ray_values.unpacked(value)

    def _pieces(self, number: int, actors: _Actors, actor: _Actor, action: str) -> Iterator[Any]:
        ended = False
        try:
            while True:
                kind, value = self._answer(number, actor, "piece", number, action)
                if kind == "end":
                    ended = True
                    return
                yield ray_values.unpacked(value)
        finally:
            if not ended:
                actor.tell("drop", number)
            self._call_ended(number, actors, actor)

    def _call_ended(self, number: int, actors: _Actors, actor: _Actor) -> None:
        self._cancelled.discard(number)
        actors.give_back(actor)

    def _answer(self, number: int, actor: _Actor, method: str, *arguments: Any) -> tuple[str, Any]:
        """What the actor answers; _RemoteError, DirtyWorkerError, CallCancelled."""
        future: Future[Any] = Future()
        self._waiting[number] = actor, future
        try:
            if number in self._cancelled:
                raise CallCancelled
            if self._lost_text:
                raise DirtyWorkerError(self._lost_text, worker_id=self.pid)
            actor.ask(method, *arguments).future().add_done_callback(_passing_on(future))
            kind, value = future.result()
        except CallCancelled:
            # Raised in this thread, or by who gave the actor up.
            actor.tell("interrupt", number)
            raise
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise self._lost(actor, error) from None
        except Exception as error:
            # Of Ray's client, which does not connect again; from then on it raises an Exception.
            if isinstance(error, ConnectionError) or not self._ray.is_initialized():
                raise self._cut_off(error) from None
            raise
        finally:
            self._waiting.pop(number, None)
        if kind == "error":
            raise _RemoteError(value)
        if kind == "cancelled":
            raise CallCancelled
        return kind, value

    def _cut_off(self, error: Exception) -> DirtyWorkerError:
        """The cluster is gone: another process will connect to it, or to what takes its place."""
        if not self._lost_text:
            text = " ".join(str(error).split())
            self._lost_text = f"Ray at {self.cfg.dirty_pool} was lost: {text}"
            self.log.error("%s", self._lost_text)
            if self._context is not None:
                self._context.want_replacement("requested")
        return DirtyWorkerError(self._lost_text, worker_id=self.pid)

    def _lost(self, actor: _Actor, error: Exception) -> DirtyWorkerError:
        """Its process ended, or cannot be reached any more."""
        pid = actor.pid
        self._learn_pid(actor)
        reason = " ".join(str(error).split())
        return DirtyWorkerError(f"The actor (pid:{pid}) was lost: {reason}", worker_id=pid)

    def _learn_pid(self, actor: _Actor) -> None:
        """Of the process that Ray starts in the place of one that has ended."""

        def known(found: Future[Any]) -> None:
            if found.exception() is None and found.result()[0] == "value":
                actor.pid = found.result()[1][0]

        with contextlib.suppress(Exception):
            actor.ask("ready").future().add_done_callback(known)

    def _cancel(self, context: DirtyContext, call: int) -> None:
        self._cancelled.add(call)
        found = self._waiting.get(call)
        if found is None:
            if not context.interrupt(call):
                self._cancelled.discard(call)
            return
        actor, future = found
        actor.tell("interrupt", call)
        timer = threading.Timer(PATIENCE, self._give_up, (actor, future))
        timer.daemon = True
        timer.start()

    def _give_up(self, actor: _Actor, future: Future[Any]) -> None:
        """A cancelled call that does not end takes its actor with it, as it would a worker."""
        if future.done():
            return
        self.log.critical("DIRTY WORKER TIMEOUT (actor, pid:%s)", actor.pid)
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle, no_restart=False)
            self._learn_pid(actor)
        _settle(future, CallCancelled())

    def failure(self, error: BaseException, app_path: str, action: str) -> dict[str, Any]:
        """As that of all workers; what happened in an actor is told as it was told here."""
        if isinstance(error, _RemoteError):
            text = error.fields.get("details", {}).get("traceback", "")
            self.log.error("Error executing %s.%s: %s\n%s", app_path, action, error, text)
            return error.fields
        if isinstance(error, DirtyWorkerError):
            self.log.error("Error executing %s.%s: %s", app_path, action, error.message)
            return DirtyError.to_dict(error)
        return super().failure(error, app_path, action)

    def ended(self) -> None:
        """After each call."""
        self.calls += 1


def _passing_on(future: Future[Any]) -> Any:
    def pass_on(source: Future[Any]) -> None:
        error = source.exception()
        if error is not None:
            _settle(future, error)
            return
        try:
            future.set_result(source.result())
        except InvalidStateError:
            pass  # It was given up.

    return pass_on


def _settle(future: Future[Any], error: BaseException) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        pass
