"""What the processes of one load of the settings have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oxicorn.config import Config

__all__ = ["Generation"]


class Generation:
    """A value: the arbiter keeps one of each load, and a new process enters its own after the fork.

    Logs, environment and what else settings put in force are those of the process it is entered
    in, so a worker of an earlier generation that has to be replaced changes nothing in the arbiter.
    """

    __slots__ = ("application", "cfg")

    def __init__(self, cfg: Config, application: Callable[..., Any] | None) -> None:
        #: The settings.
        self.cfg = cfg
        #: The application, if it was loaded before the fork (setting ``preload_in_arbiter``).
        self.application = application

    def with_application(self, application: Callable[..., Any] | None) -> Generation:
        """The same, with an application that has been loaded."""
        return Generation(self.cfg, application)
