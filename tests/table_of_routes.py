"""The table of routes in the documentation, written from the app: `make docs`."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import kit
import main

HOME = Path(__file__).parent.parent
PAGE = HOME / "docs" / "api.md"
HEAD = "| route | who | what it does |\n|---|---|---|\n"


def rows() -> Iterator[str]:
    """A row for each route, those of a section below its title."""
    who = {
        (method, route.path_format): route.who.replace("public", "anyone")
        for route in main.app.routes
        if isinstance(route, kit.Route)
        for method in route.methods or ()
    }
    sections = defaultdict(list)  # some routes stand in main.py where what they show does
    for path, operations in main.app.openapi()["paths"].items():
        for method, operation in operations.items():
            what = operation["description"].partition("\n\n")[0].replace("\n", " ")
            row = f"| `{method.upper()} {path}` | {who[method.upper(), path]} | {what} |\n"
            sections[operation["tags"][0]].append(row)
    for section, routes in sections.items():
        yield f"| **{section.capitalize()}** | | |\n"
        yield from routes


def with_table(text: str) -> str:
    """The page with its table as it has to be."""
    before, head, rest = text.partition(HEAD)
    after = rest[rest.index("\n\n") + 1 :]
    return f"{before}{head}{''.join(rows())}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
