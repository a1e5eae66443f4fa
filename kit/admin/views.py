"""An entity's pages: its list, details and forms, which do what its routes do."""

import functools
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Any, ClassVar, cast

import wtforms
from fastapi import HTTPException, Request
from markupsafe import Markup
from pydantic import BaseModel
from sqladmin import ModelView
from sqladmin.filters import BooleanFilter
from sqlalchemy import Integer, or_, select
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import aliased, selectinload
from sqlmodel import Session

from kit.admin.actions import Action
from kit.admin.calls import RefusedError, body_type
from kit.admin.dashboard import as_shown
from kit.admin.filters import OneFilter, RelatedFilter, SeveralFilter, TimeFilter, is_id
from kit.admin.forms import BodyForm, FieldsForm, field_for, kind_of, row_of
from kit.admin.log_in import current
from kit.admin.panels import panels_of
from kit.admin.pickers import LookUp
from kit.admin.rows_field import RowsField
from kit.admin.saving import ANYWAY, called, save
from kit.admin.words import small
from kit.context import path_of
from kit.database import Database
from kit.fields import MoneyType
from kit.files import TableFile
from kit.search import contains
from kit.tables import Versioned

NUMBER = Markup('<span class="number">{}</span>')
LONG = Markup('<span class="long">{}</span>')
# A whole number may be an id, which is shown as it is; one that is not stands to the right.
FORMATS: dict[type, Any] = dict.fromkeys((NoneType, bool, datetime, Decimal, float), as_shown)


def in_list(text: str) -> str:
    return LONG.format(text) if len(text) > 50 else text


def number_in_list(row: Any, name: str) -> str:
    return NUMBER.format(as_shown(getattr(row, name)))


def number_in_details(row: Any, name: str) -> str:
    return as_shown(getattr(row, name))


