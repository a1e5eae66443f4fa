"""Idempotency keys: a request that is sent again is answered again, and done once."""

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import SECTIONS, Json, Make, headers_of, needing
from document import filled
from servers import (
    at_once,
    balances,
    create_account,
    create_order,
    create_product,
    create_user,
    sender,
    statuses,
)

import db
import main
from models import IdempotencyKey

pytestmark = [pytest.mark.every_database, pytest.mark.needs("orders")]

CLIENTS = 30

ORDER = {"user_id": 1, "items": [{"product_id": 1, "quantity": 3}]}
TRANSFER = {"from_account_id": 1, "to_account_id": 2, "amount": 10}
PAYMENT = {"account_id": 1}
# What may be sent with a key, and the same with another body.
REQUESTS: dict[str, tuple[str, Json, Json]] = {
    "orders": ("/orders/", ORDER, ORDER | {"shipping_address": "1 Long Lane"}),
    "payments": ("/orders/1/payments", PAYMENT, {"account_id": 2}),
    "transfers": ("/transfers/", TRANSFER, TRANSFER | {"amount": 11}),
}
REQUESTS = {name: request for name, request in REQUESTS.items() if name in SECTIONS}
each_request = pytest.mark.parametrize(
    ("path", "body", "other"), list(REQUESTS.values()), ids=list(REQUESTS)
)
USED_BEFORE = {
    "type": "about:blank",
    "title": HTTPStatus(422).phrase,  # which Python 3.13 has renamed
    "status": 422,
    "detail": "Idempotency-Key: Was used for another request before",
    "errors": [
        {
            "loc": ["header", "Idempotency-Key"],
            "msg": "Was used for another request before",
            "type": "invalid",
        }
    ],
}


@pytest.fixture
def shop(client: httpx2.Client, make: Make) -> httpx2.Client:
    """A client of a shop where 10 of product 1 are left, and orders 1 and 2 can be paid."""
    make("users")
    make("products", price=2, stock_quantity=12)
    make("accounts", user_id=1, balance=100)
    make("accounts", user_id=1, balance=50)
    for _ in range(2):
        make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    return client


def send(client: httpx2.Client, path: str, body: Json, key: str = "key") -> httpx2.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def state(client: httpx2.Client) -> list[Json]:
    """All that a request with a key changes."""
    paths = ("products", "orders", "notifications", "accounts", "transfers")
    lists = [client.get(f"/{path}/").json() for path in paths]
    payments = [client.get(f"/orders/{id}/payments").json() for id in (1, 2)]
    versions = [client.get(path).headers["ETag"] for path in ("/products/1", "/orders/1")]
    return [*lists, *payments, versions]


def is_repeated(answer: httpx2.Response, first: httpx2.Response) -> bool:
    """Whether it is the first answer, with its status, headers and bytes, and says so."""
    marked = headers_of(first) | {"idempotency-replayed": "true"}
    found = (answer.status_code, answer.content, headers_of(answer))
    return found == (first.status_code, first.content, marked)


def keys() -> list[Any]:
    with db.database.writer.engine.connect() as connection:
        query = sa.select(IdempotencyKey.__table__.c.key)  # type: ignore[attr-defined]
        return sorted(connection.scalars(query))


def age_keys(**by: float) -> None:
    """Set back when the keys that there are were made, from now."""
    with db.database.writer.engine.begin() as connection:
        then = datetime.now(UTC) - timedelta(**by)
        connection.execute(sa.update(IdempotencyKey).values(created_at=then))


def store_keys(*names: str, **ago: float) -> None:
    """Put keys into the database that were used some time ago."""
    created_at = datetime.now(UTC) - timedelta(**ago)
    same = {"route": "create_order", "user_id": 0, "fingerprint": "x", "status": 201}
    rows = [{"key": name, "created_at": created_at, "headers": {}, "body": ""} for name in names]
    with db.database.writer.engine.begin() as connection:
        connection.execute(sa.insert(IdempotencyKey), [same | row for row in rows])


