"""What holds before a route is found, for every request.

Headers for browsers (OWASP, "HTTP Headers Cheat Sheet"); HEAD; the prefix /api/v1; limits on heads
and bodies. Nothing behind it sees a Host, so all links and redirects are paths, and a false Host
leads nobody away.
"""

import functools
import logging
from typing import Any

from anyio import BrokenResourceError
from fastapi import HTTPException, Response
from starlette.applications import Starlette
from starlette.datastructures import Headers, URLPath
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.context import context_of, path_of
from kit.problems import NO_SUCH_PATH, problem
from kit.protocol import CLOSE, HEAD_LIMIT, HEAD_TOO_LARGE
from kit.settings import Settings, split_origins

logger = logging.getLogger("kit")
TOO_LARGE = "The body is over {} bytes"
FILE_LIMIT = 64 * 1024 * 1024  # bytes
FOREIGN = (
    "A page of another site sent this, and may change nothing here. If it is yours, name its origin"
    " in CORS_ORIGINS; if it is this one, the proxy in front of it has to pass Host on"
)


class Front:
    """The outermost layer of an app, which knows at which paths it takes files."""

    def __init__(self, app: ASGIApp, service: Any) -> None:
        self.app, self.service, self.paths = app, service, Paths(service)
        self.settings: Settings = service.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        prefix, root, own_path = addressed(scope, self.settings.root_path)
        section = own_path.partition("/")[2].partition("/")[0]
        context = context_of(scope)
        context.prefix, context.path, context.section = prefix, own_path, section
        context.is_fixed = own_path in self.service.fixed_paths
        limit = self.settings.max_body_size
        if own_path in self.service.file_paths:
            limit = max(limit, FILE_LIMIT)
        refusal = self.refusal_of(scope, section, limit)
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        scope = {
            **scope,
            "path": root + own_path,
            "root_path": root,
            "app_root_path": root,
            "headers": headers,
            "server": None,
            "router": self.paths,
        }
        send = with_security_headers(send, scope, is_closed=bool(self.settings.secret_key))
        if scope["method"] == "HEAD":
            scope["method"], send = "GET", without_body(send)
        try:
            await (refusal or self.app)(scope, limited(receive, limit), send)
        except* BrokenResourceError:
            logger.debug("the client of an event stream has gone")

    def refusal_of(self, scope: Scope, section: str, limit: int) -> Response | None:
        """What to answer at once to a request with such a body, head or path, or from elsewhere."""
        if head_size(scope) > HEAD_LIMIT:
            return problem(431, HEAD_TOO_LARGE, headers=CLOSE)
        # What a cookie, or open mode, lets a page do.
        has_power = section == "admin" or not self.settings.secret_key
        if has_power and from_another_site(scope, self.settings.cors_origins):
            return problem(403, FOREIGN)
        if "\n" in scope["path"] or "\r" in scope["path"]:  # which a route's pattern may let pass
            return problem(404, NO_SUCH_PATH)
        return problem(413, TOO_LARGE.format(limit)) if declared_size(scope) > limit else None


def addressed(scope: Scope, prefix: str) -> tuple[str, str, str]:
    """What a proxy in front adds to paths; all that stands before the path; and that path.

    It makes no difference whether the proxy takes the prefix off, and whether we know of it by the
    setting ROOT_PATH or by the server, which puts it before the path, as `mount` does.
    """
    given, path = scope.get("root_path", "").strip("/"), path_of(scope)
    prefix = f"/{given}" if given else prefix
    if f"{path}/".startswith(f"{prefix}/"):
        path = path.removeprefix(prefix)
    if f"{path}/".startswith("/api/v1/"):
        return prefix, f"{prefix}/api/v1", path.removeprefix("/api/v1")
    return prefix, prefix, path


class Paths:
    """Where `request.url_for` finds routes: their paths, without a scheme, which needs a host."""

    def __init__(self, service: Starlette) -> None:
        self.service = service

    def url_path_for(self, name: str, /, **values: Any) -> URLPath:
        # A page of the admin asks for many of its own, which it need not look for among all.
        place = self.mounts.get(name[: name.find(":") + 1], self.service)
        return URLPath(place.url_path_for(name, **values))

    @functools.cached_property
    def mounts(self) -> dict[str, Mount]:
        """By what the names of their routes begin with, "admin:"."""
        mounts = [route for route in self.service.routes if isinstance(route, Mount)]
        return {f"{mount.name}:": mount for mount in mounts}


# Pages run what comes from here alone, and stand in no page of another site. Those of the
# documentation are alike for all and have nothing of what was sent, so theirs may be inline;
# those of the admin run of it what has their nonce.
POLICY = (
    "default-src 'self'; script-src 'self' {}; style-src 'self' 'unsafe-inline'; img-src 'self'"
    " data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
PAGE_HEADERS = {
    b"content-security-policy": POLICY.format("'unsafe-inline'").encode(),
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


def with_security_headers(send: Send, scope: Scope, *, is_closed: bool) -> Send:
    """Say to browsers what OWASP's HTTP Headers Cheat Sheet wants them told."""
    is_public_https, context = scope["scheme"] == "https" and is_closed, context_of(scope)

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            sent = dict(headers)
            if content_type := sent.get(b"content-type"):
                headers.append((b"x-content-type-options", b"nosniff"))
                if content_type.startswith(b"text/html"):
                    headers += [(n, v) for n, v in PAGE_HEADERS.items() if n not in sent]
            if is_closed and context.who != "public":
                headers.append((b"vary", b"Authorization"))  # a cache may keep what anyone sees
            if is_public_https:
                headers.append((b"strict-transport-security", b"max-age=31536000"))  # a year
            message = {**message, "headers": headers}
        await send(message)

    return send_more


def without_body(send: Send) -> Send:
    """Send the head of an answer and nothing more, so that an endless one ends here."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body"})

    return send_head


def from_another_site(scope: Scope, known: str) -> bool:
    """Whether a browser says that a page of another origin wants to change something here.

    It says so in Sec-Fetch-Site, whatever a proxy makes of Host; over plain HTTP to another
    machine, or if it is old, in Origin alone.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    headers = Headers(scope=scope)
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    if origin in split_origins(known):
        return False
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("Host")


def head_size(scope: Scope) -> int:
    """What comes before the body, in bytes, as HTTP/1.1 writes it."""
    fields = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return len(scope["path"]) + len(scope["query_string"]) + fields


def declared_size(scope: Scope) -> int:
    """The Content-Length in bytes; 0 where there is none, or none that is a number."""
    size = dict(scope["headers"]).get(b"content-length", b"")
    return int(size) if size.isdigit() and len(size) < 20 else 0


def limited(receive: Receive, limit: int) -> Receive:
    """Stop reading a body when it is over the limit, for one that did not say so before."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, TOO_LARGE.format(limit))
        return message

    return receive_limited
