"""`preload_app`: a template process loads the application and forks the workers; the arbiter stays clean and awake."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.wait import stays, wait_for

#: ``/parents``: who loaded this, who serves, whose child that is, and whose it was when its Python began.
SOURCE = """
import os

LOADED_BY = os.getpid()
FIRST_PARENT = []
os.register_at_fork(after_in_child=lambda: FIRST_PARENT.append(os.getppid()))
VERSION = "1"


def application(environ, start_response):
    body = {
        "/parents": f"{LOADED_BY} {os.getpid()} {os.getppid()} {FIRST_PARENT[0] if FIRST_PARENT else 0}",
        "/version": VERSION,
        "/pid": str(os.getpid()),
        "/environment": os.environ.get("COLOUR", ""),
    }.get(environ["PATH_INFO"], "hello").encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
#: Waits at import until it may go on.
GATED = """
import os, time
open("importing", "w").close()
while not os.path.exists("gate"):
    time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def oxicorn_only(kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn loads the application in the arbiter")


@pytest.fixture
def source() -> str:
    """Source of the application."""
    return SOURCE


def template_pids(server) -> list[int]:
    return server.pids("template")


def begin_import(server, source: str = "") -> None:
    """A reload whose code waits at its import."""
    server.write("app.py", GATED + (source or SOURCE.replace('VERSION = "1"', 'VERSION = "2"')))
    server.kill(signal.SIGHUP)
    wait_for((server.directory / "importing").exists)


def test_workers_are_forked_from_the_template_and_are_the_arbiters_children(serve, source):
    server = serve(source, "--preload", "--workers", "2", "--name", "shop")
    template = server.only_pid("template")
    assert processes.read(template).title == "oxicorn: template [shop]"
    assert processes.read(template).parent == server.pid
    loaded, served, parent, first_parent = map(int, server.get("/parents").text.split())
    assert loaded == template
    assert served in server.worker_pids()
    assert parent == first_parent == server.pid
    assert all(processes.read(pid).parent == server.pid for pid in server.worker_pids())
    # Nothing is left of the processes between them.
    wait_for(lambda: len(server.processes()) == 5)


def test_each_reload_loads_the_code_in_a_new_process_and_ends_the_old_one(serve, source):
    server = serve(source, "--preload", "--workers", "2")
    old = server.only_pid("template")
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "2"'))
    server.reload()
    assert {server.get("/version").text for _ in range(6)} == {"2"}
    wait_for(lambda: len(template_pids(server)) == 1 and old not in template_pids(server))


def test_preloading_is_switched_on_and_off_by_reloads(serve, source):
    server = serve(source, config="workers = 1\n")
    assert template_pids(server) == []
    for preload, templates in (("True", 1), ("False", 0), ("True", 1)):
        server.write("gunicorn.conf.py", f"workers = 1\npreload_app = {preload}\n")
        server.reload()
        wait_for(lambda templates=templates: len(template_pids(server)) == templates)
        assert server.get().text == "hello"


def test_environment_is_that_of_the_generation(serve, source):
    server = serve(source, config="preload_app = True\nraw_env = ['COLOUR=red']\n")
    assert server.get("/environment").text == "red"
    server.write("gunicorn.conf.py", "preload_app = True\nraw_env = ['COLOUR=blue']\n")
    server.reload()
    assert server.get("/environment").text == "blue"


def test_dead_template_is_replaced_and_workers_serve_on(serve, source):
    server = serve(source, "--preload", "--workers", "2")
    workers = server.worker_pids()
    template = server.only_pid("template")
    os.kill(template, signal.SIGKILL)
    wait_for(lambda: template_pids(server) and template not in template_pids(server))
    server.wait_for_log(r"\[ERROR\] Template \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?")
    assert server.worker_pids() == workers
    # The new one forks, too.
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_workers(2, without=[workers[0]])
    assert server.get().text == "hello"


def test_worker_asked_for_while_there_is_no_template_waits_for_the_next(serve, source):
    server = serve(source, "--preload", "--workers", "1")
    server.write("app.py", GATED + source)
    template = server.only_pid("template")
    os.kill(template, signal.SIGKILL)
    wait_for((server.directory / "importing").exists)
    server.kill(signal.SIGTTIN)
    stays(lambda: len(server.worker_pids()) == 1, 0.3)
    (server.directory / "gate").touch()
    server.wait_for_workers(2)


def test_template_ends_with_a_killed_arbiter(serve, source):
    server = serve(source, "--preload")
    template = server.only_pid("template")
    server.kill(signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(template))


def test_signals_to_the_whole_group_do_not_end_the_template(serve, source):
    server = serve(source, "--preload", "--workers", "1")
    template = server.only_pid("template")
    workers = server.worker_pids()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(template, number)
    stays(lambda: template_pids(server) == [template], 0.3)
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_workers(1, without=workers)
    assert server.stop() == 0


def test_programs_that_the_application_starts_can_be_ended(serve, source):
    server = serve(
        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\nopen('child', 'w').write(f'{child.pid}')\n"
        + source,
        "--preload",
    )
    pid = int(server.read("child"))
    assert processes.is_alive(pid)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not processes.is_alive(pid))


def test_what_ends_with_the_interpreter_runs_at_a_stop(serve, source):
    server = serve(
        "import atexit, os\natexit.register(lambda: open('ended', 'a').write(f'{os.getpid()}\\n'))\n" + source,
        "--preload",
    )
    expected = {str(pid) for pid in (server.only_pid("template"), *server.worker_pids())}
    assert server.stop() == 0
    assert set(server.lines("ended")) == expected


def test_log_files_of_the_template_are_reopened(serve, source):
    config = "preload_app = True\nerrorlog = 'error.log'\ndef pre_fork(server, worker): server.log.info('forks one')\n"
    server = serve(source, config=config)
    (server.directory / "error.log").rename(server.directory / "rotated.log")
    server.kill(signal.SIGUSR1)
    wait_for(lambda: "Handling signal: usr1" in server.read("rotated.log"))
    server.kill(signal.SIGTTIN)
    wait_for(lambda: "forks one" in server.read("error.log"))


def test_recycling_scaling_and_reloading_by_the_source(serve, source):
    server = serve(source, "--preload", "--max-requests", "3", "--workers", "1")
    pids = set()
    wait_for(lambda: pids.add(server.get("/pid").text) or len(pids) >= 3)
    server.kill(signal.SIGTTIN)
    server.wait_for_workers(2)
    server.kill(signal.SIGTTOU)
    server.wait_for_workers(1)


# Code that takes long to import.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_stop_during_the_first_import_does_not_wait_for_it(serve, number):
    server = serve("import time\nopen('importing', 'w').close()\ntime.sleep(3600)\n", "--preload", ready=None)
    wait_for((server.directory / "importing").exists)
    # As a terminal does: to all of them.
    os.killpg(server.pid, number)
    assert server.wait_for_exit() == 0


def test_killed_worker_is_replaced_with_its_own_code_while_new_code_is_imported(serve, source):
    server = serve(source, "--preload", "--workers", "2")
    old = server.worker_pids()
    begin_import(server)
    os.kill(old[0], signal.SIGKILL)
    server.wait_for_workers(2, without=[old[0]])
    assert {server.get("/version").text for _ in range(10)} == {"1"}
    workers = server.worker_pids()
    (server.directory / "gate").touch()
    server.wait_for_workers(2, without=workers)
    assert {server.get("/version").text for _ in range(10)} == {"2"}


def test_arbiter_obeys_and_logs_while_new_code_is_imported(serve, source):
    server = serve(source, "--preload", "--workers", "1")
    begin_import(server)
    server.kill(signal.SIGTTIN)
    server.wait_for_log("Handling signal: ttin")
    server.kill(signal.SIGTERM)
    assert server.wait_for_exit() == 0


def test_import_that_hangs_is_given_up_with_its_stacks(serve, source):
    server = serve(source, "--preload", "--boot-timeout", "1")
    old = server.worker_pids()
    server.write("app.py", "import time\ndef hang():\n    time.sleep(3600)\nhang()\n")
    server.kill(signal.SIGHUP)
    server.wait_for_log(r"\[CRITICAL\] TEMPLATE TIMEOUT \(pid:\d+\)")
    server.wait_for_log(r"Stacks of template \(pid:\d+\):")
    server.wait_for_log(r'app.py", line 3 in hang')
    server.wait_for_log(r"generation 2 is given up, .* Reason: App was not loaded in time \(boot_timeout\)\.")
    wait_for(lambda: len(template_pids(server)) == 1)
    assert server.worker_pids() == old
    assert server.get("/version").text == "1"


def test_first_import_that_is_only_slow_gets_there(serve, source):
    server = serve("import time\ntime.sleep(1.6)\n" + source, "--preload", "--boot-timeout", "1", ready=None)
    server.wait_for_log(r"had not loaded the application after 1 s \(boot_timeout\)\. The next one has 2 s\.")
    server.wait_until_ready()


# Code that cannot be loaded.

FAILURES = {
    "raise RuntimeError('broken deploy')": r"Traceback [\s\S]*RuntimeError: broken deploy",
    "import sys; sys.exit('FATAL: DATABASE_URL is not set')": r"\[ERROR\] .*FATAL: DATABASE_URL is not set",
    "import sys; sys.exit(0)": r"\[ERROR\] .*the application called sys\.exit\(0\)",
    "import os; os._exit(5)": r"Template \(pid:\d+\) exited with code 5\.",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": r"Template \(pid:\d+\) was sent SIGSEGV!",
    "def broken(:": r"SyntaxError",
    "other = 1": r"\[ERROR\] Failed to find attribute 'application' in 'app'\.",
}
NAMES = ["exception", "exit-text", "exit-0", "_exit", "segfault", "syntax", "attribute"]


@pytest.mark.parametrize(("code", "said"), FAILURES.items(), ids=NAMES)
def test_code_that_cannot_be_loaded_is_told_once_and_the_old_serves_on(serve, source, code, said):
    config = "preload_app = True\nerrorlog = 'error.log'\n"
    server = serve(source, config=config)
    old = server.worker_pids()
    template = server.only_pid("template")
    server.write("app.py", code + "\n")
    server.kill(signal.SIGHUP)
    wait_for(
        lambda: "is given up, generation 1 goes on serving. Reason: App failed to load." in server.read("error.log")
    )
    assert len(re.findall(said, server.read("error.log"))) == 1
    assert server.worker_pids() == old
    wait_for(lambda: template_pids(server) == [template])
    assert server.get("/version").text == "1"
    server.write("app.py", source.replace('VERSION = "1"', 'VERSION = "3"'))
    server.reload()
    assert server.get("/version").text == "3"


@pytest.mark.parametrize(("code", "said"), FAILURES.items(), ids=NAMES)
def test_code_that_cannot_be_loaded_ends_the_first_boot(serve, code, said):
    server = serve(code + "\n", "--preload", "--workers", "2", ready=None)
    assert server.wait_for_exit() == 1
    assert len(re.findall(said, server.log)) == 1
    assert "[ERROR] Reason: App failed to load." in server.log


# Hooks.

HOOKS = """
import os
preload_app = True
workers = 2