# The same request again


@each_request
def test_a_request_sent_again_gets_the_first_answer_and_does_nothing(
    shop: httpx2.Client, path: str, body: Json, other: Json
) -> None:
    before = state(shop)
    first = send(shop, path, body)
    assert first.status_code == 201, first.text
    assert "Idempotency-Replayed" not in first.headers
    done = state(shop)
    assert done != before
    for _ in range(2):
        second = send(shop, path, body)
        assert is_repeated(second, first), second.text
        assert state(shop) == done
    assert keys() == ["key"]


@pytest.mark.needs("accounts", "transfers", "payments")
def test_a_key_changes_nothing_about_the_first_answer(shop: httpx2.Client) -> None:
    first = send(shop, "/orders/", ORDER)
    assert (first.headers["Location"], first.headers["ETag"]) == ("/orders/3", '"1"')
    assert first.headers["Content-Type"] == "application/json"
    assert first.content == shop.get("/orders/3").content
    plain = shop.post("/orders/", json=ORDER)
    assert plain.headers.keys() == first.headers.keys()
    transfer = send(shop, "/transfers/", TRANSFER)
    assert transfer.headers["Location"] == "/transfers/1"
    assert transfer.content == shop.get("/transfers/1").content
    payment = send(shop, "/orders/1/payments", PAYMENT)
    assert payment.content == shop.get("/orders/1/payments").content[1:-1]


def test_the_order_of_keys_and_whitespace_do_not_matter(shop: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "key", "Content-Type": "application/json"}
    sent = [
        json.dumps(ORDER, separators=(",", ":")),
        json.dumps(ORDER, indent=3) + "\n",
        '{"items": [{"quantity": 3, "product_id": 1}], "user_id": 1}',
    ]
    first, *others = [shop.post("/orders/", content=body, headers=headers) for body in sent]
    assert first.status_code == 201
    assert [is_repeated(answer, first) for answer in others] == [True, True]


@each_request
def test_without_the_header_each_request_counts(
    shop: httpx2.Client, path: str, body: Json, other: Json
) -> None:
    first = send(shop, path, body)
    done = state(shop)
    again = shop.post(path, json=body)
    assert "Idempotency-Replayed" not in again.headers
    if path == "/orders/1/payments":  # which another rule lets be paid once
        assert (again.status_code, state(shop)) == (400, done)
    else:
        assert (again.status_code, again.json()["id"]) == (201, first.json()["id"] + 1)
        assert state(shop) != done


def test_other_keys_are_other_requests(shop: httpx2.Client) -> None:
    answers = [send(shop, "/orders/", ORDER, key) for key in ("key", "KEY", "key.")]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.json()["id"] for answer in answers] == [3, 4, 5]
    assert keys() == ["KEY", "key", "key."]


@each_request
def test_another_body_with_the_same_key_is_422_and_changes_nothing(
    shop: httpx2.Client, path: str, body: Json, other: Json
) -> None:
    first, done = send(shop, path, body), state(shop)
    response = send(shop, path, other)
    assert (response.status_code, response.json()) == (422, USED_BEFORE)
    assert state(shop) == done
    assert is_repeated(send(shop, path, body), first)


@pytest.mark.needs("accounts", "transfers", "payments")
def test_another_order_in_the_path_with_the_same_key_is_422(shop: httpx2.Client) -> None:
    assert send(shop, "/orders/1/payments", PAYMENT).status_code == 201
    done = state(shop)
    response = send(shop, "/orders/2/payments", PAYMENT)
    assert (response.status_code, response.json()) == (422, USED_BEFORE)
    assert state(shop) == done


@pytest.mark.needs("accounts", "transfers", "payments")
def test_a_key_belongs_to_its_route(shop: httpx2.Client) -> None:
    firsts = {path: send(shop, path, body) for path, body, _ in REQUESTS.values()}
    for path, body, _ in REQUESTS.values():
        assert firsts[path].status_code == 201
        assert "Idempotency-Replayed" not in firsts[path].headers
        assert is_repeated(send(shop, path, body), firsts[path])
    assert keys() == ["key"] * 3


