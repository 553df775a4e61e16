"""What is said of Ray in the settings, without Ray."""

from __future__ import annotations

import pytest

from oxicorn.dirty import ray_settings
from oxicorn.errors import ConfigError

PATH = "app:Model"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {"num_cpus": 0}),
        (["num_cpus=2"], {"num_cpus": 2}),
        (["app:Model num_gpus=0.5,num_cpus=1", "num_cpus=4"], {"num_cpus": 1, "num_gpus": 0.5}),
        (["other:App num_gpus=1", " app:Model  memory=1e9 "], {"num_cpus": 0, "memory": 1_000_000_000}),
        (["fast_disk=1,app:Model"], None),
        (["fast_disk=1", "app:Model fast_disk=2"], {"num_cpus": 0, "resources": {"fast_disk": 2}}),
        (["num_cpus"], None),
        (["num_cpus=many"], None),
        (["num_cpus=-1"], None),
        (["num_cpus=inf"], None),
        (["=1"], None),
    ],
)
def test_actors_are_placed_by_what_is_said_of_all_and_of_one(entries, expected):
    if expected is None:
        with pytest.raises(ConfigError, match=r"Invalid value for dirty_ray_resources: .*: must be NAME=AMOUNT"):
            ray_settings.placement(entries, PATH)
    else:
        assert ray_settings.placement(entries, PATH) == expected


@pytest.mark.parametrize(
    ("setting", "address"),
    [("ray", None), ("ray://10.0.0.1:10001", "ray://10.0.0.1:10001"), ("ray://[::1]:10001", "ray://[::1]:10001")],
)
def test_a_cluster_is_found_or_named(setting, address):
    assert ray_settings.address(setting) == address


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('dirty_pool = "spark"', "Invalid value for dirty_pool: 'spark': must be processes, ray or ray://HOST:PORT"),
        ('dirty_pool = "ray://host"', "Invalid value for dirty_pool: 'ray://host'"),
        ('dirty_pool = "ray://:1"', "Invalid value for dirty_pool: 'ray://:1'"),
        (
            'dirty_pool = "ray"\ndirty_ray_resources = ["heavy:Ap num_gpus=1"]',
            "Invalid value for dirty_ray_resources: 'heavy:Ap num_gpus=1': heavy:Ap is not in dirty_apps",
        ),
        (
            'dirty_pool = "ray"\nimport sys\nsys.modules["ray"] = None',
            "dirty_pool: ray: Ray is not installed: pip install 'oxicorn[ray]' (if there is a Ray for Python 3.",
        ),
    ],
)
def test_what_cannot_be_stops_the_start_with_one_line(serve, config, text):
    config += '\ndirty_apps = ["heavy:App"]\ndirty_workers = 1\n'
    server = serve.new().start(app="", config=config, ready=None)
    assert server.wait_for_exit() == 1
    assert text in server.log
    assert "Traceback" not in server.log
