"""No route reads or sorts a whole table, but for a few: the plans of what the routes really run.

A new route, sort or filter is tried by itself. MariaDB and MySQL are left out: what they plan
depends on how full their tables are, and they have no way to rule a plan out.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from databases import empty
from document import LISTS, PATHS, SORTS, filled, parameters, resolved
from pydantic import SecretStr
from sqlmodel import Session, SQLModel

import db
import models

pytestmark = [pytest.mark.every_database("sqlite", "postgresql"), pytest.mark.system]

ROWS = 2000  # in each table
RARE = 400  # one row of so many has the rare one of a few values
MOST = {  # lists that leave few rows out, and so are read in order, up to the end of a page
    "/products/with-categories": "of the active products, which most are",
}
WHOLE = {  # routes that read a whole table, and why they may
    "/categories/tree": "it is all of the categories, of which a shop has few",
    "/orders/stats/summary": "sums up all orders",
    "/orders/stats/daily": "sums up all orders of some days",
    "/products/by-category-stats": "sums up all products",
    "/users/stats/active-count": "counts",
    "/users/top-spenders": "sums up all orders",
    "/notifications/events": "never ends; it reads by id",
    "/health/db": "reads the one row of alembic_version",
}
MAY_SORT = {  # what is sorted once it is found, since an index cannot do both, and why it may
    "min_price": "a range by an index; or in order, if the range has many rows",
    "max_price": "as min_price",
    "max_stock": "as min_price",
    "q": "what a search finds",
    "account_id": "one account's transfers, found by two indexes",
    "created_from": "as min_price",
    "created_before": "as min_price",
    "tag": "the posts that have a tag",
}
OWN_MAY_SORT = {
    "/transfers/": "the transfers from one user's accounts",
    "/posts/": "those that are published, or one's own: two indexes, or in order",
}
VALUES = {  # of filters, such that few rows have them
    "min_price": str(ROWS - 3),
    "max_price": "3",
    "max_stock": "3",
    "threshold": "3",
    "limit": "2",
    "tag": "slug7",
    "q": str(ROWS - 1),
    "created_from": "2026-01-02T09:17:00Z",
    "created_before": "2026-01-01T00:04:00Z",
}
ON_SQLITE = {  # what SQLite looks for in a whole table, in order and up to the end of a page
    "min_price": "without statistics it takes every range for a wide one",
    "max_price": "as min_price",
    "max_stock": "as min_price",
    "created_from": "as min_price",
    "created_before": "as min_price",
    "q": "it has no index for what is anywhere in a text",
}
IN_ORDER = {  # what is looked for in order up to the end of a page, on every database
    ("/orders/", "q"): "is in an order or in its user, which no index has together",
}
PARTIAL = {  # indexes that have only the rows that are asked for
    index.name
    for table in SQLModel.metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["postgresql"]["where"] is not None
}
WITHIN = {"/products/": "category_id", "/orders/": "status"}  # filters by which every sort is found
ADVICE = "add a `listed_by` to its table; or to WHOLE or MAY_SORT in tests/test_plans.py, with why"
PAGING = {"skip", "limit", "count", "cursor", "sort", "page", "page_size", "format", "days"}


def value_of(parameter: dict[str, Any]) -> str:
    """A value of a parameter; of a filter, one that few rows have."""
    schema = parameter["schema"]
    for choice in schema.get("anyOf", [schema]):
        choice = choice.get("items", choice)  # one of several
        if "$ref" in choice:
            return str(resolved(choice)["enum"][-1])
        if choice.get("type") == "boolean":
            return "false"
    return VALUES.get(parameter["name"], "7")


def queries(path: str) -> Iterator[str]:
    """No filter, each filter, and each sort; in short pages, as there are few rows."""
    needed = "".join(
        f"{p['name']}={value_of(p)}&"
        for p in parameters("GET", path)
        if p.get("required") or p["name"] == "limit"
    )
    yield needed
    for parameter in parameters("GET", path):
        if parameter["name"] not in PAGING and (path, parameter["name"]) not in IN_ORDER:
            yield f"{needed}{parameter['name']}={value_of(parameter)}"
        if parameter["name"] == WITHIN.get(path):
            within = f"{parameter['name']}={value_of(parameter)}"
            yield from (f"{needed}{within}&sort={sort}" for on, sort in SORTS if on == path)
    yield from (f"{needed}sort={sort}" for on, sort in SORTS if on == path)


CASES = [
    (path, query)
    for path, methods in PATHS.items()
    if "get" in methods and path not in WHOLE and path not in MOST
    for query in queries(path)
]


def some_row(table: sa.Table, n: int, rows: int) -> dict[str, Any]:
    """Row n of a table of so many: what it refers to has the same number."""
    row: dict[str, Any] = {}
    referred = set[sa.Table]()
    for column in table.columns:
        name, type_ = column.name, column.type
        if column.computed or name == "id":
            continue
        parent = next((key.column.table for key in column.foreign_keys), None)
        if parent is table:
            row[name] = n - 1 or None
        elif parent in referred:  # by two columns, which may have to differ
            row[name] = n % rows + 1
        elif parent is not None:
            row[name] = n
            referred.add(parent)
        else:
            row[name] = some_value(name, type_, n)
    return row


def some_value(name: str, type_: sa.types.TypeEngine[Any], n: int) -> Any:
    if isinstance(type_, sa.TypeDecorator):  # ours, such as that of money
        type_ = type_.impl_instance
    if isinstance(type_, sa.Enum):
        return type_.enums[-1 if n % RARE == 0 else 0]
    if isinstance(type_, sa.Boolean):
        return n % RARE > 0
    if isinstance(type_, sa.DateTime | sa.Date):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n)
        return moment if isinstance(type_, sa.DateTime) else moment.date()
    if isinstance(type_, sa.JSON):
        return {}
    if isinstance(type_, sa.Integer):
        return n
    if isinstance(type_, sa.Numeric):
        return Decimal(n)
    text = {"email": f"user{n}@example.com", "sku": f"SKU{n}"}.get(name, f"{name}{n}")
    return text[-(getattr(type_, "length", None) or len(text)) :]


@pytest.fixture(scope="module")
def seen(database: str) -> Iterator[list[tuple[str, Any]]]:
    """The statements that the app has run for reading, on a shop that is not small."""
    engine, statements = db.database.reader.engine, list[tuple[str, Any]]()
    empty(db.database.writer.engine)
    with db.database.writer.engine.begin() as connection:
        for table in SQLModel.metadata.sorted_tables:
            rows = [some_row(table, n, ROWS) for n in range(1, ROWS + 1)]
            connection.execute(table.insert(), rows)
    if engine.dialect.name == "postgresql":  # by itself it does so every minute
        bare = sa.create_engine(database, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with bare.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")

    def note(_: Any, __: Any, statement: str, values: Any, ___: Any, many: bool) -> None:
        # Behind PgBouncer settings come with each.
        statements.append((re.sub(r"^(SET LOCAL [^;]+; )+", "", statement), values))

    sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", note)
    empty(db.database.writer.engine)


def faults(statements: Sequence[tuple[str, Any]], *, may_sort: bool, before: str = "") -> list[str]:
    """What is wrong with the plans of these statements, once `before` has been executed."""
    found = []
    engine = sa.create_engine(db.settings.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        if engine.dialect.name == "postgresql":
            # Also where the tables are small, it shall show whether it could do without.
            for plan in ("seqscan", "hashjoin", "mergejoin"):
                run(f"SET enable_{plan} = off")
        else:
            run("BEGIN")
        if before:
            run(before)
        for statement, values in statements:
            if not statement.startswith("SELECT") or statement.startswith("SELECT count("):
                continue  # who asks for a total has it counted
            is_list, has_where = "LIMIT" in statement, "WHERE" in statement
            if engine.dialect.name == "postgresql":
                run(f"SET enable_sort = {'off' if is_list and not may_sort else 'on'}")
            look = of_postgresql if engine.dialect.name == "postgresql" else of_sqlite
            explain = {of_postgresql: "EXPLAIN (FORMAT JSON) ", of_sqlite: "EXPLAIN QUERY PLAN "}
            rows = run(explain[look] + statement, values).all()
            wrong = look(rows, has_where or not is_list, is_list and not may_sort)
            found += [f"{fault} in {statement} {values}" for fault in wrong]
        connection.rollback()
    return found


def of_sqlite(rows: Sequence[Any], no_scan: bool, no_sort: bool) -> Iterator[str]:
    for row in rows:
        if no_scan and re.match(r"SCAN (?!\(subquery|CONSTANT)", row.detail):
            yield row.detail
        if no_sort and row.detail == "USE TEMP B-TREE FOR ORDER BY":
            yield row.detail


def of_postgresql(rows: Sequence[Any], no_scan: bool, no_sort: bool) -> Iterator[str]:
    plan = rows[0][0]
    nodes = [(json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        kind = node["Node Type"]
        is_whole = "Index" in kind and "Index Cond" not in node
        is_whole &= node.get("Index Name") not in PARTIAL
        if kind == "Seq Scan" or (no_scan and is_whole):
            yield f"{kind} of {node.get('Relation Name')}"
        if no_sort and kind == "Sort":  # an Incremental Sort is of rows with the same value
            yield kind


def may_scan(path: str, query: str) -> bool:
    """Whether SQLite may read a whole table for it."""
    return path in ON_SQLITE or has_one_of(query, ON_SQLITE)


def may_sort(query: str) -> bool:
    return has_one_of(query, MAY_SORT)


def has_one_of(query: str, names: Collection[str]) -> bool:
    return any(part.partition("=")[0] in names for part in query.split("&"))


def assert_planned_well(
    seen: list[tuple[str, Any]], client: httpx2.Client, path: str, query: str
) -> None:
    seen.clear()
    url = filled(path).replace("SKU-1", "SKU1").replace("product-1", "slug1")
    response = client.get(f"{url}?{query}")
    assert response.status_code in (200, 401), response.text
    assert not faults(seen, may_sort=may_sort(query)), ADVICE


@pytest.mark.parametrize(("path", "query"), [case for case in CASES if not may_scan(*case)])
def test_no_route_reads_or_sorts_a_whole_table(
    seen: list[tuple[str, Any]], app_client: httpx2.Client, path: str, query: str
) -> None:
    assert_planned_well(seen, app_client, path, query)


@pytest.mark.every_database("postgresql")
@pytest.mark.parametrize(("path", "query"), [case for case in CASES if may_scan(*case)])
def test_no_route_reads_or_sorts_a_whole_table_on_postgresql(
    seen: list[tuple[str, Any]], app_client: httpx2.Client, path: str, query: str
) -> None:
    assert_planned_well(seen, app_client, path, query)


@pytest.mark.parametrize(("path", "sort"), SORTS)
def test_a_page_far_inside_begins_where_an_index_says(
    seen: list[tuple[str, Any]], app_client: httpx2.Client, path: str, sort: str
) -> None:
    middle = app_client.get(f"{path}?sort={sort}&limit=1&skip={ROWS // 2}")
    seen.clear()
    rows = app_client.get(middle.links["next"]["url"].replace("limit=1", "limit=3")).json()
    assert len(rows) == 3
    assert not faults(seen, may_sort=False), ADVICE


@pytest.mark.parametrize("path", [path for path in LISTS if path not in MOST])
def test_the_lists_of_ones_own_read_and_sort_no_whole_table(
    seen: list[tuple[str, Any]],
    app_client: httpx2.Client,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.setattr(db.settings, "secret_key", SecretStr("k" * 32))
    with Session(db.database.reader.engine) as session:
        user = session.get(models.User, 1)
        assert user is not None
        user.is_superuser = False
        token = db.access.token_for(user).access_token
        session.expunge_all()
    seen.clear()
    response = app_client.get(filled(path), headers={"Authorization": f"Bearer {token}"})
    assert response.status_code in (200, 403, 422), response.text
    assert not faults(seen, may_sort=path in OWN_MAY_SORT)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("sort=price", "ix_item_price_id"),
        ("sort=-title", "ix_item_title_id"),
        ("is_available=false", "ix_item_is_available_id"),
    ],
)
def test_a_missing_index_is_noticed(
    seen: list[tuple[str, Any]], app_client: httpx2.Client, query: str, index: str
) -> None:
    seen.clear()
    app_client.get(f"/items/?{query}")
    assert not faults(seen, may_sort=may_sort(query))
    assert faults(seen, may_sort=may_sort(query), before=f"DROP INDEX {index}")
