"""Reading: sessions whose rows are made of what the database gave, on connections that are kept.

An ORM keeps each row that it loads, to write what is changed in it, and asks a pool for a
connection each time. Who only reads a row or a list pays more for both than for the query.
"""

import threading
import time
from typing import Any

from sqlalchemy import Connection, Engine, FromClause
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.attributes import instance_state
from sqlmodel import Session

from kit.problems import MisuseError
from kit.tables import Entity
from kit.transactions import ONLY_READS, note_connection

ONE_COLUMN = SimpleResultMetaData(["row"])


class KeptConnections:
    """A connection for each thread, which keeps it from one session to the next."""

    LONGEST = 10  # seconds until it goes back to the pool, which knows how old it may get

    def __init__(self, engine: Engine, *, keeps: bool) -> None:
        self.engine, self.keeps = engine, keeps
        self.kept = dict[int, tuple[Connection, float]]()  # by thread; and until when
        self.idle = set[int]()  # the threads that do not use theirs

    def connection(self) -> Connection:
        """This thread's connection, which stays the same until `release`."""
        thread, now = threading.get_ident(), time.monotonic()
        connection, until = self.kept.get(thread, (None, 0.0))
        if connection and thread in self.idle:
            self.idle.discard(thread)
            if connection.invalidated or now > until:
                self.give_back()
                connection = None
        if not connection:
            connection = self.engine.connect()
            self.kept[thread] = connection, now + self.LONGEST
        return connection

    def give_back(self) -> None:
        """Give this thread's connection, if it has one, back to the pool."""
        self.idle.discard(threading.get_ident())
        if kept := self.kept.pop(threading.get_ident(), None):
            kept[0].close()

    def release(self) -> None:
        """Say that this thread does not use its connection now."""
        if not self.keeps:
            self.give_back()
        elif (thread := threading.get_ident()) in self.kept:
            self.idle.add(thread)

    def close(self) -> None:
        """Give back all that are not in use."""
        while self.idle:
            self.kept.pop(self.idle.pop())[0].close()


class ReadSession(Session):
    """A session that gives the rows of a plain query so; of any other, as SQLAlchemy does."""

    def __init__(self, kept: KeptConnections, **options: Any) -> None:
        super().__init__(kept.engine, **options)
        self.kept = kept
        self.given = list[InstanceState[Any]]()

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        return self.kept.connection()

    def exec(self, statement: Any, *, params: Any = None, **options: Any) -> Any:
        mapper = None if options else whole_rows(statement)
        if mapper is None:
            return super().exec(statement, params=params, **options)
        connection = self.kept.connection()
        note_connection(self, None, connection)
        found, rows = connection.execute(statement, params), []
        names = tuple(found.keys())
        for values in found:
            row = mapper.class_manager.new_instance()
            row.__dict__.update(zip(names, values, strict=True))
            state = instance_state(row)
            state.key = mapper.class_, (row.__dict__["id"],), None  # it is one that is stored
            self.given.append(state)
            rows.append((row,))
        return IteratorResult(ONE_COLUMN, iter(rows)).scalars()

    def flush(self, *arguments: Any) -> None:
        """Raise MisuseError for what was changed in the rows."""
        super().flush(*arguments)
        if any(state.modified for state in self.given):
            raise MisuseError(ONLY_READS)

    def close(self) -> None:
        if self.in_transaction() or self.identity_map:
            super().close()
        self.kept.release()


def whole_rows(statement: Any) -> Mapper[Any] | None:
    """The model of a query for its rows, with no options of how to load them."""
    if getattr(statement, "_with_options", True) or len(statement._raw_columns) != 1:
        return None
    (asked,) = statement._raw_columns
    mapper = asked._annotations.get("parententity")
    is_whole = isinstance(asked, FromClause) and isinstance(mapper, Mapper)
    return mapper if is_whole and issubclass(mapper.class_, Entity) else None
