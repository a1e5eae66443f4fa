"""The forms of the admin: rows of fields, changes of stock, and pickers, which may make a row."""

# ruff: noqa: F811 -- the fixtures are those of another file

from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from conftest import Json, Make, needing
from test_admin import (  # noqa: F401
    BAD,
    EXPIRED,
    Fields,
    Page,
    _nothing_is_logged_as_a_fault,
    browser,
    closed,
    form,
    form_token,
    refused,
    saved,
    send,
    shop,
)

ORDER = "/admin/order/create"


def basket(*lines: tuple[str, str], **more: str) -> Fields:
    """The fields of an order for Ann, with a product and a quantity in each row."""
    fields: Fields = {"user_id": "1", **more}
    for n, (product, quantity) in enumerate(lines):
        fields |= {f"items-{n}-product_id": product, f"items-{n}-quantity": quantity}
    return fields


def choices(browser: httpx2.Client, asked: str) -> list[Json]:
    response = browser.get(f"/admin/{asked}")
    assert response.status_code == 200, response.text
    found: list[Json] = response.json()["results"]
    return found


def token_of(browser: httpx2.Client) -> dict[str, str]:
    return {"csrf_token": form_token(browser)}


def pick_new(browser: httpx2.Client, entity: str, **fields: str) -> httpx2.Response:
    return browser.post(f"/admin/{entity}/pick-new", data={**token_of(browser), **fields})


# Pickers


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_a_picker_offers_the_newest_rows_before_anything_is_typed(
    browser: httpx2.Client, make: Make
) -> None:
    for _ in range(21):
        make("users")
    for asked in ("order/ajax/lookup?name=user_id", "order/ajax/lookup?name=user_id&term=%20"):
        assert choices(browser, asked) == [
            {"id": str(n), "text": f"user{n}", "beside": f"user{n}@example.com"}
            for n in range(21, 1, -1)
        ]


@pytest.mark.needs("orders")
@pytest.mark.every_database
@pytest.mark.parametrize("term", ["tEN", "t-1"])
def test_a_product_is_offered_with_its_sku_price_and_stock(shop: httpx2.Client, term: str) -> None:
    assert choices(shop, f"order/ajax/lookup?name=product_id&term={term}") == [
        {"id": "2", "text": "Tent", "beside": "(T-1) · 99.50 · 3 left"}
    ]


@pytest.mark.parametrize("name", ["", "id", "nothing", "password_hash", "items"])
def test_a_picker_that_is_none_offers_nothing(shop: httpx2.Client, name: str) -> None:
    assert shop.get(f"/admin/user/ajax/lookup?name={name}&term=a").status_code == 404
    assert shop.get("/admin/user/ajax/lookup").status_code == 404


@pytest.mark.needs("products")
@pytest.mark.every_database
@pytest.mark.parametrize("bad", [*BAD, "x" * 50_000], ids=lambda text: ascii(text)[:12])
def test_no_term_is_a_fault(shop: httpx2.Client, bad: str) -> None:
    text = quote(bad.encode("utf-8", "surrogatepass"), safe="")
    for asked in (f"name=category_id&term={text}", f"name={text}"):
        response = shop.get(f"/admin/product/ajax/lookup?{asked}")
        assert response.status_code in (200, 404, 422)


# A new row in a picker


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("asked", "url"),
    [
        needing("products", "product/ajax/lookup?name=category_id&term=Out", "category"),
        needing("products", "product/ajax/lookup?name=category_id&term=Kitchen", "category"),
        needing("categories", "category/ajax/lookup?name=parent_id&term=outdoor", "category"),
        needing("posts", "post/ajax/lookup?name=tag_ids&term=Sal", "tag"),
        needing("products", "product/ajax/lookup?name=category_id&term=%20Outdoor%20", ""),
        needing("posts", "post/ajax/lookup?name=tag_ids&term=Sale", ""),
        needing("products", "product/ajax/lookup?name=category_id", ""),
        needing("orders", "order/ajax/lookup?name=product_id&term=Ten", ""),
        needing("orders", "order/ajax/lookup?name=user_id&term=An", ""),
    ],
)
def test_a_new_row_is_offered_where_a_name_makes_one_and_none_has_it(
    shop: httpx2.Client, asked: str, url: str
) -> None:
    new = [row for row in choices(shop, asked) if row["id"] == "new"]
    assert new == ([{"id": "new", "text": "New", "url": f"/admin/{url}/pick-new"}] if url else [])


