"""What is known of a request beyond what was sent: one typed object, which its scope carries."""

import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import BaseModel
from sqlmodel import Field
from starlette.requests import HTTPConnection, Request

from kit.fields import NO_NUL, Id

Who = Literal["public", "anyone", "owner", "superuser"]


class Caller(NamedTuple):
    """Who sent a request, as far as it is known."""

    id: int  # of the user; 0 for nobody in particular
    is_superuser: bool


NOBODY = Caller(0, is_superuser=False)


class Claims(BaseModel):
    """What a token says (RFC 7519, section 4.1): whose it is, and when it was made and ends."""

    sub: Id
    stamp: Annotated[str, Field(max_length=16), NO_NUL]
    iat: int
    exp: int
    sid: str = ""  # of the session that it belongs to, which outlasts it; none for an API client's


@dataclass(slots=True)
class Context:
    """One for each request, made when it comes in."""

    begun: float = field(default_factory=time.monotonic)  # in seconds: its time runs from here
    prefix: str = ""  # of all paths, which a proxy in front adds: "/shop"
    path: str = ""  # without prefixes
    section: str = ""  # the first part of the path, without a prefix such as /api/v1
    route: str = ""  # the path of its route, "/items/{item_id}", once that is found
    is_fixed: bool = False  # whether a route has just this path, without parameters
    who: Who = "public"  # who may call its route
    claims: Claims | None = None  # of its token, if it has a good one
    caller: Caller = NOBODY

    def time_left(self, limit: float) -> float:
        """For how many seconds it may go on to wait."""
        return self.begun + limit - time.monotonic()

    def restart_time(self) -> None:
        """Start its time anew, after what may take as long as the client takes."""
        self.begun = time.monotonic()


def context_of(request: HTTPConnection | MutableMapping[str, Any]) -> Context:
    """The context of a request, or of its ASGI scope."""
    scope: Any = getattr(request, "scope", request)
    if (found := scope.get("context")) is None:
        found = scope["context"] = Context()
    return cast(Context, found)


def path_of(scope: MutableMapping[str, Any]) -> str:
    """The path without a prefix such as /api/v1 or /shop."""
    path, root = cast(str, scope["path"]), scope.get("root_path", "")
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def caching(request: Request) -> dict[str, str]:
    """The header that keeps what is not for everybody out of all caches (RFC 9111, 5.2.2.5)."""
    context = context_of(request)
    is_for_all = request.method == "GET" and context.who in ("public", "anyone")
    return {} if is_for_all and not context.claims else {"Cache-Control": "no-store"}
