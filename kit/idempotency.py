"""Idempotency-Key: what is sent again with the same key is done once, and answered alike."""

import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Header, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from sqlalchemy import JSON, Index, UniqueConstraint, delete
from sqlmodel import Field, Session, col, select

from kit.database import Database, NewSession
from kit.fields import VISIBLE, LongText, now
from kit.ownership import caller_of
from kit.problems import invalid
from kit.rows import forget_some
from kit.tables import Created, Entity
from kit.transactions import retry_on_conflict, transaction_of

KEY_LIFETIME = timedelta(hours=24)


class StoredAnswer(Created, Entity):
    """What was answered to a request with an Idempotency-Key, for when it is sent again.

    The table that a service makes of it adds `owner_id`, the user with whom a row is deleted.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("key", "route", "user_id"), Index(None, "created_at"))

    key: str = Field(max_length=200)
    route: str = Field(max_length=200)
    user_id: int = 0  # of the user who is logged in; 0 in open mode
    fingerprint: str = Field(max_length=64)
    status: int = 0
    headers: dict[str, str] = Field(default={}, sa_type=JSON)
    body: str = Field(default="", sa_type=LongText)


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=VISIBLE,
        description="Made up by the client. A request that is sent again with the same key"
        " and body, on the same route, within 24 hours does nothing, and gets the first"
        " one's answer.",
    ),
]


class OnceSession(NewSession):
    """A dependency: a session that writes; with an Idempotency-Key, what it does is done once."""

    def __init__(self, database: Database, answers: Any) -> None:
        super().__init__(database, writes=True)
        self.answers = answers  # the table for `StoredAnswer`

    async def __call__(self, request: Request, response: Response, key: Key = None) -> Session:
        if len(request.headers.getlist("Idempotency-Key")) > 1:
            raise RequestValidationError([invalid(("header", "Idempotency-Key"), "Is there twice")])
        session = await super().__call__(request, response)
        transaction_of(session).key = key
        return session


def answer_once(route: Any, answer: Callable[[], Any], values: dict[str, Any]) -> Response:
    """Do the work and store its answer, all in one transaction; or give the stored answer.

    The key is written first, so that a second request with it waits here for the first one:
    for its answer or, should it fail, to do the work itself.
    """
    session: Session = values["session"]
    table, expired = route.new_session.answers, now() - KEY_LIFETIME
    forget_some(session, table, col(table.created_at) < expired)
    user_id, transaction = caller_of(session).id, transaction_of(session)
    place = {"key": transaction.key, "route": route.name, "user_id": user_id}
    known = Session, Request, Response
    asked = jsonable_encoder({n: v for n, v in values.items() if not isinstance(v, known)})
    fingerprint = sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    stored = session.exec(select(table).filter_by(**place)).first()
    if stored and stored.created_at >= expired:
        return replayed(stored, fingerprint)
    if stored:
        session.exec(delete(table).where(col(table.id) == stored.id))
    retry_on_conflict(session, "key")
    retry_on_conflict(session, "owner_id")  # who has just been deleted, and is a 401 then
    stored = table(**place, owner_id=user_id or None, fingerprint=fingerprint)
    session.add(stored)
    session.flush()
    schema = TypeAdapter[Any](route.response_model)
    body = schema.dump_json(schema.validate_python(answer()))
    stored.status = route.status_code or 200
    stored.headers = dict(transaction.response.headers)
    stored.body = body.decode()
    return Response(body, stored.status, stored.headers, media_type="application/json")


def replayed(stored: StoredAnswer, fingerprint: str) -> Response:
    """The stored answer; 422 if the request was another one."""
    if stored.fingerprint != fingerprint:
        error = invalid(("header", "Idempotency-Key"), "Was used for another request before")
        raise RequestValidationError([error])
    headers = {**stored.headers, "Idempotency-Replayed": "true"}
    return Response(stored.body, stored.status, headers, media_type="application/json")
