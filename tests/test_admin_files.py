"""Importing a file in the admin: what it would do is shown, and then done or not; and customers."""

# ruff: noqa: F811

import html
import re
from typing import Any

import httpx2
import pytest
from conftest import Json
from test_admin import (  # noqa: F401
    Page,
    browser,
    closed,
    form,
    found,
    import_file,
    refused,
    rows_of,
    saved,
    shop,
)

NO_CHANGE = "There is nothing to change."


def ask(
    browser: httpx2.Client,
    entity: str,
    text: str | bytes,
    content_type: str = "text/csv",
) -> httpx2.Response:
    """Have a file previewed, as the button of a list does."""
    token = found(r'"X-CSRF-Token": "([^"]+)"', browser.get(f"/admin/{entity}/list").text)
    headers = {"X-CSRF-Token": token, "Content-Type": content_type}
    content = text.encode() if isinstance(text, str) else text
    return browser.post(f"/admin/{entity}/preview", content=content, headers=headers)


def told(answer: httpx2.Response) -> list[str]:
    """All that a preview says, a text for each element."""
    assert answer.status_code == 200, answer.text
    page = answer.text[answer.text.index("<") :]
    texts = (re.sub(r"\s+", " ", text).strip() for text in re.split("<[^>]*>", page))
    return [html.unescape(text) for text in texts if text]


def cells(answer: httpx2.Response) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in Page(answer.text).rows if row]


def digest_of(answer: httpx2.Response) -> str:
    return found('data-digest="([0-9a-f]{64})"', answer.text)


def apply(
    browser: httpx2.Client,
    entity: str,
    text: str,
    digest: str,
) -> tuple[int, str]:
    token = found(r'"X-CSRF-Token": "([^"]+)"', browser.get(f"/admin/{entity}/list").text)
    headers = {"X-CSRF-Token": token, "Content-Type": "text/csv", "If-Match": f'"{digest}"'}
    answer = browser.post(f"/admin/{entity}/import", content=text.encode(), headers=headers)
    return answer.status_code, answer.text


@pytest.fixture
def products(client: httpx2.Client) -> Any:
    return lambda: client.get("/products/").json()


FILE = (
    "sku,name,price,stock_change,category\n"
    "N-1,New lamp,5,,tents\n"
    "L-1,,18.99,2,Tents\n"
    "T-1,Tent,,,tents\n"
)


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_a_preview_says_what_a_file_would_do_and_does_nothing(
    shop: httpx2.Client,
    products: Any,
) -> None:
    before = products()
    answer = ask(shop, "product", FILE)
    assert told(answer)[:2] == [
        "1 created, 1 changed, 1 unchanged",
        "Nothing has been changed yet.",
    ]
    old = next(product for product in before if product["sku"] == "L-1")
    assert cells(answer) == [
        [
            "3",
            "L-1",
            f"price {old['price']:.2f} → 18.99"
            f" stock_quantity {old['stock_quantity']} → {old['stock_quantity'] + 2}"
            " category outdoor → tents",
        ],
        [
            "2",
            "N-1",
            "name New lamp , slug new-lamp , price 5.00 , stock_quantity 0 , is_active Yes ,"
            " category tents",
        ],
        ["4", "T-1"],
    ]
    assert products() == before


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_what_was_previewed_is_applied_and_told(
    shop: httpx2.Client,
    products: Any,
) -> None:
    digest = digest_of(ask(shop, "product", FILE))
    assert digest_of(ask(shop, "product", FILE)) == digest
    assert apply(shop, "product", FILE, digest) == (200, "1 created, 1 changed, 1 unchanged")
    prices = {product["sku"]: product["price"] for product in products()}
    assert prices == {"L-1": 18.99, "T-1": 99.5, "N-1": 5.0}


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_after_the_change_of_another_it_is_applied_only_when_it_was_previewed_again(
    shop: httpx2.Client,
    client: httpx2.Client,
    products: Any,
) -> None:
    digest = digest_of(ask(shop, "product", FILE))
    client.patch("/products/1", json={"price": 3}).raise_for_status()
    before = products()
    sentence = "What this file would do has changed since the preview"
    assert apply(shop, "product", FILE, digest) == (409, sentence)
    assert products() == before
    digest = digest_of(ask(shop, "product", FILE))
    assert apply(shop, "product", FILE, digest)[0] == 200


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_of_two_who_apply_at_once_what_changes_the_same_the_second_is_told(
    shop: httpx2.Client,
) -> None:
    files = [f"sku,stock_change\nL-1,{change}\n" for change in (1, 2)]
    digests = [digest_of(ask(shop, "product", file)) for file in files]
    answers = [
        apply(shop, "product", file, digest) for file, digest in zip(files, digests, strict=True)
    ]
    assert [status for status, _ in answers] == [200, 409]


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_a_preview_names_the_lines_that_are_wrong_and_they_cannot_be_applied(
    shop: httpx2.Client,
    products: Any,
) -> None:
    before = products()
    file = "sku,name,price,category\nA-1,A,x,\nL-1,Torch,7,\nB-1,,1,\nT-1,Tent,1,no-such\n"
    answer = ask(shop, "product", file)
    assert told(answer)[:2] == [
        "This file cannot be imported: lines are wrong",
        "Nothing has been changed. Please mend these lines and choose the file again.",
    ]
    assert cells(answer) == [
        ["2", "price", "Input should be an amount such as 79.99"],
        ["4", "name", "Field required"],
        ["5", "category", "Refers to nothing"],
    ]
    assert "data-digest" not in answer.text
    assert apply(shop, "product", file, "")[0] == 409
    assert products() == before


