"""Lists page by page: sorted, counted if asked, with a link to the next page (RFC 8288)."""

import base64
import contextlib
import functools
import hashlib
import operator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, NoReturn, TypeVar, cast
from urllib.parse import urlencode

import pydantic
from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import BigInteger, Integer, and_, bindparam, or_, tuple_
from sqlmodel import Field, Session, col, func
from sqlmodel.sql.expression import SelectOfScalar

from kit.context import path_of
from kit.fields import MAX_INT, NO_NUL, PLAIN, Count, Id, Moment
from kit.loading import model_of
from kit.ownership import only_own
from kit.problems import MisuseError, invalid
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
    cursor: Annotated[str | None, Field(max_length=8000)] = pydantic.Field(
        None, description="From the Link of a list in the same order, where that is not by id."
    )


class Paging(Skipping):
    """The query parameters of a list that may be sorted by id."""

    after: Annotated[int | None, Field(ge=0, le=MAX_INT), PLAIN] = pydantic.Field(
        None, description="The last id seen: the rows after that one, where the order is by id."
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


DIGEST = 6  # bytes


class Place:
    """Where in a list a page begins: after a row of which the Link says what it is sorted by.

    By id that is `after`. By another column it is a `cursor`, of the row's value there and its
    id. It has a digest, so that one that is damaged, or from another list, is no other place.
    """

    def __init__(self, model: type[Entity], sort: str, path: str) -> None:
        self.list, self.name = f"{path} {sort} ", sort.removeprefix("-")
        names = dict.fromkeys((self.name, "id"))
        self.keys = [col(getattr(model, name)) for name in names]
        self.order = [key.desc() if sort.startswith("-") else key for key in self.keys]
        self.past: Any = operator.lt if sort.startswith("-") else operator.gt
        self.kind = values_of(model, self.name)

    def after(self, row: Entity) -> tuple[str, Any]:
        """The query parameter for the page after this row."""
        if self.name == "id":
            return "after", row.id
        return "cursor", self.written((getattr(row, self.name), row.id))

    def written(self, values: tuple[Any, int]) -> str:
        said = self.kind.dump_json(values)
        digest = hashlib.blake2b(self.list.encode() + said, digest_size=DIGEST).digest()
        return base64.urlsafe_b64encode(digest + said).decode().rstrip("=")

    def read(self, cursor: str) -> tuple[Any, int]:
        values = None
        with contextlib.suppress(ValueError):
            values = self.kind.validate_json(base64.urlsafe_b64decode(f"{cursor}==")[DIGEST:])
        if values is None or self.name == "id" or self.written(values) != cursor:
            refuse("cursor", "Goes only with the list, and the sort, whose Link it is from")
        return values

    def parts(
        self, query: SelectOfScalar[M], paging: Skipping, dialect: str
    ) -> list[SelectOfScalar[M]]:
        """Queries for the rows from here on: what one of them finds comes before the next one's.

        Each database has the form that it finds in an index, also among many rows of one value.
        """
        after, by_id = getattr(paging, "after", None), self.keys[-1]
        if after is not None and self.name != "id":
            refuse("after", "Goes only with a list that is sorted by id")
        if paging.cursor is None:
            return [query if after is None else query.where(self.past(by_id, after))]
        value, id = values = self.read(paging.cursor)
        if dialect == "postgresql":
            return [query.where(self.past(tuple_(*self.keys), values))]
        later = self.past(self.keys[0], value)
        tied = and_(self.keys[0] == value, self.past(by_id, id))
        in_turn = [tied, later] if dialect == "sqlite" and not paging.skip else [or_(tied, later)]
        return [query.where(condition) for condition in in_turn]


@functools.lru_cache(1000)
def place_of(model: type[Entity], sort: str, path: str) -> Place:
    return Place(model, sort, path)


@functools.cache
def values_of(model: type[Entity], name: str) -> TypeAdapter[tuple[Any, int]]:
    """A value of a column, of those that every database can compare with it, and an id."""
    column = cast(Any, model).__table__.columns[name]
    if column.nullable:
        raise MisuseError(f"A list cannot be sorted by {column}, which may be null")
    type_, own = getattr(column.type, "impl_instance", column.type), model.model_fields[name]
    most = 2**63 - 1 if isinstance(type_, BigInteger) else MAX_INT
    digits, decimals = getattr(type_, "precision", None), getattr(type_, "scale", None)
    kinds: dict[Any, Any] = {
        int: Annotated[int, Field(ge=-most, le=most)],
        Decimal: Annotated[Decimal, Field(max_digits=digits, decimal_places=decimals)],
        str: Annotated[str, NO_NUL],
        datetime: Moment,
    }
    kind: Any = tuple[kinds.get(own.annotation, own.annotation), Id]  # type: ignore[misc]
    return TypeAdapter(kind)


def refuse(parameter: str, message: str) -> NoReturn:
    raise RequestValidationError([invalid(("query", parameter), message)])


def page(session: Session, query: SelectOfScalar[M], paging: Skipping, sort: str = "id") -> list[M]:
    """One page of a list; its headers say the total (if asked) and where the next page is.

    Ties are broken by id, in the direction of the sort. The next page begins after the last row
    of this one, so whatever comes and goes, the others are seen once; and it costs no more.
    """
    transaction, query = transaction_of(session), only_own(session, query)
    headers, request = transaction.response.headers, transaction.request
    if paging.count:
        headers["X-Total-Count"] = str(count_rows(session, query))
    place = place_of(model_of(query), sort, path_of(request.scope))
    rows = list[M]()
    for part in place.parts(query, paging, session.get_bind().dialect.name):
        if missing := paging.limit + 1 - len(rows):
            part = part.order_by(*place.order).limit(AT_MOST)
            part = part.offset(paging.skip) if paging.skip else part
            rows += session.exec(part, params={"at_most": missing})
    if len(rows) > paging.limit:
        rows.pop()
        sent = request.query_params.multi_items() if request.scope["query_string"] else ()
        asked = [(name, value) for name, value in sent if name not in PLACES]
        query_sent = urlencode([*asked, place.after(rows[-1])])
        headers["Link"] = f'<{request.url.path}?{query_sent}>; rel="next"'
    return rows


AT_MOST = bindparam("at_most", type_=Integer)  # as one parameter, it is built once
PLACES = {"skip", "after", "cursor"}
PageNumber = Annotated[Id, Query()]
PageSize = Annotated[int, Query(ge=1, le=100), PLAIN]


def numbered_page(
    session: Session, query: SelectOfScalar[M], page: int, page_size: int
) -> dict[str, Any]:
    """A page by its number, newest first, for those who show page numbers."""
    model, query = model_of(query), only_own(session, query)
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
