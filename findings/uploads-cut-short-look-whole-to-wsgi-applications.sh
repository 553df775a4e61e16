#!/usr/bin/env bash
# What a WSGI application reads when its client leaves amid an upload: 100 of 1000 bytes were sent (Content-Length, or
# one of several chunks), then the connection was closed. Granian 2.8.9, Hypercorn 0.18.0, uvicorn 0.54.0 (--interface wsgi),
# Gunicorn 27.0.1 (sync), cheroot 11.1.2, waitress 3.0.2.
#
# Expected: an exception from wsgi.input.read(), or no call of the application at all (as waitress). A shorter body without
# an error cannot be told from a whole one where the body is chunked.
# The application reads as Werkzeug does: read() where the server sets wsgi.input_terminated (Granian, Gunicorn, waitress;
# cheroot for chunks), else as much as Content-Length says.
# Seen: Granian's read() gives an empty body and no error for both: even the 100 bytes are gone, so that the application
# sees a client that sent nothing (its read(1000) gives the 100). Hypercorn and uvicorn give the 100 bytes as if they were
# all, for both. Gunicorn and cheroot do so with a length only, and raise for chunks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  granian==2.8.9 hypercorn==0.18.0 uvicorn==0.54.0 gunicorn==27.0.1 cheroot==11.1.2 waitress==3.0.2

cat >"$folder/app.py" <<'PYTHON'
def note(text):
    with open("read", "a") as file:
        file.write(text)


def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        whole = environ.get("wsgi.input_terminated") or not environ.get("CONTENT_LENGTH")
        try:
            body = environ["wsgi.input"].read(*([] if whole else [int(environ["CONTENT_LENGTH"])]))
        except BaseException:
            note("an exception")
            raise
        note(f"{len(body)} bytes")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
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


def read_by_application(port, head_and_part):
    """What the application noted when the client had gone, or what is told where it was not called in two seconds."""
    seen = Path("read")
    seen.unlink(missing_ok=True)
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + head_and_part)
    time.sleep(0.3)
    client.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 2
    while not seen.exists() or not seen.read_text():
        if time.monotonic() > deadline:
            return "not called"
        time.sleep(0.05)
    client.close()
    return seen.read_text()


part = b"x" * 100
for name, command in {
    "granian": ("granian", "--interface", "wsgi", "--port", "PORT", "app:app"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:PORT", "wsgi:app:app"),
    "uvicorn": ("uvicorn", "--port", "PORT", "--interface", "wsgi", "app:app"),
    "gunicorn": ("gunicorn", "-b", "127.0.0.1:PORT", "--no-control-socket", "app:app"),
    "cheroot": ("cheroot", "--bind", "127.0.0.1:PORT", "app:app"),
    "waitress": ("waitress-serve", "--listen=127.0.0.1:PORT", "app:app"),
}.items():
    server, port = serve(*command)
    length = read_by_application(port, b"Content-Length: 1000\r\n\r\n" + part)
    chunk = read_by_application(port, b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + part + b"\r\n")
    print(f"{name}: length {length}, chunks {chunk}")
    server.terminate()
    server.wait(20)
PYTHON
(cd "$folder" && PYTHONPATH=. "$folder/venv/bin/python" ask.py) >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
granian: length 0 bytes, chunks 0 bytes
hypercorn: length 100 bytes, chunks 100 bytes
uvicorn: length 100 bytes, chunks 100 bytes
gunicorn: length 100 bytes, chunks an exception
cheroot: length 100 bytes, chunks an exception
waitress: length not called, chunks not called
EXPECTED
echo "still so"
