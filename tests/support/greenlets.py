"""The worker class ``gevent`` as a parameter of tests that hold for every class."""

from __future__ import annotations

import importlib.util

import pytest

NEEDS_GEVENT = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="needs gevent")

#: Beside the names of other classes.
GEVENT = pytest.param("gevent", marks=NEEDS_GEVENT)

#: A test that runs on the default class and in greenlets: its servers are of that class unless it says otherwise.
ALSO_IN_GREENLETS = pytest.mark.parametrize("serve", ["sync", GEVENT], indirect=True)
