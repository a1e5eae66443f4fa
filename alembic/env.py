"""How Alembic runs: on the database of the settings, and under a lock.

The versions use plain types, `sa.String(200)` or `sa.DateTime(timezone=True)`; what those
mean on each of the three databases is said here, once for all versions.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Literal, cast

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy.dialects import mysql
from sqlmodel import SQLModel

import db
import kit
from kit.alterations import refuse_dangling
from kit.engines import know_every_alphabet

LOCK = 20261121  # any number, the same in every process
WAIT = 600  # seconds
TOO_LONG = "another process has been migrating this database for too long"
TRY_LOCK = f"""SELECT pg_try_advisory_xact_lock({LOCK}),
set_config('idle_in_transaction_session_timeout', '0', true)"""
MYSQL = ("mysql", "mariadb")


@contextlib.contextmanager
def locked(connection: sa.Connection) -> Iterator[None]:
    """Let one process migrate at a time; the others find the work done when their turn comes."""
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.isolation_level = None
        know_every_alphabet(driver)  # in generated columns, of a table that is built anew
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")  # which no transaction can
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.commit()
    elif connection.dialect.name == "postgresql":
        # The lock of a transaction, as PgBouncer keeps none of a session; and of another one than
        # the migrations', which a CREATE INDEX CONCURRENTLY ends. That would wait for whoever
        # waited for the lock inside the database.
        with connection.engine.connect() as other:
            for _ in range(10 * WAIT):
                if other.exec_driver_sql(TRY_LOCK).scalar():
                    break
                other.rollback()
                time.sleep(0.1)
            else:
                raise TimeoutError(TOO_LONG)
            yield
    else:
        lock = f"SELECT GET_LOCK(CONCAT(DATABASE(), '-{LOCK}'), {WAIT})"
        if connection.exec_driver_sql(lock).scalar() != 1:
            raise TimeoutError(TOO_LONG)
        connection.commit()
        yield
        connection.commit()
        connection.exec_driver_sql(f"SELECT RELEASE_LOCK(CONCAT(DATABASE(), '-{LOCK}'))")


def fit_the_database(column: sa.Column[Any], table: sa.Table) -> None:
    """Give a column of a version what its plain type means on this database.

    Text is unique and sorted by code point everywhere, as it is on SQLite by itself, and
    spaces at its end count. Times keep their microseconds. Ids are never used again.
    """
    dialect, type_ = context.get_context().dialect, cast(Any, column.type)
    is_text = isinstance(type_, sa.String) and not isinstance(type_, sa.Enum)
    if dialect.name == "sqlite" and column.name == "id":
        table.dialect_options["sqlite"]["autoincrement"] = True
    elif dialect.name == "postgresql" and is_text:
        column.type = type_ = type_.copy()
        type_.collation = "C"
    elif dialect.name in MYSQL and is_text:
        mariadb = getattr(dialect, "is_mariadb", False)
        column.type = type_ = type_.dialect_impl(dialect).copy()
        type_.collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
    elif dialect.name in MYSQL and isinstance(type_, sa.DateTime):
        column.type = mysql.DATETIME(fsp=6)


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write plain `sa.` types into new versions, so that they never depend on models.py."""
    if kind != "type":
        return False
    if isinstance(item, kit.MoneyType):
        return 'sa.Numeric(14, 2).with_variant(sa.Integer(), "sqlite")'
    return f"sa.{item.impl_instance!r}" if isinstance(item, sa.TypeDecorator) else False


def include_name(name: str | None, kind: str, _: Any) -> bool:
    """Leave the indexes for searches alone, which are on PostgreSQL only, and not in models.py."""
    return not (kind == "index" and name and name.endswith("_trgm"))


def include_object(item: Any, _: Any, kind: str, *__: Any) -> bool:
    """Leave out indexes that are not for this database, by their `info`."""
    dialect = context.get_context().dialect.name
    return not (kind == "index" and dialect in item.info.get("not_on", ()))


def drop_tables_whole(_: Any, __: Any, directives: list[Any]) -> None:
    """Leave out of a downgrade what drops the indexes of a table that it drops anyway.

    MariaDB and MySQL refuse to drop an index that a foreign key needs.
    """
    for script in directives:
        steps = script.downgrade_ops.ops
        dropped = {step.table_name for step in steps if isinstance(step, ops.DropTableOp)}
        script.downgrade_ops.ops = [
            step
            for step in steps
            if not (isinstance(step, ops.ModifyTableOps) and step.table_name in dropped)
        ]


# A bare engine: with foreign keys on, SQLite would delete the children of a table that is
# rebuilt ("batch mode"), since a rebuilt table is dropped first.
is_sqlite = db.settings.database_url.startswith("sqlite")
engine = sa.create_engine(
    db.settings.database_url,
    poolclass=sa.NullPool,  # closes the connection, and with it the lock, whatever happens
    connect_args={"timeout": WAIT} if is_sqlite else {},
)
with engine.connect() as connection, locked(connection):
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=True,
        include_name=include_name,
        include_object=include_object,
        render_item=render_item,
        process_revision_directives=drop_tables_whole,
        on_version_apply=refuse_dangling,
        transactional_ddl=connection.dialect.name not in MYSQL,
    )
    sa.event.listen(sa.Column, "after_parent_attach", fit_the_database)
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        sa.event.remove(sa.Column, "after_parent_attach", fit_the_database)
