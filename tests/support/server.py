"""A server under test: real processes of the installed package, in a directory and session of their own.

``Kind`` says what differs between oxicorn and Gunicorn in name only (executable, banner, headers); what
differs in behaviour is listed in ``differences.py``. ``Server`` starts one, waits until it serves, finds
its processes and its logs, and at the end sees to it that nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.support import processes
from tests.support.http import TIMEOUT, Address, Answer, Headers, Peer
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.wait import DEADLINE, NotInTime, wait_for

APPLICATIONS = Path(__file__).parent / "applications"
#: Seconds a server gets to serve its first request.
START_DEADLINE = 50.0
#: Seconds a server that was told to stop gets until it is killed.
STOP_DEADLINE = 25.0
#: Workers of a server with ``--workers`` write their pid to this file when they have loaded the application.
BOOTED = "booted.log"
BOOT_HOOK = """
def post_worker_init(worker):
    with open({path!r}, "a") as file:
        file.write(f"{{worker.pid}}\\n")
"""
#: Files larger than this are not kept as evidence.
EVIDENCE_FILE_LIMIT = 5 * 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """The server under test, and what it calls itself."""

    name: str
    #: Class of the workers that serve ASGI applications.
    asgi_worker: str = "asgi"

    @classmethod
    def chosen(cls, option: str) -> Kind:
        """What ``--server`` stands for. uvicorn runs as its users run it: as a worker class of Gunicorn."""
        return cls("gunicorn", "uvicorn.workers.UvicornWorker") if option == "uvicorn" else cls(option)

    @property
    def is_gunicorn(self) -> bool:
        """Whether this is the server oxicorn is compared with, whatever its worker class."""
        return self.name == "gunicorn"

    @property
    def version(self) -> str:
        """Version of the installed package."""
        return metadata.version(self.name)

    @property
    def executable(self) -> str:
        """The command, as installed beside the running interpreter."""
        return str(Path(sys.executable).parent / self.name)

    @property
    def module_command(self) -> list[str]:
        """The same server as ``python -m``."""
        return [sys.executable, "-m", self.name]

    @property
    def banner(self) -> str:
        """First line of its log."""
        return f"Starting {self.name} {self.version}"

    @property
    def server_software(self) -> str:
        """Value of the environ key and environment variable ``SERVER_SOFTWARE``."""
        own = f"{self.name}/{self.version}"
        return own if self.is_gunicorn else f"gunicorn/{metadata.version('gunicorn')} {own}"

    def title(self, role: str, name: str) -> str:
        """Process title of the ``role`` master, gateway or worker of the server called ``name``."""
        return f"{self.name}: {role} [{name}]"


class Server:
    """One server: its directory, its command line, and, once started, its processes."""

    def __init__(self, kind: Kind, directory: Path, flags: Sequence[str] = ()) -> None:
        self.kind = kind
        self.directory = directory
        #: Ahead of those that it is started with, which win.
        self.flags = [*flags]
        self.bind = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None
        self.command: list[str] = []
        #: The arbiter, where it is not the process that was started; see ``follow``.
        self.followed: Process | None = None

    # Files.

    def write(self, name: str, text: str) -> Path:
        """Writes a file into the server's directory, where it is importable."""
        path = self.directory / name
        # A reload must never see half a file.
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(textwrap.dedent(text))
        temporary.rename(path)
        return path

    def read(self, name: str) -> str:
        """Text of a file in the server's directory; empty while there is none."""
        try:
            return (self.directory / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def lines(self, name: str) -> list[str]:
        """Complete lines of such a file."""
        text = self.read(name)
        return text.split("\n")[:-1]

    @property
    def log(self) -> str:
        """The error log (standard error, unless the test sends it elsewhere)."""
        return self.read("stderr.log")

    @property
    def access_log(self) -> list[str]:
        """Lines of the access log."""
        return self.lines("access.log")

    def wait_for_log(self, pattern: str, deadline: float = DEADLINE, count: int = 1) -> list[str]:
        """Waits until ``pattern`` was logged ``count`` times; all the matches."""
        expression = re.compile(pattern, re.MULTILINE)

        def found() -> list[str] | None:
            matches = [match[0] for match in expression.finditer(self.log)]
            return matches if len(matches) >= count else None

        return wait_for(found, deadline, lambda: f"log line {pattern!r} in:\n{self.log}")

    # Life.

    def start(
        self,
        *args: str,
        app: str | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        bind: str | Sequence[str] | None = None,
        access_log: bool = False,
        ready: str | None = "/",
        spec: str | None = "app:application",
        command: Sequence[str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Server:
        """Starts the server and waits until it answers a request for ``ready`` (None: does not wait).

        ``app`` and ``config`` are sources, written to app.py and gunicorn.conf.py. ``bind`` replaces
        the free port that is used otherwise; the empty string: no bind at all.
        """
        if app is not None:
            self.write("app.py", app)
        if ready is not None and "--workers" in args:
            config = textwrap.dedent(config or "") + BOOT_HOOK.format(path=str(self.directory / BOOTED))
        if config is not None:
            self.write("gunicorn.conf.py", config)
        options = self._bind_options(bind) + self.flags
        if access_log:
            options += ["--access-logfile", "access.log"]
        application = [spec] if spec is not None else []
        self.command = [*(command or [self.kind.executable]), *options, *args, *application]
        self.spawn(env or {}, pass_fds)
        if ready is not None:
            self.wait_until_ready(ready)
        if ready is not None and "--workers" in args:
            self.wait_until_booted(int(args[args.index("--workers") + 1]))
        return self

    def wait_until_booted(self, count: int) -> None:
        """One worker is enough to answer; tests with several want each of them ready for signals.

        Workers of a program that has a configuration of its own must write to ``BOOTED`` themselves.
        """
        self.wait_for_workers(count)
        wait_for(
            lambda: {str(pid) for pid in self.worker_pids()} <= set(self.lines(BOOTED)),
            START_DEADLINE,
            lambda: f"every worker booted:\n{self.log}",
        )

    def _bind_options(self, bind: str | Sequence[str] | None) -> list[str]:
        if bind is None:
            bind = self.bind
        binds = [bind] if isinstance(bind, str) else list(bind)
        binds = [text for text in binds if text]
        if binds:
            self.bind = binds[0]
        return [part for text in binds for part in ("--bind", text)]

    def spawn(self, env: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
        """Runs ``self.command``; its output goes to stdout.log and stderr.log."""
        with (
            open(self.directory / "stdout.log", "ab") as stdout,
            open(self.directory / "stderr.log", "ab") as stderr,
        ):
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """The environment of the server: nothing of ours but what it needs."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(APPLICATIONS),
            # A byte-code file is trusted for a second after its source changed; reloads are faster.
            "PYTHONDONTWRITEBYTECODE": "1",
            # Its control socket is no part of what is tested, and one thread less to fork with.
            "GUNICORN_CMD_ARGS": "--no-control-socket" if self.kind.is_gunicorn else "",
            **extra,
        }
        return {name: value for name, value in environment.items() if value}

    def wait_until_ready(self, target: str = "/") -> None:
        """Waits until the server answers."""

        def answers() -> bool:
            if self.followed is None and self.popen.poll() is not None:
                raise AssertionError(f"server ended with {self.popen.returncode}:\n{self.log}")
            with contextlib.suppress(OSError):
                return self.get(target, timeout=START_DEADLINE).status > 0
            return False

        wait_for(answers, START_DEADLINE, lambda: f"server ready:\n{self.log}")

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The started process."""
        assert self.process is not None, "the server was not started"
        return self.process

    @property
    def pid(self) -> int:
        """The arbiter."""
        return self.followed.pid if self.followed is not None else self.popen.pid

    def follow(self, pid_file: str) -> Server:
        """From now on the arbiter is the process named in ``pid_file`` (a daemon, or a successor)."""

        def named() -> Process | None:
            text = self.read(pid_file).strip()
            return processes.read(int(text)) if text else None

        self.followed = wait_for(named, START_DEADLINE, lambda: f"a living process in {pid_file}")
        return self

    def kill(self, number: signal.Signals) -> None:
        """Sends a signal to the arbiter alone."""
        os.kill(self.pid, number)

    def reload(self) -> None:
        """Sends HUP and waits until only new workers are left."""
        old = self.worker_pids()
        self.kill(signal.SIGHUP)
        self.wait_for_workers(len(old), without=old)

    def wait_for_exit(self, deadline: float = DEADLINE) -> int:
        """Waits until the arbiter has ended; its exit code (a followed one's is not to be had: 0)."""
        if self.followed is not None:
            wait_for(lambda: not processes.is_alive(self.pid), deadline, lambda: f"the end of the arbiter:\n{self.log}")
            return 0
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"the server did not end within {deadline} s:\n{self.log}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline: float = DEADLINE) -> int:
        """Sends a signal that ends the server and waits until it has; its exit code."""
        self.kill(number)
        return self.wait_for_exit(deadline)

    def tear_down(self) -> list[str]:
        """INT, then KILL. What is wrong with how it ended: one text for each finding."""
        if self.process is None:
            return []
        findings = []
        if self.followed is not None:
            with contextlib.suppress(ProcessLookupError):
                self.kill(signal.SIGINT)
        elif self.process.poll() is None:
            self.kill(signal.SIGINT)
            try:
                self.process.wait(2.0 if self.kind.is_gunicorn else STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                findings.append(f"did not stop within {STOP_DEADLINE} s after SIGINT")
        try:
            wait_for(lambda: not self.processes(), 0.0 if self.kind.is_gunicorn else STOP_DEADLINE)
        except NotInTime:
            findings += [f"left behind: {process.pid} {process.title}" for process in self.processes()]
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.process.wait()
        return findings

    # Processes.

    def processes(self) -> list[Process]:
        """Every living process of this server."""
        return processes.of_session(self.followed.session if self.followed is not None else self.popen.pid)

    def pids(self, role: str) -> list[int]:
        start = f"{self.kind.name}: {role} "
        return [process.pid for process in self.processes() if process.title.startswith(start)]

    def only_pid(self, role: str) -> int:
        """The one process of a role. What it has just forked bears its title until it has one of its own."""
        found = wait_for(
            lambda: pids if len(pids := self.pids(role)) == 1 else None,
            what=lambda: f"one {role}, not {self.pids(role)}",
        )
        return found[0]

    def worker_pids(self) -> list[int]:
        """The workers."""
        return self.pids("worker")

    def gateway_pid(self) -> int:
        """The process that owns the client connections."""
        (pid,) = wait_for(lambda: self.pids("gateway"), what="a gateway process")
        return pid

    def wait_for_workers(self, count: int, without: Sequence[int] = ()) -> list[int]:
        """Waits until there are exactly ``count`` workers, none of them in ``without``."""

        def settled() -> list[int] | None:
            pids = self.worker_pids()
            return pids if len(pids) == count and not set(pids) & set(without) else None

        return wait_for(settled, START_DEADLINE, lambda: f"{count} new workers: {self.processes()}\n{self.log}")

    # Talking to it.

    @property
    def port(self) -> int:
        """TCP port of the first bind."""
        return int(self.bind.rpartition(":")[2])

    @property
    def address(self) -> Address:
        """Where to connect to: the first bind."""
        if self.bind.startswith("unix:"):
            return str(self.directory / self.bind.removeprefix("unix:"))
        host, _, port = self.bind.rpartition(":")
        return (host.strip("[]") or "127.0.0.1", int(port))

    def connect(self, timeout: float = TIMEOUT, receive_buffer: int | None = None) -> Peer:
        """A new connection."""
        return Peer(self.address, timeout, receive_buffer)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Headers = (),
        body: bytes | list[bytes] | None = None,
        version: str = "1.1",
        timeout: float = TIMEOUT,
    ) -> Answer:
        """One request on a connection of its own."""
        with self.connect(timeout) as peer:
            return peer.request(method, target, headers, body, version)

    def get(self, target: str = "/", headers: Headers = (), timeout: float = TIMEOUT) -> Answer:
        """GET on a connection of its own."""
        return self.request("GET", target, headers, timeout=timeout)

    def refuses(self) -> bool:
        """Whether nobody listens any more."""
        try:
            self.connect().close()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False


class Servers:
    """Makes servers for one test (or module) and ends them. ``active`` are those of every test."""

    active: list[Server] = []  # noqa: RUF012 - one list for the whole run is the point

    def __init__(self, kind: Kind, flags: Sequence[str] = ()) -> None:
        self.kind = kind
        self.flags = flags
        self.own: list[Server] = []

    def new(self) -> Server:
        """A server that is not started yet."""
        # Not pytest's own directory: its long names do not fit into the path of a unix socket.
        server = Server(self.kind, Path(tempfile.mkdtemp(prefix="oxicorn-test-")), self.flags)
        self.own.append(server)
        self.active.append(server)
        return server

    def __call__(self, app: str | None = None, *args: str, **options: object) -> Server:
        """Starts a server; see ``Server.start``."""
        return self.new().start(*args, app=app, **options)  # type: ignore[arg-type]

    def tear_down(self) -> list[str]:
        """Ends every server; the findings of all."""
        findings = []
        for server in self.own:
            findings += [f"{finding} (see {server.directory.name})" for finding in server.tear_down()]
        return findings

    def forget(self) -> None:
        """Removes the directories."""
        for server in self.own:
            self.active.remove(server)
            shutil.rmtree(server.directory, ignore_errors=True)
        self.own.clear()


def keep_evidence(servers: Sequence[Server], destination: Path) -> None:
    """Copies the directories of ``servers`` (logs, sources, command line) to ``destination``."""
    for server in servers:
        target = destination / server.directory.name
        target.mkdir(parents=True, exist_ok=True)
        (target / "command.txt").write_text(" ".join(server.command) + "\n")
        for path in server.directory.rglob("*"):
            if path.is_file() and path.stat().st_size <= EVIDENCE_FILE_LIMIT:
                copy = target / path.relative_to(server.directory)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):
                    shutil.copyfile(path, copy)
