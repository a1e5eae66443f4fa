"""Fixtures: a migrated database, emptied before each test; a client of the app; a live server.

Which test runs where:

    python -m pytest          all but those marked `system`, on every database that is named
    python -m pytest --rest   those, and on other databases than SQLite what is marked

A test runs on one database, SQLite. It is marked `every_database` where the code under it leaves
to the database what differs between them: constraints and what they are called, collations and
search, locks, decimals, times, order and paging, plans, the drivers' errors and types. It is
marked `system` where it needs more than Python: other programs, the minutes of large files, many
clients at once, processes that are killed. It is marked `needs("posts")` where it is about that
section and stands in the file of another one: without the section it is left out (see docs/own.md).
A mark is at the top of a file or on the test;
`every_database("sqlite", "postgresql")` leaves the third one out.
"""

import asyncio
import contextlib
import functools
import gc
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from databases import (
    SCRATCH,
    SERVERS,
    SQLITE,
    URLS,
    WORKER,
    Rows,
    another,
    copy,
    create_database,
    dump,
    empty,
    kind_of,
    load,
    make_template,
    own_copy,
)
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr
from servers import ANSWERED, TIMEOUT, Process, Proxy, create_user, open_shop, running, serving
from sqlalchemy import Engine, NullPool, create_engine, make_url, update
from sqlmodel import col

import db
import kit
import main
from kit import passwords
from kit.database import Connections
from models import User

Json = Any

# Hashing a password is slow on purpose. The app in this process does it quickly; the servers
# that the tests start, and the test that looks at the hash, do it as it is meant.
SLOW_HASHER = passwords.hasher
passwords.hasher = PasswordHash([Argon2Hasher(memory_cost=8, time_cost=1, parallelism=1)])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rest", action="store_true", help="what is left out without it")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.rest:  # pyproject.toml spares all others the time that it takes
        config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


def pytest_sessionstart(session: pytest.Session) -> None:
    if WORKER == "alone" and not session.config.option.collectonly:
        for url in {*URLS, SQLITE}:
            make_template(url)


def pytest_unconfigure() -> None:
    if WORKER == "alone":
        shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("every_database")
        kinds = {*map(kind_of, URLS if mark else URLS[:1])}
        if mark and mark.args:
            kinds = {*mark.args}
        urls = [url for url in URLS if kind_of(url) in kinds]
        metafunc.parametrize("database", urls, indirect=True, scope="session", ids=kind_of)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rest = config.option.rest
    chosen = [item for item in items if is_chosen(item, rest=rest) and is_possible(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in {*chosen}])
    items[:] = chosen


def is_chosen(item: pytest.Item, *, rest: bool) -> bool:
    is_system = item.get_closest_marker("system") is not None
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if any(type(value).__name__ == "NotSetType" for value in parameters.values()):
        return False  # no database of its kind is named
    is_elsewhere = kind_of(parameters.get("database", SQLITE)) != "sqlite"
    return is_system or is_elsewhere if rest else not is_system


# The sections of the shop: a test that needs one is left out where it has been taken out.
SECTIONS = {
    tag for path in main.app.openapi()["paths"].values() for o in path.values() for tag in o["tags"]
}


def needing(section: str, *values: Any) -> Any:
    """These values for a parametrized test, where there is such a section."""
    return pytest.param(*values, marks=pytest.mark.needs(section))


def is_possible(item: pytest.Item) -> bool:
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    return needed <= SECTIONS