def on_starting(server):
    server.free = []
    server.highest = 0

def pre_fork(server, worker):
    server.app.wsgi()  # What is preloaded is there.
    if server.free:
        worker.number = server.free.pop()
    else:
        server.highest += 1
        worker.number = server.highest
    in_use = sorted(other.number for other in server.WORKERS.values())
    server.log.info("pre_fork %s beside %s in %s", worker.number, in_use, os.getpid())

def post_fork(server, worker):
    os.environ["COLOUR"] = str(worker.number)

def child_exit(server, worker):
    server.free.append(worker.number)
    server.log.info("child_exit %s", worker.number)

def nworkers_changed(server, new, old):
    server.wanted = new
"""


def test_pre_fork_runs_with_the_application_and_knows_what_other_hooks_know(serve, source):
    server = serve(source, config=HOOKS)
    template = server.only_pid("template")
    server.wait_for_log(rf"pre_fork 1 beside \[\] in {template}$")
    server.wait_for_log(rf"pre_fork 2 beside \[1\] in {template}$")
    workers = server.wait_for_workers(2)
    numbers: set[str] = set()
    wait_for(lambda: numbers.add(server.get("/environment").text) or numbers == {"1", "2"})
    # A number given back by a hook in the arbiter is given out again by one in the template.
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_log(r"child_exit 1$")
    server.wait_for_log(r"pre_fork 1 beside \[2\]")


FAILING_HOOK = """
import os
preload_app = True
def pre_fork(server, worker):
    if os.path.exists("bad"):
        raise RuntimeError("not now")
