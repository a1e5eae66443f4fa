"""The log-in of the admin in a real browser: the way back, with what was entered."""

import re

import httpx2
import pytest
from conftest import Json
from playwright.sync_api import Browser, Page, expect
from test_browser import (
    PASSWORD,
    SUPERUSER,
    WHO_LOGS_OUT,
    address,
    admin,
    browser,
    demo_shop,
    logged_in,
    order,
    place_order,
    save,
    troubles_of,
)

# ruff: noqa: F401, F811 (fixtures of others)

pytestmark = pytest.mark.system

NOT_SAVED = "This is what you had entered. It is not saved yet."


def enter(page: Page, password: str = PASSWORD, name: str = SUPERUSER) -> None:
    page.get_by_label("Username or e-mail").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def expire_form(page: Page) -> None:
    page.evaluate("for (const f of document.getElementsByName('csrf_token')) f.value = 'x'")


@pytest.mark.needs("products")
def test_who_logs_in_is_where_they_wanted_to_be(browser: Browser, address: str) -> None:
    with browser.new_page(base_url=address) as page:
        troubles = troubles_of(page, address)
        page.goto("/admin/product/list?page=2")
        enter(page, "Password2")
        expect(page.get_by_role("alert")).to_have_text("Wrong name or password")
        expect(page.get_by_label("Username or e-mail")).to_have_value(SUPERUSER)
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{address}/admin/product/list?page=2")
        assert troubles == ["400 /admin/login?next=product%2Flist%3Fpage%3D2"]


@pytest.mark.needs("products", "categories")
def test_a_form_is_as_it_was_left_when_the_log_in_ends_meanwhile(
    admin: Page, demo_shop: httpx2.Client, address: str
) -> None:
    troubles = troubles_of(admin, address)
    category = demo_shop.get("/categories/").json()[0]["name"]
    admin.goto("/admin/product/create")
    admin.get_by_label("Name", exact=True).fill('Lamp "<b>"')
    admin.get_by_label("Description").fill("one\ntwo")
    admin.get_by_label("SKU").fill("KEPT-1")
    admin.get_by_label("Price").fill("12.50")
    admin.get_by_label("Is active").uncheck()
    admin.locator(".select2-selection").click()
    admin.locator(".select2-search__field").type(category[:4])
    admin.locator(".select2-results__option", has_text=category).first.click()
    admin.context.clear_cookies()
    save(admin)
    told = "Please log in again. What you entered is kept, and not saved yet."
    expect(admin.get_by_role("status")).to_have_text(told)
    enter(admin, "Password2")
    enter(admin)

    expect(admin.get_by_text(NOT_SAVED)).to_be_visible()
    expect(admin).to_have_url(f"{address}/admin/product/create")
    expect(admin.get_by_label("Name", exact=True)).to_have_value('Lamp "<b>"')
    expect(admin.get_by_label("Description")).to_have_value("one\ntwo")
    expect(admin.get_by_label("Price")).to_have_value("12.50")
    expect(admin.get_by_label("Is active")).not_to_be_checked()
    expect(admin.locator(".select2-selection")).to_contain_text(category)
    assert demo_shop.get("/products/", params={"q": "KEPT-1"}).json() == []
    save(admin)
    expect(admin.locator("tbody tr", has_text="KEPT-1")).to_be_visible()
    admin.goto("/admin/product/create?show-again=yes")
    expect(admin.get_by_label("SKU")).to_have_value("")
    assert admin.evaluate("sessionStorage.length") == 0
    assert troubles == ["400 /admin/login?next=product%2Fcreate%3Fshow-again%3Dyes"]


def test_a_form_that_has_expired_is_sent_again(admin: Page, address: str) -> None:
    admin.goto("/admin/item/create")
    admin.get_by_label("Title").fill("Stool")
    expire_form(admin)
    save(admin)
    expect(admin.get_by_role("heading", name="The form has expired")).to_be_visible()
    admin.get_by_role("link", name="Back to the form").click()
    expect(admin.get_by_text(NOT_SAVED)).to_be_visible()
    expect(admin.get_by_label("Title")).to_have_value("Stool")
    admin.get_by_label("Price").fill("-1")
    save(admin)
    expect(admin.locator(".invalid-feedback").first).to_be_visible()
    admin.get_by_label("Price").fill("4")
    save(admin)
    expect(admin.locator("tbody tr", has_text="Stool")).to_be_visible()


def test_no_password_is_kept(admin: Page) -> None:
    admin.goto("/admin/user/create")
    admin.get_by_label("Username").fill("kept")
    admin.get_by_label("Password", exact=True).fill("Secret-1")
    expire_form(admin)
    save(admin)
    expect(admin.get_by_role("link", name="Back to the form")).to_be_visible()
    kept = admin.evaluate("sessionStorage.getItem('entered')")
    assert ("kept" in kept, "Secret-1" in kept, "csrf" in kept) == (True, False, False)
    admin.get_by_role("link", name="Back to the form").click()
    expect(admin.get_by_label("Username")).to_have_value("kept")
    expect(admin.get_by_label("Password", exact=True)).to_have_value("")


def test_what_one_has_entered_is_not_shown_to_another(browser: Browser, address: str) -> None:
    with browser.new_page(base_url=address) as page:
        for name, seen in ((SUPERUSER, ""), (WHO_LOGS_OUT, "Stool")):
            page.goto("/admin/item/create")
            enter(page, name=name)
            expect(page.get_by_label("Title")).to_have_value("")
            page.get_by_label("Title").fill("Stool")
            page.context.clear_cookies()
            save(page)
            expect(page.get_by_label("Password")).to_be_visible()
            assert "Stool" in page.evaluate("sessionStorage.getItem('entered')")
            enter(page, name=WHO_LOGS_OUT)
            expect(page).to_have_url(f"{address}/admin/item/create")
            expect(page.get_by_label("Title")).to_have_value(seen)
            page.get_by_role("button", name="Logout").click()
            expect(page.get_by_label("Password")).to_be_visible()
            assert page.evaluate("sessionStorage.length") == 0


def test_what_is_too_much_to_be_sent_stays_in_the_form(admin: Page) -> None:
    admin.goto("/admin/item/create")
    admin.get_by_label("Title").fill("Stool")
    large = "x" * 1_100_000
    admin.get_by_label("Description").evaluate("(field, text) => field.value = text", large)
    save(admin)
    expect(admin.get_by_text("This is too much to be sent at once.")).to_be_visible()
    expect(admin.get_by_label("Title")).to_have_value("Stool")


@pytest.mark.needs("orders")
def test_the_dashboard_that_is_drawn_anew_keeps_no_log_in_alive(
    admin: Page, demo_shop: httpx2.Client
) -> None:
    with admin.expect_response(re.compile("/admin/$")) as asked:
        admin.goto("/admin/")
    assert "token=" in (asked.value.header_value("Set-Cookie") or "")
    with admin.expect_response(
        lambda r: r.url.endswith("/admin/") and r.request.resource_type == "fetch"
    ) as drawn:
        place_order(demo_shop)
    assert (drawn.value.status, drawn.value.header_value("Set-Cookie")) == (200, None)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/admin/login", "/admin/item/details/99999", "/admin/a/b/c"])
def test_the_log_in_and_errors_fit_the_screen(admin: Page, path: str, width: int) -> None:
    admin.set_viewport_size({"width": width, "height": 800})
    admin.goto(path)
    expect(admin.get_by_role("heading").first).to_be_visible()
    assert admin.evaluate("document.documentElement.scrollWidth") <= width
