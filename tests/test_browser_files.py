"""Files and customers in the admin, in a real browser: preview, apply, export, best customers."""

# ruff: noqa: F811

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
    is_within_the_screen,
    logged_in,
)

pytestmark = pytest.mark.system


def choose(page: Page, text: str, name: str = "products.csv") -> None:
    file = {"name": name, "mimeType": "", "buffer": text.encode()}
    page.locator("#import").set_input_files(file)  # type: ignore[arg-type]


@pytest.mark.needs("products")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_file_is_previewed_and_then_applied(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client, width: int
) -> None:
    admin.set_viewport_size({"width": width, "height": 844})
    product = demo_shop.get("/products/", params={"limit": 1}).json()[0]
    price = f"{product['price'] + 1:.2f}"
    new = f"WIDE-{width}"
    admin.goto("/admin/")
    if width < 768:
        admin.get_by_role("button", name="Toggle navigation").click()
    admin.get_by_role("link", name="Products").click()
    with admin.expect_file_chooser() as chosen:
        admin.get_by_text("Import", exact=True).click()
    text = f'sku,name,price\n{new},Wide {new},5\n{product["sku"]},"{product["name"]}",{price}\n'
    file = {"name": "products.csv", "mimeType": "text/csv", "buffer": text.encode()}
    chosen.value.set_files(file)  # type: ignore[arg-type]
    dialog = admin.get_by_role("dialog", name="Import products.csv")
    expect(dialog).to_contain_text("1 created, 1 changed, 0 unchanged")
    expect(dialog).to_contain_text(re.compile(rf"price\s+{product['price']:.2f} → {price}"))
    expect(dialog.get_by_role("status")).to_be_hidden()
    assert is_within_the_screen(admin)
    assert demo_shop.get("/products/", params={"q": new}).json() == []

    dialog.get_by_role("button", name="Apply").click()
    expect(admin.locator("#told")).to_have_text("1 created, 1 changed, 0 unchanged")
    expect(dialog).to_be_hidden()
    assert len(demo_shop.get("/products/", params={"q": new}).json()) == 1
    assert admin_troubles == []


@pytest.mark.needs("products")
def test_lines_that_are_wrong_are_shown_and_the_same_file_can_be_chosen_when_it_is_mended(
    admin: Page, admin_troubles: list[str]
) -> None:
    admin.goto("/admin/product/list")
    dialog = admin.get_by_role("dialog")
    choose(admin, "sku,name,price\nGOOD-1,Good,1\nBAD-1,Bad,-1\n")
    expect(dialog.get_by_role("row").nth(1)).to_have_text(
        re.compile(r"3\s*price\s*Input should be greater than 0")
    )
    expect(dialog.get_by_role("button", name="Apply")).to_be_hidden()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    choose(admin, "sku,name,price\nGOOD-1,Good,1\n")
    expect(dialog).to_contain_text("1 created")
    expect(dialog.get_by_role("button", name="Apply")).to_be_visible()
    admin.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    choose(admin, "x", "notes.csv")
    expect(dialog).to_contain_text("lines are wrong")
    expect(dialog.get_by_role("button", name="Apply")).to_be_hidden()
    assert admin_troubles == []


@pytest.mark.needs("products")
def test_after_the_change_of_another_the_preview_is_shown_again_before_it_is_applied(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    product = demo_shop.get("/products/", params={"limit": 1, "sort": "-id"}).json()[0]
    admin.goto("/admin/product/list")
    choose(admin, f"sku,price\n{product['sku']},1.50\n")
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("→ 1.50")
    answer = demo_shop.patch(f"/products/{product['id']}", json={"price": 2.25})
    assert answer.status_code == 200
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog.get_by_role("alert")).to_have_text(
        "Nothing was changed. What this file would do has changed since the preview"
    )
    expect(dialog).to_contain_text(re.compile(r"price\s+2.25 → 1.50"))
    dialog.get_by_role("button", name="Apply").click()
    expect(admin.locator("#told")).to_have_text("0 created, 1 changed, 0 unchanged")
    assert admin_troubles == ["409 /admin/product/import"]


@pytest.mark.needs("products")
def test_a_list_is_exported_with_one_click(admin: Page, admin_troubles: list[str]) -> None:
    admin.goto("/admin/product/list")
    with admin.expect_download() as download:
        admin.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == "products.csv"
    admin.get_by_role("button", name="Export as something else").click()
    with admin.expect_download() as download:
        admin.get_by_role("link", name="JSON Lines").click()
    assert download.value.suggested_filename == "products.jsonl"
    assert admin_troubles == []


@pytest.mark.needs("orders")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_best_customers_are_one_click_from_the_dashboard(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client, width: int
) -> None:
    admin.set_viewport_size({"width": width, "height": 844})
    admin.goto("/admin/")
    admin.locator(".card", has_text="Top spenders").get_by_role("link", name="All").click()
    names = [s["username"] for s in demo_shop.get("/users/top-spenders?limit=100").json()]
    expect(admin.locator("tbody tr, table tr:has(td)").locator("a")).to_have_text(names)
    assert is_within_the_screen(admin)
    admin.get_by_role("link", name=names[0], exact=True).click()
    expect(admin.get_by_role("heading", name="Spending")).to_be_visible()
    orders = admin.locator(".card", has=admin.get_by_role("heading", name="Orders", exact=True))
    orders.get_by_role("link", name="All").click()
    expect(admin.locator("tbody tr").first).to_contain_text(names[0])
    assert admin_troubles == []
