"""The errors a deployment can cause, each with the exit code Gunicorn gives it."""

from __future__ import annotations

__all__ = [
    "AppImportError",
    "BootFailed",
    "ConfigError",
    "HaltServer",
    "HookFailed",
    "SettingRefused",
]


class HaltServer(BaseException):
    """Stops the arbiter with ``exit_status`` (Gunicorn: 3 boot failure, 4 application failure)."""

    def __init__(self, reason: str, exit_status: int = 1) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class HookFailed(Exception):
    """A hook of the config file raised; what, is the cause."""


class ConfigError(Exception):
    """A setting that cannot be used; the text is shown to the user as it is."""


class SettingRefused(ConfigError, ValueError, TypeError):
    """A value that a setting does not take, in one line: setting, value, source, what is allowed.

    Gunicorn raises one of the three bases, whichever the validator happens to; code that catches
    any of them catches this.
    """

    def __init__(
        self, setting: str, value: str, allowed: str, source: str, path: str | None = None
    ) -> None:
        super().__init__(setting, value, allowed, source, path)
        self.setting = setting
        self.value = value
        self.allowed = allowed
        self.source = source
        #: The config file, if that is the source; and the line in it, once it was looked for.
        self.path = path
        self.line: int | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}, line {self.line}"
        return f"Invalid value for {self.setting}: {self.value} ({place}): {self.allowed}"


class AppImportError(Exception):
    """The application object cannot be found or is not callable (exit code 4)."""


class BootFailed(Exception):
    """A worker cannot serve; the text is the whole reason (exit code 3)."""
