"""The errors a deployment can cause, each with the exit code Gunicorn gives it."""

from __future__ import annotations

__all__ = ["AppImportError", "ConfigError", "HaltServer"]


class HaltServer(BaseException):
    """Stops the arbiter with ``exit_status`` (Gunicorn: 3 boot failure, 4 application failure)."""

    def __init__(self, reason: str, exit_status: int = 1) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class ConfigError(Exception):
    """A setting that cannot be used; the text is shown to the user as it is."""


class AppImportError(Exception):
    """The application object cannot be found or is not callable (exit code 4)."""
