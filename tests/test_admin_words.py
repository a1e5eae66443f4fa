"""What forms say: what is wrong, at its field; what is saved; what has changed meanwhile."""

import html
import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import pytest
from conftest import Make, needing
from pydantic import Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from test_admin import (  # noqa: F401
    LISTS,
    Fields,
    Page,
    _nothing_is_logged_as_a_fault,
    act,
    browser,
    form,
    found,
    path_of,
    refused,
    remove,
    saved,
    send,
    shop,
    told_on,
)

import main
from kit import PLAIN, Balance, Email, Moment, Money, Name, Password, Price, Slug, Username
from kit.admin.forms import body_of, kind_of
from kit.admin.words import said
from kit.fields import Count, Id, OptionalText, Secret
from models import Sku

LIBRARIES = re.compile(r"Input|String|Value|pattern|valid|should|\^|\[")
PRICE = "A price such as 19.99, with at most 2 decimals"
PASSWORD = "At least 8 characters, with an upper-case letter and a digit"
EMAIL = "An e-mail address such as ann@example.com"
CHANGED = "This product has changed since the form was loaded, so nothing is saved yet"


class Color(StrEnum):
    red = "red"


Stored = Annotated[int, Field(ge=0, le=2**53), PLAIN]


# What is wrong with a field


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (Name, "", "Fill this in"),
        (Name, " \u3000", "Fill this in"),
        (Name, "x" * 201, "At most 200 characters"),
        (Name, "a\0b", "Has a character that cannot be stored"),
        (OptionalText, "x" * 10_001, "At most 10,000 characters"),
        (Username, "ab", "At least 3 characters"),
        (Username, "a b c", "Letters, digits and _ only"),
        (Slug, "A b", "Small letters, digits and single hyphens only"),
        (Sku, "a b", "Letters, digits and hyphens only"),
        (Email, "", "Fill this in"),
        (Email, "ann@", EMAIL),
        (Email, f"{'a' * 250}@b.co", "At most 254 characters"),
        (Password, "", "Fill this in"),
        (Password, "weak", PASSWORD),
        (Password, "Aa1" * 40, "At most 100 characters"),
        (Secret, "a\0b", "Has a character that cannot be stored"),
        (Price, "", "Fill this in"),
        (Price, "0", "Has to be above 0"),
        (Price, "-2", "Has to be above 0"),
        (Price, "1.234", PRICE),
        (Price, "19,99", PRICE),
        (Price, "1e2", PRICE),
        (Price, "100000000", "Has to be below 100,000,000"),
        (Price, "9" * 5000, "Has to be below 100,000,000"),
        (Balance, "-0.01", "Has to be 0 or more"),
        (Money, "x", PRICE),
        (Stored, "1.5", "A whole number"),
        (Stored, "007", "A whole number"),
        (Stored, "-1", "Has to be 0 or more"),
        (Stored, str(2**53 + 1), "Has to be 9,007,199,254,740,992 or less"),
        (Stored, "9" * 30, "Has to be 9,007,199,254,740,992 or less"),
        (Count, "", "Fill this in"),
        (Annotated[int, Field(ge=1)], "0", "Has to be 1 or more"),
        (Annotated[int, Field(le=10_000)], "10001", "Has to be 10,000 or less"),
        (Id, "x", "A whole number"),
        (Moment, "", "Fill this in"),
        (Moment, "yesterday", "A time such as 2026-01-31 12:00"),
        (Moment, "2026-13-31 12:00", "A time such as 2026-01-31 12:00"),
        (Moment, "1900-01-31 12:00", "A time such as 2026-01-31 12:00"),
        (Color, "odd", "Choose one of these"),
        (Color, "", "Choose one of these"),
        (bool, "odd", "Yes or no"),
        (date, "x", "A date such as 2026-01-31"),
        (Annotated[date, Field(ge=date(2026, 1, 1))], "2025-01-01", "Has to be 2026-01-01 or more"),
        (float, "x", "A price such as 19.99"),
        (list[int], ["x"], "A whole number"),
    ],
)
def test_each_kind_of_field_says_in_a_sentence_what_is_wrong(
    kind: Any, value: Any, sentence: str
) -> None:
    body: Any = create_model("Body", price=(kind, ...))
    info: FieldInfo = body.model_fields["price"]
    with pytest.raises(ValidationError) as caught:
        body_of(body, {"price": value})
    inner = int if kind == list[int] else kind_of(info)[0]
    told = {said(error, info, inner, "Price") for error in caught.value.errors()}
    assert told == {sentence}