@pytest.mark.needs("categories", "tags")
def test_a_new_row_is_made_in_a_picker(shop: httpx2.Client, client: httpx2.Client) -> None:
    response = pick_new(shop, "category", name="Kitchen <b>")
    assert (response.status_code, response.json()) == (200, {"id": "3", "text": "Kitchen <b>"})
    assert client.get("/categories/3").json()["slug"] == "kitchen-b"
    assert pick_new(shop, "tag", name="Fresh").json() == {"id": "2", "text": "Fresh"}
    assert client.get("/tags/2").json()["name"] == "Fresh"


@pytest.mark.needs("categories")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Outdoor", "name already exists"),
        ("x" * 101, "String should have at most 100 characters"),
        ("a\0b", "Input should be text without U+0000"),
        (" ", "Input should be more than white space"),
        ("", "String should have at least 1 character"),
    ],
)
def test_a_new_row_that_a_rule_refuses_is_not_made(
    shop: httpx2.Client, client: httpx2.Client, name: str, told: str
) -> None:
    response = pick_new(shop, "category", name=name)
    assert (response.status_code, response.text) == (409, told)
    assert len(client.get("/categories/").json()) == 2


@pytest.mark.needs("categories")
def test_a_picker_makes_nothing_of_what_needs_more_or_is_not_there(shop: httpx2.Client) -> None:
    for entity in ("user", "item", "nothing", "%00"):
        response = pick_new(shop, entity, name="x")
        assert response.status_code in (404, 422), entity
    assert pick_new(shop, "category").status_code == 409
    assert shop.get("/admin/category/pick-new").status_code == 405


@pytest.mark.needs("categories")
@pytest.mark.parametrize("token", ["", "x", "\u00e9", None])
def test_a_picker_makes_nothing_without_the_token_of_a_form(
    shop: httpx2.Client, client: httpx2.Client, token: str | None
) -> None:
    data = {"name": "Kitchen"} | ({} if token is None else {"csrf_token": token})
    response = shop.post("/admin/category/pick-new", data=data)
    assert (response.status_code, EXPIRED in response.text) == (403, True)
    assert len(client.get("/categories/").json()) == 2


@pytest.mark.needs("categories")
def test_pickers_are_for_who_is_logged_in(closed: httpx2.Client) -> None:
    for response in (
        pick_new(closed, "category", name="Kitchen"),
        closed.get("/admin/category/ajax/lookup?name=parent_id"),
    ):
        location = response.headers["Location"].partition("?")[0]
        assert (response.status_code, location) == (302, "/admin/login")


# Rows of fields


@pytest.mark.needs("orders")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("fields", "items"),
    [
        (basket(("1", "2"), ("2", "1")), [(1, 2), (2, 1)]),
        (basket(("2", "")), [(2, 1)]),
        (basket(("1", "1"), ("", "1"), ("", ""), ("2", "2")), [(1, 1), (2, 2)]),
        (basket(("1", "1"), ("1", "2")), [(1, 3)]),
        (basket(("1", "1"), lines="T-1 2\nL-1"), [(1, 2), (2, 2)]),
        (basket(lines="t-1\n"), [(2, 1)]),
        (basket() | {"items-7-product_id": "2", "items-30-product_id": "1"}, [(2, 1), (1, 1)]),
    ],
)
def test_an_order_has_a_line_for_each_product_of_its_form(
    shop: httpx2.Client, client: httpx2.Client, fields: Fields, items: list[tuple[int, int]]
) -> None:
    saved(form(shop, ORDER, **fields))
    order = client.get("/orders/3").json()
    assert [(line["product_id"], line["quantity"]) for line in order["items"]] == items


@pytest.mark.needs("orders")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("fields", "errors", "alert"),
    [
        (basket(), {}, "Choose a product"),
        (basket(("", "1"), lines=" \n"), {}, "Choose a product"),
        (basket(("", "5")), {"items-0-product_id": "Choose a product"}, ""),
        (basket(("2", "1"), user_id=""), {"user_id": "Choose a customer"}, ""),
        (
            basket(("2", "1"), ("1", "0")),
            {"items-1-quantity": "Has to be 1 or more"},
            "",
        ),
        (
            basket(("", "1"), ("1", "two")),
            {"items-1-quantity": "A whole number"},
            "",
        ),
        (basket(("x", "1")), {"items-0-product_id": "Choose a product"}, ""),
        (basket(("2", "1"), ("77", "1")), {}, "Product 77 not found"),
        (
            basket(("1", "1"), ("2", "4")),
            {},
            "Insufficient stock for 'Tent'. Available: 3, Requested: 4",
        ),
        (
            basket(("1", "9999"), lines="L-1 2"),
            {"items-NEXT-quantity": "At most 10000 of one product"},  # below all rows
            "",
        ),
        (
            basket(("2", "1"), user_id="77"),
            {"user_id": "This user is not there any more: choose another one"},
            "",
        ),
    ],
)
def test_what_is_wrong_in_a_row_is_told_and_all_that_was_entered_is_kept(
    shop: httpx2.Client,
    client: httpx2.Client,
    fields: Fields,
    errors: dict[str, str],
    alert: str,
) -> None:
    page = refused(form(shop, ORDER, **fields))
    assert (page.errors, page.alert) == (errors, alert)
    assert len(client.get("/orders/").json()) == 2
    for name in fields.keys() & page.fields.keys():  # without the rows that are empty
        if fields[name] not in ("77", "x"):  # which no picker offers
            assert page.fields[name] == fields[name], name


