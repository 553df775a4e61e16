#!/usr/bin/env bash
# Hypercorn 0.18.0 as a WSGI server (wsgi:app:app) with Flask 3.1.3: answers that have no body.
#
# Expected: HEAD, and a view that returns 204, are answered as under any WSGI server.
# Seen: both are 500. Hypercorn sends the head when the first piece of the body comes; Werkzeug gives an iterable without
# pieces for HEAD, 204 and 304, so the head is never sent and the end of the body is refused by its own state machine. A
# redirect, whose body is empty but one piece, is well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install hypercorn==0.18.0 flask==3.1.3

cat >"$folder/app.py" <<'PYTHON'
from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "hello"


@app.get("/deleted")
def deleted():
    return "", 204


@app.get("/moved")
def moved():
    return "", 302, {"Location": "/"}
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


server, port = serve("hypercorn", "-b", "127.0.0.1:PORT", "wsgi:app:app")
for method, path in [("GET", "/"), ("HEAD", "/"), ("GET", "/deleted"), ("GET", "/moved")]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request(method, path)
    print(method, path, client.getresponse().status)
    client.close()
server.terminate()
server.wait(20)
PYTHON
(cd "$folder" && "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
GET / 200
HEAD / 500
GET /deleted 500
GET /moved 302
EXPECTED
echo "still so"
