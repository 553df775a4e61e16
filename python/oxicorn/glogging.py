"""The error log of arbiter and workers, with Gunicorn's class, logger names and formats.

The access log is written by the gateway without Python; ``gunicorn.access`` exists so that
configuration and code which name it keep working.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from typing import Any, ClassVar

__all__ = ["Logger"]


class Logger:
    """Gunicorn's logger class: ``error_log`` and ``access_log`` are ordinary Python loggers."""

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel = logging.INFO
    error_fmt = r"%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = r"[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"

    def __init__(self, cfg: Any) -> None:
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.logfile: Any = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """(Re)builds the handlers from the settings; the old file stays in use if the new fails."""
        handler = self._make_handler(cfg.errorlog)
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        self._replace_handler(self.error_log, handler)
        if cfg.capture_output and cfg.errorlog != "-":
            self._capture_output(cfg.errorlog)

    def _make_handler(self, path: str | None) -> logging.Handler | None:
        if path is None:
            return None
        handler: logging.Handler
        if path == "-":
            handler = logging.StreamHandler(sys.stderr)
        else:
            try:
                handler = logging.FileHandler(path)
            except OSError as error:
                raise RuntimeError(f"Error: '{path}' isn't writable [{error!r}]") from error
        handler.setFormatter(logging.Formatter(self.error_fmt, self.datefmt))
        handler._gunicorn = True  # type: ignore[union-attr]
        return handler

    @staticmethod
    def _replace_handler(logger: logging.Logger, handler: logging.Handler | None) -> None:
        for old in [h for h in logger.handlers if getattr(h, "_gunicorn", False)]:
            logger.removeHandler(old)
            old.close()
        if handler is not None:
            logger.addHandler(handler)

    def _capture_output(self, path: str) -> None:
        """Sends what the application prints into the error log (setting ``capture_output``)."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.logfile = open(path, "a+")
        os.dup2(self.logfile.fileno(), 1)
        os.dup2(self.logfile.fileno(), 2)

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level CRITICAL."""
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level ERROR."""
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level WARNING."""
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level INFO."""
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level DEBUG."""
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level ERROR with the traceback of the exception being handled."""
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at a level given by number or name."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    def reopen_files(self) -> None:
        """Reopens every log file (SIGUSR1), after a log rotation moved the old ones away."""
        if self.cfg.capture_output and self.cfg.errorlog != "-":
            self._capture_output(self.cfg.errorlog)
        for handler in _file_handlers():
            self._reopen(handler)

    def _reopen(self, handler: logging.FileHandler) -> None:
        handler.acquire()
        try:
            if handler.stream is not None:
                handler.close()
                handler.stream = handler._open()
        except OSError:
            traceback.print_exc(file=sys.stderr)
        finally:
            handler.release()

    def close_on_exec(self) -> None:
        """Kept for subclasses that call it: Python opens files close-on-exec by itself."""


def _file_handlers() -> list[logging.FileHandler]:
    """Every FileHandler in use in this process, also of the application's own loggers."""
    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    found: dict[int, logging.FileHandler] = {}
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.FileHandler):
                found[id(handler)] = handler
    return list(found.values())