def pytest_collection_finish() -> None:
    """As the service does: what is there by now stays, and no collection looks at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare all others what takes long to import."""
    slow = ("test_browser", "test_schemathesis")
    return (collection_path.name.startswith(slow) and not config.option.rest) or None


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the database under test, migrated; the app is connected to it."""
    connect(own_copy(request.param))
    yield db.settings.database_url
    db.database.close()


def connect(url: str) -> None:
    """Have the app use this database."""
    db.settings.database_url = url
    db.database.writer, db.database.reader = connected(url)
    db.async_session.engines.clear()


@functools.cache
def connected(url: str) -> tuple[Connections, Connections]:
    new = kit.Database(db.settings)  # which name it by now
    return new.writer, new.reader


class AppTransport(httpx2.BaseTransport):
    """Calls the app on an event loop in a thread: a third of the time that TestClient takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str = "127.0.0.1") -> None:
        self.loop = loop
        self.app = httpx2.ASGITransport(
            app=main.app, raise_app_exceptions=False, client=(address, 1234)
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers, body = request.headers, request.read()
        whole = httpx2.Request(request.method, request.url, headers=headers, content=body)

        async def call() -> httpx2.Response:
            response = await self.app.handle_async_request(whole)
            content = await response.aread()
            return httpx2.Response(response.status_code, headers=response.headers, content=content)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result()


@pytest.fixture(scope="session")
def app_loop(database: str) -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop on which the app is called."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def client_at(app_loop: asyncio.AbstractEventLoop) -> Callable[[str], httpx2.Client]:
    """`client_at("203.0.113.5")`: a client of the app that has this address."""
    return lambda address: httpx2.Client(
        transport=AppTransport(app_loop, address),
        base_url="http://testserver",
        follow_redirects=True,
    )


@pytest.fixture(scope="session")
def app_client(client_at: Callable[[str], httpx2.Client]) -> Iterator[httpx2.Client]:
    """A client of the app, for tests that write nothing."""
    with client_at("127.0.0.1") as client:
        yield client


@pytest.fixture
def client(app_client: httpx2.Client) -> httpx2.Client:
    """A client of the app, whose database is empty and counts its ids from 1."""
    empty(db.database.writer.engine)
    return app_client


@pytest.fixture
def bare_app(database: str) -> kit.Service:
    """An app without routes, on the database under test, which is empty."""
    empty(db.database.writer.engine)
    return kit.Service(db.database, db.migrations, db.async_session)


def headers_of(response: httpx2.Response) -> dict[str, str]:
    """Its headers, but for the request id, which is another each time."""
    return {name: value for name, value in response.headers.items() if name != "x-request-id"}


def pages(client: httpx2.Client, url: str) -> Iterator[httpx2.Response]:
    """The answers of a list from this page on, following the links to the next to the end."""
    for _ in range(1000):
        response = client.get(url)
        yield response
        url = response.links.get("next", {}).get("url", "")
        if not url:
            return
    raise AssertionError("the list has no end")


# Closed mode, with a key.

KEY = "a key for the tests, of more than 32 characters"


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Put the app into closed mode, when called: for what was made before, in open mode."""
    return lambda: monkeypatch.setattr(db.settings, "secret_key", SecretStr(KEY))


def log_in(client: httpx2.Client, name: str, password: str = "Password1") -> dict[str, str]:
    """The header of who has logged in."""
    response = client.post("/token", data={"username": name, "password": password})
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def three_users(client: httpx2.Client, engine: Engine) -> list[dict[str, str]]:
    """Sign up ann (1), bob (2) and root (3), who is a superuser; the headers of each."""
    names = ("ann", "bob", "root")
    for name in names:
        create_user(client, name)
    with engine.begin() as connection:
        is_root = col(User.username) == "root"
        connection.execute(update(User).where(is_root).values(is_superuser=True))
    return [log_in(client, name) for name in names]


# Builders: each makes one row through the API, with what the test cares about spelled out.


class Make:
    """`make("users", username="ann")`: one more row, whatever else it needs made up."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client, self.counts = client, Counter[str]()

    def __call__(self, collection: str, **fields: Json) -> Json:
        if collection not in SECTIONS:  # which has been taken out
            return {}
        self.counts[collection] += 1
        n = self.counts[collection]
        defaults: dict[str, Json] = {
            "items": {"title": f"Item {n}", "price": 1},
            "users": {
                "username": f"user{n}",
                "email": f"user{n}@example.com",
                "password": "Password1",
            },
            "categories": {"name": f"Category {n}"},
            "products": {
                "name": f"Product {n}",
                "price": 10,
                "sku": f"SKU-{n}",
                "stock_quantity": 100,
            },
            "posts": {"title": f"Post {n}", "content": "Text."},
            "tags": {"name": f"Tag {n}"},
            "accounts": {"balance": 0},
        }
        body = defaults.get(collection, {}) | fields
        response = self.client.post(f"/{collection}/", json=body)
        assert response.status_code == 201, response.text
        return response.json()


@pytest.fixture
def make(client: httpx2.Client) -> Make:
    return Make(client)


Build = Callable[[Make], None]
BUILT: dict[tuple[str, Build], tuple[Rows, Counter[str]]] = {}


@pytest.fixture
def built(make: Make) -> Callable[[Build], None]:
    """`built(shop)`: what that function makes; from the second test on, copies of the same rows."""

    def build(shop: Build) -> None:
        key, engine = (db.settings.database_url, shop), db.database.writer.engine
        if key in BUILT:
            rows, made = BUILT[key]
            load(engine, rows)
            make.counts.update(made)
        else:
            shop(make)
            BUILT[key] = dump(engine), make.counts.copy()

    return build


# Servers, for what needs a process, and databases for them.


@pytest.fixture
def own_database(database: str, tmp_path: Path) -> str:
    """The URL of a database for one test alone, migrated and empty."""
    return another_database(database, tmp_path, "own")


@pytest.fixture
def any_database(tmp_path: Path) -> str:
    """The same on SQLite, where it does not matter what kind of database it is."""
    return another_database(SQLITE, tmp_path, "any")


@pytest.fixture
def new_database(database: str, tmp_path: Path) -> str:
    """The URL of a database for one test alone, without tables."""
    url = another(database, "new", tmp_path)
    create_database(url)
    return url


def another_database(url: str, folder: Path, name: str) -> str:
    """The URL of one more database of the same kind, migrated and empty."""
    return copy(another(url, name, folder))


ORIGIN = "https://shop.example"
WEB = {"CORS_ORIGINS": f"https://a.example, {ORIGIN}"}


@pytest.fixture(scope="session")
def server_of_session(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, Engine]]:
    url = another_database(database, tmp_path_factory.mktemp("server"), "server")
    with serving(url, **WEB) as client:
        yield client, create_engine(url, poolclass=NullPool)


