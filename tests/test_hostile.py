"""Hostile input: the corpus of hostile.json against every route.

No answer is a 500 or a traceback, every error is a problem document, nothing that was refused
is repeated, and what reaches a database gets the same status on every database.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import patterns
import pytest
import sqlalchemy as sa
from conftest import Build, Make, connect
from databases import URLS, empty, own_copy
from document import OPERATIONS, PATHS, SORTS, complete, example_of, fields_of, filled, media_of
from starlette.requests import Request as StarletteRequest

import db
import kit
from kit import conditions, lines, local, uploads

CORPUS: dict[str, Any] = json.loads(Path(__file__).with_name("hostile.json").read_text())
VALUES: list[str] = [
    *CORPUS["values"],
    *(before + middle * n + after for before, middle, n, after in CORPUS["long_values"]),
]
BODIES: list[bytes] = [
    *(body.encode("latin-1") for body in CORPUS["bodies"]),
    *((before + middle * n + after).encode() for before, middle, n, after in CORPUS["long_bodies"]),
]

Request = tuple[str, str, bytes | None, str]  # method, target, body, content type


def schema_of_body(method: str, path: str) -> str:
    """Of one in JSON; a file of products is tried in test_files.py."""
    return json.dumps((media_of(method, path) or {"schema": ""})["schema"])


def first_routes() -> dict[str, tuple[str, str]]:
    """The first route with each parameter of a query, and with each body."""
    found: dict[str, tuple[str, str]] = {}
    for method, path in OPERATIONS:
        for parameter in PATHS[path][method.lower()].get("parameters", []):
            found.setdefault(json.dumps([parameter["name"], parameter["schema"]]), (method, path))
        found.setdefault(schema_of_body(method, path), (method, path))
    return found


FIRST_ROUTES = first_routes()


def hostile_requests(method: str, path: str, *, all: bool) -> Iterator[Request]:
    """What fits this route in the corpus: all of it, or what no route before has got as well."""
    parameters = [
        parameter
        for parameter in PATHS[path][method.lower()].get("parameters", [])
        if all
        or FIRST_ROUTES[json.dumps([parameter["name"], parameter["schema"]])] == (method, path)
    ]
    target = re.sub(r"{\w+}", "1", path)
    media = media_of(method, path)
    valid: Any = example_of(media) if media else None
    whole = json.dumps(valid).encode() if media else None

    if "{" in path:
        for bad in CORPUS["paths"]:
            yield method, re.sub(r"{\w+}", bad, path), whole, "application/json"
    for name in [p["name"] for p in parameters if p["in"] == "query"]:
        for value in VALUES:
            text = json.loads(value) if value.startswith('"') else value
            query = httpx2.QueryParams({name: text.encode("utf-8", "replace").decode()[:5000]})
            yield method, f"{target}?{query}", whole, "application/json"
    is_first = FIRST_ROUTES[schema_of_body(method, path)] == (method, path)
    for field in fields_of(method, path) if all or is_first else []:
        for value in VALUES:
            bad = (
                [valid[0] | {field: "HERE"}] if isinstance(valid, list) else valid | {field: "HERE"}
            )
            body = json.dumps(bad).replace('"HERE"', value)
            yield method, target, body.encode("utf-8", "surrogatepass"), "application/json"
    if whole:
        for other in BODIES:
            yield method, target, other, "application/json"
        for content_type in CORPUS["content_types"]:
            yield method, target, whole, content_type


def assert_civil(response: httpx2.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["detail"]
    for leak in ("Traceback", "sqlalchemy", "SELECT ", "INSERT ", "password_hash", "$argon2"):
        assert leak not in response.text


def send(client: httpx2.Client, request: Request) -> int:
    method, target, body, content_type = request
    headers = {"Content-Type": content_type.encode("latin-1")} if content_type else {}
    response = client.request(
        method,
        target,
        content=body,
        headers=headers,  # type: ignore[arg-type]
        follow_redirects=False,
    )
    try:
        assert_civil(response)
    except AssertionError as error:
        raise AssertionError(f"{method} {target[:200]} {body and body[:200]!r}: {error}") from None
    return response.status_code


def fill(make: Make) -> None:
    for _ in range(2):
        make("users")
        make("categories")
        make("products", category_id=1)
        make("tags")
        make("items")
        make("accounts", user_id=1, balance=50)
        make("posts", author_id=1)
        make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    make("transfers", from_account_id=1, to_account_id=2, amount=1)
    complete(make.client)


@pytest.fixture
def small_shop(built: Callable[[Build], None]) -> None:
    built(fill)


def assert_alike_everywhere(client: httpx2.Client, requests: list[Request], fill: Build) -> None:
    """Send to each database what reached the first one, and compare the statuses."""
    executed = [0]

    def note(*_: Any) -> None:
        executed[0] += 1

    before, told = db.settings.database_url, list[dict[Request, int]]()
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    for url in URLS:
        connect(own_copy(url))
        empty(db.database.writer.engine)
        fill(Make(client))
        answers = {}
        for request in told[0] if told else requests:
            seen, status = executed[0], send(client, request)
            if executed[0] > seen:
                answers[request] = status
        told.append(answers)
    sa.event.remove(sa.Engine, "before_cursor_execute", note)
    connect(before)
    for answers in told[1:]:
        assert not [
            (r, told[0][r], status) for r, status in answers.items() if told[0][r] != status
        ]


def forged(path: str, sort: str, said: bytes) -> str:
    """A cursor as `page` would write it, but for what it says."""
    digest = hashlib.blake2b(f"{path} {sort} ".encode() + said, digest_size=6).digest()
    return base64.urlsafe_b64encode(digest + said).decode().rstrip("=")


@pytest.mark.every_database
@pytest.mark.parametrize(("path", "sort"), [(p, s) for p, s in SORTS if not s.startswith("-")])
def test_what_is_forged_in_a_cursor_reaches_no_database_that_would_refuse_it(
    client: httpx2.Client, small_shop: None, path: str, sort: str
) -> None:
    odd = ['"1e400"', '"-9223372036854775809"', "9223372036854775807", '"1970-01-01"', '"0.010"']
    odd += ['"2026-01-01T00:00:00"', '"1969-12-31T23:59:59Z"', '"2026-01-01T00:00:00+14:00"']
    said = [f"[{value},1]" for value in [*VALUES, *odd]]
    said += ["[1,0]", "[1,2147483648]", '["a","1"]', "[1,1,1]", "[1]", "[1, 1]", "1", "", "\ud800"]
    for text in said:
        cursor = forged(path, sort, text.encode("utf-8", "surrogatepass")[:5000])
        response = client.get(path, params={"sort": sort, "cursor": cursor})
        assert_civil(response)
        if response.status_code != 200:
            assert response.json()["errors"][0]["loc"] == ["query", "cursor"], text


TARGETS: list[Request] = [(method, target, None, "") for method, target in CORPUS["targets"]]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_route_answers_the_corpus_civilly(
    client: httpx2.Client, small_shop: None, method: str, path: str
) -> None:
    for request in dict.fromkeys(hostile_requests(method, path, all=False)):
        send(client, request)


@pytest.mark.system
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_reaches_a_database_is_answered_civilly_and_alike_on_every_database(
    client: httpx2.Client, method: str, path: str
) -> None:
    assert_alike_everywhere(
        client, list(dict.fromkeys(hostile_requests(method, path, all=True))), fill
    )


def test_odd_targets_are_answered_civilly(client: httpx2.Client, small_shop: None) -> None:
    for request in TARGETS:
        send(client, request)


@pytest.mark.system
def test_odd_targets_are_answered_alike_on_every_database(client: httpx2.Client) -> None:
    assert_alike_everywhere(client, TARGETS, fill)


def test_the_bodies_that_are_made_hostile_are_taken_when_they_are_not(
    client: httpx2.Client, small_shop: None
) -> None:
    for method, path in OPERATIONS:
        media = media_of(method, path)
        if method == "POST" and media and not isinstance(example_of(media), list):
            response = client.post(filled(path), json=example_of(media))
            assert response.status_code in (200, 201), f"{path}: {response.text}"


# The value of a pair is there or is empty, with white space around it that is in two places then.
AMBIGUOUS = r'\s*(\w+)\s*=\s*("[^"]*"|[^\s;"]*)\s*'
PLAIN = r' *(\w+)=("[^"]*"|[^\s;"]+) *'
SLOW = {
    rf"{AMBIGUOUS}(;{AMBIGUOUS})*": "exponential",
    r"(a+)+": "exponential",
    r"(a|a)*": "exponential",
    r"(a*)*": "exponential",
    r"(x(|y*))*": "exponential",
    r"a*a*": "quadratic",
    r"(/[^?]*)\??(.*)": "quadratic",
    rf"{PLAIN}(;{PLAIN})*": "",
    r"(ab|a)*": "",
    r"[^\x00]*": "",
}


@pytest.mark.parametrize(("pattern", "time"), SLOW.items())
def test_a_pattern_that_takes_more_than_linear_time_is_known_for_it(
    pattern: str, time: str
) -> None:
    assert patterns.fault(pattern) == time


def test_every_pattern_that_input_meets_takes_linear_time() -> None:
    found = patterns.patterns()
    assert {local.PAIRS.pattern, conditions.TAG, r"^[^\x00]*$"} < {pattern for pattern, _ in found}
    assert [pattern for pattern, flags in found if patterns.fault(pattern, flags)] == []


LONG = 100_000  # characters
HEADERS_AT_WORST = [
    ("forwarded", "a=\t\t;" * (LONG // 5) + "!"),
    ("forwarded", "a=" + " " * LONG + "!"),
    ("forwarded", "a=b" + " " * LONG + "!"),
    ("forwarded", 'a="' + "\\\\" * LONG),
    ("forwarded", "a=b;" * (LONG // 4) + "!"),
    ("x-forwarded-for", "127.0.0.1," * (LONG // 10) + "!"),
    ("x-forwarded-for", ":" * LONG),
    ("x-forwarded-for", "." * LONG),
    ("x-forwarded-for", "[" + ":" * LONG),
    ("host", "a." * (LONG // 2) + "!"),
    ("host", "[" * LONG),
    ("host", '"' * LONG + "!"),
    ("host", " " * LONG + "!"),
    ("cookie", 'csrf="' + '\\"' * (LONG // 2) + '"'),
    ("cookie", ";" * LONG),
    ("if-match", '"a" ' * (LONG // 4) + "!"),
    ("if-match", '"a",' + " ," * (LONG // 2) + "!"),
    ("if-match", '"' * LONG),
    ("content-type", "text/csv" + " " * LONG + "!"),
    ("content-type", "text/csv" + ";header=present " * (LONG // 16) + "!"),
    ("content-type", "application/" + "+json" * (LONG // 5) + "!"),
]


def read_the_worst() -> None:
    """Let everything that reads text read a long one that it could be slow with."""
    for pattern, flags in patterns.patterns():
        reads = patterns.Automaton(pattern, flags).reads
        letters = {min(characters & {*range(33, 127)} or characters) for characters in reads}
        for one, other in product(map(chr, letters | {ord(" ")}), repeat=2):
            re.compile(pattern, flags).fullmatch((one + other) * (LONG // 2) + "\0")
    for name, value in HEADERS_AT_WORST:
        headers = [(name.encode(), value.encode())]
        request = StarletteRequest({"type": "http", "client": ("127.0.0.1", 1), "headers": headers})
        local.is_on_this_machine(request.scope)
        kit.cookies_of(request)
        conditions.names_tag([value], '"1"', weak=True)
        uploads.format_of(value)
        kit.json.JSON_LIKE.fullmatch(value)
    for text in ("'" * LONG, "' " * (LONG // 2) + "x", " " * LONG):
        lines.cell_of(text)
        lines.read_text(text)


def test_the_longest_text_at_its_worst_is_read_to_the_end() -> None:
    read = [sys.executable, "-c", "import test_hostile; test_hostile.read_the_worst()"]
    subprocess.run(read, cwd=Path(__file__).parent, check=True, timeout=600)
