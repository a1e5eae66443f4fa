"""What went wrong in the database, told apart by the drivers' own codes and never by messages."""

import functools
import itertools
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.visitors import iterate
from sqlmodel import SQLModel, select

from kit.problems import BusyError, ConflictError, InvalidValueError

NOT_MIGRATED = "The database is not at the newest migration. Please try again later."


class NotMigratedError(BusyError):
    """There is no such table or column, as yet."""


# SQLite's result codes, PostgreSQL's SQLSTATE (its manual, appendix A), the error numbers of
# MariaDB and MySQL (their server references).
CODES: dict[str, set[Any]] = {
    "taken": {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "23505", 1062},
    "reference": {  # SQLite's RESTRICT is a trigger
        "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER", "23503", "23001", 1451, 1452,
    },
    "invalid": {
        "SQLITE_CONSTRAINT_CHECK", "SQLITE_CONSTRAINT_NOTNULL", "SQLITE_TOOBIG",
        "23514", "23502", "22001", "22003", "22021", 1048, 1264, 1366, 1406, 3819, 4025,
    },
    "retry": {  # deadlocks, serialization failures, connections that the server ended
        "40001", "40P01", "57P01", "57P02", 1020, 1213,
    },
    "busy": {  # time-outs, no connection to be had, read-only for now
        "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED", "SQLITE_CANTOPEN",
        "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_INTERRUPT",
        "55P03", "57014", "57P03", "53300", 1040, 1044, 1045, 1049, 1205, 1290, 1969, 3024, 3572,
    },
    "read-only": {"SQLITE_READONLY", "25006", 1792},  # a standby, or a write in a Read session
    "not migrated": {"42P01", "42703", 1146, 1054},  # no such table or column, as yet
}  # fmt: skip
KINDS = {code: kind for kind, codes in CODES.items() for code in codes}


def kind_of(error: Exception) -> str | None:
    """The row of CODES that an error belongs to; None: in no row, so a fault of ours."""
    if not isinstance(error, DBAPIError):  # SQLAlchemy's own: a changed row, an empty pool
        return "retry" if isinstance(error, StaleDataError) else "busy"
    driver: Any = error.orig
    if error.connection_invalidated:
        return "retry"
    if isinstance(driver, sqlite3.Error):
        if re.match("no such (table|column):|table .* has no column", str(driver)):
            return "not migrated"  # for which SQLite has no code
        name = getattr(driver, "sqlite_errorname", "")
        return KINDS.get(name) or KINDS.get("_".join(name.split("_")[:2]))  # SQLITE_IOERR_FSYNC
    number = driver.args[0] if driver is not None and driver.args else None
    if isinstance(number, int):  # PyMySQL, whose errors have an sqlstate too, but a vaguer one
        return KINDS.get(number, "busy" if number in range(2000, 3000) else None)
    if getattr(driver, "sqlstate", None):
        return KINDS.get(driver.sqlstate)
    # An OperationalError without a code came from no server: it cannot be reached.
    return "busy" if isinstance(error, OperationalError) else None


def constraint_of(error: DBAPIError) -> sa.Constraint | None:
    """The constraint that refused a change, as far as the driver tells it."""
    driver: Any = error.orig
    run = getattr(driver, "run", None)
    named = constraints(run.compiled.statement.table.metadata if run else SQLModel.metadata)
    if isinstance(driver, sqlite3.Error):
        if hasattr(driver, "constraint"):  # by note_statement
            return cast(sa.Constraint, driver.constraint)
        return named.get(str(driver).partition("constraint failed: ")[2])  # "user.email, user.id"
    if hasattr(driver, "diag"):  # PostgreSQL
        return named.get(driver.diag.constraint_name)
    # MariaDB and MySQL: "Duplicate entry '...' for key '...'", the key last, whatever a client
    # put into the entry; and "... CONSTRAINT `...` FOREIGN KEY ...", which quotes no values.
    text = str(driver.args[-1])
    name = text.rpartition(" for key ")[2].strip("'").rpartition(".")[2]
    return named.get(name) or named.get(text.partition("CONSTRAINT `")[2].partition("`")[0])


