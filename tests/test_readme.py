"""README.md and docs/ are true: what they show is run, what they list is compared."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from databases import HOME
from servers import serving
from table_of_routes import HEAD, PAGE, rows

import db
import main

PAGES = {
    str(path.relative_to(HOME)): path.read_text()
    for path in (*sorted(HOME.glob("*.md")), *sorted(HOME.glob("docs/*.md")))
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


def without_columns(answer: str, told: str) -> str:
    """The answer without empty columns of which nothing is told: those of your own."""
    added = {name for name in re.findall(r',"(\w+)":null', answer) if f'"{name}"' not in told}
    return re.sub(rf',"({"|".join(added)})":null', "", answer) if added else answer


@pytest.mark.needs("orders")
def test_every_step_of_the_walk_gives_what_the_pages_say(tmp_path: Path) -> None:
    walk = section("A walk through the shop")
    walk += section("More of the walk", "docs/api.md")
    steps = blocks(walk, "sh", "json", "text")
    assert len(steps) == 2 * (6 + 10)
    with serving(f"sqlite:///{tmp_path}/walk_test.db") as client:
        for command, answer in zip(steps[::2], steps[1::2], strict=True):
            here = command.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
            run = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
            told = without_columns(run.stdout.rstrip("\n"), answer)
            assert without_moments(told) == without_moments(answer), command


def test_the_table_of_routes_is_that_of_the_app() -> None:
    told = PAGE.read_text().partition(HEAD)[2].partition("\n\n")[0].splitlines()
    needed = "".join(rows()).splitlines()
    missing, unknown = (
        "\n".join(r for r in a if r not in b) for a, b in ((needed, told), (told, needed))
    )
    what = f"the table of routes in {PAGE.relative_to(HOME)}; `make docs` writes it"
    assert told == needed, f"{what}\n\nto be added:\n{missing}\n\nto be taken out:\n{unknown}\n"


def test_the_table_of_settings_is_that_of_the_app() -> None:
    table = section("Settings", "docs/operations.md")
    first_cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    told = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert told == {name.upper() for name in db.Settings.model_fields}
    example = re.findall(r"^(?:# )?([A-Z_]+)=", (HOME / ".env.example").read_text(), re.MULTILINE)
    assert set(example) == told


def pins(lines: Iterable[str]) -> set[tuple[str, str]]:
    found = (re.match(r"([\w.-]+)(?:\[.*\])?==([^\s;]+)", line) for line in lines)
    return {(re.sub(r"[-_.]+", "-", f[1]).lower(), f[2]) for f in found if f}


def test_pip_and_uv_install_the_same_packages() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    service = pins(project["project"]["dependencies"])
    tests = pins(project["dependency-groups"]["tests"])
    brought = pins(project["tool"]["uv"]["constraint-dependencies"])
    for_service, for_tests = (
        pins((HOME / name).read_text().splitlines())
        for name in ("requirements.txt", "tests/requirements.txt")
    )
    assert service <= for_service <= for_tests, "run: make lock"
    assert service | tests | brought == for_tests, "run: make lock"
    assert not brought & (service | tests), "run: make lock"


def test_the_page_tells_of_everyone_that_is_measured() -> None:
    contenders = (HOME / "tests" / "bench" / "contenders.py").read_text()
    told = section("How fast", "docs/performance.md")
    measured = re.findall(r'"(\w+):app"', contenders)
    missing = {name for name in measured if f"`tests/bench/{name}.py`" not in told}
    assert "flask_peer" in measured
    assert missing == {"main"}  # the service itself


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


def copy_of_the_project(folder: Path) -> Path:
    unwanted = (".git", ".venv", ".bench", ".clients", ".env", ".hypothesis", "*_cache", "*.db*")
    ignored = shutil.ignore_patterns(*unwanted, "__pycache__")
    return Path(shutil.copytree(HOME, folder, ignore=ignored))


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


def virtual_environment(copy: Path) -> dict[str, str]:
    """Give a copy of the project the packages that are here; the variables for its commands."""
    folder = copy / ".venv"
    folder.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name not in ("installed", "tools"):
            (folder / part.name).symlink_to(part)
    for stamp in ("installed", "tools"):  # of make, which has nothing to install then
        (folder / stamp).touch()
    path = f"{folder}/bin:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} in {file.name}"
    file.write_text(text.replace(old, new))


def put(file: Path, code: str, *, before: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1, f"{before!r} in {file.name}"
    file.write_text(text.replace(before, f"{code}\n{before}"))


def run(commands: list[str], copy: Path, env: dict[str, str]) -> None:
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=copy, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


MORE = """