@pytest.mark.parametrize("prefixes", [("", "/api/v1"), ("/api/v1", "")])
@each_request
def test_with_and_without_its_prefix_a_route_is_one(
    shop: httpx2.Client, path: str, body: Json, other: Json, prefixes: tuple[str, str]
) -> None:
    first = send(shop, prefixes[0] + path, body)
    done = state(shop)
    assert is_repeated(send(shop, prefixes[1] + path, body), first)
    assert state(shop) == done


# Which keys there are


@pytest.mark.parametrize("key", ["k", "!", "~", "k" * 200, "7d3a-1:/?#[]@$&'()*+,;=\"\\<>^`{|}"])
def test_a_key_is_up_to_200_visible_characters(shop: httpx2.Client, key: str) -> None:
    first = send(shop, "/orders/", ORDER, key)
    assert first.status_code == 201
    assert is_repeated(send(shop, "/orders/", ORDER, key), first)
    assert keys() == [key]


@each_request
@pytest.mark.parametrize(
    "key",
    [b"", b"k" * 201, b"two words", b"a\tb", b"k\xc3\xa9y", b"\xa0", b"a\x01b", b"\x7f", b"a\x00"],
    ids=["empty", "long", "space", "tab", "utf-8", "latin-1", "control", "delete", "nul"],
)
def test_a_malformed_key_is_422_and_nothing_is_done(
    shop: httpx2.Client, path: str, body: Json, other: Json, key: bytes
) -> None:
    before = state(shop)
    response = shop.post(path, json=body, headers=[(b"Idempotency-Key", key)])
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["header", "Idempotency-Key"]]
    assert state(shop) == before
    assert keys() == []


def test_two_keys_are_422_and_nothing_is_done(shop: httpx2.Client) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = shop.post("/orders/", json=ORDER, headers=twice)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["header", "Idempotency-Key"]]
    assert keys() == []


# Only what was done is stored


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/orders/", ORDER | {"user_id": 9}, 404, "User 9 not found"),
        (
            "/orders/",
            {"user_id": 1, "items": [{"product_id": 1, "quantity": 11}]},
            400,
            "Insufficient stock for 'Product 1'. Available: 10, Requested: 11",
        ),
        needing("payments", "/orders/9/payments", PAYMENT, 404, "Order not found"),
        needing("payments", "/orders/1/payments", {"account_id": 9}, 404, "Account 9 not found"),
        needing(
            "transfers", "/transfers/", TRANSFER | {"to_account_id": 9}, 404, "Account 9 not found"
        ),
        needing(
            "transfers", "/transfers/", TRANSFER | {"amount": 100.01}, 400, "Insufficient funds"
        ),
    ],
)
def test_a_refused_request_leaves_its_key_for_another(
    shop: httpx2.Client, path: str, body: Json, status: int, detail: str
) -> None:
    before = state(shop)
    for _ in range(2):
        refused = send(shop, path, body)
        assert (refused.status_code, refused.json()["detail"]) == (status, detail)
        assert "Idempotency-Replayed" not in refused.headers
    assert (state(shop), keys()) == (before, [])
    path, body, _ = next(r for r in REQUESTS.values() if r[0] == path.replace("9", "1"))
    first = send(shop, path, body)
    assert first.status_code == 201
    assert is_repeated(send(shop, path, body), first)


@pytest.mark.needs("accounts", "transfers", "payments")
def test_an_invalid_body_leaves_its_key_for_another(shop: httpx2.Client) -> None:
    assert send(shop, "/transfers/", TRANSFER | {"amount": 0}).status_code == 422
    assert keys() == []
    assert send(shop, "/transfers/", TRANSFER).status_code == 201


