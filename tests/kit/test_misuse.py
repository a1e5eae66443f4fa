"""What a route does that it may not is said in a sentence."""

import errno
import logging
import os
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import Session, select
from tiny import get

import db
import kit
from db import Anyone, AsyncRead, Read
from kit import get_or_404
from models import Item, User


def write(session: Read) -> None:
    session.add(Item.model_validate({"title": "Lamp", "price": 1}))


async def write_async(session: AsyncRead) -> None:
    session.add(Item.model_validate({"title": "Lamp", "price": 1}))
    await session.flush()


def list_by_bio(session: Read, paging: kit.Paged) -> list[User]:
    return kit.page(session, select(User), paging, "bio")


def test_a_list_sorted_by_what_may_be_null_is_a_500_whose_log_says_so(
    bare_app: kit.Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Each database would put the nulls in another place, and a page would not find its next."""
    bare_app.get("/wrong", dependencies=[Anyone])(list_by_bio)
    assert get(bare_app, "/wrong").json()["status"] == 500
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith("A list cannot be sorted by user.bio, which may be null")


def change(session: Read) -> None:
    row = session.exec(select(Item)).one()
    row.title = "Lamp"


def change_what_is_found(session: Read) -> None:
    get_or_404(session, Item, 1).price = Decimal(2)


@pytest.mark.parametrize("route", [write, write_async, change, change_what_is_found])
def test_a_write_in_a_read_route_is_a_500_whose_log_begins_with_a_sentence(
    bare_app: kit.Service,
    caplog: pytest.LogCaptureFixture,
    route: Any,
) -> None:
    with Session(db.database.writer.engine) as session:
        session.add(Item.model_validate({"title": "Table", "price": 1}))
        session.commit()
    bare_app.get("/wrong", dependencies=[Anyone])(route)
    assert get(bare_app, "/wrong").json()["status"] == 500
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith("A route that writes has to ")
    assert record.getMessage().endswith(f": {route.__name__}")
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, 503), (errno.EDQUOT, 503), (errno.EMFILE, 503), (errno.ENOENT, 500)],
)
def test_what_the_machine_has_too_little_of_is_a_503_and_no_fault(
    bare_app: kit.Service, number: int, status: int
) -> None:
    def fail(session: Read) -> None:
        raise OSError(number, os.strerror(number))

    bare_app.get("/full", dependencies=[Anyone])(fail)
    assert get(bare_app, "/full").json()["status"] == status
