"""The lines of a file become rows of a table: new ones, or changes of those that are there.

A batch of lines takes a handful of statements. Unique values and foreign keys are looked up in
them, so that a line that is refused is told by its number; a row that a line refers to may also be
made by another line, before it or after it. The table's constraints have the last word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, WrapValidator
from sqlalchemy import UniqueConstraint, bindparam, insert, select, update
from sqlmodel import Session

from kit.lines import Line, Lines
from kit.search import base_slug, free_slug
from kit.tables import Entity, Timestamps
from kit.transactions import allow_more_time, expect_many_rows, retry_on_conflict

BATCH = 200  # rows
MOST_TEXT = 50_000  # characters, in a batch
MOST_WAITING = 10_000  # lines that refer to a line in a later batch
KEPT = {*Entity.model_fields, *Timestamps.model_fields}  # of a row that exists

annotated: Any = Annotated  # for types that are known at run time alone
OR_NONE = WrapValidator(lambda value, usual: None if value is None else usual(value))

Row = dict[str, Any]
Owners = dict[Any, Any]  # whose a unique value is: the key of the row


class ImportCounts(BaseModel):
    created: int
    updated: int


# Statements are built once: one with a list in it is garbage that refers to itself, which stays in
# memory until Python looks for such.


class Reference:
    """A foreign key, in whose place a file has unique text of the row that is referred to."""

    def __init__(self, column: Any, by: Any) -> None:
        (key,) = column.foreign_keys
        self.column, self.by = column, by
        self.field = column.name if by is None else column.name.removesuffix("_id")
        self.is_own = key.column.table is column.table
        self.target = key.column.table.alias()
        self.id = self.target.c[key.column.name]
        self.text = self.id if by is None else self.target.c[by.key]
        if not self.text.primary_key and not is_unique(key.column.table.c[by.key]):
            raise TypeError(f"{by.key} says nothing certain: it is not unique")
        self.found = select(self.text, self.id).where(self.text.in_(bindparam("texts")))

    def type(self) -> Any:
        """What stands in a line, under another name."""
        usual = self.by.class_.model_fields[self.by.key].rebuild_annotation()
        usual = annotated[usual, pydantic.Field(validation_alias=self.field)]
        return annotated[usual, OR_NONE] if self.column.nullable else usual


def is_unique(column: Any) -> bool:
    constraints = column.table.constraints
    return any(isinstance(c, UniqueConstraint) and [*c.columns] == [column] for c in constraints)


class Unique:
    """Columns of which no two rows have the same values, unless one of these is null."""

    def __init__(self, constraint: UniqueConstraint, key: Any) -> None:
        columns = list(constraint.columns)
        self.names = tuple(column.name for column in columns)
        self.values = itemgetter(*self.names)  # one value, or a tuple of several
        # Looked up by one that is no foreign key: of these there may be very many with the same.
        asked = min(columns, key=lambda column: bool(column.foreign_keys))
        self.asked = asked.name
        self.found = select(*columns, key.label("owner")).where(asked.in_(bindparam("values")))

    def value(self, row: Mapping[str, Any]) -> Any:
        found = self.values(row)
        return None if isinstance(found, tuple) and None in found else found


def uniques_of(table: Any, key: Any) -> list[Unique]:
    """What is unique, the least columns first, but for what the database computes."""
    found = [
        Unique(constraint, key)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
        and not any(column.computed for column in constraint.columns)
    ]
    places = list(table.c.keys())
    return sorted(found, key=lambda one: (len(one.names), places.index(one.names[0])))


@dataclass(eq=False)
class Target:
    """The table that lines go into, what a new row needs, and the statements."""

    model: Any
    key: str
    fields: Mapping[str, str]  # by column: what it is called in a file
    references: Mapping[str, Reference]  # by column
    slug_from: str
    tree: str
    on_change: Callable[[Session, list[int]], None] | None

    def __post_init__(self) -> None:
        self.table, self.kind = self.model.__table__, self.model.__name__.lower()
        infos, columns = self.model.model_fields, self.table.c
        if not is_unique(columns[self.key]):
            raise TypeError(f"{self.key} is no key: it is not unique")
        uniques = uniques_of(self.table, columns[self.key])
        self.uniques = [unique for unique in uniques if unique.names != (self.key,)]
        required = [name for name, info in infos.items() if info.is_required()]
        if unknown := [name for name in required if name not in self.fields]:
            raise TypeError(f"A {self.kind} needs {unknown[0]}, which is in no file")
        self.required = [name for name in required if not (self.slug_from and name == "slug")]
        optional = [n for n in infos if n not in ("id", *required) and not columns[n].computed]
        self.defaults = {name: infos[name].default for name in optional}
        self.factories: dict[str, Any] = {
            name: factory
            for name in optional  # but for what is that of created_at
            if (factory := infos[name].default_factory) and name != "updated_at"
        }
        self.settable = [name for name in self.fields if name not in KEPT]
        self.prepare(columns)

    def prepare(self, columns: Any) -> None:
        is_sent = columns[self.key].in_(bindparam("keys"))
        self.locked = select(self.table).where(is_sent).order_by(columns.id).with_for_update()
        self.own_id = f"{self.table.name}_id"  # as the ORM calls it: see `first_taken`
        if self.own_id in columns:
            self.own_id += "_1"
        self.changed = update(self.table).where(columns.id == bindparam(self.own_id))
        links = select(columns.id, columns[self.tree or "id"], columns[self.key])
        self.links = links.order_by(columns.id).with_for_update()
        kept = {column: column for column in columns if column.onupdate}
        settled = update(self.table).where(columns[self.key] == bindparam("row_key"))
        self.settled = {
            name: settled.values({name: bindparam("refers_to"), **kept})
            for name, reference in self.references.items()
            if reference.is_own
        }

    def change(self, row: Row) -> Row:
        """The parameters of `changed`: what a line may set, and one version more."""
        change = {name: row[name] for name in self.settable} | {self.own_id: row["id"]}
        return change | ({"version": row["version"] + 1} if "version" in row else {})

    def new_row(self, sent: Row) -> Row:
        row = self.defaults | {name: make() for name, make in self.factories.items()} | sent
        row.pop("id", None)
        if "updated_at" in row:
            row["updated_at"] = sent.get("updated_at", row["created_at"])
        if self.slug_from and "slug" not in sent:
            row["slug"] = base_slug(self.kind, row[self.slug_from])
        return row


class Import:
    """One file on its way into a table."""

    def __init__(self, target: Target, session: Session, lines: Lines) -> None:
        self.target, self.session, self.lines = target, session, lines
        self.counts = ImportCounts(created=0, updated=0)
        self.numbers: dict[str, int] = {}  # by slug: the next to try after it
        # By column and key: the line that refers to a row of the table that is not there yet.
        self.waiting: dict[tuple[str, Any], tuple[int, Any]] = {}

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self.session.connection().execute(statement, parameters)

    def run(self) -> ImportCounts:
        expect_many_rows(self.session)
        retry_on_conflict(self.session, self.target.key)  # another made the same row meanwhile
        if self.target.tree:  # all are locked: else two that move rows below each other are right
            self.execute(self.target.links).all()
        for batch in self.batches():
            allow_more_time(self.session)
            self.write(batch)
        for (name, _), (line, _) in self.waiting.items():
            self.lines.refuse(line, "Refers to nothing", self.target.fields[name])
        if self.target.tree and not self.lines.errors:
            self.refuse_cycles()
        self.lines.raise_errors()
        return self.counts

    def batches(self) -> Iterator[dict[Any, Line]]:
        """Some lines at a time, by key: so two of the same row come one after the other."""
        batch: dict[Any, Line] = {}
        text = 0
        for line, sent in self.lines:
            key = sent[self.target.key]
            if len(batch) == BATCH or text > MOST_TEXT or key in batch:
                yield batch
                batch, text = {}, 0
            batch[key] = line, sent
            text += sum(len(value) for value in sent.values() if isinstance(value, str))
        yield batch

    def write(self, batch: dict[Any, Line]) -> None:
        """Insert and update what some lines say, in a handful of statements."""
        found = self.execute(self.target.locked, {"keys": [*batch]}).mappings()
        olds = {row[self.target.key]: dict(row) for row in found}
        ids = {
            name: self.ids(reference, [sent.get(name) for _, sent in batch.values()])
            for name, reference in self.target.references.items()
        }
        news = {
            key: new
            for key, (line, sent) in batch.items()
            if self.refer(key, line, sent, ids) and (new := self.row(line, sent, olds.get(key)))
        }
        owners = {unique: self.owners(unique, news.values()) for unique in self.target.uniques}
        inserts: list[Row] = []
        updates: list[Row] = []
        for key, new in news.items():
            (line, sent), old = batch[key], olds.get(key)
            if self.target.slug_from and not old and "slug" not in sent:
                self.number_slug(new, owners)
            if self.take(line, owners, old, new):
                self.counts.updated += bool(old)
                self.counts.created += not old
                if not old:
                    inserts.append(new)
                elif new != old or self.waits(key, line):
                    updates.append(new)
        self.store(inserts, updates)
        self.settle([*updates, *inserts])

    def ids(self, reference: Reference, texts: Iterable[Any]) -> dict[Any, Any]:
        """The ids of the rows that are referred to; None for no row."""
        asked = {text for text in texts if text is not None}
        found = self.execute(reference.found, {"texts": [*asked]}).all() if asked else []
        return {None: None, **dict(found)}

    def refer(self, key: Any, line: int, sent: Row, ids: Mapping[str, Mapping[Any, Any]]) -> bool:
        """Put ids in the place of what a line refers to, or let it wait; or refuse it."""
        for name, reference in self.target.references.items():
            if name not in sent:
                continue
            self.waiting.pop((name, key), None)
            text = sent.pop(name)
            if text in ids[name]:
                sent[name] = ids[name][text]
            elif reference.is_own:
                self.waiting[name, key] = line, text
            else:
                self.lines.refuse(line, "Refers to nothing", reference.field)
                return False
        return True

    def waits(self, key: Any, line: int) -> bool:
        found = (self.waiting.get((name, key)) for name in self.target.settled)
        return any(waiting and waiting[0] == line for waiting in found)

    def row(self, line: int, sent: Row, old: Row | None) -> Row | None:
        """What a row will be, without a place among the unique values; None: a field is missing."""
        if self.target.slug_from and sent.get("slug", "") is None:
            del sent["slug"]
        if old:
            return old | {name: value for name, value in sent.items() if name not in KEPT}
        missing = [name for name in self.target.required if name not in sent]
        for name in missing:
            self.lines.refuse(line, "Field required", self.target.fields[name], type="missing")
        return None if missing else self.target.new_row(sent)

    def owners(self, unique: Unique, rows: Iterable[Row]) -> Owners:
        asked = {row[unique.asked] for row in rows} - {None}
        found = self.execute(unique.found, {"values": [*asked]}).mappings()
        return {unique.value(row): row["owner"] for row in found}

    def number_slug(self, row: Row, owners: Mapping[Unique, Owners]) -> None:
        """Make the slug of a new row, which was made from its name, a free one."""
        taken = next((o for unique, o in owners.items() if unique.names == ("slug",)), {})
        retry_on_conflict(self.session, "slug")
        if (slug := row["slug"]) in taken:
            first, name = self.numbers.get(slug, 2), row[self.target.slug_from]
            free = free_slug(self.session, self.target.model, name, taken=taken, first=first)
            row["slug"] = free
            self.numbers[slug] = int(free.rpartition("-")[2]) + 1

    def take(self, line: int, owners: Mapping[Unique, Owners], old: Row | None, new: Row) -> bool:
        """Make unique values this row's, and those that it had nobody's; or refuse the line."""
        key, is_free = new[self.target.key], True
        for unique, owner in owners.items():
            if old and owner.get(before := unique.value(old)) == key:
                del owner[before]
            value = unique.value(new)
            if value is not None and owner.setdefault(value, key) != key:
                self.lines.refuse(line, "Already exists", self.target.fields[unique.names[0]])
                is_free = False
        return is_free

    def store(self, inserts: list[Row], updates: list[Row]) -> None:
        target = self.target
        if updates:
            self.execute(target.changed, [target.change(row) for row in updates])
            if target.on_change:
                target.on_change(self.session, [row["id"] for row in updates])
        if inserts:
            self.execute(insert(target.table), inserts)

    def settle(self, rows: list[Row]) -> None:
        """Have lines that waited for these rows refer to them."""
        for name, statement in self.target.settled.items() if self.waiting else ():
            reference = self.target.references[name]
            texts = {row.get(reference.text.name) for row in rows}
            waiting = [(key, text) for (n, key), (_, text) in self.waiting.items() if n == name]
            if due := {key: text for key, text in waiting if text in texts}:
                ids = self.ids(reference, due.values())
                changes = [{"row_key": key, "refers_to": ids[text]} for key, text in due.items()]
                self.execute(statement, changes)
                for key in due:
                    del self.waiting[name, key]
        for place in [*self.waiting][MOST_WAITING:]:
            line, _ = self.waiting.pop(place)
            self.lines.refuse(line, "Refers to a line too far below", self.target.fields[place[0]])

    def refuse_cycles(self) -> None:
        """Refuse the lines that put a row below itself."""
        links = self.execute(self.target.links).all()
        ids = in_cycles({id: above for id, above, _ in links})
        keys = {key for id, _, key in links if id in ids}
        tree = self.target.tree
        for line, sent in self.lines if keys else ():
            if sent[self.target.key] in keys and sent.get(tree) is not None:
                self.lines.refuse(line, "Cannot be its own ancestor", self.target.fields[tree])


def in_cycles(above: Mapping[Any, Any]) -> set[Any]:
    """The ids of the rows that are above themselves."""
    walks: dict[Any, Any] = {}  # in which a row was come to
    found: set[Any] = set()
    for start in above:
        id = start
        while id is not None and id not in walks:
            walks[id] = start
            id = above.get(id)
        while id is not None and walks[id] == start and id not in found:
            found.add(id)
            id = above.get(id)
    return found