def test_a_rule_that_nobody_has_words_for_quotes_no_pattern() -> None:
    def told(kind: Any, value: Any) -> str:
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(kind).validate_python(value)
        return said(caught.value.errors()[0], FieldInfo(), str, "Code")

    odd: Any = create_model("Odd", x=(str, FieldInfo(pattern="^[xyz]+$")))
    assert told(odd, {"x": "abc"}) == "This is not spelled as it has to be"
    assert not LIBRARIES.search(told(dict[str, str], "abc"))


def test_a_time_is_said_in_utc() -> None:
    body: Any = create_model("Body", at=(Moment, ...))
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for sent in ("2026-01-31 12:00", "2026-01-31T12:00:00", "2026-01-31 13:00+01:00"):
        assert body_of(body, {"at": sent}).model_dump()["at"] == noon


FORMS = [f"{name}/{page}" for name in LISTS for page in ("create", "edit/1")]
BAD = ["", "  ", "x" * 101_000, "-1!", "\u00e4 b", "9" * 30, "-2", "1.234", "a\0b", "<b>'\"", "=1"]


@pytest.mark.parametrize("path", FORMS)
def test_whatever_is_entered_each_wrong_field_has_one_sentence_of_ours(
    shop: httpx2.Client,  # noqa: F811
    path: str,
) -> None:
    page = shop.get(f"/admin/{path}")
    if page.status_code == 403:  # money that has moved
        return
    fields = Page(page.text).fields
    names = fields.keys() - {"csrf_token", "version", "save"}
    for bad in BAD:
        answer = send(shop, f"/admin/{path}", fields | dict.fromkeys(names, bad))
        if answer.status_code == 302:  # it was right
            continue
        told = refused(answer)
        wrong = re.findall(r'id="([\w-]+)-wrong"', answer.text)
        assert sorted(wrong) == sorted(told.errors), bad
        for sentence in (*told.errors.values(), told.alert):
            assert not LIBRARIES.search(sentence), (bad, sentence)


@pytest.mark.parametrize(
    ("path", "fields", "errors"),
    [
        ("item/create", {"title": "x", "price": "-2"}, {"price": "Has to be above 0"}),
        ("item/create", {}, {"title": "Fill this in", "price": "Fill this in"}),
        (
            "user/create",
            {"username": "a b", "email": "ann", "password": "weak"},
            {"username": "Letters, digits and _ only", "email": EMAIL, "password": PASSWORD},
        ),
        ("user/edit/2", {"username": "ANN"}, {"username": "Another user has this username"}),
        ("user/edit/2", {"email": "User1@example.com"}, {"email": "Another user has this e-mail"}),
        needing(
            "products",
            "product/create",
            {"name": "x", "price": "12,50", "sku": "a b", "stock_quantity": "1.5"},
            {
                "price": PRICE,
                "sku": "Letters, digits and hyphens only",
                "stock_quantity": "A whole number",
            },
        ),
        needing(
            "products",
            "product/create",
            {"name": "x", "price": "1", "sku": "l-1"},
            {"sku": "Another product has this SKU"},
        ),
        needing(
            "products",
            "product/create",
            {"name": "Lamp", "price": "1", "sku": "N-1", "category_id": "1"},
            {"name": "Another product has this name and this category"},
        ),
        needing(
            "posts",
            "post/create",
            {"title": "x", "content": "x"},
            {"author_id": "Choose an author"},
        ),
        needing(
            "posts",
            "post/create",
            {"title": "x", "content": "x", "author_id": "1", "tag_ids": "1,99"},
            {"tag_ids": "One tag of these is not there any more: choose another one"},
        ),
        needing(
            "payments",
            "payment/create",
            {"order_id": "99", "account_id": ""},
            {"account_id": "Choose an account"},
        ),
    ],
)
def test_a_form_says_what_is_wrong_at_its_fields(
    shop: httpx2.Client,  # noqa: F811
    path: str,
    fields: Fields,
    errors: dict[str, str],
) -> None:
    page = refused(form(shop, f"/admin/{path}", **fields))
    assert (page.errors, page.alert) == (errors, "")


