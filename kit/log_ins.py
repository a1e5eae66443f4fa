"""Log-ins with a name and a password, and a lock-out of those who guess.

After 10 failures for a name or from an address within 5 minutes, the right password is refused too
(OWASP, "Authentication Cheat Sheet"), however many try at once and in how many processes.
"""

import math
import time
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Request
from pydantic import AfterValidator, BaseModel
from sqlalchemy import JSON, Index
from sqlmodel import Field, Session, col, or_, select

from kit.access import Access, Token
from kit.fields import NO_NUL, Secret, name_as_stored, now
from kit.passwords import hash_in_turn, hashing, is_right
from kit.problems import bad_request, unauthorized
from kit.rows import forget_some
from kit.tables import Entity, Timestamps, example
from kit.transactions import retry_on_conflict, transaction_of

NO_LOG_INS = "Without SECRET_KEY there are no log-ins: clients on this machine may do all"
TRIES_TIME = timedelta(minutes=5)
MOST_FAILURES = 10  # in that time, for a name or from an address
MOST_SIGN_UPS = 20  # from an address
TOO_MANY_FAILURES = "Too many log-ins have failed. Please try again later"
TOO_MANY_SIGN_UPS = "Too many sign-ups from here. Please try again later"


class LogIn(BaseModel):
    """The form of OAuth 2.0's password flow (RFC 6749, section 4.3.2). Other fields are ignored."""

    model_config = example(username="johndoe", password="SecurePass123")  # noqa: S106

    username: Annotated[str, Field(max_length=254), NO_NUL, AfterValidator(name_as_stored)]
    password: Annotated[Secret, Field(max_length=1000)]
    grant_type: Literal["password"] = "password"
    scope: str = ""
    client_id: str | None = None
    client_secret: Secret | None = None


class Tries(Timestamps, Entity, table=True):
    """When log-ins with a name or from an address have failed lately, or users signed up there."""

    __tablename__ = "log_in_failures"
    __table_args__ = (Index(None, "updated_at"),)

    key: str = Field(max_length=64, unique=True)
    times: list[float] = Field(default=[], sa_type=JSON)  # in seconds since 1970


class LogIns:
    """The log-ins of a service, whose users have these columns for the names they log in with."""

    def __init__(self, access: Access, *names: Any) -> None:
        self.access, self.database, self.names = access, access.database, names

    async def log_in(self, request: Request, form: LogIn) -> Token:
        """The token for a name and a password; 401 for wrong ones, 429 after many failures."""
        if self.access.is_open():
            bad_request(NO_LOG_INS)
        if user := await self.user_of(request, form):
            return self.access.token_for(user)
        raise unauthorized("Wrong username or password")

    async def user_of(self, request: Request, form: LogIn) -> Any:
        """The active user with this name and password; else None, which is noted as a failure."""
        name, password = form.username, form.password.get_secret_value()
        write = self.database.writer.do
        id, password_hash = await write(request, lambda session: self.find(session, name))
        seconds = self.database.time_left(request)
        (right,) = await hash_in_turn(seconds, hashing, is_right, (password, password_hash))
        id = id if right else 0
        return await write(request, lambda session: self.finish(session, name, id, password_hash))

    def find(self, session: Session, name: str) -> tuple[int, str]:
        """The id and the password's hash of the active user with this name; else 0 and no hash."""
        failures_of(session, name)
        named = or_(*(column == name for column in self.names))
        users = self.access.users
        user = session.exec(select(users).where(named, col(users.is_active))).first()
        return (user.id, user.password_hash) if user else (0, "")

    def finish(self, session: Session, name: str, user_id: int, password_hash: str) -> Any:
        """The user, if their password was right; for id 0, take note of a failure."""
        failures = failures_of(session, name, lock=True)
        user = session.get(self.access.users, user_id)
        if user and user.is_active and user.password_hash == password_hash:
            return user
        count_one_more(session, failures)
        return None


def failures_of(session: Session, name: str, *, lock: bool = False) -> list[Tries]:
    """The failures with this name and from the client's address; 429 after many."""
    whose = {"name": name, "address": address_of(session)}
    return tries_of(session, whose, MOST_FAILURES, TOO_MANY_FAILURES, lock=lock)


def count_sign_up(session: Session) -> None:
    """Count a sign-up from the client's address, whatever comes of it; 429 after many."""
    whose = {"sign-up": address_of(session)}
    count_one_more(session, tries_of(session, whose, MOST_SIGN_UPS, TOO_MANY_SIGN_UPS, lock=True))


def tries_of(
    session: Session, whose: dict[str, str], most: int, too_many: str, *, lock: bool
) -> list[Tries]:
    """The tries of these; 429 after so many, until the first of them is old enough.

    However many come at once, with `lock` each waits for the others. Those that are old are
    deleted in passing.
    """
    # Not the texts themselves: some type their password where the name should be.
    keys = [sha256(f"{kind} {text}".encode()).hexdigest() for kind, text in whose.items()]
    retry_on_conflict(session, "key")
    query = select(Tries).where(col(Tries.key).in_(keys)).order_by(col(Tries.key))
    if lock:
        forget_some(session, Tries, Tries.updated_at < now() - TRIES_TIME)
        query = query.with_for_update()
    found = {row.key: row for row in session.exec(query)}
    tries = [found.get(key) or Tries(key=key) for key in keys]
    if many := [times for row in tries if len(times := recent_times(row)) >= most]:
        wait = max(times[0] for times in many) + TRIES_TIME.total_seconds() - time.time()
        raise HTTPException(429, too_many, {"Retry-After": str(max(1, math.ceil(wait)))})
    return tries


def count_one_more(session: Session, tries: list[Tries]) -> None:
    for row in tries:
        row.times = [*recent_times(row), time.time()]
        session.add(row)


def address_of(session: Session) -> str:
    """Where a request comes from; with IPv6 the network of 64 bits, which is one customer's."""
    client = transaction_of(session).request.client
    host = client.host if client else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:192.0.2.1
    return str(ip_network((address, 32 if address.version == 4 else 64), strict=False))


def recent_times(row: Tries) -> list[float]:
    since = time.time() - TRIES_TIME.total_seconds()
    return [moment for moment in row.times if moment > since]
