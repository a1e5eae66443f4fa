"""Access: who may do what once the shop has a key; every route, each kind of caller.

Ann and Bob have the same things, with ids that follow from theirs: user 1's order is order 1,
user 2's is order 2. Root is a superuser. All of it is made in open mode, before the key is there.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Build, Json, Make, log_in, needing, pages, three_users
from document import OPERATIONS, ROUTES, asked, complete, example_of, media_of
from servers import Process
from sqlmodel import SQLModel
from starlette.routing import BaseRoute

import db
import kit
import main

# Who gets which status

COLUMNS = ("anyone", "own", "another's", "superuser")
Cells = tuple[int, int, int, int]  # no token; a user with what is theirs, with another's; Root

# A row is a method and a path, and after these perhaps what is special about the request.
SHOP: dict[str, Cells] = {
    "POST /token": (200, 200, 200, 200),
    "POST /logout": (401, 204, 204, 204),
    "GET /": (200, 200, 200, 200),
    "GET /health": (200, 200, 200, 200),
    "GET /health/db": (200, 200, 200, 200),
    "GET /items/": (200, 200, 200, 200),
    "POST /items/": (401, 403, 403, 201),
    "GET /items/{item_id}": (200, 200, 200, 200),
    "PUT /items/{item_id}": (401, 403, 403, 200),
    "PATCH /items/{item_id}": (401, 403, 403, 200),
    "DELETE /items/{item_id}": (401, 403, 403, 204),
    "GET /users/": (401, 403, 403, 200),
    "POST /users/": (201, 201, 201, 201),
    "POST /users/ is_superuser": (422, 422, 422, 422),
    "POST /users/ is_active": (422, 422, 422, 422),
    "GET /users/{user_id}": (401, 200, 403, 200),
    "PUT /users/{user_id}": (401, 200, 403, 200),
    "PATCH /users/{user_id}": (401, 200, 403, 200),
    "PATCH /users/{user_id} is_active": (401, 403, 403, 200),
    "PATCH /users/{user_id} is_superuser": (401, 403, 403, 200),
    "DELETE /users/{user_id}": (401, 403, 403, 204),
    "POST /users/bulk": (401, 403, 403, 201),
    "GET /users/search": (401, 403, 403, 200),
    "GET /users/by-email/{email}": (401, 200, 403, 200),
    "GET /users/by-email/{email} nobody's": (401, 403, 403, 404),
    "GET /users/me": (401, 200, 200, 200),
    "GET /users/{user_id}/with-posts": (401, 200, 403, 200),
    "GET /users/page": (401, 403, 403, 200),
    "GET /users/stats/active-count": (401, 403, 403, 200),
    "GET /users/top-spenders": (401, 403, 403, 200),
    "GET /users/export": (401, 403, 403, 200),
    "DELETE /users/{user_id}/soft": (401, 200, 403, 200),
    "PATCH /users/bulk/deactivate": (401, 403, 403, 200),
    "DELETE /users/bulk/inactive": (401, 403, 403, 200),
    "GET /categories/": (200, 200, 200, 200),
    "POST /categories/": (401, 403, 403, 201),
    "GET /categories/{category_id}": (200, 200, 200, 200),
    "PUT /categories/{category_id}": (401, 403, 403, 200),
    "PATCH /categories/{category_id}": (401, 403, 403, 200),
    "DELETE /categories/{category_id}": (401, 403, 403, 204),
    "GET /categories/tree": (200, 200, 200, 200),
    "GET /categories/{category_id}/products": (200, 200, 200, 200),
    "GET /categories/export": (401, 403, 403, 200),
    "POST /categories/import": (401, 403, 403, 200),
    "GET /products/": (200, 200, 200, 200),
    "POST /products/": (401, 403, 403, 201),
    "GET /products/{product_id}": (200, 200, 200, 200),
    "PUT /products/{product_id}": (401, 403, 403, 200),
    "PATCH /products/{product_id}": (401, 403, 403, 200),
    "DELETE /products/{product_id}": (401, 403, 403, 204),
    "GET /products/page": (200, 200, 200, 200),
    "GET /products/with-categories": (200, 200, 200, 200),
    "GET /products/by-category-stats": (401, 403, 403, 200),
    "GET /products/by-sku/{sku}": (200, 200, 200, 200),
    "GET /products/by-slug/{slug}": (200, 200, 200, 200),
    "GET /products/low-stock": (200, 200, 200, 200),
    "POST /products/{product_id}/stock": (401, 403, 403, 200),
    "GET /products/export": (401, 403, 403, 200),
    "POST /products/import": (401, 403, 403, 200),
    "GET /orders/": (401, 200, 200, 200),
    "POST /orders/": (401, 201, 403, 201),
    "GET /orders/{order_id}": (401, 200, 404, 200),
    "DELETE /orders/{order_id}": (401, 403, 404, 204),
    "GET /orders/{order_id}/details": (401, 200, 404, 200),
    "GET /orders/user/{user_id}": (401, 200, 404, 200),
    "PATCH /orders/{order_id}/status": (401, 200, 404, 200),
    "PATCH /orders/{order_id}/status confirmed": (401, 403, 404, 200),
    "PATCH /orders/{order_id}/status out of turn": (401, 403, 404, 400),
    "GET /orders/stats/summary": (401, 200, 403, 200),
    "GET /orders/stats/summary of all": (401, 403, 403, 200),
    "GET /orders/stats/daily": (401, 403, 403, 200),
    "GET /notifications/": (401, 200, 200, 200),
    "GET /notifications/events": (401, 200, 200, 200),
    "GET /posts/": (200, 200, 200, 200),
    "POST /posts/": (401, 201, 403, 201),
    "GET /posts/{post_id}": (200, 200, 200, 200),
    "GET /posts/{post_id} draft": (401, 200, 403, 200),
    "PUT /posts/{post_id}": (401, 200, 403, 200),
    "PUT /posts/{post_id} given away": (401, 403, 403, 200),
    "PATCH /posts/{post_id}": (401, 200, 403, 200),
    "PATCH /posts/{post_id} given away": (401, 403, 403, 200),
    "DELETE /posts/{post_id}": (401, 204, 403, 204),
    "POST /posts/{post_id}/views": (200, 200, 200, 200),
    "POST /posts/{post_id}/views draft": (401, 200, 403, 200),
    "GET /tags/": (200, 200, 200, 200),
    "POST /tags/": (401, 403, 403, 201),
    "GET /tags/{tag_id}": (200, 200, 200, 200),
    "PUT /tags/{tag_id}": (401, 403, 403, 200),
    "PATCH /tags/{tag_id}": (401, 403, 403, 200),
    "DELETE /tags/{tag_id}": (401, 403, 403, 204),
    "GET /tags/export": (401, 403, 403, 200),
    "POST /tags/import": (401, 403, 403, 200),
    "GET /accounts/": (401, 200, 200, 200),
    "POST /accounts/": (401, 403, 403, 201),
    "GET /accounts/{account_id}": (401, 200, 404, 200),
    "GET /transfers/": (401, 200, 200, 200),
    "POST /transfers/": (401, 201, 404, 201),
    "GET /transfers/{transfer_id}": (401, 200, 404, 200),
    "GET /orders/{order_id}/payments": (401, 200, 404, 200),
    "POST /orders/{order_id}/payments": (401, 201, 404, 201),
    "POST /orders/{order_id}/payments with another's money": (401, 404, 404, 201),
}

ROWS = {f"{method} {path}": route for (method, path), route in ROUTES.items()}


def cells_of(route: kit.Route) -> Cells | None:
    """What its declaration says, where this does not depend on whose the rows are."""
    ok, who = route.status_code or 200, route.who
    cells = {"superuser": (401, 403, 403, ok)} | dict.fromkeys(("public", "anyone"), (ok,) * 4)
    return cells.get(who)


def route_of(row: str) -> str:
    return " ".join(row.split()[:2])


# The shop's own routes are told above. One of an entity of your own goes by its declaration.
KNOWN = {route_of(row) for row in SHOP}
DECLARED = {row: cells_of(route) for row, route in ROWS.items() if row not in KNOWN}
MATRIX: dict[str, Cells] = {row: cells for row, cells in SHOP.items() if route_of(row) in ROWS}
MATRIX |= {row: cells for row, cells in DECLARED.items() if cells}

EVENTS = "GET /notifications/events"  # whose 200 has no end: it is read from a live server, below
EXPECTED = [
    pytest.param(row, who, status, id=f"{row}-{who}")
    for row, cells in MATRIX.items()
    for who, status in zip(COLUMNS, cells, strict=True)
    if (row, status) != (EVENTS, 200)
]

# What is sent: each depends on the user whose things it is about, 1 or 2

OTHER = {1: 2, 2: 1}
LINES = [{"product_id": 1, "quantity": 1}]

PATHS = {  # where it is not the row's own
    "DELETE /users/{user_id}": "/users/{without_account}",
    "GET /users/by-email/{email} nobody's": "/users/by-email/nobody@example.com",
    "GET /users/search": "/users/search?q=user",
    "PATCH /users/bulk/deactivate": "/users/bulk/deactivate?days=0",
    "DELETE /orders/{order_id}": "/orders/{cancelled}",
    "PATCH /orders/{order_id}/status": "/orders/{order_id}/status?new_status=cancelled",
    "PATCH /orders/{order_id}/status confirmed": "/orders/{order_id}/status?new_status=confirmed",
    "PATCH /orders/{order_id}/status out of turn": "/orders/{order_id}/status?new_status=delivered",
    "GET /orders/stats/summary": "/orders/stats/summary?user_id={user_id}",
    "GET /orders/stats/summary of all": "/orders/stats/summary",
    "GET /posts/{post_id} draft": "/posts/{draft}",
    "POST /posts/{post_id}/views draft": "/posts/{draft}/views",
}

NEW_USER = {"username": "new", "email": "new@example.com", "password": "Password1"}
BODIES: dict[str, Callable[[int], Json]] = {
    "POST /items/": lambda n: {"title": "New", "price": 1},
    "PUT /items/{item_id}": lambda n: {"title": "New", "price": 1},
    "PATCH /items/{item_id}": lambda n: {"price": 2},
    "POST /users/": lambda n: NEW_USER,
    "POST /users/ is_superuser": lambda n: NEW_USER | {"is_superuser": True},
    "POST /users/ is_active": lambda n: NEW_USER | {"is_active": True},
    "PUT /users/{user_id}": lambda n: NEW_USER | {"current_password": "Password1"},
    "PATCH /users/{user_id}": lambda n: {"full_name": "New"},
    "PATCH /users/{user_id} is_active": lambda n: {"is_active": True},
    "PATCH /users/{user_id} is_superuser": lambda n: {"full_name": "New", "is_superuser": True},
    "POST /users/bulk": lambda n: [NEW_USER],
    "POST /categories/": lambda n: {"name": "New"},
    "PUT /categories/{category_id}": lambda n: {"name": "New"},
    "PATCH /categories/{category_id}": lambda n: {"name": "New"},
    "POST /products/": lambda n: {"name": "New", "price": 1, "sku": "NEW"},
    "PUT /products/{product_id}": lambda n: {"name": "New", "price": 1, "sku": "NEW"},
    "PATCH /products/{product_id}": lambda n: {"price": 1},
    "POST /products/{product_id}/stock": lambda n: {"change": 1},
    "POST /orders/": lambda n: {"user_id": n, "items": LINES},
    "POST /posts/": lambda n: {"title": "New", "content": "Text.", "author_id": n},
    "PUT /posts/{post_id}": lambda n: {"title": "New", "content": "Text.", "author_id": n},
    "PUT /posts/{post_id} given away": (
        lambda n: {"title": "New", "content": "Text.", "author_id": OTHER[n]}
    ),
    "PATCH /posts/{post_id}": lambda n: {"title": "New", "author_id": n},
    "PATCH /posts/{post_id} given away": lambda n: {"title": "New", "author_id": OTHER[n]},
    "POST /tags/": lambda n: {"name": "New"},
    "PUT /tags/{tag_id}": lambda n: {"name": "New"},
    "PATCH /tags/{tag_id}": lambda n: {"name": "New"},
    "POST /accounts/": lambda n: {"user_id": n, "balance": 1000},
    "POST /transfers/": (
        lambda n: {"from_account_id": n, "to_account_id": OTHER.get(n, 1), "amount": 1}
    ),
    "POST /orders/{order_id}/payments": lambda n: {"account_id": n},
    "POST /orders/{order_id}/payments with another's money": (
        lambda n: {"account_id": OTHER.get(n, 1)}
    ),
}
FORM = {"username": "user1", "password": "Password1"}
FILES = {
    "POST /categories/import": "slug,name\r\nnew,New\r\n",
    "POST /products/import": "sku,name,price\r\nNEW,New,1\r\n",
    "POST /tags/import": "slug,name\r\nnew,New\r\n",
}


def path_of(row: str, n: int) -> str:
    if row in DECLARED:
        return asked(row.split()[1], method=row.split()[0])
    values: dict[str, int | str] = {
        **dict.fromkeys(("user_id", "order_id", "post_id", "account_id", "transfer_id"), n),
        **dict.fromkeys(("item_id", "category_id", "tag_id"), 1),
        "without_account": 1 if n == 1 else 4,
        "cancelled": n + 2,
        "draft": n + 2,
        "product_id": 2,  # which nobody has ordered
        "sku": "SKU-1",
        "slug": "product-1",
        "email": f"user{n}@example.com",
    }
    return PATHS.get(row, row.split()[1]).format(**values)


def send(
    client: httpx2.Client, row: str, n: int, headers: dict[str, str], prefix: str = ""
) -> httpx2.Response:
    """The request of a row, about what user `n` has."""
    method, url = row.split()[0], prefix + path_of(row, n)
    if row == "POST /token":
        return client.post(url, data=FORM, headers=headers)
    if row in FILES:
        return client.post(url, content=FILES[row], headers={**headers, "Content-Type": "text/csv"})
    body = BODIES[row](n) if row in BODIES else None
    if row in DECLARED and media_of(*row.split()):
        body = example_of(media_of(*row.split()))
    if body is not None:
        return client.request(method, url, json=body, headers=headers)
    return client.request(method, url, headers=headers)


# The shop


def fill(make: Make) -> None:
    client = make.client
    for _ in range(4):
        make("users")
    client.patch("/users/3", json={"is_superuser": True}).raise_for_status()
    for collection in ("items", "categories", "products", "products", "tags"):
        make(collection)
    for n in (1, 2):
        make("accounts", user_id=n, balance=1000 * n)
        make("posts", author_id=n, status="published")
        make("orders", user_id=n, items=LINES)
    for n in (1, 2):
        make("posts", author_id=n)
        if order := make("orders", user_id=n, items=LINES):
            cancel = f"/orders/{order['id']}/status?new_status=cancelled"
            client.patch(cancel).raise_for_status()
        make("transfers", from_account_id=n, to_account_id=OTHER[n], amount=n)
    complete(client)


@pytest.fixture
def shop(
    client: httpx2.Client, built: Callable[[Build], None], close: Callable[[], None]
) -> httpx2.Client:
    """A client of a closed shop, in which users 1 and 2 have one of everything."""
    built(fill)
    close()
    return client


def header_of(client: httpx2.Client, who: str) -> dict[str, str]:
    names = {"own": "user1", "another's": "user1", "superuser": "user3"}
    return log_in(client, names[who]) if who in names else {}


class Callers(NamedTuple):
    """What each of them sends to say who they are."""

    ann: dict[str, str]
    bob: dict[str, str]
    root: dict[str, str]


@pytest.fixture
def callers(shop: httpx2.Client) -> Callers:
    return Callers(*(log_in(shop, name) for name in ("user1", "user2", "user3")))


def stored() -> dict[str, list[Any]]:
    """All that is in the database."""
    with db.database.writer.engine.connect() as connection:
        tables = SQLModel.metadata.tables.items()
        return {
            name: sorted(map(str, connection.execute(sa.select(table)))) for name, table in tables
        }


# Every route says who may call it

DOCUMENTATION = ["/docs", "/favicon.ico", "/openapi.json", "/redoc"]
UNDECLARED = {*DOCUMENTATION, "/static"}  # which has what the pages need


def all_routes(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, BaseRoute]]:
    """Each route with its path, those of routers and apps that are mounted too."""
    for route in routes:
        path = prefix + getattr(route, "path", repr(route))
        yield path, route
        yield from all_routes(getattr(route, "routes", None) or [], path)


def test_every_route_but_the_documentation_says_who_may_call_it() -> None:
    routes = list(all_routes(main.app.routes))
    undeclared = {
        path
        for path, route in routes
        if not (isinstance(route, kit.Route) and route.gate)
        and not path.startswith("/admin")  # whose pages have a log-in of their own: test_admin.py
    }
    assert undeclared == UNDECLARED
    assert len(routes) > len(OPERATIONS)


def test_the_matrix_has_every_route() -> None:
    assert {*ROWS} == {f"{method} {path}" for method, path in OPERATIONS}
    untold = [row for row, cells in DECLARED.items() if not cells]
    wanted = "".join(f'\n    "{row}": (401, 200, 404, 200),' for row in untold)
    assert not untold, (
        f"whose rows these routes are about no declaration tells. Add in tests/test_access.py to"
        f" SHOP the statuses for {', '.join(COLUMNS)}, such as{wanted}\nto BODIES what is sent, to"
        f" `path_of` the ids, and to `fill` rows of users 1 and 2"
    )
    assert {*SHOP} >= KNOWN  # a row with something special never stands for the plain one
    assert {*PATHS} | {*BODIES} <= {*SHOP}


def test_the_matrix_has_no_route_that_is_gone() -> None:
    names = {name for row in KNOWN for name in re.findall(r"/(\w+)", row)}
    there = {name for _, path in OPERATIONS for name in re.findall(r"/(\w+)", path)}
    gone = {row for row in KNOWN - {*ROWS} if not set(re.findall(r"\w+", row)) & (names - there)}
    assert gone == set(), "but with its whole entity"


# The matrix


@pytest.mark.parametrize(("row", "who", "status"), EXPECTED)
def test_each_caller_gets_what_the_matrix_says(
    shop: httpx2.Client, row: str, who: str, status: int
) -> None:
    headers = header_of(shop, who)
    before = stored() if status >= 400 else {}
    response = send(shop, row, 1 if who in ("anyone", "own") else 2, headers)
    assert response.status_code == status, response.text
    if status >= 400:
        assert stored() == before
        assert response.headers["Content-Type"] == "application/problem+json"
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", DOCUMENTATION)
def test_anyone_may_read_the_documentation(shop: httpx2.Client, path: str) -> None:
    assert shop.get(path).status_code == 200


# Denials

PLAIN_ROWS = {row: cells for row, cells in MATRIX.items() if len(row.split()) == 2}
NEEDS_TOKEN = [row for row, cells in PLAIN_ROWS.items() if cells[0] == 401]
FOR_SUPERUSERS = [row for row, cells in PLAIN_ROWS.items() if cells[1:3] == (403, 403)]
PRIVATE = [row for row, cells in MATRIX.items() if cells[2] == 404]
JSON = {"Content-Type": "application/json"}
WRONG: list[tuple[str, dict[str, str], bytes]] = [
    ("", {}, b""),
    ("", JSON, b""),
    ("", JSON, b"{"),
    ("", JSON, b"[]"),
    ("", JSON, b'{"id": 1, "is_superuser": true}'),
    ("", JSON, b"[" * 100_000),
    ("", JSON, b'{"price": 1e999999999}'),
    ("", JSON, b"\xff\x00"),
    ("", {"Content-Type": "multipart/form-data"}, b"x"),
    ("", {"Content-Type": "text/csv"}, b"sku\r\n\xff"),
    ("", {"Idempotency-Key": "not one", "If-Match": "nonsense", "Last-Event-ID": "x"}, b"{}"),
    ("?no_such=parameter", {}, b""),
    ("?limit=0&user_id=x&days=x&new_status=x", {}, b""),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_denial_comes_before_anything_else_that_is_wrong(
    shop: httpx2.Client, callers: Callers, wrong: tuple[str, dict[str, str], bytes]
) -> None:
    query, headers, content = wrong
    before = stored()
    denials: list[tuple[str, dict[str, str], int]] = [
        *((row, {}, 401) for row in NEEDS_TOKEN),
        *((row, callers.ann, 403) for row in FOR_SUPERUSERS),
    ]
    for row, caller, status in denials:
        url = path_of(row, 1).partition("?")[0] + query
        response = shop.request(row.split()[0], url, headers=headers | caller, content=content)
        assert (row, response.status_code) == (row, status)
        detail = "This needs a log-in" if status == 401 else "Only a superuser may do this"
        assert response.json()["detail"].startswith(detail)
    assert stored() == before


def test_a_bad_token_is_denied_wherever_tokens_are_looked_at(shop: httpx2.Client) -> None:
    before, bad = stored(), {"Authorization": "Bearer no.such.token"}
    for (method, path), route in ROUTES.items():
        if route.who != "public":
            response = shop.request(method, asked(path, method=method), headers=bad)
            assert (method, path, response.status_code) == (method, path, 401)
            assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert stored() == before


def test_a_denial_comes_before_an_id_that_is_none(shop: httpx2.Client, callers: Callers) -> None:
    for id in ("0", "x", "99999999999999999999", "%00"):
        assert shop.get(f"/users/{id}").status_code == 401
        assert shop.patch(f"/items/{id}", json={}).status_code == 401
        assert shop.patch(f"/items/{id}", json={}, headers=callers.ann).status_code == 403
        assert shop.delete(f"/users/{id}", headers=callers.ann).status_code == 403


@pytest.mark.parametrize("condition", [{}, {"If-Match": '"1"'}, {"If-None-Match": "*"}], ids=str)
@pytest.mark.parametrize("row", PRIVATE)
def test_what_is_private_to_another_is_denied_as_if_it_did_not_exist(
    shop: httpx2.Client, callers: Callers, row: str, condition: dict[str, str]
) -> None:
    existing, missing = (send(shop, row, n, callers.ann | condition) for n in (2, 2000))
    assert existing.status_code == missing.status_code == 404
    assert existing.text == missing.text.replace("Account 2000", "Account 2")
    assert existing.headers.keys() == missing.headers.keys()


CONDITIONS = [(name, tag) for name in ("If-Match", "If-None-Match") for tag in ('"1"', '"2"', "*")]


@pytest.mark.parametrize("row", [row for row, cells in MATRIX.items() if {*cells} & {401, 403}])
def test_a_condition_tells_nothing_to_who_is_denied(
    shop: httpx2.Client, callers: Callers, row: str
) -> None:
    asked = [({}, 1), (callers.ann, 1), (callers.ann, 2)]
    for (headers, n), status in zip(asked, MATRIX[row], strict=False):
        if status in (401, 403):
            plain = send(shop, row, n, headers)
            assert plain.status_code == status
            answers = [send(shop, row, n, headers | {name: tag}) for name, tag in CONDITIONS]
            assert {(answer.status_code, answer.text) for answer in answers} == {
                (status, plain.text)
            }


def test_what_is_not_private_is_denied_with_a_reason(shop: httpx2.Client, callers: Callers) -> None:
    assert problem_of(shop.get("/users/2", headers=callers.ann)) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "This belongs to another user",
    }
    assert shop.get("/users/2000", headers=callers.ann).status_code == 404
    known = shop.get("/users/by-email/user2@example.com", headers=callers.ann)
    unknown = shop.get("/users/by-email/user9@example.com", headers=callers.ann)
    assert problem_of(known) == problem_of(unknown)


def problem_of(response: httpx2.Response) -> Json:
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.json()


@pytest.mark.needs("accounts", "transfers", "payments")
@pytest.mark.parametrize(
    ("path", "body", "account"),
    [
        ("/transfers/", {"from_account_id": 2, "to_account_id": 1, "amount": 1}, 2),
        ("/transfers/", {"from_account_id": 2, "to_account_id": 1, "amount": 99999}, 2),
        ("/transfers/", {"from_account_id": 2, "to_account_id": 9, "amount": 1}, 2),
        ("/transfers/", {"from_account_id": 9, "to_account_id": 1, "amount": 1}, 9),
        ("/orders/1/payments", {"account_id": 2}, 2),
        ("/orders/1/payments", {"account_id": 9}, 9),
    ],
)
def test_anothers_money_is_not_found(
    shop: httpx2.Client, callers: Callers, path: str, body: Json, account: int
) -> None:
    response = shop.post(path, json=body, headers=callers.ann)
    assert response.status_code == 404
    assert response.json()["detail"] == f"Account {account} not found"


# What lists show


def listed(client: httpx2.Client, path: str, headers: dict[str, str]) -> tuple[Json, int]:
    """The list, and how many it says there are."""
    response = client.get(f"{path}{'&' if '?' in path else '?'}count=true", headers=headers)
    assert response.status_code == 200, response.text
    return response.json(), int(response.headers["X-Total-Count"])


@pytest.mark.parametrize(
    ("path", "of_ann", "of_bob"),
    [
        needing("orders", "/orders/", [1, 3], [2, 4]),
        needing("orders", "/orders/?status=cancelled", [3], [4]),
        needing("orders", "/orders/?user_id=2", [], [2, 4]),
        needing("orders", "/orders/?sort=-id", [3, 1], [4, 2]),
        needing("orders", "/orders/?sort=-total_amount", [3, 1], [4, 2]),
        needing("orders", "/orders/?status=pending&status=cancelled&sort=-id", [3, 1], [4, 2]),
        needing("orders", "/orders/?q=user1", [1, 3], []),
        needing("orders", "/orders/?q=USER2@example.com", [], [2, 4]),
        needing("orders", "/orders/?q=ord-", [1, 3], [2, 4]),
        needing("orders", "/orders/?q=user&created_from=2026-01-01T00:00:00Z", [1, 3], [2, 4]),
        needing("notifications", "/notifications/", [1, 3, 4], [2, 5, 6]),
        needing("notifications", "/notifications/?user_id=1", [1, 3, 4], []),
        needing("notifications", "/notifications/?order_id=2", [], [2]),
        needing("accounts", "/accounts/", [1], [2]),
        needing("accounts", "/accounts/?user_id=2", [], [2]),
        needing("transfers", "/transfers/", [1], [2]),
        needing("transfers", "/transfers/?account_id=2", [1], [2]),
        needing("transfers", "/transfers/?account_id=9", [], []),
    ],
)
def test_a_list_has_and_counts_a_users_own_rows_alone(
    shop: httpx2.Client, callers: Callers, path: str, of_ann: list[int], of_bob: list[int]
) -> None:
    rows, count = listed(shop, path.partition("?")[0], callers.root)
    by_id = {row["id"]: row for row in rows}
    assert count == len(by_id) == len(rows)
    assert listed(shop, path, callers.ann) == ([by_id[id] for id in of_ann], len(of_ann))
    assert listed(shop, path, callers.bob) == ([by_id[id] for id in of_bob], len(of_bob))


@pytest.mark.needs("orders")
def test_the_pages_of_a_list_have_a_users_own_rows_alone(
    shop: httpx2.Client, callers: Callers
) -> None:
    shop.headers.update(callers.bob)
    try:
        for path in ("/orders/?limit=1", "/orders/?limit=1&sort=-created_at"):
            found = [row["id"] for page in pages(shop, path) for row in page.json()]
            assert sorted(found) == [2, 4]
    finally:
        del shop.headers["Authorization"]


@pytest.mark.needs("accounts", "transfers", "payments")
def test_the_rows_that_a_user_is_shown_are_whole(shop: httpx2.Client, callers: Callers) -> None:
    def shown(path: str) -> Json:
        rows = shop.get(path, headers=callers.ann).json()
        own = [{name: v for name, v in row.items() if name != "created_at"} for row in rows]
        return [{name: row[name] for name in row if row[name] is not None} for row in own]

    number, cancelled = (
        shop.get(f"/orders/{id}", headers=callers.ann).json()["order_number"] for id in (1, 3)
    )
    assert shown("/orders/") == shown("/orders/user/1")[::-1]
    assert shown("/orders/") == [
        {"id": 1, "order_number": number, "status": "pending", "total_amount": 10.0},
        {"id": 3, "order_number": cancelled, "status": "cancelled", "total_amount": 10.0},
    ]
    assert shown("/notifications/") == [
        {"id": 1, "user_id": 1, "order_id": 1, "message": f"Order {number} was placed"},
        {"id": 3, "user_id": 1, "order_id": 3, "message": f"Order {cancelled} was placed"},
        {"id": 4, "user_id": 1, "order_id": 3, "message": f"Order {cancelled} is now cancelled"},
    ]
    assert shown("/accounts/") == [{"id": 1, "user_id": 1, "balance": 1001.0}]
    transfer = {"id": 1, "from_account_id": 1, "to_account_id": 2, "amount": 1.0}
    assert shown("/transfers/") == [transfer | {"status": "completed"}]
    numbers = shop.get("/orders/stats/summary?user_id=1", headers=callers.ann).json()
    assert (numbers["total_orders"], numbers["total_revenue"]) == (2, 10.0)


@pytest.mark.needs("posts", "tags")
def test_posts_are_listed_when_they_are_published_or_ones_own(
    shop: httpx2.Client, callers: Callers
) -> None:
    everything, count = listed(shop, "/posts/", callers.root)
    assert ([post["id"] for post in everything], count) == ([1, 2, 3, 4], 4)
    one, two, draft_of_ann, draft_of_bob = everything
    assert listed(shop, "/posts/", {}) == ([one, two], 2)
    assert listed(shop, "/posts/", callers.ann) == ([one, two, draft_of_ann], 3)
    assert listed(shop, "/posts/?author_id=2", callers.ann) == ([two], 1)
    assert listed(shop, "/posts/?status=draft", callers.ann) == ([draft_of_ann], 1)
    assert listed(shop, "/posts/?status=draft", callers.bob) == ([draft_of_bob], 1)
    assert listed(shop, "/posts/?status=draft", {}) == ([], 0)
    own = shop.get("/users/1/with-posts", headers=callers.ann).json()
    assert own["posts"] == [one, draft_of_ann]


# What users do


def test_nobody_signs_up_as_a_superuser_not_even_the_first(
    client: httpx2.Client, close: Callable[[], None]
) -> None:
    close()
    for field, value in (("is_superuser", True), ("is_superuser", False), ("is_active", False)):
        refused = client.post("/users/", json=NEW_USER | {field: value})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["loc"] == ["body", field]
    user = client.post("/users/", json=NEW_USER).json()
    assert (user["id"], user["is_superuser"], user["is_active"]) == (1, False, True)
    headers = log_in(client, "new")
    assert client.get("/users/me", headers=headers).json() == user
    assert client.get("/users/", headers=headers).status_code == 403


def test_a_user_changes_everything_but_their_rights(shop: httpx2.Client, callers: Callers) -> None:
    before = shop.get("/users/1", headers=callers.ann).json()
    for field, value in (("is_superuser", False), ("is_superuser", True), ("is_active", True)):
        body = {"full_name": "Ann", field: value}
        assert shop.patch("/users/1", json=body, headers=callers.ann).status_code == 403
    assert shop.get("/users/1", headers=callers.ann).json() == before
    patched = shop.patch("/users/1", json={"full_name": "Ann"}, headers=callers.ann)
    kept = {"updated_at": patched.json()["updated_at"], "full_name": "Ann"}
    assert patched.json() == before | kept
    confirmed = NEW_USER | {"current_password": "Password1"}
    replaced = shop.put("/users/1", json=confirmed, headers=callers.ann).json()
    assert (replaced["is_superuser"], replaced["is_active"]) == (False, True)


@pytest.mark.needs("accounts", "transfers", "payments")
def test_a_user_pays_and_cancels_and_the_superuser_does_the_rest(
    shop: httpx2.Client, callers: Callers
) -> None:
    def change(status: str, headers: dict[str, str]) -> int:
        return shop.patch(f"/orders/1/status?new_status={status}", headers=headers).status_code

    paid = shop.post("/orders/1/payments", json={"account_id": 1}, headers=callers.ann)
    assert paid.status_code == 201
    assert shop.get("/accounts/1", headers=callers.ann).json()["balance"] == 991
    for status in ("pending", "confirmed", "shipped", "delivered"):
        assert change(status, callers.ann) == 403
    assert change("cancelled", callers.bob) == 404
    assert change("cancelled", callers.ann) == 200
    assert shop.get("/accounts/1", headers=callers.ann).json()["balance"] == 1001
    assert shop.delete("/orders/1", headers=callers.ann).status_code == 403
    assert shop.delete("/orders/1", headers=callers.root).status_code == 204


def test_a_user_who_deactivates_themself_is_out(shop: httpx2.Client, callers: Callers) -> None:
    assert shop.delete("/users/1/soft", headers=callers.ann).status_code == 200
    rows = ("GET /users/me", "GET /orders/{order_id}", "POST /orders/", "GET /items/")
    for row in (row for row in rows if row in MATRIX):
        response = send(shop, row, 1, callers.ann)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert shop.post("/token", data=FORM).status_code == 401
    assert shop.get("/users/1", headers=callers.root).json()["is_active"] is False


@pytest.mark.needs("orders")
def test_an_idempotency_key_is_its_users_own(shop: httpx2.Client, callers: Callers) -> None:
    def place(user: int, headers: dict[str, str]) -> httpx2.Response:
        body = {"user_id": user, "items": LINES}
        return shop.post("/orders/", json=body, headers={**headers, "Idempotency-Key": "k"})

    placed = [place(1, callers.ann), place(2, callers.bob), place(1, callers.root)]
    assert [answer.status_code for answer in placed] == [201] * 3
    assert [answer.json()["id"] for answer in placed] == [5, 6, 7]
    assert [answer.json()["user_id"] for answer in placed] == [1, 2, 1]
    assert not any("Idempotency-Replayed" in answer.headers for answer in placed)
    again = [place(1, callers.ann), place(2, callers.bob), place(1, callers.root)]
    assert [answer.text for answer in again] == [answer.text for answer in placed]
    assert {answer.headers["Idempotency-Replayed"] for answer in again} == {"true"}
    assert place(1, callers.bob).status_code == 422  # the key was Bob's, for something else
    before = stored()
    assert place(1, {}).status_code == 401
    assert stored() == before


@pytest.mark.needs("orders")
@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/users/1"), ("DELETE", "/users/bulk/inactive")]
)
def test_what_was_answered_to_a_user_is_gone_with_them(
    shop: httpx2.Client, callers: Callers, method: str, path: str
) -> None:
    with db.database.writer.engine.begin() as connection:
        there = [t for t in ("payment", "transfer", "account") if t in SQLModel.metadata.tables]
        for table in there:
            connection.exec_driver_sql(f"DELETE FROM {table}")
    for user, headers in ((1, callers.ann), (2, callers.bob)):
        body = {"user_id": user, "items": LINES, "shipping_address": f"{user} Long Lane"}
        keyed = {**headers, "Idempotency-Key": "k"}
        assert shop.post("/orders/", json=body, headers=keyed).status_code == 201
    assert len(stored()["idempotency_key"]) == 2
    if "bulk" in path:
        assert shop.delete("/users/1/soft", headers=callers.root).status_code == 200
    assert shop.request(method, path, headers=callers.root).is_success
    [kept] = stored()["idempotency_key"]
    assert "2 Long Lane" in kept


# Other ways to the same routes

SAMPLE = ["GET /items/", "GET /orders/{order_id}", "POST /orders/", "DELETE /items/{item_id}"]
SAMPLE = [row for row in SAMPLE if row in MATRIX]


@pytest.mark.parametrize("who", COLUMNS)
@pytest.mark.parametrize("row", SAMPLE)
def test_the_prefix_changes_nothing(shop: httpx2.Client, row: str, who: str) -> None:
    n = 1 if who in ("anyone", "own") else 2
    response = send(shop, row, n, header_of(shop, who), prefix="/api/v1")
    assert response.status_code == MATRIX[row][COLUMNS.index(who)]


def test_a_head_is_answered_like_a_get(shop: httpx2.Client, callers: Callers) -> None:
    rows = [row for row in MATRIX if row.startswith("GET") and row != EVENTS]
    asked = [({}, 1), (callers.ann, 1), (callers.ann, 2), (callers.root, 2)]
    for row in rows:
        for (headers, n), status in zip(asked, MATRIX[row], strict=True):
            response = shop.head(path_of(row, n), headers=headers)
            assert (row, response.status_code, response.content) == (row, status, b"")


# The stream


def notes(lines: Iterator[str]) -> Iterator[Json]:
    """The notifications in a stream, until it ends."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.needs("notifications")
