#!/bin/sh
# Fills the fuzz corpora from the message corpus of oxicorn-proto.
set -eu
cd "$(dirname "$0")"
messages=../crates/oxicorn-proto/tests/corpus
mkdir -p corpus/request_head corpus/chunked_body corpus/connection_ops corpus/proxy_protocol
for message in "$messages"/*/*.http; do
    name=$(basename "$message" .http)
    { printf '\000\001'; cat "$message"; } > "corpus/request_head/$name"
    # What follows the first empty line, for the decoder of bodies.
    awk 'body { print } /^\r$/ { body = 1 }' "$message" > "corpus/chunked_body/$name"
    { printf '\000\377'; head -c 255 "$message"; printf '\002\000\002\000\006\004X-Ay\007\002hi\012\000'; } \
        > "corpus/connection_ops/$name"
done
printf 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET' > corpus/proxy_protocol/v1
printf '\r\n\r\n\000\r\nQUIT\n\041\021\000\014\001\001\001\001\002\002\002\002\000\001\000\002' > corpus/proxy_protocol/v2
