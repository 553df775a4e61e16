"""The ``sync`` worker class: one request at a time, on the main thread."""

from __future__ import annotations

from oxicorn.workers.base import Worker

__all__ = ["SyncWorker"]


class SyncWorker(Worker):
    """Serves one request after the other."""

    def run(self) -> None:
        """Serves on this thread until stopped."""
        assert self.context is not None
        self.context.serve()
