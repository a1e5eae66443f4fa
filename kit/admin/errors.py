"""What went wrong, as a page of the admin: for people, in a sentence, with a way back.

It stands around the whole app, and makes the page of the problem document that is answered, with
its status and headers, whoever made it: a form, the database, a limit before any route is found.
A client that asks for no page gets the document.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.admin.places import ENTERED, place_before, place_of, where
from kit.context import Context
from kit.front import PAGE_HEADERS, Paths, addressed
from kit.problems import NO_SUCH_PATH
from kit.welcome import wants_page

SENTENCES = {  # where nothing more is said than the name of the status
    400: "This could not be understood",
    403: "This cannot be done here",
    404: "There is nothing here: it may have been deleted, or the address has a mistake",
}
NO_PAGE = "There is no page at this address: it is that of a button"
TOO_MUCH = "This is too much to be sent at once. Please shorten it"
AGAIN = re.compile(r"\.? *Please try again( later)?\.?$")


class ErrorPages:
    def __init__(self, app: ASGIApp, service: Any, admin: Any) -> None:
        self.app, self.service, self.admin, self.paths = app, service, admin, Paths(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_near = scope["type"] == "http" and self.admin.base_url in scope["path"]
        request = self.request_for(scope) if is_near else None
        if not request or not wants_page(request) or request.method == "HEAD":
            await self.app(scope, receive, send)
            return
        start, body = dict[str, Any](), b""

        async def send_page(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start" and is_problem(message):
                start.update(message)
            elif not start:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    page = await self.page(request, start["status"], start["headers"], body)
                    await page(scope, receive, send)

        await self.app(scope, receive, send_page)

    def request_for(self, scope: Scope) -> Request | None:
        """What it would be for a page of the admin; None if it is for none of them."""
        prefix, root, path = addressed(scope, self.service.settings.root_path)
        if not path.startswith(f"{self.admin.base_url}/"):
            return None
        scope.setdefault("state", {})  # of which all layers below have the same
        return Request(
            {
                **scope,
                "path": root + path,
                "root_path": root + self.admin.base_url,
                "app_root_path": root,
                "headers": [header for header in scope["headers"] if header[0] != b"host"],
                "server": None,
                "app": self.admin.admin,
                "router": self.paths,
                "context": Context(prefix=prefix),
            }
        )

    async def page(self, request: Request, status: int, headers: Any, body: bytes) -> Response:
        sent = Headers(raw=headers)
        is_read = request.method == "GET"
        may_be_repeated = is_read and "Retry-After" in sent
        is_gone = status == 404 or (is_read and not may_be_repeated)
        back = place_before(request) if is_gone else place_of(request)
        is_entered = back.endswith(ENTERED) and status != 413
        entity = request.scope["path"].removeprefix(request.scope["root_path"]).split("/")[1]
        views = {view.identity: view for view in self.admin.views if view.is_model}
        context = {
            "status_code": status,
            "sentence": with_time(sentence(status, json.loads(body)["detail"], sent), sent),
            "is_framed": getattr(request.state, "is_let_in", False),
            "back": back and where(request, back),
            "is_entered": is_entered,
            "label": (is_entered and "Back to the form") or (may_be_repeated and "Try again"),
            "view": views.get(entity),
        }
        name = "sqladmin/error.html"
        page: Response = await self.admin.templates.TemplateResponse(request, name, context, status)
        known = {name for name, _ in headers}
        page.raw_headers += [h for h in headers if h[0] not in (b"content-type", b"content-length")]
        page.raw_headers += [(n, value) for n, value in PAGE_HEADERS.items() if n not in known]
        return page


def is_problem(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type") == "application/problem+json"


def sentence(status: int, detail: str, headers: Mapping[str, str]) -> str:
    """What is told of it."""
    if status == 413:
        return TOO_MUCH
    if status == 405 and "GET" not in headers.get("Allow", ""):
        return NO_PAGE
    is_bare = detail in (NO_SUCH_PATH, HTTPStatus(status).phrase)
    return SENTENCES.get(status, detail) if is_bare else detail


def with_time(sentence: str, headers: Mapping[str, str]) -> str:
    """The sentence, which says when to try again, if a header does."""
    after = headers.get("Retry-After", "")
    if not after.isdecimal():
        return sentence
    return f"{AGAIN.sub('', sentence)}. Please try again in {spelled(int(after))}"


def spelled(seconds: int) -> str:
    """A time to wait, which may be a little longer than it has to be: "5 minutes"."""
    if seconds < 5:
        return "a moment"
    return f"{seconds} seconds" if seconds < 90 else f"{-(-seconds // 60)} minutes"
