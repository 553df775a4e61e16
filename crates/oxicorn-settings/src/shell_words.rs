//! Splits the content of `GUNICORN_CMD_ARGS` into arguments, as Python's `shlex.split` does.
