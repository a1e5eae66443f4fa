"""Tables as files: the export, the import, and that the one takes what the other gives.

Most is tried with products; categories and tags have what is their own at the end.
"""

import contextlib
import csv
import gc
import io
import json
import os
import re
import resource
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import Json, Make, needing, pages
from document import model_of, with_defaults
from servers import (
    Call,
    assert_busy,
    at_once,
    create_product,
    create_user,
    running,
    sender,
    statuses,
)
from test_hostile import VALUES, Request, assert_alike_everywhere
from test_hostile import send as send_civilly

import main

pytestmark = pytest.mark.needs("products")

Product = model_of("Product")
KNOWN = (
    "id,name,slug,description,price,stock_quantity,sku,is_active,category,created_at,updated_at,"
    "version"
)
FILE: Any = getattr(main, "products_file", None)
IN_FILE: dict[str, str] = FILE.fields if FILE else {}  # by column: what it is called there
HEADER = ",".join(IN_FILE.values())
CSV = "text/csv"
JSONL = "application/jsonl"
FORMATS = pytest.mark.parametrize("format", ["csv", "jsonl"])
IMPORT_ROWS = int(os.environ.get("IMPORT_ROWS", "20000"))
NASTY = [
    'with "quotes", and commas',
    "two\nlines",
    "two\r\nlines",
    "a lone\rreturn",
    "\n",
    "\r",
    "\t",
    " ",
    "trailing spaces  ",
    "  leading spaces",
    "'",
    "''",
    '"',
    "'quoted'",
    "'=x",
    "''=x",
    "' =x",
    "=1+1",
    "+1",
    "-1",
    "@x",
    " =1+1",
    "\t=1+1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    "\u00a0=1",
    "\u2028=1",
    "007",
    "1e5",
    "1.0",
    "true",
    "FALSE",
    "null",
    "None",
    "NaN",
    "2026-01-01",
    "\U0001f600 \u00e4\u00f6\u00fc \u6f22",
    "\ufeffmarked",
    "\u2028",
    "\x85",
    "\x1c",
    "\x7f",
    ",",
    ";",
    "x;=1",
    "x\n-1",
    "\\",
    "\\n",
    "{}",
]


def export(client: httpx2.Client, format: str = "csv", of: str = "products") -> httpx2.Response:
    response = client.get(f"/{of}/export?format={format}")
    assert response.status_code == 200, response.text
    return response


def send(
    client: httpx2.Client, content: str | bytes, kind: str = CSV, to: str = "products"
) -> httpx2.Response:
    headers = {"Content-Type": kind}
    return client.post(f"/{to}/import", content=content, headers=headers)


def send_rows(client: httpx2.Client, *rows: Json) -> httpx2.Response:
    return send(client, "".join(f"{json.dumps(row)}\n" for row in rows), JSONL)


def counts(response: httpx2.Response) -> tuple[int, int]:
    """How many were created and updated; the whole answer is that."""
    assert response.status_code == 200, response.text
    found = response.json()
    assert list(found) == ["created", "updated"]
    return found["created"], found["updated"]


def refused(response: httpx2.Response) -> list[tuple[list[int | str], str]]:
    """Where the errors are, and of which type; the rest of a 422 is asserted here."""
    assert response.status_code == 422, response.text
    body = response.json()
    assert list(body) == ["type", "title", "status", "detail", "errors"]
    assert body["detail"].startswith("line ")
    assert all(list(error) == ["loc", "msg", "type"] for error in body["errors"])
    return [(error["loc"], error["type"]) for error in body["errors"]]


def catalogue(client: httpx2.Client, of: str = "products") -> list[Json]:
    return [row for page in pages(client, f"/{of}/?limit=100") for row in page.json()]


def without_ids(rows: Iterable[Json]) -> list[Json]:
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def wipe(client: httpx2.Client, what: str = "products") -> None:
    for row in catalogue(client, what):
        assert client.delete(f"/{what}/{row['id']}").status_code == 204


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def numbered(numbers: Iterable[int], description: str = "") -> Iterator[bytes]:
    """A CSV of so many products, piece by piece."""
    yield b"sku,name,price,stock_quantity,description\r\n"
    for n in numbers:
        yield f"N-{n},Number {n},{n % 1000 + 1}.50,{n % 100},{description}\r\n".encode()


def many(client: httpx2.Client, n: int, description: str = "") -> None:
    whole = b"".join(numbered(range(1, n + 1), description))
    assert counts(send(client, whole)) == (n, 0)


def in_columns(*known: str) -> str:
    """A line with these cells, and empty ones for columns of your own."""
    cells = dict(zip(KNOWN.split(","), known, strict=True))
    return ",".join(cells.get(name, "") for name in HEADER.split(","))


# The export


def test_the_export_has_every_column_of_a_product(client: httpx2.Client, make: Make) -> None:
    make("products")
    (line,) = export(client, "jsonl").text.splitlines()
    assert [*json.loads(line)] == HEADER.split(",")
    assert {*KNOWN.split(",")} <= {*json.loads(line)}


def test_an_empty_catalogue_is_exported_as_csv_with_its_header(client: httpx2.Client) -> None:
    response = client.get("/products/export")
    assert response.status_code == 200
    assert response.content == f"\ufeff{HEADER}\r\n".encode()
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="products.csv"'


def test_an_empty_catalogue_is_exported_as_no_lines_of_json(client: httpx2.Client) -> None:
    response = export(client, "jsonl")
    assert response.content == b""
    assert response.headers["Content-Type"] == "application/jsonl"
    assert response.headers["Content-Disposition"] == 'attachment; filename="products.jsonl"'


@pytest.mark.every_database
def test_csv_has_a_line_for_each_product_in_the_order_of_ids(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", slug="pots")
    pot = make("products", name='A "pot", big', price="24.5", sku="b-2", category_id=1)
    pan = make("products", name="Pan", description="", sku="a-1", is_active=False)
    times = [(row["created_at"], row["updated_at"]) for row in (pot, pan)]
    first = ("1", '"A ""pot"", big"', "a-pot-big", "", "24.50", "100", "B-2", "true", "pots")
    second = ("2", "Pan", "pan", "'", "10.00", "100", "A-1", "false", "")
    lines = [HEADER, in_columns(*first, *times[0], "1"), in_columns(*second, *times[1], "1")]
    assert export(client).content.decode() == "\ufeff" + "".join(f"{line}\r\n" for line in lines)


@pytest.mark.every_database
def test_json_lines_are_compact_and_have_the_values_of_the_api(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", slug="pots")
    pot = make("products", name="Topf f\u00fcr \u6f22", price="24.5", sku="b-2", category_id=1)
    pan = make("products", name="Pan", description="=1", sku="a-1", is_active=False)
    expected = [
        {IN_FILE[n]: slug if n == "category_id" else v for n, v in row.items()} | {"version": 1}
        for row, slug in ((pot, "pots"), (pan, None))
    ]
    text = "".join(
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in expected
    )
    assert export(client, "jsonl").content.decode() == text


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
        " =1",
        "'=1",
        "''-1",
        " ' =1",
        "'",
        "",
    ],
)
def test_csv_has_an_apostrophe_before_what_is_a_formula_or_would_be_taken_for_a_mark(
    client: httpx2.Client, make: Make, text: str
) -> None:
    make("products", description=text)
    assert [row["description"] for row in records(export(client).text)] == [f"'{text}"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("x\t-1", "x\t'-1"),
        ("x\n@x", "x\n'@x"),
        ("x\r\n+1", "x\r'\n'+1"),
        ('x;"=1', "x;'\"=1"),
        ("x; ;\uff1d1", "x;' ;'\uff1d1"),
        ("x;'=1", "x;''=1"),
        (";=1;2;-1", ";'=1;2;'-1"),
        ("\n=1", "'\n'=1"),
    ],
)
def test_csv_has_an_apostrophe_before_what_is_a_formula_where_others_separate(
    client: httpx2.Client, make: Make, text: str, cell: str
) -> None:
    before = make("products", description=text)
    file = export(client).text
    assert [row["description"] for row in records(file)] == [cell]
    assert counts(send(client, file)) == (0, 1)
    assert catalogue(client) == [before]


@pytest.mark.parametrize("text", ["x", "1", "'x", "x=1", "a-b", " x", "''", "(=1)", "a; b\nc;'d"])
def test_csv_has_other_text_as_it_is(client: httpx2.Client, make: Make, text: str) -> None:
    make("products", description=text)
    expected = f"'{text}" if text == "''" else text
    assert [row["description"] for row in records(export(client).text)] == [expected]


@FORMATS
def test_head_of_an_export_has_the_headers_and_no_body(client: httpx2.Client, format: str) -> None:
    head = client.head(f"/products/export?format={format}")
    assert (head.status_code, head.content) == (200, b"")
    get = export(client, format)
    for name in ("Content-Type", "Content-Disposition"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("query", "place"), [("format=xlsx", "format"), ("format=", "format"), ("limit=1", "limit")]
)
def test_an_unknown_format_or_parameter_of_an_export_is_a_422(
    client: httpx2.Client, query: str, place: str
) -> None:
    response = client.get(f"/products/export?{query}")
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["query", place]]


@pytest.mark.every_database
@FORMATS
@pytest.mark.parametrize("n", [49, 50, 51, 100, 101])
def test_an_export_of_several_batches_has_every_product_once(
    client: httpx2.Client, n: int, format: str
) -> None:
    many(client, n)
    text = export(client, format).text
    rows = records(text) if format == "csv" else [json.loads(line) for line in text.splitlines()]
    assert [int(row["id"]) for row in rows] == list(range(1, n + 1))
    assert [row["sku"] for row in rows] == [f"N-{id}" for id in range(1, n + 1)]


@pytest.mark.system
@pytest.mark.every_database
def test_an_export_has_each_product_once_while_others_come_change_and_go(
    server: httpx2.Client,
) -> None:
    n = 2500  # 25 MB: more than is on its way at any time
    many(server, n, "x" * 10_000)
    with server.stream("GET", "/products/export?format=jsonl") as response:
        lines = response.iter_lines()
        rows = [json.loads(next(lines))]
        for id in range(1, 51):
            assert server.delete(f"/products/{id}").status_code == 204
        for id in range(51, 61):
            assert server.patch(f"/products/{id}", json={"price": 1}).status_code == 200
        create_product(server, 1, 1)
        rows += [json.loads(line) for line in lines]
    ids = [row["id"] for row in rows]
    assert ids == sorted(set(ids))
    assert set(range(51, n + 1)) <= set(ids) <= set(range(1, n + 2))