def test_a_stream_has_a_users_own_notifications_until_they_are_deactivated(
    closed_server_of_session: tuple[Process, sa.Engine], closed_server: Process
) -> None:
    client, engine = closed_server.client, closed_server_of_session[1]
    ann, bob, root = three_users(client, engine)
    product = {"name": "Lamp", "price": 10, "sku": "L-1", "stock_quantity": 100}
    assert client.post("/products/", json=product, headers=root).status_code == 201

    def place(user: int, headers: dict[str, str]) -> int:
        body = {"user_id": user, "items": LINES}
        id: int = client.post("/orders/", json=body, headers=headers).json()["id"]
        return id

    path = EVENTS.split()[1]
    assert client.get(path).status_code == 401
    with (
        client.stream("GET", path, headers=ann) as to_ann,
        client.stream("GET", path, headers=bob) as to_bob,
        client.stream("GET", path, headers=root) as to_root,
    ):
        assert {to.status_code for to in (to_ann, to_bob, to_root)} == {200}
        of_ann, of_bob, of_root = (notes(to.iter_lines()) for to in (to_ann, to_bob, to_root))
        orders = [place(2, bob), place(1, ann), place(2, bob)]
        assert next(of_ann)["order_id"] == orders[1]
        assert [next(of_bob)["order_id"] for _ in range(2)] == [orders[0], orders[2]]
        seen = [next(of_root) for _ in range(3)]
        assert [note["order_id"] for note in seen] == orders
        again = {**ann, "Last-Event-ID": str(seen[0]["id"] - 1)}
        with client.stream("GET", path, headers=again) as missed:
            assert next(notes(missed.iter_lines())) == seen[1]

        assert client.delete("/users/1/soft", headers=root).status_code == 200
        confirmed = f"/orders/{orders[1]}/status?new_status=confirmed"
        assert client.patch(confirmed, headers=root).status_code == 200
        orders += [place(2, bob)]
        assert list(of_ann) == []
        assert next(of_bob)["order_id"] == orders[3]
        assert [next(of_root)["order_id"] for _ in range(2)] == [orders[1], orders[3]]
        assert client.get(path, headers=ann).status_code == 401
