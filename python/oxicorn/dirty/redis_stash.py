"""The stash on a Redis, or on what speaks as one (Valkey): setting ``dirty_stash``.

The operations are those of the broker's stash (``crates/oxicorn-pool/src/stash.rs``), values are
the same bytes, and each operation is one script, so one step for all who share the server. Time is
the server's own: machines whose clocks differ agree on leases.

Below ``{prefix}`` lie a hash for each table (``t:NAME``), a hash of all tables with the bytes that
each holds (``tables``), their sum (``bytes``), and a sorted set of what ends when (``ends``), from
which every operation first takes out what has ended. The braces keep all of it in one slot of a
cluster.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import math
import ssl
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from oxicorn import _native
from oxicorn.dirty import stash
from oxicorn.dirty.client import checked_timeout
from oxicorn.dirty.errors import DirtyProtocolError
from oxicorn.dirty.stash import (
    StashClient,
    StashConnectionError,
    StashError,
    StashFullError,
    StashKeyNotFoundError,
    StashTableNotFoundError,
)
from oxicorn.errors import ConfigError

__all__ = ["RedisStashClient", "shown", "verify"]

#: Ways to write the address; Valkey's names mean the same.
SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}
#: What the names of all keys begin with, where the address does not say it.
PREFIX = "oxicorn:stash"
#: Seconds for an operation, and for a connection to be made, where the address does not say it.
TIMEOUT = 5.0
#: Bytes that an entry costs beside its key and its value, as in the broker.
ENTRY_COST = 96
#: Entries that an operation takes out, at most, because they have ended; the rest is the next
#: one's. Those that it looks at are taken out in any case.
SWEPT = 1000
#: Integers that scripts can add: their numbers are doubles.
EXACT = 2**53
#: The first byte of an integer of 64 bits, and of a float; then eight bytes, the highest first.
INT, FLOAT = 0x05, 0x06

SCRIPT = f"""
local tables, sum, ends, entries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local op, name, key, value, expected = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local ttl, limit, prefix = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
-- What is there already keeps its time.
local keeps = ARGV[9] == 'keep'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local member = #name .. ':' .. name .. key

local function cost(key, value) return #key + #value + {ENTRY_COST} end

local function take(name, key, member)
  local entries = prefix .. 't:' .. name
  local value = redis.call('HGET', entries, key)
  redis.call('ZREM', ends, member)
  if value then
    redis.call('HDEL', entries, key)
    redis.call('HINCRBY', tables, name, -cost(key, value))
    redis.call('INCRBY', sum, -cost(key, value))
  end
  return value
end

local function sweep(most)
  local ended = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, most)
  for _, member in ipairs(ended) do
    local colon = string.find(member, ':', 1, true)
    local after = colon + tonumber(string.sub(member, 1, colon - 1))
    take(string.sub(member, colon + 1, after), string.sub(member, after + 1), member)
  end
  return #ended
end

local function ensure() redis.call('HSETNX', tables, name, 0) end

local function find()
  local ending = redis.call('ZSCORE', ends, member)
  if ending and tonumber(ending) <= now then take(name, key, member) end
  return redis.call('HGET', entries, key)
end

local function finish(ttl)
  if ttl > 0 then
    redis.call('ZADD', ends, string.format('%.17g', now + ttl), member)
  else
    redis.call('ZREM', ends, member)
  end
end

local function store(value, before, keeps)
  local change = cost(key, value)
  if before then change = change - cost(key, before) end
  local held = tonumber(redis.call('GET', sum) or 0)
  if limit > 0 and change > 0 and held + change > limit then return false end
  ensure()
  redis.call('HSET', entries, key, value)
  redis.call('HINCRBY', tables, name, change)
  redis.call('INCRBY', sum, change)
  if not keeps then finish(ttl) end
  return true
end

