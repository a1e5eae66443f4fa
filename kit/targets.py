"""A table that a file goes into: what is unique in it, what it refers to, and the statements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any

import pydantic
from pydantic import TypeAdapter, WrapValidator
from sqlalchemy import String, Text, UniqueConstraint, bindparam, func, select, update
from sqlmodel import AutoString, Session

from kit.fields import NO_NUL
from kit.search import base_slug
from kit.tables import Timestamps, Versioned

KEPT = {*Versioned.model_fields, *Timestamps.model_fields}  # of a row that exists

annotated: Any = Annotated  # for types that are known at run time alone
OR_NONE = WrapValidator(lambda value, usual: None if value is None else usual(value))
LOOKED_FOR = annotated[str, pydantic.Field(max_length=1000), NO_NUL]

Row = dict[str, Any]


# Statements are built once: one with a list in it is garbage that refers to itself, which stays in
# memory until Python looks for such.


class Reference:
    """A foreign key, in whose place a file has text of the row that is referred to.

    by: columns: the first, which is unique, has this text; where no row has it there, it is the
        text of another one, if there is exactly one row with it.
    """

    def __init__(self, column: Any, *by: Any) -> None:
        (key,) = column.foreign_keys
        self.column, self.by = column, by
        self.field = column.name.removesuffix("_id") if by else column.name
        self.is_own = key.column.table is column.table
        self.target = key.column.table.alias()
        self.id = self.target.c[key.column.name]
        self.text, *others = [self.target.c[each.key] for each in by] or [self.id]
        if by and not is_unique(key.column.table.c[self.text.name]):
            raise TypeError(f"{self.text.name} says nothing certain: it is not unique")
        self.found = [self.lookup(self.text, self.id)]
        for text in others:
            found = self.lookup(text, func.min(self.id)).group_by(text)
            self.found.append(found.having(func.count() == 1))

    def lookup(self, text: Any, id: Any) -> Any:
        return select(text, id).where(text.in_(bindparam("texts")))

    def type(self) -> Any:
        """What stands in a line, under another name."""
        usual = self.by[0].class_.model_fields[self.by[0].key].rebuild_annotation()
        usual = usual if len(self.by) == 1 else LOOKED_FOR
        usual = annotated[usual, pydantic.Field(validation_alias=self.field)]
        return annotated[usual, OR_NONE] if self.column.nullable else usual


def is_unique(column: Any) -> bool:
    constraints = column.table.constraints
    return any(isinstance(c, UniqueConstraint) and [*c.columns] == [column] for c in constraints)


class Unique:
    """Columns of which no two rows have the same values, unless one of these is null."""

    def __init__(self, constraint: UniqueConstraint, key: Any, kept: Row) -> None:
        columns = list(constraint.columns)
        self.names = tuple(column.name for column in columns)
        self.values = itemgetter(*self.names)  # one value, or a tuple of several
        # Looked up by one that is no foreign key: of these there may be very many with the same.
        asked = min(columns, key=lambda column: bool(column.foreign_keys))
        self.asked = asked.name
        self.found = select(*columns, key.label("owner")).where(asked.in_(bindparam("values")))
        # Set aside, while others exchange theirs, by a null or else by a text that nobody has.
        self.is_null_aside = any(column.nullable for column in columns)
        places = [c for c in columns if c.nullable or (not self.is_null_aside and holds_text(c))]
        self.aside: Any = places[0].name if places else None
        row = update(key.table).where(key == bindparam("row_key"))
        if self.aside:
            self.set_aside = row.values({self.aside: bindparam("aside"), **kept})
        self.put_back = row.values({name: bindparam(f"own_{name}") for name in self.names} | kept)

    def value(self, row: Mapping[str, Any]) -> Any:
        found = self.values(row)
        return None if isinstance(found, tuple) and None in found else found


def holds_text(column: Any) -> bool:
    """Whether text of some 40 characters has room in a column."""
    return type(column.type) in (AutoString, String, Text) and (column.type.length or 40) >= 40


def uniques_of(table: Any, key: Any, kept: Row) -> list[Unique]:
    """What is unique, the least columns first, but for what the database computes."""
    found = [
        Unique(constraint, key, kept)
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
    adds: Mapping[str, str]  # by what a file calls it: the column that it is added to
    on_change: Callable[[Session, list[int]], None] | None

    def __post_init__(self) -> None:
        self.table, self.kind = self.model.__table__, self.model.__name__.lower()
        infos, columns = self.model.model_fields, self.table.c
        if not is_unique(columns[self.key]):
            raise TypeError(f"{self.key} is no key: it is not unique")
        self.kept = {column: column for column in columns if column.onupdate}
        uniques = uniques_of(self.table, columns[self.key], self.kept)
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
        added = {*self.adds.values()}
        self.sums = {name: TypeAdapter(infos[name].rebuild_annotation()) for name in added}
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
        settled = update(self.table).where(columns[self.key] == bindparam("row_key"))
        self.settled = {
            name: settled.values({name: bindparam("refers_to"), **self.kept})
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