@functools.cache
def constraints(metadata: sa.MetaData) -> dict[str | None, sa.Constraint]:
    """All constraints, by their name and, as SQLite says it, by their columns."""
    found: dict[str | None, sa.Constraint] = {}
    for table in metadata.tables.values():
        for constraint in table.constraints:
            found[str(constraint.name)] = constraint
            if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
                found[", ".join(str(column) for column in constraint.columns)] = constraint
    return found


def explain(error: Exception, looking: sa.Connection | sa.Engine | None = None) -> Exception | None:
    """What a client should be told about a database error; None: nothing, it is a fault.

    `looking` is what to look at the table with, once the transaction has been rolled back.
    """
    kind = kind_of(error)
    if kind in ("retry", "busy", "read-only"):
        return BusyError("The database is busy or away. Please try again.")
    if kind == "not migrated":  # or a replica has not heard of it
        return NotMigratedError(NOT_MIGRATED)
    if kind is None:
        return None
    error = cast(DBAPIError, error)
    constraint = constraint_of(error)
    fields = list(map(field_of, getattr(constraint, "columns", ()))) or ["A value"]
    if kind == "invalid":
        return InvalidValueError(f"{fields[0]} is out of range")
    if kind == "reference":
        return foreign_conflict(error, constraint, fields[0])
    fields = first_taken(error, looking) or fields
    return ConflictError(f"{' with this '.join(fields)} already exists", fields[0], fields)


def foreign_conflict(error: DBAPIError, key: Any, field: str) -> ConflictError:
    """What a foreign key refused: a reference to nothing, or that something referred to goes.

    There is no key where SQLite has not said which, and no look has told either.
    """
    run = getattr(error.orig, "run", None)
    is_elsewhere = run and key is not None and changed_table(run) != str(key.table)
    if not is_elsewhere and not (error.statement or "").startswith("DELETE"):
        return ConflictError(f"{field} refers to nothing", field)
    if key is None:
        return ConflictError("A row is still referred to")
    parent, column = key.referred_table.name.capitalize(), key.columns[0]
    return ConflictError(f"{parent} is still referred to by {column}", str(column))


def note_statement(context: ExceptionContext) -> None:
    """Keep what a failed statement was about, for `first_taken` and `constraint_of`."""
    error, run = cast(Any, context.original_exception), cast(Any, context.execution_context)
    if run is None or run.compiled is None or not (run.isinsert or run.isupdate or run.isdelete):
        return
    error.run = run
    if KINDS.get(getattr(error, "sqlite_errorname", "")) == "reference":
        with suppress(SQLAlchemyError):
            error.constraint = broken_foreign_key(run, cast(sa.Connection, context.connection))


def broken_foreign_key(run: Any, connection: sa.Connection) -> sa.Constraint | None:
    """The foreign key that SQLite means, since it does not say.

    The failed statement is undone, but its transaction still holds the write lock: what is
    missing, or in the way, can be looked up.
    """
    table = run.compiled.statement.table.metadata.tables[changed_table(run)]
    where = () if run.isinsert else run.invoked_statement._where_criteria
    for sent in run.compiled_parameters:
        look = functools.partial(is_there, connection, sent)
        rows = [] if run.isdelete else given_by(run, table, sent)
        for key, given in itertools.product(foreign_keys(table), rows):
            if (query := to_nothing(key, given, where)) is not None and look(query):
                return cast(sa.Constraint, key)
        if not run.isinsert and (found := in_the_way(look, table, where, next(iter(rows), None))):
            return found
    return None


def changed_table(run: Any) -> str:
    return str(run.compiled.statement.table)


def foreign_keys(table: sa.Table) -> list[sa.ForeignKeyConstraint]:
    """In the order of their columns."""
    keys = [key.constraint for column in table.columns for key in column.foreign_keys]
    return list(dict.fromkeys(cast(list[sa.ForeignKeyConstraint], keys)))


def is_there(connection: sa.Connection, sent: dict[str, Any], rows: sa.Exists) -> bool:
    query = select(rows)
    asked = {part.key for part in iterate(query) if isinstance(part, sa.BindParameter)}
    return bool(connection.scalar(query, {name: sent[name] for name in asked & sent.keys()}))


