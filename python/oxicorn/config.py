"""``cfg``: the settings as hooks, applications and embedding programs see them.

The table of settings, their validators and their defaults live in the native module; this file
gives them Gunicorn's attributes. A ``Config`` collects what sources say (``sources``) and resolves
it (``native``) when somebody asks for more than one value: only when everybody has spoken it is
known whether a default that was taken from the environment is needed at all.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Iterator, Mapping

from oxicorn import _native, compat, util
from oxicorn.errors import SettingRefused
from oxicorn.setting import (
    OWN_SETTINGS,
    Setting,
    class_of,
    known_settings,
    no_hook,
    table_setting,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import ipaddress
    from typing import Any

    from oxicorn.workers.chosen import Chosen

__all__ = ["Config", "Setting", "get_default_config_file", "make_settings"]

_HOOKS = frozenset(_native.hook_names())
_CLASSES = frozenset(_native.class_names())
_NAMES = frozenset(_native.setting_names())


#: Variables with arguments, the stronger one last.
_ARGUMENTS = ("GUNICORN_CMD_ARGS", "OXICORN_CMD_ARGS")
#: Names of the class that writes the logs where nobody asks for another.
STANDARD_LOGGERS = ("oxicorn.glogging.Logger", "gunicorn.glogging.Logger", "simple")
#: What it becomes where ``statsd_host`` is set.
STATSD_LOGGER = "oxicorn.instrument.statsd.Statsd"


def log_request(worker: Any, req: Any) -> None:
    """``pre_request`` where nobody sets another, at log level debug."""
    worker.log.debug("%s %s", req.method, req.path)


class _SettingsView(Mapping[str, Setting]):
    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    def __getitem__(self, name: str) -> Setting:
        if name in self._cfg.own:
            return self._cfg.own[name]
        if name not in _NAMES:
            raise KeyError(name)
        return table_setting(name)(self._cfg)

    def __contains__(self, name: object) -> bool:
        return name in _NAMES or name in self._cfg.own

    def __iter__(self) -> Iterator[str]:
        yield from _native.setting_names()
        yield from self._cfg.own

    def __len__(self) -> int:
        return len(_NAMES) + len(self._cfg.own)


class Config:
    """All settings by attribute; they change through ``set``, so that none escapes validation."""

    usage: str | None
    prog: str
    env_orig: dict[str, str]
    #: What everybody said.
    sources: _native.Resolver
    #: The settings that the program has defined, by name, and what the environment and the command
    #: line say about them.
    own: dict[str, Setting]
    own_arguments: list[tuple[str, dict[str, Any]]]

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        environment = dict(os.environ)
        self.__dict__.update(
            usage=usage,
            prog=prog or os.path.basename(sys.argv[0]),
            env_orig=environment,
            own={setting.name: setting() for setting in OWN_SETTINGS},
            own_arguments=[],
        )
        if self.own:
            environment = self._without_own_arguments(environment)
        self.__dict__["sources"] = _native.Resolver(environment)

    @functools.cached_property
    def native(self) -> _native.Settings:
        """The settings in force; SettingRefused if they cannot be used."""
        return self.sources.finish()

    def resolve_anew(self) -> None:
        """To be called after something was said to ``sources``."""
        self.__dict__.pop("native", None)

    def validate(self) -> None:
        """Checks what only shows when everything is known."""
        assert self.native is not None

    def get(self, name: str) -> Any:
        """The value of setting ``name``; an unset hook gives a function that does nothing."""
        if name in self.own:
            return self.own[name].get()
        value = self.__dict__.get("native", self.sources).get(name)
        if value is None and name in _HOOKS:
            return no_hook
        return value

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES or name in self.__dict__.get("own", ()):
            return self.get(name)
        raise AttributeError(f"No configuration setting for: {name}")

    def __setattr__(self, name: str, value: object) -> None:
        if name in _NAMES or name in self.own:
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        lines = [f"{name} = {setting.value}" for name, setting in self.own.items()]
        return "\n".join([self.native.print_config(), *lines])

    def set(self, name: str, value: object) -> None:
        """Validates ``value`` and puts it in force; AttributeError for unknown names."""
        if name in self.own:
            self.own[name].set(value)
            return
        if name not in _NAMES:
            raise AttributeError(f"No configuration setting for: {name}")
        said = as_raw(name, value)
        if "native" in self.__dict__:
            # Whoever sets a value while the server runs is told at once if it cannot be.
            self.native.set(name, *said)
        self.sources.set(name, *said)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Name -> ``Setting``, as programs that embed Gunicorn iterate it."""
        return _SettingsView(self)

    def parser(self) -> argparse.ArgumentParser:
        """An argparse parser with every flag, for programs with a command line of their own.

        The ``oxicorn`` command itself reads its arguments natively: the same flags, faster.
        """
        import argparse  # only those programs need it

        parser = argparse.ArgumentParser(usage=self.usage, prog=self.prog)
        version = f"%(prog)s (version {_native.__version__})\n"
        parser.add_argument("-v", "--version", action="version", version=version)
        parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
        for setting in self.settings.values():
            setting.add_option(parser)
        return parser

    def get_cmd_args_from_env(self) -> list[str]:
        """The arguments of ``GUNICORN_CMD_ARGS`` and ``OXICORN_CMD_ARGS``."""
        import shlex

        return [word for name in _ARGUMENTS for word in shlex.split(self.env_orig.get(name, ""))]

    # Settings that the program has defined.

    def own_parser(self) -> argparse.ArgumentParser:
        """Knows their flags and nothing else."""
        import argparse  # only programs with settings of their own need it

        parser = argparse.ArgumentParser(
            prog=self.prog, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False
        )
        for setting in self.own.values():
            setting.add_option(parser)
        return parser

    def take_own_arguments(self, arguments: list[str], source: str) -> list[str]:
        """Keeps what arguments say about them; the other arguments."""
        found, others = self.own_parser().parse_known_args(arguments)
        said = {name: value for name, value in vars(found).items() if value is not None}
        self.own_arguments.append((source, said))
        return others

    def _without_own_arguments(self, environment: dict[str, str]) -> dict[str, str]:
        import shlex

        arguments = {name: environment[name] for name in _ARGUMENTS if name in environment}
        for name, text in arguments.items():
            arguments[name] = shlex.join(self.take_own_arguments(shlex.split(text), name))
        return {**environment, **arguments}

    def apply_own_arguments(self) -> None:
        """Puts in force what environment and command line say about them, the latter last."""
        for source, said in self.own_arguments:
            for name, value in said.items():
                self.set_own(name, value, source)

    def set_own(self, name: str, value: object, source: str, path: str | None = None) -> None:
        """Sets one of them; SettingRefused says what its validator has against it."""
        try:
            self.own[name].set(value)
        except Exception as error:
            raise SettingRefused(name, repr(value), str(error), source, path) from error

    # What Gunicorn derives from settings.

    @property
    def worker_class_str(self) -> str:
        """The worker class in force: ``sync`` with more than one thread is ``gthread``."""
        asked = self.get("worker_class")
        if isinstance(asked, type):
            return asked.__name__
        known = self.__dict__.get("_chosen")
        if known is not None and known[0] is self.native and not self.native.is_set("worker_class"):
            return str(known[2].kind)
        return self.native.effective_worker_class()

    def settle(self, kind: str) -> None:
        """Takes the worker class ``kind``, since nobody has chosen one."""
        from oxicorn.workers.chosen import settled

        key = (self.get("worker_class"), self.get("threads"))
        self.__dict__["_chosen"] = (self.native, key, settled(self, kind))

    @property
    def worker_class(self) -> type:
        """The Python class whose instances hooks get as ``worker``."""
        return self.chosen.worker

    @property
    def chosen(self) -> Chosen:
        """That class and what there is to tell about it; it is loaded once."""
        key = (self.get("worker_class"), self.get("threads"))
        known = self.__dict__.get("_chosen")
        if known is None or known[0] is not self.native or known[1] != key:
            from oxicorn.workers.chosen import choose

            known = (self.native, key, choose(self))
            self.__dict__["_chosen"] = known
        chosen: Chosen = known[2]
        return chosen

    @property
    def logger_class(self) -> Any:
        """The class that writes the logs; RuntimeError if there is none by that name."""
        uri = self.get("logger_class")
        if uri in STANDARD_LOGGERS:
            statsd = self.get("statsd_host") is not None
            uri = STATSD_LOGGER if statsd else STANDARD_LOGGERS[0]
        elif uri == "gunicorn.instrument.statsd.Statsd":
            uri = STATSD_LOGGER
        if uri == STATSD_LOGGER:
            importlib.import_module(uri.rpartition(".")[0])
            compat.introduce()  # Who waits for the module may put another class in it.
        found = util.load_class(uri, section="gunicorn.loggers", what="logger_class")
        if hasattr(found, "install"):
            found.install()
        return found

    @property
    def address(self) -> list[Any]:
        """Bind addresses as Gunicorn gives them: ``(host, port)``, a path, or a descriptor."""
        return self.native.addresses()

    @property
    def proc_name(self) -> str:
        """The name shown in the process titles."""
        name = self.get("proc_name")
        return str(name if name is not None else self.get("default_proc_name"))

    @property
    def uid(self) -> int:
        """The numeric user of the workers."""
        return int(self.get("user"))

    @property
    def gid(self) -> int:
        """The numeric group of the workers."""
        return int(self.get("group"))

    @property
    def env(self) -> dict[str, str]:
        """``raw_env`` as a dictionary."""
        return dict(entry.split("=", 1) for entry in self.get("raw_env"))

    @property
    def paste_global_conf(self) -> dict[str, str]:
        """``raw_paste_global_conf`` as a dictionary; an ``=`` in a name is written ``\\=``."""
        import re

        pairs = (
            re.split(r"(?<!\\)=", entry, maxsplit=1) for entry in self.get("raw_paste_global_conf")
        )
        return {name.replace("\\=", "="): value.replace("\\=", "=") for name, value in pairs}

    @property
    def sendfile(self) -> bool:
        """Whether files are sent with sendfile: the setting, else the variable ``SENDFILE``."""
        return self.native.sendfile()

    @property
    def is_ssl(self) -> bool:
        """Whether listeners speak TLS, those of ``bind`` that do not say otherwise."""
        return bool(self.get("certfile") or self.get("keyfile"))

    @property
    def ssl_options(self) -> dict[str, Any]:
        """The settings of section SSL by name."""
        settings = self.settings.items()
        return {name: setting.get() for name, setting in settings if setting.section == "SSL"}

    def forwarded_allow_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """``forwarded_allow_ips`` as networks; ``*`` is none."""
        return _networks(self.get("forwarded_allow_ips"))

    def proxy_allow_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """``proxy_allow_ips`` as networks; ``*`` is none."""
        return _networks(self.get("proxy_allow_ips"))


