"""The server that takes over from another one (SIGUSR2): what the one tells the other.

All of it is in the environment, in Gunicorn's variables: a server may be followed by one of another
version, and by Gunicorn itself.
"""

from __future__ import annotations

import os

from oxicorn import systemd

__all__ = [
    "SUCCESSOR_SUFFIX",
    "forget_predecessor",
    "inherited_listeners",
    "inherited_metrics_listener",
    "pass_on",
    "predecessor",
]

#: By which an arbiter tells its successor who it is and what it listens with.
PREDECESSOR_VARIABLE = "GUNICORN_PID"
LISTENERS_VARIABLE = "GUNICORN_FD"
#: The listener of ``metrics_bind``, for who takes over.
METRICS_VARIABLE = "OXICORN_METRICS_FD"
#: Gunicorn's mark on the name and the pid file of a successor, until it is alone.
SUCCESSOR_SUFFIX = ".2"


def predecessor() -> int:
    """The process of the arbiter that this one takes over from; 0: there is none."""
    text = os.environ.get(PREDECESSOR_VARIABLE, "")
    if not text:
        return 0
    # One that has ended meanwhile is none any more: its place is free.
    if text.isdecimal() and int(text) == os.getppid():
        return int(text)
    forget_predecessor()
    return 0


def forget_predecessor() -> None:
    """It has ended: nothing of it is for our children."""
    os.environ.pop(PREDECESSOR_VARIABLE, None)


def inherited_listeners() -> tuple[list[int], bool]:
    """Listening sockets this process was started with, and whether they are systemd's."""
    count = systemd.listen_fds()
    if count:
        start = systemd.SD_LISTEN_FDS_START
        return list(range(start, start + count)), True
    text = os.environ.pop(LISTENERS_VARIABLE, "")
    if not text:
        return [], False
    try:
        # Each once: whoever takes a descriptor over closes it, too.
        return list(dict.fromkeys(int(number) for number in text.split(","))), False
    except ValueError:
        raise RuntimeError(
            f"{LISTENERS_VARIABLE}={text!r} in the environment: numbers were expected"
        ) from None


def inherited_metrics_listener() -> int | None:
    """The listener for metrics and probes this process was started with, if any."""
    text = os.environ.pop(METRICS_VARIABLE, "")
    return int(text) if text.isdecimal() else None


def pass_on(
    environment: dict[str, str],
    pid: int,
    listeners: list[int],
    metrics_listener: int | None,
    *,
    by_systemd: bool,
) -> None:
    """Puts into ``environment`` what the successor of ``pid`` is to find there."""
    environment[PREDECESSOR_VARIABLE] = str(pid)
    if by_systemd:
        systemd.pass_on(listeners, environment)
    else:
        environment[LISTENERS_VARIABLE] = ",".join(map(str, listeners))
    if metrics_listener is not None:
        environment[METRICS_VARIABLE] = str(metrics_listener)
