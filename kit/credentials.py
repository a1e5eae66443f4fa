"""Bodies with a password: hashed before the transaction, since hashing takes long.

`Annotated[dict, Depends(bodies.to_create(UserCreate))]` in a route is what the body says,
with the column `password_hash` in place of the password. What can be refused without hashing is
refused before it: a name that is taken, a wrong current password, too many sign-ups.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import HTTPException, Request
from sqlalchemy import event, exists
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper
from sqlmodel import Field, Session, SQLModel, col, select

from kit.conditions import on_condition
from kit.context import context_of
from kit.fields import Id
from kit.log_ins import LogIn, LogIns, count_sign_up
from kit.ownership import caller_of
from kit.passwords import hash_in_turn, hash_to_store, storing
from kit.problems import ConflictError
from kit.rows import get_or_404
from kit.tables import has_changed

Columns = dict[str, Any]


def new_stamp() -> str:
    return secrets.token_hex(8)


class Credentials(SQLModel):
    """What a table of users has for log-ins, and never shows."""

    password_hash: str = Field(max_length=255, exclude=True, repr=False)
    # Stands in the user's tokens, which end when it changes.
    stamp: str = Field(
        default_factory=new_stamp,
        max_length=16,
        exclude=True,
        repr=False,
        sa_column_kwargs={"server_default": ""},
    )


@event.listens_for(Credentials, "before_update", propagate=True)
def end_tokens(_: Mapper[Any], __: Connection, user: Any) -> None:
    """End a user's tokens with their password, and when they are deactivated."""
    is_deactivated = has_changed(user, "is_active") and not user.is_active
    if is_deactivated or has_changed(user, "password_hash"):
        user.stamp = new_stamp()


class Bodies:
    """The bodies of the routes that write users: `bodies.to_create(UserCreate)`, a dependency."""

    def __init__(self, log_ins: LogIns, **unique: Any) -> None:
        """With the columns that are unique among users, by the names of the fields."""
        self.log_ins, self.unique, self.database = log_ins, unique, log_ins.database

    def to_create(self, body: Any) -> Callable[..., Any]:
        """One new user; 429 after many sign-ups from an address."""

        async def dependency(request: Request, data: body) -> Columns:
            if not context_of(request).caller.is_superuser:
                await self.database.writer.do(request, count_sign_up)
            return (await self.new(request, [data]))[0]

        return dependency

    def to_create_each(self, bodies: Any) -> Callable[..., Any]:
        """Several at once."""

        async def dependency(request: Request, data: bodies) -> list[Columns]:
            return await self.new(request, data)

        return dependency

    def to_change(self, body: Any) -> Callable[..., Any]:
        """A change of the user `user_id`; 403 without the current password, where it is needed."""

        async def dependency(request: Request, data: body, user_id: Id) -> Columns:
            if {"password", "email"} & data.model_fields_set:
                await self.confirm(request, data, user_id)
            return (await self.hashed(request, [data]))[0]

        return dependency

    async def new(self, request: Request, bodies: Sequence[Any]) -> list[Columns]:
        """New users; 409 before all else for a name that is taken."""
        await self.database.writer.do(request, lambda session: self.refuse_taken(session, bodies))
        return await self.hashed(request, bodies)

    async def confirm(self, request: Request, data: Any, user_id: int) -> None:
        def check(session: Session) -> LogIn | None:
            return on_condition(session, lambda: self.check_change(session, data, user_id))

        if confirmed_by := await self.database.writer.do(request, check):
            user = await self.log_ins.user_of(request, confirmed_by)
            if not user or user.id != user_id:  # names may change meanwhile
                raise HTTPException(403, "The current password is wrong")

    def check_change(self, session: Session, data: Any, user_id: int) -> LogIn | None:
        """Refuse a change that may not be; the log-in that has to be right for it, if any."""
        user, sent = get_or_404(session, self.log_ins.access.users, user_id), data.model_dump()
        matters = "password" in sent or sent.get("email", user.email) != user.email
        is_needed = matters and caller_of(session).id == user_id
        current = sent.get("current_password")
        if is_needed and not current:
            raise HTTPException(403, "Your current password is needed")
        self.refuse_taken(session, [data], own_id=user_id)
        return LogIn(username=user.username, password=current) if is_needed else None

    def refuse_taken(self, session: Session, users: Sequence[Any], own_id: int = 0) -> None:
        """Raise 409 for a name or address that another user has, or two of these."""
        id = col(self.log_ins.access.users.id)
        for name, column in self.unique.items():
            sent = [getattr(user, name).lower() for user in users if name in user.model_fields_set]
            is_taken = exists().where(col(column).in_(sent), id != own_id)
            if len({*sent}) < len(sent) or session.scalar(select(is_taken)):
                raise ConflictError(f"{name} already exists", name, [name])

    async def hashed(self, request: Request, bodies: Sequence[Any]) -> list[Columns]:
        """What each body says, with the hash of its password, if one was sent."""
        columns = [body.model_dump(exclude={"current_password"}) for body in bodies]
        new = [each for each in columns if "password" in each]
        sent = [[each.pop("password").get_secret_value()] for each in new]
        seconds = self.database.time_left(request)
        hashes = await hash_in_turn(seconds, storing, hash_to_store, *sent)
        for each, password_hash in zip(new, hashes, strict=True):
            each["password_hash"] = password_hash
        return columns
