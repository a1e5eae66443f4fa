"""Who may open the pages, and which forms are taken.

Superusers log in, as they do for the API, and have its token in a cookie; where there are no
log-ins, who is on this machine is let in. A form is taken with its token alone, which is an HMAC
of that cookie and made by us: of a random one before the log-in, and where there are none.
(OWASP's Cross-Site Request Forgery Prevention Cheat Sheet, "Signed Double-Submit Cookie".)
"""

import hmac
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import SecretStr, ValidationError
from sqladmin.authentication import AuthenticationBackend
from sqlmodel import Session
from starlette.datastructures import FormData, UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.access import Access, cookie, cookies_of
from kit.context import context_of, path_of
from kit.front import POLICY
from kit.log_ins import LogIn, LogIns
from kit.problems import problem

current: ContextVar[Request] = ContextVar("current")  # the request that a page is made for
EXPIRED = "The form has expired. Please load it again"


class LogInPage(AuthenticationBackend):
    def __init__(self, log_ins: LogIns, log_out: Callable[[Session], None]) -> None:
        self.log_ins, self.access, self.log_out = log_ins, log_ins.access, log_out
        self.middlewares = []

    def __bool__(self) -> bool:
        return not self.access.is_open()  # which is when the pages show a way to log out

    async def authenticate(self, request: Request) -> bool:
        try:
            await self.access.page.check(request, now=True)
        except HTTPException:
            return False
        return True

    async def login(self, request: Request) -> Response | bool:
        form = await sent_form(request)
        name, password = str(form.get("username", "")), str(form.get("password", ""))
        try:
            sent = LogIn(username=name, password=SecretStr(password))
            token = await self.log_ins.log_in(request, sent)
            header = (b"authorization", f"Bearer {token.access_token}".encode())
            as_user = Request({**request.scope, "headers": [header]})
            await self.access.page.check(as_user, now=True)  # superusers alone
        except (ValidationError, HTTPException) as error:
            if isinstance(error, HTTPException) and error.status_code == 429:
                raise
            return False
        answer = RedirectResponse(request.url_for("admin:index"), 302)
        set_cookie(request, answer, "token", token.access_token, token.expires_in)
        set_cookie(request, answer, "csrf", "", 0)
        return answer

    async def logout(self, request: Request) -> Response:
        await sent_form(request)
        if await self.authenticate(request):
            await self.log_ins.database.writer.do(request, self.log_out)
        answer = RedirectResponse(request.url_for("admin:login"), 302)
        set_cookie(request, answer, "token", "", 0)
        return answer


def set_cookie(
    request: Request, answer: Response, name: str, value: str, age: int | None = None
) -> None:
    rules: dict[str, Any] = {"secure": request.scope["scheme"] == "https", "samesite": "strict"}
    path = context_of(request).prefix or "/"
    answer.set_cookie(cookie(request, name), value, age, path=path, httponly=True, **rules)


class FormTokens:
    """What comes before each page: the token for its forms, the nonce for its scripts."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if b"%00" in scope.get("query_string", b""):  # which PostgreSQL has in no text
            await problem(422, "A parameter has U+0000 in it", [])(scope, receive, send)
            return
        current.set(request)
        sent = cookies_of(request)
        known = [sent.get(cookie(request, name)) for name in ("token", "csrf")]
        session = known[0] or known[1] or secrets.token_urlsafe(32)
        # With a key of its own: with that of log-ins, it could be made to be the signature of one.
        key = b"" if self.access.is_open() else f"forms {self.access.signing_key()}".encode()
        request.state.csrf = hmac.digest(key, session.encode(), "sha256").hex()
        request.state.nonce = nonce = secrets.token_urlsafe(16)
        policy = POLICY.format(f"'nonce-{nonce}'")
        of_page = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        more = Response(headers={} if path_of(scope).startswith("/statics/") else of_page)
        if not any(known):
            set_cookie(request, more, "csrf", session)
        headers = [header for header in more.raw_headers if header[0] != b"content-length"]

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await self.app(scope, receive, send_more)


def form_token() -> str:
    """The one for the forms of the page that is being made."""
    return str(current.get().state.csrf)


def check_token(sent: Any) -> None:
    """Raise 403 for what was not sent by a page of ours."""
    if not (isinstance(sent, str) and secrets.compare_digest(sent.encode(), form_token().encode())):
        raise HTTPException(403, EXPIRED)


async def sent_form(request: Request, obj: Any = None) -> FormData:
    """The form that a page of ours has sent, whose fields take no files."""
    form = await request.form()
    check_token(form.get("csrf_token"))
    if any(isinstance(value, UploadFile) for value in form.values()):
        await form.close()
        raise HTTPException(400, "No field here takes a file")
    return form
