"""What the pages can do with rows, beside editing and deleting them: the next step of an order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Action:
    """A button on the page of a row, and a choice in the list for several: for all, or for none.

    It calls the function of a route, with these `values` for its parameters. `when` says for
    which rows; what it `asks` has to be answered first.
    """

    label: str
    route: Callable[..., Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    when: Callable[[Any], bool] = bool
    asks: str = ""

    @property
    def name(self) -> str:
        return self.label.lower().replace(" ", "-")
