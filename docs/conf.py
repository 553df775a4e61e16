"""The pages of this folder as a site: `make docs` builds it and checks every link between them."""

from __future__ import annotations

import re
from pathlib import Path

project = "oxicorn"
author = "oxicorn's developers"
release = re.search(
    r'^version = "(.+)"', (Path(__file__).parent.parent / "Cargo.toml").read_text(), re.MULTILINE
)[1]  # type: ignore[index]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "decisions", "requirements.txt"]

# Links to headings, as they work where the pages are read as files.
myst_heading_anchors = 4
# Code blocks in languages whose colours nobody knows.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "oxicorn"
html_copy_source = False
html_show_sphinx = False
