"""The admin on a phone, and the documentation in the dark, in a real browser.

Where there is no Chromium these tests are skipped, or fail if BROWSER_REQUIRED is set.
"""
# ruff: noqa: F811 (a fixture that is imported is named by those who use it)

import re
from collections.abc import Iterator

import httpx2
import pytest
from conftest import Json
from databases import HOME
from playwright.sync_api import Browser, Locator, Page, StorageState, ViewportSize, expect
from test_browser import (  # noqa: F401
    address,
    browser,
    demo_shop,
    is_within_the_screen,
    logged_in,
    order,
    shop,
    troubles_of,
)

pytestmark = pytest.mark.system

SIZE: ViewportSize = {"width": 390, "height": 844}
THUMB = 36  # pixels, at least
UNREADABLE = (HOME / "tests" / "contrast.js").read_text()


@pytest.fixture
def phone(browser: Browser, address: str, logged_in: StorageState) -> Iterator[Page]:
    with browser.new_context(
        base_url=address, storage_state=logged_in, viewport=SIZE, has_touch=True
    ) as context:
        yield context.new_page()


@pytest.fixture
def phone_troubles(phone: Page, address: str) -> list[str]:
    return troubles_of(phone, address)


def is_in_view(found: Locator) -> bool:
    """Whether all of it is on the screen from left to right, with nothing to scroll."""
    box = found.bounding_box()
    assert box, found
    scrolled = found.evaluate(
        "e => { const t = e.closest('.table-responsive'); return t.scrollWidth > t.clientWidth }"
    )
    return box["x"] >= 0 and box["x"] + box["width"] <= SIZE["width"] and not scrolled


@pytest.mark.parametrize(
    ("entity", "labels"),
    [
        pytest.param(
            "order",
            ["ID", "Customer", "Status", "Total amount", "Created at"],
            marks=pytest.mark.needs("orders"),
        ),
        pytest.param(
            "product",
            ["ID", "SKU", "Price", "Stock quantity", "Category", "Is active"],
            marks=pytest.mark.needs("products"),
        ),
        ("user", ["ID", "E-mail", "Full name", "Is active", "Is superuser"]),
    ],
)
def test_each_value_of_a_row_is_seen_with_its_label(
    phone: Page, phone_troubles: list[str], entity: str, labels: list[str]
) -> None:
    phone.goto(f"/admin/{entity}/list")
    row = phone.locator("tbody tr").first
    cells = row.locator("td[data-label]")
    assert [cell.get_attribute("data-label") for cell in cells.all()] == labels
    for cell in [*cells.all(), row.locator(".name a")]:
        expect(cell).to_be_visible()
        assert is_in_view(cell)
        assert cell.evaluate("e => e.scrollWidth <= e.clientWidth || e.matches('a')")
    told = cells.first.evaluate("e => getComputedStyle(e, '::before').content")
    assert told == '"ID"'
    assert phone_troubles == []


@pytest.mark.needs("products")
def test_a_row_is_opened_chosen_and_edited_with_a_thumb(
    phone: Page, phone_troubles: list[str]
) -> None:
    phone.goto("/admin/product/list")
    row = phone.locator("tbody tr").first
    buttons = row.locator(".buttons a")
    assert buttons.count() == 2
    for button in [*buttons.all(), row.locator(".name")]:
        place = button.bounding_box()
        assert place
        assert min(place["width"], place["height"]) >= THUMB
    box = row.get_by_label("Select item")
    box.tap()
    expect(box).to_be_checked()
    buttons.first.tap()
    expect(phone).to_have_url(re.compile("/admin/product/edit/"))
    phone.go_back()
    row.locator(".name a").tap()
    expect(phone).to_have_url(re.compile("/admin/product/details/"))
    assert phone_troubles == []


@pytest.mark.needs("products")
def test_a_list_is_sorted_by_its_headings(phone: Page, phone_troubles: list[str]) -> None:
    phone.goto("/admin/product/list")
    phone.locator("thead").get_by_role("link", name="Price").tap()
    expect(phone.locator("th[aria-sort=ascending]")).to_have_text("Price")
    shown = phone.locator("td[data-label=Price]").all_inner_texts()
    prices = [float(price.replace(",", "")) for price in shown]
    assert len(prices) == 20
    assert prices == sorted(prices)
    assert phone_troubles == []


@pytest.mark.needs("orders")
def test_filters_stand_above_the_list_and_say_which_are_set(
    phone: Page, phone_troubles: list[str]
) -> None:
    phone.goto("/admin/order/list")
    line, choice = phone.locator(".filters"), phone.get_by_role("link", name="delivered")
    expect(line).to_have_text("Filters")
    expect(choice).to_be_hidden()
    line.tap()
    choice.tap()
    expect(line).to_have_text("Filters · Status: delivered")
    line.tap()
    phone.get_by_role("link", name="shipped").tap()
    line.tap()
    phone.get_by_role("link", name="Past 30 days").tap()
    expect(line).to_have_text("Filters · Status: shipped, delivered · Created: Past 30 days")
    above, below = line.bounding_box(), phone.locator("table").bounding_box()
    assert above
    assert below
    assert above["y"] < below["y"]
    states = {*phone.locator("td[data-label=Status]").all_inner_texts()}
    assert states == {"shipped", "delivered"}
    assert phone_troubles == []


