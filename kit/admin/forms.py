"""Forms that are made of what routes take as their bodies, and say at a field what is wrong there.

Each sends along the token of `log_in.FormTokens`, and the version of the row that it edits.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, get_args

import wtforms
from pydantic import MISSING, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from sqladmin.ajax import QueryAjaxModelLoader
from sqladmin.fields import AjaxSelectField, AjaxSelectMultipleField

from kit.admin.log_in import current, form_token
from kit.problems import sentence_of

B = TypeVar("B", bound=BaseModel)


class BodyForm(wtforms.Form):
    """A form for a body; an edit sends the row's version as well."""

    body: ClassVar[type[BaseModel]]

    csrf_token = wtforms.HiddenField(default=form_token)
    version = wtforms.HiddenField()

    def validate(self, extra_validators: Any = None) -> bool:
        if current.get().state.is_draft:  # to be shown again, and saved with the next click
            return False
        is_valid = bool(super().validate(extra_validators))
        try:
            body_of(self.body, self.data)
        except ValidationError as error:
            for e in error.errors(include_input=False, include_url=False):
                wrong = self._fields[str(next(iter(e["loc"] or self.body.model_fields)))]
                wrong.errors = [*wrong.errors, sentence_of(e)]
            return False
        return is_valid


def body_of(body: type[B], sent: Mapping[str, Any]) -> B:
    """The body for what a form has sent: an empty field is a null, or was left out."""
    values: dict[str, Any] = {}
    for name, info in body.model_fields.items():
        value, (kind, may_be_null) = sent.get(name), kind_of(info)
        value = sorted(value) if isinstance(value, set) else value  # of ids
        value = value.replace("\r\n", "\n") if isinstance(value, str) else value  # as forms send
        if value not in ("", None):
            values[name] = value
        elif may_be_null:
            values[name] = None
        elif info.is_required() or (info.default is MISSING and kind is not SecretStr):
            values[name] = ""
    return body.model_validate(values)


def kind_of(info: FieldInfo) -> tuple[Any, bool]:
    """The type of a field, without None, and whether it may be None."""
    types = get_args(info.annotation)
    if type(None) not in types:
        return info.annotation, False
    return next(kind for kind in types if kind is not type(None)), True


def field_for(info: FieldInfo, label: str, look_up: QueryAjaxModelLoader | None) -> Any:
    """What to enter a field of a body with."""
    kind, may_be_null = kind_of(info)
    look: dict[str, Any] = {"render_kw": {"class": "form-control"}}
    if look_up and look_up.name.endswith("_ids"):
        return AjaxSelectMultipleField(look_up, label, **look)
    if look_up:
        return AjaxSelectField(look_up, label, allow_blank=may_be_null, **look)
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
