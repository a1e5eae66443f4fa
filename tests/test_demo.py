"""The shop that `demo` makes up: its texts, its times and sums, and that a seed gives it again."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from conftest import Build, Make
from databases import HOME, SCRATCH, dump, empty
from sqlmodel import Session

import db
import main
from kit.fields import now
from kit.filling import Filling, in_order, likely_price, slug_of, spread, stride_of

SHOP: Any = main  # of which sections may have been taken out
WORDS = tomllib.loads((HOME / "demo.toml").read_text("utf-8"))
SECRET = {"password_hash", "stamp"}
Rows = dict[str, list[dict[str, Any]]]


def rows() -> Rows:
    """The rows by table, without what has to be another each time."""
    return {
        table.name: [{k: v for k, v in row.items() if k not in SECRET} for row in found]
        for table, found in dump(db.database.writer.engine)
    }


def filled(seed: int) -> Rows:
    empty(db.database.writer.engine)
    SHOP.demo(seed=seed)
    return rows()


def demo(_: Make) -> None:
    SHOP.demo()


@pytest.fixture
def shop(client: httpx2.Client, built: Callable[[Build], None]) -> Rows:
    built(demo)
    return rows()


def only(table: str, shop: Rows) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in shop[table]}


@pytest.mark.every_database
def test_the_same_seed_gives_the_same_rows_in_every_table(client: httpx2.Client) -> None:
    first, other = filled(7), filled(8)
    empty(db.database.writer.engine)
    subprocess.run(  # in a process of its own, where sets have another order
        [sys.executable, HOME / "main.py", "demo", "--seed", "7"],
        env={**os.environ, "DATABASE_URL": db.settings.database_url, "PYTHONHASHSEED": "1"},
        cwd=SCRATCH,
        capture_output=True,
        check=True,
    )
    assert {*first} >= {"item", "user"}
    assert rows() == first
    same = {name for name in first if other[name] == first[name]}
    assert same <= {"item", "category", "tag", "post_tag"}  # which stand in the file as they are


def test_no_password_is_the_same_and_a_user_can_log_in(
    client: httpx2.Client, capsys: pytest.CaptureFixture[str], close: Callable[[], None]
) -> None:
    told = []
    for _ in range(2):
        filled(7)
        told.append(re.findall(r"such as (\w+), is (\S+)", capsys.readouterr().out)[0])
    assert told[0][0] == told[1][0]
    assert told[0][1] != told[1][1]
    close()
    form = dict(zip(("username", "password"), told[1], strict=True))
    assert client.post("/token", data=form).status_code == 200


def test_names_and_addresses_of_users_go_together(shop: Rows) -> None:
    for user in shop["user"]:
        local, domain = user["email"].split("@")
        assert domain == "example.com"
        assert user["username"] == local.replace(".", "_")
        assert re.fullmatch(r"[a-z0-9_]{3,50}", user["username"])
        assert len(user["full_name"].split()) >= 2


def test_no_time_is_in_the_future_and_ids_go_by_time(shop: Rows) -> None:
    end = now().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for table in shop.values():
        times = [v for row in table for v in row.values() if isinstance(v, datetime)]
        assert all(time.replace(tzinfo=None) <= end for time in times)
    for name in {"user", "product", "order", "notification", "post", "transfer"} & {*shop}:
        made = [row["created_at"] for row in shop[name]]
        assert made == sorted(made), name


@pytest.mark.needs("orders")
def test_an_order_agrees_with_its_lines_and_comes_after_its_user_and_products(shop: Rows) -> None:
    users, products, lines = only("user", shop), only("product", shop), shop["order_line"]
    by_order = itertools.groupby(lines, lambda line: line["order_id"])
    baskets = {id: list(basket) for id, basket in by_order}
    for order in shop["order"]:
        basket = baskets[order["id"]]
        assert order["total_amount"] == sum(line["total_price"] for line in basket)
        assert 1 <= len(basket) <= 4
        assert order["created_at"] >= users[order["user_id"]]["created_at"]
        assert order["updated_at"] >= order["created_at"]
        assert order["shipping_address"].split(", ")[-1] in [c["name"] for c in WORDS["countries"]]
        for line in basket:
            product = products[line["product_id"]]
            assert line["unit_price"] == product["price"]
            assert line["total_price"] == line["unit_price"] * line["quantity"]
            assert product["created_at"] <= order["created_at"]
    assert {*baskets} == {order["id"] for order in shop["order"]}


@pytest.mark.needs("orders")
def test_some_customers_and_products_come_up_far_more_often_than_others(shop: Rows) -> None:
    for table, column in (("order", "user_id"), ("order_line", "product_id")):
        counts = Counter(row[column] for row in shop[table])
        assert max(counts.values()) > 2 * sorted(counts.values())[len(counts) // 2]


@pytest.mark.needs("notifications")
def test_users_are_told_of_each_status_in_the_words_of_the_service(
    client: httpx2.Client, shop: Rows
) -> None:
    told = defaultdict[int, list[dict[str, Any]]](list)
    for row in shop["notification"]:
        told[row["order_id"]].append(row)
    for order in shop["order"]:
        first, last = told[order["id"]][0], told[order["id"]][-1]
        assert first["message"] == f"Order {order['order_number']} was placed"
        assert first["created_at"] == order["created_at"]
        assert last["created_at"] == order["updated_at"]
        if order["status"] != "pending":
            assert last["message"] == f"Order {order['order_number']} is now {order['status']}"
    pending = next(o for o in shop["order"] if o["status"] == "pending")
    path = f"/orders/{pending['id']}/status?new_status=confirmed"
    client.patch(path).raise_for_status()
    (newest,) = client.get("/notifications/?sort=-id&limit=1").json()
    assert newest["message"] == f"Order {pending['order_number']} is now confirmed"


@pytest.mark.needs("payments")
def test_orders_that_were_confirmed_are_paid_and_cancelled_ones_paid_back(shop: Rows) -> None:
    payments, accounts = {p["order_id"]: p for p in shop["payment"]}, only("account", shop)
    assert len(payments) == len(shop["payment"])
    confirmed = {
        row["order_id"] for row in shop["notification"] if row["message"].endswith("confirmed")
    }
    assert {*payments} == confirmed
    for order in shop["order"]:
        if payment := payments.get(order["id"]):
            assert payment["amount"] == order["total_amount"]
            assert accounts[payment["account_id"]]["user_id"] == order["user_id"]
            is_cancelled = order["status"] == "cancelled"
            assert payment["refunded_at"] == (order["updated_at"] if is_cancelled else None)


@pytest.mark.needs("accounts")
def test_money_moves_between_accounts_that_were_there(client: httpx2.Client) -> None:
    for users in range(2, 8):
        empty(db.database.writer.engine)
        SHOP.demo(users=users, orders=0)
        made = only("account", rows())
        for transfer in rows()["transfer"]:
            for end in ("from_account_id", "to_account_id"):
                assert made[transfer[end]]["created_at"] <= transfer["created_at"]


@pytest.mark.needs("posts")
def test_posts_have_the_dates_of_their_status(shop: Rows) -> None:
    users = only("user", shop)
    for post in shop["post"]:
        assert (post["published_at"] is None) == (post["status"] == "draft")
        assert (post["view_count"] == 0) == (post["status"] == "draft")
        assert users[post["author_id"]]["created_at"] < post["created_at"]


@pytest.mark.needs("products")
def test_prices_are_such_as_shops_have_in_the_range_of_their_kind(shop: Rows) -> None:
    ranges = {kind["sku"]: kind["prices"] for kind in WORDS["products"]}
    for product in shop["product"]:
        least, most = ranges[product["sku"].partition("-")[0]]
        assert least <= product["price"] <= most + 1
        assert re.search(r"(\d\.50|\d\.90|\d9\.00)$", f"{product['price']:.2f}")


@pytest.mark.needs("products")
def test_far_more_products_than_combinations_have_names_of_their_own(
    client: httpx2.Client,
) -> None:
    SHOP.demo(products=0, users=0, orders=0)
    with Session(db.database.writer.engine) as session:
        fill = Filling(session, None, WORDS, 1)  # type: ignore[arg-type]
        count = 100_000
        every = itertools.islice(SHOP.demo_products(fill, count), count)
        seen = {(p["name"], p["slug"], p["sku"], p["category_id"]) for p in every}
    for column in range(3):
        assert len({row[column] for row in seen}) == count
    assert max(len(name) for name, *_ in seen) < 120
    numbered = [name for name, *_ in seen if ", No. " in name]
    assert 0 < len(numbered) < count


@pytest.mark.parametrize("count", [0, 1, 2, 2_000])
def test_any_number_of_users_is_made_and_each_has_a_name(client: httpx2.Client, count: int) -> None:
    SHOP.demo(users=count, **{"products": 1, "orders": 50} if hasattr(SHOP, "fill_orders") else {})
    made = rows().get("user", [])
    assert len({user["username"] for user in made}) == count
    assert ("order" in rows()) == (count > 0 and hasattr(SHOP, "fill_orders"))


# The file


def test_the_words_of_the_file_make_names_that_differ() -> None:
    people = [
        slug_of(f"{first} {last}")
        for country in WORDS["countries"]
        for first, last in itertools.product(country["first"], country["last"])
    ]
    kinds = [(kind["noun"], kind["category"]) for kind in WORDS["products"]]
    for names in (people, kinds, [kind["sku"] for kind in WORDS["products"]], WORDS["series"]):
        assert [name for name, n in Counter(names).items() if n > 1] == []
    names = [category["name"] for category in WORDS["categories"]]
    for kind in WORDS["products"]:
        assert kind["category"] in names
        assert kind["finish"] in WORDS["finishes"]


def test_a_file_that_is_no_toml_ends_the_command_in_one_line(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "demo.toml").write_text("[[posts\n")
    monkeypatch.setattr(db.migrations, "home", tmp_path)
    with pytest.raises(SystemExit, match=r"demo\.toml cannot be read: .* line 1"):
        SHOP.demo()
    assert client.get("/users/").json() == []


# The machinery


@pytest.mark.parametrize("total", [1, 2, 3, 4, 6, 90, 1760])
def test_a_stride_comes_to_every_place_once(total: int) -> None:
    assert {n * stride_of(total) % total for n in range(total)} == {*range(total)}


def test_moments_go_by_the_weights_of_days_and_hours() -> None:
    begin = datetime(2026, 1, 5)  # a Monday
    busy = {"week": [1, 1, 1, 1, 1, 0, 3], "day": [0] * 12 + [1] * 12}
    dice = Filling(None, None, {}, 1).dice("x")  # type: ignore[arg-type]
    moments = list(spread(1000, begin, 14, busy, dice))
    assert moments == sorted(moments)
    assert begin <= moments[0] < moments[-1] <= begin + timedelta(days=14)
    assert min(moment.hour for moment in moments) == 12
    by_day = Counter(moment.weekday() for moment in moments)
    assert by_day[5] == 0
    assert by_day[6] > 1.5 * max(by_day[day] for day in range(5))


def test_rows_of_groups_that_overlap_come_in_order() -> None:
    day = datetime(2026, 1, 1)
    times = [[0, 5, 9], [1], [2, 3, 4], []]
    groups = [
        (day + timedelta(n), [{"created_at": day + timedelta(t)} for t in group])
        for n, group in enumerate(times)
    ]
    assert [(row["created_at"] - day).days for row in in_order(groups)] == [0, 1, 2, 3, 4, 5, 9]


@pytest.mark.parametrize(
    ("part", "price"), [(0, "4.50"), (0.05, "14.90"), (0.5, "99.00"), (0.999, "199.00")]
)
def test_a_price_is_one_that_shops_have(part: float, price: str) -> None:
    assert likely_price((4, 204), part) == Decimal(price)
