"""What went wrong in the database, told apart by the drivers' own codes and never by messages."""

import contextlib
import functools
import re
import sqlite3
from typing import Any, cast

from sqlalchemy import (
    Column,
    Connection,
    Constraint,
    Engine,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    exists,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.schema import ColumnCollectionConstraint
from sqlmodel import SQLModel, select

from kit.problems import BusyError, ConflictError, InvalidValueError

NOT_MIGRATED = "The database is not at the newest migration. Please try again later."


class NotMigratedError(BusyError):
    """There is no such table or column, as yet."""


# What went wrong, by the drivers' own codes: SQLite's result codes, PostgreSQL's SQLSTATE
# (its manual, appendix A), the error numbers of MariaDB and MySQL (their server references).
CODES: dict[str, set[Any]] = {
    "conflict": {
        "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY",
        "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER",
        "23505", "23503", "23001", 1062, 1451, 1452,
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


def constraint_of(error: DBAPIError) -> Constraint | None:
    """The constraint that refused a change, as far as the driver tells it."""
    driver: Any = error.orig
    if isinstance(driver, sqlite3.Error):
        if hasattr(driver, "constraint"):  # found by name_the_foreign_key
            return cast(Constraint, driver.constraint)
        columns = str(driver).partition("constraint failed: ")[2]  # "user.email, user.id"
        return constraints().get(columns)
    if hasattr(driver, "diag"):  # PostgreSQL
        return constraints().get(driver.diag.constraint_name)
    # MariaDB and MySQL: "Duplicate entry '...' for key '...'", the key last, whatever a client
    # put into the entry; and "... CONSTRAINT `...` FOREIGN KEY ...", which quotes no values.
    text = str(driver.args[-1])
    name = text.rpartition(" for key ")[2].strip("'").rpartition(".")[2]
    return constraints().get(name) or constraints().get(
        text.partition("CONSTRAINT `")[2].partition("`")[0]
    )


@functools.cache
def constraints() -> dict[str | None, Constraint]:
    """All constraints, by their name and, as SQLite says it, by their columns."""
    found: dict[str | None, Constraint] = {}
    for table in SQLModel.metadata.tables.values():
        for constraint in table.constraints:
            found[str(constraint.name)] = constraint
            if isinstance(constraint, UniqueConstraint | PrimaryKeyConstraint):
                found[", ".join(str(column) for column in constraint.columns)] = constraint
    return found


def explain(error: Exception, looking: Connection | Engine | None = None) -> Exception | None:
    """What a client should be told about a database error; None: nothing, it is a fault.

    `looking` is what to look at the table with, once the transaction has been rolled back.
    """
    kind = kind_of(error)
    if kind in ("retry", "busy", "read-only"):
        return BusyError("The database is busy or away. Please try again.")
    if kind == "not migrated":  # or a replica has not heard of it
        return NotMigratedError(NOT_MIGRATED)
    error = cast(DBAPIError, error)
    constraint = constraint_of(error) if kind else None
    columns = list(constraint.columns) if isinstance(constraint, ColumnCollectionConstraint) else []
    fields = list(map(field_of, columns)) or ["A value"]
    if kind == "invalid":
        return InvalidValueError(f"{fields[0]} is out of range")
    if kind != "conflict":
        return None
    if not isinstance(constraint, ForeignKeyConstraint):
        fields = first_taken(error, looking) or fields
        return ConflictError(f"{' with this '.join(fields)} already exists", fields[0])
    if (error.statement or "").startswith("DELETE"):
        parent = constraint.referred_table.name.capitalize()
        return ConflictError(f"{parent} is still referred to by {columns[0]}", str(columns[0]))
    return ConflictError(f"{fields[0]} refers to nothing", fields[0])


def note_statement(context: ExceptionContext) -> None:
    """Keep what a failed statement was about, for `first_taken`."""
    run = cast(Any, context.execution_context)
    if run is not None and run.compiled is not None and (run.isinsert or run.isupdate):
        cast(Any, context.original_exception).run = run


def first_taken(error: DBAPIError, looking: Connection | Engine | None) -> list[str]:
    """The fields of the first unique constraint, in the order of the fields, that is violated.

    Where several are, each database names another one. So all are looked at here, once the
    transaction has been rolled back: among the rows of the statement, and in the table. Should
    that fail, there is still what the database said.
    """
    run: Any = getattr(error.orig, "run", None)
    table = getattr(run and run.compiled.statement, "table", None)
    if not isinstance(table, Table) or looking is None:
        return []
    places = {column.name: n for n, column in enumerate(table.columns)}
    unique = [list(c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)]
    with (
        contextlib.suppress(SQLAlchemyError),
        looking.connect() if isinstance(looking, Engine) else contextlib.nullcontext(looking) as c,
    ):
        for columns in sorted(unique, key=lambda columns: places[columns[0].name]):
            if is_taken(c, table, columns, run.compiled_parameters):
                return list(map(field_of, columns))
    return []


def is_taken(
    connection: Connection, table: Table, columns: list[Column[Any]], rows: list[dict[str, Any]]
) -> bool:
    """Whether one of the rows of a statement has in these columns what another row has."""
    seen = set()
    for row in rows:
        values = [row.get(field_of(column)) for column in columns]
        if None in values:
            continue
        # A generated column is the lower case of its field.
        stored = [str(v).lower() if c.computed else v for c, v in zip(columns, values, strict=True)]
        pairs = list(zip(columns, stored, strict=True))
        same = [column == value for column, value in pairs]
        if (id := row.get(f"{table.name}_id")) is not None:  # of the row of an UPDATE
            same.append(table.columns["id"] != id)
        key = tuple(stored)
        if key in seen or connection.scalar(select(exists().where(*same))):
            return True
        seen.add(key)
    return False


def field_of(column: Column[Any]) -> str:
    """What clients call a column: its `info` says so where that is another name."""
    return str(column.info.get("field", column.name))


def name_the_foreign_key(context: ExceptionContext) -> None:
    """Find which foreign key SQLite means, since it does not say; only asked after a failure.

    The failed statement is undone, but its transaction still holds the write lock: what is
    missing, or in the way of a DELETE, can be looked up.
    """
    driver, run, connection = (
        context.original_exception,
        context.execution_context,
        context.connection,
    )
    name = getattr(driver, "sqlite_errorname", "")
    if name not in ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER"):
        return
    compiled = cast(Any, run).compiled
    table = compiled.statement.table
    columns = [column for t in SQLModel.metadata.sorted_tables for column in t.columns]
    for key in [key for column in columns for key in column.foreign_keys]:
        child, parent = key.parent, key.column
        for values in cast(Any, run).compiled_parameters:
            if compiled.isdelete:
                is_meant, asked = parent.table is table, child.in_(values.values())
            else:  # an UPDATE leaves out what it does not change
                value = values.get(child.key)
                is_meant, asked = child.table is table and value is not None, parent == value
            if not is_meant:
                continue
            found = cast(Connection, connection).scalar(select(exists().where(asked)))
            if bool(found) is compiled.isdelete:
                cast(Any, driver).constraint = key.constraint
                return
