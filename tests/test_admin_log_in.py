"""The log-in of the admin and its errors: how long it lasts, the way back, what people are told."""

import html
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx2
import jwt
import pytest
from conftest import KEY, Json, Make, log_in, needing
from test_admin import (
    EXPIRED,
    Page,
    _nothing_is_logged_as_a_fault,
    browser,
    closed,
    enter,
    form_token,
    is_let_in,
    saved,
    send,
    shop,
)
from test_service import behind

import db

# ruff: noqa: F401, F811 (fixtures of others)

At = Callable[[str], httpx2.Client]
Close = Callable[[], None]

CLICK = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NOT_SAVED = "This is what you had entered. It is not saved yet."


def claims_in(closed: httpx2.Client) -> dict[str, Any]:
    return jwt.decode(closed.cookies["token"], KEY, ["HS256"])


def let_pass(closed: httpx2.Client, seconds: int) -> None:
    """Have the cookie be what it would be this much later."""
    claims = claims_in(closed)
    claims |= {"iat": claims["iat"] - seconds, "exp": claims["exp"] - seconds}
    token = jwt.encode(claims, KEY, "HS256")
    closed.cookies.set("token", token, domain="testserver.local", path="/")


def led_to(answer: httpx2.Response) -> str:
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def logged_in_at(closed: httpx2.Client, path: str) -> str:
    """Log in on the page that this path is; where that leads."""
    data = {"username": "ann", "password": "Password1", "csrf_token": form_token(closed)}
    return led_to(closed.post(path, data=data))


# How long it lasts


def test_each_click_renews_the_log_in(closed: httpx2.Client) -> None:
    enter(closed, "ann")
    before = claims_in(closed)
    for _ in range(3):
        let_pass(closed, db.settings.token_ttl - 60)
        answer = closed.get("/admin/item/list", headers=CLICK)
        assert answer.status_code == 200
        assert f"max-age={db.settings.token_ttl};" in answer.headers["Set-Cookie"].lower()
        after = claims_in(closed)
        assert after["exp"] >= int(time.time()) + db.settings.token_ttl - 5
        same = "sub", "stamp", "sid"
        assert [after[name] for name in same] == [before[name] for name in same]
    let_pass(closed, db.settings.token_ttl + 1)
    assert led_to(closed.get("/admin/item/list", headers=CLICK)).startswith("/admin/login")


@pytest.mark.parametrize(
    "path", ["/admin/", needing("posts", "/admin/post/ajax/lookup?name=author_id&term=a")]
)
def test_what_a_page_asks_for_by_itself_is_no_click(closed: httpx2.Client, path: str) -> None:
    enter(closed, "ann")
    for accept in ("*/*", "application/json, text/javascript, */*; q=0.01", "text/event-stream"):
        answer = closed.get(path, headers={"Accept": accept})
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)


def test_the_token_of_an_api_client_is_not_renewed(
    closed: httpx2.Client, client: httpx2.Client
) -> None:
    header = log_in(client, "ann")
    answer = closed.get("/admin/item/list", headers=CLICK | header)
    assert answer.status_code == 200
    assert "token=" not in answer.headers.get("Set-Cookie", "")
    token = header["Authorization"].removeprefix("Bearer ")
    closed.cookies.set("token", token, domain="testserver.local", path="/")
    answer = closed.get("/admin/item/list", headers=CLICK)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)


def test_a_form_is_taken_that_was_loaded_before_the_cookie_was_renewed(
    closed: httpx2.Client,
) -> None:
    enter(closed, "ann")
    let_pass(closed, 3000)
    fields = Page(closed.get("/admin/item/edit/1").text).fields
    closed.get("/admin/item/list", headers=CLICK)
    saved(send(closed, "/admin/item/edit/1", fields | {"price": "7", "save": "Save"}))


