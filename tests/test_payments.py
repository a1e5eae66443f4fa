"""Payments: an order's total from an account, and back when the order is cancelled."""

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults
from sqlmodel import SQLModel

import db
from kit.driver_errors import explain
from models import Payment

pytestmark = pytest.mark.every_database


@pytest.fixture
def shop(client: httpx2.Client, make: Make) -> httpx2.Client:
    """A client of a shop where user 1 owes 30.30 for order 1 and has 50 in account 1."""
    make("users")
    make("products", price=10.1)
    make("accounts", user_id=1, balance=50)
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 3}])
    return client


def pay(client: httpx2.Client, account_id: int = 1) -> Json:
    response = client.post("/orders/1/payments", json={"account_id": account_id})
    assert response.status_code == 201, response.text
    return response.json()


def move(client: httpx2.Client, *statuses: str) -> None:
    for status in statuses:
        assert client.patch(f"/orders/1/status?new_status={status}").status_code == 200


def state(client: httpx2.Client) -> list[Json]:
    """All that a payment changes."""
    paths = ("/orders/1", "/orders/1/payments", "/accounts/", "/notifications/", "/products/")
    return [client.get(path).json() for path in paths]


def test_a_payment_takes_the_total_and_confirms_the_order(shop: httpx2.Client) -> None:
    response = shop.post("/orders/1/payments", json={"account_id": 1})
    assert response.status_code == 201
    assert "Location" in response.headers
    expected = {
        "id": 1,
        "order_id": 1,
        "account_id": 1,
        "amount": 30.3,
        "refunded_at": None,
        "created_at": response.json()["created_at"],
    }
    assert response.json() == with_defaults(Payment, expected)
    assert list(response.json()) == columns_of(Payment)
    assert expected["created_at"].endswith("Z")
    assert shop.get("/accounts/1").json()["balance"] == 19.7
    assert shop.get("/orders/1").json()["status"] == "confirmed"


def test_payments_are_listed_with_their_order(shop: httpx2.Client, make: Make) -> None:
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    payment = pay(shop)
    listed = shop.get("/orders/1/payments").json()
    assert listed == [payment]
    assert list(listed[0]) == list(payment)
    assert shop.get("/orders/2/payments").json() == []
    assert shop.get("/orders/1/payments?limit=1&after=1").json() == []


def test_the_account_of_another_user_may_pay(shop: httpx2.Client, make: Make) -> None:
    make("users")
    make("accounts", user_id=2, balance=30.3)
    assert pay(shop, account_id=2)["account_id"] == 2
    assert [account["balance"] for account in shop.get("/accounts/").json()] == [50, 0]


def test_a_payment_is_of_what_the_order_cost_when_it_was_placed(shop: httpx2.Client) -> None:
    shop.patch("/products/1", json={"price": 99})
    assert pay(shop)["amount"] == 30.3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_payments_of_an_unknown_order_are_404(shop: httpx2.Client, method: str) -> None:
    body = {"account_id": 1} if method == "POST" else None
    response = shop.request(method, "/orders/7/payments", json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Order not found")


def test_an_unknown_account_cannot_pay(shop: httpx2.Client) -> None:
    before = state(shop)
    response = shop.post("/orders/1/payments", json={"account_id": 7})
    assert (response.status_code, response.json()["detail"]) == (404, "Account 7 not found")
    assert state(shop) == before


def test_an_account_with_too_little_cannot_pay(shop: httpx2.Client, make: Make) -> None:
    make("accounts", user_id=1, balance=30.29)
    before = state(shop)
    response = shop.post("/orders/1/payments", json={"account_id": 2})
    assert (response.status_code, response.json()["detail"]) == (400, "Insufficient funds")
    assert state(shop) == before


@pytest.mark.parametrize(
    "way",
    [
        ["confirmed"],
        ["confirmed", "shipped"],
        ["confirmed", "shipped", "delivered"],
        ["cancelled"],
    ],
)
def test_only_a_pending_order_can_be_paid(shop: httpx2.Client, way: list[str]) -> None:
    move(shop, *way)
    before = state(shop)
    assert shop.post("/orders/1/payments", json={"account_id": 1}).status_code == 400
    assert state(shop) == before


def test_an_order_is_paid_once(shop: httpx2.Client, make: Make) -> None:
    make("accounts", user_id=1, balance=100)
    pay(shop)
    before = state(shop)
    for account_id in (1, 2):
        response = shop.post("/orders/1/payments", json={"account_id": account_id})
        assert response.status_code == 400
    assert state(shop) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "account_id"),
        ({"account_id": None}, "account_id"),
        ({"account_id": 0}, "account_id"),
        ({"account_id": 2**31}, "account_id"),
        ({"account_id": 1, "amount": 1}, "amount"),
    ],
)
def test_a_bad_payment_is_422_and_names_the_field(
    shop: httpx2.Client, body: dict[str, Json], field: str
) -> None:
    before = state(shop)
    response = shop.post("/orders/1/payments", json=body)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert state(shop) == before


def test_cancelling_a_paid_order_pays_it_back_once(shop: httpx2.Client, make: Make) -> None:
    make("users")
    make("accounts", user_id=2, balance=40)
    payment = pay(shop, account_id=2)
    move(shop, "cancelled")
    [refunded] = shop.get("/orders/1/payments").json()
    assert refunded == payment | {"refunded_at": refunded["refunded_at"]}
    assert refunded["refunded_at"] >= payment["created_at"]
    assert refunded["refunded_at"].endswith("Z")
    assert [account["balance"] for account in shop.get("/accounts/").json()] == [50, 40]
    assert shop.get("/products/1").json()["stock_quantity"] == 100
    before = state(shop)
    assert shop.patch("/orders/1/status?new_status=cancelled").status_code == 400
    assert state(shop) == before


def test_cancelling_an_unpaid_order_pays_nothing_back(shop: httpx2.Client) -> None:
    move(shop, "confirmed", "cancelled")
    assert shop.get("/orders/1/payments").json() == []
    assert shop.get("/accounts/1").json()["balance"] == 50


def test_a_paid_order_is_shipped_and_delivered_without_a_refund(shop: httpx2.Client) -> None:
    payment = pay(shop)
    move(shop, "shipped", "delivered")
    assert shop.get("/orders/1/payments").json() == [payment]
    assert shop.get("/accounts/1").json()["balance"] == 19.7


def test_a_cancelled_order_that_was_paid_can_be_deleted(shop: httpx2.Client) -> None:
    pay(shop)
    move(shop, "cancelled")
    assert shop.delete("/orders/1").status_code == 204
    assert shop.get("/orders/1/payments").status_code == 404
    assert shop.get("/accounts/1").json()["balance"] == 50


@pytest.mark.parametrize("name", ["order_id", "account_id"])
def test_of_two_foreign_keys_the_one_that_a_change_breaks_is_named(
    shop: httpx2.Client, name: str
) -> None:
    pay(shop)
    with (
        pytest.raises(sa.exc.IntegrityError) as error,
        db.database.writer.engine.begin() as connection,
    ):
        connection.execute(SQLModel.metadata.tables["payment"].update().values({name: 99}))
    assert str(explain(error.value)) == f"{name} refers to nothing"