def test_the_items_are_counted(client: httpx2.Client) -> None:
    assert client.get("/items/count").json() == 0
"""


@pytest.mark.needs("orders")
def test_what_the_guide_names_is_there() -> None:
    told = re.sub(r"```.*?```", "", section("Add an entity of your own"), flags=re.DOTALL)
    code = "".join((HOME / name).read_text() for name in ("models.py", "main.py", "Makefile"))
    named = {name for name in re.findall(r"`(?:class |# )?(\w+)`", told) if "rand" not in name}
    assert {"ProductBase", "ProductAdmin", "list_items", "listed_by", "ItemAdmin"} <= named
    unknown = {name for name in named if not re.search(rf"\b{name}\b", code)}
    assert unknown <= {"server_default", "ETag"}  # which are none of the shop's own


@pytest.mark.needs("products")
@pytest.mark.system
def test_an_entity_and_a_relation_are_added_as_the_readme_says(tmp_path: Path) -> None:
    if "/brands/" in main.app.openapi()["paths"]:
        return  # somebody did just that, here
    copy = copy_of_the_project(tmp_path / "shop")
    env = virtual_environment(copy)
    guide, relation = section("Add an entity of your own").split("\n### A relation\n")
    model, routes, admin, test = blocks(guide, "python")
    field, children = blocks(relation, "python")
    *commands, make_docs_and_test = blocks(guide, "sh")[0].splitlines()
    assert make_docs_and_test == "make docs test"
    models_py, main_py = copy / "models.py", copy / "main.py"

    put(models_py, model, before="\n\n# Products ---")
    put(main_py, "    Brand,\n    BrandCreate,\n    BrandUpdate,", before="    AccountCreate,\n")
    put(main_py, routes, before="\n\n# Products ---")
    put(main_py, admin, before="\n\nclass UserAdmin(")
    (async_route,) = blocks(section("An async route", "docs/kit.md"), "python")
    put(main_py, async_route, before="\n\n# Users ---")
    put(main_py, "    AsyncRead,", before="    Once,\n    Owner,\n")
    (copy / "tests" / "test_brands.py").write_text(f"{test}{MORE}")
    run([*commands, "make docs"], copy, env)

    put(models_py, field, before="\n\nclass Product(")
    put(
        models_py,
        "    brand: Brand | None = related()",
        before="    category: Category | None = related()",
    )
    swap(main_py, '"category", "is_active"]', '"category", "brand", "is_active"]')
    swap(
        main_py,
        '        "category_id",\n    ]',
        '        "category_id",\n        "brand_id",\n    ]',
    )
    swap(
        main_py,
        "(Category.slug, Category.name)},\n    slug_from",
        '(Category.slug, Category.name), "brand_id": Brand.name},\n    slug_from',
    )
    put(models_py, '"brand_id",', before='"category_id"),\n        listed_by_false("is_active")')
    put(main_py, children, before="\n\n# Products ---")
    again = [command.replace('"brands"', '"brands of products"') for command in commands]
    run([*again, "alembic downgrade -2 && alembic upgrade head"], copy, env)
    run([make_docs_and_test, "make check"], copy, env)
    written = {path.name for path in (copy / "alembic" / "versions").glob("*_brands*.py")}
    assert len(written) == 2
