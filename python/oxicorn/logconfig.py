"""Users' configuration of Python's logging: a file, a JSON file or a dictionary.

Reading is apart from applying: a file that is missing or malformed is found out before anything of
the configuration in force is touched, and what was read once can be put in force again although the
file has changed since (a reload whose configuration turns out unusable falls back to the old one).
"""

from __future__ import annotations

import os
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

__all__ = ["CONFIG_DEFAULTS", "LoggingConfiguration", "read"]

_STREAM = "logging.StreamHandler"


def _server_logger(name: str, handler: str) -> dict[str, Any]:
    return {"level": "INFO", "handlers": [handler], "propagate": True, "qualname": name}


#: What ``logconfig_dict`` and ``logconfig_json`` are laid over, key by key of the first level.
CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": _server_logger("gunicorn.error", "error_console"),
        "gunicorn.access": _server_logger("gunicorn.access", "console"),
    },
    "handlers": {
        "console": {"class": _STREAM, "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {"class": _STREAM, "formatter": "generic", "stream": "ext://sys.stderr"},
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}


class LoggingConfiguration:
    """One configuration that was read, ready to be put in force as often as needed."""

    def __init__(self, name: str, apply: Callable[[], None]) -> None:
        self._name = name
        self._apply = apply
        #: What it changed: how loggers were before, and how they were left.
        self._changes: list[tuple[logging.Logger, _State, _State]] = []

    def apply(self) -> None:
        """Puts it in force; RuntimeError says what in it cannot be."""
        before = {logger: _State(logger) for logger in _all_loggers()}
        try:
            self._apply()
        except Exception as error:
            raise RuntimeError(f"{self._name} cannot be used: {_reasons(error)}") from error
        finally:
            fresh = _State(_new_logger())
            after = [(logger, _State(logger)) for logger in _all_loggers()]
            self._changes = [(one, before.get(one, fresh), state) for one, state in after]

    def withdraw(self) -> None:
        """Takes its handlers and levels back; what others have changed since stays."""
        for logger, before, after in self._changes:
            for handler in after.handlers:
                if handler not in before.handlers:
                    logger.removeHandler(handler)
            if _State(logger).switches == after.switches:
                level, logger.propagate, logger.disabled = before.switches
                logger.setLevel(level)
        self._changes = []


class _State:
    """What a configuration may change of a logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self.handlers = list(logger.handlers)
        self.switches = (logger.level, logger.propagate, logger.disabled)


def _new_logger() -> logging.Logger:
    import logging

    return logging.Logger("")


def _all_loggers() -> list[logging.Logger]:
    import logging  # who configures nothing does without

    return [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]


def read(cfg: Any) -> LoggingConfiguration | None:
    """What ``cfg`` asks for (a dictionary wins over JSON, JSON over a file); None: nothing.

    RuntimeError names the setting, the file and what is wrong with it.
    """
    if cfg.logconfig_dict:
        return _of_dictionary("logconfig_dict", cfg.logconfig_dict)
    if cfg.logconfig_json:
        return _of_json(cfg.logconfig_json)
    if cfg.logconfig:
        return _of_file(cfg.logconfig)
    return None


def _of_dictionary(name: str, user: Any) -> LoggingConfiguration:
    if not hasattr(user, "keys"):
        raise RuntimeError(f"{name} must hold a dictionary, not {type(user).__name__}")
    config = {**CONFIG_DEFAULTS, **user}

    def apply() -> None:
        from logging.config import dictConfig  # a large module that few need

        # dictConfig takes the dictionary apart while it works.
        dictConfig(_copied(config))

    return LoggingConfiguration(name, apply)


def _copied(value: Any) -> Any:
    """A copy of the containers only: streams and filters in them are the user's objects."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return list(value) if type(value) is list else value


def _of_json(path: str) -> LoggingConfiguration:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            user = json.load(file)
    except FileNotFoundError:
        raise RuntimeError(f"Error: log config '{path}' not found") from None
    except (OSError, ValueError) as error:
        raise RuntimeError(f"logconfig_json '{path}' cannot be read: {error}") from error
    return _of_dictionary(f"logconfig_json '{path}'", user)


def _of_file(path: str) -> LoggingConfiguration:
    import configparser
    import copy

    if not os.path.exists(path):
        raise RuntimeError(f"Error: log config '{path}' not found")
    names = {**CONFIG_DEFAULTS, "__file__": path, "here": os.path.dirname(path)}
    parser = configparser.ConfigParser(names)
    try:
        parser.read(path)
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise RuntimeError(f"logconfig '{path}' cannot be read: {error}") from error

    def apply() -> None:
        from logging.config import fileConfig

        fileConfig(copy.deepcopy(parser), disable_existing_loggers=False)

    return LoggingConfiguration(f"logconfig '{path}'", apply)


def _reasons(error: BaseException) -> str:
    """The error and what caused it, in one line: ``dictConfig`` hides the reason in the cause."""
    texts = [_reason(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        texts.append(_reason(error))
    return ": ".join(texts)


def _reason(error: BaseException) -> str:
    # The text of a KeyError is the key alone.
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return " ".join(str(error).split()) or type(error).__name__
