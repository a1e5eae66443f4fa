"""Migrations by Alembic: run at the start, and compared with the models.

A change of a model that no migration makes is told in a sentence, at the start and in each 503
that comes of it.
"""

import functools
import logging
from pathlib import Path

import alembic.command
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from kit.database import Database
from kit.driver_errors import NOT_MIGRATED, NotMigratedError

logger = logging.getLogger("kit")
FORGOTTEN = (
    "models.py has a table or column that no migration makes ({}): alembic revision --autogenerate"
)


class Migrations:
    """Those of the folder that has `pyproject.toml`, for a database."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database, self.home = database, home
        self.config = Config(toml_file=home / "pyproject.toml")

    @functools.cached_property
    def newest(self) -> str | None:
        """The newest revision that there is a version of."""
        return ScriptDirectory.from_config(self.config).get_current_head()

    def run(self) -> None:
        """Bring the database to the newest revision. Several may do so at once: one does."""
        alembic.command.upgrade(self.config, "head")

    def check(self, connection: sa.Connection) -> str | None:
        """The revision of the database; NotMigratedError where it is not what the models say."""
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision != self.newest:
            raise NotMigratedError(NOT_MIGRATED)
        if missing := missing_from(connection):
            raise NotMigratedError(FORGOTTEN.format(", ".join(missing)))
        return revision

    def what_is_wrong(self) -> str:
        """In a sentence; "" for nothing, as far as can be seen."""
        try:
            with self.database.writer.engine.connect() as connection:
                self.check(connection)
        except NotMigratedError as error:
            return str(error)
        except sa.exc.SQLAlchemyError:
            return NOT_MIGRATED
        return ""


def missing_from(connection: sa.Connection) -> list[str]:
    """The tables and columns of the models that the database has not: `item.colour`."""
    tables = SQLModel.metadata.tables
    found = sa.inspect(connection).get_multi_columns(filter_names=list(tables))
    missing = list[str]()
    for name, table in tables.items():
        there = {column["name"] for column in found.get((None, name), ())}
        missing += [str(c) for c in table.columns if c.name not in there] if there else [name]
    return missing
