"""Sessions that make rows of what the database gave, on connections that their threads keep.

An ORM keeps each row that it loads, to write what is changed in it, and asks a pool for a
connection each time. A request for a row or a list pays more for both than for the query.
"""

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, FromClause, NestedTransaction, RootTransaction
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from kit.problems import MisuseError
from kit.tables import Entity
from kit.transactions import ONLY_READS, note_connection
from kit.updates import store_change

E = TypeVar("E", bound=Entity)
M = TypeVar("M", bound=Callable[..., Any])
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


def handing_over(method: M) -> M:
    """The method, for rows that SQLAlchemy's session has to have."""

    @functools.wraps(method)
    def call(session: "RowSession", *arguments: Any, **options: Any) -> Any:
        session.hand_over()
        return method(session, *arguments, **options)

    return cast(M, call)


class RowSession(Session):
    """A session that makes the rows of a plain query of what the database gave.

    It hands them to SQLAlchemy's own session with the first thing that needs that: a change, or a
    query of another kind.
    """

    def __init__(self, kept: KeptConnections, **options: Any) -> None:
        super().__init__(kept.engine, join_transaction_mode="rollback_only", **options)
        self.kept = kept
        self.given = list[Any]()

    def own_connection(self) -> Connection:
        raise NotImplementedError

    def connection(self, *arguments: Any, **options: Any) -> Connection:
        asks = arguments or options
        return super().connection(*arguments, **options) if asks else self.own_connection()

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        self.hand_over()
        return self.own_connection()

    def exec(self, statement: Any, *, params: Any = None, **options: Any) -> Any:
        if self.given and self.autoflush:
            self.flush()
        is_first = not self.in_transaction()  # SQLAlchemy's session knows of nothing
        mapper = whole_rows(statement) if is_first and not options else None
        if mapper is None or any(isinstance(row, mapper.class_) for row in self.given):
            self.hand_over()
            return super().exec(statement, params=params, **options)
        found, rows = self.own_connection().execute(statement, params), dict[int, Any]()
        names = tuple(found.keys())
        sent = [dict(zip(names, values, strict=True)) for values in found.all()]
        for values in sent:
            if (id := values["id"]) not in rows:
                row = rows[id] = mapper.class_manager.new_instance()
                row.__dict__.update(values)
                instance_state(row).key = mapper.class_, (id,), None  # it is one that is stored
        self.given += rows.values()
        return IteratorResult(ONE_COLUMN, ((rows[values["id"]],) for values in sent)).scalars()

    def hand_over(self) -> None:
        """Let SQLAlchemy's session have the rows that were given."""
        if self.given:
            self.add_all(self.given)
            known = self.identity_map.contains_state
            self.given = [row for row in self.given if not known(instance_state(row))]

    delete = handing_over(Session.delete)
    expire = handing_over(Session.expire)
    expunge = handing_over(Session.expunge)
    refresh = handing_over(Session.refresh)
    __contains__ = handing_over(Session.__contains__)

    def changed(self) -> list[Any]:
        return [row for row in self.given if instance_state(row).committed_state]

    def close(self) -> None:
        self.given = []
        if self.in_transaction() or self.identity_map:
            super().close()


class ReadSession(RowSession):
    """One that writes nothing, with each statement for itself."""

    def own_connection(self) -> Connection:
        connection = self.kept.connection()
        note_connection(self, None, connection)
        return connection

    def flush(self, *arguments: Any) -> None:
        """Raise MisuseError for what was changed in the rows."""
        super().flush(*arguments)
        if self.changed():
            raise MisuseError(ONLY_READS)

    def close(self) -> None:
        super().close()
        self.kept.release()


class WriteSession(RowSession):
    """One whose transaction is that of its thread's connection, or of one that is lent to it.

    On the latter, which is in a transaction already, what it commits is a savepoint.
    """

    begun: RootTransaction | NestedTransaction | None = None

    def own_connection(self) -> Connection:
        if not self.begun:
            lent = self.bind if isinstance(self.bind, Connection) else None
            connection = lent or self.kept.connection()
            self.begun = connection.begin_nested() if lent else connection.begin()
            note_connection(self, None, connection)
        return self.begun.connection

    def flush(self, *arguments: Any) -> None:
        changed = self.changed()
        alone = changed[0] if len(changed) == 1 and not self.in_transaction() else None
        if alone and store_change(self.own_connection(), alone):
            return
        if self.in_transaction() or changed:
            self.hand_over()
        super().flush(*arguments)

    def commit(self) -> None:
        self.flush()
        if self.in_transaction():
            super().commit()
        if self.begun:
            self.begun.commit()
            self.begun = None
            self.kept.release()

    def rollback(self) -> None:
        if self.in_transaction():
            super().rollback()
        if self.begun:
            if self.begun.is_active:  # else a flush that failed has done that
                self.begun.rollback()
            self.begun = None
            self.kept.give_back()  # for others, who look at what was wrong

    def close(self) -> None:
        super().close()
        self.rollback()
        self.kept.release()


def whole_rows(statement: Any) -> Mapper[Any] | None:
    """The mapper of a query for the rows of an entity, with no options of how to load them."""
    columns: Any = getattr(statement, "_raw_columns", ())
    if len(columns) != 1 or statement._with_options or not isinstance(columns[0], FromClause):
        return None
    mapper = columns[0]._annotations.get("parententity")
    if not isinstance(mapper, Mapper) or not is_as_its_table(mapper):
        return None
    return None if mapper.class_manager.dispatch.load else mapper  # what listens has to be told


@functools.cache
def is_as_its_table(mapper: Mapper[Any]) -> bool:
    """Whether it is of an entity in one table, each of whose columns has a field of its name."""
    fields = {(attribute.key, attribute.columns[0].name) for attribute in mapper.column_attrs}
    alike = {(column.name, column.name) for column in mapper.local_table.columns}
    is_one = issubclass(mapper.class_, Entity) and mapper.polymorphic_on is None
    return is_one and len(mapper.tables) == 1 and fields == alike


def model_of(query: SelectOfScalar[E]) -> type[E]:
    """What a query is for the rows of; as its `column_descriptions` say, which take longer."""
    entity: Any = query._raw_columns[0]._annotations["parententity"]
    return cast(type[E], entity.class_)
