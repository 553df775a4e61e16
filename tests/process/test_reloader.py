"""``--reload``: a changed source is a new generation of workers; broken code takes nothing down."""

from __future__ import annotations

import os
import signal
import time

import pytest

from oxicorn.reloader import Reloader
from tests.support.greenlets import GEVENT
from tests.support.load import Load
from tests.support.wait import stays, wait_for

MODULE = """
import os
from part import VERSION

def application(environ, start_response):
    body = {"/pid": str(os.getpid())}.get(environ["PATH_INFO"], VERSION).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
#: A save is noticed after a second at the latest, and takes a start of workers.
PATIENCE = 40.0


def start(serve, *args: str, **options: object):
    server = serve.new()
    server.write("part.py", "VERSION = '1'\n")
    return server.start("--reload", *args, app=MODULE, **options)


def save(server, version: str) -> None:
    server.write("part.py", f"VERSION = {version!r}\n")


def wait_for_version(server, version: str) -> None:
    wait_for(
        lambda: server.get().text == version, PATIENCE, lambda: f"version {version} of {server.get()}:\n{server.log}"
    )


@pytest.mark.parametrize("engine", ["poll", "inotify", "auto"])
def test_changed_module_is_served(serve, engine):
    server = start(serve, "--reload-engine", engine)
    server.wait_for_log(r"\[WARNING\] Reloader is on\. Use in development only!")
    assert server.get().text == "1"
    for version in ("2", "3"):
        save(server, version)
        wait_for_version(server, version)
    server.wait_for_log(r"Worker reloading: .*/part\.py modified", count=2)


@pytest.mark.parametrize("worker", ["sync", "gthread", GEVENT])
def test_no_request_fails_while_sources_change(serve, worker):
    threads = "2" if worker == "gthread" else "1"
    server = start(serve, "--workers", "2", "--worker-class", worker, "--threads", threads)
    with Load(server.address, clients=4, pause=0.004) as load:
        for version in ("2", "3", "4"):
            save(server, version)
            wait_for_version(server, version)
            load.wait_for_answers(20)
    load.assert_flawless(at_least=60)


def test_one_change_is_one_reload_whoever_sees_it(serve):
    server = start(serve, "--workers", "3", config="def on_reload(server):\n    print('reload', flush=True)\n")
    old = server.worker_pids()
    save(server, "2")
    server.wait_for_workers(3, without=old)
    new = server.worker_pids()
    stays(lambda: server.worker_pids() == new, 2.5)
    assert server.lines("stdout.log") == ["reload"]


@pytest.mark.parametrize(
    "broken", ["VERSION = (\n", "raise ValueError('half saved')\n", "import nothing_of_this_name\n"]
)
def test_broken_code_leaves_the_old_serving_until_it_is_mended(serve, broken):
    server = start(serve)
    old = server.worker_pids()
    server.write("part.py", broken)
    server.wait_for_log(r"SyntaxError|half saved|nothing_of_this_name")
    wait_for(lambda: server.worker_pids() == old)
    assert server.get().text == "1"
    save(server, "2")
    wait_for_version(server, "2")


def test_file_that_only_broken_code_has_loaded_is_watched(serve):
    """The old workers have never heard of it, and still its mending is noticed."""
    server = start(serve)
    package = server.directory / "fresh"
    package.mkdir()
    server.write("fresh/__init__.py", "VERSION = undefined\n")
    server.write("app.py", MODULE.replace("from part", "from fresh"))
    server.wait_for_log("NameError")
    assert server.get().text == "1"
    server.write("fresh/__init__.py", "VERSION = '2'\n")
    wait_for_version(server, "2")


def test_syntax_error_at_the_start_is_shown_and_mended(serve):
    server = serve.new()
    server.write("part.py", "VERSION = (\n")
    server.start("--reload", app=MODULE)
    answer = server.get()
    assert answer.status == 500
    assert "SyntaxError" in answer.text
    assert "part.py" in answer.text
    save(server, "2")
    wait_for_version(server, "2")


def test_other_errors_at_the_start_end_the_server(serve):
    server = serve.new()
    server.write("part.py", "raise ValueError('no')\n")
    server.start("--reload", app=MODULE, ready=None)
    assert server.wait_for_exit() == 3


def test_extra_files_and_patterns_are_watched(serve):
    server = serve.new()
    (server.directory / "pages").mkdir()
    server.write("pages/one.html", "one")
    server.write("app.ini", "a")
    server.write("part.py", "VERSION = open('app.ini').read() + ''.join(sorted(os.listdir('pages')))\n")
    server.write("part.py", "import os\n" + server.read("part.py"))
    server.start("--reload", "--reload-extra-file", "app.ini", "--reload-extra-file", "pages/*.html", app=MODULE)
    wait_for_version(server, "aone.html")
    server.write("app.ini", "b")
    wait_for_version(server, "bone.html")
    old = server.worker_pids()
    server.write("pages/one.html", "changed")
    server.wait_for_workers(1, without=old)
    server.write("pages/two.html", "new")
    wait_for_version(server, "bone.htmltwo.html")


def test_other_files_of_a_directory_do_not_matter(serve):
    """A database or a log beside the source is written all the time."""
    server = start(serve, "--reload-engine", "inotify")
    old = server.worker_pids()
    server.write("database.sqlite", "1")
    (server.directory / "database.sqlite").write_text("2")
    stays(lambda: server.worker_pids() == old, 1.5)
    save(server, "2")
    wait_for_version(server, "2")


def test_touch_is_a_change_and_removal_is_none(serve):
    server = start(serve)
    old = server.worker_pids()
    os.utime(server.directory / "part.py", (1, 1))
    server.wait_for_workers(1, without=old)
    old = server.worker_pids()
    (server.directory / "part.py").unlink()
    stays(lambda: server.worker_pids() == old, 1.5)
    save(server, "2")
    wait_for_version(server, "2")


def test_a_link_that_leads_elsewhere_is_a_change(serve):
    """Deployments switch a link from one release to the next."""
    server = serve.new()
    for version in ("1", "2"):
        (server.directory / version).mkdir()
        server.write(f"{version}/part.py", f"VERSION = {version!r}\n")
    link = server.directory / "part.py"
    link.symlink_to("1/part.py")
    server.start("--reload", app=MODULE)
    assert server.get().text == "1"
    (server.directory / "new").symlink_to("2/part.py")
    (server.directory / "new").rename(link)
    wait_for_version(server, "2")
    server.write("2/part.py", "VERSION = '3'\n")
    wait_for_version(server, "3")


def test_preloaded_code_is_reloaded(serve):
    server = start(serve, "--preload")
    save(server, "2")
    wait_for_version(server, "2")
    server.write("part.py", "VERSION = (\n")
    server.wait_for_log("SyntaxError")
    assert server.get().text == "2"
    save(server, "3")
    wait_for_version(server, "3")


def test_settings_are_read_again_with_the_source(serve):
    server = start(serve, config="workers = 1\n")
    server.write("gunicorn.conf.py", "workers = 2\n")
    server.wait_for_workers(2)


def test_reloading_goes_on_after_a_reload_by_hand(serve):
    server = start(serve)
    old = server.worker_pids()
    server.kill(signal.SIGHUP)
    server.wait_for_workers(1, without=old)
    save(server, "2")
    wait_for_version(server, "2")


def test_asgi_applications_are_reloaded_too(serve):
    source = """
        from part import VERSION

        async def application(scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": VERSION.encode()})
    """
    server = serve.new()
    server.write("part.py", "VERSION = (\n")
    server.start("--reload", "--worker-class", "asgi", app=source)
    answer = server.get()
    assert (answer.status, "SyntaxError" in answer.text) == (500, True)
    save(server, "1")
    wait_for_version(server, "1")
    save(server, "2")
    wait_for_version(server, "2")


def test_without_reload_nothing_is_watched(serve):
    server = serve.new()
    server.write("part.py", "VERSION = '1'\n")
    server.start(app=MODULE)
    old = server.worker_pids()
    save(server, "2")
    stays(lambda: server.worker_pids() == old and server.get().text == "1", 1.5)


# spew


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_spew_prints_the_lines_of_the_application(serve, worker):
    server = serve(
        MODULE.replace("from part import VERSION", "VERSION = '1'"),
        "--spew",
        "--worker-class",
        worker,
        "--threads",
        "2" if worker == "gthread" else "1",
        env={"PYTHONUNBUFFERED": "1"},
    )
    server.get()
    line = "app:6:     body = "
    wait_for(lambda: any(found.startswith(line) for found in server.lines("stdout.log")))


@pytest.mark.parametrize("seconds", [-5, 0])
def test_a_link_made_while_the_application_was_loaded_is_a_change(tmp_path, seconds):
    """Its target is as old as ever; what counts is whether the link is younger than the worker."""
    reloader = Reloader(extra_files=[str(tmp_path / "link")])
    (tmp_path / "old").write_text("")
    os.utime(tmp_path / "old", (1, 1))
    (tmp_path / "link").symlink_to("old")
    made = time.time_ns() + seconds * 1_000_000_000
    os.utime(tmp_path / "link", ns=(made, made), follow_symlinks=False)
    changed = [str(tmp_path / "link")] if seconds == 0 else []
    assert [name for name in reloader.changed_files() if "link" in name] == changed


def test_what_changes_after_the_start_of_watching_is_never_missed(tmp_path):
    """Also where the thread has not run yet: the first look is taken before."""
    path = tmp_path / "file"
    path.write_text("1")
    os.utime(path, (1, 1))
    seen = []
    reloader = Reloader(extra_files=[str(path)], callback=seen.append)
    reloader.report()
    path.write_text("22")
    os.utime(path, (1, 1))
    reloader.report()
    assert seen == [str(path)]
