"""What the OpenAPI document says of every route: its headers, conditions and errors."""

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.utils import get_flat_params
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from kit.idempotency import OnceSession

HEADERS = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in {
        "Location": "Where it is to be found.",
        "ETag": "The version of the row: what If-Match and If-None-Match name.",
        "Idempotency-Replayed": "`true`: this was done, and answered, before.",
        "Link": 'Where the next page is, if there is one: `<URL>; rel="next"` (RFC 8288).',
        "X-Total-Count": "How many rows there are, where `count=true` asks for it.",
        "Retry-After": "How many seconds to wait.",
    }.items()
}
CONDITIONS = [
    {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
    for name, description in {
        "If-Match": "ETags, or `*`: a 412 where the row has another version by now.",
        "If-None-Match": "ETags, or `*`: a 304 where the row still has one of them.",
    }.items()
]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of error answers (RFC 9457), for a route's `responses=`."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    wait = {"headers": {"Retry-After": HEADERS["Retry-After"]}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        | (wait if status in (429, 503) else {})
        for status in statuses
    }


class ProblemError(BaseModel):
    """One of the values that a 422 is about: where, what and which rule."""

    loc: list[int | str]
    msg: str
    type: str


class Problem(BaseModel):
    """An error answer, as RFC 9457 says; a 422 lists what was wrong in `errors`."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    errors: list[ProblemError] = []


def describe(route: Any) -> None:
    """Add to what FastAPI says of a route: its headers, its conditions and its errors."""
    route.tags = route.tags or [route.path.split("/")[1]]
    who, writes, ids = route.who, route.writes, bool(route.dependant.path_params)
    possible = {
        401: who != "public",
        403: True,
        404: ids,
        409: writes,
        412: ids if writes else route.tagged,
        413: route.body_field is not None,
        422: True,
        431: True,
        503: bool(route.new_session) or who != "public",
    }
    errors = [status for status, applies in possible.items() if applies]
    queried = {field.alias for field in get_flat_params(route.dependant)}
    headers = {
        "Location": route.status_code == 201,
        "ETag": route.tagged,
        "Idempotency-Replayed": isinstance(route.new_session, OnceSession),
        "Link": "limit" in queried and "skip" in queried,
        "X-Total-Count": "count" in queried,
    }
    answer: dict[int | str, dict[str, Any]] = {}
    if sent := {name: HEADERS[name] for name, applies in headers.items() if applies}:
        answer[route.status_code or 200] = {"headers": sent}
    if route.tagged and not writes:
        answer[304] = {"description": "Not Modified", "headers": {"ETag": HEADERS["ETag"]}}
    route.responses = answer | problems(*errors) | route.responses
    extra = route.openapi_extra = dict(route.openapi_extra or {})
    if 412 in errors:
        extra["parameters"] = CONDITIONS[:1] if writes else CONDITIONS


def document(app: FastAPI) -> dict[str, Any]:
    """The app's OpenAPI document, with Problem among its schemas."""
    routes: list[Any] = app.routes
    ours = [route for route in routes if hasattr(route, "gate") and route.include_in_schema]
    for route in ours:
        describe(route)
    made = get_openapi(title=app.title, version=app.version, routes=routes, servers=app.servers)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas |= schema.pop("$defs") | {"Problem": schema}
    for route in ours:
        for method in route.methods:
            operation = made["paths"][route.path_format][method.lower()]
            if route.gate and not route.gate.asks:
                operation.pop("security", None)
            elif route.who == "anyone":
                operation["security"].insert(0, {})  # a token is not needed
            for parameter in operation.get("parameters", []):
                parameter["schema"] = without_null(parameter["schema"])
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    content.pop("itemSchema", None)  # OpenAPI has it from 3.2 on
    return made


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without the null of its default: left out is not sent as null."""
    *kinds, last = schema.get("anyOf", [None])
    if last != {"type": "null"}:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def under(prefix: str, made: dict[str, Any]) -> dict[str, Any]:
    """The document with this prefix before the paths in it that lead to the service."""
    if not prefix:
        return made
    servers = [
        {**server, "url": (prefix + server["url"]).rstrip("/")} for server in made["servers"]
    ]
    schemes = deepcopy(made["components"].get("securitySchemes", {}))
    for scheme in schemes.values():
        for flow in scheme.get("flows", {}).values():
            if flow.get("tokenUrl", "").startswith("/"):
                flow["tokenUrl"] = prefix + flow["tokenUrl"]
    components = {**made["components"], "securitySchemes": schemes}
    return {**made, "servers": servers, "components": components}
