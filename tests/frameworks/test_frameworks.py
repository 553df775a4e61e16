"""Frameworks that are not in examples/, and a fresh Django project, served as their users do."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.load import Load

FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def test_fresh_django_project(serve, worker):
    """`django-admin startproject`, nothing changed: the admin's login page, sessions, CSRF, redirects."""
    new = serve.new()
    environment = new.environment({})

    def run(*args: str) -> None:
        subprocess.run([sys.executable, *args], cwd=new.directory, env=environment, check=True, timeout=40)

    run("-m", "django", "startproject", "site_", ".")
    run("manage.py", "migrate", "--verbosity", "0")
    server = new.start(*worker, spec="site_.wsgi", env={"DJANGO_SETTINGS_MODULE": "site_.settings"}, ready="/admin/")
    host = ("Host", "127.0.0.1")
    welcome = server.get("/", [host])
    assert welcome.status == 200
    assert b"The install worked successfully" in welcome.body
    answer = server.get("/admin/", [host])
    assert (answer.status, answer.header("location")) == (302, "/admin/login/?next=/admin/")
    login = server.get("/admin/login/?next=/admin/", [host])
    token = login.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    cookie = login.header("set-cookie").partition(";")[0]
    body = f"csrfmiddlewaretoken={token}&username=nobody&password=wrong&next=/admin/".encode()
    refused = server.request("POST", "/admin/login/?next=/admin/", [host, *FORM, ("Cookie", cookie)], body)
    assert refused.status == 200
    assert b"Please enter the correct username and password" in refused.body
    assert server.request("POST", "/admin/login/", [host, *FORM], body).status == 403
    assert server.get("/missing/", [host]).status == 404


def test_bottle(serve, worker):
    server = serve(
        """
        import bottle

        application = bottle.Bottle()

        @application.get("/hello/<name>")
        def hello(name):
            bottle.response.set_cookie("seen", name)
            return {"hello": name, "query": bottle.request.query.a}

        @application.post("/form")
        def form():
            return bottle.request.forms.getunicode("text")

        @application.get("/stream")
        def stream():
            yield "one,"
            yield "two"

        @application.get("/file")
        def file():
            return bottle.static_file("app.py", root=".", mimetype="text/x-python")
        """,
        *worker,
    )
    answer = server.get("/hello/w%C3%B6rld?a=%C3%A9")
    assert json.loads(answer.body) == {"hello": "w\xf6rld", "query": "\xe9"}
    assert answer.header("set-cookie").startswith("seen=")
    assert server.request("POST", "/form", FORM, b"text=%C3%A9+x").text == "\xe9 x"
    assert server.get("/stream").text == "one,two"
    assert server.get("/file").text == server.read("app.py")
    assert server.get("/missing").status == 404
    assert server.request("HEAD", "/file").header("content-length") == str(len(server.read("app.py")))


def test_pyramid(serve, worker):
    server = serve(
        """
        from pyramid.config import Configurator
        from pyramid.response import FileIter, Response

        def hello(request):
            return {"hello": request.matchdict["name"], "host": request.host, "scheme": request.scheme}

        def echo(request):
            return Response(body=request.body, content_type=request.content_type)

        def pieces(request):
            return Response(app_iter=iter([b"one,", b"two"]), content_type="text/plain")

        with Configurator() as config:
            config.add_route("hello", "/hello/{name}")
            config.add_view(hello, route_name="hello", renderer="json")
            config.add_route("echo", "/echo")
            config.add_view(echo, route_name="echo", request_method="POST")
            config.add_route("pieces", "/pieces")
            config.add_view(pieces, route_name="pieces")
            application = config.make_wsgi_app()
        """,
        *worker,
    )
    answer = server.get("/hello/w%C3%B6rld", [("Host", "shop.example"), ("X-Forwarded-Proto", "https")])
    assert json.loads(answer.body) == {"hello": "w\xf6rld", "host": "shop.example", "scheme": "https"}
    data = bytes(range(256)) * 2000
    answer = server.request("POST", "/echo", [("Content-Type", "application/octet-stream")], data)
    assert (answer.body, answer.header("content-type")) == (data, "application/octet-stream")
    assert server.get("/pieces").text == "one,two"
    assert server.get("/missing").status == 404


def test_flask_under_load(serve, worker):
    server = serve(
        """
        from flask import Flask, jsonify, request

        application = Flask(__name__)

        @application.route("/", methods=["GET", "POST"])
        def hello():
            return jsonify(length=len(request.get_data()))
        """,
        *worker,
    )
    with Load(server.address, clients=4, method="POST", body=b"x" * 5000) as load:
        load.wait_for_answers(300)
    load.assert_flawless(at_least=300)
    assert {json.loads(body)["length"] for body in load.bodies} == {5000}
