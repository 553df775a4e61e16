"""The alert rules and the dashboard of ``examples/monitoring`` speak of figures that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.monitoring.test_metrics import Monitoring
from tests.support.ports import free_port
from tests.support.wait import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples" / "monitoring"


POOL = """
import sys, types
heavy = sys.modules["heavy"] = types.ModuleType("heavy")
class App:
    def init(self): ...
    def __call__(self, action): ...
    def close(self): ...
heavy.App = App
dirty_apps = ["heavy:App"]
dirty_workers = 1
"""


@pytest.fixture(scope="module")
def text(serve_module) -> str:
    """A scrape of a server that has answered a request."""
    port = free_port()
    source = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
    monitoring = Monitoring(("127.0.0.1", port))
    server = serve_module(source, "--metrics-bind", f"127.0.0.1:{port}", config=POOL)
    assert server.get("/").status == 200
    wait_for(lambda: 'oxicorn_pool_workers{app="heavy:App"} 1' in monitoring.get("/metrics").text)
    return monitoring.get("/metrics").text


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_every_figure_and_label_is_there(text, name):
    example = (EXAMPLES / name).read_text()
    figures = set(re.findall(r"\boxicorn_\w+", example))
    assert len(figures) > 5
    missing = {figure for figure in figures if not re.search(rf"^{figure}[ {{]", text, re.MULTILINE)}
    assert missing == set()
    for label, values in re.findall(r'(reason|outcome)=~?"([\w|]+)"', example):
        assert all(f'{label}="{value}"' in text for value in values.split("|"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_takes_the_rules():
    command = ["promtool", "check", "rules", str(EXAMPLES / "alerts.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dashboard_is_what_grafana_reads():
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] and target["refId"] for panel in panels for target in panel["targets"])
