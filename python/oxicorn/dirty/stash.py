"""What all workers share (Gunicorn's ``gunicorn.dirty.stash``): tables of keys and values.

They lie in the pool's broker and live as long as the server does: workers come and go, the pool
may be reloaded; or on a Redis (setting ``dirty_stash``), where servers share them. Every operation
is one step that nothing comes between. The broker's tables are seen in memory that it shares, so
that ``get`` and ``put`` seldom ask it. Beside Gunicorn's there are entries with a time to live,
``add``, ``replace`` and ``increment``, which decide by what is there, and locks with a lease.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from oxicorn.dirty.errors import (
    DirtyConnectionError,
    DirtyError,
    DirtyTimeoutError,
    seconds_of,
    shown,
)

if TYPE_CHECKING:
    from oxicorn._native import StashView

__all__ = [
    "Lock",
    "StashClient",
    "StashConnectionError",
    "StashError",
    "StashFullError",
    "StashKeyNotFoundError",
    "StashTable",
    "StashTableNotFoundError",
    "add",
    "clear",
    "delete",
    "delete_table",
    "ensure",
    "exists",
    "get",
    "increment",
    "info",
    "keys",
    "lock",
    "pop",
    "put",
    "replace",
    "set_stash_socket_path",
    "table",
    "tables",
    "touch",
    "use_redis",
]

#: Operations, as the broker knows them; those from 11 on are oxicorn's.
PUT, GET, DELETE, KEYS, CLEAR, INFO, ENSURE, DELETE_TABLE, TABLES, EXISTS = range(1, 11)
ADD, REPLACE, INCREMENT, TOUCH, POP, DELETE_IF = range(11, 17)

#: The table in which locks are.
LOCKS = "oxicorn.locks"
#: Seconds between two attempts to get a lock.
LOCK_PAUSE = 0.05

#: The pools' tables in shared memory, by socket path: one for all clients of the process.
_views: dict[str, StashView | None] = {}

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()


class StashError(DirtyError):
    """An operation on the stash failed."""


class StashTableNotFoundError(StashError):
    """There is no such table."""

    _attributes = ("table_name",)

    def __init__(self, table_name: str) -> None:
        super().__init__(f"Stash table not found: {table_name}")
        self.table_name = table_name


class StashKeyNotFoundError(StashError):
    """There is no such key."""

    def __init__(self, table_name: str, key: Any) -> None:
        super().__init__(f"Key not found in {table_name}: {key}")
        self.table_name = table_name
        self.key = key


class StashFullError(StashError):
    """The stash holds as many bytes as it may (``dirty_stash_size``)."""


class StashConnectionError(StashError):
    """The Redis that has the stash cannot be reached, or did not answer in time.

    An operation whose answer was lost may have been done.
    """


def _of_stash(error: DirtyError, table: str, key: Any) -> StashError:
    """What the broker, or the way to it, says, as an error of the stash."""
    if isinstance(error, StashTableNotFoundError):
        return StashTableNotFoundError(table)
    if isinstance(error, StashKeyNotFoundError):
        return StashKeyNotFoundError(table, key)
    if isinstance(error, StashError):
        return error
    return StashError(f"Stash operation failed: {error.message}")


class StashClient:
    """Works with the tables of the pool at ``socket_path``; threads may share it.

    An operation that takes longer than ``timeout`` seconds is a StashError.
    """

    #: False: the pool gives no view of its tables in shared memory.
    _has_views = True

    def __init__(self, socket_path: str, timeout: float = 30.0) -> None:
        from oxicorn.dirty.client import DirtyClient

        self.socket_path = socket_path
        self.timeout = timeout
        self._client = DirtyClient(socket_path, timeout=timeout)

    def _execute(self, op: int, table: str, key: Any = None, **more: Any) -> Any:
        from oxicorn.dirty.client import STASH

        if not isinstance(table, str):
            raise _no_table(table)
        payload = {"op": op, "table": table, "key": key, **more}
        try:
            answer = self._client.ask(STASH, payload)
        except DirtyError as error:
            raise _of_stash(error, table, key) from None
        if self._has_views:
            self._look_for_view()
        return answer

    def _look_for_view(self) -> None:
        """A view for the operations that follow. A pool that gives none is not asked again."""
        from oxicorn.dirty.client import STASH_VIEW

        view = _views.get(self.socket_path)
        if view is not None and not view.is_over():
            return
        try:
            view = self._client.ask(STASH_VIEW, {})
            self._has_views = view is not None
        except (DirtyConnectionError, DirtyTimeoutError):
            # It may be there again with the next operation.
            view = None
        except DirtyError:
            self._has_views = False
            view = None
        _views[self.socket_path] = view

    def put(self, table: str, key: Any, value: Any, *, ttl: float | None = None) -> None:
        """Stores a value, for ``ttl`` seconds or for good; makes the table if there is none."""
        given = _given(ttl=ttl)
        view = _views.get(self.socket_path)
        if view is None or not view.put(table, key, value, given.get("ttl")):
            self._execute(PUT, table, key, **given, value=value)

    def get(self, table: str, key: Any, default: Any = None) -> Any:
        """The value, or ``default``."""
        view = _views.get(self.socket_path)
        if view is not None:
            value = view.get(table, key, default)
            if value is not NotImplemented:
                return value
        try:
            return self._execute(GET, table, key)
        except (StashKeyNotFoundError, StashTableNotFoundError):
            return default

    def pop(self, table: str, key: Any, default: Any = None) -> Any:
        """The value, which is taken out, or ``default``."""
        try:
            return self._execute(POP, table, key)
        except (StashKeyNotFoundError, StashTableNotFoundError):
            return default

    def add(self, table: str, key: Any, value: Any, *, ttl: float | None = None) -> bool:
        """Stores a value where there is none; whether it did."""
        return bool(self._execute(ADD, table, key, **_given(ttl=ttl), value=value))

    def replace(
        self, table: str, key: Any, expected: Any, value: Any, *, ttl: float | None = None
    ) -> bool:
        """Stores a value in the place of ``expected``, and of nothing else; whether it did."""
        more = {**_given(ttl=ttl), "expected": expected, "value": value}
        return bool(self._execute(REPLACE, table, key, **more))

    def increment(
        self, table: str, key: Any, amount: float = 1, *, ttl: float | None = None
    ) -> Any:
        """Adds ``amount`` to a number, which begins as 0; the sum.

        ``ttl`` (seconds) is that of a number that is made by this.
        """
        return self._execute(INCREMENT, table, key, **_given(ttl=ttl), value=amount)

    def touch(self, table: str, key: Any, ttl: float | None) -> bool:
        """Gives a value ``ttl`` seconds from now, or no end (None); whether there is one."""
        return bool(self._execute(TOUCH, table, key, **_given(ttl=ttl)))

    def delete(self, table: str, key: Any, *, expected: Any = MISSING) -> bool:
        """Takes a value out, if it is ``expected`` (where that is given); whether it did."""
        if expected is MISSING:
            return bool(self._execute(DELETE, table, key))
        return bool(self._execute(DELETE_IF, table, key, expected=expected))

    def keys(self, table: str, pattern: str | None = None) -> list[Any]:
        """The keys, or those that match a pattern (``user:*``)."""
        found = self._execute(KEYS, table, **_given(pattern=pattern))
        return list(found)

    def clear(self, table: str) -> None:
        """Takes everything out of a table."""
        self._execute(CLEAR, table)

    def info(self, table: str) -> dict[str, Any]:
        """``size`` (entries), ``bytes`` and ``table`` (its name)."""
        return dict(self._execute(INFO, table))

    def ensure(self, table: str) -> None:
        """Makes a table if there is none."""
        self._execute(ENSURE, table)

    def exists(self, table: str, key: Any = None) -> bool:
        """Whether there is the table, or the key in it."""
        return bool(self._execute(EXISTS, table, key))

    def delete_table(self, table: str) -> bool:
        """Deletes a table with everything in it; whether there was one."""
        return bool(self._execute(DELETE_TABLE, table))

    def tables(self) -> list[str]:
        """The names of all tables."""
        return [name for name in self._execute(TABLES, "") if name != LOCKS]

    def table(self, name: str) -> StashTable:
        """A table as a dictionary."""
        return StashTable(self, name)

    def lock(self, name: str, ttl: float = 30.0) -> Lock:
        """A lock of all processes that use this stash; see ``Lock``."""
        return Lock(self, name, ttl)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _given(ttl: float | None = None, pattern: str | None = None) -> dict[str, Any]:
    """Those that are given. StashError: one is not what it can be."""
    if ttl is not None:
        seconds = seconds_of(ttl)
        if seconds is None or not 0 < seconds < math.inf:
            raise StashError(f"ttl must be seconds, more than 0, not {shown(ttl)}")
        return {"ttl": seconds}
    if pattern is not None:
        if not isinstance(pattern, str):
            raise StashError(f"pattern must be a str, not {type(pattern).__qualname__}")
        return {"pattern": pattern}
    return {}


def _no_table(table: object) -> StashError:
    return StashError(f"The name of a table must be a str, not {type(table).__qualname__}")


class StashTable:
    """A table as a dictionary."""

    def __init__(self, client: StashClient, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    def __getitem__(self, key: Any) -> Any:
        value = self._client.get(self._name, key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._client.put(self._name, key, value)

    def __delitem__(self, key: Any) -> None:
        if not self._client.delete(self._name, key):
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return self._client.exists(self._name, key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._client.keys(self._name))

    def __len__(self) -> int:
        try:
            return int(self._client.info(self._name)["size"])
        except StashTableNotFoundError:
            return 0

    def get(self, key: Any, default: Any = None) -> Any:
        """The value, or ``default``."""
        return self._client.get(self._name, key, default)

    def keys(self, pattern: str | None = None) -> list[Any]:
        """The keys, or those that match a pattern."""
        return self._client.keys(self._name, pattern)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Keys with their values, one after the other; one that is gone meanwhile is left out."""
        for key in self:
            value = self._client.get(self._name, key, MISSING)
            if value is not MISSING:
                yield key, value

    def values(self) -> Iterator[Any]:
        """The values, as ``items``."""
        return (value for _, value in self.items())

    def clear(self) -> None:
        """Takes everything out."""
        self._client.clear(self._name)