def test_a_refused_order_works_under_its_key_when_there_is_stock(shop: httpx2.Client) -> None:
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 15}]}
    assert send(shop, "/orders/", body).status_code == 400
    shop.post("/products/1/stock", json={"change": 5})
    first = send(shop, "/orders/", body)
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    assert is_repeated(send(shop, "/orders/", body), first)
    assert shop.get("/products/1").json()["stock_quantity"] == 0


@pytest.mark.needs("accounts", "transfers", "payments")
def test_a_refused_payment_works_under_its_key_when_there_is_money(shop: httpx2.Client) -> None:
    assert send(shop, "/transfers/", TRANSFER | {"amount": 100}, "all").status_code == 201
    assert send(shop, "/orders/1/payments", PAYMENT).status_code == 400
    back = {"from_account_id": 2, "to_account_id": 1, "amount": 2}
    assert send(shop, "/transfers/", back, "back").status_code == 201
    assert send(shop, "/orders/1/payments", PAYMENT).status_code == 201
    assert balances(shop) == [0, 148]


# What comes after


@pytest.mark.parametrize("deleted", [False, True])
def test_the_answer_outlives_the_order(shop: httpx2.Client, deleted: bool) -> None:
    first = send(shop, "/orders/", ORDER)
    assert shop.patch("/orders/3/status?new_status=cancelled").status_code == 200
    if deleted:
        assert shop.delete("/orders/3").status_code == 204
    done = state(shop)
    assert is_repeated(send(shop, "/orders/", ORDER), first)
    assert first.json()["status"] == "pending"
    assert state(shop) == done


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.parametrize("deleted", [False, True])
def test_the_answer_outlives_the_payment(shop: httpx2.Client, deleted: bool) -> None:
    first = send(shop, "/orders/1/payments", PAYMENT)
    assert shop.patch("/orders/1/status?new_status=cancelled").status_code == 200
    if deleted:
        assert shop.delete("/orders/1").status_code == 204
    before = balances(shop)
    assert is_repeated(send(shop, "/orders/1/payments", PAYMENT), first)
    assert first.json()["refunded_at"] is None
    assert balances(shop) == before == [100, 50]


def test_the_answer_outlives_the_product_and_the_stock(shop: httpx2.Client) -> None:
    first = send(shop, "/orders/", ORDER | {"items": [{"product_id": 1, "quantity": 10}]})
    shop.patch("/products/1", json={"price": 9, "is_active": False})
    body = ORDER | {"items": [{"product_id": 1, "quantity": 10}]}
    assert is_repeated(send(shop, "/orders/", body), first)


@each_request
def test_a_key_holds_for_24_hours(shop: httpx2.Client, path: str, body: Json, other: Json) -> None:
    first = send(shop, path, body)
    done = state(shop)
    age_keys(hours=23, minutes=58)
    assert is_repeated(send(shop, path, body), first)
    assert send(shop, path, other).status_code == 422
    assert state(shop) == done


@pytest.mark.parametrize("again", ["body", "other"])
@pytest.mark.parametrize("kind", ["orders", needing("transfers", "transfers")])
def test_after_24_hours_a_key_is_new(shop: httpx2.Client, kind: str, again: str) -> None:
    path, body, other = REQUESTS[kind]
    first = send(shop, path, body)
    age_keys(hours=24, minutes=2)
    body = body if again == "body" else other
    second = send(shop, path, body)
    assert (second.status_code, second.json()["id"]) == (201, first.json()["id"] + 1)
    assert "Idempotency-Replayed" not in second.headers
    assert is_repeated(send(shop, path, body), second)
    assert keys() == ["key"]


def test_a_key_that_has_expired_is_new_before_it_is_deleted(shop: httpx2.Client) -> None:
    store_keys(*(f"old{n}" for n in range(150)), hours=25)
    store_keys("key", hours=25)
    first = send(shop, "/orders/", ORDER)
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    assert is_repeated(send(shop, "/orders/", ORDER), first)


