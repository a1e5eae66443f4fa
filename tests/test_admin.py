"""The admin pages: what they show, what their forms do, and whom they let in."""

import base64
import html
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest
import sqlalchemy as sa
from conftest import SECTIONS, Build, Json, Make, log_in, needing
from document import PATHS, complete, example_of, media_of, model_of
from sqlmodel import Session

import db
import main
from kit import Versioned
from kit.admin import AdminView

At = Callable[[str], httpx2.Client]
Close = Callable[[], None]
Fields = dict[str, str | None]

VOID = {"input", "link", "meta", "br", "img", "hr"}
EXPIRED = "The form has expired. Please send it again"


class Page(HTMLParser):
    """What a browser makes of a page: its form's fields, the errors at them, its rows and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: Fields = {}
        self.errors: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.alert = ""
        self.open: list[tuple[str, str]] = []  # tags and their classes
        self.name = ""  # of the last field
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {key: value or "" for key, value in attrs}
        self.links += [a[key] for key in ("src", "href", "action", "data-url") if key in a]
        if tag not in VOID:
            self.open.append((tag, a.get("class", "")))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td" and self.rows:
            self.rows[-1].append("")
        elif tag == "option" and ("selected" in a or not self.fields[self.name]):
            self.fields[self.name] = a["value"]
        if tag in ("input", "textarea", "select") and "name" in a:
            self.name = a["name"]
            value: str | None = a.get("value", "")
            if a.get("type") in ("checkbox", "submit") or "multiple" in a:
                value = "y" if "checked" in a else None
            if chosen := json.loads(a.get("data-json") or "[]"):
                value = ",".join(row["id"] for row in chosen if row)
            self.fields[self.name] = value

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, style = self.open[-1] if self.open else ("", "")
        if any(name == "td" for name, _ in self.open) and self.rows and self.rows[-1]:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()
        elif tag == "textarea":
            self.fields[self.name] = data.removeprefix("\n").removeprefix("\r\n")
        elif "invalid-feedback" in style:
            self.errors[self.name] = f"{self.errors.get(self.name, '')} {data}".strip()
        elif "alert-danger" in style:
            self.alert += data


def rows_of(browser: httpx2.Client, path: str, column: int) -> list[str]:
    """A column of a list, whose first two are a check box and buttons."""
    response = browser.get(path)
    assert response.status_code == 200, response.text
    return [row[column + 2] for row in Page(response.text).rows if len(row) > 2]


def form(browser: httpx2.Client, path: str, **changes: str | None) -> httpx2.Response:
    """Fill in a form as a browser does: what is in it already is sent again, but for the changes.

    None is a box without a check, or a field that is not sent.
    """
    page = browser.get(path)
    assert page.status_code == 200, page.text
    return send(browser, path, Page(page.text).fields | {"save": "Save"} | changes)


def send(browser: httpx2.Client, path: str, fields: Fields) -> httpx2.Response:
    files: Any = {name: (None, value) for name, value in fields.items() if value is not None}
    return browser.post(path, files=files)


def refused(response: httpx2.Response) -> Page:
    assert response.status_code == 400, response.text
    return Page(response.text)


def saved(response: httpx2.Response) -> None:
    page = Page(response.text)
    assert response.status_code == 302, (page.alert, page.errors)


def remove(browser: httpx2.Client, entity: str, ids: str) -> str:
    """Delete rows with the button of a list; what it then says is wrong."""
    token = found(r'"X-CSRF-Token": "([^"]+)"', browser.get(f"/admin/{entity}/list").text)
    headers = {"X-CSRF-Token": token}
    response = browser.delete(f"/admin/{entity}/delete?pks={ids}", headers=headers)
    assert (response.status_code, response.text == "") in ((204, True), (409, False))
    return response.text


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match[1]


def enter(browser: httpx2.Client, name: str, password: str = "Password1") -> httpx2.Response:
    data = {"username": name, "password": password, "csrf_token": form_token(browser)}
    return browser.post("/admin/login", data=data)


def form_token(browser: httpx2.Client, path: str = "/admin/login") -> str:
    return found(r'name="csrf_token" value="([^"]+)"', browser.get(path).text)


def is_let_in(browser: httpx2.Client) -> bool:
    response = browser.get("/admin/user/list")
    if response.status_code == 200:
        return True
    assert (response.status_code, path_of(response)) == (302, "/admin/login")
    return False


def path_of(response: httpx2.Response) -> str:
    scheme, host, path, *_ = urlsplit(response.headers["Location"])
    assert (scheme, host) == ("", "")
    return path


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_a_fault(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    faults = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert [r.getMessage() for r in faults] == []


@pytest.fixture
def browser(client: httpx2.Client, client_at: At) -> Iterator[httpx2.Client]:
    """A client with cookies of its own, which does not follow redirects."""
    with client_at("127.0.0.1") as browser:
        browser.follow_redirects = False
        yield browser


@pytest.fixture
def shop(browser: httpx2.Client, built: Callable[[Build], None]) -> httpx2.Client:
    """One or more of everything; the browser."""
    built(fill)
    return browser


def fill(make: Make) -> None:
    make("users", username="Ann", full_name="Ann O'Hara")
    make("users", username="bob")
    make("categories", name="Outdoor")
    make("categories", name="Tents", parent_id=1)
    make("products", name="Lamp", sku="L-1", category_id=1)
    make("products", name="Tent", sku="T-1", category_id=2, price=99.5, stock_quantity=3)
    make("items", title="Chair")
    make("tags", name="Sale")
    make("posts", title="News", author_id=1, tag_ids=[1])
    make("accounts", user_id=1, balance=500)
    make("accounts", user_id=2, balance=5)
    make("transfers", from_account_id=1, to_account_id=2, amount=1.5)
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 2}])
    make("orders", user_id=2, items=[{"product_id": 1, "quantity": 3}])
    if "payments" in SECTIONS:
        paid = make.client.post("/orders/2/payments", json={"account_id": 1})
        assert paid.status_code == 201
    complete(make.client)


@pytest.fixture
def closed(shop: httpx2.Client, client: httpx2.Client, close: Close) -> httpx2.Client:
    """The same in closed mode, where Ann is a superuser."""
    assert client.patch("/users/1", json={"is_superuser": True}).status_code == 200
    close()
    return shop


# Each entity, and the columns by which its list can be sorted.

LISTS = {
    "item": "id title price is_available",
    "user": "id username email full_name is_active is_superuser",
    "category": "id name slug",
    "product": "id name sku price stock_quantity is_active",
    "order": "id order_number status total_amount created_at",
    "notification": "id message created_at",
    "post": "id title status view_count published_at",
    "tag": "id name slug",
    "account": "id balance created_at",
    "transfer": "id amount status created_at",
    "payment": "id amount refunded_at created_at",
    "change": "id created_at entity entity_id kind user_id",
}
VIEWS: dict[str, Any] = {
    view.identity: view for view in main.admin.views if isinstance(view, AdminView)
}
for name in sorted(VIEWS.keys() - LISTS.keys()):  # an entity of your own
    columns = VIEWS[name].model.__table__.columns
    LISTS[name] = " ".join(column for column in VIEWS[name].column_list if column in columns)
LISTS = {name: columns for name, columns in LISTS.items() if name in VIEWS}
VERSIONED = [name for name in LISTS if issubclass(VIEWS[name].model, Versioned)]
SECRETS = ("password_hash", "stamp", "username_key", "argon2")


@pytest.mark.parametrize("entity", LISTS)
def test_every_entity_has_its_list_and_details(shop: httpx2.Client, entity: str) -> None:
    ids = rows_of(shop, f"/admin/{entity}/list", 0)
    assert "1" in ids
    assert ids == sorted(ids, key=int, reverse=True)
    page = shop.get(f"/admin/{entity}/details/1")
    assert page.status_code == 200, page.text
    assert Page(page.text).rows
    assert shop.get(f"/admin/{entity}/details/77").status_code == 404


@pytest.mark.every_database
@pytest.mark.parametrize("entity", LISTS)
def test_every_list_is_sorted_by_each_column_that_offers_it(
    shop: httpx2.Client, entity: str
) -> None:
    path = f"/admin/{entity}/list"
    links = map(html.unescape, Page(shop.get(path).text).links)
    offered = [found("sortBy=([a-z_]+)", link) for link in links if "sortBy=" in link]
    assert offered == LISTS[entity].split()
    for name in offered:
        up = rows_of(shop, f"{path}?sortBy={name}&sort=asc", 0)
        down = rows_of(shop, f"{path}?sortBy={name}&sort=desc", 0)
        assert sorted(up) == sorted(down)
    assert rows_of(shop, f"{path}?sortBy=id&sort=asc", 0) == sorted(rows_of(shop, path, 0), key=int)


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("path", "column", "shown"),
    [
        needing("categories", "category/list", 3, ["Outdoor", ""]),
        needing("products", "product/list", 5, ["Tents", "Outdoor"]),
        needing("orders", "order/list", 2, ["bob", "Ann"]),
        needing("posts", "post/list", 2, ["Ann"]),
        needing("accounts", "account/list", 1, ["bob", "Ann"]),
        needing("payments", "notification/list", 1, ["bob", "bob", "Ann"]),
        needing("transfers", "transfer/list", 1, ["Ann, account 1"]),
        needing("payments", "payment/list", 2, ["Ann, account 1"]),
        needing("products", "product/list?search=lAMp", 1, ["Lamp"]),
        needing("products", "product/list?search=t-1", 1, ["Tent"]),
        ("user/list?search=o'har", 1, ["Ann"]),
        ("user/list?search=EXAMPLE.com", 1, ["bob", "Ann"]),
        needing("orders", "order/list?search=ord-", 0, ["2", "1"]),
        needing("posts", "post/list?search=new", 0, ["1"]),
        needing("orders", "order/list?search=BOB", 0, ["2"]),
        needing("orders", "order/list?search=o'har", 0, ["1"]),
        needing("orders", "order/list?search=user2@EXAMPLE", 0, ["2"]),
        needing("posts", "post/list?search=ann", 0, ["1"]),
        needing("accounts", "account/list?search=bob", 1, ["bob"]),
        needing("notifications", "notification/list?search=ann", 1, ["Ann"]),
        needing("transfers", "transfer/list?search=ann", 2, ["bob, account 2"]),
        needing("transfers", "transfer/list?search=bob", 1, []),
        needing("payments", "payment/list?search=ord-", 2, ["Ann, account 1"]),
        needing("categories", "category/list?parent_id=1", 3, ["Outdoor"]),
        needing("transfers", "transfer/list?status=completed", 1, ["Ann, account 1"]),
        needing("payments", "order/list?status=confirmed", 0, ["2"]),
        needing("orders", "order/list?status=__all", 0, ["2", "1"]),
        needing("payments", "order/list?status=pending,confirmed", 0, ["2", "1"]),
        needing("payments", "order/list?status=pending,shipped,odd", 0, ["1"]),
        needing("orders", "order/list?status=odd", 0, []),
        ("user/list?is_superuser=true", 0, []),
        ("user/list?is_active=true", 0, ["2", "1"]),
        needing("products", "product/list?category_id=1", 1, ["Lamp"]),
        needing("products", "product/list?sortBy=price&sort=desc", 1, ["Tent", "Lamp"]),
        needing("orders", "order/list?pageSize=1&page=2", 0, ["1"]),
        needing("orders", "order/list?created=Past day", 0, ["2", "1"]),
        needing("payments", "order/list?created=Past day&status=pending", 0, ["1"]),
        ("user/list?created=__all", 0, ["2", "1"]),
        needing("posts", "post/list?created=Past week", 0, ["1"]),
        needing("products", "product/list?stock=Low", 1, ["Tent"]),
        needing("products", "product/list?stock=None left", 1, []),
        needing("tags", "tag/list?used_by_posts=Yes", 1, ["Sale"]),
        needing("tags", "tag/list?used_by_posts=No", 1, []),
        needing("accounts", "account/list?balance=Empty", 0, []),
        needing("accounts", "account/list?balance=Not empty&search=bob", 0, ["2"]),
        needing("payments", "payment/list?refunded=No", 0, ["1"]),
        needing("payments", "payment/list?refunded=Yes", 0, []),
        needing("payments", "payment/list?search=ann", 0, ["1"]),
    ],
)
def test_lists_show_relations_by_name_search_filter_sort_and_page(
    shop: httpx2.Client, path: str, column: int, shown: list[str]
) -> None:
    assert rows_of(shop, f"/admin/{path}", column) == shown


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_rows_are_filtered_by_when_they_were_created(
    shop: httpx2.Client,
) -> None:
    with db.database.writer.engine.begin() as connection:
        for id, days in ((1, 2), (2, 40)):
            then = {"created_at": datetime.now(UTC) - timedelta(days=days)}
            connection.execute(
                sa.update(model_of("Order")).where(sa.column("id") == id).values(then)
            )
    spans = "Past day", "Past week", "Past 30 days", "__all"
    seen = [rows_of(shop, f"/admin/order/list?created={span}", 0) for span in spans]
    assert seen == [[], ["1"], ["1"], ["2", "1"]]


@pytest.mark.needs("orders")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("first", "last", "ids"),
    [
        ("2026-10-31", "2026-11-01", ["2", "1"]),
        ("2026-11-01", "", ["2"]),
        ("", "2026-10-31", ["1"]),
        ("2026-10-31", "2026-10-31", ["1"]),
        ("2026-11-02", "", []),
        ("", "", ["2", "1"]),
        *(
            (odd, odd, ["2", "1"])
            for odd in ("2026-02-30", "x", "9999-12-31", "0001-01-01", "\u0661")
        ),
    ],
)
def test_rows_are_filtered_from_one_day_to_another(
    shop: httpx2.Client, first: str, last: str, ids: list[str]
) -> None:
    last_moment = datetime(2026, 10, 31, 23, 59, 59, 999_999, UTC)
    with db.database.writer.engine.begin() as connection:
        for id, then in ((1, last_moment), (2, last_moment + timedelta(microseconds=1))):
            order = sa.update(model_of("Order")).where(sa.column("id") == id)
            connection.execute(order.values({"created_at": then}))
    url = f"/admin/order/list?created={quote(first)}&created={quote(last)}&created=days"
    assert rows_of(shop, url, 0) == ids
    fields = Page(shop.get(url).text).fields
    is_day = first.startswith("2026-1")
    assert fields["created"] == "days"
    assert (f'value="{first}"' in shop.get(url).text) == is_day or not first


@pytest.mark.needs("products")
def test_large_numbers_have_their_thousands_apart(browser: httpx2.Client, make: Make) -> None:
    make("products", price=1234567.5, stock_quantity=20000)
    assert rows_of(browser, "/admin/product/list", 3) == ["1,234,567.50"]
    cells = Page(browser.get("/admin/product/details/1").text).rows
    assert [row for row in cells if row and row[0] in ("1,234,567.50", "20,000")]
    fields = Page(browser.get("/admin/product/edit/1").text).fields
    assert (fields["price"], fields["stock_quantity"]) == ("1234567.50", "20000")


def test_an_empty_list_says_so(browser: httpx2.Client) -> None:
    assert "Nothing here" in browser.get("/admin/item/list").text


@pytest.mark.every_database
def test_percent_and_underscore_are_looked_for_as_they_are(
    browser: httpx2.Client, make: Make
) -> None:
    for title in ("100% wool", "a_b", "plain"):
        make("items", title=title)
    assert rows_of(browser, "/admin/item/list?search=%25", 1) == ["100% wool"]
    assert rows_of(browser, "/admin/item/list?search=_B", 1) == ["a_b"]


def test_pages_have_twenty_rows_and_lead_to_the_others(browser: httpx2.Client, make: Make) -> None:
    for _ in range(45):
        make("items")
    path = "/admin/item/list"
    for sort, expected in (("id&sort=desc", range(45, 0, -1)), ("price", range(1, 46))):
        paths = [f"{path}?sortBy={sort}&page={n}" for n in (1, 2, 3)]
        seen = [id for path in paths for id in rows_of(browser, path, 0)]
        assert seen == list(map(str, expected))
    page = Page(browser.get(f"{path}?page=2").text)
    assert {"page=1", "page=3"} <= {urlsplit(link).query for link in page.links}
    beyond = browser.get(f"{path}?page=99")
    assert (beyond.status_code, urlsplit(beyond.headers["Location"]).query) == (302, "page=3")
    assert len(rows_of(browser, f"{path}?pageSize=100000", 0)) == 45


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        needing("orders", "order/details/1", ["Ann", "Ann O'Hara", "L-1", "20.00"]),
        needing("payments", "order/details/2", ["Payment 1", "user2@example.com"]),
        needing("payments", "account/details/1", ["Payment 1", "Transfer 1"]),
        needing("categories", "category/details/1", ["Tents"]),
        needing("products", "product/details/2", ["Tents", "99.50"]),
        needing("posts", "post/details/1", ["Ann", "Sale"]),
        needing("payments", "payment/details/1", ["Ann, account 1", "30.00"]),
        needing("transfers", "transfer/details/1", ["Ann, account 1", "bob, account 2", "1.50"]),
    ],
)
def test_details_show_relations_by_name(shop: httpx2.Client, path: str, shown: list[str]) -> None:
    cells = [cell for row in Page(shop.get(f"/admin/{path}").text).rows for cell in row]
    for text in shown:
        assert any(text in cell for cell in cells), cells


def test_what_is_secret_of_a_user_is_on_no_page(shop: httpx2.Client) -> None:
    for page in ("list", "details/1", "create", "edit/1"):
        response = shop.get(f"/admin/user/{page}")
        assert response.status_code == 200
        for word in SECRETS:
            assert word not in response.text, (page, word)
    assert "version" not in shop.get("/admin/user/details/1").text.lower()
    assert shop.get("/admin/user/list?sortBy=password_hash&sort=asc").status_code < 500


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("lookup", "text"),
    [
        needing("orders", "order/ajax/lookup?name=user_id&term=AN", "Ann"),
        needing("posts", "post/ajax/lookup?name=tag_ids&term=sal", "Sale"),
        needing("products", "product/ajax/lookup?name=category_id&term=tent", "Tents"),
        needing("orders", "order/ajax/lookup?name=user_id&term=O'HAR", "Ann"),
        needing("payments", "payment/ajax/lookup?name=account_id&term=bob", "bob, account 2"),
        needing("transfers", "transfer/ajax/lookup?name=to_account_id&term=AN", "Ann, account 1"),
    ],
)
def test_names_are_looked_up_for_a_form(shop: httpx2.Client, lookup: str, text: str) -> None:
    def names(lookup: str) -> list[str]:
        results = shop.get(f"/admin/{lookup}").json()["results"]
        return [row["text"] for row in results if row["id"] != "new"]

    assert names(lookup) == [text]
    for term in ("%25", "_"):
        assert names(re.sub("term=.*", f"term={term}", lookup)) == []


# Forms

EVE = {"username": "eve", "email": "Eve@Example.com", "password": "Password1"}
PAN = {"name": "Pan", "sku": "p-1", "price": "5", "category_id": "2"}
POST = {"title": "Hello", "content": "<b>Hi</b>\nthere", "author_id": "2", "tag_ids": "1"}


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("entity", "fields", "change", "expected"),
    [
        ("item", {"title": "Mug", "price": "9.99"}, {"price": "8.50"}, {"price": 8.5}),
        ("user", EVE, {"full_name": "Eve"}, {"full_name": "Eve", "email": "eve@example.com"}),
        needing(
            "categories",
            "category",
            {"name": "X Y", "parent_id": "1"},
            {},
            {"slug": "x-y", "parent_id": 1},
        ),
        needing(
            "products", "product", PAN, {"stock_quantity": "7"}, {"sku": "P-1", "stock_quantity": 7}
        ),
        needing(
            "posts", "post", POST, {"status": "published"}, {"status": "published", "tags": [1]}
        ),
        needing(
            "tags", "tag", {"name": "New"}, {"name": "Newest"}, {"name": "Newest", "slug": "new"}
        ),
    ],
)
def test_rows_are_created_changed_and_deleted_with_forms(
    shop: httpx2.Client, entity: str, fields: Fields, change: Fields, expected: Json
) -> None:
    path = {"category": "categories"}.get(entity, f"{entity}s")
    saved(form(shop, f"/admin/{entity}/create", **fields))
    id = rows_of(shop, f"/admin/{entity}/list", 0)[0]
    before = shop.get(f"/{path}/{id}").json()
    saved(form(shop, f"/admin/{entity}/edit/{id}", **change))
    after = shop.get(f"/{path}/{id}").json()
    shown = after | {"tags": [tag["id"] for tag in after.get("tags", [])]}
    assert {key: shown[key] for key in expected} == expected
    kept = set(before) - set(expected) - set(change) - {"updated_at", "published_at"}
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert remove(shop, entity, id) == ""
    assert shop.get(f"/{path}/{id}").status_code == 404


@pytest.mark.parametrize(
    ("path", "fields", "name", "message"),
    [
        ("item/create", {"title": "x", "price": "-2"}, "price", "Has to be above 0"),
        ("item/create", {"title": "x", "price": "1e2"}, "price", "A price such as 19.99"),
        ("item/create", {"title": "x", "price": ""}, "price", "Fill this in"),
        ("item/create", {"title": "", "price": "1"}, "title", "Fill this in"),
        ("item/create", {"title": " \u3000 ", "price": "1"}, "title", "Fill this in"),
        ("item/create", {"title": "x" * 201, "price": "1"}, "title", "At most 200 characters"),
        ("item/create", {"title": "a\0b", "price": "1"}, "title", "cannot be stored"),
        ("item/edit/1", {"price": "0"}, "price", "Has to be above 0"),
        ("user/create", {"username": "a!", "email": "a@b.co"}, "username", "At least 3"),
        ("user/create", {"username": "abc", "email": "nonsense"}, "email", "An e-mail address"),
        ("user/create", {"username": "abc", "password": "weak"}, "password", "At least 8 char"),
        ("user/create", {"username": "abc", "email": "a@b.co"}, "password", "Fill this in"),
        ("user/edit/1", {"password": "weak"}, "password", "At least 8 characters"),
        ("user/edit/1", {"username": ""}, "username", "Fill this in"),
        ("user/create", {"username": "a b"}, "username", "Letters, digits and _ only"),
        needing("categories", "category/create", {"slug": "A b"}, "slug", "Small letters, digits"),
        needing("categories", "category/edit/1", {"slug": ""}, "slug", "Fill this in"),
        needing("products", "product/create", {"sku": "no good"}, "sku", "digits and hyphens"),
        needing(
            "products",
            "product/create",
            {"stock_quantity": "-1"},
            "stock_quantity",
            "Has to be 0 or more",
        ),
        needing(
            "products",
            "product/create",
            {"stock_quantity": "1.5"},
            "stock_quantity",
            "A whole number",
        ),
        needing(
            "products",
            "product/create",
            {"category_id": "9" * 30},
            "category_id",
            "Choose a category",
        ),
        needing(
            "products",
            "product/create",
            {"category_id": "1' OR 1=1"},
            "category_id",
            "Choose a category",
        ),
        needing(
            "posts", "post/create", {"title": "x", "status": "odd"}, "status", "Choose one of these"
        ),
        needing(
            "posts", "post/create", {"title": "x", "tag_ids": "x,1"}, "tag_ids", "Choose a tag"
        ),
        needing("posts", "post/create", {"title": "x"}, "author_id", "Choose an author"),
        needing(
            "orders",
            "order/create",
            {"user_id": "1", "lines": "x" * 10_001},
            "lines",
            "At most 10,000",
        ),
        needing("orders", "order/edit/1", {"status": "odd"}, "status", "Choose one of these"),
        needing(
            "accounts",
            "account/create",
            {"user_id": "1", "balance": "-1"},
            "balance",
            "Has to be 0 or more",
        ),
        needing("transfers", "transfer/create", {"amount": "0"}, "amount", "Has to be above 0"),
    ],
)
def test_what_the_api_refuses_is_told_at_the_field(
    shop: httpx2.Client, path: str, fields: Fields, name: str, message: str
) -> None:
    page = refused(form(shop, f"/admin/{path}", **fields))
    assert message in page.errors[name], page.errors
    if name not in ("password", "category_id", "tag_ids", "status"):  # what was entered is kept
        assert page.fields.get(name, "") == fields.get(name, "")


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        needing(
            "products",
            "product/create",
            {"name": "x", "price": "1", "sku": "l-1"},
            "Another product has this SKU",
        ),
        ("user/edit/2", {"username": "ANN"}, "Another user has this username"),
        ("user/edit/2", {"email": "User1@example.com"}, "Another user has this e-mail"),
        needing("categories", "category/create", {"name": "Outdoor"}, "has this name"),
        needing("categories", "category/edit/1", {"parent_id": "2"}, "cannot be its own ancestor"),
        needing(
            "products",
            "product/create",
            {"name": "x", "price": "1", "sku": "x", "category_id": "9"},
            "This category is not there any more",
        ),
        needing(
            "posts",
            "post/create",
            {"title": "x", "content": "x", "author_id": "99"},
            "This user is not there any more",
        ),
        needing(
            "orders",
            "order/create",
            {"user_id": "1", "lines": "T-1 4"},
            "Insufficient stock for 'Tent'",
        ),
        needing(
            "orders",
            "order/create",
            {"user_id": "1", "lines": "T-1 x"},
            "is no SKU and a number: T-1 x",
        ),
        needing(
            "orders",
            "order/create",
            {"user_id": "1", "lines": "T-9 1"},
            "No product has the SKU T-9",
        ),
        needing("orders", "order/create", {"user_id": "9", "lines": "T-1 1"}, "user is not there"),
        needing("orders", "order/edit/1", {"status": "delivered"}, "from pending to delivered"),
        needing("payments", "order/edit/2", {"status": "pending"}, "from confirmed to pending"),
        needing(
            "transfers",
            "transfer/create",
            {"from": "2", "to": "1", "amount": "99"},
            "Insufficient funds",
        ),
        needing(
            "transfers",
            "transfer/create",
            {"from": "1", "to": "1", "amount": "1"},
            "to the same account",
        ),
        needing(
            "payments", "payment/create", {"order_id": "1", "account_id": "2"}, "Insufficient funds"
        ),
        needing(
            "payments",
            "payment/create",
            {"order_id": "2", "account_id": "1"},
            "Only a pending order",
        ),
    ],
)
def test_the_rules_of_the_shop_hold_in_forms_too(
    shop: httpx2.Client, client: httpx2.Client, path: str, fields: Fields, message: str
) -> None:
    paths = ["/products/", "/users/", "/orders/", "/accounts/", "/transfers/", "/categories/"]
    before = [client.get(path).json() for path in paths]
    sent = {{"from": "from_account_id", "to": "to_account_id"}.get(k, k): fields[k] for k in fields}
    page = refused(form(shop, f"/admin/{path}", **sent))
    [alert] = filter(None, [page.alert, *page.errors.values()])
    assert message in alert
    assert not re.search("(?i)select|insert|update |constraint|sqlalchemy|integrity", alert)
    assert [client.get(path).json() for path in paths] == before


@pytest.mark.needs("orders")
def test_an_order_takes_from_the_stock_and_gives_it_back_when_it_is_cancelled(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    saved(form(shop, "/admin/order/create", user_id="2", lines="t-1 2\n\n L-1 1\nT-1 1"))
    order = client.get("/orders/3").json()
    assert [(i["product_id"], i["quantity"]) for i in order["items"]] == [(2, 3), (1, 1)]
    assert client.get("/products/2").json()["stock_quantity"] == 0
    assert remove(shop, "order", "3") == "Only a cancelled order can be deleted"
    saved(form(shop, "/admin/order/edit/3", status="cancelled"))
    assert client.get("/products/2").json()["stock_quantity"] == 3
    assert remove(shop, "order", "3") == ""
    assert client.get("/orders/3").status_code == 404


def act(
    browser: httpx2.Client, action: str, pks: str, back: str = "order/list", **more: str
) -> httpx2.Response:
    """Do what a button of an order's page does, or a choice in the list with these chosen."""
    token = form_token(browser, "/admin/order/list")
    data = {"csrf_token": token, "pks": pks, "back": back} | more
    return browser.post(f"/admin/order/actions/{action}", data=data)


