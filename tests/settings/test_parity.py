"""Every setting of Gunicorn's own registry beside ours: names, flags, defaults, and what validators make of values.

The registry is that of the installed Gunicorn (version pinned); ours is read through the native module.
``registry_differences.py`` lists each difference that is meant, with its reason. A difference that is not
listed fails, and so does a line there that is no difference any more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from gunicorn import config as theirs

from oxicorn import _native
from oxicorn import config as ours
from tests.settings import registry_differences as listed
from tests.settings.registry_values import VALUES

NAMES = list(theirs.Config().settings)


@pytest.fixture(autouse=True)
def only_once(kind):
    """Both registries are here whichever server is tested."""
    if kind.is_gunicorn:
        pytest.skip("compares Gunicorn's registry with ours")


def explained(found: dict[str, object], differences: dict[str, str]) -> None:
    """Every difference is listed, and everything listed is one."""
    assert {name: found[name] for name in found if name not in differences} == {}, "differences nobody explains"
    assert [name for name in differences if name not in found] == [], "differences that are gone"


def test_every_setting_of_gunicorn_is_there():
    own = {name for name in _native.setting_names() if _native.setting_row(name)["own"]}
    assert set(_native.setting_names()) - own == set(NAMES)
    assert len(NAMES) == 120


def flags(setting) -> dict[str, object]:
    """What argparse gets to know of a setting."""
    kind = getattr(setting.type, "__name__", None)
    return {
        "cli": tuple(setting.cli or ()),
        "type": {"auto_int": "auto_int", "_auto_int": "auto_int", "int": "int"}.get(kind),
        "action": setting.action if setting.action != "store" else None,
        "nargs": setting.nargs,
        "const": setting.const,
        # What argparse shows where nobody says otherwise.
        "meta": setting.meta or (setting.name.upper() if setting.action in (None, "store", "append") else None),
    }


def row_differences(settings) -> dict[str, object]:
    found = {}
    for name in NAMES:
        their, our = theirs.Config().settings[name], settings[name]
        if their.section != our.section:
            found[f"{name}.section"] = (their.section, our.section)
        if not their.cli:
            assert our.cli is None
            continue
        for key, value in flags(their).items():
            if flags(our)[key] != value:
                found[f"{name}.{key}"] = (value, flags(our)[key])
    return found


def test_flags_and_sections():
    assert row_differences(ours.Config().settings) == {}


#: Prints every default of ``sys.argv[1]``'s registry, as the validators leave it.
DEFAULTS = """
import importlib, json, sys
config = importlib.import_module(sys.argv[1] + ".config")
def plain(value):
    if callable(value):
        return "callable"
    return list(value) if isinstance(value, (tuple, set)) else value
settings = config.Config().settings
names = json.loads(sys.argv[2])
print(json.dumps({name: [plain(settings[name].get()), plain(settings[name].default)] for name in names}))
"""


def defaults(package: str, environment: dict[str, str], directory: Path) -> dict[str, list]:
    found = subprocess.run(
        [sys.executable, "-c", DEFAULTS, package, json.dumps(NAMES)],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=directory,
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PORT": "9000"},
        {"PORT": ""},
        {"WEB_CONCURRENCY": "7"},
        {"WEB_CONCURRENCY": " 7 "},
        {"FORWARDED_ALLOW_IPS": "10.0.0.0/8,::1"},
        {"FORWARDED_ALLOW_IPS": ""},
        {"FORWARDED_ALLOW_IPS": "*"},
        {"PWD": "{directory}/link"},
        {"PWD": "/nowhere"},
        {"XDG_RUNTIME_DIR": "{directory}"},
        {"XDG_RUNTIME_DIR": "/nowhere", "HOME": "/home/her"},
        {"HOME": "/home/her"},
        {"SENDFILE": "no"},
    ],
    ids=lambda environment: ",".join(f"{name}={value}" for name, value in environment.items()) or "nothing",
)
def test_defaults_in_every_environment(tmp_path, environment):
    inside = tmp_path / "real"
    inside.mkdir()
    (inside / "link").symlink_to(inside)
    environment = {name: value.format(directory=inside) for name, value in environment.items()}
    found = {package: defaults(package, environment, inside) for package in ("gunicorn", "oxicorn")}
    differing = {}
    for name in NAMES:
        for position, what in enumerate(("value", "default")):
            pair = tuple(found[package][name][position] for package in ("gunicorn", "oxicorn"))
            if pair[0] != pair[1]:
                differing[f"{name}.{what}"] = pair
    here = ",".join(f"{name}={value}" for name, value in environment.items())
    explained(differing, {**listed.DEFAULTS, **listed.DEFAULTS_IN.get(here, {})})


def outcome(cfg, name: str, value: object) -> object:
    """What a validator makes of a value: what it is then, or that it is refused."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cfg.set(name, value)
    except (ValueError, TypeError, AttributeError, theirs.ConfigError):
        return "refused"
    found = cfg.settings[name].get()
    if callable(found):
        return "callable"
    return ("is", list(found) if isinstance(found, tuple) else found)


@pytest.mark.parametrize("name", NAMES)
def test_validator(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    configs = theirs.Config(), ours.Config()
    differing = {}
    for label, value in VALUES.items():
        pair = tuple(outcome(cfg, name, value) for cfg in configs)
        if pair[0] != pair[1] or repr(pair[0]) != repr(pair[1]):
            differing[label] = pair
    explained(differing, listed.VALUES.get(name, {}))


def test_values_are_worth_something():
    """For every setting there is a value that is taken and, but for one, a value that is refused."""
    anything = []
    cfg = ours.Config()
    for name in NAMES:
        outcomes = {outcome(cfg, name, value) == "refused" for value in VALUES.values()}
        assert False in outcomes, name
        if True not in outcomes:
            anything.append(name)
    assert anything == ["ssl_version"]


def test_differences_in_meaning_say_how_or_why():
    """Each row of the table says how far Gunicorn's meaning is kept, and wherever it is not the same, why."""
    for name in NAMES:
        kept, text = _native.setting_row(name)["parity"]
        assert kept in ("same", "better", "not applicable"), name
        assert (text is None) == (kept == "same"), name
