"""Changes: who changed a user, a product, an order or an account, what and when."""

from collections.abc import Callable
from datetime import timedelta

import httpx2
import pytest
from conftest import Json, Make, log_in
from servers import create_account, create_order, create_user
from sqlalchemy import update

import db
from kit import now
from models import Change

pytestmark = pytest.mark.every_database


def told(client: httpx2.Client, query: str = "", **headers: str) -> list[Json]:
    """The changes, newest first: of what, how, and the fields before and after."""
    response = client.get(f"/changes/?sort=-id&limit=100&{query}", headers=headers)
    assert response.status_code == 200, response.text
    return [
        (
            f"{change['entity']} {change['entity_id']}",
            change["kind"],
            {name: (field["before"], field["after"]) for name, field in change["fields"].items()},
        )
        for change in response.json()
    ]


def test_a_change_says_what_was_changed_when_and_by_whom(client: httpx2.Client) -> None:
    before = now()
    create_user(client)
    (change,) = client.get("/changes/").json()
    assert before.isoformat() < change.pop("created_at") < now().isoformat()
    fields = {"username": "ann", "email": "ann@example.com", "is_active": True}
    fields |= {"is_superuser": False}
    assert change == {
        "id": 1,
        "entity": "user",
        "entity_id": 1,
        "kind": "created",
        "user_id": None,
        "fields": {name: {"before": None, "after": value} for name, value in fields.items()},
    }


@pytest.mark.needs("products")
def test_who_is_logged_in_is_named(
    client: httpx2.Client, make: Make, close: Callable[[], None]
) -> None:
    create_user(client, "root")
    client.patch("/users/1", json={"is_superuser": True})
    make("products")
    close()
    root = log_in(client, "root")
    client.patch("/products/1", json={"price": 12.5}, headers=root)
    change = client.get("/changes/?entity=product&id=1&sort=-id", headers=root).json()[0]
    expected = {"price": {"before": 10.0, "after": 12.5}}
    assert (change["user_id"], change["fields"]) == (1, expected)


@pytest.mark.needs("products")
def test_each_way_to_change_a_product_is_told(client: httpx2.Client, make: Make) -> None:
    make("categories")
    make("products", category_id=1)
    body = {"name": "Pot", "price": 9.99, "sku": "POT", "stock_quantity": 3, "category_id": 1}
    client.put("/products/1", json=body)
    client.patch("/products/1", json={"is_active": False})
    client.patch("/products/1", json={"is_active": False})
    client.post("/products/1/stock", json={"change": 4})
    client.delete("/categories/1")
    client.delete("/products/1")
    found = told(client, "entity=product&id=1")
    assert [kind for _, kind, _ in found] == ["deleted", *["updated"] * 4, "created"]
    assert [fields for _, _, fields in found][1:5] == [
        {"category_id": (1, None)},
        {"stock_quantity": (3, 7)},
        {"is_active": (True, False)},
        {
            "name": ("Product 1", "Pot"),
            "slug": ("product-1", "pot"),
            "price": (10.0, 9.99),
            "stock_quantity": (100, 3),
            "sku": ("SKU-1", "POT"),
        },
    ]
    assert found[0][2]["price"] == (9.99, None)


@pytest.mark.needs("products")
def test_a_file_is_told_row_by_row(client: httpx2.Client, make: Make) -> None:
    make("products", name="One")
    make("products", name="Two")
    lines = ["sku,name,price", "SKU-1,Two,10", "SKU-2,One,10", "SKU-3,Three,3", "SKU-3,Three,4"]
    csv = {"Content-Type": "text/csv"}
    response = client.post("/products/import", content="\n".join(lines), headers=csv)
    assert response.json() == {"created": 1, "updated": 3}
    new = {"name": (None, "Three"), "slug": (None, "three"), "price": (None, 3.0)}
    new |= {"sku": (None, "SKU-3"), "stock_quantity": (None, 0), "is_active": (None, True)}
    assert told(client)[:-2] == [
        ("product 3", "updated", {"price": (3.0, 4.0)}),
        ("product 3", "created", new),
        ("product 2", "updated", {"name": ("Two", "One")}),
        ("product 1", "updated", {"name": ("One", "Two")}),
    ]


