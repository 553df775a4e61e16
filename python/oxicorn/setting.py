"""``Setting``: a class for each setting, as programs that look at Gunicorn's settings find them.

The rows of the table become classes when somebody asks for them. A subclass of ``Setting`` that a
program defines before it makes its application is a setting of its own: with flags on the command
line, a name in the config file and an attribute of ``cfg``.
"""

from __future__ import annotations

import functools

from oxicorn import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from oxicorn.config import Config

__all__ = ["OWN_SETTINGS", "Setting", "SettingMeta", "known_settings", "table_setting"]

#: Those that the program has defined, in that order.
OWN_SETTINGS: list[type[Setting]] = []
#: Gunicorn's names of classes that are not made of the setting's name.
CLASS_NAMES = {
    "BacklogMetric": "enable_backlog_metric",
    "ConfigCheck": "check_config",
    "ConfigFile": "config",
    "Env": "raw_env",
    "NewSSLContext": "ssl_context",
    "NumWorkersChanged": "nworkers_changed",
    "PasteGlobalConf": "raw_paste_global_conf",
    "ProxyAllowFrom": "proxy_allow_ips",
    "SecureSchemeHeader": "secure_scheme_headers",
    "SyslogTo": "syslog_addr",
    "UWSGIAllowFrom": "uwsgi_allow_ips",
    "WorkerThreads": "threads",
}
#: What a row of the table leaves out.
ABSENT = ("cli", "meta", "type", "action", "nargs", "const")


class SettingMeta(type):
    """Registers each subclass of ``Setting``."""

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        attrs: dict[str, Any],
        *,
        of_table: bool = False,
    ) -> SettingMeta:
        if not bases or of_table:
            return super().__new__(cls, name, bases, attrs)
        setting = attrs.get("name")
        if not isinstance(setting, str) or not callable(attrs.get("validator")):
            raise TypeError(f"the setting {name} needs a name and a validator")
        if setting in _native.setting_names():
            raise TypeError(f"there is a setting {setting!r} already; set its value instead")
        attrs["validator"] = staticmethod(attrs["validator"])
        attrs["order"] = len(known_settings())
        made: Any = super().__new__(cls, name, bases, attrs)
        made.fmt_desc(attrs.get("desc") or "")
        OWN_SETTINGS.append(made)
        known_settings().append(made)
        return made  # type: ignore[no-any-return]

    def fmt_desc(cls, desc: str) -> None:
        """Takes ``desc`` as the description, and its first line as the short one."""
        import textwrap  # only settings of one's own need it

        text = textwrap.dedent(desc).strip()
        cls.desc, cls.short = text, text.partition("\n")[0]


class Setting(metaclass=SettingMeta):
    """One setting: what is said about it as attributes of the class, its value in the object."""

    name: Any = None
    section: str | None = None
    cli: Any = None
    validator: Any = None
    type: Any = None
    meta: str | None = None
    action: str | None = None
    nargs: str | int | None = None
    const: Any = None
    default: Any = None
    short: str | None = None
    desc: str | None = None
    value: Any = None
    order: int

    def __init__(self) -> None:
        if self.default is not None:
            self.set(self.default)

    def get(self) -> Any:
        """The value in force."""
        return self.value

    def set(self, val: Any) -> None:
        """Validates and stores a value; raises what the validator raises."""
        self.value = self.validator(val)

    def copy(self) -> Setting:
        """The same with a value of its own."""
        import copy

        return copy.copy(self)

    def add_option(self, parser: argparse.ArgumentParser) -> None:
        """Adds the setting's flags, if it has any, to an argparse parser."""
        if not self.cli:
            return
        options: dict[str, Any] = {"dest": self.name, "action": self.action or "store"}
        if options["action"] == "store":
            options["type"] = self.type or str
        for key, value in (("metavar", self.meta), ("nargs", self.nargs), ("const", self.const)):
            if value is not None:
                options[key] = value
        text = f"{self.short} [{self.default}]".replace("%", "%%")
        parser.add_argument(*self.cli, default=None, help=text, **options)

    def __lt__(self, other: Setting) -> bool:
        return self.section == other.section and self.order < other.order

    def __repr__(self) -> str:
        return f"<Setting {self.name} with value {self.value!r}>"


class _TableSetting(Setting, of_table=True):
    """A row of the table. Its value is that of the ``Config`` it belongs to."""

    def __init__(self, cfg: Config | None = None) -> None:
        if cfg is None:
            from oxicorn.config import Config

            cfg = Config()
        self._cfg = cfg

    @property
    def value(self) -> Any:
        """The value in force."""
        return self._cfg.get(self.name)

    def set(self, val: Any) -> None:
        """Validates and stores a value; raises as ``Config.set``."""
        self._cfg.set(self.name, val)

    def copy(self) -> Setting:
        """The same with a value of its own."""
        made = type(self)()
        if self.value != made.value:
            made.set(self.value)
        return made


@functools.cache
def table_setting(name: str) -> type[_TableSetting]:
    """The class of a row.

    Beside Gunicorn's attributes it has ``allowed``, ``own``, ``since``, ``reloads`` and ``parity``.
    """
    row = {**dict.fromkeys(ABSENT), **_native.setting_row(name)}
    row["type"] = {"int": int, "auto_int": auto_int}.get(row["type"] or "")
    if name in _native.hook_names():
        row["default"] = no_hook
        row[name] = staticmethod(no_hook)

    def validator(value: Any) -> Any:
        return validated(name, value)

    attrs = {
        **row,
        "name": name,
        "order": _native.setting_names().index(name),
        "validator": staticmethod(validator),
        "__module__": "oxicorn.config",
        "__doc__": row["short"],
    }
    title = next((title for title, of in CLASS_NAMES.items() if of == name), None)
    title = title or "".join(part.capitalize() for part in name.split("_"))
    return SettingMeta(title, (_TableSetting,), attrs, of_table=True)  # type: ignore[return-value]


def class_of(title: str) -> type[Setting] | None:
    """The class that Gunicorn calls so: ``AccessLogFormat`` and the like."""
    folded = {name.replace("_", ""): name for name in _native.setting_names()}
    name = CLASS_NAMES.get(title) or folded.get(title.lower())
    return table_setting(name) if name is not None and title[:1].isupper() else None


@functools.cache
def known_settings() -> list[type[Setting]]:
    """Every setting's class, in the order of the table; those of the program behind it."""
    return [table_setting(name) for name in _native.setting_names()]


def validated(name: str, value: Any) -> Any:
    """What the setting ``name`` makes of a value; raises as ``Config.set``."""
    from oxicorn.config import Config

    cfg = Config()
    cfg.set(name, value)
    return cfg.get(name)


def no_hook(*_args: object, **_named: object) -> None:
    """Stands in for every hook that is not set."""


def auto_int(_: Any, x: str | None = None) -> int:
    """A number in any base; a leading 0 means octal, as file modes are written.

    As an attribute of a setting it gets the setting first, and an argument parser gives it the text
    alone.
    """
    text = str(_ if x is None else x)
    if len(text) > 1 and text[0] == "0" and text[1].isdigit():
        text = f"0o{text[1:]}"
    return int(text, 0)
