"""What the first page shows: figures, charts of bars, and tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

Number = int | Decimal


@dataclass
class Chart:
    """Bars, of which each has a label and a value that is not below 0."""

    title: str
    bars: Mapping[Any, Number]  # by their labels
    columns: int = 12  # of the 12 that the page has

    @property
    def axis(self) -> list[float]:
        """A few round numbers, from 0 to the first that no bar is above."""
        highest = float(max(self.bars.values(), default=0))
        whole = all(isinstance(value, int) for value in self.bars.values())
        rough = max(highest / 5, 1 if whole else 0.01)
        power = 10 ** math.floor(math.log10(rough))
        step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
        return [step * n for n in range(max(1, math.ceil(highest / step)) + 1)]


@dataclass
class Table:
    """Rows, of which each leads to a page of the admin, such as "order/details/1"."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]  # where each leads, and its cells
    all: str = ""  # where all of them are, such as "order/list"
    columns: int = 6


@dataclass
class Dashboard:
    """All of it, which is drawn anew on each event of this type in the stream of this route."""

    figures: Mapping[str, Number] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    refresh_on: tuple[str, str] | None = None  # the route, and the type of event


def as_shown(value: Any) -> str:
    """A number with its thousands apart, money with its cents; anything else by its name."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return f"{value:,.10g}" if type(value) in (int, float) else str(value)
