"""Gunicorn's validators, for settings that programs define (``gunicorn.config.validate_string``).

The table's own settings are checked by the native module; validators that belong to one of them ask
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from oxicorn import util
from oxicorn.setting import validated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "validate_bool",
    "validate_callable",
    "validate_class",
    "validate_dict",
    "validate_file_exists",
    "validate_list_string",
    "validate_pos_int",
    "validate_string",
    "validate_string_to_list",
]

#: Validators of one setting.
OF_SETTING = {
    "validate_asgi_lifespan": "asgi_lifespan",
    "validate_asgi_loop": "asgi_loop",
    "validate_chdir": "chdir",
    "validate_group": "group",
    "validate_header_map_behaviour": "header_map",
    "validate_http2_cleartext": "http2_cleartext",
    "validate_http2_frame_size": "http2_max_frame_size",
    "validate_http2_stream_limit": "http2_max_concurrent_streams",
    "validate_http2_window_size": "http2_initial_window_size",
    "validate_http_parser": "http_parser",
    "validate_http_protocols": "http_protocols",
    "validate_list_of_files_or_patterns": "reload_extra_files",
    "validate_post_request": "post_request",
    "validate_proxy_protocol": "proxy_protocol",
    "validate_reload_engine": "reload_engine",
    "validate_ssl_version": "ssl_version",
    "validate_statsd_address": "statsd_host",
    "validate_string_to_addr_list": "forwarded_allow_ips",
    "validate_user": "user",
}


def validate_bool(val: Any) -> bool | None:
    """True, False, their names in any case of letters, or None."""
    if val is None or isinstance(val, bool):
        return val
    if not isinstance(val, str):
        raise TypeError(f"Invalid type for casting: {val}")
    text = val.strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"Invalid boolean: {val}")
    return text == "true"


def validate_dict(val: Any) -> dict[Any, Any]:
    """A dictionary."""
    if not isinstance(val, dict):
        raise TypeError(f"Value is not a dictionary: {val}")
    return val


def validate_pos_int(val: Any) -> int:
    """A number that is not negative; text in any base (``0x10``)."""
    number = int(val) if isinstance(val, int) else int(val, 0)
    if number < 0:
        raise ValueError(f"Value must be positive: {val}")
    return number


def validate_string(val: Any) -> str | None:
    """Text without white space around it, or None."""
    if val is None:
        return None
    if not isinstance(val, str):
        raise TypeError(f"Not a string: {val}")
    return val.strip()


def validate_file_exists(val: Any) -> Any:
    """A path that exists, or None."""
    if val is not None and not os.path.exists(val):
        raise ValueError(f"File {val} does not exist.")
    return val


def validate_list_string(val: Any) -> list[str | None]:
    """A list of texts; one text is a list of one."""
    if not val:
        return []
    return [validate_string(entry) for entry in ([val] if isinstance(val, str) else val)]


def validate_string_to_list(val: Any) -> list[str]:
    """The entries of a text, separated by commas."""
    text = validate_string(val)
    return [entry.strip() for entry in text.split(",") if entry] if text else []


def validate_class(val: Any) -> Any:
    """A class, a function that returns one, or the name of one."""
    if util.is_function(val):
        val = val()
    return val if isinstance(val, type) else validate_string(val)


def validate_callable(arity: int) -> Callable[[Any], Any]:
    """A validator of callables, also by name, with so many arguments (-1: any number)."""

    def validate(val: Any) -> Any:
        if isinstance(val, str):
            val = util.load_object(val)
        if not callable(val):
            raise TypeError(f"Value is not callable: {val}")
        if arity not in (-1, util.get_arity(val)):
            raise TypeError(f"Value must have an arity of: {arity}")
        return val

    return validate


def __getattr__(name: str) -> Callable[[Any], Any]:
    if name not in OF_SETTING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def validate(val: Any) -> Any:
        return validated(OF_SETTING[name], val)

    validate.__name__ = validate.__qualname__ = name
    return validate
