"""Ten tasks of a shopkeeper, in a real browser: each takes no more clicks than it has to."""

# ruff: noqa: F811 -- the fixtures are those of another file

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from conftest import Json
from playwright.sync_api import Dialog, Page, expect
from test_browser import (  # noqa: F401
    address,
    admin,
    admin_troubles,
    browser,
    demo_shop,
    logged_in,
    order,
    place_order,
    save,
)
from test_browser_forms import open_picker

pytestmark = [pytest.mark.system, pytest.mark.needs("orders")]

COUNTING = """addEventListener("pointerdown", () => {
  localStorage.clicks = Number(localStorage.clicks ?? 0) + 1
}, true)"""


@contextmanager
def clicks(page: Page, start: str, most: int) -> Iterator[None]:
    """From this page on, a task takes so many clicks; an answer to a question is one as well."""
    asked = list[str]()

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.add_init_script(COUNTING)
    page.on("dialog", accept)
    page.goto(start)
    page.evaluate("localStorage.clicks = 0")
    yield
    assert int(page.evaluate("localStorage.clicks")) + len(asked) == most


def search(page: Page, text: str) -> None:
    page.locator("#search-input").fill(text)
    page.locator("#search-input").press("Enter")


def status_of(shop: httpx2.Client, order: Json) -> str:
    return str(shop.get(f"/orders/{order['id']}").json()["status"])


@pytest.fixture(autouse=True)
def nothing_goes_wrong(admin_troubles: list[str]) -> Iterator[None]:
    yield
    assert admin_troubles == []


def test_an_order_is_found_by_its_number(admin: Page, order: Json) -> None:
    with clicks(admin, "/admin/order/list", 1):
        search(admin, order["order_number"])
        admin.get_by_role("link", name=order["order_number"]).click()
        expect(admin.get_by_role("heading", name=order["order_number"])).to_be_visible()


@pytest.mark.parametrize("field", ["username", "email", "full_name"])
def test_an_order_is_found_by_its_customer(
    admin: Page, demo_shop: httpx2.Client, order: Json, field: str
) -> None:
    user = demo_shop.get(f"/users/{order['user_id']}").json()
    with clicks(admin, "/admin/order/list", 1):
        search(admin, user[field].upper())
        admin.get_by_role("link", name=order["order_number"]).click()
        expect(admin.locator("tr", has_text=user["email"])).to_contain_text(user["full_name"])


def test_an_order_goes_on_to_its_next_status(
    admin: Page, demo_shop: httpx2.Client, order: Json
) -> None:
    with clicks(admin, "/admin/order/list", 2):
        admin.get_by_role("link", name=order["order_number"]).click()
        admin.get_by_role("button", name="Confirm", exact=True).click()
        expect(admin.locator("#told")).to_contain_text("Confirm")
    assert status_of(demo_shop, order) == "confirmed"
    buttons = admin.locator(".card-footer button").all_inner_texts()
    assert buttons == ["Ship", "Cancel"]


def test_a_product_gets_more_stock(admin: Page, demo_shop: httpx2.Client) -> None:
    product = demo_shop.get("/products/?sort=-id&limit=1").json()[0]
    with clicks(admin, "/admin/", 3):
        admin.get_by_role("link", name="Products").click()
        admin.locator("tr", has_text=product["sku"]).get_by_title("Edit").click()
        admin.get_by_label("Change of stock").fill("+5")
        save(admin)
        expect(admin.locator("#told")).to_contain_text(f"{product['name']} saved")
    now = demo_shop.get(f"/products/{product['id']}").json()["stock_quantity"]
    assert now == product["stock_quantity"] + 5


def test_a_product_is_made_with_a_new_category(admin: Page, demo_shop: httpx2.Client) -> None:
    with clicks(admin, "/admin/", 5):
        admin.get_by_role("link", name="Products").click()
        admin.get_by_role("link", name="New Product").click()
        admin.get_by_label("Name", exact=True).fill("Task lamp")
        admin.get_by_label("SKU").fill("TASK-1")
        admin.get_by_label("Price").fill("12.50")
        open_picker(admin, "Category")
        admin.locator(".select2-search__field").fill("Lamps of tasks")
        admin.get_by_role("option", name='New: "Lamps of tasks"').click()
        expect(admin.locator(".select2-selection").first).to_contain_text("Lamps of tasks")
        save(admin)
        expect(admin.locator("#told")).to_contain_text("Task lamp created")
    product = demo_shop.get("/products/by-sku/TASK-1").json()
    category = demo_shop.get(f"/categories/{product['category_id']}").json()
    assert category["name"] == "Lamps of tasks"


def test_a_file_is_imported(admin: Page, demo_shop: httpx2.Client) -> None:
    file = {"name": "new.csv", "mimeType": "text/csv", "buffer": b"sku,name,price\nTASK-2,Tub,5\n"}
    with clicks(admin, "/admin/", 3):
        admin.get_by_role("link", name="Products").click()
        with admin.expect_file_chooser() as chosen:
            admin.get_by_text("Import", exact=True).click()
        chosen.value.set_files(file)  # type: ignore[arg-type]
        admin.get_by_role("button", name="Apply").click()
        expect(admin.locator("#told")).to_have_text("1 created, 0 changed, 0 unchanged")
    assert demo_shop.get("/products/by-sku/TASK-2").json()["name"] == "Tub"


def test_a_list_is_exported(admin: Page) -> None:
    with (
        clicks(admin, "/admin/product/list", 1),
        admin.expect_download() as download,
    ):
        admin.get_by_role("link", name="Export", exact=True).click()
    assert download.value.suggested_filename == "products.csv"
    assert download.value.path().read_bytes().count(b"\r\n") > 200


def test_the_best_customers_are_listed(admin: Page, demo_shop: httpx2.Client) -> None:
    best = demo_shop.get("/users/top-spenders?limit=100").json()
    with clicks(admin, "/admin/", 1):
        admin.locator(".card", has_text="Top spenders").get_by_role("link", name="All").click()
        expect(admin.locator("tbody tr")).to_have_count(len(best))
        expect(admin.locator("tbody tr").first).to_contain_text(best[0]["email"])


def test_an_order_is_cancelled(admin: Page, demo_shop: httpx2.Client, order: Json) -> None:
    with clicks(admin, f"/admin/order/details/{order['id']}", 2):
        admin.get_by_role("button", name="Cancel", exact=True).click()
        expect(admin.locator("#told")).to_contain_text("Cancel")
    assert status_of(demo_shop, order) == "cancelled"


def test_ten_orders_are_shipped_at_once(admin: Page, demo_shop: httpx2.Client) -> None:
    orders = [place_order(demo_shop) for _ in range(10)]
    for each in orders:
        demo_shop.patch(f"/orders/{each['id']}/status?new_status=confirmed").raise_for_status()
    with clicks(admin, "/admin/order/list", 4):
        admin.locator("#filter-sidebar").get_by_role("link", name="confirmed").click()
        admin.locator("#select-all").check()
        admin.get_by_role("button", name="Actions").click()
        admin.get_by_role("button", name="Ship").click()
        expect(admin.locator("#told")).to_contain_text("Ship: ")
    assert {status_of(demo_shop, each) for each in orders} == {"shipped"}
