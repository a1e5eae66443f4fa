"""Notifications: one for every order and every change of its status, never at its cost."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults

import db
from models import Notification

pytestmark = pytest.mark.every_database

ONE = [{"product_id": 1, "quantity": 1}]


@contextlib.contextmanager
def no_table() -> Iterator[None]:
    """While this lasts, there is no table to write a notification to."""
    away = "notification_away"
    with db.database.writer.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE notification RENAME TO {away}")
    try:
        yield
    finally:
        with db.database.writer.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {away} RENAME TO notification")


@contextlib.contextmanager
def one_for_each_user() -> Iterator[None]:
    """While this lasts, the table refuses a second notification for the same user."""
    table = sa.Table("notification", sa.MetaData(), sa.Column("user_id", sa.Integer))
    index = sa.Index("one_for_each_user", table.c.user_id, unique=True)
    with db.database.writer.engine.begin() as connection:
        index.create(connection)
    try:
        yield
    finally:
        with db.database.writer.engine.begin() as connection:
            index.drop(connection)


Fault = Callable[[], AbstractContextManager[None]]
faults = pytest.mark.parametrize("fault", [no_table, one_for_each_user])


def test_placing_an_order_notifies_its_user(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("users")
    make("products")
    order = make("orders", user_id=2, items=ONE)
    [note] = client.get("/notifications/").json()
    assert order["order_number"] in note["message"]
    assert note["created_at"].endswith("Z")
    assert note == with_defaults(
        Notification,
        {
            "id": 1,
            "user_id": 2,
            "order_id": 1,
            "message": note["message"],
            "created_at": note["created_at"],
        },
    )
    assert list(note) == columns_of(Notification)


@pytest.mark.parametrize(
    "statuses", [["confirmed", "shipped", "delivered"], ["confirmed", "cancelled"], ["cancelled"]]
)
def test_every_change_of_the_status_notifies_the_user(
    client: httpx2.Client, make: Make, statuses: list[str]
) -> None:
    make("users")
    make("products")
    order = make("orders", user_id=1, items=ONE)
    for n, status in enumerate(statuses, start=2):
        assert client.patch(f"/orders/1/status?new_status={status}").status_code == 200
        notes = client.get("/notifications/").json()
        assert len(notes) == n
        assert (notes[-1]["user_id"], notes[-1]["order_id"]) == (1, 1)
        assert order["order_number"] in notes[-1]["message"]
        assert status in notes[-1]["message"]


@pytest.mark.needs("accounts", "transfers", "payments")
def test_paying_notifies_of_the_confirmation(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products")
    make("accounts", user_id=1, balance=10)
    make("orders", user_id=1, items=ONE)
    assert client.post("/orders/1/payments", json={"account_id": 1}).status_code == 201
    notes = client.get("/notifications/").json()
    assert len(notes) == 2
    assert "confirmed" in notes[1]["message"]


def test_a_refused_change_notifies_nobody(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", stock_quantity=1)
    make("orders", user_id=1, items=ONE)
    before = client.get("/notifications/").json()
    assert client.post("/orders/", json={"user_id": 1, "items": ONE}).status_code == 400
    assert client.patch("/orders/1/status?new_status=delivered").status_code == 400
    assert client.delete("/orders/1").status_code == 400
    assert client.get("/notifications/").json() == before


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("user_id=1", [1, 3, 4]),
        ("user_id=2", [2]),
        ("user_id=9", []),
        ("order_id=1", [1, 4]),
        ("order_id=2&user_id=1", []),
        ("order_id=9", []),
        ("sort=-id", [4, 3, 2, 1]),
        ("sort=-id&after=3", [2, 1]),
        ("after=3", [4]),
        ("skip=1&limit=2", [2, 3]),
    ],
)
def test_notifications_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, ids: list[int]
) -> None:
    make("users")
    make("users")
    make("products")
    for user_id in (1, 2, 1):
        make("orders", user_id=user_id, items=ONE)
    client.patch("/orders/1/status?new_status=confirmed")
    assert [note["id"] for note in client.get(f"/notifications/?{query}").json()] == ids


@pytest.mark.parametrize("query", ["user_id=0", "order_id=x", "sort=message", "limit=0", "x=1"])
def test_a_bad_query_for_notifications_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/notifications/?{query}").status_code == 422


def test_following_the_links_visits_every_notification_once(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    for _ in range(5):
        make("orders", user_id=1, items=ONE)
    seen, url = [], "/notifications/?user_id=1&limit=2"
    while url:
        response = client.get(url)
        seen.append([note["id"] for note in response.json()])
        url = response.links.get("next", {}).get("url", "")
    assert seen == [[1, 2], [3, 4], [5]]


@faults
def test_an_order_stands_when_its_notification_cannot_be_written(
    client: httpx2.Client, make: Make, fault: Fault
) -> None:
    make("users")
    make("products", stock_quantity=5)
    first = make("orders", user_id=1, items=ONE)
    with fault():
        second = make("orders", user_id=1, items=ONE)
    assert client.get("/orders/2").json() == second
    assert client.get("/products/1").json()["stock_quantity"] == 3
    notes = client.get("/notifications/").json()
    assert [note["order_id"] for note in notes] == [first["id"]]


@faults
def test_a_change_of_status_stands_when_its_notification_cannot_be_written(
    client: httpx2.Client, make: Make, fault: Fault
) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("orders", user_id=1, items=ONE)
    answers: list[Json] = []
    with fault():
        for status in ("confirmed", "cancelled"):
            answers.append(client.patch(f"/orders/1/status?new_status={status}").json())
    assert answers == [
        {"order_id": 1, "new_status": "confirmed"},
        {"order_id": 1, "new_status": "cancelled"},
    ]
    assert client.get("/orders/1").json()["status"] == "cancelled"
    assert client.get("/products/1").json()["stock_quantity"] == 5
    assert len(client.get("/notifications/").json()) == 1


@pytest.mark.needs("accounts", "transfers", "payments")
@faults
def test_a_payment_and_its_refund_stand_when_their_notifications_cannot_be_written(
    client: httpx2.Client, make: Make, fault: Fault
) -> None:
    make("users")
    make("products", price=4)
    make("accounts", user_id=1, balance=10)
    make("orders", user_id=1, items=ONE)
    with fault():
        paid = client.post("/orders/1/payments", json={"account_id": 1})
        assert (paid.status_code, client.get("/accounts/1").json()["balance"]) == (201, 6.0)
        assert client.patch("/orders/1/status?new_status=cancelled").status_code == 200
    assert client.get("/accounts/1").json()["balance"] == 10.0
    [payment] = client.get("/orders/1/payments").json()
    assert payment == paid.json() | {"refunded_at": payment["refunded_at"]}
    assert payment["refunded_at"]


def test_notifications_are_written_again_after_a_fault(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products")
    with no_table():
        make("orders", user_id=1, items=ONE)
    make("orders", user_id=1, items=ONE)
    assert [note["order_id"] for note in client.get("/notifications/").json()] == [2]


@pytest.mark.every_database("sqlite")
def test_a_transaction_that_sqlite_has_undone_does_not_go_on(
    client: httpx2.Client, make: Make
) -> None:
    """A statement that is interrupted takes its whole transaction with it, savepoints and all."""
    make("users")
    make("products", stock_quantity=10)
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 3}])
    interrupted: list[Any] = []

    def interrupt(connection: sa.Connection, _: Any, statement: str, *more: Any) -> None:
        if statement.startswith("INSERT INTO notification"):
            interrupted.append(connection.connection.dbapi_connection)
            interrupted[-1].set_progress_handler(lambda: 1, 1)

    def go_on(_: Any) -> None:
        for connection in interrupted:
            connection.set_progress_handler(None, 0)

    sa.event.listen(db.database.writer.engine, "before_cursor_execute", interrupt)
    sa.event.listen(db.database.writer.engine, "handle_error", go_on, insert=True)
    try:
        answer = client.patch("/orders/1/status?new_status=cancelled")
    finally:
        sa.event.remove(db.database.writer.engine, "before_cursor_execute", interrupt)
        sa.event.remove(db.database.writer.engine, "handle_error", go_on)
    assert interrupted
    assert answer.status_code == 503
    assert client.get("/orders/1").json()["status"] == "pending"
    assert client.get("/products/1").json()["stock_quantity"] == 7
    assert client.patch("/orders/1/status?new_status=cancelled").status_code == 200
    assert client.get("/products/1").json()["stock_quantity"] == 10
