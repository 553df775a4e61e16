"""``worker``: a worker process as hooks see it, and the order in which it comes to life."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from oxicorn import _native, boot, forked, log_files, log_routing, request_ids, util
from oxicorn.http.message import Request
from oxicorn.http.unserved import Waits, environ_of, error_response, note_waits
from oxicorn.workers.finding import Finding, find
from oxicorn.workers.workertmp import WorkerTmp

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from types import FrameType
    from typing import Any, ClassVar

    from oxicorn.app.base import BaseApplication
    from oxicorn.boot import ToldReasons
    from oxicorn.config import Config
    from oxicorn.glogging import Logger
    from oxicorn.reloader import ReloaderBase, SharedFiles

__all__ = ["DIRECT", "Worker"]

#: Methods of Gunicorn's worker classes that are not called here.
HANDLERS = ("accept", "handle")
SERVED = (
    "connections are the gateway's, and requests come through the native module; override "
    "handle_request, or use the hooks pre_request and post_request"
)
#: The kind of a class that has a server of its own (``oxicorn.workers.chosen``).
DIRECT = "direct"
#: How long a worker that was told to quit leaves its application to log (seconds, as Gunicorn).
QUIT_PAUSE = 0.1


class Worker:
    """Base of the worker classes (Gunicorn's ``gunicorn.workers.base.Worker``)."""

    #: Set by the arbiter: why workers could not boot, as far as it was told.
    told: ToldReasons

    #: What kinds of application the class calls.
    SERVES: ClassVar[tuple[Finding, ...]] = (Finding.WSGI,)
    #: Seconds between two calls of a ``notify()`` that a class overrides, where nothing else is
    #: done; 0: ``timeout / 2``, as Gunicorn's sync class.
    NOTIFY_PERIOD: ClassVar[float] = 1.0

    #: Python's threads that serve, beside the main one.
    serving_threads: Sequence[threading.Thread] = ()

    PIPE: ClassVar[list[int]] = []
    SIGNALS: ClassVar[list[int]] = [
        getattr(signal, f"SIG{name}")
        for name in ("ABRT", "HUP", "QUIT", "INT", "TERM", "USR1", "USR2", "WINCH", "CHLD")
    ]

    def __init__(
        self,
        age: int,
        ppid: int,
        sockets: list[Any],
        app: BaseApplication,
        timeout: float,
        cfg: Config,
        log: Logger,
    ) -> None:
        self.age = age
        self.pid: Any = "[booting]"
        self.ppid = ppid
        self.sockets = sockets
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.booted = False
        #: Another class serves the application: a worker of that takes this one's place.
        self.is_misfit = False
        self.aborted = False
        self.wsgi: Callable[..., Any] | None = None
        self.context: _native.WorkerContext | None = None
        self._counted: int | None = None
        self.reloader: ReloaderBase | None = None
        #: Set by the arbiter: for the reloader, and whether workers have served before this one.
        self.files_of_failures: SharedFiles | None = None
        self.has_predecessors = False
        #: Replaced parts of our modules that the arbiter has warned of.
        self.replacements: set[str] = set()
        self.tmp = WorkerTmp(cfg)
        self.max_requests = self._draw_max_requests()
        #: Set by the arbiter: attributes that are not a hook's.
        self.own_names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    def _draw_max_requests(self) -> int:
        if self.cfg.max_requests <= 0:
            return sys.maxsize
        import random  # only this needs it

        return int(self.cfg.max_requests + random.randint(0, self.cfg.max_requests_jitter))

    @property
    def alive(self) -> bool:
        """False once the worker was told to stop.

        It still serves what it was given, and what comes until a successor is ready or the server
        has nothing more for it.
        """
        return self.context is None or self.context.alive()

    @alive.setter
    def alive(self, value: bool) -> None:
        if not value and self.context is not None:
            self.context.retire()

    @property
    def nr(self) -> int:
        """Requests started so far, or what a class with a server of its own has counted."""
        if self._counted is not None:
            return self._counted
        return self.context.requests() if self.context is not None else 0

    @nr.setter
    def nr(self, value: int) -> None:
        self._counted = value

    def notify(self) -> None:
        """A sign of life, for classes with a server of their own; others give it by themselves."""
        self.tmp.notify()

    @classmethod
    def prepare_process(cls) -> None:
        """Called where the application is loaded ahead of workers of this class, before it is."""

    def init_process(self) -> None:
        """Signals, application, hook ``post_worker_init``, then serves until stopped."""
        context = self.context
        assert context is not None
        Request.cfg = self.cfg
        self._change_user()
        context.init(self)
        self.init_signals()
        forked.in_child.append(self.forked)
        context.unblock_signals()
        if self.cfg.reload:
            self._make_reloader()
        self._load()
        self._look_at_application(context)
        self._look_for_replacements()
        if self.reloader is not None:
            self.reloader.start()
        with forked.Guard(self.log):
            self.cfg.post_worker_init(self)
        self.start(context)

    def start(self, context: _native.WorkerContext) -> None:
        """Everything is loaded: requests may come."""
        if self.cfg.chosen.kind == DIRECT:
            self.booted = True
            context.ready_when_serving()
        else:
            self._make_server(context)
            self.booted = True
            context.ready()
        self.run()

    def _make_server(self, context: _native.WorkerContext) -> None:
        """Makes what serves the application; what a class has in the place of our methods is called
        where Gunicorn calls it.
        """
        raise NotImplementedError

    @property
    def has_own_notify(self) -> bool:
        """Whether somebody wants to be called now and then."""
        return type(self).notify is not NOTIFY

    @property
    def notify_period(self) -> float:
        """Seconds between two calls of ``notify()`` while nothing else is done."""
        return self.NOTIFY_PERIOD or self.timeout or 0.5

    @property
    def hands_errors(self) -> bool:
        """Whether a class, or a patch, has a ``handle_error`` of its own."""
        return type(self).handle_error is not HANDLE_ERROR

    def _change_user(self) -> None:
        """Gives up what only the arbiter needs (settings ``user``, ``group``, ``initgroups``)."""
        cfg = self.cfg
        if cfg.uid != os.geteuid():
            self._import_before_it_is_too_late()
        try:
            util.set_owner_process(cfg.uid, cfg.gid, cfg.initgroups)
            log_files.only_look()
        except PermissionError as error:
            raise RuntimeError(
                f"Cannot run as user {cfg.uid} and group {cfg.gid}: {error.strerror}"
            ) from error

    def _import_before_it_is_too_late(self) -> None:
        """What is imported where it is needed: another user may not be allowed to read it."""
        for name in ("array", "base64", "binascii", "datetime", "faulthandler", "http", "random"):
            importlib.import_module(name)
        ours = ["leaving", "replacements", "reloader", "workers.stacks"]
        if "asyncio" in sys.modules:
            ours.append("workers.task_stacks")
        for name in ours:
            importlib.import_module(f"oxicorn.{name}")

    def _make_reloader(self) -> None:
        from oxicorn.reloader import reloader_engines  # only development needs it

        self.log.warning("Reloader is on. Use in development only!")
        engine = reloader_engines[self.cfg.reload_engine]
        self.reloader = engine(
            extra_files=self.cfg.reload_extra_files,
            callback=self.handle_changed_file,
            shared=self.files_of_failures,
        )

    def handle_changed_file(self, filename: str) -> None:
        """The reloader's thread found ``filename`` changed: the arbiter starts a new generation."""
        from oxicorn.reloader import change_number

        self.log.info("Worker reloading: %s modified", filename)
        if self.context is not None:
            self.context.source_changed(change_number(filename))

    def _look_for_replacements(self) -> None:
        """The application may have replaced parts of our modules, as a config file may."""
        from oxicorn import replacements  # it knows the worker classes

        for text in replacements.found_too_late(self.replacements):
            self.log.warning("%s", text)

    def _load(self) -> None:
        try:
            with forked.Guard(self.log):
                self.load_wsgi()
        except BaseException as error:
            if self.reloader is None or self.files_of_failures is None:
                raise
            from oxicorn.reloader import files_of_failure

            self.files_of_failures.replace(files_of_failure(error))
            # Where others serve already, they go on; the first show what is wrong, as Gunicorn.
            if not isinstance(error, SyntaxError) or self.has_predecessors:
                raise
            shown = boot.shown(error, self.cfg)
            self.log.error("%s", error, exc_info=shown)
            import traceback

            text = "".join(traceback.format_exception(shown))
            self.wsgi = self.failed_application(text)

    def _look_at_application(self, context: _native.WorkerContext) -> None:
        """Tells the arbiter of an application that this class, or none, can serve.

        Where nobody has chosen the class, a worker of the right one takes this one's place.
        """
        if self.cfg.chosen.kind == DIRECT:
            return  # What such a class serves is its own affair.
        finding = find(self.wsgi)
        if finding is None or finding in self.SERVES:
            return
        misfit = finding is not Finding.FACTORY and not self.cfg.native.is_set("worker_class")
        context.application_found(finding, misfit)
        if misfit:
            self.is_misfit = True
            sys.exit(0)

    def failed_application(self, text: str) -> Callable[..., Any]:
        """An application that answers every request with 500 and ``text``."""
        return util.make_fail_app(text)

    def load_wsgi(self) -> None:
        """Loads the application into ``self.wsgi``."""
        self.wsgi = self.app.wsgi()

    def run(self) -> None:
        """Serves requests until stopped."""
        raise NotImplementedError

    def init_signals(self) -> None:
        """Gunicorn's handlers; HUP and USR2, meant for the arbiter, are ignored here.

        (Gunicorn restores their default action, so ``pkill -HUP`` kills its workers.)
        """
        for signum in self.SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        for signum in (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(signum, signal.SIG_IGN)
        # System calls of the application are not interrupted by these two.
        signal.siginterrupt(signal.SIGTERM, False)
        signal.siginterrupt(signal.SIGUSR1, False)

    def forked(self) -> None:
        """In a process that the application forked: signals mean there what they mean to a program.

        (With Gunicorn its ``terminate()`` is of no effect: the worker's handlers are inherited.)
        """
        signal.set_wakeup_fd(-1)
        for signum in self.SIGNALS:
            if getattr(signal.getsignal(signum), "__self__", None) is self:
                signal.signal(signum, signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: the end has begun. What the worker has, and is still given, is served."""
        self.alive = False

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT, SIGINT: end now. Hook ``worker_int``."""
        self._take_no_more()
        self.cfg.worker_int(self)
        time.sleep(QUIT_PAUSE)
        sys.exit(0)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """SIGABRT: the arbiter gave up waiting. Hook ``worker_abort``."""
        self._take_no_more()
        self.aborted = True
        self.cfg.worker_abort(self)
        sys.exit(1)

    def _take_no_more(self) -> None:
        """Other workers get what this one has not begun."""
        if self.context is not None:
            self.context.stop()

    def handle_winch(self, sig: int, fname: FrameType | None) -> None:
        """SIGWINCH is the arbiter's; a worker ignores it."""
        self.log.debug("worker: SIGWINCH ignored.")

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: reopen the log files."""
        self.log.reopen_files()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """The application has raised ``exc`` for ``req``: logs it. (The gateway sends the page.)"""
        headers = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in req.headers)
        self.log_failure(f"Error handling request {req.method} {req.uri}", exc, headers)

    def listener_of(self, req: Any) -> Any:
        """The listener at which a request arrived that is handed to ``handle_request``."""
        at = [each for each in self.sockets if _address(each.getsockname()) == req._server]
        return next(iter(at or self.sockets), None)

    def _hand_error(self, req: Any, error: BaseException) -> None:
        try:
            self.handle_error(req, req.unreader.sock, req.peer_addr, error)
        except Exception:
            self.log.exception("Exception in handle_error")

    def log_failure(
        self,
        what: str,
        error: BaseException | None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Logs what ended a request with these headers, with the exception if there is one."""
        ids = request_ids.suffix(self.cfg, headers)
        self.log.error("%s%s", what, ids, exc_info=error)

    def access_logging(self) -> tuple[bool, list[str]]:
        """Who writes the access lines; asked when application and hooks have had their say."""
        return log_routing.access_logging(self.log)

    def log_access(
        self,
        resp: Any,
        req: Any,
        environ: dict[str, Any] | None,
        failed: int | None,
        microseconds: int,
        waits: Waits,
    ) -> None:
        """Has the logger write an access line; what it raises harms no request.

        ``failed`` is the status of the server's own page, if that was sent instead.
        """
        if failed is not None:
            resp = error_response(failed, resp.sent)
        note_waits(resp, waits)
        if environ is None:
            environ = environ_of(req)
        from datetime import timedelta  # most workers write no lines themselves

        try:
            self.log.access(resp, req, environ, timedelta(microseconds=microseconds))
        except Exception:
            self.log.exception("Exception in the access log")

    def parent_changed(self) -> None:
        """The arbiter is gone; called on a native thread."""
        self.log.info("Parent changed, shutting down: %s", self)

    def autorestart(self) -> None:
        """``max_requests`` is reached: a successor is on its way."""
        self.log.info("Autorestarting worker after current request.")

    def stacks(self) -> bytes:
        """What each call in hand is doing, as JSON; called on a native thread."""
        from oxicorn.workers import stacks  # only who is asked needs it

        assert self.context is not None
        return stacks.of_threads(self.context.calls())

    def set_log_level(self, level: int) -> None:
        """What is worth a line in the error log from now on; called on a native thread."""
        self.log.loglevel = level
        self.log.error_log.setLevel(level)

    def stack_dump_signal(self, fd: int) -> int:
        """Prepares the dump of all Python stacks into ``fd``; the signal that makes it.

        ``faulthandler`` writes it from the signal handler itself, so it also works while C code
        holds the interpreter.
        """
        import faulthandler

        # A template has registered it already. Ours is called behind its: the dump is whole.
        faulthandler.unregister(STACK_DUMP_SIGNAL)
        _native.mark_end_of_dumps(STACK_DUMP_SIGNAL, fd)
        faulthandler.register(STACK_DUMP_SIGNAL, file=fd, all_threads=True, chain=True)
        return STACK_DUMP_SIGNAL


def _address(name: Any) -> Any:
    """What ``getsockname()`` gives, as requests have it: host and port, or a path."""
    return name[:2] if isinstance(name, tuple) else os.fsencode(name)


#: As they were made, by which it is noticed that somebody has others.
NOTIFY = Worker.notify
HANDLE_ERROR = Worker.handle_error

#: A real-time signal that nobody else uses; the arbiter sends it before it aborts a worker.
STACK_DUMP_SIGNAL = signal.SIGRTMAX - 3

__all__ += ["STACK_DUMP_SIGNAL"]
