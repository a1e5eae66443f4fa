"""docs/own.md is true: sections are taken out of a copy as it says, and the rest is tested."""

import ast
import re
from pathlib import Path

import pytest
from document import OPERATIONS
from test_readme import blocks, copy_of_the_project, run, section, virtual_environment

PAGE = "docs/own.md"
pytestmark = pytest.mark.system


def without_section(code: str, title: str) -> str:
    """The code without the part from this heading to the next one."""
    part = re.search(
        rf"^# {title} -+\n.*?(?=^# [A-Z][\w ]* -+$|\Z)", code, re.MULTILINE | re.DOTALL
    )
    assert part, title
    return code.replace(part[0], "")


def without_names(code: str, names: set[str]) -> str:
    """The code without these functions, classes and constants."""
    lines = code.splitlines(keepends=True)
    for node in reversed(ast.parse(code).body):
        targets = getattr(node, "targets", [node])
        if {getattr(t, "name", getattr(t, "id", "")) for t in targets} & names:
            decorators = getattr(node, "decorator_list", [])
            first = min(part.lineno for part in (node, *decorators))
            lines[first - 1 : node.end_lineno] = []
    return "".join(lines)


def changed(code: str, diff: str) -> str:
    before, after = (
        "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] == sign) for sign in "-+"
    )
    assert code.count(before) == 1, before
    return code.replace(before, after)


def admin_of(code: str, title: str) -> set[str]:
    """The class of a section's pages for the shopkeeper, and the functions in its `routes`."""
    entity = re.sub("s$", "", re.sub("ies$", "y", title))
    found = re.search(rf"^class {entity}Admin\(.*?^    routes = (.*?)$", code, re.M | re.S)
    assert found, entity
    return {f"{entity}Admin", *re.findall(r"\w+", found[1])} - {"None"}


def take_out(copy: Path, titles: str, told: str) -> None:
    """What the page says of these sections: their parts, classes, tests, and lines elsewhere."""
    whole = {*re.findall(r"`(\w+)`", told.partition("Whole: ")[2])}
    code = (copy / "main.py").read_text()
    for title in titles.split():
        code, whole = without_section(code, title), whole | admin_of(code, title)
        (copy / "tests" / f"test_{title.lower()}.py").unlink()
    for diff in blocks(told, "diff"):
        code = changed(code, diff)
    (copy / "main.py").write_text(without_names(code, whole))
    models = (copy / "models.py").read_text()
    for title in titles.split():
        models = without_section(models, title)
    (copy / "models.py").write_text(models)


SECTIONS = [
    ("Posts and tags", "Posts Tags"),
    ("Accounts, transfers and payments", "Accounts Transfers Payments"),
    ("Down to items", "Orders Notifications Products Categories"),
]


@pytest.mark.parametrize("count", [2, 3], ids=["without posts and money", "items alone"])
def test_sections_are_taken_out_as_the_page_says(tmp_path: Path, count: int) -> None:
    if {("GET", "/posts/"), ("GET", "/accounts/"), ("GET", "/orders/")} - {*OPERATIONS}:
        return  # somebody did just that, here
    copy = copy_of_the_project(tmp_path / "shop")
    env = virtual_environment(copy)
    for heading, titles in SECTIONS[:count]:
        take_out(copy, titles, section(heading, PAGE))
    commands = blocks(section("Take a section out", PAGE), "sh")[0].splitlines()
    run([*commands, "make check"], copy, env)