@pytest.mark.needs("accounts", "transfers", "payments")
def test_expired_keys_are_deleted_in_passing_a_hundred_at_a_time(shop: httpx2.Client) -> None:
    store_keys(*(f"fresh{n}" for n in range(3)), hours=23)
    store_keys(*(f"old{n}" for n in range(250)), hours=25)
    for left, (path, body, _) in zip((150, 50, 0), REQUESTS.values(), strict=True):
        assert send(shop, path, body, "new").status_code == 201
        assert len([key for key in keys() if key.startswith("old")]) == left
    assert keys() == ["fresh0", "fresh1", "fresh2", "new", "new", "new"]


def test_a_repeated_request_deletes_expired_keys_too(shop: httpx2.Client) -> None:
    first = send(shop, "/orders/", ORDER)
    store_keys("old", hours=25)
    assert is_repeated(send(shop, "/orders/", ORDER), first)
    assert keys() == ["key"]


# Races


@pytest.fixture
def stored(server_of_session: tuple[httpx2.Client, sa.Engine]) -> sa.Engine:
    """The database of the server."""
    return server_of_session[1]


def stored_keys(engine: sa.Engine) -> list[tuple[str, int]]:
    """The keys in the server's database, each with the status of its answer."""
    table = sa.table("idempotency_key", sa.column("key"), sa.column("status"))
    with engine.connect() as connection:
        rows = connection.execute(sa.select(table.c.key, table.c.status))
        return sorted((str(row.key), int(row.status)) for row in rows)


def many(
    server: httpx2.Client, path: str, *bodies: Json, keys: list[str] | None = None
) -> list[httpx2.Response]:
    """The answers to 30 requests at once, of these bodies in turn, with one key or with each."""
    return at_once(
        [
            sender(server, "POST", path, bodies[n % len(bodies)], {"Idempotency-Key": key})
            for n, key in enumerate(keys or ["key"] * CLIENTS)
        ]
    )


def assert_done_once(answers: list[httpx2.Response]) -> None:
    """All are 201 and equal, and all but one say that they repeat that one."""
    assert statuses(answers) == {201: len(answers)}, [answer.text for answer in answers]
    assert len({answer.content for answer in answers}) == 1
    for name in ("Location", "ETag", "Content-Type"):
        assert len({answer.headers.get(name) for answer in answers}) == 1
    marks = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert sorted(mark or "" for mark in marks) == ["", *["true"] * (len(answers) - 1)]


def test_of_many_equal_orders_with_one_key_one_is_placed(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 100)
    answers = many(server, "/orders/", ORDER)
    assert_done_once(answers)
    assert answers[0].json() == server.get("/orders/1").json()
    assert server.get("/products/1").json()["stock_quantity"] == 97
    assert [order["id"] for order in server.get("/orders/").json()] == [1]
    assert [note["order_id"] for note in server.get("/notifications/").json()] == [1]
    assert stored_keys(stored) == [("key", 201)]


