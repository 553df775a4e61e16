#!/usr/bin/env bash
# What SIGTERM does to a request that is under way (it takes two seconds more): Hypercorn 0.18.0 with one worker and with two,
# waitress 3.0.2, daphne 4.2.3, uvicorn 0.54.0 with two workers, Granian 2.8.9.
#
# Expected: the server stops accepting, lets it end within its time for that (--graceful-timeout 20 of Hypercorn's), and
# ends itself.
# Seen: Hypercorn does so with one worker, and with --workers 2 breaks the connection off at once, whatever the setting.
# waitress has no handler for the signal and dies of it; daphne breaks off, too. uvicorn and Granian wait.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  hypercorn==0.18.0 waitress==3.0.2 daphne==4.2.3 uvicorn==0.54.0 granian==2.8.9

cat >"$folder/app.py" <<'PYTHON'
import asyncio
import time
from pathlib import Path


def wsgi(environ, start_response):
    Path("under-way").touch()
    time.sleep(2)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    Path("under-way").touch()
    await asyncio.sleep(2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})
PYTHON
cat >"$folder/ask.py" <<'PYTHON'
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


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


def answer_over_a_stop(server, port):
    mark = Path("under-way")
    mark.unlink(missing_ok=True)
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(20)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    deadline = time.monotonic() + 10
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.terminate()
    seen = b""
    try:
        while not seen.endswith(b"done") and (data := client.recv(4096)):
            seen += data
    except ConnectionError:
        pass
    server.wait(30)
    return "answered" if seen.endswith(b"done") else "broken off"


hypercorn = ("hypercorn", "-b", "127.0.0.1:PORT", "--graceful-timeout", "20")
for name, command in {
    "hypercorn": (*hypercorn, "app:asgi"),
    "hypercorn, two workers": (*hypercorn, "--workers", "2", "app:asgi"),
    "waitress": ("waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"),
    "daphne": ("daphne", "-p", "PORT", "app:asgi"),
    "uvicorn, two workers": ("uvicorn", "--port", "PORT", "--workers", "2", "app:asgi"),
    "granian": ("granian", "--interface", "asgi", "--port", "PORT", "app:asgi"),
}.items():
    server, port = serve(*command)
    print(f"{name}: {answer_over_a_stop(server, port)}")
PYTHON
(cd "$folder" && PYTHONPATH=. "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
hypercorn: answered
hypercorn, two workers: broken off
waitress: broken off
daphne: broken off
uvicorn, two workers: answered
granian: answered
EXPECTED
echo "still so"
