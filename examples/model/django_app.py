"""The same in Django, in one file."""

from __future__ import annotations

import json
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.urls import path
from gunicorn.dirty import get_dirty_client

from oxicorn.dirty.errors import DirtyAppError, DirtyQueueFullError, DirtyTimeoutError

settings.configure(
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "for an example"),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
)


def predict(request: HttpRequest) -> JsonResponse | HttpResponseNotAllowed:
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    client = get_dirty_client(timeout=10)
    try:
        rows = json.loads(request.body)
        return JsonResponse(client.execute("model:Iris", "predict", rows), safe=False)
    except (json.JSONDecodeError, DirtyAppError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    except DirtyQueueFullError:
        return JsonResponse({"error": "the model has too much to do"}, status=503)
    except DirtyTimeoutError:
        return JsonResponse({"error": "the model takes too long"}, status=504)


urlpatterns = [path("predict", predict)]
application = get_wsgi_application()
