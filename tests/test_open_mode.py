"""Without SECRET_KEY: everything is allowed, but only to clients on this machine."""

from collections.abc import Callable

import httpx2
import pytest
from conftest import KEY, ORIGIN, Make

import db
import kit

At = Callable[[str], httpx2.Client]
Close = Callable[[], None]

HERE = ["127.0.0.1", "127.8.9.10", "127.255.255.254", "::1", "::ffff:7f00:1"]
ELSEWHERE = [
    "203.0.113.5",
    "10.0.0.1",
    "192.168.1.7",
    "128.0.0.1",
    "0.0.0.0",
    "2001:db8::1",
    "::",
    "::ffff:203.0.113.5",
    "fe80::1%eth0",
    "localhost",
    "unknown",
    "",
]
FOREIGN = "203.0.113.5"
PATHS = [
    "/",
    "/health",
    "/health/db",
    "/items/",
    "/items",
    "/users/1",
    "/docs",
    "/redoc",
    "/favicon.ico",
    "/openapi.json",
    "/static/swagger-ui.css",
    "/nowhere",
    "/api/v1/items/",
    "/api/v1/docs",
    "/notifications/events",
]


def assert_only_here(answer: httpx2.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "SECRET_KEY" in answer.json()["detail"]


@pytest.mark.parametrize("address", HERE)
def test_clients_on_this_machine_may_do_everything(
    client: httpx2.Client, client_at: At, address: str
) -> None:
    here = client_at(address)
    user = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    assert here.post("/users/", json=user).status_code == 201
    assert here.patch("/users/1", json={"is_superuser": True}).status_code == 200
    assert here.get("/users/").status_code == 200
    assert here.post("/items/", json={"title": "Lamp", "price": 1}).status_code == 201
    assert here.delete("/users/1").status_code == 204


def test_this_machine_may_be_written_as_ipv4_within_ipv6(client_at: At) -> None:
    assert client_at("::ffff:127.0.0.1").get("/items/").status_code == 200


@pytest.mark.parametrize("address", ELSEWHERE)
def test_clients_elsewhere_may_do_nothing(
    client: httpx2.Client, client_at: At, address: str
) -> None:
    elsewhere = client_at(address)
    assert_only_here(elsewhere.get("/items/"))
    assert_only_here(elsewhere.post("/items/", json={"title": "Lamp", "price": 1}))
    assert client.get("/items/").json() == []


@pytest.mark.parametrize("path", PATHS)
def test_no_path_is_open_to_clients_elsewhere(client_at: At, path: str) -> None:
    elsewhere = client_at(FOREIGN)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        assert_only_here(elsewhere.request(method, path))
    head = elsewhere.head(path)
    assert (head.status_code, head.content) == (403, b"")


FORWARDED_FROM_ELSEWHERE = [
    ("X-Forwarded-For", "203.0.113.5"),
    ("X-Forwarded-For", "203.0.113.5:4711"),
    ("X-Forwarded-For", "203.0.113.5, 127.0.0.1"),
    ("X-Forwarded-For", "127.0.0.1, 203.0.113.5"),
    ("X-Forwarded-For", "127.0.0.1,,203.0.113.5"),
    ("X-Forwarded-For", "2001:db8::1"),
    ("X-Forwarded-For", "[2001:db8::1]:4711"),
    ("X-Forwarded-For", "unknown"),
    ("X-Forwarded-For", "127.0.0.1.example.com"),
    ("X-Forwarded-For", "\xe9"),
    ("X-Real-IP", "203.0.113.5"),
    ("X-Client-IP", "203.0.113.5"),
    ("True-Client-IP", "203.0.113.5"),
    ("Client-IP", "203.0.113.5"),
    ("Fastly-Client-IP", "203.0.113.5"),
    ("X-Cluster-Client-IP", "203.0.113.5"),
    ("X-ProxyUser-Ip", "203.0.113.5"),
    ("X-Client", "203.0.113.5"),
    ("X-Azure-SocketIP", "203.0.113.5"),
    ("X-Forwarded", "203.0.113.5"),
    ("X-Forwarded", "for=203.0.113.5"),
    ("X-Original-For", "203.0.113.5:4711"),
    ("X-Originating-IP", "203.0.113.5"),
    ("X-Remote-Addr", "203.0.113.5"),
    ("CF-Connecting-IPv6", "2001:db8::1"),
    ("X-Envoy-External-Address", "203.0.113.5"),
    ("Forwarded", "for="),
    ("Forwarded", "for=127.0.0.1;"),
    ("Forwarded", "for = 127.0.0.1"),
    ("Forwarded", "for=203.0.113.5"),
    ("Forwarded", "For=203.0.113.5"),
    ("Forwarded", 'FOR="203.0.113.5"'),
    ("Forwarded", 'for="203.0.113.5:4711"'),
    ("Forwarded", 'for="2\\03.0.113.5"'),
    ("Forwarded", 'for="[2001:db8::1]"'),
    ("Forwarded", 'for="[2001:db8::1]:4711"'),
    ("Forwarded", "for=unknown"),
    ("Forwarded", "for=_hidden"),
    ("Forwarded", 'for="_gazonk:80"'),
    ("Forwarded", "proto=http;by=127.0.0.1;for=203.0.113.5;host=localhost"),
    ("Forwarded", 'by="a;b,c";for=203.0.113.5'),
    ("Forwarded", "for=127.0.0.1, for=203.0.113.5"),
    ("Forwarded", "for=203.0.113.5,for=127.0.0.1"),
    ("Forwarded", 'for=127.0.0.1;proto=http , proto=http ; for="203.0.113.5"'),
]


@pytest.mark.parametrize(("name", "value"), FORWARDED_FROM_ELSEWHERE)
def test_what_was_forwarded_from_elsewhere_is_refused(client_at: At, name: str, value: str) -> None:
    here = client_at("127.0.0.1")
    assert_only_here(here.get("/items/", headers=[(name.encode(), value.encode("latin-1"))]))
    assert_only_here(
        here.get(
            "/docs",
            headers=[(b"X-Forwarded-For", b"127.0.0.1"), (name.encode(), value.encode("latin-1"))],
        )
    )


FORWARDED_FROM_HERE = [
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-For", "127.0.0.1:4711"),
    ("X-Forwarded-For", "127.0.0.1, ::1"),
    ("X-Forwarded-For", "[::1]:4711"),
    ("X-Real-IP", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1"),
    ("Forwarded", 'For="127.0.0.1:4711"'),
    ("Forwarded", 'for="[::1]:4711";proto=http;by=127.0.0.1'),
    ("Forwarded", 'for=127.0.0.1, FOR="[::1]"'),
]


@pytest.mark.parametrize(("name", "value"), FORWARDED_FROM_HERE)
def test_what_was_forwarded_from_here_is_let_in_but_only_by_a_proxy_here(
    client_at: At, name: str, value: str
) -> None:
    assert client_at("127.0.0.1").get("/items/", headers={name: value}).status_code == 200
    assert_only_here(client_at(FOREIGN).get("/items/", headers={name: value}))


def test_a_server_believes_what_a_proxy_here_says(server: httpx2.Client) -> None:
    for _, value in [h for h in FORWARDED_FROM_HERE if h[0] == "X-Forwarded-For"]:
        answer = server.get("/items/", headers={"X-Forwarded-For": value})
        assert answer.status_code == 200, value
    for name, value in FORWARDED_FROM_ELSEWHERE:
        sent = [(name.encode(), value.encode("latin-1"))]
        assert_only_here(server.get("/items/", headers=sent))
    foreign_host = {"X-Forwarded-For": "127.0.0.1", "Host": "shop.example"}
    assert_only_here(server.get("/items/", headers=foreign_host))


def test_a_web_origin_elsewhere_gets_no_preflight(server: httpx2.Client) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert server.options("/items/", headers=preflight).status_code == 200
    assert_only_here(server.options("/items/", headers=preflight | {"Host": "shop.example"}))


SAME_SITE = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://testserver"},
    {"Origin": "http://shop.localhost:3000", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "https://shop.example"},
    {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"},
]
OTHER_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://testserver:3000"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "https://shop.example:8443"},
    {"Origin": "http://shop.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
]
LAMP = {"title": "Lamp", "price": 1}


@pytest.fixture
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.settings, "cors_origins", "https://shop.example")


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize("headers", SAME_SITE, ids=str)
def test_what_a_page_of_this_or_a_named_site_sends_is_done(
    client: httpx2.Client, headers: dict[str, str]
) -> None:
    assert client.post("/items/", json=LAMP, headers=headers).status_code == 201


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize("headers", OTHER_SITE, ids=str)
def test_what_a_page_of_another_site_sends_is_refused(
    client: httpx2.Client, make: Make, headers: dict[str, str]
) -> None:
    make("items")
    for method, path in [
        ("POST", "/items/"),
        ("POST", "/api/v1/items/"),
        ("PUT", "/items/1"),
        ("PATCH", "/items/1"),
        ("DELETE", "/items/1"),
        ("POST", "/posts/1/views"),
        ("POST", "/products/import"),
        ("DELETE", "/admin/item/delete?pks=1"),
        ("POST", "/nowhere"),
    ]:
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("A page of another site sent this")
    assert client.get("/items/", headers=headers).json()[0]["title"] == "Item 1"
    assert client.head("/items/", headers=headers).status_code == 200
    assert client.options("/items/", headers=headers).status_code == 204


def test_where_no_origin_is_named_an_empty_one_is_not_either(client: httpx2.Client) -> None:
    assert db.settings.cors_origins == ""
    for headers in ({"Origin": ""}, {"Origin": "", "Sec-Fetch-Site": "cross-site"}):
        assert client.post("/items/", json=LAMP, headers=headers).status_code == 403


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize("headers", OTHER_SITE, ids=str)
def test_with_a_key_a_page_of_another_site_may_use_the_api_and_not_the_admin(
    client: httpx2.Client, close: Close, headers: dict[str, str]
) -> None:
    close()
    user = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    assert client.post("/users/", json=user, headers=headers).status_code == 201
    for path in ("/admin/login", "/api/v1/admin/login", "/admin/item/create"):
        refused = client.post(path, headers=headers)
        assert refused.status_code == 403
        assert refused.json()["detail"].startswith("A page of another site sent this")
    assert client.get("/admin/login", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost",
        "shop.localhost",
        "a.shop.LOCALHOST:8000",
        "localhost.",
        "testserver",
        "shop.test",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_a_name_of_this_machine_is_fine(client_at: At, host: str) -> None:
    assert client_at("127.0.0.1").get("/items/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "intranet",
        "intranet:8000",
        "[]",
        "[]:80",
        "xlocalhost",
        "test",
        "shop.example",
        "shop.example:8000",
        "SHOP.Example",
        "shop.example.",
        "localhost.shop.example",
        "localhost.example",
        "127.0.0.1.shop.example",
        "127.0.0.1.shop.example:8000",
        "xlocalhost.example:80",
        "shop.notlocalhost",
        "[2001:db8::1]:8000",
        "[127.0.0.1",
        "localhost:80@shop.example",
        "203.0.113.5",
        "203.0.113.5:8000",
    ],
)
def test_a_name_that_was_made_to_lead_here_is_refused(client_at: At, host: str) -> None:
    for path in ("/", "/items/", "/openapi.json", "/nowhere"):
        assert_only_here(client_at("127.0.0.1").get(path, headers={"Host": host}))


def test_with_a_key_clients_and_names_elsewhere_are_fine(client_at: At, close: Close) -> None:
    close()
    headers = {"Host": "shop.example", "X-Forwarded-For": FOREIGN}
    for path in ("/", "/items/", "/openapi.json", "/docs"):
        assert client_at(FOREIGN).get(path, headers=headers).status_code == 200


def test_tokens_are_not_looked_at(client: httpx2.Client, make: Make) -> None:
    make("users")
    for authorization in ("Bearer nonsense", "Bearer", "Basic eDp5", "nonsense"):
        headers = {"Authorization": authorization}
        for path in ("/items/", "/users/", "/users/1", "/users/page"):
            assert client.get(path, headers=headers).status_code == 200


def test_there_are_no_log_ins_and_nobody_is_logged_in(client: httpx2.Client, make: Make) -> None:
    make("users", username="ann")
    answer = client.post("/token", data={"username": "ann", "password": "Password1"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "SECRET_KEY" in answer.json()["detail"]
    me = client.get("/users/me")
    assert (me.status_code, me.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("key", ["x", "Tr0ub4dor", "31-characters-are-one-too-few.."])
def test_a_short_key_stops_the_start_with_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SECRET_KEY", key)
    with pytest.raises(SystemExit) as stopped:
        kit.read_settings(db.Settings)
    told = str(stopped.value)
    assert told.startswith("Bad setting: SECRET_KEY: ")
    assert "\n" not in told
    assert f" {key}" not in told


def test_an_empty_key_is_none_and_a_key_of_32_characters_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "")
    assert kit.read_settings(db.Settings).secret_key is None
    for key in ("32-characters-are-just-enough-..", KEY):
        monkeypatch.setenv("SECRET_KEY", key)
        assert str(kit.read_settings(db.Settings).secret_key) == "**********"
