"""The logs as Python sees them, with Gunicorn's class, logger names and formats.

``gunicorn.error`` and ``gunicorn.access`` are ordinary Python loggers under Gunicorn's names, so
that log configurations, filters and handlers written for Gunicorn keep working. They are made as
soon as anybody imports ``logging`` (``oxicorn.early_log``), at once where the settings ask for more
than lines on standard error. What the gateway writes by itself, and when it must not, is decided in
``oxicorn.log_routing``.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping

from oxicorn import early_log, log_files, logconfig, request_ids, syslog, terminal
from oxicorn.early_log import EarlyLog
from oxicorn.logconfig import CONFIG_DEFAULTS, LoggingConfiguration
from oxicorn.syslog import SYSLOG_FACILITIES, parse_syslog_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from datetime import timedelta
    from typing import Any, ClassVar

__all__ = [
    "CONFIG_DEFAULTS",
    "SYSLOG_FACILITIES",
    "Logger",
    "SafeAtoms",
    "files_in_use",
    "loggers",
    "parse_syslog_address",
]

#: What may not stand in a log line as it is: see the gateway's ``access_log/escape.rs``.
_SPECIAL = re.compile(r"[^ !#-\[\]-~]")


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    # WSGI's strings are bytes in disguise; what is beyond Latin-1 comes from elsewhere.
    encoded = char.encode("latin-1" if char <= "\xff" else "utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in encoded)


class SafeAtoms(dict[str, "Any"]):
    """Atoms for a log line: nothing in them ends a quoted field or the line, none is missing."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in atoms.items():
            self[name] = _SPECIAL.sub(_escaped, value) if isinstance(value, str) else value

    def __getitem__(self, name: str) -> Any:
        """The atom, ``{...}`` in any case of letters; ``-`` for what there is not."""
        return self.get(name.lower() if name.startswith("{") else name, "-")


def loggers() -> list[logging.Logger]:
    """Every logger of this process but the root."""
    if not early_log.is_imported():
        return []
    import logging

    return [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]


#: What a logger has of Python's, by the names of its attributes.
LOGGERS = ("error_log", "access_log")
#: Levels, as ``logging`` has them.
_CRITICAL, _ERROR, _WARNING, _INFO, _DEBUG = 50, 40, 30, 20, 10


