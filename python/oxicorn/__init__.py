"""oxicorn: Gunicorn's contract with a better engine."""

from __future__ import annotations

from oxicorn._native import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from typing_extensions import Unpack

    from oxicorn.settings import SettingsDict

__all__ = ["GUNICORN_VERSION", "SERVER", "SERVER_SOFTWARE", "__version__", "run", "version_info"]

version_info: tuple[int, ...] = tuple(int(part) for part in __version__.split(".")[:3])

#: Value of the ``Server`` header; empty: no such header.
SERVER = "oxicorn"
#: The release of Gunicorn whose settings, hooks and objects are kept.
GUNICORN_VERSION = "27.0.1"
#: Value of the ``SERVER_SOFTWARE`` environ key and variable. Applications ask it whether they run
#: under Gunicorn; several products in one value are RFC 3875's (section 4.1.17).
SERVER_SOFTWARE = f"gunicorn/{GUNICORN_VERSION} oxicorn/{__version__}"


def run(application: str | Callable[..., Any], /, **settings: Unpack[SettingsDict]) -> NoReturn:
    """Serves ``application``, a callable or ``"module:callable"``, until told to stop.

    ``settings`` are those of a config file by name: ``oxicorn.run(app, bind=":80", workers=4)``.
    Neither a command line nor ``GUNICORN_CMD_ARGS`` is read, and a config file only if the setting
    ``config`` names one; it is weaker than the arguments.

    Raises SystemExit with the server's exit code, as the command would have exited; the signal
    handlers are then what they were before. An application given by its name is imported in each
    worker and again by a reload; a callable is the one that was there when the server started.
    """
    from oxicorn.app.program import run  # only programs need it

    run(application, settings)
