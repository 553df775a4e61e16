"""A log is opened again (USR1) in the middle of a line: a signal's handler runs between any two steps of Python."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oxicorn.config import Config
from oxicorn.glogging import Logger


class Interrupted(io.FileIO):
    """A file in whose first write something else happens, while its buffer is being written."""

    def __init__(self, path: Path, interruption: Callable[[], None]) -> None:
        super().__init__(path, "a")
        self.interruption: Callable[[], None] | None = interruption

    def write(self, data: object) -> int:
        interruption, self.interruption = self.interruption, None
        if interruption is not None:
            interruption()
        return super().write(data)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def log(path) -> Iterator[Logger]:
    cfg = Config()
    cfg.set("accesslog", str(path))
    log = Logger(cfg)
    yield log
    for logger in (log.access_log, log.error_log):
        log._remove_own_handlers(logger)
    if log.logfile is not None:
        log.logfile.close()


def handler_of(log: Logger) -> logging.FileHandler:
    handler = log._get_gunicorn_handler(log.access_log)
    assert isinstance(handler, logging.FileHandler)
    return handler


@pytest.mark.parametrize("times", [1, 2])
def test_a_line_that_is_being_written_and_those_after_it_are_kept(log, path, capsys, times):
    rotated = path.with_suffix(".old")
    handler = handler_of(log)

    def rotate() -> None:
        path.rename(rotated)
        for _ in range(times):
            log.reopen_files()

    raw = Interrupted(path, rotate)
    handler.stream.close()
    handler.stream = io.TextIOWrapper(io.BufferedWriter(raw), write_through=True)
    log.access_log.info("first")
    log.access_log.info("second")
    assert rotated.read_text() + path.read_text() == "first\nsecond\n"
    assert path.read_text().endswith("second\n")
    assert capsys.readouterr().err == ""


def test_a_rotation_within_a_rotation_ends_at_the_newest_file(log, path):
    handler = handler_of(log)
    opened = handler._open
    rotations = iter(("1", "2"))

    def interrupted():
        """The signal comes when the file is open and not in use yet."""
        stream = opened()
        name = next(rotations, None)
        if name is not None:
            path.rename(path.with_suffix(f".{name}"))
            log.reopen_files()
        return stream

    handler._open = interrupted
    log.reopen_files()
    log.access_log.info("line")
    assert path.read_text() == "line\n"


def test_what_is_printed_may_be_interrupted_too(log, path, tmp_path, monkeypatch):
    errors = tmp_path / "error.log"
    log.cfg.set("errorlog", str(errors))
    log.cfg.set("capture_output", True)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    printed = tmp_path / "printed"
    out = io.TextIOWrapper(io.BufferedWriter(Interrupted(printed, log.reopen_files)), write_through=True)
    monkeypatch.setattr("sys.stdout", out)
    print("text", flush=True)
    monkeypatch.undo()
    out.close()
    assert printed.read_text() == "text\n"
    assert errors.read_text() == ""
