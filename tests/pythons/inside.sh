#!/usr/bin/env bash
# What run.sh does inside the system with the interpreters: inside.sh TASK VERSION, in a copy of the tree at /oxicorn.
set -euo pipefail

task=$1
version=$2
export PATH=$CARGO_HOME/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Certificates that this machine trusts.
for name in SSL_CERT_FILE PIP_CERT CARGO_HTTP_CAINFO REQUESTS_CA_BUNDLE; do
  export "$name=/usr/local/share/machine-ca.crt"
done
unset PIP_FIND_LINKS
# Kept between runs, one for all versions: only the crate that knows the interpreter is built again.
export CARGO_TARGET_DIR=/var/cache/oxicorn/target
# Requirements that are compiled may know the interpreter's C interface only up to its predecessor's.
export PYO3_USE_ABI3_FORWARD_COMPATIBILITY=1
venv=/var/cache/oxicorn/venv-$version
wheels=/oxicorn/.build/wheels-$version

cd /oxicorn
[ -x "$venv/bin/pip" ] || "python$version" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install 'maturin>=1.9,<2'
"$venv/bin/maturin" build --quiet --release --locked --interpreter "$venv/bin/python" --out "$wheels"
[ "$task" = test ] || exit 0

pip install -r tests/requirements.txt
pip install --force-reinstall --no-deps "$wheels"/oxicorn-*.whl
echo "Testing on $("$venv/bin/python" -VV)"
run() { "$venv/bin/python" -m pytest "$@"; }
if [ -n "$PYTEST_ARGUMENTS" ]; then
  # shellcheck disable=SC2086  # a list of words
  run $PYTEST_ARGUMENTS
else
  # As `make test` does it.
  run tests -m 'not alone' --numprocesses "$(($(nproc) + 1))" --dist loadfile
  run tests -m alone
fi