def given_by(run: Any, table: sa.Table, sent: dict[str, Any]) -> list[dict[str, Any]]:
    """What an INSERT or UPDATE gives to columns, for each of its rows: values, or SQL."""
    statement = run.invoked_statement
    rest = dict.fromkeys(table.columns.keys()) if run.isinsert else {}
    if run.isinsert and statement.select is not None:
        parts = statement.select.subquery().columns
        return [rest | dict(zip(statement._select_names, parts, strict=True))]
    if not statement._multi_values:
        return [rest | dict(statement._values or {}) | sent]
    rows = defaultdict[str, dict[str, Any]](rest.copy)
    for name, value in sent.items():  # user_id_m0, user_id_m1...
        column, _, number = name.rpartition("_m")
        rows[number][column] = value
    return list(rows.values())


def to_nothing(key: sa.ForeignKeyConstraint, given: dict[str, Any], where: Any) -> sa.Exists | None:
    """The rows that would refer to nothing by this key; None, where it is none of what is given.

    Of a key of several columns the others keep what they have.
    """
    values = [given.get(c.key, c) for c in key.columns]
    full = [v.is_not(None) for v in values if isinstance(v, sa.ColumnElement)]
    referred = [e.column.key for e in key.elements]
    to_itself = not full and key.referred_table is key.table
    if given.keys().isdisjoint(key.columns.keys()) or any(v is None for v in values):
        return None
    if to_itself and [given.get(name) for name in referred] == values:
        return None
    there = key.referred_table.alias().columns
    found = sa.exists().where(*(there[n] == v for n, v in zip(referred, values, strict=True)))
    return sa.exists(sa.select(sa.literal(1)).where(*where, *full, ~found))


def in_the_way(
    look: Callable[[sa.Exists], bool],
    table: sa.Table,
    where: Any,
    given: dict[str, Any] | None = None,
    above: tuple[sa.Table, ...] = (),
) -> sa.Constraint | None:
    """The key by which rows refer to those that are deleted, or are given something else."""
    children = [t for t in table.metadata.sorted_tables if t not in above]
    for key in [key for child in children for key in foreign_keys(child)]:
        referred = [element.column for element in key.elements]
        is_given = given is None or not given.keys().isdisjoint(c.key for c in referred)
        if key.referred_table is not table or not is_given:
            continue
        them = sa.select(*referred).where(*where).correlate(None)
        refer = sa.tuple_(*key.columns).in_(them)
        action = (key.ondelete if given is None else key.onupdate) or "NO ACTION"
        found: sa.Constraint | None = None
        if action.upper() in ("RESTRICT", "NO ACTION"):
            found = key if look(sa.exists().where(refer)) else None
        elif action.upper() == "CASCADE" and given is None:
            found = in_the_way(look, key.table, [refer], None, (*above, table))
        if found is not None:
            return found
    return None


def first_taken(error: DBAPIError, looking: sa.Connection | sa.Engine | None) -> list[str]:
    """The fields of the first unique constraint, in the order of the fields, that is violated.

    Where several are, each database names another one. So all are looked at here, once the
    transaction has been rolled back: among the rows of the statement, and in the table. Should
    that fail, there is still what the database said.
    """
    run: Any = getattr(error.orig, "run", None)
    table = getattr(run and run.compiled.statement, "table", None)
    if not isinstance(table, sa.Table) or looking is None:
        return []
    order = table.columns.keys()
    unique = [list(c.columns) for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    with (
        suppress(SQLAlchemyError),
        looking.connect() if isinstance(looking, sa.Engine) else nullcontext(looking) as c,
    ):
        for columns in sorted(unique, key=lambda columns: order.index(columns[0].name)):
            if is_taken(c, table, columns, run.compiled_parameters):
                return list(map(field_of, columns))
    return []


def is_taken(
    connection: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], rows: list[Any]
) -> bool:
    """Whether one of the rows of a statement has in these columns what another row has."""
    sent = [[row.get(field_of(column)) for column in columns] for row in rows]
    keys = [
        # A generated column is the lower case of its field.
        tuple(str(v).lower() if c.computed else v for c, v in zip(columns, values, strict=True))
        for values in sent
        if None not in values
    ]
    found = sa.exists().where(sa.tuple_(*columns).in_(keys))
    if own := [row[id] for row in rows if (id := f"{table.name}_id") in row]:  # of an UPDATE
        found = found.where(table.columns["id"].not_in(own))
    return len({*keys}) < len(keys) or bool(connection.scalar(select(found)))


def field_of(column: sa.Column[Any]) -> str:
    """What clients call a column: its `info` says so where that is another name."""
    return str(column.info.get("field", column.name))