@pytest.fixture
def server(server_of_session: tuple[httpx2.Client, Engine]) -> httpx2.Client:
    """A client of a server process in open mode, whose database is empty, with ids from 1."""
    client, engine = server_of_session
    empty(engine)
    return client


@pytest.fixture(scope="session")
def closed_server_of_session(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, Engine]]:
    url = another_database(database, tmp_path_factory.mktemp("closed"), "closed")
    settings = {"SECRET_KEY": KEY, "FORWARDED_ALLOW_IPS": "127.0.0.1", "DATABASE_ECHO": "true"}
    with running(url, **settings, **WEB, DEBUG="true") as process:
        yield process, create_engine(url, poolclass=NullPool)


@pytest.fixture
def closed_server(closed_server_of_session: tuple[Process, Engine]) -> Process:
    """The same in closed mode, behind a proxy that it trusts; it logs all that it can."""
    process, engine = closed_server_of_session
    empty(engine)
    return process


@pytest.fixture(params=SERVERS, ids=kind_of)
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.param
    return url


@pytest.fixture
def behind_proxy(server_url: str, tmp_path: Path) -> Iterator[tuple[Process, Proxy]]:
    """The service with an open shop, and the proxy behind which its database is."""
    url = make_url(another_database(server_url, tmp_path, "proxied"))
    ports = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
    proxy = Proxy(url.host or "127.0.0.1", url.port or ports[url.get_backend_name()])
    url = url.set(host="127.0.0.1", port=proxy.port)
    whole = url.render_as_string(hide_password=False)
    with running(whole, DB_POOL_TIMEOUT=str(TIMEOUT)) as shop:
        open_shop(shop.client)
        shop.client.timeout = httpx2.Timeout(ANSWERED)
        yield shop, proxy
        with contextlib.suppress(OSError):
            proxy.cut()
