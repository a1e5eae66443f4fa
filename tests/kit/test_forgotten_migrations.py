"""A change of a model that no migration makes is told in a sentence."""

import sys
from pathlib import Path

import pytest
from databases import HOME
from servers import running

SENTENCE = (
    "models.py has a table or column that no migration makes ({}): alembic revision --autogenerate"
)
CHANGES = {
    "item.colour": ("    is_available: StrictBool = True\n", "    colour: str | None = None\n"),
    "colour": (
        "\n# Users ---",
        "\nclass Colour(Versioned, table=True):\n    name: Name\n\n\n# Users ---",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_forgotten_migration_says_so(any_database: str, tmp_path: Path, what: str) -> None:
    before, after = CHANGES[what]
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in ("main.py", "db.py", "pyproject.toml", "alembic", "kit", "templates"):
        if (HOME / name).exists():
            (shop / name).symlink_to(HOME / name)
    models = (HOME / "models.py").read_text()
    assert before in models
    after = after if after.endswith("# Users ---") else before + after
    (shop / "models.py").write_text(models.replace(before, after, 1))
    code = f"import sys; sys.path.insert(0, {str(shop)!r}); import main; main.cli.run(sys.argv[1:])"
    with running(any_database, sys.executable, "-c", code) as process:
        health = process.client.get("/health/db")
        assert (health.status_code, health.json()["detail"]) == (503, SENTENCE.format(what))
        if what == "item.colour":
            items = process.client.get("/items/")
            assert (items.status_code, items.json()["detail"]) == (503, SENTENCE.format(what))
        else:
            assert process.client.get("/items/").status_code == 200
        assert SENTENCE.format(what) in process.logged()
