"""PgBouncer, which keeps nothing that is set on a connection: transactions bring it along.

With `pool_mode = transaction` each transaction may be on another of its connections to PostgreSQL
(its manual, "SQL feature map for pooling modes"). `?pgbouncer=true` in a URL says that it is there.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, event


def is_behind_pgbouncer(url: URL) -> bool:
    return url.query.get("pgbouncer") == "true"


@event.listens_for(Engine, "do_connect")
def prepare_nothing(dialect: Dialect, _: object, __: object, options: dict[str, Any]) -> None:
    """For every engine, also one that migrates: libpq knows no such option in a URL."""
    if dialect.name == "postgresql" and options.pop("pgbouncer", "false") == "true":
        options["prepare_threshold"] = None


def set_each_time(engine: Engine, values: Mapping[str, str], *, writes: bool) -> None:
    """Have these settings hold in all that an engine does, at no round trip more.

    They are sent with the BEGIN of what writes, and with a statement of what only reads. An async
    engine takes the first result for its own, so it begins transactions to read, too.
    """
    first = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in values.items())
    if not writes:
        first += "; SET LOCAL transaction_read_only = on"
    if writes or engine.dialect.is_async:
        send_with_begin(engine, f"BEGIN; {first}")
    else:
        send_with_statement(engine, first)


def send_with_begin(engine: Engine, begin: str) -> None:
    """Begin each transaction with this, before its first statement.

    Not at SQLAlchemy's event "begin": only after that `hang_up` knows the connection, and could
    end the wait for a server that is silent.
    """

    @event.listens_for(engine, "before_cursor_execute")
    def begin_first(connection: Connection, cursor: Any, *_: object) -> None:
        driver: Any = connection.connection.dbapi_connection
        if not driver.info.transaction_status:  # it is idle
            cursor.execute(begin)


def send_with_statement(engine: Engine, first: str) -> None:
    """Send this and a statement in one message, which is a transaction by itself.

    (PostgreSQL's manual, "Multiple Statements in a Simple Query".) There are no parameters in such
    a message, so psycopg writes them into the statement.
    """
    import psycopg  # which on other databases would take 9 MB for nothing

    @event.listens_for(engine, "connect")
    def bind_in_client(connection: Any, _: object) -> None:
        connection.cursor_factory = psycopg.ClientCursor

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def set_first(_: object, __: object, statement: str, values: Any, *___: object) -> Any:
        return f"{first}; {statement}", values

    @event.listens_for(engine, "after_cursor_execute")
    def skip_to_its_result(_: object, cursor: Any, *__: object) -> None:
        while cursor.nextset():
            pass