# The import: what it does


@pytest.mark.every_database
def test_an_import_creates_products_with_defaults(client: httpx2.Client) -> None:
    response = send(client, "sku,name,price\r\npot-1,Tea Pot,24.5\r\n")
    assert counts(response) == (1, 0)
    product = client.get("/products/1").json()
    expected = {
        "id": 1,
        "name": "Tea Pot",
        "slug": "tea-pot",
        "description": None,
        "price": 24.5,
        "stock_quantity": 0,
        "sku": "POT-1",
        "is_active": True,
        "category_id": None,
        "created_at": product["created_at"],
        "updated_at": product["created_at"],
    }
    assert product == with_defaults(Product, expected)


@pytest.mark.every_database
def test_an_import_takes_every_column(client: httpx2.Client, make: Make) -> None:
    make("categories", slug="pots")
    cells = ["7", "Pot", "the-pot", '"Holds\r\ntea."', "24.50", "3", "POT", "FALSE", "pots"]
    cells += ["2020-01-02T03:04:05Z", "2021-01-02T03:04:05.678901Z", "3"]
    send(client, f"{HEADER}\r\n{in_columns(*cells)}\r\n").raise_for_status()
    expected = {
        "id": 1,
        "name": "Pot",
        "slug": "the-pot",
        "description": "Holds\r\ntea.",
        "price": 24.5,
        "stock_quantity": 3,
        "sku": "POT",
        "is_active": False,
        "category_id": 1,
        "created_at": "2020-01-02T03:04:05Z",
        "updated_at": "2021-01-02T03:04:05.678901Z",
    }
    assert catalogue(client) == [with_defaults(Product, expected)]


@pytest.mark.every_database
def test_times_in_another_zone_are_kept_as_the_same_moment(client: httpx2.Client) -> None:
    row = {"sku": "A", "name": "A", "price": 1, "created_at": "2020-01-01T00:00:00+02:00"}
    assert counts(send_rows(client, row)) == (1, 0)
    (product,) = catalogue(client)
    assert product["created_at"] == product["updated_at"] == "2019-12-31T22:00:00Z"


@pytest.mark.every_database
def test_a_created_product_is_at_its_first_version(client: httpx2.Client, make: Make) -> None:
    make("products")
    send_rows(client, {"sku": "A", "name": "A", "price": 1}).raise_for_status()
    first, second = (client.get(f"/products/{id}").headers["ETag"] for id in (1, 2))
    assert first == second


@pytest.mark.every_database
def test_an_import_changes_what_is_sent_of_a_product_and_nothing_else(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", slug="pots")
    before = make("products", sku="POT", description="Holds tea.", category_id=1)
    etag = client.get("/products/1").headers["ETag"]
    assert counts(send(client, "price,sku\r\n12.5,pOt\r\n")) == (0, 1)
    response = client.get("/products/1")
    after = response.json()
    assert after == before | {"price": 12.5, "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert response.headers["ETag"] != etag


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("name", "Pan", {"name": "Pan"}),
        ("slug", "pan", {"slug": "pan"}),
        ("description", "Fries.", {"description": "Fries."}),
        ("price", "0.01", {"price": 0.01}),
        ("stock_quantity", "0", {"stock_quantity": 0}),
        ("is_active", "TRUE", {"is_active": True}),
        ("category", "pans", {"category_id": 2}),
        ("description", "", {"description": None}),
        ("category", "", {"category_id": None}),
    ],
)
def test_an_import_changes_any_field(
    client: httpx2.Client, make: Make, column: str, value: str, expected: Json
) -> None:
    make("categories", slug="pots")
    make("categories", slug="pans")
    before = make("products", sku="P", description="x", category_id=1, is_active=False)
    assert counts(send(client, f"sku,{column}\nP,{value}\n")) == (0, 1)
    (after,) = catalogue(client)
    assert after == before | expected | {"updated_at": after["updated_at"]}


@pytest.mark.every_database
@pytest.mark.parametrize("column", ["name", "slug", "price", "stock_quantity", "is_active"])
def test_an_empty_cell_leaves_a_field_that_is_never_null_as_it_is(
    client: httpx2.Client, make: Make, column: str
) -> None:
    before = make("products", sku="P", slug="own", is_active=False)
    assert counts(send(client, f"sku,{column}\nP,\n")) == (0, 1)
    assert catalogue(client) == [before]


@pytest.mark.every_database
@FORMATS
def test_an_unchanged_product_keeps_its_version_and_time(
    client: httpx2.Client, make: Make, format: str
) -> None:
    make("categories")
    make("products", category_id=1, description="x")
    make("products")
    before = [client.get(f"/products/{id}") for id in (1, 2)]
    assert counts(send(client, export(client, format).content, format_type(format))) == (0, 2)
    after = [client.get(f"/products/{id}") for id in (1, 2)]
    assert [r.json() for r in after] == [r.json() for r in before]
    assert [r.headers["ETag"] for r in after] == [r.headers["ETag"] for r in before]


def format_type(format: str) -> str:
    return CSV if format == "csv" else JSONL


@pytest.mark.every_database
def test_ids_and_times_of_products_that_exist_stay(client: httpx2.Client, make: Make) -> None:
    make("products")
    before = make("products", sku="P")
    row = {"id": 1, "created_at": "2001-01-01T00:00:00Z", "updated_at": "2001-01-01T00:00:00Z"}
    assert counts(send_rows(client, {"sku": "P", **row})) == (0, 1)
    assert client.get("/products/2").json() == before


@pytest.mark.every_database
def test_slugs_made_from_names_are_distinct(client: httpx2.Client, make: Make) -> None:
    make("products", name="Pot")
    rows = "".join(f"S{n},Pot,1\n" for n in range(12))
    assert counts(send(client, f"sku,name,price\n{rows}S99,???,1\n")) == (13, 0)
    slugs = [row["slug"] for row in catalogue(client)]
    assert slugs == ["pot", *(f"pot-{n}" for n in range(2, 14)), "product"]


@pytest.mark.every_database
def test_a_same_sku_twice_is_created_then_changed(client: httpx2.Client) -> None:
    response = send(client, "sku,name,price,stock_quantity\na,A,1,5\nA,,2,\n")
    assert counts(response) == (1, 1)
    (product,) = catalogue(client)
    assert (product["name"], product["price"], product["stock_quantity"]) == ("A", 2, 5)


@pytest.mark.every_database
def test_a_same_sku_twice_far_apart_is_created_then_changed(client: httpx2.Client) -> None:
    rows = b"".join(numbered(range(1, 1201)))
    assert counts(send(client, rows + b"n-1,Changed,7,,\r\n")) == (1200, 1)
    assert client.get("/products/1").json()["name"] == "Changed"
    assert client.get("/products/1").json()["price"] == 7


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("sku,slug\nA,c\nB,a\n", 2),
        ("sku,slug,price\nB,,5\nA,c,\nB,a,\n", 3),  # by a product that was named before
    ],
)
def test_a_slug_that_an_earlier_line_gives_up_can_be_taken(
    client: httpx2.Client, make: Make, text: str, lines: int
) -> None:
    make("products", sku="A", slug="a")
    make("products", sku="B", slug="b")
    assert counts(send(client, text)) == (0, lines)
    assert [row["slug"] for row in catalogue(client)] == ["c", "a"]


@pytest.mark.every_database
def test_a_name_that_an_earlier_line_moves_away_can_be_taken(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", slug="pots")
    make("products", sku="A", name="Pot", category_id=1)
    make("products", sku="B", name="Pot")
    assert counts(send(client, "sku,category\nA,\nB,pots\n")) == (0, 2)
    assert [row["category_id"] for row in catalogue(client)] == [None, 1]


@pytest.mark.every_database
def test_the_same_name_may_be_in_two_categories_and_twice_in_none(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", slug="pots")
    make("categories", slug="pans")
    text = "sku,name,price,category\nA,X,1,pots\nB,X,1,pans\nC,X,1,\nD,X,1,\n"
    assert counts(send(client, text)) == (4, 0)
    assert [row["category_id"] for row in catalogue(client)] == [1, 2, None, None]


@pytest.mark.parametrize(
    "content",
    [
        b"sku,name,price\r\nA,A,1\r\n",
        b"sku,name,price\nA,A,1",
        b"\xef\xbb\xbfsku,name,price\r\nA,A,1\n",
        b'\xef\xbb\xbf"sku","name","price"\n"A","A","1"\n',
        b"price,sku,name\n1,a,A\n\n\r\n",
        b"sku,name,price\n\n\r\nA,A,1\n",
        b"sku,name,price\nA,A,1.0\n",
    ],
)
def test_csv_is_taken_with_a_mark_or_not_and_any_line_end(
    client: httpx2.Client, content: bytes
) -> None:
    assert counts(send(client, content)) == (1, 0)
    (product,) = catalogue(client)
    assert (product["sku"], product["name"], product["price"]) == ("A", "A", 1)


@pytest.mark.parametrize(
    "content",
    [
        b'{"sku": "A", "name": "A", "price": 1}\n',
        b'{"sku": "A", "name": "A", "price": "1.00"}',
        b'\xef\xbb\xbf{"sku": "A", "name": "A", "price": 1}\r\n\r\n',
        b'\n\n  {"sku": "A", "name": "A", "price": 1.0, "slug": null}  \n\n',
    ],
)
def test_json_lines_are_taken_with_a_mark_or_not_and_any_line_end(
    client: httpx2.Client, content: bytes
) -> None:
    assert counts(send(client, content, JSONL)) == (1, 0)
    (product,) = catalogue(client)
    assert (product["sku"], product["name"], product["price"]) == ("A", "A", 1)


@pytest.mark.parametrize("content", [f"{HEADER}\r\n", f"\ufeff{HEADER}", "sku\n\n\n"])
def test_a_header_alone_imports_nothing(client: httpx2.Client, content: str) -> None:
    assert counts(send(client, content)) == (0, 0)


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_no_lines_of_json_import_nothing(client: httpx2.Client, content: str) -> None:
    assert counts(send(client, content, JSONL)) == (0, 0)


# What comes out goes in again


@pytest.mark.every_database
@FORMATS
def test_a_catalogue_that_is_exported_wiped_and_imported_is_the_same(
    client: httpx2.Client, make: Make, format: str
) -> None:
    make("categories", slug="pots")
    for n, text in enumerate([*NASTY, "x"]):
        name = text if text.strip() else f"Blank {n}"
        make("products", name=name, description=text, sku=f"-{n}-", category_id=1)
    make("products", description="", price=0.01, is_active=False)
    make("products", price="99999999.99", stock_quantity=2**31 - 1, name="n" * 200)
    assert client.patch("/products/1", json={"price": 3}).status_code == 200
    file, before = export(client, format).content, catalogue(client)
    wipe(client)
    assert counts(send(client, file, format_type(format))) == (len(before), 0)
    assert without_ids(catalogue(client)) == without_ids(before)
    assert counts(send(client, file, format_type(format))) == (0, len(before))
    assert without_ids(catalogue(client)) == without_ids(before)


# What an import refuses


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/json",
        "text/plain",
        "text/csv; charset=latin-1",
        "text/csv; charset=utf-16",
        "application/jsonl; charset=windows-1252",
        "text/csv, text/csv",
    ],
)
def test_another_content_type_or_charset_is_a_415(client: httpx2.Client, kind: str) -> None:
    response = send(client, "sku,name,price\nA,A,1\n", kind)
    assert response.status_code == 415
    assert response.json() == {
        "type": "about:blank",
        "title": "Unsupported Media Type",
        "status": 415,
        "detail": (
            "Send text/csv or application/jsonl, in UTF-8, or a form with it as the part `file`"
        ),
    }
    assert catalogue(client) == []


