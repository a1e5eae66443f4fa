"""What becomes of a form: it is saved, and the next page says so, or the form says why not."""

from dataclasses import dataclass
from typing import Any, cast

from fastapi import HTTPException, Request
from pydantic import ValidationError

from kit.admin.calls import RefusedError, call
from kit.admin.forms import BodyForm, body_of, is_picker
from kit.admin.telling import tell
from kit.admin.words import small
from kit.problems import ConflictError

ANYWAY = "Save all the same"  # a button's: on top of what has changed meanwhile


@dataclass
class Changes:
    """Where a row and a form for it differ: the field, what the row says now, what the form."""

    version: int  # of the row by now
    differences: list[tuple[str, str, str]]
    button: str = ANYWAY


async def save(view: Any, request: Request, route: Any, data: dict[str, Any], *ids: int) -> Any:
    """Call the route. What it refuses is said at its field, or else in the RefusedError."""
    try:
        row = await call(view.database, request, route, data, *ids)
    except RefusedError as error:
        raise RefusedError(await explained(view, request, error)) from None
    said = f"{called(view, row)} {'saved' if ids else 'created'}"
    tell(request, said, f"{view.identity}/details/{row.id}")
    return row


def called(view: Any, row: Any) -> str:
    """What a row is, and its name: "Product Teapot"."""
    return str(row) if str(row).startswith(view.name) else f"{view.name} {row}"


def is_stale(error: RefusedError) -> bool:
    return isinstance(error.reason, HTTPException) and error.reason.status_code == 412


async def explained(view: Any, request: Request, error: RefusedError) -> str:
    """What to say at the top of the form, after it is said at its fields what is about them."""
    form: BodyForm = request.state.form
    reason, name = error.reason, small(view.name)
    if "pk" in request.path_params:
        row = await view.get_object_for_edit(request)
        if row is None:
            return f"This {name} has been deleted meanwhile, so nothing is saved"
        if is_stale(error):
            request.state.changes = Changes(row.version, await differences(view, row, form))
            return f"This {name} has changed since the form was loaded, so nothing is saved yet"
    if await say_what_is_gone(form):
        return ""
    if isinstance(reason, ValidationError):  # of a body that a route has made of this one
        form.refuse_all(reason)
        return "\n".join(map(str, form.form_errors))
    if isinstance(reason, ConflictError) and reason.field in form.body.model_fields:
        labels = [small(form[n].label.text) for n in reason.taken if n in form]
        same = " and ".join(f"this {label}" for label in labels)
        told = f"Another {name} has {same}" if same else "This is not there any more"
        form[reason.field].errors = [told]
        return ""
    return str(error)


async def say_what_is_gone(form: BodyForm) -> bool:
    """Say of rows that are chosen in a form if they are not there, or no more; whether one was."""
    is_one_gone, fields = False, cast(Any, form)
    for each in filter(is_picker, fields):
        if all(await chosen(each)):
            continue
        is_one_gone, name = True, small(each.loader.model_admin.name)
        one = f"One {name} of these is" if isinstance(each.data, set) else f"This {name} is"
        each.errors = [f"{one} not there any more: choose another one"]
    return is_one_gone


async def differences(view: Any, row: Any, form: BodyForm) -> list[tuple[str, str, str]]:
    """Where the row and the form differ, as in `Changes`."""
    now = await view.get_form_data_for_edit(row)
    saved, body, found = type(form)(data=now), body_of(form.body, form.data), []
    for name in body.model_fields_set & now.keys():
        had, value = now[name], getattr(body, name)
        if name in view.many:
            had, value = {each.id for each in had}, {*value}
        if had != value:
            found.append((form[name].label.text, await shown(saved[name]), await shown(form[name])))
    return sorted(found)


async def shown(field: Any) -> str:
    """What a field says, in words."""
    if is_picker(field):
        return ", ".join([found.get("text", "") for found in await chosen(field)])
    if isinstance(field.data, bool):
        return "Yes" if field.data else "No"
    return "" if field.data is None else str(field.data)


async def chosen(field: Any) -> list[dict[str, Any]]:
    """The rows that are chosen in a field, by id and name; nothing of one that is not there."""
    data = field.data if isinstance(field.data, set | list) else [field.data] if field.data else []
    look_up = field.loader
    return [
        look_up.format(each) if hasattr(each, "id") else await look_up.format_by_pk(each)
        for each in data
    ]
