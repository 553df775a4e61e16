"""The control socket: how a running server is asked and told, and the command ``oxicornctl``.

The protocol and the commands of Gunicorn 27 are a part of it, so its ``gunicornc`` works here.
"""
