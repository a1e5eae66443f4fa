"""Rows that are added: with one statement, as the ORM would, in whatever way it can."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import Request
from sqlmodel import Session, col, select
from tiny import get

import db
import kit
import models
from db import Anyone, Write
from kit import add, embed, expect_missing, insert_rows
from models import Item, User

Account: Any = getattr(models, "Account", None)  # which may have been taken out
Post: Any = getattr(models, "Post", None)
Tag: Any = getattr(models, "Tag", None)


@pytest.fixture
def session(bare_app: kit.Service) -> Iterator[Session]:
    request = Request({"type": "http", "path": "/things/"})
    with db.database.writer.session(request) as session:
        yield session


def a_user(**fields: Any) -> User:
    return User(username="ada", email="ada@example.com", password_hash="-", **fields)


def stored(session: Session, model: type[Item] | type[User]) -> list[dict[str, object]]:
    session.commit()
    with Session(db.database.writer.engine) as other:
        rows = other.exec(select(model).order_by(col(model.id))).all()
        return [row.model_dump() for row in rows]


@pytest.mark.every_database
def test_many_rows_get_their_ids_in_the_order_given(session: Session) -> None:
    items = [Item(title=f"{n}", price=Decimal(n + 1)) for n in reversed(range(50))]
    assert insert_rows(session, items) is items
    ids = [item.id for item in items]
    assert ids == list(range(ids[0], ids[0] + 50))
    assert stored(session, Item) == [item.model_dump() for item in items]


@pytest.mark.every_database
def test_a_row_that_is_added_is_the_sessions_and_is_stored_with_what_is_changed_later(
    session: Session,
) -> None:
    user = add(session, a_user(created_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)))
    assert user.updated_at == user.created_at
    assert [*user.model_dump()] == [name for name in User.model_fields if name in user.model_dump()]
    assert user in session
    assert not session.dirty
    user.full_name = "Ada"
    session.flush()
    [found] = stored(session, User)
    assert found == user.model_dump()
    assert (found["full_name"], user.version) == ("Ada", 2)


@pytest.mark.needs("posts")
def test_a_row_with_what_is_related_to_it_is_added_with_that(session: Session) -> None:
    author = add(session, a_user())
    tag = Tag(name="New", slug="new")
    post = add(session, Post(title="A", slug="a", content="B", author_id=author.id, tags=[tag]))
    session.commit()
    with Session(db.database.writer.engine) as other:
        [found] = other.exec(sa.text("SELECT post_id, tag_id FROM post_tag")).all()  # type: ignore[call-overload]
    assert [*found] == [post.id, tag.id]


def test_a_row_may_bring_its_id(session: Session) -> None:
    assert add(session, Item(id=77, title="Lamp", price=Decimal(1))).id == 77
    assert add(session, Item(title="Lamp", price=Decimal(1))).id == 78


def test_what_listens_for_new_rows_is_told(session: Session) -> None:
    told = []

    def listen(*arguments: object) -> None:
        told.append(arguments[-1])

    sa.event.listen(Item, "before_insert", listen)
    sa.event.listen(Item, "after_insert", listen)
    try:
        item = add(session, Item(title="Lamp", price=Decimal(1)))
    finally:
        sa.event.remove(Item, "before_insert", listen)
        sa.event.remove(Item, "after_insert", listen)
    assert told == [item, item]


@pytest.mark.needs("accounts")
def test_what_is_embedded_is_no_change(session: Session) -> None:
    user = add(session, a_user())
    account = add(session, Account(user_id=user.id))
    embed(account, user=user)
    assert account.user is user
    assert not session.dirty


@pytest.mark.needs("accounts")
@pytest.mark.every_database
def test_a_row_that_turns_out_to_be_missing_is_a_404(bare_app: kit.Service) -> None:
    def of_nobody(session: Write) -> Any:
        expect_missing(session, user_id="User 5 not found")
        return add(session, Account(user_id=5))

    bare_app.get("/wrong", dependencies=[Anyone])(of_nobody)
    answer: httpx2.Response = get(bare_app, "/wrong")
    assert (answer.status_code, answer.json()["detail"]) == (404, "User 5 not found")
