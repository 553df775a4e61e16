#!/usr/bin/env bash
# Installs the proxies that tests/proxies runs, what tests/monitoring checks with (shells among it), the clients of
# tests/http2, and the Redis and PostgreSQL of
# tests/frameworks (Debian, root). None of them is started as a service.
set -euo pipefail

packages=()
command -v nginx >/dev/null || packages+=(nginx-core)
command -v haproxy >/dev/null || packages+=(haproxy)
command -v apache2 >/dev/null || packages+=(apache2-bin)
command -v lighttpd >/dev/null || packages+=(lighttpd)
command -v promtool >/dev/null || packages+=(prometheus)
command -v chromium >/dev/null || packages+=(chromium)
command -v zsh >/dev/null || packages+=(zsh)
command -v fish >/dev/null || packages+=(fish)
command -v h2load >/dev/null || packages+=(nghttp2-client)
command -v curl >/dev/null || packages+=(curl)
command -v redis-server >/dev/null || packages+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests/system-packages.sh: not installed, and no right to do so: ${packages[*]}" >&2
  exit 1
fi
# Whoever installs a package asks this file whether its service may be started.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${packages[@]}"
