"""Races: many clients of a live server want the same at once, and its rules hold.

What each test asserts holds whoever comes first; nothing here depends on time.
"""

import itertools
from collections import Counter

import httpx2
import pytest
from conftest import Json, log_in, needing
from servers import (
    Call,
    Process,
    at_once,
    balances,
    create,
    create_account,
    create_order,
    create_product,
    create_user,
    details,
    sender,
    serving,
    statuses,
)
from sqlalchemy import NullPool, create_engine, update
from sqlmodel import col, select

from models import User

pytestmark = [pytest.mark.every_database, pytest.mark.system]

CLIENTS = 64


@pytest.mark.needs("orders")
def test_nothing_is_sold_twice(server: httpx2.Client) -> None:
    sell_what_there_is(server)


@pytest.mark.needs("orders")
def test_two_processes_sell_nothing_twice(own_database: str) -> None:
    with serving(own_database, "--workers", "2") as client:
        sell_what_there_is(client)


def sell_what_there_is(server: httpx2.Client) -> None:
    create_user(server)
    stock = {1: 20, 2: 30, 3: 40}
    for n, quantity in stock.items():
        create_product(server, n, quantity)
    # Lines in every order of the products, which is what deadlocks are made of.
    baskets = itertools.cycle(itertools.permutations(stock, 2))
    bodies = [
        {"user_id": 1, "items": [{"product_id": id, "quantity": 1 + n % 3} for id in basket]}
        for n, basket in zip(range(CLIENTS), baskets, strict=False)
    ]
    answers = at_once([sender(server, "POST", "/orders/", body) for body in bodies])
    sold: Counter[int] = Counter()
    for answer in answers:
        assert answer.status_code in (201, 400), answer.text
        for line in answer.json().get("items", []):
            sold[line["product_id"]] += line["quantity"]
    assert all(detail.startswith("Insufficient stock for 'P") for detail in details(answers))
    assert details(answers)  # there was not enough for all
    left = {p["id"]: p["stock_quantity"] for p in server.get("/products/").json()}
    assert left == {id: quantity - sold[id] for id, quantity in stock.items()}
    assert min(left.values()) >= 0
    placed = [answer.json() for answer in answers if answer.is_success]
    assert len({order["order_number"] for order in placed}) == len(placed)
    assert server.get("/orders/stats/summary").json()["total_orders"] == len(placed)
    noted = server.get("/notifications/?limit=100").json()
    assert sorted(note["order_id"] for note in noted) == sorted(order["id"] for order in placed)


@pytest.mark.needs("orders")
def test_the_last_pieces_go_to_as_many_as_there_are(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 10)
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    answers = at_once([sender(server, "POST", "/orders/", body)] * CLIENTS)
    assert statuses(answers) == {201: 10, 400: CLIENTS - 10}
    assert details(answers) == {"Insufficient stock for 'P1'. Available: 0, Requested: 1"}
    assert server.get("/products/1").json()["stock_quantity"] == 0


