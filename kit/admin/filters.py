"""What a list can be filtered by: conditions, times, and what its rows refer to."""

import re
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqladmin.filters import StaticValuesFilter
from sqlalchemy import ColumnElement, bindparam, false

from kit.fields import MAX_INT


class ChoiceFilter(StaticValuesFilter):
    """By one of several conditions, of which each has a name: `None_left=Product.stock == 0`."""

    def __init__(self, title: str, **choices: ColumnElement[bool]) -> None:
        self.choices = {name.replace("_", " "): choice for name, choice in choices.items()}
        parameter_name = title.lower().replace(" ", "_")
        super().__init__(parameter_name, [(name, name) for name in self.choices], title)

    async def get_filtered_query(self, query: Any, value: Any, model: Any) -> Any:
        return query.where(self.choices[value]) if value in self.choices else query


class SeveralFilter(StaticValuesFilter):
    """By one value of a column, or by several: `pending,confirmed`."""

    template = "several.html"

    def chosen(self, asked: str | None) -> list[str]:
        known = [value for value, _ in self.values]
        return [value for value in known if value in (asked or "").split(",")]

    def toggled(self, chosen: list[str], value: str) -> str:
        return ",".join(v for v, _ in self.values if (v in chosen) != (v == value))

    async def get_filtered_query(self, query: Any, value: Any, model: Any) -> Any:
        if value in (None, "", "__all"):
            return query
        return query.where(getattr(model, str(self.column)).in_(self.chosen(value)))


def time_filter(title: str, column: Any) -> ChoiceFilter:
    """By how long ago something was."""

    def within(**time: int) -> Any:
        since: Any = bindparam(None, callable_=lambda: datetime.now(UTC) - timedelta(**time))
        return column > since

    past = {"Past_day": within(days=1), "Past_week": within(days=7)}
    return ChoiceFilter(title, **past, Past_30_days=within(days=30))


class RelatedFilter(StaticValuesFilter):
    """By the row of another list that rows refer to."""

    def __init__(self, column: str, title: str, view: Any) -> None:
        super().__init__(column, [], title)
        self.view = view

    async def lookups(self, request: Any, model: Any, run_query: Any) -> list[tuple[str, str]]:
        rows = await self.view.fetch(self.view.list_query(request))
        return [("__all", "All"), *sorted(((str(r.id), str(r)) for r in rows), key=itemgetter(1))]

    async def get_filtered_query(self, query: Any, value: Any, model: Any) -> Any:
        if value == "__all":
            return query
        # What is no id refers to nothing, and is no number for the database.
        is_asked = getattr(model, str(self.column)) == int(value) if is_id(value) else false()
        return query.where(is_asked)


class OneFilter(RelatedFilter):
    """The same, where a link has asked for it: of what rows refer to, there may be very many."""

    async def lookups(self, request: Any, model: Any, run_query: Any) -> list[tuple[str, str]]:
        id = request.query_params.get(self.parameter_name)
        if not is_id(id):
            return []
        query = self.view.list_query(request).where(self.view.model.id == int(id))
        return [(id, str(row)) for row in await self.view.fetch(query)]


def is_id(text: Any) -> bool:
    return bool(re.fullmatch("[0-9]{1,10}", str(text))) and int(text) <= MAX_INT
