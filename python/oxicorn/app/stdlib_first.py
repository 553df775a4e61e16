"""Modules of the standard library that an application's own files of the same name do not replace.

The application's directory comes first on the import path. Gunicorn has imported much of the
library before that, so a ``logging.py`` or ``token.py`` beside the application is never taken for
the library's. This server imports less, and the rest when somebody wants it: where such a file is,
the library's module is imported before it could be found.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

__all__ = ["import_hidden_by"]

#: What Gunicorn 27 has imported when it enters the application's directory, but for what the
#: interpreter itself imports; and what its log imports right then (``json``, ``pickle``,
#: ``platform``, ``socketserver``), so that with such a file Gunicorn does not start.
IMPORTED_BY_GUNICORN = frozenset(
    """
    argparse array ast atexit base64 binascii bisect bz2 calendar collections contextlib copy
    copyreg csv datetime dis email enum errno fcntl fnmatch functools gettext glob grp heapq
    html importlib inspect ipaddress itertools json keyword linecache locale logging lzma math
    ntpath opcode operator pathlib pickle platform pwd queue quopri random re reprlib select
    selectors shlex shutil signal socket socketserver ssl string struct tempfile textwrap
    threading token tokenize traceback types typing urllib warnings weakref zipfile zlib
    """.split()
)


def import_hidden_by(directory: str) -> None:
    """Imports those modules that files in ``directory``, about to come first, would hide."""
    try:
        names = os.listdir(directory or os.curdir)
    except OSError:
        return  # An archive, or nothing.
    hidden = {name.partition(".")[0] for name in names} & IMPORTED_BY_GUNICORN
    for name in sorted(hidden - sys.modules.keys()):
        # Some interpreters are built without one (``ssl``).
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