# How many numbers and bars a chart has, whether it fits, and how many parts are not on the screen.
PARTS = """chart => {
  const numbers = [...chart.querySelectorAll("text[text-anchor=end]:not(.value, .label)")]
  const bars = [...chart.querySelectorAll(".place")], labels = [...chart.querySelectorAll(".label")]
  const outside = [...numbers, ...bars, ...labels].map(part => part.getBoundingClientRect())
    .filter(box => box.left < 0 || box.right > innerWidth)
  return [numbers.length, bars.length, chart.scrollWidth <= chart.clientWidth, outside.length]
}"""


@pytest.mark.needs("orders")
def test_a_chart_fits_with_its_axis_and_all_of_its_bars(
    phone: Page, phone_troubles: list[str]
) -> None:
    phone.goto("/admin/")
    charts = phone.locator(".chart")
    expect(charts).to_have_count(3)
    for number in range(3):  # each in one look: the dashboard may be drawn anew at any time
        count, bars, fits, outside = charts.nth(number).evaluate(PARTS)
        assert (count > 1, bars > 1, fits, outside) == (True, True, True, 0)
    assert phone_troubles == []


@pytest.mark.needs("orders")
def test_a_bar_tells_its_value_to_a_finger_and_to_a_screen_reader(phone: Page) -> None:
    phone.goto("/admin/")
    chart = phone.get_by_role("list", name="Orders by status")
    bars = chart.get_by_role("listitem")
    expect(bars).to_have_count(5)
    bar = chart.get_by_role("listitem", name=re.compile("^delivered: [0-9,]+$"))
    expect(bar).to_have_count(1)
    value = bar.locator(".value")
    expect(value).to_be_hidden()
    bar.locator(".bar").tap()
    expect(value).to_be_visible()


@pytest.mark.needs("posts", "payments")
def test_no_page_and_no_table_is_wider_than_a_phone(
    phone: Page, phone_troubles: list[str], demo_shop: httpx2.Client, order: Json
) -> None:
    demo_shop.patch(f"/orders/{order['id']}/status?new_status=confirmed").raise_for_status()
    phone.goto("/admin/")
    menu = phone.locator(".navbar-nav .nav-link")
    paths = [str(link.get_attribute("href")) for link in menu.all()]
    assert len(paths) == 13
    paths += [
        f"/admin/{entity}/details/{id}"
        for entity, id in [("order", order["id"]), ("product", 1), ("user", 1), ("post", 1)]
    ]
    paths += ["/admin/product/list?stock=Low&is_active=true", "/admin/user/create"]
    for path in paths:
        phone.goto(path)
        expect(phone.locator(".card").first).to_be_visible()
        assert is_within_the_screen(phone), path
        for table in phone.locator(".table-responsive").all():
            assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), path
    assert phone_troubles == []


# The documentation in the dark


def unreadable(page: Page) -> list[str]:
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")
    found: list[str] = page.evaluate(UNREADABLE)
    return found


@pytest.fixture(params=[1280, 390])
def dark(
    browser: Browser, shop: tuple[str, Json], request: pytest.FixtureRequest
) -> Iterator[Page]:
    with browser.new_page(
        base_url=shop[0], color_scheme="dark", viewport={"width": request.param, "height": 900}
    ) as page:
        yield page


def test_docs_can_be_read_in_the_dark(dark: Page, shop: tuple[str, Json]) -> None:
    troubles = troubles_of(dark, shop[0])
    dark.goto("/docs")
    routes = [dark.locator(f"#operations-items-{name}") for name in ("list_items", "create_item")]
    for route in routes:
        route.locator(".opblock-summary-control").click()
        route.get_by_role("button", name="Try it out").click()
        route.get_by_role("button", name="Execute").click()
        expect(route.locator(".live-responses-table")).to_be_visible()
    back = dark.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert back == "rgb(28, 32, 34)"
    assert unreadable(dark) == []
    assert is_within_the_screen(dark)
    dark.get_by_role("button", name="Authorize", exact=True).click()
    expect(dark.locator(".dialog-ux")).to_be_visible()
    assert unreadable(dark) == []
    assert troubles == ["401 /items/"]


def test_redoc_can_be_read_in_the_dark(dark: Page, shop: tuple[str, Json]) -> None:
    troubles = troubles_of(dark, shop[0])
    dark.goto("/redoc")
    route = dark.locator("[id$='/operation/list_items']")
    expect(route).to_be_visible()
    route.get_by_role("button", name="200").first.click()
    expect(route.get_by_text("Response Headers")).to_be_visible()
    assert unreadable(dark) == []
    assert is_within_the_screen(dark)
    assert troubles == []
