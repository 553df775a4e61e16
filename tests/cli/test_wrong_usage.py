"""What people type wrong: each usage has one line that says what to do, and an exit code.

The table is the documentation of what is promised. A usage that is refused ends the process before anything is started
(code 2 for flags, 1 for settings); one that is odd but works has a warning, looked at with ``--check-config``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REFUSED, UNREADABLE, NOT_BOOTED, NOT_LOADED = 1, 2, 3, 4

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

app = application
number = 5
nothing = None

def create_app():
    return application
"""

EXITS = "import sys\nsys.exit(0)\n"

#: Where it listens, for those that come so far.
BIND = "--bind=127.0.0.1:0"


@dataclass(frozen=True)
class Usage:
    """What is typed, and what is answered."""

    args: str | list[str]
    #: A part of the one line that says it.
    says: str
    code: int = REFUSED
    config: str = ""
    env: dict[str, str] = field(default_factory=dict)
    #: The application's source.
    source: str = APPLICATION

    @property
    def words(self) -> list[str]:
        """The arguments."""
        return self.args.split() if isinstance(self.args, str) else self.args


def flag(args: str, says: str) -> Usage:
    return Usage(args, says, UNREADABLE)


def warned(args: str, says: str, **options: str) -> Usage:
    return Usage(f"--check-config {args}", says, 0, **options)


def loads(spec: str, says: str, code: int = NOT_LOADED, source: str = APPLICATION) -> Usage:
    return Usage([BIND, spec], says, code, source=source)


def config(text: str, says: str, args: str = "app") -> Usage:
    return Usage(args, says, config=text)