def test_a_form_of_an_earlier_log_in_is_refused(closed: httpx2.Client) -> None:
    enter(closed, "ann")
    fields = Page(closed.get("/admin/item/edit/1").text).fields
    session = claims_in(closed)["sid"]
    enter(closed, "ann")
    assert claims_in(closed)["sid"] != session
    answer = send(closed, "/admin/item/edit/1", fields | {"save": "Save"})
    assert (answer.status_code, EXPIRED in answer.text) == (403, True)


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"is_superuser": False}, {"password": "Changed-1"}],
    ids=lambda change: next(iter(change)),
)
def test_a_log_in_that_was_renewed_ends_at_once_when_the_user_changes(
    closed: httpx2.Client, client: httpx2.Client, change: Json
) -> None:
    root = log_in(client, "ann")
    assert client.patch("/users/2", json={"is_superuser": True}, headers=root).is_success
    enter(closed, "bob")
    assert closed.get("/admin/", headers=CLICK).status_code == 200
    assert client.patch("/users/2", json=change, headers=root).is_success
    answer = closed.get("/admin/", headers=CLICK)
    assert (led_to(answer), "Set-Cookie" in answer.headers) == ("/admin/login", False)


def test_logging_out_when_the_log_in_has_ended_leads_to_the_log_in(closed: httpx2.Client) -> None:
    enter(closed, "ann")
    token = Page(closed.get("/admin/").text).fields["csrf_token"]
    let_pass(closed, 4000)
    assert led_to(closed.post("/admin/logout", data={"csrf_token": token})) == "/admin/login"


def test_logging_out_renews_nothing(closed: httpx2.Client) -> None:
    enter(closed, "ann")
    token = Page(closed.get("/admin/").text).fields["csrf_token"]
    answer = closed.post("/admin/logout", data={"csrf_token": token}, headers=CLICK)
    assert led_to(answer) == "/admin/login"
    assert "token" not in closed.cookies


# The way back


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/admin/", "/admin/"),
        ("/admin/product/list", "/admin/product/list"),
        (
            "/admin/product/list?search=a%26b&page=2&q=%2F%2F",
            "/admin/product/list?search=a%26b&page=2&q=%2F%2F",
        ),
        ("/admin/order/details/1", "/admin/order/details/1"),
        ("/admin/product/export/csv", "/admin/product/list"),
        (f"/admin/product/list?search={'a' * 3000}", "/admin/"),
    ],
)
def test_who_has_to_log_in_returns_to_the_page_that_was_asked_for(
    closed: httpx2.Client, path: str, back: str
) -> None:
    log_in_page = led_to(closed.get(path, headers=CLICK))
    wrong = {"username": "ann", "password": "Wrong-1", "csrf_token": form_token(closed)}
    assert closed.post(log_in_page, data=wrong).status_code == 400
    assert logged_in_at(closed, log_in_page) == back


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example",
        "/evil.example",
        "https://evil.example/",
        "\\\\evil.example",
        "item\\..\\..\\evil",
        "..",
        "../items/",
        "item/../../items",
        "%2e%2e/items",
        "%252e%252e/items",
        "item/%2e%2e/%2e%2e/",
        ".",
        "@evil.example",
        ":80/",
        "javascript:alert(1)",
        "item/list#x",
        "item/list\r\nSet-Cookie: a=b",
        "item/list?a\tb",
        "logout",
        "login",
        "login?next=item/list",
        "item//list",
        "\u00e9",
        "a" * 3000,
    ],
)
def test_a_log_in_leads_nowhere_but_to_pages_of_the_admin(
    closed: httpx2.Client, place: str
) -> None:
    assert logged_in_at(closed, f"/admin/login?{urlencode({'next': place})}") == "/admin/"


@pytest.mark.parametrize(
    ("path", "referer", "back"),
    [
        ("item/create", None, "item/create?show-again=yes"),
        ("item/edit/1?page=2", None, "item/edit/1?page=2&show-again=yes"),
        ("order/actions/ship", "https://a.example/admin/order/list?page=2", "order/list?page=2"),
        ("order/actions/ship", "https://a.example/elsewhere", ""),
        ("order/actions/ship", "https://[", ""),
        ("order/actions/ship", None, ""),
        ("item/import", "https://a.example/admin/item/../../x", ""),
    ],
)
def test_what_is_sent_after_the_log_in_has_ended_leads_to_the_log_in_and_back_to_the_form(
    closed: httpx2.Client, client: httpx2.Client, path: str, referer: str | None, back: str
) -> None:
    headers = CLICK | ({"Referer": referer} if referer else {})
    fields = {"title": "x", "price": "1", "csrf_token": "x"}
    place = led_to(closed.post(f"/admin/{path}", data=fields, headers=headers))
    assert logged_in_at(closed, place) == f"/admin/{back}"
    assert [item["title"] for item in client.get("/items/").json()] == ["Chair"]


