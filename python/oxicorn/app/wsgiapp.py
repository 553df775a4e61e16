"""The ``oxicorn`` command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from oxicorn import _native, util
from oxicorn.app.base import Application
from oxicorn.errors import ConfigError

__all__ = ["WSGIApplication", "run"]


class WSGIApplication(Application):
    """Runs the application named on the command line or by the setting ``wsgi_app``."""

    app_uri: str | None = None

    def init(self, resolver: _native.Resolver) -> dict[str, Any] | None:
        """Process titles show the application's name unless ``proc_name`` is set."""
        spec = resolver.application()
        return {"default_proc_name": spec} if spec is not None else None

    def load_config(self) -> None:
        """Settings, then the application's name: a command line without one is refused."""
        super().load_config()
        self.app_uri = self.application_spec or self.cfg.wsgi_app
        if self.app_uri is None:
            raise ConfigError("No application module specified.")

    def load(self) -> Callable[..., Any]:
        """Imports the application."""
        assert self.app_uri is not None
        return util.import_app(self.app_uri)


def run(prog: str | None = None) -> NoReturn:
    """Runs the command with ``sys.argv`` and exits."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
