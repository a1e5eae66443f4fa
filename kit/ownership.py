"""Whose a row is, and whether the caller may have it."""

from typing import TypeVar

from fastapi import HTTPException
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from kit.context import Caller
from kit.loading import model_of
from kit.problems import unauthorized
from kit.tables import Entity
from kit.transactions import transaction_of

M = TypeVar("M", bound=Entity)
NOT_YOURS = "This belongs to another user"
NO_TOKEN = "This needs a log-in: a token from /token, in Authorization: Bearer"  # noqa: S105


def caller_of(session: Session) -> Caller:
    return transaction_of(session).context.caller


def only_own(session: Session, query: SelectOfScalar[M]) -> SelectOfScalar[M]:
    """The query; on a route of the `Owner`, for the caller's own rows alone.

    So it is in `get_or_404`, `first_or_404`, `page` and `numbered_page`.
    """
    caller = caller_of(session)
    if transaction_of(session).context.who != "owner" or caller.is_superuser:
        return query
    return query.where(model_of(query).owned_by(caller.id))


def is_own(session: Session, user_id: int) -> bool:
    """Whether what belongs to this user is the caller's own; to superusers everything is."""
    caller = caller_of(session)
    return caller.is_superuser or caller.id == user_id


def refuse_others(session: Session, user_id: int, detail: str = NOT_YOURS) -> None:
    """Raise 403, or 401 for who is not logged in, unless `is_own`."""
    if not is_own(session, user_id):
        raise HTTPException(403, detail) if caller_of(session).id else unauthorized(NO_TOKEN)


def refuse_all_but_superusers(session: Session, detail: str) -> None:
    if not caller_of(session).is_superuser:
        raise HTTPException(403, detail)
