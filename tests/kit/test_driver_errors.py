"""What a foreign key refused is told by its name: `driver_errors.explain`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKeyConstraint, MetaData, bindparam
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel

import db
from kit.driver_errors import explain

pytestmark = pytest.mark.every_database


class Own(SQLModel, registry=registry(metadata=MetaData())):
    """Tables of these tests alone."""

    id: int = Field(default=None, primary_key=True)


Own.metadata.naming_convention = SQLModel.metadata.naming_convention


class Maker(Own, table=True):
    code: str = Field(max_length=10, unique=True)


class Place(Own, table=True):
    row: int
    seat: int
    __table_args__ = (sa.UniqueConstraint("row", "seat"),)


class Thing(Own, table=True):
    """Refers to all of them, and to itself."""

    thing_id: int | None = Field(default=None, foreign_key="thing.id")
    maker_id: int | None = Field(default=None, foreign_key="maker.id", ondelete="CASCADE")
    seller_id: int | None = Field(default=None, foreign_key="maker.id", ondelete="RESTRICT")
    maker_code: str | None = Field(default=None, foreign_key="maker.code", max_length=10)
    row: int | None = None
    seat: int | None = None
    __table_args__ = (ForeignKeyConstraint(["row", "seat"], ["place.row", "place.seat"]),)


class Part(Own, table=True):
    maker_id: int | None = Field(default=None, foreign_key="maker.id", ondelete="SET NULL")
    thing_id: int = Field(foreign_key="thing.id", ondelete="RESTRICT")


Change = Callable[[Session], Any]
THING: Any = Thing
things, makers = Own.metadata.tables["thing"], Own.metadata.tables["maker"]
FIELDS = {"thing_id": 99, "maker_id": 99, "seller_id": 99, "maker_code": "none", "seat": 9}


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    """A session where thing 1, of maker 1, has a part, and maker 2 nothing."""
    engine = db.database.writer.engine
    Own.metadata.create_all(engine)
    first = [*(Maker(code=f"m{n}") for n in (1, 2, 3)), Place(row=1, seat=1)]
    with Session(engine, expire_on_commit=False) as session:
        for some in (first, [thing(), Thing()], [Part(maker_id=3, thing_id=1)]):
            session.add_all(some)
            session.flush()
        session.commit()
        yield session
        session.rollback()
    Own.metadata.drop_all(engine)


def given(**values: Any) -> dict[str, Any]:
    """Values of a thing that all refer to something."""
    row = {"thing_id": None, "maker_id": 1, "seller_id": 1, "maker_code": "m1"}
    return row | {"row": 1, "seat": 1} | values


def thing(**values: Any) -> Thing:
    return Thing(**given(**values))


def told(session: Session, change: Change) -> str:
    def make() -> None:
        change(session)
        session.flush()

    with pytest.raises(sa.exc.IntegrityError) as error:
        make()
    session.rollback()
    return str(explain(error.value, session.get_bind().engine))


def change_row(session: Session, **values: Any) -> None:
    session.get_one(Thing, 1).sqlmodel_update(values)


ONE = things.c.id == 1
UPDATES: dict[str, Callable[..., Change]] = {
    "a changed row": lambda **new: lambda session: change_row(session, **new),
    "an UPDATE": lambda **new: (
        lambda session: session.exec(sa.update(THING).where(ONE).values(new))
    ),
    "an UPDATE of a table": lambda **new: (
        lambda session: session.connection().execute(things.update().where(ONE).values(new))
    ),
    "rows by their ids": lambda **new: (
        lambda session: session.execute(sa.update(Thing), [given(id=2), given(id=1, **new)])
    ),
    "an UPDATE for each": lambda **new: (
        lambda session: session.connection().execute(
            things.update()
            .where(things.c.id == bindparam("which"))
            .values({name: bindparam(f"new_{name}") for name in new}),
            [{"which": 1, **{f"new_{name}": value for name, value in new.items()}}],
        )
    ),
}
INSERTS: dict[str, Callable[..., Change]] = {
    "a new row": lambda **new: lambda session: session.add(thing(**new)),
    "new rows": lambda **new: lambda session: session.add_all([thing(), thing(**new)]),
    "a row that refers to itself": lambda **new: (
        lambda session: session.add(thing(**{"id": 7, "thing_id": 7} | new))
    ),
    "an INSERT": lambda **new: lambda session: session.exec(sa.insert(THING).values(given(**new))),
    "an INSERT for each": lambda **new: (
        lambda session: session.connection().execute(things.insert(), [given(), given(**new)])
    ),
    "an INSERT of many": lambda **new: (
        lambda session: session.connection().execute(
            things.insert().values([given(), given(**new)])
        )
    ),
    "an INSERT from a SELECT": lambda **new: (
        lambda session: session.connection().execute(
            things.insert().from_select([*given()], sa.select(*selected(**new)))
        )
    ),
}


def selected(**new: Any) -> list[sa.Label[Any]]:
    row = given(**new).items()
    return [sa.cast(value, things.columns[name].type).label(name) for name, value in row]


@pytest.mark.parametrize("how", [*UPDATES, *INSERTS])
def test_the_field_that_refers_to_nothing_is_named(session: Session, how: str) -> None:
    change = (UPDATES | INSERTS)[how]
    for field, value in FIELDS.items():
        named = "row" if field == "seat" else field
        assert told(session, change(**{field: value})) == f"{named} refers to nothing"


DELETES: dict[str, Callable[[Session, Any, int], Any]] = {
    "a deleted row": lambda session, model, id: session.delete(session.get_one(model, id)),
    "a DELETE": lambda session, model, id: session.exec(sa.delete(model).where(model.id == id)),
    "a DELETE that says more": lambda session, model, id: session.exec(
        sa.delete(model).where(model.id == id, model.id != 3, model.id < 9)
    ),
}


@pytest.mark.parametrize("how", DELETES)
def test_the_field_that_still_refers_to_a_deleted_row_is_named(session: Session, how: str) -> None:
    def refused(model: type[Own], id: int) -> str:
        return told(session, lambda session: DELETES[how](session, model, id))

    assert refused(Thing, 1) == "Thing is still referred to by part.thing_id"
    assert refused(Place, 1) == "Place is still referred to by thing.row"
    change_row(session, seller_id=None, maker_code=None)
    session.commit()
    assert refused(Maker, 1) == "Thing is still referred to by part.thing_id"
    change_row(session, maker_id=None, seller_id=1)
    session.commit()
    assert refused(Maker, 1) == "Maker is still referred to by thing.seller_id"


def test_the_field_that_still_refers_to_what_a_row_was_called_is_named(session: Session) -> None:
    change = makers.update().where(makers.c.id == 1).values(code="new")
    refused = told(session, lambda session: session.connection().execute(change))
    assert refused == "Maker is still referred to by thing.maker_code"


def test_where_the_field_is_not_known_it_is_not_told_that_something_exists(
    session: Session,
) -> None:
    update, delete = sa.text("UPDATE thing SET seller_id = 99"), sa.text("DELETE FROM place")
    assert told(session, lambda session: session.execute(update)).endswith("refers to nothing")
    assert "is still referred to" in told(session, lambda session: session.execute(delete))