"""
HANGING_HOOK = """
import os, time
preload_app = True
boot_timeout = 1
def pre_fork(server, worker):
    if os.path.exists("hang"):
        time.sleep(3600)
"""


def test_failing_pre_fork_of_a_serving_server_is_logged_and_tried_again(serve, source):
    server = serve(source, config=FAILING_HOOK)
    (server.directory / "bad").touch()
    server.kill(signal.SIGTTIN)
    server.wait_for_log(r"RuntimeError: not now", count=2)
    (server.directory / "bad").unlink()
    server.wait_for_workers(2)


def test_hook_that_hangs_costs_the_template_not_the_server(serve, source):
    server = serve(source, config=HANGING_HOOK)
    (server.directory / "hang").touch()
    server.kill(signal.SIGTTIN)
    server.wait_for_log(r"stands still in a fork")
    server.wait_for_log(r'gunicorn.conf.py", line 7 in pre_fork')
    (server.directory / "hang").unlink()
    server.wait_for_workers(2)


RECIPE = """
import os
preload_app = True
workers = 2

def on_starting(server):
    server._worker_id_overload = set()

def nworkers_changed(server, new_value, old_value):
    server._worker_id_current_workers = new_value

def _next_worker_id(server):
    if server._worker_id_overload:
        return server._worker_id_overload.pop()
    in_use = {w._worker_id for w in tuple(server.WORKERS.values()) if w.alive}
    free = set(range(1, server._worker_id_current_workers + 1)) - in_use
    return free.pop()

