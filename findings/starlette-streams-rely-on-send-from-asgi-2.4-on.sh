#!/usr/bin/env bash
# Starlette 1.10.0 (CPython 3.11): whether a StreamingResponse notices that its client has left depends on a number.
#
# Expected: it always listens for http.disconnect while it streams, as it did for years.
# Seen: where the server's scope says spec_version 2.3 the stream ends within a few chunks; where it says 2.4 nobody calls
# receive(), and a server whose send() returns silently after the client has left (which ASGI allows, and uvicorn and
# Gunicorn do) has the whole stream produced for nobody: all 1000 chunks. So such a server must say 2.3 (uvicorn 0.54
# does), or raise OSError from send().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install starlette==1.10.0 uvicorn==0.54.0

cat >"$folder/stream.py" <<'PYTHON'
import asyncio
import re
from pathlib import Path

import uvicorn.protocols.http.h11_impl as h11_impl
from starlette.responses import StreamingResponse


async def produced(version):
    """Chunks produced for a client that leaves after the third; send() has no effect from then on."""
    chunks, sent = [], []
    left = asyncio.Event()

    async def body():
        for number in range(1000):
            chunks.append(number)
            yield b"x"
            await asyncio.sleep(0)

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == 4:
            left.set()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": version}, "method": "GET", "headers": []}
    await StreamingResponse(body())(scope, receive, send)
    return len(chunks)


for version in ("2.3", "2.4"):
    count = asyncio.run(produced(version))
    print(version, "stopped early" if count < 50 else f"produced {count}")
print("uvicorn says", re.search(r'"spec_version": "([\d.]+)"', Path(h11_impl.__file__).read_text())[1])
PYTHON
"$folder/venv/bin/python" "$folder/stream.py" >"$folder/seen" || true
diff - "$folder/seen" <<'EXPECTED'
2.3 stopped early
2.4 produced 1000
uvicorn says 2.3
EXPECTED
echo "still so"