@pytest.mark.needs("products")
def test_a_category_that_was_deleted_meanwhile_is_told_at_its_field_and_the_rest_is_kept(
    shop: httpx2.Client,  # noqa: F811
) -> None:
    path = "/admin/product/create"
    fields = Page(shop.get(path).text).fields | {"save": "Save", "category_id": "2"}
    entered: Fields = {"name": "Pan", "price": "5.00", "sku": "P-1", "description": "Of iron"}
    assert shop.delete("/products/2").status_code == 204
    assert shop.delete("/categories/2").status_code == 204
    page = refused(send(shop, path, fields | entered))
    told = "This category is not there any more: choose another one"
    assert (page.errors, page.alert) == ({"category_id": told}, "")
    assert {name: page.fields[name] for name in entered} == entered
    assert page.fields["category_id"] == ""


def test_a_password_is_not_sent_back(shop: httpx2.Client) -> None:  # noqa: F811
    answer = form(shop, "/admin/user/create", username="a b", password="Password-77")
    refused(answer)
    assert "Password-77" not in answer.text


# What fields look like


def inputs_of(text: str) -> dict[str, str]:
    """The tags of fields, by their names."""
    tags = re.findall(r"<(?:input|select|textarea)[^>]*>", text)
    return {m[1]: tag for tag in tags if (m := re.search(r' name="(\w+)"', tag))}


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("item/create", {"title", "price"}),
        ("user/create", {"username", "email", "password"}),
        ("user/edit/1", {"username", "email"}),
        needing("products", "product/create", {"name", "price", "sku"}),
        needing("products", "product/edit/1", {"name", "slug", "price", "sku", "stock_quantity"}),
        needing("payments", "payment/create", {"order_id", "account_id"}),
    ],
)
def test_what_has_to_be_filled_in_is_marked(
    shop: httpx2.Client,  # noqa: F811
    path: str,
    needed: set[str],
) -> None:
    text = shop.get(f"/admin/{path}").text
    assert {name for name, tag in inputs_of(text).items() if " required" in tag} == needed
    assert set(re.findall(r'required-label" for="(\w+)"', text)) == needed
    assert "novalidate" in text


@pytest.mark.needs("products")
def test_a_field_is_of_its_kind(shop: httpx2.Client) -> None:  # noqa: F811
    fields = inputs_of(shop.get("/admin/product/create").text)
    for name, attributes in {
        "price": 'type="number" step="0.01" min="0.01" inputmode="decimal"',
        "stock_quantity": 'type="number" step="1" min="0" inputmode="numeric"',
        "sku": 'type="text" maxlength="50"',
        "name": 'type="text" maxlength="200"',
    }.items():
        for attribute in attributes.split():
            assert f" {attribute}" in fields[name], name
    fields = inputs_of(shop.get("/admin/user/create").text)
    assert ' type="email"' in fields["email"]
    assert ' autocomplete="new-password"' in fields["password"]


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("item/create", "New item"),
        ("item/edit/1", "Edit item: Chair"),
        ("user/edit/1", "Edit user: Ann"),
        needing("products", "product/edit/1", "Edit product: Lamp (L-1)"),
        needing("orders", "order/create", "New order"),
        needing("accounts", "account/edit/1", "Edit account: Ann, account 1"),
    ],
)
def test_a_form_says_which_row_it_is_about(
    shop: httpx2.Client,  # noqa: F811
    path: str,
    heading: str,
) -> None:
    text = shop.get(f"/admin/{path}").text
    assert found("<title>(.*?)</title>", text) == f"{heading} - {main.app.title}"
    assert f'<h3 class="card-title">{heading}</h3>' in text


# What is saved


