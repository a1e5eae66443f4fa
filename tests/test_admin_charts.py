"""What the admin shows as charts, times, amounts and Yes or No: the same way on every page."""

# ruff: noqa: F811 (a fixture that is imported is named by those who use it)

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from conftest import Make
from test_admin import Page, browser, shop  # noqa: F401

from kit.admin import Chart, Table
from kit.admin.dashboard import as_shown


def charts_of(client: httpx2.Client) -> list[str]:
    page = client.get("/admin/")
    assert page.status_code == 200
    return page.text.split("<svg")[1:]


def axis_of(chart: str) -> list[str]:
    return re.findall(r'text-anchor="end">([^<:]*)</text>', chart)


def cells_of(client: httpx2.Client, path: str) -> list[str]:
    page = client.get(path)
    assert page.status_code == 200, page.text
    return [cell for row in Page(page.text).rows for cell in row]


@pytest.mark.needs("payments")
def test_an_axis_of_money_is_shown_as_money_and_one_of_orders_without_decimals(
    shop: httpx2.Client,
    make: Make,
) -> None:
    make("orders", user_id=2, items=[{"product_id": 1, "quantity": 10}])
    revenue, orders, statuses = charts_of(shop)
    assert all(re.fullmatch(r"[0-9,]+\.[0-9]{2}", number) for number in axis_of(revenue))
    assert axis_of(revenue)[0] == "0.00"
    assert axis_of(orders) == ["0", "1", "2", "3"]
    assert axis_of(statuses) == ["0", "1", "2"]


@pytest.mark.needs("orders")
def test_each_bar_is_an_item_of_a_list_with_its_value(shop: httpx2.Client) -> None:
    for chart in charts_of(shop):
        assert 'role="list" aria-label="' in chart
        assert 'role="img"' not in chart
        items = re.findall(r'<g role="listitem">\s*<title>[^<]+: [0-9,.]+</title>', chart)
        assert len(items) == chart.count('class="bar"') in (5, 30)


@pytest.mark.needs("orders")
def test_where_nothing_was_sold_there_is_no_axis(browser: httpx2.Client) -> None:
    assert charts_of(browser) == []
    assert browser.get("/admin/").text.count("Nothing yet") == 6


@pytest.mark.parametrize(
    ("bars", "axis"),
    [
        ([Decimal("0.01")], ["0.00", "0.01"]),
        ([Decimal("1234.5"), Decimal(0)], ["0.00", "500.00", "1,000.00", "1,500.00"]),
        ([1234, 0], ["0", "500", "1,000", "1,500"]),
        ([20_000_000_000], ["0", *(f"{n},000,000,000" for n in (5, 10, 15, 20))]),
    ],
)
def test_the_numbers_of_an_axis_look_like_those_of_the_bars(
    bars: list[int | Decimal], axis: list[str]
) -> None:
    assert [*map(as_shown, Chart("Bars", dict(enumerate(bars))).axis)] == axis


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (datetime(2026, 11, 26, 5, 30, 59), "2026-11-26 05:30 UTC"),
        (datetime(2026, 11, 26, 5, 30, tzinfo=UTC), "2026-11-26 05:30 UTC"),
        (
            datetime(2026, 11, 26, 0, 30, tzinfo=timezone(timedelta(hours=2))),
            "2026-11-25 22:30 UTC",
        ),
        (Decimal("-1234.5"), "-1,234.50"),
        (12_345_678_901, "12,345,678,901"),
        (True, "Yes"),
        (False, "No"),
        (None, ""),
    ],
)
def test_a_value_is_shown_in_one_way(value: Any, shown: str) -> None:
    assert as_shown(value) == shown


def test_a_column_stands_to_the_right_if_all_of_it_is_numbers() -> None:
    cells = ["a", 1, Decimal(1), True, "1", None], ["b", 2, None, False, 1, None]
    rows = [(f"x/{number}", row) for number, row in enumerate(cells)]
    found = Table("Some", list("abcdef"), rows).numbers
    assert found == [False, True, True, False, False, False]
    assert Table("None", list("abcdef"), []).numbers == []


@pytest.mark.needs("products")
def test_a_list_and_the_page_of_a_row_show_amounts_times_and_yes_or_no_alike(
    browser: httpx2.Client, make: Make
) -> None:
    product = make("products", price=1234.5, stock_quantity=12345, is_active=False)
    created = f"{datetime.fromisoformat(product['created_at']):%Y-%m-%d %H:%M} UTC"
    in_list = cells_of(browser, "/admin/product/list")
    assert {"1,234.50", "12,345", "No", str(product["id"])} <= {*in_list}
    in_details = cells_of(browser, f"/admin/product/details/{product['id']}")
    assert {"1,234.50", "12,345", "No", created} <= {*in_details}


@pytest.mark.needs("orders")
def test_times_say_utc_in_lists_details_and_panels(shop: httpx2.Client) -> None:
    order = shop.get("/orders/1").json()
    created = f"{datetime.fromisoformat(order['created_at']):%Y-%m-%d %H:%M} UTC"
    assert created in cells_of(shop, "/admin/order/list")
    assert created in cells_of(shop, "/admin/order/details/1")
    user = f"/admin/user/details/{order['user_id']}"
    assert created in cells_of(shop, user)


def test_a_list_counts_its_rows_with_their_thousands_apart(
    browser: httpx2.Client, make: Make
) -> None:
    for number in range(3):
        make("items", title=f"Item {number}")
    assert "1 to 3 of 3" in browser.get("/admin/item/list").text
    assert "Nothing here" in browser.get("/admin/item/list?search=nothing-like-it").text
