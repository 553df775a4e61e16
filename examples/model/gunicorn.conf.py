"""Found by name in the working directory, as Gunicorn does."""

dirty_apps = ["model:Iris"]
dirty_workers = 2
# Seconds that a prediction may take.
dirty_timeout = 30
# Calls that may wait for the model; one more is answered with 503.
dirty_queue_limit = 200