@pytest.mark.needs("accounts", "transfers", "payments")
def test_of_many_equal_transfers_with_one_key_one_is_made(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_account(server, 1000)
    create_account(server, 0)
    answers = many(server, "/transfers/", TRANSFER)
    assert_done_once(answers)
    assert server.get("/transfers/").json() == [answers[0].json()]
    assert balances(server) == [990, 10]
    assert stored_keys(stored) == [("key", 201)]


@pytest.mark.needs("accounts", "transfers", "payments")
def test_of_many_equal_payments_with_one_key_one_is_made(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 100)
    create_account(server, 1)
    create_order(server)
    answers = many(server, "/orders/1/payments", PAYMENT)
    assert_done_once(answers)
    assert server.get("/orders/1/payments").json() == [answers[0].json()]
    assert balances(server) == [0.7]
    assert len(server.get("/notifications/").json()) == 2  # placed, confirmed
    assert stored_keys(stored) == [("key", 201)]


def test_one_key_gets_the_last_pieces_for_all_who_send_it(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 3)
    assert_done_once(many(server, "/orders/", ORDER))
    assert server.get("/products/1").json()["stock_quantity"] == 0
    assert stored_keys(stored) == [("key", 201)]


def test_different_keys_compete_for_the_last_pieces(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 3)
    names = [f"key{n}" for n in range(CLIENTS)]
    answers = many(server, "/orders/", ORDER, keys=names)
    assert statuses(answers) == {201: 1, 400: CLIENTS - 1}
    (done,) = (n for n, answer in zip(names, answers, strict=True) if answer.is_success)
    assert stored_keys(stored) == [(done, 201)]


def test_many_orders_with_different_keys_are_all_placed(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 100)
    names = [f"key{n}" for n in range(CLIENTS)]
    answers = many(server, "/orders/", ORDER, keys=names)
    assert statuses(answers) == {201: CLIENTS}
    assert sorted(answer.json()["id"] for answer in answers) == sorted(
        order["id"] for order in server.get("/orders/?limit=100").json()
    )
    assert not any("Idempotency-Replayed" in answer.headers for answer in answers)
    assert len({answer.json()["id"] for answer in answers}) == CLIENTS
    assert server.get("/products/1").json()["stock_quantity"] == 10
    assert stored_keys(stored) == sorted((name, 201) for name in names)


def test_many_refused_orders_with_one_key_leave_no_key(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 2)
    answers = many(server, "/orders/", ORDER)
    assert statuses(answers) == {400: CLIENTS}
    assert stored_keys(stored) == []
    assert server.get("/orders/").json() == server.get("/notifications/").json() == []


def test_of_two_bodies_with_one_key_the_first_is_done_and_the_other_422(
    server: httpx2.Client, stored: sa.Engine
) -> None:
    create_user(server)
    create_product(server, 1, 100)
    other = {"user_id": 1, "items": [{"product_id": 1, "quantity": 5}]}
    answers = many(server, "/orders/", ORDER, other)
    assert statuses(answers) == {201: CLIENTS // 2, 422: CLIENTS // 2}
    assert_done_once([answer for answer in answers if answer.is_success])
    assert all(answer.is_success or answer.json() == USED_BEFORE for answer in answers)
    (order,) = server.get("/orders/").json()
    quantity = server.get(f"/orders/{order['id']}").json()["items"][0]["quantity"]
    assert server.get("/products/1").json()["stock_quantity"] == 100 - quantity
    assert stored_keys(stored) == [("key", 201)]


def test_an_expired_key_is_used_anew_once(server: httpx2.Client, stored: sa.Engine) -> None:
    create_user(server)
    create_product(server, 1, 100)
    assert many(server, "/orders/", ORDER, keys=["key"])[0].status_code == 201
    with stored.begin() as connection:
        long_ago = datetime.now(UTC) - timedelta(hours=25)
        connection.execute(sa.update(IdempotencyKey).values(created_at=long_ago))
    answers = many(server, "/orders/", ORDER)
    assert_done_once(answers)
    assert {answer.json()["id"] for answer in answers} != {1}
    assert len(server.get("/orders/").json()) == 2
    assert server.get("/products/1").json()["stock_quantity"] == 94
    assert stored_keys(stored) == [("key", 201)]


# OpenAPI


def test_openapi_says_which_requests_may_have_a_key() -> None:
    found = {
        (path, method)
        for path, operations in main.app.openapi()["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "Idempotency-Key"
    }
    tried = {(path, "post") for path, _, _ in REQUESTS.values()}
    missing = {(filled(path), method) for path, method in found} ^ tried
    assert not missing, "to be added to REQUESTS in tests/test_idempotency.py, or taken out"
    for path, method in found:
        operation = main.app.openapi()["paths"][path][method]
        assert "Idempotency-Replayed" in operation["responses"]["201"]["headers"]
        (parameter,) = (p for p in operation["parameters"] if p["name"] == "Idempotency-Key")
        assert (parameter["in"], parameter["required"]) == ("header", False)
