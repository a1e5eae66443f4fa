"""Filling an empty database with many made-up rows, with progress bars: all of them or none.

The same seed gives the same rows again, on the same day (UTC).
"""

import functools
import heapq
import math
import random
import sys
import tomllib
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate, count, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from slugify import slugify
from sqlalchemy import Connection, func, insert
from sqlmodel import Session, SQLModel, col, select

from kit.database import Database
from kit.fields import now
from kit.tables import Entity

BATCH = 1000  # rows
COLUMNS = (
    TextColumn("{task.description:>15}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)
Total = Annotated[int, typer.Option(min=0)]
Row = dict[str, Any]
CENTS, MORE_CENTS = Decimal("0.50"), Decimal("0.90")
slug_of = functools.cache(slugify)  # of words that come up again and again


class Person(NamedTuple):
    full_name: str
    username: str
    email: str
    address: str


class Filling:
    """Inserts rows in batches, and shows how far it has come.

    They are made up from the `words` of a file, and go back in time from the last midnight.
    """

    def __init__(self, session: Session, progress: Progress, words: Row, seed: int) -> None:
        self.session, self.progress, self.words, self.seed = session, progress, words, seed
        self.today = now().replace(hour=0, minute=0, second=0, microsecond=0)

    def __call__(self, table: type[SQLModel], total: int | None, rows: Iterable[Row]) -> None:
        """Insert the rows, of which there may be another number than the bar is made for."""
        task = self.progress.add_task(f"{table.__tablename__} rows", total=total)
        rows = iter(rows)
        while batch := list(islice(rows, BATCH)):
            self.session.connection().execute(insert(table), batch)
            self.progress.advance(task, len(batch))

    def ids(self, table: type[Entity]) -> range:
        """Those of the rows, which were numbered one after the other."""
        first, last = self.session.exec(select(func.min(table.id), func.max(table.id))).one()
        return range(first, last + 1) if first else range(0)

    def some(self, table: type[Entity], dice: random.Random, *where: Any) -> list[Any]:
        """Rows of a table in no order: many enough, however many there are."""
        query = select(*table.__table__.columns).where(*where)  # type: ignore[attr-defined]
        found = self.session.connection().execute(query.order_by(col(table.id)).limit(10_000)).all()
        return dice.sample(found, len(found))

    def dice(self, part: str) -> random.Random:
        """Those of one part of the rows: the same throws, however often they are asked for."""
        return random.Random(f"{self.seed} {part}")  # noqa: S311

    def ago(self, days: float) -> datetime:
        return self.today - timedelta(days=days)

    def mixed(self, n: int, start: int, *lists: Sequence[Any]) -> tuple[int, list[Any]]:
        """One of each list: in turn n all the combinations come up, then again, in the next lap."""
        total, chosen = math.prod(map(len, lists)), []
        lap, place = divmod(n, total)
        place = (place * stride_of(total) + (self.seed + start) * 104_729) % total
        for words in lists:
            place, at = divmod(place, len(words))
            chosen.append(words[at])
        return lap, chosen

    def person(self, n: int) -> Person:
        """Somebody from one of the `countries`; each n another one."""
        turn, at = divmod(n, len(self.words["countries"]))
        country = self.words["countries"][at]
        lap, (first, last) = self.mixed(turn, at, country["first"], country["last"])
        _, (street, town) = self.mixed(turn, at, country["streets"], country["towns"])
        full_name, number = f"{first} {last}", lap + 1 if lap else ""
        name = f"{slug_of(full_name)}{number}"
        address = country["address"].format(number=turn * 37 % 120 + 1, street=street, town=town)
        return Person(
            full_name,
            name.replace("-", "_"),
            f"{name.replace('-', '.')}@example.com",
            f"{address}, {country['name']}",
        )


@functools.cache
def stride_of(total: int) -> int:
    """How far to go round so many places to come to each of them once."""
    steps = range(int(total * 0.618) + 1, 2 * total + 1)
    return next(step for step in steps if math.gcd(step, total) == 1)


def likely_price(prices: tuple[int, int], part: float) -> Decimal:
    """One such as 4.50, 24.90 or 129.00, so far between the least and the most."""
    price = prices[0] + int((prices[1] - prices[0]) * part)
    if price < 100:
        return Decimal(price) + (CENTS if price < 10 else MORE_CENTS)
    return Decimal((price + 1) // 10 * 10 - 1)


def spread(
    total: int, begin: datetime, days: int, busy: dict[str, list[int]], dice: random.Random
) -> Iterator[datetime]:
    """So many moments in order, within so many days: more and more of them.

    How many by `week` and `day` are weights: of each day from Monday on, and of each hour.
    """
    weights = list[float]()
    for n in range(days):
        weekday = (begin + timedelta(days=n)).weekday()
        weight = (1 + n / days) * busy["week"][weekday] * dice.uniform(0.7, 1.3)
        weights += [weight * hour for hour in busy["day"]]
    ends = [*accumulate(weights)]
    for n in range(total):
        place = (n + dice.random()) / total * ends[-1]
        hour = min(bisect(ends, place), len(ends) - 1)
        yield begin + timedelta(hours=hour + 1 - (ends[hour] - place) / weights[hour])


def favourite(dice: random.Random, rows: Sequence[Any], moment: datetime) -> Any:
    """One of the rows that were there by then, of which there is one: the first ones oftenest."""
    while (row := rows[int(len(rows) * dice.random() ** 1.6)]).created_at > moment:
        pass
    return row


def in_order(groups: Iterable[tuple[datetime, list[Row]]]) -> Iterator[Row]:
    """The rows of all groups by `created_at`.

    With each group comes a moment, before which there is no row in it, nor in those after it.
    """
    waiting, numbers = list[tuple[datetime, int, Row]](), count()
    for moment, rows in groups:
        for row in rows:
            heapq.heappush(waiting, (row["created_at"], next(numbers), row))
        while waiting and waiting[0][0] <= moment:
            yield heapq.heappop(waiting)[-1]
    yield from (row for *_, row in sorted(waiting))


def is_empty(connection: Connection) -> bool:
    """Whether no table of the models has a row: a look at one of each."""
    tables = SQLModel.metadata.sorted_tables
    return not any(connection.execute(table.select().limit(1)).first() for table in tables)


@contextmanager
def filling(database: Database, file: Path, seed: int) -> Iterator[Filling]:
    """Commit what was filled in; end the process if there are rows already.

    The file is TOML.
    """
    try:
        words = tomllib.loads(file.read_text("utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        sys.exit(f"{file} cannot be read: {error}")
    with Session(database.writer.engine) as session, Progress(*COLUMNS) as progress:
        if not is_empty(session.connection()):
            sys.exit("This database has data already; the demo fills an empty one.")
        if session.get_bind().dialect.name == "sqlite":  # whose indexes are else written twice
            session.connection().exec_driver_sql("PRAGMA cache_size = -64000")
        yield Filling(session, progress, words, seed)
        if session.get_bind().dialect.name == "postgresql":
            # Or it would go by what the tables had been (its manual, "Populating a Database").
            session.connection().exec_driver_sql("ANALYZE")
        session.commit()
