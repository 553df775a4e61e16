"""Whom the processes run as: the arbiter stays who it is, gateway and workers give up what they do not need."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import wait_for

NOBODY = pwd.getpwnam("nobody")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")

WHOAMI = """
    import os

    def application(environ, start_response):
        body = f"{os.getresuid()} {os.getresgid()} {sorted(os.getgroups())}".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
"""


@pytest.fixture
def open_server(serve):
    """A server whose directory others may read and not write."""
    server = serve.new()
    server.directory.chmod(0o755)
    return server


def identities(pid: int) -> tuple[list[int], list[int], list[int]]:
    """Real, effective and saved user and group, and the other groups of a process."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    users, groups = ([int(number) for number in fields[name][:3]] for name in ("Uid", "Gid"))
    return users, groups, sorted(int(number) for number in fields["Groups"])


def owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


@needs_root
@pytest.mark.parametrize(
    ("user", "group"),
    [("nobody", NOBODY.pw_gid), (str(NOBODY.pw_uid), grp.getgrgid(NOBODY.pw_gid).gr_name)],
    ids=["by-name", "by-number"],
)
def test_workers_run_as_the_user_and_group(open_server, user, group):
    server = open_server.start("--user", user, "--group", str(group), app=WHOAMI)
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert server.get().text.startswith(f"{(uid, uid, uid)} {(gid, gid, gid)} ")
    assert identities(server.pid)[0] == [0, 0, 0], "the arbiter stays who it is"


@needs_root
def test_gateway_runs_as_the_user_and_group(open_server):
    server = open_server.start("--user", "nobody", "--group", str(NOBODY.pw_gid), app=WHOAMI)
    users, groups, _ = identities(server.gateway_pid())
    assert (set(users), set(groups)) == ({NOBODY.pw_uid}, {NOBODY.pw_gid})


@needs_root
def test_initgroups_gives_the_groups_of_the_user(open_server):
    server = open_server.start("--user", "nobody", "--group", str(NOBODY.pw_gid), "--initgroups", app=WHOAMI)
    expected = sorted(os.getgrouplist("nobody", NOBODY.pw_gid))
    gid = NOBODY.pw_gid
    assert server.get().text == f"{(NOBODY.pw_uid,) * 3} {(gid, gid, gid)} {expected}"
    assert identities(server.gateway_pid())[1:] == ([gid, gid, gid], expected)


@needs_root
def test_hooks_before_the_drop_run_as_root(open_server):
    """post_fork may still open what only root may; post_worker_init may not."""
    config = """
        import os

        def note(moment):
            print(f"{moment} {os.geteuid()}", flush=True)

        def post_fork(server, worker):
            note("post_fork")

        def post_worker_init(worker):
            note("post_worker_init")
    """
    server = open_server.start("--user", "nobody", app=WHOAMI, config=config)
    wait_for(lambda: server.lines("stdout.log") == ["post_fork 0", f"post_worker_init {NOBODY.pw_uid}"])


@needs_root
def test_unix_socket_belongs_to_the_user(open_server):
    server = open_server.start(
        "--user", "nobody", "--group", str(NOBODY.pw_gid), "--umask", "0o117", app=WHOAMI, bind="unix:socket"
    )
    path = server.directory / "socket"
    assert owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert path.stat().st_mode & 0o777 == 0o660


@needs_root
def test_pid_file_stays_the_arbiters(open_server):
    server = open_server.start("--user", "nobody", "--pid", "pid", app=WHOAMI)
    assert owner(server.directory / "pid")[0] == 0
    assert server.read("pid") == f"{server.pid}\n"
    server.stop()
    assert not (server.directory / "pid").exists()


