"""What a list can be filtered by: conditions, times, and what its rows refer to."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqladmin.filters import StaticValuesFilter
from sqlalchemy import ColumnElement, bindparam, false

from kit.admin.log_in import current
from kit.fields import MAX_INT

PAST = {"day": 1, "week": 7, "30_days": 30}
DAYS = "days"  # what a filter is by, in place of one of its choices
DAY = re.compile("(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}")


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


class TimeFilter(ChoiceFilter):
    """By how long ago something was, or by days: from one, up to another, or both, in UTC."""

    template = "days.html"

    def __init__(self, title: str, column: Any) -> None:
        past = {f"Past_{name}": column > days_ago(days) for name, days in PAST.items()}
        super().__init__(title, **past)
        self.time = column

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day that are asked for; "" for what is none."""
        sent = [*current.get().query_params.getlist(self.parameter_name), "", ""]
        first, last = (day if day_of(day) else "" for day in sent[:2])
        return first, last

    async def lookups(self, request: Any, model: Any, run_query: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = await super().lookups(request, model, run_query)
        first, last = self.days
        return [*found, (DAYS, f"{first} to {last}")] if first or last else found

    async def get_filtered_query(self, query: Any, value: Any, model: Any) -> Any:
        first, last = map(day_of, self.days)
        if first:
            query = query.where(self.time >= first)
        if last:
            query = query.where(self.time < last + timedelta(days=1))
        return await super().get_filtered_query(query, value, model)


def days_ago(days: int) -> Any:
    """That time, whenever a query runs."""
    return bindparam(None, callable_=lambda: datetime.now(UTC) - timedelta(days=days))


def day_of(text: str) -> datetime | None:
    """When a day begins; None for what is no day of these centuries."""
    with suppress(ValueError):
        if DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
    return None


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