def on_reload(server):
    server._worker_id_overload = set(range(1, server.cfg.workers + 1))

def pre_fork(server, worker):
    worker._worker_id = _next_worker_id(server)

def post_fork(server, worker):
    os.environ["COLOUR"] = str(worker._worker_id)
    server.log.info("is number %s", worker._worker_id)
"""


def test_widespread_recipe_that_numbers_workers(serve, source):
    server = serve(source, config=RECIPE)
    for number in (1, 2):
        server.wait_for_log(rf"is number {number}$")
    workers = server.wait_for_workers(2)
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=workers)
    for number in (1, 2):
        server.wait_for_log(rf"is number {number}$", count=2)
    server.kill(signal.SIGTTIN)
    server.wait_for_log(r"is number 3$")
    assert "Traceback" not in server.log


def test_failing_post_fork_ends_the_first_boot_with_its_code(serve, source):
    config = "preload_app = True\nworkers = 2\ndef post_fork(server, worker): raise RuntimeError('no')\n"
    server = serve(source, config=config, ready=None)
    assert server.wait_for_exit() == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_import_runs_as_who_started_the_server_and_workers_do_not(serve, source):
    server = serve.new()
    server.directory.chmod(0o755)
    server.write("secret", "for root")
    (server.directory / "secret").chmod(0o600)
    app = "SECRET = open('secret').read()\n" + source.replace('"/pid": str(os.getpid())', '"/pid": str(os.getuid())')
    server.start("--preload", "--user", "nobody", app=app, ready=None)
    server.wait_until_ready()
    assert server.get("/pid").text != "0"


def test_code_that_a_hook_imported_in_the_arbiter_is_said_not_to_be_loaded_again(serve, source):
    server = serve(source, config="preload_app = True\ndef when_ready(server): server.app.wsgi()\n")
    server.reload()
    server.wait_for_log(r"\[WARNING\] The application was imported in the arbiter, by a hook or the config file")


# What an import leaves behind.


def test_threads_that_an_import_starts_run_once_and_in_the_template(serve, source):
    beats = """