USAGES = [
    # Flags that nobody knows, and those of other servers.
    flag("--bogus app", "unrecognized arguments: --bogus"),
    flag("--bogus --other=3 -x app", "unrecognized arguments: --bogus --other=3 -x"),
    flag("--workesr 3 app", "--workesr, did you mean --workers?"),
    flag("--worker-clsas=sync app", "did you mean --worker-class?"),
    flag("--host 0.0.0.0 --port 80 app", "(--host, --port: use --bind HOST:PORT)"),
    flag("--http :80 app", "--http: use --bind HOST:PORT"),
    flag("--http h11 app", "--http: use --bind HOST:PORT (uvicorn's and granian's --http: leave it out)"),
    flag("--listen *:80 app", "--listen: use --bind HOST:PORT"),
    flag("--uds /run/app.sock app", "--uds: use --bind unix:PATH"),
    flag("--fd 3 app", "--fd: use --bind fd://N"),
    flag("--factory app:create_app", "--factory: write the call, as in 'MODULE:create_app()'"),
    flag("--app-dir src app", "--app-dir: use --pythonpath"),
    flag("--interface asgi app", "--interface: use --worker-class"),
    flag(
        "--ssl-certfile a --ssl-keyfile b app",
        "--ssl-certfile: use --certfile",
    ),
    flag("--loop uvloop app", "--loop: use --asgi-loop"),
    flag("--lifespan off app", "--lifespan: use --asgi-lifespan"),
    flag("--limit-concurrency 5 app", "--limit-concurrency: use --worker-connections"),
    flag("--timeout-keep-alive 5 app", "--timeout-keep-alive: use --keep-alive"),
    flag("--ws websockets app", "--ws: leave it out"),
    flag("--proxy-headers app", "--proxy-headers: use --forwarded-allow-ips"),
    flag("--no-access-log app", "--no-access-log: leave it out"),
    flag("--env-file .env app", "--env-file: use --env NAME=VALUE"),
    flag("--reload-dir src app", "--reload-dir: use --reload-extra-file"),
    flag("--blocking-threads 4 app", "--blocking-threads: use --threads"),
    flag("--unix-socket a.sock app", "--unix-socket: use --bind unix:PATH"),
    flag("--url-prefix=/shop app", "--url-prefix: use --root-path"),
    flag("--processes 4 --harakiri 30 app", "--processes: use --workers; --harakiri: use --timeout"),
    flag("--wsgi-file app.py", "--wsgi-file: name the application without a flag"),
    flag("--master --vacuum app", "--master, --vacuum: leave it out, it is always so"),
    flag("--lazy-apps app", "--lazy-apps: leave it out, it is the default (--preload is the opposite)"),
    flag(
        "--touch-reload app.py app", "--touch-reload: send SIGHUP to the process whose number is in the file of --pid"
    ),
    flag(
        "--post-buffering 8192 --offload-threads 2 app",
        "(--post-buffering, --offload-threads: leave it out: the gateway",
    ),
    flag("--cheaper 2 app", "the signals TTIN and TTOU change their number"),
    flag("--emperor /etc/uwsgi", "--emperor: start one server for each application"),
    flag(
        "--ini uwsgi.ini",
        "--ini: write its settings into gunicorn.conf.py, which is found by itself (see docs/from-uwsgi.md)",
    ),
    # What another server has for a flag is no abbreviation of ours.
    flag("--header a:b app", "--header: let the application or a proxy set headers"),
    flag("--access-log - app", "--access-log: use --access-logfile FILE, - for standard output"),
    flag("--log app", "--log: use --error-logfile and --log-level"),
    flag("--date-header app", "--date-header: leave it out, Date and Server are sent"),
    flag("--quic-bind :443 app", "--quic-bind: leave it out, HTTP/3 is not spoken"),
    flag(
        "--ping-interval 20 --verbosity 2 app",
        "--ping-interval: use --websocket-ping-interval; --verbosity: use --log-level",
    ),
    flag("--channel-timeout 9 app", "--channel-timeout: use --keep-alive, and --write-timeout"),
    flag("--no-ipv6 app", "--no-ipv6: use --bind 0.0.0.0:PORT for IPv4"),
    flag("--http1-header-read-timeout 30000 app", "--http1-header-read-timeout: use --header-timeout, in seconds"),
    flag(
        "--reload-on-changes --log-to-terminal app",
        "--reload-on-changes: use --reload; --log-to-terminal: leave it out",
    ),
    flag("--maximum-requests 9 app", "--maximum-requests: use --max-requests with --max-requests-jitter"),
    flag("--yaml uwsgi.yaml", "--yaml: use --config FILE"),
    # Values that flags do not take.
    flag("-w many app", "argument -w/--workers: invalid int value: 'many'"),
    flag("-w app:application", "invalid int value: 'app:application' (the application is named without a flag)"),
    flag("-t 1.5 app", "argument -t/--timeout: invalid int value: '1.5'"),
    flag("-w", "argument -w/--workers: expected one argument"),
    flag("--bind --reload app", "argument -b/--bind: expected one argument"),
    flag("--reload=yes app", "argument --reload: ignored explicit argument 'yes'"),
    flag("--umask 09 app", "invalid auto_int value: '09'"),
    flag("--work 3 app", "ambiguous option: --work could match --workers"),
    flag("app --reload other", "unrecognized arguments: other"),
    # Numbers.
    Usage("-w 100000 app", "workers: 100000 (command line, --workers): must be an integer from 0 to 4096"),
    Usage("-w -1 app", "workers: -1 (command line, --workers): must be an integer from 0 to 4096"),
    Usage("--threads -1 app", "threads: -1 (command line, --threads): must be an integer, 0 or more"),
    Usage("--timeout -5 app", "timeout: -5 (command line, --timeout): must be an integer, 0 or more"),
    warned("-w 0 app", "workers: 0 starts none: requests wait"),
    warned("--threads 0 app", "threads: 0 means 1"),
    warned(
        "--limit-request-line 32768 app",
        "limit_request_line: 32768 is cut down to 8190, as in Gunicorn (0 allows 1 MiB)",
    ),
    warned("--limit-request-fields 40000 app", "limit_request_fields: 40000 is cut down to 32768, as in Gunicorn"),
    warned("--limit-request-field_size 0 app", "limit_request_field_size: 0 means 8190, as in Gunicorn"),
    warned("--backlog 2147483647 app", "net.core.somaxconn of the kernel"),
    config("workers = 2.5", "workers: 2.5 ("),
    config("timeout = None", "timeout: None ("),
    # Addresses.
    Usage("-b /run/app.sock app", "for a unix socket write unix:/run/app.sock"),
    Usage("-b 8499 app", "for a port on every interface write :8499"),
    Usage("-b *:8499 app", "for every interface write :8499"),
    Usage("-b 127.0.0.1:99999 app", "'99999' is not a valid port number"),
    Usage("-b 127.0.0.1:http app", "'http' is not a valid port number"),
    Usage("-b ::1 app", "for an IPv6 address write [::1]:8000, in '::1'"),
    Usage("-b ::1:8499 app", "for an IPv6 address write [::1]:8499"),
    Usage("-b unix: app", "the path of the unix socket is empty"),
    Usage("-b fd://stdin app", "'stdin' is not a valid file descriptor"),
    Usage(
        "-b unix:/nowhere/app.sock app",
        "[ERROR] Cannot bind /nowhere/app.sock: No such file or directory (there is no directory /nowhere)",
    ),
    Usage(
        "-b 192.0.2.1:8499 app",
        "Invalid address: ('192.0.2.1', 8499): Cannot assign requested address (no interface of this machine",
    ),
    Usage("-b fd://77 app", "[ERROR] Cannot bind fd://77: Bad file descriptor (nobody has passed it to this process)"),
    Usage("-b fd://0 app", "[ERROR] Cannot bind fd://0: Socket operation on non-socket ("),
    Usage("-b unix:app.py app", "[ERROR] Cannot bind app.py: 'app.py' is not a socket (choose another path)"),
    Usage(f"-b unix:{'x' * 108} app", "File name too long (108 bytes, where a unix socket has 107 at most)"),
    Usage(
        f"--check-config -b unix:{'x' * 108} app", "bind: the path has 108 bytes, where a unix socket has 107 at most"
    ),
    Usage("-b [fe80::1]:8499 app", "a link-local address needs its interface, as in [fe80::1%eth0]:8499"),
    Usage("-b nowhere.invalid:8499 app", "(the host has no address; 0.0.0.0 is every interface)"),
    # Worker classes, and what is not there.
    Usage("-k synk app", "'synk' is not available: did you mean sync?"),
    Usage("-k gthreads app", "'gthreads' is not available: did you mean gthread?"),
    Usage("-k eventlet app", "'eventlet' is not available: Gunicorn dropped it in 26.0"),
    Usage("-k gaiohttp app", "'gaiohttp' is not available: Gunicorn dropped it in 20.0"),
    Usage("-k uvicorn app", "'uvicorn' is not available: ASGI applications are served by asgi"),
    Usage("-k uvicorn.workers.UvicornWorkr app", "did you mean uvicorn.workers.UvicornWorker?"),
    Usage("-k tornada app", "'tornada' is not available: did you mean tornado?"),
    Usage("--certfile cert.pem app", "Certificates: cert.pem cannot be read: No such file or directory"),
    Usage("-b https://:8499 app", "must not say https:// without a certificate: set certfile"),
    warned("--http-protocols h2,h1 app", "http_protocols: HTTP/2 will never be spoken, because there is no TLS"),
    # The application.
    Usage("", "No application module specified. Name it as MODULE:CALLABLE"),
    warned("app other:app", "only one application is served, ignored: other:app"),
    loads("nowhere", "ModuleNotFoundError: No module named 'nowhere'", NOT_BOOTED),
    loads("app.py", "did you mean 'app:<attribute>'?", NOT_BOOTED),
    loads("./app.py:app", "did you mean 'app:app'?", NOT_BOOTED),
    loads("uwsgi.ini", "'uwsgi.ini' is no module: write its settings into gunicorn.conf.py", NOT_BOOTED),
    loads("app:missing", "Failed to find attribute 'missing' in 'app'."),
    loads("app:number", "Application object must be callable."),
    loads("app:nothing", "Failed to find application object: 'nothing'"),
    loads("app:create_app(", "Failed to parse 'create_app(' as an attribute name or function call."),
    loads("app:create_app(1)", "Failed to call 'create_app': "),
    loads("app:create_app(os)", "Failed to parse arguments as literal values"),
    loads(
        "app", "[ERROR] Worker failed to boot: FATAL: no database", 3, "import sys\nsys.exit('FATAL: no database')\n"
    ),
    loads("app", "[ERROR] Worker failed to boot: the application called sys.exit(0)", 3, "import sys\nsys.exit(0)\n"),
    Usage("--check-config app", "the application called sys.exit(0)", source="import sys\nsys.exit(0)\n"),
    Usage("--check-config app:missing", "Failed to find attribute 'missing' in 'app'."),
    # Files and directories.
    Usage("-c nowhere.py app", "Error: 'nowhere.py' doesn't exist"),
    Usage("--chdir nowhere app", "chdir: 'nowhere' (command line, --chdir): must be an existing directory"),
    Usage(f"{BIND} -p /nowhere/pid app", "Error: /nowhere doesn't exist. Can't create pidfile."),
    Usage(f"{BIND} --error-logfile /nowhere/log app", "Error: '/nowhere/log' isn't writable"),
    Usage(f"{BIND} --log-config nowhere.ini app", "Error: log config 'nowhere.ini' not found"),
    Usage(f"{BIND} --worker-tmp-dir /nowhere app", "Error: /nowhere doesn't exist. Can't create workertmp."),
    Usage("--check-config -p app.py/pid app", "Error: pidfile: there is no directory"),
    warned("-p 8000 app", "pidfile: '8000' is the name of a file; a port is given with bind"),
    # Logs.
    Usage("--access-logformat %(h app", "access_log_format: '%(h' (command line, --access-logformat)"),
    Usage("--access-logformat %(h)z app", "'z' cannot follow a name, s can"),
    Usage("--access-logformat %h%l app", "a placeholder has no name"),
    config("access_log_format = '100%'", "it ends within a placeholder; a percent sign is written %%"),
    warned("--log-level loud app", "loglevel: 'loud' is none of debug, info, warning, error, critical; info is used"),
    Usage("--statsd-host nowhere:xx app", "statsd_host: 'nowhere:xx' (command line, --statsd-host): must be HOST:PORT"),
    Usage(f"{BIND} --logger-class shop.Logger app", "shop.Logger"),
    # Who may, and whom to trust.
    Usage("--forwarded-allow-ips 10.0.0.1/24 app", "has host bits set"),
    Usage("--header-map maybe app", "must be one of: drop, refuse, dangerous"),
    Usage("--user no-such-user app", "user: 'no-such-user' (command line, --user)"),
    Usage("-u /run/app.sock app", "must be an existing user or a number; a unix socket is written --bind unix:PATH"),
    Usage("--group no-such-group app", "group: 'no-such-group' (command line, --group)"),
    Usage("-e COLOUR app", "raw_env: ['COLOUR'] (command line, --env)"),
    # The config file.
    config("workers = 'many'", "gunicorn.conf.py, line 1): must be an integer from 0 to 4096"),
    config("\nreload = 1", "gunicorn.conf.py, line 2): must be True or False"),
    config("when_ready = 5", "must be a callable with the arguments (server)"),
    config("def post_fork(server): pass", "must be a callable with the arguments (server, worker)"),
    config("def worker_int(server, worker): pass", "must be a callable with the arguments (worker)"),
    config("raise RuntimeError('not today')", "RuntimeError: not today"),
    config("import sys; sys.exit('no secret')", "SystemExit: no secret"),
    config("def broken(:", "SyntaxError: invalid syntax"),
    config("worker_class = 'synk'", "gunicorn.conf.py, line 1): 'synk' is not available: did you mean sync?"),
    warned("app", "'worker' is not a setting and has no effect; did you mean 'workers'?", config="worker = 4"),
    warned("app", "'time_out' is not a setting and has no effect; did you mean 'timeout'?", config="time_out = 4"),
    # The environment.
    Usage("app", "workers: 'many' (environment variable WEB_CONCURRENCY)", env={"WEB_CONCURRENCY": "many"}),
    Usage("app", "GUNICORN_CMD_ARGS: unrecognized arguments: --bogus", 2, env={"GUNICORN_CMD_ARGS": "--bogus"}),
    Usage("app", "GUNICORN_CMD_ARGS: no closing quotation", 2, env={"GUNICORN_CMD_ARGS": "--name 'shop"}),
    Usage("app", "is not a valid port number", env={"PORT": "http"}),
]