class AdminView(ModelView):
    """An entity's pages. Its forms send what its routes take, and do what its routes do.

    `routes` are the functions to create, to update and to delete a row, or None where that is
    not done; `may_delete` says of which rows it is. `actions` are what else can be done with one.
    Where one is chosen, `beside` says of it what stands beside its name. Of the fields of a form
    those in `first_fields` come first.
    `column_filters` are columns, or filters. A relation that `details` names is shown with the
    row, and so are the tables that `panels` gives for its id; below these are the newest rows of
    other pages that refer to it. With a `file` the list can be exported and imported. What
    `column_...` means beside these is in sqladmin's manual.
    """

    routes: ClassVar[tuple[Any, Any, Any]] = None, None, None
    actions: ClassVar[Sequence[Action]] = ()
    beside: ClassVar[Any] = staticmethod(lambda row: "")
    first_fields: ClassVar[Sequence[str]] = ()
    details: ClassVar[Collection[str]] = ()
    may_delete: ClassVar[Any] = staticmethod(bool)
    panels: ClassVar[Any] = staticmethod(lambda session, id: [])
    file: ClassVar[TableFile | None] = None
    column_filters: ClassVar[Any] = ()
    column_default_sort = ("id", True)
    create_template = edit_template = "form.html"
    page_size = 20
    page_size_options: ClassVar[list[int]] = [20, 50, 100]
    can_export = False
    column_type_formatters: ClassVar[dict[type, Any]] = {**FORMATS, str: in_list}
    column_type_formatters_detail = FORMATS

    def __init__(self) -> None:
        self.mapper = inspect_model(cast(Any, self.model))
        self.labels, in_list, in_details = {}, dict[str, Any](), dict[str, Any]()
        for name in [*self.mapper.attrs.keys(), *self.column_list, *self.details]:
            self.labels[str(name)] = self.label(str(name))
        for column in self.mapper.columns:
            is_number = isinstance(column.type, Integer | MoneyType)
            if is_number and not (column.foreign_keys or column.primary_key):
                self.labels[column.name] = NUMBER.format(self.labels[column.name])
                in_list[column.name], in_details[column.name] = number_in_list, number_in_details
        for name in {*map(str, self.column_list)} & {*cast(Any, self.model).named_by}:
            in_list[name] = self.link_in_list
        vars(self).update(  # for sqladmin, which reads them now
            column_formatters=in_list | {**self.column_formatters},
            column_formatters_detail=in_details | {**self.column_formatters_detail},
            column_sortable_list=[n for n in self.column_list if n in self.mapper.columns],
        )
        super().__init__()
        for flag, route in zip(("can_create", "can_edit", "can_delete"), self.routes, strict=True):
            setattr(self, flag, route is not None)

    def connect(self, database: Database, users: Any, views: Iterable["AdminView"]) -> None:
        """Have pages link to these, and look up in them what fields such as tag_ids name."""
        self.database, self.users = database, users
        self.by_model = {view.model: view for view in views}
        by_table, found = {view.mapper.local_table: view for view in views}, {}
        for column in self.mapper.columns:
            for key in column.foreign_keys:
                found[column.name] = by_table.get(key.column.table)
        self.many: dict[str, str] = {}  # by such a field: the relation
        for relation in self.mapper.relationships:
            view = by_table.get(relation.target)
            if not view:
                for column in relation.target.columns:  # of rows that are entered with this one
                    for key in column.foreign_keys:
                        found.setdefault(column.name, by_table.get(key.column.table))
            elif relation.uselist:
                name = f"{view.identity.replace('-', '_')}_ids"
                found[name], self.many[name] = view, relation.key
        self.look_ups = {name: LookUp(name, view) for name, view in found.items() if view}
        self.referring = [
            (view, column)
            for view in by_table.values()
            for column in view.mapper.columns
            if any(key.column.table is self.mapper.local_table for key in column.foreign_keys)
        ]
        self.filters = [self.filter_for(each) for each in self.column_filters]
        self.link_filters = [
            OneFilter(name, self.label(name), view)
            for name, view in found.items()
            if view and name in self.mapper.columns and name not in self.column_filters
        ]
        self.new_by = self.only_needed()

    def only_needed(self) -> str | None:
        """The one field that a new row needs, if that is what it is called by."""
        infos = body_type(self.routes[0]).model_fields if self.can_create else {}
        needed = [name for name, info in infos.items() if info.is_required()]
        is_name = len(needed) == 1 and needed[0] in cast(Any, self.model).named_by
        return needed[0] if is_name else None

    def filter_for(self, column: Any) -> Any:
        if not isinstance(column, str):
            return column
        title, (kind, _) = self.label(column), kind_of(cast(Any, self.model).model_fields[column])
        if look_up := self.look_ups.get(column):
            return RelatedFilter(column, title, look_up.view)
        if kind is datetime:
            return TimeFilter(title.removesuffix(" at"), getattr(self.model, column))
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return SeveralFilter(column, [(value, value) for value in kind], title)
        return BooleanFilter(column, title)

    def label(self, name: str) -> str:
        """What a field is called: "Category" for category_id, "Tags" for tag_ids."""
        if label := self.column_labels.get(name):
            return label
        name = f"{name.removesuffix('_ids')}s" if name.endswith("_ids") else name
        return "ID" if name == "id" else name.removesuffix("_id").replace("_", " ").capitalize()

    # Lists and details

    def url_of(self, row: Any, page: str = "details") -> Any:
        """A page of a row, if rows like it have any; its own list is found there as it was left."""
        view, request = self.by_model.get(type(row)), current.get()
        if not view:
            return ""
        url = request.url_for(f"admin:{page}", identity=view.identity, pk=row.id)
        return url.replace(query=request.url.query) if view is self else url

    def link_in_list(self, row: Any, name: str) -> str:
        link = Markup('<a href="{}">{}</a>')
        return link.format(self.url_of(row), in_list(str(getattr(row, name))))

    def get_filters(self) -> list[Any]:
        asked = current.get().query_params
        return [*self.filters, *(f for f in self.link_filters if f.parameter_name in asked)]

    def get_details_columns(self) -> list[str]:
        fields = cast(Any, self.model).model_fields
        relations = {f"{name}_id": name for name in self.mapper.relationships.keys()}  # noqa: SIM118
        names = [relations.get(name, name) for name in fields if not fields[name].exclude]
        return [*names, *self.details]

    def list_query(self, request: Request) -> Any:
        return self.with_names(super().list_query(request), self.get_list_columns())

    def form_details_query(self, request: Request) -> Any:
        return self.with_names(super().form_details_query(request), self.get_details_columns())

    def with_names(self, query: Any, columns: Iterable[str] = ()) -> Any:
        """The query, which also loads what its rows, and those in these columns, are called by."""
        own = [selectinload(relation) for relation in called_by(self.model)]
        for relation in self.relations(columns):
            names = called_by(relation.property.mapper.class_)
            own += [selectinload(relation).joinedload(name) for name in names]
        return query.options(*own)

    def relations(self, columns: Iterable[Any]) -> list[Any]:
        """Those of these columns that are rows of others."""
        return [getattr(self.model, n) for n in columns if n in self.mapper.relationships]

    def sort_query(self, stmt: Any, request: Request) -> Any:
        return super().sort_query(stmt, request).order_by(cast(Any, self.model).id)

    def search_placeholder(self) -> str:
        """Of several fields of one relation, such as "user.email", its name once."""
        paths = [path.split(".") for path in map(str, self.column_searchable_list)]
        return ", ".join(dict.fromkeys(self.label(path[-2:][0]) for path in paths))

    def search_query(self, stmt: Any, term: str) -> Any:
        found, joined = [], {"": cast(Any, self.model)}
        for path in map(str, self.column_searchable_list):  # such as "account.user.username"
            *relations, name = path.split(".")
            model, place = joined[""], ""
            for relation in relations:
                place, attribute = f"{place}.{relation}", getattr(model, relation)
                if place not in joined:
                    joined[place] = aliased(attribute.property.mapper.class_)
                    stmt = stmt.outerjoin(attribute.of_type(joined[place]))
                model = joined[place]
            found.append(contains(getattr(model, name), term))
        return stmt.where(or_(*found))

    async def details_context(self, request: Request) -> dict[str, Any]:
        id = int(request.path_params["pk"])  # of the row, which has been found
        work = functools.partial(panels_of, self, id=id)
        return {"panels": await self.database.reader.do(request, work)}

    async def check_can_delete(self, request: Request, model: Any) -> bool:
        return await super().check_can_delete(request, model) and self.may_delete(model)

    def actions_for(self, row: Any) -> list[Action]:
        return [action for action in self.actions if action.when(row)]

    # Queries, which run where those of routes do

    async def fetch(self, query: Any) -> list[Any]:
        return [row[0] for row in await self._run_arbitrary_query(query)]

    async def _run_query(self, stmt: Any) -> Any:
        return await self.fetch(stmt)

    async def _run_arbitrary_query(self, stmt: Any) -> Any:
        def run(session: Session) -> Any:
            return session.execute(stmt).unique().all()

        return await self.database.reader.do(current.get(), run)

    def _stmt_by_identifier(self, identifier: str) -> Any:
        if not is_id(identifier):
            raise HTTPException(404)
        return select(self.model).where(cast(Any, self.model).id == int(identifier))

    async def get_object_filepath(self, identifier: str, column_name: str) -> Any:
        raise HTTPException(404)  # no column is a file

    # Forms

    def get_form_columns(self) -> list[str]:
        return []  # see scaffold_form

    async def scaffold_form(self, rules: Any = None) -> type[wtforms.Form]:
        body = body_type(self.routes["/edit/" in path_of(current.get().scope)])
        return type("Form", (BodyForm,), {"body": body, **self.fields_of(body)})

    def fields_of(self, body: type[BaseModel]) -> dict[str, Any]:
        """What to enter a body with, or one of the models that it has a list of."""
        infos, fields = body.model_fields, {}
        for name in sorted(infos, key=[*self.first_fields, *infos].index):
            label, row = self.label(name), row_of(infos[name])
            if row:
                form = type("Row", (FieldsForm,), {"body": row, **self.fields_of(row)})
                fields[name] = RowsField(form, self, label)
            else:
                fields[name] = field_for(infos[name], label, self.look_ups.get(name))
        return fields

    def form_edit_query(self, request: Request) -> Any:
        loads = [selectinload(getattr(self.model, name)) for name in self.many.values()]
        return self.with_names(super().form_edit_query(request)).options(*loads)

    async def get_form_data_for_edit(self, obj: Any) -> dict[str, Any]:
        many = {name: getattr(obj, relation) for name, relation in self.many.items()}
        return {**obj.model_dump(), "version": getattr(obj, "version", ""), **many}

    def heading(self, row: Any = None) -> str:
        """What a form is about: "New order", "Edit product: Teapot (TEA-1)"."""
        if not row:
            return f"New {small(self.name)}"
        key = str(getattr(row, self.file.key, "")) if self.file and self.file.key else ""
        more = f" ({key})" if key and key.lower() != str(row).lower() else ""
        return f"Edit {small(self.name)}: {row}{more}"

    async def named(self, ids: Sequence[int]) -> str:
        """These rows: "Product Teapot", or "3 products"."""
        if len(ids) > 1:
            return f"{len(ids):,} {small(self.name_plural)}"
        rows = await self.fetch(self.with_names(self._stmt_by_identifier(str(ids[0]))))
        return called(self, rows[0]) if rows else f"{self.name} {ids[0]}"

    async def told(self, error: RefusedError) -> str:
        """What is wrong; of several rows, with which: then nothing is done with any of them."""
        return f"{await self.named([error.id])}: {error}" if error.id else str(error)

    async def insert_model(self, request: Request, data: dict[str, Any]) -> Any:
        return await save(self, request, self.routes[0], data)

    async def update_model(self, request: Request, pk: str, data: dict[str, Any]) -> Any:
        if issubclass(cast(Any, self.model), Versioned):
            sent = await request.form()
            version = sent.get("newest" if sent.get("save") == ANYWAY else "version")
            match = (b"if-match", f'"{version}"'.encode("latin-1", "replace"))
            request = Request({**request.scope, "headers": [*request.scope["headers"], match]})
        return await save(self, request, self.routes[1], data, int(pk))


def called_by(model: Any) -> list[Any]:
    """The relations that the name of a row is made of."""
    relations = inspect_model(model).relationships
    return [getattr(model, name) for name in getattr(model, "named_by", ()) if name in relations]
