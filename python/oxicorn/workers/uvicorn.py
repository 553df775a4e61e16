"""uvicorn's worker classes for Gunicorn, as those that name them or derive from them know them.

What their ``CONFIG_KWARGS`` say is translated into settings, since gateway and worker go by those;
the rest is done here: loggers, headers of every response, factories.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from oxicorn.errors import ConfigError
from oxicorn.workers.asgi import AsgiWorker

if TYPE_CHECKING:
    from oxicorn.config import Config

__all__ = ["UvicornH11Worker", "UvicornWorker", "translate"]


class UvicornWorker(AsgiWorker):
    """The asgi class with the loggers, and the meaning of ``CONFIG_KWARGS``, of uvicorn's."""

    #: Arguments of ``uvicorn.Config``.
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "auto", "http": "auto"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, source in (("uvicorn.error", "error_log"), ("uvicorn.access", "access_log")):
            _share_handlers(logging.getLogger(name), getattr(self.log, source, None))
        _configure_logging(self.CONFIG_KWARGS)

    @property
    def config(self) -> Any:
        """uvicorn's own configuration, which there is none of."""
        text = "there is no uvicorn.Config here: say what it shall be in CONFIG_KWARGS"
        raise AttributeError(text)

    async def callback_notify(self) -> None:
        """What uvicorn's class calls now and then; here for classes that override it."""
        self.notify()

    def beats(self) -> Iterator[tuple[float, Callable[[], Any]]]:
        """``callback_notify``, which calls ``notify``, as often as uvicorn's class does."""
        if self.has_own_notify or type(self).callback_notify is not CALLBACK_NOTIFY:
            yield self.timeout or UNTIMED_PERIOD, self.callback_notify

    def load_wsgi(self) -> None:
        """Loads the application; ``factory`` and ``headers`` of ``CONFIG_KWARGS`` are for it."""
        super().load_wsgi()
        assert self.wsgi is not None
        if self.CONFIG_KWARGS.get("factory"):
            self.wsgi = self.wsgi()
        headers = self.CONFIG_KWARGS.get("headers")
        if headers:
            self.wsgi = with_headers(self.wsgi, headers)


#: As it was made, by which it is noticed that a class has its own.
CALLBACK_NOTIFY = UvicornWorker.callback_notify
#: Seconds between two calls of it where there is no ``timeout``.
UNTIMED_PERIOD = 15.0


