"""Lists page by page: sorted, counted if asked, with a link to the next page (RFC 8288)."""

from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

import pydantic
from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlmodel import Field, Session, col, func
from sqlmodel.sql.expression import SelectOfScalar

from kit.fields import MAX_INT, PLAIN, Count, Id
from kit.ownership import only_own
from kit.problems import invalid
from kit.tables import Entity
from kit.transactions import transaction_of

T = TypeVar("T")
M = TypeVar("M", bound=Entity)


class NumberedPage(BaseModel, Generic[T]):
    """One page of a list whose pages are numbered from 1."""

    items: list[T]
    total: int
    page: int
    page_size: int
    total_pages: int
    has_next: bool
    has_previous: bool


class Skipping(BaseModel):
    """The query parameters of a list: which rows, and whether to count them all."""

    skip: Count = pydantic.Field(0, description="How many rows to leave out.")
    limit: Annotated[int, Field(ge=1, le=100), PLAIN] = pydantic.Field(
        20, description="How many rows to give."
    )
    count: bool = pydantic.Field(False, description="Whether to give X-Total-Count.")


class Paging(Skipping):
    """The query parameters of a list that may be sorted by id."""

    after: Annotated[int | None, Field(ge=0, le=MAX_INT), PLAIN] = pydantic.Field(
        None, description="The last id seen: the rows after that one."
    )


def sortable(*names: str) -> Any:
    """The query parameter `sort`: one of these columns, with a `-` for descending."""
    return Query(
        pattern=f"^-?({'|'.join(names)})$",
        description=f"One of {', '.join(names)}; with a `-` in front: descending.",
    )


Paged = Annotated[Paging, Query()]
Skipped = Annotated[Skipping, Query()]


def count_rows(session: Session, query: SelectOfScalar[Any]) -> int:
    counted = query.with_only_columns(func.count(), maintain_column_froms=True)
    return session.scalar(counted) or 0


def page(session: Session, query: SelectOfScalar[M], paging: Skipping, sort: str = "id") -> list[M]:
    """One page of a list; its headers say the total (if asked) and where the next page is.

    Ties are broken by id. The next page of a list sorted by id begins after the last id,
    which costs the same at any depth; of another it is found by skipping.
    """
    model, name = query.column_descriptions[0]["entity"], sort.removeprefix("-")
    column, key, descending = col(getattr(model, name)), col(model.id), sort.startswith("-")
    transaction, query = transaction_of(session), only_own(session, query)
    headers, request = transaction.response.headers, transaction.request
    if paging.count:
        headers["X-Total-Count"] = str(count_rows(session, query))
    if (after := getattr(paging, "after", None)) is not None:
        if name != "id":
            error = invalid(("query", "after"), "Goes only with a list that is sorted by id")
            raise RequestValidationError([error])
        query = query.where(key < after if descending else key > after)
    order = [column.desc() if descending else column] + ([] if name == "id" else [key])
    query = query.order_by(*order).limit(paging.limit + 1)
    rows = list(session.exec(query.offset(paging.skip) if paging.skip else query))
    if len(rows) > paging.limit:
        rows.pop()
        asked: dict[str, Any] = dict(request.query_params)
        if name == "id":
            asked["after"] = rows[-1].id
            asked.pop("skip", None)
        else:
            asked["skip"] = paging.skip + paging.limit
        headers["Link"] = f'<{request.url.replace(query=urlencode(asked))}>; rel="next"'
    return rows


PageNumber = Annotated[Id, Query()]
PageSize = Annotated[int, Query(ge=1, le=100), PLAIN]


def numbered_page(
    session: Session, query: SelectOfScalar[M], page: int, page_size: int
) -> dict[str, Any]:
    """A page by its number, newest first, for those who show page numbers."""
    model, query = query.column_descriptions[0]["entity"], only_own(session, query)
    total = count_rows(session, query)
    newest = query.order_by(col(model.id).desc()).offset((page - 1) * page_size).limit(page_size)
    return {
        "items": session.exec(newest).all(),
        "total": total,
        "page": page,
        "page_size": page_size,
        "total_pages": -(-total // page_size),
        "has_next": page * page_size < total,
        "has_previous": page > 1,
    }
