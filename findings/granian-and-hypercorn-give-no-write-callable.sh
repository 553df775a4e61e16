#!/usr/bin/env bash
# Granian 2.8.9 and Hypercorn 0.18.0 as WSGI servers: the callable that start_response() returns (PEP 3333, write()).
#
# Expected: old as it is, every WSGI server has it: the PEP requires it, and applications moved from Gunicorn, uWSGI,
# waitress or mod_wsgi may use it.
# Seen: start_response() returns None under both, so that the application fails and the answer is 500. waitress 3.0.2 and
# uvicorn 0.54.0 (--interface wsgi) have it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  granian==2.8.9 hypercorn==0.18.0 waitress==3.0.2 uvicorn==0.54.0

cat >"$folder/app.py" <<'PYTHON'
def app(environ, start_response):
    write = start_response("200 OK", [("Content-Length", "5")])
    write(b"hel")
    return [b"lo"]
PYTHON
cat >"$folder/ask.py" <<'PYTHON'
import http.client
import os
import socket
import subprocess
import sys
import time


def serve(*command):
    """Starts a server and waits until it accepts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bin_ = os.path.dirname(sys.executable)
    line = [part.replace("PORT", str(port)) for part in (f"{bin_}/{command[0]}", *command[1:])]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, port
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.05)


for name, command in {
    "granian": ("granian", "--interface", "wsgi", "--port", "PORT", "app:app"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:PORT", "wsgi:app:app"),
    "waitress": ("waitress-serve", "--listen=127.0.0.1:PORT", "app:app"),
    "uvicorn": ("uvicorn", "--port", "PORT", "--interface", "wsgi", "app:app"),
}.items():
    server, port = serve(*command)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", "/")
    print(name, client.getresponse().status)
    client.close()
    server.terminate()
    server.wait(20)
PYTHON
(cd "$folder" && "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
granian 500
hypercorn 500
waitress 200
uvicorn 200
EXPECTED
echo "still so"
