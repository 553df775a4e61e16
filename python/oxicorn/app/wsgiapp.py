"""The ``oxicorn`` command."""

from __future__ import annotations

import os
import sys

from oxicorn import util
from oxicorn.app.base import Application
from oxicorn.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["WSGIApplication", "run"]


class WSGIApplication(Application):
    """Runs the application named on the command line or by the setting ``wsgi_app``."""

    app_uri: str | None = None
    #: Whether the command line was read before: a reload reads it again.
    _is_read = False
    #: Whether that is a Paste Deploy file.
    _is_paste = False

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> dict[str, Any] | None:
        """Process titles show the application's name unless ``proc_name`` is set."""
        ignored = args if opts.paste else args[1:]
        if ignored and not self._is_read:
            # Gunicorn ignores them, too, without a word.
            words = " ".join(ignored)
            print(f"Warning: only one application is served, ignored: {words}", file=sys.stderr)
        self._is_read = True
        if opts.paste:
            return self._use_paste(opts.paste)
        self._is_paste = False
        self.app_uri = args[0] if args else None
        return {"default_proc_name": args[0]} if args else None

    def load_config(self) -> None:
        """Settings, then the application's name: a command line without one is refused."""
        super().load_config()
        if self.cfg.paste and self.app_uri is None:
            # The config file names it: it is too late to be weaker than that.
            for name, value in self._use_paste(self.cfg.paste).items():
                if not self.cfg.get(name) or name == "default_proc_name":
                    self.cfg.set(name, value)
        if self.app_uri is None:
            self.app_uri = self.cfg.wsgi_app
        if self.app_uri is None:
            raise ConfigError(
                "No application module specified. Name it as MODULE:CALLABLE, such as app:app."
            )

    def _use_paste(self, uri: str) -> dict[str, Any]:
        """``FILE[#NAME]`` is the application; what the file means for the settings."""
        from oxicorn.app.pasterapp import has_logging_config  # few have such a file

        self._is_paste = True
        self.app_uri = os.path.abspath(uri)
        file = self.app_uri.partition("#")[0]
        if not os.path.exists(file):
            raise ConfigError(f"{file!r} not found")
        settings: dict[str, Any] = {"default_proc_name": file}
        if has_logging_config(file):
            settings["logconfig"] = file
        return settings

    def load_pasteapp(self) -> Callable[..., Any]:
        """Loads the application of a Paste Deploy file."""
        from oxicorn.app.pasterapp import get_wsgi_app

        assert self.app_uri is not None
        return get_wsgi_app(self.app_uri, defaults=self.cfg.paste_global_conf)

    def load_wsgiapp(self) -> Callable[..., Any]:
        """Imports the application."""
        assert self.app_uri is not None
        return util.import_app(self.app_uri)

    def load(self) -> Callable[..., Any]:
        """The application; what wraps ``load_wsgiapp`` wraps it here too."""
        return self.load_pasteapp() if self._is_paste else self.load_wsgiapp()


def run(prog: str | None = None) -> NoReturn:
    """Runs the command with ``sys.argv`` and exits."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
