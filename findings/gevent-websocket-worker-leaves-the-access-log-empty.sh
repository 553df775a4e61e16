#!/usr/bin/env bash
# gevent-websocket 0.10.1 (geventwebsocket.gunicorn.workers.GeventWebSocketWorker) with Gunicorn 27.0.1 and gevent 26.9.0:
# who writes the access log.
#
# Expected: the class derives from Gunicorn's gevent class, so --access-logfile has a line for each request, and the
# environ has RAW_URI and gunicorn.sock as with -k gevent_pywsgi.
# Seen: its handler takes the place of Gunicorn's and calls neither Gunicorn's logger nor its get_environ(). Requests are
# answered, the access log stays empty, and both keys are missing. (Gunicorn's gevent classes also import packaging, which a
# plain installation of Gunicorn does not bring.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  gevent==26.9.0 gevent-websocket==0.10.1 gunicorn==27.0.1 packaging==26.4

cat >"$folder/app.py" <<'PYTHON'
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"yes" if "RAW_URI" in environ and "gunicorn.sock" in environ else b"no"]
PYTHON
cat >"$folder/ask.py" <<'PYTHON'
import os
import socket
import subprocess
import sys
import time
import urllib.request

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
seen = {}
for name in ("gevent_pywsgi", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"):
    log = f"{name}.log"
    server = subprocess.Popen(
        [f"{os.path.dirname(sys.executable)}/gunicorn", "-k", name, "-b", f"127.0.0.1:{port}", "--no-control-socket",
         "--access-logfile", log, "app:app"],
    )
    deadline = time.monotonic() + 20
    while True:
        try:
            keys = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    server.terminate()
    server.wait(20)
    with open(log) as file:
        seen[name.rpartition(".")[2]] = (keys, len(file.readlines()))
print(seen)
assert seen == {"gevent_pywsgi": ("yes", 1), "GeventWebSocketWorker": ("no", 0)}, "behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" ask.py