@pytest.mark.needs("orders")
def test_an_order_is_told_with_the_stock_that_it_takes_and_gives_back(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", stock_quantity=5)
    create_order(client, 2)
    client.patch("/orders/1/status?new_status=cancelled")
    client.delete("/orders/1")
    found = told(client)[:-2]
    assert [(what, kind) for what, kind, _ in found] == [
        ("order 1", "deleted"),
        ("product 1", "updated"),
        ("order 1", "updated"),
        ("order 1", "created"),
        ("product 1", "updated"),
    ]
    assert [fields for _, kind, fields in found if kind == "updated"] == [
        {"stock_quantity": (3, 5)},
        {"status": ("pending", "cancelled")},
        {"stock_quantity": (5, 3)},
    ]


@pytest.mark.needs("payments")
def test_money_that_moves_is_told_of_each_account(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", price=8)
    create_account(client, 50)
    create_account(client, 0)
    body = {"from_account_id": 1, "to_account_id": 2, "amount": 20.5}
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        assert client.post("/transfers/", json=body, headers=headers).status_code == 201
    create_order(client, 1)
    assert client.post("/orders/1/payments", json={"account_id": 2}).status_code == 201
    client.patch("/orders/1/status?new_status=cancelled")
    assert [fields for _, kind, fields in told(client, "entity=account") if kind == "updated"] == [
        {"balance": (12.5, 20.5)},
        {"balance": (20.5, 12.5)},
        {"balance": (0.0, 20.5)},
        {"balance": (50.0, 29.5)},
    ]


def test_no_secret_is_told_of_a_password_but_that_it_was_changed(client: httpx2.Client) -> None:
    create_user(client)
    client.patch("/users/1", json={"password": "Password2", "bio": "Hello"})
    assert told(client)[0][2] == {"bio": (None, "Hello"), "password": (None, None)}
    text = client.get("/changes/").text
    assert not [secret for secret in ("argon2", "Password2", "stamp", "hash") if secret in text]


def test_what_changes_many_users_at_once_is_told_of_each(client: httpx2.Client, make: Make) -> None:
    for _ in range(3):
        make("users")
    client.patch("/users/2", json={"is_superuser": True})
    client.patch("/users/bulk/deactivate?days=0")
    client.delete("/users/bulk/inactive")
    found = told(client)[:4]
    assert sorted(found[2:]) == [
        (f"user {n}", "updated", {"is_active": (True, False)}) for n in (1, 3)
    ]
    assert {(what, kind) for what, kind, _ in found[:2]} == {
        ("user 1", "deleted"),
        ("user 3", "deleted"),
    }


@pytest.mark.needs("orders")
def test_what_a_deletion_takes_along_is_told(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products")
    create_order(client, 1)
    client.delete("/users/1")
    assert {(what, kind) for what, kind, _ in told(client)[:2]} == {
        ("user 1", "deleted"),
        ("order 1", "deleted"),
    }


@pytest.mark.needs("products")
def test_what_is_refused_is_not_told(client: httpx2.Client, make: Make) -> None:
    make("products")
    make("products")
    before = told(client)
    assert client.patch("/products/1", json={"sku": "SKU-2"}).status_code == 409
    assert client.post("/products/1/stock", json={"change": -101}).status_code == 400
    assert client.patch("/products/1", json={"price": 10}).status_code == 200
    assert client.delete("/products/3").status_code == 404
    assert told(client) == before


def test_other_entities_have_no_history(client: httpx2.Client, make: Make) -> None:
    make("items")
    client.patch("/items/1", json={"price": 2})
    assert told(client) == []


@pytest.mark.needs("products")
def test_changes_are_kept_for_so_many_days(client: httpx2.Client, make: Make) -> None:
    make("products")
    old = now() - timedelta(days=db.settings.history_days, minutes=1)
    with db.database.writer.engine.begin() as connection:
        connection.execute(update(Change).values(created_at=old))
    db.history.written = 99
    client.patch("/products/1", json={"price": 2})
    assert [change["id"] for change in client.get("/changes/").json()] == [2]


@pytest.mark.parametrize("query", ["entity=product&id=0", "id=x", "kind=created", "sort=entity"])
def test_a_wrong_question_is_refused(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/changes/?{query}").status_code == 422
