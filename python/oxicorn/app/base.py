"""From nothing to a running server: gather the settings, load the application, start the arbiter.

``BaseApplication`` is Gunicorn's seam for programs that bring their own settings and application;
``Application`` adds the command line and the config file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import types

from oxicorn import _native, compat, util
from oxicorn.app import config_file
from oxicorn.app.stdlib_first import import_hidden_by
from oxicorn.config import Config, as_raw, get_default_config_file
from oxicorn.daemon import Launch, detach
from oxicorn.errors import AppImportError, ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, NoReturn

    from oxicorn.glogging import Logger

__all__ = ["Application", "BaseApplication"]


class BaseApplication:
    """Holds the settings and the application; subclasses say where both come from."""

    cfg: Config

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        compat.install()
        compat.introduce()
        self.usage = usage
        self.prog = prog
        self.callable: Callable[..., Any] | None = None
        self.logger: Logger | None = None
        #: The working directory before the first ``chdir``, by the name it had then: where that is
        #: a symbolic link, a reload (and a successor) follows it to where it leads now.
        self.start_directory = util.getcwd()
        self._launch = Launch(None)
        #: Whether a running server reads the settings again: bad ones must not end it.
        self._is_reloading = False
        self.do_load_config()

    def do_load_config(self) -> None:
        """Loads the settings; a bad one ends the process with one line and exit code 1."""
        try:
            self._load_settings()
        except Exception as error:
            if self._is_reloading:
                raise
            _refuse(error)

    def _load_settings(self) -> None:
        try:
            self.load_default_config()
            self.load_config()
            self.cfg.validate()
            _refuse_unknown_class(self.cfg)
        except Exception as error:
            config_file.add_line(error)
            raise

    def load_default_config(self) -> None:
        """Starts from the defaults."""
        self.cfg = Config(self.usage, prog=self.prog)

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> dict[str, Any] | None:
        """For subclasses of ``Application``: settings weaker than the config file."""
        raise NotImplementedError

    def load_config(self) -> None:
        """For subclasses: put your settings in with ``self.cfg.set``."""
        raise NotImplementedError

    def load(self) -> Callable[..., Any]:
        """For subclasses: return the application."""
        raise NotImplementedError

    def reload(self) -> None:
        """Loads the settings again, as ``do_load_config``; called by a reload of the server."""
        self.do_load_config()
        if self.cfg.spew:
            from oxicorn import debug

            debug.spew()

    def reload_config(self) -> Config:
        """The settings as they are now outside; raises instead of ending the process (SIGHUP)."""
        old, directory = self.cfg, os.getcwd()
        self._is_reloading = True
        try:
            self.reload()
            return self.cfg
        except BaseException as error:
            self.cfg = old
            os.chdir(directory)
            if isinstance(error, SystemExit):
                raise RuntimeError(f"the application's reload() ended with {error!r}") from error
            raise
        finally:
            self._is_reloading = False

    def wsgi(self) -> Callable[..., Any]:
        """The application, loaded once in this process."""
        if self.callable is None:
            self.callable = self._load_with_metrics() if self.cfg.prometheus_client else self.load()
        return self.callable

    def _load_with_metrics(self) -> Callable[..., Any]:
        import logging

        from oxicorn import prometheus  # only this setting needs it

        prometheus.install()
        application = self.load()
        prometheus.tell_what_is_left_out(logging.getLogger("gunicorn.error"))
        return application

    def run(self) -> NoReturn:
        """Serves until told to stop, then raises SystemExit with the server's exit code.

        Whoever catches it finds the signal handlers as they were before.
        """
        handlers = _signal_handlers()
        started_in = os.getpid()
        try:
            from oxicorn.arbiter import (
                Arbiter,
            )  # most of what a server imports; --version needs none of it
            from oxicorn.streams import patient

            compat.introduce()
            with patient():
                Arbiter(self).run()
        except (ConfigError, RuntimeError) as error:
            text = _in_words(error)
            print(text, file=sys.stderr)
            sys.stderr.flush()
            self._launch.failed(text, 1)
            sys.exit(1)
        except Exception:
            import traceback

            self._launch.failed(traceback.format_exc(), 1)
            raise
        finally:
            if os.getpid() == started_in:
                _restore(handlers)

    def launched(self) -> None:
        """The server listens: a daemon lets go of the process that was started."""
        self._launch.succeeded()


class Application(BaseApplication):
    """Settings from command line, environment and config file, as the command takes them."""

    def load_default_config(self) -> None:
        """The defaults; relative paths mean the same in a reload as they did at the start."""
        # The directory of a release that was removed is no reason to refuse a reload.
        with contextlib.suppress(OSError):
            os.chdir(self.start_directory)
        super().load_default_config()

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> dict[str, Any] | None:
        """For subclasses: settings of the framework, weaker than the config file.

        ``opts`` has what the command line's flags say (None: nothing), ``args`` the rest.
        """

    def load_config(self) -> None:
        """defaults < framework < config file < environment arguments < command line."""
        sources = self.cfg.sources
        self._read_command_line()
        args = sources.positionals()
        given = {**dict.fromkeys(self.cfg.settings), **sources.given()}
        for _, said in self.cfg.own_arguments:
            given.update(said)
        opts = types.SimpleNamespace(**given, args=args)
        framework = self.init(_LazyParser(self.cfg), opts, args)  # type: ignore[arg-type]
        for name, value in (framework or {}).items():
            if name.lower() in self.cfg.own:
                self.cfg.set_own(name.lower(), value, "the program that runs the server")
                continue
            sources.apply_framework(name.lower(), *as_raw(name.lower(), value))
        location = sources.config_location() or get_default_config_file()
        if location is not None:
            # A config file may import modules that lie beside the application.
            self._enter(os.path.abspath(sources.chdir_hint() or self.cfg.chdir))
            self.load_config_from_file(location)
        sources.apply_arguments()
        self.cfg.apply_own_arguments()
        self.cfg.resolve_anew()
        self.chdir()

    def _read_command_line(self) -> None:
        arguments = sys.argv[1:]
        if self.cfg.own:
            arguments = self.cfg.take_own_arguments(arguments, "the command line")
        try:
            self.cfg.sources.read_arguments(arguments)
            return
        except _native.CommandLineStop as stop:
            text, code = stop.args
        if self.cfg.own and not {"-h", "--help"}.isdisjoint(arguments):
            text = f"{text.rstrip()}\n\n{self.cfg.own_parser().format_help()}"
        if self.prog is not None:
            import re

            text = re.sub(r"(?m)^(usage: )?oxicorn\b", rf"\1{self.prog}", text)
        # `oxicorn --help | head` closes the pipe before everything is written.
        with contextlib.suppress(BrokenPipeError):
            print(text.rstrip("\n"), file=sys.stderr if code else sys.stdout)
        sys.exit(code)

    @staticmethod
    def _enter(directory: str) -> None:
        if directory not in sys.path:
            import_hidden_by(directory)
            sys.path.insert(0, directory)

    def load_config_from_file(self, filename: str) -> dict[str, Any]:
        """As ``load_config_from_module_name_or_filename``."""
        return self.load_config_from_module_name_or_filename(filename)

    def load_config_from_module_name_or_filename(self, location: str) -> dict[str, Any]:
        """Runs ``PATH``, ``file:PATH`` or ``python:MODULE`` and applies its settings."""
        if location.startswith("python:"):
            values = self.get_config_from_module_name(location.removeprefix("python:"))
        else:
            values = self.get_config_from_filename(location.removeprefix("file:"))
        config_file.apply(self.cfg, values, location)
        return values

    def get_config_from_module_name(self, module_name: str) -> dict[str, Any]:
        """Imports the module and returns its global names."""
        return config_file.read_module(module_name)

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        """Runs the Python file and returns its global names."""
        return config_file.read_file(filename)

    def chdir(self) -> None:
        """Enters ``chdir`` and puts it first on the import path."""
        os.chdir(self.cfg.chdir)
        self._enter(self.cfg.chdir)

    def run(self) -> NoReturn:
        """Answers --print-config and --check-config, else serves."""
        if self.cfg.print_config:
            print(self.cfg)
        if self.cfg.pythonpath:
            for path in self.cfg.pythonpath.split(","):
                self._enter(os.path.abspath(path))
        if self.cfg.print_config or self.cfg.check_config:
            self._check()
        if self.cfg.spew:
            from oxicorn import debug

            debug.spew()
        if self.cfg.daemon:
            self._detach()
        super().run()

    def _detach(self) -> None:
        if os.environ.get("NOTIFY_SOCKET"):
            print(
                "Warning: you shouldn't specify `daemon = True` "
                "when launching by systemd with `Type = notify`",
                file=sys.stderr,
                flush=True,
            )
        self._launch = detach(self.cfg.enable_stdio_inheritance)

    def _check(self) -> NoReturn:
        for text in self.cfg.native.warnings():
            print(f"Warning: {text}", file=sys.stderr)
        from oxicorn.app import check  # needs most of what a server needs

        found = list(check.problems(self.cfg))
        for line in found:
            print(f"Error: {line}", file=sys.stderr)
        text, is_warning = check.temporary_files(self.cfg)
        if text:
            print(f"Warning: {text}" if is_warning else f"Note: {text}", file=sys.stderr)
        from oxicorn.app.trial import try_out

        is_served, reason = try_out(self._check_application, self.cfg.boot_timeout)
        if reason:
            print(f"Error: the application cannot be loaded: {reason}", file=sys.stderr)
        is_whole = self._check_heavy_applications()
        sys.exit(0 if is_served and is_whole and not found else 1)

    def _check_heavy_applications(self) -> bool:
        """Whether those of the pool can be imported, each in a process of its own, as in a worker.

        Says what is wrong.
        """
        from oxicorn.app import check
        from oxicorn.app.trial import try_out

        is_whole = True
        for path in check.heavy_paths(self.cfg):
            is_there, reason = try_out(
                functools.partial(check.heavy_application, path), self.cfg.boot_timeout
            )
            if reason:
                text = f"Error: dirty_apps: {path} cannot be loaded: {reason}"
                print(text, file=sys.stderr)
            is_whole &= is_there
        return is_whole

    def _check_application(self) -> bool:
        """Whether it can be loaded and served; says what there is to say of it."""
        from oxicorn.app import check

        try:
            application = self.load()
        except BaseException as error:
            self._print_load_failure(error)
            return False
        uri = getattr(self, "app_uri", None) or "given"
        text, is_error = check.application(self.cfg, application, uri)
        if text:
            print(f"Error: {text}" if is_error else f"Note: {text}", file=sys.stderr)
        return not is_error

    def _print_load_failure(self, error: BaseException) -> None:
        """The same words as in the error log when a worker cannot load the application."""
        import traceback

        from oxicorn import boot

        if sys.stderr is None:
            # The application has put it away; here is where its failure is told.
            sys.stderr = open(os.dup(2), "w")
        print("\nError while loading the application:\n", file=sys.stderr)
        if isinstance(error, AppImportError):
            print(boot.reason(error), file=sys.stderr)
        else:
            if isinstance(error, SystemExit):
                print(boot.reason(error), file=sys.stderr)
            debug = self.cfg.loglevel.lower() == "debug"
            traceback.print_exception(error if debug else boot.folded(error))
            if boot.is_not_found(error):
                print(f"\n(modules are looked for in {os.getcwd()})", file=sys.stderr)
        sys.stderr.flush()


class _LazyParser:
    """The argparse parser that ``init`` gets; made when it is used, which it hardly is."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        parser = self.__dict__.setdefault("_parser", self._cfg.parser())
        return getattr(parser, name)


def _refuse_unknown_class(cfg: Config) -> None:
    """Serving by another worker class would be something else than what was asked for."""
    text = cfg.native.unavailable_worker_class()
    if text is None:
        return
    path = cfg.native.file_of("worker_class")
    line = config_file.line_of(path, "worker_class") if path is not None else None
    raise ConfigError(text if line is None else text.replace("):", f", line {line}):", 1))


def _refuse(error: BaseException) -> NoReturn:
    text = str(error) if isinstance(error, config_file.ConfigFileFailed) else _in_words(error)
    print(text, file=sys.stderr)
    sys.stderr.flush()
    sys.exit(1)


def _in_words(error: BaseException) -> str:
    """As Gunicorn prints what keeps it from starting; some of its texts begin with the word."""
    return f"\nError: {str(error).removeprefix('Error: ')}\n"


def _signal_handlers() -> dict[int, Any]:
    """Python's handlers of this process; outside of the main thread there are none to restore."""
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        # SIGKILL and SIGSTOP have no handler, and None is one that Python did not set.
        with contextlib.suppress(OSError, ValueError, TypeError):
            signal.signal(number, handler)
