"""``server``: the arbiter as hooks see it.

Which process runs when is decided and done by the native module; this class holds what must be
Python (hooks, logger, settings) and is called by it. Everything here runs in the arbiter process,
except ``run_worker``, which is the first thing a new worker process does, and what is said to run
in a template (setting ``preload_app``).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import oxicorn
from oxicorn import (
    _native,
    boot,
    compat,
    forked,
    glogging,
    log_files,
    log_routing,
    replacements,
    sock,
    terminal,
    upgrade,
    util,
)
from oxicorn.commands import Commands
from oxicorn.errors import ConfigError, HaltServer, HookFailed
from oxicorn.generation import Generation
from oxicorn.http.unserved import record_of
from oxicorn.pidfile import Pidfile
from oxicorn.service_manager import ServiceManager
from oxicorn.workers.base import STACK_DUMP_SIGNAL
from oxicorn.workers.finding import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from oxicorn.app.base import BaseApplication
    from oxicorn.config import Config
    from oxicorn.control.desk import ControlDesk
    from oxicorn.dirty.arbiter import DirtyArbiter
    from oxicorn.dirty.worker import DirtyWorker
    from oxicorn.log_routing import GatewayLogging
    from oxicorn.reloader import SharedFiles
    from oxicorn.sock import BaseSocket
    from oxicorn.workers.base import Worker

__all__ = ["Arbiter"]


class Arbiter(Commands):
    """The supervising process (Gunicorn's ``gunicorn.arbiter.Arbiter``)."""

    #: Exit code of a worker that could not boot, and of the server then.
    WORKER_BOOT_ERROR = boot.WORKER_BOOT_ERROR
    #: Exit code of a worker whose application could not be loaded, and of the server then.
    APP_LOAD_ERROR = boot.APP_LOAD_ERROR
    #: Each object has its own; here for code that looks at the class.
    LISTENERS: list[BaseSocket] = []  # noqa: RUF012 - Gunicorn's attributes
    WORKERS: dict[int, Worker] = {}  # noqa: RUF012
    START_CTX: dict[Any, Any] = {}  # noqa: RUF012

    def __init__(self, app: BaseApplication) -> None:
        super().__init__()
        compat.adopt_server_names()
        os.environ["SERVER_SOFTWARE"] = oxicorn.SERVER_SOFTWARE
        self.log: Any = None
        self.pid = os.getpid()
        self.master_pid = self.pid
        #: The arbiter that this one takes over from (SIGUSR2), and the one that takes over from it.
        self.predecessor = upgrade.predecessor()
        self.reexec_pid = 0
        self.master_name = "Master.2" if self.predecessor else "Master"
        #: Whether the listeners are systemd's.
        self.systemd = False
        self._service_manager = ServiceManager()
        #: Taken out of rotation over the control socket.
        self.out_of_rotation = False
        #: What is logged, where the control socket has changed it.
        self.changed_log_level: int | None = None
        #: How this server was started; a successor is started the same way.
        self.START_CTX = {
            "args": [sys.executable, *sys.orig_argv[1:]],
            "cwd": app.start_directory,
            0: sys.executable,
        }
        self.pidfile: Pidfile | None = None
        #: pid -> worker, for every living worker.
        self.WORKERS = {}
        #: The listeners; as text they are what Gunicorn prints.
        self.LISTENERS = []
        forked.in_child.append(self._let_go_of_listeners)
        self.worker_age = 0
        #: Process of the pool for heavy applications: its broker.
        self.dirty_arbiter_pid = 0
        #: The pool as its hooks see it, if there is one.
        self.dirty_arbiter: DirtyArbiter | None = None
        #: Counters as Gunicorn keeps them.
        self._stats: dict[str, Any] = dict.fromkeys(
            ("workers_spawned", "workers_killed", "reloads"), 0
        )
        self._stats["start_time"] = time.time()
        self._num_workers: int | None = None
        self._raw_env: dict[str, str | None] = {}
        #: With ``reload``: what workers that cannot load the application leave for the others.
        self._files_of_failures: SharedFiles | None = None
        #: Why workers could not boot, as far as it was told.
        self._told = boot.ToldReasons()
        #: Whether workers of an earlier generation serve, or did.
        self.has_reloaded = False
        #: The worker class the application has decided, where nobody else has.
        self._settled: str | None = None
        #: What was replaced in our modules and has no effect, as it was told.
        self.replacements: set[str] = set()
        self.setup(app)
        #: Attributes that are not a hook's.
        self.own_names = frozenset((*vars(self), "own_names"))
        self.set_num_workers(self.cfg.workers, None)

    # What settings mean for this process.

    def setup(self, app: BaseApplication) -> None:
        """Takes over the settings of ``app``: at start and with each reload."""
        self.app = app
        if self.log is None:
            self.log = _make_logger(app.cfg)
        self.apply_settings()
        check = getattr(self.worker_class, "check_config", None)
        if check is not None:
            check(self.cfg, self.log)

    def apply_settings(self) -> None:
        """Takes over ``self.app.cfg``, in this process."""
        self.cfg = self.app.cfg
        self.timeout = self.cfg.timeout
        self.address = self.cfg.address
        self.proc_name = self.cfg.proc_name + (upgrade.SUCCESSOR_SUFFIX if self.predecessor else "")
        self.worker_class = self.cfg.worker_class
        self._apply_raw_env()
        if self.cfg.dirty_stash or "oxicorn.dirty.stash" in sys.modules:
            from oxicorn.dirty.arbiter import use_stash  # only who has one elsewhere needs it

            use_stash(self.cfg)
        self._hand_over_logs()
        if self.cfg.dashboard:
            import logging

            from oxicorn import log_tail  # only this setting needs it

            log_tail.attach(logging.getLogger("gunicorn.error"))
        if self.cfg.reload and self._files_of_failures is None:
            from oxicorn.reloader import SharedFiles  # only development needs it

            self._files_of_failures = SharedFiles()

    def _look_for_replacements(self) -> None:
        """Whoever replaces parts of our modules has their way, or is told once that it is none."""
        for text in replacements.found(self.cfg, self.replacements):
            self.log.warning("%s", text)

    def _apply_raw_env(self) -> None:
        for name, value in self._raw_env.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._raw_env = {name: os.environ.get(name) for name in self.cfg.env}
        os.environ.update(self.cfg.env)

    def _hand_over_logs(self, *, only: bool = False) -> None:
        """Log files are those of the user that gateway and workers run as: they open them again.

        Where that user may not, they take what is offered here; ``only``: no logs of other settings
        any more. Other processes than the arbiter have nothing to offer.
        """
        if self.identity() is None or os.getpid() != self.master_pid:
            return
        cfg = self.cfg
        given = {cfg.errorlog, cfg.accesslog, cfg.json_accesslog} - {None, "-"}
        owners = dict.fromkeys(glogging.files_in_use(), None)
        owners |= {os.path.abspath(path): (cfg.uid, cfg.gid) for path in given}
        names = {os.path.abspath(path): path for path in given}
        opened = (
            (names.get(path, path), log_files.open_for(path, owner))
            for path, owner in owners.items()
        )
        files = [(name, number) for name, number in opened if number is not None]
        log_files.offer().update(files, only=only)

    def offered_logs(self) -> int | None:
        """The descriptor at which the gateway finds log files it may not open."""
        return None if self.identity() is None else log_files.offer().fileno()

    def certificate_files(self, cfg: Config) -> list[str]:
        """The files of certificates and keys that ``cfg`` names."""
        from oxicorn import tls  # Only where it is spoken.

        return tls.files(cfg)

    def read_certificates(self, cfg: Config) -> tuple[bytes, list[str], list[str]]:
        """What :func:`oxicorn.tls.read` says; called in a child of this process, which ends."""
        from oxicorn import tls

        with forked.Guard(self.log):
            return tls.read(cfg)

    def identity(self) -> tuple[int, int, list[int] | None] | None:
        """Whom gateway and workers become: user, group, other groups; None: who we are."""
        cfg = self.cfg
        groups = util.other_groups(cfg.uid, cfg.gid) if cfg.initgroups else None
        if groups is None and (cfg.uid, cfg.gid) == (os.geteuid(), os.getegid()):
            return None
        return cfg.uid, cfg.gid, groups

    @property
    def num_workers(self) -> int:
        """How many workers there should be."""
        return self._num_workers or 0

    @num_workers.setter
    def num_workers(self, value: int) -> None:
        """Asks for more or fewer workers, as TTIN and TTOU do; the hook runs when it is done."""
        more = value > self.num_workers
        order = ("ttin", signal.SIGTTIN) if more else ("ttou", signal.SIGTTOU)
        for _ in range(abs(value - self.num_workers)):
            self._order(*order)

    def set_num_workers(self, value: int, old: int | None) -> None:
        """Called with every change of the number; runs the hook ``nworkers_changed``."""
        self._num_workers = value
        with forked.Guard(self.log):
            self.cfg.nworkers_changed(self, value, old)

    # The life of the server, called by the native loop.

    def run(self) -> NoReturn:
        """Serves until told to stop, then raises SystemExit with the exit code; so do workers."""
        self.refuse_uncalled()
        forked.own_process()
        _let_setproctitle_look()
        sys.exit(self._serve())

    def _serve(self) -> int:
        try:
            with forked.Guard(self.log):
                self.start()
            with forked.Guard(self.log):
                return _native.serve(self)
        except HaltServer as halt:
            self.log.error("%s", halt.reason)
            return halt.exit_status
        except SystemExit as stop:
            self._log_exit_of_a_hook(stop)
            raise
        except BaseException as error:
            self._log_end_by(error)
            raise
        finally:
            # A worker process leaves through here as well; the file is not its own.
            if os.getpid() == self.master_pid:
                self._remove_pidfile()

    def _log_exit_of_a_hook(self, stop: SystemExit) -> None:
        """``sys.exit(TEXT)`` of a hook: Python says it on standard error; the log may be a file."""
        if stop.code is not None and not isinstance(stop.code, int):
            self.log.error("%s", stop.code)
            if self.cfg.errorlog == "-":
                stop.code = 1

    def _log_end_by(self, error: BaseException) -> None:
        """A hook's exception ends the server: it is on standard error, the log may be a file.

        What the server refuses by itself is logged where it is refused, or said at the start.
        """
        if self.cfg.errorlog == "-" or isinstance(error, KeyboardInterrupt):
            return
        if boot.comes_from_the_user(error):
            exc_info = boot.shown(error, self.cfg)
            self.log.error("Exception in the arbiter process", exc_info=exc_info)

    def start(self) -> None:
        """First words, pid file, hook ``on_starting``."""
        _flush_streams()  # What the config file has printed.
        self.log.info("Starting oxicorn %s", oxicorn.__version__)
        _refuse_missing_directory(self.cfg)
        if self.cfg.prometheus_client and sys.modules.get("prometheus_client"):
            from oxicorn import prometheus  # the config file uses it, perhaps in hooks

            prometheus.install()
        self._write_pidfile()
        if self.cfg.preload_app and self.cfg.preload_in_arbiter:
            self._preload()
        self.cfg.on_starting(self)
        self._look_for_replacements()

    def _preload(self) -> None:
        """Loads the application here (setting ``preload_in_arbiter``)."""
        try:
            with forked.Guard(self.log):
                self.app.wsgi()
        except Exception as error:
            boot.tell_preload(self, error)
            raise HaltServer("App failed to load.", 1) from error

    def inherited_listeners(self) -> tuple[list[int], bool]:
        """Listening sockets this process was started with, and whether they are systemd's."""
        listeners, self.systemd = upgrade.inherited_listeners()
        return listeners, self.systemd

    def inherited_metrics_listener(self) -> int | None:
        """The listener for metrics and probes this process was started with, if any."""
        return upgrade.inherited_metrics_listener()

    def listening(self, found: list[tuple[str, int, Any]]) -> None:
        """The listeners are these now: text, descriptor, address in the settings.

        Those of before are let go of: their descriptors are about to be closed.
        """
        before = {str(listener): listener for listener in self.LISTENERS}
        self.LISTENERS = []
        for text, descriptor, address in found:
            listener = before.pop(text, None)
            if listener is None:
                listener = sock.listener_of(text, descriptor, address, self.cfg, self.log)
            else:
                listener.renew(descriptor)
            self.LISTENERS.append(listener)
        for listener in before.values():
            listener.close()

    def _let_go_of_listeners(self) -> None:
        """In other processes than the arbiter: they have none of the descriptors."""
        for listener in self.LISTENERS:
            listener.close()

    def bound(self) -> None:
        """The listeners are bound, nothing has been forked yet."""
        self.announce_worker_class()
        self.app.launched()
        if self.cfg.workers > 1 and not self.cfg.preload_app:
            self._import_for_workers()

    # What the service manager is told.

    def booted(self) -> None:
        """The first workers are ready: whoever waits for the service may go on."""
        self._service_manager.serving(self.log)
        if self.LISTENERS and terminal.is_watched(self.cfg):
            self.log.info("%s", terminal.where_to_look([str(one) for one in self.LISTENERS]))

    def reloading(self) -> None:
        """A reload begins."""
        self._service_manager.reloading(self.log)

    def settled(self) -> None:
        """It is over: the new generation serves, or the old one goes on."""
        self._hand_over_logs(only=True)
        self._service_manager.settled(self.log)

    def stopping(self) -> None:
        """The end has begun, of the service, or only of this server where another takes over."""
        self.end_begins()
        if self.reexec_pid:
            self._service_manager.taken_over(self.reexec_pid, self.log)
        else:
            self._service_manager.stopping(self.log)

    def announce_worker_class(self) -> None:
        """Says which worker class serves, and what is probably not meant."""
        self.log.info("Using worker: %s", self.cfg.worker_class_str)
        for text in (*self.cfg.native.replacements(), *self.cfg.chosen.notes):
            self.log.info("%s", text)
        for text in self.cfg.native.warnings():
            self.log.warning("%s", text)

    def reopen_logs(self) -> None:
        """SIGUSR1. First here, where there is the right to make files in root's directories."""
        self.log.reopen_files()
        self._hand_over_logs(only=True)
        self._told.forget()

    def ready(self) -> None:
        """The listeners are bound; no worker has been started yet. Hook ``when_ready``."""
        with forked.Guard(self.log):
            self.cfg.when_ready(self)
        self._look_for_replacements()

    def reload_settings(self) -> None:
        """Reads the settings again; raises, with everything as it was, if they are not usable."""
        with forked.Guard(self.log):
            cfg = self.app.reload_config()
        try:
            _refuse_missing_directory(cfg)
            self._use_settled(cfg)
            assert cfg.chosen is not None  # The class of the workers is loaded.
        except (ConfigError, RuntimeError):
            self.app.cfg = self.cfg
            raise
        if cfg.preload_app and cfg.preload_in_arbiter:
            self._load_in_arbiter()
        self._reload_logs(cfg)
        self.setup(self.app)
        self._look_for_replacements()
        self._told.forget()
        self.has_reloaded = True

    def _load_in_arbiter(self) -> None:
        try:
            with forked.Guard(self.log):
                self.app.wsgi()  # Loaded once: a reload keeps it.
        except BaseException:
            self.app.cfg = self.cfg
            raise

    def reload_refused(self, error: BaseException) -> bool:
        """What ``reload_settings``, the new listeners or ``reloaded`` raised: it is no crash.

        Whether it was the hook, not the settings.
        """
        what = "Reload refused, the old settings stay"
        if isinstance(error, HookFailed):
            self.log.error("Exception in hook %s", error, exc_info=error.__cause__)
            return True
        if isinstance(error, (ConfigError, RuntimeError)):
            self.log.error("%s: %s", what, error)
        else:
            self.log.error("%s", what, exc_info=error)
        return False

    def _reload_logs(self, cfg: Config) -> None:
        """Logs as ``cfg`` wants them, or as before where that cannot be: the rest is reloaded."""
        self.changed_log_level = None
        before = getattr(self.log, "cfg", self.cfg)
        try:
            self.log.setup(cfg)
        except Exception as error:
            # A logger class of one's own may only have setup().
            restore = getattr(self.log, "restore", self.log.setup)
            restore(before)
            self.log.error("Logging configuration refused, the old one stays: %s", error)

    def generation(self) -> Generation:
        """What is in force, for the processes that are to be of it."""
        return Generation(self.cfg, self.app.callable)

    def enter_generation(self, generation: Generation) -> None:
        """Puts a generation in force: in a new process of it, or again where a reload failed."""
        if generation.cfg is not self.cfg:
            self.app.cfg = generation.cfg
            self.app.callable = generation.application
            self._reload_logs(generation.cfg)
            self.apply_settings()

    def reloaded(self) -> None:
        """The new settings are in force. Hook ``on_reload``; the pid file may have moved."""
        self._stats["reloads"] += 1
        with forked.Guard(self.log):
            try:
                self.cfg.on_reload(self)
            except Exception as error:
                raise HookFailed("on_reload") from error
        old = self.pidfile
        # First the new one: where it cannot be written the reload is refused and the old one stays.
        self._write_pidfile()
        if old is not None and (self.pidfile is None or self.pidfile.fname != old.fname):
            old.unlink()

    def ended(self) -> None:
        """Everything else has ended. Hook ``on_exit``."""
        self._remove_pidfile()
        self.listening([])
        with forked.Guard(self.log):
            self.cfg.on_exit(self)

    def _write_pidfile(self) -> None:
        if self.cfg.pidfile is None:
            self.pidfile = None
            return
        pidfile = Pidfile(self.cfg.pidfile + (upgrade.SUCCESSOR_SUFFIX if self.predecessor else ""))
        pidfile.create(self.pid)
        self.pidfile = pidfile

    def _remove_pidfile(self) -> None:
        if self.pidfile is not None:
            self.pidfile.unlink()
            self.pidfile = None

    # The next arbiter, and the one before.

    def has_predecessor(self) -> bool:
        """Whether another arbiter started this one to be followed by it (SIGUSR2)."""
        return self.predecessor != 0

    def is_abandoned(self) -> bool:
        """Whether that one has ended."""
        return self.predecessor != 0 and os.getppid() != self.predecessor

    def promote(self) -> None:
        """The predecessor is gone: its name and its pid file are ours now."""
        self.predecessor = 0
        self.master_name = "Master"
        self.proc_name = self.cfg.proc_name
        upgrade.forget_predecessor()
        old = self.pidfile
        try:
            self._write_pidfile()
        except RuntimeError as error:
            self.log.error("%s", error)
        else:
            if old is not None:
                old.unlink()

    def control_desk(self) -> ControlDesk:
        """Who answers on the control socket."""
        from oxicorn.control.desk import ControlDesk

        return ControlDesk(self)

    def change_log_level(self, level: int) -> None:
        """What is worth a line in the error log, of all processes, until the next reload."""
        self.changed_log_level = level
        self.log.loglevel = level
        self.log.error_log.setLevel(level)
        self.ask_for("settings")
        self.ask_for("log_level")

    def log_slow_request(self, fact: dict[str, Any]) -> None:
        """Setting ``slow_request_time``: what a request is doing, and where its time went."""
        from oxicorn.control import slow

        self.log.warning("%s", slow.text(fact))

    def execute(self, listeners: list[int], metrics_listener: int | None) -> NoReturn:
        """In a child: turns it into the server as it is installed now. Hook ``pre_exec``."""
        try:
            with forked.Guard(self.log):
                self.cfg.pre_exec(self)
            environment = self._environment_of_start()
            upgrade.pass_on(
                environment,
                self.master_pid,
                listeners,
                metrics_listener,
                by_systemd=self.systemd,
            )
            os.chdir(self.START_CTX["cwd"])
            os.execvpe(self.START_CTX[0], self.START_CTX["args"], environment)
        except BaseException:
            self.log.exception("Exception while starting the successor")
        # What runs at the end of an interpreter is the arbiter's.
        os._exit(1)

    def _environment_of_start(self) -> dict[str, str]:
        environment = dict(os.environ)
        for name, value in self._raw_env.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        return environment

    # Workers.

    def make_worker(self, age: int, generation: Generation) -> Worker:
        """The object that stands for the next worker, before its fork. Hook ``pre_fork``."""
        self.worker_age = age
        self._told.forget_old()
        if age == 1 and generation.cfg.workers > 1:
            gc.freeze()  # Collections of the workers do not write to what they share.
        worker = self.new_worker(age, generation.cfg)
        with forked.Guard(self.log):
            generation.cfg.pre_fork(self, worker)
        return worker

    def _import_for_workers(self) -> None:
        """What they have in common is there before the first fork, after which writing copies."""
        from oxicorn import ahead  # one worker alone would share it with nobody

        ahead.import_ahead(getattr(self.app, "app_uri", None), self.cfg)

    def new_worker(self, age: int, cfg: Config) -> Worker:
        """The object that stands for a worker with these settings."""
        worker: Worker = cfg.worker_class(
            age, self.pid, self.LISTENERS, self.app, cfg.timeout / 2.0, cfg, self.log
        )
        worker.files_of_failures = self._files_of_failures
        worker.has_predecessors = self.has_reloaded
        worker.told = self._told
        worker.replacements = self.replacements
        worker.own_names = frozenset(vars(worker))
        return worker

    def show_heartbeat(self, worker: Worker, heartbeat: _native.Heartbeat) -> None:
        """Where the signs of life of ``worker`` are to be read."""
        worker.tmp.show(heartbeat, worker)

    def application_found(self, cfg: Config, number: int) -> bool:
        """A worker with ``cfg`` has looked at its application; said once for all of them.

        Whether that has changed the class of the workers to come.
        """
        finding = Finding(number)
        if cfg.__dict__.get("_finding") is finding:
            return False
        cfg.__dict__["_finding"] = finding
        from oxicorn.workers import chosen

        text = chosen.about(finding, cfg, getattr(self.app, "app_uri", None) or "given")
        if finding is Finding.FACTORY or cfg.native.is_set("worker_class"):
            self.log.error("%s", text)
            return False
        self.log.info("%s", text)
        self._settled = chosen.kind_for(finding, cfg)
        cfg.settle(self._settled)
        if cfg is self.cfg:
            self.worker_class = cfg.worker_class
        return True

    def _use_settled(self, cfg: Config) -> None:
        """The class an application has decided before is where settings without one begin."""
        if self._settled is not None and not cfg.native.is_set("worker_class"):
            cfg.settle(self._settled)

    def worker_started(self, worker: Worker, pid: int) -> None:
        """The process of ``worker`` exists."""
        self._stats["workers_spawned"] += 1
        worker.pid = pid
        self.WORKERS[pid] = worker

    def worker_reaped(self, worker: Worker) -> None:
        """The process of ``worker`` has ended. Hook ``child_exit``."""
        self._stats["workers_killed"] += 1
        self.WORKERS.pop(worker.pid, None)
        with forked.Guard(self.log):
            self.cfg.child_exit(self, worker)

    def run_worker(
        self,
        worker: Worker,
        context: _native.WorkerContext,
        listeners: list[tuple[str, int, Any]],
    ) -> int:
        """The life of a worker process; its exit code.

        ``listeners`` (text, descriptor, address in the settings) are this process's own, for a
        class that accepts connections itself; other workers have none.
        """
        worker.pid = os.getpid()
        self.pid = worker.ppid
        self._let_go_of_listeners()
        if listeners:
            worker.sockets = [
                sock.listener_of(text, descriptor, address, worker.cfg, self.log)
                for text, descriptor, address in listeners
            ]
            for listener in worker.sockets:
                listener.own()
        code = 0
        try:
            with forked.Guard(self.log):
                self.log.info("Booting worker with pid: %s", worker.pid)
                with forked.Guard(self.log):
                    self.cfg.post_fork(self, worker)
                worker.context = context
                worker.tmp.beat = context.notify
                worker.init_process()
        except BaseException as error:
            code = self._exit_code(worker, error)
        finally:
            self._end_worker(worker)
        if not worker.booted:
            boot.end_in_time(worker.cfg, code)
        if worker.serving_threads:
            from oxicorn import leaving

            leaving.leave_if_any_works(worker.serving_threads, code)
        return code

    def _exit_code(self, worker: Worker, error: BaseException) -> int:
        """What ended ``worker``, told in the log unless it was asked for; the exit code."""
        if worker.is_misfit:
            return 0
        # Who was told to stop while it booted leaves by SystemExit too.
        if (name := compat.missing(error)) is not None:
            text = "%s needs %s, which is not here (docs/python-face.md says why)"
            self.log.error(text, worker.cfg.worker_class_str, name)
        if not worker.booted and (worker.alive or not isinstance(error, SystemExit)):
            return boot.tell(worker, error)
        if not isinstance(error, SystemExit):
            self.log.exception("Exception in worker process")
            return 255
        if isinstance(error.code, (int, type(None))):
            return error.code or 0
        self.log.error("%s", error.code)
        return 1

    def _end_worker(self, worker: Worker) -> None:
        self.log.info("Worker exiting (pid: %s)", worker.pid)
        try:
            with forked.Guard(self.log):
                self.cfg.worker_exit(self, worker)
        except Exception:
            import traceback  # what ends as it should does without

            self.log.warning("Exception during worker exit:\n%s", traceback.format_exc())

    # The pool of heavy applications.

    def dirty_plan(self, cfg: Config) -> Any:
        """What ``cfg`` says of the pool, for the native side; None: it wants none."""
        if cfg.dirty_workers <= 0 or not cfg.dirty_apps:
            if cfg.dirty_stash:
                from oxicorn.dirty.arbiter import refuse_unusable_stash

                refuse_unusable_stash(cfg)
            return None
        from oxicorn.dirty import arbiter  # only who has a pool needs it

        return arbiter.plan(cfg)

    def make_dirty_arbiter(self, cfg: Config) -> DirtyArbiter:
        """The pool as its hooks see it."""
        from oxicorn.dirty.arbiter import DirtyArbiter

        self.dirty_arbiter = DirtyArbiter(cfg, self.log)
        return self.dirty_arbiter

    def dirty_arbiter_ended(self) -> None:
        """Everything of the pool has ended."""
        if self.dirty_arbiter is not None:
            self.dirty_arbiter.ended()
            self.dirty_arbiter = None

    def run_dirty_worker(self, worker: DirtyWorker, context: _native.DirtyContext) -> int:
        """The life of a worker of the pool; its exit code."""
        self._let_go_of_listeners()
        code = worker.run(context)
        if not worker.booted:
            boot.end_in_time(worker.cfg, code)
        return code

    # Templates (setting ``preload_app``).

    def make_ordered(self, age: int, cfg: Config) -> tuple[Worker, bytes]:
        """The object for a worker that a template is to fork, and what the template must know."""
        from oxicorn import template  # only preloading needs it

        self.worker_age = age
        self._told.forget_old()
        return self.new_worker(age, cfg), template.packed_state(self)

    def ordered_started(self, worker: Worker, pid: int, left: bytes) -> None:
        """It is there. ``left`` is what ``pre_fork`` has changed."""
        from oxicorn import template

        of_server, of_worker = template.unpack(left)
        template.apply(self, of_server)
        template.apply(worker, of_worker)
        self.worker_started(worker, pid)

    def enter_template(self, generation: Generation, stack_dump: int) -> None:
        """In a new template process, before anything else."""
        import faulthandler

        self._let_go_of_listeners()
        # The application that hooks or the config file may have loaded stays what it is.
        self.enter_generation(generation.with_application(self.app.callable))
        signal.signal(signal.SIGUSR1, self._reopen_logs_of_template)
        faulthandler.register(STACK_DUMP_SIGNAL, file=stack_dump, all_threads=True)

    def load_in_template(self) -> bool:
        """Loads the application; False, with the reason in the log, if it cannot be loaded."""
        import gc

        self._warn_of_old_code()
        try:
            with forked.Guard(self.log):
                worker_class: type[Worker] = self.worker_class
                worker_class.prepare_process()
                self.app.wsgi()
        except BaseException as error:
            boot.tell_preload(self, error)
            if self._files_of_failures is not None:
                from oxicorn.reloader import files_of_failure

                self._files_of_failures.replace(files_of_failure(error))
            boot.end_in_time(self.cfg, boot.TEMPLATE_ERROR)
            return False
        # The application may have put a handler of its own in its place.
        signal.signal(signal.SIGUSR1, self._reopen_logs_of_template)
        # What is loaded is not looked at by the workers' collections any more: looking at objects
        # writes to them, and pages that are written to are not shared.
        gc.collect()
        gc.freeze()
        return True

    def _reopen_logs_of_template(self, sig: int, frame: FrameType | None) -> None:
        self.log.reopen_files()

    def _warn_of_old_code(self) -> None:
        """What hooks or the config file have imported in the arbiter, no reload can load again."""
        module = getattr(self.app, "app_uri", None) or ""
        name = module.partition(":")[0]
        if self.has_reloaded and (self.app.callable is not None or name in sys.modules):
            self.log.warning(
                "The application was imported in the arbiter, by a hook or the config file: "
                "this reload cannot load its code again. Import it in post_fork or later."
            )

    def prepare_fork(self, age: int, state: bytes) -> tuple[Worker, bytes]:
        """In the template: the worker to be forked, and what hook ``pre_fork`` has changed."""
        from oxicorn import template

        of_server, workers = template.unpack(state)
        template.apply(self, of_server)
        self._use_settled(self.cfg)
        template.restore_workers(self, workers)
        worker = self.new_worker(age, self.cfg)
        try:
            with forked.Guard(self.log):
                self.cfg.pre_fork(self, worker)
        except HaltServer as halt:
            self.log.error("%s", halt.reason)
            self.stop()
            raise
        _flush_streams()
        changed = template.changes(of_server, template.of_server(self))
        return worker, template.pack(changed, template.of_worker(worker))

    def left_template(self) -> None:
        """In a worker that a template has forked, before anything else."""
        # As gevent's own os.fork() does; it is not by this that a template forks.
        hub = sys.modules.get("gevent.hub")
        if hub is not None:
            hub.reinit()

    # The logs.

    def gateway_logging(self) -> GatewayLogging:
        """What the gateway may write by itself, as things are now."""
        return log_routing.gateway_logging(self.log)

    def log_access(self, **fields: Any) -> None:
        """Has the access line written of a request that no worker wrote one for."""
        resp, req, environ, request_time = record_of(**fields)
        self.log.access(resp, req, environ, request_time)

    def report_workers(self, count: int) -> None:
        """The number of living workers has changed."""
        metric = {"metric": "gunicorn.workers", "value": count, "mtype": "gauge"}
        self.log.debug("%s workers", count, extra=metric)

    def report_backlog(self, waiting: int) -> None:
        """Gunicorn's metric ``gunicorn.backlog``, for loggers that send metrics."""
        metric = {"metric": "gunicorn.backlog", "value": waiting, "mtype": "histogram"}
        self.log.debug("socket backlog: %s", waiting, extra=metric)

    # What hooks call.

    def kill_worker(self, pid: int, sig: int) -> None:
        """Sends ``sig`` to the worker ``pid``; one that is gone is no error."""
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return

    def kill_workers(self, sig: int) -> None:
        """Sends ``sig`` to every worker."""
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Asks for the end; with an exit code of one's own it can only be called from a hook."""
        if exit_status:
            raise HaltServer(reason or "halt() was called", exit_status)
        self.stop()

    @property
    def stack_dump_signal(self) -> int:
        """The signal that makes a worker write its stacks."""
        return int(STACK_DUMP_SIGNAL)

    def log_exception(self, what: str, error: BaseException) -> None:
        """Logs an exception that the native side met, with its traceback."""
        self.log.error("%s", what, exc_info=error)


def _flush_streams() -> None:
    """What stays in the buffers, every process forked from here would write again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _let_setproctitle_look() -> None:
    """The package finds the arguments by what stands there, so before the first title of ours."""
    try:
        import setproctitle
    except ImportError:
        return
    setproctitle.getproctitle()


def _refuse_missing_directory(cfg: Config) -> None:
    """``worker_tmp_dir`` is not used; that it does not exist is a mistake all the same."""
    directory = cfg.worker_tmp_dir
    if directory is not None and not os.path.isdir(directory):
        raise RuntimeError(f"{directory} doesn't exist. Can't create workertmp.")


def _make_logger(cfg: Config) -> Any:
    """The logger that ``logger_class`` names; ConfigError if it cannot be made."""
    logger_class = cfg.logger_class
    try:
        return logger_class(cfg)
    except (ConfigError, RuntimeError):
        raise
    except Exception as error:
        # The class is the user's: only the traceback says where in it the reason is.
        import traceback

        traceback.print_exc()
        name = getattr(logger_class, "__qualname__", logger_class)
        raise ConfigError(f"logger_class {name} cannot be used: {error!r}") from error
