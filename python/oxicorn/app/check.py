"""``--check-config``: what would only show when the server starts, or when it is asked for.

Each check gives one line for each problem and changes nothing, but for logging, which is configured
for real where it has a configuration of its own: there is no other way to know that it can be.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from typing import Any

from oxicorn import _native, util
from oxicorn.config import Config
from oxicorn.errors import ConfigError

__all__ = ["application", "heavy_application", "heavy_paths", "problems", "temporary_files"]

#: Exit code of the process that tries directories: none can be used.
NOWHERE = 255

#: Settings whose value is a file that is read.
READ = ("certfile", "keyfile", "ca_certs", "crlfile", "logconfig", "logconfig_json")
#: Settings whose value is a file that is written.
WRITTEN = ("errorlog", "accesslog", "json_accesslog", "pidfile")


def problems(cfg: Config) -> Iterator[str]:
    """A line for everything that would keep the server from doing what the settings say."""
    yield from _worker_class(cfg)
    yield from _pool(cfg)
    for name in READ:
        yield from _read_file(name, cfg.get(name))
    yield from _certificates(cfg)
    for name in WRITTEN:
        yield from _written_file(name, cfg.get(name))
    for name in ("worker_tmp_dir", "tmp_upload_dir"):
        directory = cfg.get(name)
        if directory and not os.path.isdir(directory):
            yield f"{name}: {directory!r} is not a directory"
    for address in cfg.address:
        yield from _address(address)
    yield from _statsd(cfg.get("statsd_host"))
    yield from _logging(cfg)


def temporary_files(cfg: Config) -> tuple[str, bool]:
    """Where temporary files will be made, if not in the first place; whether to warn of that."""
    choices = _native.temporary_directory_choices(cfg)
    used = _first_usable(cfg, [path for path, _, _ in choices])
    names = [f"{path} ({source})" for path, source, _ in choices]
    if used is None:
        text = (
            f"temporary files cannot be made in any of {', '.join(names)}: request bodies longer "
            "than body_memory are kept in memory; set tmp_upload_dir"
        )
        return text, True
    if used == 0:
        return "", False
    text = f"temporary files are made in {names[used]}"
    passed_over = [
        name for name, (_, _, is_setting) in zip(names, choices[:used], strict=False) if is_setting
    ]
    if passed_over:
        text += f": none can be made in {passed_over[0]}"
    return text, bool(passed_over)


def _first_usable(cfg: Config, directories: list[str]) -> int | None:
    """Tried in a process of the user that will write there."""
    pid = os.fork()
    if pid == 0:
        found = NOWHERE
        try:
            # Who may not become that user learns it when the server is started.
            with contextlib.suppress(OSError):
                util.set_owner_process(cfg.uid, cfg.gid, cfg.initgroups)
            usable = (number for number, path in enumerate(directories) if _holds(path))
            found = next(usable, NOWHERE)
        finally:
            os._exit(found)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if 0 <= code < NOWHERE else None


def _holds(directory: str) -> bool:
    return _native.holds_temporary_files(directory)


def application(cfg: Config, application: Any, uri: str) -> tuple[str, bool]:
    """What a worker would find its application to be, and whether it could not be served."""
    from oxicorn.workers.finding import Finding, find

    finding = find(application)
    try:
        serves = getattr(cfg.worker_class, "SERVES", ())
    except Exception:
        return "", False  # It has its line already.
    if finding is None or finding in serves:
        return "", False
    from oxicorn.workers import chosen

    is_error = finding is Finding.FACTORY or cfg.native.is_set("worker_class")
    return chosen.about(finding, cfg, uri), is_error


def heavy_paths(cfg: Config) -> list[str]:
    """The applications of the pool that the settings want, as far as they make sense."""
    if cfg.dirty_workers <= 0 or list(_pool(cfg)):
        return []
    from oxicorn.dirty.app import parse_dirty_app_spec

    return [parse_dirty_app_spec(spec)[0] for spec in cfg.dirty_apps]


def heavy_application(path: str) -> bool:
    """Whether an application of the pool is there; says what is wrong with it.

    Its module is imported; no object of its class is made, since that is what takes long.
    """
    from oxicorn import boot
    from oxicorn.dirty.app import refuse_other_classes
    from oxicorn.dirty.errors import DirtyAppError

    try:
        refuse_other_classes(path)
    except DirtyAppError as error:
        reason = error.message
    except BaseException as error:
        reason = boot.reason(error)
    else:
        return True
    print(f"Error: dirty_apps: {path} cannot be loaded: {reason}", file=sys.stderr)
    return False


def _pool(cfg: Config) -> Iterator[str]:
    """Also where `dirty_workers` is 0: it may be said elsewhere."""
    if not (cfg.dirty_apps or cfg.dirty_stash):
        return
    from oxicorn.dirty.arbiter import refuse_nonsense

    try:
        refuse_nonsense(cfg)
    except ConfigError as error:
        yield str(error)


def _worker_class(cfg: Config) -> Iterator[str]:
    try:
        assert cfg.worker_class is not None
    except Exception as error:
        yield f"worker_class: {_first_line(error)}"


def _read_file(name: str, path: str | None) -> Iterator[str]:
    if path:
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            yield f"{name}: {path!r} cannot be read: {error.strerror}"


def _certificates(cfg: Config) -> Iterator[str]:
    """Files that cannot be read have their lines already."""
    if not cfg.native.speaks_tls() or any(list(_read_file(name, cfg.get(name))) for name in READ):
        return
    from oxicorn import tls

    try:
        tls.read(cfg)
    except ConfigError as error:
        yield f"TLS: {error}"


def _written_file(name: str, path: str | None) -> Iterator[str]:
    if not path or path == "-":
        return
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        yield f"{name}: {path!r} is a directory"
    elif os.path.exists(path):
        if not os.access(path, os.W_OK):
            yield f"{name}: {path!r} cannot be written"
    elif not os.path.isdir(directory):
        yield f"{name}: there is no directory {directory!r}"
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield f"{name}: nothing can be made in {directory!r}"


def _address(address: Any) -> Iterator[str]:
    if isinstance(address, int):
        yield from _descriptor(address)
    elif isinstance(address, tuple):
        yield from _resolved("bind", *address)
    elif not address.startswith("\0"):
        yield from _socket_file(address)


def _descriptor(number: int) -> Iterator[str]:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError as error:
        yield f"bind: fd://{number}: {error.strerror}"
    else:
        if not is_socket:
            yield f"bind: fd://{number} is not a socket"


def _resolved(name: str, host: str, port: int) -> Iterator[str]:
    try:
        socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield f"{name}: {host!r} is not known: {getattr(error, 'strerror', None) or error}"


def _socket_file(path: str) -> Iterator[str]:
    if (length := len(os.fsencode(path))) > (most := _native.UNIX_PATH_MAX):
        yield f"bind: the path has {length} bytes, where a unix socket has {most} at most"
    elif os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        yield f"bind: {path!r} is there and not a socket"
    elif not os.path.exists(path):
        yield from _written_file("bind", path)


def _statsd(host: Any) -> Iterator[str]:
    if isinstance(host, str) and host and not host.startswith("unix:"):
        name, _, port = host.rpartition(":")
        host = (name or host, int(port) if name and port.isdecimal() else 8125)
    if isinstance(host, tuple):
        yield from _resolved("statsd_host", str(host[0]).strip("[]"), host[1])


def _logging(cfg: Config) -> Iterator[str]:
    files = [cfg.get(name) for name in ("logconfig", "logconfig_json") if cfg.get(name)]
    try:
        logger_class = cfg.logger_class
    except Exception as error:
        yield f"logger_class: {_first_line(error)}"
        return
    # What cannot be read has its line already.
    own = files or cfg.get("logconfig_dict") or cfg.get("syslog")
    if own and all(os.access(path, os.R_OK) for path in files):
        try:
            logger_class(cfg)
        except Exception as error:
            yield f"logging: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
