"""The kit stands by itself: it knows nothing of the shop, and each room only those below it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import HOME
from sqlmodel import SQLModel

import models

ROOMS = {
    ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for path in sorted((HOME / "kit").rglob("*.py"))
    if path != HOME / "kit" / "__init__.py"
}
FOREIGN = {"main", "models", "db", "tests", "conftest", "databases", "servers"}
OWN = {"change", "idempotency_key", "log_in_failures"}  # the kit's own tables
TABLES = {name for name in SQLModel.metadata.tables if name not in OWN}
ENTITIES = {
    name
    for name, value in vars(models).items()
    if isinstance(value, type) and getattr(value, "__tablename__", None) in TABLES
}


def imported(tree: ast.Module) -> Iterator[str]:
    """The full names of the modules that a room imports, at its top or anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = str(node.module)
            parts = [f"{name}.{alias.name}" for alias in node.names]
            yield from [part for part in parts if part in ROOMS] or [name]


def test_the_kit_can_be_imported_alone(tmp_path: Path) -> None:
    (tmp_path / "kit").symlink_to(HOME / "kit")
    run = [sys.executable, "-c", f"import sys; sys.path = [{str(tmp_path)!r}, *sys.path[1:]]"]
    run[-1] += "; import kit; print(*sys.modules)"
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "kit" in loaded
    assert not loaded & FOREIGN


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_nothing_of_the_shop(room: str) -> None:
    assert not {name.split(".")[0] for name in imported(ROOMS[room])} & FOREIGN
    assert {"Item", "User"} <= ENTITIES
    for node in ast.walk(ROOMS[room]):
        name = (
            getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
        )
        assert name not in ENTITIES, ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            table, dot, column = node.value.partition(".")
            is_named = table in TABLES and (not dot or column.isidentifier())
            assert not is_named, f"line {node.lineno}: {node.value!r}"


def test_a_room_imports_only_those_below_it() -> None:
    told = (HOME / "docs" / "kit.md").read_text().split("\n## The rooms\n")[1]
    floors = [line.split("`")[1] for line in told.splitlines() if line.startswith("| `")]
    assert sorted(floors) == sorted(room.removeprefix("kit.") for room in ROOMS)
    for room, tree in ROOMS.items():
        own = floors.index(room.removeprefix("kit."))
        for name in imported(tree):
            assert name != "kit", f"{room}: name the room that it needs"
            if name in ROOMS:
                assert floors.index(name.removeprefix("kit.")) < own, f"{room} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_docs_say_of_each_room_what_it_says_itself(room: str) -> None:
    says = (ast.get_docstring(ROOMS[room]) or "").split("\n\n")[0].replace("\n", " ")
    row = f"| `{room.removeprefix('kit.')}` | {says} |"
    assert row in (HOME / "docs" / "kit.md").read_text().splitlines(), f"docs/kit.md: {row}"