class _MadeByLogging:
    """A logger in the place of an attribute: as soon as somebody asks for it there is one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, log: Logger | None, owner: type) -> Any:
        if log is None:
            return self
        if log.before_logging is not None:
            import logging  # noqa: F401 - that makes them
        try:
            return vars(log)[self._name]
        except KeyError:
            text = f"{owner.__name__!r} object has no attribute {self._name!r}"
            raise AttributeError(text) from None


class Logger:
    """Gunicorn's logger class, to be used as it is or as the base of one's own."""

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        "critical": _CRITICAL,
        "error": _ERROR,
        "warning": _WARNING,
        "info": _INFO,
        "debug": _DEBUG,
    }
    loglevel = _INFO
    error_fmt = r"%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = r"[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"
    atoms_wrapper_class: type[Any] = SafeAtoms

    _in_force: LoggingConfiguration | None = None
    _restoring = False
    _wanted_reopenings = 0
    _done_reopenings = 0
    _is_reopening = False

    error_log: Any = _MadeByLogging()
    access_log: Any = _MadeByLogging()
    #: What writes the error log while nobody in this process has imported ``logging``.
    before_logging: EarlyLog | None = None

    def __init__(self, cfg: Any) -> None:
        if not _does_without_logging(type(self), cfg):
            self._make_loggers()
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.logfile: Any = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    def _make_loggers(self) -> None:
        import logging

        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False

    # Configuration.

    def setup(self, cfg: Any) -> None:
        """(Re)builds everything from the settings; RuntimeError says what in them cannot be."""
        configuration = self._configuration(cfg)
        if self._in_force is not None:
            self._in_force.withdraw()
        self.cfg = cfg
        self._request_id_variable = request_ids.id_variable(cfg)
        self._shows_traces = request_ids.has_traces(cfg)
        self._access_log_enabled = self._compute_access_log_enabled()
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), _INFO)
        if "error_log" not in vars(self) and _does_without_logging(type(self), cfg):
            self._do_without_logging()
            return
        self._set_handlers(cfg)
        if configuration is not None:
            configuration.apply()
        self._in_force = configuration

    def _do_without_logging(self) -> None:
        if self.before_logging is None:
            early_log.Watch(self._begin_to_log)
        self.before_logging = EarlyLog(self.loglevel, self.error_fmt, self.datefmt)

    def _begin_to_log(self) -> None:
        """``logging`` has been imported: what ``setup`` would have made of it is made now."""
        early = self.before_logging
        assert early is not None
        import logging

        made = {name: logging.getLogger(f"gunicorn.{name[:-4]}") for name in LOGGERS}
        error, access = made.values()
        self._set_levels(error, access, early.level)
        error_format = logging.Formatter(early.fmt, early.datefmt)
        self._set_handler(error, "-", error_format, early.stderr)
        if self.cfg.accesslog is not None:
            access_format = logging.Formatter(self.access_fmt)
            self._set_handler(access, "-", access_format, early.stdout)
        for name, log in made.items():
            log.propagate = False
            # Other threads may log; and a hook may have put something else in its place.
            vars(self).setdefault(name, log)
        self.before_logging = None

    def _set_levels(self, error: logging.Logger, access: logging.Logger, level: int) -> None:
        error.setLevel(level)
        access.setLevel(_INFO)
        for log in (error, access):
            self._remove_own_handlers(log)

    def _set_handlers(self, cfg: Any) -> None:
        import logging

        from oxicorn import log_colours

        self._set_levels(self.error_log, self.access_log, self.loglevel)
        if cfg.capture_output and cfg.errorlog != "-":
            self._capture_output(cfg.errorlog)
        stream = sys.stderr if cfg.errorlog == "-" else None
        error_format = log_colours.formatter(stream, self.error_fmt, self.datefmt)
        self._set_handler(self.error_log, cfg.errorlog, error_format)
        if cfg.accesslog is not None:
            access_format = logging.Formatter(self.access_fmt)
            self._set_handler(self.access_log, cfg.accesslog, access_format, sys.stdout)
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")

    def restore(self, cfg: Any) -> None:
        """Goes back to ``cfg`` after ``setup`` with newer settings failed.

        What ``cfg`` said for the logging module is taken as it was read then: the file it names may
        be the very one that was broken.
        """
        self._restoring = True
        try:
            self.setup(cfg)
        finally:
            self._restoring = False

    def _configuration(self, cfg: Any) -> LoggingConfiguration | None:
        return self._in_force if self._restoring else logconfig.read(cfg)

    @staticmethod
    def _remove_own_handlers(log: logging.Logger) -> None:
        for handler in list(log.handlers):
            if getattr(handler, "_gunicorn", False):
                log.removeHandler(handler)
                handler.close()

    def _get_gunicorn_handler(self, log: logging.Logger) -> logging.Handler | None:
        """The first handler of ``log`` that the server has set."""
        own = (handler for handler in log.handlers if getattr(handler, "_gunicorn", False))
        return next(own, None)

    def _set_handler(
        self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None
    ) -> None:
        """Lets ``log`` write to a file, to ``stream`` ("-"; standard error) or nowhere (None)."""
        old = self._get_gunicorn_handler(log)
        if old is not None:
            log.removeHandler(old)
        if output is not None:
            import logging

            handler: logging.Handler
            handler = logging.StreamHandler(stream) if output == "-" else self._open(output)
            handler.setFormatter(fmt)
            self._add_own_handler(log, handler)

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        """Lets ``log`` write to syslog too."""
        self._add_own_handler(log, syslog.handler(cfg, fmt, name))

    @staticmethod
    def _add_own_handler(log: logging.Logger, handler: logging.Handler) -> None:
        handler._gunicorn = True  # type: ignore[attr-defined]
        log.addHandler(handler)

    def _open(self, path: str) -> logging.StreamHandler[Any]:
        import logging

        try:
            return logging.FileHandler(path)
        except OSError as error:
            raise RuntimeError(f"Error: '{path}' isn't writable [{error!r}]") from error

    def _capture_output(self, path: str) -> None:
        """Sends what the application prints into the error log (setting ``capture_output``)."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(RuntimeError):  # A signal has interrupted its very writing.
                stream.flush()
        with self.lock:
            try:
                fresh = log_files.appended(path)
            except OSError as error:
                raise RuntimeError(f"Error: '{path}' isn't writable [{error!r}]") from error
            if self.logfile is not None:
                self.logfile.close()
            self.logfile = fresh
            os.dup2(self.logfile.fileno(), 1)
            os.dup2(self.logfile.fileno(), 2)

    def reopen_files(self) -> None:
        """Reopens every log file (SIGUSR1), after a log rotation moved the old ones away.

        A signal may come while one is handled: the call that it interrupts does it once more.
        """
        self._wanted_reopenings += 1
        while self._done_reopenings != self._wanted_reopenings and not self._is_reopening:
            self._is_reopening = True
            try:
                wanted = self._wanted_reopenings
                self._reopen_all()
                self._done_reopenings = wanted
            finally:
                self._is_reopening = False

    def _reopen_all(self) -> None:
        if self.cfg.capture_output and self.cfg.errorlog != "-":
            try:
                self._capture_output(self.cfg.errorlog)
            except RuntimeError as error:
                self.error("What is printed goes on to the old file: %s", error)
        for handler in _file_handlers():
            self._reopen(handler)

    def _reopen(self, handler: logging.FileHandler) -> None:
        # By this very thread: others are waited for.
        is_in_use = getattr(handler.lock, "_is_owned", lambda: True)()
        handler.acquire()
        try:
            if handler.stream is not None:
                # First the new one: where there is none, the old one is written on.
                stream = log_files.reopened(handler)
                if is_in_use:
                    # A line that this call interrupts needs the object, whatever file is behind it.
                    os.dup2(stream.fileno(), handler.stream.fileno(), inheritable=False)
                    stream.close()
                else:
                    handler.close()
                    handler.stream = stream
        except OSError as error:
            text = "Log %s cannot be opened again, the old file is written on: %s; %s"
            what = error.strerror or error
            self.error(text, handler.baseFilename, what, log_files.advice(error))
        finally:
            handler.release()

    def close_on_exec(self) -> None:
        """Kept for subclasses that call it: Python opens files close-on-exec by itself."""

    # The error log.

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level CRITICAL."""
        if not self._is_written(_CRITICAL, msg, args, kwargs):
            self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level ERROR."""
        if not self._is_written(_ERROR, msg, args, kwargs):
            self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level WARNING."""
        if not self._is_written(_WARNING, msg, args, kwargs):
            self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level INFO."""
        if not self._is_written(_INFO, msg, args, kwargs):
            self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level DEBUG."""
        if not self._is_written(_DEBUG, msg, args, kwargs):
            self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level ERROR with the traceback of the exception being handled."""
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at a level given by number or name."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), _INFO)
        if not self._is_written(lvl, msg, args, kwargs):
            self.error_log.log(lvl, msg, *args, **kwargs)

    def _is_written(
        self, level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        early = self.before_logging
        if early is None or "error_log" in vars(self):
            return False
        return early.write(level, msg, args, bool(kwargs))

    # The access log.

    @property
    def access_log_enabled(self) -> bool:
        """Whether requests are logged at all."""
        try:
            return self._access_log_enabled
        except AttributeError:  # a subclass whose setup() does not call ours
            return self._compute_access_log_enabled()

    def _compute_access_log_enabled(self) -> bool:
        cfg = self.cfg
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
        return bool(cfg.accesslog or configured or to_syslog)

    def access(
        self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta
    ) -> None:
        """Writes the line of one request in ``access_log_format``."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        try:
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            import traceback

            self.error("%s", traceback.format_exc())

    def atoms(
        self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta
    ) -> dict[str, Any]:
        """The values that ``access_log_format`` may name, by name."""
        status = resp.status
        if isinstance(status, str):
            status = status.split(None, 1)[0]
        sent = getattr(resp, "sent", None)
        method, protocol = environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
        # As in Gunicorn, whole days do not count.
        seconds, microseconds = request_time.seconds, request_time.microseconds
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{method} {environ['RAW_URI']} {protocol}",
            "s": status,
            "m": method,
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": protocol,
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": seconds,
            "M": seconds * 1000 + microseconds // 1000,
            "D": seconds * 1_000_000 + microseconds,
            "L": f"{seconds}.{microseconds:06d}",
            "p": f"<{os.getpid()}>",
            "request_id": environ.get(self._request_id_variable, "-"),
            "trace_id": "-",
            "queue_time": _seconds(getattr(resp, "queue_time", None)),
            "proxy_time": _seconds(getattr(resp, "proxy_time", None)),
        }
        if self._shows_traces:
            atoms["trace_id"] = request_ids.trace_id(environ.get("HTTP_TRACEPARENT", "")) or "-"
        request_headers = getattr(req, "headers", req)
        atoms.update({f"{{{name.lower()}}}i": value for name, value in _pairs(request_headers)})
        atoms.update({f"{{{name.lower()}}}o": value for name, value in _pairs(resp.headers)})
        atoms.update({f"{{{name.lower()}}}e": value for name, value in environ.items()})
        return atoms

    def now(self) -> str:
        """The time as access logs have it."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        """The user name in an ``Authorization: Basic`` header: what the client claims."""
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "basic" or not credentials:
            return None
        from base64 import b64decode  # few servers see such a header

        try:
            pair = b64decode(credentials.strip().encode())
            return pair.split(b":", 1)[0].decode()
        except ValueError as error:
            self.debug("Couldn't get username: %s", error)
            return None


#: The classes as they were made, by which it is noticed that somebody has replaced a part of them.
AS_MADE: dict[type[Any], dict[str, Any]] = {cls: dict(vars(cls)) for cls in (Logger, SafeAtoms)}


def _does_without_logging(cls: type[Logger], cfg: Any) -> bool:
    """Whether lines on standard error are all that the settings ask for, and nobody has more."""
    if early_log.is_imported() or cls is not Logger or dict(vars(cls)) != AS_MADE[cls]:
        return False
    if cfg.errorlog != "-" or cfg.accesslog not in (None, "-"):
        return False
    if cfg.syslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
        return False
    # Who runs as somebody else may not be allowed to read the library.
    if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
        return False
    return None not in (sys.stderr, sys.stdout) and not terminal.is_terminal(sys.stderr)


def _pairs(headers: Any) -> Iterable[tuple[str, Any]]:
    """Headers as pairs, whether they are a mapping or pairs already."""
    return headers.items() if hasattr(headers, "items") else headers  # type: ignore[no-any-return]


def _seconds(time: float | None) -> str:
    return "-" if time is None else f"{time:.6f}"


def _file_handlers() -> list[logging.FileHandler]:
    """Every FileHandler in use in this process, also of the application's own loggers."""
    if not early_log.is_imported():
        return []
    import logging

    found: dict[int, logging.FileHandler] = {}
    for logger in [logging.root, *loggers()]:
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                found[id(handler)] = handler
    return list(found.values())


def files_in_use() -> list[str]:
    """Absolute paths of the files that this process logs to."""
    return [handler.baseFilename for handler in _file_handlers() if handler.stream is not None]
