#!/usr/bin/env bash
# The exit code of a server whose application says lifespan.startup.failed: Hypercorn 0.18.0, Granian 2.8.9, uvicorn 0.54.0,
# Gunicorn 27.0.1 (-k asgi).
#
# Expected: not 0, so that a supervisor that restarts on failure (systemd's Restart=on-failure, a job of Kubernetes) sees one.
# Seen: Hypercorn prints a traceback and ends with 0. The others end with 1, 3 and 3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install \
  hypercorn==0.18.0 granian==2.8.9 uvicorn==0.54.0 gunicorn==27.0.1

cat >"$folder/app.py" <<'PYTHON'
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
PYTHON
cd "$folder"
export PYTHONPATH=.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
code() {
  name=$1
  shift
  result=0
  timeout 30 "venv/bin/$name" "$@" >"$name.log" 2>&1 || result=$?
  grep -q "no database" "$name.log" && echo "$name $result"
}
{
  code hypercorn -b "127.0.0.1:$port" app:app
  code granian --interface asgi --port "$port" app:app
  code uvicorn --port "$port" app:app
  code gunicorn -k asgi -b "127.0.0.1:$port" --no-control-socket app:app
} >seen || true
diff - seen <<'EXPECTED'
hypercorn 0
granian 1
uvicorn 3
gunicorn 3
EXPECTED
echo "still so"