@pytest.mark.needs("products")
def test_no_more_than_the_first_hundred_lines_that_are_wrong_are_told(
    shop: httpx2.Client,
) -> None:
    answer = ask(shop, "product", "sku,price\n" + "A-1,x\n" * 250)
    assert "these lines, which are the first ones, and" in answer.text
    assert [row[0] for row in cells(answer)] == [str(line) for line in range(2, 102)]


@pytest.mark.needs("products")
def test_of_each_kind_the_first_twenty_rows_are_shown(
    shop: httpx2.Client,
) -> None:
    answer = ask(shop, "product", "sku,name,price\n" + "".join(f"A-{n},A,1\n" for n in range(450)))
    assert told(answer)[0] == "450 created, 0 changed, 0 unchanged"
    assert "Created: the first 20 of 450" in told(answer)
    assert [row[1] for row in cells(answer)] == [f"A-{n}" for n in range(20)]


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_a_preview_tells_how_rows_end_up_that_several_lines_are_about(
    shop: httpx2.Client,
) -> None:
    file = "sku,slug,price\nL-1,tent,5\nT-1,lamp,\nL-1,,6\n"
    answer = ask(shop, "product", file)
    assert told(answer)[0] == "0 created, 3 changed, 0 unchanged"
    assert [row[:2] for row in cells(answer)] == [["2", "L-1"], ["3", "T-1"]]
    assert "slug lamp → tent" in cells(answer)[0][2]
    assert cells(answer)[0][2].endswith("→ 6.00")
    assert cells(answer)[1][2] == "slug tent → lamp"
    assert apply(shop, "product", file, digest_of(answer))[0] == 200


@pytest.mark.needs("categories")
@pytest.mark.every_database
def test_a_preview_knows_rows_that_are_made_further_below(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    file = "slug,name,parent\nstoves,Stoves,cooking\ncooking,Cooking,outdoor\n"
    answer = ask(shop, "category", file)
    assert [row[2] for row in cells(answer)] == [
        "name Stoves , parent cooking",
        "name Cooking , parent outdoor",
    ]
    assert len(client.get("/categories/").json()) == 2
    assert apply(shop, "category", file, digest_of(answer)) == (
        200,
        "2 created, 0 changed, 0 unchanged",
    )


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_a_preview_touches_nothing_else_either(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    before = client.get("/posts/1").json()
    answer = ask(shop, "tag", "slug,name\nsale,Sold out\n")
    assert cells(answer) == [["2", "sale", "name Sale → Sold out"]]
    assert client.get("/posts/1").json() == before


@pytest.mark.needs("tags")
def test_a_file_that_changes_nothing_is_not_applied(
    shop: httpx2.Client,
) -> None:
    for file in ("slug,name\nsale,Sale\n", "slug,name\n", '{"slug": "sale"}'):
        media = "application/jsonl" if file.startswith("{") else "text/csv"
        answer = ask(shop, "tag", file, media)
        assert NO_CHANGE in told(answer)
        assert "data-digest" not in answer.text


@pytest.mark.needs("tags")
@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\0",
        b"\xff\xfe\0",
        b"slug,name\n\0,\0\n",
        b"slug,name\nx,\xe9\n",
        b'slug,name\n"x',
        b"slug;name\rx;y\r",
        b"slug,name,id\nx,y," + b"9" * 5000 + b"\n",
        b"slug,nope\nx,y\n",
        b"name\nx\n",
        b"slug,name\n" + b"x" * 300_000,
        b"\n" * 300_000,
    ],
)
def test_a_hostile_file_is_told_what_is_wrong_with_it(
    shop: httpx2.Client,
    client: httpx2.Client,
    file: bytes,
) -> None:
    for media in ("text/csv", "application/jsonl"):
        answer = ask(shop, "tag", file, media)
        assert told(answer)[0] in (
            "This file cannot be imported: lines are wrong",
            "0 created, 0 changed, 0 unchanged",
        )
    assert len(client.get("/tags/").json()) == 1


