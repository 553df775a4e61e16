#!/usr/bin/env bash
# gevent 26.9.0 (since 25.8.1): what the patched os.close() does in a greenlet.
#
# Expected: os.close(writer) of a pipe is what close(2) is: who reads the other end gets what was written, then the end.
# Seen: once a hub runs, the descriptor of a pipe or socket stays open until the hub turns. A read right after the close
# finds no end: a plain os.read() or file.read(), which do not go through the hub, wait for ever, and the hub with them.
# After a gevent.sleep(0.01), not after a sleep(0), the end is there. (Regular files are closed at once.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install gevent==26.9.0

cat >"$folder/ask.py" <<'PYTHON'
from gevent import monkey

monkey.patch_all()

import os

import gevent


def rest(reader):
    try:
        return os.read(reader, 100)
    except BlockingIOError:
        return "no end yet"


def use_a_pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"all")
    os.close(writer)
    seen = [rest(reader), rest(reader)]
    gevent.sleep(0.01)
    return [*seen, rest(reader)]


gevent.sleep(0)  # There is a hub, as in any server of gevent's.
seen = gevent.spawn(use_a_pipe).get()
print(seen)
assert seen == [b"all", "no end yet", b""], "behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/ask.py"
