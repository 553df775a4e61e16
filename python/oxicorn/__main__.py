"""``python -m oxicorn``: the same as the ``oxicorn`` command."""

from oxicorn.app.wsgiapp import run

if __name__ == "__main__":
    run()
