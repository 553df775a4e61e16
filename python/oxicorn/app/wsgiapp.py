"""The ``oxicorn`` command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from oxicorn import util
from oxicorn.app.base import Application
from oxicorn.errors import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["WSGIApplication", "run"]


class WSGIApplication(Application):
    """Runs the application named on the command line or by the setting ``wsgi_app``."""

    app_uri: str | None = None

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> dict[str, Any] | None:
        """Process titles show the application's name unless ``proc_name`` is set."""
        self.app_uri = args[0] if args else None
        return {"default_proc_name": args[0]} if args else None

    def load_config(self) -> None:
        """Settings, then the application's name: a command line without one is refused."""
        super().load_config()
        if self.app_uri is None:
            self.app_uri = self.cfg.wsgi_app
        if self.app_uri is None:
            raise ConfigError("No application module specified.")

    def load_wsgiapp(self) -> Callable[..., Any]:
        """Imports the application."""
        assert self.app_uri is not None
        return util.import_app(self.app_uri)

    def load(self) -> Callable[..., Any]:
        """The application; what wraps ``load_wsgiapp`` wraps it here too."""
        return self.load_wsgiapp()


def run(prog: str | None = None) -> NoReturn:
    """Runs the command with ``sys.argv`` and exits."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
