"""``examples/model``: a model of scikit-learn in the pool, called by FastAPI and by Django."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import wait_for

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "model"
SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]
JSON = [("Content-Type", "application/json")]
MEASURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The model, made as the README says."""
    file = tmp_path_factory.mktemp("model") / "iris.joblib"
    environment = os.environ | {"IRIS_MODEL": str(file)}
    subprocess.run([sys.executable, "train.py"], cwd=EXAMPLE, env=environment, check=True, timeout=60)
    return file


def start(serve, model: Path, spec: str, *args: str):
    config = str(EXAMPLE / "gunicorn.conf.py")
    options = ("--chdir", str(EXAMPLE), "--config", config, "--dirty-workers", "1", *args)
    server = serve(None, *options, spec=spec, env={"IRIS_MODEL": str(model)}, ready=None)
    wait_for(lambda: server.log.count("Initialized dirty app: model:Iris") == 1, deadline=30)
    server.wait_until_ready()
    return server


def loaded(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_fastapi(serve, model):
    server = start(serve, model, "fastapi_app:application", "-k", "asgi")
    flowers = [dict(zip(MEASURES, row, strict=True)) for row in (SETOSA, VIRGINICA)]
    answer = server.request("POST", "/predict", JSON, json.dumps(flowers).encode())
    names = [one["name"] for one in json.loads(answer.body)]
    assert (answer.status, names) == (200, ["setosa", "virginica"])
    stream = server.request("POST", "/names", JSON, json.dumps(flowers).encode())
    assert stream.text == "setosa\nvirginica\n"
    refused = server.request("POST", "/predict", JSON, b'[{"sepal_length": -1}]')
    assert refused.status == 422


def test_django(serve, model):
    server = start(serve, model, "django_app:application")
    host = ("Host", "127.0.0.1")
    answer = server.request("POST", "/predict", [host], json.dumps([SETOSA, VIRGINICA]).encode())
    assert answer.status == 200
    assert [one["name"] for one in json.loads(answer.body)] == ["setosa", "virginica"]
    refused = server.request("POST", "/predict", [host], b"[[1, 2]]")
    assert refused.status == 400
    assert "each flower has 4 measures" in json.loads(refused.body)["error"]
    # Only the pool's workers have the library.
    assert all(loaded(pid, "sklearn") for pid in server.pids("dirty-worker"))
    assert not any(loaded(pid, "sklearn") for pid in (server.pid, *server.worker_pids(), *server.pids("dirty-arbiter")))
