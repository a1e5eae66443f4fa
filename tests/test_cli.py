"""The command line: what each command does, and what a bad setting says."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import httpx2
import pytest
from conftest import KEY, SECTIONS, Make, log_in
from databases import HOME, SCRATCH
from servers import free_port, running, serving, wait_for
from typer.testing import CliRunner

import db
import kit
import main


def run(
    *arguments: str, cwd: Path = Path(SCRATCH), stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `python main.py` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(HOME / "main.py"), *arguments],
        env={**os.environ, **settings},
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_here(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """Run a command in this process, on the database under test: its exit code and what it says."""
    done = CliRunner().invoke(main.cli, arguments, input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.needs("orders")
@pytest.mark.every_database
def test_the_demo_fills_an_empty_database_and_shows_how_far_it_is(client: httpx2.Client) -> None:
    code, said = run_here("demo", "--products", "60", "--users", "7", "--orders", "90")
    assert code == 0, said
    for bar in ("60/60", "7/7", "90/90"):
        assert bar in said
    password = said.split()[-1]

    def total(collection: str) -> str:
        return client.get(f"/{collection}/?count=true&limit=1").headers["X-Total-Count"]

    assert (total("products"), total("users"), total("orders")) == ("60", "7", "90")
    assert password not in client.get("/users/").text
    order = client.get("/orders/1").json()
    assert order["total_amount"] == round(sum(x["total_price"] for x in order["items"]), 2)
    summary = client.get("/orders/stats/summary").json()
    days = client.get("/orders/stats/daily?days=92").json()
    lasting = summary["total_orders"] - summary["orders_by_status"]["cancelled"]
    assert sum(day["orders"] for day in days) == lasting
    assert len(client.get("/categories/tree").json()) == 5
    assert int(total("notifications")) > 90  # one for each status that an order has had
    assert client.get("/items/").json() != []
    new = {"name": "New", "price": 1, "sku": "NEW-1"}
    assert client.post("/products/", json=new).json()["id"] == 61
    if "payments" not in SECTIONS:
        return
    assert (total("transfers"), total("accounts")) == ("3", "7")
    paid = next(o["id"] for o in client.get("/orders/").json() if o["status"] == "delivered")
    [payment] = client.get(f"/orders/{paid}/payments").json()
    order = client.get(f"/orders/{paid}").json()
    account = client.get(f"/accounts/{payment['account_id']}").json()
    assert (payment["amount"], account["user_id"]) == (order["total_amount"], order["user_id"])


MEMORY = Path("/proc/self/status")
TAKEN = f"""
import main, db, re
db.migrations.run()
print(re.search(r"VmRSS:\\s+(\\d+) kB", open("{MEMORY}").read())[1])
"""


@pytest.mark.skipif(not MEMORY.exists(), reason="only Linux says it there")
def test_the_service_takes_less_than_120_mb_before_its_first_request(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKEN],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/app.db", "PYTHONPATH": str(HOME)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 50_000 < int(done.stdout) < 120_000  # kB


def test_the_demo_refuses_a_database_with_data(client: httpx2.Client, make: Make) -> None:
    make("items")
    code, said = run_here("demo")
    assert (code, said.strip()) == (
        1,
        "This database has data already; the demo fills an empty one.",
    )
    assert client.get("/users/").json() == []


def test_the_demo_may_be_asked_for_nothing(client: httpx2.Client) -> None:
    code, said = run_here("demo", *(f"--{size}=0" for size in signature(main.demo).parameters))
    assert code == 0, said


def create_superuser(answers: str = "", **options: str) -> tuple[int, str]:
    named = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run_here("createsuperuser", *named, stdin=answers)


DORA = {"username": "dora", "email": "r@example.com", "password": "Password3"}


@pytest.mark.every_database
def test_a_superuser_is_created_on_the_command_line(
    client: httpx2.Client, close: Callable[[], None]
) -> None:
    code, said = create_superuser(username="root", email="Root@Example.com", password="Password1")
    assert (code, said) == (0, "root may do everything now.\n")
    code, said = create_superuser("carl\ncarl@example.com\nPassword2\nPassword2\n")
    assert code == 0, said
    assert "Password2" not in said
    refused = [
        create_superuser(**(DORA | change))
        for change in (
            {"username": "ROOT"},
            {"username": "x"},
            {"username": "a b c"},
            {"email": "nonsense"},
            {"email": "root@example.com"},
            {"password": "weak-word"},
        )
    ]
    for code, said in refused:
        assert (code, said.count("\n")) == (1, 1)
        assert not re.search("Password3|weak-word", said)
    close()
    for name, password in (("root@example.com", "Password1"), ("carl", "Password2")):
        headers = log_in(client, name, password)
        assert client.get("/users/me", headers=headers).json()["is_superuser"] is True
        names = [user["username"] for user in client.get("/users/", headers=headers).json()]
        assert names == ["root", "carl"]


def test_a_superuser_is_created_by_a_process_of_its_own(any_database: str) -> None:
    options = ("--username", "root", "--email", "r@example.com", "--password", "Password1")
    made = run("createsuperuser", *options, DATABASE_URL=any_database)
    assert (made.returncode, made.stderr) == (0, "")


def test_passwords_that_are_typed_differently_are_asked_for_again(client: httpx2.Client) -> None:
    answers = "Password1\nPassword2\nPassword1\nPassword1\n"
    code, said = create_superuser(answers, username="root", email="root@example.com")
    assert code == 0, said
    assert not re.search("Password[12]", said)


def test_who_does_not_answer_creates_nobody(client: httpx2.Client) -> None:
    code, _ = create_superuser("root\n")
    assert code == 1
    assert client.get("/users/").json() == []


def test_a_backup_is_a_copy_of_a_database_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_database: str
) -> None:
    copy = tmp_path / "copy.db"
    monkeypatch.setattr(db.settings, "database_url", any_database)
    with serving(any_database) as client:
        client.post("/items/", json={"title": "Lamp", "price": 1})
        assert run_here("backup", str(copy)) == (0, f"Copied to {copy}.\n")
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT title FROM item").fetchall() == [("Lamp",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert mode(copy) == 0o600
    code, said = run_here("backup", str(tmp_path / "nowhere" / "copy.db"))
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("Cannot copy ")
    assert run_here("backup", str(copy)) == (1, f"{copy} exists already.\n")


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


@pytest.mark.parametrize("way", ["a file", "a link", "a link that leads nowhere", "a folder"])
def test_a_backup_is_written_over_nothing_and_through_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_database: str, way: str
) -> None:
    monkeypatch.setattr(db.settings, "database_url", any_database)
    copy, other = tmp_path / "copy", tmp_path / "other"
    if way == "a folder":
        copy.mkdir()
    elif way == "a file":
        copy.touch()
    else:
        copy.symlink_to(other)
    if way == "a link":
        other.touch()

    def files() -> list[tuple[str, int, int]]:
        found = ((file.name, file.lstat()) for file in tmp_path.iterdir())
        return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)

    before = files()
    assert run_here("backup", str(copy)) == (1, f"{copy} exists already.\n")
    assert files() == before


def test_a_backup_of_what_is_no_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.db").mkdir()
    for name, what in (("folder.db", "a folder"), ("nowhere.db", "not there")):
        monkeypatch.setattr(db.settings, "database_url", f"sqlite:///{tmp_path}/{name}")
        told = f"{tmp_path}/{name} is {what}.\n"
        assert run_here("backup", str(tmp_path / "copy")) == (1, told)


def test_a_backup_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = tmp_path / "shop_test.db", tmp_path / "copy"
    source.write_text("This is no database. " * 100)
    monkeypatch.setattr(db.settings, "database_url", f"sqlite:///{source}")
    told = f"Cannot copy {source} to {copy}: file is not a database.\n"
    assert run_here("backup", str(copy)) == (1, told)
    assert list(tmp_path.iterdir()) == [source]


# Files: who can read them

OPENED = """
import asyncio, os, sys, urllib.parse

