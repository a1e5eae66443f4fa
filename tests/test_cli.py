"""The command line: what each command does, and what a bad setting says."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from conftest import HOME, KEY, SCRATCH, free_port, log_in, serving


def run(
    url: str,
    *arguments: str,
    cwd: Path = Path(SCRATCH.name),
    settings: dict[str, str] | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HOME / "main.py"), *arguments],
        env={**os.environ, "DATABASE_URL": url, **(settings or {})},
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_fills_an_empty_database_and_shows_how_far_it_is(own_database: str) -> None:
    filled = run(own_database, "demo", "--products", "60", "--users", "7", "--orders", "90")
    assert filled.returncode == 0, filled.stderr
    for bar in ("60/60", "7/7", "90/90"):
        assert bar in filled.stdout
    password = filled.stdout.split()[-1]
    with serving(own_database) as client:

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
        assert (total("notifications"), total("transfers"), total("accounts")) == ("90", "3", "7")
        assert client.get("/items/").json() != []
        paid = next(o["id"] for o in client.get("/orders/").json() if o["status"] == "delivered")
        [payment] = client.get(f"/orders/{paid}/payments").json()
        order = client.get(f"/orders/{paid}").json()
        account = client.get(f"/accounts/{payment['account_id']}").json()
        assert (payment["amount"], account["user_id"]) == (order["total_amount"], order["user_id"])
        new = {"name": "New", "price": 1, "sku": "NEW-1"}
        assert client.post("/products/", json=new).json()["id"] == 61


MEMORY = Path("/proc/self/status")
TAKEN = f"""
import main, db, re
db.migrate()
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


def test_the_demo_refuses_a_database_with_data(own_database: str) -> None:
    with serving(own_database) as client:
        client.post("/items/", json={"title": "Mine", "price": 1})
        refused = run(own_database, "demo")
        assert refused.returncode == 1
        assert refused.stderr == "This database has data already; the demo fills an empty one.\n"
        assert client.get("/products/").json() == []


def test_the_demo_may_be_asked_for_nothing(own_database: str) -> None:
    empty = run(own_database, "demo", "--products", "0", "--users", "0", "--orders", "0")
    assert empty.returncode == 0, empty.stderr


def create_superuser(
    url: str, answers: str = "", **options: str
) -> subprocess.CompletedProcess[str]:
    named = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run(url, "createsuperuser", *named, stdin=answers)


def test_a_superuser_is_created_on_the_command_line(own_database: str) -> None:
    made = create_superuser(
        own_database, username="root", email="Root@Example.com", password="Password1"
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "Password1" not in made.stdout
    asked = create_superuser(own_database, "carl\ncarl@example.com\nPassword2\nPassword2\n")
    assert asked.returncode == 0, asked.stderr
    assert "Password2" not in asked.stdout + asked.stderr
    taken = {"email": "r@example.com", "password": "Password3"}
    refused = [
        create_superuser(own_database, username="ROOT", **taken),
        create_superuser(own_database, username="x", **taken),
        create_superuser(own_database, username="a b c", **taken),
        create_superuser(own_database, username="dora", **(taken | {"email": "nonsense"})),
        create_superuser(own_database, username="dora", **(taken | {"email": "root@example.com"})),
        create_superuser(own_database, username="dora", **(taken | {"password": "weak-word"})),
    ]
    for stopped in refused:
        assert stopped.returncode == 1
        assert stopped.stderr.count("\n") == 1, stopped.stderr
        assert not re.search("Password3|weak-word|Traceback", stopped.stdout + stopped.stderr)
    with serving(own_database, SECRET_KEY=KEY) as server:
        for name, password in (("root@example.com", "Password1"), ("carl", "Password2")):
            headers = log_in(server, name, password)
            assert server.get("/users/me", headers=headers).json()["is_superuser"] is True
            names = [user["username"] for user in server.get("/users/", headers=headers).json()]
            assert names == ["root", "carl"]


def test_passwords_that_are_typed_differently_are_asked_for_again(own_database: str) -> None:
    answers = "Password1\nPassword2\nPassword1\nPassword1\n"
    made = create_superuser(own_database, answers, username="root", email="root@example.com")
    assert made.returncode == 0, made.stderr
    assert not re.search("Password[12]", made.stdout + made.stderr)


def test_who_does_not_answer_creates_nobody(own_database: str) -> None:
    stopped = create_superuser(own_database, "root\n")
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr


def test_a_backup_is_a_copy_of_a_database_in_use(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/shop_test.db", tmp_path / "copy.db"
    with serving(url) as client:
        client.post("/items/", json={"title": "Lamp", "price": 1})
        assert run(url, "backup", str(copy)).stdout == f"Copied to {copy}.\n"
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT title FROM item").fetchall() == [("Lamp",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    nowhere = run(url, "backup", str(tmp_path / "nowhere" / "copy.db"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith("Cannot copy ")
    assert nowhere.stderr.count("\n") == 1
    again = run(url, "backup", str(copy))
    assert (again.returncode, again.stderr) == (1, f"{copy} exists already.\n")


@pytest.mark.parametrize(
    ("url", "tool"),
    [("postgresql://x@127.0.0.1/x", "pg_dump"), ("mysql://x@127.0.0.1/x", "mariadb-dump")],
)
def test_a_backup_of_a_servers_database_names_the_tool(tmp_path: Path, url: str, tool: str) -> None:
    refused = run(url, "backup", str(tmp_path / "copy"))
    assert refused.returncode == 1
    assert tool in refused.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "oracle://localhost/x"),
        ("DATABASE_URL", "sqlite://"),
        ("DB_POOL_SIZE", "0"),
        ("DB_POOL_SIZE", "many"),
        ("DB_POOL_TIMEOUT", "-1"),
        ("MIGRATE_ON_START", "perhaps"),
        ("MAX_BODY_SIZE", "1 MiB"),
        ("TOKEN_TTL", "0"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "//shop.example"),
        ("CORS_ORIGINS", "https://"),
        ("CORS_ORIGINS", "https://shop.example/"),
        ("CORS_ORIGINS", "https://Shop.example"),
        ("CORS_ORIGINS", "https://a.example, shop.example"),
        ("CORS_ORIGINS", "https://a.example https://b.example"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_clear_line(name: str, value: str) -> None:
    stopped = subprocess.run(
        [sys.executable, "-c", "import db"],
        env={**os.environ, name: value},
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"Bad setting: {name}: ")
    assert stopped.stderr.count("\n") == 1


def test_settings_are_read_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_POOL_SIZE=none\n")
    stopped = run(f"sqlite:///{tmp_path}/x_test.db", "migrate", cwd=tmp_path)
    assert stopped.stderr.startswith("Bad setting: DB_POOL_SIZE: ")


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
def test_the_usual_servers_serve_it_too(command: list[str], own_database: str) -> None:
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, str(port)],
        env={**os.environ, "PATH": path, "DATABASE_URL": own_database},
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