import os, threading, time
def beat():
    while True:
        with open("beats", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(0.01)
threading.Thread(target=beat, daemon=True).start()
"""
    server = serve(beats + source, "--preload", "--workers", "2")
    for _ in range(2):
        wait_for(lambda: template_pids(server) == [int(server.read("beats") or 0)])
        server.reload()
        # The last beat of the old one stays until the new one's next.
        wait_for(lambda: template_pids(server) == [int(server.read("beats") or 0)])
        stays(lambda: server.read("beats") in ("", *map(str, template_pids(server))), 0.1)


def test_metrics_handlers_and_signal_receivers_of_a_module_survive_reloads(serve):
    server = serve(
        """
        import logging

        import prometheus_client

        REQUESTS = prometheus_client.Counter("shop_requests", "Requests")
        handler = logging.FileHandler("app.log")
        logging.getLogger("shop").addHandler(handler)

        def application(environ, start_response):
            logging.getLogger("shop").warning("asked")
            REQUESTS.inc()
            start_response("200 OK", [])
            return [str(len(logging.getLogger("shop").handlers)).encode()]
        """,
        "--preload",
    )
    for _ in range(3):
        server.reload()
    lines = len(server.lines("app.log"))
    assert server.get().text == "1"
    assert len(server.lines("app.log")) == lines + 1
    assert "Duplicated timeseries" not in server.log


DJANGO = """
import os, sys

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="app", USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "members"], AUTH_USER_MODEL="members.Member",
)
django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from members.models import Member, Note, saved

if not os.path.exists("tables"):
    with connection.schema_editor() as editor:
        for model in (Member, Note):
            editor.create_model(model)
    connection.close()
    open("tables", "w").close()


def index(request):
    member = Member.objects.create(username=f"m{Member.objects.count()}")
    Note.objects.create(author=member)
    return HttpResponse(f"VERSION {len(saved)}")


urlpatterns = [path("", index)]
application = get_wsgi_application()
"""
MEMBERS = """
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver


class Member(AbstractBaseUser):
    username = models.CharField(max_length=40, unique=True)
    USERNAME_FIELD = "username"


class Note(models.Model):
    author = models.ForeignKey("members.Member", on_delete=models.CASCADE)


saved = []


@receiver(post_save, sender=Member)
def on_saved(sender, **kwargs):
    saved.append(1)
"""


def test_django_with_its_own_user_model_over_reloads(serve):
    server = serve.new()
    package = server.directory / "members"
    package.mkdir()
    (package / "__init__.py").touch()
    server.write("members/models.py", MEMBERS)
    server.start("--preload", app=DJANGO, ready=None)
    server.wait_until_ready()
    for version in ("1", "2"):
        server.write("app.py", DJANGO.replace("VERSION", version))
        server.reload()
        answer = server.get()
        assert (answer.status, answer.text) == (200, f"{version} 1"), "the receiver ran, once"


# Memory.


def private_memory(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = (int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty:"))
    return sum(sizes) * 1024


def test_memory_of_the_application_is_shared_also_after_collections(serve):
    server = serve(
        """
        import gc
        DATA = [{"number": number, "text": [str(number)]} for number in range(60_000)]

        def application(environ, start_response):
            gc.collect()
            start_response("200 OK", [])
            return [b"hello"]
        """,
        "--preload",
    )
    server.get()
    (worker,) = server.worker_pids()
    # What is loaded takes more than 20 MiB, nearly all of it in objects that a collection would write to.
    assert private_memory(worker) < 12 * 1024 * 1024