def told_on(browser: httpx2.Client, path: str) -> str:
    text = browser.get(path).text
    return found(r'(?s)id="told">(.*?)</div>', text)


@pytest.mark.needs("orders")
def test_an_order_goes_step_by_step_with_the_buttons_of_its_page(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    page = "order/details/1"

    def actions() -> set[str]:
        links = Page(shop.get(f"/admin/{page}").text).links
        found = {link.rpartition("/actions/")[2] for link in links if "/actions/" in link}
        return found | {"delete" for link in links if "/order/delete" in link}

    assert actions() == {"confirm", "cancel"}
    number = client.get("/orders/1").json()["order_number"]
    for action, then in (
        ("confirm", {"ship", "cancel"}),
        ("ship", {"deliver"}),
        ("deliver", set()),
    ):
        response = act(shop, action, "1", page)
        assert (response.status_code, path_of(response)) == (303, f"/admin/{page}")
        assert told_on(shop, f"/admin/{page}") == f"{action.capitalize()}: Order {number}"
        assert told_on(shop, f"/admin/{page}") == ""
        assert actions() == then
    assert client.get("/orders/1").json()["status"] == "delivered"


@pytest.mark.needs("orders")
def test_a_cancelled_order_gives_its_stock_back_and_can_be_deleted(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    before = client.get("/products/1").json()["stock_quantity"]
    assert act(shop, "cancel", "1").status_code == 303
    assert client.get("/products/1").json()["stock_quantity"] == before + 2
    links = Page(shop.get("/admin/order/details/1").text).links
    assert [link for link in links if "/actions/" in link] == []
    assert [link for link in links if "/order/delete" in link] != []


@pytest.mark.needs("payments")
def test_of_several_orders_all_move_on_or_none(shop: httpx2.Client, client: httpx2.Client) -> None:
    def statuses() -> list[str]:
        return [client.get(f"/orders/{id}").json()["status"] for id in (1, 2)]

    assert statuses() == ["pending", "confirmed"]
    response = act(shop, "confirm", "1,2", "order/list?status=pending")
    assert response.headers["Location"] == "/admin/order/list?status=pending"
    number = client.get("/orders/2").json()["order_number"]
    told = f"Order {number}: Cannot transition from confirmed to confirmed"
    assert told_on(shop, "/admin/order/list") == told
    assert statuses() == ["pending", "confirmed"]
    act(shop, "confirm", "1")
    act(shop, "ship", "2,1")
    assert told_on(shop, "/admin/order/list") == "Ship: 2 orders"
    assert statuses() == ["shipped", "shipped"]


@pytest.mark.needs("orders")
@pytest.mark.parametrize(
    ("action", "pks", "more", "status"),
    [
        ("ship", "", {}, 400),
        ("ship", "x", {}, 400),
        ("ship", "99999999999", {}, 400),
        ("odd", "1", {}, 404),
        ("ship", "1", {"csrf_token": "odd"}, 403),
        ("ship", "1,77", {}, 303),
    ],
)
def test_an_action_that_makes_no_sense_changes_nothing(
    shop: httpx2.Client,
    client: httpx2.Client,
    action: str,
    pks: str,
    more: dict[str, str],
    status: int,
) -> None:
    before = client.get("/orders/1").json()
    assert act(shop, action, pks, **more).status_code == status
    assert client.get("/orders/1").json() == before
    assert shop.get("/admin/order/actions/ship").status_code == 405
    assert shop.post("/admin/item/actions/ship", data={"csrf_token": "odd"}).status_code == 403


@pytest.mark.needs("orders")
@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "user/list", ""])
def test_an_action_leads_back_to_a_page_of_its_rows(shop: httpx2.Client, back: str) -> None:
    assert path_of(act(shop, "confirm", "1", back)) == "/admin/order/list"


