"""Unique values that lines of a file take from rows, whose own lines may give them up later.

What counts is the end. But databases look at each row as it is written, and MariaDB and SQLite
know no other way. So a row whose value another line takes has one that nobody has for a while.
At the end it has its own back, if by then no other row has that; else the lines are told.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlmodel import Session

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

    def __init__(self, target: Target, session: Session) -> None:
        self.target, self.session = target, session
        self.displaced: dict[tuple[Unique, Any], Row] = {}  # by unique and key: the values
        self.moves: dict[Unique, list[Row]] = {}
        self.marks = map(f"{uuid4().hex}{{}}".format, itertools.count())

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self.session.connection().execute(statement, parameters)

    def before(self, key: Any, old: Row | None) -> Row | None:
        """A row as it was before others took what it has."""
        for unique in self.target.uniques if old and self.displaced else ():
            old = {**(old or {}), **self.displaced.get((unique, key), {})}
        return old

    def owners(self, unique: Unique, rows: Iterable[Row]) -> Owners:
        asked = {row[unique.asked] for row in rows} - {None}
        found = self.execute(unique.found, {"values": [*asked]}).mappings()
        return {unique.value(row): row["owner"] for row in found}

    def take(self, key: Any, new: Row, places: Places) -> tuple[Unique, str] | None:
        """Make unique values this row's, and nobody else's; or say which not, and why."""
        old, takes = places.olds.get(key), dict[Unique, Any]()
        for unique, owner in places.owners.items():
            value = unique.value(new)
            if old and value is not None and value == self.own_value(unique, key):
                new[unique.aside] = old[unique.aside]  # not given up: see `put_back`
                continue
            takes[unique] = value
            if value is not None and owner.get(value, key) != key:
                if not unique.aside:
                    return unique, "Already exists"
                if len(self.displaced) >= MOST_DISPLACED:
                    return unique, "Too many lines below this one have to give up what others take"
        for unique, value in takes.items():
            owner = places.owners[unique]
            self.displaced.pop((unique, key), None)
            if old and owner.get(before := unique.value(old)) == key:
                del owner[before]
            if value is not None:
                if (other := owner.get(value, key)) != key:
                    self.displace(unique, other, new, places)
                owner[value] = key
        places.news[key] = new
        return None

    def own_value(self, unique: Unique, key: Any) -> Any:
        """What a row had before another took it; None for nothing."""
        own = self.displaced.get((unique, key))
        return unique.value(own) if own else None

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
