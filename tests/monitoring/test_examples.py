"""The alert rules and the dashboard of ``examples/monitoring`` speak of figures that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.monitoring.test_metrics import Monitoring
from tests.support.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples" / "monitoring"


@pytest.fixture(scope="module")
def text(serve_module) -> str:
    """A scrape of a server that has answered a request."""
    port = free_port()
    source = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
    server = serve_module(source, "--metrics-bind", f"127.0.0.1:{port}")
    assert server.get("/").status == 200
    return Monitoring(("127.0.0.1", port)).get("/metrics").text


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_every_figure_and_label_is_there(text, name):
    example = (EXAMPLES / name).read_text()
    figures = set(re.findall(r"\boxicorn_\w+", example))
    assert len(figures) > 5
    missing = {figure for figure in figures if not re.search(rf"^{figure}[ {{]", text, re.MULTILINE)}
    assert missing == set()
    for reasons in re.findall(r'reason=~?"([\w|]+)"', example):
        assert all(f'reason="{reason}"' in text for reason in reasons.split("|"))


def test_dashboard_is_what_grafana_reads():
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] and target["refId"] for panel in panels for target in panel["targets"])
