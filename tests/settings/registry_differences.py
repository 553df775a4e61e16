"""Where our table differs from Gunicorn's registry on purpose, and why: the one list.

``test_parity.py`` fails on a difference that is not listed here, and on a line here that is no difference.
"""

from __future__ import annotations

OWN_NAME = "it is called oxicorn"
LONGER_THAN_BALANCERS = "load balancers keep idle connections for a minute, and must close them first"

#: ``SETTING.value`` (as the validator leaves the default) and ``SETTING.default`` -> reason.
DEFAULTS = {
    "control_socket.value": OWN_NAME,
    "control_socket.default": OWN_NAME,
    "default_proc_name.value": OWN_NAME,
    "default_proc_name.default": OWN_NAME,
    "keepalive.value": LONGER_THAN_BALANCERS,
    "keepalive.default": LONGER_THAN_BALANCERS,
    "logger_class.value": OWN_NAME,
    "logger_class.default": OWN_NAME,
}

#: The same for one environment only.
DEFAULTS_IN = {
    "PORT=": {
        "bind.value": "an empty PORT says nothing (Gunicorn: 0.0.0.0 without a port)",
        "bind.default": "an empty PORT says nothing (Gunicorn: 0.0.0.0 without a port)",
    },
}

NO_LIST = "the keys of a dictionary, or a number, are no list of texts"
NO_TEXT = "None is no text"
TOO_LARGE = "no number is larger than 2^63 - 1"
TOO_MANY = "each worker is a process: more than 4096 are refused before anything is started"
NO_ID = "no user or group has this number"
A_NUMBER = "a boolean is the number Python takes it for"
NO_TEXTS = "the header's value is text; anything else never matched"
NO_ADDRESS = "there is nothing to send to"
ONLY_SHOWN = "without effect in both, and only shown: what is no plain value is shown as text"

_DICTIONARIES = ("{'a': 'b'}", "{'a': 1}", "{'A': ['x']}", "{'version': 1, 'root': {'level': 'INFO'}}")
_LIST = {"0.0": NO_LIST, "[None]": NO_TEXT, **dict.fromkeys(_DICTIONARIES, NO_LIST)}
_INTEGER = {"9223372036854775808": TOO_LARGE}
_NUMBERS = (16383, 16384, 16777215, 16777216, 2**31 - 1, 2**31)
_WORKERS = dict.fromkeys(
    (*map(repr, (*_NUMBERS, 2**32, 2**63 - 1)), *(f"'{number}'" for number in (*_NUMBERS, 65534))), TOO_MANY
)
_ID = {
    "True": A_NUMBER,
    "False": A_NUMBER,
    "-1": NO_ID,
    "4294967296": NO_ID,
    "9223372036854775807": NO_ID,
    "9223372036854775808": NO_ID,
}
_NO_PLAIN_VALUES = """
1.5 0.0 b'bytes' [] [''] ['a'] [1] [None] ['/tmp'] () ('a',) {'a'} {}
"""

#: SETTING -> label of the value (``registry_values.py``) -> reason.
VALUES: dict[str, dict[str, str]] = {
    **dict.fromkeys(("bind", "raw_env", "raw_paste_global_conf", "dirty_apps"), _LIST),
    **dict.fromkeys(("user", "group"), _ID),
    **dict.fromkeys(
        (
            *("backlog", "workers", "threads", "worker_connections", "max_requests", "max_requests_jitter", "timeout"),
            *("graceful_timeout", "keepalive", "limit_request_line", "limit_request_fields", "umask", "cert_reqs"),
            *("limit_request_field_size", "http2_max_concurrent_streams", "http2_max_header_list_size"),
            *("asgi_disconnect_grace_period", "websocket_max_message_size", "dirty_workers", "dirty_timeout"),
            *("dirty_threads", "dirty_graceful_timeout", "control_socket_mode"),
        ),
        _INTEGER,
    ),
    "workers": _INTEGER | _WORKERS,
    "reload_extra_files": {"0.0": NO_LIST},
    "chdir": {"'/etc/passwd'": "a file is no directory (Gunicorn: a traceback when it is entered)"},
    "secure_scheme_headers": {label: NO_TEXTS for label in (*_DICTIONARIES[1:], "{1: 2}")},
    "statsd_host": {"'unix://'": NO_ADDRESS, "'fd://3'": NO_ADDRESS},
    "ssl_version": dict.fromkeys(
        (*_NO_PLAIN_VALUES.split(), "['a', 'b']", "['A=1', 'B=2']", "['/no/such', '*']", _DICTIONARIES[0]), ONLY_SHOWN
    ),
}
