"""uvicorn's worker classes for Gunicorn: by name, and as bases of classes with ``CONFIG_KWARGS``."""

from __future__ import annotations

import inspect
import json

import pytest
import uvicorn

from oxicorn.config import Config
from oxicorn.workers import uvicorn as uvicorns
from tests.support.server import Servers
from tests.support.websocket import WebSocket

SOURCE = """
    import asyncio, json, logging

    from {module} import UvicornWorker

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            logging.getLogger("uvicorn.error").info("said by uvicorn.error")
            logging.getLogger("uvicorn.access").info("said by uvicorn.access")
            return await send({{"type": "lifespan.startup.complete"}})
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        found = json.dumps([scope["client"], scope["root_path"], loop]).encode()
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"yes")]}})
        await send({{"type": "http.response.body", "body": found}})

    def create():
        return application

    class Configured(UvicornWorker):
        CONFIG_KWARGS = {{
            "loop": "asyncio", "http": "h11", "root_path": "/api", "lifespan": "on", "ws_max_size": 100,
            "ws_ping_interval": 30.0, "ws_ping_timeout": None, "ws_per_message_deflate": False,
            "forwarded_allow_ips": ["127.0.0.1", "10.0.0.0/8"], "headers": [("X-Added", "always")],
            "server_header": False, "limit_concurrency": 50, "access_log": True, "log_level": "debug",
            "unknown_to_us": 1,
        }}

        def init_process(self):
            self.log.info("init_process of %s", type(self).__name__)
            super().init_process()

    class Plain(UvicornWorker):
        CONFIG_KWARGS = {{"factory": True, "proxy_headers": False}}
"""

MODULES = ["uvicorn.workers", "uvicorn_worker"]
FORWARDED = [("X-Forwarded-For", "203.0.113.9, 10.0.0.1")]

pytestmark = pytest.mark.usefixtures("only_oxicorn")


@pytest.mark.parametrize("module", MODULES)
def test_configured_class(serve: Servers, module: str) -> None:
    server = serve(SOURCE.format(module=module), "-k", "app.Configured", "--access-logfile", "access.log")
    answer = server.request("GET", "/", FORWARDED)
    assert json.loads(answer.text) == [["203.0.113.9", 0], "/api", "asyncio"]
    assert (answer.header("x-added"), answer.header("x-own")) == ("always", "yes")
    log = server.log
    assert "init_process of Configured" in log
    assert "Using worker: app.Configured" in log
    assert "said by uvicorn.error" in log
    assert "said by uvicorn.access" in server.read("access.log")
    untranslated = [line for line in log.splitlines() if "CONFIG_KWARGS" in line]
    assert ["server_header" in line or "unknown_to_us" in line for line in untranslated] == [True, True], log
    assert "the server writes Server itself" in log


def test_what_is_translated_is_a_setting(serve: Servers) -> None:
    config = """
        worker_class = "app.Configured"
        def when_ready(server):
            cfg = server.cfg
            found = (cfg.websocket_max_message_size, cfg.websocket_ping_interval, cfg.websocket_ping_timeout,
                     cfg.websocket_compression, cfg.worker_connections, cfg.asgi_lifespan)
            server.log.info("found %s", " ".join(map(str, found)))
    """
    server = serve(SOURCE.format(module="uvicorn_worker"), config=config)
    assert "found 100 30 0 off 50 on" in server.log
    with WebSocket(server.address, "/", [("Sec-WebSocket-Extensions", "permessage-deflate")]) as client:
        assert client.answer.header("sec-websocket-extensions") is None


def test_a_setting_that_the_class_makes_void_is_named(serve: Servers) -> None:
    """uvicorn's class updates its arguments with CONFIG_KWARGS last: they hold before the command line."""
    flags = ["-k", "app.Configured", "--root-path", "/flag", "--asgi-lifespan", "on"]
    server = serve(SOURCE.format(module="uvicorn_worker"), *flags)
    assert json.loads(server.get("/").text)[1] == "/api"
    void = [line for line in server.log.splitlines() if " holds, as with uvicorn's class" in line]
    assert len(void) == 1
    assert "CONFIG_KWARGS['root_path'] holds, as with uvicorn's class, and not the setting root_path (/flag)" in void[0]


@pytest.mark.parametrize(("flags", "grace"), [([], 86_400), (["--asgi-disconnect-grace-period", "3"], 3)])
def test_calls_of_clients_that_left_go_on_unless_a_setting_ends_them(
    serve: Servers, flags: list[str], grace: int
) -> None:
    hook = "def post_worker_init(worker):\n    worker.log.info('grace %s', worker.cfg.asgi_disconnect_grace_period)\n"
    server = serve(SOURCE.format(module="uvicorn.workers"), "-k", "uvicorn.workers.UvicornWorker", *flags, config=hook)
    server.wait_for_log(f"grace {grace}$")


