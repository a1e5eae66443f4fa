"""What the page of a row shows below its fields: what refers to it, and how it was changed."""

from typing import Any

from jinja2.filters import do_striptags as striptags
from sqlalchemy import select
from sqlalchemy.orm import selectinload
from sqlmodel import Session

from kit.admin.dashboard import Table
from kit.admin.log_in import current
from kit.history import histories


def panels_of(view: Any, session: Session, id: int) -> list[Table]:
    """All of it: first what the view says itself."""
    referring = [rows_of(other, session, column, id) for other, column in view.referring]
    return [*view.panels(session, id), *referring, *history_of(view, session, id)]


def rows_of(view: Any, session: Session, column: Any, id: int) -> Table:
    """The newest rows of a view that refer to another one by this column."""
    names = view.get_list_columns()
    loads = [selectinload(relation) for relation in view.relations(names)]
    query = view.list_query(current.get()).options(*loads).where(column == id)
    query = query.order_by(view.model.id.desc()).limit(10)
    left_out = {"id", *view.model.named_by, column.key.removesuffix("_id")}
    names = [name for name in names if name not in left_out]
    rows = [
        (f"{view.identity}/details/{row.id}", [row, *(getattr(row, n) for n in names)])
        for row in session.execute(query).unique().scalars()
    ]
    headings = [view.name, *(striptags(view.labels[name]) for name in names)]
    all_of_them = f"{view.identity}/list?{column.key}={id}"
    return Table(view.name_plural, headings, rows, all_of_them, columns=12)


def history_of(view: Any, session: Session, id: int) -> list[Table]:
    """The newest changes of a row, where these are kept."""
    if not (history := histories.get(view.model)):
        return []
    newest = history.newest_of(session, view.model, id)
    people = {change.user_id for change in newest} - {None}
    found = session.scalars(select(view.users).where(view.users.id.in_(people)))
    names = {user.id: str(user) for user in found}
    rows = [
        ("", (each.created_at, each.kind, each.what, names.get(each.user_id, each.user_id)))
        for each in newest
    ]
    return [Table("History", ["Time", "Change", "Fields", "User"], rows, columns=12)]
