"""Orders: what they take from the stock, how their status moves, what is summed up of them."""

import itertools
import json
import re
from datetime import UTC, date, datetime, time, timedelta

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults

import db
from models import Order

pytestmark = pytest.mark.every_database

STATUSES = ["pending", "confirmed", "shipped", "delivered", "cancelled"]
# How an order that is pending comes to each status, and where it may go from there.
WAYS = {
    "pending": [],
    "confirmed": ["confirmed"],
    "shipped": ["confirmed", "shipped"],
    "delivered": ["confirmed", "shipped", "delivered"],
    "cancelled": ["cancelled"],
}
ALLOWED = {
    ("pending", "confirmed"),
    ("pending", "cancelled"),
    ("confirmed", "shipped"),
    ("confirmed", "cancelled"),
    ("shipped", "delivered"),
}


def lines(*pairs: tuple[int, int]) -> list[dict[str, int]]:
    return [{"product_id": product_id, "quantity": quantity} for product_id, quantity in pairs]


def move(client: httpx2.Client, order_id: int, *statuses: str) -> None:
    for status in statuses:
        response = client.patch(f"/orders/{order_id}/status?new_status={status}")
        assert response.status_code == 200, response.text


def state(client: httpx2.Client) -> list[Json]:
    """All that an order changes."""
    return [client.get(path).json() for path in ("/products/", "/orders/", "/notifications/")]


def stock(client: httpx2.Client) -> list[int]:
    return [product["stock_quantity"] for product in client.get("/products/").json()]


# Placing


