"""Found by name in the working directory, as Gunicorn does."""

bind = "127.0.0.1:8000"
workers = 2
threads = 4
accesslog = "-"
max_requests = 10_000
max_requests_jitter = 1_000
