"""Where somebody is in the admin, and the way back there: paths below it alone.

A place is what comes after /admin/, such as "product/list?page=2". It is taken from what a browser
says, so it is one of plain names only: with no dots, which lead upwards, and no codes for them.
"""

import re
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import Request

from kit.context import path_of
from kit.problems import allowed_methods

AGAIN = "show-again"  # a parameter of a form, to show again what was entered; a name of no field
ENTERED = f"{AGAIN}=yes"
PLACE = re.compile(r"(?!log(in|out)\b)\w[\w-]*(/[\w-]+)*/?(\?[^#\\\s]*)?", re.ASCII)
LONGEST = 2000


def place_of(request: Request) -> str:
    """The page or form that was asked for; for a button, the page that it is on; "" if unknown."""
    if "GET" not in allowed_methods(request):
        return place_before(request)
    place = path_of(request.scope).removeprefix("/")
    if request.method == "POST":
        return checked(with_query(place, request.url.query, ENTERED))
    if "/export/" in place:  # a file, which leads to no page
        return checked(place.partition("/")[0] + "/list")
    return checked(with_query(place, request.url.query))


def place_before(request: Request) -> str:
    """The page that a request was sent from, if that was another one; "" if unknown."""
    with suppress(ValueError):
        sent = urlsplit(request.headers.get("Referer", ""))
        index, path = request.url_for("admin:index").path, path_of(request.scope)
        if sent.path.startswith(index) and f"/{sent.path.removeprefix(index)}" != path:
            return checked(with_query(sent.path.removeprefix(index), sent.query))
    return ""


def where(request: Request, place: str) -> str:
    """The path of a place; that of the first page for anything else."""
    return f"{request.url_for('admin:index').path}{checked(place)}"


def with_query(place: str, *queries: str) -> str:
    return "?".join(filter(None, [place, "&".join(filter(None, queries))]))


def checked(place: str) -> str:
    return place if len(place) <= LONGEST and PLACE.fullmatch(place) else ""