@pytest.mark.needs("orders")
def test_an_order_has_up_to_a_hundred_rows(shop: httpx2.Client) -> None:
    page = refused(form(shop, ORDER, **basket(*[("1", "1")] * 101)))
    assert [*page.errors.values()] == ["At most 100 of them"]
    saved(form(shop, ORDER, **basket(*[("1", "1")] * 90)))
    assert shop.get("/orders/3").json()["items"][0]["quantity"] == 90


@pytest.mark.needs("orders")
def test_a_form_of_rows_has_one_to_fill_in(shop: httpx2.Client) -> None:
    fields = Page(shop.get(ORDER).text).fields
    assert (fields["items-0-product_id"], fields["items-0-quantity"]) == ("", "1")
    assert "Add a product" in shop.get(ORDER).text


@pytest.mark.needs("orders")
@pytest.mark.every_database
@pytest.mark.parametrize("bad", BAD, ids=lambda text: ascii(text)[:12])
def test_no_row_is_a_fault(shop: httpx2.Client, client: httpx2.Client, bad: str) -> None:
    fields = Page(shop.get(ORDER).text).fields | basket(("", "1"))
    text: Any = bad.encode("utf-8", "surrogatepass")
    part = bad.encode("utf-8", "replace").decode()
    names = [f"items-{part}-product_id", f"items-{part}", f"items-0-{part}", "items", "items-0"]
    more: list[Any] = [{name: "1"} for name in names]
    more += [{"items-0-product_id": text}, {"items-0-quantity": text}, {"items-1-quantity": text}]
    for each in more:
        response = send(shop, ORDER, fields | each)
        assert response.status_code == 400, each
        assert "<script>x" not in response.text
    assert len(client.get("/orders/").json()) == 2


# Stock


@pytest.mark.needs("products")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("change", "left"), [("+5", 8), ("-3", 0), ("2", 5), ("0", 3), ("", 3), ("-0", 3)]
)
def test_the_stock_is_changed_by_a_number_in_the_form_of_a_product(
    shop: httpx2.Client, client: httpx2.Client, change: str, left: int
) -> None:
    saved(form(shop, "/admin/product/edit/2", stock_change=change, price="98"))
    product = client.get("/products/2").json()
    assert (product["stock_quantity"], product["price"]) == (left, 98)


@pytest.mark.needs("products")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("fields", "errors", "alert"),
    [
        ({"stock_change": "-4"}, {}, "Insufficient stock. Current: 3"),
        (
            {"stock_change": "-1", "stock_quantity": "7"},
            {},
            "Enter another stock quantity or a change of stock, not both",
        ),
        *(
            (
                {"stock_change": change},
                {"stock_change": "A whole number such as +5 or -3 only"},
                "",
            )
            for change in ("five", "1.5", "+-5", "+", "9" * 30, "\u0663", "1\n", "-3 ")
        ),
    ],
)
def test_a_change_of_stock_that_makes_no_sense_is_refused(
    shop: httpx2.Client,
    client: httpx2.Client,
    fields: Fields,
    errors: dict[str, str],
    alert: str,
) -> None:
    before = client.get("/products/2").json()
    page = refused(form(shop, "/admin/product/edit/2", **fields))
    assert (page.errors, page.alert) == (errors, alert)
    assert client.get("/products/2").json() == before


@pytest.mark.needs("products")
def test_a_change_of_stock_stands_below_the_stock(shop: httpx2.Client) -> None:
    names = [*Page(shop.get("/admin/product/edit/2").text).fields]
    assert names[names.index("stock_quantity") + 1] == "stock_change"
    assert "stock_change" not in Page(shop.get("/admin/product/create").text).fields


@pytest.mark.needs("products")
def test_a_change_of_stock_is_refused_when_the_product_has_changed_since(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    fields = Page(shop.get("/admin/product/edit/2").text).fields | {"stock_change": "-1"}
    client.post("/products/2/stock", json={"change": 4}).raise_for_status()
    page = refused(send(shop, "/admin/product/edit/2", fields))
    assert "has changed since" in page.alert
    assert client.get("/products/2").json()["stock_quantity"] == 7
