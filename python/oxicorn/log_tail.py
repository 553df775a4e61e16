"""Warnings of every process, also where the dashboard shows them (setting ``dashboard``).

A handler beside those of the error log: whatever that writes, and where, stays as it is.
"""

from __future__ import annotations

import logging
import traceback

from oxicorn import _native

__all__ = ["attach"]


class TailHandler(logging.Handler):
    """Keeps the last lines in memory that the gateway reads."""

    def emit(self, record: logging.LogRecord) -> None:
        """The text, and of an exception what it is, without its frames."""
        try:
            text = record.getMessage()
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                last = "".join(traceback.format_exception_only(type(error), error)).strip()
                text = f"{text}\n{last}"
            _native.write_log_tail(record.created, min(record.levelno, 255), text)
        except Exception:
            self.handleError(record)


def attach(logger: logging.Logger) -> None:
    """From now on warnings of ``logger`` are kept, once each."""
    if not any(isinstance(handler, TailHandler) for handler in logger.handlers):
        logger.addHandler(TailHandler(logging.WARNING))
