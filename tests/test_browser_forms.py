"""The forms of the admin in a real browser: their pickers, and their rows of fields."""

# ruff: noqa: F811 -- the fixtures are those of another file

import re
from typing import Literal

import httpx2
import pytest
from conftest import Json
from playwright.sync_api import Page, expect
from test_browser import (  # noqa: F401
    address,
    admin,
    admin_troubles,
    browser,
    demo_shop,
    is_within_the_screen,
    logged_in,
    save,
)

pytestmark = pytest.mark.system


def product(shop: httpx2.Client, sku: str, stock: int) -> Json:
    body = {"name": f"Lamp {sku}", "sku": sku, "price": 24.5, "stock_quantity": stock}
    response = shop.post("/products/", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def open_picker(page: Page, label: str, number: int = 0) -> None:
    """Of the field with this label; of several, as in rows, the one with this number."""
    field = page.locator("label", has_text=re.compile(f"^{label}$")).nth(number)
    field.locator("xpath=..").locator(".select2-selection").first.click()


def choose(page: Page, typed: str, shown: str) -> None:
    page.locator(".select2-container--open .select2-search__field").fill(typed)
    page.get_by_role("option", name=shown, exact=True).click()


@pytest.mark.needs("orders")
def test_an_order_is_placed_with_two_products_that_are_found_by_name(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    one, two = product(demo_shop, "ROW-1", 10), product(demo_shop, "ROW-2", 3)
    admin.goto("/admin/order/create")
    open_picker(admin, "Customer")
    expect(admin.get_by_role("option")).to_have_count(20)  # before anything is typed
    user = demo_shop.get("/users/7").json()
    choose(admin, user["email"], f"{user['username']} {user['email']}")
    open_picker(admin, "Product")
    choose(admin, "lamp row-1", "Lamp ROW-1 (ROW-1) · 24.50 · 10 left")
    admin.get_by_role("button", name="Add a product").click()  # which opens its picker
    choose(admin, "row-2", "Lamp ROW-2 (ROW-2) · 24.50 · 3 left")
    admin.get_by_label("Quantity").nth(1).fill("4")
    save(admin)
    told = "Insufficient stock for 'Lamp ROW-2'. Available: 3, Requested: 4"
    expect(admin.get_by_text(told)).to_be_visible()
    expect(admin.locator(".entry").nth(1)).to_contain_text("Lamp ROW-2 (ROW-2) · 24.50 · 3 left")
    admin.get_by_label("Quantity").nth(1).fill("2")
    save(admin)
    expect(admin).to_have_url(re.compile("/admin/order/list$"))
    (newest,) = demo_shop.get("/orders/", params={"sort": "-id", "limit": 1}).json()
    order = demo_shop.get(f"/orders/{newest['id']}").json()
    lines = [(line["product_id"], line["quantity"]) for line in order["items"]]
    assert (order["user_id"], lines) == (7, [(one["id"], 1), (two["id"], 2)])
    assert admin_troubles == ["400 /admin/order/create"]


@pytest.mark.needs("orders")
def test_rows_are_added_and_taken_away(admin: Page, admin_troubles: list[str]) -> None:
    admin.goto("/admin/order/create")
    rows, quantity = admin.locator(".entry"), admin.get_by_label("Quantity")
    for _ in range(2):
        admin.get_by_role("button", name="Add a product").click()
        admin.keyboard.press("Escape")
    for number, text in enumerate("123"):
        quantity.nth(number).fill(text)
    rows.nth(1).get_by_role("button", name="Remove").click()
    expect(rows).to_have_count(2)
    assert [field.input_value() for field in quantity.all()] == ["1", "3"]
    names = [str(field.get_attribute("name")) for field in quantity.all()]
    assert len({*names}) == 2
    for _ in range(2):
        rows.first.get_by_role("button", name="Remove").click()
    expect(rows).to_have_count(1)  # an empty one
    expect(quantity).to_have_value("1")
    save(admin)
    expect(admin.get_by_text("Choose a customer")).to_be_visible()
    assert admin_troubles == ["400 /admin/order/create"]


@pytest.mark.needs("products")
def test_the_stock_of_a_product_is_changed_with_three_clicks(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    made = product(demo_shop, "STOCK-1", 10)
    admin.goto("/admin/")
    admin.get_by_role("link", name="Products").click()
    admin.locator("tbody tr", has_text="STOCK-1").locator("[href*='/edit/']").click()
    admin.get_by_label("Change of stock").click()
    admin.keyboard.type("-3")
    admin.keyboard.press("Enter")
    expect(admin).to_have_url(re.compile("/admin/product/list$"))
    assert demo_shop.get(f"/products/{made['id']}").json()["stock_quantity"] == 7
    assert admin_troubles == []


@pytest.mark.needs("products")
def test_a_product_gets_a_new_category_with_six_clicks(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    admin.goto("/admin/")
    admin.get_by_role("link", name="Products").click()
    admin.get_by_role("link", name="New Product").click()
    admin.get_by_label("Name", exact=True).click()
    for text in ("Lantern", "LANTERN-1", "12.50"):
        admin.keyboard.type(text)
        admin.keyboard.press("Tab")
    open_picker(admin, "Category")
    choose(admin, "Camping <b>", 'New: "Camping <b>"')
    expect(admin.locator(".select2-selection")).to_contain_text("Camping <b>")
    save(admin)
    expect(admin.locator("tbody tr", has_text="LANTERN-1")).to_contain_text("Camping <b>")
    made = demo_shop.get("/products/by-sku/LANTERN-1").json()
    assert demo_shop.get(f"/categories/{made['category_id']}").json()["name"] == "Camping <b>"
    assert admin_troubles == []


@pytest.mark.needs("posts", "tags")
def test_a_post_gets_a_new_tag_or_is_told_why_not(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    admin.goto("/admin/post/edit/2")
    open_picker(admin, "Tags")
    choose(admin, "x" * 51, f'New: "{"x" * 51}"')
    told = admin.get_by_role("alert")
    expect(told).to_have_text("String should have at most 50 characters")
    open_picker(admin, "Tags")
    choose(admin, "Fresh", 'New: "Fresh"')
    expect(admin.locator(".select2-selection--multiple")).to_contain_text("Fresh")
    expect(told).to_have_count(0)
    save(admin)
    expect(admin).to_have_url(re.compile("/admin/post/list$"))
    assert "Fresh" in [tag["name"] for tag in demo_shop.get("/posts/2").json()["tags"]]
    assert admin_troubles == ["409 /admin/tag/pick-new"]


@pytest.mark.needs("orders")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_rows_and_pickers_fit_the_screen(
    admin: Page, admin_troubles: list[str], width: int, scheme: Literal["light", "dark"]
) -> None:
    admin.set_viewport_size({"width": width, "height": 900})
    admin.emulate_media(color_scheme=scheme)
    admin.goto("/admin/order/create")
    admin.get_by_role("button", name="Add a product").click()
    expect(admin.get_by_role("option").nth(9)).to_be_visible()
    assert is_within_the_screen(admin)
    admin.get_by_role("option").first.click()
    expect(admin.locator(".entry").nth(1)).to_contain_text("left")
    assert is_within_the_screen(admin)
    assert admin_troubles == []
