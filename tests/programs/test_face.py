"""Every public name of Gunicorn's modules: here with the same shape, or in docs/python-face.md with the reason.

What is walked is the installed package. A name counts where it is defined, not where it is imported to.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gunicorn
import pytest

import oxicorn.config
from oxicorn import compat

PAGE = Path(__file__).parent.parent.parent / "docs" / "python-face.md"
#: Modules of Gunicorn that cannot be imported without other packages: their names are not walked.
NEEDS_MORE = ("gunicorn.workers.ggevent",)


@pytest.fixture(autouse=True)
def only_ours(kind):
    if kind.is_gunicorn:
        pytest.skip("it is compared with itself")


def listed() -> list[str]:
    """The patterns of the page's tables, which are the first column of each row."""
    patterns = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `gunicorn"):
            patterns += re.findall(r"`([^`]+)`", line.split("|")[1])
    return patterns


def differences() -> Iterator[str]:
    """Each public name that is missing, or has another shape."""
    names = [name for _, name, _ in pkgutil.walk_packages(gunicorn.__path__, "gunicorn.", lambda name: None)]
    for name in ["gunicorn", *names]:
        inner = name.partition(".")[2]
        if inner and inner not in compat.SHARED:
            yield name
        elif name not in NEEDS_MORE:
            ours = importlib.import_module(f"oxicorn.{inner}" if inner else "oxicorn")
            yield from of_module(name, importlib.import_module(name), ours)


def of_module(name: str, theirs: ModuleType, ours: ModuleType) -> Iterator[str]:
    for attribute, value in vars(theirs).items():
        defined_here = getattr(value, "__module__", name) == name
        if attribute.startswith("_") or inspect.ismodule(value) or not defined_here:
            continue
        if isinstance(value, re.Pattern) or type(value).__module__ == "__future__":
            continue
        if not hasattr(ours, attribute):
            yield f"{name}.{attribute}"
        else:
            yield from of_name(f"{name}.{attribute}", value, getattr(ours, attribute))


def of_name(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    if inspect.isclass(theirs):
        if not inspect.isclass(ours):
            yield name
        else:
            yield from of_class(name, theirs, ours)
    elif callable(theirs) and not (callable(ours) and takes(ours, theirs)):
        yield name


def of_class(name: str, theirs: type, ours: type) -> Iterator[str]:
    for attribute in dir(theirs):
        if attribute.startswith("_"):
            continue
        their = inspect.getattr_static(theirs, attribute)
        known = hasattr(ours, attribute) or (ours is oxicorn.config.Config and hasattr(ours(), attribute))
        if not known:
            yield f"{name}.{attribute}"
        elif inspect.isfunction(their):
            our = inspect.getattr_static(ours, attribute)
            if not takes(our, their):
                yield f"{name}.{attribute}"
    if "__init__" in vars(theirs) and not issubclass(theirs, Exception) and not takes(ours.__init__, theirs.__init__):
        yield f"{name}.__init__"


def takes(ours: Any, theirs: Any) -> bool:
    """Whether ours can be called in each way theirs can: all arguments, the necessary ones, by name."""
    our = getattr(ours, "__func__", ours)
    variable = {inspect.Parameter.VAR_POSITIONAL}
    if isinstance(our, property) or variable & {p.kind for p in inspect.signature(theirs).parameters.values()}:
        return True
    try:
        mine, given = inspect.signature(our), inspect.signature(theirs)
    except (TypeError, ValueError):
        return True
    kinds = inspect.Parameter
    positional = [
        p for p in given.parameters.values() if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    necessary = [p for p in positional if p.default is kinds.empty]
    named = {p.name: 0 for p in positional[1:] if p.kind is kinds.POSITIONAL_OR_KEYWORD}
    try:
        mine.bind(*positional)
        mine.bind(*necessary)
        if len(positional) > 1:
            mine.bind(positional[0], **named)
    except TypeError:
        return False
    return True


def test_every_name_is_there_or_listed_with_its_reason():
    found, patterns = set(differences()), listed()
    unlisted = sorted(name for name in found if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    stale = sorted(pattern for pattern in patterns if not fnmatch.filter(found, pattern))
    assert (unlisted, stale) == ([], []), "missing and not in docs/python-face.md; there and not missing"