def told(browser: httpx2.Client, path: str) -> tuple[str, str]:  # noqa: F811
    """What a page says of what was done before, and where its link leads."""
    said = told_on(browser, path)
    link = re.search(r'href="([^"]+)"', said)
    return html.unescape(re.sub("<a.*", "", said)).strip(), link[1] if link else ""


def test_the_next_page_says_what_was_saved(shop: httpx2.Client) -> None:  # noqa: F811
    path = "/admin/item/list"
    saved(form(shop, "/admin/item/create", title="Tea & <b>", price="2"))
    assert told(shop, path) == ("Item Tea & <b> created", "/admin/item/details/2")
    assert told(shop, path) == ("", "")
    saved(form(shop, "/admin/item/edit/2", title="Cup"))
    assert told(shop, path) == ("Item Cup saved", "/admin/item/details/2")
    assert remove(shop, "item", "2") == ""
    assert told(shop, path) == ("Item Cup deleted", "")


def test_the_next_page_says_how_many_were_deleted(shop: httpx2.Client, make: Make) -> None:  # noqa: F811
    make("items")
    assert remove(shop, "item", "1,2") == ""
    assert told(shop, "/admin/item/list") == ("2 items deleted", "")
    assert remove(shop, "item", "1") == "Item not found"
    assert told(shop, "/admin/item/list") == ("", "")


@pytest.mark.needs("payments")
def test_a_row_without_a_name_is_told_by_its_number(shop: httpx2.Client) -> None:  # noqa: F811
    saved(form(shop, "/admin/payment/create", order_id="1", account_id="1"))
    assert told(shop, "/admin/") == ("Payment 2 created", "/admin/payment/details/2")


@pytest.mark.parametrize("link", ["//evil.example/details/1", "https://x/details/1", "a/list"])
def test_a_link_that_is_told_leads_to_a_row_alone(
    shop: httpx2.Client,  # noqa: F811
    link: str,
) -> None:
    shop.cookies.set("told", f"success%20{link.replace('/', '%2F')}%20Look")
    assert told(shop, "/admin/item/list") == ("Look", "")


# The place of the list

PLACE = "page=2&pageSize=1&sortBy=title&sort=asc&search=a&is_available=true"


@pytest.mark.parametrize(
    ("path", "button", "leads"),
    [
        ("edit/1", "Save", "list"),
        ("edit/1", "Save and continue editing", "edit/1"),
        ("edit/1", "Save and add another", "create"),
        ("edit/1", "Save all the same", "list"),
        ("create", "Save", "list"),
        ("create", "Save and continue editing", "edit/2"),
        ("create", "Save and add another", "create"),
    ],
)
def test_a_form_leads_back_to_the_list_as_it_was(
    shop: httpx2.Client,  # noqa: F811
    path: str,
    button: str,
    leads: str,
) -> None:
    path = f"/admin/item/{path}?{PLACE}"
    fields = Page(shop.get(path).text).fields | {"title": "Mug", "price": "2"}
    version = {"newest": fields["version"], "save": button}
    answer = send(shop, path, fields | version)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/admin/item/{leads}?{PLACE}"


def test_the_pages_of_a_row_keep_the_place_of_its_list(shop: httpx2.Client, make: Make) -> None:  # noqa: F811
    make("items", title="Table")
    links = set(map(html.unescape, Page(shop.get(f"/admin/item/list?{PLACE}").text).links))
    pages = {f"/admin/item/{page}?{PLACE}" for page in ("create", "details/2", "edit/2")}
    assert pages <= links
    links = set(map(html.unescape, Page(shop.get(f"/admin/item/details/2?{PLACE}").text).links))
    assert {f"/admin/item/{page}?{PLACE}" for page in ("list", "edit/2")} <= links
    links = set(map(html.unescape, Page(shop.get(f"/admin/item/edit/2?{PLACE}").text).links))
    assert f"/admin/item/list?{PLACE}" in links


