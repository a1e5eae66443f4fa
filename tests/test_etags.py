"""ETags: which answers say a row's version, what changes it, and requests on condition of it."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import SECTIONS, Build, Json, Make, headers_of, needing
from document import (
    COLLECTIONS,
    ENDLESS,
    OPERATIONS,
    PATHS,
    ROUTES,
    asked,
    complete,
    example_of,
    is_tagged,
    media_of,
    path_of_row,
)
from servers import at_once, create, create_order, create_product, create_user, sender, statuses

import db
from models import User

CLIENTS = 30
TRANSFER = {"from_account_id": 1, "to_account_id": 2, "amount": 1}

BODIES: dict[str, Json] = {
    "items": {"title": "New", "price": 2},
    "users": {"username": "new", "email": "new@example.com", "password": "Password2"},
    "categories": {"name": "New"},
    "products": {"name": "New", "price": 2, "sku": "NEW"},
    "posts": {"title": "New", "content": "New.", "author_id": 1, "tag_ids": [1]},
    "tags": {"name": "New"},
}
CREATED = BODIES | {"orders": {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}}
CHANGES: dict[str, Json] = {
    "items": {"price": 3},
    "users": {"bio": "New"},
    "categories": {"description": "New"},
    "products": {"price": 3},
    "posts": {"title": "New"},
    "tags": {"name": "New"},
}
for known in (BODIES, CHANGES, CREATED):
    for name in known.keys() - SECTIONS:  # which have been taken out
        del known[name]


def section_of(path: str) -> str:
    return path.split("/")[1]


# An entity of your own is tried with its examples.
OF_ITS_OWN = [
    collection.strip("/")
    for collection in COLLECTIONS
    if collection.strip("/") not in CREATED and is_tagged("POST", collection)
]
for name in OF_ITS_OWN:
    row = path_of_row(f"/{name}/")
    CREATED[name] = example_of(media_of("POST", f"/{name}/"))
    for bodies, method in ((BODIES, "PUT"), (CHANGES, "PATCH")):
        if media := media_of(method, row):
            bodies[name] = example_of(media)
# Where a single row is read, and where it is read by its id.
READS = {
    "/items/1": "/items/1",
    "/users/1": "/users/1",
    "/users/by-email/user1@example.com": "/users/1",
    "/categories/1": "/categories/1",
    "/products/1": "/products/1",
    "/products/by-sku/SKU-1": "/products/1",
    "/products/by-slug/product-1": "/products/1",
    "/posts/1": "/posts/1",
    "/tags/1": "/tags/1",
    "/orders/1": "/orders/1",
}
READS = {path: row for path, row in READS.items() if section_of(path) in SECTIONS}
READS |= {f"/{name}/1": f"/{name}/1" for name in OF_ITS_OWN}
UNTAGGED = [
    asked(path)
    for path, operations in PATHS.items()
    if "get" in operations and path not in ENDLESS and not is_tagged("GET", path)
]
# Everything that may be asked on condition of If-Match, and would be done without one.
WRITES: list[tuple[str, str, Json]] = [
    *(("PUT", f"/{collection}/1", body) for collection, body in BODIES.items()),
    *(("PATCH", f"/{collection}/1", body) for collection, body in CHANGES.items()),
    *(("DELETE", f"/{name}/1", None) for name in ("items", *OF_ITS_OWN)),
    ("DELETE", "/users/2", None),
    ("DELETE", "/users/2/soft", None),
    ("DELETE", "/categories/1", None),
    ("DELETE", "/products/1", None),
    ("DELETE", "/posts/1", None),
    ("DELETE", "/tags/1", None),
    ("DELETE", "/orders/2", None),
    ("PATCH", "/orders/1/status?new_status=cancelled", None),
    ("POST", "/products/1/stock", {"change": 5}),
]
WRITES = [write for write in WRITES if section_of(write[1]) in SECTIONS]
each_write = pytest.mark.parametrize(
    ("method", "path", "body"), WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES]
)
# Only by a weak comparison, or not at all, do these name the tag "1".
WEAK = ['W/"1"', '"7", W/"1"']
STRAY = ['"7"', '"11"', '"7", "8"', 'W/"7"', '"W/1"', '""']
MALFORMED = [
    "",
    ",",
    "1",
    '"1',
    '1"',
    "'1'",
    'w/"1"',
    'W/ "1"',
    '"1" x',
    'x "1"',
    '"1"; "1"',
    '"1" "1"',
    '"1", *',
    '*, "1"',
    "**",
    '"1", x',
    '"1", "1',
]
STRONG = ['"1"', '"7", "1"', '"1","7"', '"7",,"1"', '"1",', 'W/"1", "1"', '"a,b", "1"', "*"]


def fill(make: Make) -> None:
    make("users")
    make("users")
    make("items")
    make("categories")
    make("tags")
    make("products", category_id=1)
    make("products")
    make("posts", author_id=1, tag_ids=[1])
    make("accounts", user_id=1, balance=100)
    make("accounts", user_id=1)
    make("transfers", from_account_id=1, to_account_id=2, amount=1)
    for _ in range(2):
        make("orders", user_id=1, items=[{"product_id": 2, "quantity": 1}])
    if "orders" in SECTIONS:
        assert make.client.patch("/orders/2/status?new_status=cancelled").status_code == 200
    complete(make.client)


@pytest.fixture
def shop(client: httpx2.Client, built: Callable[[Build], None]) -> httpx2.Client:
    """A client of a shop with something of everything.

    All is in its first version, but for what order 2 has changed: product 2 and, since it is
    cancelled, the order. User 2 has nothing.
    """
    built(fill)
    return client


def tag_of(client: httpx2.Client, path: str) -> str:
    tag: str = client.get(path).headers["ETag"]
    return tag


def row_of(path: str) -> str:
    """The path of the row that a request is about: /users/2 for /users/2/soft."""
    return "/".join(path.split("/")[:3])


def state(client: httpx2.Client) -> list[Json]:
    """All there is, and its versions."""
    lists = [client.get(path).text for path in UNTAGGED if "/health" not in path]
    others = ["/users/2", "/products/2", "/orders/2"]
    rows = [*READS.values(), *(row for row in others if section_of(row) in SECTIONS)]
    return [*lists, *((client.get(path).json(), tag_of(client, path)) for path in rows)]


def precondition_failed(name: str) -> Json:
    return {
        "type": "about:blank",
        "title": "Precondition Failed",
        "status": 412,
        "detail": f"{name} has changed since; read it again",
    }


# Which answers have one


@pytest.mark.every_database
@pytest.mark.parametrize("collection", CREATED)
def test_a_created_row_is_answered_with_its_first_etag(
    shop: httpx2.Client, collection: str
) -> None:
    response = shop.post(f"/{collection}/", json=CREATED[collection])
    assert (response.status_code, response.headers["ETag"]) == (201, '"1"')
    read = shop.get(response.headers["Location"])
    assert (read.json(), read.headers["ETag"]) == (response.json(), '"1"')


@pytest.mark.parametrize("path", READS)
def test_a_row_has_one_etag_wherever_it_is_read(shop: httpx2.Client, path: str) -> None:
    response, by_id = shop.get(path), shop.get(READS[path])
    assert (response.json(), response.headers["ETag"]) == (by_id.json(), '"1"')


@pytest.mark.parametrize("path", READS)
def test_head_answers_with_the_etag_of_get(shop: httpx2.Client, path: str) -> None:
    response = shop.head(path)
    assert (response.status_code, response.headers["ETag"]) == (200, '"1"')


@pytest.mark.every_database
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("collection", BODIES)
def test_a_changed_row_is_answered_with_its_next_etag(
    shop: httpx2.Client, collection: str, method: str
) -> None:
    body = (BODIES if method == "PUT" else CHANGES)[collection]
    response = shop.request(method, f"/{collection}/1", json=body)
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    read = shop.get(f"/{collection}/1")
    assert (read.json(), read.headers["ETag"]) == (response.json(), '"2"')


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_a_change_of_the_stock_is_answered_with_the_next_etag(shop: httpx2.Client) -> None:
    response = shop.post("/products/1/stock", json={"change": 5})
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    read = shop.get("/products/1")
    assert (read.json(), read.headers["ETag"]) == (response.json(), '"2"')


@pytest.mark.every_database
def test_etags_count_every_change(shop: httpx2.Client) -> None:
    tags = [shop.patch("/items/1", json={"price": n}).headers["ETag"] for n in range(2, 14)]
    assert tags == [f'"{n}"' for n in range(2, 14)]


def test_the_version_is_in_no_body(shop: httpx2.Client) -> None:
    for path in (*READS, *UNTAGGED):
        assert '"version":' not in shop.get(path).text.replace('"version":"1.0.0"', "")


@pytest.mark.parametrize("path", UNTAGGED)
def test_lists_and_composites_have_no_etag_and_no_304(shop: httpx2.Client, path: str) -> None:
    expected = shop.get(path).text
    for value in ('"1"', "*"):
        response = shop.get(path, headers={"If-None-Match": value})
        assert (response.status_code, response.text) == (200, expected)
        assert "ETag" not in response.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        needing("accounts", "/accounts/", {"user_id": 1}),
        needing("transfers", "/transfers/", TRANSFER),
        needing("payments", "/orders/1/payments", {"account_id": 1}),
        ("/users/bulk", [BODIES["users"]]),
    ],
)
def test_what_is_created_without_versions_has_no_etag(
    shop: httpx2.Client, path: str, body: Json
) -> None:
    response = shop.post(path, json=body)
    assert response.status_code == 201
    assert "ETag" not in response.headers


# If-None-Match


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", READS)
def test_what_the_client_has_already_is_not_sent_again(
    shop: httpx2.Client, path: str, method: str
) -> None:
    response = shop.request(method, path, headers={"If-None-Match": '"1"'})
    assert (response.status_code, response.content) == (304, b"")
    who = ROUTES["GET", path_of_row(f"/{section_of(path)}/")].who
    no_store = {} if who == "anyone" else {"cache-control": "no-store"}
    assert headers_of(response) == {"etag": '"1"'} | no_store


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("value", [*STRONG, *WEAK, ' "1" '])
def test_if_none_match_compares_weakly_and_takes_lists(
    shop: httpx2.Client, value: str, method: str
) -> None:
    response = shop.request(method, "/items/1", headers={"If-None-Match": value})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == '"1"'


@pytest.mark.parametrize("value", [*STRAY, *MALFORMED])
def test_an_if_none_match_that_names_another_or_nothing_is_answered_with_the_row(
    shop: httpx2.Client, value: str
) -> None:
    response = shop.get("/items/1", headers={"If-None-Match": value})
    assert (response.status_code, response.headers["ETag"]) == (200, '"1"')
    assert response.json() == shop.get("/items/1").json()


def test_several_lines_of_if_none_match_are_one_list(shop: httpx2.Client) -> None:
    for tags in (['"1"', '"7"'], ['"7"', 'W/"1"']):
        lines = [("If-None-Match", tag) for tag in tags]
        assert shop.get("/items/1", headers=lines).status_code == 304
    malformed = [("If-None-Match", '"1"'), ("If-None-Match", "x")]
    assert shop.get("/items/1", headers=malformed).status_code == 200


@pytest.mark.parametrize("collection", CHANGES)
def test_a_changed_row_is_sent_to_who_has_the_one_before(
    shop: httpx2.Client, collection: str
) -> None:
    changed = shop.patch(f"/{collection}/1", json=CHANGES[collection])
    response = shop.get(f"/{collection}/1", headers={"If-None-Match": '"1"'})
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    assert response.json() == changed.json()


@pytest.mark.parametrize("value", ["*", '"1"', "x"])
def test_a_row_that_is_not_there_is_404_for_if_none_match(
    client: httpx2.Client, value: str
) -> None:
    response = client.get("/items/1", headers={"If-None-Match": value})
    assert (response.status_code, response.json()["detail"]) == (404, "Item not found")


def test_a_write_excluded_by_if_none_match_is_412_and_changes_nothing(shop: httpx2.Client) -> None:
    before = state(shop)
    for value in ("*", '"1"', 'W/"1"'):
        response = shop.patch("/items/1", json={"price": 2}, headers={"If-None-Match": value})
        assert response.status_code == 412
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json() == precondition_failed("Item") | {
            "detail": "Item is what If-None-Match excludes"
        }
    assert state(shop) == before


# If-Match


@pytest.mark.every_database
@each_write
def test_a_write_with_the_etag_of_now_is_done(
    shop: httpx2.Client, method: str, path: str, body: Json
) -> None:
    tag = tag_of(shop, row_of(path))
    response = shop.request(method, path, json=body, headers={"If-Match": tag})
    gone = method == "DELETE" and path == row_of(path)
    assert response.status_code == (204 if gone else 200), response.text
    now = shop.get(row_of(path))
    assert now.status_code == 404 if gone else now.headers["ETag"] == '"2"'


@pytest.mark.every_database
@each_write
def test_a_write_of_a_row_that_has_changed_is_412_and_changes_nothing(
    shop: httpx2.Client, method: str, path: str, body: Json
) -> None:
    collection = path.split("/")[1]
    if path.startswith("/orders/1"):
        assert shop.patch("/orders/1/status?new_status=confirmed").status_code == 200
    elif collection != "orders":
        changed = shop.patch(row_of(path), json=CHANGES[collection])
        assert changed.headers["ETag"] == '"2"'
    before = state(shop)
    response = shop.request(method, path, json=body, headers={"If-Match": '"1"'})
    assert response.status_code == 412
    assert response.headers["Content-Type"] == "application/problem+json"
    model = ROUTES["GET", path_of_row(f"/{collection}/")].response_model
    name = model.__name__.partition("With")[0]
    assert response.json() == precondition_failed(name)
    assert state(shop) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("value", [*STRAY, *MALFORMED, *WEAK])
def test_an_if_match_that_is_weak_or_names_another_or_nothing_is_412(
    shop: httpx2.Client, value: str, method: str
) -> None:
    before = shop.get("/items/1").json()
    body = None if method == "DELETE" else BODIES["items"]
    response = shop.request(method, "/items/1", json=body, headers={"If-Match": value})
    assert (response.status_code, response.json()) == (412, precondition_failed("Item"))
    after = shop.get("/items/1")
    assert (after.json(), after.headers["ETag"]) == (before, '"1"')


@each_write
def test_a_weak_if_match_is_412_on_every_route(
    shop: httpx2.Client, method: str, path: str, body: Json
) -> None:
    weak = "W/" + tag_of(shop, row_of(path))
    response = shop.request(method, path, json=body, headers={"If-Match": weak})
    assert response.status_code == 412
    assert "W/" + tag_of(shop, row_of(path)) == weak


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        needing("orders", "PATCH", "/orders/1/status?new_status=delivered", None, 400),
        needing("orders", "DELETE", "/orders/1", None, 400),
        needing("products", "POST", "/products/1/stock", {"change": -1000}, 400),
        needing("tags", "PATCH", "/tags/1", {"name": "Taken"}, 409),
        needing("posts", "PATCH", "/posts/1", {"author_id": 99}, 409),
        needing("accounts", "DELETE", "/users/1", None, 409),
        needing("payments", "POST", "/orders/1/payments", {"account_id": 2}, 400),
    ],
)
def test_who_has_an_old_version_is_told_that_before_what_the_shop_would_refuse(
    shop: httpx2.Client, make: Make, method: str, path: str, body: Json, status: int
) -> None:
    make("tags", name="Taken")
    before = state(shop)
    for value, expected in (('"7"', 412), ('"1"', status)):
        response = shop.request(method, path, json=body, headers={"If-Match": value})
        assert response.status_code == expected, response.text
    assert state(shop) == before


@pytest.mark.parametrize("value", STRONG)
def test_an_if_match_may_be_a_list_or_a_star(shop: httpx2.Client, value: str) -> None:
    response = shop.patch("/items/1", json={"price": 3}, headers={"If-Match": value})
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    assert shop.get("/items/1").json() == response.json()
    assert response.json()["price"] == 3


def test_several_lines_of_if_match_are_one_list(shop: httpx2.Client) -> None:
    for n, tags in enumerate((['"1"', '"7"'], ['"7"', '"2"']), 2):
        lines = [("If-Match", tag) for tag in tags]
        response = shop.patch("/items/1", json={"price": n}, headers=lines)
        assert (response.status_code, response.headers["ETag"]) == (200, f'"{n}"')
    malformed = [("If-Match", '"3"'), ("If-Match", "*")]
    assert shop.patch("/items/1", json={"price": 9}, headers=malformed).status_code == 412


@pytest.mark.parametrize("value", ["*", '"1"', "x"])
@each_write
def test_a_row_that_is_not_there_is_404_for_if_match(
    shop: httpx2.Client, method: str, path: str, body: Json, value: str
) -> None:
    missing = path.replace("/1", "/99").replace("/2", "/99")
    response = shop.request(method, missing, json=body, headers={"If-Match": value})
    assert response.status_code == 404
    assert response.json()["detail"].endswith(" not found")


def test_a_read_of_a_row_that_has_changed_is_412_with_if_match(shop: httpx2.Client) -> None:
    assert shop.get("/items/1", headers={"If-Match": '"1"'}).status_code == 200
    response = shop.get("/items/1", headers={"If-Match": '"7"'})
    assert (response.status_code, response.json()) == (412, precondition_failed("Item"))


def test_if_match_is_asked_before_if_none_match(shop: httpx2.Client) -> None:
    both = {"If-Match": '"7"', "If-None-Match": '"1"'}
    assert shop.get("/items/1", headers=both).status_code == 412
    both = {"If-Match": '"1"', "If-None-Match": '"1"'}
    assert shop.get("/items/1", headers=both).status_code == 304


@pytest.mark.every_database
def test_without_if_match_the_last_writer_wins(shop: httpx2.Client) -> None:
    shop.patch("/items/1", json={"price": 2, "title": "First"})
    response = shop.patch("/items/1", json={"price": 3})
    assert (response.status_code, response.headers["ETag"]) == (200, '"3"')
    item = shop.get("/items/1").json()
    assert (item["title"], item["price"]) == ("First", 3)


@pytest.mark.every_database
def test_a_chain_of_writes_each_with_the_etag_of_the_one_before_is_done(
    shop: httpx2.Client,
) -> None:
    tag = '"1"'
    for price in (2, 3, 4):
        response = shop.patch("/items/1", json={"price": price}, headers={"If-Match": tag})
        assert (response.status_code, response.json()["price"]) == (200, price)
        tag = response.headers["ETag"]
    assert tag == '"4"'


@pytest.mark.needs("payments")
@pytest.mark.every_database
def test_a_paid_order_is_cancelled_with_its_etag(shop: httpx2.Client) -> None:
    shop.post("/orders/1/payments", json={"account_id": 1})
    tag = tag_of(shop, "/orders/1")
    response = shop.patch("/orders/1/status?new_status=cancelled", headers={"If-Match": tag})
    assert response.status_code == 200, response.text
    assert response.json() == {"order_id": 1, "new_status": "cancelled"}
    assert shop.get("/orders/1").json()["status"] == "cancelled"


# What changes an ETag, and what does not


@pytest.mark.every_database
@pytest.mark.parametrize("collection", CHANGES)
def test_patching_with_nothing_keeps_the_etag(shop: httpx2.Client, collection: str) -> None:
    before = shop.get(f"/{collection}/1").json()
    response = shop.patch(f"/{collection}/1", json={})
    assert (response.json(), response.headers["ETag"]) == (before, '"1"')
    assert tag_of(shop, f"/{collection}/1") == '"1"'


@pytest.mark.every_database
@pytest.mark.parametrize("collection", CHANGES)
def test_patching_with_the_same_values_keeps_the_etag(shop: httpx2.Client, collection: str) -> None:
    first, second = (shop.patch(f"/{collection}/1", json=CHANGES[collection]) for _ in range(2))
    assert (second.json(), second.headers["ETag"]) == (first.json(), '"2"')
    assert tag_of(shop, f"/{collection}/1") == '"2"'


@pytest.mark.every_database
@pytest.mark.parametrize("collection", [name for name in BODIES if name != "users"])
def test_replacing_by_the_same_values_keeps_the_etag(shop: httpx2.Client, collection: str) -> None:
    first, second = (shop.put(f"/{collection}/1", json=BODIES[collection]) for _ in range(2))
    assert (second.json(), second.headers["ETag"]) == (first.json(), '"2"')
    assert tag_of(shop, f"/{collection}/1") == '"2"'


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_a_refused_change_keeps_the_etag(shop: httpx2.Client, make: Make) -> None:
    make("tags", name="Taken")
    assert shop.patch("/tags/1", json={"name": "Taken"}).status_code == 409
    assert shop.patch("/tags/1", json={"name": ""}).status_code == 422
    assert shop.post("/products/1/stock", json={"change": -101}).status_code == 400
    assert [tag_of(shop, path) for path in ("/tags/1", "/products/1", "/posts/1")] == ['"1"'] * 3


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_changing_the_stock_by_nothing_keeps_the_etag(shop: httpx2.Client) -> None:
    before = shop.get("/products/1").json()
    response = shop.post("/products/1/stock", json={"change": 0})
    assert (response.json(), response.headers["ETag"]) == (before, '"1"')


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_a_sale_and_its_cancellation_change_the_etags_of_what_is_sold(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    for _ in range(3):
        make("products")
    lines = [{"product_id": id, "quantity": 1} for id in (1, 3)]
    make("orders", user_id=1, items=lines)
    assert [tag_of(client, f"/products/{id}") for id in (1, 2, 3)] == ['"2"', '"1"', '"2"']
    assert tag_of(client, "/users/1") == '"1"'
    client.patch("/orders/1/status?new_status=cancelled")
    assert [tag_of(client, f"/products/{id}") for id in (1, 2, 3)] == ['"3"', '"1"', '"3"']


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_a_refused_sale_keeps_the_etags(shop: httpx2.Client) -> None:
    items = [{"product_id": 1, "quantity": 1}, {"product_id": 2, "quantity": 10_000}]
    before = state(shop)
    assert shop.post("/orders/", json={"user_id": 1, "items": items}).status_code == 400
    assert state(shop) == before


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_a_counted_view_keeps_the_etag_so_the_author_can_still_save(shop: httpx2.Client) -> None:
    before = shop.get("/posts/1")
    assert shop.post("/posts/1/views").json() == {"view_count": 1}
    after = shop.get("/posts/1")
    assert (after.json(), after.headers["ETag"]) == (before.json() | {"view_count": 1}, '"1"')
    condition = {"If-Match": before.headers["ETag"]}
    saved = shop.patch("/posts/1", json={"title": "New"}, headers=condition)
    assert (saved.status_code, saved.json()["view_count"]) == (200, 1)


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_deleting_a_category_changes_the_etags_of_what_was_in_it(
    client: httpx2.Client, make: Make
) -> None:
    for parent_id in (None, 1, 2, None):
        make("categories", parent_id=parent_id)
    for category_id in (1, 2, 1, None):
        make("products", category_id=category_id)
    paths = [*(f"/categories/{n}" for n in (2, 3, 4)), *(f"/products/{n}" for n in (1, 2, 3, 4))]
    expected = [(client.get(path).json(), '"1"') for path in paths]
    assert client.delete("/categories/1").status_code == 204
    expected[0] = (expected[0][0] | {"parent_id": None}, '"2"')
    for n in (3, 5):
        expected[n] = (expected[n][0] | {"category_id": None}, '"2"')
    assert [(client.get(path).json(), tag_of(client, path)) for path in paths] == expected


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_renaming_a_category_keeps_the_etags_of_what_is_in_it(
    shop: httpx2.Client, make: Make
) -> None:
    make("categories", parent_id=1)
    assert shop.patch("/categories/1", json={"name": "New"}).headers["ETag"] == '"2"'
    assert tag_of(shop, "/products/1") == tag_of(shop, "/categories/2") == '"1"'


@pytest.fixture
def blog(client: httpx2.Client, make: Make) -> httpx2.Client:
    """A client of a shop with four posts: of tag 1, of tag 2, of both, and of none."""
    make("users")
    make("tags")
    make("tags")
    for tag_ids in ([1], [2], [1, 2], []):
        make("posts", author_id=1, tag_ids=tag_ids)
    return client


def posts(client: httpx2.Client) -> Iterator[tuple[Json, str]]:
    for n in (1, 2, 3, 4):
        response = client.get(f"/posts/{n}")
        yield response.json(), response.headers["ETag"]


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PATCH", {"name": "New"}),
        ("PATCH", {"slug": "new"}),
        ("PUT", {"name": "Tag 1", "slug": "new"}),
        ("PUT", {"name": "New"}),
    ],
)
def test_changing_a_tag_changes_the_etags_of_its_posts_alone(
    blog: httpx2.Client, method: str, body: Json
) -> None:
    one, two, both, none = (post for post, _ in posts(blog))
    tag = blog.request(method, "/tags/1", json=body).json()
    assert list(posts(blog)) == [
        (one | {"tags": [tag]}, '"2"'),
        (two, '"1"'),
        (both | {"tags": [tag, two["tags"][0]]}, '"2"'),
        (none, '"1"'),
    ]
    assert tag_of(blog, "/tags/2") == '"1"'


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_deleting_a_tag_changes_the_etags_of_its_posts_alone(blog: httpx2.Client) -> None:
    one, two, both, none = (post for post, _ in posts(blog))
    assert blog.delete("/tags/1").status_code == 204
    assert list(posts(blog)) == [
        (one | {"tags": []}, '"2"'),
        (two, '"1"'),
        (both | {"tags": two["tags"]}, '"2"'),
        (none, '"1"'),
    ]


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PATCH", {}),
        ("PATCH", {"name": "Tag 1"}),
        ("PUT", {"name": "Tag 1"}),
        ("PATCH", {"name": "Tag 2"}),  # which is taken
    ],
)
def test_a_tag_that_stays_as_it_is_keeps_the_etags_of_its_posts(
    blog: httpx2.Client, method: str, body: Json
) -> None:
    before = list(posts(blog))
    assert blog.request(method, "/tags/1", json=body).status_code in (200, 409)
    assert list(posts(blog)) == before
    assert [tag for _, tag in before] == ['"1"'] * 4
    assert tag_of(blog, "/tags/1") == '"1"'


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize("tag_ids", [[], [2], [1, 2]])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_adding_and_removing_tags_changes_the_etag_of_the_post(
    blog: httpx2.Client, method: str, tag_ids: list[int]
) -> None:
    before = blog.get("/posts/1").json()
    body = {"title": "Post 1", "content": "Text.", "author_id": 1} if method == "PUT" else {}
    response = blog.request(method, "/posts/1", json=body | {"tag_ids": tag_ids})
    assert response.headers["ETag"] == '"2"'
    tags = [blog.get(f"/tags/{id}").json() for id in tag_ids]
    after = blog.get("/posts/1")
    changed = {"tags": tags, "updated_at": after.json()["updated_at"]}
    assert (after.json(), after.headers["ETag"]) == (before | changed, '"2"')
    assert after.json() == response.json()
    assert [tag_of(blog, f"/tags/{n}") for n in (1, 2)] == ['"1"', '"1"']


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_post_changed_together_with_its_tags_is_answered_with_the_etag_it_has(
    blog: httpx2.Client, method: str
) -> None:
    body = BODIES["posts"] | {"tag_ids": [2]}
    response = blog.request(method, "/posts/1", json=body)
    read = blog.get("/posts/1")
    assert (read.json(), read.headers["ETag"]) == (response.json(), response.headers["ETag"])
    assert read.headers["ETag"] != '"1"'
    assert blog.request(method, "/posts/1", json=body).headers["ETag"] == read.headers["ETag"]


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize("tag_ids", [[1, 2], [2, 1], [1, 2, 1]])
def test_setting_the_same_tags_keeps_the_etag_of_the_post(
    blog: httpx2.Client, tag_ids: list[int]
) -> None:
    before = blog.get("/posts/3").json()
    response = blog.patch("/posts/3", json={"tag_ids": tag_ids})
    assert (response.json(), response.headers["ETag"]) == (before, '"1"')
    assert tag_of(blog, "/posts/3") == '"1"'


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_a_post_keeps_the_etags_of_its_author(blog: httpx2.Client) -> None:
    blog.patch("/posts/1", json={"title": "New"})
    blog.delete("/posts/2")
    assert tag_of(blog, "/users/1") == '"1"'


@pytest.mark.every_database
def test_bulk_deactivation_changes_the_etags_of_those_it_deactivates(
    client: httpx2.Client, make: Make
) -> None:
    for _ in range(4):
        make("users")
    client.delete("/users/3/soft")
    long_ago = datetime.now(UTC) - timedelta(days=400)
    with db.database.writer.engine.begin() as connection:
        idle = sa.update(User).where(sa.column("id") > 1)
        connection.execute(idle.values(updated_at=long_ago))
    assert client.patch("/users/bulk/deactivate?days=10").json() == {"deactivated_count": 2}
    users = [client.get(f"/users/{id}") for id in (1, 2, 3, 4)]
    assert [user.json()["is_active"] for user in users] == [True, False, False, False]
    assert [user.headers["ETag"] for user in users] == ['"1"', '"2"', '"2"', '"2"']
    assert client.patch("/users/bulk/deactivate?days=10").json() == {"deactivated_count": 0}
    assert [tag_of(client, f"/users/{id}") for id in (2, 3, 4)] == ['"2"', '"2"', '"2"']


@pytest.mark.every_database
def test_deactivating_a_user_changes_the_etag_once(shop: httpx2.Client) -> None:
    shop.delete("/users/2/soft")
    assert tag_of(shop, "/users/2") == '"2"'
    shop.delete("/users/2/soft")
    assert tag_of(shop, "/users/2") == '"2"'
    assert tag_of(shop, "/users/1") == '"1"'


@pytest.mark.every_database
def test_a_new_password_changes_the_etag(shop: httpx2.Client) -> None:
    before = shop.get("/users/1").json()
    response = shop.patch("/users/1", json={"password": "Password3"})
    assert response.headers["ETag"] == '"2"'
    assert response.json() == before | {"updated_at": response.json()["updated_at"]}


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_every_step_of_an_order_changes_its_etag(shop: httpx2.Client) -> None:
    for n, status in enumerate(("confirmed", "shipped", "delivered"), 2):
        assert shop.patch(f"/orders/1/status?new_status={status}").status_code == 200
        read = shop.get("/orders/1")
        assert (read.json()["status"], read.headers["ETag"]) == (status, f'"{n}"')
    assert shop.patch("/orders/1/status?new_status=pending").status_code == 400
    assert tag_of(shop, "/orders/1") == '"4"'


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.every_database
def test_a_payment_changes_the_etag_of_the_order(shop: httpx2.Client) -> None:
    before = shop.get("/orders/1").json()
    assert shop.post("/orders/1/payments", json={"account_id": 2}).status_code == 400
    assert tag_of(shop, "/orders/1") == '"1"'
    assert shop.post("/orders/1/payments", json={"account_id": 1}).status_code == 201
    after = shop.get("/orders/1")
    changed = {"status": "confirmed", "updated_at": after.json()["updated_at"]}
    assert (after.json(), after.headers["ETag"]) == (before | changed, '"2"')


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.every_database
@pytest.mark.parametrize("paid", [False, True])
def test_cancelling_changes_the_etag_of_the_order(shop: httpx2.Client, paid: bool) -> None:
    if paid:
        assert shop.post("/orders/1/payments", json={"account_id": 1}).status_code == 201
    before = shop.get("/orders/1").json()
    assert shop.patch("/orders/1/status?new_status=cancelled").status_code == 200
    after = shop.get("/orders/1")
    changed = {"status": "cancelled", "updated_at": after.json()["updated_at"]}
    assert after.json() == before | changed
    assert after.headers["ETag"] == ('"3"' if paid else '"2"')


# Races


@pytest.mark.every_database
@pytest.mark.parametrize("collection", ["items", needing("products", "products")])
def test_of_many_patches_with_one_etag_one_is_done(server: httpx2.Client, collection: str) -> None:
    create(server, f"/{collection}/", BODIES[collection])
    path, condition = f"/{collection}/1", {"If-Match": '"1"'}
    prices = range(10, 10 + CLIENTS)
    answers = at_once(
        [sender(server, "PATCH", path, {"price": price}, condition) for price in prices]
    )
    assert statuses(answers) == {200: 1, 412: CLIENTS - 1}
    name = collection.capitalize().removesuffix("s")
    for answer in answers:
        assert answer.is_success or answer.json() == precondition_failed(name)
    (done,) = (answer for answer in answers if answer.is_success)
    (price,) = (p for p, answer in zip(prices, answers, strict=True) if answer is done)
    read = server.get(path)
    assert (read.json(), read.headers["ETag"]) == (done.json(), '"2"')
    assert read.json()["price"] == price


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_of_many_status_changes_with_one_etag_one_is_done(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 10)
    create_order(server)
    path, condition = "/orders/1/status?new_status=", {"If-Match": '"1"'}
    targets = ["confirmed", "cancelled"] * (CLIENTS // 2)
    answers = at_once([sender(server, "PATCH", path + to, None, condition) for to in targets])
    assert statuses(answers) == {200: 1, 412: CLIENTS - 1}
    (done,) = (answer.json() for answer in answers if answer.is_success)
    read = server.get("/orders/1")
    assert (read.json()["status"], read.headers["ETag"]) == (done["new_status"], '"2"')
    assert len(server.get("/notifications/").json()) == 2  # placed, and one change
    left = 10 if done["new_status"] == "cancelled" else 7
    assert server.get("/products/1").json()["stock_quantity"] == left


# OpenAPI

TAGGED = [p for p in PATHS if "get" in PATHS[p] and is_tagged("GET", p)]
CONDITIONAL = [
    (method.lower(), path)
    for method, path in OPERATIONS
    if "_id}" in path and method in ("PUT", "PATCH", "DELETE")
]


def header_parameters(operation: dict[str, Any]) -> set[str]:
    return {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}


@pytest.mark.parametrize("path", TAGGED)
def test_openapi_says_where_a_read_may_be_conditional(path: str) -> None:
    operation = PATHS[path]["get"]
    assert "ETag" in operation["responses"]["200"]["headers"]
    assert "ETag" in operation["responses"]["304"]["headers"]
    assert "412" in operation["responses"]
    assert header_parameters(operation) == {"If-Match", "If-None-Match"}


def test_openapi_promises_no_etag_of_other_reads() -> None:
    for path in PATHS.keys() - set(TAGGED):
        for operation in [PATHS[path]["get"]] if "get" in PATHS[path] else []:
            assert not {"304", "412"} & operation["responses"].keys(), path
            assert "ETag" not in operation["responses"]["200"].get("headers", {}), path
            assert not {"If-Match", "If-None-Match"} & header_parameters(operation), path


def test_every_route_that_changes_a_row_is_tried_with_a_condition() -> None:
    tried = {
        (m.lower(), re.sub(r"/[0-9]+", "/{}", path.partition("?")[0])) for m, path, _ in WRITES
    }
    changing = {(method, re.sub(r"{\w+}", "{}", path)) for method, path in CONDITIONAL}
    missing = changing - tried
    assert not missing, "to be added to WRITES in tests/test_etags.py"
    assert tried - changing <= {("post", "/products/{}/stock")}


@pytest.mark.parametrize(
    ("method", "path"),
    [*CONDITIONAL, needing("products", "post", "/products/{product_id}/stock")],
)
def test_openapi_says_where_a_write_may_be_conditional(method: str, path: str) -> None:
    operation = PATHS[path][method]
    assert "412" in operation["responses"]
    assert "If-Match" in header_parameters(operation)


@pytest.mark.parametrize("collection", CREATED)
def test_openapi_says_that_what_is_created_and_changed_has_an_etag(collection: str) -> None:
    created = PATHS[f"/{collection}/"]["post"]["responses"]["201"]
    assert "ETag" in created["headers"]
    (path,) = (path for path in TAGGED if path.startswith(f"/{collection}/{{") and "_id" in path)
    for method in PATHS[path].keys() & {"put", "patch"}:
        assert "ETag" in PATHS[path][method]["responses"]["200"]["headers"]
