"""Sessions that only read: their rows, and the connections that their threads keep."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Request
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import joinedload
from sqlmodel import Field, Session, col, select

import db
import kit
import models
from kit.loading import KeptConnections, is_as_its_table
from kit.problems import MisuseError
from kit.tables import Entity
from models import Item, User

Account: Any = getattr(models, "Account", None)  # which may have been taken out


@pytest.fixture
def session(bare_app: kit.Service) -> Iterator[Session]:
    with Session(db.database.writer.engine) as writer:
        writer.add_all(Item(title=f"Lamp {n}", price=Decimal(n) / 2) for n in range(1, 4))
        user = User(username="ada", email="ada@example.com", password_hash="-")
        writer.add(user)
        writer.flush()
        if Account:
            writer.add(Account(user_id=user.id, balance=Decimal("1.50")))
        writer.commit()
    with db.database.reader.session(Request({"type": "http", "path": "/"})) as session:
        yield session
    db.database.reader.kept.give_back()


@pytest.mark.every_database
def test_the_rows_are_those_that_the_orm_gives(session: Session) -> None:
    for query in (
        select(Item).where(col(Item.price) >= Decimal(1)).order_by(col(Item.id).desc()),
        select(User),
        select(User).where(User.username == "ada"),
    ):
        rows = session.exec(query).all()
        with Session(db.database.reader.engine) as orm:
            usual = orm.exec(query).all()
        assert [row.model_dump() for row in rows] == [row.model_dump() for row in usual] != []
        assert [[*row.__dict__] for row in rows] == [[*row.__dict__] for row in usual]
        assert [sa.inspect(row).identity for row in rows] == [(row.id,) for row in usual]


def test_queries_for_something_else_give_what_they_give_elsewhere(session: Session) -> None:
    assert session.exec(select(Item.id).order_by(col(Item.id))).all() == [1, 2, 3]
    assert session.exec(select(sa.func.count()).select_from(Item)).one() == 3
    pairs = session.exec(select(User, Item).join(Item, col(Item.id) == User.id)).all()
    assert [(user.username, item.title) for user, item in pairs] == [("ada", "Lamp 1")]


@pytest.fixture
def writing(session: Session) -> Iterator[Session]:
    with db.database.writer.session(Request({"type": "http", "path": "/"})) as writing:
        yield writing


def test_a_row_that_a_query_gives_twice_is_one_object(session: Session, writing: Session) -> None:
    twice = select(Item).join(User, sa.true()).where(Item.id == 1)
    writing.add(User(username="bea", email="bea@example.com", password_hash="-"))
    writing.commit()
    writing.close()
    for either in (session, writing):
        first, second = either.exec(twice)
        assert first is second


def test_what_listens_for_rows_that_are_loaded_is_told(session: Session) -> None:
    told = []

    def listen(row: Item, _: object) -> None:
        told.append(row)

    sa.event.listen(Item, "load", listen)
    try:
        rows = session.exec(select(Item)).all()
    finally:
        sa.event.remove(Item, "load", listen)
    assert told == rows != []


class Own(Entity, registry=sa.orm.registry(metadata=sa.MetaData())):
    """Tables of these tests alone."""


class Named(Own, table=True):
    title: str = Field(sa_column=sa.Column("its_title", sa.String(10)))


def test_rows_whose_fields_are_not_their_columns_are_left_to_the_orm() -> None:
    assert not is_as_its_table(sa.inspect(Named))
    assert is_as_its_table(sa.inspect(Item))


@pytest.mark.every_database("postgresql")
def test_what_failed_unseen_is_not_committed_as_if_it_had_not(writing: Session) -> None:
    writing.connection().execute(sa.update(Item).values(title="Desk"))
    with pytest.raises(sa.exc.DBAPIError):
        writing.connection().exec_driver_sql("SELECT nothing")
    with pytest.raises(MisuseError):
        writing.commit()


@pytest.mark.needs("accounts")
def test_what_is_related_is_there_when_the_query_loads_it_and_else_an_error(
    session: Session,
) -> None:
    query = select(Account)
    with pytest.raises(InvalidRequestError, match=r"Account\.user"):
        session.exec(query).one().user  # noqa: B018
    loaded = session.exec(query.options(joinedload(Account.user))).one()
    assert loaded.user.username == "ada"


@pytest.mark.every_database
def test_a_thread_keeps_its_connection_and_gives_it_back(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, opened = db.database.reader.kept, list[object]()
    monkeypatch.setattr(kept, "engine", Counting(kept.engine, opened))
    kept.give_back()
    for _ in range(3):
        assert len(session.exec(select(Item)).all()) == 3
        session.close()
    assert len(opened) == 1
    used = db.database.pool_use()
    assert used["checked_out"] == 0  # nobody uses it
    session.exec(select(Item)).all()
    assert db.database.pool_use()["checked_out"] == 1
    session.close()
    kept.give_back()
    session.exec(select(Item)).all()
    assert len(opened) == 2
    monkeypatch.setattr(KeptConnections, "LONGEST", -1)
    for more in (3, 4):
        session.close()
        kept.give_back()
        session.exec(select(Item)).all()
        session.exec(select(Item.id)).all()  # the ORM's way, in the same session
        assert len(opened) == more


@pytest.mark.every_database("postgresql", "mysql")
def test_a_connection_that_is_lost_is_replaced(session: Session) -> None:
    session.exec(select(Item)).all()
    db.database.reader.kept.connection().connection.dbapi_connection.close()  # type: ignore[union-attr]
    with pytest.raises(sa.exc.DBAPIError):
        session.exec(select(Item)).all()
    session.close()
    assert len(session.exec(select(Item)).all()) == 3


class Counting:
    """An engine that notes the connections that it gives."""

    def __init__(self, engine: sa.Engine, opened: list[object]) -> None:
        self.engine, self.opened = engine, opened

    def connect(self) -> sa.Connection:
        self.opened.append(None)
        return self.engine.connect()


@pytest.mark.every_database
def test_a_session_has_the_same_connection_from_its_beginning_to_its_end(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeptConnections, "LONGEST", -1)
    used = {id(session.connection()) for _ in range(3)}
    assert len(used) == 1
    assert session.exec(select(Item.id)).all()
    session.close()
    assert len(session.exec(select(Item)).all()) == 3