class Lock:
    """A lock with a lease: whoever has it has it for ``ttl`` seconds, unless it is renewed.

    So a holder that dies holds nobody up for longer. Who elects a leader calls ``acquire(wait=0)``
    and, as long as that was true, ``renew()`` well within each ``ttl``: where that is false,
    another one leads.
    """

    def __init__(self, client: StashClient, name: str, ttl: float = 30.0) -> None:
        self._client = client
        self.name = name
        self.ttl = ttl
        self._token = uuid.uuid4().hex

    def acquire(self, wait: float | None = None) -> bool:
        """Takes the lock; whether it did within ``wait`` seconds (None: as long as it takes)."""
        if wait is not None and seconds_of(wait) is None:
            raise StashError(f"wait must be None or seconds, not {shown(wait)}")
        until = None if wait is None else time.monotonic() + wait
        while not self._client.add(LOCKS, self.name, self._token, ttl=self.ttl):
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(LOCK_PAUSE)
        return True

    def renew(self) -> bool:
        """Has it for ``ttl`` seconds from now; False: it is not held any more."""
        return self._client.replace(LOCKS, self.name, self._token, self._token, ttl=self.ttl)

    def release(self) -> bool:
        """Lets go of it; False: it was not held any more."""
        return self._client.delete(LOCKS, self.name, expected=self._token)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


