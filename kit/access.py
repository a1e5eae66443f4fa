"""Who may call a route: a dependency that stands in its decorator, and a token that says who asks.

Tokens are JSON Web Tokens (RFC 7519) that are signed with HS256 and sent as RFC 6750 says. Each
request looks its user up, so that a token ends when its user does.
"""

from typing import Any, Literal, cast

import jwt
from fastapi import Depends, HTTPException, Request
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, SecretStr
from sqlmodel import Session, col, select
from starlette.requests import HTTPConnection

from kit.context import NOBODY, Caller, Claims, Context, Who, context_of
from kit.database import Database
from kit.fields import now
from kit.ownership import NO_TOKEN
from kit.problems import unauthorized
from kit.transactions import transaction_of

SOMEBODY_HERE = Caller(0, is_superuser=True)  # without SECRET_KEY: see kit.local
REQUIRED = [name for name, field in Claims.model_fields.items() if field.is_required()]
BAD_TOKEN = "The token is not valid, or not any more. Please log in again"  # noqa: S105


class Token(BaseModel):
    """An access token (RFC 6750), and for how many seconds it holds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int


class Access:
    """The gates of a service, by its table of users.

    A user has an `id`, a `stamp` that stands in their tokens, `is_active` and `is_superuser`.
    Without SECRET_KEY all may do everything, and tokens are not looked at.
    """

    def __init__(self, database: Database, users: Any) -> None:
        self.database, self.users, self.settings = database, users, database.settings
        # `@app.get("/items/", dependencies=[Anyone])`, for
        self.public = Depends(Gate(self, "public"))  # everybody, whatever token they send
        self.anyone = Depends(Gate(self, "anyone"))  # everybody, logged in or not
        self.anyone_or_owner = Depends(Gate(self, "anyone", asks=True))  # who may get more
        self.owner = Depends(Gate(self, "owner"))  # users, who find their own alone: `only_own`
        self.superuser = Depends(Gate(self, "superuser"))  # users with is_superuser
        self.page = PageGate(self, "superuser")  # who looks at a page of the admin
        self.owner_or_page = PageGate(self, "owner")

    def is_open(self) -> bool:
        return not self.settings.secret_key

    def signing_key(self) -> str:
        return cast(SecretStr, self.settings.secret_key).get_secret_value()

    def token_for(self, user: Any, sid: str = "") -> Token:
        """A token of the user's; with the id of a session, one that can be renewed."""
        return self.signed(user.id, user.stamp, sid)

    def renewed(self, claims: Claims) -> Token:
        """A token that says the same, as of now."""
        return self.signed(claims.sub, claims.stamp, claims.sid)

    def signed(self, user_id: int, stamp: str, sid: str) -> Token:
        issued, ttl = int(now().timestamp()), self.settings.token_ttl
        claims = {"sub": str(user_id), "stamp": stamp, "iat": issued, "exp": issued + ttl}
        token = jwt.encode(claims | ({"sid": sid} if sid else {}), self.signing_key(), "HS256")
        return Token(access_token=token, expires_in=ttl)

    def claims_of(self, token: str) -> Claims:
        """What a token of ours says; 401 for any other."""
        options: Any = {"require": REQUIRED, "verify_iat": False}
        try:
            if len(token) > 1000:
                raise ValueError("too long")
            return Claims(**jwt.decode(token, self.signing_key(), ["HS256"], options))
        except (jwt.PyJWTError, ValueError, RecursionError):  # the last for one nested deeply
            raise unauthorized(BAD_TOKEN, "invalid_token") from None

    def admit(self, session: Session) -> None:
        """Look up who is calling: 401 if their token has ended, 403 if they may not."""
        users, transaction = self.users, transaction_of(session)
        context = transaction.context
        if not (claims := context.claims):
            return
        still_valid = users.id == claims.sub, users.stamp == claims.stamp, col(users.is_active)
        query = select(users.is_superuser).where(*still_valid)
        found: bool | None = session.exec(query).first()
        if found is None and self.settings.database_read_url and not transaction.writes:
            with Session(self.database.writer.engine) as primary:  # a replica may not know them yet
                used, connection = transaction.connection, primary.connection().connection
                transaction.connection = connection.dbapi_connection  # for `hang_up`
                found = primary.exec(query).first()
                transaction.connection = used
        if found is None:
            raise unauthorized(BAD_TOKEN, "invalid_token")
        if context.who == "superuser" and not found:
            raise HTTPException(403, "Only a superuser may do this")
        context.caller = Caller(claims.sub, found)


class Gate(OAuth2PasswordBearer):
    """Raises 401 for a token that is bad, or missing where one is needed, 403 for who may not."""

    def __init__(self, access: Access, who: Who, *, asks: bool = False) -> None:
        super().__init__("/token", scheme_name="OAuth2PasswordBearer", auto_error=False)
        self.access, self.who = access, who
        self.asks = asks or who in ("owner", "superuser")  # for a token, in OpenAPI

    async def check(self, request: Request, *, now: bool) -> Context:
        """Look at the token; at its user `now`, or later, in the transaction: see `Route.work`."""
        context, is_open = context_of(request), self.access.is_open()
        context.who, context.claims = self.who, None
        context.caller = SOMEBODY_HERE if is_open else NOBODY
        if is_open or self.who == "public":
            return context
        token = await self(request)
        if token is None and self.who != "anyone":
            raise unauthorized(NO_TOKEN)
        if token is not None:
            context.claims = self.access.claims_of(token)
            if now:
                await self.access.database.reader.do(request, self.access.admit)
        return context


class PageGate(Gate):
    """The same for what a page asks for, whose token is in a cookie."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        return await super().__call__(request) or cookies_of(request).get(cookie(request, "token"))


def cookie(request: HTTPConnection, name: str) -> str:
    """What a cookie is called: with HTTPS so that no other host, a sibling's, can set it.

    (RFC 6265bis, section 4.1.3.2.) It is for all paths then. Under a prefix it is for those below,
    and can be set with HTTPS alone.
    """
    if request.scope["scheme"] != "https":
        return name
    return f"__Secure-{name}" if context_of(request).prefix else f"__Host-{name}"


def cookies_of(request: HTTPConnection) -> dict[str, str]:
    """As they were sent: ours need no unquoting, which before Python 3.11.10 takes quadratic time.

    (CVE-2024-7592.)
    """
    sent = "; ".join(request.headers.getlist("Cookie")).split(";")
    return dict(pair.strip().partition("=")[::2] for pair in sent)