def test_a_placed_order_is_answered_with_its_lines_and_location(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", price=19.99)
    make("products", price="0.1")
    body = {"user_id": 1, "items": lines((2, 3), (1, 2)), "shipping_address": "1 Long Lane"}
    response = client.post("/orders/", json=body)
    assert response.status_code == 201
    assert response.headers["Location"] == "/orders/1"
    order = response.json()
    assert order == with_defaults(
        Order,
        {
            "id": 1,
            "order_number": order["order_number"],
            "status": "pending",
            "total_amount": 40.28,
            "user_id": 1,
            "shipping_address": "1 Long Lane",
            "created_at": order["created_at"],
            "updated_at": order["updated_at"],
            "items": [
                {"id": 1, "product_id": 2, "quantity": 3, "unit_price": 0.1, "total_price": 0.3},
                {
                    "id": 2,
                    "product_id": 1,
                    "quantity": 2,
                    "unit_price": 19.99,
                    "total_price": 39.98,
                },
            ],
        },
    )
    assert client.get("/orders/1").json() == order


def test_order_keys_come_in_declared_order_from_every_route(
    client: httpx2.Client, make: Make
) -> None:
    keys = columns_of(Order)
    line_keys = ["id", "product_id", "quantity", "unit_price", "total_price"]
    make("users")
    make("products")
    placed = make("orders", user_id=1, items=lines((1, 1)))
    read, details = client.get("/orders/1").json(), client.get("/orders/1/details").json()
    for order in (placed, read):
        assert list(order) == [*keys, "items"]
        assert list(order["items"][0]) == line_keys
    assert list(details) == [*keys, "items", "user"]
    assert list(details["items"][0])[:5] == line_keys
    for path in ("/orders/", "/orders/user/1"):
        summary = ["id", "order_number", "status", "total_amount", "created_at"]
        assert list(client.get(path).json()[0]) == summary


def test_an_order_number_says_when_it_was_placed_and_is_its_own(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    orders = [make("orders", user_id=1, items=lines((1, 1))) for _ in range(5)]
    for order in orders:
        found = re.fullmatch(r"ORD-(\d{14})-[A-Z0-9]{6}", order["order_number"])
        assert found
        at = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        assert abs(datetime.fromisoformat(order["created_at"]) - at) < timedelta(minutes=1)
    assert len({order["order_number"] for order in orders}) == 5


def test_the_time_of_an_order_is_utc_with_its_microseconds(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    make("orders", user_id=1, items=lines((1, 1)))
    with db.database.writer.engine.begin() as connection:
        at = datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)
        connection.execute(sa.update(Order).values(created_at=at))
    assert client.get("/orders/1").json()["created_at"] == "2024-02-29T23:59:59.123456Z"


def test_an_order_under_the_prefix_has_its_location_there(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    response = client.post("/api/v1/orders/", json={"user_id": 1, "items": lines((1, 1))})
    assert response.headers["Location"] == "/api/v1/orders/1"
    assert client.get("/api/v1/orders/1").json() == response.json()


def test_an_order_takes_its_quantities_from_the_stock(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("products", stock_quantity=7)
    make("products", stock_quantity=9)
    make("orders", user_id=1, items=lines((1, 5), (3, 2)))
    assert stock(client) == [0, 7, 7]


def test_the_same_product_twice_is_added_up(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", price=1.5, stock_quantity=5)
    make("products")
    order = make("orders", user_id=1, items=lines((1, 2), (2, 1), (1, 3)))
    found = [(line["product_id"], line["quantity"], line["total_price"]) for line in order["items"]]
    assert found == [(1, 5, 7.5), (2, 1, 10.0)]
    assert order["total_amount"] == 17.5
    assert stock(client) == [0, 99]


def test_the_same_product_twice_is_added_up_before_the_stock_is_compared(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", stock_quantity=4)
    response = client.post("/orders/", json={"user_id": 1, "items": lines((1, 2), (1, 3))})
    assert response.status_code == 400
    detail = "Insufficient stock for 'Product 1'. Available: 4, Requested: 5"
    assert response.json()["detail"] == detail


def test_an_order_keeps_the_prices_of_its_moment(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", price=10)
    before = make("orders", user_id=1, items=lines((1, 2)))
    client.patch("/products/1", json={"price": 12.34})
    assert client.get("/orders/1").json() == before
    after = make("orders", user_id=1, items=lines((1, 2)))
    assert (after["items"][0]["unit_price"], after["total_amount"]) == (12.34, 24.68)


def test_a_hundred_lines_are_one_order(client: httpx2.Client, make: Make) -> None:
    make("users")
    for _ in range(100):
        make("products", price=0.07)
    order = make("orders", user_id=1, items=lines(*((n, n) for n in range(1, 101))))
    assert [line["product_id"] for line in order["items"]] == list(range(1, 101))
    assert order["total_amount"] == 353.5
    assert client.get("/orders/1").json() == order


def test_the_largest_total_is_the_largest_amount_of_money(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", price=99999999.98)
    make("products", price=0.01)
    order = make("orders", user_id=1, items=lines((1, 1), (2, 1)))
    assert order["total_amount"] == 99999999.99
    assert client.get("/orders/1").json() == order


@pytest.mark.parametrize(
    ("user_id", "items", "status", "detail"),
    [
        (9, lines((1, 1)), 404, "User 9 not found"),
        (1, lines((1, 1), (5, 1)), 404, "Product 5 not found"),
        (1, lines((1, 1), (2, 1)), 400, "Product 'Old' is not available"),
        (
            1,
            lines((1, 1), (3, 2)),
            400,
            "Insufficient stock for 'Rare'. Available: 1, Requested: 2",
        ),
        (1, lines((1, 1), (4, 2)), 400, "Order total too large"),
        (1, lines((4, 1), (1, 1)), 400, "Order total too large"),
        (1, lines((1, 1), (4, 10000)), 400, "Order total too large"),
    ],
)
def test_a_refused_order_says_why_and_changes_nothing(
    client: httpx2.Client,
    make: Make,
    user_id: int,
    items: list[dict[str, int]],
    status: int,
    detail: str,
) -> None:
    make("users")
    make("products", name="Lamp")
    make("products", name="Old", is_active=False)
    make("products", name="Rare", stock_quantity=1)
    make("products", name="Dear", price=99999999.99, stock_quantity=10000)
    before = state(client)
    response = client.post("/orders/", json={"user_id": user_id, "items": items})
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert state(client) == before


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"user_id": None}, ["user_id"]),
        ({"user_id": 0}, ["user_id"]),
        ({"user_id": 2**31}, ["user_id"]),
        ({"items": None}, ["items"]),
        ({"items": []}, ["items"]),
        ({"items": lines(*[(1, 1)] * 101)}, ["items"]),
        ({"items": lines((1, 6000), (1, 4001))}, ["items"]),
        ({"items": [{"product_id": 1}]}, ["items", 0, "quantity"]),
        ({"items": [{"quantity": 1}]}, ["items", 0, "product_id"]),
        ({"items": lines((1, 1), (0, 1))}, ["items", 1, "product_id"]),
        ({"items": lines((2**31, 1))}, ["items", 0, "product_id"]),
        ({"items": lines((1, 0))}, ["items", 0, "quantity"]),
        ({"items": lines((1, -1))}, ["items", 0, "quantity"]),
        ({"items": lines((1, 10001))}, ["items", 0, "quantity"]),
        ({"items": [{"product_id": 1, "quantity": 1.5}]}, ["items", 0, "quantity"]),
        ({"items": [{"product_id": 1, "quantity": 1, "price": 1}]}, ["items", 0, "price"]),
        ({"shipping_address": "x" * 501}, ["shipping_address"]),
        ({"shipping_address": "a\0b"}, ["shipping_address"]),
        ({"status": "shipped"}, ["status"]),
        ({"total_amount": 1}, ["total_amount"]),
    ],
)
def test_a_bad_order_is_422_and_names_the_field(
    client: httpx2.Client, make: Make, change: dict[str, Json], loc: list[int | str]
) -> None:
    make("users")
    make("products", stock_quantity=20000, price=0.01)
    before = state(client)
    body = {"user_id": 1, "items": lines((1, 1))} | change
    response = client.post("/orders/", json=body)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", *loc]]
    assert state(client) == before


def test_half_a_surrogate_pair_in_an_address_is_422(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products")
    body = json.dumps({"user_id": 1, "items": lines((1, 1)), "shipping_address": "a\ud800b"})
    headers = {"Content-Type": "application/json"}
    response = client.post("/orders/", content=body, headers=headers)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", "shipping_address"]]
    assert client.get("/orders/").json() == []


def test_the_longest_address_and_the_largest_quantity_are_kept(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", stock_quantity=10000, price=0.01)
    order = make("orders", user_id=1, items=lines((1, 10000)), shipping_address="ÿ" * 500)
    assert (order["items"][0]["quantity"], order["total_amount"]) == (10000, 100.0)
    assert client.get("/orders/1").json() == order


# Reading


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/orders/7"),
        ("GET", "/orders/7/details"),
        ("PATCH", "/orders/7/status?new_status=confirmed"),
        ("DELETE", "/orders/7"),
    ],
)
def test_an_unknown_order_is_404_for_every_method(
    client: httpx2.Client, method: str, path: str
) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.json()["detail"]) == (404, "Order not found")


@pytest.mark.parametrize("id", ["0", "-1", "2147483648", "1.5", "x", "%00"])
@pytest.mark.parametrize("path", ["/orders/{}", "/orders/{}/details", "/orders/user/{}"])
def test_an_id_out_of_range_is_422(client: httpx2.Client, path: str, id: str) -> None:
    assert client.get(path.format(id)).status_code == 422


def test_the_details_embed_the_user_and_the_product_of_each_line(
    client: httpx2.Client, make: Make
) -> None:
    user = make("users", full_name="Ann Lee")
    make("categories")
    make("products", category_id=1)
    make("products")
    order = make("orders", user_id=1, items=lines((2, 1), (1, 4)))
    products = {product["id"]: product for product in client.get("/products/").json()}
    items = [line | {"product": products[line["product_id"]]} for line in order["items"]]
    expected = order | {"items": items, "user": user}
    assert client.get("/orders/1/details").json() == expected


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("user_id=1", [1, 3]),
        ("user_id=9", []),
        ("status=pending", [1, 4]),
        ("status=confirmed", [2]),
        ("status=cancelled", [3]),
        ("status=shipped", []),
        ("user_id=1&status=pending", [1]),
        ("status=pending&status=cancelled", [1, 3, 4]),
        ("status=cancelled&status=pending&status=pending&user_id=1&sort=-total_amount", [1, 3]),
        ("q=USER1", [1, 3]),
        ("q=r2%40EXAMPLE", [2, 4]),
        ("q=ord-2", [1, 2, 3, 4]),
        ("q=ord&status=confirmed&status=shipped&sort=created_at", [2]),
        ("q=ord&skip=1&limit=1&sort=-id", [3]),
        ("q=%25", []),
        ("q=", [1, 2, 3, 4]),
        ("sort=-id", [4, 3, 2, 1]),
        ("sort=total_amount", [3, 1, 4, 2]),
        ("sort=-total_amount", [2, 4, 1, 3]),
        ("sort=created_at", [1, 2, 3, 4]),
        ("sort=-created_at", [4, 3, 2, 1]),
        ("sort=-id&after=3", [2, 1]),
        ("after=2", [3, 4]),
        ("skip=1&limit=2", [2, 3]),
        ("user_id=2&user_id=1", [1, 3]),
    ],
)
def test_orders_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, ids: list[int]
) -> None:
    make("users")
    make("users")
    make("products")
    for user_id, quantity in ((1, 2), (2, 10), (1, 1), (2, 2)):
        make("orders", user_id=user_id, items=lines((1, quantity)))
    move(client, 2, "confirmed")
    move(client, 3, "cancelled")
    orders = {id: client.get(f"/orders/{id}").json() for id in ids}
    keys = ("id", "order_number", "status", "total_amount", "created_at")
    expected = [{key: orders[id][key] for key in keys} for id in ids]
    assert client.get(f"/orders/?{query}").json() == expected


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "status=pending&status=lost",
        "status=lost&status=pending",
        "status=",
        "q=%00",
        "created_from=2026-01-01T00:00:00",
        "created_before=2026-01-01",
        "created_before=soon",
        "created_before=1700000000",
        "created_from=-0.5",
        "created_from=0001-01-01T00:00:00%2B14:00",
        "created_from=99999-01-01T00:00:00Z",
        "user_id=0",
        "sort=status",
        "sort=--id",
        "limit=0",
        "limit=101",
        "skip=-1",
        "after=1&sort=total_amount",
        "colour=red",
    ],
)
def test_a_bad_query_for_orders_is_422(client: httpx2.Client, query: str) -> None:
    response = client.get(f"/orders/?{query}")
    assert response.status_code == 422
    assert response.json()["errors"]


