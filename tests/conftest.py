"""Fixtures: a migrated database, emptied before each test; a client of the app; a live server.

The suite runs once for every database in TEST_DATABASE_URLS (separated by commas), or on a
SQLite file of its own. It empties them, so their names have to say that they are for tests.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr
from sqlmodel import SQLModel

HOME = Path(__file__).parent.parent
SCRATCH = tempfile.TemporaryDirectory(prefix="cornershop_test_")
URLS = [
    url.strip()
    for url in os.environ.get(
        "TEST_DATABASE_URLS", f"sqlite:///{SCRATCH.name}/cornershop_test.db"
    ).split(",")
]
if not all(
    re.search(r"(^|[_/-])test(s|ing)?([_./-]|$)", str(sa.make_url(u).database)) for u in URLS
):
    pytest.exit(
        "TEST_DATABASE_URLS: a test database needs the word 'test' in its name: shop_test", 4
    )
sys.path.insert(0, str(HOME))
# Neither the settings of this shell nor those in a file `.env` are for the tests.
for name in re.findall(r"^(?:# )?([A-Z_]+)=", (HOME / ".env.example").read_text(), re.MULTILINE):
    os.environ.pop(name, None)
os.environ["DATABASE_URL"] = URLS[0]
with contextlib.chdir(SCRATCH.name):
    import db
    import main

URLS = [str(db.Settings.usual_url(url)) for url in URLS]  # with the drivers' names in them
Json = Any

# Hashing a password is slow on purpose. The app in this process does it quickly; the servers
# that the tests start, and the test that looks at the hash, do it as it is meant.
SLOW_HASHER = main.hasher
main.hasher = PasswordHash([Argon2Hasher(memory_cost=8, time_cost=1, parallelism=1)])


def create_database(url: str) -> None:
    """Create a server's database anew; of SQLite, the file creates itself."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        return
    system = parts.set(database="postgres" if parts.get_backend_name() == "postgresql" else "")
    engine = sa.create_engine(system, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = engine.dialect.identifier_preparer.quote(str(parts.database))
    with engine.connect() as connection:
        force = " WITH (FORCE)" if parts.get_backend_name() == "postgresql" else ""
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}{force}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")


@pytest.fixture(scope="session", params=URLS, ids=lambda url: sa.make_url(url).get_backend_name())
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the database under test, migrated; the app is connected to it."""
    db.settings.database_url = request.param
    create_database(db.settings.database_url)
    db.migrate()
    db.disconnect()
    db.writer, db.reader = db.open_databases()
    yield db.settings.database_url
    db.disconnect()


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
    empty(db.writer.engine)
    return app_client


def empty(engine: sa.Engine) -> None:
    tables = list(reversed(SQLModel.metadata.sorted_tables))
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        if connection.dialect.name == "postgresql":
            names = ", ".join(f'"{table.name}"' for table in tables)
            run(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            return
        for table in tables:
            connection.execute(table.delete())
            if connection.dialect.name == "mysql":
                run(f"ALTER TABLE `{table.name}` AUTO_INCREMENT = 1")
        if connection.dialect.name == "sqlite":
            run("DELETE FROM sqlite_sequence")


def pages(client: httpx2.Client, url: str) -> Iterator[httpx2.Response]:
    """The answers of a list from this page on, following the links to the next to the end."""
    while url:
        response = client.get(url)
        yield response
        url = response.links.get("next", {}).get("url", "")


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


# Builders: each makes one row through the API, with what the test cares about spelled out.

Make = Callable[..., Json]


@pytest.fixture
def make(client: httpx2.Client) -> Make:
    """`make("users", username="ann")`: one more row, whatever else it needs made up."""
    counts: dict[str, int] = {}

    def make_one(collection: str, **fields: Json) -> Json:
        n = counts[collection] = counts.get(collection, 0) + 1
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
        response = client.post(f"/{collection}/", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    return make_one


# A live server, for what needs a real process.


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(url: str, *arguments: str, **settings: str) -> Iterator[httpx2.Client]:
    """Start `python main.py` on a database and a free port; a client of it."""
    port = free_port()
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, HOME / "main.py", "--port", str(port), *arguments],
        env={**os.environ, "DATABASE_URL": url, **settings},
        cwd=SCRATCH.name,
        stdout=log,
        stderr=log,
    )
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    try:
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                client.get("/health")
                break
            assert process.poll() is None, log.seek(0) or log.read()
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=30)
        log.seek(0)
        logged = log.read()
        log.close()
        assert "Traceback" not in logged, logged


def another_database(url: str, folder: Path, name: str) -> str:
    """The URL of one more database of the same kind, empty and not migrated."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        return f"sqlite:///{folder}/{name}_test.db"
    another = parts.set(database=f"{parts.database}_{name}")
    create_database(another.render_as_string(hide_password=False))
    return another.render_as_string(hide_password=False)


@pytest.fixture
def own_database(database: str, tmp_path: Path) -> str:
    """The URL of a database for one test alone, empty and not migrated."""
    return another_database(database, tmp_path, "own")


