"""Applications of the pool: their base class, and how they are found (Gunicorn's
``gunicorn.dirty.app``)."""

from __future__ import annotations

import importlib
from typing import Any

from oxicorn.dirty.errors import DirtyAppError, DirtyAppNotFoundError

__all__ = [
    "DirtyApp",
    "get_app_workers_attribute",
    "load_dirty_app",
    "load_dirty_apps",
    "parse_dirty_app_spec",
    "refuse_other_classes",
    "workers_attribute",
]

#: What a class must have to be an application, whatever it derives from.
METHODS = ("init", "__call__", "close")


class DirtyApp:
    """An application of the pool; one object of it lives in each worker that has it.

    Deriving from this is not needed: a class with ``init``, ``__call__`` and ``close`` will do.
    """

    #: How many workers are to have it; None: all. ``module:Class:N`` in the settings goes first.
    workers: int | None = None

    def init(self) -> None:
        """Called once in the worker, before it is given calls: load the model here."""

    def __call__(self, action: str, *args: Any, **kwargs: Any) -> Any:
        """Runs a call: the method of the action's name.

        ValueError: there is none, or its name begins with an underscore.
        """
        method = None if action.startswith("_") else getattr(self, action, None)
        if method is None:
            raise ValueError(f"Unknown action: {action}")
        return method(*args, **kwargs)

    def close(self) -> None:
        """Called when the worker ends."""


def parse_dirty_app_spec(spec: str) -> tuple[str, int | None]:
    """Path and number of workers of ``module:Class`` or ``module:Class:N``.

    DirtyAppError: it is neither, or N is no number from 1 on.
    """
    parts = spec.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise DirtyAppError(
            f"Invalid import path format: {spec}. "
            "Expected 'module.path:ClassName' or 'module.path:ClassName:N'",
            app_path=spec,
        )
    if len(parts) == 2:
        return spec, None
    try:
        workers = int(parts[2])
    except ValueError:
        raise DirtyAppError(
            f"Invalid worker count in spec: {spec}. Expected integer, got '{parts[2]}'",
            app_path=spec,
        ) from None
    if workers < 1:
        raise DirtyAppError(
            f"Invalid worker count in spec: {spec}. Worker count must be >= 1, got {workers}",
            app_path=spec,
        )
    return f"{parts[0]}:{parts[1]}", workers


def _find(import_path: str) -> type[Any]:
    module_path, colon, name = import_path.rpartition(":")
    if not colon:
        raise DirtyAppError(
            f"Invalid import path format: {import_path}. Expected 'module.path:ClassName'",
            app_path=import_path,
        )
    try:
        found = getattr(importlib.import_module(module_path), name)
    except ModuleNotFoundError as error:
        # One that the module itself does not find is a fault of the module.
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise
        raise DirtyAppNotFoundError(import_path) from error
    except AttributeError as error:
        if getattr(error, "name", name) != name:
            raise
        raise DirtyAppNotFoundError(import_path) from None
    if not isinstance(found, type):
        raise DirtyAppError(f"{import_path} is not a class", app_path=import_path)
    return found


def load_dirty_app(import_path: str) -> Any:
    """An object of the class at ``import_path``; ``init`` is not called.

    DirtyAppNotFoundError: there is no such module or class. DirtyAppError: it cannot be made, or
    is no application.
    """
    found = _find(import_path)
    try:
        app = found()
    except Exception as error:
        text = f"Failed to instantiate {import_path}: {error}"
        raise DirtyAppError(text, app_path=import_path) from error
    for name in METHODS:
        if not callable(getattr(app, name, None)):
            text = f"{import_path} is missing required method: {name}"
            raise DirtyAppError(text, app_path=import_path)
    return app


def load_dirty_apps(import_paths: list[str]) -> dict[str, Any]:
    """The same for several, by their paths."""
    return {path: load_dirty_app(path) for path in import_paths}


def get_app_workers_attribute(import_path: str) -> int | None:
    """How many workers the class at ``import_path`` wants; None: all."""
    workers: int | None = getattr(_find(import_path), "workers", None)
    return workers


def workers_attribute(import_path: str) -> int | None:
    """The same. DirtyAppError: it is no number from 1 on."""
    wanted = get_app_workers_attribute(import_path)
    if wanted is not None and (not isinstance(wanted, int) or wanted < 1):
        text = f"{import_path}: workers = {wanted!r}, a number from 1 on was expected"
        raise DirtyAppError(text, app_path=import_path)
    return wanted


def refuse_other_classes(import_path: str) -> None:
    """DirtyAppError: what is at ``import_path`` is no application. No object of it is made."""
    found = _find(import_path)
    for name in METHODS:
        if not callable(getattr(found, name, None)):
            text = f"{import_path} is missing required method: {name}"
            raise DirtyAppError(text, app_path=import_path)
    workers_attribute(import_path)