def test_orders_are_found_by_the_time_from_which_and_before_which_they_were_placed(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    moments = [datetime(2026, 3, 1, 12, 0, 0, n, UTC) for n in (0, 1, 2)]
    for id, moment in enumerate(moments, 1):
        make("orders", user_id=1, items=lines((1, 1)))
        with db.database.writer.engine.begin() as connection:
            this = sa.update(Order).where(sa.column("id") == id)
            connection.execute(this.values(created_at=moment))

    def ids(**times: str) -> list[int]:
        query = {f"created_{name}": time for name, time in times.items()}
        return [order["id"] for order in client.get("/orders/", params=query).json()]

    assert ids(**{"from": "2026-03-01T12:00:00.000001Z"}) == [2, 3]
    assert ids(before="2026-03-01T12:00:00.000001Z") == [1]
    assert ids(**{"from": "2026-03-01T12:00:00Z", "before": "2026-03-01T12:00:00.000002Z"}) == [
        1,
        2,
    ]
    assert ids(**{"from": "2026-03-01T13:00:00.000002+01:00"}) == [3]
    assert ids(before="2026-03-01T12:00:00Z") == []


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/orders/?user_id=1&limit=2", [1, 2, 3, 4, 5]),
        ("/orders/?status=shipped&status=pending&status=confirmed&limit=2", [1, 2, 3, 4, 5]),
        (
            "/orders/?status=shipped&status=pending&q=USER1&limit=1&sort=-created_at",
            [5, 4, 3, 2, 1],
        ),
        ("/orders/?created_from=2026-01-01T00:00:00%2B01:00&limit=3&sort=-id", [5, 4, 3, 2, 1]),
        ("/orders/?sort=-total_amount&limit=2", [5, 4, 3, 2, 1]),
        ("/api/v1/orders/?limit=2", [1, 2, 3, 4, 5]),
        ("/orders/user/1?limit=2", [5, 4, 3, 2, 1]),
        ("/orders/user/1?limit=2&skip=1", [4, 3, 2, 1]),
        ("/orders/?limit=5", [1, 2, 3, 4, 5]),
    ],
)
def test_following_the_links_visits_every_order_once(
    client: httpx2.Client, make: Make, path: str, ids: list[int]
) -> None:
    make("users")
    make("products")
    for quantity in range(1, 6):
        make("orders", user_id=1, items=lines((1, quantity)))
    seen, url = [], f"{path}&count=true"
    while url:
        response = client.get(url)
        assert response.headers["X-Total-Count"] == "5"
        seen.append([order["id"] for order in response.json()])
        url = response.links.get("next", {}).get("url", "")
    assert list(itertools.chain(*seen)) == ids
    assert all(seen)


