"""Paste Deploy: ``--paste``, and ``pserve`` with the server in ``[server:main]``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

APP = """
    def make(global_conf, **local_conf):
        def application(environ, start_response):
            body = f"{local_conf.get('colour')} {global_conf.get('shape')}".encode()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]
        return application
"""
INI = """\
[app:main]
paste.app_factory = shop:make
colour = red

[app:other]
paste.app_factory = shop:make
colour = blue
"""
PYRAMID = """
    from pyramid.config import Configurator
    from pyramid.response import Response

    def hello(request):
        return Response(f"hello {request.registry.settings['name']}", content_type="text/plain")

    def main(global_config, **settings):
        with Configurator(settings=settings) as config:
            config.add_route("hello", "/")
            config.add_view(hello, route_name="hello")
            return config.make_wsgi_app()
"""
PYRAMID_INI = """\
[app:main]
paste.app_factory = shop:main
pyramid.includes =
name = {name}

[server:main]
use = egg:{server}#main
host = 127.0.0.1
port = {port}
workers = 2
proc_name = pyramid-shop
{more}
"""


@pytest.fixture
def shop(serve):
    """A server with an ini file and its application."""
    server = serve.new()
    server.write("shop.py", APP)
    (server.directory / "shop.ini").write_text(INI)
    return server


def test_application_of_the_file(shop):
    shop.start("--paste", "shop.ini", spec=None)
    assert shop.get().text == "red None"
    assert any(str(shop.directory / "shop.ini") in process.title for process in shop.processes())


def test_named_application_and_variables(shop):
    shop.start("--paste", "shop.ini#other", "--paste-global", "shape=round", "--paste-global", "a=b", spec=None)
    assert shop.get().text == "blue round"


def test_file_named_in_the_config_file(shop):
    shop.start(spec=None, config="paste = 'shop.ini'\n")
    assert shop.get().text == "red None"


def test_reload_reads_the_file_again(shop):
    shop.start("--paste", "shop.ini", spec=None)
    (shop.directory / "shop.ini").write_text(INI.replace("red", "green"))
    old = shop.worker_pids()
    shop.kill(signal.SIGHUP)
    shop.wait_for_workers(1, without=old)
    assert shop.get().text == "green None"


def test_file_that_is_not_there(shop):
    shop.start("--paste", "nowhere.ini", spec=None, ready=None)
    assert shop.wait_for_exit() == 1
    assert f"Error: '{shop.directory}/nowhere.ini' not found" in shop.log


def test_old_file_for_gunicorn_works_as_it_is(shop):
    """``--paste`` does not look at the server's section."""
    (shop.directory / "shop.ini").write_text(INI + "\n[server:main]\nuse = egg:gunicorn#main\nworkers = 7\n")
    shop.start("--paste", "shop.ini", spec=None)
    assert shop.get().text == "red None"


def pserve(server, more: str = "", ready: str | None = "/"):
    server.write("shop.py", PYRAMID)
    text = PYRAMID_INI.format(name="world", server=server.kind.name, port=server.port, more=more)
    (server.directory / "shop.ini").write_text(text)
    command = [str(Path(sys.executable).parent / "pserve"), "shop.ini"]
    environment = {"PYTHONPATH": str(server.directory)}
    return server.start(command=command, bind="", spec=None, ready=ready, env=environment)


def test_pserve_runs_the_server_of_the_file(serve):
    server = pserve(serve.new())
    assert server.get().text == "hello world"
    assert len(server.wait_for_workers(2)) == 2
    assert server.kind.title("master", "pyramid-shop") in {process.title for process in server.processes()}
    assert server.stop() == 0


def test_pserve_with_a_config_file_that_gives_way(serve):
    server = serve.new()
    server.write("settings.py", "workers = 3\nraw_env = ['COLOUR=red']\nproc_name = 'other'\n")
    pserve(server, more="config = settings.py")
    server.wait_for_workers(2)
    assert server.kind.title("master", "pyramid-shop") in {process.title for process in server.processes()}


def test_pserve_refuses_what_is_no_setting(serve):
    server = pserve(serve.new(), more="worker = 3", ready=None)
    server.wait_for_exit()  # pserve has exit codes of its own
    assert "Error: No configuration setting for: worker" in server.log
