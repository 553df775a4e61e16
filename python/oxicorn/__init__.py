"""oxicorn: Gunicorn's contract with a better engine."""

from __future__ import annotations

from oxicorn._native import __version__

__all__ = ["SERVER", "SERVER_SOFTWARE", "__version__", "version_info"]

version_info: tuple[int, ...] = tuple(int(part) for part in __version__.split(".")[:3])

#: Value of the ``Server`` header.
SERVER = "oxicorn"
#: Value of the ``SERVER_SOFTWARE`` environ key and variable.
SERVER_SOFTWARE = f"oxicorn/{__version__}"
