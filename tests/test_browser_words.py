"""Forms of the admin in a real browser: what is marked, what is told, and that Save saves once."""

import re

import httpx2
import pytest
from playwright.sync_api import Page, expect
from test_browser import (  # noqa: F401
    address,
    admin,
    admin_troubles,
    browser,
    demo_shop,
    fill_product,
    is_within_the_screen,
    logged_in,
    save,
)

pytestmark = [pytest.mark.system, pytest.mark.needs("products")]

PLACE = "page=2&pageSize=20&sortBy=name&sort=asc"


def edit_the_first(page: Page, place: str = PLACE) -> str:
    """Open the form of the first row of a list; its id."""
    page.goto(f"/admin/product/list?{place}")
    page.locator("tbody tr").first.locator("[href*='/edit/']").click()
    expect(page.get_by_label("SKU")).to_be_visible()
    return str(re.findall("/edit/([0-9]+)", page.url)[0])


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_saved_is_told_on_the_list_as_it_was(
    admin: Page,  # noqa: F811
    address: str,  # noqa: F811
    admin_troubles: list[str],  # noqa: F811
    width: int,
) -> None:
    admin.set_viewport_size({"width": width, "height": 844})
    id = edit_the_first(admin)
    name = admin.get_by_label("Name", exact=True).input_value()
    admin.get_by_label("Stock quantity").fill(str(width))
    save(admin)
    expect(admin).to_have_url(f"{address}/admin/product/list?{PLACE}")
    told = admin.locator("#told")
    expect(told).to_contain_text(f"Product {name} saved")
    assert is_within_the_screen(admin)
    told.get_by_role("link", name="Show").click()
    expect(admin).to_have_url(f"{address}/admin/product/details/{id}")
    expect(told).to_be_hidden()
    assert admin_troubles == []


def test_a_row_that_is_deleted_is_told_on_the_list_as_it_was(
    admin: Page,  # noqa: F811
    address: str,  # noqa: F811
    demo_shop: httpx2.Client,  # noqa: F811
    admin_troubles: list[str],  # noqa: F811
) -> None:
    body = {"name": "Aaa", "sku": "AAA-1", "price": 1}
    assert demo_shop.post("/products/", json=body).status_code == 201
    admin.goto("/admin/product/list?sortBy=name&sort=asc&page=1")
    admin.get_by_role("link", name="Aaa").click()
    admin.get_by_role("link", name="Delete").click()
    admin.locator("#modal-delete").get_by_role("button", name="Delete").click()
    expect(admin).to_have_url(f"{address}/admin/product/list?sortBy=name&sort=asc&page=1")
    expect(admin.locator("#told")).to_have_text("Product Aaa deleted")
    assert admin_troubles == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_conflict_is_shown_and_can_be_saved_all_the_same(
    admin: Page,  # noqa: F811
    demo_shop: httpx2.Client,  # noqa: F811
    admin_troubles: list[str],  # noqa: F811
    width: int,
) -> None:
    admin.set_viewport_size({"width": width, "height": 844})
    id = edit_the_first(admin, "page=1&sort=desc")
    description = f"Changed at {width}"
    changed = demo_shop.patch(f"/products/{id}", json={"description": description})
    assert changed.status_code == 200
    admin.get_by_label("Price").fill("12.50")
    save(admin)
    differences = admin.locator("#changes tbody tr")
    expect(differences.first).to_contain_text(description)
    expect(differences.last).to_contain_text("12.50")
    expect(admin.get_by_label("Price")).to_have_value("12.50")
    assert is_within_the_screen(admin)

    admin.get_by_role("link", name="Load it anew").click()
    expect(admin.get_by_label("Description")).to_have_value(description)
    changed = demo_shop.patch(f"/products/{id}", json={"description": f"{description} again"})
    assert changed.status_code == 200
    admin.get_by_label("Price").fill("13.50")
    save(admin)
    admin.get_by_role("button", name="Save all the same").click()
    expect(admin.locator("#told")).to_contain_text("saved")
    product = demo_shop.get(f"/products/{id}").json()
    assert (product["price"], product["description"]) == (13.5, description)
    assert [trouble.split("?")[0] for trouble in admin_troubles] == [
        f"400 /admin/product/edit/{id}"
    ] * 2


def test_what_has_to_be_filled_in_is_marked_and_told_at_once_in_our_words(
    admin: Page,  # noqa: F811
    admin_troubles: list[str],  # noqa: F811
) -> None:
    admin.goto("/admin/product/create")
    marked = admin.locator("label.required-label")
    expect(marked).to_have_text(["Name", "SKU", "Price"])
    content = "label => getComputedStyle(label, '::before').content"
    assert marked.first.evaluate(content).startswith('"*"')
    save(admin)
    told = admin.locator(".invalid-feedback")
    expect(told).to_have_text(["Fill this in"] * 3)
    name = admin.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-describedby", "name-wrong")
    assert admin_troubles == ["400 /admin/product/create"]


def test_what_is_no_number_is_told_and_stays(
    admin: Page,  # noqa: F811
    admin_troubles: list[str],  # noqa: F811
) -> None:
    fill_product(admin, "LAMP-71", "")
    price = admin.get_by_label("Price")
    price.press_sequentially("12e")
    save(admin)
    told = admin.locator("#price-wrong")
    expect(told).to_have_text("A price such as 19.99, with at most 2 decimals")
    expect(told).to_be_visible()
    expect(price).to_be_focused()
    save(admin)
    expect(told).to_have_count(1)
    price.press_sequentially("0")
    price.fill("12.90")
    price.dispatch_event("wheel", {"deltaY": 100})
    expect(price).to_have_value("12.90")
    save(admin)
    expect(admin.locator("tbody tr", has_text="LAMP-71")).to_contain_text("12.90")
    assert admin_troubles == []


def test_a_form_is_sent_once_and_works_again_after_going_back(
    admin: Page,  # noqa: F811
    demo_shop: httpx2.Client,  # noqa: F811
) -> None:
    fill_product(admin, "LAMP-72", "2")
    stopped = admin.evaluate("""() => {
        const form = document.getElementById("form"), stopped = []
        form.addEventListener("submit", event => stopped.push(event.defaultPrevented))
        for (let n = 0; n < 3; n++) form.querySelector("[name=save]").click()
        return stopped
    }""")
    assert stopped == [False, True, True]
    expect(admin.locator("#told")).to_contain_text("Product Lamp LAMP-72 created")
    assert len(demo_shop.get("/products/", params={"q": "LAMP-72"}).json()) == 1
    admin.go_back()
    button = admin.get_by_role("button", name="Save", exact=True)
    expect(button).to_be_enabled()
    fill_product(admin, "LAMP-73", "3")
    admin.get_by_role("button", name="Save and add another").click()
    expect(admin.locator("#told")).to_contain_text("Product Lamp LAMP-73 created")
    expect(admin.get_by_label("SKU")).to_have_value("")
