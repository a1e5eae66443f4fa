"""How many statements a route executes does not depend on how many rows it is about."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, Make, needing
from databases import empty
from document import ENDLESS, PATHS, filled, parameters
from sqlmodel import Session, SQLModel, select
from test_plans import some_row

import db
import kit
import main

pytestmark = pytest.mark.every_database

FEW, MANY = 3, 20
READS = [path for path, methods in PATHS.items() if "get" in methods and path not in ENDLESS]


@pytest.fixture
def executed(database: str) -> Iterator[list[str]]:
    """The statements that the app executes."""
    statements = list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    engines = db.database.reader.engine, db.database.writer.engine
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", note)


def fill(rows: int, *, of_one: bool) -> None:
    """So many rows in each table, that belong each to another one, or all to the first."""
    empty(db.database.writer.engine)
    with db.database.writer.engine.begin() as connection:
        for table in SQLModel.metadata.sorted_tables:
            made = [some_row(table, n, rows) for n in range(1, rows + 1)]
            if of_one:
                made = [row | of_the_first(table) for row in made]
            connection.execute(table.insert(), made)


def of_the_first(table: sa.Table) -> dict[str, int]:
    """What makes a row belong to row 1 of another table; where it refers to two, to 1 and 2."""
    parents = {c.name: key.column.table for c in table.columns for key in c.foreign_keys}
    first = next((parent for parent in parents.values() if parent is not table), None)
    names = [name for name, parent in parents.items() if parent is first]
    return {name: n for n, name in enumerate(names, 1)}


@pytest.mark.parametrize("of_one", [False, True], ids=["each its own", "all of the first"])
def test_a_get_executes_as_many_statements_for_many_rows_as_for_few(
    client: httpx2.Client, executed: list[str], of_one: bool
) -> None:
    counts: dict[str, list[int]] = {path: [] for path in READS}
    for rows in (FEW, MANY):
        fill(rows, of_one=of_one)
        for path in READS:
            names = {parameter["name"] for parameter in parameters("GET", path)}
            query: dict[str, Any] = {"limit": 100, "page_size": 100, "q": "name", "count": "true"}
            executed.clear()
            url = filled(path).replace("SKU-1", "SKU1").replace("product-1", "slug1")
            response = client.get(url, params={n: v for n, v in query.items() if n in names})
            assert response.status_code in (200, 401), response.text
            counts[path].append(len(executed))
    assert {path: found for path, found in counts.items() if found[0] != found[1]} == {}


def order_of(client: httpx2.Client, make: Make, lines: int) -> Json:
    if lines == FEW:
        make("users")
    sold = [make("products")["id"] for _ in range(lines)]
    return {"user_id": 1, "items": [{"product_id": id, "quantity": 1} for id in sold]}


def placing(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    return client.build_request("POST", "/orders/", json=order_of(client, make, rows))


def cancelling(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    placed = make("orders", **order_of(client, make, rows))
    return client.build_request("PATCH", f"/orders/{placed['id']}/status?new_status=cancelled")


def bulk(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    users = [
        {"username": f"u{rows}_{n}", "email": f"u{rows}_{n}@x.org", "password": "Password1"}
        for n in range(rows)
    ]
    return client.build_request("POST", "/users/bulk", json=users)


def importing(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    lines = "".join(f"S{rows}-{n},Thing {rows} {n},1\n" for n in range(rows))
    headers = {"Content-Type": "text/csv"}
    content = f"sku,name,price\n{lines}"
    return client.build_request("POST", "/products/import", content=content, headers=headers)


def importing_again(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    client.send(importing(client, make, rows))
    lines = "".join(f"S{rows}-{n},2\n" for n in range(rows))
    headers = {"Content-Type": "text/csv"}
    content = f"sku,price\n{lines}"
    return client.build_request("POST", "/products/import", content=content, headers=headers)


def importing_tree(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    """Of each category the parent is the next one, which is not there yet."""
    lines = "".join(f"c{rows}-{n},Category {rows} {n},c{rows}-{n + 1}\n" for n in range(rows))
    content = f"slug,name,parent\n{lines}c{rows}-{rows},Root {rows},\n"
    headers = {"Content-Type": "text/csv"}
    return client.build_request("POST", "/categories/import", content=content, headers=headers)


def importing_tags(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    """Each is changed, and is in a post."""
    if rows == FEW:
        make("users")
    tags = [make("tags", slug=f"t{rows}-{n}")["id"] for n in range(rows)]
    for tag in tags:
        make("posts", author_id=1, tag_ids=[tag])
    lines = "".join(f"t{rows}-{n},New {rows} {n}\n" for n in range(rows))
    headers = {"Content-Type": "text/csv"}
    content = f"slug,name\n{lines}"
    return client.build_request("POST", "/tags/import", content=content, headers=headers)


def posting(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    if rows == FEW:
        make("users")
    body = {"title": "Post", "content": "Text.", "author_id": 1}
    tags = [make("tags")["id"] for _ in range(rows)]
    return client.build_request("POST", "/posts/", json=body | {"tag_ids": tags})


def retagging(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    post = client.send(posting(client, make, rows)).json()
    tags = [make("tags")["id"] for _ in range(rows)]
    return client.build_request("PATCH", f"/posts/{post['id']}", json={"tag_ids": tags})


def closing(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    category = make("categories")["id"]
    for _ in range(rows):
        make("products", category_id=category)
    return client.build_request("DELETE", f"/categories/{category}")


def leaving(client: httpx2.Client, make: Make, rows: int) -> httpx2.Request:
    user = make("users")["id"]
    for _ in range(rows):
        make("posts", author_id=user)
    return client.build_request("DELETE", f"/users/{user}")


WRITES: list[Any] = [bulk, needing("orders", placing), needing("orders", cancelling)]
WRITES += [needing("products", write) for write in (importing, importing_again, closing)]
WRITES += [needing("categories", importing_tree)]
WRITES += [needing("posts", write) for write in (importing_tags, posting, retagging, leaving)]
# What the ORM executes row by row, on SQLite alone: what it inserts with ids to be given.
INSERTS = {"placing": 1, "bulk": 1}


@pytest.mark.parametrize("about", WRITES)
def test_a_write_executes_no_more_statements_for_many_rows_than_it_has_to(
    client: httpx2.Client,
    make: Make,
    executed: list[str],
    about: Callable[[httpx2.Client, Make, int], httpx2.Request],
) -> None:
    counts = []
    for rows in (FEW, MANY):
        request = about(client, make, rows)
        db.history.written = 0  # else it might be its turn to look for what is too old
        executed.clear()
        response = client.send(request)
        assert response.is_success, response.text
        counts.append(len(executed))
    is_sqlite = db.database.writer.engine.dialect.name == "sqlite"
    by_row = INSERTS.get(about.__name__, 0) if is_sqlite else 0
    assert counts[1] - counts[0] == by_row * (MANY - FEW)


def test_a_query_for_each_row_is_noticed(
    client: httpx2.Client, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = kit.page

    def with_more(session: Session, *arguments: Any) -> list[Any]:
        rows = usual(session, *arguments)
        for row in rows:
            session.exec(select(type(row).id).where(type(row).id == row.id))
        return rows

    monkeypatch.setattr(main, "page", with_more)
    counts = []
    for rows in (FEW, MANY):
        fill(rows, of_one=False)
        executed.clear()
        assert client.get("/items/?limit=100").status_code == 200
        counts.append(len(executed))
    assert counts[1] - counts[0] == MANY - FEW
