"""Real proxies in front of the server, configured as docs/proxies.md says."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import Peer
from tests.support.pages import example
from tests.support.ports import free_port
from tests.support.server import Server, Servers
from tests.support.wait import wait_for

#: Where Debian keeps programs that people do not start by hand.
SEARCH = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"

#: Directories that nginx makes at its start.
NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Proxy:
    """One proxy process in a directory of its own; its port answers as soon as it was started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def in_directory(cls, directory: Path) -> Iterator[Proxy]:
        """One that is not started yet, and is stopped at the end."""
        one = cls(directory)
        try:
            yield one
        finally:
            one.stop()

    def start(self, program: str, *arguments: str) -> Proxy:
        """Runs it in the foreground; a proxy that is not installed skips the test, but not in CI."""
        path = shutil.which(program, path=SEARCH)
        if path is None:
            assert "CI" not in os.environ, f"{program} is missing: tests/system-packages.sh installs it"
            pytest.skip(f"{program} is not installed (tests/system-packages.sh)")
        with open(self.directory / "proxy.log", "ab") as log:
            self.process = subprocess.Popen(
                [path, *arguments], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(self._listens, 10, lambda: f"{program} listens:\n{self.log}")
        return self

    def start_nginx(self, block: str) -> Proxy:
        """nginx with what stands in its ``http`` block."""
        temporary = "".join(f"{name}_temp_path {self.directory}/{name};\n" for name in NGINX_TEMPORARY)
        user = f"user {pwd.getpwuid(os.getuid()).pw_name};\n" if os.getuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(
            f"{user}daemon off;\npid {self.directory}/pid;\nerror_log stderr info;\nworker_processes 1;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}{block}}}\n"
        )
        return self.start("nginx", "-c", str(self.directory / "nginx.conf"), "-p", str(self.directory))

    def start_apache(self, block: str, *modules: str) -> Proxy:
        """Apache with these modules beside the two that it always needs."""
        names = ("mpm_event", "authz_core", *modules)
        loaded = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in names)
        user = f"User {pwd.getpwuid(65534).pw_name}\nGroup nogroup\n" if os.getuid() == 0 else ""
        (self.directory / "apache.conf").write_text(
            f"ServerRoot {self.directory}\nPidFile {self.directory}/pid\nErrorLog /dev/stderr\nServerName localhost\n"
            f"Listen 127.0.0.1:{self.port}\n{loaded}{user}{block}"
        )
        return self.start("apache2", "-D", "FOREGROUND", "-f", str(self.directory / "apache.conf"))

    def start_lighttpd(self, bind: str, module: str, *lines: str) -> Proxy:
        """lighttpd that has ``/shop`` served at ``bind``, a host and a port, by its module ``scgi`` or ``fastcgi``."""
        host, port = bind.rsplit(":", 1)
        server = f'"host" => "{host}", "port" => {port}, "check-local" => "disable"'
        path = self.directory / "lighttpd.conf"
        path.write_text(
            f'server.document-root = "{self.directory}"\nserver.bind = "127.0.0.1"\nserver.port = {self.port}\n'
            f'server.modules = ("mod_{module}")\n'
            f'{module}.server = ("/shop" => ("oxicorn" => ({server})))\n' + "".join(f"{line}\n" for line in lines)
        )
        return self.start("lighttpd", "-D", "-f", str(path))

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.directory / "proxy.log").read_text(errors="replace")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def connect(self) -> Peer:
        """A connection to it."""
        return Peer(("127.0.0.1", self.port))

    def stop(self) -> None:
        """Ends it, with its workers."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_speaking(serve: Servers, protocol: str, app: str, *arguments: str, bind: str | None = None) -> Server:
    """A server that speaks ``protocol`` to a web server of another user."""
    server = serve.new()
    server.start("--umask", "0", "--protocol", protocol, *arguments, app=app, bind=bind, ready=None)
    server.wait_for_log("Booting worker")
    os.chmod(server.directory, 0o755)
    return server


def run_behind_nginx(serve: Servers, proxy: Proxy, protocol: str, app: str, *arguments: str) -> Server:
    """The same behind nginx, configured as the page says."""
    server = run_speaking(serve, protocol, app, *arguments, bind="unix:oxicorn.sock")
    replaced = {
        "unix:/run/shop/oxicorn.sock": f"unix:{server.directory}/oxicorn.sock",
        "listen 80;": f"listen 127.0.0.1:{proxy.port};",
        f"include {protocol}_params;": f"include /etc/nginx/{protocol}_params;",
    }
    proxy.start_nginx(example("proxies.md", f"nginx-{protocol}", **replaced))
    return server


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A proxy that is not started yet."""
    with Proxy.in_directory(tmp_path) as one:
        yield one
