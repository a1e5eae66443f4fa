"""Forms that are made of what routes take as their bodies, and say at a field what is wrong there.

Each sends along the token of `log_in.FormTokens`, and the version of the row that it edits.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, cast, get_args, get_origin

import wtforms
from pydantic import MISSING, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from sqladmin.ajax import QueryAjaxModelLoader
from sqladmin.fields import AjaxSelectMultipleField

from kit.admin.log_in import current, form_token
from kit.admin.pickers import LOOK, Picker
from kit.admin.rows_field import RowsField
from kit.admin.words import IN_UTC, TIMES, attributes_of, said, with_article

B = TypeVar("B", bound=BaseModel)
WITHOUT_ZONE = re.compile(r"[0-9-]+[T ][0-9:.]+")  # a time, which is said in UTC


class FieldsForm(wtforms.Form):
    """What to enter a body with, or one of the models that it has a list of."""

    body: ClassVar[type[BaseModel]]

    def __init__(self, *args: Any, **data: Any) -> None:
        super().__init__(*args, **data)
        for name, info in self.body.model_fields.items():
            field, (kind, _) = self[name], kind_of(info)
            known = {"autocomplete": "new-password"} if kind is SecretStr else {}
            if type(field) is wtforms.StringField:
                known = attributes_of(info, kind, field.label.text)
            field.render_kw = {**(field.render_kw or {}), **known}
            if kind in TIMES:
                field.description = field.description or IN_UTC
            always = wtforms.BooleanField, wtforms.SelectField, AjaxSelectMultipleField
            field.flags.required = is_needed(info) and not isinstance(field, always)

    def refuse(self, name: str, error: Any) -> None:
        """Say at a field what is wrong there."""
        field = self[name]
        if is_picker(field) and not error["type"].startswith("too_"):
            field.errors = [f"Choose {what_of(field)}"]
            return
        info = self.body.model_fields[name]
        field.errors = [said(error, info, kind_of(info)[0], field.label.text)]


class BodyForm(FieldsForm):
    """A form for a body; an edit sends the row's version as well."""

    csrf_token = wtforms.HiddenField(default=form_token)
    version = wtforms.HiddenField()

    def validate(self, extra_validators: Any = None) -> bool:
        """Say what is wrong with the body, one sentence for a field, in place of wtforms."""
        current.get().state.form = self
        if current.get().state.is_draft:  # to be shown again, and saved with the next click
            return False
        try:
            body_of(self.body, self.data)
        except ValidationError as error:
            self.refuse_all(error)
            return False
        return True

    def refuse_all(self, error: ValidationError) -> None:
        """Say it at the fields, or at the top what is about none of them."""
        for e in reversed(error.errors(include_url=False)):  # so that the first is what stays
            form, name = self.field_at(e["loc"])
            if name in form.body.model_fields:
                form.refuse(name, e)
            else:
                self.form_errors = [said(e, FieldInfo(), None, "number")]

    def field_at(self, place: Sequence[int | str]) -> tuple["FieldsForm", str]:
        """Where an error is: the form, or a row of it, and the name of the field."""
        name, *inner = place or [""]
        rows = next((field for field in self if field.name == name), None)
        if not (isinstance(rows, RowsField) and len(inner) > 1):
            return self, str(name)
        row = next(iter(rows.rows[int(inner[0]) :]), None)
        return (cast(FieldsForm, row), str(inner[1])) if row else (self, "")


def is_picker(field: Any) -> bool:
    """Whether rows of another list are chosen there."""
    return hasattr(field, "loader")


def what_of(field: Any) -> str:
    """What is chosen in a picker: "a product", "one of the tags"."""
    return field.what if isinstance(field, Picker) else with_article(field.loader.model_admin.name)


def body_of(body: type[B], sent: Mapping[str, Any]) -> B:
    """The body for what a form has sent: an empty field is a null, or was left out."""
    return body.model_validate(values_of(body, sent))


def values_of(body: type[BaseModel], sent: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, info in body.model_fields.items():
        value, (kind, may_be_null) = sent.get(name), kind_of(info)
        if row := row_of(info):
            value = [values_of(row, each) for each in value or ()]
        value = sorted(value) if isinstance(value, set) else value  # of ids
        value = value.replace("\r\n", "\n") if isinstance(value, str) else value  # as forms send
        if kind in TIMES and WITHOUT_ZONE.fullmatch(str(value)):
            value = f"{value}Z"
        if value not in ("", None):
            values[name] = value
        elif may_be_null:
            values[name] = None
        elif is_needed(info):
            values[name] = ""
    return values


def is_needed(info: FieldInfo) -> bool:
    """Whether a field has to be filled in. A password that is not stays as it is."""
    kind, may_be_null = kind_of(info)
    is_asked = info.is_required() or (info.default is MISSING and kind is not SecretStr)
    return is_asked and not may_be_null


def kind_of(info: FieldInfo) -> tuple[Any, bool]:
    """The type of a field, without None, and whether it may be None."""
    types = get_args(info.annotation)
    if type(None) not in types:
        return info.annotation, False
    return next(kind for kind in types if kind is not type(None)), True


def row_of(info: FieldInfo) -> type[BaseModel] | None:
    """The model of which a field has a list, if it does."""
    kind, _ = kind_of(info)
    row = next(iter(get_args(kind)), None) if get_origin(kind) is list else None
    return row if isinstance(row, type) and issubclass(row, BaseModel) else None


def field_for(info: FieldInfo, label: str, look_up: QueryAjaxModelLoader | None) -> Any:
    """What to enter a field of a body with."""
    kind, may_be_null = kind_of(info)
    look: dict[str, Any] = {"render_kw": {"class": "form-control"}}
    if look_up and look_up.name.endswith("_ids"):
        return AjaxSelectMultipleField(look_up, label, render_kw=LOOK)
    if look_up:
        return Picker(look_up, label, allow_blank=may_be_null, render_kw=LOOK)
    if kind is bool:
        look = {"render_kw": {"class": "form-check-input"}}
        return wtforms.BooleanField(label, default=info.default is True, **look)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        choices = [(value, value) for value in kind]
        return wtforms.SelectField(label, choices=choices, render_kw={"class": "form-select"})
    if kind is SecretStr:
        unchanged = "Left empty, it stays as it is." if info.default is MISSING else ""
        return wtforms.PasswordField(label, description=info.description or unchanged, **look)
    longest = max((getattr(m, "max_length", 0) or 0 for m in info.metadata), default=0)
    default = "" if info.is_required() or info.default in (None, MISSING) else info.default
    field_type = wtforms.TextAreaField if longest > 500 else wtforms.StringField
    return field_type(label, default=default, description=info.description or "", **look)
