"""docs/guides.md is true: its commands are run, and its code is put into a copy of the shop."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import alembic.command
import httpx2
import psycopg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from conftest import KEY, log_in
from databases import create_database, dump, kind_of, server_of
from servers import Process, create, create_user, free_port, running, wait_for
from sqlmodel import SQLModel
from test_pgbouncer import program
from test_readme import blocks, copy_of_the_project, put, run, section, virtual_environment
from test_replica import user_options

import db

pytestmark = [pytest.mark.system, pytest.mark.needs("orders", "posts", "accounts")]
PAGE = "docs/guides.md"
URL = "postgresql://shop:secret@127.0.0.1/"  # as the page has it
Env = dict[str, str]


def guide(title: str, part: str = "") -> str:
    """A section of the page, up to its first part or, by its name, such a part."""
    return (f"\n### \n{section(title, PAGE)}".split(f"\n### {part}\n")[1]).split("\n### ")[0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, to be changed."""
    return copy_of_the_project(tmp_path / "shop")


@pytest.fixture
def env(copy: Path) -> Env:
    """The variables for commands there."""
    return virtual_environment(copy)


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(str(db.Settings.usual_url(url)), poolclass=sa.NullPool)


def shop_of(copy: Path, url: str, **settings: str) -> contextlib.AbstractContextManager[Process]:
    """The server of a copy of the project."""
    return running(url, sys.executable, copy / "main.py", **settings)


# A data migration


