"""The table of routes in the documentation, written from the app: `make docs`."""

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
    section = ""
    for path, operations in main.app.openapi()["paths"].items():
        for method, operation in operations.items():
            if (title := operation["tags"][0].capitalize()) != section:
                section = title
                yield f"| **{section}** | | |\n"
            what = operation["description"].partition("\n\n")[0].replace("\n", " ")
            yield f"| `{method.upper()} {path}` | {who[method.upper(), path]} | {what} |\n"


def with_table(text: str) -> str:
    """The page with its table as it has to be."""
    before, head, rest = text.partition(HEAD)
    after = rest[rest.index("\n\n") + 1 :]
    return f"{before}{head}{''.join(rows())}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
