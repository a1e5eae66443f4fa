"""What the first page shows: figures, charts of bars, and tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType
from typing import Any

Number = int | Decimal
CENT = Decimal("0.01")


@dataclass
class Chart:
    """Bars, of which each has a label and a value that is not below 0."""

    title: str
    bars: Mapping[Any, Number]  # by their labels
    columns: int = 12  # of the 12 that the page has

    @property
    def axis(self) -> list[Number]:
        """A few round numbers, from 0 to the first that no bar is above: of money if bars are."""
        whole = all(isinstance(value, int) for value in self.bars.values())
        highest = Decimal(max(self.bars.values(), default=0))
        rough = max(highest / 5, Decimal(1) if whole else CENT)
        power = Decimal(10) ** rough.adjusted()
        step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
        numbers = [step * n for n in range(max(1, math.ceil(highest / step)) + 1)]
        return [int(number) for number in numbers] if whole else [*numbers]


@dataclass
class Table:
    """Rows, of which each leads to a page of the admin, such as "order/details/1"."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]  # where each leads, and its cells
    all: str = ""  # where all of them are, such as "order/list"
    columns: int = 6

    @property
    def numbers(self) -> list[bool]:
        """Of each column, whether it holds numbers, which stand to the right."""
        columns = zip(*(cells for _, cells in self.rows), strict=True)
        kinds = ({type(cell) for cell in column} - {NoneType} for column in columns)
        return [bool(found) and found <= {int, Decimal} for found in kinds]


@dataclass
class Dashboard:
    """All of it, which is drawn anew on each event of this type in the stream of this route."""

    figures: Mapping[str, Number] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    refresh_on: tuple[str, str] | None = None  # the route, and the type of event


def as_shown(value: Any) -> str:
    """A value as all pages show it: 1,234 and 1,234.50, 2026-11-26 05:30 UTC, Yes and No."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC) if value.tzinfo else value:%Y-%m-%d %H:%M} UTC"
    if type(value) is int:
        return f"{value:,}"
    return f"{value:,.10g}" if isinstance(value, float) else str(value)
