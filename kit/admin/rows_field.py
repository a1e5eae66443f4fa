"""A list of small models in a body, as rows of fields that can be added and taken away."""

import re
from typing import Any

import wtforms
from wtforms.utils import unset_value

from kit.admin.log_in import current
from kit.admin.pickers import Picker

NUMBER = re.compile("([0-9]{1,6})-")


class RowsWidget:
    async def __call__(self, field: "RowsField", **look: Any) -> Any:
        template = field.view.templates.env.get_template("rows_field.html")
        return await template.make_module_async({"request": current.get(), "field": field})


class RowsField(wtforms.Field):
    """Each row is a form, whose fields have names such as `items-0-quantity`."""

    widget: Any = RowsWidget()

    def __init__(self, row: type[wtforms.Form], view: Any, label: str, **options: Any) -> None:
        super().__init__(label, **options)
        self.row, self.view = row, view
        self.rows: list[wtforms.Form] = []

    def new_row(self, number: Any = 0, formdata: Any = None, data: Any = None) -> wtforms.Form:
        return self.row(formdata, prefix=f"{self.name}-{number}-", data=data)

    def process(self, formdata: Any, data: Any = unset_value, extra_filters: Any = None) -> None:
        """Take the rows that were sent, without those in which nothing was entered."""
        self.process_errors = []
        if formdata is None:
            given: Any = () if data is unset_value else data or ()
            self.rows = [self.new_row(number, data=each) for number, each in enumerate(given)]
            self.next = len(self.rows) + 1
            return
        start = f"{self.name}-"
        names = [name.removeprefix(start) for name in formdata if name.startswith(start)]
        numbers = sorted({int(found[1]) for found in map(NUMBER.match, names) if found})
        sent = [self.new_row(number, formdata) for number in numbers]
        fresh = entered(self.new_row())
        self.rows = [row for row in sent if any(entered(row)) and entered(row) != fresh]
        self.next = max(numbers, default=0) + 1

    @property
    def what(self) -> str:
        """What a row is about: "a product", by its first picker."""
        return next((each.what for each in self.new_row() if isinstance(each, Picker)), "a row")

    @property
    def data(self) -> list[dict[str, Any]]:
        return [row.data for row in self.rows]


def entered(row: wtforms.Form) -> list[str]:
    return [str(value or "") for value in row.data.values()]
