"""Where oxicorn does something else than Gunicorn on purpose: the one list.

The suite describes oxicorn. Against Gunicorn (``--server gunicorn``) every test named here must FAIL
(strict xfail): a test that passes there is no difference and has to leave this list. Whoever adds a
line adds the reason, in terms of what a user gets.

Keys are test names relative to ``tests/``. A name covers all parameters of the test; ``name[a,b]`` only
those cases that have a parameter ``a`` and a parameter ``b``.
"""

from __future__ import annotations

import pytest

DIFFERENCES: dict[str, str] = {
}


def reason(name: str, item: pytest.Item) -> str | None:
    """Why the test behaves differently under Gunicorn; None if it should pass there."""
    test = name.partition("[")[0]
    if test in DIFFERENCES:
        return DIFFERENCES[test]
    callspec = getattr(item, "callspec", None)
    values = {str(value) for value in callspec.params.values()} if callspec else set()
    for key, text in DIFFERENCES.items():
        listed, _, parameters = key.removesuffix("]").partition("[")
        if listed == test and parameters and values.issuperset(parameters.split(",")):
            return text
    return None
