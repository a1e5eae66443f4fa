"""Fields that choose rows of another list by name, and make one of a name that is new.

A picker offers the newest rows before anything is typed, then those that the search in their own
list would find. What a view says in `beside` stands beside the name of each.
"""

from typing import Any, cast

from fastapi import Request
from sqladmin.ajax import QueryAjaxModelLoader
from sqladmin.fields import AjaxSelectField
from sqlalchemy import select

from kit.admin.filters import is_id
from kit.admin.words import with_article

LONGEST = 200  # characters of what is looked for
LOOK = {"class": "form-control", "data-role": "picker"}  # see static/pickers.js


class LookUp(QueryAjaxModelLoader):
    """Finds the rows of a view that a picker offers."""

    def __init__(self, name: str, view: Any) -> None:
        super().__init__(name, view.model, view, fields=["id"], limit=20)
        self.view = view

    def format(self, model: Any) -> dict[str, Any]:
        more = {"beside": self.view.beside(model)} if model else {}
        return {"id": str(model.id), "text": str(model), **more} if model else {}

    async def format_by_pk(self, pk: Any) -> dict[str, Any]:
        if not is_id(pk):
            return {}
        query = self.view.with_names(select(self.model).where(cast(Any, self.pk) == int(pk)))
        return self.format(next(iter(await self.view.fetch(query)), None))

    async def get_list(self, request: Request, term: str) -> list[Any]:
        query, pk = self.view.list_query(request), cast(Any, self.pk)
        query, order = (self.view.search_query(query, term), pk) if term else (query, pk.desc())
        rows: list[Any] = await self.view.fetch(query.order_by(order).limit(self.limit))
        return rows

    async def choices(self, request: Request, term: str) -> list[dict[str, Any]]:
        """The rows; at the end a new one, where a name is all it needs and no row has this one."""
        term = term.strip()[:LONGEST]
        found = [self.format(row) for row in await self.get_list(request, term)]
        if not (term and self.view.new_by):
            return found
        same: Any = select(self.model).where(getattr(self.model, self.view.new_by) == term)
        if await self.view.fetch(same.limit(1)):
            return found
        url = request.url_for("admin:pick_new", identity=self.view.identity).path
        return [*found, {"id": "new", "text": "New", "url": url}]


class Picker(AjaxSelectField):
    """A field for one row."""

    @property
    def what(self) -> str:
        """What is chosen: "a product"; "an account" where the label is "From account"."""
        label, name = self.label.text.lower(), self.loader.model_admin.name.lower()
        return with_article(name if label.endswith(name) else label)
