"""The root, health, the documentation, and what holds before a route is found."""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import ORIGIN, Make
from databases import HOME
from document import DOCUMENT, OPERATIONS, PATHS, ROUTES
from openapi_spec_validator import validate
from servers import running

import db
import main


def test_the_root_says_what_this_is(client: httpx2.Client) -> None:
    root = {"message": "Cornershop API", "docs": "/docs", "version": "1.0.0"}
    assert client.get("/").json() == root
    assert client.get("/api/v1/").json() == root


@pytest.mark.every_database
def test_health_counts_the_connections(client: httpx2.Client) -> None:
    size = db.database.writer.capacity + db.database.reader.capacity
    numbers = {"pool_size": size, "connections_in_use": 0, "connections_available": size}
    assert client.get("/health").json() == {"status": "healthy", "database": numbers}
    with db.database.reader.engine.connect():
        numbers |= {"connections_in_use": 1, "connections_available": size - 1}
        assert client.get("/health").json()["database"] == numbers


@pytest.mark.every_database
def test_database_health_says_the_revision(client: httpx2.Client) -> None:
    body = client.get("/health/db").json()
    assert list(body) == [
        "status",
        "pool_size",
        "checked_in",
        "checked_out",
        "overflow",
        "total_connections",
        "revision",
    ]
    assert (body["status"], body["revision"]) == ("healthy", db.migrations.newest)
    assert body["total_connections"] == body["checked_in"] + body["checked_out"]


@pytest.mark.every_database
def test_database_health_is_503_when_the_database_is_not_at_the_newest_revision(
    client: httpx2.Client,
) -> None:
    change = sa.text("UPDATE alembic_version SET version_num = :revision")
    with db.database.writer.engine.begin() as connection:
        connection.execute(change, {"revision": "old"})
    try:
        response = client.get("/health/db")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
    finally:
        with db.database.writer.engine.begin() as connection:
            connection.execute(change, {"revision": db.migrations.newest})


