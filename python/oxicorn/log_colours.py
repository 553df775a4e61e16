"""Levels in colour, for the error log that a person at a terminal reads.

No colours where ``NO_COLOR`` is set (https://no-color.org) or ``TERM`` is ``dumb``.
"""

from __future__ import annotations

import logging
import os

from oxicorn.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LevelInColour", "formatter"]

_RED, _YELLOW, _GREY, _END = "\x1b[31m", "\x1b[33m", "\x1b[90m", "\x1b[0m"
#: Information, the most of it, stays as it is.
_COLOURS = {
    logging.CRITICAL: _RED,
    logging.ERROR: _RED,
    logging.WARNING: _YELLOW,
    logging.DEBUG: _GREY,
}


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
