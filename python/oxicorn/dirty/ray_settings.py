"""What the settings say of Ray, checked before anything is started; Ray itself is not imported."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from oxicorn.errors import ConfigError

if TYPE_CHECKING:
    from oxicorn.config import Config

__all__ = ["address", "check", "placement"]

SCHEME = "ray://"
#: What Ray has arguments of its own for; everything else is a resource of the cluster's.
ARGUMENTS = frozenset(("num_cpus", "num_gpus", "memory"))


def check(cfg: Config, paths: list[str]) -> None:
    """ConfigError: the pool cannot be Ray's, or what is said of it makes no sense."""
    address(cfg.dirty_pool)
    for path in paths:
        placement(cfg.dirty_ray_resources, path)
    for entry in cfg.dirty_ray_resources:
        path, space, _ = entry.strip().partition(" ")
        if space and path not in paths:
            raise _invalid(entry, f"{path} is not in dirty_apps")
    if importlib.util.find_spec("ray") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ConfigError(
            f"dirty_pool: {cfg.dirty_pool}: Ray is not installed: pip install 'oxicorn[ray]' "
            f"(if there is a Ray for Python {version}{_threading()})"
        )


def _threading() -> str:
    is_free = "free-threading" in sys.version
    return ", free-threaded" if is_free else ""


def address(setting: str) -> str | None:
    """What Ray is to connect to; None: what it finds, or a cluster of its own. ConfigError."""
    if setting == "ray":
        return None
    host, colon, port = setting.removeprefix(SCHEME).rpartition(":")
    if not setting.startswith(SCHEME) or not host or not colon or not port.isdecimal():
        raise ConfigError(
            f"Invalid value for dirty_pool: {setting!r}: must be processes, ray or ray://HOST:PORT"
        )
    return setting


def placement(entries: list[str], path: str) -> dict[str, Any]:
    """Arguments for the actors of an application, of its own entries and those for all."""
    found: dict[str, Any] = {"num_cpus": 0}
    own: dict[str, Any] = {}
    resources: dict[str, float] = {}
    for entry in entries:
        before, space, after = entry.strip().partition(" ")
        if space and before != path:
            continue
        for name, amount in _amounts(entry, after if space else before):
            if name in ARGUMENTS:
                (own if space else found)[name] = int(amount) if name == "memory" else amount
            elif space or name not in resources:
                resources[name] = amount
    found |= own
    if resources:
        found["resources"] = resources
    return found


def _amounts(entry: str, text: str) -> list[tuple[str, float]]:
    found = []
    for part in text.split(","):
        name, equals, amount = part.strip().partition("=")
        try:
            number = float(amount)
        except ValueError:
            number = -1.0
        if not name or not equals or not 0 <= number < float("inf"):
            raise _invalid(entry, "must be NAME=AMOUNT,... or MODULE:CLASS NAME=AMOUNT,...")
        found.append((name, number))
    return found


def _invalid(entry: str, why: str) -> ConfigError:
    return ConfigError(f"Invalid value for dirty_ray_resources: {entry!r}: {why}")