def test_behind_a_prefix_the_way_back_keeps_it(
    behind: httpx2.Client,
    make: Make,
    close: Close,
    client: httpx2.Client,
) -> None:
    make("users", username="ann")
    assert client.patch("/users/1", json={"is_superuser": True}).status_code == 200
    close()
    behind.follow_redirects = False
    place = led_to(behind.get("/admin/item/list?page=1", headers=CLICK))
    assert place.startswith("/shop/admin/login?next=item")
    path = place.removeprefix("/shop")
    token = Page(behind.get(path).text).fields["csrf_token"]
    data = {"username": "ann", "password": "Password1", "csrf_token": token}
    assert led_to(behind.post(path, data=data)) == "/shop/admin/item/list?page=1"
    headers = CLICK | {"Referer": "https://testserver/shop/admin/item/list"}
    for gone in ("/admin/item/details/99", "/admin/x/y/z"):
        links = Page(behind.get(gone, headers=headers).text).links
        assert {"/shop/admin/item/list", "/shop/admin/"} <= set(links)
        assert [link for link in links if not link.startswith(("/shop/", "#"))] == []


def test_what_was_entered_is_shown_again_and_saved_with_the_next_click(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    before = Page(shop.get("/admin/item/edit/1").text).fields
    changed = before | {"title": "New", "price": "x", "description": "a\r\nb"}
    answer = send(shop, "/admin/item/edit/1", changed | {"show-again": "yes"})
    page = Page(answer.text)
    assert (answer.status_code, NOT_SAVED in answer.text, page.errors) == (200, True, {})
    shown = {name: value for name, value in page.fields.items() if name != "csrf_token"}
    assert shown["title"] == "New"
    assert (shown["price"], shown["version"]) == ("x", before["version"])
    assert client.get("/items/1").json()["title"] == "Chair"
    saved(send(shop, "/admin/item/edit/1", page.fields | {"price": "4", "save": "Save"}))
    assert client.get("/items/1").json()["title"] == "New"


def test_what_was_entered_before_the_row_changed_is_not_saved_over_it(
    shop: httpx2.Client,
    client: httpx2.Client,
) -> None:
    changed = Page(shop.get("/admin/item/edit/1").text).fields | {"title": "New"}
    assert client.patch("/items/1", json={"price": 9}).status_code == 200
    page = Page(send(shop, "/admin/item/edit/1", changed | {"show-again": "yes"}).text)
    assert send(shop, "/admin/item/edit/1", page.fields | {"save": "Save"}).status_code == 400
    assert client.get("/items/1").json()["title"] == "Chair"


def test_what_was_entered_is_shown_to_who_has_the_token_of_a_form_alone(
    shop: httpx2.Client,
) -> None:
    for token in ("x", None):
        fields = {"title": "<New>", "price": "1", "show-again": "yes", "csrf_token": token}
        answer = send(shop, "/admin/item/create", fields)
        assert (answer.status_code, "New" in answer.text) == (403, False)


def test_no_password_is_shown_again(shop: httpx2.Client) -> None:
    fields = Page(shop.get("/admin/user/create").text).fields
    sent = fields | {"username": "new", "password": "Secret-1", "show-again": "yes"}
    answer = send(shop, "/admin/user/create", sent)
    assert (answer.status_code, "Secret-1" in answer.text) == (200, False)
    assert Page(answer.text).fields["username"] == "new"


# What the log-in says


def told(answer: httpx2.Response) -> str:
    return Page(answer.text).alert.strip()


def test_a_wrong_password_is_told_and_the_name_stays(closed: httpx2.Client) -> None:
    answer = enter(closed, 'a"><b>', "Wrong-1")
    assert (answer.status_code, told(answer)) == (400, "Wrong name or password")
    page = Page(answer.text)
    assert (page.fields["username"], page.fields["password"]) == ('a"><b>', "")
    assert "<b>" not in answer.text


def test_who_is_no_superuser_is_told_so_after_the_right_password_alone(
    closed: httpx2.Client,
) -> None:
    answer = enter(closed, "bob", "Wrong-1")
    assert (answer.status_code, told(answer)) == (400, "Wrong name or password")
    answer = enter(closed, "bob")
    assert (answer.status_code, told(answer)) == (403, "Only superusers may come in here")
    assert Page(answer.text).fields["username"] == "bob"
    assert "token" not in closed.cookies


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_after_ten_failures_the_log_in_says_when_to_try_again(
    closed: httpx2.Client, name: str
) -> None:
    for _ in range(10):
        assert enter(closed, name, "Wrong-1").status_code == 400
    answer = enter(closed, name)
    assert answer.status_code == 429
    assert told(answer) == "Too many log-ins have failed. Please try again in 5 minutes"
    assert 280 <= int(answer.headers["Retry-After"]) <= 300
    assert Page(answer.text).fields["username"] == name


def test_a_log_in_page_that_has_expired_is_shown_anew(closed: httpx2.Client) -> None:
    data = {"username": "ann", "password": "Password1", "csrf_token": "x"}
    answer = closed.post("/admin/login?next=item/list", data=data)
    assert (answer.status_code, told(answer)) == (403, EXPIRED)
    data["csrf_token"] = str(Page(answer.text).fields["csrf_token"])
    assert led_to(closed.post("/admin/login?next=item/list", data=data)) == "/admin/item/list"


def test_when_there_is_no_time_to_look_at_the_password_the_log_in_says_so(
    closed: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = form_token(closed)
    monkeypatch.setattr(db.settings, "db_pool_timeout", 0)
    data = {"username": "ann", "password": "Password1", "csrf_token": token}
    answer = closed.post("/admin/login", data=data)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert told(answer) == "Too many requests are waiting. Please try again in a moment"


def test_in_open_mode_nobody_logs_in(shop: httpx2.Client) -> None:
    answer = enter(shop, "ann")
    sentence = "Without SECRET_KEY there are no log-ins: clients on this machine may do all"
    assert (answer.status_code, told(answer)) == (400, sentence)


# Errors

NOTHING_HERE = "There is nothing here: it may have been deleted, or the address has a mistake"
NO_PAGE = "There is no page at this address: it is that of a button"
ERRORS = [
    ("GET", "/admin/item/details/99", 404, NOTHING_HERE, ["/admin/item/list", "/admin/"]),
    ("GET", "/admin/nothing/list", 404, NOTHING_HERE, ["/admin/"]),
    ("GET", "/admin/a/b/c/d", 404, NOTHING_HERE, ["/admin/"]),
    needing(
        "transfers",
        "GET",
        "/admin/transfer/edit/1",
        403,
        "This cannot be done here",
        ["/admin/transfer/list"],
    ),
    ("GET", "/admin/order/actions/ship", 405, NO_PAGE, ["/admin/"]),
    ("GET", "/admin/logout", 405, NO_PAGE, ["/admin/"]),
    ("PUT", "/admin/item/list", 405, "PUT is not allowed here", ["/admin/item/list"]),
    ("GET", "/admin/item/list?a=%00", 422, "No parameter may have U+0000 in it", ["/admin/"]),
    ("POST", "/admin/item/create", 403, EXPIRED, ["/admin/item/create?show-again=yes"]),
    needing(
        "orders",
        "POST",
        "/admin/order/actions/ship",
        403,
        EXPIRED,
        ["/admin/order/list", "/admin/"],
    ),
]


def error_in(answer: httpx2.Response) -> str:
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    (sentence,) = re.findall('<h1 class="empty-title">(.*?)</h1>', answer.text)
    return html.unescape(sentence)


@pytest.mark.parametrize(("method", "path", "status", "sentence", "links"), ERRORS)
def test_an_error_is_a_page_with_a_sentence_and_a_way_back(
    closed: httpx2.Client, method: str, path: str, status: int, sentence: str, links: list[str]
) -> None:
    enter(closed, "ann")
    answer = closed.request(method, path, headers=CLICK)
    assert (answer.status_code, error_in(answer)) == (status, sentence)
    assert set(links) <= set(Page(answer.text).links)
    (policy,) = answer.headers.get_list("Content-Security-Policy")
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(("method", "path", "status", "sentence", "links"), ERRORS)
def test_a_client_that_asks_for_no_page_gets_the_problem_document(
    closed: httpx2.Client, method: str, path: str, status: int, sentence: str, links: list[str]
) -> None:
    enter(closed, "ann")
    page = closed.request(method, path, headers=CLICK)
    for accept in ("*/*", "application/json", ""):
        answer = closed.request(method, path, headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code == status
        assert answer.headers.get("Allow") == page.headers.get("Allow")


def test_an_error_is_beside_the_menu_for_who_is_logged_in_alone(closed: httpx2.Client) -> None:
    menu = "/admin/user/list"
    assert menu not in closed.get("/admin/a/b/c/d", headers=CLICK).text
    enter(closed, "ann")
    assert menu in closed.get("/admin/item/details/99", headers=CLICK).text


@pytest.mark.parametrize(
    ("referer", "links"),
    [
        ("http://testserver/admin/item/list?page=2", ["/admin/item/list?page=2"]),
        ("http://testserver/admin/item/details/99", []),
        ("http://testserver/docs", []),
        ("http://[", []),
        ("javascript:alert(1)", []),
    ],
)
def test_an_error_leads_back_to_the_page_that_led_there(
    shop: httpx2.Client,
    referer: str,
    links: list[str],
) -> None:
    answer = shop.get("/admin/item/details/99", headers=CLICK | {"Referer": referer})
    assert re.findall('<a class="btn btn-primary" href="(.*?)">Back<', answer.text) == links


def test_when_the_shop_is_busy_a_page_says_when_to_try_again(
    shop: httpx2.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(db.settings, "db_pool_timeout", 0)
    answer = shop.get("/admin/item/list?page=1", headers=CLICK)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert error_in(answer) == "Too many requests are waiting. Please try again in a moment"
    assert 'href="/admin/item/list?page=1">Try again<' in answer.text


def test_what_is_too_large_is_refused_with_a_page(shop: httpx2.Client) -> None:
    large = {"title": "x" * (db.settings.max_body_size + 1)}

    def parts() -> Any:
        yield urlencode(large).encode()

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (urlencode(large), parts()):  # the latter does not say its size before
        answer = shop.post("/admin/item/create", content=content, headers=CLICK | kind)
        sentence = "This is too much to be sent at once. Please shorten it"
        assert (answer.status_code, error_in(answer)) == (413, sentence)
        assert "is kept" not in answer.text


def test_what_another_site_sends_is_refused_with_a_page(
    shop: httpx2.Client,
) -> None:
    other = {"Sec-Fetch-Site": "cross-site"}
    answer = shop.post("/admin/item/create", headers=CLICK | other)
    assert answer.status_code == 403
    assert error_in(answer).startswith("A page of another site sent this")
    answer = shop.post("/items/", headers=CLICK | other)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_in_open_mode_a_browser_elsewhere_is_told_so_with_a_page(
    shop: httpx2.Client,
    client_at: At,
) -> None:
    with client_at("203.0.113.5") as other:
        answer = other.get("/admin/", headers=CLICK)
        assert (answer.status_code, "SECRET_KEY" in error_in(answer)) == (403, True)
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        answer = other.get("/items/", headers=CLICK)
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_form_stays_known_when_cookies_are_odd(closed: httpx2.Client) -> None:
    for token in ("x", "." * 2000, "e30.e30.e30"):
        closed.cookies.set("token", token, domain="testserver.local", path="/")
        assert not is_let_in(closed)
        data = {"username": "ann", "password": "Wrong-1", "csrf_token": form_token(closed)}
        assert told(closed.post("/admin/login", data=data)) == "Wrong name or password"


def test_who_edits_what_is_not_there_is_not_led_back_there(
    shop: httpx2.Client,
) -> None:
    fields = Page(shop.get("/admin/item/edit/1").text).fields
    answer = shop.post("/admin/item/edit/99", data=fields, headers=CLICK)
    assert answer.status_code == 404
    assert "/admin/item/edit/99" not in answer.text
    assert "/admin/item/list" in Page(answer.text).links
