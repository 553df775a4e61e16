"""Found by name in the working directory, as Gunicorn does."""

bind = "127.0.0.1:8000"
worker_class = "asgi"
workers = 1
accesslog = "-"
