"""What a service logs: lines of text, or of JSON with `LOG_FORMAT=json`; one for each request.

Each line says when (in UTC), how important it is, and in which request: the X-Request-ID that a
client or a proxy has sent, or a new one, which the answer has too. A request's line has its route
and no query. Of the path it has the ids alone: the rest may be names or e-mail addresses.
"""

import logging
import logging.config
import re
import time
from typing import Any
from urllib.parse import quote

from asgi_correlation_id import CorrelationIdMiddleware
from pythonjsonlogger.core import RESERVED_ATTRS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.context import Context, context_of
from kit.settings import Settings

REQUEST_ID = "X-Request-ID"
USUAL_ID = re.compile(r"[\w.:=+/-]+", re.ASCII)
access_logger = logging.getLogger("uvicorn.access")  # that `--no-access-log` silences
FIELDS = {"asctime": "time", "levelname": "level", "correlation_id": "request_id", "name": "logger"}
TIME = {  # RFC 3339, in UTC
    "converter": time.gmtime,
    "default_time_format": "%Y-%m-%dT%H:%M:%S",
    "default_msec_format": "%s.%03dZ",
}

AS_TEXT = {
    "()": "logging.Formatter",
    "fmt": "%(asctime)s %(levelname)-7s [%(correlation_id)s] %(message)s",
}
AS_JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": "".join(f"%({name})s" for name in (*FIELDS, "message")),
    "rename_fields": FIELDS,
    "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # which uvicorn adds for terminals
}


def configuration(settings: Settings) -> dict[str, Any]:
    """For `logging.config.dictConfig`, and for uvicorn's `log_config`."""
    is_json, echo = settings.log_format == "json", settings.database_echo
    level = settings.log_level.upper()
    request_id = {
        "()": "asgi_correlation_id.CorrelationIdFilter",
        "default_value": None if is_json else "-",
    }
    handler = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stdout",
        "level": "DEBUG" if echo else level,  # uvicorn gives its loggers levels of their own
        "formatter": "line",
        "filters": ["request id"],
    }
    is_told = access_logger.propagate or access_logger.handlers  # no, with `--no-access-log`
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {**(AS_JSON if is_json else AS_TEXT), ".": TIME}},
        "filters": {"request id": request_id},
        "handlers": {"all": handler},
        "root": {"handlers": ["all"], "level": level},
        "loggers": {
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.access": {"handlers": [], "propagate": bool(is_told)},
            "alembic": {"level": "WARNING"},
            "asgi_correlation_id": {"level": "ERROR"},  # it warns of what anybody may send
            "sqlalchemy.engine": {"level": "INFO" if echo is True else "WARNING"},
            "sqlalchemy.pool": {"level": "DEBUG" if echo == "pool" else "WARNING"},
        },
    }


def set_up(settings: Settings) -> None:
    """Log so from now on, unless the program around the service has set up logging itself."""
    if not logging.getLogger().handlers:
        logging.config.dictConfig(configuration(settings))


def with_request_id(app: ASGIApp) -> ASGIApp:
    """The app, where each request has an id: its own, if that is one to be logged as it is."""
    return CorrelationIdMiddleware(
        app,
        header_name=REQUEST_ID,
        validator=lambda id: len(id) <= 128 and bool(USUAL_ID.fullmatch(id)),
        update_request_header=False,
    )


class AccessLog:
    """Logs each request as soon as it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_told = access_logger.isEnabledFor(logging.INFO) and access_logger.hasHandlers()
        if scope["type"] != "http" or not is_told:
            await self.app(scope, receive, send)
            return
        context, begun, status = context_of(scope), time.monotonic(), None

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.log(scope, context, status, time.monotonic() - begun)

    def log(self, scope: Scope, context: Context, status: int | None, seconds: float) -> None:
        method, route, path = scope["method"], context.route, told_path(scope, context)
        shown, duration = path if route in ("", path) else f"{path} ({route})", seconds * 1000
        access_logger.info(
            "%s %s %s %.1f ms",
            *(method, shown, status or "without an answer", duration),
            extra={
                "method": method,
                "http_version": scope["http_version"],
                "route": route or None,
                "path": path,
                "status": status,
                "duration_ms": round(duration, 1),
                "client": (scope["client"] or [None])[0],
            },
        )


def told_path(scope: Scope, context: Context) -> str:
    """The path as far as it may be logged: of what no route has, the first part."""
    path = context.path or scope["path"]
    if context.section == "admin":
        return quote(path[:200])
    parts = path.split("/")
    if context.route:
        # A parameter may have slashes in it.
        pairs = zip(context.route.split("/"), parts, strict=False)
        return "/".join(part if name.endswith("id}") else name for name, part in pairs)
    return quote(f"/{parts[1][:100]}") + ("/..." if len(parts) > 2 else "")
