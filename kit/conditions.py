"""Conditional requests (RFC 9110, section 13): ETag, If-Match and If-None-Match."""

import re
from collections.abc import Callable
from typing import TypeVar

from fastapi import HTTPException
from sqlmodel import Session

from kit.tables import Entity, Versioned
from kit.transactions import transaction_of

R = TypeVar("R")


def entity_tag(row: Entity) -> str | None:
    return f'"{row.version}"' if isinstance(row, Versioned) else None


def on_condition(session: Session, work: Callable[[], R]) -> R:
    """Do the work if If-Match and If-None-Match hold for the rows that `get_or_404` gave it.

    Looked at last, on the versions from before, so that nobody learns one who is refused the row
    (RFC 9110, section 13.2.1). What is only wrong with the work is not told before a 412.
    """
    asked_for: list[tuple[type[Entity], str | None]] = []
    transaction_of(session).asked_for = asked_for
    try:
        return work()
    except HTTPException as error:
        if error.status_code in (401, 403, 404):
            asked_for.clear()
        raise
    finally:
        for model, tag in asked_for:
            check_conditions(session, model, tag)


def check_conditions(session: Session, model: type[Entity], tag: str | None) -> None:
    """Raise 304 or 412 where If-Match or If-None-Match say so (RFC 9110, section 13.2.2)."""
    request = transaction_of(session).request
    match, none_match = (request.headers.getlist(name) for name in ("If-Match", "If-None-Match"))
    if match and not names_tag(match, tag, weak=False):
        raise HTTPException(412, f"{model.__name__} has changed since; read it again")
    if none_match and names_tag(none_match, tag, weak=True):
        if request.method == "GET":
            raise HTTPException(304, headers={"ETag": tag or ""})
        raise HTTPException(412, f"{model.__name__} is what If-None-Match excludes")


TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
TAGS = re.compile(rf"[ \t,]*{TAG}(?:[ \t]*,[ \t,]*{TAG})*[ \t,]*")


def names_tag(lines: list[str], tag: str | None, *, weak: bool) -> bool:
    """Whether a header names the tag: in a list, or by `*` (RFC 9110, sections 8.8.3 and 13.1).

    One that is not formed as it should be names nothing.
    """
    value = ", ".join(lines).strip(" \t")
    tags = re.findall(TAG, value) if TAGS.fullmatch(value) else []
    return value == "*" or tag in ([t.removeprefix("W/") for t in tags] if weak else tags)