@pytest.mark.parametrize(
    "kind", ["TEXT/CSV", "text/csv; charset=UTF-8", 'text/csv;header=present;charset="utf-8"']
)
def test_a_content_type_may_have_parameters_and_capitals(client: httpx2.Client, kind: str) -> None:
    assert counts(send(client, "sku,name,price\nA,A,1\n", kind)) == (1, 0)


@pytest.mark.parametrize(
    "kind",
    [
        "text/csv; charset*" + "1" * 5000 + "=utf-8",
        "text/csv; charset*=x''%ff",
        "text/csv; charset*=idna''%2e%2e",
        "text/csv; charset*0=u; charset*1=tf-8",
        "text/csv; charset*0*=u; charset*00=tf-8",
        'text/csv; charset="',
        "text/csv; =; ;;",
    ],
)
def test_an_odd_content_type_is_taken_or_a_415(client: httpx2.Client, kind: str) -> None:
    assert send(client, "sku\n", kind).status_code in (200, 415)


def test_an_unknown_parameter_of_an_import_is_a_422(client: httpx2.Client) -> None:
    response = client.post(
        "/products/import?dry_run=1", content="sku\n", headers={"Content-Type": CSV}
    )
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["query", "dry_run"]]


def test_a_refused_line_is_told_by_its_number_and_field(client: httpx2.Client) -> None:
    response = send(client, "sku,name,price\nA,A,1\nB,B,-1\n")
    assert response.status_code == 422
    assert response.json() == {
        "type": "about:blank",
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": "line 3.price: Input should be greater than 0",
        "errors": [
            {
                "loc": ["line", 3, "price"],
                "msg": "Input should be greater than 0",
                "type": "greater_than",
            }
        ],
    }
    assert catalogue(client) == []


@pytest.mark.every_database
def test_a_refused_import_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("products", sku="P")
    text = b"".join(numbered(range(1200))) + b"P,Changed,1,1,\r\nX,,1,1,\r\n"
    assert refused(send(client, text)) == [(["line", 1203, "name"], "missing")]
    assert catalogue(client) == [before]


BAD_CSV: list[tuple[str | bytes, list[tuple[int | str, ...]]]] = [
    ("sku,name,price\nA,A,\n", [(2, "price")]),
    ("sku,name,price\nA,,1\n", [(2, "name")]),
    ("sku,price,name\nA,,\n", [(2, "name"), (2, "price")]),
    ("sku,name,price\n,A,1\n", [(2, "sku")]),
    ("sku,name,price\nA B,A,1\n", [(2, "sku")]),
    ("sku,name,price\nA,A,1e5\n", [(2, "price")]),
    ("sku,name,price\nA,A,NaN\n", [(2, "price")]),
    ("sku,name,price\nA,A,Infinity\n", [(2, "price")]),
    ("sku,name,price\nA,A,1_000\n", [(2, "price")]),
    ('sku,name,price\nA,A,"1,5"\n', [(2, "price")]),
    ("sku,name,price\nA,A,1.005\n", [(2, "price")]),
    ("sku,name,price\nA,A,0\n", [(2, "price")]),
    ("sku,name,price\nA,A,100000000\n", [(2, "price")]),
    ("sku,name,price\nA,A,'1\n", [(2, "price")]),
    ("sku,name,price,stock_quantity\nA,A,1,-1\n", [(2, "stock_quantity")]),
    ("sku,name,price,stock_quantity\nA,A,1,1.5\n", [(2, "stock_quantity")]),
    ("sku,name,price,stock_quantity\nA,A,1,9007199254740993\n", [(2, "stock_quantity")]),
    ("sku,name,price,is_active\nA,A,1,1\n", [(2, "is_active")]),
    ("sku,name,price,is_active\nA,A,1,yes\n", [(2, "is_active")]),
    ("sku,name,price,id\nA,A,1,0\n", [(2, "id")]),
    ("sku,name,price,slug\nA,A,1,A\n", [(2, "slug")]),
    ("sku,name,price,category\nA,A,1,none\n", [(2, "category")]),
    ("sku,name,price,category\nA,A,1,Not A Slug\n", [(2, "category")]),
    ("sku,name,price,created_at\nA,A,1,yesterday\n", [(2, "created_at")]),
    ("sku,name,price,created_at\nA,A,1,2026-01-01T00:00:00\n", [(2, "created_at")]),
    ("sku,name,price,created_at\nA,A,1,1969-12-31T23:59:59Z\n", [(2, "created_at")]),
    ("sku,name,price,created_at\nA,A,1,9999-12-31T00:00:00Z\n", [(2, "created_at")]),
    ("sku,name,price,created_at\nA,A,1,2026-02-30T00:00:00Z\n", [(2, "created_at")]),
    (f"sku,name,price\nA,{'n' * 201},1\n", [(2, "name")]),
    ("sku,name,price\nA,A,1,1\n", [(2,)]),
    ("sku,name,price\nA,A\n", [(2,)]),
    ('sku,name,price\nA,"A" ,1\n', [(2,)]),
    ('sku,name,price\nA,"A,1\n', [(2,)]),
    ("sku,name,price\nA,A\r,1\n", [(2,)]),
    ("sku,name,price\nA,A\0,1\n", [(2, "name")]),
    (b"sku,name,price\nA,\xff,1\n", [(2, "name")]),
    (b"sku,name,price\nA,\xed\xa0\x80,1\n", [(2, "name")]),
    (b"sku,name,price\nA,A,\xff\n", [(2, "price")]),
    (b"sku,name,price,created_at\nA,A,1,\xff\n", [(2, "created_at")]),
    (b"sku,name,price,is_active\nA,A,1,\xff\n", [(2, "is_active")]),
    (b"sku,name,price,id\nA,A,1,\xff\n", [(2, "id")]),
    (b"sku,name,price,category\nA,A,1,\xff\n", [(2, "category")]),
    ("sku,name,price\nA,A,1\n\ufeffB,B,1\n", [(3, "sku")]),
    ("sku,name,colour\nA,A,red\n", [(1, "colour")]),
    ("sku,name,name\nA,A,A\n", [(1, "name"), (1, "name")]),
    ("sku,category_id\nA,1\n", [(1, "category_id")]),
    ("SKU ,sku,name\nA,A,1\n", [(1, "sku")]),
    ("name,price\nA,1\n", [(1, "sku")]),
    ("", [(1, "sku")]),
    ("\n\n", [(1, "sku")]),
    (
        'sku,name,price\nA,"two\nlines",1\nB,"three\n\nlines",-1\n\nC,C,\n',
        [(4, "price"), (8, "price")],
    ),
]
BAD_CSV_IDS = [repr(content)[15:60] for content, _ in BAD_CSV]


@pytest.mark.parametrize(("content", "places"), BAD_CSV, ids=BAD_CSV_IDS)
def test_csv_that_is_wrong_is_refused_where_it_is_wrong(
    client: httpx2.Client, content: str | bytes, places: list[tuple[int | str, ...]]
) -> None:
    found = refused(send(client, content))
    assert sorted(tuple(loc[1:]) for loc, _ in found) == sorted(dict.fromkeys(places))
    assert catalogue(client) == []


BAD_JSON: list[tuple[str | bytes, list[tuple[int | str, ...]]]] = [
    ("{", [(1,)]),
    ("null", [(1,)]),
    ("[]", [(1,)]),
    ('"text"', [(1,)]),
    ("\n\n1\n", [(3,)]),
    ("{} {}", [(1,)]),
    ("{}", [(1, "sku")]),
    ('{"sku": null}', [(1, "sku")]),
    ('{"sku": 1}', [(1, "sku")]),
    ('{"sku": "A"}', [(1, "name"), (1, "price")]),
    ('{"sku": "A", "name": null, "price": 1}', [(1, "name")]),
    ('{"sku": "A", "name": "A", "price": NaN}', [(1,)]),
    ('{"sku": "A", "name": "A", "price": true}', [(1, "price")]),
    ('{"sku": "A", "name": "A", "price": 1e400}', [(1,)]),
    ('{"sku": "A", "name": "A", "price": ' + "9" * 5000 + "}", [(1,)]),
    ('{"sku": "A", "name": "A", "price": 1, "is_active": "true"}', [(1, "is_active")]),
    ('{"sku": "A", "name": "A", "price": 1, "category_id": 1}', [(1, "category_id")]),
    ('{"sku": "A", "name": "A", "price": 1, "category": 1}', [(1, "category")]),
    ('{"sku": "A", "name": "\\u0000", "price": 1}', [(1, "name")]),
    ('{"sku": "A", "name": "\\ud800", "price": 1}', [(1, "name")]),
    ('{"sku": "A", "name": "A", "price": 1, "\\ud800": 1}', [(1,)]),
    ('{"sku": "A", "name": "A", "price": 1, "created_at": "\\ud800"}', [(1, "created_at")]),
    ('{"sku": "A", "name": "A", "price": 1, "category": "\\ud800"}', [(1, "category")]),
    (b'{"sku": "A", "name": "\xff", "price": 1}', [(1, "name")]),
    (b'{"sku": "A", "name": "A\x00", "price": 1}', [(1,)]),
    ("[" * 200_000, [(1,)]),
    ('{"a":' * 100_000, [(1,)]),
    ('{"sku": "A", "name": "A", "price": 1}\n{"sku": "B", "name": "B"}\n', [(2, "price")]),
]