local function clear()
  for _, key in ipairs(redis.call('HKEYS', entries)) do
    redis.call('ZREM', ends, #name .. ':' .. name .. key)
  end
  redis.call('INCRBY', sum, 0 - tonumber(redis.call('HGET', tables, name) or 0))
  redis.call('DEL', entries)
end

local whole = op == 'keys' or op == 'info'
repeat local swept = sweep({SWEPT}) until not whole or swept < {SWEPT}

if op == 'put' then
  if store(value, find()) then return 1 end
  return 'full'
elseif op == 'add' then
  if find() then return 0 end
  if store(value, false) then return 1 end
  return 'full'
elseif op == 'replace' then
  local before = find()
  if before ~= expected then return 0 end
  if store(value, before, keeps) then return 1 end
  return 'full'
elseif op == 'get' then
  return {{find()}}
elseif op == 'pop' then
  find()
  return {{take(name, key, member)}}
elseif op == 'delete' then
  find()
  if take(name, key, member) then return 1 end
  return 0
elseif op == 'delete_if' then
  if find() ~= expected then return 0 end
  take(name, key, member)
  return 1
elseif op == 'touch' then
  if not find() then return 0 end
  finish(ttl)
  return 1
elseif op == 'increment' then
  local before = find()
  local kind = before and string.byte(before) or {INT}
  if kind ~= {INT} and kind ~= {FLOAT} then return 'number' end
  local is_float = kind == {FLOAT} or string.byte(value) == {FLOAT}
  local function read(bytes)
    if string.byte(bytes) == {FLOAT} then return (struct.unpack('>d', bytes, 2)) end
    local high, low = struct.unpack('>i4I4', bytes, 2)
    return high * 4294967296 + low
  end
  local one, two = before and read(before) or 0, read(value)
  local result = one + two
  local function exact(number) return math.abs(number) < {EXACT} end
  if not is_float and not (exact(one) and exact(two) and exact(result)) then
    return {{'slow', before}}
  end
  if is_float then
    if not (exact(one) and exact(two)) then return {{'slow', before}} end
    result = string.char({FLOAT}) .. struct.pack('>d', result)
  else
    local high = math.floor(result / 4294967296)
    result = string.char({INT}) .. struct.pack('>i4I4', high, result - high * 4294967296)
  end
  if not store(result, before, before) then return 'full' end
  return {{'sum', result}}
elseif op == 'keys' then
  return redis.call('HKEYS', entries)
elseif op == 'clear' then
  clear()
  if redis.call('HEXISTS', tables, name) == 1 then redis.call('HSET', tables, name, 0) end
  return 1
elseif op == 'info' then
  local bytes = redis.call('HGET', tables, name)
  if not bytes then return false end
  return {{redis.call('HLEN', entries), tonumber(bytes)}}
elseif op == 'ensure' then
  ensure()
  return 1
elseif op == 'delete_table' then
  clear()
  return redis.call('HDEL', tables, name)
elseif op == 'tables' then
  return redis.call('HKEYS', tables)
elseif op == 'has_table' then
  return redis.call('HEXISTS', tables, name)
elseif op == 'has_key' then
  if find() then return 1 end
  return 0
end
return redis.error_reply('unknown operation of the stash')
"""
DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

#: The operations by their numbers, as the script knows them.
NAMES = {
    stash.PUT: "put",
    stash.GET: "get",
    stash.DELETE: "delete",
    stash.KEYS: "keys",
    stash.CLEAR: "clear",
    stash.INFO: "info",
    stash.ENSURE: "ensure",
    stash.DELETE_TABLE: "delete_table",
    stash.TABLES: "tables",
    stash.ADD: "add",
    stash.REPLACE: "replace",
    stash.INCREMENT: "increment",
    stash.TOUCH: "touch",
    stash.POP: "pop",
    stash.DELETE_IF: "delete_if",
}


def _taken_apart(url: str) -> tuple[str, str, float]:
    """The address as the package wants it, the prefix, and the seconds for an operation."""
    parts = urlsplit(url)
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ConfigError(
            f"Invalid value for dirty_stash: {shown(url)!r}: must begin with redis://, rediss:// "
            "or unix://"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = query.pop("prefix", PREFIX)
    try:
        timeout = float(query.pop("timeout", TIMEOUT))
    except ValueError:
        timeout = math.nan
    if not 0 < timeout < math.inf:
        raise ConfigError("Invalid value for dirty_stash: timeout must be seconds, more than 0")
    if not prefix or "{" in prefix or "}" in prefix:
        raise ConfigError("Invalid value for dirty_stash: prefix must be a name without braces")
    whole = urlunsplit((scheme, parts.netloc, parts.path, urlencode(query), ""))
    # A path alone would be made one slash shorter.
    if scheme == "unix" and not parts.netloc:
        whole = f"unix://{parts.path}" + (f"?{urlencode(query)}" if query else "")
    return whole, prefix, timeout


def shown(url: str) -> str:
    """The address without its password, for people."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return (
        urlunsplit((parts.scheme, where, parts.path, "", "")) if where else f"unix://{parts.path}"
    )


def _package() -> Any:
    try:
        import redis
    except ImportError:
        raise ConfigError(
            "dirty_stash needs the Python package redis, which is not installed: "
            "pip install 'oxicorn[redis]'"
        ) from None
    return redis


