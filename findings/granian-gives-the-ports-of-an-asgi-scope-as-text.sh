#!/usr/bin/env bash
# Granian 2.8.9: the type of the ports in an ASGI scope.
#
# Expected (ASGI, HTTP connection scope): client and server are pairs of a text and a whole number, as uvicorn 0.54.0 and
# Hypercorn 0.18.0 give them.
# Seen: with Granian both ports are texts. What compares them with numbers, sorts by them or writes them as %d, and type
# checks of a logger's, behave otherwise after a change of the server.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install granian==2.8.9 uvicorn==0.54.0 hypercorn==0.18.0

cat >"$folder/app.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body = " ".join(type(scope[end][1]).__name__ for end in ("client", "server")).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
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
    "granian": ("granian", "--interface", "asgi", "--port", "PORT", "app:app"),
    "uvicorn": ("uvicorn", "--port", "PORT", "app:app"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:PORT", "app:app"),
}.items():
    server, port = serve(*command)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", "/")
    print(name, client.getresponse().read().decode())
    client.close()
    server.terminate()
    server.wait(20)
PYTHON
(cd "$folder" && PYTHONPATH=. "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
granian str str
uvicorn int int
hypercorn int int
EXPECTED
echo "still so"