@needs_root
def test_rotated_logs_are_written_on_in_a_directory_of_roots(open_server):
    server = open_server.start("--user", "nobody", "--error-logfile", "error.log", app=WHOAMI, access_log=True)
    logs = [server.directory / name for name in ("error.log", "access.log")]
    assert {owner(path)[0] for path in logs} == {NOBODY.pw_uid}
    for path in logs:
        path.rename(path.with_suffix(".old"))
    server.kill(signal.SIGUSR1)
    wait_for(lambda: all(path.exists() for path in logs))
    wait_for(lambda: {owner(path)[0] for path in logs} == {NOBODY.pw_uid})

    def logged() -> bool:
        server.get("/rotated")
        return "/rotated" in server.read("access.log")

    wait_for(logged, what="the gateway writes to the new access log")
    server.kill(signal.SIGTTIN)
    wait_for(lambda: "Booting worker" in server.read("error.log"))


PRINTS = """
    import logging

    def application(environ, start_response):
        print("printed " + environ["PATH_INFO"], flush=True)
        logging.getLogger("gunicorn.error").info("said %s", environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "0")])
        return []
"""


@needs_root
@pytest.mark.parametrize("template", [(), ("--preload",)], ids=["arbiter-forks", "template-forks"])
@pytest.mark.parametrize("access_by", ["gateway", "worker"])
def test_logs_in_a_directory_only_root_may_enter(open_server, access_by, template):
    """At the start, after a rotation and after a reload; who cannot open them is given them."""
    logs = open_server.directory / "logs"
    logs.mkdir(mode=0o700)
    config = "" if access_by == "gateway" else "import logging\nlogging.getLogger('gunicorn.access').addFilter(bool)"
    names = ("error.log", "access.log", "json.log")
    flags = ("--error-logfile", "--access-logfile", "--json-access-logfile")
    settings = (text for flag, name in zip(flags, names, strict=True) for text in (flag, f"logs/{name}"))
    arguments = ("--user", "nobody", "--capture-output", *template, *settings)
    server = open_server.start(*arguments, app=PRINTS, config=config)
    workers = server.wait_for_workers(1)

    def is_written(path: str) -> None:
        server.get(path)
        expected = {"access.log": f"GET {path} ", "json.log": f'"{path}"', "error.log": f"said {path}\n"}
        for name, text in expected.items():
            wait_for(lambda name=name, text=text: text in server.read(f"logs/{name}"), what=f"{path} in {name}")
        wait_for(lambda: f"printed {path}\n" in server.read("logs/error.log"))

    is_written("/start")
    for name in names:
        (logs / name).rename(logs / f"{name}.old")
    server.kill(signal.SIGUSR1)
    wait_for(lambda: all((logs / name).exists() for name in names))

    def follows() -> bool:
        server.get("/rotated")
        return all("/rotated" in server.read(f"logs/{name}") for name in names)

    wait_for(follows, what="all are written anew")
    is_written("/rotated-all")
    assert server.worker_pids() == workers, "the rotation ended no worker"
    server.kill(signal.SIGTTIN)
    server.wait_for_workers(2)
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    is_written("/reloaded")
    assert "ERROR" not in server.read("logs/error.log")


@needs_root
def test_a_log_nobody_can_open_is_named_with_what_to_do(open_server):
    arguments = ("--user", "nobody", "--json-access-logfile", "missing/json.log")
    server = open_server.start(*arguments, app=WHOAMI)
    server.wait_for_log(
        r"\[ERROR\] JSON access log cannot be opened: missing/json\.log: No such file.*make its directory"
    )


@needs_root
def test_a_link_in_place_of_a_log_gives_nothing_away(open_server):
    """Who may write to the log directory must not be given the files of root."""
    secret = open_server.directory / "secret"
    secret.write_text("root's\n")
    os.symlink(secret, open_server.directory / "access.log")
    open_server.start("--user", "nobody", app=WHOAMI, access_log=True)
    assert owner(secret)[0] == 0


@needs_root
def test_reload_works_without_the_privileges(open_server):
    server = open_server.start("--user", "nobody", app=WHOAMI)
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    assert server.get().text.startswith(f"({NOBODY.pw_uid}, ")


