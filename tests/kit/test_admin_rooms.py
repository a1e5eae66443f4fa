"""What the admin pages do for any table: the axis of a chart, fields and bodies of forms."""

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import pytest
import wtforms
from databases import HOME
from pydantic import MISSING, BaseModel, Field, SecretStr
from sqladmin import Admin, BaseView, ModelView
from sqlalchemy import create_engine
from starlette.applications import Starlette

import kit.admin
from kit.admin.calls import body_type
from kit.admin.dashboard import Chart, as_shown
from kit.admin.filters import is_id
from kit.admin.forms import body_of, field_for


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ([], [0, 1]),
        ([0, 0], [0, 1]),
        ([1], [0, 1]),
        ([3, 5], [0, 1, 2, 3, 4, 5]),
        ([6], [0, 2, 4, 6]),
        ([11], [0, 5, 10, 15]),
        ([439], [0, 100, 200, 300, 400, 500]),
        ([Decimal("4482.10")], [0, 1000, 2000, 3000, 4000, 5000]),
        ([Decimal("0.30")], [0, 0.1, 0.2, 0.3]),
        ([Decimal("99999999.99")], [20_000_000 * n for n in range(6)]),
    ],
)
def test_an_axis_has_a_few_round_numbers_and_no_bar_is_above_it(
    values: list[int | Decimal], axis: list[float]
) -> None:
    found = Chart("Bars", dict(enumerate(values))).axis
    assert [*map(float, found)] == pytest.approx(axis)
    assert found[-1] >= max(values, default=0)
    assert len(found) <= 7


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234, "1,234"),
        (Decimal("1234.5"), "1,234.50"),
        (0.25, "0.25"),
        (20000.0, "20,000"),
        (None, ""),
        ("1234", "1234"),
        (True, "Yes"),
    ],
)
def test_numbers_are_shown_with_their_thousands_apart(value: Any, shown: str) -> None:
    assert as_shown(value) == shown


class Color(StrEnum):
    red = "red"


class Body(BaseModel):
    name: str
    note: Annotated[str | None, Field(max_length=1000)] = None
    count: int = 7
    color: Color = Color.red
    is_new: bool = True
    password: SecretStr = MISSING  # type: ignore[assignment]
    other: str = MISSING  # type: ignore[assignment]
    tag_ids: list[int] = []


def test_an_empty_field_is_a_null_or_was_left_out() -> None:
    sent = {
        "name": "a\r\nb",
        "note": "",
        "count": "",
        "is_new": False,
        "password": "",
        "other": "x",
    }
    body = body_of(Body, sent)
    assert body.model_dump() == {
        "name": "a\nb",
        "note": None,
        "count": 7,
        "color": "red",
        "is_new": False,
        "other": "x",
        "tag_ids": [],
    }
    assert body.model_fields_set == {"name", "note", "is_new", "other"}


def test_what_a_form_cannot_leave_out_is_sent_empty() -> None:
    body = body_of(Body, {"tag_ids": {"2", "1"}})
    assert (body.name, body.other, body.tag_ids) == ("", "", [1, 2])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("name", wtforms.StringField),
        ("note", wtforms.TextAreaField),
        ("count", wtforms.StringField),
        ("color", wtforms.SelectField),
        ("is_new", wtforms.BooleanField),
        ("password", wtforms.PasswordField),
    ],
)
def test_a_field_is_entered_with_what_fits_its_type(name: str, kind: type) -> None:
    field = field_for(Body.model_fields[name], "Label", None)
    assert field.field_class is kind


def test_the_body_of_a_route_is_what_its_data_is() -> None:
    def create_thing(session: Any, data: Body) -> None: ...

    assert body_type(create_thing) is Body


@pytest.mark.parametrize("text", ["", "-1", "1.5", "2147483648", "9" * 5000, "²", "1,2", "x", None])
def test_what_is_no_id_is_none(text: Any) -> None:
    assert not is_id(text)
    assert is_id("12")
    assert is_id("2147483647")


def test_the_private_names_that_are_used_are_listed_and_there() -> None:
    text = str(kit.admin.__doc__).partition("private names")[2]
    listed = {*re.findall(r"\b_[a-z_]+", text)}
    folder = HOME / "kit" / "admin"
    used = set[str]()
    for path in [*folder.rglob("*.py"), *folder.rglob("*.html")]:
        if path.name != "__init__.py":
            used |= {*re.findall(r"(?:\.|\bdef |^ {4})(_[a-z]\w+)\b", path.read_text(), re.M)}
    assert used == listed
    owners: list[Any] = [ModelView, Admin, Admin(Starlette(), create_engine("sqlite://"))]
    for name in listed - {"_admin_ref"}:
        assert any(hasattr(owner, name) for owner in owners), name
    owners[-1].add_view(View)
    assert View._admin_ref is owners[-1]


class View(BaseView):
    name = "View"
