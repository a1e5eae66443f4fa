"""Who changed what and when: rows that are written in the transaction of the change.

Told are changes that a request makes in models with `keeps_history`, by whatever way: a row by the
ORM or by `rows`, many by `update` and `delete`, lines of a file, and what a deletion takes along
by ON DELETE CASCADE. Not what the database changes by itself in another way (ON DELETE SET NULL).
What a column hides from answers (`exclude=True`) is not told, nor when a row was changed last; of
a password, that it was changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    Connection,
    bindparam,
    delete,
    event,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.orm.attributes import instance_state
from sqlmodel import Field, Session, col
from typing_extensions import TypedDict

from kit.fields import choice, now
from kit.json import json_value
from kit.loading import WriteSession
from kit.tables import Created, Entity, Timestamps, Versioned, has_changed, listed_by
from kit.transactions import at_work, transaction_of

BATCH = 500  # rows
A_WHILE = 100  # rows
UNTOLD = {"id", *Versioned.model_fields, *Timestamps.model_fields}
SECRETS = {"password_hash": "password"}

Values = Mapping[str, Any]


class ChangeKind(StrEnum):
    created = "created"
    updated = "updated"
    deleted = "deleted"


class FieldChange(TypedDict):
    before: Any
    after: Any


class ChangeRow(Created, Entity):
    """A change of a row. The table that a service makes of it is that of its `History`."""

    __tablename__ = "change"
    __table_args__ = listed_by("entity", "entity_id")

    entity: str = Field(max_length=50)  # the table
    entity_id: int
    kind: ChangeKind = Field(sa_type=choice(ChangeKind))
    user_id: int | None = None  # who made it; nobody in particular in open mode
    fields: dict[str, FieldChange] = Field(default={}, sa_type=JSON)

    named_by: ClassVar[tuple[str, ...]] = ("entity",)

    @property
    def what(self) -> str:
        """A line for each field: "Price: 10.00 → 12.50"."""
        lines = []
        for field, told in self.fields.items():
            name = field.replace("_", " ").capitalize()
            before, after = as_text(told["before"]), as_text(told["after"])
            if self.kind != ChangeKind.updated:
                lines.append(f"{name}: {after or before}")
            else:
                same = before == after  # of a secret
                lines.append(f"{name} changed" if same else f"{name}: {before} → {after}")
        return "\n".join(lines)


histories: dict[Any, "History"] = {}  # by model


class History:
    """The changes of all models with `keeps_history` that there are by now.

    Each is kept for so many days; with 0 days none are written.
    """

    def __init__(self, table: Any, days: int) -> None:
        self.table, self.days = table, days
        known = [mapper.class_ for mapper in table.__mapper__.registry.mappers]
        models = [model for model in known if getattr(model, "keeps_history", False)]
        self.models = sorted(models, key=lambda model: model.__name__) if days else []
        self.written = 0  # since some were looked for that are too old
        rows = table.__table__  # statements are built once: each is garbage that refers to itself
        self.insertion = insert(rows)
        self.in_one = self.insertion.returning(rows.c.id)
        first = select(rows.c.id, rows.c.created_at).order_by(rows.c.id).limit(BATCH).subquery()
        self.too_old = select(first.c.id).where(first.c.created_at < bindparam("oldest"))
        self.deletion = delete(rows).where(rows.c.id.in_(bindparam("ids")))
        self.told = {model: told_of(model) for model in self.models}
        histories.update(dict.fromkeys(self.models, self))
        for model in self.models:
            event.listen(model, "after_insert", self.on_insert)
            event.listen(model, "before_update", self.on_update)
            event.listen(model, "before_delete", self.on_delete)
        if days:
            event.listen(WriteSession, "do_orm_execute", self.on_many)

    def on_insert(self, _: Mapper[Any], __: Connection, row: Any) -> None:
        model = type(row)
        fields = differences(self.told[model], {}, row.__dict__)
        self.note(model, ChangeKind.created, row.id, fields)

    def on_update(self, _: Mapper[Any], __: Connection, row: Any) -> None:
        model, before = type(row), instance_state(row).committed_state  # of what was set
        names = [name for name in self.told[model] if name in before]
        fields = differences(names, before, row.__dict__)
        for name, told_as in SECRETS.items():
            if name in before and has_changed(row, name):
                fields[told_as] = {"before": None, "after": None}
        self.note(model, ChangeKind.updated, row.id, fields)

    def on_delete(self, _: Mapper[Any], __: Connection, row: Any) -> None:
        self.note_deleted(type(row), col(type(row).id) == row.id)

    def on_many(self, state: ORMExecuteState) -> None:
        """Note what an UPDATE or DELETE is going to change."""
        model = state.bind_mapper.class_ if state.bind_mapper else None
        if model not in self.told or not (state.is_update or state.is_delete):
            return
        statement: Any = state.statement
        if state.is_delete:
            self.note_deleted(model, statement.whereclause)
            return
        # `_values` alone says what it sets: see tests/kit/test_history.py.
        sent = {getattr(c, "key", c): value for c, value in statement._values.items()}
        sets = {name: sent[name] for name in self.told[model] if name in sent}
        for rows in self.batches(model, statement.whereclause, sets) if sets else ():
            for row in rows:
                fields = differences(sets, row, {name: row[f"new_{name}"] for name in sets})
                self.note(model, ChangeKind.updated, row["id"], fields)

    def note_deleted(self, model: Any, condition: Any) -> None:
        """Note that these rows go, and with them those that refer to them by ON DELETE CASCADE."""
        for rows in self.batches(model, condition):
            for row in rows:
                fields = differences(self.told[model], row, {})
                self.note(model, ChangeKind.deleted, row["id"], fields)
            for other in self.models:
                for column in other.__table__.columns:
                    keys = [k for k in column.foreign_keys if k.references(model.__table__)]
                    if any(key.ondelete == "CASCADE" for key in keys):
                        self.note_deleted(other, column.in_([row["id"] for row in rows]))

    def batches(
        self, model: Any, condition: Any, sets: Values | None = None
    ) -> Iterator[Sequence[Any]]:
        """The rows that a condition finds, locked, with what these values will be in each."""
        session, columns = at_work.get(None), model.__table__.columns
        values = [columns[name] for name in sets or self.told[model]]
        for name, value in (sets or {}).items():
            values.append(type_coerce(value, columns[name].type).label(f"new_{name}"))
        query = select(columns.id, *values).order_by(columns.id).limit(BATCH).with_for_update()
        query = query if condition is None else query.where(condition)
        last = 0
        while session:  # else it is no request
            after = query.where(columns.id > last)
            if not (rows := session.connection().execute(after).mappings().all()):
                break
            yield rows
            last = rows[-1]["id"]

    def note(self, model: Any, kind: ChangeKind, id: int, fields: Mapping[str, Any]) -> None:
        """Keep a change until the end of the transaction, if a request makes it."""
        session = at_work.get(None)
        if session is None or not fields:
            return
        transaction = transaction_of(session)
        change = {"entity": model.__tablename__, "entity_id": id, "kind": kind, "fields": fields}
        change["user_id"] = transaction.context.caller.id or None
        transaction.changes.append(change)
        transaction.store_changes = self.store
        if len(transaction.changes) >= BATCH:
            self.store(session)

    def store(self, session: Session) -> None:
        """Write what was noted; and delete as many that are too old."""
        transaction = transaction_of(session)
        rows, transaction.changes = transaction.changes, []
        if not rows:
            return
        time, connection = now(), session.connection()
        is_one = connection.dialect.insert_executemany_returning  # statement, for all rows
        connection.execute(
            self.in_one if is_one else self.insertion, [{**row, "created_at": time} for row in rows]
        )
        self.written += len(rows)
        if self.written >= A_WHILE:
            self.written = 0
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Delete the first rows of all, as far as they are too old."""
        oldest = now() - timedelta(days=self.days)
        if old := connection.scalars(self.too_old, {"oldest": oldest}).all():
            connection.execute(self.deletion, {"ids": old})

    def newest_of(self, session: Session, model: Any, id: int) -> Sequence[Any]:
        """The last ten changes of a row."""
        query = select(self.table).where(self.table.entity == model.__tablename__)
        query = query.where(self.table.entity_id == id)
        return session.scalars(query.order_by(self.table.id.desc()).limit(10)).all()


def told_of(model: Any) -> list[str]:
    """The fields whose values are told."""
    infos = model.model_fields.items()
    return [name for name, info in infos if not info.exclude and name not in UNTOLD]


def differences(names: Iterable[str], before: Values, after: Values) -> dict[str, FieldChange]:
    """The fields that differ, each before and after."""
    return {
        name: {"before": as_json(before.get(name)), "after": as_json(after.get(name))}
        for name in names
        if before.get(name) != after.get(name)
    }


def as_text(value: Any) -> str:
    """A value for people; of a JSON number with decimals, it is money."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def as_json(value: Any) -> Any:
    """A value as JSON has it."""
    is_json = value is None or isinstance(value, bool | int | str | list | dict)
    return value if is_json else json_value(value)
