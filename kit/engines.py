"""Engines for SQLite, PostgreSQL, MariaDB and MySQL, with time-outs set and their clocks on UTC."""

import contextlib
import functools
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from kit.driver_errors import note_statement
from kit.pgbouncer import is_behind_pgbouncer, set_each_time
from kit.problems import MisuseError
from kit.settings import Settings

logger = logging.getLogger("kit")
SERVERS_MEANT = {"read-write": "primary", "read-only": "standby"}
ASYNC_DRIVERS = {  # psycopg is its own
    "sqlite+pysqlite": "sqlite+aiosqlite",
    "mysql+pymysql": "mysql+aiomysql",
    "mariadb+pymysql": "mariadb+aiomysql",
}


def new_engine(settings: Settings, url: str, *, writes: bool) -> Engine:
    options = engine_options(settings, make_url(url), writes=writes)
    engine = create_engine(url, poolclass=QueuePool, **options)
    event.listen(engine, "handle_error", note_statement)
    prepare_connections(engine, settings, writes=writes)
    savepoints_without_statements(engine.dialect)
    return engine


def savepoints_without_statements(dialect: Dialect) -> None:
    """Send SAVEPOINT and what ends it as they are: as statements they take five times as long."""
    for name, verb in SAVEPOINTS.items():
        setattr(dialect, name, lambda c, n, verb=verb: c.exec_driver_sql(f"{verb} {n}"))


SAVEPOINTS = {
    "do_savepoint": "SAVEPOINT",
    "do_rollback_to_savepoint": "ROLLBACK TO SAVEPOINT",
    "do_release_savepoint": "RELEASE SAVEPOINT",
}


def new_async_engine(settings: Settings) -> AsyncEngine:
    """An engine for `async def`, which can only read, on the database that is written to."""
    url = make_url(settings.database_url)
    options = engine_options(settings, url, writes=False)
    for name in ("read_timeout", "write_timeout"):  # which aiomysql does not have
        options["connect_args"].pop(name, None)
    driver = ASYNC_DRIVERS.get(url.drivername, url.drivername)
    engine = create_async_engine(url.set(drivername=driver), **options)
    prepare_connections(engine.sync_engine, settings, writes=False)
    return engine


