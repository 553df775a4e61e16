#!/usr/bin/env bash
# The wheel and the end-to-end tests on other CPythons than the machine's own.
#
#   tests/pythons/run.sh test 3.13 3.14 3.15     build, install, run the suite on each
#   tests/pythons/run.sh wheels 3.13 3.14 3.15   only the wheels, into dist/
#
# The interpreters are Debian sid's, in a folder outside of the tree that is kept between runs:
# $OXICORN_PYTHONS, else ~/.cache/oxicorn/pythons. Needs root (debootstrap, chroot, mounts in a namespace of its own).
# PYTEST_ARGUMENTS: what pytest runs instead of all of `tests`.
set -euo pipefail

cache=${OXICORN_PYTHONS:-${XDG_CACHE_HOME:-$HOME/.cache}/oxicorn/pythons}
system=$cache/sid
tree=$(cd "$(dirname "$0")/../.." && pwd)
# What compiling the requirements of the tests takes where no wheel is published yet.
build_packages="build-essential cmake git libffi-dev libssl-dev pkg-config procps"

fail() {
  echo "tests/pythons: $*" >&2
  exit 1
}

main() {
  local task=${1:-}
  [ "$task" = test ] || [ "$task" = wheels ] || fail "first argument: test or wheels"
  shift
  [ $# -gt 0 ] || fail "which versions? e.g. 3.13 3.14"
  [ "$(id -u)" = 0 ] || fail "needs root: it makes a Debian system in $cache"
  make_system
  install_packages "$@"
  copy_tree
  local version failed=()
  for version in "$@"; do
    in_system "$task" "$version" || failed+=("$version")
    mkdir -p "$tree/dist"
    cp "$system"/oxicorn/.build/wheels-"$version"/*.whl "$tree/dist/"
  done
  [ ${#failed[@]} = 0 ] || fail "failed on: ${failed[*]}"
}

# The base of the system, from the mirror that this machine installs from.
make_system() {
  if [ ! -e "$system/.complete" ]; then
    command -v debootstrap >/dev/null || { apt-get update -q && apt-get install -q -y debootstrap; }
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | sort -u | head -n 1)
    [ -n "$mirror" ] || fail "this machine's package lists name no Debian mirror; run apt-get update"
    rm -rf "$system"
    mkdir -p "$cache"
    debootstrap --variant=minbase sid "$system" "$mirror"
    touch "$system/.complete"
  fi
  # Beside the system's own bundle, which its packages write anew.
  cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$system/usr/local/share/machine-ca.crt"
  cp -L /etc/resolv.conf "$system/etc/"
  # A user without rights, as tests of privileges expect it, and a name for the machine.
  grep -q "$(hostname)" "$system/etc/hosts" 2>/dev/null || echo "127.0.0.1 localhost $(hostname)" >>"$system/etc/hosts"
}

install_packages() {
  local version packages=$build_packages
  for version in "$@"; do
    packages+=" python$version python$version-dev python$version-venv"
  done
  # The mirror's release file may be older than it says it may be.
  # shellcheck disable=SC2086  # a list of words
  chroot "$system" sh -c "
    export DEBIAN_FRONTEND=noninteractive
    dpkg -s $packages >/dev/null 2>&1 && exit
    apt-get -q -o Acquire::Check-Valid-Until=false update
    apt-get -q -y --no-install-recommends install $packages"
}

# What git knows and what is new, not what was built.
copy_tree() {
  rm -rf "$system/oxicorn.new"
  mkdir -p "$system/oxicorn.new"
  git -C "$tree" ls-files -z --cached --others --exclude-standard |
    (cd "$tree" && xargs -0 ls -d 2>/dev/null | tar -c --files-from=- ) | tar -x -C "$system/oxicorn.new"
  rm -rf "$system/oxicorn"
  mv "$system/oxicorn.new" "$system/oxicorn"
}

# Runs inside.sh there, with what processes expect to find: /proc, /dev, memory file systems, the Rust of this machine.
in_system() {
  local rust_home=${RUSTUP_HOME:-$HOME/.rustup} cargo_home=${CARGO_HOME:-$HOME/.cargo}
  mkdir -p "$system$rust_home" "$system$cargo_home"
  PYTEST_ARGUMENTS=${PYTEST_ARGUMENTS:-} CARGO_HOME=$cargo_home RUSTUP_HOME=$rust_home \
    unshare --mount --pid --fork --kill-child bash -c '
      set -e
      system=$1 rust_home=$2 cargo_home=$3
      shift 3
      # A root of its own, as namespaces that tests make expect it.
      mount --bind "$system" "$system"
      mount -t proc proc "$system/proc"
      mount -t sysfs -o ro sysfs "$system/sys"
      mount --rbind /dev "$system/dev"
      # Its network is this one: there lie the locks that keep test runs from the ports of each other.
      mount --bind /tmp "$system/tmp"
      mount --bind "$rust_home" "$system$rust_home"
      mount --bind "$cargo_home" "$system$cargo_home"
      exec chroot "$system" bash /oxicorn/tests/pythons/inside.sh "$@"' \
    bash "$system" "$rust_home" "$cargo_home" "$@"
}

main "$@"
