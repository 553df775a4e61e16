#!/usr/bin/env bash
# The client of simple-websocket 1.1.0: a message that comes in one packet with the server's 101.
#
# Expected: receive() gives it, as websocket-client 1.9.2 does. A server that speaks first, and writes its first message when it
# accepts, sends both at once.
# Seen: it lies in the client's parser until the server sends something more: receive(timeout=1) gives None although the
# message is there, and without a timeout a client waits for ever for a server that waits for it. Where the message comes
# a moment later, all is well; so the same pair works or not by how packets fall.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install simple-websocket==1.1.0 websocket-client==1.9.2

cat >"$folder/ask.py" <<'PYTHON'
import base64
import hashlib
import socket
import threading

import simple_websocket
import websocket


def speak_first(listener, at_once, more):
    """Accepts a client and says "hello": with the 101, or when the client has it; then "more" when it is told to."""
    connection, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    (key,) = (
        line.split(b":")[1].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")
    )
    proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    if at_once:
        connection.sendall(head + b"\x81\x05hello")
    else:
        connection.sendall(head)
        more.wait(20)
        more.clear()
        connection.sendall(b"\x81\x05hello")
    more.wait(20)
    connection.sendall(b"\x81\x04more")
    more.wait(20)


def server(at_once):
    listener, more = socket.create_server(("127.0.0.1", 0)), threading.Event()
    threading.Thread(target=speak_first, args=(listener, at_once, more), daemon=True).start()
    return f"ws://127.0.0.1:{listener.getsockname()[1]}/", more


url, more = server(at_once=False)
client = simple_websocket.Client(url)
more.set()
print("simple-websocket, after the 101:", client.receive(timeout=20))

url, more = server(at_once=True)
client = simple_websocket.Client(url)
first = client.receive(timeout=1)
more.set()
print("simple-websocket, with the 101:", first, "and when more has come", client.receive(timeout=20))

url, more = server(at_once=True)
print("websocket-client, with the 101:", websocket.create_connection(url, timeout=20).recv())
PYTHON
(cd "$folder" && "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
simple-websocket, after the 101: hello
simple-websocket, with the 101: None and when more has come hello
websocket-client, with the 101: hello
EXPECTED
echo "still so"
