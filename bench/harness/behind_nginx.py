"""nginx with TLS in front of oxicorn without it: python behind_nginx.py OXICORN PORT CERTIFICATE KEY [OPTION ...]

One process that ends both when it is told to end, so that they are one tree to whoever measures them. What is between
them is what documentation recommends: a Unix socket, kept connections.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = """
daemon off;
{user}
pid {directory}/pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    {temporary}
    upstream application {{ server unix:{socket}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""
START_PAUSE = 0.02
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def wait_for_answer(path: Path, application: subprocess.Popen[bytes]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    while application.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(request)
            if client.recv(64):
                return
        time.sleep(START_PAUSE)


def main() -> int:
    oxicorn, port, certificate, key, *options = sys.argv[1:]
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        directory = Path(name)
        path = directory / "socket"
        (directory / "nginx.conf").write_text(
            CONFIGURATION.format(
                directory=directory,
                port=port,
                socket=path,
                certificate=certificate,
                key=key,
                user="user root;" if os.getuid() == 0 else "",
                temporary="".join(f"{kind}_temp_path {directory}/{kind}; " for kind in TEMPORARY),
            )
        )
        application = subprocess.Popen([oxicorn, "-b", f"unix:{path}", *options])
        # A proxy that answers before there is anybody behind it would be taken for one that does not work.
        wait_for_answer(path, application)
        proxy = subprocess.Popen([nginx, "-c", str(directory / "nginx.conf"), "-p", name])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        try:
            return proxy.wait() or application.wait()
        finally:
            for process in (proxy, application):
                process.terminate()
            for process in (proxy, application):
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
