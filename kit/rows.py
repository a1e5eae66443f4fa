"""Rows by id: found or 404, locked in the order of their ids, added with their Location."""

import functools
import logging
from collections.abc import Collection, Sequence
from typing import Any, TypeVar, cast

from fastapi import HTTPException
from sqlalchemy import (
    ColumnElement,
    Update,
    bindparam,
    case,
    delete,
    exists,
    false,
    insert,
    inspect,
    or_,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from kit.conditions import entity_tag
from kit.driver_errors import kind_of
from kit.loading import RowSession, model_of
from kit.ownership import NOT_YOURS, is_own, only_own
from kit.problems import not_found
from kit.tables import Entity
from kit.transactions import retry_on_conflict, transaction_of

M = TypeVar("M", bound=Entity)
logger = logging.getLogger("kit")


def get_or_404(session: Session, model: type[M], id: int, *options: Any) -> M:
    """The row with this id, or "Item not found"; or 403, if it is another user's and not private.

    A `Write` session locks it until the end, and notes it for `on_condition`: it is the row that
    a request is about; `lock_rows` is for those that come with it.
    """
    transaction = transaction_of(session)
    query = only_own(session, by_id(model, lock=transaction.writes))
    if options:
        query = query.options(*options)
    found = session.exec(query, params={"id_asked": id})
    row = (found.unique() if options else found).first()
    if row is None and not model.is_private and session.get(model, id) is not None:
        raise HTTPException(403, NOT_YOURS)
    if row and transaction.writes:
        transaction.asked_for.append((model, entity_tag(row)))
    return cast(M, row) or not_found(f"{model.__name__} not found")


@functools.cache  # building a statement takes as long as running it
def by_id(model: type[M], *, lock: bool) -> SelectOfScalar[M]:
    query = select(model).where(model.id == bindparam("id_asked"))
    return query.with_for_update().execution_options(populate_existing=True) if lock else query


@functools.cache
def by_ids(model: type[M]) -> SelectOfScalar[M]:
    id = col(model.id)
    return select(model).where(id.in_(bindparam("ids"))).order_by(id).with_for_update()


# Lock a row against being deleted, while others may refer to it and change it as well.
KEY_SHARE: dict[str, Any] = {"read": True, "key_share": True}


def lock_rows(
    session: Session, model: type[M], ids: Sequence[int], *, own: Collection[int] = ()
) -> dict[int, M]:
    """These rows by id, or "Product 5 not found"; locked in the order of ids: no deadlocks.

    Those that have to be the caller's `own` are not found either when they are another user's.
    """
    rows = {row.id: row for row in session.exec(by_ids(model), params={"ids": ids})}
    for id in ids:
        if id not in rows or (id in own and not is_own(session, cast(Any, rows[id]).user_id)):
            not_found(f"{model.__name__} {id} not found")
    return rows


def first_or_404(session: Session, query: SelectOfScalar[M]) -> M:
    """The one row of a query by something unique, or "Product not found"."""
    found = session.exec(only_own(session, query)).first()
    return found or not_found(f"{model_of(query).__name__} not found")


def add(session: Session, row: M) -> M:
    """Insert the row, which gets its id, and say in Location where it is to be found."""
    insert_rows(session, [row])
    if instance_state(row).transient:  # else it is the session's by now
        make_transient_to_detached(row)
        if isinstance(session, RowSession):
            session.given.append(row)
        else:
            session.add(row)
    transaction = transaction_of(session)
    path = transaction.request.scope["path"]
    location = f"{path}{row.id}" if path.endswith("/") else path
    transaction.response.headers["Location"] = location
    return row


def insert_rows(session: Session, rows: list[M], **values: Any) -> list[M]:
    """Insert new rows of one model, with these values too, in a third of the time of a flush.

    Each gets its id. The session does not keep them: what is changed in them later is not
    stored. Rows that have others related to them are left to `session.add_all`.
    """
    for row in rows:
        row.__dict__.update(values)
    session.flush()  # what came before
    mapper, connection = inspect(type(rows[0])), session.connection()
    statement, columns, related = insertion(type(rows[0]))
    in_order = connection.dialect.insert_executemany_returning_sort_by_parameter_order
    if not in_order or any(row.id or related & row.__dict__.keys() for row in rows):
        session.add_all(rows)
        session.flush()
        return rows
    for row in rows:
        mapper.dispatch.before_insert(mapper, connection, instance_state(row))
    sent = [{name: row.__dict__[name] for name in columns} for row in rows]
    for row, id in zip(rows, connection.execute(statement, sent).scalars(), strict=True):
        row.__dict__["id"] = id
        mapper.dispatch.after_insert(mapper, connection, instance_state(row))
    return rows


@functools.cache
def insertion(model: Any) -> tuple[Any, list[str], set[str]]:
    """The INSERT of rows of this model, its columns, and what may be related to them."""
    table, mapper = model.__table__, inspect(model)
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    columns = [c.key for c in table.columns if c is not table.c.id and not c.computed]
    return statement, columns, set(mapper.relationships.keys())


def add_to(session: Session, column: Any, changes: Sequence[tuple[Any, Any]]) -> None:
    """Add to a number of some rows, with one statement that counts their versions.

    The rows should be locked. What listens for updates is told, as by the ORM.
    """
    name, connection, sent = column.key, session.connection(), dict[str, Any]()
    for n, (row, change) in enumerate(changes):
        sent |= {f"id_{n}": row.id, f"by_{n}": change}
        setattr(row, name, getattr(row, name) + change)
        state = instance_state(row)
        state.mapper.dispatch.before_update(state.mapper, connection, state)
        set_committed_value(row, name, getattr(row, name))
        if hasattr(row, "version"):
            set_committed_value(row, "version", row.version + 1)
    connection.execute(addition(column.class_, name, len(changes)), sent)


@functools.lru_cache(200)
def addition(model: Any, name: str, rows: int) -> Update:
    columns = model.__table__.columns
    ids = [bindparam(f"id_{n}", type_=columns.id.type) for n in range(rows)]
    pairs = [
        (columns.id == id, bindparam(f"by_{n}", type_=columns[name].type))
        for n, id in enumerate(ids)
    ]
    values = {name: columns[name] + case(*pairs)}
    if "version" in columns:
        values["version"] = columns.version + 1
    return update(model.__table__).where(columns.id.in_(ids)).values(values)


def embed(row: Entity, **related: Any) -> None:
    """Give a row what is related to it, as if it had been loaded with it."""
    for name, rows in related.items():
        set_committed_value(row, name, rows)


def expect_missing(session: Session, **details: str) -> None:
    """Say 404 with this detail, where the database refuses what a field refers to."""
    transaction_of(session).missing.update(details)


def is_needed(session: Session, model: type[M]) -> ColumnElement[bool]:
    """Whether a row is referred to by others that keep it from being deleted."""
    own, tables = cast(Any, model).__table__, model.metadata.sorted_tables
    keys = [key for table in tables for column in table.columns for key in column.foreign_keys]
    keys = [key for key in keys if key.references(own) and key.ondelete == "RESTRICT"]
    for key in keys:
        retry_on_conflict(session, str(key.parent))  # by one that was made just now
    return or_(false(), *(exists().where(key.parent == key.column) for key in keys))


def try_insert(session: Session, model: type[M], **values: Any) -> None:
    """Insert a row in a savepoint: when the database refuses it, all else stands."""
    connection = session.connection()
    connection.exec_driver_sql("SAVEPOINT trying")  # which the commit releases
    try:
        connection.execute(plain_insertion(model), values)
    except DBAPIError as error:
        # The whole transaction is gone, not the savepoint. Then SQLite has no such savepoint.
        if kind_of(error) in ("retry", None):
            raise
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT trying")
        logger.warning("no row in %s: %s", model.__tablename__, error.orig)


@functools.cache
def plain_insertion(model: Any) -> Any:
    return insert(model.__table__)


def forget_some(session: Session, model: type[Entity], expired: Any) -> None:
    """Delete some of the rows that have expired, but none that another is deleting."""
    id = col(model.id)
    some = select(id).where(expired).order_by(expired.left).limit(100)
    some = some.with_for_update(skip_locked=True)
    connection = session.connection()  # the session may have rows that it need not know yet
    if ids := connection.scalars(some).all():
        connection.execute(delete(model).where(id.in_(ids)))