def test_orders_of_a_user_come_newest_first(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("users")
    make("products")
    for user_id in (1, 2, 1, 1):
        make("orders", user_id=user_id, items=lines((1, 1)))
    newest_first = client.get("/orders/?user_id=1&sort=-id").json()
    assert [order["id"] for order in newest_first] == [4, 3, 1]
    assert client.get("/orders/user/1").json() == newest_first
    assert client.get("/orders/user/1?skip=1&limit=1").json() == newest_first[1:2]


def test_orders_of_an_unknown_user_are_404(client: httpx2.Client) -> None:
    response = client.get("/orders/user/9")
    assert (response.status_code, response.json()["detail"]) == (404, "User not found")


# Status


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATUSES, STATUSES)))
def test_a_status_only_changes_in_turn(
    client: httpx2.Client, make: Make, old: str, new: str
) -> None:
    make("users")
    make("products")
    make("orders", user_id=1, items=lines((1, 3)))
    move(client, 1, *WAYS[old])
    before = state(client)
    response = client.patch(f"/orders/1/status?new_status={new}")
    if (old, new) in ALLOWED:
        body = {"order_id": 1, "new_status": new}
        assert (response.status_code, response.json()) == (200, body)
        assert list(response.json()) == list(body)
        assert client.get("/orders/1").json()["status"] == new
    else:
        assert response.status_code == 400
        assert response.json()["detail"] == f"Cannot transition from {old} to {new}"
        assert state(client) == before


