"""The database: settings, errors, engines, sessions, the transaction route, async, migrations.

A route is a plain function that takes `session: Read` or `session: Write`, and runs in one
piece in a worker thread. With `Write` it is one transaction: committed when it returns, before
the answer is sent; rolled back when it raises; run again from its start when the database
asks for that (a deadlock, a lost connection). With `Read` each statement is for itself. So
routes contain no commit, no rollback and no retry.
"""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import itertools
import json
import logging
import os
import queue
import random
import re
import socket
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit

import alembic.command
from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import Depends, HTTPException, Request, Response, params
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticUndefined as Undefined
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import (
    ColumnElement,
    Connection,
    Constraint,
    Dialect,
    Engine,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    exists,
    func,
    make_url,
    text,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.schema import ColumnCollectionConstraint
from sqlmodel import Session, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("cornershop")

# Settings -------------------------------------------------------------------------------

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


HOST = r"[^/?@:,[]+(?::\d+)?"
SEVERAL_HOSTS = re.compile(
    rf"(postgres[^/]*://(?:[^/?@]*@)?)({HOST}(?:,{HOST})+)(/[^?]*)(?:\?(.*))?"
)


def name_each_host(url: str) -> str:
    """Several hosts as SQLAlchemy names them, `//user@/name?host=h1:p1&host=h2:p2`.

    PostgreSQL's own way, which is in its manual, is `//user@h1:p1,h2:p2/name`.
    """
    if not (found := SEVERAL_HOSTS.fullmatch(url)):
        return url
    start, hosts, name, query = found.groups()
    each = [f"host={host}" for host in hosts.split(",")]
    return f"{start}{name}?{'&'.join(filter(None, [*each, query]))}"


def split_origins(setting: str) -> list[str]:
    """The origins in CORS_ORIGINS; none in an empty one."""
    return [origin for origin in map(str.strip, setting.split(",")) if origin]


class Settings(BaseSettings):
    """Read from the environment and from a file `.env`; the names are those of the fields."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: str = "sqlite:///./app.db"
    database_read_url: str | None = None
    database_echo: bool = False
    db_pool_size: int = Field(10, ge=1, le=1000)
    db_max_overflow: int = Field(5, ge=0, le=1000)
    db_pool_timeout: float = Field(10, gt=0, le=3600)  # seconds
    db_pool_recycle: int = Field(1800, ge=1)  # seconds
    migrate_on_start: bool = True
    secret_key: SecretStr | None = None  # that signs tokens
    token_ttl: int = Field(3600, ge=1, le=366 * 24 * 3600)  # seconds
    cors_origins: str = ""  # separated by commas
    max_body_size: int = Field(1024 * 1024, ge=1)  # bytes
    app_name: str = Field("Cornershop API", min_length=1)
    debug: bool = False

    @field_validator("database_url", "database_read_url")
    @classmethod
    def usual_url(cls, value: str | None) -> str | None:
        """Take the usual URLs, without a driver's name in them."""
        if value is None:
            return None
        try:
            url = make_url(name_each_host(value))
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL such as sqlite:///./app.db") from None
        driver = DRIVERS.get(url.drivername, url.drivername)
        if driver not in DRIVERS.values():
            raise ValueError("has to begin with sqlite://, postgresql://, mysql:// or mariadb://")
        if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
            raise ValueError("has to name a file: sqlite:///./app.db")
        if not url.database:
            raise ValueError("has to name a database: postgresql://user:password@host/name")
        return url.set(drivername=driver).render_as_string(hide_password=False)

    @field_validator("secret_key")
    @classmethod
    def long_key(cls, value: SecretStr | None) -> SecretStr | None:
        """A key for HS256 has at least 256 bits (RFC 7518, section 3.2); an empty one is none."""
        secret = value.get_secret_value() if value else ""
        if secret.encode("utf-8", "ignore").decode() != secret:
            raise ValueError("has to be text in UTF-8")
        if 0 < len(secret) < 32:
            raise ValueError("has to have at least 32 characters")
        return value if secret else None

    @field_validator("cors_origins")
    @classmethod
    def web_origins(cls, value: str, others: ValidationInfo) -> str:
        """Origins as browsers send them (RFC 6454, section 6.2)."""
        for origin in split_origins(value):
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+", origin):
                raise ValueError("has to have origins such as https://shop.example, or be *")
            if origin == "*" and others.data.get("secret_key", "a bad one") is None:
                raise ValueError("cannot be * without a SECRET_KEY: any site could do everything")
        return value


def read_settings() -> Settings:
    """The settings, or the end of the process with one line that says what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = (
            f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False)
        )
        sys.exit("Bad setting: " + "; ".join(line.replace("Value error, ", "") for line in wrong))


settings = read_settings()

# Errors ---------------------------------------------------------------------------------


class BusyError(Exception):
    """The database cannot be had in time: 503, to be tried again later."""


class ConflictError(Exception):
    """A unique or foreign-key constraint refused a change: 409, with a sentence about it."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class InvalidValueError(Exception):
    """A CHECK constraint or a column's type refused a value: 422."""


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


def explain(error: Exception, connection: Connection | None = None) -> Exception | None:
    """What a client should be told about a database error; None: nothing, it is a fault.

    The connection is one to look at the table with, where there can be no other.
    """
    kind = kind_of(error)
    if kind in ("retry", "busy", "read-only"):
        return BusyError("The database is busy or away. Please try again.")
    if kind == "not migrated":  # or a replica has not heard of it
        return BusyError("The database is not at the newest migration. Please try again later.")
    error = cast(DBAPIError, error)
    constraint = constraint_of(error) if kind else None
    columns = list(constraint.columns) if isinstance(constraint, ColumnCollectionConstraint) else []
    fields = [str(column.info.get("field", column.name)) for column in columns] or ["A value"]
    if kind == "invalid":
        return InvalidValueError(f"{fields[0]} is out of range")
    if kind != "conflict":
        return None
    if not isinstance(constraint, ForeignKeyConstraint):
        fields = first_taken(error, connection) or fields
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


def first_taken(error: DBAPIError, connection: Connection | None) -> list[str]:
    """The fields of the first unique constraint, in the order of the fields, that is violated.

    Where several are, each database names another one. So all are looked at here, once the
    transaction has been rolled back: among the rows of the statement, and in the table. Should
    that fail, there is still what the database said.
    """
    run: Any = getattr(error.orig, "run", None)
    table = getattr(run and run.compiled.statement, "table", None)
    if not isinstance(table, Table):
        return []
    places = {column.name: n for n, column in enumerate(table.columns)}
    unique = [
        [(column, str(column.info.get("field", column.name))) for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    with (
        contextlib.suppress(SQLAlchemyError),
        contextlib.nullcontext(connection) if connection else writer.engine.connect() as looking,
    ):
        for columns in sorted(unique, key=lambda pairs: places[pairs[0][1]]):
            seen = set()
            for row in run.compiled_parameters:
                values = [row.get(field) for _, field in columns]
                if None in values:
                    continue
                # A generated column is the lower case of its field.
                values = [
                    v.lower() if c.computed else v
                    for (c, _), v in zip(columns, values, strict=True)
                ]
                same = [column == value for (column, _), value in zip(columns, values, strict=True)]
                if (id := row.get(f"{table.name}_id")) is not None:  # of the row of an UPDATE
                    same.append(table.columns["id"] != id)
                if (*values,) in seen or looking.scalar(select(exists().where(*same))):
                    return [field for _, field in columns]
                seen.add((*values,))
    return []


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
    for key in [key for table in SQLModel.metadata.sorted_tables for key in table.foreign_keys]:
        child, parent = key.parent, key.column
        for values in cast(Any, run).compiled_parameters:
            if compiled.isdelete and parent.table is compiled.statement.table:
                asked, broken_if_found = child.in_(values.values()), True
            elif not compiled.isdelete and child.table is compiled.statement.table:
                asked, broken_if_found = parent == values.get(child.key), False
            else:
                continue
            found = cast(Connection, connection).scalar(select(exists().where(asked)))
            if bool(found) is broken_if_found and values.get(child.key, True) is not None:
                cast(Any, driver).constraint = key.constraint
                return


# Engines --------------------------------------------------------------------------------


def new_engine(url: str, size: int, overflow: int, *, writes: bool) -> Engine:
    """An engine for one of the three databases, with its time-outs set and its clock on UTC."""
    engine = create_engine(
        url, poolclass=QueuePool, **engine_options(url, size, overflow, writes=writes)
    )
    event.listen(engine, "handle_error", note_statement)
    prepare_connections(engine, writes=writes)
    return engine


SERVERS_MEANT = {"read-write": "primary", "read-only": "standby"}


def engine_options(url: str, size: int, overflow: int, *, writes: bool) -> dict[str, Any]:
    dialect, query = make_url(url).get_backend_name(), make_url(url).query
    options: dict[str, Any] = {}
    connect_args = driver_options(dialect, writes=writes)
    # A session that can only read is "read-only" to libpq, whatever server it is on.
    if not writes and (server := SERVERS_MEANT.get(str(query.get("target_session_attrs")))):
        connect_args["target_session_attrs"] = server
    if not writes:  # a single SELECT needs no BEGIN and no ROLLBACK around it
        options = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    elif dialect in ("mysql", "mariadb"):
        options = {"isolation_level": "READ COMMITTED"}  # as on PostgreSQL; fewer locks
    return {
        "pool_size": size,
        "max_overflow": overflow,
        "pool_timeout": settings.db_pool_timeout,
        "pool_recycle": settings.db_pool_recycle,
        "echo": settings.database_echo,
        "hide_parameters": True,  # among them are the hashes of passwords
        "connect_args": connect_args,
        **options,
    }


@event.listens_for(Engine, "do_connect")
def create_private_file(
    dialect: Dialect, _: object, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Before SQLite creates a file that the umask lets others read: in it are users' data.

    What comes beside it, `-wal` and `-shm`, has the same mode then. A file that exists keeps its.
    """
    if dialect.name != "sqlite":
        return
    name = str(arguments[0])
    if options.get("uri"):  # sqlite:///file:app.db?uri=true
        parts = urlsplit(name)
        name = unquote(parts.path) if parse_qs(parts.query).get("mode", ["rwc"]) == ["rwc"] else ""
    if name in ("", ":memory:"):
        return
    with contextlib.suppress(OSError):  # it exists; of what else is wrong SQLite tells
        os.close(os.open(os.path.realpath(name), os.O_CREAT | os.O_EXCL, 0o600))


def prepare_connections(engine: Engine, *, writes: bool) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", functools.partial(prepare_sqlite, writes=writes))
        event.listen(engine, "handle_error", name_the_foreign_key)
        if writes:
            event.listen(engine, "begin", begin_immediate)
    elif engine.dialect.name != "postgresql" and not writes:
        event.listen(engine, "connect", forbid_writing)


def driver_options(dialect: str, *, writes: bool) -> dict[str, Any]:
    """What the driver is told: whole seconds of DB_POOL_TIMEOUT for locks and statements."""
    seconds = max(1, round(settings.db_pool_timeout))
    to_connect = max(2, seconds // 2)
    if dialect == "sqlite":
        return {"timeout": settings.db_pool_timeout, "check_same_thread": False}
    if dialect == "postgresql":
        values = {
            "timezone": "UTC",
            "lock_timeout": f"{seconds}s",
            "statement_timeout": f"{seconds}s",
            "default_transaction_read_only": "off" if writes else "on",
        }
        options = " ".join(f"-c {name}={value}" for name, value in values.items())
        return {"connect_timeout": to_connect, "options": options}
    return {
        "connect_timeout": to_connect,
        "read_timeout": seconds + 1,
        "write_timeout": seconds + 1,
        "charset": "utf8mb4",
        "init_command": "SET time_zone = '+00:00', sql_mode = 'TRADITIONAL',"
        f" innodb_lock_wait_timeout = {seconds}",
    }


def forbid_writing(connection: Any, _: object) -> None:
    """On MariaDB and MySQL, for reading; the other two have a setting for it."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY")


def prepare_sqlite(connection: sqlite3.Connection, record: object, *, writes: bool) -> None:
    """SQLite as a server's database: see its documentation under "PRAGMA Statements"."""
    connection.isolation_level = None  # Python's module would begin transactions by itself
    use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")  # what is committed is on the disk
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    # Its own lower() knows ASCII only.
    connection.create_function("lower", 1, lower, deterministic=True)


def use_wal(connection: sqlite3.Connection) -> None:
    """Let readers never wait for the writer (SQLite, "Write-Ahead Logging").

    The database stays so. While another process writes to one that is not so yet, or makes it so,
    SQLite says at once that it is locked, whatever its busy time-out.
    """
    until = time.monotonic() + settings.db_pool_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


class LowerCase(FunctionElement[str]):
    """A text in lower case, in every alphabet; with one small sigma, of the two in Greek."""

    type = String()
    inherit_cache = True


@compiles(LowerCase)
def lower_case(element: LowerCase, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    if compiler.dialect.name == "postgresql":  # whose columns, sorted by "C", know ASCII only
        text += ' COLLATE "und-x-icu"'
    return f"replace(lower({text}), 'ς', 'σ')"  # noqa: RUF001


def begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock at once.

    With its plain BEGIN two transactions could read the same stock, then both write it:
    SQLite has no SELECT ... FOR UPDATE.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Job(NamedTuple):
    """Something to do for somebody who waits for what comes of it."""

    work: Callable[..., Any]
    future: asyncio.Future[Any]
    alone: bool  # whether it may take long, so that nobody's commit should wait for it

    def do(self, *arguments: Any) -> Callable[[], None]:
        """Do it, and return how to tell what came of it."""
        try:
            return functools.partial(self.future.set_result, self.work(*arguments))
        except StopIteration as error:  # which no future can have
            return functools.partial(self.future.set_exception, RuntimeError(repr(error)))
        except BaseException as error:
            return functools.partial(self.future.set_exception, error)

    def tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.future.get_loop().call_soon_threadsafe(settle, self.future, what)


class Threads:
    """Threads that take one job after the other from one queue, first come first served.

    concurrent.futures.ThreadPoolExecutor does the same with a lock, a condition and two futures
    for each job, which take a tenth of the time of a request for one row.
    """

    def __init__(self, most: int, name: str) -> None:
        self.most, self.name, self.started = most, name, 0
        self.jobs = queue.SimpleQueue[Job]()

    async def run(self, work: Callable[..., Any], *, alone: bool = False) -> Any:
        """What comes of the work; it is done to its end also when its caller is cancelled."""
        if self.started < self.most:
            name = f"{self.name} {self.started + 1}"
            threading.Thread(target=self.work, name=name, daemon=True).start()
            self.started += 1
        future = asyncio.get_running_loop().create_future()
        self.jobs.put(Job(work, future, alone))
        return await future

    def work(self) -> None:
        while True:
            job = self.jobs.get()
            job.tell(job.do())
            del job


class CommonCommits(Threads):
    """The thread of SQLite's one writer, where those who wait together commit together.

    A commit waits until the disk has it, which takes longer than most of what is written. So
    each has a savepoint in a transaction of all, and is told what came of it after the commit.
    """

    LONGEST = 0.02  # seconds for which others may join, while the first one waits

    def __init__(self, engine: Engine) -> None:
        super().__init__(1, "writer")
        self.engine = engine

    def work(self) -> None:
        next_job: Job | None = None
        while True:
            next_job = self.work_together(next_job or self.jobs.get())

    def work_together(self, job: Job) -> Job | None:
        """Do the job and those that wait; return one that was taken and not done."""
        done, next_job = [(job, cast(Any, None))], None
        try:
            with self.engine.begin() as connection:
                until = time.monotonic() + self.LONGEST
                done[0] = job, job.do(connection)
                while True:
                    # SQLite undoes all of a transaction when a statement in it is interrupted,
                    # or the disk is full: see "ROLLBACK" in its documentation.
                    if not cast(Any, connection.connection.dbapi_connection).in_transaction:
                        raise BusyError(SILENT)
                    if time.monotonic() > until or self.jobs.empty():
                        break
                    next_job = self.jobs.get()
                    if next_job.alone:
                        break
                    done.append((next_job, next_job.do(connection)))
                    next_job = None
        except Exception as error:
            failure = error
            if isinstance(error, SQLAlchemyError) and (explained := explain(error)):
                failure = explained
                failure.__cause__ = error
            done = [(job, functools.partial(job.future.set_exception, failure)) for job, _ in done]
        for job, told in done:
            job.tell(told)
        return next_job


def settle(future: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    if not future.done():
        tell()


class Database:
    """An engine, and as many threads as it has connections.

    A request waits in the threads' queue, first come first served, and never for a
    connection while it holds a thread: that is how a service with more clients than
    connections comes to a standstill.
    """

    def __init__(self, url: str, *, writes: bool) -> None:
        size, overflow = settings.db_pool_size, settings.db_max_overflow
        if writes and make_url(url).get_backend_name() == "sqlite":
            size, overflow = 1, 0  # SQLite has one writer at a time: here they queue up in order
        self.engine = new_engine(url, size, overflow, writes=writes)
        self.capacity = size + overflow
        if writes and self.engine.dialect.name == "sqlite":
            self.threads: Threads = CommonCommits(self.engine)
        else:
            self.threads = Threads(self.capacity, "writer" if writes else "reader")

    async def run(self, work: Callable[[], Any], session: Session) -> Any:
        """Do the work in a thread, as one transaction of the session.

        Raises BusyError when the request has no `time_left` in the queue, and in any case 4
        seconds after that, or after the last `allow_more_time`: whatever the database does, a
        client gets an answer.
        """
        loop, left = asyncio.get_running_loop(), time_left(session.info["request"])
        session.info["committing"], latest = False, time.monotonic() + left
        job = functools.partial(contextvars.copy_context().run, transact, work, session, latest)
        try:
            async with asyncio.timeout(left + 4) as clock:
                session.info["clock"] = clock, loop
                return await self.threads.run(job, alone=session.info.get("alone", False))
        except (TimeoutError, asyncio.CancelledError) as error:
            session.info["abandoned"] = True
            hang_up(session.info.get("connection"))
            if isinstance(error, asyncio.CancelledError):
                raise
            raise BusyError(UNKNOWN if session.info.get("committing") else SILENT) from None


def time_left(request: Request) -> float:
    """For how many seconds a request may go on to wait: DB_POOL_TIMEOUT since its first session."""
    begun: float = request.scope.setdefault("begun", time.monotonic())
    return begun + settings.db_pool_timeout - time.monotonic()


def restart_time(request: Request) -> None:
    """Start the time of a request anew, after what may take as long as the client takes."""
    request.scope["begun"] = time.monotonic()


def is_psycopg(connection: Any) -> bool:
    """Without an import: on other databases it would take 9 MB for nothing."""
    return type(connection).__module__.startswith("psycopg")


SILENT = "The database did not answer in time. Please try again."
UNKNOWN = "The database did not say whether this was stored. Please look before trying again."


def hang_up(connection: Any) -> None:
    """End what a thread waits for, from outside, so that the thread is free again.

    psycopg has no read time-out: a server that is connected and never answers would keep it
    for ever. SQLite stops a query that takes too long. PyMySQL has a time-out of its own.
    """
    if hasattr(connection, "interrupt"):  # sqlite3
        connection.interrupt()
    elif is_psycopg(connection):
        import psycopg

        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)


@event.listens_for(Session, "after_begin")
def note_connection(session: Session, _: object, connection: Connection) -> None:
    """Note which connection a session uses, for `hang_up`; use none when nobody waits any more."""
    session.info["connection"] = connection.connection.dbapi_connection
    if "abandoned" in session.info:
        raise BusyError(SILENT)


MOST_ATTEMPTS = 50


def transact(
    work: Callable[[], Any], session: Session, latest: float, connection: Connection | None = None
) -> Any:
    """Run the work in the session's transaction and commit it, again where that can help.

    On a connection that is lent to it, in a transaction already, what it commits is a savepoint.

    The work is done anew from its start, on a fresh transaction, after a deadlock, a
    serialization failure, a row that changed meanwhile, a connection that was lost before
    the commit, or a conflict that it asked to be run again for (see `retry_on_conflict`).
    """
    failure: Exception = BusyError("Too many requests are waiting. Please try again.")
    session.bind = connection or session.bind
    for attempt in itertools.count(1):
        if time.monotonic() > latest or "abandoned" in session.info:
            raise failure
        try:
            return attempt_once(work, session)
        except (DBAPIError, StaleDataError, PoolTimeoutError) as error:
            kind, explained = kind_of(error), explain(error, connection)
            if explained is None:
                raise
            if kind == "read-only" and session.bind is reader.engine:
                raise RuntimeError("A route that writes has to take `session: Write`") from error
            failure = explained
            failure.__cause__ = error
            if session.info["committing"] and getattr(error, "connection_invalidated", False):
                raise BusyError(UNKNOWN) from error
            again = kind == "retry"
            if isinstance(failure, ConflictError) and failure.field in session.info["retry_on"]:
                again, failure = True, BusyError("Others are changing the same. Please try again.")
                failure.__cause__ = error
            if not again or attempt == MOST_ATTEMPTS:
                raise failure from error
        if not connection:  # which would be kept from others
            time.sleep(random.uniform(0, 0.01) * min(attempt, 10))  # noqa: S311
    raise AssertionError("the loop ends by itself")


def attempt_once(work: Callable[[], Any], session: Session) -> Any:
    session.info |= {"retry_on": set(), "committing": False}
    with session:
        try:
            result = work()
            session.flush()
            if "abandoned" in session.info:  # do not commit what a client was told has failed
                raise BusyError(SILENT)
            session.info["committing"] = True
            if session.bind is not reader.engine:  # which is in AUTOCOMMIT
                session.commit()
            return result
        finally:
            session.info.pop("connection", None)  # before another session gets it


def expect_many_rows(session: Session) -> None:
    """Have every statement of the transaction planned for the rows that are there by then.

    PostgreSQL (its manual, "PREPARE") would keep a plan that it made while a table was small,
    and read all of it each time.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def allow_more_time(session: Session) -> None:
    """Start the time of the request anew, in work on many rows that has got further."""
    if "abandoned" in session.info:
        raise BusyError(SILENT)
    clock, loop = session.info["clock"]

    def restart() -> None:
        with contextlib.suppress(RuntimeError):  # it has just run out
            clock.reschedule(loop.time() + settings.db_pool_timeout + 4)

    loop.call_soon_threadsafe(restart)


def retry_on_conflict(session: Session, field: str) -> None:
    """Have the work run again, should this field turn out to be in conflict.

    For values that were made up, and choices that were made, by us and not by the client,
    who should not be told of a conflict when another transaction was first.
    """
    session.info["retry_on"].add(field)


def open_databases() -> tuple[Database, Database]:
    """The two databases that the settings name: the one to write to, the one to read from."""
    reads_from = settings.database_read_url or settings.database_url
    return Database(settings.database_url, writes=True), Database(reads_from, writes=False)


writer, reader = open_databases()


def disconnect() -> None:
    """Close the connections that are not in use, but for those of `async_engine`."""
    writer.engine.dispose()
    reader.engine.dispose()


def pool_use() -> dict[str, int]:
    """How many connections both pools may have, and have; asks no database."""
    pools = [cast(QueuePool, database.engine.pool) for database in (writer, reader)]
    idle, used = sum(p.checkedin() for p in pools), sum(p.checkedout() for p in pools)
    return {
        "pool_size": writer.capacity + reader.capacity,
        "checked_in": idle,
        "checked_out": used,
        "overflow": sum(max(0, pool.overflow()) for pool in pools),
        "total_connections": idle + used,
    }


# Sessions -------------------------------------------------------------------------------


async def read_session(request: Request, response: Response) -> Session:
    """A session that can only read, each statement for itself; maybe on a replica."""
    return new_session(reader, request, response)


async def write_session(request: Request, response: Response) -> Session:
    """A session whose statements are one transaction."""
    return new_session(writer, request, response)


async def long_session(request: Request, response: Response) -> Session:
    """The same for what may take long: on SQLite, nobody's commit waits for its end."""
    session = new_session(writer, request, response)
    session.info["alone"] = True
    return session


def new_session(database: Database, request: Request, response: Response) -> Session:
    # Not expired on commit: the answer is made from the rows as they were committed, and an
    # expired one would cost another query. In its info a session knows the request that it is
    # for, the response whose headers it sets, and what `transact` and `hang_up` need.
    time_left(request)  # which begins now
    info = {"database": database, "request": request, "response": response}
    joins: Any = {"join_transaction_mode": "create_savepoint"}  # see CommonCommits
    return Session(database.engine, expire_on_commit=False, info=info, **joins)


Read = Annotated[Session, Depends(read_session)]
Write = Annotated[Session, Depends(write_session)]
WriteLong = Annotated[Session, Depends(long_session)]


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def is_one_text(field: ModelField) -> bool:
    """Whether a parameter, or each of a model of them, is one text and has a fixed default."""
    model: Any = field.field_info.annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        infos = list(model.model_fields.values())
        simple = all(info.alias is None and info.validation_alias is None for info in infos)
    else:
        infos, simple = [field.field_info], True
    types = [info.annotation for info in infos]
    return simple and not any(
        field_annotation_is_sequence(type) or info.default_factory
        for type, info in zip(types, infos, strict=True)
    )


class Parameter:
    """A parameter of a path or a query, or a model of several, as FastAPI would read it."""

    def __init__(self, field: ModelField) -> None:
        info = cast(params.Param, field.field_info)
        self.field, self.default = field, field.get_default()
        self.place = info.in_.value, field.validation_alias or field.alias
        model: Any = info.annotation
        self.is_model = isinstance(model, type) and issubclass(model, BaseModel)
        self.names = list(model.model_fields) if self.is_model else []

    def read(self, sent: Mapping[str, Any], values: dict[str, Any], errors: list[Any]) -> None:
        name = self.field.name
        wrong: list[Any] = []
        if self.is_model:
            value: Any = {name: sent[name] for name in self.names if name in sent}
            values[name], wrong = self.field.validate(value, loc=self.place[:1])
        elif (value := sent.get(self.place[1])) is not None:
            values[name], wrong = self.field.validate(value, loc=self.place)
        elif self.default is Undefined:
            wrong = [{"type": "missing", "loc": self.place, "msg": "Field required"}]
        else:
            values[name] = self.default
        errors += wrong


class TransactionRoute(APIRoute):
    """A route whose function, if it takes a `session`, runs as one transaction in a thread."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        parameters = inspect.signature(endpoint).parameters.values()
        sessions = [p for p in parameters if get_args(p.annotation)[:1] == (Session,)]
        self.new_session = None
        if sessions:
            if [p.name for p in sessions] != ["session"] or inspect.iscoroutinefunction(endpoint):
                raise TypeError(f"{endpoint.__name__} has to be a plain def with one `session`")
            self.new_session = get_args(sessions[0].annotation)[1].dependency
            endpoint = self.in_transaction(endpoint)
        super().__init__(path, endpoint, **options)
        if self.is_plain:
            self.app = self.short_app(self.get_route_handler())

    def in_transaction(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The function that FastAPI calls: it takes what the session is made of, not the session.

        As a dependency the session would cost FastAPI more time than most queries take.
        """
        new_session = cast(Any, self.new_session)
        signature = inspect.signature(endpoint)
        made_of = inspect.signature(new_session).parameters
        # A request and a response are there already, whatever the function calls them.
        known = {p.annotation: p.name for p in made_of.values()}
        taken = [p for p in signature.parameters.values() if p.name != "session"]
        own = {p.name: known.get(p.annotation, p.name) for p in taken}

        @functools.wraps(endpoint)
        async def call(**values: Any) -> Any:
            session: Session = await new_session(**{name: values[name] for name in made_of})
            values = {name: values[sent_as] for name, sent_as in own.items()}
            values["session"] = session
            work = functools.partial(self.work, endpoint, values)
            return await session.info["database"].run(work, session)

        more = [p for p in taken if p.annotation not in known]
        by_name = [p.replace(kind=p.KEYWORD_ONLY) for p in [*made_of.values(), *more]]
        whole: Any = call
        whole.__signature__ = signature.replace(parameters=by_name)
        return call

    def get_route_handler(self) -> Handler:
        """FastAPI's own handler or, for a route that needs no more of it, a shorter way.

        FastAPI solves a graph of dependencies for each request, in several contexts, which takes
        as long as a query. A route that has a session and no dependencies gets its arguments
        and its answer from FastAPI's own functions too, but from nothing else.
        """
        dependant = self.dependant
        self.is_plain = not (
            self.new_session is None
            or dependant.dependencies
            or dependant.cookie_params
            or dependant.background_tasks_param_name
            or dependant.security_scopes_param_name
            or dependant.http_connection_param_name
            or isinstance(self.body_field and self.body_field.field_info, params.Form)
            or not all(map(is_one_text, dependant.path_params + dependant.query_params))
            or not isinstance(self.response_class, DefaultPlaceholder)
            or not (self.response_field or self.status_code == 204)
            or self.response_model_include
            or self.response_model_exclude
            or self.response_model_exclude_unset
            or self.response_model_exclude_defaults
            or self.response_model_exclude_none
            or not self.response_model_by_alias
            or self.max_body_size is not None
        )
        return self.short_handler(dependant) if self.is_plain else super().get_route_handler()

    def short_handler(self, dependant: Dependant) -> Handler:
        call, answers_with = cast(Any, dependant.call), self.response_field
        in_path = [Parameter(field) for field in dependant.path_params]
        in_query = [Parameter(field) for field in dependant.query_params]

        async def handle(request: Request) -> Response:
            response, errors = Response(), list[Any]()
            headers = response.headers
            del headers["content-length"]
            values: dict[str, Any] = {"request": request, "response": response}
            for parameter in in_path:
                parameter.read(request.path_params, values, errors)
            if in_query:
                sent = request.query_params if request.scope["query_string"] else {}
                for parameter in in_query:
                    parameter.read(sent, values, errors)
            if dependant.header_params:
                more, wrong = request_params_to_args(dependant.header_params, request.headers)
                values |= more
                errors += wrong
            if dependant.body_params:
                more, wrong = await request_body_to_args(
                    dependant.body_params, await sent_json(request), self._embed_body_fields
                )
                values |= more
                errors += wrong
            if errors:
                raise RequestValidationError(errors)
            answer, content = await call(**values), b""
            if isinstance(answer, Response):
                return answer
            if answers_with:
                answer, errors = answers_with.validate(answer, loc=("response",))
                if errors:
                    raise ResponseValidationError(errors)
                content = answers_with.serialize_json(answer)
                headers["content-type"] = "application/json"
            return Response(content, self.status_code or 200, headers)

        return handle

    def short_app(self, handle: Handler) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await handle(Request(scope, receive))
            await response(scope, receive, send)

        return app

    def work(self, endpoint: Callable[..., Any], values: dict[str, Any]) -> Any:
        """What is done in the transaction; a subclass may do more than call the function."""
        return endpoint(**values)


async def sent_json(request: Request) -> Any:
    """The body, which is text in JSON; as it is, if it is said to be something else.

    Raises RequestValidationError for one that is no JSON, and 400 when the client goes away.
    """
    try:
        body = await request.body()
        sent_as = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and (sent_as == "application/json" or JSON_LIKE.fullmatch(sent_as)):
            return await request.json()
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
        raise RequestValidationError([wrong]) from None
    except ClientDisconnect:
        raise HTTPException(400, "The body did not come whole") from None
    return body or Undefined


JSON_LIKE = re.compile(r"application/[^/]+\+json")

# Async ----------------------------------------------------------------------------------

ASYNC_DRIVERS = {  # psycopg is its own
    "sqlite+pysqlite": "sqlite+aiosqlite",
    "mysql+pymysql": "mysql+aiomysql",
    "mariadb+pymysql": "mariadb+aiomysql",
}


@functools.cache
def async_engine() -> AsyncEngine:
    """An engine for `async def`, which can only read; made when it is first needed.

    It is on the database that is written to, where a `Feed` can see who is writing.
    """
    url = make_url(settings.database_url)
    url = url.set(drivername=ASYNC_DRIVERS.get(url.drivername, url.drivername))
    options = engine_options(
        settings.database_url, settings.db_pool_size, settings.db_max_overflow, writes=False
    )
    for name in ("read_timeout", "write_timeout"):  # which aiomysql does not have
        options["connect_args"].pop(name, None)
    engine = create_async_engine(url, **options)
    prepare_connections(engine.sync_engine, writes=False)
    return engine


async def async_session() -> AsyncIterator[AsyncSession]:
    """A session for an `async def` route: it can only read, each statement for itself.

    Raises BusyError when the database cannot be had, or does not answer in time.
    """
    limit, session = settings.db_pool_timeout + 4, AsyncSession(async_engine())
    timer = asyncio.get_running_loop().call_later(limit, hang_up_async, session)
    try:
        async with asyncio.timeout(limit + 0.5) as clock, session:
            yield session
    except TimeoutError:
        if clock.expired():
            raise BusyError(SILENT) from None
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        if kind_of(error) == "read-only":
            raise RuntimeError("A route that writes has to be a plain def with `Write`") from error
        raise explain(error) or error from error
    finally:
        timer.cancel()


def hang_up_async(session: AsyncSession) -> None:
    """End what psycopg waits for: to be cancelled, it would wait for the same silent server."""
    connection = getattr(session.sync_session.info.get("connection"), "driver_connection", None)
    if is_psycopg(connection):
        hang_up(connection)


AsyncRead = Annotated[AsyncSession, Depends(async_session, scope="function")]
async_reading = contextlib.asynccontextmanager(async_session)


async def disconnect_async() -> None:
    """Close the connections of `async_engine`, if it was needed."""
    if async_engine.cache_info().currsize:
        await async_engine().dispose()


class Gap(NamedTuple):
    """Ids that are missing, and perhaps on their way."""

    last: int  # the row up to which they are missing
    since: float  # by time.monotonic()
    writers: set[str]  # the transactions that may be bringing them, on PostgreSQL


Condition = Callable[[], list[ColumnElement[bool]]]


class Feed:
    """The rows of a table as they are committed, in the order of their ids, to many listeners.

    One task reads for all of them, several times a second as long as there is a listener. So
    a listener holds no connection and no thread, and costs nothing while nothing happens.

    Ids are given when rows are inserted, so a row may be committed after one with a higher
    id. Were that one sent at once, a client that resumes after it would miss the other. So
    what comes after a gap is held back, until no transaction is left that could fill the gap.
    """

    POLL_INTERVAL = 0.25  # seconds
    MIN_GAP_AGE = 1.0  # seconds that MariaDB and MySQL may take from giving an id to its lock
    MAX_GAP_AGE = 60.0  # seconds that a transaction may take to fill a gap
    LOOK_BACK = 10_000  # ids before the newest that may be on their way when reading begins
    BATCH_SIZE = 500  # rows
    SPREAD = 0.0005  # seconds for each listener, over which they are all served

    def __init__(self, model: Any) -> None:
        self.model, self.id = model, model.__table__.c.id
        self.lock, self.changed = asyncio.Lock(), asyncio.Event()
        self.listeners, self.closed = 0, False
        self.task: asyncio.Task[None] | None = None
        self.settled = 0  # no row up to this id is to come any more
        self.recent: deque[Any] = deque(maxlen=1000)  # the last settled rows
        self.recent_after = 0  # the id after which `recent` has all of them
        self.gap: Gap | None = None

    async def join(self, after: int | None, only: Condition = list) -> AsyncGenerator[Any]:
        """The rows after this id, or from now on, without an end.

        `only` says which of the rows this listener needs, and is asked before each query: of
        those that it missed no others are read. Those from memory are for the listener to filter.
        Raises BusyError when the database cannot be had now; later that only means a pause.
        """
        async with async_reading() as session, self.lock:
            if not self.listeners:
                await self.start(session)
            await self.poll(session)
            if after is not None:
                return self.rows(after, set(), only)
            committed = select(self.id).where(self.id > self.settled, *only())
            return self.rows(self.settled, set(await session.exec(committed)), only)

    async def rows(self, after: int, known: set[int], only: Condition) -> AsyncGenerator[Any]:
        """The rows after this id, but for those that are known."""
        self.listeners, following = self.listeners + 1, False
        try:
            while not self.closed:
                if self.task is None or self.task.done():
                    self.task = asyncio.create_task(self.keep_polling())
                if self.settled <= after:
                    following = True
                    await self.changed.wait()
                    # One after the other, so that other requests get their turn in between.
                    await asyncio.sleep(self.listeners * self.SPREAD * random.random())  # noqa: S311
                    continue
                try:  # to its end, also when the listener goes: else the connection is lost
                    next_rows = self.settled_after(after, only, following=following)
                    rows, after = await asyncio.shield(next_rows)
                except Exception as error:
                    await self.pause(error)
                    continue
                for row in rows:
                    if row.id not in known:
                        yield row
        finally:
            self.listeners -= 1

    def close(self) -> None:
        """End every listener's rows."""
        self.closed = True
        self.changed.set()

    async def pause(self, error: Exception) -> None:
        name, cause = self.model.__name__, error.__cause__ or error
        logger.warning("no news of %s for now: %s", name, cause)
        await asyncio.sleep(1)

    async def keep_polling(self) -> None:
        while self.listeners and not self.closed:
            try:
                async with async_reading() as session, self.lock:
                    await self.poll(session)
            except Exception as error:  # whatever it is, the listeners wait for what comes next
                await self.pause(error)
            await asyncio.sleep(self.POLL_INTERVAL)

    async def settled_after(
        self, after: int, only: Condition, *, following: bool
    ) -> tuple[list[Any], int]:
        """The next settled rows after an id, and the id up to which these are all.

        From memory for those who follow; who comes back gets what the table has by now.
        """
        upto = self.settled
        if following and self.recent_after <= after:
            return [row for row in self.recent if row.id > after], upto
        query = select(self.model).where(self.id > after, self.id <= upto, *only())
        async with async_reading() as session, self.lock:
            rows = list(await session.exec(query.order_by(self.id).limit(self.BATCH_SIZE)))
        return rows, rows[-1].id if len(rows) == self.BATCH_SIZE else upto

    async def start(self, session: AsyncSession) -> None:
        """Begin after the newest row or, where ids before it are missing, with that gap."""
        newest = (await session.exec(select(func.max(self.id)))).first() or 0
        begin = max(0, newest - self.LOOK_BACK)
        between = select(func.count()).where(self.id > begin, self.id <= newest)
        missing = (await session.exec(between)).one() < newest - begin
        self.settled = self.recent_after = begin if missing else newest
        self.gap = None
        if missing:
            self.gap = Gap(newest, time.monotonic(), await self.writers(session))
        self.recent.clear()

    async def poll(self, session: AsyncSession) -> None:
        """Read what is new, and settle what can be settled."""
        before, closed = self.settled, await self.closed_gaps(session)
        if self.gap and min(closed, self.gap.last) - self.settled > self.BATCH_SIZE:
            self.settled = self.recent_after = self.gap.last  # listeners read these by themselves
            self.recent.clear()
        query = select(self.model).order_by(self.id).limit(self.BATCH_SIZE)
        while True:
            rows = list(await session.exec(query.where(self.id > self.settled)))
            held = self.settle(rows, closed)
            if held or len(rows) < self.BATCH_SIZE:
                break
        if self.gap and closed >= self.gap.last:
            self.settled, self.gap = max(self.settled, self.gap.last), None
        if held and not self.gap:
            self.gap = Gap(held[-1].id, time.monotonic(), await self.writers(session))
        if self.settled > before:
            self.changed.set()
            self.changed = asyncio.Event()

    def settle(self, rows: list[Any], closed: int) -> list[Any]:
        """Settle the rows up to the first gap that is not closed; what is left is held back."""
        for n, row in enumerate(rows):
            if row.id > max(closed, self.settled + 1):
                return rows[n:]
            if len(self.recent) == self.recent.maxlen:
                self.recent_after = self.recent[0].id
            self.recent.append(row)
            self.settled = row.id
        return []

    async def writers(self, session: AsyncSession) -> set[str]:
        """On PostgreSQL, the transactions that have written to the table, or are about to."""
        if session.get_bind().dialect.name != "postgresql":
            return set()
        query = text(
            "SELECT virtualtransaction FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation"
            " = to_regclass(:name) AND database = (SELECT oid FROM pg_database WHERE datname ="
            " current_database())"
        )
        found = await (await session.connection()).execute(
            query, {"name": f'"{self.id.table.name}"'}
        )
        return set(found.scalars())

    async def closed_gaps(self, session: AsyncSession) -> int:
        """The id up to which a missing row will never come."""
        dialect = session.get_bind().dialect.name
        if dialect == "sqlite":  # ids are given under the lock that is held until the commit
            return sys.maxsize
        if not self.gap:
            return 0
        last, age = self.gap.last, time.monotonic() - self.gap.since
        if age > self.MAX_GAP_AGE:
            return last
        if dialect == "postgresql":  # have all ended that were writing when the gap was seen?
            return 0 if self.gap.writers & await self.writers(session) else last
        # An inserted row is locked until its transaction ends, visible or not.
        inside = select(self.id).where(self.id > self.settled, self.id <= last)
        try:
            await session.exec(inside.with_for_update(read=True, nowait=True))
        except DBAPIError as error:
            if kind_of(error) != "busy":
                raise
            return 0
        return last if age > self.MIN_GAP_AGE else 0


# Migrations -----------------------------------------------------------------------------


def alembic_config() -> Config:
    return Config(toml_file=Path(__file__).with_name("pyproject.toml"))


def migrate() -> None:
    """Bring the database to the newest revision. Several may do so at once: one does."""
    alembic.command.upgrade(alembic_config(), "head")


@functools.cache
def newest_revision() -> str | None:
    return ScriptDirectory.from_config(alembic_config()).get_current_head()
