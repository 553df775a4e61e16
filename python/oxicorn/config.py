"""``cfg``: the resolved settings as hooks and applications see them, with Gunicorn's attributes.

The table of settings, their validators and their defaults live in the native module; this file only
gives them Gunicorn's Python face and keeps what must stay Python objects (hooks).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from oxicorn import _native, util

__all__ = ["Config", "Setting"]


def _no_hook(*_args: object) -> None:
    """Stands in for every hook that is not set."""


class Setting:
    """One setting of a ``Config``: Gunicorn's ``cfg.settings[name]``."""

    def __init__(self, cfg: Config, name: str) -> None:
        self._cfg = cfg
        self.name = name

    @property
    def value(self) -> Any:
        """The value in force."""
        return self._cfg.get(self.name)

    def get(self) -> Any:
        """The value in force."""
        return self.value

    def set(self, value: Any) -> None:
        """Validates and stores a value; raises as ``Config.set``."""
        self._cfg.set(self.name, value)


class _SettingsView(Mapping[str, Setting]):
    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    def __getitem__(self, name: str) -> Setting:
        if name not in self._cfg._names:
            raise KeyError(name)
        return Setting(self._cfg, name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._cfg._names))

    def __len__(self) -> int:
        return len(self._cfg._names)


class Config:
    """All settings by attribute; they change through ``set``, so that none escapes validation."""

    native: _native.Settings
    env_orig: dict[str, str]
    _names: frozenset[str]

    def __init__(self, native: _native.Settings) -> None:
        values = self.__dict__
        values["native"] = native
        values["_names"] = frozenset(native.names())
        values["env_orig"] = os.environ.copy()

    def get(self, name: str) -> Any:
        """The value of setting ``name``; an unset hook gives a function that does nothing."""
        value = self.native.get(name)
        if value is None and self.native.is_hook(name):
            return _no_hook
        return value

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_names", ()):
            return self.get(name)
        raise AttributeError(f"No configuration setting for: {name}")

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.__dict__ and name in self._names:
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def set(self, name: str, value: object) -> None:
        """Validates ``value`` and puts it in force; AttributeError for unknown names."""
        if name not in self._names:
            raise AttributeError(f"No configuration setting for: {name}")
        self.native.set(name, *as_raw(self.native, name, value))

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Name -> ``Setting``, as programs that embed Gunicorn iterate it."""
        return _SettingsView(self)

    @property
    def worker_class_str(self) -> str:
        """The worker class in force: ``sync`` with more than one thread is ``gthread``."""
        return self.native.effective_worker_class()

    @property
    def worker_class(self) -> type:
        """The Python class whose instances hooks get as ``worker``."""
        from oxicorn.workers import worker_class

        return worker_class(self.worker_class_str)

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
    def is_ssl(self) -> bool:
        """Whether the listeners speak TLS."""
        return bool(self.get("certfile") or self.get("keyfile"))


def as_raw(
    native: _native.Settings | _native.Resolver, name: str, value: object
) -> tuple[Any, int | None]:
    """What the native table needs of a Python value: the value and, for a callable, its arity.

    Hooks may be given as ``"package.module.function"``; such strings are imported here.
    """
    if native.is_hook(name) and isinstance(value, str):
        value = util.load_object(value)
    if callable(value) and not isinstance(value, type):
        return value, util.get_arity(value)
    return value, None