@pytest.mark.parametrize(
    ("content", "places"), BAD_JSON, ids=[repr(content)[:40] for content, _ in BAD_JSON]
)
def test_json_lines_that_are_wrong_are_refused_where_they_are_wrong(
    client: httpx2.Client, content: str | bytes, places: list[tuple[int | str, ...]]
) -> None:
    found = refused(send(client, content, JSONL))
    assert sorted(tuple(loc[1:]) for loc, _ in found) == sorted(places)
    assert catalogue(client) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", [CSV, JSONL])
def test_what_is_not_utf_8_is_refused(client: httpx2.Client, encoding: str, kind: str) -> None:
    text = "sku,name,price\nA,A,1\n" if kind == CSV else '{"sku": "A", "name": "A", "price": 1}\n'
    assert {loc[0] for loc, _ in refused(send(client, text.encode(encoding), kind))} == {"line"}
    assert catalogue(client) == []


def test_what_was_refused_is_not_repeated(client: httpx2.Client, make: Make) -> None:
    make("products", slug="secret-slug", name="SECRET")
    text = (
        "sku,name,price,slug,category,created_at\n"
        "SECRET!,A,1,,,\n"
        f"A,{'SECRET' * 100},1,,,\n"
        "A,A,SECRET,,,\n"
        "A,A,1,secret-slug,,\n"
        "A,A,1,,secret-slug,\n"
        "A,A,1,,,SECRET\n"
        'A,"SECRET"x,1,,,\n'
    )
    response = send(client, text)
    assert [loc[1] for loc, _ in refused(response)] == [2, 3, 4, 5, 6, 7, 8]
    assert "secret" not in response.text.lower()


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("sku,name,price,slug\nB,B,1,taken\n", [["line", 2, "slug"]]),
        ("sku,slug\nOTHER,taken\n", [["line", 2, "slug"]]),
        ("sku,name,price,category\nB,Taken,1,pots\n", [["line", 2, "name"]]),
        ("sku,category\nOTHER,pots\n", [["line", 2, "name"]]),
        (
            "sku,name,price,slug\nB,B,1,new\nC,C,1,new\n",
            [["line", 2, "slug"], ["line", 3, "slug"]],
        ),
        (
            "sku,name,price,category\nB,B,1,pots\nC,B,1,pots\n",
            [["line", 2, "name"], ["line", 3, "name"]],
        ),
    ],
)
def test_a_slug_or_name_that_is_taken_is_refused(
    client: httpx2.Client, make: Make, text: str, places: list[Json]
) -> None:
    make("categories", slug="pots")
    make("products", name="Taken", sku="T", slug="taken", category_id=1)
    make("products", name="Taken", sku="OTHER", slug="other")
    before = catalogue(client)
    assert [loc for loc, _ in refused(send(client, text))] == places
    assert catalogue(client) == before


@pytest.mark.every_database
def test_a_slug_that_a_far_earlier_line_took_is_refused(client: httpx2.Client) -> None:
    text = b"".join(numbered(range(1, 1201))) + b"X,Number 1,1,1,\r\n"
    assert counts(send(client, text)) == (1201, 0)
    assert client.get("/products/1201").json()["slug"] == "number-1-2"
    again = b"sku,slug\r\n" + b"".join(b"N-%d,s%d\r\n" % (n, n) for n in range(1, 1201))
    assert [loc for loc, _ in refused(send(client, again + b"X,s1\r\n"))] == [
        ["line", 2, "slug"],
        ["line", 1202, "slug"],
    ]


@pytest.mark.every_database
def test_lines_far_after_a_bad_one_are_judged_by_what_came_before(client: httpx2.Client) -> None:
    text = b"".join(numbered(range(1, 1201))).replace(b",2.50,", b",-1,", 1)
    assert refused(send(client, text + b"N-900,,7,,\r\n")) == [
        (["line", 2, "price"], "greater_than")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "sku,name,price\n" + "A,A,-1\n" * 100_000,
        "sku,name,price\n" + "A,A\n" * 100_000,
        "sku,name,price,category\n" + "A,A,1,none\n" * 100_000,
        "sku,name,price\n" + "".join(f"S{n},A,\n" for n in range(50_000)),
        "sku,name,price\n" + 'A,"A"A,1\n' * 100_000,
    ],
)
def test_the_first_100_bad_lines_are_told_and_no_more(client: httpx2.Client, text: str) -> None:
    assert [loc[1] for loc, _ in refused(send(client, text))] == list(range(2, 102))


def test_the_first_100_bad_lines_are_told_though_others_are_found_before_them(
    client: httpx2.Client,
) -> None:
    bad = ["A,A,1,none\n", "A,A,-1,\n"]  # what the database says, and what the line says itself
    text = "sku,name,price,category\n" + "".join(bad * 300)
    assert [loc[1] for loc, _ in refused(send(client, text))] == list(range(2, 102))


