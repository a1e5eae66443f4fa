"""What a file would do to its table, told beforehand: the import is run, noted and undone."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, literal_column, select
from sqlalchemy import table as named
from sqlmodel import Session

from kit.imports import Import
from kit.targets import Row, Target
from kit.transactions import allow_more_time

FIRST = 20  # rows of each kind
A_WHILE = 1_000_000  # instructions of SQLite
KINDS = CREATED, CHANGED, UNCHANGED = "created", "changed", "unchanged"


@dataclass
class Change:
    """What a line does to its row: by field what was there, and what will be."""

    line: int
    key: Any
    fields: list[tuple[str, Any, Any]]


class Notes:
    """What an import does: how many rows of each kind, the first of them, a digest of all."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.counts = dict.fromkeys(KINDS, 0)
        self.first: dict[str, dict[Any, tuple[int, Row]]] = {kind: {} for kind in KINDS}
        self.columns = [name for name in target.settable if name not in target.factories]
        self.seen = hashlib.sha256()

    def add(self, line: int, old: Row | None, new: Row, *, is_changed: bool) -> None:
        kind = (CHANGED if is_changed else UNCHANGED) if old else CREATED
        self.counts[kind] += 1
        if len(self.first[kind]) < FIRST:
            self.first[kind].setdefault(new[self.target.key], (line, dict(old or {})))
        values = [row.get(name) for row in (old or {}, new) for name in self.columns]
        self.seen.update(repr([line, kind, *values]).encode())

    @property
    def digest(self) -> str:
        """Another one, if the same file would do anything else."""
        return self.seen.hexdigest()

    @property
    def told(self) -> str:
        return ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items())


@dataclass
class Preview:
    """What a file would do, or what is wrong with its lines: then it would do nothing."""

    counts: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, list[Change]] = field(default_factory=dict)  # the first of each kind
    digest: str = ""
    errors: Sequence[Any] = ()


class TrialImport(Import):
    """An import that writes to the table alone: nobody is told of what will be undone."""

    def tell(self, inserts: list[Row], updates: list[Row], olds: Mapping[Any, Row]) -> None:
        pass

    def preview(self) -> Preview:
        """What comes of it; RequestValidationError tells of bad lines, as at an import."""
        self.notes = notes = Notes(self.target)
        with undone(self.session, self.target.table):
            self.run()
            changes = {kind: [*self.changes(notes.first[kind])] for kind in KINDS}
        return Preview(notes.counts, changes, notes.digest)

    def changes(self, noted: Mapping[Any, tuple[int, Row]]) -> Iterator[Change]:
        """How these rows were and how they are by now, whatever lines came after theirs."""
        found = self.execute(self.target.locked, {"keys": [*noted]}).mappings()
        news = {row[self.target.key]: row for row in found}
        rows = [*news.values(), *(old for _, old in noted.values())]
        texts = {name: self.texts(name, rows) for name in self.target.references}
        for key, (line, old) in noted.items():
            fields = []
            for name in self.target.settable:
                was, is_now = old.get(name), news[key][name]
                if was != is_now and name != self.target.key:
                    as_text = texts.get(name, {})
                    shown = as_text.get(was, was), as_text.get(is_now, is_now)
                    fields.append((self.target.fields[name], *shown))
            yield Change(line, key, fields)

    def texts(self, name: str, rows: list[Any]) -> dict[Any, Any]:
        """By id, what stands in a file for the rows that these refer to."""
        reference = self.target.references[name]
        ids = {row.get(name) for row in rows} - {None}
        query = select(reference.id, reference.text).where(reference.id.in_(ids))
        return dict(self.execute(query).all())


@contextmanager
def undone(session: Session, table: Any) -> Iterator[None]:
    """Undo what is written to the table in it.

    On SQLite, which has one writer, that is a temporary copy of it, in a session that only reads:
    others go on to write. Elsewhere the rows are locked for as long as it takes.
    """
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        savepoint = connection.begin_nested()
        yield
        savepoint.rollback()
        return
    driver: Any = connection.connection.dbapi_connection
    connection.exec_driver_sql("PRAGMA query_only = 0")
    connection.exec_driver_sql("PRAGMA foreign_keys = 0")  # which a copy cannot have
    driver.set_progress_handler(lambda: allow_more_time(session), A_WHILE)
    try:
        connection.exec_driver_sql("BEGIN")  # of one state of the database, which it locks not
        copy_table(connection, table)
        yield
    finally:
        driver.set_progress_handler(None, 0)
        if driver.in_transaction:  # which SQLite ends by itself after some errors
            connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys = 1")
        connection.exec_driver_sql("PRAGMA query_only = 1")


def copy_table(connection: Connection, table: Any) -> None:
    """A temporary table hides another one of the same name (SQLite, "Naming of Tables")."""
    made_by = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?"
    sql = str(connection.exec_driver_sql(made_by, (table.name,)).scalar())
    connection.exec_driver_sql(sql.replace("TABLE", "TEMP TABLE", 1))
    quote = connection.dialect.identifier_preparer.quote
    name, into, values = quote(table.name), "", "*"  # without names SQLite copies its pages, fast
    if any(column.computed for column in table.columns):
        values = ", ".join(quote(column.name) for column in table.columns if not column.computed)
        into = f"({values})"
    source: Any = select(literal_column(values)).select_from(named(table.name, schema="main"))
    connection.exec_driver_sql(f"INSERT INTO temp.{name} {into} {source}")
