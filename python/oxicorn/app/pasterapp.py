"""Paste Deploy: the application from an ini file (setting ``paste``), and the server of one.

``oxicorn --paste shop.ini`` loads ``[app:main]`` and leaves ``[server:main]`` alone. ``pserve
shop.ini`` runs what ``[server:main]`` names: with ``use = egg:oxicorn#main`` that is ``serve``.
"""

from __future__ import annotations

import configparser
import importlib
import os
from collections.abc import Callable
from typing import Any, NoReturn

from oxicorn.app.wsgiapp import WSGIApplication
from oxicorn.config import get_default_config_file
from oxicorn.errors import AppImportError

__all__ = ["get_wsgi_app", "has_logging_config", "serve"]


def get_wsgi_app(
    config_uri: str, name: str | None = None, defaults: dict[str, str] | None = None
) -> Callable[..., Any]:
    """The application of ``FILE[#NAME]``; ``defaults`` are further variables of the file."""
    try:
        # No part of oxicorn, and only this needs it.
        deploy = importlib.import_module("paste.deploy")
    except ImportError as error:
        raise AppImportError(
            "the setting paste needs Paste Deploy, which is not installed: pip install PasteDeploy"
        ) from error
    if ":" not in config_uri:
        config_uri = f"config:{config_uri}"
    application: Callable[..., Any] = deploy.loadapp(
        config_uri, name=name, relative_to=os.getcwd(), global_conf=defaults
    )
    return application


def has_logging_config(config_file: str) -> bool:
    """Whether the file configures Python's logging."""
    # Only section names are of interest: what stands in them is Paste Deploy's to understand.
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read([config_file])
    return parser.has_section("loggers")


def serve(app: Callable[..., Any], global_conf: dict[str, str], **local_conf: Any) -> NoReturn:
    """A Paste Deploy server runner: serves ``app`` with the settings of ``[server:...]``.

    Beside settings the section may have ``host`` and ``port``, and ``config``, the config file.
    """
    _PasteServer(app, global_conf["__file__"], local_conf).run()


class _PasteServer(WSGIApplication):
    def __init__(self, app: Callable[..., Any], ini_file: str, local_conf: dict[str, Any]) -> None:
        self._application = app
        self._ini_file = ini_file
        self._config_file = local_conf.pop("config", None)
        self._settings = {name.lower(): value for name, value in _with_bind(local_conf).items()}
        super().__init__()

    def load_config(self) -> None:
        """defaults < config file < the section of the server."""
        self.cfg.set("default_proc_name", self._ini_file)
        if has_logging_config(self._ini_file):
            self.cfg.set("logconfig", self._ini_file)
        config_file = self._config_file or get_default_config_file()
        if config_file is not None:
            self.load_config_from_file(config_file)
        for name, value in self._settings.items():
            if value is not None:
                self.cfg.set(name, value)
        self.chdir()

    def load(self) -> Callable[..., Any]:
        """The application the ini file has made already."""
        return self._application


def _with_bind(local_conf: dict[str, Any]) -> dict[str, Any]:
    """``host`` and ``port`` as the setting they stand for."""
    settings = dict(local_conf)
    host, port = settings.pop("host", ""), settings.pop("port", "")
    if host and port:
        settings["bind"] = f"{host}:{port}"
    elif host:
        settings["bind"] = host.split(",")
    return settings
