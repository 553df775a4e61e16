"""Logging to syslog: the forms of ``syslog_addr``, the facilities, the handler."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

__all__ = ["SYSLOG_FACILITIES", "handler", "parse_syslog_address"]

#: The names of ``syslog_facility`` with their numbers (RFC 5424 section 6.2.1).
SYSLOG_FACILITIES = {
    "auth": 4,
    "authpriv": 10,
    "cron": 9,
    "daemon": 3,
    "ftp": 11,
    "kern": 0,
    "lpr": 6,
    "mail": 2,
    "news": 7,
    "security": 4,
    "syslog": 5,
    "user": 1,
    "uucp": 8,
    **{f"local{number}": 16 + number for number in range(8)},
}

#: The port of syslog over UDP, and by custom over TCP.
DEFAULT_PORT = 514


def parse_syslog_address(addr: str) -> tuple[int | None, str | tuple[str, int]]:
    """Socket type and address as ``SysLogHandler`` wants them; RuntimeError for other forms.

    ``unix://PATH`` (either type of socket), ``unix://PATH#dgram``, ``unix://PATH#stream``,
    ``udp://HOST[:PORT]``, ``tcp://HOST[:PORT]``.
    """
    import socket  # what configures no syslog does not need it

    kinds = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
    scheme, separator, rest = addr.partition("://")
    if scheme == "unix" and separator:
        path, _, kind = rest.partition("#")
        types = {"": None, "dgram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}
        if kind not in types:
            raise RuntimeError(
                f"invalid syslog address {addr!r}: '#' is followed by dgram or stream"
            )
        return types[kind], path
    if not separator or scheme not in kinds:
        raise RuntimeError(
            f"invalid syslog address {addr!r}: it is unix://PATH, udp://HOST:PORT or tcp://HOST:PORT"
        )
    return kinds[scheme], _host_and_port(rest)


def _host_and_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not port.isdigit():
        raise RuntimeError(f"{port!r} is not a valid port number.")
    return host.lower() or "localhost", int(port or DEFAULT_PORT)


def handler(cfg: Any, fmt: str, name: str) -> logging.Handler:
    """The handler for the log ``name`` (error or access); RuntimeError if it cannot be made."""
    import logging
    from logging.handlers import SysLogHandler  # large, and seldom needed

    facility = SYSLOG_FACILITIES.get(cfg.syslog_facility.lower())
    if facility is None:
        raise RuntimeError(
            f"unknown facility name: {cfg.syslog_facility!r} (syslog_facility is one of "
            f"{', '.join(SYSLOG_FACILITIES)})"
        )
    kind, address = parse_syslog_address(cfg.syslog_addr)
    try:
        made = SysLogHandler(address, facility, kind)  # type: ignore[arg-type]
    except OSError as error:
        raise RuntimeError(f"syslog at {cfg.syslog_addr} cannot be reached: {error}") from error
    prefix = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
    # Gunicorn's name stays in front: filters of syslog daemons look for it.
    made.setFormatter(logging.Formatter(f"gunicorn.{prefix}.{name}: {fmt}"))
    return made
