"""What only a person at a terminal sees: where to look, and coloured levels (``log_colours``).

Nothing of it goes anywhere else: not into files, not into pipes (what a supervisor or a container
reads).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_terminal", "is_watched", "where_to_look"]

#: Hosts that stand for every interface: a browser on this machine goes to another name.
_EVERY_INTERFACE = ("http://0.0.0.0:", "http://[::]:")


def is_terminal(stream: Any) -> bool:
    """Whether a person reads ``stream``."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # none at all (pythonw), or closed
        return False


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