@pytest.mark.needs("tags")
def test_what_a_file_says_is_text_on_the_page_of_its_preview(
    shop: httpx2.Client,
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    answer = ask(shop, "tag", f"slug,name\nevil,{evil}\n")
    assert evil not in answer.text
    assert html.escape(evil) in answer.text
    assert evil not in ask(shop, "tag", f"slug,{evil}\nevil,x\n").text


@pytest.mark.needs("tags")
def test_nothing_is_previewed_for_others_and_where_there_is_no_import(
    shop: httpx2.Client,
) -> None:
    for token in ("", "x", "\u00e9"):
        headers = {"X-CSRF-Token": token.encode(), "Content-Type": "text/csv"}
        answer = shop.post("/admin/tag/preview", content=b"slug\n", headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 403
    for entity, status in (("item", 404), ("user", 404), ("tag", 409)):
        assert ask(shop, entity, "x", "text/plain").status_code == status
    assert shop.get("/admin/tag/preview").status_code == 405


@pytest.mark.needs("tags")
def test_a_preview_is_for_superusers(
    closed: httpx2.Client,
) -> None:
    answer = closed.post("/admin/tag/preview", content=b"slug\n")
    assert (answer.status_code, "/admin/login" in answer.headers["Location"]) == (302, True)
    assert closed.get("/admin/pages/spenders").status_code == 302


# Customers


@pytest.mark.needs("orders", "accounts", "payments")
@pytest.mark.every_database
def test_the_page_of_a_user_shows_orders_spending_and_accounts_with_links_to_all(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    spender = client.get("/users/top-spenders").json()[0]
    assert spender["username"] == "bob"
    page = Page(shop.get("/admin/user/details/2").text)
    number = next(row[0] for row in page.rows if row and row[0].startswith("ORD-"))
    assert number == client.get("/orders/2").json()["order_number"]
    assert ["1", f"{float(spender['total_spent']):,.2f}"] in page.rows
    for entity, ids in (("order", ["2"]), ("account", ["2"]), ("post", [])):
        column = "author_id" if entity == "post" else "user_id"
        link = f"/admin/{entity}/list?{column}=2"
        assert link in page.links
        assert rows_of(shop, link, 0) == ids
    assert client.patch("/orders/2/status?new_status=cancelled").status_code == 200
    assert ["0", "0.00"] in Page(shop.get("/admin/user/details/2").text).rows


@pytest.mark.needs("orders")
def test_a_list_of_what_belongs_to_one_row_says_to_whom(
    shop: httpx2.Client,
) -> None:
    page = shop.get("/admin/order/list?user_id=1").text
    assert "Customer: Ann" in page.split("Filters")[1]
    assert "Ann" not in shop.get("/admin/order/list?user_id=2").text.split("Filters")[1]
    for id in ("x", "0", "99", "\u0661", "9" * 5000, "-1", "1,2"):
        assert rows_of(shop, f"/admin/order/list?user_id={id}", 0) == []


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_all_top_spenders_are_on_a_page_of_their_own_most_first(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    assert "/admin/pages/spenders" in Page(shop.get("/admin/").text).links
    page = Page(shop.get("/admin/pages/spenders").text)
    spenders: list[Json] = client.get("/users/top-spenders").json()
    assert [row for row in page.rows if row] == [
        [s["username"], s["email"], str(s["order_count"]), f"{float(s['total_spent']):,.2f}"]
        for s in spenders
    ]
    assert {"/admin/user/details/1", "/admin/user/details/2"} <= {*page.links}
    assert shop.get("/admin/pages/nothing").status_code == 404


# Superusers


def new_user(**changes: str | None) -> dict[str, str | None]:
    given = {"username": "carla", "email": "carla@example.com", "password": "Password1"}
    return given | changes


@pytest.mark.every_database
@pytest.mark.parametrize("is_superuser", [True, False])
def test_a_superuser_is_made_when_a_user_is_created(
    shop: httpx2.Client,
    client: httpx2.Client,
    is_superuser: bool,
) -> None:
    saved(form(shop, "/admin/user/create", **new_user(is_superuser="y" if is_superuser else None)))
    user = client.get("/users/by-email/carla@example.com").json()
    assert (user["is_active"], user["is_superuser"]) == (True, is_superuser)


def test_the_api_makes_no_superuser_of_who_signs_up(client: httpx2.Client) -> None:
    answer = client.post("/users/", json=new_user() | {"is_superuser": True})
    assert answer.status_code == 422


def test_a_new_superuser_is_refused_like_any_other_user(
    shop: httpx2.Client,
) -> None:
    page = refused(form(shop, "/admin/user/create", **new_user(password="x", is_superuser="y")))
    assert [*page.errors] == ["password"]
    page = refused(form(shop, "/admin/user/create", **new_user(username="ANN", is_superuser="y")))
    assert page.errors == {"username": "Another user has this username"}


def test_the_last_superuser_stays_one_in_the_admin_too(
    closed: httpx2.Client,
    client: httpx2.Client,
) -> None:
    from test_admin import enter, remove

    enter(closed, "Ann")
    for change in ({"is_superuser": None}, {"is_active": None}):
        page = refused(form(closed, "/admin/user/edit/1", **change))
        assert "The last superuser has to stay" in page.alert
    assert "The last superuser has to stay" in remove(closed, "user", "1")
    saved(form(closed, "/admin/user/create", **new_user(is_superuser="y")))
    saved(form(closed, "/admin/user/edit/1", is_superuser=None))
