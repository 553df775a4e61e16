#!/bin/sh
# Makes everything bench/run.py needs beside oxicorn itself: wrk, Redis, h2load, nginx, a certificate, oha in bench/.oha, the peers in bench/.venv-peers, the
# floor in bench/floor/target, the loads of WebSockets and of connections in bench/websocket/target and
# bench/connections/target. Safe to run again; what is there already is left alone.
#
#   PYTHON=python3.13 bench/setup.sh     picks the interpreter (default: the one of .venv, else python3)
set -eu

bench=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$bench")
venv=$bench/.venv-peers

# All servers run the same CPython, or the comparison compares interpreters. The base interpreter is taken, because a
# venv made from a venv's python still names the base.
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$project/.venv/bin/python" ]; then PYTHON=$project/.venv/bin/python; else PYTHON=python3; fi
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $PYTHON is older than 3.11" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_package() {
    command -v apt-get >/dev/null || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" && return
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"
}

command -v wrk >/dev/null || install_package wrk || {
    echo "setup: wrk is missing and could not be installed" >&2
    exit 1
}

for program in h2load:nghttp2-client nginx:nginx-core openssl:openssl; do
    PATH=$PATH:/usr/sbin command -v "${program%%:*}" >/dev/null || install_package "${program#*:}" ||
        echo "setup: ${program%%:*} is missing, what is measured with it is left out" >&2
done

# The certificate of all servers that speak TLS, and those of experiments with RSA.
if [ ! -e "$bench/.tls/cert.pem" ]; then
    mkdir -p "$bench/.tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$bench/.tls/key.pem" -out "$bench/.tls/cert.pem" \
        2>/dev/null
fi

for bits in 2048 3072; do
    [ -e "$bench/.tls/rsa-$bits.pem" ] ||
        openssl req -x509 -newkey "rsa:$bits" -nodes -days 3650 -subj /CN=localhost \
            -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$bench/.tls/rsa-$bits-key.pem" \
            -out "$bench/.tls/rsa-$bits.pem" 2>/dev/null
done

command -v redis-server >/dev/null || install_package redis-server || {
    echo "setup: redis-server is missing and could not be installed" >&2
    exit 1
}

[ -x "$bench/.oha/bin/oha" ] || cargo install --quiet --locked --root "$bench/.oha" oha@1.16.0

# Peers stand in environments with little else; beside the packages of the tests Python's own start takes longer. So
# oxicorn has one too: of links to what `make build` has installed, whatever that is when it runs.
own=$bench/.venv-oxicorn
built=$(echo "$project"/.venv/lib/python3*/site-packages)
if [ -d "$built/oxicorn" ] && [ ! -e "$own/bin/oxicorn" ]; then
    "$PYTHON" -m venv --without-pip "$own"
    ln -sfn "$built/oxicorn" "$(echo "$own"/lib/python3*/site-packages)/oxicorn"
    sed "1s|.*|#!$own/bin/python|" "$project/.venv/bin/oxicorn" >"$own/bin/oxicorn"
    chmod +x "$own/bin/oxicorn"
fi

[ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check granian==2.8.7 gunicorn==27.0.1 \
    uvicorn==0.54.0 uvicorn-worker==0.4.0 httptools==0.9.0 websockets==17.4 uvloop==0.23.0 h2==4.4.1 hypercorn==0.18.0

# Flask stands apart, so that servers from different virtual environments import the same files.
[ -d "$venv/flask/flask" ] ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$venv/flask" flask

# So do FastAPI and the event loop, for the servers of ASGI applications.
[ -d "$venv/async/fastapi" ] ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$venv/async" \
        fastapi==0.165.0 uvloop==0.23.0

# And the packages of worker classes; gevent's class of Gunicorn asks packaging for versions.
[ -d "$venv/classes/gevent" ] ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$venv/classes" \
        gevent==26.9.0 tornado==6.6.1 aiohttp==3.14.5 redis==8.1.0 packaging

# Neither has uWSGI, which is measured behind nginx.
[ -x "$venv/bin/uwsgi" ] ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uwsgi==2.0.31 ||
    echo "setup: uWSGI does not build here, what is measured against it is left out" >&2

# bjoern has no wheels and is only there for orientation: no target is measured against it.
if ! "$venv/bin/python" -c 'import bjoern' 2>/dev/null; then
    if [ ! -e /usr/include/ev.h ]; then install_package libev-dev || true; fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check bjoern ||
        echo "setup: bjoern does not build here; going on without it" >&2
fi

PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$venv/bin/python cargo build --quiet --release --locked \
    --manifest-path "$bench/floor/Cargo.toml" --target-dir "$bench/floor/target"
cargo build --quiet --release --locked --manifest-path "$bench/websocket/Cargo.toml" \
    --target-dir "$bench/websocket/target"
cargo build --quiet --release --locked --manifest-path "$bench/connections/Cargo.toml" \
    --target-dir "$bench/connections/target"
# CPython imports an extension module by the name of its file.
ln -sf libfloor.so "$bench/floor/target/release/floor.so"

echo "setup: done"