def test_factory_and_no_proxy_headers(serve: Servers) -> None:
    server = serve(SOURCE.format(module="uvicorn_worker"), "-k", "app.Plain", spec="app:create")
    assert json.loads(server.request("GET", "/", FORWARDED).text)[0][0] == "127.0.0.1"


def test_class_in_the_config_file(serve: Servers) -> None:
    config = """
        from uvicorn.workers import UvicornWorker
        class Here(UvicornWorker):
            CONFIG_KWARGS = {"root_path": "/here"}
        worker_class = Here
    """
    server = serve(SOURCE.format(module="uvicorn_worker"), config=config)
    assert json.loads(server.get("/").text)[1] == "/here"
    assert "Using worker: Here" in server.log


def test_a_wrong_value_is_one_clear_line(serve: Servers) -> None:
    config = """
        from uvicorn.workers import UvicornWorker
        class Here(UvicornWorker):
            CONFIG_KWARGS = {"lifespan": "sometimes"}
        worker_class = Here
    """
    server = serve(SOURCE.format(module="uvicorn_worker"), config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert "worker_class Here: CONFIG_KWARGS['lifespan']: " in server.log
    assert "Traceback" not in server.log


def test_tls_that_was_asked_for_is_never_left_out(serve: Servers) -> None:
    config = """
        from uvicorn.workers import UvicornWorker
        class Here(UvicornWorker):
            CONFIG_KWARGS = {"ssl_certfile": "missing.pem", "ssl_keyfile": "missing.pem"}
        worker_class = Here
    """
    server = serve(SOURCE.format(module="uvicorn_worker"), config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert "missing.pem cannot be read" in server.log


#: What uvicorn does by an argument with this value, and the server does not.
NOT_TRANSLATED = {
    "http2": True,
    "env_file": ".env",
    "interface": "wsgi",
    "ws": "none",
    "ws_max_queue": 5,
    "server_header": False,
    "date_header": False,
    "h11_max_incomplete_event_size": 1000,
    "ssl_version": 17,
    "ssl_context_factory": lambda config, default: default(),
    "reset_contextvars": True,
}
#: What is a setting with some of its values.
TRANSLATED = {
    "loop": "uvloop",
    "proxy_headers": True,
    "forwarded_allow_ips": "*",
    "ws_ping_interval": 1.0,
    "ws_ping_timeout": 1.0,
    "ws_per_message_deflate": False,
    "access_log": False,
}


def test_no_argument_of_uvicorns_is_lost_unseen() -> None:
    """Whatever ``uvicorn.Config`` takes is translated, or named in the log, or without effect there too."""
    arguments = set(inspect.signature(uvicorn.Config).parameters)
    known = {*uvicorns.SETTINGS, *uvicorns.SEEN_TO, *TRANSLATED, *NOT_TRANSLATED}
    assert arguments <= known
    worker = type("Here", (uvicorns.UvicornWorker,), {"CONFIG_KWARGS": {**TRANSLATED, **NOT_TRANSLATED}})
    lines = list(uvicorns.translate(worker, Config()))
    assert [
        f"CONFIG_KWARGS[{name!r}] has no effect here" in line for name, line in zip(NOT_TRANSLATED, lines, strict=True)
    ]


BEFORE = {"PYTHONPATH": ".", "PYTHONWARNINGS": "ignore"}


def test_class_of_the_real_package_that_was_imported_before(serve: Servers) -> None:
    """It has the real Gunicorn below it: what it says counts, and what it overrides is not lost unseen."""
    server = serve.new()
    server.write("sitecustomize.py", "import uvicorn_worker\n")
    source = SOURCE.format(module="uvicorn_worker")
    server.start("-k", "app.Plain", app=source, spec="app:create", env=BEFORE)
    assert json.loads(server.request("GET", "/", FORWARDED).text)[0][0] == "127.0.0.1"
    assert "app.Plain is served by oxicorn's own asgi worker, with its CONFIG_KWARGS" in server.log
    refused = serve.new()
    refused.write("sitecustomize.py", "import uvicorn_worker\n")
    refused.start("-k", "app.Configured", app=source, env=BEFORE, ready=None)
    assert refused.wait_for_exit() == 1
    assert "worker_class app.Configured: overrides init_process, and its base was imported before" in refused.log


def test_what_needs_uvicorns_own_configuration_is_told_what_to_do(serve: Servers) -> None:
    config = """
        from uvicorn.workers import UvicornWorker
        class Here(UvicornWorker):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.config.http = "h11"
        worker_class = Here
    """
    server = serve(SOURCE.format(module="uvicorn_worker"), config=config, ready=None)
    server.wait_for_log("there is no uvicorn.Config here: say what it shall be in CONFIG_KWARGS")
    server.stop()
