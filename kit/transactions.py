"""A route's work as one transaction: committed, rolled back, or run again where that can help."""

import contextlib
import os
import random
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import HTTPException, Request, Response
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from kit.commits import SILENT
from kit.context import Context, context_of
from kit.driver_errors import explain, kind_of
from kit.problems import BusyError, ConflictError, MisuseError

UNKNOWN = "The database did not say whether this was stored. Please look before trying again."
ONLY_READS = "A route that writes has to take `session: Write`"
MOST_ATTEMPTS = 50

Work = Callable[[], Any]

at_work: ContextVar[Session] = ContextVar("at_work")  # whose transaction a thread is in


@dataclass(eq=False, slots=True)
class Transaction:
    """What a session knows: the request that it is for, and how far its work has come."""

    request: Request
    response: Response  # whose headers it sets
    context: Context = field(init=False)
    run: Callable[[Work, Session], Awaitable[Any]]  # see `Connections.run`
    writes: bool
    alone: bool = False  # whether it may take long, so that on SQLite no other commit waits for it
    key: str | None = None  # the Idempotency-Key
    asked_for: list[tuple[Any, str | None]] = field(default_factory=list)  # see `on_condition`
    retry_on: set[str] = field(default_factory=set)  # fields, see `retry_on_conflict`
    missing: dict[str, str] = field(default_factory=dict)  # see `expect_missing`
    changes: list[dict[str, Any]] = field(default_factory=list)  # not stored yet, see `History`
    store_changes: Callable[[Session], None] | None = None
    connection: Any = None  # the driver's, while it is in use
    committing: bool = False
    abandoned: bool = False  # nobody waits for it any more
    extend: Callable[[], object] | None = None  # see `allow_more_time`

    def __post_init__(self) -> None:
        self.context = context_of(self.request)


def transaction_of(session: Any) -> Transaction:
    return cast(Transaction, session.info["transaction"])


async def run_borrowed(work: Work, session: Session) -> Any:
    return await run_in_threadpool(transact_borrowed, work, session)


def transact_borrowed(work: Work, session: Session) -> Any:
    """Do the work of a session that somebody else has made, and that is theirs to close."""
    expires, session.expire_on_commit = session.expire_on_commit, False  # see Connections.session
    try:
        result = done(work, session)
        session.commit()
    except BaseException as error:
        session.rollback()
        if isinstance(error, DBAPIError | StaleDataError):
            raise explain(error) or error from error
        raise
    finally:
        session.expire_on_commit = expires
    return result


def borrowed(session: Session, request: Request, response: Response, *, writes: bool) -> Session:
    """The session, if it is one of ours; or another that a dependency has been overridden with."""
    transaction = session.info.get("transaction")
    if not transaction or transaction.request.scope is not request.scope:
        session.info["transaction"] = Transaction(request, response, run_borrowed, writes)
    return session


@event.listens_for(Session, "after_begin")
def note_connection(session: Session, _: object, connection: Connection) -> None:
    """Note which connection a session uses, for `hang_up`; use none when nobody waits any more."""
    transaction: Transaction | None = session.info.get("transaction")
    if transaction is None:  # an async session's
        session.info["connection"] = connection.connection.driver_connection
        return
    transaction.connection = connection.connection.dbapi_connection
    if transaction.abandoned:
        raise BusyError(SILENT)


def transact(
    work: Work, session: Session, latest: float, connection: Connection | None = None
) -> Any:
    """Run the work in the session's transaction and commit it, again where that can help.

    On a connection that is lent to it, in a transaction already, what it commits is a savepoint.

    The work is done anew from its start, on a fresh transaction, after a deadlock, a
    serialization failure, a row that changed meanwhile, a connection that was lost before
    the commit, or a conflict that it asked to be run again for (see `retry_on_conflict`).
    """
    failure: Exception = BusyError("Too many requests are waiting. Please try again.")
    session.bind = connection or session.bind
    for attempt in range(MOST_ATTEMPTS):
        if time.monotonic() > latest or transaction_of(session).abandoned:
            break
        try:
            return attempt_once(work, session)
        except (DBAPIError, StaleDataError, PoolTimeoutError) as error:
            failure, again = consequence(error, session)
            if not again:
                break
        if not connection:  # which would be kept from others
            time.sleep(random.uniform(0, 0.01) * min(attempt + 1, 10))  # noqa: S311
    raise failure


def consequence(
    error: DBAPIError | StaleDataError | PoolTimeoutError, session: Session
) -> tuple[Exception, bool]:
    """What a client is told of a database error, and whether to run the work again before."""
    kind, transaction = kind_of(error), transaction_of(session)
    if kind == "read-only" and not transaction.writes:
        raise MisuseError(ONLY_READS) from None
    told = explain(error, session.bind)
    if told is None:
        raise error
    if transaction.committing and getattr(error, "connection_invalidated", False):
        told, kind = BusyError(UNKNOWN), "busy"
    elif isinstance(told, ConflictError) and told.field in transaction.missing:
        told = HTTPException(404, transaction.missing[told.field])
    elif isinstance(told, ConflictError) and told.field in transaction.retry_on:
        told, kind = BusyError("Others are changing the same. Please try again."), "retry"
    told.__cause__ = error
    return told, kind == "retry"


def attempt_once(work: Work, session: Session) -> Any:
    transaction = transaction_of(session)
    transaction.retry_on, transaction.committing = set(), False
    with session:
        try:
            result = done(work, session)
            if transaction.abandoned:  # do not commit what a client was told has failed
                raise BusyError(SILENT)
            transaction.committing = True
            if transaction.writes:  # else it is in AUTOCOMMIT
                session.commit()
            return result
        finally:
            transaction.connection = None  # before another session gets it


def done(work: Work, session: Session) -> Any:
    """What comes of the work, when all of it but the commit is done."""
    transaction, token = transaction_of(session), at_work.set(session)
    transaction.changes, transaction.store_changes = [], None
    try:
        result = work()
        session.flush()
        if transaction.store_changes:
            transaction.store_changes(session)
        return result
    finally:
        at_work.reset(token)


def retry_on_conflict(session: Session, field: str) -> None:
    """Have the work run again, should this field turn out to be in conflict.

    For values that were made up, and choices that were made, by us and not by the client,
    who should not be told of a conflict when another transaction was first.
    """
    transaction_of(session).retry_on.add(field)


def expect_many_rows(session: Session) -> None:
    """Have every statement of the transaction planned for the rows that are there by then.

    PostgreSQL (its manual, "PREPARE") would keep a plan that it made while a table was small,
    and read all of it each time.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def allow_more_time(session: Session) -> None:
    """Start the time of the request anew, in work on many rows that has got further."""
    transaction = transaction_of(session)
    if transaction.abandoned:
        raise BusyError(SILENT)
    if transaction.extend:
        transaction.extend()


def hang_up(connection: Any) -> None:
    """End what a thread waits for, from outside, so that the thread is free again.

    psycopg has no read time-out: a server that is connected and never answers would keep it
    for ever. SQLite stops a query that takes too long. PyMySQL has a time-out of its own.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.interrupt()
    elif type(connection).__module__.startswith("psycopg"):
        import psycopg  # which on other databases would take 9 MB for nothing

        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)
