"""What the terminal says when the service starts: where it is, who is let in, what fills it."""

import sys
from pathlib import Path

import httpx2
import pytest
from conftest import KEY, Make
from databases import HOME
from servers import Process, running
from test_cli import run, run_here

import db
import main

OPEN = "Log-ins are off, as SECRET_KEY is not set: only this machine is let in."
EMPTY = "The database is empty. To fill it with made-up data: python main.py demo"


def told(process: Process) -> tuple[str, list[str]]:
    """The address of a service that has started, and what it has said of itself."""
    lines = [line for line in process.logged().splitlines() if "INFO" not in line]
    return str(process.client.base_url).rstrip("/"), lines


def test_the_first_start_says_where_everything_is(any_database: str) -> None:
    with running(any_database) as process:
        root, lines = told(process)
        assert lines == [
            f"Cornershop API 1.0.0 is on {root}",
            f"  Interactive documentation: {root}/docs",
            f"  Administration: {root}/admin/",
            OPEN,
            EMPTY,
        ]
        for page in (line.split(": ")[1] for line in lines[1:3]):
            assert process.client.get(page).status_code == 200


@pytest.mark.system
@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--reload",)])
def test_it_is_said_once_however_many_processes_serve(
    arguments: tuple[str, ...], any_database: str
) -> None:
    settings = {"SECRET_KEY": KEY, "ROOT_PATH": "/shop"}
    with running(any_database, sys.executable, HOME / "main.py", *arguments, **settings) as process:
        root, lines = told(process)
    assert lines == [
        f"Cornershop API 1.0.0 is on {root}/shop",
        f"  Interactive documentation: {root}/shop/docs",
        f"  Administration: {root}/shop/admin/",
        "Log-ins are on: SECRET_KEY is set.",
        EMPTY,
    ]


@pytest.mark.parametrize(
    ("host", "port", "first"),
    [
        ("::1", 8000, "Cornershop API 1.0.0 is on http://[::1]:8000/shop"),
        ("0.0.0.0", 80, "Cornershop API 1.0.0 is on http://0.0.0.0:80/shop"),
        ("127.0.0.1", 0, "Cornershop API 1.0.0"),
    ],
)
def test_the_address_is_the_one_that_is_asked_for(
    client: httpx2.Client, capsys: pytest.CaptureFixture[str], host: str, port: int, first: str
) -> None:
    main.cli.say_where(host, port, "/shop")
    assert capsys.readouterr().out.splitlines()[0] == first


@pytest.mark.every_database
def test_a_database_with_a_row_needs_no_filling(
    client: httpx2.Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.cli.can_be_filled()
    monkeypatch.setattr(main.cli, "registered_commands", main.cli.registered_commands[:-1])
    assert not main.cli.can_be_filled()  # without a `demo`
    monkeypatch.undo()
    make("items")
    assert not main.cli.can_be_filled()


AWAY = "postgresql://x@127.0.0.1:1/x"


def test_a_database_that_is_away_keeps_nobody_from_starting_and_is_not_called_empty() -> None:
    with running(AWAY, MIGRATE_ON_START="false") as process:
        assert told(process)[1][3:] == [OPEN]


def test_a_replica_that_is_away_keeps_nobody_from_starting(any_database: str) -> None:
    with running(any_database, DATABASE_READ_URL=AWAY) as process:
        assert told(process)[1][3:] == [OPEN]


def test_the_version_is_told_whatever_the_database_is(tmp_path: Path) -> None:
    said = run("--version", cwd=tmp_path, DATABASE_URL=AWAY)
    assert (said.returncode, said.stdout, said.stderr) == (0, "Cornershop API 1.0.0\n", "")
    assert run_here("--help")[1].count("--version") == 1
    assert not list(tmp_path.iterdir())


def test_the_version_stands_in_one_place(client: httpx2.Client) -> None:
    assert '\nversion = "1.0.0"\n' in (HOME / "pyproject.toml").read_text()
    assert client.get("/").json()["version"] == main.app.version == "1.0.0"
    assert client.get("/openapi.json").json()["info"]["version"] == "1.0.0"
    named = [p.name for p in HOME.glob("*.py") if "1.0.0" in p.read_text()]
    assert (named, db.migrations.home) == ([], HOME)
