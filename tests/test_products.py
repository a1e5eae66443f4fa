"""Products: filters, unique names, slugs and SKUs, stock, and numbers about them."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make
from document import columns_of, with_defaults
from sqlalchemy.orm import ORMExecuteState
from sqlmodel import Session

import db
from models import Product

pytestmark = pytest.mark.every_database

KETTLE = {
    "name": "Kettle",
    "slug": "the-kettle",
    "description": "Whistles.",
    "price": 19.99,
    "stock_quantity": 5,
    "sku": "KET-1",
    "is_active": False,
    "category_id": 1,
}
KEYS = columns_of(Product)


def names(rows: list[Json]) -> list[str]:
    return [row["name"] for row in rows]


# The six routes


def test_a_created_product_is_answered_with_its_defaults_and_location(
    client: httpx2.Client,
) -> None:
    response = client.post("/products/", json={"name": "Tea Pot", "price": "24.50", "sku": "pot-1"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/products/1"
    product = response.json()
    expected = {
        "id": 1,
        "name": "Tea Pot",
        "slug": "tea-pot",
        "description": None,
        "price": 24.5,
        "stock_quantity": 0,
        "sku": "POT-1",
        "is_active": True,
        "category_id": None,
        "created_at": product["created_at"],
        "updated_at": product["updated_at"],
    }
    assert product == with_defaults(Product, expected)
    assert product["created_at"].endswith("Z")
    assert product["updated_at"].endswith("Z")
    assert client.get("/products/1").json() == product
    assert client.get("/products/").json() == [product]


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client, make: Make) -> None:
    make("categories")
    rows = [
        client.post("/products/", json=KETTLE).json(),
        client.put("/products/1", json=KETTLE).json(),
        client.patch("/products/1", json={"is_active": True}).json(),
        client.post("/products/1/stock", json={"change": 1}).json(),
        client.get("/products/1").json(),
        client.get("/products/").json()[0],
        client.get("/products/by-sku/KET-1").json(),
        client.get("/products/by-slug/the-kettle").json(),
        client.get("/products/low-stock").json()[0],
        client.get("/categories/1/products").json()["products"][0],
    ]
    assert [list(row) for row in rows] == [KEYS] * len(rows)


def test_replacing_a_product_gives_omitted_fields_their_defaults(
    client: httpx2.Client, make: Make
) -> None:
    make("categories")
    before = make("products", **KETTLE)
    response = client.put("/products/1", json={"name": "Pan", "price": 5, "sku": "pan"})
    assert response.status_code == 200
    after = response.json()
    assert after == {
        **before,
        "name": "Pan",
        "slug": "pan",
        "description": None,
        "price": 5.0,
        "stock_quantity": 0,
        "sku": "PAN",
        "is_active": True,
        "category_id": None,
        "updated_at": after["updated_at"],
    }
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/products/1").json() == after


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Pan"},
        {"slug": "pan"},
        {"price": 0.01},
        {"stock_quantity": 0},
        {"sku": "PAN"},
        {"is_active": True},
        {"description": None},
        {"category_id": None},
    ],
)
def test_patching_a_product_changes_only_what_is_sent(
    client: httpx2.Client, make: Make, change: Json
) -> None:
    make("categories")
    before = make("products", **KETTLE)
    response = client.patch("/products/1", json=change)
    assert response.status_code == 200
    after = response.json()
    assert after == before | change | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/products/1").json() == after


def test_patching_with_nothing_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("products")
    response = client.patch("/products/1", json={})
    assert (response.status_code, response.json()) == (200, before)


def test_a_deleted_product_is_gone(client: httpx2.Client, make: Make) -> None:
    make("products")
    response = client.delete("/products/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/products/").json() == []


def test_a_product_in_an_order_cannot_be_deleted(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("products")
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    client.patch("/orders/1/status?new_status=cancelled")
    before = client.get("/products/1").json()
    response = client.delete("/products/1")
    assert response.status_code == 409
    assert "product_id" in response.json()["detail"]
    assert client.get("/products/1").json() == before
    client.delete("/orders/1")
    assert client.delete("/products/1").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/products/7", None),
        ("PUT", "/products/7", {"name": "x", "price": 1, "sku": "x"}),
        ("PATCH", "/products/7", {"name": "x"}),
        ("DELETE", "/products/7", None),
        ("POST", "/products/7/stock", {"change": 1}),
        ("GET", "/products/by-sku/NONE", None),
        ("GET", "/products/by-slug/none", None),
    ],
)
def test_an_unknown_product_is_404(
    client: httpx2.Client, method: str, path: str, body: Json
) -> None:
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "Product not found")


# Lists


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["pan", "Kettle", "Ärmel 100%", "a_b"]),
        ("q=KETTLE", ["Kettle"]),
        ("q=ärmel", ["Ärmel 100%"]),
        ("q=ÄRMEL", ["Ärmel 100%"]),
        ("q=%25", ["Ärmel 100%"]),
        ("q=_", ["a_b"]),
        ("q=", ["pan", "Kettle", "Ärmel 100%", "a_b"]),
        ("category_id=1", ["pan", "a_b"]),
        ("category_id=9", []),
        ("min_price=10", ["Kettle", "Ärmel 100%"]),
        ("max_price=10.00", ["pan", "Kettle", "a_b"]),
        ("min_price=9.99&max_price=9.99", ["pan", "a_b"]),
        ("is_active=true", ["pan", "Kettle", "a_b"]),
        ("is_active=false", ["Ärmel 100%"]),
        ("max_stock=5", ["pan", "a_b"]),
        ("max_stock=0", ["a_b"]),
        ("category_id=1&max_stock=0&is_active=true&q=A", ["a_b"]),
        ("sort=name", ["Kettle", "a_b", "pan", "Ärmel 100%"]),
        ("sort=-name", ["Ärmel 100%", "pan", "a_b", "Kettle"]),
        ("sort=price", ["pan", "a_b", "Kettle", "Ärmel 100%"]),
        ("sort=-price", ["Ärmel 100%", "Kettle", "a_b", "pan"]),
        ("sort=stock_quantity", ["a_b", "pan", "Kettle", "Ärmel 100%"]),
        ("sort=-stock_quantity", ["Ärmel 100%", "Kettle", "pan", "a_b"]),
        ("sort=created_at", ["pan", "Kettle", "Ärmel 100%", "a_b"]),
        ("sort=-created_at", ["a_b", "Ärmel 100%", "Kettle", "pan"]),
        ("sort=-id&limit=1", ["a_b"]),
        ("sort=price&skip=1&limit=2", ["a_b", "Kettle"]),
    ],
)
def test_products_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, found: list[str]
) -> None:
    make("categories")
    make("products", name="pan", price=9.99, stock_quantity=5, category_id=1)
    make("products", name="Kettle", price=10, stock_quantity=20)
    make("products", name="Ärmel 100%", price=1000, stock_quantity=100, is_active=False)
    make("products", name="a_b", price=9.99, stock_quantity=0, category_id=1)
    assert names(client.get(f"/products/?{query}").json()) == found


def test_following_the_links_visits_every_product_once(client: httpx2.Client, make: Make) -> None:
    for price in (3, 1, 3, 2, 3):
        make("products", price=price)
    make("products", price=9)
    url, seen = "/products/?sort=-price&max_price=3&limit=2&count=true", []
    while url:
        response = client.get(url)
        assert response.headers["X-Total-Count"] == "5"
        seen += [row["id"] for row in response.json()]
        url = response.links.get("next", {}).get("url", "")
    assert seen == [5, 3, 1, 4, 2]


@pytest.mark.parametrize(
    "path",
    [
        "?sort=sku",
        "?min_price=cheap",
        "?min_price=1.999",
        "?max_price=1e99",
        "?max_price=NaN",
        "?max_stock=-1",
        "?max_stock=2147483648",
        "?category_id=0",
        "?q=%00",
        "?colour=red",
        "?sort=price&after=1",
        "low-stock?threshold=x",
        "low-stock?threshold=2147483648",
        "page?page=0",
        "page?page_size=0",
        "by-sku/%00",
        "by-slug/%00",
    ],
)
def test_a_bad_query_is_422(client: httpx2.Client, path: str) -> None:
    assert client.get(f"/products/{path}").status_code == 422


def test_active_products_are_listed_with_their_categories(
    client: httpx2.Client, make: Make
) -> None:
    lamps = make("categories")
    inside, outside = make("products", category_id=1), make("products")
    make("products", category_id=1, is_active=False)
    response = client.get("/products/with-categories")
    assert response.status_code == 200
    assert response.json() == [inside | {"category": lamps}, outside | {"category": None}]
    assert list(response.json()[0]) == [*KEYS, "category"]
    first = client.get("/products/with-categories?limit=1")
    assert client.get(first.links["next"]["url"]).json() == response.json()[1:]


def test_products_come_in_numbered_pages_with_their_categories(
    client: httpx2.Client, make: Make
) -> None:
    lamps = make("categories")
    make("products")
    second, third = make("products", category_id=1), make("products", is_active=False)
    assert client.get("/products/page?page_size=2").json() == {
        "items": [third | {"category": None}, second | {"category": lamps}],
        "total": 3,
        "page": 1,
        "page_size": 2,
        "total_pages": 2,
        "has_next": True,
        "has_previous": False,
    }
    last = client.get("/products/page?page_size=2&page=2").json()
    assert [product["id"] for product in last["items"]] == [1]
    assert (last["has_next"], last["has_previous"]) == (False, True)


def test_low_stock_is_at_or_under_the_threshold_least_first(
    client: httpx2.Client, make: Make
) -> None:
    for name, stock in [("ten", 10), ("two", 2), ("eleven", 11), ("none", 0), ("deux", 2)]:
        make("products", name=name, stock_quantity=stock)
    make("products", stock_quantity=1, is_active=False)
    low = client.get("/products/low-stock")
    assert (low.status_code, names(low.json())) == (200, ["none", "two", "deux", "ten"])
    assert names(client.get("/products/low-stock?threshold=2").json()) == ["none", "two", "deux"]
    assert names(client.get("/products/low-stock?threshold=0").json()) == ["none"]


@pytest.mark.parametrize("path", ["by-sku/KET-1", "by-sku/ket-1", "by-slug/the-kettle"])
def test_a_product_is_found_by_sku_and_by_slug(
    client: httpx2.Client, make: Make, path: str
) -> None:
    make("categories")
    product = make("products", **KETTLE)
    response = client.get(f"/products/{path}")
    assert (response.status_code, response.json()) == (200, product)


# What a product may be


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"slug": "a\0b"}, "slug"),
        ({"description": "a\0b"}, "description"),
        ({"price": 0}, "price"),
        ({"price": -1}, "price"),
        ({"price": 89.999}, "price"),
        ({"price": 100000000}, "price"),
        ({"price": "nan"}, "price"),
        ({"price": None}, "price"),
        ({"stock_quantity": -1}, "stock_quantity"),
        ({"stock_quantity": 2**53 + 1}, "stock_quantity"),
        ({"stock_quantity": 1.5}, "stock_quantity"),
        ({"stock_quantity": None}, "stock_quantity"),
        ({"sku": ""}, "sku"),
        ({"sku": "x" * 51}, "sku"),
        ({"sku": "A 1"}, "sku"),
        ({"sku": "A_1"}, "sku"),
        ({"sku": "A-1\n"}, "sku"),
        ({"sku": "Ä-1"}, "sku"),
        ({"sku": None}, "sku"),
        ({"is_active": "maybe"}, "is_active"),
        ({"is_active": None}, "is_active"),
        ({"category_id": 0}, "category_id"),
        ({"category_id": 2**31}, "category_id"),
        ({"category": 1}, "category"),
        ({"id": 5}, "id"),
    ],
)
def test_a_bad_product_is_422_and_names_the_field(
    client: httpx2.Client, make: Make, change: Json, field: str
) -> None:
    before = make("products")
    body = {"name": "x", "price": 1, "sku": "x"} | change
    for response in (
        client.post("/products/", json=body),
        client.put("/products/1", json=body),
        client.patch("/products/1", json=change),
    ):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/products/").json() == [before]


@pytest.mark.parametrize("field", ["name", "price", "sku"])
def test_a_product_needs_a_name_a_price_and_a_sku(client: httpx2.Client, field: str) -> None:
    body = {key: value for key, value in KETTLE.items() if key != field}
    errors = client.post("/products/", json=body).json()["errors"]
    assert [error["loc"] for error in errors] == [["body", field]]


def test_values_at_their_limits_are_stored_as_they_came(client: httpx2.Client, make: Make) -> None:
    limits = {"name": "💡" * 200, "stock_quantity": 2**31 - 1, "sku": "X" * 50}
    make("products", price=99999999.99, **limits)
    product = client.get("/products/1").json()
    assert {key: product[key] for key in limits} == limits
    assert product["price"] == 99999999.99


@pytest.mark.parametrize("price", [0.01, 0.29, 1.1, 79.99, 4503599.63, 99999999.99])
def test_prices_are_exact_to_the_last_cent(client: httpx2.Client, make: Make, price: float) -> None:
    assert make("products", price=price)["price"] == price
    assert client.patch("/products/1", json={"price": f"{price:.2f}"}).json()["price"] == price
    assert len(client.get(f"/products/?min_price={price:.2f}&max_price={price:.2f}").json()) == 1


def test_a_sku_is_stored_in_upper_case_and_unique(client: httpx2.Client, make: Make) -> None:
    assert make("products", sku="ket-1")["sku"] == "KET-1"
    before = make("products", sku="PAN-1")
    body = {"name": "x", "price": 1, "sku": "Ket-1"}
    for response in (
        client.post("/products/", json=body),
        client.put("/products/2", json=body),
        client.patch("/products/2", json={"sku": "kEt-1"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "sku already exists")
    assert client.get("/products/2").json() == before
    assert client.patch("/products/2", json={"sku": "pan-2"}).json()["sku"] == "PAN-2"


def test_a_name_is_unique_within_its_category_by_code_point(
    client: httpx2.Client, make: Make
) -> None:
    make("categories")
    make("categories")
    make("products", name="Pan", category_id=1)
    other = make("products", name="Pan", category_id=2)
    make("products", name="pan", category_id=1)
    body = {"name": "Pan", "price": 1, "sku": "x", "category_id": 1}
    for response in (
        client.post("/products/", json=body),
        client.put("/products/2", json=body),
        client.patch("/products/2", json={"category_id": 1}),
        client.patch("/products/3", json={"name": "Pan"}),
    ):
        assert response.status_code == 409
        assert "name" in response.json()["detail"]
    assert client.get("/products/2").json() == other
    assert len(client.get("/products/").json()) == 3


def test_without_a_category_names_need_not_be_unique(client: httpx2.Client, make: Make) -> None:
    make("categories")
    make("categories")
    for category_id in (None, None, 1, 2):
        make("products", name="Pan", category_id=category_id)
    client.delete("/categories/1")
    client.patch("/products/4", json={"category_id": None})
    rows = client.get("/products/").json()
    assert [(row["name"], row["category_id"]) for row in rows] == [("Pan", None)] * 4
    assert [row["slug"] for row in rows] == ["pan", "pan-2", "pan-3", "pan-4"]


def test_an_unknown_category_is_409(client: httpx2.Client, make: Make) -> None:
    before = make("products")
    body = {"name": "x", "price": 1, "sku": "x", "category_id": 9}
    for response in (
        client.post("/products/", json=body),
        client.put("/products/1", json=body),
        client.patch("/products/1", json={"category_id": 9}),
    ):
        assert response.status_code == 409
        assert response.json()["detail"] == "category_id refers to nothing"
    assert client.get("/products/").json() == [before]


# Slugs


def test_slugs_made_of_the_longest_names_are_distinct_too(make: Make) -> None:
    slugs = {make("products", name="x" * 200)["slug"] for _ in range(12)}
    assert len(slugs) == 12


def test_a_number_that_was_given_as_a_slug_is_passed_over(make: Make) -> None:
    make("products", name="Other", slug="pan-2")
    slugs = [make("products", name="Pan")["slug"] for _ in range(3)]
    assert slugs == ["pan", "pan-3", "pan-4"]


def insert_slugs(slugs: Iterable[str]) -> None:
    rows = [
        {"name": "Other", "slug": slug, "sku": f"S{n}", "price": Decimal(1), "stock_quantity": 0}
        for n, slug in enumerate(slugs)
    ]
    with db.database.writer.engine.begin() as connection:
        connection.execute(sa.insert(Product), rows)


@pytest.fixture
def read(database: str) -> Iterator[list[int]]:
    """Of each query of the ORM that the app makes, how many rows were read."""
    counts = list[int]()

    def count(state: ORMExecuteState) -> Any:
        rows = state.invoke_statement().freeze()
        counts.append(len(rows.data))
        return rows()

    sa.event.listen(Session, "do_orm_execute", count)
    yield counts
    sa.event.remove(Session, "do_orm_execute", count)


@pytest.mark.parametrize("n", [2, 8, 9, 10, 11, 12, 13, 40, 41, 42, 1000, 3000])
def test_one_more_of_many_equal_slugs_is_numbered_next_after_looking_at_few(
    client: httpx2.Client, make: Make, read: list[int], n: int
) -> None:
    insert_slugs(["pan", *(f"pan-{number}" for number in range(2, n + 1))])
    assert make("products", name="Pan")["slug"] == f"pan-{n + 1}"
    assert len(read) <= 6
    assert sum(read) <= 100


@pytest.mark.parametrize(
    "slugs",
    [
        ["pan-100-watt", "pan-007", "pan-0", "pan-1", "pan-99999999999", "pan-", "pan-50"],
        [f"pan-{n}" for n in (*range(2, 40), *range(41, 60), 100, 1000, 10**19)],
        [f"pan-{n}" for n in (*range(2, 10), *(9 + 2**power for power in range(60)))],
        [f"pan-{n}" for n in {*range(2, 12), *(n + 2**p for n in (9, 10) for p in range(60))}],
    ],
    ids=["like it", "gaps", "powers of two", "more powers of two"],
)
def test_a_slug_is_free_whatever_others_were_given(make: Make, slugs: list[str]) -> None:
    insert_slugs(slugs)
    made = [make("products", name="Pan")["slug"] for _ in range(60)]
    assert made[0] == "pan"
    assert all(re.fullmatch("pan-[1-9][0-9]*", slug) for slug in made[1:])
    assert len({*made, *slugs}) == len(made) + len(slugs)


def test_a_given_slug_that_is_taken_is_409(client: httpx2.Client, make: Make) -> None:
    make("products", slug="pan")
    before = make("products")
    body = {"name": "x", "price": 1, "sku": "x", "slug": "pan"}
    for response in (
        client.post("/products/", json=body),
        client.put("/products/2", json=body),
        client.patch("/products/2", json={"slug": "pan"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (409, "slug already exists")
    assert client.get("/products/2").json() == before


def test_replacing_without_a_slug_makes_it_anew_unless_the_name_stays(
    client: httpx2.Client, make: Make
) -> None:
    make("products", name="Pan")
    make("products", name="Kettle", slug="the-kettle")
    for name, slug in [("Kettle", "the-kettle"), ("pan", "pan-2"), ("Pot", "pot")]:
        body = {"name": name, "price": 1, "sku": "x"}
        assert client.put("/products/2", json=body).json()["slug"] == slug


# Stock


def test_the_stock_changes_by_so_much(client: httpx2.Client, make: Make) -> None:
    before = make("products", stock_quantity=5)
    for change, stock in [(-3, 2), (10, 12), (0, 12), (-12, 0), (2**31 - 1, 2**31 - 1)]:
        response = client.post("/products/1/stock", json={"change": change})
        assert response.status_code == 200
        after = response.json()
        expected = {"stock_quantity": stock, "updated_at": after["updated_at"]}
        assert after == before | expected
        assert client.get("/products/1").json() == after


def test_the_stock_cannot_go_below_zero(client: httpx2.Client, make: Make) -> None:
    before = make("products", stock_quantity=2)
    response = client.post("/products/1/stock", json={"change": -3})
    assert response.status_code == 400
    assert response.json()["detail"] == "Insufficient stock. Current: 2"
    assert client.get("/products/1").json() == before


def test_the_stock_cannot_pass_what_a_product_may_have(client: httpx2.Client, make: Make) -> None:
    before = make("products", stock_quantity=2**53 - 1)
    response = client.post("/products/1/stock", json={"change": 2})
    assert response.status_code == 400
    assert response.json()["detail"] == f"Too much stock. Current: {2**53 - 1}"
    assert client.get("/products/1").json() == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"change": None},
        {"change": 1.5},
        {"change": "many"},
        {"change": 2**31},
        {"change": -(2**31)},
        {"change": 1, "stock_quantity": 1},
    ],
)
def test_a_bad_change_of_stock_is_422(client: httpx2.Client, make: Make, body: Json) -> None:
    before = make("products")
    assert client.post("/products/1/stock", json=body).status_code == 422
    assert client.get("/products/1").json() == before


# Numbers


def test_statistics_by_category_are_exact_and_most_products_come_first(
    client: httpx2.Client, make: Make
) -> None:
    assert client.get("/products/by-category-stats").json() == []
    for name in ("Few", "Many", "Empty", "Inactive"):
        make("categories", name=name)
    for category_id, price in [(1, 99999999.99), (1, 99999999.97), (2, 0.1), (2, 0.2), (2, 0.3)]:
        make("products", category_id=category_id, price=price)
    make("products", price=79.99)
    make("products", category_id=2, price=1000, is_active=False)
    make("products", category_id=4, is_active=False)
    response = client.get("/products/by-category-stats")
    assert response.status_code == 200
    assert response.json() == [
        stats("Many", 3, 0.2, 0.1, 0.3),
        stats("Few", 2, 99999999.98, 99999999.97, 99999999.99),
        stats(None, 1, 79.99, 79.99, 79.99),
    ]


def test_an_average_is_rounded_to_the_cent(client: httpx2.Client, make: Make) -> None:
    for price in (1, 1, 2.02):
        make("products", price=price)
    assert client.get("/products/by-category-stats").json() == [stats(None, 3, 1.34, 1.0, 2.02)]


def stats(name: str | None, count: int, average: float, least: float, most: float) -> Json:
    return {
        "category": name,
        "product_count": count,
        "avg_price": average,
        "min_price": least,
        "max_price": most,
    }
