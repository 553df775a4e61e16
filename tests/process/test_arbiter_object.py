"""The Python half of the arbiter has whatever its native half calls: the names are in one file of each."""

from __future__ import annotations

import re
from pathlib import Path

from oxicorn.arbiter import Arbiter

ROOT = Path(__file__).parents[2]
WRAPPER = ROOT / "crates/oxicorn-python/src/arbiter/python.rs"

#: Attributes that each object sets for itself.
OF_OBJECTS = {
    "cfg",
    "proc_name",
    "changed_log_level",
    "out_of_rotation",
    "reexec_pid",
    "dirty_arbiter_pid",
    "log",
    "timeout",
}


def test_every_name_the_native_half_uses_is_there():
    text = WRAPPER.read_text()
    called = set(re.findall(r'(?:call_method[01]?|does)\(\s*"(\w+)"', text))
    used = called | set(re.findall(r'[gs]etattr\((?:intern!\([^,]*, )?"(\w+)"', text))
    assert len(called) > 40, "the names are found"
    missing = {name for name in used - OF_OBJECTS if not hasattr(Arbiter, name)}
    assert not missing
    source = (ROOT / "python/oxicorn/arbiter.py").read_text()
    assert not {name for name in OF_OBJECTS if f"self.{name}" not in source}


def test_nothing_else_of_the_native_half_calls_it():
    for file in WRAPPER.parent.glob("*.rs"):
        calls = re.findall(r"server\s*\.\s*(?:call_method|getattr|setattr)\w*", file.read_text())
        assert not calls, f"{file.name}: what is called of the arbiter belongs into python.rs"
