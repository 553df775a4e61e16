"""The config file: a Python file or module whose globals set the settings of their names.

``read`` runs it; ``apply`` hands its values to the settings; ``add_line`` finds the line of an
assignment, which only a refusal needs.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys

from oxicorn import _native
from oxicorn.config import as_raw
from oxicorn.errors import ConfigError, SettingRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from importlib.abc import InspectLoader
    from typing import Any

    from oxicorn.config import Config

__all__ = ["ConfigFileFailed", "add_line", "apply", "read", "read_file", "read_module"]

#: The name the file has while it runs, as with Gunicorn.
MODULE = "__config__"


class ConfigFileFailed(ConfigError):
    """The config file raised; the text has its traceback."""


def read(location: str) -> dict[str, Any]:
    """The global names of ``PATH``, ``file:PATH`` or ``python:MODULE`` after it has run."""
    if location.startswith("python:"):
        return read_module(location.removeprefix("python:"))
    return read_file(location.removeprefix("file:"))


def read_module(name: str) -> dict[str, Any]:
    """Imports the module anew: a reload must see what is on disk now."""
    before = sys.modules.pop(name, None)
    try:
        return vars(importlib.import_module(name))
    except BaseException as error:
        if before is not None:
            sys.modules[name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _failed(f"python:{name}", error) from None


def read_file(filename: str) -> dict[str, Any]:
    """Executes the Python file ``filename`` as the module ``__config__``."""
    if not os.path.exists(filename):
        raise RuntimeError(f"{filename!r} doesn't exist")
    loader = _loader(filename)
    spec = importlib.util.spec_from_file_location(MODULE, filename, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        exec(_code(loader, filename), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(filename, error) from None
    return vars(module)


def _loader(filename: str) -> InspectLoader:
    extension = os.path.splitext(filename)[1]
    if extension == ".pyc":
        return importlib.machinery.SourcelessFileLoader(MODULE, filename)
    if extension != ".py":
        print(
            f"Warning: {filename}: a config file is Python and should be called *.py",
            file=sys.stderr,
        )
    return importlib.machinery.SourceFileLoader(MODULE, filename)


def _code(loader: InspectLoader, filename: str) -> Any:
    """Compiled from the source each time: a byte-code cache has the resolution of a second."""
    if isinstance(loader, importlib.machinery.SourceFileLoader):
        return loader.source_to_code(loader.get_data(filename), filename)
    return loader.get_code(MODULE)


def _failed(location: str, error: BaseException) -> ConfigFileFailed:
    import traceback

    from oxicorn import boot

    text = "".join(traceback.format_exception(boot.folded(error))).rstrip("\n")
    return ConfigFileFailed(f"Failed to read config file: {location}\n{text}")


def apply(cfg: Config, values: dict[str, Any], location: str) -> None:
    """Hands the values to the settings; a name that looks like a setting's gets a warning."""
    for name, value in values.items():
        if name in cfg.own:
            cfg.set_own(name, value, location, location)
        elif name in cfg.settings:
            cfg.sources.apply_file(name, *as_raw(name, value, location, location), location)
        elif not name.startswith("_") and not _is_module_or_callable(value):
            _warn_of_misspelling(name, location)
    cfg.resolve_anew()


def _is_module_or_callable(value: object) -> bool:
    return callable(value) or type(value).__name__ == "module"


def _warn_of_misspelling(name: str, location: str) -> None:
    meant = _native.Resolver.did_you_mean(name)
    if meant is not None:
        line = line_of(location, name)
        place = location if line is None else f"{location}, line {line}"
        text = f"{name!r} is not a setting and has no effect; did you mean {meant!r}?"
        print(f"Warning: {place}: {text}", file=sys.stderr)


def add_line(error: BaseException) -> None:
    """Tells a refusal the line of the config file it comes from, if it comes from one."""
    if isinstance(error, SettingRefused) and error.path is not None:
        error.line = line_of(error.path, error.setting)


def line_of(location: str, name: str) -> int | None:
    """The last line of the config file ``location`` that binds the global ``name``."""
    import ast

    try:
        with open(_source_file(location), "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    return max((line for bound, line in _bindings(tree) if bound == name), default=None)


def _source_file(location: str) -> str:
    if location.startswith("python:"):
        module = sys.modules.get(location.removeprefix("python:"))
        return getattr(module, "__file__", None) or ""
    return location.removeprefix("file:")


def _bindings(node: ast.AST) -> list[tuple[str, int]]:
    """Every global a file binds, with its line; what a function binds inside is its own."""
    import ast

    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [(node.name, node.lineno)]
    if isinstance(node, ast.Name):
        return [(node.id, node.lineno)] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.alias):
        return [(node.asname or node.name.partition(".")[0], node.lineno)]
    if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return []
    return [binding for child in ast.iter_child_nodes(node) for binding in _bindings(child)]
