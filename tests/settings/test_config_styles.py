"""Config files as they are found in the wild, one for each style: the server starts with it and answers.

Written here after the styles of public ones. ``installed`` tells whether Gunicorn is installed beside oxicorn.
"""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from tests.support.isolation import without_gunicorn
from tests.support.wait import wait_for

APP = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.environ.get('COLOUR', 'none')} {environ['SERVER_SOFTWARE']}".encode()]
"""


@pytest.fixture(params=[True, False], ids=["installed", "not installed"])
def installation(request, kind):
    """Options of a server on a machine with Gunicorn, and on one without."""
    if not request.param and kind.is_gunicorn:
        pytest.skip("there is no Gunicorn without Gunicorn")
    return {} if request.param else without_gunicorn()


def test_workers_from_the_number_of_processors(serve):
    config = """
        import multiprocessing
        import os

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
        name = "site"
        wsgi_app = "app:application"
        workers = min(multiprocessing.cpu_count() * 2 + 1, 3)
        threads = 2
        preload_app = True
        loglevel = "info"
        accesslog = "-"
        errorlog = "-"
        capture_output = True
    """
    server = serve(APP, spec=None, config=config)
    assert server.get().status == 200
    assert len(server.wait_for_workers(3)) == 3
    wait_for(lambda: '"GET / HTTP/1.1" 200' in server.read("stdout.log"))


def test_every_variable_with_a_prefix_is_a_setting(serve):
    config = """
        import os

        for key, value in os.environ.items():
            if key.startswith("GUNICORN_") and key != "GUNICORN_CMD_ARGS":
                locals()[key.split("_", 1)[1].lower()] = value
    """
    env = {
        "GUNICORN_WORKERS": "2",
        "GUNICORN_TIMEOUT": "20",
        "GUNICORN_RAW_ENV": "COLOUR=red",
        "GUNICORN_RELOAD": "False",
    }
    server = serve(APP, config=config, env=env)
    assert server.get().text.startswith("red ")
    assert len(server.wait_for_workers(2)) == 2


def test_variables_with_defaults_and_casts(serve):
    config = """
        import os
        from distutils_free import strtobool

        bind = os.getenv("WEB_BIND", "0.0.0.0:8000")
        accesslog = os.getenv("WEB_ACCESS_LOG", "-")
        access_log_format = "%(h)s %(l)s %(u)s %(t)s '%(r)s' %(s)s %(b)s '%(f)s' '%(a)s' in %(D)sus"
        workers = int(os.getenv("WEB_CONCURRENCY", 1))
        threads = int(os.getenv("PYTHON_MAX_THREADS", 1))
        reload = bool(strtobool(os.getenv("WEB_RELOAD", "false")))
        timeout = int(os.getenv("WEB_TIMEOUT", 120))
    """
    server = serve.new()
    server.write("distutils_free.py", "def strtobool(text): return text.lower() in ('y', 'yes', 'true', 'on', '1')\n")
    server.start(app=APP, config=config, env={"PYTHON_MAX_THREADS": "4", "WEB_CONCURRENCY": "2"})
    server.wait_for_log("Using worker: gthread")
    wait_for(lambda: re.search(r"'GET / HTTP/1\.1' 200 .* in \d+us$", server.read("stdout.log"), re.MULTILINE))


def test_logging_dictionary(serve):
    config = """
        import json, logging

        class JsonFormatter(logging.Formatter):
            def format(self, record):
                return json.dumps({"level": record.levelname, "logger": record.name, "message": record.getMessage()})

        logconfig_dict = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonFormatter}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
            "root": {"level": "INFO", "handlers": ["out"]},
            "loggers": {
                "gunicorn.error": {"level": "INFO", "handlers": ["out"], "propagate": False},
                "gunicorn.access": {"level": "INFO", "handlers": ["out"], "propagate": False},
            },
        }
    """
    server = serve(APP, config=config)
    server.get("/shop")
    wait_for(lambda: "/shop" in server.read("stdout.log"))
    found = [json.loads(line) for line in server.lines("stdout.log")]
    assert {"level": "INFO", "logger": "gunicorn.error", "message": "Using worker: sync"} in found
    assert any(line["logger"] == "gunicorn.access" and "GET /shop HTTP/1.1" in line["message"] for line in found)


def test_unix_socket_for_a_proxy(serve):
    config = """
        bind = "unix:shop.sock"
        umask = 0o007
        pidfile = "shop.pid"
        backlog = 64
        worker_tmp_dir = "/dev/shm"
        proc_name = "shop"
        forwarded_allow_ips = "*"
        secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
        keepalive = 75
        graceful_timeout = 5
        max_requests = 1000
        max_requests_jitter = 50
    """
    server = serve.new()
    server.bind = "unix:shop.sock"
    server.start(app=APP, config=config, bind="", ready=None)
    server.bind = "unix:shop.sock"
    server.wait_until_ready()
    assert server.get().status == 200
    assert int(server.read("shop.pid")) == server.pid


def test_preparing_the_machine_in_hooks(serve):
    config = """
        import os
        import shutil
        from pathlib import Path

        STATE = Path("state")

        def on_starting(server):
            shutil.rmtree(STATE, ignore_errors=True)
            os.makedirs(STATE / "uploads", exist_ok=True)
            os.environ["COLOUR"] = (STATE / "uploads").name
            server.log.info("state is ready in %s", STATE)

        def when_ready(server):
            (STATE / "ready").touch()

        def on_exit(server):
            shutil.rmtree(STATE, ignore_errors=True)
    """
    server = serve(APP, config=config)
    assert server.get().text.startswith("uploads ")
    assert (server.directory / "state" / "ready").exists()
    server.stop()
    assert not (server.directory / "state").exists()


def test_logger_made_from_gunicorns(serve, installation):
    config = """
        import logging
        from gunicorn import glogging

        class HealthFilter(logging.Filter):
            def filter(self, record):
                return "/health" not in record.getMessage()

        class CustomLogger(glogging.Logger):
            def setup(self, cfg):
                super().setup(cfg)
                logging.getLogger("gunicorn.access").addFilter(HealthFilter())

        accesslog = "-"
        logger_class = CustomLogger
    """
    server = serve(APP, config=config, **installation)
    server.get("/health")
    server.get("/shop")
    wait_for(lambda: "GET /shop" in server.read("stdout.log"))
    assert "GET /health" not in server.read("stdout.log")


def test_hidden_name_of_the_server(serve, installation):
    config = """
        import gunicorn

        gunicorn.SERVER: str = "undisclosed"
        gunicorn.SERVER_SOFTWARE: str = "undisclosed"

        timeout: int = 60
        workers: int = 1
    """
    server = serve(APP, config=config, **installation)
    answer = server.get()
    assert answer.text == "none undisclosed"
    assert answer.header("server") == "undisclosed"


def test_typed_hooks_that_name_gunicorns_classes(serve, installation):
    config = """
        from __future__ import annotations

        import sys, threading, traceback
        from gunicorn.arbiter import Arbiter
        from gunicorn.config import Config
        from gunicorn.http.message import Request
        from gunicorn.http.wsgi import Response
        from gunicorn.workers.base import Worker

        def pre_fork(server: Arbiter, worker: Worker) -> None:
            assert isinstance(server.cfg.workers, int)

        def post_fork(server: Arbiter, worker: Worker) -> None:
            server.log.info("Worker spawned (pid: %s)", worker.pid)

        def pre_exec(server: Arbiter) -> None:
            server.log.info("Forked child, re-executing.")

        def when_ready(server: Arbiter) -> None:
            server.log.info("Server is ready. Spawning workers")

        def worker_int(worker: Worker) -> None:
            worker.log.info("worker received INT or QUIT signal")
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, stack in sys._current_frames().items():
                worker.log.debug("%s: %s", names.get(ident), "".join(traceback.format_stack(stack)))

        def worker_abort(worker: Worker) -> None:
            worker.log.info("worker received SIGABRT signal")

        def pre_request(worker: Worker, req: Request) -> None:
            worker.log.info("%s %s", req.method, req.path)

        def post_request(worker: Worker, req: Request, environ: dict, resp: Response) -> None:
            worker.log.info("%s %s %s", resp.status_code, req.path, environ["REQUEST_METHOD"])

        def ssl_context(config: Config, default_ssl_context_factory):
            return default_ssl_context_factory()
    """
    server = serve(APP, config=config, **installation)
    server.get("/shop")
    server.wait_for_log("Server is ready. Spawning workers")
    server.wait_for_log(r"Worker spawned \(pid: \d+\)")
    server.wait_for_log("GET /shop$")
    server.wait_for_log("200 /shop GET$")
    assert server.stop() == 0


def test_settings_from_a_json_document(serve):
    config = """
        import json, os
        from pathlib import Path

        settings = json.loads(Path(os.environ["SHOP_CONFIG"]).read_text())
        globals().update({key: value for key, value in settings["gunicorn"].items() if not key.startswith("_")})
        del settings
    """
    server = serve.new()
    document = {"gunicorn": {"workers": 2, "raw_env": ["COLOUR=green"], "proc_name": "json", "_comment": "x"}}
    server.write("shop.json", json.dumps(document))
    server.start(app=APP, config=config, env={"SHOP_CONFIG": "shop.json"})
    assert server.get().text.startswith("green ")
    assert server.kind.title("worker", "json") in [process.title for process in server.processes()]


def test_workers_per_core_and_a_report_on_standard_output(serve):
    config = """
        import json, multiprocessing, os

        workers_per_core = float(os.getenv("WORKERS_PER_CORE", "1"))
        cores = multiprocessing.cpu_count()
        web_concurrency = max(int(workers_per_core * cores), 2)
        use_max_workers = int(os.getenv("MAX_WORKERS", "0") or 0)
        if use_max_workers:
            web_concurrency = min(web_concurrency, use_max_workers)
        host, port = os.getenv("HOST", "127.0.0.1"), os.getenv("SHOP_PORT", "8000")

        loglevel = os.getenv("LOG_LEVEL", "info")
        workers = web_concurrency
        bind = f"{host}:{port}"
        errorlog = "-"
        worker_tmp_dir = "/dev/shm"
        accesslog = None
        graceful_timeout = 120
        timeout = 120
        keepalive = 5

        print(json.dumps({"loglevel": loglevel, "workers": workers, "bind": bind}))
    """
    server = serve(APP, config=config, env={"MAX_WORKERS": "2"})
    assert server.get().status == 200
    (line,) = server.lines("stdout.log")
    assert json.loads(line)["workers"] == 2
    server.stop()
    assert server.lines("stdout.log") == [line], "once, not once for each process"


def test_settings_shared_by_several_files(serve):
    server = serve.new()
    (server.directory / "deploy").mkdir()
    server.write("deploy/__init__.py", "")
    server.write("deploy/base.py", "workers = 1\ntimeout = 50\n\ndef post_fork(server, worker):\n    pass\n")
    server.write("deploy/production.py", "from .base import *\n\nraw_env = ['COLOUR=blue']\nworkers = 2\n")
    server.start("--config", "python:deploy.production", app=APP)
    assert server.get().text.startswith("blue ")
    assert len(server.wait_for_workers(2)) == 2


def test_greenlets_where_they_can_be_had(serve):
    config = """
        try:
            from gevent import monkey
            monkey.patch_all()
            worker_class = "gevent"
        except ImportError:
            worker_class = "gthread"
            threads = 4
    """
    server = serve(APP, config=config)
    worker = "gevent" if importlib.util.find_spec("gevent") else "gthread"
    server.wait_for_log(f"Using worker: {worker}")
    assert server.get().status == 200


def test_asgi_application_with_uvicorns_worker_class(serve, kind):
    if kind.is_gunicorn:
        pytest.skip("uvicorn is not installed")
    app = """
        async def application(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"hello"})
    """
    config = """
        from multiprocessing import cpu_count

        bind = "127.0.0.1:8000"
        workers = min(cpu_count(), 2)
        worker_class = "uvicorn.workers.UvicornWorker"
        accesslog = "-"
    """
    assert serve(app, config=config).get().text == "hello"
