"""The ``sync`` worker class: one request at a time, on the main thread."""

from __future__ import annotations

from oxicorn.unused import unused
from oxicorn.workers.base import HANDLERS, SERVED, Worker

__all__ = ["SyncWorker"]


@unused(SERVED, *HANDLERS, "is_parent_alive", "run_for_multiple", "run_for_one", "wait")
class SyncWorker(Worker):
    """Serves one request after the other."""

    def run(self) -> None:
        """Serves on this thread until stopped."""
        assert self.context is not None
        self.context.serve()
