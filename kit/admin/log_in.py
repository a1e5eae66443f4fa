"""Who may open the pages, and which forms are taken.

Superusers log in, as they do for the API, and have a token in a cookie. Each click renews it: the
log-in ends TOKEN_TTL after the last. What a page asks for by itself, such as the dashboard after an
event, is no click. Where there are no log-ins, who is on this machine is let in.

A form is taken with its form token alone, which is made by us: an HMAC of the session's random id,
which is made at the log-in, stands in the token and stays the same when that is renewed. Before the
log-in, and where there are none, it is an HMAC of a random cookie.
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
from kit.admin.places import AGAIN, place_of, where
from kit.context import context_of, path_of
from kit.front import POLICY
from kit.log_ins import NO_LOG_INS, LogIn, LogIns
from kit.problems import bad_request, problem
from kit.welcome import wants_page

current: ContextVar[Request] = ContextVar("current")  # the request that a page is made for
EXPIRED = "The form has expired. Please send it again"
WRONG = "Wrong name or password"
NOT_FOR_YOU = "Only superusers may come in here"
SET = b"set-cookie"  # the one header that may come twice
NOT_SAVED = "This is what you had entered. It is not saved yet."


class LogInPage(AuthenticationBackend):
    def __init__(self, log_ins: LogIns, log_out: Callable[[Session], None]) -> None:
        self.log_ins, self.access, self.log_out = log_ins, log_ins.access, log_out
        self.middlewares = []

    def __bool__(self) -> bool:
        return not self.access.is_open()  # which is when the pages show a way to log out

    async def authenticate(self, request: Request) -> Response | bool:
        """Whether to answer with a page; else the way to the log-in, and back from there."""
        if not await self.is_let_in(request):
            url = request.url_for("admin:login")
            place = place_of(request)
            return RedirectResponse(url.include_query_params(next=place) if place else url, 302)
        claims, is_cookie = context_of(request).claims, "Authorization" not in request.headers
        if claims and claims.sid and is_cookie and wants_page(request):
            request.state.renewed = self.access.renewed(claims)
        request.state.is_let_in = True
        return True

    async def is_let_in(self, request: Request) -> bool:
        try:
            await self.access.page.check(request, now=True)
        except HTTPException:
            return False
        return True

    async def login(self, request: Request) -> Response:
        """Begin a session, and lead to the page that was asked for; 400, 403 or 429 for why not."""
        form = await sent_form(request)
        name, password = str(form.get("username", "")), str(form.get("password", ""))
        request.state.username = name[:254]  # as long as one can be
        if self.access.is_open():
            bad_request(NO_LOG_INS)
        try:
            sent = LogIn(username=name, password=SecretStr(password))
        except ValidationError:
            bad_request(WRONG)
        if not (user := await self.log_ins.user_of(request, sent)):
            bad_request(WRONG)
        if not user.is_superuser:
            raise HTTPException(403, NOT_FOR_YOU)
        token = self.access.token_for(user, secrets.token_urlsafe(16))
        answer = RedirectResponse(where(request, request.query_params.get("next", "")), 302)
        set_cookie(request, answer, "token", token.access_token, token.expires_in)
        set_cookie(request, answer, "csrf", "", 0)
        return answer

    async def logout(self, request: Request) -> Response:
        if await self.is_let_in(request):
            await sent_form(request)
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
            await problem(422, "No parameter may have U+0000 in it", [])(scope, receive, send)
            return
        current.set(request)
        sent = cookies_of(request)
        known = [sent.get(cookie(request, name), "") for name in ("token", "csrf")]
        session = self.session_of(known[0]) or known[1] or secrets.token_urlsafe(32)
        # With a key of its own: with that of log-ins, it could be made to be the signature of one.
        key = b"" if self.access.is_open() else f"forms {self.access.signing_key()}".encode()
        request.state.csrf = hmac.digest(key, session.encode(), "sha256").hex()
        request.state.nonce = nonce = secrets.token_urlsafe(16)
        request.state.renewed, request.state.is_draft = None, False
        policy = POLICY.format(f"'nonce-{nonce}'")
        of_page = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        more = Response(headers={} if path_of(scope).startswith("/statics/") else of_page)
        if not any(known):
            set_cookie(request, more, "csrf", session)

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                if token := request.state.renewed:
                    set_cookie(request, more, "token", token.access_token, token.expires_in)
                known = {b"content-length", *(name for name, _ in message["headers"])} - {SET}
                headers = [header for header in more.raw_headers if header[0] not in known]
                message = {**message, "headers": [*message["headers"], *headers]}
                if request.state.is_draft and message["status"] == 400:  # as for what is wrong
                    message["status"] = 200
            await send(message)

        await self.app(scope, receive, send_more)

    def session_of(self, token: str) -> str:
        """The id of the session that the token belongs to; itself, if it is none of our pages'."""
        if not token or self.access.is_open():
            return token
        try:
            return self.access.claims_of(token).sid or token
        except HTTPException:
            return token


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
    request.state.is_draft = AGAIN in form
    if request.state.is_draft:
        request.state.told, request.state.told_look = NOT_SAVED, "info"
    return form
