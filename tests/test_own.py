"""docs/own.md is true: sections are taken out of a copy as it says, and the rest is tested."""

import ast
import re
from pathlib import Path

import pytest
from databases import HOME
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


def take_out(copy: Path, titles: str, entities: str, told: str) -> None:
    """What the page says of these sections: their parts, classes, tests, and lines elsewhere."""
    whole = {*re.findall(r"`(\w+)`", told.partition("Whole: ")[2])}
    whole |= {f"{entity}Admin" for entity in entities.split()}
    for name in ("main.py", "models.py"):
        code = (copy / name).read_text()
        for title in titles.split():
            code = without_section(code, title)
        code = without_names(code, whole)
        for diff in blocks(told, "diff") if name == "main.py" else []:
            code = changed(code, diff)
        (copy / name).write_text(code)
    for title in titles.split():
        (copy / "tests" / f"test_{title.lower()}.py").unlink()


SECTIONS = [
    ("Posts and tags", "Posts Tags", "Post Tag"),
    ("Accounts, transfers and payments", "Accounts Transfers Payments", "Account Transfer Payment"),
]


@pytest.mark.parametrize("count", [1, 2], ids=["posts and tags", "money too"])
def test_sections_are_taken_out_as_the_page_says(tmp_path: Path, count: int) -> None:
    if {("GET", "/posts/"), ("GET", "/accounts/")} - {*OPERATIONS}:
        return  # somebody did just that, here
    copy = copy_of_the_project(tmp_path / "shop")
    env = virtual_environment(copy)
    for heading, titles, entities in SECTIONS[:count]:
        take_out(copy, titles, entities, section(heading, PAGE))
    commands = blocks(section("Take a section out", PAGE), "sh")[0].splitlines()
    run([*commands, "make check"], copy, env)
    assert (HOME / "main.py").read_text() != (copy / "main.py").read_text()