def test_the_first_100_bad_lines_are_told_though_much_is_wrong_with_each(
    client: httpx2.Client,
) -> None:
    row = json.dumps({f"unknown{n}": 1 for n in range(40)})
    found = refused(send(client, f"{row}\n" * 200, JSONL))
    assert sorted({loc[1] for loc, _ in found if isinstance(loc[1], int)}) == list(range(1, 101))


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600"])
@pytest.mark.parametrize("kind", [CSV, JSONL])
def test_a_line_of_more_than_a_mebibyte_is_refused_as_one_line(
    client: httpx2.Client, kind: str, letter: str
) -> None:
    long = letter * (1_100_000 // len(letter.encode()))
    text = (
        f"sku,name,price\n{long},A,1\n"
        if kind == CSV
        else f'{{"sku": "A", "name": "A", "price": 1}}\n{{"sku": "{long}"}}\n'
    )
    assert {loc[1] for loc, _ in refused(send(client, text, kind))} == {2}


@pytest.mark.parametrize(
    "text",
    [
        "sku,name,price\n" + "," * 1_000_000 + "\n",
        "sku,name,price\n" + "A,A,1" + "," * 1_000_000,
        "sku,name,price\n" + '"' * 1_000_001,
        'sku,name,price\n"' + "A\n" * 1_000_000,
        "sku,name,price\nA,A," + "9" * 1_000_000 + "\n",
        'sku,name,price\nA,"' + "A" * 100_000 + '",1\n',
        "a," * 20_000 + "sku\n",
        "sku," + ",".join(["id"] * 5_000) + "\n",
        "\r".join(["sku,name,price", "A,A,1"] * 1000),
        "\0" * 100_000,
        "\x1a\n",
    ],
    ids=range(11),
)
def test_hostile_csv_is_refused(client: httpx2.Client, text: str) -> None:
    assert 1 <= len(refused(send(client, text))) <= 1000
    assert catalogue(client) == []


GOOD: dict[str, Json] = {
    "products": {"sku": "A", "name": "A", "price": 1},
    "categories": {"slug": "a", "name": "A"},
    "tags": {"slug": "a", "name": "A"},
}
PLACES = [
    *(("products", column) for column in HEADER.split(",")),
    *(("categories", column) for column in ("slug", "name", "description", "parent")),
    *(("tags", column) for column in ("slug", "name")),
]
each_place = pytest.mark.parametrize(("to", "column"), PLACES)


def hostile_lines(to: str, column: str) -> list[Request]:
    """A file of one line for each hostile value of a column, in both formats."""
    others = GOOD[to]
    requests: list[Request] = []
    for value in VALUES:
        line = json.dumps({**others, column: "HERE"}).replace('"HERE"', value)
        content = line.encode("utf-8", "surrogatepass")
        requests.append(("POST", f"/{to}/import", content, JSONL))
        text = json.loads(value) if value.startswith('"') else value
        content = csv_of({**others, column: text})
        requests.append(("POST", f"/{to}/import", content, CSV))
    return list(dict.fromkeys(requests))


@each_place
def test_a_hostile_value_is_answered_civilly(client: httpx2.Client, to: str, column: str) -> None:
    for request in hostile_lines(to, column):
        send_civilly(client, request)


@pytest.mark.system
@each_place
def test_a_hostile_value_is_answered_civilly_and_alike_on_every_database(
    client: httpx2.Client, to: str, column: str
) -> None:
    assert_alike_everywhere(client, hostile_lines(to, column), lambda make: None)


def csv_of(row: Json) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([row.keys(), row.values()])
    return file.getvalue().encode("utf-8", "surrogatepass")


@pytest.mark.every_database
def test_thousands_of_products_may_have_one_name(client: httpx2.Client) -> None:
    n = 5000
    text = "sku,name,price\n" + "".join(f"S{id},Same,1\n" for id in range(n))
    assert counts(send(client, text)) == (n, 0)
    assert client.get(f"/products/{n}").json()["slug"] == f"same-{n}"


# Files as people have them


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_separator_is_found_from_the_header(
    client: httpx2.Client, separator: str, end: str
) -> None:
    rows = [["sku", "name", "price"], ["A", '"x; y, z\tt"', "1.50"], ["B", "'=1", "2"]]
    text = end.join(separator.join(row) for row in rows)
    assert counts(send(client, text)) == (2, 0)
    found = [(row["name"], row["price"]) for row in catalogue(client)]
    assert found == [("x; y, z\tt", 1.5), ("=1", 2)]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_an_export_that_is_saved_with_another_separator_is_the_same(
    client: httpx2.Client, make: Make, separator: str
) -> None:
    for n, text in enumerate(NASTY):
        make("products", name=f"{n}{text}", description=text)
    before = catalogue(client)
    rows = csv.reader(io.StringIO(export(client).text.removeprefix("\ufeff"), newline=""))
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows(rows)
    assert counts(send(client, file.getvalue())) == (0, len(NASTY))
    assert catalogue(client) == before


@pytest.mark.parametrize("header", ["SKU,Name,PRICE", " sku , name,price ", '"Sku ","NAME",Price'])
def test_names_in_a_header_are_in_any_case_with_spaces_around(
    client: httpx2.Client, header: str
) -> None:
    assert counts(send(client, f"{header}\nA,A,1\n")) == (1, 0)


def test_records_of_empty_cells_say_nothing(client: httpx2.Client) -> None:
    text = "sku;name;price\n;;\nA;A;1\n; ;\n" + ";;\n" * 200_000 + ";;;;;\nB;B;1\n"
    assert counts(send(client, text)) == (2, 0)


@pytest.mark.parametrize("kind", [CSV, JSONL])
@pytest.mark.parametrize(
    ("price", "stock"), [("29.9000", "100.0"), ("29.90", "100"), ("29.900", "100.00")]
)
def test_numbers_are_taken_however_many_zeros_they_have(
    client: httpx2.Client, kind: str, price: str, stock: str
) -> None:
    line = f'{{"sku": "A", "name": "A", "price": "{price}", "stock_quantity": {stock}}}\n'
    text = f"sku,name,price,stock_quantity\nA,A, {price},{stock} \n" if kind == CSV else line
    assert counts(send(client, text, kind)) == (1, 0)
    (product,) = catalogue(client)
    assert (product["price"], product["stock_quantity"]) == (29.9, 100)


@pytest.mark.every_database
def test_a_category_is_named_by_its_slug_or_else_its_name(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", name="Garden", slug="outdoor")
    make("categories", name="outdoor", slug="tents")
    make("categories", name="T\u00f6pfe & more")
    text = "sku,name,price,category\nA,A,1,Garden\nB,B,1,outdoor\nC,C,1,T\u00f6pfe & more\n"
    assert counts(send(client, text)) == (3, 0)
    assert [row["category_id"] for row in catalogue(client)] == [1, 1, 3]
    assert counts(send_rows(client, {"sku": "A", "category": "T\u00f6pfe & more"})) == (0, 1)
    assert client.get("/products/1").json()["category_id"] == 3
    for text in ("garden", "Garden ", "Gar\0den"):
        row = {"sku": "A", "category": text}
        assert [loc for loc, _ in refused(send_rows(client, row))] == [["line", 1, "category"]]


@pytest.mark.every_database
def test_a_parent_is_named_by_its_slug_or_by_the_name_that_it_has_in_the_end(
    client: httpx2.Client, make: Make
) -> None:
    make("categories", name="Pots")
    make("categories", name="lids", slug="others")
    lines = ["a,A,Pots", "b,B,Big Lids", "c,C,lids", "big,Big Lids,", "lids,Lids,"]
    text = "\n".join(["slug,name,parent", *lines])
    assert counts(send(client, text, to="categories")) == (5, 0)
    assert {slug: tree(client)[slug] for slug in "abc"} == {"a": "pots", "b": "big", "c": "lids"}


ACCENTED = "sku,name,price\nA,Caf\u00e9,1\n"


@pytest.mark.parametrize("kind", [CSV, JSONL])
@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_another_encoding_is_named(
    client: httpx2.Client, kind: str, encoding: str, name: str
) -> None:
    response = send(client, ACCENTED.encode(encoding), kind)
    assert refused(response) == [(["line", 1], "encoding")]
    assert response.json()["detail"] == f"line 1: This is {name}: save the file as UTF-8"


WORDS: list[tuple[str | bytes, str]] = [
    (ACCENTED.encode("latin-1"), "line 2.name: This is not UTF-8 (but Latin-1 or Windows-1252,"),
    ("sku,gr\u00f6\u00dfe\n".encode("latin-1"), "line 1.gr\udcf6\udcdfe: This is not UTF-8"),
    ("sku,name,price\rA,A,1\r", "line 1: Lines end in CR alone here, as on old Macs"),
    ("sku,name,price\r" + "A,A,1\r" * 100_000, "line 1: Lines end in CR alone here"),
    ("sku,name,price\nA,A,1\rB,B,1\r", "line 2: Lines end in CR alone here"),
    ("sku;name;price\nA;A;1,50\n", "line 2.price: Input has a decimal comma"),
    ('sku,name,price\nA,A,"1.234,50"\n', "line 2.price: Input has a decimal comma"),
    ('sku,name,price\nA,"A" ,1\n', "line 2: After a cell in quotes comes the next cell"),
    ('sku,name,price\nA,"A,1\n', "line 2: A quote is opened here and never closed"),
    (f"sku,name\nA,{'x' * 140_000}\n", "line 2: A cell has over 131,072 characters"),
    (f"sku,name\nA,{'x' * 300_000}\n", "line 2: Line is too long"),
    ("sku,name,price\nA!,A,1\n", "line 2.sku: Letters, digits and hyphens only"),
    ("sku,name,price,slug\nA,A,1,A B\n", "line 2.slug: Small letters, digits and single hyphens"),
    ("sku,name,price\nA,A\0,1\n", "line 2.name: Input should be text without U+0000"),
    ("sku,stock_quantity\nA,1.5\n", "line 2.stock_quantity: Input should be a whole number"),
    ("sku,is_active\nA,yes\n", "line 2.is_active: Input should be true or false"),
    ("sku,created_at\nA,1.2.2026\n", "line 2.created_at: Input should be a time such as 2026"),
    ("sku,price\nA,1.005\n", "line 2.price: Input should"),
]
JSON_WORDS = [
    ("[]", "line 1: Line is no object of JSON"),
    ("{", "line 1: Line is not JSON"),
    ('{"sku": "A"}\r{"sku": "B"}\r', "line 1: Lines end in CR alone here"),
    ('{"sku": "A", "colour": 1}', "line 1.colour: There is no such field"),
    ('{"sku": "A", "price": "1,50"}', "line 1.price: Input has a decimal comma"),
    ('{"sku": "A", "price": 1.005}', "line 1.price: Input should have no more than 2 decimals"),
    ('{"sku": "A", "name": "\\ud800"}', "line 1.name: Input should be valid text"),
    ('{"sku": "A", "name": 1}', "line 1.name: Input should be text"),
    ('{"sku": "A", "is_active": "true"}', "line 1.is_active: Input should be true or false"),
]


@pytest.mark.parametrize(("content", "words"), WORDS, ids=range(len(WORDS)))
def test_what_is_wrong_with_csv_is_said_in_words_of_ours(
    client: httpx2.Client, content: str | bytes, words: str
) -> None:
    assert send(client, content).json()["detail"].startswith(words)


@pytest.mark.parametrize(("content", "words"), JSON_WORDS, ids=range(len(JSON_WORDS)))
def test_what_is_wrong_with_json_lines_is_said_in_words_of_ours(
    client: httpx2.Client, content: str, words: str
) -> None:
    assert send(client, content, JSONL).json()["detail"].startswith(words)


# How a file is sent

CSV_TEXT, JSON_TEXT = b"sku,name,price\nA,A,1\n", b'{"sku": "A", "name": "A", "price": 1}\n'


@pytest.mark.parametrize(
    "kind",
    [
        "text/csv; charset=utf8",
        "text/csv; charset=UTF_8",
        'text/csv; charset="Utf-8"; header=absent',
        "text/csv;charset=us-ascii",
        "application/x-ndjson",
        "application/x-ndjson; charset=utf8",
    ],
)
def test_each_spelling_of_utf_8_is_known_and_another_name_of_json_lines(
    client: httpx2.Client, kind: str
) -> None:
    text = CSV_TEXT if kind.startswith(CSV) else JSON_TEXT
    assert counts(send(client, text, kind)) == (1, 0)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("products.csv", "text/csv", CSV_TEXT),
        ("products", "text/csv; charset=utf-8", CSV_TEXT),
        ("Products.CSV", "application/vnd.ms-excel", CSV_TEXT),
        ("products.tsv", "application/octet-stream", CSV_TEXT.replace(b",", b"\t")),
        ("products.txt", "text/plain", CSV_TEXT),
        ("products.jsonl", "application/octet-stream", JSON_TEXT),
        ("products.ndjson", "application/x-ndjson", JSON_TEXT),
        ("products.csv", "application/jsonl", JSON_TEXT),
    ],
)
def test_a_file_may_come_in_a_form(
    client: httpx2.Client, name: str, kind: str, content: bytes
) -> None:
    files = {"file": (name, content, kind)}
    assert counts(client.post("/products/import", files=files)) == (1, 0)
    assert [row["sku"] for row in catalogue(client)] == ["A"]


FILE_PART = ("file", ("x.csv", CSV_TEXT, "text/csv"))


@pytest.mark.parametrize(
    ("files", "data"),
    [
        ([("other", FILE_PART[1])], {}),
        ([FILE_PART, FILE_PART], {}),
        ([FILE_PART, ("other", FILE_PART[1])], {}),
        ([FILE_PART], {"more": "x"}),
        ([("file", (None, CSV_TEXT, "text/csv"))], {}),
        ([("file", ("x.xlsx", CSV_TEXT, "application/octet-stream"))], {}),
    ],
    ids=range(6),
)
def test_a_form_has_one_file_and_nothing_more(
    client: httpx2.Client, files: Any, data: Json
) -> None:
    response = client.post("/products/import", files=files, data=data)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", "file"]]
    assert catalogue(client) == []


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'
FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", PART + b"sku\r\n--x--\r\n"),
        ("multipart/form-data; boundary=", PART + b"sku\r\n--x--\r\n"),
        (FORM, b""),
        (FORM, b"--x--\r\n"),
        (FORM, b"sku\nA\n"),
        (FORM, PART.replace(b'name="file"; ', b"")),
        (FORM, b"--x\r\n" + b"y" * 200_000),
        (f"{FORM}; charset=undefined", PART.replace(b'"file"', b'"\xff"') + b"sku\r\n--x--\r\n"),
        (f"multipart/form-data; boundary={'x' * 5000}", PART),
    ],
    ids=range(9),
)
def test_a_form_that_is_none_is_refused(client: httpx2.Client, kind: str, content: bytes) -> None:
    response = send(client, content, kind)
    assert response.status_code == 422
    assert response.json()["detail"] == "file: The form has to have one part: a file, as `file`"


def test_what_is_wrong_in_a_form_is_told_by_its_lines(client: httpx2.Client) -> None:
    files = {"file": ("x.csv", b"sku,price\nA,-1\n")}
    response = client.post("/products/import", files=files)
    assert refused(response) == [(["line", 2, "price"], "greater_than")]


@pytest.mark.parametrize("to", ["products", "categories", needing("tags", "tags")])
def test_the_document_says_that_a_form_with_a_file_is_taken(to: str) -> None:
    content = main.app.openapi()["paths"][f"/{to}/import"]["post"]["requestBody"]["content"]
    assert [*content] == ["multipart/form-data", "text/csv", "application/jsonl"]
    assert content["multipart/form-data"]["schema"] == {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    }