def test_every_path_answers_under_the_prefix_too(client: httpx2.Client, make: Make) -> None:
    make("items")
    response = client.post("/api/v1/items/", json={"title": "x", "price": 1})
    assert (response.status_code, response.headers["Location"]) == (201, "/api/v1/items/2")
    assert client.get("/api/v1/items/").json() == client.get("/items/").json()
    assert client.get("/api/v1/health").json() == client.get("/health").json()
    assert client.get("/api/v1x/items/").status_code == 404
    assert client.get("/api/v1/api/v1/items/").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_path_without_its_slash_redirects_and_keeps_prefix_and_query(
    client: httpx2.Client, prefix: str
) -> None:
    response = client.get(f"{prefix}/items?limit=5", follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["Location"] == f"{prefix}/items/?limit=5"
    assert client.post(f"{prefix}/items", json={"title": "x", "price": 1}).status_code == 201


UVICORN = sys.executable, "-m", "uvicorn", "main:app", "--app-dir", HOME


def led_to(answer: httpx2.Response) -> list[str]:
    """Where an answer leads: by a redirect, or to the next page."""
    return [answer.headers[name] for name in ("Location", "Link") if name in answer.headers]


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
@pytest.mark.parametrize("host", ["testserver", "evil.example", "evil.example/x?", "", "::", "a b"])
def test_a_host_leads_nobody_anywhere(
    client: httpx2.Client, make: Make, close: Callable[[], None], host: str, prefix: str
) -> None:
    make("items")
    make("items")
    close()
    for path, place in {
        "/items?limit=1": f"{prefix}/items/?limit=1",
        "/items/?limit=1": f'<{prefix}/items/?limit=1&after=1>; rel="next"',
        "/admin": f"{prefix}/admin/",
        "/admin/": f"{prefix}/admin/login",
        "/admin/item/list": f"{prefix}/admin/login",
        "/admin/item/list/": f"{prefix}/admin/item/list",
    }.items():
        answer = client.get(f"{prefix}{path}", headers={"Host": host}, follow_redirects=False)
        assert led_to(answer) == [place]
    assert "evil.example" not in client.get("/admin/login", headers={"Host": host}).text


@pytest.mark.parametrize("start", ["//", "///", "/\\", "/%5C", "/%2F", "//x@", "/api/v1//"])
def test_a_path_leads_to_no_other_machine(app_client: httpx2.Client, start: str) -> None:
    for path in (f"{start}evil.example", f"{start}evil.example/", f"{start}items", f"{start}admin"):
        answer = app_client.get(httpx2.URL(f"http://testserver{path}"), follow_redirects=False)
        assert (answer.status_code, led_to(answer)) == (404, [])


def test_behind_a_prefix_links_and_redirects_keep_it(any_database: str) -> None:
    with running(any_database, *UVICORN, "--root-path", "/shop") as shop:
        for _ in range(2):
            shop.client.post("/items/", json={"title": "Lamp", "price": 1})
        for path, place in {
            "/items?limit=1": "/shop/items/?limit=1",
            "/items/?limit=1": '</shop/items/?limit=1&after=1>; rel="next"',
            "/api/v1/items": "/shop/api/v1/items/",
            "/admin": "/shop/admin/",
        }.items():
            assert led_to(shop.client.get(path)) == [place]


def raw_answer(client: httpx2.Client, *sent: bytes) -> bytes:
    """What a server says until it ends the connection, by itself or since it had enough."""
    said, where = b"", (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(where, 60) as s, contextlib.suppress(ConnectionError):
        for part in sent:
            s.sendall(part)
        while part := s.recv(65536):
            said += part
    return said


def assert_problem(raw: bytes, status: int) -> None:
    head, end, body = raw.partition(b"\r\n\r\n")
    head += end
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close\r\n" in head
    assert json.loads(body)["status"] == status


START = b"GET /items/ HTTP/1.1\r\nHost: localhost\r\n"
LONG = 64 * 1024 - len(START) + 1  # so many bytes more are too many


def test_a_head_over_64_kib_that_has_no_end_is_a_431_and_ends_the_connection(
    server: httpx2.Client,
) -> None:
    for head in (b"X: " + b"x" * (LONG - 3), (b"X: x\r\n" * LONG)[:LONG]):
        assert_problem(raw_answer(server, START, head), 431)
    assert_problem(raw_answer(server, b"GET /" + b"x" * (64 * 1024 - 4)), 431)
    assert server.get("/items/").json() == []


def test_what_is_not_http_is_a_400_and_ends_the_connection(server: httpx2.Client) -> None:
    for sent in (b"nonsense\r\n\r\n", START + b"\0: x\r\n", b"\x16\x03\x01"):
        assert_problem(raw_answer(server, sent), 400)


MAIN = sys.executable, HOME / "main.py"


@pytest.mark.system
@pytest.mark.parametrize(
    "command", [UVICORN, (*MAIN, "--workers", "2"), (*MAIN, "--reload")], ids=["uvicorn", "2", "r"]
)
def test_a_head_that_has_no_end_is_refused_however_the_service_was_started(
    any_database: str, command: tuple[str | Path, ...]
) -> None:
    with running(any_database, *command) as shop:
        assert_problem(raw_answer(shop.client, START, b"X: " + b"x" * (LONG - 3)), 431)


def test_trailers_are_no_headers(server: httpx2.Client) -> None:
    head = START.replace(b"GET", b"POST") + b"Origin: http://evil.example\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'17\r\n{"title":"t","price":1}\r\n0\r\nSec-Fetch-Site: same-origin\r\n\r\n'
    assert raw_answer(server, head + body).startswith(b"HTTP/1.1 403 ")
    assert server.get("/items/").json() == []


def test_what_comes_after_an_upgrade_that_is_not_done_is_no_request(server: httpx2.Client) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n"
    head = START.replace(b"GET", b"POST") + upgrade + b"Content-Length: 41\r\n\r\n"
    inside = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw_answer(server, head, inside).count(b"HTTP/1.1 ") == 1


def test_a_head_over_64_kib_that_comes_whole_is_a_431_and_ends_the_connection(
    server: httpx2.Client,
) -> None:
    head = START + b"X: " + b"x" * 64 * 1024 + b"\r\n\r\n"
    assert_problem(raw_answer(server, head), 431)
    assert_problem(raw_answer(server, head[:60_000], head[60_000:]), 431)
    large = server.get("/items/", headers={"X": "x" * 64_000})
    assert (large.status_code, large.json()) == (200, [])


def test_trailers_over_64_kib_end_the_connection(server: httpx2.Client) -> None:
    chunked = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n0\r\n"
    post = START.replace(b"GET", b"POST") + chunked
    assert raw_answer(server, post, b"X: x\r\n" * 33_000) == b""
    assert server.get("/items/").json() == []


@pytest.mark.system
def test_a_head_that_does_not_come_in_time_ends_the_connection(any_database: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(HOME)!r})
import main
from kit import protocol
protocol.HEAD_TIME = 1
main.cli.run(sys.argv[1:])"""
    with running(any_database, sys.executable, "-c", code) as shop:
        assert raw_answer(shop.client) == b""
        assert raw_answer(shop.client, START) == b""
        drops = 0
        with (
            socket.create_connection(("127.0.0.1", shop.port)) as slow,
            contextlib.suppress(ConnectionError),
        ):
            for drops in range(600):  # noqa: B007  # in a minute, of which none is more time
                slow.sendall(b"X")
                time.sleep(0.1)
        assert drops < 599
        assert shop.client.get("/items/").json() == []


@pytest.mark.parametrize("path", ["/", "/health", "/items/", "/items/1", "/docs", "/api/v1/items/"])
def test_head_is_get_without_the_body(client: httpx2.Client, make: Make, path: str) -> None:
    make("items")
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.content))
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_options_and_a_wrong_method_say_what_is_allowed(client: httpx2.Client) -> None:
    options, wrong = client.options("/items/"), client.delete("/items/")
    assert (options.status_code, options.content) == (204, b"")
    assert (wrong.status_code, wrong.json()["detail"]) == (405, "DELETE is not allowed here")
    for response in (options, wrong):
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_the_openapi_document_names_both_servers(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/"}, {"url": "/api/v1"}]
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["description"] for operation in operations)


def test_every_error_in_the_openapi_document_is_a_problem(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"] == {"application/problem+json": problem}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/v1/docs"])
def test_the_documentation_needs_nothing_from_elsewhere(client: httpx2.Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for address in page.text.split('"'):
        if address.endswith((".js", ".css", ".png")):
            assert client.get(address).status_code == 200


def test_a_web_origin_may_call_only_where_it_is_set(
    app_client: httpx2.Client, server: httpx2.Client
) -> None:
    answer = app_client.get("/items/", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = server.get("/items/", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    answer = server.get("/items/", headers={"Origin": "https://b.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("root_path", ["", "/shop"])
def test_the_openapi_document_is_valid_for_the_version_that_it_names(
    app_client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, root_path: str
) -> None:
    monkeypatch.setattr(db.settings, "root_path", root_path)
    document = app_client.get("/openapi.json").json()
    assert document["openapi"] == main.app.openapi_version == "3.1.0"
    validate(document)


def test_the_openapi_document_has_locks_where_a_log_in_matters() -> None:
    bearer: Any = {"OAuth2PasswordBearer": []}
    needed, optional = [bearer], [{}, bearer]
    for method, path in OPERATIONS:
        who, locks = ROUTES[method, path].who, PATHS[path][method.lower()].get("security")
        assert locks == needed if who in ("owner", "superuser") else locks in (None, optional)
    assert "security" not in PATHS["/items/"]["get"]


@pytest.mark.needs("posts")
def test_the_openapi_document_says_that_authors_get_more_posts() -> None:
    for path in ("/posts/", "/posts/{post_id}"):
        assert PATHS[path]["get"]["security"] == [{}, {"OAuth2PasswordBearer": []}]


def test_the_openapi_document_says_the_fields_of_every_answer() -> None:
    assert list(untyped(DOCUMENT)) == []
    root = PATHS["/"]["get"]["responses"]["200"]["content"]
    assert list(root) == ["application/json", "text/html"]


def untyped(part: Any, *place: str) -> Iterator[tuple[str, ...]]:
    """Where a schema says nothing, or takes any keys."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if isinstance(part, dict):
        if part.get("additionalProperties") is True or (place[-1:] == ("schema",) and not part):
            yield place
        for name, inner in part.items():
            yield from untyped(inner, *place, str(name))
