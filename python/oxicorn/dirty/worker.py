"""A worker of the pool: loads its applications and runs what callers ask of them.

The main thread waits for signals and for what the broker says; each lane (setting
``dirty_threads``) has a thread of its own, in which the native side reads a call, has it run here
and writes the answer. Coroutines and asynchronous generators run on one event loop, on a thread of
its own, so that what an application makes there can be used in all its calls.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar

from oxicorn import boot, forked, leaving, log_files, util
from oxicorn.dirty.app import load_dirty_app, workers_attribute
from oxicorn.dirty.arbiter import affinity_of, environment_of, use_stash
from oxicorn.dirty.errors import (
    CallCancelled,
    DirtyAppError,
    DirtyAppNotFoundError,
    DirtyError,
)
from oxicorn.errors import BootFailed
from oxicorn.workers.base import STACK_DUMP_SIGNAL
from oxicorn.workers.workertmp import WorkerTmp

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future
    from types import FrameType

    from oxicorn._native import DirtyContext
    from oxicorn.config import Config

__all__ = ["DirtyWorker", "Streamed"]


class Streamed:
    """A result that is sent piece by piece."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator


class DirtyWorker:
    """What hooks get (Gunicorn's ``gunicorn.dirty.worker.DirtyWorker``)."""

    SIGNALS: ClassVar[list[int]] = [
        getattr(signal, f"SIG{name}") for name in ("ABRT", "HUP", "QUIT", "INT", "TERM", "USR1")
    ]
    #: Whether it passes calls on, by ``relay``, instead of running them.
    RELAYS: ClassVar[bool] = False

    def __init__(
        self,
        age: int,
        ppid: int,
        app_paths: list[str],
        cfg: Config,
        log: Any,
        socket_path: str,
    ) -> None:
        self.age = age
        self.pid: Any = "[booting]"
        self.ppid = ppid
        self.app_paths = app_paths
        self.cfg = cfg
        self.log = log
        self.socket_path = socket_path
        self.booted = False
        self.aborted = False
        self.alive = True
        self.tmp = WorkerTmp(cfg)
        #: The applications, by their paths.
        self.apps: dict[str, Any] = {}
        #: All there are, where this worker is to find out how many workers each wants.
        self.undecided: list[str] | None = None
        #: Those that cannot be loaded, and why.
        self.failures: dict[str, str] = {}
        #: Which of the pool's places it has, from 0 on.
        self.place = 0
        #: Which of each application's workers it is, from 0 on.
        self.indexes: dict[str, int] = {}
        #: What was before the settings gave it something else.
        self._environment_before: dict[str, str | None] = {}
        self._processors: set[int] | None = None
        #: Calls that have ended.
        self.calls = 0
        self._statm: int | None = None
        self._context: DirtyContext | None = None
        self._runner = Runner()
        self._lanes: list[threading.Thread] = []
        self._replaced = False

    def __str__(self) -> str:
        return f"<DirtyWorker {self.pid}>"

    def notify(self) -> None:
        """A sign of life; what runs too long is found by its call."""
        self.tmp.notify()

    # The life of the process.

    def run(self, context: DirtyContext) -> int:
        """From the fork to the end; the exit code."""
        self.pid = os.getpid()
        code = 0
        try:
            with forked.Guard(self.log):
                self.log.info("Booting dirty worker with pid: %s", self.pid)
                self.init_process(context)
        except BaseException as error:
            code = self._exit_code(error)
        finally:
            self._close_apps()
            self.log.info("Dirty worker %s exiting", self.pid)
        leaving.leave_if_any_works(self._lanes, code)
        return code

    def init_process(self, context: DirtyContext) -> None:
        """User, signals, applications, hook ``dirty_worker_init``; then serves until released."""
        import faulthandler

        self._context = context
        os.environ.update(self.cfg.env)
        use_stash(self.cfg)
        self._take_resources()
        self._change_user()
        faulthandler.register(STACK_DUMP_SIGNAL, file=context.stack_dump_fileno(), all_threads=True)
        self.init_signals()
        signal.set_wakeup_fd(context.wakeup_fileno(), warn_on_full_buffer=False)
        forked.in_child.append(self._forked)
        context.unblock_signals()
        if self.undecided is not None:
            self._settle_apps(context, self.undecided)
        self.load_apps()
        if self.failures and not self.apps:
            raise BootFailed("None of its applications can be loaded")
        with forked.Guard(self.log):
            self.cfg.dirty_worker_init(self)
        self.booted = True
        context.ready()
        self._serve(context)

    def _take_resources(self) -> None:
        """What the settings give to this place of the pool, and to its applications.

        Called again where the applications have become known: what was others' is taken back.
        """
        for name, before in self._environment_before.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        given = environment_of(self.cfg, self.place, self.indexes)
        self._environment_before = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        processors = affinity_of(self.cfg, self.place, self.indexes)
        if processors is None:
            processors = self._processors
        if self._processors is None:
            self._processors = os.sched_getaffinity(0)
        if processors is not None:
            os.sched_setaffinity(0, processors)

    def _change_user(self) -> None:
        cfg = self.cfg
        try:
            util.set_owner_process(cfg.uid, cfg.gid, cfg.initgroups)
            log_files.only_look()
        except PermissionError as error:
            raise RuntimeError(
                f"Cannot run as user {cfg.uid} and group {cfg.gid}: {error.strerror}"
            ) from error

    def _settle_apps(self, context: DirtyContext, paths: list[str]) -> None:
        limits: list[int | None] = []
        for path in paths:
            limits.append(None)
            with self._attempt(context, path):
                limits[-1] = workers_attribute(path)
        chosen = context.report_limits(limits)
        self.app_paths = [paths[place] for place in chosen]
        self.indexes = {path: self.indexes[path] for path in self.app_paths}
        self._take_resources()

    def load_apps(self) -> None:
        """Makes the applications and has them initialize themselves.

        One that cannot be loaded is left out; the arbiter hears of it and has it tried again.
        """
        context = self._context
        for path in self.app_paths:
            if path in self.failures:
                continue
            with self._attempt(context, path):
                app = load_dirty_app(path)
                self.log.debug("Loaded dirty app: %s", path)
                if context is not None:
                    context.app_limit(path, workers_attribute(path))
                app.init()
                self.apps[path] = app
                self.log.info("Initialized dirty app: %s", path)

    @contextlib.contextmanager
    def _attempt(self, context: DirtyContext | None, path: str) -> Iterator[None]:
        """What an application raises meanwhile is its own failure, not the worker's."""
        if context is not None:
            context.app_loading(path)
        try:
            yield
        except BaseException as error:
            if not self.alive or context is None or isinstance(error, KeyboardInterrupt):
                raise
            self.failures[path] = reason = boot.reason(error)
            exc_info = boot.shown(error, self.cfg)
            self.log.error("Dirty app %s cannot be loaded", path, exc_info=exc_info)
            context.app_failed(path, reason)

    def _exit_code(self, error: BaseException) -> int:
        if isinstance(error, SystemExit):
            if isinstance(error.code, (int, type(None))):
                return error.code or 0
            self.log.error("%s", error.code)
            return 1
        if isinstance(error, BootFailed):
            self.log.error("%s", error)
            return boot.WORKER_BOOT_ERROR
        self.log.error("Exception in dirty worker process", exc_info=boot.shown(error, self.cfg))
        return 255 if self.booted else boot.WORKER_BOOT_ERROR

    def _close_apps(self) -> None:
        for path, app in self.apps.items():
            try:
                app.close()
            except Exception:
                self.log.exception("Error closing dirty app %s", path)
        self._runner.stop()

    # Signals.

    def init_signals(self) -> None:
        """Gunicorn's handlers; HUP, which is the arbiter's, has no effect."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(number, signal.SIG_IGN)

    def _forked(self) -> None:
        """In a process that an application forked: signals mean what they mean to a program."""
        signal.set_wakeup_fd(-1)
        for number in self.SIGNALS:
            if getattr(signal.getsignal(number), "__self__", None) is self:
                signal.signal(number, signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: a successor is asked for; until it is there this worker serves."""
        if self._context is not None and self.booted:
            self.alive = False
            self._context.want_replacement("requested")
        elif not self.booted:
            self.alive = False
            sys.exit(0)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT, SIGINT: end now."""
        self.alive = False
        sys.exit(0)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """SIGABRT: the arbiter gave up waiting for a call."""
        self.aborted = True
        self.alive = False
        sys.exit(1)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: the log files are opened anew."""
        self.log.reopen_files()

    # Serving.

    def _serve(self, context: DirtyContext) -> None:
        self._lanes = [
            threading.Thread(
                target=self._serve_lane,
                args=(context, lane),
                name=f"dirty-worker-{self.pid}-{lane}",
                daemon=True,
            )
            for lane in range(context.lanes())
        ]
        for thread in self._lanes:
            thread.start()
        while True:
            call = context.wait()
            if call == 0:
                break
            if call is not None:
                self._cancel(context, call)
        context.stop()
        for thread in self._lanes:
            thread.join()

    def _serve_lane(self, context: DirtyContext, lane: int) -> None:
        try:
            context.serve_lane(lane, self, self.RELAYS)
        except BaseException:
            if self.alive:
                self.log.exception("Exception in a thread of dirty worker %s", self.pid)
                os.kill(os.getpid(), signal.SIGTERM)

    def _cancel(self, context: DirtyContext, call: int) -> None:
        """Nobody waits for ``call`` any more."""
        if not self._runner.cancel(call):
            context.interrupt(call)

    # Called by the native side, on a lane's thread.

    def call(
        self, app_path: str, action: str, args: tuple[Any, ...], kwargs: dict[str, Any], number: int
    ) -> Any:
        """Runs a call; what is to be streamed is wrapped in ``Streamed``."""
        app = self.apps.get(app_path)
        if app is None:
            raise DirtyAppNotFoundError(app_path)
        return self._runner.run(app, action, args, kwargs, number)

    def failure(self, error: BaseException, app_path: str, action: str) -> dict[str, Any]:
        """What the caller is told of an exception; it is in the log, too, with its traceback."""
        if isinstance(error, CallCancelled):
            self.log.warning("%s.%s was cancelled", app_path, action)
            return DirtyAppError("The call was cancelled", app_path, action).to_dict()
        text, fields = described(error, app_path, action, self.cfg.loglevel.lower() != "debug")
        self.log.error("Error executing %s.%s: %s\n%s", app_path, action, error, text)
        return fields

    def ended(self) -> None:
        """After each call."""
        self.calls += 1
        if self._replaced or self._context is None:
            return
        reason, why = self._reason_to_leave()
        if reason:
            self._replaced = True
            self.log.info("Dirty worker %s is to be replaced: %s", self.pid, why)
            self._context.want_replacement(reason)

    def _reason_to_leave(self) -> tuple[str, str]:
        """Why another worker is to take this one's place, in short and in words, if it is."""
        cfg = self.cfg
        if 0 < cfg.dirty_max_calls <= self.calls:
            return "max_calls", f"it has run {self.calls} calls"
        if cfg.dirty_memory_limit > 0:
            held = self._resident_bytes()
            if held > cfg.dirty_memory_limit:
                return "memory", f"it holds {held} bytes"
        return "", ""

    def _resident_bytes(self) -> int:
        """Read through a file that stays open: after each call, so it must cost little."""
        if self._statm is None:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE


