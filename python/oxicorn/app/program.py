"""``oxicorn.run``: a server from within a Python program, without a command line."""

from __future__ import annotations

from oxicorn import _native, util
from oxicorn.app import config_file
from oxicorn.app.base import BaseApplication
from oxicorn.setting import OWN_SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from oxicorn.settings import SettingsDict

__all__ = ["Program", "run"]


class Program(BaseApplication):
    """Serves an application with settings given as arguments."""

    def __init__(self, target: str | Callable[..., Any], settings: SettingsDict) -> None:
        if not isinstance(target, str) and not callable(target):
            raise TypeError(f"the application must be a callable or its name, unlike {target!r}")
        for name in settings:
            own = {setting.name for setting in OWN_SETTINGS}
            if name not in own and name not in _native.setting_names():
                meant = _native.Resolver.did_you_mean(name)
                hint = f", did you mean {meant!r}?" if meant else ""
                raise TypeError(f"no setting is called {name!r}{hint}")
        self._target = target
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """defaults < config file < arguments."""
        self.cfg.set("default_proc_name", self._name())
        location = self._settings.get("config")
        if location is not None:
            config_file.apply(self.cfg, config_file.read(location), location)
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def _name(self) -> str:
        if isinstance(self._target, str):
            return self._target
        return str(getattr(self._target, "__name__", type(self._target).__name__))

    def load(self) -> Callable[..., Any]:
        """The application; a name is imported, so that a reload imports it again."""
        return util.import_app(self._target) if isinstance(self._target, str) else self._target


def run(target: str | Callable[..., Any], settings: SettingsDict) -> NoReturn:
    """See ``oxicorn.run``."""
    Program(target, settings).run()
