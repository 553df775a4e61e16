"""Waiting for conditions. No test sleeps for a while and hopes; it waits for what it expects.

``wait_for`` polls, because what the tests wait for (a process is gone, a log line is there) offers
nothing to wait on. The deadline says when it is a failure; reaching it is never the normal case.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds until a condition that should become true at once is given up. Generous: it is only
#: used up by a test that fails, and the machine may be busy. Below the 30 seconds of `timeout` and `graceful_timeout`:
#: what happens only because one of them has passed does not pass for what was waited for.
DEADLINE = 25.0
#: Seconds between two looks.
INTERVAL = 0.01


#: Under Gunicorn, tests that are expected to fail need not wait as long for what will not happen.
EXPECTED_FAILURE_PATIENCE = 0.1
_patience = 1.0


def set_patience(factor: float) -> None:
    """All deadlines are multiplied with ``factor`` from now on."""
    global _patience
    _patience = factor


def patient(deadline: float) -> float:
    """``deadline`` as it is to be used in this test."""
    return deadline * _patience


class NotInTime(AssertionError):
    """The condition did not become true before its deadline."""


def wait_for(condition: Callable[[], T], deadline: float = DEADLINE, what: str | Callable[[], str] = "") -> T:
    """Returns the first truthy value of ``condition``, or raises NotInTime."""
    deadline = patient(deadline)
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            text = what() if callable(what) else what
            raise NotInTime(f"not within {deadline} s: {text or condition}")
        time.sleep(INTERVAL)


def stays(condition: Callable[[], bool], duration: float, what: str = "") -> None:
    """Fails as soon as ``condition`` is not true during ``duration`` seconds."""
    end = time.monotonic() + duration
    while time.monotonic() < end:
        assert condition(), f"did not stay true: {what or condition}"
        time.sleep(INTERVAL)