def send_large(client: httpx2.Client) -> Iterator[httpx2.Response]:
    """A file of 3 MB, as it is and in a form: the answers."""
    large = b"sku,name,price\n" + (b"\n" * 200_000 + b"A,A,1\n") * 15
    yield send(client, large)
    yield client.post("/products/import", files={"file": ("x.csv", large)})


def test_a_file_for_which_there_is_no_room_is_a_503(client: httpx2.Client) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, usual[1]))
    try:
        answers = list(send_large(client))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    for answer in answers:
        assert_busy(answer)
        assert answer.json()["detail"].startswith("There is no room for this here at the moment")
    assert catalogue(client) == []
    assert {response.status_code for response in send_large(client)} == {200}


def test_a_file_without_a_folder_for_it_is_a_503(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    for answer in send_large(client):
        assert_busy(answer)


# An old file undoes nothing


@pytest.mark.every_database
@FORMATS
@pytest.mark.needs("orders")
def test_an_old_file_undoes_no_sale(client: httpx2.Client, make: Make, format: str) -> None:
    make("users")
    make("products", stock_quantity=1000)
    make("products", stock_quantity=5)
    file = export(client, format).content
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 10}])
    response = send(client, file, format_type(format))
    line = 2 if format == "csv" else 1
    assert refused(response) == [(["line", line, "version"], "invalid")]
    told = "It has changed since; version is 2"
    assert response.json()["errors"][0]["msg"] == told
    assert [row["stock_quantity"] for row in catalogue(client)] == [990, 5]
    file = export(client, format).content
    assert counts(send(client, file, format_type(format))) == (0, 2)
    assert [row["stock_quantity"] for row in catalogue(client)] == [990, 5]


@pytest.mark.every_database
def test_a_line_with_the_version_of_its_product_changes_it(
    client: httpx2.Client, make: Make
) -> None:
    make("products", sku="A")
    assert counts(send(client, "sku,price,version\nA,7,1\n")) == (0, 1)
    assert client.get("/products/1").headers["ETag"] == '"2"'
    assert refused(send(client, "sku,price,version\nA,8,1\n")) == [
        (["line", 2, "version"], "invalid")
    ]
    assert counts(send(client, "sku,price,version\nA,9,\n")) == (0, 1)
    assert counts(send_rows(client, {"sku": "A", "price": 10, "version": 3})) == (0, 1)
    assert catalogue(client)[0]["price"] == 10


@pytest.mark.parametrize("version", [0, -1, 2**30 + 1, 2**31, 1.5, "x", True, None])
def test_what_is_no_version_is_refused(client: httpx2.Client, version: Json) -> None:
    row = {"sku": "A", "name": "A", "price": 1, "version": version}
    assert [loc for loc, _ in refused(send_rows(client, row))] == [["line", 1, "version"]]


@pytest.mark.every_database
@pytest.mark.parametrize("to", ["categories", needing("tags", "tags")])
def test_an_old_file_undoes_no_change_of_others(client: httpx2.Client, make: Make, to: str) -> None:
    make(to, slug="a")
    file = export(client, of=to).content
    client.patch(f"/{to}/1", json={"name": "New"}).raise_for_status()
    assert refused(send(client, file, to=to)) == [(["line", 2, "version"], "invalid")]
    assert catalogue(client, to)[0]["name"] == "New"


@pytest.mark.every_database
def test_a_change_of_stock_is_added_to_it(client: httpx2.Client, make: Make) -> None:
    make("products", sku="A", stock_quantity=10)
    text = "sku,name,price,stock_change,stock_quantity\nA,,,-3,\nB,B,1,4,\nA,,,5.0,\nA,,,,7\n"
    assert counts(send(client, text)) == (1, 3)
    assert [row["stock_quantity"] for row in catalogue(client)] == [7, 4]
    assert counts(send_rows(client, {"sku": "A", "stock_change": 2, "version": 4})) == (0, 1)
    assert counts(send(client, "sku,stock_change\nA,0\nB,\n")) == (0, 2)
    assert [row["stock_quantity"] for row in catalogue(client)] == [9, 4]
    assert client.get("/products/2").headers["ETag"] == '"1"'


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("-11", "stock_quantity is 10 and has to stay at least 0"),
        ("1.5", "Input should be a whole number"),
        (str(2**31), "Input should be less than or equal to 2147483647"),
    ],
)
def test_a_change_of_stock_that_cannot_be_is_refused(
    client: httpx2.Client, make: Make, change: str, told: str
) -> None:
    make("products", sku="A", stock_quantity=10)
    response = send(client, f"sku,stock_change\nA,{change}\n")
    assert response.json()["detail"] == f"line 2.stock_change: {told}"
    assert catalogue(client)[0]["stock_quantity"] == 10


@pytest.mark.every_database
def test_stock_is_not_set_and_changed_in_one_line(client: httpx2.Client, make: Make) -> None:
    make("products", sku="A", stock_quantity=10)
    response = send(client, "sku,stock_quantity,stock_change\nA,1,1\n")
    assert response.json()["detail"] == "line 2.stock_change: Not together with stock_quantity"
    assert catalogue(client)[0]["stock_quantity"] == 10


MOST = 2**53  # of one product


@pytest.mark.every_database
@FORMATS
@pytest.mark.needs("orders")
def test_all_stock_that_there_can_be_goes_out_and_in(
    client: httpx2.Client, make: Make, format: str
) -> None:
    make("users")
    make("products", stock_quantity=MOST)
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 5}])
    assert client.patch("/products/1", json={"stock_quantity": MOST - 4}).status_code == 200
    cancelling = client.patch("/orders/1/status?new_status=cancelled")
    assert cancelling.status_code == 400
    assert cancelling.json()["detail"].startswith("Too much stock of '")
    assert client.post("/products/1/stock", json={"change": 4}).json()["stock_quantity"] == MOST
    assert client.post("/products/1/stock", json={"change": 1}).status_code == 400
    response = send(client, f"sku,stock_change\n{catalogue(client)[0]['sku']},1\n")
    told = f"line 2.stock_change: stock_quantity is {MOST} and has to stay at most {MOST}"
    assert response.json()["detail"] == told
    assert client.patch("/products/1", json={"stock_quantity": MOST + 1}).status_code == 422
    before = catalogue(client)
    assert counts(send(client, export(client, format).content, format_type(format))) == (0, 1)
    assert catalogue(client) == before
    assert client.patch("/products/1", json={"stock_quantity": MOST - 5}).status_code == 200
    assert client.patch("/orders/1/status?new_status=cancelled").status_code == 200
    assert catalogue(client)[0]["stock_quantity"] == MOST


# Unique values: what counts is the end


def slugs_of(client: httpx2.Client) -> dict[str, str]:
    return {row["sku"]: row["slug"] for row in catalogue(client)}


EXCHANGES = [
    "A,b B,a",
    "B,a A,b",
    "A,b B,c C,a",
    "A,c C,b B,a",
    "A,b B,c C,d D,x",
    "D,x C,d B,c A,b",
    "A,b B,x",
    "N,a A,b B,x",
    "N,a M,b A,x B,y",
    "A,b A,x",
    "A,b A,c A,x",
    "A,b B,a A,x B,y",
    "A,b C,b C,x B,a",
    "A,b B,b B,x",
    "N,a N,x",
    "N,a M,a N,x A,y",
]


def in_the_end(text: str) -> dict[str, str]:
    return {"A": "a", "B": "b", "C": "c", "D": "d"} | dict(line.split(",") for line in text.split())


@pytest.mark.every_database
@pytest.mark.parametrize("apart", [0, 201])
@pytest.mark.parametrize("text", EXCHANGES)
def test_slugs_may_be_exchanged_and_handed_on(
    client: httpx2.Client, make: Make, text: str, apart: int
) -> None:
    for name in "ABCD":
        make("products", name=name, sku=name)
    versions = {row["sku"]: row["id"] for row in catalogue(client)}
    between = "".join(f"X{n},,Other,1\n" for n in range(apart))  # so in other batches
    lines = between.join(f"{line},N,1\n" for line in text.split())
    assert counts(send(client, f"sku,slug,name,price\n{lines}"))[0] >= 0
    found = slugs_of(client)
    assert {sku: found[sku] for sku in in_the_end(text)} == in_the_end(text)
    named = {line.split(",")[0] for line in text.split()}
    for sku, id in versions.items():
        etag = client.get(f"/products/{id}").headers["ETag"]
        assert (etag == '"1"') == (sku not in named), sku


@pytest.mark.every_database
@pytest.mark.parametrize("apart", [0, 201])
@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("A,b", [0]),
        ("A,b B,b", [0, 1]),
        ("A,b B,c", [1]),
        ("A,x B,x", [0, 1]),
        ("A,b B,a C,a", [1, 2]),
        ("N,a", [0]),
        ("N,x M,x", [0, 1]),
        ("A,b B,x N,x", [1, 2]),
        ("A,b A,c", [1]),
        ("A,x A,b", [1]),
        ("A,b C,b", [0, 1]),
    ],
)
def test_lines_that_want_the_same_slug_in_the_end_are_all_told(
    client: httpx2.Client, make: Make, text: str, places: list[int], apart: int
) -> None:
    for name in "ABCD":
        make("products", name=name, sku=name)
    before = catalogue(client)
    between = "".join(f"X{n},,Other,1\n" for n in range(apart))
    lines = between.join(f"{line},N,1\n" for line in text.split())
    expected = [["line", 2 + place * (apart + 1), "slug"] for place in places]
    response = send(client, f"sku,slug,name,price\n{lines}")
    assert [loc for loc, _ in refused(response)] == expected
    assert catalogue(client) == before


@pytest.mark.every_database
@pytest.mark.parametrize(
    "text",
    [
        "sku,name\nA,Pan\nB,Pot\n",
        "sku,category\nA,pans\nC,pots\n",
        "sku,name,category\nA,Pan,pots\nB,Cup,pots\n",
        "sku,name,category\nA,Cup,pans\nC,Pot,pots\n",
        "sku,name,category,price\nA,Pot,,1\nN,Pot,pots,1\n",
    ],
)
def test_names_within_a_category_may_be_exchanged(
    client: httpx2.Client, make: Make, text: str
) -> None:
    for slug in ("pots", "pans"):
        make("categories", slug=slug)
    make("products", sku="A", name="Pot", category_id=1)
    make("products", sku="B", name="Pan", category_id=1)
    make("products", sku="C", name="Pot", category_id=2)
    skus: dict[str, tuple[str, int | None]] = {"A": ("Pot", 1), "B": ("Pan", 1), "C": ("Pot", 2)}
    ids: dict[str, int | None] = {"pots": 1, "pans": 2, "": None}
    for row in csv.DictReader(io.StringIO(text)):
        name, id = skus.get(row["sku"], ("", None))
        id = ids[row["category"]] if "category" in row else id
        skus[row["sku"]] = (row.get("name", name), id)
    send(client, text).raise_for_status()
    found = {row["sku"]: (row["name"], row["category_id"]) for row in catalogue(client)}
    assert found == skus


