"""What the gateway may write without Python, and when Python has to.

The gateway's own writers are used only where nobody can tell the difference. Whatever a user can
change about how Gunicorn writes a line (the logger class, its methods, handlers, filters,
formatters, levels, ``logconfig``) makes the record go through Python's logging instead: access
lines in the worker that served the request, everything else in the arbiter, to which the gateway
sends it.
"""

from __future__ import annotations

import sys

from oxicorn import _native
from oxicorn.glogging import AS_MADE, Logger, SafeAtoms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

    from oxicorn.early_log import EarlyLog

__all__ = [
    "GatewayLogging",
    "access_logging",
    "gateway_logging",
    "gateway_measures",
]

#: What a line of the access log depends on.
_ACCESS = frozenset(
    (
        "access",
        "access_fmt",
        "access_log_enabled",
        "atoms",
        "atoms_wrapper_class",
        "now",
        "setup",
        "_get_user",
        "_set_handler",
    )
)
#: The same for the error log.
_ERRORS = frozenset(("error", "warning", "debug", "error_fmt", "datefmt", "setup", "_set_handler"))
_SAFE_ATOMS = frozenset(("__init__", "__getitem__"))

#: What a Statsd subclass may override to have its own say about a request's metrics.
_MEASURES = ("access", "increment", "timer", "_sock_send")


class GatewayLogging:
    """What the gateway does with its own lines and figures."""

    __slots__ = (
        "error_level",
        "native_access",
        "relayed_access",
        "relayed_errors",
        "statsd",
    )

    def __init__(
        self,
        *,
        native_access: bool,
        relayed_access: bool,
        relayed_errors: bool,
        error_level: int,
        statsd: tuple[str | tuple[str, int], str, str] | None,
    ) -> None:
        #: Access lines go straight to ``accesslog``.
        self.native_access = native_access
        #: Access lines of requests no worker wrote one for go to the arbiter.
        self.relayed_access = relayed_access
        #: Lines for the error log go to the arbiter.
        self.relayed_errors = relayed_errors
        #: What is worth a line in the error log (a level of Python's logging).
        self.error_level = error_level
        #: Metrics of requests are sent: address, prefix, tags.
        self.statsd = statsd


def access_logging(log: Any) -> tuple[bool, list[str]]:
    """Decides for a worker that has loaded its application who writes the lines of its requests.

    First, whether the worker does, through Python's logging; else it is the gateway, if anybody.
    Then the keys of the environ that an application may change and the lines show: a request for
    which it did is the first one that the worker writes.
    """
    if _is_switched_off(log):
        return False, []
    if not _writes_access_natively(log):
        return True, []
    shown = _native.access_log_shows(log.cfg.access_log_format) or []
    return False, shown


def gateway_logging(log: Any) -> GatewayLogging:
    """Decides for the gateway, in the arbiter."""
    off = _is_switched_off(log)
    native = not off and _writes_access_natively(log)
    statsd = None
    if gateway_measures(log) and log.cfg.statsd_host is not None:
        statsd = (log.cfg.statsd_host, log.prefix, log.dogstatsd_tags)
    return GatewayLogging(
        native_access=native,
        relayed_access=not off and not native,
        relayed_errors=not _writes_errors_natively(log),
        error_level=_error_level(log),
        statsd=statsd,
    )


def gateway_measures(log: Any) -> bool:
    """Whether the gateway sends the metrics of requests: not for a subclass with its own ways."""
    module = sys.modules.get("oxicorn.instrument.statsd")
    statsd = getattr(module, "Statsd", None)
    if statsd is None or not isinstance(log, statsd):
        return False
    made = sys.modules["oxicorn.instrument.statsd"].AS_MADE
    return all(getattr(type(log), name) is made[name] for name in _MEASURES)


def _error_level(log: Any) -> int:
    """What of the error log is not written anyway need not be sent."""
    early = _before_logging(log)
    if early is not None:
        return early.level
    import logging

    error_log = getattr(log, "error_log", None)
    return error_log.getEffectiveLevel() if isinstance(error_log, logging.Logger) else logging.DEBUG


def _before_logging(log: Any) -> EarlyLog | None:
    """What writes the lines while there are no loggers, and so nothing about them is changed."""
    if type(log) is not Logger or "error_log" in vars(log):
        return None
    return log.before_logging


def _is_switched_off(log: Any) -> bool:
    """Whether calling ``log.access`` has no effect."""
    if not isinstance(log, Logger):
        return False
    cls = type(log)
    plain = cls.access is Logger.access or (_is_own(log) and gateway_measures(log))
    return plain and not log.access_log_enabled


def _is_own(log: Any) -> bool:
    """Whether it is one of the server's own classes, with nothing replaced in it."""
    return type(log).__module__ in ("oxicorn.glogging", "oxicorn.instrument.statsd")


def _is_as_it_was(log: Any, parts: frozenset[str]) -> bool:
    """Whether a config file, a hook or an application has replaced none of ``parts``."""
    return not parts & vars(log).keys() and _is_as_made(Logger, parts)


def _is_as_made(cls: type, parts: frozenset[str]) -> bool:
    return all(vars(cls).get(name) is AS_MADE[cls][name] for name in parts)


def _writes_access_natively(log: Any) -> bool:
    if not _is_own(log) or not _is_as_it_was(log, _ACCESS):
        return False
    if not _is_as_made(SafeAtoms, _SAFE_ATOMS):
        return False
    cfg = log.cfg
    # A format Python may understand and the gateway does not, or one that shows what only the
    # application's environ holds.
    if _native.access_log_shows(cfg.access_log_format) is None:
        return False
    if cfg.accesslog is None or _before_logging(log) is not None:
        return cfg.accesslog is not None
    import logging

    handler = _only_handler(log.access_log)
    return (
        handler is not None
        and log.access_log.isEnabledFor(logging.INFO)
        and _format_of(handler) == (Logger.access_fmt, None)
    )


def _writes_errors_natively(log: Any) -> bool:
    # Statsd counts what is logged, wherever that happens.
    if type(log) is not Logger or not _is_as_it_was(log, _ERRORS):
        return False
    if log.cfg.errorlog is None:
        return False
    if _before_logging(log) is not None:
        return True
    handler = _only_handler(log.error_log)
    expected = (Logger.error_fmt, Logger.datefmt)
    same_level = log.error_log.level == log.loglevel and not log.error_log.disabled
    return same_level and handler is not None and _format_of(handler) == expected


def _only_handler(log: logging.Logger) -> logging.Handler | None:
    """The server's own handler, if it is the only one and nothing was added to it."""
    import logging

    if type(log) is not logging.Logger or log.filters or log.propagate:
        return None
    if "handle" in vars(log) or len(log.handlers) != 1:
        return None
    (handler,) = log.handlers
    plain = type(handler) in (logging.FileHandler, logging.StreamHandler)
    own = getattr(handler, "_gunicorn", False)
    return handler if own and plain and not handler.filters and not handler.level else None


def _format_of(handler: logging.Handler) -> tuple[str | None, str | None] | None:
    import logging

    formatter = handler.formatter
    if type(formatter) is not logging.Formatter:
        return None
    return formatter._fmt, formatter.datefmt