@pytest.mark.needs("orders")
def test_an_action_is_for_who_is_logged_in(closed: httpx2.Client, client: httpx2.Client) -> None:
    data = {"csrf_token": form_token(closed), "pks": "1"}
    response = closed.post("/admin/order/actions/confirm", data=data)
    assert (response.status_code, path_of(response)) == (302, "/admin/login")


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.every_database
def test_money_moves_with_forms_and_comes_back_when_the_order_is_cancelled(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    saved(form(shop, "/admin/account/create", user_id="2", balance="7.25"))
    transfer: Fields = {"from_account_id": "1", "to_account_id": "3", "amount": "0.75"}
    saved(form(shop, "/admin/transfer/create", **transfer))
    saved(form(shop, "/admin/payment/create", order_id="1", account_id="1"))
    assert client.get("/orders/1").json()["status"] == "confirmed"
    balances = [account["balance"] for account in client.get("/accounts/").json()]
    assert balances == [500 - 1.5 - 30 - 0.75 - 20, 6.5, 8]
    saved(form(shop, "/admin/order/edit/1", status="cancelled"))
    assert client.get("/accounts/1").json()["balance"] == balances[0] + 20


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.parametrize("entity", ["transfer", "payment"])
def test_money_that_moved_cannot_be_changed(shop: httpx2.Client, entity: str) -> None:
    token = found(r'"X-CSRF-Token": "([^"]+)"', shop.get("/admin/").text)
    before = rows_of(shop, f"/admin/{entity}/list", 0)
    assert shop.get(f"/admin/{entity}/edit/1").status_code == 403
    fields: Fields = {"csrf_token": token, "amount": "1", "balance": "1"}
    assert send(shop, f"/admin/{entity}/edit/1", fields).status_code == 403
    headers = {"X-CSRF-Token": token}
    assert shop.delete(f"/admin/{entity}/delete?pks=1", headers=headers).status_code == 403
    assert rows_of(shop, f"/admin/{entity}/list", 0) == before
    links = Page(shop.get(f"/admin/{entity}/details/1").text).links
    assert not [link for link in links if "/edit/" in link or "/delete" in link]


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.parametrize("id", ["1", "2"])
def test_an_account_is_edited_and_deleted_as_long_as_no_money_has_moved_there(
    shop: httpx2.Client, client: httpx2.Client, id: str
) -> None:
    page = refused(form(shop, f"/admin/account/edit/{id}", balance="1000"))
    assert page.alert == "Money has moved here: an account is corrected by a transfer"
    assert remove(shop, "account", id).endswith("still refers to it")
    before = client.get("/accounts/").json()
    saved(form(shop, "/admin/account/create", user_id="1", balance="70"))
    saved(form(shop, "/admin/account/edit/3", user_id="2", balance="7"))
    account = client.get("/accounts/3").json()
    assert (account["user_id"], account["balance"]) == (2, 7)
    assert remove(shop, "account", "3") == ""
    assert client.get("/accounts/").json() == before


@pytest.mark.needs("accounts", "transfers", "payments")
def test_an_account_that_only_paid_is_not_edited(
    shop: httpx2.Client, client: httpx2.Client, make: Make
) -> None:
    make("accounts", user_id=1, balance=100)
    assert client.post("/orders/1/payments", json={"account_id": 3}).status_code == 201
    refused(form(shop, "/admin/account/edit/3", balance="100"))
    assert remove(shop, "account", "3") == "At least one payment still refers to it"


@pytest.mark.needs("notifications")
def test_a_notification_is_written_to_the_user_of_an_order(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    fields = {"order_id": "1", "message": "Your parcel is late"}
    saved(form(shop, "/admin/notification/create", **fields))
    [mine] = client.get("/notifications/?user_id=1&sort=-id&limit=1").json()
    assert (mine["order_id"], mine["message"]) == (1, "Your parcel is late")
    saved(form(shop, f"/admin/notification/edit/{mine['id']}", order_id="2", message="It is here"))
    [theirs] = client.get("/notifications/?user_id=2&sort=-id&limit=1").json()
    assert theirs == mine | {"user_id": 2, "order_id": 2, "message": "It is here"}
    page = refused(form(shop, "/admin/notification/create", order_id="99", message="x"))
    assert page.errors == {"order_id": "This order is not there any more: choose another one"}
    assert "message" in refused(form(shop, "/admin/notification/create", order_id="1")).errors
    assert remove(shop, "notification", str(mine["id"])) == ""
    assert mine["id"] not in [n["id"] for n in client.get("/notifications/").json()]


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_the_largest_ids_are_found_and_larger_ones_are_not_there(shop: httpx2.Client) -> None:
    last, engine = 2**31 - 1, db.database.writer.engine
    with Session(engine) as session:
        row: Json = {"id": last, "name": "Last", "slug": "last"}
        session.add(model_of("Category")(**row))
        session.flush()
        session.add(model_of("Product")(**row, sku="L", price=Decimal(1), category_id=last))
        session.commit()
    assert rows_of(shop, f"/admin/product/list?category_id={last}", 0) == [str(last)]
    for id in (last + 1, 10**9, "9" * 30, "x"):
        assert rows_of(shop, f"/admin/product/list?category_id={id}", 0) == []
        assert shop.get(f"/admin/product/details/{id}").status_code == 404
    assert shop.get(f"/admin/product/details/{last}").status_code == 200
    saved(form(shop, f"/admin/product/edit/{last}", name="Least"))
    assert shop.get(f"/products/{last}").json()["name"] == "Least"
    assert remove(shop, "product", str(last)) == ""


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_rows_are_deleted_all_together_or_not_at_all(
    shop: httpx2.Client, client: httpx2.Client, make: Make
) -> None:
    for _ in range(3):
        make("products")
    assert "still refers to it" in remove(shop, "product", "3,4,1,5")
    assert remove(shop, "product", "3,99") == "Product 99: Product not found"
    assert [product["id"] for product in client.get("/products/").json()] == [1, 2, 3, 4, 5]
    assert remove(shop, "product", "3,5,4") == ""
    assert [product["id"] for product in client.get("/products/").json()] == [1, 2]


@pytest.mark.parametrize(
    "path", ["user/create", "product/edit/1", "product/create", "order/edit/1"]
)
def test_a_file_for_a_field_is_refused(shop: httpx2.Client, path: str) -> None:
    fields = Page(shop.get(f"/admin/{path}").text).fields
    for name in set(fields) - {"csrf_token"}:
        rest = {key: (None, value) for key, value in fields.items() if value and key != name}
        response = shop.post(f"/admin/{path}", files={**rest, name: ("x.txt", b"x")})
        assert response.status_code == 400, name


@pytest.mark.needs("posts", "tags")
def test_a_text_keeps_its_line_breaks_when_it_is_edited(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    assert client.patch("/posts/1", json={"content": "a\nb"}).status_code == 200
    saved(form(shop, "/admin/post/edit/1", title="Other", content="a\r\nb"))
    assert client.get("/posts/1").json()["content"] == "a\nb"


@pytest.mark.needs("orders")
@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("L-1 2", ""),
        ("  l-1\t2\r\nT-1, 1\n\n", ""),
        ("L-1", ""),
        ("L-9 1", "No product has the SKU L-9"),
        ("2 x L-1", "This is no SKU and a number: 2 x L-1"),
        ("L-1 two", "This is no SKU and a number: L-1 two"),
        ("L-1 0", "Has to be 1 or more"),
    ],
)
def test_an_order_is_placed_by_lines_of_skus(shop: httpx2.Client, lines: str, told: str) -> None:
    response = form(shop, "/admin/order/create", user_id="1", lines=lines)
    if told:
        assert refused(response).alert == told
    else:
        saved(response)


def test_a_list_shows_no_text_of_others(shop: httpx2.Client) -> None:
    response = shop.get("/admin/product/list?error=Call+me&search=lamp")
    assert (response.status_code, response.headers["Location"]) == (
        302,
        "/admin/product/list?search=lamp",
    )


@pytest.mark.every_database
def test_a_deletion_that_is_refused_says_why(shop: httpx2.Client, client: httpx2.Client) -> None:
    if "accounts" in SECTIONS:
        assert remove(shop, "user", "1") == "At least one account still refers to it"
        assert client.get("/users/1").status_code == 200
    if "orders" in SECTIONS:
        assert "still refers to it" in remove(shop, "product", "1")
        assert client.get("/products/1").status_code == 200
    assert remove(shop, "item", "9") == "Item not found"


def test_a_password_is_hashed_and_an_empty_field_keeps_it(
    shop: httpx2.Client, client: httpx2.Client, close: Close
) -> None:
    assert 'type="password"' in shop.get("/admin/user/edit/1").text
    saved(form(shop, "/admin/user/edit/1", password="Changed-1"))
    saved(form(shop, "/admin/user/edit/1", password="", bio="Hello."))
    saved(form(shop, "/admin/user/edit/2", is_active=None))
    assert client.get("/users/1").json()["bio"] == "Hello."
    assert client.get("/users/2").json()["is_active"] is False
    close()
    log_in(client, "ann", "Changed-1")
    answer = client.post("/token", data={"username": "ann", "password": "Password1"})
    assert answer.status_code == 401


@pytest.mark.every_database
@pytest.mark.parametrize("entity", VERSIONED)
def test_a_stale_edit_is_refused(
    shop: httpx2.Client, client: httpx2.Client, make: Make, entity: str
) -> None:
    path = f"/admin/{entity}/edit/1"
    stale = Page(shop.get(path).text).fields
    assert str(stale["version"]).isdigit()
    (row,) = (
        path for path in PATHS if re.fullmatch(rf"/\w+/{{{entity.replace('-', '_')}_id}}", path)
    )
    changes = {"status": "cancelled"} if entity == "order" else example_of(media_of("PATCH", row))
    saved(form(shop, path, **{name: str(value) for name, value in changes.items()}))
    for version in (stale["version"], "", "x", "\u00e9\u20ac", "1\r\nx: y", '"*"', "*", None):
        page = refused(send(shop, path, stale | {"version": version}))
        assert "has changed since the form was loaded" in page.alert, version


# Files


def import_file(
    browser: httpx2.Client, entity: str, text: str, content_type: str = "text/csv"
) -> httpx2.Response:
    """Send a file as the button of a list does."""
    token = found(r'"X-CSRF-Token": "([^"]+)"', browser.get(f"/admin/{entity}/list").text)
    headers = {"X-CSRF-Token": token, "Content-Type": content_type}
    return browser.post(f"/admin/{entity}/import", content=text.encode(), headers=headers)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "entity",
    [
        needing("products", "product"),
        needing("categories", "category"),
        needing("tags", "tag"),
        "user",
    ],
)
def test_a_list_is_exported_as_the_api_does(
    shop: httpx2.Client, client: httpx2.Client, entity: str, format: str
) -> None:
    path = {"category": "categories"}.get(entity, f"{entity}s")
    link = f"/admin/{entity}/export/{format}"
    assert link in Page(shop.get(f"/admin/{entity}/list").text).links
    exported, expected = shop.get(link), client.get(f"/{path}/export?format={format}")
    assert (exported.status_code, exported.text) == (200, expected.text)
    assert exported.headers["Content-Disposition"] == expected.headers["Content-Disposition"]
    assert exported.headers["Cache-Control"] == "no-store"


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_a_file_is_imported_whole_or_not_at_all(shop: httpx2.Client, client: httpx2.Client) -> None:
    answer = import_file(shop, "product", "sku,name,price\nL-1,Torch,7\nN-1,New,5\n")
    assert (answer.status_code, answer.text) == (200, "1 created, 1 changed, 0 unchanged")
    before = client.get("/products/").json()
    assert {p["sku"]: p["name"] for p in before} == {"L-1": "Torch", "T-1": "Tent", "N-1": "New"}
    line = '{"sku": "M-1", "name": "More", "price": 1}\n{"sku": "L-1", "price": -1}\n'
    answer = import_file(shop, "product", line, "application/jsonl")
    assert (answer.status_code, answer.text) == (
        409,
        "Line 2, price: Input should be greater than 0",
    )
    assert client.get("/products/").json() == before


