"""Good and bad values for the settings, each for all of them: what one setting takes another refuses."""

from __future__ import annotations

import logging


def _f0():
    """A callable of no arguments; Gunicorn calls it where a class is wanted."""
    return None


def _f1(one):
    pass


def _f2(one, two):
    pass


def _f3(one, two, three):
    pass


def _f4(one, two, three, four):
    pass


def _defaults(one, two=2):
    pass


def _star(*args: object):
    pass


class _Class:
    pass


class _Callable:
    def __call__(self, one) -> None:
        pass


def _factory():
    return _Class


_TEXTS = """
text true TRUE false yes no 0 1 -1 5 0x10 0o17 0b11 010 1_000 1.5 many a,b * 127.0.0.1 10.0.0.0/8 10.0.0.1/8 ::1
fe80::/10 10.0.0.0/255.0.0.0 1.2.3 127.0.0.1,::1 / /tmp /no/such . .. /etc/passwd *.nothing /etc/pass* localhost
localhost:8125 [::1]:8125 unix:///x unix:/x unix:123 :1 A=1 A root 65534 nobody-here auto v1 V2 v3 off none both upgrade
Upgrade prior-knowledge h1 h2 h1,h2 h2,h1 h1,h1 h3 H1 poll inotify Poll drop refuse dangerous Drop asyncio uvloop on
fast python sync gthread gevent os.getcwd os.path.join nowhere.nothing os.nothing gunicorn.glogging.Logger simple http
uwsgi SCRIPT_NAME,PATH_INFO 16383 16384 16777215 16777216 2147483647 2147483648 info DEBUG loud - user local0 TLSv1
""".split()

#: Label -> value.
VALUES: dict[str, object] = {
    **{repr(text): text for text in _TEXTS},
    **{
        repr(value): value
        for value in (
            *(None, True, False, 0, 1, -1, 2, 5, 16383, 16384, 16777215, 16777216),
            *(2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 1.5, 0.0, b"bytes", "", " ", " spaced ", " true ", "a, b,,c"),
            *("two words", "h1, h2", " 5 ", "unix://", "fd://3", "h:port"),
            *([], [""], ["a"], ["a", "b"], [1], [None], ["A=1", "B=2"], ["/tmp"], ["/no/such", "*"], (), ("a",), {"a"}),
            *({}, {"a": "b"}, {"a": 1}, {1: 2}, {"A": ["x"]}, {"version": 1, "root": {"level": "INFO"}}),
        )
    },
    "function()": _f0,
    "function(1)": _f1,
    "function(2)": _f2,
    "function(3)": _f3,
    "function(4)": _f4,
    "function(1, default)": _defaults,
    "function(*args)": _star,
    "lambda of 1": lambda one: None,
    "class": _Class,
    "class of loggers": logging.Logger,
    "instance with __call__(1)": _Callable(),
    "factory of a class": _factory,
    "built-in of 1": len,
    "object()": object(),
}
