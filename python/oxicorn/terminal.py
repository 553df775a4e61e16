"""What only a person at a terminal sees: coloured levels, and where to look.

Nothing of it goes anywhere else: not into files, not into pipes (what a supervisor or a container
reads), and no colours where ``NO_COLOR`` is set (https://no-color.org) or ``TERM`` is ``dumb``.
"""

from __future__ import annotations

import logging
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LevelInColour", "formatter", "is_terminal", "is_watched", "where_to_look"]

_RED, _YELLOW, _GREY, _END = "\x1b[31m", "\x1b[33m", "\x1b[90m", "\x1b[0m"
#: Information, the most of it, stays as it is.
_COLOURS = {
    logging.CRITICAL: _RED,
    logging.ERROR: _RED,
    logging.WARNING: _YELLOW,
    logging.DEBUG: _GREY,
}
#: Hosts that stand for every interface: a browser on this machine goes to another name.
_EVERY_INTERFACE = ("http://0.0.0.0:", "http://[::]:")


def is_terminal(stream: Any) -> bool:
    """Whether a person reads ``stream``."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # none at all (pythonw), or closed
        return False


def formatter(stream: Any, fmt: str, datefmt: str) -> logging.Formatter:
    """How the error log's lines are formatted for ``stream``."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    kind = LevelInColour if wanted and is_terminal(stream) else logging.Formatter
    return kind(fmt, datefmt)


class LevelInColour(logging.Formatter):
    """The level's word in its colour, the rest as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines, of ``record``."""
        text = super().format(record)
        colour, word = _COLOURS.get(record.levelno), f"[{record.levelname}]"
        return text if colour is None else text.replace(word, f"{colour}{word}{_END}", 1)


def where_to_look(listeners: list[str]) -> str:
    """The line for who has just started a server in a terminal: its address, how to stop it."""
    address = next((text for text in listeners if text.startswith("http://")), listeners[0])
    for start in _EVERY_INTERFACE:
        if address.startswith(start):
            address = f"http://localhost:{address.removeprefix(start)}"
    return f"Serving at {address} (Ctrl-C stops)"


def is_watched(cfg: Any) -> bool:
    """Whether the error log is what a person at a terminal reads."""
    return cfg.errorlog == "-" and not cfg.daemon and is_terminal(sys.stderr)
