"""Django served as ASGI: a fresh project, asynchronous views and ORM, streams; channels with rooms of WebSockets."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.http import encode
from tests.support.wait import wait_for

pytestmark = pytest.mark.uvicorn

VIEWS = """
import asyncio
from django.contrib.sessions.models import Session
from django.contrib.auth.models import User
from django.db import transaction
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

left = []

@csrf_exempt
async def users(request):
    if request.method == "POST":
        await asyncio.gather(*(User.objects.acreate(username=name) for name in request.POST.getlist("name")))
    names = [user.username async for user in User.objects.order_by("username")]
    return JsonResponse({"names": names, "count": await User.objects.acount()})

def synchronous(request):
    with transaction.atomic():
        return JsonResponse({"count": User.objects.count(), "body": len(request.body)})

async def stream(request):
    async def ticks():
        try:
            for number in range(int(request.GET["n"])):
                yield f"{number},"
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            left.append("cancelled")
            raise
    return StreamingHttpResponse(ticks())

async def waits(request):
    left.append("waiting")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        left.append("view cancelled")
        raise

def file(request):
    return FileResponse(open("manage.py", "rb"), as_attachment=True, filename="manage.py")

async def seen(request):
    return JsonResponse(left, safe=False)
"""

URLS = """
from django.contrib import admin
from django.urls import path
from site_ import views

urlpatterns = [path("admin/", admin.site.urls)]
names = ["users", "synchronous", "stream", "waits", "file", "seen"]
urlpatterns += [path(name, getattr(views, name)) for name in names]
"""


def project(new, *, urls=URLS):
    """`django-admin startproject`, our views in it, the database made."""
    environment = new.environment({})

    def run(*args: str) -> None:
        subprocess.run([sys.executable, *args], cwd=new.directory, env=environment, check=True, timeout=40)

    run("-m", "django", "startproject", "site_", ".")
    new.write("site_/views.py", VIEWS)
    new.write("site_/urls.py", urls)
    settings = new.directory / "site_" / "settings.py"
    text = settings.read_text().replace("'django.middleware.csrf.CsrfViewMiddleware',", "")
    settings.write_text(text + "\nALLOWED_HOSTS = ['127.0.0.1', 'example.org']\n")
    run("manage.py", "migrate", "--verbosity", "0")
    return {"DJANGO_SETTINGS_MODULE": "site_.settings"}


def test_django(serve, asgi):
    new = serve.new()
    server = new.start(*asgi, spec="site_.asgi", env=project(new), ready="/admin/")
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        answer = client.get("/admin/")
        assert (answer.status_code, answer.headers["location"]) == (302, "/admin/login/?next=/admin/")
        assert b"Django administration" in client.get("/admin/login/?next=/admin/").content
        assert client.post("/users", data={"name": ["Bob", "Ann"]}).json() == {"names": ["Ann", "Bob"], "count": 2}
        assert client.post("/synchronous", content=b"x" * 500_000).json() == {"count": 2, "body": 500_000}
        assert client.get("/stream?n=5").text == "0,1,2,3,4,"
        assert client.get("/file").text == server.read("manage.py")
        assert client.get("/missing").status_code == 404
    with server.connect() as peer:
        peer.send(encode(target="/stream?n=100000"))
        assert peer.head().status == 200
    with server.connect() as peer:
        peer.send(encode(target="/waits"))
        wait_for(lambda: "waiting" in json.loads(server.get("/seen").body))
    wait_for(lambda: {"cancelled", "view cancelled"} <= set(json.loads(server.get("/seen").body)))


CHANNELS = """
import os
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.core.asgi import get_asgi_application
from django.urls import path

django = get_asgi_application()

class Room(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        if self.room == "closed":
            return await self.close()
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def receive_json(self, content):
        await self.channel_layer.group_send(self.room, {"type": "chat.message", "text": content["text"]})

    async def chat_message(self, event):
        await self.send_json({"room": self.room, "text": event["text"]})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

class Synchronous(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        from django.contrib.auth.models import User
        self.send(text_data=f"{text_data} {User.objects.count()}")

class Pieces(AsyncHttpConsumer):
    async def handle(self, body):
        await self.send_headers(headers=[(b"content-type", b"text/plain")])
        await self.send_body(b"one,", more_body=True)
        await self.send_body(body)

application = ProtocolTypeRouter({
    "http": URLRouter([path("pieces", Pieces.as_asgi()), path("users", django), path("admin/", django)]),
    "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(URLRouter([
        path("room/<str:room>", Room.as_asgi()), path("sync", Synchronous.as_asgi()),
    ]))),
})
"""


def test_channels(serve, asgi):
    new = serve.new()
    env = project(new)
    new.write("site_/asgi.py", CHANNELS)
    settings = new.directory / "site_" / "settings.py"
    layers = '{"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}'
    settings.write_text(settings.read_text() + f"\nCHANNEL_LAYERS = {layers}\nINSTALLED_APPS += ['channels']\n")
    server = new.start(*asgi, spec="site_.asgi", env=env, ready="/admin/")
    assert server.request("POST", "/pieces", body=b"two").text == "one,two"
    address = f"ws://127.0.0.1:{server.port}"
    options = {"origin": "http://127.0.0.1"}
    with connect(f"{address}/room/a", **options) as one, connect(f"{address}/room/a", **options) as two:
        with connect(f"{address}/room/b", **options) as other:
            for sender in (one, two):
                sender.send(json.dumps({"text": "hello"}))
                for receiver in (one, two):
                    assert json.loads(receiver.recv(timeout=10)) == {"room": "a", "text": "hello"}
            other.send(json.dumps({"text": "alone"}))
            assert json.loads(other.recv(timeout=10)) == {"room": "b", "text": "alone"}
    with connect(f"{address}/sync", **options) as websocket:
        websocket.send("users:")
        assert websocket.recv(timeout=10) == "users: 0"
    for path, origin in (("/room/closed", "http://127.0.0.1"), ("/room/a", "http://evil.example")):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}{path}", origin=origin)
        assert refused.value.response.status_code == 403