@pytest.fixture
def config(copy: Path, own_database: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """That of the copy's versions, for a migrated database."""
    monkeypatch.setattr(db.settings, "database_url", own_database)
    return Config(toml_file=copy / "pyproject.toml")


def write_version(copy: Path, env: Env, command: str, imports: str, part: str = "") -> None:
    """Have Alembic make a version, and put the page's code into it."""
    run([command], copy, env)
    title = command.split('"')[1].replace(" ", "_")
    (file,) = (copy / "alembic" / "versions").glob(f"*_{title}.py")
    (code,) = blocks(guide("A data migration", part), "python")
    head = file.read_text().partition("def upgrade")[0].replace("import", f"{imports}\nimport", 1)
    file.write_text(f"{head}{code}\n")


@pytest.mark.every_database
def test_default_categories_are_inserted_once_and_deleted_where_nobody_uses_them(
    copy: Path, env: Env, config: Config
) -> None:
    engine, tables = engine_of(db.settings.database_url), SQLModel.metadata.tables
    category, product = tables["category"], tables["product"]
    with engine.begin() as connection:
        connection.execute(category.insert().values(name="Books", slug="my-books"))
    (command,) = blocks(guide("A data migration"), "sh")
    write_version(copy, env, command, "from datetime import UTC, datetime")
    alembic.command.upgrade(config, "head")
    alembic.command.stamp(config, str(db.migrations.newest))
    alembic.command.upgrade(config, "head")

    query = sa.select(category).order_by(category.c.id)
    with engine.begin() as connection:
        rows = connection.execute(query).all()
        assert [row.slug for row in rows] == ["my-books", "garden", "kitchen"]
        assert [row.version for row in rows] == [1, 1, 1]
        assert rows[1].created_at == rows[2].created_at == datetime(2026, 11, 26, tzinfo=UTC)
        spade = {"name": "Spade", "slug": "spade", "sku": "S", "price": Decimal(1)}
        connection.execute(product.insert().values(category_id=rows[1].id, **spade))
    alembic.command.downgrade(config, "-1")
    with engine.begin() as connection:
        assert [row.slug for row in connection.execute(query)] == ["my-books", "garden"]
        connection.execute(product.delete())
        pond = {"name": "Ponds", "slug": "ponds", "parent_id": rows[1].id}
        connection.execute(category.insert().values(pond))
    alembic.command.upgrade(config, "head")
    alembic.command.downgrade(config, "-1")
    with engine.begin() as connection:
        left = connection.execute(query).all()
        assert [row.slug for row in left] == ["my-books", "garden", "ponds"]
        connection.execute(category.delete().where(category.c.slug == "ponds"))
    alembic.command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(category.update().values(version=2).where(category.c.slug == "kitchen"))
    alembic.command.downgrade(config, "-1")
    with engine.begin() as connection:
        assert [row.slug for row in connection.execute(query)] == ["my-books", "kitchen"]


@pytest.mark.every_database
def test_a_new_column_is_filled_in_pieces_and_an_interrupted_version_goes_on(
    copy: Path, env: Env, config: Config
) -> None:
    engine, product = engine_of(db.settings.database_url), SQLModel.metadata.tables["product"]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE product ADD COLUMN summary VARCHAR(500)")
        texts = [None, *("ü" * n for n in range(1, 2_500))]
        rows = [
            {"name": f"P{n}", "slug": f"p{n}", "sku": f"P{n}", "description": text}
            for n, text in enumerate(texts)
        ]
        connection.execute(product.insert(), [{**row, "price": Decimal(1)} for row in rows])
    command = 'alembic revision -m "fill summaries"'
    write_version(copy, env, command, "import contextlib", "Many rows")
    alembic.command.upgrade(config, "head")

    query = sa.text("SELECT summary, version FROM product ORDER BY id")
    expected = [(None, 1), *(("ü" * min(n, 100), 2) for n in range(1, 2_500))]
    with engine.begin() as connection:
        assert [tuple(row) for row in connection.execute(query)] == expected
        if engine.dialect.name == "postgresql":  # which says what wrote a row
            written = "SELECT count(DISTINCT CAST(xmin AS text)) FROM product WHERE id > 1"
            assert connection.exec_driver_sql(written).scalar() == 3
        connection.exec_driver_sql("UPDATE product SET summary = NULL WHERE slug = 'p7'")
    alembic.command.stamp(config, str(db.migrations.newest))
    alembic.command.upgrade(config, "head")
    expected[7] = ("ü" * 7, 3)
    with engine.begin() as connection:
        assert [tuple(row) for row in connection.execute(query)] == expected


# An async route


class Rates(ThreadingHTTPServer):
    """A service that knows a rate, and tells it when as many ask at once as are to."""

    daemon_threads = True

    def __init__(self, clients: int) -> None:
        self.all_there = threading.Barrier(clients)
        super().__init__(("127.0.0.1", 0), Rate)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Rate(BaseHTTPRequestHandler):
    server: Rates

    def do_GET(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.server.all_there.wait(10)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"rate": "1.0825"}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.every_database
def test_an_async_route_waits_for_another_service_without_a_connection(
    copy: Path, own_database: str
) -> None:
    setting, route, imports = blocks(guide("An async route"), "python")
    put(copy / "db.py", setting, before="\n\nsettings = ")
    put(copy / "main.py", route, before="\n\n# Orders ---")
    put(copy / "main.py", imports, before="from fastapi import Depends, ")
    rates, one = Rates(5), {"DB_POOL_SIZE": "1", "DB_MAX_OVERFLOW": "0"}
    there = f"http://127.0.0.1:{rates.server_address[1]}"
    with (
        shop_of(copy, own_database, RATES_URL=there, **one) as shop,
        ThreadPoolExecutor(5) as threads,
    ):
        create(shop.client, "/products/", {"name": "Lamp", "sku": "L-1", "price": 19.99})
        path = "/products/1/price?currency=USD"
        answers = [*threads.map(lambda _: shop.client.get(path), range(5))]
        assert [(answer.status_code, answer.text) for answer in answers] == [(200, "21.64")] * 5
        assert shop.client.get("/products/2/price?currency=USD").status_code == 404
        rates.shutdown()
        rates.server_close()
        away = shop.client.get(path)
        assert (away.status_code, away.json()["detail"]) == (503, "The rate cannot be had now")


# PgBouncer and serverless


@contextlib.contextmanager
def bouncing_as_printed(server: str) -> Iterator[str]:
    """PgBouncer with the page's files before the server of a URL; the page's URL by way of it."""
    to, port, (ini, setting) = sa.make_url(server), free_port(), blocks(guide(*BOUNCER), "ini")
    (users,) = blocks(guide(*BOUNCER), "text")
    folder = Path(tempfile.mkdtemp(prefix="cornershop_pgbouncer_"))
    for file, text, new in (
        ("pgbouncer.ini", ini, {"shop =": f"{to.database} =", "5432": str(to.port or 5432)}),
        ("userlist.txt", users, {"shop": str(to.username)}),
    ):
        for old, value in {**new, "6432": str(port), "/etc/pgbouncer": str(folder)}.items():
            text = text.replace(old, value)
        (folder / file).write_text(text)
    if who := user_options():  # it refuses to be run by root
        os.chown(folder, who["user"], who["group"])
    url = setting.partition("=")[2].replace(":6432/shop?", f":{port}/{to.database}?")
    url = url.replace("shop:", f"{to.username}:")
    command, quiet = [program(), "--quiet", str(folder / "pgbouncer.ini")], subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, **user_options())
    try:
        wait_for(lambda: answers(url))
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


