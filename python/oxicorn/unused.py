"""Methods of Gunicorn's classes that have no part in serving a request here, and who replaces them.

Requests come through the native module, so what Gunicorn's workers do in Python with a socket is
not called. The names are there, so that code which wraps them loads; whoever replaces one is told
once that it has no effect, and what to use instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    C = TypeVar("C", bound=type)

__all__ = ["overridden", "replaced", "unused", "unused_function", "used"]


class _Unused:
    __slots__ = ("advice", "module", "name", "owner", "stub")

    def __init__(self, module: str, owner: str, name: str, stub: Any, advice: str) -> None:
        self.module = module
        #: Name of the class; empty for a function of the module.
        self.owner = owner
        self.name = name
        self.stub = stub
        self.advice = advice


_registered: list[_Unused] = []


def _stub(module: str, owner: str, name: str, advice: str) -> Callable[..., Any]:
    what = ".".join(part for part in (owner, name) if part)

    def stub(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(f"{what} has no part in serving requests here: {advice}")

    stub.__name__, stub.__qualname__, stub.__module__ = name, what, module
    stub.__doc__ = f"Not called: {advice}."
    _registered.append(_Unused(module, owner, name, stub, advice))
    return stub


def unused(advice: str, *names: str) -> Callable[[C], C]:
    """Gives a class methods of these names that are not called; ``advice`` says what is."""

    def decorate(cls: C) -> C:
        for name in names:
            setattr(cls, name, _stub(cls.__module__, cls.__name__, name, advice))
        return cls

    return decorate


def unused_function(module: str, name: str, advice: str) -> Callable[..., Any]:
    """The same for a function of a module."""
    return _stub(module, "", name, advice)


def overridden(worker: type, base: type) -> Iterator[tuple[str, str]]:
    """What ``worker`` overrides of methods of ``base`` that are not called: names, and advice."""
    above = worker.__mro__[: worker.__mro__.index(base)]
    own = [cls for cls in above if not cls.__module__.startswith("oxicorn.")]
    below = {(cls.__module__, cls.__name__) for cls in base.__mro__}
    for entry in _registered:
        if (entry.module, entry.owner) in below and any(entry.name in vars(cls) for cls in own):
            yield entry.name, entry.advice


def used(worker: Any, base: type) -> Iterator[str]:
    """Methods of ``base`` that are not called, that ``worker.run`` takes of its ``self``.

    Those that ``worker`` has of its own do not count.
    """
    import dis  # few classes have functions to look at

    below = {(cls.__module__, cls.__name__) for cls in base.__mro__}
    stubs = [entry for entry in _registered if (entry.module, entry.owner) in below]
    names = {entry.name for entry in stubs if _static(worker, entry.name) is entry.stub}
    itself = worker.run.__code__.co_varnames[:1]
    last: Any = None
    for instruction in dis.get_instructions(worker.run):
        is_attribute = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
        of_itself = last is not None and last.opname.startswith("LOAD_FAST")
        if is_attribute and of_itself and (last.argval,) == itself and instruction.argval in names:
            yield str(instruction.argval)
        last = instruction


def replaced() -> Iterator[str]:
    """What a config file or an application has replaced in the modules; a sentence each."""
    for entry in _registered:
        place: Any = sys.modules.get(entry.module)
        if entry.owner:
            place = getattr(place, entry.owner, None)
        if place is not None and _static(place, entry.name) is not entry.stub:
            yield _sentence(entry)


def _static(place: Any, name: str) -> Any:
    """The attribute as it was put there, without binding it."""
    for namespace in getattr(place, "__mro__", (place,)):
        if name in vars(namespace):
            return vars(namespace)[name]
    return None


def _sentence(entry: _Unused) -> str:
    names = ("gunicorn", *entry.module.split(".")[1:], entry.owner, entry.name)
    what = ".".join(name for name in names if name)
    return f"{what} was replaced, which has no effect: {entry.advice}"