def _pool_of(url: str, timeout: float) -> Any:
    """Connections to the server, which are made when they are needed."""
    redis = _package()
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {}
    if url.startswith("rediss:") and dict(parse_qsl(urlsplit(url).query)).get(
        "ssl_cert_reqs"
    ) not in ("none", "optional"):
        # Older releases of the package take any certificate that the authority has signed.
        options["ssl_check_hostname"] = True
    return redis.ConnectionPool.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        # An operation whose answer was lost may have been done: it is never sent twice.
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        **options,
    )


def verify(url: str) -> None:
    """ConfigError: the address makes no sense, a file that it names cannot be used, or the package
    is missing. Nothing is connected.
    """
    whole, _, timeout = _taken_apart(url)
    try:
        pool = _pool_of(whole, timeout)
        pool.connection_class(**pool.connection_kwargs)
        _load_files(pool.connection_kwargs)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"Invalid value for dirty_stash: {shown(url)!r}: {error}") from None


def _load_files(options: dict[str, Any]) -> None:
    """Reads what TLS will need, so that what is wrong with it is said at the start. ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority, certificate = options.get("ssl_ca_certs"), options.get("ssl_certfile")
    if authority:
        with _named("ssl_ca_certs", authority):
            context.load_verify_locations(authority)
    if certificate:
        with _named("ssl_certfile", certificate):
            # A key with a password is asked for in a terminal, where there is none.
            password = options.get("ssl_password") or ""
            context.load_cert_chain(certificate, options.get("ssl_keyfile"), password)


@contextlib.contextmanager
def _named(option: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # An SSLError's text ends with the line of C in which it was made.
        text = error.strerror if not isinstance(error, ssl.SSLError) else "no PEM that can be read"
        raise ValueError(f"{option}={file}: {text}") from None


class RedisStashClient(StashClient):
    """Works with the tables on a Redis; threads may share it.

    ``url`` is as in ``dirty_stash``, ``limit`` how many bytes all tables may hold together (0: any
    number). A server that cannot be reached, or does not answer within ``timeout`` seconds (those
    of ``url``, at most), is a StashConnectionError; the next operation connects anew. One whose
    answer was lost may have been done.
    """

    def __init__(self, url: str, limit: int = 0, timeout: float | None = None) -> None:
        whole, prefix, patience = _taken_apart(url)
        self.url = url
        self.socket_path = ""
        timeout = checked_timeout(timeout)
        self.timeout = patience if timeout is None else min(timeout, patience)
        self.limit = limit
        self._where = shown(url)
        self._redis = _package()
        self._server = self._redis.Redis(connection_pool=_pool_of(whole, self.timeout))
        self._prefix = f"{{{prefix}}}:".encode()

    def close(self) -> None:
        """Closes the connections."""
        self._server.connection_pool.disconnect()

    def _execute(self, op: int, table: str, key: Any = None, **more: Any) -> Any:
        if not isinstance(table, str):
            raise stash._no_table(table)
        if op == stash.EXISTS:
            name = "has_table" if key is None else "has_key"
        else:
            name = NAMES[op]
        if key is None and name in _WITH_KEY:
            raise StashError("A key cannot be None")
        if op == stash.INCREMENT:
            return self._increment(table, key, more["value"], more.get("ttl"))
        answer = self._run(name, table, key, more)
        if answer == b"full":
            raise StashFullError(f"The stash holds {self.limit} bytes, which is dirty_stash_size")
        if op in (stash.GET, stash.POP):
            if not answer or answer[0] is None:
                raise StashKeyNotFoundError(table, key)
            return _native.pool_decode(answer[0])
        if op == stash.KEYS:
            return _matching(answer, more.get("pattern"))
        if op == stash.INFO:
            if answer is None:
                raise StashTableNotFoundError(table)
            return {"size": answer[0], "bytes": answer[1], "table": table}
        if op == stash.TABLES:
            return sorted(name.decode() for name in answer)
        return bool(answer)

    def _run(
        self, name: str, table: str, key: Any, more: dict[str, Any], *, keeps: bool = False
    ) -> Any:
        encoded = {field: _encoded(more.get(field), field) for field in ("value", "expected")}
        return self._call(
            name,
            table,
            _encoded(key, "key"),
            encoded["value"],
            encoded["expected"],
            _milliseconds(more.get("ttl")),
            keeps=keeps,
        )

    def _call(
        self,
        name: str,
        table: str,
        key: bytes,
        value: bytes,
        expected: bytes,
        ttl: float,
        *,
        keeps: bool = False,
    ) -> Any:
        prefix, encoded = self._prefix, _encoded_name(table)
        keys = [prefix + b"tables", prefix + b"bytes", prefix + b"ends", prefix + b"t:" + encoded]
        arguments = [
            name,
            encoded,
            key,
            value,
            expected,
            repr(ttl),
            self.limit,
            prefix,
            "keep" if keeps else "",
        ]
        try:
            try:
                return self._server.evalsha(DIGEST, len(keys), *keys, *arguments)
            except self._redis.exceptions.NoScriptError:
                return self._server.eval(SCRIPT, len(keys), *keys, *arguments)
        except self._redis.RedisError as error:
            self._explain(error)
        except OSError as error:
            self._explain(error)

    def _explain(self, error: Exception) -> NoReturn:
        exceptions = self._redis.exceptions
        lost = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
        if isinstance(error, exceptions.AuthenticationError):
            raise StashError(f"The stash at {self._where} refuses us: {error}") from error
        if isinstance(error, exceptions.TimeoutError):
            text = f"The stash at {self._where} did not answer within {self.timeout:g} s"
            raise StashConnectionError(text) from error
        fault = _tls_fault(error)
        if fault:
            raise StashConnectionError(f"The stash at {self._where} {fault}") from error
        if isinstance(error, lost):
            text = f"The stash at {self._where} cannot be reached: {error}"
            raise StashConnectionError(text) from error
        raise StashError(f"The stash at {self._where} failed: {error}") from error

    def _increment(self, table: str, key: Any, amount: Any, ttl: float | None) -> Any:
        if _number(amount) is None:
            raise StashError(NO_NUMBER)
        more = {"value": amount, "ttl": ttl}
        while True:
            answer = self._run("increment", table, key, more)
            if answer == b"full":
                raise StashFullError(
                    f"The stash holds {self.limit} bytes, which is dirty_stash_size"
                )
            if answer == b"number":
                raise StashError(NO_NUMBER)
            if answer[0] == b"sum":
                return _native.pool_decode(answer[1])
            # Numbers that a script cannot add without loss are added here, and put in the place of
            # what was there, if it still is. Each round that fails is one in which another did it.
            before = answer[1] if len(answer) > 1 else None
            total = _number((0 if before is None else _native.pool_decode(before)) + amount)
            if total is None:
                raise StashError(NO_NUMBER)
            value = _encoded(total, "value")
            name = "add" if before is None else "replace"
            done = self._call(
                name,
                table,
                _encoded(key, "key"),
                value,
                before or b"",
                _milliseconds(ttl),
                keeps=before is not None,
            )
            if done == b"full":
                raise StashFullError(
                    f"The stash holds {self.limit} bytes, which is dirty_stash_size"
                )
            if done:
                return total


#: OpenSSL's codes for a certificate of another name or address.
_OTHER_NAME = frozenset((62, 64))
#: OpenSSL's reasons where what answered a greeting was no TLS.
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"))


def _tls_fault(error: BaseException) -> str:
    """What went wrong with TLS, in words; empty: nothing did."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    if found is None:
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        text = f"has a certificate that is not trusted: {found.verify_message.rstrip('.')}"
        if found.verify_code in _OTHER_NAME:
            return text
        return f"{text} (?ssl_ca_certs=FILE names the authority that has signed it)"
    if found.reason in _NO_TLS:
        return "does not speak TLS: its address is redis://, not rediss://"
    if isinstance(found, ssl.SSLEOFError):
        return "has ended the connection while TLS was agreed on"
    return f"cannot be reached by TLS: {(found.reason or 'failed').replace('_', ' ').lower()}"


