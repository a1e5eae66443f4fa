"""The rules that hold for every route, tried on every route that the OpenAPI document lists."""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from inspect import signature
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import SECTIONS, Build, Json, Make, needing, pages
from document import (
    LISTS,
    OPERATIONS,
    PATHS,
    SCHEMAS,
    SORTS,
    asked,
    complete,
    example_of,
    filled,
    is_empty,
    media_of,
    relate,
    resolved,
    rows_of,
)
from sqlmodel import SQLModel
from test_plans import some_row, some_value

import db
import main
from kit.problems import sentence_of

WITH_ID = [(m, p) for m, p in OPERATIONS if "_id}" in p]
WITH_BODY = [(m, p) for m, p in OPERATIONS if media_of(m, p)]


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    """An error answer in the form of RFC 9457, the same for every status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    keys = ["type", "title", "status", "detail"] + ["errors"] * (status == 422)
    assert (list(problem), problem["status"]) == (keys, status)
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert list(error) == ["loc", "msg", "type"]
    return problem


@pytest.fixture
def shop(built: Callable[[Build], None]) -> None:
    built(fill)


def fill(make: Make) -> None:
    """Three rows of everything that can be listed."""
    client = make.client
    for n in range(1, 4):
        make("items", price=4 - n)
        make("users")
        make("categories")
        make("products", category_id=1, stock_quantity=5)
        make("tags")
        make("posts", author_id=1, tag_ids=[n])
        make("accounts", user_id=1, balance=50)
        make("orders", user_id=1, items=[{"product_id": n, "quantity": 1}])
    for n in (1, 2, 3):
        make("transfers", from_account_id=1, to_account_id=2, amount=n)
    client.post("/orders/1/payments", json={"account_id": 2})
    complete(client)
    relate(client)


def test_there_are_rows_in_every_list(client: httpx2.Client, shop: None) -> None:
    found = [path for path in LISTS if is_empty(client, path)]
    assert not found, "have `fill` in tests/test_contract.py make rows for these lists"


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_an_unknown_query_parameter_is_422(
    app_client: httpx2.Client, method: str, path: str
) -> None:
    response = app_client.request(method, filled(path), params={"surprise": "x"}, json={})
    errors = assert_problem(response, 422)["errors"]
    assert ["query", "surprise"] in [error["loc"] for error in errors]


BAD_IDS = ["0", "-1", "2147483648", "abc", "1.0", "01", "+1", "1_0", "%201", "%E2%80%831"]
BAD_IDS += ["9" * 5000]


@pytest.mark.parametrize(("method", "path"), WITH_ID)
def test_an_id_out_of_range_is_422(app_client: httpx2.Client, method: str, path: str) -> None:
    body: dict[str, Any] | None = {} if (method, path) in WITH_BODY else None
    params = {"new_status": "confirmed"} if path.endswith("/status") else None
    for bad_id in BAD_IDS:
        url = re.sub(r"{\w+}", bad_id, path)
        problem = assert_problem(app_client.request(method, url, json=body, params=params), 422)
        assert "path" in [error["loc"][0] for error in problem["errors"]], bad_id


BAD_BODIES = [
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"null", "application/json"),
    (b"5", "application/json"),
    (b'"text"', "application/json"),
    (b"[[]]", "application/json"),
    (b"\xff\xfe{}", "application/json"),
    ("{}".encode("utf-16"), "application/json"),
    (b'{"title": NaN}', "application/json"),
    (b'{"title": 1e999999999}', "application/json"),
    (b'{"title": 1e99999999999999999999}', "application/json"),
    (b'{"title": ' + b"9" * 5000 + b"}", "application/json"),
    (b"[" * 100_000, "application/json"),
    (b'{"a":' * 100_000, "application/json"),
    (b'{"\\ud800": 1}', "application/json"),
    (b"title=x&price=1", "application/x-www-form-urlencoded"),
    (b"{}", "text/plain"),
    (b"<a/>", "application/xml"),
    (b"{}", ""),
]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_is_no_json_object_of_ours_is_422(
    app_client: httpx2.Client, method: str, path: str
) -> None:
    for content, content_type in BAD_BODIES:
        headers = {"Content-Type": content_type}
        response = app_client.request(method, filled(path), content=content, headers=headers)
        assert_problem(response, 422)


@pytest.mark.parametrize("path", ["/items/", "/users/"])  # read the short way, and FastAPI's
@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"\xef\xbb\xbf{}", "This begins with a byte order mark (BOM): send the JSON without it"),
        ("{}".encode("utf-16"), "This is not UTF-8 from byte 1 on"),
        (b'{"title": "caf\xe9"}', "This is not UTF-8 from byte 15 on"),
        (b"{", "This is not JSON from line 1, column 2 on"),
        (b'{\n "price": 1;}', "This is not JSON from line 2, column 12 on"),
        (b"{'title': 1}", "This is not JSON from line 1, column 2 on"),
        (b'{"title": NaN}', "A number is out of bounds, or an object has over 50 keys"),
        (b"[" * 100_000, "This has too many lists or objects inside each other"),
        (b"[]", "Input should be an object, with a name for each value"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_what_is_wrong_with_it(
    app_client: httpx2.Client, path: str, content: bytes, detail: str
) -> None:
    headers = {"Content-Type": "application/json"}
    problem = assert_problem(app_client.post(path, content=content, headers=headers), 422)
    assert problem["detail"] == f"body: {detail}"


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/users/", {"username": "a b"}, "Letters, digits and _ only"),
        ("/users/", {"full_name": "a\0b"}, "Input should be text without U+0000"),
        ("/users/", {"full_name": "\ud800"}, "Input should be valid text"),
        ("/users/bulk", [], "Input should be a list of at least 1"),
        ("/items/", {"is_available": "perhaps"}, "Input should be true or false"),
        ("/items/", {"is_available": 7}, "Input should be true or false"),
        ("/items/", {"price": None}, "Input should be a number"),
        needing("products", "/products/", {"sku": "a b"}, "Letters, digits and hyphens only"),
        needing("tags", "/tags/", {"slug": "A b"}, "Small letters, digits and single hyphens only"),
    ],
)
def test_what_a_value_should_be_is_said_without_patterns_and_names_of_types(
    app_client: httpx2.Client, path: str, body: Json, told: str
) -> None:
    content = json.dumps(body)
    headers = {"Content-Type": "application/json"}
    errors = assert_problem(app_client.post(path, content=content, headers=headers), 422)["errors"]
    name = next(iter(body), None)
    messages = [error["msg"] for error in errors if error["loc"][1:] == ([name] if name else [])]
    assert messages == [told]


def test_each_pattern_of_a_parameter_or_a_body_has_a_sentence() -> None:
    for pattern in re.findall(r'"pattern": "(.*?)"[,}]', json.dumps(main.app.openapi())):
        error = {"ctx": {"pattern": json.loads(f'"{pattern}"')}, "msg": "Pattern", "type": "x"}
        checks = "[0-9]{1,8}", "(?=", r"[^\\s"  # of money, of passwords, of text
        is_of_a_check = any(check in pattern for check in checks)
        assert is_of_a_check or sentence_of(error) != "Pattern", pattern


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_over_the_limit_is_413(app_client: httpx2.Client, method: str, path: str) -> None:
    limit = db.settings.max_body_size
    headers = {"Content-Type": "application/json"}

    def pieces() -> Any:  # without a Content-Length
        for _ in range(limit // 1000 + 2):
            yield b" " * 1000

    for content in (b" " * (limit + 1), pieces()):
        assert_problem(
            app_client.request(method, filled(path), content=content, headers=headers), 413
        )


def test_a_body_of_just_the_limit_is_read(client: httpx2.Client) -> None:
    body = json.dumps({"title": "x", "price": 1}).encode()
    content = body.ljust(db.settings.max_body_size)
    headers = {"Content-Type": "application/json"}
    assert client.post("/items/", content=content, headers=headers).status_code == 201


BLANK = " \u3000\t\n\x1c\x85\u2028"


def filled_fields(method: str, path: str) -> list[str]:
    """The fields of a body whose text may not be empty."""
    schema = resolved(media_of(method, path)["schema"])
    return [name for name, field in schema.get("properties", {}).items() if "minLength" in field]


@pytest.mark.parametrize(
    ("method", "path", "field"), [(m, p, f) for m, p in WITH_BODY for f in filled_fields(m, p)]
)
def test_a_text_that_may_not_be_empty_is_more_than_white_space(
    app_client: httpx2.Client, method: str, path: str, field: str
) -> None:
    body = example_of(media_of(method, path)) | {field: BLANK}
    told = assert_problem(app_client.request(method, filled(path), json=body), 422)
    assert [error["loc"] for error in told["errors"]] == [["body", field]]
    assert not re.search("pattern", told["detail"]) or field in ("username", "sku")
    pattern = resolved(media_of(method, path)["schema"])["properties"][field]["pattern"]
    assert not re.search(pattern, BLANK)


def test_an_answer_never_repeats_the_value_that_it_refuses(app_client: httpx2.Client) -> None:
    bodies: list[dict[str, Any]] = [
        {"username": "s3cret!!", "email": "s3cret!!", "password": "s3cret!!"},
        {"username": "ok_name", "email": "a@s3cret!!", "password": "s3cret!!" * 20},
        {"username": "ok_name", "email": "s3cret!!@example..com", "password": ["s3cret!!"]},
    ]
    for body in bodies:
        text = app_client.post("/users/", json=body).text
        assert "s3cret" not in text


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "skip=-1", "skip=2147483648", "after=-1", "count=maybe"],
)
def test_a_number_out_of_range_is_422_in_every_list(
    app_client: httpx2.Client, path: str, query: str
) -> None:
    assert_problem(app_client.get(asked(path, query)), 422)


@pytest.mark.every_database
@pytest.mark.parametrize("path", LISTS)
def test_the_last_of_a_repeated_parameter_counts(
    client: httpx2.Client, shop: None, path: str
) -> None:
    expected = rows_of(client.get(asked(path, "limit=2")))
    assert rows_of(client.get(asked(path, "limit=0&limit=2"))) == expected


@pytest.mark.every_database
@pytest.mark.parametrize(("path", "sort"), SORTS)
def test_following_the_links_visits_every_row_once(
    client: httpx2.Client, shop: None, path: str, sort: str
) -> None:
    everything = rows_of(client.get(filled(path), params={"sort": sort, "limit": 100}))
    column = sort.removeprefix("-")
    key = [(row[column], row["id"]) for row in everything]
    assert key == sorted(key, reverse=sort.startswith("-"))

    for limit in (1, 2, len(everything) or 1):
        seen = []
        for response in pages(client, f"{filled(path)}?limit={limit}&sort={sort}&count=true"):
            assert response.headers["X-Total-Count"] == str(len(everything))
            assert len(rows_of(response)) <= limit
            seen += rows_of(response)
        assert seen == everything


@pytest.mark.every_database
@pytest.mark.parametrize("path", LISTS)
def test_the_pages_of_every_list_are_linked_to_the_end(
    client: httpx2.Client, shop: None, path: str
) -> None:
    everything = rows_of(client.get(asked(path, "limit=100")))
    seen = [row for r in pages(client, asked(path, "limit=1")) for row in rows_of(r)]
    assert seen == everything


def name_of_table(path: str) -> str:
    """That of the rows of a list: `category` of /categories/."""
    return re.sub("s$", "", re.sub("ies$", "y", path.split("/")[1].replace("-", "_")))


WALKS = [
    (path, sort)
    for path, sort in [*SORTS, *((path, "") for path in LISTS if path == "/products/low-stock")]
    if name_of_table(path) in SQLModel.metadata.tables
]


def table_of(path: str) -> sa.Table:
    return SQLModel.metadata.tables[name_of_table(path)]


def with_parents(table: sa.Table) -> set[sa.Table]:
    parents = {key.column.table for key in table.foreign_keys} - {table}
    return {table}.union(*map(with_parents, parents))


def insert(table: sa.Table, numbers: Iterable[int], column: str = "id") -> None:
    """Rows of these numbers; in the column three have the same value, unless it is unique."""
    unique = [[*c.columns] for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    alone = {c.info.get("field", c.name) for columns in unique for c in columns[len(columns) - 1 :]}
    above = {key.parent.name: None for key in table.foreign_keys if key.column.table is table}
    with db.database.writer.engine.begin() as connection:
        for n in numbers:
            row = some_row(table, n, 60) | above
            if column not in alone | {"id"}:
                row[column] = some_value(column, table.columns[column].type, n % 12 // 3 + 1)
            connection.execute(table.insert(), row)


@pytest.mark.every_database
@pytest.mark.parametrize(("path", "sort"), WALKS)
def test_the_links_lead_once_to_what_stays_whatever_comes_and_goes(
    client: httpx2.Client, path: str, sort: str
) -> None:
    table, column = table_of(path), sort.removeprefix("-") or "stock_quantity"
    for each in SQLModel.metadata.sorted_tables:
        if each in with_parents(table) - {table}:
            insert(each, range(1, 61))
    insert(table, range(1, 25), column)
    query = f"{path}?{sort and f'sort={sort}&'}"
    there = [row["id"] for row in rows_of(client.get(f"{query}limit=100"))]
    seen, new = list[int](), iter([[n, n + 1] for n in range(25, 37, 2)])
    for response in pages(client, f"{query}limit=3"):
        seen += [row["id"] for row in rows_of(response)]
        gone = {seen[-1], *[id for id in there if id not in seen][4:5]}  # of them, the Link's own
        with db.database.writer.engine.begin() as connection:
            connection.execute(table.delete().where(table.columns["id"].in_(gone)))
        insert(table, next(new, []), column)
        there = [id for id in there if id in seen or id not in gone]
    assert len(seen) == len({*seen})
    assert [id for id in seen if id <= 24] == there


@pytest.mark.every_database
def test_after_goes_with_id_in_both_directions_and_with_nothing_else(
    client: httpx2.Client, shop: None
) -> None:
    def ids(query: str) -> list[int]:
        return [item["id"] for item in client.get(f"/items/?{query}").json()]

    assert ids("after=1") == [2, 3]
    assert ids("after=0") == [1, 2, 3]
    assert ids("after=3") == []
    assert ids("after=3&sort=-id") == [2, 1]
    assert ids("after=1&skip=1") == [3]
    assert_problem(client.get("/items/?after=1&sort=price"), 422)


def next_query(response: httpx2.Response) -> dict[str, str]:
    return dict(httpx2.URL(response.links["next"]["url"]).params)


@pytest.mark.parametrize(
    ("path", "sort"), [(p, s) for p, s in WALKS if s.removeprefix("-") != "id"]
)
def test_a_cursor_goes_only_with_its_list_and_its_sort(
    client: httpx2.Client, shop: None, path: str, sort: str
) -> None:
    asked_for = {"limit": "1"} | ({"sort": sort} if sort else {})
    first = client.get(path, params=asked_for)
    if "next" not in first.links:
        pytest.skip("there are not two rows")
    cursor = next_query(first)["cursor"]
    assert first.headers["Link"].startswith(f"<{path}?limit=1&")
    assert rows_of(client.get(f"/api/v1{path}", params=asked_for | {"cursor": cursor}))
    others = [(p, s) for p, s in WALKS if (p == path) != (s == sort)]
    damaged = [
        cursor[:n] + ("B" if c == "A" else "A") + cursor[n + 1 :] for n, c in enumerate(cursor)
    ]
    damaged += [
        cursor[:-1],
        cursor[1:],
        f"{cursor}A",
        f"{cursor}=",
        f" {cursor}",
        f"{cursor}\n",
        "",
    ]
    refused = [(path, asked_for | {"cursor": bad}) for bad in damaged]
    refused += [(p, {"sort": s, "cursor": cursor} if s else {"cursor": cursor}) for p, s in others]
    for url, query in refused:
        [error] = assert_problem(client.get(url, params=query), 422)["errors"]
        assert error["loc"] == ["query", "cursor"]
        assert error["msg"] == "Goes only with the list, and the sort, whose Link it is from"


@pytest.mark.every_database
def test_a_cursor_goes_with_skip_and_count_and_other_filters_but_not_with_after(
    client: httpx2.Client, make: Make
) -> None:
    for n in range(1, 9):
        make("items", price=n // 3 + 1, title=str(n))

    def ids(query: dict[str, Any], count: str = "8") -> list[int]:
        response = client.get("/items/", params=query | {"count": "true"})
        assert response.headers["X-Total-Count"] == count
        return [item["id"] for item in rows_of(response)]

    for sort, order in (("price", [1, 2, 3, 4, 5, 6, 7, 8]), ("-price", [8, 7, 6, 5, 4, 3, 2, 1])):
        first: dict[str, Any] = {"sort": sort, "limit": 3}
        after = first | {"cursor": next_query(client.get("/items/", params=first))["cursor"]}
        assert ids(after) == order[3:6]
        assert ids(after | {"skip": 1}) == order[4:7]
        assert ids(after | {"skip": 4, "limit": 100}) == order[7:]
        assert ids(after | {"min_price": 2}, "6") == [id for id in order[3:] if id > 2][:3]
        assert "skip" not in next_query(client.get("/items/", params=after | {"skip": 1}))
        assert_problem(client.get("/items/", params=after | {"after": 1}), 422)


@pytest.mark.needs("products")
@pytest.mark.every_database
def test_every_value_that_is_sorted_by_comes_through_a_link(
    client: httpx2.Client, make: Make
) -> None:
    titles = [
        " a",
        "a",
        "a ",
        "A",
        "é",
        "e\u0301",
        "\U0001f600" * 200,
        "\x01" * 200,
        '"\\\n%&+/=',
        "ß",
    ]
    for title in titles:
        make("items", title=title, price="99999999.99")
    make("products", stock_quantity=2**31 - 1)
    make("products")
    begin, table = datetime(2026, 1, 1, tzinfo=UTC), table_of("/products/")
    with db.database.writer.engine.begin() as connection:
        more = {"stock_quantity": 2**40, "created_at": begin.replace(microsecond=1)}
        connection.execute(table.update().where(table.c.id == 1).values(more))
        connection.execute(table.update().where(table.c.id == 2).values(created_at=begin))

    def walk(path: str, sort: str, key: str) -> list[Any]:
        found = pages(client, f"{path}?limit=1&sort={sort}")
        return [row[key] for response in found for row in rows_of(response)]

    assert walk("/items/", "title", "title") == sorted(titles)
    assert walk("/items/", "-title", "title") == sorted(titles, reverse=True)
    assert walk("/items/", "-price", "id") == list(range(len(titles), 0, -1))
    assert walk("/products/", "-stock_quantity", "stock_quantity") == [2**40, 100]
    assert walk("/products/", "created_at", "id") == [2, 1]
    assert walk("/products/", "-created_at", "id") == [1, 2]


@pytest.mark.every_database
def test_a_link_keeps_every_other_parameter_and_head_tells_it_too(
    client: httpx2.Client, shop: None
) -> None:
    kept = "limit=1&sort=price&min_price=1&q=%26%3D%2B&q=item+"
    answers = [client.request(method, f"/items/?{kept}&skip=0") for method in ("GET", "HEAD")]
    assert {answer.headers["Link"] for answer in answers} == {answers[0].headers["Link"]}
    assert answers[0].headers["Link"].startswith(f"</items/?{kept}&cursor=")


@pytest.mark.every_database
def test_a_total_is_counted_only_when_asked_and_of_the_whole_filter(
    client: httpx2.Client, shop: None
) -> None:
    assert "X-Total-Count" not in client.get("/items/").headers
    query = "/items/?count=true&min_price=2&limit=1&after=1"
    assert client.get(query).headers["X-Total-Count"] == "2"


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/items/1/nothing", "/users/1/posts", "/items//", "/items/%0A", "/items/1%0D%0A"],
)
def test_an_unknown_path_is_404(app_client: httpx2.Client, path: str) -> None:
    assert_problem(app_client.get(path), 404)


def test_a_fault_of_ours_is_a_problem_too_and_says_nothing_about_it(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(db.database.reader, "session", broken)
    problem = assert_problem(client.get("/items/"), 500)
    assert "secret" not in str(problem)


def test_every_text_column_has_a_length() -> None:
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            length = getattr(column.type, "length", 1) or getattr(column.type, "enums", None)
            what = f"{column}: see the beginning of models.py for fields that may be null"
            assert length or isinstance(column.type, sa.Text), what


ANN = {"username": "ann", "email": "ann@x.org", "password": "Password1"}
BOB = {"username": "bob", "email": "bob@x.org", "password": "Password1"}
EVE = {"username": "eve", "email": "eve@x.org", "password": "Password1"}
KIT = {"name": "Kit", "slug": "kit", "sku": "KIT", "price": 1}


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", "/users/", ANN | {"username": "ANN"}, "username already exists"),
        ("PATCH", "/users/2", {"email": "ann@x.org", "username": "Ann"}, "username already exists"),
        ("PUT", "/users/2", BOB | {"email": "ANN@x.org"}, "email already exists"),
        ("POST", "/users/bulk", [EVE, EVE], "username already exists"),
        ("POST", "/users/bulk", [ANN | {"username": "kit"}, ANN], "username already exists"),
        needing(
            "categories",
            "POST",
            "/categories/",
            {"slug": "pots", "name": "Pots"},
            "name already exists",
        ),
        needing(
            "products",
            "POST",
            "/products/",
            KIT | {"category_id": 1},
            "name with this category_id already exists",
        ),
        needing("products", "POST", "/products/", KIT, "slug already exists"),
        needing(
            "products",
            "POST",
            "/products/",
            KIT | {"slug": "new", "category_id": 9},
            "sku already exists",
        ),
    ],
)
def test_of_several_fields_that_are_taken_the_first_is_named(
    client: httpx2.Client, method: str, path: str, body: Any, detail: str
) -> None:
    for user in (ANN, BOB):
        client.post("/users/", json=user)
    client.post("/categories/", json={"name": "Pots", "slug": "pots"})
    client.post("/products/", json=KIT | {"category_id": 1})
    problem = assert_problem(client.request(method, path, json=body), 409)
    assert problem["detail"] == detail


# Examples

EXAMPLES = [
    pytest.param(method, path, content_type, media, id=f"{method} {path} {content_type}")
    for path, operations in PATHS.items()
    for method, operation in operations.items()
    for content_type, media in operation.get("requestBody", {"content": {}})["content"].items()
    if content_type != "multipart/form-data"  # with the file that is an example of its own
]


def demo(make: Make) -> None:
    main.demo(**dict.fromkeys(signature(main.demo).parameters, 20))


@pytest.mark.parametrize(("method", "path", "content_type", "media"), EXAMPLES)
def test_the_example_of_every_body_works_as_it_is(
    client: httpx2.Client,
    built: Callable[[Build], None],
    close: Callable[[], None],
    method: str,
    path: str,
    content_type: str,
    media: Json,
) -> None:
    built(demo)
    order = {"id": 1}
    if "orders" in SECTIONS:  # the one that is paid, or changed
        order = client.post("/orders/", json=SCHEMAS["OrderCreate"]["examples"][0]).json()
    collection = path.partition("{")[0]
    if "{" in path and client.get(f"{collection}1").status_code == 404:  # the demo has none
        body = example_of(media_of("POST", collection))
        client.post(collection, json=body).raise_for_status()
    if path == "/token":
        client.post("/users/", json=SCHEMAS["UserCreate"]["examples"][0]).raise_for_status()
        close()
    url = re.sub("{[a-z_]+}", "1", path.replace("{order_id}", str(order["id"])))
    kind = {"application/json": "json", "application/x-www-form-urlencoded": "data"}
    sent: Json = {kind.get(content_type, "content"): example_of(media)}
    if "content" in sent:
        sent["headers"] = {"Content-Type": content_type}
    response = client.request(method, url, **sent)
    assert response.is_success, response.text