# The stash of this process's server.

_of_thread = threading.local()
_socket_path: str | None = None
#: The address of a Redis and how many bytes may lie there, where the settings say so.
_redis: tuple[str, int] | None = None


def set_stash_socket_path(path: str | None) -> None:
    """Where the stash is, for a process that no server has started."""
    global _socket_path
    _socket_path = path


def use_redis(url: str | None, limit: int = 0) -> None:
    """The stash is on the Redis at ``url`` (as in ``dirty_stash``); None: in the pool's broker.

    The server says so to its processes; a process of its own may, too. ``limit`` is how many bytes
    all tables may hold together, 0: any number.
    """
    global _redis
    _redis = (url, limit) if url else None


def get_stash_socket_path() -> str:
    """Where the stash is. StashError: there is none."""
    from oxicorn.dirty.arbiter import SOCKET_VARIABLE

    path = _socket_path or os.environ.get(SOCKET_VARIABLE)
    if not path:
        raise StashError(
            "Stash socket path not configured. "
            "Make sure dirty_workers > 0 and dirty_apps are configured."
        )
    return path


def _get_client() -> StashClient:
    place = _redis or get_stash_socket_path()
    kept: tuple[Any, StashClient] | None = getattr(_of_thread, "kept", None)
    if kept is None or kept[0] != place:
        kept = _of_thread.kept = place, _new_client(place)
    return kept[1]


