"""An environment that has oxicorn and no Gunicorn: what hides an installed one hides how modules are found, too."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
import venv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import oxicorn

__all__ = ["python_without_gunicorn", "without_gunicorn"]


@functools.cache
def python_without_gunicorn(*packages: str) -> str:
    """The interpreter of an environment made once for the whole run: nothing but oxicorn is installed there, and those
    of this environment's ``packages``, with what they require.
    """
    place = Path(tempfile.mkdtemp(prefix="oxicorn-test-environment-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    venv.create(place, symlinks=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "oxicorn").symlink_to(Path(oxicorn.__file__).parent)
    for distribution in _with_requirements(packages):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():  # Some bring parts of a common one.
                (site / top).symlink_to(distribution.locate_file(top))  # type: ignore[arg-type]
    return str(place / "bin" / "python")


def _with_requirements(packages: Iterable[str]) -> Iterator[metadata.Distribution]:
    wanted, seen = [*packages], set[str]()
    while wanted:
        name = re.split("[^A-Za-z0-9._-]", wanted.pop())[0].lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # For another platform or version of Python.
        yield distribution
        wanted += [text for text in distribution.requires or () if "extra ==" not in text]


def without_gunicorn(*packages: str) -> dict[str, list[str]]:
    """Options for ``serve``: the server starts in that environment."""
    return {"command": [python_without_gunicorn(*packages), "-m", "oxicorn"]}