NO_NUMBER = "Only numbers can be added, and their sum must have 64 bits"
_WITH_KEY = frozenset("put get delete add replace increment touch pop delete_if has_key".split())


def _number(value: Any) -> int | float | None:
    """The number that can be added, or stored as a sum; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None
    return value


def _encoded(value: Any, what: str) -> bytes:
    try:
        return _native.pool_encode(value, what)
    except DirtyProtocolError as error:
        raise StashError(f"Stash operation failed: {error.message}") from None


def _encoded_name(table: str) -> bytes:
    try:
        return table.encode()
    except UnicodeEncodeError:
        raise StashError("The name of a table has a lone surrogate, which UTF-8 has not") from None


def _milliseconds(ttl: float | None) -> float:
    if ttl is None:
        return 0.0
    if not 0 < ttl < math.inf:
        raise StashError("ttl must be seconds, more than 0")
    return ttl * 1000


def _matching(keys: list[bytes], pattern: str | None) -> list[Any]:
    decoded = [_native.pool_decode(key) for key in sorted(keys)]
    if pattern is None:
        return decoded
    texts = (str(key) if isinstance(key, (str, int)) else "" for key in decoded)
    matches = (fnmatch.fnmatchcase(text, pattern) for text in texts)
    return [key for key, fits in zip(decoded, matches, strict=True) if fits]