def _new_client(place: str | tuple[str, int]) -> StashClient:
    if isinstance(place, str):
        return StashClient(place)
    from oxicorn.dirty.redis_stash import RedisStashClient

    return RedisStashClient(*place)


def put(table: str, key: Any, value: Any, *, ttl: float | None = None) -> None:
    """See ``StashClient.put``."""
    _get_client().put(table, key, value, ttl=ttl)


def get(table: str, key: Any, default: Any = None) -> Any:
    """See ``StashClient.get``."""
    return _get_client().get(table, key, default)


def pop(table: str, key: Any, default: Any = None) -> Any:
    """See ``StashClient.pop``."""
    return _get_client().pop(table, key, default)


def add(table: str, key: Any, value: Any, *, ttl: float | None = None) -> bool:
    """See ``StashClient.add``."""
    return _get_client().add(table, key, value, ttl=ttl)


def replace(table: str, key: Any, expected: Any, value: Any, *, ttl: float | None = None) -> bool:
    """See ``StashClient.replace``."""
    return _get_client().replace(table, key, expected, value, ttl=ttl)


def increment(table: str, key: Any, amount: float = 1, *, ttl: float | None = None) -> Any:
    """See ``StashClient.increment``."""
    return _get_client().increment(table, key, amount, ttl=ttl)


def touch(table: str, key: Any, ttl: float | None) -> bool:
    """See ``StashClient.touch``."""
    return _get_client().touch(table, key, ttl)


def delete(table: str, key: Any, *, expected: Any = MISSING) -> bool:
    """See ``StashClient.delete``."""
    return _get_client().delete(table, key, expected=expected)


def keys(table: str, pattern: str | None = None) -> list[Any]:
    """See ``StashClient.keys``."""
    return _get_client().keys(table, pattern)


def clear(table: str) -> None:
    """See ``StashClient.clear``."""
    _get_client().clear(table)


def info(table: str) -> dict[str, Any]:
    """See ``StashClient.info``."""
    return _get_client().info(table)


def ensure(table: str) -> None:
    """See ``StashClient.ensure``."""
    _get_client().ensure(table)


def exists(table: str, key: Any = None) -> bool:
    """See ``StashClient.exists``."""
    return _get_client().exists(table, key)


def delete_table(table: str) -> bool:
    """See ``StashClient.delete_table``."""
    return _get_client().delete_table(table)


def tables() -> list[str]:
    """See ``StashClient.tables``."""
    return _get_client().tables()


def table(name: str) -> StashTable:
    """See ``StashClient.table``."""
    return _get_client().table(name)


def lock(name: str, ttl: float = 30.0) -> Lock:
    """See ``Lock``."""
    return _get_client().lock(name, ttl)