@pytest.mark.parametrize("query", ["", "new_status=", "new_status=lost", "new_status=Confirmed"])
def test_a_status_that_does_not_exist_is_422(client: httpx2.Client, make: Make, query: str) -> None:
    make("users")
    make("products")
    make("orders", user_id=1, items=lines((1, 1)))
    response = client.patch(f"/orders/1/status?{query}")
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["query", "new_status"]]


def test_a_change_of_status_changes_nothing_else_of_the_order(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products")
    order = make("orders", user_id=1, items=lines((1, 1)), shipping_address="x")
    move(client, 1, "confirmed")
    after = client.get("/orders/1").json()
    assert after["updated_at"] > order["updated_at"]
    assert after == order | {"status": "confirmed", "updated_at": after["updated_at"]}


@pytest.mark.parametrize("way", [[], ["confirmed"]])
def test_cancelling_gives_the_stock_back_once(
    client: httpx2.Client, make: Make, way: list[str]
) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("products", stock_quantity=7)
    make("orders", user_id=1, items=lines((1, 5), (2, 1), (2, 2)))
    move(client, 1, *way)
    assert stock(client) == [0, 4]
    move(client, 1, "cancelled")
    assert stock(client) == [5, 7]
    assert client.patch("/orders/1/status?new_status=cancelled").status_code == 400
    assert stock(client) == [5, 7]


def test_cancelling_gives_the_stock_back_of_a_product_that_is_inactive_by_now(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("orders", user_id=1, items=lines((1, 5)))
    client.patch("/products/1", json={"is_active": False})
    move(client, 1, "cancelled")
    assert stock(client) == [5]


def test_only_cancelling_gives_stock_back(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("orders", user_id=1, items=lines((1, 2)))
    for status in WAYS["delivered"]:
        move(client, 1, status)
        assert stock(client) == [3]


# Deleting


def test_a_cancelled_order_is_deleted_with_its_lines(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", stock_quantity=5)
    make("orders", user_id=1, items=lines((1, 2)))
    assert client.delete("/products/1").status_code == 409
    move(client, 1, "cancelled")
    response = client.delete("/orders/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/orders/1").status_code == 404
    assert client.get("/orders/").json() == []
    assert stock(client) == [5]
    assert client.delete("/products/1").status_code == 204


@pytest.mark.parametrize("status", ["pending", "confirmed", "shipped", "delivered"])
def test_an_order_that_is_not_cancelled_stays(
    client: httpx2.Client, make: Make, status: str
) -> None:
    make("users")
    make("products")
    make("orders", user_id=1, items=lines((1, 2)))
    move(client, 1, *WAYS[status])
    before = state(client)
    assert client.delete("/orders/1").status_code == 400
    assert state(client) == before


def test_deleting_a_user_takes_the_orders_along_and_returns_no_stock(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("users")
    make("products", stock_quantity=5)
    make("orders", user_id=1, items=lines((1, 2)))
    kept = make("orders", user_id=2, items=lines((1, 1)))
    assert client.delete("/users/1").status_code == 204
    assert [order["id"] for order in client.get("/orders/").json()] == [kept["id"]]
    assert [note["order_id"] for note in client.get("/notifications/").json()] == [kept["id"]]
    assert stock(client) == [2]


# Statistics


def test_the_summary_counts_by_status_and_sums_up_what_was_not_cancelled(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("users")
    make("products", price=0.1)
    for user_id, quantity in ((1, 1), (1, 2), (1, 3), (2, 7)):
        make("orders", user_id=user_id, items=lines((1, quantity)))
    move(client, 2, "confirmed", "shipped")
    move(client, 3, "cancelled")
    none = dict.fromkeys(STATUSES, 0)
    everyone, first, nobody = (
        client.get(f"/orders/stats/summary{query}") for query in ("", "?user_id=1", "?user_id=9")
    )
    assert everyone.json() == {
        "total_orders": 4,
        "total_revenue": 1.0,
        "orders_by_status": none | {"pending": 2, "shipped": 1, "cancelled": 1},
    }
    assert first.json() == {
        "total_orders": 3,
        "total_revenue": 0.3,
        "orders_by_status": none | {"pending": 1, "shipped": 1, "cancelled": 1},
    }
    nothing = {"total_orders": 0, "total_revenue": 0, "orders_by_status": none}
    assert nobody.json() == nothing
    assert list(everyone.json()) == list(nothing)


def test_the_daily_statistics_have_a_row_for_every_day(client: httpx2.Client) -> None:
    first_possible = datetime.now(UTC).date()
    rows = client.get("/orders/stats/daily").json()
    assert first_possible <= date.fromisoformat(rows[-1]["date"]) <= datetime.now(UTC).date()
    last = date.fromisoformat(rows[-1]["date"])
    dates = [str(last - timedelta(days=n)) for n in reversed(range(30))]
    assert rows == [{"date": day, "orders": 0, "revenue": 0} for day in dates]
    assert list(rows[0]) == ["date", "orders", "revenue"]


@pytest.mark.parametrize("days", [1, 2, 365])
def test_the_daily_statistics_have_as_many_rows_as_days(client: httpx2.Client, days: int) -> None:
    assert len(client.get(f"/orders/stats/daily?days={days}").json()) == days


@pytest.mark.parametrize("days", ["0", "-1", "x", "2147483648"])
def test_days_out_of_range_are_422(client: httpx2.Client, days: str) -> None:
    assert client.get(f"/orders/stats/daily?days={days}").status_code == 422


def test_the_daily_statistics_count_orders_by_their_day_in_utc_without_cancelled_ones(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", price=0.1)
    today = date.fromisoformat(client.get("/orders/stats/daily?days=1").json()[0]["date"])
    begin, end = time(), time(23, 59, 59, 999999)
    placed = [(5, begin, 1), (5, end, 2), (4, begin, 4), (3, time(12), 3), (40, time(12), 1)]
    for id, (ago, at, quantity) in enumerate(placed, start=1):
        make("orders", user_id=1, items=lines((1, quantity)))
        created_at = datetime.combine(today - timedelta(days=ago), at, UTC)
        with db.database.writer.engine.begin() as connection:
            this = sa.update(Order).where(sa.column("id") == id)
            connection.execute(this.values(created_at=created_at))
    move(client, 4, "cancelled")
    rows = client.get("/orders/stats/daily").json()
    assert [row for row in rows if row["orders"]] == [
        {"date": str(today - timedelta(days=5)), "orders": 2, "revenue": 0.3},
        {"date": str(today - timedelta(days=4)), "orders": 1, "revenue": 0.4},
    ]


def test_an_order_of_today_is_in_the_last_row(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products", price=2.5)
    make("orders", user_id=1, items=lines((1, 3)))
    rows = client.get("/orders/stats/daily?days=2").json()
    counted = [(row["orders"], row["revenue"]) for row in rows]
    assert (1, 7.5) in counted  # in the first one, should midnight come between the two requests
    assert sum(orders for orders, _ in counted) == 1


def test_sums_over_many_orders_may_pass_what_one_may_cost(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("products", price=99999999.99)
    for _ in range(3):
        make("orders", user_id=1, items=lines((1, 1)))
    assert client.get("/orders/stats/summary").json()["total_revenue"] == 299999999.97
    daily = client.get("/orders/stats/daily?days=2").json()
    assert sum(row["revenue"] for row in daily) == 299999999.97
