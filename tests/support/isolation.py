"""An environment that has oxicorn and no Gunicorn: what hides an installed one hides how modules are found, too."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import venv
from pathlib import Path

import oxicorn

__all__ = ["python_without_gunicorn", "without_gunicorn"]


@functools.cache
def python_without_gunicorn() -> str:
    """The interpreter of an environment made once for the whole run; nothing but oxicorn is installed there."""
    place = Path(tempfile.mkdtemp(prefix="oxicorn-test-environment-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "oxicorn").symlink_to(Path(oxicorn.__file__).parent)
    return str(place / "bin" / "python")


def without_gunicorn() -> dict[str, list[str]]:
    """Options for ``serve``: the server starts in that environment."""
    return {"command": [python_without_gunicorn(), "-m", "oxicorn"]}
