"""What a history is told by: statements for many rows, and nothing where it is off."""

import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Make
from databases import HOME
from fastapi import Request, Response
from sqlmodel import Session, select

import db
import models
from kit.transactions import transact
from models import Change

Product: Any = getattr(models, "Product", None)  # which may have been taken out

pytestmark = [pytest.mark.every_database, pytest.mark.needs("products")]


def told_of(*statements: Any) -> list[Any]:
    """What changes of products are told, when a request runs these."""
    scope: Any = {"type": "http", "method": "POST", "path": "/", "headers": []}
    session = db.database.writer.session(Request(scope), Response())

    def work() -> None:
        for statement in statements:
            session.exec(statement)

    with Session(db.database.writer.engine) as other:
        before = len(other.exec(select(Change)).all())
        other.rollback()
        transact(work, session, float("inf"))
        changes = other.exec(select(Change).order_by(Change.id)).all()[before:]  # type: ignore[arg-type]
    return [(change.entity_id, change.kind, change.fields) for change in changes]


def price(before: Any, after: Any) -> Any:
    return {"price": {"before": before, "after": after}}


@pytest.fixture
def three(make: Make) -> None:
    for n in range(3):
        make("products", price=n + 1)


@pytest.mark.usefixtures("three")
def test_values_that_the_database_works_out_are_told() -> None:
    more = sa.update(Product).where(Product.id > 1)
    found = told_of(more.values(stock_quantity=Product.stock_quantity * 2))
    fields = {"stock_quantity": {"before": 100, "after": 200}}
    assert found == [(2, "updated", fields), (3, "updated", fields)]


@pytest.mark.usefixtures("three")
def test_all_rows_and_several_statements_are_told() -> None:
    found = told_of(
        sa.update(Product).values(
            {Product.price: Decimal(2), Product.version: Product.version + 1}
        ),
        sa.delete(Product),
    )
    assert [(id, kind) for id, kind, _ in found] == [
        (1, "updated"),
        (3, "updated"),
        *((id, "deleted") for id in (1, 2, 3)),
    ]
    assert [fields for _, _, fields in found[:2]] == [price(1.0, 2.0), price(3.0, 2.0)]


@pytest.mark.usefixtures("three")
def test_what_is_not_told_of_is_not_looked_for() -> None:
    sent = list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement.split()[0])

    sa.event.listen(db.database.writer.engine, "before_cursor_execute", note)
    found = told_of(sa.update(Product).values(version=Product.version + 1))
    sa.event.remove(db.database.writer.engine, "before_cursor_execute", note)
    assert (found, sent.count("UPDATE")) == ([], 1)
    assert sent.count("SELECT") == 2  # by this test itself


def test_with_no_days_nothing_listens() -> None:
    code = """
import db
from sqlalchemy.event import contains
from kit.loading import WriteSession
from models import User
history = db.history
print(contains(WriteSession, "do_orm_execute", history.on_many), history.models)
print(contains(User, "before_update", history.on_update))
"""
    run, done = [sys.executable, "-c", code], list[str]()
    for days in ("1", "0"):
        env = {"HISTORY_DAYS": days, "PATH": ""}
        process = subprocess.run(run, cwd=HOME, env=env, capture_output=True, text=True, check=True)
        done.append(process.stdout.split()[0] + process.stdout.split()[-1])
    assert done == ["TrueTrue", "FalseFalse"]