@pytest.mark.every_database
@pytest.mark.parametrize("to", ["categories", needing("tags", "tags")])
def test_names_of_categories_and_tags_may_be_exchanged(
    client: httpx2.Client, make: Make, to: str
) -> None:
    for name in "ABC":
        make(to, name=name)
    assert counts(send(client, "slug,name\na,B\nb,C\nc,A\n", to=to)) == (0, 3)
    assert [row["name"] for row in catalogue(client, to)] == ["B", "C", "A"]
    response = send(client, "slug,name\na,C\nb,A\n", to=to)
    assert [loc for loc, _ in refused(response)] == [["line", 3, "name"]]


@pytest.mark.every_database
def test_thousands_of_slugs_may_be_handed_on_in_any_order(client: httpx2.Client) -> None:
    n = 3000
    many(client, n)
    order = sorted(range(n), key=lambda k: k * 7919 % n)
    lines = "".join(f"N-{k + 1},number-{(k + 1) % n + 1}\n" for k in order)
    assert counts(send(client, f"sku,slug\n{lines}")) == (0, n)
    found = slugs_of(client)
    assert found == {f"N-{k + 1}": f"number-{(k + 1) % n + 1}" for k in range(n)}


# How large a file may be


def test_a_file_may_be_of_64_mebibytes_and_no_more(client: httpx2.Client) -> None:
    limit = 64 * 1024 * 1024
    line = b"x," * 500 + b"\n"
    largest = (b"sku\n" + line * (limit // len(line) + 1))[:limit]
    assert refused(send(client, largest))
    response = send(client, largest + b"x")
    assert response.status_code == 413
    assert response.json()["detail"] == f"The body is over {limit} bytes"


@pytest.mark.system
def test_a_file_of_unknown_size_may_be_of_64_mebibytes_and_no_more(server: httpx2.Client) -> None:
    def pieces(n: int) -> Iterator[bytes]:
        yield b"sku\n"
        for _ in range(n):
            yield b"x" + b"," * 65_534 + b"\n"

    assert refused(send_stream(server, pieces(1000)))
    assert send_stream(server, pieces(1024)).status_code == 413


def send_stream(client: httpx2.Client, content: Iterator[bytes]) -> httpx2.Response:
    return client.post("/products/import", content=content, headers={"Content-Type": CSV})


def test_a_file_under_the_prefix_may_be_as_large(client: httpx2.Client) -> None:
    headers = {"Content-Type": CSV}
    content = b"sku,name,price\n" + (b"\n" * 200_000 + b"A,A,1\n") * 6
    response = client.post("/api/v1/products/import", content=content, headers=headers)
    assert counts(response) == (1, 5)


def test_other_bodies_may_be_of_one_mebibyte(client: httpx2.Client) -> None:
    content = b'{"name": "' + b" " * 1024 * 1024 + b'"}'
    for path in ("/products/", "/api/v1/products/", "/categories/"):
        assert client.post(path, content=content).status_code == 413


# Others at the same time


@pytest.mark.system
@pytest.mark.every_database
def test_two_imports_of_the_same_new_products_at_once_leave_them_whole(
    server: httpx2.Client,
) -> None:
    text = b"".join(numbered(range(1, 1201)))
    answers = at_once([lambda: send(server, text)] * 2)
    done = [answer.json() for answer in answers if answer.is_success]
    assert set(statuses(answers)) <= {200, 409, 503}
    assert {"created": 1200, "updated": 0} in done
    assert len(done) == 1 or {"created": 0, "updated": 1200} in done
    assert sorted(row["sku"] for row in catalogue(server)) == sorted(
        f"N-{n}" for n in range(1, 1201)
    )


@pytest.mark.system
@pytest.mark.every_database
def test_imports_in_opposite_orders_at_once_leave_the_products_whole(
    server: httpx2.Client,
) -> None:
    many(server, 1200)
    lines = [f"N-{n},{{}},{{}}" for n in range(1, 1201)]
    texts = [
        "sku,price,stock_quantity\n" + "\n".join(order).replace("{}", str(value))
        for value, order in enumerate((lines, lines[::-1]), 1)
    ]
    answers = at_once([partial(send, server, text) for text in texts])
    assert set(statuses(answers)) <= {200, 409, 503}
    assert {counts(answer) for answer in answers if answer.is_success} == {(0, 1200)}
    found = {(row["price"], row["stock_quantity"]) for row in catalogue(server)}
    assert found in ({(1, 1)}, {(2, 2)})


@pytest.mark.every_database
def test_stock_stays_right_while_a_file_sets_it_and_orders_take_it(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 10)
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 3}]}
    buying = sender(server, "POST", "/orders/", body)
    answers = at_once([buying, lambda: send(server, "sku,stock_quantity\nP1,10\n")] * 16)
    assert set(statuses(answers[0::2])) <= {201, 400, 503}
    assert set(statuses(answers[1::2])) <= {200, 503}
    assert 200 in statuses(answers[1::2])
    left = server.get("/products/1").json()["stock_quantity"]
    assert left in (10, 7, 4, 1)


@pytest.mark.system
@pytest.mark.every_database
def test_a_file_that_changes_prices_loses_no_order(server: httpx2.Client) -> None:
    create_user(server)
    create_product(server, 1, 100)
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    buying = sender(server, "POST", "/orders/", body)
    calls: list[Call] = [buying] * 16
    calls += [partial(send, server, f"sku,price\nP1,{n}\n") for n in range(1, 17)]
    answers = at_once(calls)
    assert set(statuses(answers)) <= {200, 201, 503}
    sold = statuses(answers)[201]
    assert server.get("/products/1").json()["stock_quantity"] == 100 - sold


@pytest.mark.system
@pytest.mark.every_database
def test_an_upload_that_breaks_off_changes_nothing_and_is_no_fault(own_database: str) -> None:
    def broken() -> Iterator[bytes]:
        yield from numbered(range(1000))
        raise ConnectionError("the client goes away")

    with running(own_database) as process:
        with pytest.raises(ConnectionError, match="goes away"):
            send_stream(process.client, broken())
        assert catalogue(process.client) == []
        assert counts(send(process.client, "sku\n")) == (0, 0)
        assert "Traceback" not in process.logged()


# Memory


def peak(pid: int) -> int:
    """The most memory that a process has had resident so far, in MB."""
    with open(f"/proc/{pid}/status") as status:
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read())
    return int(kilobytes) // 1024


def first_and_last(client: httpx2.Client, format: str) -> tuple[int, bytes, bytes]:
    """How many lines an export has, without keeping them; the first and the last."""
    n, first, last, rest = 0, b"", b"", b""
    with client.stream("GET", f"/products/export?format={format}") as response:
        assert response.status_code == 200
        for chunk in response.iter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                n, first, last = n + len(lines), first or lines[0], lines[-1]
    assert rest == b""
    return n, first, last


@pytest.mark.system
@pytest.mark.every_database
def test_memory_does_not_grow_with_the_file(own_database: str) -> None:
    n = IMPORT_ROWS if own_database.startswith("sqlite") else 20_000
    with memory_stays(own_database) as (client, look):
        response = send_stream(client, numbered(range(1, n + 1)))
        assert counts(response) == (n - 2000, 2000)
        lines, first, last = first_and_last(client, "csv")
        assert (lines, first) == (n + 1, f"\ufeff{HEADER}\r".encode())
        assert last.startswith(f"{n},Number {n},".encode())
        lines, first, last = first_and_last(client, "jsonl")
        assert lines == n
        assert json.loads(first)["sku"] == "N-1"
        assert json.loads(last)["sku"] == f"N-{n}"
        response = send_stream(client, numbered(range(1, 20_001)))
        assert counts(response) == (0, 20_000)
        look()


@pytest.mark.every_database
def test_an_import_needs_no_collection_of_garbage(client: httpx2.Client) -> None:
    many(client, 1)  # so that what is built once is there
    gc.collect()
    gc.disable()
    try:
        whole_heap = gc.get_stats()[2]["collections"]
        garbage = list[int]()
        for n in (1, 2001):  # the name of all is one, so that a slug is looked for as well
            lines = "".join(f"{n}-{id},Same,1\n" for id in range(n))
            assert counts(send(client, f"sku,name,price\n{lines}")) == (n, 0)
            assert gc.get_stats()[2]["collections"] == whole_heap + len(garbage)
            garbage.append(gc.collect())
    finally:
        gc.enable()
    assert garbage[1] - garbage[0] < 100


LONG = "\U0001f600" * 10_000
HOSTILE = {
    "many columns": (CSV, "a," * 500_000 + "sku\n"),
    "many cells": (CSV, "sku\n" + ("," * 1_000_000 + "\n") * 10),
    "a quote without an end": (CSV, 'sku\n"' + "x\n" * 5_000_000),
    "many bad lines": (CSV, "sku\n" + "!\n" * 5_000_000),
    "many lines that are not JSON": (JSONL, "!\n" * 5_000_000),
    "long lists": (JSONL, ("[" + "1.5," * 200_000 + "1]\n") * 10),
    "long text": (JSONL, ('{"sku": "' + "x" * 1_000_000 + '"}\n') * 60),
}


@contextlib.contextmanager
def memory_stays(url: str) -> Iterator[tuple[httpx2.Client, Callable[[], None]]]:
    """A client of a service that has served files before, and what looks at its memory."""
    with running(url) as process:
        client, pid = process.client, process.process.pid
        client.timeout = httpx2.Timeout(1200)

        def export_both() -> None:
            for format in ("csv", "jsonl"):
                first_and_last(client, format)

        for _ in range(2):
            assert send_stream(client, numbered(range(1, 2001))).status_code == 200
            export_both()
        before = peak(pid)

        def look() -> None:
            export_both()
            assert peak(pid) - before <= 30

        yield client, look