BOUNCER = "PgBouncer and serverless", "PgBouncer"
SERVERLESS = "PgBouncer and serverless", "Serverless"


def answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url.partition("?")[0]).close()
        return True
    return False


@pytest.mark.every_database("postgresql")
def test_the_shop_is_served_behind_pgbouncer_with_the_settings_for_serverless(
    new_database: str, copy: Path, env: Env
) -> None:
    settings = dict(line.split("=") for line in blocks(guide(*SERVERLESS), "ini")[0].splitlines())
    (migrate,) = re.findall(r"```sh\n\s*(.*?)\n", guide(*SERVERLESS))
    with bouncing_as_printed(new_database) as url:
        with running(url, **settings) as shop:
            assert shop.client.get("/health/db").status_code == 503  # it does not migrate
        run([migrate], copy, env | settings | {"DATABASE_URL": url})
        with running(url, **settings) as shop:
            order_a_lamp(shop.client)
            assert shop.client.get("/health/db").status_code == 200


def order_a_lamp(client: httpx2.Client, headers: dict[str, str] | None = None) -> Any:
    user = create_user(client, "lampert")["id"]
    lamp = {"name": "Lámpara 灯", "sku": "LAMP", "price": 19.99, "stock_quantity": 9}
    product = create(client, "/products/", lamp)["id"]
    body = {"user_id": user, "items": [{"product_id": product, "quantity": 3}]}
    answer = client.post("/orders/", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return body, answer.json()


# From SQLite to PostgreSQL

DEMO = "python main.py demo --products 300 --users 20 --orders 60"
LISTS = ["accounts", "categories", "items", "notifications", "orders", "posts", "tags"]
EXPORTS = [
    f"{name}/export?format={format}"
    for name in ("products", "users", "categories", "tags")
    for format in ("csv", "jsonl")
]


def exported(client: httpx2.Client) -> dict[str, bytes]:
    """What the API gives of the shop, by path."""
    paths = [*(f"{name}/?limit=100" for name in [*LISTS, "transfers"]), *EXPORTS]
    found = {path: client.get(f"/{path}") for path in paths}
    assert {path: answer.status_code for path, answer in found.items()} == dict.fromkeys(paths, 200)
    return {path: answer.content for path, answer in found.items()}


def rows_of(url: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table, in the order of their keys."""
    return {
        table.name: sorted(rows, key=lambda row: [row[c.name] for c in table.primary_key])
        for table, rows in dump(engine_of(url))
    }


def url_in(text: str, url: str) -> str:
    """The page's text with this URL, of a server of any kind."""
    plain = sa.make_url(url).set(drivername=kind_of(url)).render_as_string(hide_password=False)
    return text.replace(f"{URL}shop", plain)


@pytest.mark.every_database("postgresql", "mysql", "mariadb")
def test_a_shop_is_copied_from_sqlite(copy: Path, env: Env, new_database: str) -> None:
    title, old_url = "From SQLite to PostgreSQL", f"sqlite:///{copy}/app.db"
    run([DEMO], copy, env)
    boss = "--username boss --email boss@example.com --password Password1"
    run([f"python main.py createsuperuser {boss}"], copy, env)
    with shop_of(copy, old_url, SECRET_KEY=KEY) as shop:
        shop.client.headers |= log_in(shop.client, "boss")
        body, ordered = order_a_lamp(shop.client, {"Idempotency-Key": "5f1c"})
        root = create(shop.client, "/categories/", {"name": "Ünder 🪴"})["id"]
        assert shop.client.patch("/categories/1", json={"parent_id": root}).status_code == 200
        last = create(shop.client, "/products/", {"name": "Gone", "sku": "GONE", "price": 1})["id"]
        assert shop.client.delete(f"/products/{last}").status_code == 204
        before = exported(shop.client)
    script = copy / "copy_shop.py"
    script.write_text(f"{blocks(guide(title), 'python')[0]}\n")
    commands = [url_in(line, new_database) for line in blocks(guide(title), "sh")[0].splitlines()]
    run([*commands, f"ruff check {script} && ruff format --check {script}"], copy, env)

    rows = rows_of(new_database)
    assert rows == rows_of(old_url)
    assert {"change", "idempotency_key", "payment", "post_tag", "order_line"} <= rows.keys()
    twice = subprocess.run(commands[-1], shell=True, cwd=copy, env=env, check=False)
    assert twice.returncode != 0
    assert rows_of(new_database) == rows
    settings = {"SECRET_KEY": KEY, "MIGRATE_ON_START": "false"}
    with shop_of(copy, new_database, **settings) as shop:
        assert shop.client.get("/health/db").json()["revision"] == db.migrations.newest
        shop.client.headers |= log_in(shop.client, "boss")
        assert exported(shop.client) == before
        again = shop.client.post("/orders/", json=body, headers={"Idempotency-Key": "5f1c"})
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (ordered, "true")
        assert create(shop.client, "/orders/", body)["id"] == ordered["id"] + 1
        new = create(shop.client, "/products/", {"name": "New", "sku": "NEW", "price": 1})
        assert new["id"] == last + 1


# Backups


def test_a_sqlite_shop_is_restored_from_its_backup(copy: Path, env: Env, tmp_path: Path) -> None:
    text, url = guide("Backups", "SQLite"), f"sqlite:///{copy}/app.db"
    (backup,), check, restore = (code.splitlines() for code in blocks(text, "sh"))
    run([DEMO], copy, env)
    with shop_of(copy, url) as shop:
        before = exported(shop.client)
        run([backup], copy, env)
        create(shop.client, "/items/", {"title": "Later", "price": 1})
    told = [subprocess.check_output(line, shell=True, cwd=copy, text=True) for line in check]
    assert told == ["ok\n", "60\n"]
    (copy / "app.db").write_bytes(b"not a database any more" * 1000)
    run(restore, copy, env)
    with shop_of(copy, url) as shop:
        assert exported(shop.client) == before

    (nightly,) = blocks(text, "text")
    (tmp_path / "shop-2020-01-01.db").touch()
    os.utime(tmp_path / "shop-2020-01-01.db", (0, 0))
    for old, new in {"\\%": "%", "/srv/shop": str(copy), "/var/backups": str(tmp_path)}.items():
        nightly = nightly.replace(old, new)
    run(re.findall(r"^\d 3 \* \* \* (.*)", nightly, re.M), tmp_path, env)
    (made,) = tmp_path.glob("shop-2*.db")
    assert made.stat().st_size > 0


def drop(url: str) -> None:
    engine = server_of(url)
    name = engine.dialect.identifier_preparer.quote(str(sa.make_url(url).database))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")


@pytest.mark.every_database("postgresql", "mysql", "mariadb")
def test_a_shop_on_a_server_is_restored_from_its_dump(
    copy: Path, env: Env, own_database: str
) -> None:
    to, kind = sa.make_url(own_database), kind_of(own_database)
    restored = to.set(database=f"{to.database}_restored").render_as_string(hide_password=False)
    text = guide("Backups", "PostgreSQL" if kind == "postgresql" else "MariaDB")
    options = f"-h {to.host} -P {to.port or 3306} -u {to.username}"
    options += f" -p{to.password}" if to.password else ""
    for old, new in {
        URL: to.set(drivername=kind, database="").render_as_string(hide_password=False),
        "-h 127.0.0.1 -u shop -psecret": options,
        "shop_restored": f"{to.database}_restored",
    }.items():
        text = text.replace(old, new)
    (backup,), restore = (
        re.sub(r"\bshop\b", str(to.database), c).splitlines() for c in blocks(text, "sh")
    )
    env["DATABASE_URL"] = own_database
    run([DEMO], copy, env)
    with shop_of(copy, own_database) as shop:
        order_a_lamp(shop.client)
        before, rows = exported(shop.client), rows_of(own_database)
        run([backup], copy, env)
        create(shop.client, "/items/", {"title": "Later", "price": 1})
    create_database(own_database)  # anew: all is lost
    drop(restored)
    try:
        run(restore, copy, env)
        assert rows_of(restored) == rows
        with shop_of(copy, restored) as shop:
            assert exported(shop.client) == before
            assert create(shop.client, "/items/", {"title": "New", "price": 1})["id"] == 8
    finally:
        drop(restored)