import alembic.config


def look(event, arguments):
    if event == "sqlite3.connect":
        file = urllib.parse.urlsplit(arguments[0]).path
        print(f"{os.stat(file).st_mode & 0o777:o}")


sys.addaudithook(look)  # which hears of it before the file is opened
import db
"""
WAYS = {
    "the service": "db.migrations.run()",
    "alembic": "alembic.config.main(['upgrade', 'head'])",
    "the writer": "db.database.writer.engine.connect()",
    "the reader": "db.database.reader.engine.connect()",
    "async def": "async def connect():\n    async with db.async_session.session() as session:\n"
    "        await session.connection()\nasyncio.run(connect())",
}
NAMES = {"a link": "{}/link.db", "a URI": "file:{}/app.db?uri=true"}


@pytest.mark.system
@pytest.mark.parametrize(
    ("way", "name"), [(way, "a file") for way in WAYS] + [("the writer", name) for name in NAMES]
)
def test_a_database_file_is_for_its_owner_alone_before_it_is_opened(
    tmp_path: Path, way: str, name: str
) -> None:
    (tmp_path / "link.db").symlink_to("app.db")  # which is not there yet
    place = NAMES.get(name, "{}/app.db").format(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", OPENED + WAYS[way]],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{place}", "PYTHONPATH": str(HOME)},
        cwd=HOME,
        umask=0o022,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"600"}
    assert mode(tmp_path / "app.db") == 0o600


@pytest.mark.system
@pytest.mark.parametrize("existing", [None, 0o640, 0o644])
def test_what_sqlite_writes_beside_a_database_has_its_mode(
    tmp_path: Path, existing: int | None
) -> None:
    if existing:
        (tmp_path / "shop_test.db").touch()
        (tmp_path / "shop_test.db").chmod(existing)
    with serving(f"sqlite:///{tmp_path}/shop_test.db") as client:
        client.post("/items/", json={"title": "Lamp", "price": 1})
        modes = {file.name: mode(file) for file in tmp_path.iterdir()}
    names = "shop_test.db", "shop_test.db-wal", "shop_test.db-shm"
    assert modes == dict.fromkeys(names, existing or 0o600)


@pytest.mark.parametrize(
    ("url", "tool"),
    [("postgresql://x@127.0.0.1/x", "pg_dump"), ("mysql://x@127.0.0.1/x", "mariadb-dump")],
)
def test_a_backup_of_a_servers_database_names_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, tool: str
) -> None:
    monkeypatch.setattr(db.settings, "database_url", url)
    code, said = run_here("backup", str(tmp_path / "copy"))
    assert code == 1
    assert tool in said


# Settings

SECRET = "hush"
NUMBERS = (
    "DB_POOL_SIZE",
    "DB_MAX_OVERFLOW",
    "DB_POOL_TIMEOUT",
    "DB_POOL_RECYCLE",
    "TOKEN_TTL",
    "MAX_BODY_SIZE",
)
NO_URLS = [
    "",
    "nonsense",
    f"postgresql://u:{SECRET}@h:port/x",
    f"postgresql://u:{SECRET}@[::1/x",
    f"postgresql://u:a@{SECRET}/b@h/x",
    f"postgresql://u:a@{SECRET}@h/x",
    f"mysql://u:{SECRET}@h",
    f"mysql://u:{SECRET}@h/x?connect_timeout=soon",
    "sqlite:///x.db?timeout=soon",
]
NO_ORIGINS = [
    "https://*.shop.example",
    "https://shop.example:443",
    "http://shop.example:80",
    "https://shop.example:",
    "https://shop.example:0",
    "https://shop.example:08443",
    "https://shop.example:65536",
    "https://bücher.example",
    "HTTPS://shop.example",
    "https://shop.example/path",
    "https://shop.example?x",
    f"https://ann:{SECRET}@shop.example",
    "https://shop..example",
    "http://127.1",
    "http://0x7f.0.0.1",
    "http://2130706433",
    "http://127.0.0.01",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::AB]",
    "http://[::1",
    "wss://shop.example",
    "null",
    '["https://shop.example"]',
    "*.shop.example",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "oracle://localhost/x"),
        ("DATABASE_URL", "sqlite://"),
        ("DB_POOL_SIZE", "-1"),
        ("DATABASE_URL", "postgresql://localhost/x?pgbouncer=1"),
        ("DB_POOL_SIZE", "many"),
        ("DB_POOL_TIMEOUT", "-1"),
        ("MIGRATE_ON_START", "perhaps"),
        ("MAX_BODY_SIZE", "1 MiB"),
        ("TOKEN_TTL", "0"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://a.example, *"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "//shop.example"),
        ("CORS_ORIGINS", "https://"),
        ("CORS_ORIGINS", "https://shop.example/"),
        ("CORS_ORIGINS", "https://Shop.example"),
        ("CORS_ORIGINS", "https://a.example, shop.example"),
        ("CORS_ORIGINS", "https://a.example https://b.example"),
        *(("CORS_ORIGINS", origin) for origin in NO_ORIGINS),
        *((name, value) for name in NUMBERS for value in ("", "-1", "inf", "nan", "1e400", "1 0")),
        *(("DATABASE_URL", url) for url in NO_URLS),
        *(("DATABASE_READ_URL", url) for url in NO_URLS),
        ("SECRET_KEY", SECRET),
        *((name, "loud") for name in ("LOG_FORMAT", "LOG_LEVEL", "DATABASE_ECHO", "METRICS")),
        ("APP_NAME", ""),
        ("APP_NAME", " \u3000"),
        ("ROOT_PATH", "https://evil.example"),
        ("ROOT_PATH", "/my shop"),
        ("ROOT_PATH", "/a//b"),
        ("ROOT_PATH", "/../shop"),
        ("ROOT_PATH", "/shop?x"),
        ("ROOT_PATH", "/%2Fevil.example"),
        ("ROOT_PATH", "/l\u00e4den"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        kit.read_settings(db.Settings)
    assert str(stopped.value).startswith(f"Bad setting: {name}: ")
    assert "\n" not in str(stopped.value)
    assert SECRET not in str(stopped.value)


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example",
        "http://localhost:3000",
        "http://shop.example:443",
        "https://127.0.0.1",
        "http://[::1]:8080",
        "http://[2001:db8::1]",
        "https://xn--bcher-kva.example",
        "https://a_b.4you.example",
        "https://shop.example.",
        "chrome-extension://abcdefghijklmnop",
        "capacitor://localhost",
    ],
)
def test_an_origin_is_taken_as_a_browser_sends_it(
    monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f"https://a.example,{origin}")
    assert origin in kit.read_settings(db.Settings).cors_origins


def test_where_no_connection_is_kept_some_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_POOL_SIZE", "0")
    assert kit.read_settings(db.Settings).db_max_overflow == 5
    monkeypatch.setenv("DB_MAX_OVERFLOW", "0")
    with pytest.raises(SystemExit, match="DB_MAX_OVERFLOW: has to be at least 1"):
        kit.read_settings(db.Settings)


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [
        ("", ""),
        ("/", ""),
        ("shop", "/shop"),
        ("/shop/", "/shop"),
        ("//shop.example", "/shop.example"),
        ("/a/b-c_d", "/a/b-c_d"),
    ],
)
def test_a_prefix_begins_with_one_slash_and_ends_with_none(
    monkeypatch: pytest.MonkeyPatch, sent: str, prefix: str
) -> None:
    monkeypatch.setenv("ROOT_PATH", sent)
    assert kit.read_settings(db.Settings).root_path == prefix


def test_a_bad_prefix_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    stopped = run("serve", "--root-path", "/my shop", cwd=tmp_path)
    assert stopped.stderr.startswith("--root-path has to be a path such as /shop")
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1)
    assert not list(tmp_path.iterdir())


def test_any_site_may_be_let_in_where_one_has_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "*")
    monkeypatch.setenv("SECRET_KEY", KEY)
    assert kit.read_settings(db.Settings).cors_origins == "*"


def test_settings_are_read_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_POOL_SIZE=none\n")
    stopped = run("migrate", cwd=tmp_path)
    assert stopped.stderr.startswith("Bad setting: DB_POOL_SIZE: ")
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1)


NOT_UTF_8 = "Bad setting: .env is not a text in UTF-8"
PLAIN_ENV = "# Café\nDATABASE_URL=sqlite:///./other.db\nTOKEN_TTL=7\n"


@pytest.mark.parametrize(
    "encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8", "utf-8-sig"]
)
def test_a_file_of_settings_is_read_in_utf_8_or_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    (tmp_path / ".env").write_bytes(PLAIN_ENV.encode(encoding))
    monkeypatch.chdir(tmp_path)
    if encoding.startswith("utf-8"):
        assert kit.read_settings(db.Settings).token_ttl == 7
        return
    with pytest.raises(SystemExit, match=f"^{re.escape(NOT_UTF_8)}$"):
        kit.read_settings(db.Settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("database_ulr", "DATABASE_URL"),
        ("DATABASE-URL", "DATABASE_URL"),
        ("SECRETKEY", "SECRET_KEY"),
        ("TOKEN_TLL", "TOKEN_TTL"),
        ("export CORS_ORIGIN", "CORS_ORIGINS"),
    ],
)
def test_a_misspelt_name_of_a_setting_in_the_file_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    (tmp_path / ".env").write_text(f"OTHER=1\n{name}={SECRET}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        kit.read_settings(db.Settings)
    named = name.removeprefix("export ").upper()
    assert str(stopped.value) == f"Bad setting: .env has {named}, which is none: is it {meant}?"


def test_the_file_of_settings_may_have_those_of_other_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = "DATABASE_USER DATABASE_HOST TEST_DATABASE_URL SECRET_KEY_BASE API_NAME PORT DB_URL"
    text = "".join(f"{name}=x\n" for name in others.split())
    (tmp_path / ".env").write_text(f"{text}TOKEN_TTL=7\n")
    monkeypatch.chdir(tmp_path)
    assert kit.read_settings(db.Settings).token_ttl == 7


ANN = ["--username", "ann", "--email", "ann@example.com", "--password", "Password1"]
FILE_COMMANDS = {
    "migrate": ["migrate"],
    "demo": ["demo"],
    "serve": ["serve", "--port", "0"],
    "createsuperuser": ["createsuperuser", *ANN],
}


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "place", "why"),
    [
        *((name, "nowhere/app.db", ": there is no folder {}/nowhere") for name in FILE_COMMANDS),
        ("migrate", "folder.db", ", which is a folder"),
        ("migrate", "text.db/app.db", ": there is no folder {}/text.db"),
    ],
)
def test_a_database_file_that_cannot_be_opened_is_named(
    tmp_path: Path, command: str, place: str, why: str
) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    stopped = run(*FILE_COMMANDS[command], cwd=tmp_path, DATABASE_URL=f"sqlite:///./{place}")
    told = f"unable to open database file: {tmp_path}/{place}{why.format(tmp_path)}"
    assert stopped.stderr == f"The database cannot be used: {told}\n"


@pytest.mark.system
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///./text.db", "file is not a database: {}/text.db"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/x?charset=none", "an option of its URL is bad: "),
        (f"mysql://u:{SECRET}@127.0.0.1:1/x?connect_timeout=0", "an option of its URL is bad: "),
        (f"mysql://u:{SECRET}@127.0.0.1:1/x?colour=red", "an option of its URL is bad: "),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/x?colour=red", 'invalid connection option "colour"'),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/x", "connection failed: "),
        (f"postgresql://u:{SECRET}@127.0.0.1:99999/x", 'connection is bad: invalid port number: "'),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, url: str, told: str
) -> None:
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    stopped = run("migrate", cwd=tmp_path, DATABASE_URL=url)
    begin = f"The database cannot be used: {told.format(tmp_path)}"
    assert stopped.stderr.startswith(begin)
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1)
    assert SECRET not in stopped.stderr


@pytest.mark.system
def test_which_file_cannot_be_opened_is_told_in_the_log_and_to_no_client(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/app.db"
    with running(url, MIGRATE_ON_START="false") as process:
        for path in ("/items/", "/notifications/", "/health/db"):
            answer = process.client.get(path)
            assert answer.status_code == 503
            assert "nowhere" not in answer.text
        assert f"there is no folder {tmp_path}/nowhere" in process.logged()


@pytest.mark.system
@pytest.mark.parametrize(
    "command",
    [
        ["uvicorn", "main:app", "--port"],
        ["fastapi", "dev", "--no-reload", "--port"],
        ["fastapi", "run", "--port"],
        [sys.executable, "main.py", "serve", "--workers", "2", "--port"],
        [sys.executable, "main.py", "--reload", "--port"],
    ],
    ids=lambda command: " ".join(Path(part).name for part in command),
)
def test_the_usual_servers_serve_it_too(command: list[str], any_database: str) -> None:
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, str(port)],
        env={**os.environ, "PATH": path, "DATABASE_URL": any_database},
        cwd=HOME,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                answer = httpx2.get(f"http://127.0.0.1:{port}/health/db")
                assert answer.json()["status"] == "healthy"
                return
            time.sleep(0.1)
        pytest.fail("no answer")
    finally:
        process.terminate()
        process.wait(timeout=30)


SLOW_APP = """
import sys, time

if "spawn_main" in " ".join(sys.orig_argv):
    class Slow:
        def find_spec(name, path=None, target=None):
            if name == "models":
                print("slow", flush=True)
                time.sleep(600)

    sys.meta_path.insert(0, Slow)
"""


@pytest.mark.system
def test_who_starts_slow_workers_hears_meanwhile_that_it_has_to_stop(
    tmp_path: Path, any_database: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_APP)
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, HOME / "main.py", "--port", str(free_port()), "--workers", "2"],
            env={**os.environ, "DATABASE_URL": any_database, "PYTHONPATH": str(tmp_path)},
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for(lambda: log.read_text().count("slow") == 2)
            process.terminate()
            wait_for(lambda: "Received SIGTERM" in log.read_text())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


SLOW_WORKERS = """
import sys, time

if "spawn_main" in " ".join(sys.orig_argv):
    time.sleep(12)
"""


@pytest.mark.system
def test_a_worker_that_takes_long_to_start_is_not_killed(tmp_path: Path, any_database: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_WORKERS)
    with serving(any_database, "--workers", "2", PYTHONPATH=str(tmp_path)) as client:
        assert client.get("/health/db").json()["status"] == "healthy"
