"""What a service manager is told of this server (sd_notify(3)), each state once."""

from __future__ import annotations

import time

from oxicorn import systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ServiceManager"]

SERVING = "READY=1\nSTATUS=serving"


class ServiceManager:
    """Whoever started the server and listens at NOTIFY_SOCKET; ``log`` is told why it does not."""

    def __init__(self) -> None:
        self._state = ""

    def serving(self, log: Any) -> None:
        """The first workers are ready: whoever waits for the service may go on."""
        self._tell(SERVING, log)

    def reloading(self, log: Any) -> None:
        """A reload begins."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading", log)

    def settled(self, log: Any) -> None:
        """If a reload was under way it is over."""
        if self._state.startswith("RELOADING"):
            self._tell(SERVING, log)

    def stopping(self, log: Any) -> None:
        """The end of the service has begun."""
        self._tell("STOPPING=1\nSTATUS=stopping", log)

    def taken_over(self, pid: int, log: Any) -> None:
        """The end of this process has begun; the service is that of ``pid`` from now on."""
        self._tell(f"MAINPID={pid}\n{SERVING}", log)

    def _tell(self, state: str, log: Any) -> None:
        if state != self._state:
            self._state = state
            systemd.sd_notify(state, log)