class UvicornH11Worker(UvicornWorker):
    """The same on asyncio's loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "h11"}


def _share_handlers(logger: logging.Logger, source: logging.Logger | None) -> None:
    if source is not None:
        logger.handlers = source.handlers
        logger.setLevel(source.level)
        logger.propagate = False


def _configure_logging(kwargs: dict[str, Any]) -> None:
    """``log_config`` and ``log_level``, as uvicorn takes them."""
    import logging.config  # few have one

    config, level = kwargs.get("log_config"), kwargs.get("log_level")
    if isinstance(config, (str, os.PathLike)) and os.fspath(config).endswith(".json"):
        with open(config) as file:
            config = json.load(file)
    if isinstance(config, dict):
        logging.config.dictConfig(config)
    elif config is not None:
        logging.config.fileConfig(config, disable_existing_loggers=False)
    if level is not None:
        level = level.upper() if isinstance(level, str) else level
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
            logging.getLogger(name).setLevel(level)


def with_headers(
    application: Callable[..., Any], headers: list[tuple[str, str]]
) -> Callable[..., Any]:
    """The application, with ``headers`` on every response."""
    from oxicorn.workers.asgi_callable import single_callable

    application = single_callable(application)
    added = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]

    def wrapped(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] != "http":
            return application(scope, receive, send)

        def send_with_headers(event: Any) -> Awaitable[None]:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*added, *event.get("headers", ())]}
            return send(event)  # type: ignore[no-any-return]

        return application(scope, receive, send_with_headers)

    return wrapped


# CONFIG_KWARGS.

#: Argument of uvicorn.Config -> setting of the same meaning.
SETTINGS = {
    "root_path": "root_path",
    "lifespan": "asgi_lifespan",
    "ws_max_size": "websocket_max_message_size",
    "timeout_keep_alive": "keepalive",
    "timeout_graceful_shutdown": "graceful_timeout",
    "limit_concurrency": "worker_connections",
    "limit_max_requests": "max_requests",
    "limit_max_requests_jitter": "max_requests_jitter",
    "backlog": "backlog",
    "ssl_keyfile": "keyfile",
    "ssl_keyfile_password": "keyfile_password",
    "ssl_certfile": "certfile",
    "ssl_ca_certs": "ca_certs",
    "ssl_ciphers": "ciphers",
    "ssl_cert_reqs": "cert_reqs",
}
#: Those this module sees to, and those without effect in uvicorn's class under Gunicorn either.
SEEN_TO = frozenset(
    """
    factory headers log_config log_level app host port uds fd workers reload reload_dirs
    reload_delay reload_includes reload_excludes callback_notify timeout_notify http use_colors
    timeout_worker_healthcheck
    """.split()
)
#: What to do about the others.
ADVICE = {
    "server_header": "the server writes Server itself",
    "date_header": "the server writes Date itself",
    "env_file": "load it in the application, or set raw_env",
    "h11_max_incomplete_event_size": "set limit_request_field_size and limit_request_fields",
    "ws_max_queue": "what waits for an application is bounded in bytes",
    "ssl_version": "set tls_minimum_version",
    "ssl_context_factory": "set the hook ssl_context",
    "interface": "for a WSGI application set worker_class to gthread",
}

#: Seconds until the call of a client that left is cancelled: a day, where uvicorn never does it.
NEVER_CANCELLED = 86_400


def translate(worker: type[UvicornWorker], cfg: Config) -> Iterator[str]:
    """Puts ``CONFIG_KWARGS`` in force as settings; a line for each that cannot be.

    They hold before what the settings say, as with uvicorn's class, which updates its arguments
    with them last; a line names each setting that this makes void.
    """
    kwargs = dict(worker.CONFIG_KWARGS)
    where = f"worker_class {worker.__qualname__}: CONFIG_KWARGS"
    if not cfg.native.is_set("asgi_disconnect_grace_period"):
        cfg.set("asgi_disconnect_grace_period", NEVER_CANCELLED)
    if cfg.get("asgi_proxy_headers") == "auto":
        kwargs.setdefault("proxy_headers", True)
    for name, value in kwargs.items():
        try:
            said = list(_said(name, value))
            for setting, meant in said:
                before = cfg.get(setting) if cfg.native.is_set(setting) else None
                cfg.set(setting, meant)
                if before is not None and before != cfg.get(setting):
                    yield (
                        f"{where}[{name!r}] holds, as with uvicorn's class, and not the setting "
                        f"{setting} ({before})"
                    )
        except ConfigError as error:
            raise ConfigError(f"{where}[{name!r}]: {error}") from error
        if not said and not _is_seen_to(name, value):
            advice = f": {ADVICE[name]}" if name in ADVICE else ""
            yield f"{where}[{name!r}] has no effect here{advice}"


def _said(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What an argument means as settings."""
    if name in SETTINGS:
        if value is not None:
            yield SETTINGS[name], value
    elif name == "loop" and value in ("asyncio", "uvloop"):
        yield "asgi_loop", value
    elif name == "proxy_headers":
        yield "asgi_proxy_headers", "on" if value else "off"
    elif name == "forwarded_allow_ips" and value is not None:
        yield name, value if isinstance(value, str) else ",".join(value)
    elif name in ("ws_ping_interval", "ws_ping_timeout"):
        # Whole seconds, and none at all is 0 here.
        yield name.replace("ws_", "websocket_"), max(1, round(value)) if value else 0
    elif name == "ws_per_message_deflate" and not value:
        yield "websocket_compression", "off"
    elif name == "access_log" and not value:
        yield "accesslog", None


def _is_seen_to(name: str, value: Any) -> bool:
    if name in ("loop", "interface"):
        return value in ("auto", "none", "asgi2", "asgi3")
    if name == "ws":
        return bool(value != "none")
    if name in ("server_header", "date_header", "access_log", "ws_per_message_deflate"):
        return bool(value)
    return name in SEEN_TO or name in SETTINGS or name == "forwarded_allow_ips" or value is None