@pytest.mark.system
def test_memory_does_not_grow_with_what_is_in_a_file_that_is_refused(any_database: str) -> None:
    with memory_stays(any_database) as (client, look):
        for name, (kind, text) in HOSTILE.items():
            assert send(client, text, kind).status_code == 422, name
            look()


@pytest.mark.system
@pytest.mark.every_database
def test_memory_does_not_grow_with_long_descriptions(own_database: str) -> None:
    lines = "".join(f"N-{n},N,1,{LONG}\n" for n in range(1, 1500))
    with memory_stays(own_database) as (client, look):
        assert send(client, f"sku,name,price,description\n{lines}").status_code == 200
        look()


# Categories


def tree(client: httpx2.Client) -> dict[str, str | None]:
    """The slug of each category's parent."""
    found = catalogue(client, "categories")
    slugs = {row["id"]: row["slug"] for row in found}
    return {row["slug"]: slugs.get(row["parent_id"]) for row in found}


@pytest.mark.every_database
def test_categories_are_exported_with_the_slugs_of_their_parents(
    client: httpx2.Client, make: Make
) -> None:
    pots = make("categories", name="Pots")
    tea = make("categories", name="Tea Pots", parent_id=1, description="=1")
    assert export(client, of="categories").content.decode() == (
        "\ufeffid,name,slug,description,parent,created_at,version\r\n"
        f"1,Pots,pots,,,{pots['created_at']},1\r\n"
        f"2,Tea Pots,tea-pots,'=1,pots,{tea['created_at']},1\r\n"
    )
    row = json.loads(export(client, "jsonl", "categories").text.splitlines()[1])
    assert row == {n if n != "parent_id" else "parent": v for n, v in tea.items()} | {
        "parent": "pots",
        "version": 1,
    }


@pytest.mark.every_database
def test_an_import_creates_and_changes_categories(client: httpx2.Client, make: Make) -> None:
    make("categories", slug="pots")
    before = make("categories", slug="pans", description="For fries.", parent_id=1)
    same = client.get("/categories/1").headers["ETag"]
    text = "slug,name,parent\npans,Pans,\npots,,\nlids,Lids,pots\n"
    assert counts(send(client, text, to="categories")) == (1, 2)
    lids = client.get("/categories/3").json()
    assert catalogue(client, "categories")[1:] == [
        before | {"name": "Pans", "parent_id": None},
        {"id": 3, "name": "Lids", "slug": "lids", "description": None, "parent_id": 1}
        | {"created_at": lids["created_at"]},
    ]
    etags = [client.get(f"/categories/{id}").headers["ETag"] for id in (1, 2, 3)]
    assert etags == [same, '"2"', '"1"']


@pytest.mark.every_database
@FORMATS
def test_categories_that_are_exported_wiped_and_imported_are_the_same(
    client: httpx2.Client, make: Make, format: str
) -> None:
    for n, text in enumerate(NASTY):
        make("categories", name=f"{n}{text}", description=text, parent_id=n or None)
    make("categories", slug="root")
    assert client.patch("/categories/1", json={"parent_id": len(NASTY) + 1}).status_code == 200
    file, before = export(client, format, "categories").content, catalogue(client, "categories")
    shape = tree(client)
    wipe(client, "categories")
    kind = format_type(format)
    assert counts(send(client, file, kind, "categories")) == (len(before), 0)
    hidden = {"id": 0, "parent_id": 0}
    after = catalogue(client, "categories")
    assert [row | hidden for row in after] == [row | hidden for row in before]
    assert tree(client) == shape
    etags = [client.get(f"/categories/{row['id']}").headers["ETag"] for row in after]
    assert counts(send(client, file, kind, "categories")) == (0, len(before))
    assert [client.get(f"/categories/{row['id']}").headers["ETag"] for row in after] == etags
    assert etags == ['"2"', *['"1"'] * len(NASTY)]


@pytest.mark.every_database
@pytest.mark.parametrize("step", [-1, 1, -700, 700])
def test_a_parent_may_be_made_by_a_line_near_or_far_before_it_or_after_it(
    client: httpx2.Client, step: int
) -> None:
    above = {f"c{n}": f"c{n + step}" if 0 <= n + step < 1000 else None for n in range(1000)}
    lines = "".join(f"{slug},{slug},{parent or ''}\n" for slug, parent in above.items())
    assert counts(send(client, f"slug,name,parent\n{lines}", to="categories")) == (1000, 0)
    assert tree(client) == above
    assert {*(client.get(f"/categories/{n}").headers["ETag"] for n in (1, 500, 1000))} == {'"1"'}


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("slug,parent\na,none\n", [["line", 2, "parent"]]),
        ("slug,name,parent\nn,N,m\nm,M,none\n", [["line", 3, "parent"]]),
        ("slug,parent\na,a\n", [["line", 2, "parent"]]),
        ("slug,parent\na,c\n", [["line", 2, "parent"]]),
        ("slug,name,parent\nn,N,c\na,,n\n", [["line", 2, "parent"], ["line", 3, "parent"]]),
        ("slug,name\na,B\n", [["line", 2, "name"]]),
        ("slug,name\nn,B\n", [["line", 2, "name"]]),
        ("slug\nn\n", [["line", 2, "name"]]),
        ("slug,name\n,N\n", [["line", 2, "slug"]]),
        ("slug,name\nN,N\n", [["line", 2, "slug"]]),
        ("slug,parent_id\na,\n", [["line", 1, "parent_id"]]),
        ("name,parent\nN,\n", [["line", 1, "slug"]]),
    ],
)
def test_categories_that_are_wrong_are_refused(
    client: httpx2.Client, make: Make, text: str, places: list[Json]
) -> None:
    for n, name in enumerate("ABC"):
        make("categories", name=name, parent_id=n or None)
    before = catalogue(client, "categories")
    assert [loc for loc, _ in refused(send(client, text, to="categories"))] == places
    assert catalogue(client, "categories") == before


@pytest.mark.every_database
@pytest.mark.parametrize("text", ["a,b\nb,\n", "b,\na,b\n"])
def test_two_categories_may_change_places(client: httpx2.Client, make: Make, text: str) -> None:
    make("categories", name="A")
    make("categories", name="B", parent_id=1)
    assert counts(send(client, f"slug,parent\n{text}", to="categories")) == (0, 2)
    assert tree(client) == {"a": "b", "b": None}


@pytest.mark.system
@pytest.mark.every_database
def test_of_a_file_and_a_request_that_move_categories_below_each_other_one_is_refused(
    server: httpx2.Client,
) -> None:
    for name in "AB":
        server.post("/categories/", json={"name": name}).raise_for_status()
    for _ in range(8):
        for id in (1, 2):
            server.patch(f"/categories/{id}", json={"parent_id": None}).raise_for_status()
        move = sender(server, "PATCH", "/categories/2", {"parent_id": 1})
        answers = at_once([move, partial(send, server, "slug,parent\na,b\n", to="categories")])
        assert sorted(answer.status_code for answer in answers) in ([200, 400], [200, 422])
        assert list(tree(server).values()).count(None) == 1


# Tags


@pytest.mark.every_database
@FORMATS
@pytest.mark.needs("posts", "tags")
def test_tags_that_are_exported_wiped_and_imported_are_the_same(
    client: httpx2.Client, make: Make, format: str
) -> None:
    for n, text in enumerate(NASTY):
        make("tags", name=f"{text}{n}")
    file, before = export(client, format, "tags").content, catalogue(client, "tags")
    wipe(client, "tags")
    assert counts(send(client, file, format_type(format), "tags")) == (len(before), 0)
    assert without_ids(catalogue(client, "tags")) == without_ids(before)
    assert counts(send(client, file, format_type(format), "tags")) == (0, len(before))


@pytest.mark.needs("posts", "tags")
def test_tags_are_exported_as_they_are(client: httpx2.Client, make: Make) -> None:
    make("tags", name="Big Sale")
    assert export(client, of="tags").text == (
        "\ufeffid,name,slug,version\r\n1,Big Sale,big-sale,1\r\n"
    )
    tag = {"id": 1, "name": "Big Sale", "slug": "big-sale", "version": 1}
    assert json.loads(export(client, "jsonl", "tags").text) == tag


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
def test_the_posts_that_show_a_tag_change_with_it(client: httpx2.Client, make: Make) -> None:
    make("users")
    for name in "ABC":
        make("tags", name=name)
    for tag_ids in ([1], [2], [1, 3], []):
        make("posts", author_id=1, status="published", tag_ids=tag_ids)
    before = [client.get(f"/posts/{id}") for id in (1, 2, 3, 4)]
    assert counts(send(client, "slug,name\na,New\nb,B\nd,D\n", to="tags")) == (1, 2)
    after = [client.get(f"/posts/{id}") for id in (1, 2, 3, 4)]
    tags = [client.get(f"/tags/{id}").headers["ETag"] for id in (1, 2, 3, 4)]
    assert tags == ['"2"', '"1"', '"1"', '"1"']
    assert [response.headers["ETag"] for response in after] == ['"2"', '"1"', '"2"', '"1"']
    times = [response.json()["updated_at"] for response in after]
    assert times == [response.json()["updated_at"] for response in before]
    assert after[0].json()["tags"][0]["name"] == "New"


@pytest.mark.needs("posts", "tags")
@pytest.mark.every_database
@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("slug,name\na,B\n", [["line", 2, "name"]]),
        ("slug,name\nc,C\nd,C\n", [["line", 2, "name"], ["line", 3, "name"]]),
        ("name\nC\n", [["line", 1, "slug"]]),
        ("slug,name\n,C\n", [["line", 2, "slug"]]),
        (f"slug,name\nc,{'c' * 51}\n", [["line", 2, "name"]]),
    ],
)
def test_tags_that_are_wrong_are_refused(
    client: httpx2.Client, make: Make, text: str, places: list[Json]
) -> None:
    for name in "AB":
        make("tags", name=name)
    before = catalogue(client, "tags")
    assert [loc for loc, _ in refused(send(client, text, to="tags"))] == places
    assert catalogue(client, "tags") == before


@pytest.mark.parametrize("to", ["categories", needing("tags", "tags")])
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_every_import_takes_more_than_a_mebibyte(
    client: httpx2.Client, to: str, prefix: str
) -> None:
    content = b"slug,name\n" + (b"\n" * 200_000 + b"a,A\n") * 6
    headers = {"Content-Type": CSV}
    response = client.post(f"{prefix}/{to}/import", content=content, headers=headers)
    assert counts(response) == (1, 5)
