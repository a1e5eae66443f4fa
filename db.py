"""The settings, the two databases, the sessions that a route can ask for, and who may call it.

    @app.get("/items/{item_id}", dependencies=[Anyone])
    def read_item(session: Read, item_id: Id) -> Item: ...

A route is a plain function, and runs in one piece in a worker thread. With `Write` it is one
transaction: committed when it returns, before the answer is sent; rolled back when it raises; run
again from its start when the database asks for that (a deadlock, a lost connection). With `Read`
each statement is for itself, on a replica if there is one. So routes contain no commit, no
rollback and no retry. For tests: `app.dependency_overrides[read_session]`, `[write_session]`.
"""

from pathlib import Path
from typing import Annotated

from fastapi import Depends
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

import kit
from kit import (
    Access,
    AsyncReading,
    Bodies,
    Database,
    History,
    LogIns,
    Migrations,
    Name,
    NewSession,
    OnceSession,
    read_settings,
)
from models import Change, IdempotencyKey, User


class Settings(kit.Settings):
    """Those of every service (see docs/operations.md), and the shop's own."""

    app_name: Name = "Cornershop API"


settings = read_settings(Settings)
database = Database(settings)
migrations = Migrations(database, Path(__file__).parent)

read_session = NewSession(database, writes=False)
write_session = NewSession(database, writes=True)
long_session = NewSession(database, writes=True, alone=True)
once_session = OnceSession(database, IdempotencyKey)
async_session = AsyncReading(settings)

# Each statement for itself, and no writing.
Read = Annotated[Session, Depends(read_session)]
# One transaction.
Write = Annotated[Session, Depends(write_session)]
# The same for what may take long: on SQLite, nobody's commit waits for its end.
WriteLong = Annotated[Session, Depends(long_session)]
# The same, done once for an Idempotency-Key.
Once = Annotated[Session, Depends(once_session)]
# For `async def`: each statement for itself, and no writing.
AsyncRead = Annotated[AsyncSession, Depends(async_session, scope="function")]

# Each change of the models with `keeps_history` is a row of `Change`.
history = History(Change, settings.history_days)

access = Access(database, User)
log_ins = LogIns(access, User.username_key, User.email)
bodies = Bodies(log_ins, username=User.username_key, email=User.email)  # with hashed passwords

# Everybody, and whatever token they send is not looked at.
Public = access.public
# Everybody, logged in or not.
Anyone = access.anyone
# The same where who is logged in gets more, as authors do with their drafts.
AnyoneOrOwner = access.anyone_or_owner
# Users, who then find their own rows alone; and superusers.
Owner = access.owner
# The same for what a page of the admin asks for, whose token is in a cookie.
OwnerOrPage = Depends(access.owner_or_page)
# Users with is_superuser.
Superuser = access.superuser
