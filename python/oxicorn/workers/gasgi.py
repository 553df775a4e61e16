"""Gunicorn's name of the ``asgi`` worker class."""

from oxicorn.workers.asgi import AsgiWorker as ASGIWorker

__all__ = ["ASGIWorker"]
