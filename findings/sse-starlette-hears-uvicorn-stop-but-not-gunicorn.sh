#!/usr/bin/env bash
# sse-starlette 3.7.0 with Gunicorn 27.0.1 (-k asgi) and with uvicorn 0.54.0: what a stop does to open event streams.
#
# Expected: streams end when the server is told to stop, under either; the package's page says that it handles shutdown.
# Seen: it looks for an object with should_exit behind the process's SIGTERM handler. uvicorn has one, and the stream ends
# within a second. Gunicorn's own asgi worker has none: the stream goes on until graceful_timeout is over (6 s here), and
# then the worker is killed with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  sse-starlette==3.7.0 starlette==1.10.0 gunicorn==27.0.1 uvicorn==0.54.0

cat >"$folder/app.py" <<'PYTHON'
import asyncio

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route


async def ticks():
    while True:
        yield {"data": "tick"}
        await asyncio.sleep(0.1)


async def events(request):
    return EventSourceResponse(ticks())


app = Starlette(routes=[Route("/", events)])
PYTHON
cat >"$folder/stop.py" <<'PYTHON'
import os
import signal
import socket
import subprocess
import sys
import time

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
bin_ = os.path.dirname(sys.executable)
commands = {
    "uvicorn": [f"{bin_}/uvicorn", "--port", str(port), "--timeout-graceful-shutdown", "6", "app:app"],
    "gunicorn": [f"{bin_}/gunicorn", "-k", "asgi", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "6",
                 "--no-control-socket", "app:app"],
}
for name, command in commands.items():
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    client.settimeout(20)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    seen = b""
    while seen.count(b"tick") < 3:
        seen += client.recv(4096)
    start = time.monotonic()
    server.send_signal(signal.SIGTERM)
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        pass
    took = time.monotonic() - start
    server.wait(20)
    print(name, "ends the stream at once" if took < 3 else "lets it run until graceful_timeout")
PYTHON
(cd "$folder" && "$folder/venv/bin/python" stop.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
uvicorn ends the stream at once
gunicorn lets it run until graceful_timeout
EXPECTED
echo "still so"