@pytest.mark.needs("products")
def test_a_file_is_taken_as_people_have_it_and_as_it_is_exported(
    shop: httpx2.Client, client: httpx2.Client
) -> None:
    answer = import_file(shop, "product", "\ufeffSKU;Price;Stock_change\r\nL-1;7.500;2\r\n;;\r\n")
    assert (answer.status_code, answer.text) == (200, "0 created, 1 changed, 0 unchanged")
    for format, kind in (("csv", "text/csv"), ("jsonl", "application/jsonl")):
        file = shop.get(f"/admin/product/export/{format}").text
        assert import_file(shop, "product", file, kind).text == "0 created, 0 changed, 2 unchanged"
        client.patch("/products/1", json={"price": len(format)}).raise_for_status()
        answer = import_file(shop, "product", file, kind)
        assert (answer.status_code, answer.text.partition(": ")[2][:20]) == (
            409,
            "It has changed since",
        )


@pytest.mark.needs("products")
def test_a_file_may_be_larger_than_other_bodies(shop: httpx2.Client) -> None:
    row = "L-1,Lamp," + "x" * 4000 + "\n"
    answer = import_file(shop, "product", "sku,name,description\n" + row * 300)
    assert (answer.status_code, answer.text) == (200, "0 created, 1 changed, 299 unchanged")
    answer = import_file(shop, "product", "x", "text/plain")
    assert (answer.status_code, answer.text) == (
        409,
        "Send text/csv or application/jsonl, in UTF-8, or a form with it as the part `file`",
    )