@pytest.mark.needs("orders")
def test_an_action_on_the_page_of_a_row_keeps_the_place_of_its_list(
    shop: httpx2.Client,  # noqa: F811
) -> None:
    page = Page(shop.get("/admin/order/details/1?page=1&sort=asc").text)
    assert page.fields["back"] == "order/details/1?page=1&sort=asc"
    answer = act(shop, "confirm", "1", str(page.fields["back"]))
    assert answer.headers["Location"] == "/admin/order/details/1?page=1&sort=asc"


@pytest.mark.parametrize("query", ["//evil.example", "next=https://evil.example", "%0d%0aX: y"])
def test_no_query_leads_elsewhere(shop: httpx2.Client, query: str) -> None:  # noqa: F811
    path = f"/admin/item/edit/1?{query}"
    fields = Page(shop.get(path).text).fields | {"save": "Save"}
    answer = send(shop, path, fields)
    assert (path_of(answer), "X" in answer.headers) == ("/admin/item/list", False)
    links = Page(shop.get(path).text).links
    assert {urlsplit(link).netloc for link in links} == {""}


# What has changed meanwhile


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_an_edit_of_a_row_that_has_changed_shows_where_they_differ(
    shop: httpx2.Client,  # noqa: F811
    client: httpx2.Client,
) -> None:
    path = f"/admin/product/edit/1?{PLACE}"
    stale = Page(shop.get(path).text).fields | {"save": "Save"}
    body = {"price": 12.5, "category_id": 2, "is_active": False}
    assert client.patch("/products/1", json=body).status_code == 200
    entered: Fields = {"name": "Torch", "price": "11", "category_id": "1"}
    answer = send(shop, path, stale | entered)
    page = refused(answer)
    assert (page.alert, page.errors) == (CHANGED, {})
    assert [row for row in page.rows if row] == [
        ["Category", "Tents", "Outdoor"],
        ["Is active", "No", "Yes"],
        ["Name", "Lamp", "Torch"],
        ["Price", "12.50", "11"],
    ]
    assert {name: page.fields[name] for name in entered} == entered
    assert path in map(html.unescape, page.links)  # to load it anew
    assert client.get("/products/1").json()["name"] == "Lamp"

    assert client.patch("/products/1", json={"price": 13}).status_code == 200
    again = refused(send(shop, path, page.fields | {"save": "Save all the same"}))
    assert [row for row in again.rows if row][-1] == ["Price", "13.00", "11"]
    saved(send(shop, path, again.fields | {"save": "Save all the same"}))
    product = client.get("/products/1").json()
    assert (product["name"], product["price"], product["category_id"]) == ("Torch", 11, 1)
    assert product["is_active"] is True


@pytest.mark.needs("posts", "tags")
def test_what_is_chosen_of_several_is_compared_too(
    shop: httpx2.Client,  # noqa: F811
    client: httpx2.Client,
    make: Make,
) -> None:
    make("tags", name="New")
    stale = Page(shop.get("/admin/post/edit/1").text).fields | {"save": "Save"}
    assert client.patch("/posts/1", json={"tag_ids": [1, 2]}).status_code == 200
    page = refused(send(shop, "/admin/post/edit/1", stale))
    assert [row for row in page.rows if row] == [["Tags", "Sale, New", "Sale"]]


def test_a_password_is_in_no_comparison(shop: httpx2.Client, client: httpx2.Client) -> None:  # noqa: F811
    stale = Page(shop.get("/admin/user/edit/1").text).fields | {"save": "Save"}
    assert client.patch("/users/1", json={"bio": "Hello"}).status_code == 200
    answer = send(shop, "/admin/user/edit/1", stale | {"password": "Password-77"})
    assert [row for row in refused(answer).rows if row] == [["Bio", "Hello", ""]]
    assert "Password-77" not in answer.text


def test_a_row_that_was_deleted_meanwhile_is_said_to_be_gone(
    shop: httpx2.Client,  # noqa: F811
    client: httpx2.Client,
) -> None:
    fields = Page(shop.get("/admin/item/edit/1").text).fields | {"save": "Save"}
    assert client.delete("/items/1").status_code == 204
    answer = send(shop, "/admin/item/edit/1", fields)
    assert answer.status_code == 404
    assert "This item is not there any more, so nothing is saved" in answer.text