@pytest.mark.needs("orders")
def test_an_order_of_a_product_that_is_being_deleted_is_placed_or_404(
    server: httpx2.Client,
) -> None:
    create_user(server)
    calls: list[Call] = []
    for id in range(1, CLIENTS // 2 + 1):
        create_product(server, id, 10)
        body = {"user_id": 1, "items": [{"product_id": id, "quantity": 1}]}
        calls.append(sender(server, "POST", "/orders/", body))
        calls.append(sender(server, "DELETE", f"/products/{id}"))
    answers = at_once(calls)
    for ordered, deleted in zip(answers[0::2], answers[1::2], strict=True):
        found = (ordered.status_code, deleted.status_code)
        assert found in ((201, 409), (404, 204)), ordered.text + deleted.text


@pytest.mark.needs("orders")
def test_an_order_for_a_user_who_is_being_deleted_is_placed_or_404(server: httpx2.Client) -> None:
    create_product(server, 1, 1000)
    calls: list[Call] = []
    for id in range(1, CLIENTS // 2 + 1):
        create_user(server, f"user{id}")
        body = {"user_id": id, "items": [{"product_id": 1, "quantity": 1}]}
        calls.append(sender(server, "POST", "/orders/", body))
        calls.append(sender(server, "DELETE", f"/users/{id}"))
    answers = at_once(calls)
    assert statuses(answers[1::2]) == {204: CLIENTS // 2}
    assert set(statuses(answers[0::2])) <= {201, 404}, statuses(answers[0::2])
    placed = statuses(answers[0::2])[201]
    assert server.get("/products/1").json()["stock_quantity"] == 1000 - placed
    assert server.get("/orders/").json() == []


@pytest.mark.needs("orders")
def test_an_order_is_cancelled_once(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 10)
    create_account(server, 1)
    create_order(server)
    create(server, "/orders/1/payments", {"account_id": 1})
    path = "/orders/1/status?new_status=cancelled"
    answers = at_once([sender(server, "PATCH", path)] * CLIENTS)
    assert statuses(answers) == {200: 1, 400: CLIENTS - 1}
    assert details(answers) == {"Cannot transition from cancelled to cancelled"}
    assert server.get("/products/1").json()["stock_quantity"] == 10
    assert balances(server) == [1]
    assert len(server.get("/notifications/").json()) == 3  # placed, confirmed, cancelled


@pytest.mark.needs("payments")
def test_an_order_is_paid_once(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 10)
    for _ in range(4):
        create_account(server, 1)
    create_order(server)
    calls = [sender(server, "POST", "/orders/1/payments", {"account_id": n}) for n in (1, 2, 3, 4)]
    answers = at_once(calls * (CLIENTS // 4))
    assert statuses(answers) == {201: 1, 400: CLIENTS - 1}
    assert sorted(balances(server)) == [0.7, 1, 1, 1]
    assert len(server.get("/orders/1/payments").json()) == 1


@pytest.mark.needs("payments")
def test_paying_and_cancelling_at_once_leaves_no_money_behind(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 1000)
    create_account(server, 100)
    pairs: list[Call] = []
    for id in range(1, CLIENTS // 2 + 1):
        create_order(server)
        pairs.append(sender(server, "POST", f"/orders/{id}/payments", {"account_id": 1}))
        pairs.append(sender(server, "PATCH", f"/orders/{id}/status?new_status=cancelled"))
    answers = at_once(pairs)
    assert set(statuses(answers[0::2])) <= {201, 400}
    assert statuses(answers[1::2]) == {200: CLIENTS // 2}
    assert balances(server) == [100]
    assert server.get("/products/1").json()["stock_quantity"] == 1000


@pytest.mark.needs("transfers")
def test_transfers_in_all_directions_keep_the_sum(server: httpx2.Client) -> None:
    create_user(server)
    for _ in range(5):
        create_account(server, 1)
    ways = itertools.cycle(itertools.permutations(range(1, 6), 2))
    bodies = [
        {"from_account_id": a, "to_account_id": b, "amount": (0.1, 0.7, 1.3, 0.55)[n % 4]}
        for n, (a, b) in zip(range(CLIENTS * 4), ways, strict=False)
    ]
    calls = [sender(server, "POST", "/transfers/", body) for body in bodies]
    moved = 0
    for _ in range(4):
        now, calls = calls[:CLIENTS], calls[CLIENTS:]
        answers = at_once(now)
        assert set(statuses(answers)) <= {201, 400}, statuses(answers)
        assert details(answers) <= {"Insufficient funds"}
        moved += statuses(answers)[201]
        assert sum(round(100 * balance) for balance in balances(server)) == 500
        assert min(balances(server)) >= 0
    last = server.get("/transfers/?limit=1&count=true")
    assert last.headers["X-Total-Count"] == str(moved)


@pytest.mark.parametrize("way", ["demote", "deactivate", "soft", "delete"])
def test_of_two_superusers_who_remove_each_other_and_themselves_one_stays(
    closed_server: Process, way: str
) -> None:
    server, engine = closed_server.client, create_engine(closed_server.url, poolclass=NullPool)
    active = select(User.id).where(User.is_active, User.is_superuser)
    for n in (1, 3, 5):
        pair = [create_user(server, f"user{id}")["id"] for id in (n, n + 1)]
        with engine.begin() as connection:
            connection.execute(update(User).values(is_superuser=col(User.id).in_(pair)))
        tokens = [log_in(server, f"user{id}") for id in pair]
        calls = [remover(server, way, id, token) for id in pair for token in tokens]
        answers = at_once(calls * 4)
        assert set(statuses(answers)) <= {200, 204, 400, 401, 403, 404}
        with engine.connect() as connection:
            assert len(connection.execute(active).all()) == 1
    assert "The last superuser has to stay" in details(answers)


def remover(server: httpx2.Client, way: str, id: int, headers: dict[str, str]) -> Call:
    body = {"demote": {"is_superuser": False}, "deactivate": {"is_active": False}}.get(way)
    path = f"/users/{id}/soft" if way == "soft" else f"/users/{id}"
    return sender(server, "PATCH" if body else "DELETE", path, body, headers)


def test_a_username_is_given_once(server: httpx2.Client) -> None:
    bodies = [
        {"username": name, "email": f"u{n}@example.com", "password": "Password1"}
        for n, name in zip(range(CLIENTS), itertools.cycle(["ann", "Ann", "ANN"]), strict=False)
    ]
    answers = at_once([sender(server, "POST", "/users/", body) for body in bodies])
    assert statuses(answers) == {201: 1, 409: CLIENTS - 1}
    assert details(answers) == {"username already exists"}
    assert len(server.get("/users/").json()) == 1


@pytest.mark.parametrize("collection", [needing("posts", "posts"), needing("products", "products")])
def test_equal_names_get_different_slugs(server: httpx2.Client, collection: str) -> None:
    create_user(server)
    bodies: dict[str, list[Json]] = {
        "posts": [{"title": "Hello there", "content": "x", "author_id": 1}] * 32,
        "products": [{"name": "Hello there", "price": 1, "sku": f"H-{n}"} for n in range(32)],
    }
    calls = [sender(server, "POST", f"/{collection}/", body) for body in bodies[collection]]
    answers = at_once(calls)
    assert statuses(answers) == {201: 32}
    expected = {"hello-there", *(f"hello-there-{n}" for n in range(2, 33))}
    assert {answer.json()["slug"] for answer in answers} == expected


@pytest.mark.needs("products")
def test_no_change_of_the_stock_is_lost(server: httpx2.Client) -> None:
    create_product(server, 1, 10)
    changes = [3, -1] * (CLIENTS // 2)
    calls = [sender(server, "POST", "/products/1/stock", {"change": n}) for n in changes]
    answers = at_once(calls)
    taken = [n for n, answer in zip(changes, answers, strict=True) if answer.status_code == 200]
    assert set(statuses(answers)) <= {200, 400}
    assert server.get("/products/1").json()["stock_quantity"] == 10 + sum(taken)


@pytest.mark.needs("posts")
def test_every_view_is_counted(server: httpx2.Client) -> None:
    create_user(server)
    create(server, "/posts/", {"title": "x", "content": "x", "author_id": 1})
    answers = at_once([sender(server, "POST", "/posts/1/views")] * CLIENTS)
    assert statuses(answers) == {200: CLIENTS}
    counts = sorted(answer.json()["view_count"] for answer in answers)
    assert counts == list(range(1, CLIENTS + 1))
    assert server.get("/posts/1").json()["view_count"] == CLIENTS


@pytest.mark.needs("categories")
def test_two_categories_never_come_under_each_other(server: httpx2.Client) -> None:
    calls: list[Call] = []
    for n in range(1, CLIENTS, 2):
        create(server, "/categories/", {"name": f"C{n}"})
        create(server, "/categories/", {"name": f"C{n + 1}"})
        calls.append(sender(server, "PATCH", f"/categories/{n}", {"parent_id": n + 1}))
        calls.append(sender(server, "PATCH", f"/categories/{n + 1}", {"parent_id": n}))
    answers = at_once(calls)
    for pair in zip(answers[0::2], answers[1::2], strict=True):
        assert statuses(pair) == {200: 1, 400: 1}, [answer.text for answer in pair]
    assert details(answers) == {"A category cannot be its own ancestor"}
    tree = server.get("/categories/tree").json()
    assert [len(root["children"]) for root in tree] == [1] * (CLIENTS // 2)


@pytest.mark.needs("posts", "tags")
def test_a_post_shows_a_tag_as_it_is_under_its_etag(server: httpx2.Client) -> None:
    for name in ("Old", "Other"):
        create(server, "/tags/", {"name": name})
    create_user(server)
    post = {"title": "A", "content": "B", "author_id": 1, "tag_ids": [2]}
    create(server, "/posts/", post)
    for n in range(20):
        calls = [
            sender(server, "PATCH", "/posts/1", {"tag_ids": [1]}),
            sender(server, "PATCH", "/tags/1", {"name": f"Name {n}"}),
        ]
        patched, renamed = at_once(calls)
        assert (patched.status_code, renamed.status_code) == (200, 200)
        now = server.get("/posts/1")
        changed_since = now.headers["ETag"] != patched.headers["ETag"]
        assert changed_since or now.json() == patched.json()
        assert now.json()["tags"][0]["name"] == f"Name {n}"
        assert server.patch("/posts/1", json={"tag_ids": [2]}).status_code == 200


# Files


def send_file(server: httpx2.Client, text: str) -> Call:
    headers = {"Content-Type": "text/csv"}
    return lambda: server.post("/products/import", content=text, headers=headers)


@pytest.mark.needs("orders")
def test_an_old_file_undoes_no_sale_that_is_made_meanwhile(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 100)
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    buying = sender(server, "POST", "/orders/", body)
    old = send_file(server, "sku,stock_quantity,price,version\nP1,100,7,1\n")
    answers = at_once([buying, old] * 16)
    assert set(statuses(answers[0::2])) <= {201, 503}
    assert set(statuses(answers[1::2])) <= {200, 422, 503}
    sold = statuses(answers[0::2])[201]
    assert server.get("/products/1").json()["stock_quantity"] == 100 - sold
    assert statuses(answers[1::2])[200] <= 1
    assert server.get("/products/1").headers["ETag"] == f'"{1 + sold + statuses(answers)[200]}"'


@pytest.mark.needs("orders")
def test_what_files_add_to_the_stock_and_orders_take_adds_up(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 20)
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    buying = sender(server, "POST", "/orders/", body)
    answers = at_once([buying, send_file(server, "sku,stock_change\nP1,3\n")] * 16)
    assert set(statuses(answers)) <= {200, 201, 503}
    added, sold = statuses(answers)[200] * 3, statuses(answers)[201]
    assert server.get("/products/1").json()["stock_quantity"] == 20 + added - sold


@pytest.mark.needs("products")
def test_files_that_exchange_slugs_at_once_do_so_one_after_the_other(server: httpx2.Client) -> None:
    for n in (1, 2):
        create_product(server, n, 1)
    files = ["P1,p2,1\nP2,p1,1\n", "P2,p1,1\nP1,p2,1\n", "P1,p1,1\nP2,p2,1\n"]
    answers = at_once([send_file(server, f"sku,slug,price\n{file}") for file in files * 6])
    assert set(statuses(answers)) <= {200, 503}
    assert 200 in statuses(answers)
    slugs = [server.get(f"/products/{id}").json()["slug"] for id in (1, 2)]
    assert sorted(slugs) == ["p1", "p2"]


@pytest.mark.needs("products")
def test_of_files_that_want_the_same_new_slug_all_but_one_are_told_the_line(
    server: httpx2.Client,
) -> None:
    files = [f"sku,name,price,slug\nN{n},N{n},1,new\n" for n in range(8)]
    answers = at_once([send_file(server, file) for file in files])
    assert set(statuses(answers)) <= {200, 422, 503}
    assert statuses(answers)[200] == 1
    told = [answer.json()["errors"] for answer in answers if answer.status_code == 422]
    assert [error["loc"] for errors in told for error in errors] == [["line", 2, "slug"]] * len(
        told
    )
