"""What the shop's classes are made of: a class per entity is both its table and its JSON.

    Schema          what a client may send
    Partial         the same, of which every field may be left out
    Entity          a row with an id
    Versioned       one that counts its changes, for its ETag
    Created         one that knows when it was made
    Timestamps      and when it was changed last

Constraints and indexes have the same names on every database.
"""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import MISSING, ConfigDict
from sqlalchemy import ColumnElement, Connection, Index, event, text
from sqlalchemy.orm import Mapper, attributes, declared_attr
from sqlalchemy.util import OrderedSet
from sqlmodel import Field, Relationship, SQLModel, col

from kit.fields import now

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Schema(SQLModel):
    """What a client may send: a key that is not known here is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")  # type: ignore[assignment]


def example(**fields: Any) -> Any:
    """The `model_config` of a body, with what /docs fills in: it works in a shop of `demo`."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Partial(SQLModel):
    """For ThingUpdate: every field may be left out, and then is not in `model_dump()` either.

    The fields keep their limits, and a null where none is allowed stays an error.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            field.default, field.default_factory = MISSING, None
        cls.model_rebuild(force=True)


class Entity(SQLModel):
    """A row with an id, which the database gives; the admin pages call it by `str`."""

    # Whether who asks for another user's is told 404 and not 403, so that nobody learns of it.
    is_private: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("name", "title")  # the fields that a row is called by
    keeps_history: ClassVar[bool] = False  # whether its changes are told: see kit.history

    model_config = ConfigDict(  # type: ignore[assignment]
        json_schema_serialization_defaults_required=True
    )

    id: int = Field(
        default=None,
        primary_key=True,
        schema_extra={"json_schema_extra": lambda schema: schema.pop("default", None)},
    )

    def __str__(self) -> str:
        named = (self.__dict__[name] for name in self.named_by if name in self.__dict__)
        return str(next(named, f"{type(self).__name__} {self.id}"))

    @classmethod
    def owned_by(cls, user_id: int) -> ColumnElement[bool]:
        """The condition that a row belongs to this user, for routes that `Owner` may call."""
        if "user_id" not in cls.model_fields:
            raise TypeError(f"{cls.__name__} has to say in `owned_by` whose its rows are")
        return col(cls.user_id) == user_id  # type: ignore[attr-defined]


class Versioned(Entity):
    """An entity whose changes the ORM counts: its `version` is the ETag of its answers."""

    version: int = Field(
        default=1, exclude=True, repr=False, sa_column_kwargs={"server_default": "1"}
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
        return {"version_id_col": cls.__table__.c.version}  # type: ignore[attr-defined]


@event.listens_for(Entity, "after_insert", propagate=True)
def in_declared_order(_: Mapper[Any], __: Connection, row: Entity) -> None:
    """Put a new row's values in the order of its fields, which is that of the JSON keys."""
    values = row.__dict__
    for name in type(row).model_fields:
        if name in values:
            values[name] = values.pop(name)


@event.listens_for(Mapper, "after_configured")
def load_in_declared_order() -> None:
    """The same for rows that are loaded, at no cost for each.

    SQLAlchemy fills them in from a set, and so in another order in every process.
    """
    for mapper in SQLModel._sa_registry.mappers:
        mapper.__dict__["_prop_set"] = OrderedSet(mapper.attrs)


class Created(SQLModel):
    created_at: datetime = Field(default_factory=now)


class Timestamps(Created):
    updated_at: datetime = Field(default_factory=now, sa_column_kwargs={"onupdate": now})


@event.listens_for(Timestamps, "before_insert", propagate=True)
def unchanged_so_far(_: Mapper[Any], __: Connection, row: Timestamps) -> None:
    row.updated_at = row.created_at


def has_changed(row: Entity, name: str) -> bool:
    return bool(attributes.get_history(row, name).has_changes())


def listed_by(*columns: str) -> tuple[Index, ...]:
    """An index for each column that lists are filtered or sorted by.

    With the id, by which they are sorted within it: so a page is read from the index as it is,
    however many rows there are. One on a foreign key's column also serves the foreign key.
    """
    return tuple(Index(None, column, "id") for column in columns)


def listed_within(column: str, *sorts: str) -> tuple[Index, ...]:
    """Indexes for lists of the rows with one value of a column, sorted by another one.

    MariaDB and MySQL do without. They find a page by the index of the sort; in one of these they
    would read all that comes before it.
    """
    info = {"not_on": ("mariadb", "mysql")}
    return tuple(Index(None, column, sort, "id", info=info) for sort in sorts)


def listed_by_false(flag: str) -> Index:
    """An index for lists of those rows alone, the few, whose flag is false.

    The others are found in whatever order they are asked for. With an index for these too,
    SQLite would find half a table by it, and sort that, however few rows are asked for.
    """
    few, few_on_sqlite = text(f"NOT {flag}"), text(f"{flag} = 0")
    return Index(None, flag, "id", postgresql_where=few, sqlite_where=few_on_sqlite)


def listed_by_true(flag: str) -> Index:
    """The same where those are the few whose flag is true."""
    few, few_on_sqlite = text(flag), text(f"{flag} = 1")
    return Index(None, flag, "id", postgresql_where=few, sqlite_where=few_on_sqlite)


def related(**options: Any) -> Any:
    """A relationship, which a route loads where it returns it: nothing is loaded unseen.

    The options are those of SQLAlchemy's `relationship`; `link_model` is SQLModel's own.
    """
    link_model = options.pop("link_model", None)
    return Relationship(link_model=link_model, sa_relationship_kwargs={"lazy": "raise", **options})
