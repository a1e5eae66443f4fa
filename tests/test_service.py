"""The root, health, the documentation, and what holds before a route is found."""

import asyncio
import contextlib
import html
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from conftest import KEY, ORIGIN, AppTransport, Make
from databases import HOME
from document import DOCUMENT, OPERATIONS, PATHS, ROUTES, SCHEMAS, filled
from fastapi import FastAPI
from openapi_spec_validator import validate
from servers import create_user, running
from starlette.routing import Mount

import db
import main


def test_the_root_says_what_this_is(client: httpx2.Client) -> None:
    root = {"message": "Cornershop API", "docs": "/docs", "version": "1.0.0"}
    assert client.get("/").json() == root
    assert client.get("/api/v1/").json() == root


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        BROWSER,
        "text/html",
        "TEXT/HTML",
        "text/*",
        "application/json;q=0.5, text/html; q=0.6",
        "*/*, application/json;q=0",
        "text/html;level=1;q=0.9, */*;q=0.1",
    ],
)
def test_the_root_is_a_page_to_who_would_rather_have_one(
    app_client: httpx2.Client, accept: str
) -> None:
    page = app_client.get("/", headers={"Accept": accept})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Vary"] == "Accept"
    assert "<h1>" in page.text
    assert "Cornershop API" in page.text
    head = app_client.head("/", headers={"Accept": accept})
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(page.content)))


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "",
        "application/json",
        "application/json, text/html",
        "image/png",
        "nonsense;q=x,,;",
        "text/html;q=0",
        "text/html;q=0.3, application/*;q=0.5",
        "text/html;q=0, text/*",
    ],
)
def test_the_root_is_json_to_all_others(app_client: httpx2.Client, accept: str) -> None:
    answer = app_client.get("/", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Vary"] == "Accept"
    assert answer.json()["message"] == "Cornershop API"


def test_the_page_leads_to_the_documentation_and_the_admin_and_needs_nothing_from_elsewhere(
    app_client: httpx2.Client,
) -> None:
    page = app_client.get("/", headers={"Accept": BROWSER}).text
    assert re.findall('<a href="(.*?)"', page) == ["/docs", "/redoc", "/admin/"]
    assert "http" not in page
    for address in addresses_in(page):
        assert app_client.get(address).status_code == 200


def test_the_icon_is_that_of_every_page(app_client: httpx2.Client) -> None:
    icon = app_client.get("/favicon.ico")
    assert (icon.status_code, icon.content[:4]) == (200, b"\0\0\1\0")
    assert len(icon.content) < 2000
    for path in ("/", "/docs", "/redoc", "/admin/", "/admin/login"):
        page = app_client.get(path, headers={"Accept": BROWSER}).text
        assert re.findall('<link rel="(?:shortcut )?icon" href="(.*?)"', page) == ["/favicon.ico"]


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


MAIN = sys.executable, HOME / "main.py"
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
        "/admin/item/list": f"{prefix}/admin/login?next=item%2Flist",
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


# The prefix that a proxy in front adds to every path

PREFIXED = {  # the setting, what the server says of it, and what comes before the path then
    "a proxy that takes it off": ("/shop", "", ""),
    "a proxy that does not": ("/shop", "", "/shop"),
    "a proxy that takes it off, which the server puts back": ("", "/shop", "/shop"),
    "a proxy that does not, and the server adds it again": ("", "/shop", "/shop/shop"),
    "a server that says it apart": ("", "/shop", ""),
    "a server that was told it carelessly": ("", "shop/", "shop/"),
    "both": ("/shop", "/shop", "/shop"),
}


@pytest.fixture(params=[*PREFIXED, "another app that it is mounted in"])
def behind(
    request: pytest.FixtureRequest,
    client: httpx2.Client,
    app_loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[httpx2.Client]:
    """A client of the app, which is reached at /shop."""
    setting, told, before = PREFIXED.get(request.param, ("", "", "/shop"))
    app: Any = main.app
    if request.param not in PREFIXED:
        app = FastAPI()
        app.mount("/shop", main.app)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        path = before + scope["path"].removeprefix("/shop")
        await app({**scope, "root_path": told, "path": path}, receive, send)

    monkeypatch.setattr(db.settings, "root_path", setting)
    transport = AppTransport(app_loop)
    transport.app.app = served
    with httpx2.Client(transport=transport, base_url="https://testserver/shop") as reached:
        yield reached


def addresses_in(page: str) -> list[str]:
    """What a page leads to, asks for or sends something to."""
    attributes = re.findall(r' (?:href|src|action|data-url)="([^"#]+)"', page)
    scripts = re.findall(r'(?:EventSource\(|url: )["\']([^"\']+)', page)
    return [html.unescape(address) for address in attributes + scripts]


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_behind_a_prefix_links_and_redirects_keep_it(behind: httpx2.Client, prefix: str) -> None:
    for n in (1, 2):
        created = behind.post(f"{prefix}/items/", json={"title": "Lamp", "price": 1})
        assert led_to(created) == [f"/shop{prefix}/items/{n}"]
    for path, place in {
        "": "/",
        "/items?limit=1": "/items/?limit=1",
        "/admin": "/admin/",
        "/admin/item/list/": "/admin/item/list",
        "/admin/item/list?page=9": "/admin/item/list?page=1",
    }.items():
        if prefix or path:
            assert led_to(behind.get(prefix + path)) == [f"/shop{prefix}{place}"]
    link = f'</shop{prefix}/items/?limit=1&after=1>; rel="next"'
    assert led_to(behind.get(f"{prefix}/items/?limit=1")) == [link]
    assert behind.get(f"{prefix}/items/1").json()["title"] == "Lamp"
    assert behind.get("/shopping").status_code == 404


def test_behind_a_prefix_the_documentation_keeps_it(behind: httpx2.Client) -> None:
    document = behind.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/shop"}, {"url": "/shop/api/v1"}]
    assert behind.get("/api/v1/openapi.json").json() == document
    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["password"]["tokenUrl"] == "/shop/token"
    assert behind.get("/").json()["docs"] == "/shop/docs"
    for path in ("/", "/docs", "/redoc"):
        found = addresses_in(behind.get(path, headers={"Accept": BROWSER}).text)
        assert found
        assert [address for address in found if not address.startswith("/shop/")] == []


def test_behind_a_prefix_every_page_of_the_admin_keeps_it(
    behind: httpx2.Client, make: Make, close: Callable[[], None]
) -> None:
    create_user(behind)
    with db.database.writer.engine.begin() as connection:
        connection.execute(sa.text('UPDATE "user" SET is_superuser = true'))
    make("items")
    close()
    page = behind.get("/admin/login")
    token = re.findall('name="csrf_token" value="(.*?)"', page.text)[0]
    fields = {"username": "ann", "password": "Password1", "csrf_token": token}
    assert led_to(behind.post("/admin/login", data=fields)) == ["/shop/admin/"]
    cookies = [(cookie.name, cookie.path) for cookie in behind.cookies.jar]
    assert cookies == [("__Secure-token", "/shop")]
    to_see, seen = {"/shop/admin/"}, set[str]()
    while to_see:
        seen.add(path := to_see.pop())
        page = behind.get(f"https://testserver{path}")
        assert page.status_code != 404, path
        if page.headers["Content-Type"].startswith("text/html"):
            found = addresses_in(page.text)
            assert [address for address in found if not address.startswith("/shop/")] == [], path
            to_see |= {address for address in found if "?" not in address} - seen
            to_see -= {address for address in found if "/events" in address}  # which has no end
    assert {"/shop/admin/item/list", "/shop/admin/item/edit/1", "/shop/favicon.ico"} <= seen


def test_a_prefix_is_not_taken_for_a_part_of_the_admins_paths(
    app_client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.settings, "root_path", "/edit/statics")
    page = app_client.get("/admin/user/create")
    assert "Left empty, it stays as it is." not in page.text
    assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.system
@pytest.mark.parametrize(
    "command",
    [
        (*UVICORN, "--root-path", "/shop"),
        (*MAIN, "--root-path", "shop/"),
        (*MAIN, "--workers", "2"),
        (
            Path(sys.executable).with_name("fastapi"),
            "run",
            HOME / "main.py",
            "--root-path",
            "/shop",
        ),
    ],
    ids=["uvicorn", "main", "setting", "fastapi"],
)
def test_a_prefix_can_be_given_in_each_way(
    any_database: str, command: tuple[str | Path, ...]
) -> None:
    setting = "" if "--root-path" in command else "/shop/"
    with running(any_database, *command, ROOT_PATH=setting, SECRET_KEY=KEY) as shop:
        for path in ("/items", "/shop/items"):
            assert led_to(shop.client.get(path)) == ["/shop/items/"]


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


def all_paths() -> Iterator[tuple[str, set[str]]]:
    """An example of each path, the admin's included, with the methods that it is for."""
    mounts = [route for route in main.app.routes if isinstance(route, Mount)]
    listed: list[tuple[str, Any]] = [("", main.app.routes), *((m.path, m.routes) for m in mounts)]
    for start, routes in listed:
        for route in routes:
            if isinstance(route, Mount) and not route.routes:
                yield f"{start}{route.path}/nothing.css", {"GET", "HEAD"}
            elif not isinstance(route, Mount):
                methods = {m for r in routes if r.path == route.path for m in r.methods}
                path = route.path_format.replace("{identity}", "item").replace("{pk}", "1")
                yield start + filled(path.replace("{export_type}", "csv")), methods


@pytest.mark.parametrize(("path", "methods"), dict(all_paths()).items())
def test_every_path_says_which_methods_it_is_for(
    app_client: httpx2.Client, path: str, methods: set[str]
) -> None:
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    options = app_client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    wrong = app_client.request(next(m for m in ("TRACE", "PUT") if m not in allowed), path)
    assert wrong.status_code == 405
    for response in (options, wrong):
        assert response.headers["Allow"] == ", ".join(sorted(allowed))


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


def test_every_error_in_the_openapi_document_is_a_problem(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"] == {"application/problem+json": problem}


def test_a_problem_in_the_openapi_document_has_all_but_errors_for_sure() -> None:
    problem = SCHEMAS["Problem"]
    assert problem["required"] == ["type", "title", "status", "detail"]
    assert problem["properties"]["errors"]["type"] == "array"  # or left out, but not null


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_parameter_in_the_openapi_document_may_be_null(method: str, path: str) -> None:
    for parameter in PATHS[path][method.lower()].get("parameters", []):
        assert "null" not in str(parameter["schema"])


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
    assert answer.headers["Vary"] == "Origin"


def test_a_fault_is_logged_once_and_told_to_a_web_origin(any_database: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(HOME)!r})
import main
@main.app.get("/fault", dependencies=[main.Public])
async def fault() -> str:
    raise RuntimeError("secret " + "detail")  # the line itself is in tracebacks since 3.13
main.cli.run(sys.argv[1:])"""
    with running(any_database, sys.executable, "-c", code, CORS_ORIGINS=ORIGIN) as shop:
        answer = shop.client.get("/fault", headers={"Origin": ORIGIN})
        assert (answer.status_code, answer.json()["status"]) == (500, 500)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        shop.stop(signal.SIGTERM)
        assert shop.logged().count("Traceback") == shop.logged().count("secret detail") == 1


def test_an_error_can_be_read_from_a_web_origin_too(server: httpx2.Client) -> None:
    origin = {"Origin": ORIGIN}
    answers = {
        404: server.get("/items/1%0A", headers=origin),
        405: server.delete("/items/", headers=origin),
        413: server.post("/items/", headers=origin, content=b" " * (db.settings.max_body_size + 1)),
        422: server.get("/items/?limit=x", headers=origin),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Vary"] == "Origin"