@pytest.mark.needs("categories")
@pytest.mark.parametrize("token", ["", "x", None])
def test_no_file_is_imported_without_the_token_of_a_form(
    shop: httpx2.Client, client: httpx2.Client, token: str | None
) -> None:
    headers = {"Content-Type": "text/csv"} | ({} if token is None else {"X-CSRF-Token": token})
    answer = shop.post("/admin/category/import", content=b"slug,name\nx,X\n", headers=headers)
    assert answer.status_code == 403
    assert len(client.get("/categories/").json()) == 2


def test_what_has_no_file_has_no_buttons(shop: httpx2.Client) -> None:
    page = shop.get("/admin/item/list").text
    assert "/export/" not in page
    assert "/import" not in page
    assert "/import" not in shop.get("/admin/user/list").text
    assert shop.get("/admin/item/export/csv").status_code == 404
    assert shop.get("/admin/product/export/xml").status_code == 404
    assert import_file(shop, "item", "id\n").status_code == 404
    assert import_file(shop, "user", "username\n").status_code == 404


# Requests of others


@pytest.mark.parametrize("token", ["", "x", "\u00e9", "A" * 43, None])
def test_no_form_is_taken_without_its_token(
    shop: httpx2.Client, client: httpx2.Client, token: str | None
) -> None:
    for entity in LISTS:
        for path in ("create", "edit/1"):
            page = shop.get(f"/admin/{entity}/{path}")
            if page.status_code == 200:
                fields = Page(page.text).fields
                assert "csrf_token" in fields
                response = send(shop, f"/admin/{entity}/{path}", fields | {"csrf_token": token})
                assert (response.status_code, EXPIRED in response.text) == (403, True)
    headers = {} if token is None else {"X-CSRF-Token": token.encode()}
    response = shop.delete("/admin/item/delete?pks=1", headers=headers)  # type: ignore[arg-type]
    assert response.status_code == 403
    assert client.get("/items/1").json()["title"] == "Chair"
    data = {"username": "ann", "password": "Password1"} | ({"csrf_token": token} if token else {})
    assert shop.post("/admin/login", data=data).status_code == 403