def described(
    error: BaseException, app_path: str, action: str, folds: bool
) -> tuple[str, dict[str, Any]]:
    """The traceback of what an application raised, and what its caller is told of it.

    ``folds``: without the server's own frames.
    """
    shown = boot.folded(error) if folds else error
    text = "".join(traceback.format_exception(shown))
    if isinstance(error, DirtyAppNotFoundError):
        return text, error.to_dict()
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", None):
        name = f"{kind.__module__}.{name}"
    message = error.message if isinstance(error, DirtyError) else _text_of(error)
    return text, DirtyAppError(message, app_path, action, text, name).to_dict()


_PAGE = os.sysconf("SC_PAGE_SIZE")


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"


_END = object()


class Runner:
    """Runs actions of applications, whatever kind of function they are."""

    def __init__(self) -> None:
        self._loop: _Loop | None = None
        self._lock = threading.Lock()

    def run(
        self, app: Any, action: str, args: tuple[Any, ...], kwargs: dict[str, Any], number: int
    ) -> Any:
        """The result of a call; what is to be streamed is wrapped in ``Streamed``."""
        result = app(action, *args, **kwargs)
        if isinstance(result, GeneratorType):
            return Streamed(result)
        if isinstance(result, CoroutineType):
            return self._running_loop().run(result, number)
        if isinstance(result, AsyncGenerator):
            return Streamed(self._running_loop().iterate(result, number))
        return result

    def _running_loop(self) -> _Loop:
        with self._lock:
            if self._loop is None:
                self._loop = _Loop(f"dirty-worker-{os.getpid()}-loop")
            return self._loop

    def cancel(self, number: int) -> bool:
        """Cancels the call of this number; False: it does not run on the event loop."""
        return self._loop is not None and self._loop.cancel(number)

    def stop(self) -> None:
        """Stops the event loop, if there is one."""
        if self._loop is not None:
            self._loop.stop()


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self, name: str) -> None:
        import asyncio

        self._asyncio = asyncio
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._running: dict[int, Future[Any]] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)

    def run(self, work: Coroutine[Any, Any, Any], number: int) -> Any:
        """Runs ``work`` for the call of this number and waits for its result."""
        future = self._asyncio.run_coroutine_threadsafe(work, self.loop)
        self._running[number] = future
        try:
            return future.result()
        except self._asyncio.CancelledError:
            raise CallCancelled from None
        except BaseException:
            # Also where this thread was interrupted while it waited.
            future.cancel()
            raise
        finally:
            self._running.pop(number, None)

    def iterate(self, pieces: AsyncGenerator[Any, None], number: int) -> Iterator[Any]:
        """What an asynchronous generator gives, piece by piece."""
        try:
            while True:
                piece = self.run(_next_of(pieces), number)
                if piece is _END:
                    return
                yield piece
        finally:
            self._asyncio.run_coroutine_threadsafe(_closed(pieces), self.loop).result()

    def cancel(self, number: int) -> bool:
        """Cancels the call of this number; False: it does not run here."""
        future = self._running.get(number)
        if future is None:
            return False
        future.cancel()
        return True


async def _next_of(pieces: AsyncGenerator[Any, None]) -> Any:
    return await anext(pieces, _END)


async def _closed(pieces: AsyncGenerator[Any, None]) -> None:
    await pieces.aclose()