@pytest.mark.parametrize("flag", ["--user", "--group"])
def test_unknown_name_is_refused_before_anything_starts(serve, flag):
    server = serve(WHOAMI, flag, "nobody-of-this-name", ready=None)
    assert server.wait_for_exit() == 1
    assert "nobody-of-this-name" in server.log
    assert "Starting" not in server.log
    assert "Traceback" not in server.log


#: Runs its arguments as a root that may not change its user or group (CAP_SETGID and CAP_SETUID dropped).
WITHOUT_SETUID = """
import ctypes, os, sys
for capability in (6, 7):
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@needs_root
def test_who_may_not_become_somebody_else_does_not_start(open_server):
    command = [sys.executable, "-c", WITHOUT_SETUID, *open_server.kind.module_command]
    server = open_server.start("--user", "nobody", app=WHOAMI, command=command, ready=None)
    assert server.wait_for_exit() == 3
    assert "Operation not permitted" in server.log


ECHO = """
    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]
"""


@needs_root
def test_uploads_do_not_need_the_directory_of_another_user(open_server):
    """TMPDIR is root's where root starts the server."""
    private = open_server.directory / "of-root"
    private.mkdir(mode=0o700)
    arguments = ("--user", "nobody", "--log-level", "debug")
    server = open_server.start(*arguments, app=ECHO, env={"TMPDIR": str(private)})
    body = os.urandom(300_000)
    answer = server.request("POST", "/", body=body)
    assert (answer.status, answer.body) == (200, body)
    server.wait_for_log(r"\[DEBUG\] Temporary files are made in /tmp \(system\)$")


@needs_root
def test_a_setting_that_cannot_be_honoured_is_told(open_server):
    private = open_server.directory / "of-root"
    private.mkdir(mode=0o700)
    server = open_server.start("--user", "nobody", app=ECHO, config=f"tmp_upload_dir = {str(private)!r}")
    body = os.urandom(300_000)
    assert server.request("POST", "/", body=body).body == body
    said = "emporary files are made in /tmp (system): none can be made in " + f"{private} (tmp_upload_dir)"
    server.wait_for_log(r"\[WARNING\] T" + re.escape(said))
    command = [server.kind.executable, "--check-config", "--user", "nobody", "app:application"]
    checked = subprocess.run(command, cwd=server.directory, capture_output=True, text=True, check=True)
    assert f"Warning: t{said}" in checked.stderr


#: A mount namespace of its own, seen by nobody else, in which the directories are read-only.
READ_ONLY = """
    mount --make-rprivate /
    for directory in {directories}; do
        mount --bind $directory $directory && mount -o remount,bind,ro $directory || exit 1
    done
    cd "$PWD" && exec "$@"
"""
NAMESPACE = ["unshare", "--map-root-user", "--mount"]


@pytest.mark.skipif(subprocess.run([*NAMESPACE, "true"], check=False).returncode != 0, reason="no namespaces here")
@pytest.mark.parametrize(
    ("read_only", "said"),
    [
        ("/tmp /var/tmp", r"\[DEBUG\] Temporary files are made in /dev/shm \(worker_tmp_dir\)"),
        ("/tmp /var/tmp /dev/shm", r"\[WARNING\] Temporary files cannot be made in any of .* in memory, \d+ bytes"),
    ],
    ids=["as-in-a-container", "nothing-writable"],
)
def test_uploads_on_a_read_only_root(serve, kind, read_only, said):
    command = [*NAMESPACE, "sh", "-c", READ_ONLY.format(directories=read_only), "sh", kind.executable]
    arguments = ("--worker-tmp-dir", "/dev/shm", "--log-level", "debug")
    server = serve(ECHO, *arguments, command=command, env={"PYTHONDONTWRITEBYTECODE": "1"})
    body = os.urandom(300_000)
    answer = server.request("POST", "/", body=body)
    assert (answer.status, answer.body) == (200, body)
    server.wait_for_log(said)