def test_a_token_is_nothing_without_its_cookie(shop: httpx2.Client, client_at: At) -> None:
    fields = Page(shop.get("/admin/item/edit/1").text).fields | {"price": "2"}
    with client_at("127.0.0.1") as other:
        assert send(other, "/admin/item/edit/1", fields).status_code == 403
        other.cookies.set("csrf", str(fields["csrf_token"])[:42])
        assert send(other, "/admin/item/edit/1", fields).status_code == 403
    cookie = shop.cookies.jar
    assert [(c.name, c.has_nonstandard_attr("HttpOnly")) for c in cookie] == [("csrf", True)]


PAGES = [
    "/admin/",
    "/admin/login",
    "/admin/product/list",
    "/admin/order/details/1",
    "/admin/post/create",
    "/admin/user/edit/1",
    "/admin/item/details/99",
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_not_kept_and_load_nothing_from_elsewhere(shop: httpx2.Client, path: str) -> None:
    response = shop.get(path, headers={"Accept": "text/html"})
    assert response.headers["Cache-Control"] == "no-store"
    (policy,) = response.headers.get_list("Content-Security-Policy")
    scripts = re.findall("<script(?! type=.text/javascript. src=)([^>]*)>", response.text)
    nonces = {re.sub('^ nonce="(.+)"$', r"\1", script) for script in scripts}
    assert len(nonces) == 1
    assert {"default-src 'self'", "frame-ancestors 'none'"} < set(policy.split("; "))
    assert f"script-src 'self' 'nonce-{nonces.pop()}'" in policy.split("; ")
    assert policy not in shop.get(path).headers["Content-Security-Policy"]
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    links = Page(response.text).links
    assert links
    assert {urlsplit(link)[:2] for link in links} <= {("", ""), ("data", "")}
    for link in links:
        if "/statics/" in link or "/static-" in link:
            assert shop.get(link).status_code == 200, link
            assert "no-store" not in shop.get(link).headers.get("Cache-Control", "")


BAD = ["\0", "\ud800", "9" * 5000, "-1", "1.5", "' OR 1=1 --", "<script>x</script>", "%", "\u00b2"]


def escaped(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.every_database
@pytest.mark.parametrize("bad", BAD, ids=lambda text: ascii(text)[:12])
def test_no_parameter_is_a_fault(shop: httpx2.Client, bad: str) -> None:
    text = escaped(bad)
    names = ("page", "pageSize", "sortBy", "sort", "search", "category_id", "is_active", "status")
    paths = [f"{entity}/list?{n}={text}" for entity in ("product", "order") for n in names]
    paths += [f"item/{page}/{text}" for page in ("details", "edit", "export")]
    paths += [f"{text}/list", f"item/{text}", f"{text}/create", f"item/list?error={text}"]
    paths += [f"item/{text}/title/download/", f"item/7/title/{text}/", f"item/1/{text}/preview/"]
    paths += ["item/7/title/download/", "user/1/password_hash/download/", "item/1/title/preview/"]
    paths += [f"post/ajax/lookup?name={text}&term=a", f"post/ajax/lookup?name=tag_ids&term={text}"]
    for path in paths:
        response = shop.get(f"/admin/{path}")
        assert response.status_code in (200, 302, 400, 403, 404, 422), path
        assert "Traceback" not in response.text
        assert "<script>x" not in response.text


@pytest.mark.every_database
@pytest.mark.parametrize("bad", BAD, ids=lambda text: ascii(text)[:12])
@pytest.mark.parametrize("entity", LISTS)
def test_no_field_is_a_fault(shop: httpx2.Client, entity: str, bad: str) -> None:
    value: Any = bad.encode("utf-8", "surrogatepass")
    for path in (f"/admin/{entity}/create", f"/admin/{entity}/edit/1"):
        page = shop.get(path)
        if page.status_code == 200:
            fields = Page(page.text).fields
            for name in set(fields) - {"csrf_token"}:
                response = send(shop, path, fields | {name: value})
                assert response.status_code in (302, 400), (path, name, response.text)
                assert "<script>x" not in response.text
                assert "Traceback" not in response.text
    assert shop.get(f"/admin/{entity}/list").status_code == 200


@pytest.mark.needs("orders")
@pytest.mark.parametrize("bad", [*BAD, "1,x", ",", ""], ids=lambda text: ascii(text)[:12])
def test_no_deletion_is_a_fault(shop: httpx2.Client, client: httpx2.Client, bad: str) -> None:
    token = found(r'"X-CSRF-Token": "([^"]+)"', shop.get("/admin/").text)
    headers = {"X-CSRF-Token": token}
    response = shop.delete(f"/admin/order/delete?pks={escaped(bad)}", headers=headers)
    assert response.status_code in (400, 422)
    assert client.get("/orders/").json() != []
    assert shop.delete("/admin/order/delete", headers=headers).status_code == 400
    assert len(client.get("/orders/").json()) == 2


@pytest.mark.needs("posts", "tags")
def test_what_is_stored_is_escaped_where_it_is_shown(
    browser: httpx2.Client, client: httpx2.Client, make: Make
) -> None:
    bad = "\"'><script>alert(1)</script>{{ 7*7 }}"
    make("users", full_name=bad, bio=bad)
    make("categories", name=bad)
    make("products", name=bad, category_id=1, stock_quantity=2, description=bad)
    make("tags", name=bad)
    make("posts", title=bad, content=f"</textarea>{bad}", author_id=1, tag_ids=[1])
    order = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}], "shipping_address": bad}
    make("orders", **order)
    paths = [f"{e}/{p}" for e in ("user", "category", "product", "tag", "post", "order") for p in
             ("list", "details/1", "edit/1")]  # fmt: skip
    for path in ["", "user/list?search=%22%3E%3Cscript%3Ealert", *paths]:
        response = browser.get(f"/admin/{path}")
        assert response.status_code == 200
        assert "<script>alert" not in response.text, path
    assert "{{ 7*7 }}" in browser.get("/admin/tag/list").text
    assert rows_of(browser, "/admin/product/list", 5) == [bad]
    saved(form(browser, "/admin/post/edit/1", status="archived", tag_ids=None))
    post = client.get("/posts/1").json()
    assert (post["content"], post["tags"]) == (f"</textarea>{bad}", [])


