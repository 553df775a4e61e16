"""What the processes of one load of the settings have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from oxicorn.config import Config

__all__ = ["Generation"]


class Generation(NamedTuple):
    """A value: the arbiter keeps one of each load, and a new process enters its own after the fork.

    Logs, environment and what else settings put in force are those of the process it is entered
    in, so a worker of an earlier generation that has to be replaced changes nothing in the arbiter.
    """

    #: The settings.
    cfg: Config
    #: The application, if it was loaded before the fork (setting ``preload_in_arbiter``).
    application: Callable[..., Any] | None
