"""Finding the application: ``MODULE[:CALLABLE]`` as Gunicorn reads it.

``CALLABLE`` is a dotted attribute path or a call of a plain name with literal arguments
(``create_app("prod", debug=True)``). Nothing in it is evaluated as code.
"""

from __future__ import annotations

import importlib
import os
import sys
import types

from oxicorn import compat
from oxicorn.errors import AppImportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "get_arity",
    "getcwd",
    "import_app",
    "is_function",
    "load_class",
    "load_object",
    "other_groups",
    "set_owner_process",
]

DEFAULT_CALLABLE = "application"


def make_fail_app(text: str) -> Callable[..., Any]:
    """A WSGI application that answers every request with 500 and ``text``."""
    body = text.encode()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]

    return application


def getcwd() -> str:
    """The working directory, by its ``PWD`` name where that names the same directory.

    A deployment that switches a ``current`` symlink keeps the symlink's name this way.
    """
    cwd = os.getcwd()
    logical = os.environ.get("PWD", cwd)
    try:
        same = os.path.samefile(logical, cwd)
    except OSError:
        same = False
    return logical if same else cwd


def other_groups(uid: int, gid: int) -> list[int] | None:
    """All groups of ``uid`` and ``gid`` (setting ``initgroups``); None: nothing to change.

    A user without a name has no groups to look up.
    """
    import pwd  # only a change of the user needs it

    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return None
    return groups if set(groups) != set(os.getgroups()) else None


def set_owner_process(uid: int, gid: int, initgroups: bool = False) -> None:
    """This process becomes ``uid`` and ``gid``; PermissionError if it may not."""
    # Groups first: who has given up the user may not change them any more.
    groups = other_groups(uid, gid) if initgroups else None
    if groups is not None:
        os.setgroups(groups)
    if gid != os.getgid():
        os.setgid(gid)
    if uid != os.getuid():
        os.setuid(uid)


def __getattr__(name: str) -> Any:
    """What else ``gunicorn.util`` has; nobody here needs it."""
    from oxicorn import _gunicorn_util

    if name in _gunicorn_util.__all__:
        return getattr(_gunicorn_util, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_function(value: object) -> bool:
    """Whether ``value`` is a plain function or a method."""
    return isinstance(value, (types.FunctionType, types.MethodType))


def get_arity(function: Callable[..., Any]) -> int | None:
    """How many positional parameters ``function`` takes; None where Python cannot tell."""
    if isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__"):
        return function.__code__.co_argcount
    import inspect  # a large module that few hooks need

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


def load_object(path: str) -> Any:
    """The object named ``package.module.attribute``, as hooks in a config file may be given."""
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise TypeError(
            f"Value {path!r} is not import string. Format: module[.submodules...].object"
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise TypeError(f"Can not load {attribute!r} from {module_name!r}") from error


def load_class(
    uri: Any, default: str | None = None, section: str = "gunicorn.workers", what: str = "class"
) -> Any:
    """A class given as itself, by its dotted path, or as entry point of an installed distribution.

    ``egg:DISTRIBUTION#NAME`` and a bare ``NAME`` are entry points of the group ``section``.
    RuntimeError says what ``what`` was and why there is no such class.
    """
    if isinstance(uri, type):
        return uri
    found = None
    try:
        module_name, _, attribute = uri.rpartition(".")
        if uri.startswith("egg:") or not module_name:
            found = _load_entry_point(uri, default, section)
        else:
            found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        missing = compat.missing(error)
        reason = f"{type(error).__name__}: {error}"
        if missing is not None:
            reason = f"it needs {missing}, which is not here (docs/python-face.md says why)"
        raise RuntimeError(f"{what} {uri!r} invalid or not found: {reason}") from error
    if not callable(found):
        raise RuntimeError(f"{what} {uri!r} is no class but a {type(found).__name__}")
    return found


def _load_entry_point(uri: str, default: str | None, section: str) -> Any:
    from importlib import metadata  # slow to load, and seldom needed

    if uri.startswith("egg:"):
        distribution, _, name = uri.removeprefix("egg:").partition("#")
        points: Any = metadata.distribution(distribution).entry_points
    else:
        name, points = uri, metadata.entry_points()
    for point in points.select(group=section, name=name or default):
        return point.load()
    raise LookupError(f"no entry point {name or default!r} in the group {section!r}")


def import_app(spec: str) -> Callable[..., Any]:
    """Imports the application named by ``spec``; AppImportError says what is wrong with it."""
    module_name, _, expression = spec.partition(":")
    module = _import_module(module_name, expression)
    name, call = _parse_expression(expression or DEFAULT_CALLABLE)
    found = _find_attribute(module, name)
    application = _call_factory(found, name, call) if call is not None else found
    if application is None:
        raise AppImportError(f"Failed to find application object: {expression or name!r}")
    if not callable(application):
        raise AppImportError("Application object must be callable.")
    return application  # type: ignore[no-any-return]


def _import_module(name: str, expression: str) -> Any:
    try:
        if name.startswith("."):
            raise ImportError(f"{name!r} is not the name of a module")
        return importlib.import_module(name)
    except ImportError:
        # `oxicorn app.py` is a frequent slip: say what was meant instead of "no module named py".
        meant = _module_at(name)
        if meant is None:
            if name.endswith(".ini"):
                raise ImportError(
                    f"{name!r} is no module: write its settings into gunicorn.conf.py, which is "
                    "found by itself (see docs/from-uwsgi.md); a file of Paste Deploy is "
                    "named by --paste"
                ) from None
            raise
        hint = f"{meant}:{expression or '<attribute>'}"
        raise ImportError(f"Failed to find application, did you mean '{hint}'?") from None


def _module_at(path: str) -> str | None:
    """The module's name where a path is written instead: ``./shop/app.py`` is ``shop.app``."""
    if not path.endswith(".py") and os.sep not in path:
        return None
    relative = os.path.relpath(path.removesuffix(".py"))
    parts = relative.split(os.sep)
    is_there = os.path.exists(path) or os.path.exists(path + ".py")
    return ".".join(parts) if is_there and all(part.isidentifier() for part in parts) else None


def _parse_expression(text: str) -> tuple[str, ast.Call | None]:
    """Splits CALLABLE into the attribute path and, for a factory, its call."""
    if all(part.isidentifier() for part in text.split(".")):
        return text, None
    import ast  # only factories need it

    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise AppImportError(
            f"Failed to parse {text!r} as an attribute name or function call."
        ) from None
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            raise AppImportError(f"Function reference must be a simple name: {text!r}")
        return node.func.id, node
    raise AppImportError(f"Failed to parse {text!r} as an attribute name or function call.")


def _find_attribute(module: Any, path: str) -> Any:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppImportError(
                f"Failed to find attribute {path!r} in {module.__name__!r}."
            ) from None
    return found


def _call_factory(factory: Any, name: str, call: ast.Call) -> Any:
    import ast

    try:
        args = [ast.literal_eval(arg) for arg in call.args]
        kwargs = {kw.arg: ast.literal_eval(kw.value) for kw in call.keywords if kw.arg}
    except ValueError:
        raise AppImportError(
            f"Failed to parse arguments as literal values: {ast.unparse(call)!r}"
        ) from None
    try:
        return factory(*args, **kwargs)
    except TypeError as error:
        # Only a wrong call is the command line's fault; a TypeError from inside the factory is not.
        if _raised_by_the_call_itself():
            raise AppImportError(f"Failed to call {name!r}: {error}") from error
        raise


def _raised_by_the_call_itself() -> bool:
    import traceback

    return len(traceback.extract_tb(sys.exc_info()[2])) == 1
