"""A changed row: stored by one statement, or by the ORM where that does more; alike in any case."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Request
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, col, select

import db
import kit
import models
from kit import add_to, get_or_404
from models import Item, User

Product: Any = getattr(models, "Product", None)  # which may have been taken out
Post: Any = getattr(models, "Post", None)
Tag: Any = getattr(models, "Tag", None)


@pytest.fixture
def session(bare_app: kit.Service) -> Iterator[Session]:
    with Session(db.database.writer.engine) as writer:
        writer.add_all(Item(title=f"Lamp {n}", price=Decimal(n)) for n in range(1, 4))
        writer.add(User(username="ada", email="ada@example.com", password_hash="-"))
        writer.commit()
    with db.database.writer.session(Request({"type": "http", "path": "/"})) as session:
        yield session


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that change something, as they are sent."""
    engine, statements = db.database.writer.engine, list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith(("SELECT", "BEGIN")):
            statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", note)


def stored(session: Session, model: Any, id: int = 1) -> Any:
    session.commit()
    with Session(db.database.writer.engine) as other:
        return other.get(model, id)


@pytest.mark.every_database
def test_a_changed_row_is_stored_with_its_next_version(session: Session, sent: list[str]) -> None:
    item = get_or_404(session, Item, 2)
    item.title, item.price = "Desk", Decimal("7.50")
    session.flush()
    assert item.version == 2
    item.is_available = False
    found = stored(session, Item, 2)
    assert found.model_dump() == item.model_dump()
    assert (found.title, found.is_available, found.version) == ("Desk", False, 3)
    assert len(sent) == 2
    assert "title=" in sent[0].replace(" ", "").replace("`", "")
    assert "is_available=" not in sent[0].replace(" ", "").replace("`", "")


def test_what_is_set_to_what_it_was_is_no_change(session: Session, sent: list[str]) -> None:
    item = get_or_404(session, Item, 1)
    item.title, item.price = "Lamp 1", Decimal("1.00")
    assert stored(session, Item).version == 1
    assert sent == []


@pytest.mark.every_database
@pytest.mark.needs("products")
def test_times_of_change_are_minded_as_by_the_orm(session: Session) -> None:
    session.add(Product(name="A", slug="a", sku="A", price=Decimal(1), stock_quantity=1))
    session.commit()
    session.close()
    product = get_or_404(session, Product, 1)
    before = product.updated_at
    product.name = "B"
    found = stored(session, Product)
    assert found.updated_at == product.updated_at > before
    assert [*found.__dict__] == [*product.__dict__]


def test_a_row_with_another_version_by_now_is_stale(session: Session) -> None:
    item = get_or_404(session, Item, 1)
    session.connection().execute(sa.update(Item).values(version=7))
    item.title = "Desk"
    with pytest.raises(StaleDataError):
        session.flush()


def test_what_listens_for_changes_is_told_once(session: Session) -> None:
    told = []

    def listen(*arguments: object) -> None:
        told.append(arguments[-1])

    for name in ("before_update", "after_update"):
        sa.event.listen(Item, name, listen)
    try:
        item = get_or_404(session, Item, 1)
        item.title = "Desk"
        session.flush()
        session.flush()
    finally:
        for name in ("before_update", "after_update"):
            sa.event.remove(Item, name, listen)
    assert told == [item, item]


@pytest.mark.every_database
def test_what_the_database_derives_from_a_change_is_left_to_the_orm(session: Session) -> None:
    user = get_or_404(session, User, 1)
    user.username, stamp = "Bea", user.stamp
    user.is_active = False
    found = stored(session, User)
    assert (found.username_key, found.version) == ("bea", 2)
    assert found.stamp == user.stamp != stamp  # by what listens for updates of users


@pytest.mark.every_database
def test_several_changed_rows_and_sql_are_left_to_the_orm(session: Session) -> None:
    first, second = get_or_404(session, Item, 1), get_or_404(session, Item, 2)
    first.title = second.title = "Desk"
    session.flush()
    assert (first.version, second.version) == (2, 2)
    session.close()
    third = get_or_404(session, Item, 3)
    third.price = Item.price + Decimal(1)
    assert stored(session, Item, 3).price == Decimal(4)


@pytest.mark.needs("posts")
def test_what_is_related_is_left_to_the_orm(session: Session) -> None:
    session.add(Post(title="A", slug="a", content="B", author_id=1))
    session.commit()
    session.close()
    post = get_or_404(session, Post, 1, sa.orm.selectinload(Post.tags))
    post.tags = [Tag(name="New", slug="new")]
    post.title = "C"
    session.commit()
    with Session(db.database.writer.engine) as other:
        [link] = other.exec(sa.text("SELECT post_id, tag_id FROM post_tag")).all()  # type: ignore[call-overload]
        assert [*link] == [1, 1]
        assert other.exec(select(Post.title)).one() == "C"


def test_a_query_finds_what_was_changed_before(session: Session) -> None:
    item = get_or_404(session, Item, 1)
    item.title = "Desk"
    assert session.exec(select(Item).where(Item.title == "Desk")).one() is item
    session.exec(sa.update(Item).values(title="Chair"))
    assert item.title == "Chair"


def test_a_row_is_one_object_however_it_is_asked_for(session: Session) -> None:
    item = get_or_404(session, Item, 1)
    assert session.get(Item, 1) is item
    assert session.exec(select(Item).order_by(col(Item.id))).first() is item
    assert item in session


def test_rows_are_refreshed_and_deleted_as_usual(session: Session) -> None:
    item = get_or_404(session, Item, 1)
    session.connection().execute(sa.update(Item).values(title="Desk"))
    session.refresh(item)
    assert item.title == "Desk"
    session.delete(get_or_404(session, Item, 2))
    assert stored(session, Item, 2) is None
    assert stored(session, Item, 1).title == "Desk"


def test_what_fails_in_a_flush_is_not_committed_after_all(session: Session) -> None:
    get_or_404(session, Item, 1).title = "Desk"
    session.flush()
    session.add(User(username="ada", email="ada@example.com", password_hash="-"))
    with pytest.raises(sa.exc.IntegrityError):
        session.flush()
    with pytest.raises(sa.exc.PendingRollbackError):
        session.commit()
    session.rollback()
    assert stored(session, Item).title == "Lamp 1"


@pytest.mark.every_database
@pytest.mark.needs("products")
def test_numbers_of_several_rows_are_added_to_by_one_statement(
    session: Session, sent: list[str]
) -> None:
    for name in "abc":
        more = {"price": Decimal(1), "stock_quantity": 5}
        session.add(Product(name=name, slug=name, sku=name, **more))
    session.commit()
    rows = {row.id: row for row in session.exec(select(Product))}
    sent.clear()
    add_to(session, Product.stock_quantity, [(rows[1], -2), (rows[3], 7)])
    add_to(session, Product.price, [(rows[2], Decimal("0.50"))])
    assert len(sent) == 2
    session.commit()
    with Session(db.database.writer.engine) as other:
        stored = other.exec(select(Product).order_by(Product.id)).all()
    found = [(row.stock_quantity, row.price, row.version) for row in stored]
    assert found == [(3, Decimal(1), 2), (5, Decimal("1.50"), 2), (12, Decimal(1), 2)]
