"""Printing every line of Python as it runs (setting ``spew``), in Gunicorn's form."""

from __future__ import annotations

import linecache
import re
import sys
import threading
from collections.abc import Collection
from types import FrameType
from typing import Any

__all__ = ["Spew", "spew", "unspew"]

_NOT_A_NAME = re.compile(r"\W+")


class Spew:
    """A trace function: ``module:line: source``, and with ``show_values`` the names of the line."""

    def __init__(
        self, trace_names: Collection[str] | None = None, show_values: bool = True
    ) -> None:
        self.trace_names = trace_names
        self.show_values = show_values

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Spew:
        """What ``sys.settrace`` calls."""
        if event == "line":
            name = frame.f_globals.get("__name__", "[unknown]")
            if self.trace_names is None or name in self.trace_names:
                self._print(name, frame)
        return self

    def _print(self, name: str, frame: FrameType) -> None:
        code, number = frame.f_code, frame.f_lineno
        line = linecache.getline(code.co_filename, number, frame.f_globals).rstrip()
        if not line:
            line = f"Unknown code named [{code.co_name}].  VM instruction #{frame.f_lasti}"
        print(f"{name}:{number}: {line}")
        if self.show_values:
            values = [
                f"{word}={names[word]!r}"
                for word in _NOT_A_NAME.split(line)
                for names in (frame.f_globals, frame.f_locals)
                if word in names
            ]
            if values:
                print("\t" + " ".join(values))


def spew(trace_names: Collection[str] | None = None, show_values: bool = False) -> None:
    """From now on every line is printed: of this thread, and of those started later."""
    trace = Spew(trace_names, show_values)
    threading.settrace(trace)
    sys.settrace(trace)


def unspew() -> None:
    """No more."""
    threading.settrace(None)
    sys.settrace(None)