def _networks(entries: list[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    import ipaddress

    return [ipaddress.ip_network(entry) for entry in entries if entry != "*"]


def as_raw(
    name: str,
    value: Any,
    source: str = "the program that runs the server",
    path: str | None = None,
) -> tuple[Any, int | None]:
    """What the native table needs of a Python value: the value and, for a hook, its arity.

    Hooks may be given as ``"package.module.function"`` and classes by a function that returns one;
    both are resolved here.
    """
    if name in _CLASSES and util.is_function(value):
        return value(), None
    if name not in _HOOKS:
        return value, None
    if isinstance(value, str):
        try:
            value = util.load_object(value)
        except TypeError as error:
            raise SettingRefused(name, repr(value), str(error), source, path) from error
    return value, util.get_arity(value) if callable(value) else None


def make_settings(ignore: tuple[str, ...] | None = None) -> dict[str, Setting]:
    """Every setting with its default, by name."""
    settings = Config().settings
    return {name: settings[name] for name in settings if name not in (ignore or ())}


def get_default_config_file() -> str | None:
    """The config file that is read where none is named, if there is one."""
    for name in _native.DEFAULT_CONFIG_FILES:
        path = os.path.join(util.getcwd(), name)
        if os.path.exists(path):
            return path
    return None


#: Constants of Gunicorn's module.
PLATFORM = sys.platform
VALID_HTTP_PROTOCOLS = frozenset(("h1", "h2"))
ALPN_PROTOCOL_MAP = {"h1": "http/1.1", "h2": "h2"}

#: What Gunicorn's module has and a server has no use for: name -> module.
_ELSEWHERE = {"auto_int": "setting", "SettingMeta": "setting", "reloader_engines": "reloader"}


def __getattr__(name: str) -> Any:
    """``AccessLogFormat`` and the like, each setting's class; ``KNOWN_SETTINGS``; validators."""
    if name == "KNOWN_SETTINGS":
        return known_settings()
    module = "validators" if name.startswith("validate_") else _ELSEWHERE.get(name)
    if module is not None:
        return getattr(importlib.import_module(f"oxicorn.{module}"), name)
    found = class_of(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