# Who is let in


def test_in_open_mode_the_pages_are_for_clients_on_this_machine(
    shop: httpx2.Client, client_at: At
) -> None:
    assert is_let_in(shop)
    assert "/admin/logout" not in shop.get("/admin/").text
    with client_at("203.0.113.5") as other:
        for path in (*PAGES, "/admin/statics/css/main.css"):
            assert other.get(path).status_code == 403
    assert shop.get("/admin/", headers={"X-Forwarded-For": "203.0.113.5"}).status_code == 403


def test_in_closed_mode_everything_leads_to_the_log_in(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    paths = ["/admin/", "/admin/nothing/list", "/admin/post/ajax/lookup?name=author_id&term=a"]
    for entity in LISTS:
        pages = "list", "details/1", "create", "edit/1", "export/csv", "1/id/download/"
        paths += [f"/admin/{entity}/{page}" for page in (*pages, "1/id/preview/")]
    for path in paths:
        response = closed.get(path)
        assert (response.status_code, path_of(response)) == (302, "/admin/login"), path
    token = form_token(closed)
    for path in ("item/create", "item/edit/1", "item/import"):
        response = send(closed, f"/admin/{path}", {"csrf_token": token, "price": "7", "title": "x"})
        assert (response.status_code, path_of(response)) == (302, "/admin/login"), path
    response = closed.delete("/admin/item/delete?pks=1", headers={"X-CSRF-Token": token})
    assert (response.status_code, path_of(response)) == (302, "/admin/login")
    assert [item["title"] for item in client.get("/items/").json()] == ["Chair"]
    assert closed.get("/admin/login").status_code == 200
    assert closed.get("/admin/statics/css/main.css").status_code == 200


def test_who_is_no_user_or_has_another_password_is_refused_like_all_others(
    closed: httpx2.Client, client: httpx2.Client, make: Make
) -> None:
    make("users", username="old")
    root = log_in(client, "ann")
    old = {"is_superuser": True, "is_active": False}
    assert client.patch("/users/3", json=old, headers=root).status_code == 200
    tries = [("bob", "Wrong-1"), ("ann", "Wrong-1"), ("old", "Password1"), ("no", "Password1")]
    tries += [("", ""), ("a\0b", "x"), ("x" * 300, "x"), ("ann", "\0")]
    answers = [enter(closed, *names) for names in tries]
    assert {answer.status_code for answer in answers} == {400}
    pages = {re.sub('nonce="[^"]+"|type="text" value="[^"]*"', "", a.text) for a in answers[:4]}
    assert len(pages) == 1
    assert all("Wrong name or password" in answer.text for answer in answers)
    assert "token" not in closed.cookies
    assert not is_let_in(closed)


def test_the_cookie_of_a_log_in_is_for_this_site_alone(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    response = enter(closed, "Ann")
    assert (response.status_code, path_of(response)) == (302, "/admin/")
    cookie = response.headers["Set-Cookie"].lower()
    assert cookie.startswith("token=")
    for rule in ("httponly", "samesite=strict", "path=/", "max-age="):
        assert rule in cookie
    assert is_let_in(closed)
    assert "/admin/logout" in closed.get("/admin/").text
    saved(form(closed, "/admin/item/edit/1", price="3"))
    assert client.get("/items/1").json()["price"] == 3
    assert client.get("/users/", headers={"Cookie": f"token={closed.cookies['token']}"}).is_error
    token = closed.cookies["token"]
    head, claims, signature = token.split(".")
    for other in (f"{head}.{claims}.", f"{head}.{claims}.{signature[::-1]}", "x", "."):
        closed.cookies.set("token", other, domain="testserver.local", path="/")
        assert not is_let_in(closed)


def test_over_https_the_cookies_are_sent_over_https_alone(closed: httpx2.Client) -> None:
    closed.base_url = httpx2.URL("https://testserver")
    page = closed.get("/admin/login")
    log_in_set, forgotten = enter(closed, "Ann").headers.get_list("Set-Cookie")
    assert is_let_in(closed)
    for cookie, name in (
        (page.headers["Set-Cookie"], "csrf"),
        (log_in_set, "token"),
        (forgotten, "csrf"),
    ):
        assert cookie.startswith(f"__Host-{name}=")
        rules = {rule.strip().lower() for rule in cookie.split(";")[1:]}
        assert {"secure", "path=/", "httponly", "samesite=strict"} <= rules
        assert not [rule for rule in rules if rule.startswith("domain")]


def test_over_https_a_cookie_that_a_sibling_host_can_set_is_none_of_ours(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    closed.base_url = httpx2.URL("https://testserver")
    token = log_in(client, "ann")["Authorization"].removeprefix("Bearer ")
    assert closed.get("/admin/", headers={"Cookie": f"token={token}"}).status_code == 302
    assert closed.get("/admin/", headers={"Cookie": f"__Host-token={token}"}).status_code == 200


@pytest.mark.parametrize("cookie", ["x", "A" * 43])
def test_a_form_is_bound_to_the_log_in_whatever_cookie_another_host_sets(
    closed: httpx2.Client, client: httpx2.Client, client_at: At, cookie: str
) -> None:
    before = form_token(closed)
    enter(closed, "Ann")
    with client_at("127.0.0.1") as other:
        other.cookies.set("csrf", cookie)
        known_to_others = form_token(other)
    closed.cookies.set("csrf", cookie, domain="testserver.local", path="/")
    for token in (cookie, known_to_others, before):
        fields: Fields = {"csrf_token": token, "title": "x", "price": "1"}
        assert send(closed, "/admin/item/create", fields).status_code == 403
        headers = {"X-CSRF-Token": token}
        assert closed.delete("/admin/item/delete?pks=1", headers=headers).status_code == 403
        assert closed.post("/admin/logout", data={"csrf_token": token}).status_code == 403
    assert [item["title"] for item in client.get("/items/").json()] == ["Chair"]
    saved(form(closed, "/admin/item/edit/1", title="Stool"))


def test_a_form_token_is_no_signature_of_a_token(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    head, claims, signature = log_in(client, "ann")["Authorization"].split(".")
    signed = f"{head.removeprefix('Bearer ')}.{claims}"
    closed.cookies.set("csrf", signed)
    made = base64.urlsafe_b64encode(bytes.fromhex(form_token(closed))).rstrip(b"=").decode()
    assert made != signature
    forged = {"Authorization": f"Bearer {signed}.{made}"}
    assert client.get("/users/me", headers=forged).status_code == 401


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"is_superuser": False}, {"password": "Changed-1"}],
    ids=lambda change: next(iter(change)),
)
def test_a_log_in_ends_at_once_when_the_user_changes(
    closed: httpx2.Client, client: httpx2.Client, change: Json
) -> None:
    root = {"is_superuser": True}
    assert client.patch("/users/2", json=root, headers=log_in(client, "ann")).is_success
    enter(closed, "Ann")
    assert is_let_in(closed)
    body = change | {"current_password": "Password1"}
    response = client.patch("/users/1", json=body, headers=log_in(client, "ann"))
    assert response.status_code == 200, response.text
    assert not is_let_in(closed)
    token = form_token(closed)
    response = send(closed, "/admin/item/create", {"csrf_token": token, "title": "x", "price": "1"})
    assert (response.status_code, path_of(response)) == (302, "/admin/login")


def test_the_last_superuser_stays_on_the_pages_too(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    enter(closed, "Ann")
    stays = "The last superuser has to stay"
    assert remove(closed, "user", "1") == stays
    assert remove(closed, "user", "1,2") == f"User Ann: {stays}"
    for name in ("is_active", "is_superuser"):
        page = refused(form(closed, "/admin/user/edit/1", **{name: None}, full_name="New"))
        assert page.alert == stays
    saved(form(closed, "/admin/user/edit/1", full_name="Ann"))
    users = client.get("/users/", headers=log_in(client, "ann")).json()
    assert [(user["id"], user["full_name"]) for user in users] == [(1, "Ann"), (2, None)]
    saved(form(closed, "/admin/user/edit/2", is_superuser="y"))
    saved(form(closed, "/admin/user/edit/1", is_superuser=None))
    assert not is_let_in(closed)


def test_logging_out_ends_it_in_the_browser_and_everywhere_else(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    enter(closed, "Ann")
    elsewhere, stolen = log_in(client, "ann"), closed.cookies["token"]
    page = closed.get("/admin/")
    assert '<button form="log-out" class="btn btn-secondary' in page.text
    assert page.text.count("/admin/logout") == 1
    data = {"csrf_token": Page(page.text).fields["csrf_token"]}
    response = closed.post("/admin/logout", data=data)
    assert (response.status_code, path_of(response)) == (302, "/admin/login")
    assert "token" not in closed.cookies
    assert not is_let_in(closed)
    for headers in (elsewhere, {"Authorization": f"Bearer {stolen}"}):
        assert client.get("/users/me", headers=headers).status_code == 401


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_does_not_log_out(closed: httpx2.Client, client: httpx2.Client, method: str) -> None:
    enter(closed, "Ann")
    elsewhere = log_in(client, "ann")
    assert closed.request(method, "/admin/logout").status_code == 405
    assert closed.post("/admin/logout").status_code == 403
    assert is_let_in(closed)
    assert client.get("/users/me", headers=elsewhere).status_code == 200


def test_who_changes_their_own_password_or_address_enters_the_one_they_have(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    enter(closed, "Ann")
    path, before = "/admin/user/edit/1", client.get("/users/1", headers=log_in(client, "ann"))
    saved(form(closed, path, bio="Hello."))
    for change in ({"email": "new@example.com"}, {"password": "Changed-1"}):
        page = refused(form(closed, path, **change))
        assert page.alert == "Your current password is needed"
        page = refused(form(closed, path, **change, current_password="Wrong-1"))
        assert page.alert == "The current password is wrong"
    saved(form(closed, "/admin/user/edit/2", password="Changed-1"))
    saved(form(closed, path, email="new@example.com", current_password="Password1"))
    after = client.get("/users/1", headers=log_in(client, "ann")).json()
    changed = {"bio": "Hello.", "email": "new@example.com", "updated_at": after["updated_at"]}
    assert after == before.json() | changed


def test_ten_failures_lock_out_here_and_at_the_token_route_alike(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    for _ in range(10):
        assert enter(closed, "ann", "Wrong-1").status_code == 400
    refused = enter(closed, "ann")
    assert refused.status_code == 429
    assert "Too many log-ins have failed" in refused.text
    assert not is_let_in(closed)
    data = {"username": "ann", "password": "Password1"}
    assert client.post("/token", data=data).status_code == 429


# The dashboard


def figures(text: str) -> dict[str, str]:
    pattern = r'text-secondary">([^<]+)</div><div class="h1 mb-0">([^<]+)</div>'
    return dict(re.findall(pattern, text))


@pytest.mark.needs("orders")
def test_the_dashboard_of_an_empty_shop_has_zeros(browser: httpx2.Client) -> None:
    response = browser.get("/admin/")
    assert response.status_code == 200
    assert set(figures(response.text).values()) == {"0.00", "0"}
    assert response.text.count("<svg") == 0
    assert response.text.count("Nothing yet") == 6


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_the_dashboard_tells_the_numbers_of_the_api(
    shop: httpx2.Client, client: httpx2.Client, make: Make
) -> None:
    for _ in range(9):
        make("orders", user_id=2, items=[{"product_id": 1, "quantity": 10}])
    assert client.patch("/orders/3/status?new_status=cancelled").status_code == 200
    stats = client.get("/orders/stats/summary").json()
    days = client.get("/orders/stats/daily").json()
    text = shop.get("/admin/").text
    assert figures(text) == {
        "Revenue, 30 days": f"{sum(day['revenue'] for day in days):,.2f}",
        "Orders, 30 days": str(sum(day["orders"] for day in days)),
        "Revenue in all": f"{stats['total_revenue']:,.2f}",
        "Pending orders": str(stats["orders_by_status"]["pending"]),
    }
    assert figures(text)["Orders, 30 days"] == "10"
    drawn = [re.findall("<title>([^<]*)</title>", svg) for svg in text.split("<svg")[1:]]
    dates = [f"{datetime.fromisoformat(day['date']):%d %b}" for day in days]
    assert drawn == [
        [f"{date}: {day['revenue']:,.2f}" for date, day in zip(dates, days, strict=True)],
        [f"{date}: {day['orders']}" for date, day in zip(dates, days, strict=True)],
        [f"{status}: {count}" for status, count in stats["orders_by_status"].items()],
    ]
    orders = client.get("/orders/?sort=-id&limit=8").json()
    low = client.get("/products/low-stock?limit=8").json()
    spenders = client.get("/users/top-spenders?limit=8").json()
    names = {order["id"]: "Ann" if order["id"] == 1 else "bob" for order in orders}
    shown = Page(text)
    linked = [urlsplit(link).path for link in shown.links if "/order/details/" in link]
    assert linked == [f"/admin/order/details/{order['id']}" for order in orders]
    for link in shown.links:
        if "/details/" in link or "/list" in link:
            assert shop.get(link).status_code == 200, link
    assert [row for row in shown.rows if row] == [
        *([o["order_number"], names[o["id"]], o["status"], f"{o['total_amount']:,.2f}"]
          for o in orders),
        *([p["name"], p["sku"], str(p["stock_quantity"])] for p in low),
        *([s["username"], str(s["order_count"]), f"{s['total_spent']:,.2f}"] for s in spenders),
    ]  # fmt: skip
