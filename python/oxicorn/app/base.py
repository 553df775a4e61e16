"""From nothing to a running server: gather the settings, load the application, start the arbiter.

``BaseApplication`` is Gunicorn's seam for programs that bring their own settings and application;
``Application`` adds the command line and the config file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from oxicorn import _native, util
from oxicorn.arbiter import Arbiter
from oxicorn.config import Config, as_raw
from oxicorn.errors import ConfigError
from oxicorn.glogging import Logger

__all__ = ["Application", "BaseApplication"]

CONFIG_MODULE = "__config__"

#: Settings that are refused where they are not available yet; others get a warning.
NOT_WITHOUT = frozenset(
    (
        "certfile",
        "daemon",
        "http_protocols",
        "keyfile",
        "paste",
        "protocol",
        "worker_class",
    )
)


class BaseApplication:
    """Holds the settings and the application; subclasses say where both come from."""

    cfg: Config

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.callable: Callable[..., Any] | None = None
        self.logger: Logger | None = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Loads the settings; a bad one ends the process with one line and exit code 1."""
        try:
            self.load_default_config()
            self.load_config()
        except (ConfigError, ValueError, TypeError, RuntimeError) as error:
            _refuse(error)

    def load_default_config(self) -> None:
        """Starts from the defaults."""
        self.cfg = Config(_native.Resolver([], dict(os.environ)).finish())

    def load_config(self) -> None:
        """For subclasses: put your settings in with ``self.cfg.set``."""
        raise NotImplementedError

    def load(self) -> Callable[..., Any]:
        """For subclasses: return the application."""
        raise NotImplementedError

    def reload_config(self) -> Config:
        """The settings as they are now outside; raises instead of ending the process (SIGHUP)."""
        old = self.cfg
        try:
            self.load_default_config()
            self.load_config()
            return self.cfg
        except BaseException:
            self.cfg = old
            raise

    def wsgi(self) -> Callable[..., Any]:
        """The application, loaded once in this process."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self) -> NoReturn:
        """Serves until told to stop, then exits the process with the server's exit code."""
        try:
            code = Arbiter(self).run()
        except (ConfigError, RuntimeError) as error:
            print(f"\nError: {error}\n", file=sys.stderr)
            sys.stderr.flush()
            code = 1
        sys.exit(code)


class Application(BaseApplication):
    """Settings from command line, environment and config file, as the command takes them."""

    application_spec: str | None = None

    def init(self, resolver: _native.Resolver) -> dict[str, Any] | None:
        """For subclasses: settings of the framework, weaker than the config file."""

    def load_config(self) -> None:
        """defaults < framework < config file < environment arguments < command line."""
        resolver = self._parse_command_line()
        self.application_spec = resolver.application()
        for name, value in (self.init(resolver) or {}).items():
            resolver.apply_framework(name, *as_raw(resolver, name, value))
        path = self._find_config_file(resolver.config_location())
        if path is not None:
            # A config file may import modules that lie beside the application.
            self._enter(os.path.abspath(resolver.chdir_hint() or util.getcwd()))
            self._apply_config_file(resolver, path)
        self.cfg = Config(resolver.finish())
        _refuse_what_is_missing(self.cfg)
        self.chdir()

    def _parse_command_line(self) -> _native.Resolver:
        try:
            return _native.Resolver(sys.argv[1:], dict(os.environ))
        except _native.CommandLineStop as stop:
            text, code = stop.args
        # `oxicorn --help | head` closes the pipe before everything is written.
        with contextlib.suppress(BrokenPipeError):
            print(text.rstrip("\n"), file=sys.stderr if code else sys.stdout)
        sys.exit(code)

    @staticmethod
    def _find_config_file(location: str | None) -> str | None:
        if location is not None:
            return location
        for name in _native.DEFAULT_CONFIG_FILES:
            path = os.path.join(util.getcwd(), name)
            if os.path.exists(path):
                return path
        return None

    @staticmethod
    def _enter(directory: str) -> None:
        if directory not in sys.path:
            sys.path.insert(0, directory)

    def _apply_config_file(self, resolver: _native.Resolver, location: str) -> None:
        values = self.get_config_from_location(location)
        known = resolver.names()
        for name, value in values.items():
            if name in known:
                try:
                    resolver.apply_file(name, *as_raw(resolver, name, value), location)
                except (TypeError, ValueError, ConfigError):
                    print(f"Invalid value for {name}: {value}", file=sys.stderr)
                    raise
            elif not name.startswith("_") and not _is_module_or_callable(value):
                _warn_of_misspelling(resolver, name, location)

    def get_config_from_location(self, location: str) -> dict[str, Any]:
        """Runs the config file or module and returns its global names."""
        if location.startswith("python:"):
            return vars(importlib.import_module(location.removeprefix("python:")))
        return self.get_config_from_filename(location.removeprefix("file:"))

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        """Executes the Python file ``filename`` as the module ``__config__``."""
        if not os.path.exists(filename):
            raise RuntimeError(f"{filename!r} doesn't exist")
        loader = importlib.machinery.SourceFileLoader(CONFIG_MODULE, filename)
        spec = importlib.util.spec_from_file_location(CONFIG_MODULE, filename, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[CONFIG_MODULE] = module
        try:
            # The source is read anew each time: a reload must see what is on disk now, and a
            # byte-code cache has the resolution of a second.
            exec(loader.source_to_code(loader.get_data(filename), filename), vars(module))
        except Exception:
            print(f"Failed to read config file: {filename}", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            raise _ConfigFileFailed from None
        return vars(module)

    def chdir(self) -> None:
        """Enters ``chdir`` and puts it first on the import path."""
        os.chdir(self.cfg.chdir)
        self._enter(self.cfg.chdir)

    def run(self) -> NoReturn:
        """Answers --print-config and --check-config, else serves."""
        if self.cfg.print_config:
            print(self.cfg.native.print_config())
        if self.cfg.print_config or self.cfg.check_config:
            self._check()
        if self.cfg.pythonpath:
            for path in self.cfg.pythonpath.split(","):
                self._enter(os.path.abspath(path))
        super().run()

    def _check(self) -> NoReturn:
        try:
            self.load()
        except Exception:
            print("\nError while loading the application:\n", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            sys.exit(1)
        sys.exit(0)


class _ConfigFileFailed(SystemExit):
    """The config file raised; its traceback has been shown."""

    def __init__(self) -> None:
        super().__init__(1)


def _is_module_or_callable(value: object) -> bool:
    return callable(value) or type(value).__name__ == "module"


def _warn_of_misspelling(resolver: _native.Resolver, name: str, location: str) -> None:
    meant = resolver.did_you_mean(name)
    if meant is not None:
        print(
            f"Warning: {location}: {name!r} is not a setting and has no effect; "
            f"did you mean {meant!r}?",
            file=sys.stderr,
        )


def _refuse_what_is_missing(cfg: Config) -> None:
    """Serving without these would be something else than what was asked for."""
    for line in cfg.native.not_available_yet():
        if line.partition(" ")[0] in NOT_WITHOUT:
            raise ConfigError(line)


def _refuse(error: BaseException) -> NoReturn:
    print(f"\nError: {error}\n", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(1)
