"""Errors as problem documents (RFC 9457), whose detail is a sentence for who made the mistake."""

import errno
import json
import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route as BaseRoute

from kit.context import caching, path_of
from kit.fields import MEANINGS

logger = logging.getLogger("kit")
FAULT = "Something went wrong here; it has been logged"
NO_SUCH_PATH = "There is nothing at this path"
NO_ROOM = "There is no room for this here at the moment. Please try again later."
SHORT = {  # what the machine has too little of
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


class BusyError(Exception):
    """Something cannot be had in time: 503, to be tried again later."""


class ConflictError(Exception):
    """A unique or foreign-key constraint refused a change: 409, with a sentence about it.

    `taken` are the fields in which another row has the same already.
    """

    def __init__(self, detail: str, field: str | None = None, taken: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.field, self.taken = field, taken


class InvalidValueError(Exception):
    """A CHECK constraint or a column's type refused a value: 422."""


class MisuseError(Exception):
    """A route that does what it may not: 500, and a log that begins with a sentence about it."""


def not_found(detail: str) -> NoReturn:
    raise HTTPException(404, detail)


def bad_request(detail: str) -> NoReturn:
    raise HTTPException(400, detail)


def unauthorized(detail: str, error: str = "") -> HTTPException:
    """A 401 (RFC 6750, section 3)."""
    challenge = f'Bearer error="{error}"' if error else "Bearer"
    return HTTPException(401, detail, {"WWW-Authenticate": challenge})


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    more = {} if errors is None else {"errors": errors}
    headers = {"Cache-Control": "no-store", **(headers or {})}
    # In ASCII: a key that a client sent may hold half of a surrogate pair.
    body = json.dumps(content | more, separators=(",", ":"))
    return Response(body, status, headers, media_type="application/problem+json")


def invalid(loc: Sequence[int | str], msg: str, type: str = "invalid") -> dict[str, Any]:
    """One entry of `errors` in a 422: where, what and which rule, never the value itself."""
    return {"loc": [p if isinstance(p, int) else p[:100] for p in loc], "msg": msg, "type": type}


# What pydantic says in words of its own, by the type of the error.
WORDS = {
    "bool_parsing": "Input should be true or false",
    "bool_type": "Input should be true or false",
    "decimal_type": "Input should be a number",
    "json_invalid": "{error}",
    "model_attributes_type": "Input should be an object, with a name for each value",
    "string_unicode": "Input should be valid text",
    "too_short": "Input should be a list of at least {min_length}",
    "too_long": "Input should be a list of at most {max_length}",
}


def sentence_of(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors is about, for who made the mistake."""
    details, said = error.get("ctx", {}), str(error["msg"])
    if pattern := details.get("pattern"):
        if choices := re.fullmatch(r"\^-\?\(([\w|]+)\)\$", pattern):  # see `sortable`
            return f"Input should be one of {choices[1].replace('|', ', ')}, or one with a - before"
        return MEANINGS.get(pattern, said)
    words = WORDS.get(error["type"], "")
    return words.format_map(details) if words and (details or "{" not in words) else said


def place_of(error: dict[str, Any]) -> str:
    """Where in the request, "items.0.quantity"; "body" for one that is not JSON at all."""
    place = ".".join(map(str, error["loc"][1:]))
    if error["loc"][0] == "line":
        return f"line {place}"
    return "body" if error["type"] == "json_invalid" else place or "body"


async def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    is_ours = {"loc", "msg", "type"}.issuperset  # and said in a sentence already
    errors = [
        invalid(e["loc"], e["msg"] if is_ours(e) else sentence_of(e), e["type"])
        for e in error.errors()[:1000]
    ]
    for e in errors:
        if e["loc"] == ["body"] and "json" not in request.headers.get("Content-Type", ""):
            e["msg"] = "The Content-Type has to be application/json"
    told = [f"{place_of(e)}: {e['msg']}" for e in errors[:3]]
    return problem(422, "; ".join(told if len(errors) <= 3 else [*told, "..."]), errors)


async def on_http_error(request: Request, error: StarletteHTTPException) -> Response:
    if error.status_code == 405:
        methods = allowed_methods(request)
        allow = {"Allow": ", ".join(methods)}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        return problem(405, f"{request.method} is not allowed here", headers=allow)
    if error.status_code == 304:
        return Response(status_code=304, headers={**(error.headers or {}), **caching(request)})
    detail = NO_SUCH_PATH if error.detail == "Not Found" else str(error.detail)
    return problem(error.status_code, detail, headers=error.headers)


def allowed_methods(request: Request) -> list[str]:
    path = path_of(request.scope)
    routes = [r for r in request.app.routes if isinstance(r, BaseRoute)]
    routes = [r for r in routes if r.path_regex.match(path)]
    routes.sort(key=lambda route: bool(route.param_convertors))  # one of its own comes first
    methods = {m for r in routes if r.path == routes[0].path for m in r.methods or ()} or {"GET"}
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


async def on_conflict(request: Request, error: ConflictError) -> Response:
    return problem(409, str(error))


async def on_refused_value(request: Request, error: InvalidValueError) -> Response:
    return problem(422, str(error), [invalid(["body"], str(error))])


async def on_busy(request: Request, error: BusyError) -> Response:
    logger.warning("%s", error.__cause__ or error)
    return problem(503, str(error), headers={"Retry-After": "1"})


async def on_os_error(request: Request, error: OSError) -> Response:
    if error.errno not in SHORT:
        raise error
    busy = BusyError(NO_ROOM)
    busy.__cause__ = error
    return await on_busy(request, busy)


async def on_misuse(request: Request, error: MisuseError) -> Response:
    name = getattr(request.scope.get("endpoint"), "__name__", "")
    logger.error("%s: %s", error, name)
    return problem(500, FAULT)


async def on_fault(request: Request, error: Exception) -> Response:
    return problem(500, FAULT)


def install(app: FastAPI) -> None:
    """Have the app answer every error with a problem document."""
    handlers: dict[type[Exception], Any] = {
        RequestValidationError: on_invalid_request,
        StarletteHTTPException: on_http_error,
        ConflictError: on_conflict,
        InvalidValueError: on_refused_value,
        BusyError: on_busy,
        OSError: on_os_error,
        MisuseError: on_misuse,
        Exception: on_fault,
    }
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)
