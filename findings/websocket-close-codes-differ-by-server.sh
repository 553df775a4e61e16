#!/usr/bin/env bash
# The code of websocket.disconnect: Hypercorn 0.18.0, Granian 2.8.9, uvicorn 0.54.0 (websockets 17.4), daphne 4.2.3.
#
# Expected (RFC 6455, 7.1.5; ASGI): the client's code and reason where it sent a close frame; 1005 where the frame had no
# code; 1006 where the connection broke without one.
# Seen: Hypercorn says 1006, abnormal, for all three, so an application behind it never learns the client's code. Granian and
# uvicorn say 1005 where the connection broke, so a lost client looks like a polite one. daphne gives None for a frame
# without a code. Granian gives no reason.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  hypercorn==0.18.0 granian==2.8.9 uvicorn==0.54.0 websockets==17.4 daphne==4.2.3

cat >"$folder/app.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        pass
    code, reason = event["code"], event.get("reason")
    with open("seen-by-application", "a") as file:
        file.write(f"{code if code is None else int(code)}{' ' + reason if reason else ''}\n")
PYTHON
cat >"$folder/ask.py" <<'PYTHON'
import os
import socket
import struct
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


def told_to_application(port, last_frame):
    seen = Path("seen-by-application")
    seen.unlink(missing_ok=True)
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(20)
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(4096)
    client.sendall(last_frame)
    if not last_frame:
        client.close()
    deadline = time.monotonic() + 10
    while not seen.exists() or not seen.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.close()
    return seen.read_text().strip()


def close_frame(payload):
    return bytes([0x88, 0x80 | len(payload), 0, 0, 0, 0]) + payload


for name, command in {
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:PORT", "app:app"),
    "granian": ("granian", "--interface", "asginl", "--port", "PORT", "app:app"),
    "uvicorn": ("uvicorn", "--port", "PORT", "--lifespan", "off", "app:app"),
    "daphne": ("daphne", "-p", "PORT", "app:app"),
}.items():
    server, port = serve(*command)
    for what, frame in {
        "1001 with a reason": close_frame(struct.pack(">H", 1001) + b"gone"),
        "no code": close_frame(b""),
        "broken": b"",
    }.items():
        print(f"{name}: {what}: {told_to_application(port, frame)}")
    server.terminate()
    server.wait(20)
PYTHON
(cd "$folder" && PYTHONPATH=. "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
hypercorn: 1001 with a reason: 1006
hypercorn: no code: 1006
hypercorn: broken: 1006
granian: 1001 with a reason: 1001
granian: no code: 1005
granian: broken: 1005
uvicorn: 1001 with a reason: 1001 gone
uvicorn: no code: 1005
uvicorn: broken: 1005
daphne: 1001 with a reason: 1001
daphne: no code: None
daphne: broken: 1006
EXPECTED
echo "still so"
