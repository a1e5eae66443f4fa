"""Filling an empty database with many made-up rows, with progress bars: all of them or none."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import Connection, func, insert
from sqlmodel import Session, SQLModel, select

from kit.database import Database
from kit.tables import Entity

BATCH = 1000  # rows
COLUMNS = (
    TextColumn("{task.description:>15}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)
Total = Annotated[int, typer.Option(min=0)]


class Filling:
    """Inserts rows in batches, and shows how far it has come."""

    def __init__(self, session: Session, progress: Progress) -> None:
        self.session, self.progress = session, progress

    def __call__(
        self, table: type[SQLModel], total: int | None, rows: Iterable[dict[str, Any]]
    ) -> None:
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


def is_empty(connection: Connection) -> bool:
    """Whether no table of the models has a row: a look at one of each."""
    tables = SQLModel.metadata.sorted_tables
    return not any(connection.execute(table.select().limit(1)).first() for table in tables)


@contextmanager
def filling(database: Database) -> Iterator[Filling]:
    """Commit what was filled in; end the process if there are rows already."""
    with Session(database.writer.engine) as session, Progress(*COLUMNS) as progress:
        if not is_empty(session.connection()):
            sys.exit("This database has data already; the demo fills an empty one.")
        yield Filling(session, progress)
        if session.get_bind().dialect.name == "postgresql":
            # Or it would go by what the tables had been (its manual, "Populating a Database").
            session.connection().exec_driver_sql("ANALYZE")
        session.commit()