@pytest.fixture(scope="module")
def server_of_module(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, sa.Engine]]:
    url = another_database(database, tmp_path_factory.mktemp("server"), "server")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with serving(url) as client:
        yield client, engine


@pytest.fixture
def server(server_of_module: tuple[httpx2.Client, sa.Engine]) -> httpx2.Client:
    """A client of a server process, whose database is empty and counts its ids from 1."""
    client, engine = server_of_module
    empty(engine)
    return client


# Races: many clients of a live server at once.

Call = Callable[[], httpx2.Response]


def at_once(calls: Sequence[Call]) -> list[httpx2.Response]:
    """Make the calls, each in a thread of its own, when all threads are ready; their answers."""
    barrier = threading.Barrier(len(calls))

    def wait_and_call(call: Call) -> httpx2.Response:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(wait_and_call, calls))


def sender(
    server: httpx2.Client,
    method: str,
    path: str,
    body: Json = None,
    headers: dict[str, str] | None = None,
) -> Call:
    return lambda: server.request(method, path, json=body, headers=headers)


def create(server: httpx2.Client, path: str, body: Json) -> Json:
    response = server.post(path, json=body)
    assert response.status_code == 201, response.text
    return response.json()


def create_user(server: httpx2.Client, name: str = "ann") -> Json:
    body = {"username": name, "email": f"{name}@example.com", "password": "Password1"}
    return create(server, "/users/", body)


def create_product(server: httpx2.Client, n: int, stock_quantity: int) -> Json:
    body = {"name": f"P{n}", "sku": f"P{n}", "price": 0.1, "stock_quantity": stock_quantity}
    return create(server, "/products/", body)


def create_account(server: httpx2.Client, balance: float) -> Json:
    return create(server, "/accounts/", {"user_id": 1, "balance": balance})


def create_order(server: httpx2.Client, quantity: int = 3) -> Json:
    items = [{"product_id": 1, "quantity": quantity}]
    return create(server, "/orders/", {"user_id": 1, "items": items})


def statuses(answers: Sequence[httpx2.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def details(answers: Sequence[httpx2.Response]) -> set[str]:
    return {answer.json()["detail"] for answer in answers if not answer.is_success}


def balances(server: httpx2.Client) -> list[float]:
    return [account["balance"] for account in server.get("/accounts/").json()]


# Processes that are sent signals, and faults.

SERVERS = [url for url in URLS if sa.make_url(url).get_backend_name() != "sqlite"]
TIMEOUT = 2  # DB_POOL_TIMEOUT in these tests, in seconds
ANSWERED = TIMEOUT + 5  # within how many seconds every request is answered
STOCK = 100_000


class Process:
    """A server process that can be killed and started again on the same database."""

    def __init__(self, url: str, *command: str | Path, **settings: str) -> None:
        self.port = free_port()
        self.url, self.settings = url, settings
        self.command = command or (sys.executable, HOME / "main.py")
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)],
            env={**os.environ, "DATABASE_URL": self.url, **self.settings},
            cwd=SCRATCH.name,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                self.client.get("/health")
                return
            time.sleep(0.1)
        self.process.kill()
        self.process.wait()
        logged = self.logged()
        self.client.close()
        self.log.close()
        raise AssertionError(f"the server does not start: {logged}")

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=15)

    def logged(self) -> str:
        """What the process has written so far."""
        return os.pread(self.log.fileno(), 100_000_000, 0).decode()


@contextlib.contextmanager
def running(url: str, *command: str | Path, **settings: str) -> Iterator[Process]:
    process = Process(url, *command, **settings)
    try:
        yield process
    finally:
        process.client.close()
        with contextlib.suppress(ProcessLookupError):  # with the workers that it may have
            os.killpg(process.process.pid, signal.SIGKILL)
        process.process.wait()
        process.log.close()


def open_shop(client: httpx2.Client) -> None:
    """A user, and a product of which there is plenty."""
    user = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    product = {"name": "Lamp", "price": 10, "sku": "L-1", "stock_quantity": STOCK}
    assert client.post("/users/", json=user).status_code == 201
    assert client.post("/products/", json=product).status_code == 201


def order(client: httpx2.Client) -> httpx2.Response:
    return client.post("/orders/", json={"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]})


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


class Proxy:
    """A TCP proxy that can be told to cut its connections, or to keep them and go silent."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = free_port()
        self.flowing = threading.Event()
        self.open: list[socket.socket] = []
        self.up()

    def up(self) -> None:
        self.flowing.set()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=[self.listener], daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.flowing.set()
        while self.open:
            with contextlib.suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=[source, sink], daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def behind_proxy(server_url: str, tmp_path: Path) -> Iterator[tuple[Process, Proxy]]:
    """The service with an open shop, and the proxy behind which its database is."""
    url = sa.make_url(another_database(server_url, tmp_path, "proxied"))
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


@pytest.fixture(params=SERVERS, ids=lambda url: sa.make_url(url).get_backend_name())
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.param
    return url


def assert_busy(response: httpx2.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Content-Type"] == "application/problem+json"
