"""Fixtures: a migrated database, emptied before each test; a client of the app; a live server.

The suite runs once for every database in TEST_DATABASE_URLS (separated by commas), or on a
SQLite file of its own. It empties them, so their names have to say that they are for tests.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlmodel import SQLModel

HOME = Path(__file__).parent.parent
SCRATCH = tempfile.TemporaryDirectory(prefix="cornershop_test_")
URLS = [
    url.strip()
    for url in os.environ.get(
        "TEST_DATABASE_URLS", f"sqlite:///{SCRATCH.name}/cornershop_test.db"
    ).split(",")
]
if any("test" not in str(sa.make_url(url).database) for url in URLS):
    pytest.exit("TEST_DATABASE_URLS: the name of a test database has to contain 'test'.", 4)
os.environ["DATABASE_URL"] = URLS[0]
sys.path.insert(0, str(HOME))

import db  # noqa: E402
import main  # noqa: E402

Json = Any


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
    db.settings.database_url = db.Settings.usual_url(request.param) or ""
    create_database(db.settings.database_url)
    db.migrate()
    db.disconnect()
    db.writer, db.reader = db.connect()
    yield db.settings.database_url
    db.disconnect()


@pytest.fixture(scope="session")
def app_client(database: str) -> Iterator[TestClient]:
    with TestClient(main.app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(app_client: TestClient) -> TestClient:
    """A client of the app, whose database is empty and counts its ids from 1."""
    empty()
    return app_client


def empty() -> None:
    tables = list(reversed(SQLModel.metadata.sorted_tables))
    with db.writer.engine.begin() as connection:
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


# Builders: each makes one row through the API, with what the test cares about spelled out.

Make = Callable[..., Json]


@pytest.fixture
def make(client: TestClient) -> Make:
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
    process = subprocess.Popen(
        [sys.executable, HOME / "main.py", "--port", str(port), *arguments],
        env={**os.environ, "DATABASE_URL": url, **settings},
        cwd=HOME,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    try:
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                client.get("/health")
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def own_database(database: str, tmp_path: Path) -> str:
    """The URL of one more database of the kind under test, empty and not migrated."""
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    own = url.set(database=f"{url.database}_own").render_as_string(hide_password=False)
    create_database(own)
    return own


@pytest.fixture
def server(own_database: str) -> Iterator[httpx2.Client]:
    """A client of a server process with an empty database."""
    with serving(own_database) as client:
        yield client