@pytest.fixture(scope="module")
def answers(kind) -> Iterator[list[tuple[int, str]]]:
    """What became of each usage; all of them are run at once, since a process of its own costs much more."""
    if kind.is_gunicorn:
        pytest.skip("the words are oxicorn's")
    with tempfile.TemporaryDirectory(prefix="oxicorn-usages-") as parent:
        cases = [case(usage, Path(parent) / str(number)) for number, usage in enumerate(USAGES)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.usages"],
            input=json.dumps(cases),
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={"PATH": os.environ["PATH"], "HOME": parent},
            text=True,
            check=True,
        )
        yield json.loads(done.stdout)


def case(usage: Usage, directory: Path) -> dict[str, object]:
    """A directory with the usage's files in it."""
    directory.mkdir()
    (directory / "app.py").write_text(usage.source)
    if usage.config:
        (directory / "gunicorn.conf.py").write_text(usage.config + "\n")
    return {"directory": str(directory), "args": usage.words, "env": usage.env}


@pytest.mark.parametrize("number", range(len(USAGES)), ids=lambda number: " ".join(USAGES[number].words)[:60] or "-")
def test_says_in_one_line_what_is_wrong(answers, number):
    usage, (code, text) = USAGES[number], answers[number]
    lines = [line for line in text.splitlines() if usage.says in line]
    if "--check-config" in usage.words and usage.code == 0:
        assert text.startswith("Warning: ")
    assert len(lines) == 1, text
    assert code == usage.code, text
    assert "Error: Error" not in text
    assert text.count("Traceback") <= 1


def test_there_are_many_of_them():
    assert len(USAGES) >= 74
