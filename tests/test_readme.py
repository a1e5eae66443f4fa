"""README.md and docs/ are true: what they show is run, what they list is compared."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from databases import HOME
from servers import serving

import db
import kit
import main

PAGES = {
    str(path.relative_to(HOME)): path.read_text()
    for path in (HOME / "README.md", *sorted(HOME.glob("docs/*.md")))
}


def section(title: str, page: str = "README.md") -> str:
    return PAGES[page].split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, *languages: str) -> list[str]:
    found = re.findall(r"```(\w+)\n(.*?)\n```", text, re.DOTALL)
    return [code for language, code in found if language in languages]


def without_moments(answer: str) -> str:
    """What cannot be the same twice: times, and order numbers."""
    answer = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", answer)
    return re.sub(r"ORD-\d{14}-[A-Z0-9]{6}", "NUMBER", answer)


def test_every_step_of_the_walk_gives_what_the_pages_say(tmp_path: Path) -> None:
    walk = section("A walk through the shop")
    walk += section("More of the walk", "docs/api.md")
    steps = blocks(walk, "sh", "json", "text")
    assert len(steps) == 2 * (6 + 10)
    with serving(f"sqlite:///{tmp_path}/walk_test.db") as client:
        for command, answer in zip(steps[::2], steps[1::2], strict=True):
            here = command.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
            run = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
            assert without_moments(run.stdout.rstrip("\n")) == without_moments(answer), command


def test_the_table_of_routes_is_that_of_the_app() -> None:
    table = section("Routes", "docs/api.md")
    told = re.findall(r"^\| `([A-Z]+) (/\S*)` \| (\w*) \|", table, re.MULTILINE)
    routes = [route for route in main.app.routes if isinstance(route, kit.Route)]
    listed = {
        (method, route.path_format, route.who.replace("public", "anyone"))
        for route in routes
        for method in route.methods or ()
    }
    assert len(told) == len(set(told))
    missing = listed ^ set(told)
    assert not missing, "to be added to the table of routes in docs/api.md, or taken out of it"


def test_the_table_of_settings_is_that_of_the_app() -> None:
    table = section("Settings", "docs/operations.md")
    first_cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    told = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert told == {name.upper() for name in db.Settings.model_fields}
    example = re.findall(r"^(?:# )?([A-Z_]+)=", (HOME / ".env.example").read_text(), re.MULTILINE)
    assert set(example) == told


def test_the_lock_file_has_what_the_requirements_pin() -> None:
    pinned, locked = (
        set(
            re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", (HOME / name).read_text(), re.MULTILINE)
        )
        for name in ("requirements.txt", "requirements.lock")
    )
    assert {(name.lower(), version) for name, version in pinned} <= locked, "run: make lock"


def anchors(page: str) -> set[str]:
    """What a Git host makes of the page's headings, to link to them."""
    headings = re.findall(r"^#+ (.+)$", without_code(PAGES[page]), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: str) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page])):
        path, _, heading = link.partition("#")
        if re.match(r"\w+:", link):
            continue  # elsewhere on the web
        file = (HOME / page).parent / path if path else HOME / page
        target = str(file.resolve().relative_to(HOME.resolve()))
        if not file.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    assert not broken


def with_rows(page: str) -> str:
    """The table of routes with those of the example."""
    routes = [("GET", "/books/"), ("POST", "/books/"), ("GET", "/items/count")]
    routes += [(method, "/books/{book_id}") for method in ("GET", "PUT", "PATCH", "DELETE")]
    who = {"GET": "anyone"}
    rows = "".join(f"| `{m} {path}` | {who.get(m, 'superuser')} | |\n" for m, path in routes)
    return page.replace("| **Tags** | | |\n", f"| **Books** | | |\n{rows}| **Tags** | | |\n")


def copy_of_the_project(folder: Path) -> Path:
    unwanted = (".git", ".venv", ".env", ".hypothesis", "*_cache", "__pycache__", "*.db*")
    return Path(shutil.copytree(HOME, folder, ignore=shutil.ignore_patterns(*unwanted)))


def test_a_superuser_is_made_and_logs_in_as_the_page_says(tmp_path: Path) -> None:
    copy = copy_of_the_project(tmp_path / "shop")
    (copy / ".venv").symlink_to(sys.prefix)
    (make_key, create_superuser, start), (log_in,) = (
        code.splitlines() for code in blocks(section("Log in", "docs/access.md"), "sh")
    )
    password = "BossPass123"
    assert password in log_in
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for command, entered in ((make_key, ""), (create_superuser, f"{password}\n" * 2)):
        run = subprocess.run(
            ["bash", "-c", command], cwd=copy, env=env, input=entered, text=True, check=True
        )
        assert run.returncode == 0

    assert start == "make run"
    key = (copy / ".env").read_text().strip().partition("=")[2]
    with serving(f"sqlite:///{copy}/app.db", SECRET_KEY=key) as client:
        here = log_in.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
        answer = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
        (told,) = blocks(section("Log in", "docs/access.md"), "json")
        told_before, told_after = told.split("...")
        assert answer.stdout.startswith(told_before)
        assert answer.stdout.endswith(told_after)
        token = json.loads(answer.stdout)["access_token"]
        me = client.get("/users/me", headers={"Authorization": f"Bearer {token}"}).json()
        assert (me["username"], me["is_superuser"]) == ("boss", True)


@pytest.mark.system
def test_an_entity_of_ones_own_is_added_as_the_readme_says(tmp_path: Path) -> None:
    if "/books/" in main.app.openapi()["paths"]:
        return  # somebody did just that, here
    copy = copy_of_the_project(tmp_path / "shop")
    text = section("Add an entity of your own")
    models, routes, test = blocks(text, "python")
    (commands,) = blocks(text, "sh")
    (async_route,) = blocks(section("An async route", "docs/kit.md"), "python")
    (admin_view,) = blocks(section("Pages for an entity of your own", "docs/admin.md"), "python")
    more_tests = """

def test_more(client: httpx2.Client) -> None:
    assert client.get('/items/count').json() == 0
    assert client.get('/admin/book/list').status_code == 200
    assert client.get('/admin/book/create').status_code == 200
"""

    with (copy / "models.py").open("a") as file:
        file.write(f"\n\n{models}\n")
    code = (copy / "main.py").read_text()
    code = code.replace("from models import (", "from models import (Book, BookCreate, BookUpdate,")
    code = code.replace("from db import Read,", "from db import AsyncRead, Read,")
    code = code.replace("\n# Admin ---", f"\n{routes}\n\n\n{async_route}\n\n\n# Admin ---")
    code = code.replace("\nclass ItemAdmin(", f"\n{admin_view}\n\n\nclass ItemAdmin(")
    (copy / "main.py").write_text(code)
    (copy / "tests" / "test_books.py").write_text(f"{test}\n{more_tests}")

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "DATABASE_URL": "sqlite:///./books_test.db"}
    (copy / "docs" / "api.md").write_text(with_rows(PAGES["docs/api.md"]))
    pytest = "python -m pytest -q -n0 -p no:cacheprovider"
    tests = "tests/test_books.py tests/test_contract.py tests/test_readme.py -k 'book or table'"
    check = "main(['check']); main(['downgrade', '-1'])"
    check = f'python -c "from alembic.config import main; {check}"'
    for command in [*commands.splitlines(), check, f"{pytest} {tests}"]:
        run = subprocess.run(
            command, shell=True, cwd=copy, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
    written = {path.name for path in (copy / "alembic" / "versions").glob("*_books.py")}
    assert len(written) == 1