def engine_options(settings: Settings, url: URL, *, writes: bool) -> dict[str, Any]:
    dialect, kept = url.get_backend_name(), settings.db_pool_size
    connect_args = driver_options(url, settings.db_pool_timeout, writes=writes)
    options: dict[str, Any] = {
        "pool_size": kept or settings.db_max_overflow,  # a size of 0 would be without limit
        "max_overflow": settings.db_max_overflow if kept else 0,
        "pool_timeout": settings.db_pool_timeout,
        "pool_recycle": settings.db_pool_recycle,
        "hide_parameters": True,  # among them are the hashes of passwords
        "connect_args": connect_args,
    }
    if not writes:
        if not is_behind_pgbouncer(url):  # a single SELECT needs no BEGIN and no ROLLBACK around it
            options |= {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
        # A session that can only read is "read-only" to libpq, whatever server it is on.
        if server := SERVERS_MEANT.get(str(url.query.get("target_session_attrs"))):
            connect_args["target_session_attrs"] = server
    elif dialect == "sqlite":
        options |= {"pool_size": 1, "max_overflow": 0}  # it has one writer at a time
    elif dialect != "postgresql":
        options["isolation_level"] = "READ COMMITTED"  # as on PostgreSQL; fewer locks
    return options


def driver_options(url: URL, time_out: float, *, writes: bool) -> dict[str, Any]:
    """What the driver is told: whole seconds of DB_POOL_TIMEOUT for locks and statements."""
    dialect, seconds = url.get_backend_name(), whole_seconds(time_out)
    to_connect = max(2, seconds // 2)
    if dialect == "sqlite":
        return {"timeout": time_out, "check_same_thread": False}
    if is_behind_pgbouncer(url):
        return {"connect_timeout": to_connect, "autocommit": True}
    if dialect == "postgresql":
        read_only = {"default_transaction_read_only": "off" if writes else "on"}
        values = postgresql_settings(time_out) | read_only
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


def whole_seconds(time_out: float) -> int:
    return max(1, round(time_out))


def postgresql_settings(time_out: float) -> dict[str, str]:
    limit = f"{whole_seconds(time_out)}s"
    return {"timezone": "UTC", "lock_timeout": limit, "statement_timeout": limit}


def prepare_connections(engine: Engine, settings: Settings, *, writes: bool) -> None:
    time_out = settings.db_pool_timeout
    log_connections(engine, "for writing" if writes else "for reading")
    if not settings.db_pool_size:
        event.listen(engine, "checkin", close_after_use)
    if engine.dialect.name == "sqlite":
        prepare = functools.partial(prepare_sqlite, time_out=time_out, writes=writes)
        event.listen(engine, "connect", prepare)
        if writes:
            event.listen(engine, "begin", begin_immediate)
    elif engine.dialect.name == "postgresql":
        if writes:
            event.listen(engine, "commit", refuse_what_failed)
        if is_behind_pgbouncer(engine.url):
            set_each_time(engine, postgresql_settings(time_out), writes=writes)
    elif not writes:
        event.listen(engine, "connect", forbid_writing)


def log_connections(engine: Engine, use: str) -> None:
    """Log each new connection, and each that is given up because of an error."""

    @event.listens_for(engine, "connect")
    def on_connect(_: object, __: object) -> None:
        logger.info("New connection to %s, %s", engine.dialect.name, use)

    @event.listens_for(engine, "invalidate")
    def on_invalidate(_: object, __: object, error: BaseException | None) -> None:
        if error:  # else it is closed as usual: see `close_after_use`
            why = " ".join(str(error).split())
            logger.warning("Connection to %s, %s, is given up: %s", engine.dialect.name, use, why)


def close_after_use(_: object, entry: ConnectionPoolEntry) -> None:
    """Keep the place in the pool, which bounds how many there are, and no connection in it."""
    entry.invalidate()


def forbid_writing(connection: Any, _: object) -> None:
    """On MariaDB and MySQL, for reading; the other two have a setting for it."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY")


def refuse_what_failed(connection: Connection) -> None:
    """Raise MisuseError for a transaction in which a statement failed, and somebody hid that.

    PostgreSQL would roll it back, and not say so (its manual, "COMMIT").
    """
    driver: Any = connection.connection.dbapi_connection
    if driver.pgconn.transaction_status == 3:  # PQTRANS_INERROR
        driver.rollback()
        raise MisuseError("A statement failed: let its error pass, or put it in a savepoint")


def begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock at once: it has no SELECT ... FOR UPDATE.

    With its plain BEGIN two transactions could read the same stock, then both write it.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def prepare_sqlite(
    connection: sqlite3.Connection, _: object, *, time_out: float, writes: bool
) -> None:
    """SQLite as a server's database: see its documentation under "PRAGMA Statements"."""
    connection.isolation_level = None  # Python's module would begin transactions by itself
    use_wal(connection, time_out)
    connection.execute("PRAGMA synchronous = FULL")  # what is committed is on the disk
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA query_only = {not writes}")
    know_every_alphabet(connection)


def know_every_alphabet(connection: sqlite3.Connection) -> None:
    """Let SQLite's `lower` do so: its own knows ASCII only."""
    connection.create_function(
        "lower", 1, lambda text: text.lower() if isinstance(text, str) else text, deterministic=True
    )


def use_wal(connection: sqlite3.Connection, time_out: float) -> None:
    """Let readers never wait for the writer (SQLite, "Write-Ahead Logging").

    The database stays so. While another process writes to one that is not so yet, or makes it so,
    SQLite says at once that it is locked, whatever its busy time-out.
    """
    until = time.monotonic() + time_out
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


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
    with contextlib.suppress(OSError):  # it exists; of what else is wrong `name_the_file` tells
        os.close(os.open(os.path.realpath(name), os.O_CREAT | os.O_EXCL, 0o600))


@event.listens_for(Engine, "do_connect")
def connect(dialect: Any, _: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Connect, and call it an ArgumentError whatever a driver raises for a bad option of a URL."""
    try:
        return dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:
        raise ArgumentError(f"an option of its URL is bad: {error}") from error


@event.listens_for(Engine, "handle_error")
def name_the_file(context: ExceptionContext) -> OperationalError | None:
    """Say which file SQLite cannot open, and why: it only says that it cannot."""
    error: Any = context.original_exception
    code = getattr(error, "sqlite_errorname", "")
    if not context.engine or code not in ("SQLITE_CANTOPEN", "SQLITE_NOTADB"):
        return None
    file = Path(str(context.engine.url.database).removeprefix("file:")).absolute()
    if file.is_dir():
        why = ", which is a folder"
    elif not file.parent.is_dir():
        why = f": there is no folder {file.parent}"
    else:
        needed = file if file.exists() else file.parent
        why = "" if os.access(needed, os.W_OK) else f": {needed} may not be written to"
    told: Any = sqlite3.OperationalError(f"{error}: {file}{why}")
    told.sqlite_errorname = code
    return OperationalError(None, None, told)
