"""Examples out of the pages of docs/: what a reader copies is what is tested."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"


def example(page: str, name: str, **places: object) -> str:
    """The code block behind ``<!-- example: name -->``, with each key of ``places`` replaced by its value.

    A key that is not in the block is an error: then the page has changed, and the test with it.
    """
    text = (DOCS / page).read_text()
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/{page} has no example {name}"
    return replaced(found[1], places)


def replaced(block: str, places: dict[str, object]) -> str:
    for old, new in places.items():
        assert old in block, f"{old!r} is not in:\n{block}"
        block = block.replace(old, str(new))
    return block
