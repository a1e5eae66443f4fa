"""Unique values that lines of a file take from rows, whose own lines may give them up later.

What counts is the end. But databases look at each row as it is written, and MariaDB and SQLite
know no other way. So a row whose value another line takes has one that nobody has for a while.
At the end it has its own back, if by then no other row has that; else the lines are told.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from kit.targets import Row, Target, Unique

MOST_DISPLACED = 10_000  # at a time: they are kept in memory

Owners = dict[Any, Any]  # whose a unique value is: the key of the row


@dataclass
class Places:
    """What a batch knows: rows as the database has them, what they become, and whose values are."""

    olds: dict[Any, Row]
    news: dict[Any, Row]  # so far
    owners: dict[Unique, Owners]


class Exchange:
    """The rows that are without a value of theirs for a while."""

    def __init__(self, target: Target, execute: Callable[..., Any]) -> None:
        self.target, self.execute = target, execute
        self.displaced: dict[tuple[Unique, Any], Row] = {}  # by unique and key: the values
        self.moves: dict[Unique, list[Row]] = {}
        self.marks = map(f"{uuid4().hex}{{}}".format, itertools.count())

    def before(self, key: Any, old: Row | None) -> Row | None:
        """A row as it was before others took what it has."""
        for unique in self.target.uniques if old and self.displaced else ():
            old = {**(old or {}), **self.displaced.get((unique, key), {})}
        return old

    def owners(self, unique: Unique, rows: Iterable[Row]) -> Owners:
        asked = {row[unique.asked] for row in rows} - {None}
        found = self.execute(unique.found, {"values": [*asked]}).mappings()
        return {unique.value(row): row["owner"] for row in found}

    def take(self, key: Any, new: Row, places: Places) -> tuple[str, Unique] | None:
        """Make unique values this row's, and nobody else's; or say why not, and which."""
        old = places.olds.get(key)
        for unique, owner in places.owners.items():
            if old and owner.get(before := unique.value(old)) == key:
                del owner[before]
            value, own = unique.value(new), self.displaced.get((unique, key))
            if old and own and unique.value(own) == value:  # not given up: see `put_back`
                new[unique.aside] = old[unique.aside]
                continue
            self.displaced.pop((unique, key), None)
            if value is not None and (other := owner.get(value, key)) != key:
                if not unique.aside:
                    return "Already exists", unique
                if len(self.displaced) >= MOST_DISPLACED:
                    return "Too many lines below this one have to give up what others take", unique
                self.displace(unique, other, new, places)
            if value is not None:
                owner[value] = key
        places.news[key] = new
        return None

    def displace(self, unique: Unique, key: Any, taken: Row, places: Places) -> None:
        mark = None if unique.is_null_aside else next(self.marks)
        self.displaced[unique, key] = {name: taken[name] for name in unique.names}
        self.moves.setdefault(unique, []).append({"row_key": key, "aside": mark})
        for rows in (places.olds, places.news):
            if key in rows:
                rows[key][unique.aside] = mark

    def move(self) -> None:
        """Set aside, in the database, what rows had and lines of this batch take."""
        for unique, moves in self.moves.items():
            self.execute(unique.set_aside, moves)
        self.moves.clear()

    def put_back(self) -> dict[Unique, set[Any]]:
        """Give rows what is theirs; where two rows want the same, say which these are."""
        contested: dict[Unique, set[Any]] = {}
        for unique in self.target.uniques:
            own = {key: row for (u, key), row in self.displaced.items() if u is unique}
            owners = self.owners(unique, own.values()) if own else {}
            for key, row in own.items():
                if (other := owners.setdefault(unique.value(row), key)) != key:
                    contested.setdefault(unique, set()).update((key, other))
            rows = [
                {"row_key": key, **{f"own_{name}": value for name, value in row.items()}}
                for key, row in own.items()
            ]
            if rows and not contested:
                self.execute(unique.put_back, rows)
        return contested
