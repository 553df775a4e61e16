"""StatsD: a logger that sends metrics too, with Gunicorn's class, names and types.

``Statsd`` is the logger class where ``statsd_host`` is set. It counts what is logged and sends the
metrics that log calls bring (``extra={"metric": ..., "value": ..., "mtype": ...}``). The metrics of
requests are sent by the gateway, which sees all of them; a subclass that says itself what is sent
of a request (see ``oxicorn.log_routing``) sends them here, as in Gunicorn.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from oxicorn import log_routing
from oxicorn.glogging import Logger

if TYPE_CHECKING:
    import socket

__all__ = ["Statsd"]

METRIC_VAR = "metric"
VALUE_VAR = "value"
MTYPE_VAR = "mtype"
GAUGE_TYPE = "gauge"
COUNTER_TYPE = "counter"
HISTOGRAM_TYPE = "histogram"
TIMER_TYPE = "timer"


class Statsd(Logger):
    """The logger class where ``statsd_host`` is set, and a base for one's own."""

    def __init__(self, cfg: Any) -> None:
        self.prefix = prefix_of(cfg.statsd_prefix)
        self.dogstatsd_tags = cfg.dogstatsd_tags
        self.sock: socket.socket | None = None
        super().__init__(cfg)
        # One's own logger class may derive from this one and send nothing.
        if cfg.statsd_host is not None:
            self.sock = self._connect(cfg.statsd_host)

    def _connect(self, address: str | tuple[str, int]) -> socket.socket | None:
        """A socket that never makes anybody wait; without one, metrics are dropped."""
        import socket  # only this needs it

        try:
            if isinstance(address, str):
                family, place = socket.AF_UNIX, address
            else:
                kind = socket.SOCK_DGRAM
                family, *_, place = socket.getaddrinfo(*address, type=kind)[0]  # type: ignore[assignment]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(place)
        except OSError as error:
            # Through Logger: counting this very warning would need the socket.
            Logger.warning(self, "No metrics are sent to %s: %s", address, error)
            return None
        return sock

    # The error log.

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level CRITICAL and counts it."""
        super().critical(msg, *args, **kwargs)
        self.increment("gunicorn.log.critical", 1)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level ERROR and counts it."""
        super().error(msg, *args, **kwargs)
        self.increment("gunicorn.log.error", 1)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level WARNING and counts it."""
        super().warning(msg, *args, **kwargs)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs an exception and counts it."""
        super().exception(msg, *args, **kwargs)
        self.increment("gunicorn.log.exception", 1)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level INFO, and sends the metric in ``extra``."""
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at level DEBUG, and sends the metric in ``extra``."""
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs at any level (an empty message is not logged), and sends the metric in ``extra``."""
        self._send_metric(kwargs.get("extra") or {})
        if msg:
            super().log(lvl, msg, *args, **kwargs)

    def _send_metric(self, extra: Mapping[str, Any]) -> None:
        name, value = extra.get(METRIC_VAR), extra.get(VALUE_VAR)
        senders = {
            GAUGE_TYPE: self.gauge,
            COUNTER_TYPE: self.increment,
            HISTOGRAM_TYPE: self.histogram,
            TIMER_TYPE: self.timer,
        }
        send = senders.get(str(extra.get(MTYPE_VAR)))
        if name and value is not None and send is not None:
            send(name, value)

    # Requests.

    def access(
        self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta
    ) -> None:
        """Logs a request; sends its metrics unless the gateway does."""
        super().access(resp, req, environ, request_time)
        if log_routing.gateway_measures(self):
            return
        status = resp.status
        if isinstance(status, bytes):
            status = status.decode("latin-1")
        if isinstance(status, str):
            status = int(status.split(None, 1)[0])
        milliseconds = request_time.seconds * 1000 + request_time.microseconds / 1000
        self.timer("gunicorn.request.duration", milliseconds)
        self.increment("gunicorn.requests", 1)
        self.increment(f"gunicorn.request.status.{status}", 1)

    # To be called by anybody.

    def gauge(self, name: str, value: float) -> None:
        """Sets a value."""
        self._sock_send(f"{self.prefix}{name}:{value}|g")

    def increment(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Adds to a counter."""
        self._sock_send(f"{self.prefix}{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Takes from a counter."""
        self._sock_send(f"{self.prefix}{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name: str, value: float) -> None:
        """Gives a time in milliseconds."""
        self._sock_send(f"{self.prefix}{name}:{value}|ms")

    def histogram(self, name: str, value: float) -> None:
        """Gives one of the values whose distribution is of interest."""
        self._sock_send(f"{self.prefix}{name}:{value}|h")

    def _sock_send(self, msg: str | bytes) -> None:
        if self.sock is None:
            return
        data = msg.encode("ascii", "replace") if isinstance(msg, str) else msg
        if self.dogstatsd_tags:
            data += b"|#" + self.dogstatsd_tags.encode("ascii", "replace")
        try:
            self.sock.send(data)
        except OSError:
            # Nobody listens, or does not keep up: metrics are worth no wait and no noise.
            return


#: The class as it was made, see ``oxicorn.log_routing``.
AS_MADE = dict(vars(Statsd))


def prefix_of(setting: str) -> str:
    """``statsd_prefix`` with the one dot that stands between it and a metric's name."""
    return re.sub(r"^(.+[^.]+)\.*$", r"\g<1>.", setting)
