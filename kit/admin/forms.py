"""Forms that are made of what routes take as their bodies, and say at a field what is wrong there.

Each sends along the token of `log_in.FormTokens`, and the version of the row that it edits.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import wtforms
from pydantic import MISSING, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from sqladmin.ajax import QueryAjaxModelLoader
from sqladmin.fields import AjaxSelectMultipleField

from kit.admin.log_in import form_token
from kit.admin.pickers import LOOK, Picker
from kit.admin.rows_field import RowsField
from kit.problems import sentence_of

B = TypeVar("B", bound=BaseModel)


class BodyForm(wtforms.Form):
    """A form for a body; an edit sends the row's version as well."""

    body: ClassVar[type[BaseModel]]

    csrf_token = wtforms.HiddenField(default=form_token)
    version = wtforms.HiddenField()

    def validate(self, extra_validators: Any = None) -> bool:
        is_valid = bool(super().validate(extra_validators))
        try:
            body_of(self.body, self.data)
        except ValidationError as error:
            for e in error.errors(include_input=False, include_url=False):
                wrong = field_at(self, e["loc"] or [*self.body.model_fields][:1])
                wrong.errors = wrong.errors or [sentence_of(e)]
            return False
        return is_valid


def field_at(form: wtforms.Form, place: Sequence[int | str]) -> Any:
    """The field that an error is about."""
    field = form._fields[str(place[0])]
    if isinstance(field, RowsField) and len(place) > 2:
        return field_at(field.rows[int(place[1])], place[2:])
    return field


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
        if value not in ("", None):
            values[name] = value
        elif may_be_null:
            values[name] = None
        elif info.is_required() or (info.default is MISSING and kind is not SecretStr):
            values[name] = ""
    return values


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
