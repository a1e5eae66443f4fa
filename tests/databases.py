"""The databases of the tests: migrated once, copied from then on, and emptied before each test.

They are those in TEST_DATABASE_URLS (separated by commas), or a SQLite file of the tests' own. In
each a test writes to a copy, so every worker of pytest-xdist has a database to itself. All that
is there before is dropped, so their names have to say that they are for tests.
"""

import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

HOME = Path(__file__).parent.parent
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
# One folder for all workers, in memory where there is such a place: the process that starts them
# makes it, and takes it away.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SCRATCH = os.environ.get("TEST_SCRATCH") or tempfile.mkdtemp(prefix="cornershop_test_", dir=MEMORY)
os.environ["TEST_SCRATCH"] = SCRATCH
URLS = [
    url.strip()
    for url in os.environ.get(
        "TEST_DATABASE_URLS", f"sqlite:///{SCRATCH}/cornershop_test.db"
    ).split(",")
]
if not all(
    re.search(r"(^|[_/-])test(s|ing)?([_./-]|$)", str(sa.make_url(u).database)) for u in URLS
):
    pytest.exit(
        "TEST_DATABASE_URLS: a test database needs the word 'test' in its name: shop_test", 4
    )
sys.path.insert(0, str(HOME))
# Neither the settings of this shell nor those in a file `.env` are for the tests.
for name in re.findall(r"^(?:# )?([A-Z_]+)=", (HOME / ".env.example").read_text(), re.MULTILINE):
    os.environ.pop(name, None)
os.environ["DATABASE_URL"] = URLS[0]
with contextlib.chdir(SCRATCH):
    import db

URLS = [str(db.Settings.usual_url(url)) for url in URLS]  # with the drivers' names in them


def kind_of(url: str) -> str:
    """`sqlite`, `postgresql`, `mysql` or `mariadb`."""
    return sa.make_url(url).get_backend_name()


SERVERS = [url for url in URLS if kind_of(url) != "sqlite"]
# Where it has to be SQLite, or does not matter, there is one, whether it is named or not.
SQLITE = next((u for u in URLS if u not in SERVERS), f"sqlite+pysqlite:///{SCRATCH}/any_test.db")


def named_as(url: str) -> str:
    """The URL of the same kind that the others are named after."""
    return next(named for named in [*URLS, SQLITE] if kind_of(named) == kind_of(url))


def beside(url: str, name: str, folder: str | Path = SCRATCH) -> str:
    """The URL of a database of the same kind; of SQLite, a file in the folder."""
    parts = sa.make_url(url)
    if kind_of(url) == "sqlite":
        return f"sqlite+pysqlite:///{folder}/{name}_test.db"
    return parts.set(database=f"{parts.database}_{name}").render_as_string(hide_password=False)


def server_of(url: str) -> sa.Engine:
    """The server that a database is on, each statement for itself."""
    system = "postgres" if kind_of(url) == "postgresql" else ""
    return sa.create_engine(
        sa.make_url(url).set(database=system), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )


def create_database(url: str, template: str = "") -> None:
    """Create a database anew: an empty one, or on PostgreSQL a copy."""
    if kind_of(url) == "sqlite":  # the file creates itself
        return
    engine = server_of(url)
    quote = engine.dialect.identifier_preparer.quote
    name, force = quote(str(sa.make_url(url).database)), ""
    if kind_of(url) == "postgresql":
        force = " WITH (FORCE)"
    like = f" TEMPLATE {quote(str(sa.make_url(template).database))}" if template else ""
    with engine.connect() as connection:
        if like:
            connection.exec_driver_sql(END_USE, (str(sa.make_url(template).database),))
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}{force}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}{like}")


# PgBouncer keeps connections to a template, which nobody may use while it is copied.
END_USE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


def another(url: str, name: str, folder: str | Path = SCRATCH) -> str:
    """The URL of one more database for this worker."""
    return beside(named_as(url), f"{WORKER}_{name}", folder)


def template_of(url: str) -> str:
    return beside(url, "template")


def make_template(url: str) -> None:
    """The one database of its kind that is migrated."""
    template = template_of(url)
    create_database(template)
    before, db.settings.database_url = db.settings.database_url, template
    db.migrations.run()
    db.settings.database_url = before
    empty(sa.create_engine(template, poolclass=sa.NullPool))  # of what a migration has put there


def copy(url: str) -> str:
    """Make a database as the template is: migrated, and empty."""
    template = template_of(named_as(url))
    if kind_of(url) == "sqlite":
        shutil.copyfile(str(sa.make_url(template).database), str(sa.make_url(url).database))
    elif kind_of(url) == "postgresql":
        create_database(url, template)
    else:
        create_database(url)
        copy_tables(template, url)
    return url


def copy_tables(template: str, url: str) -> None:
    """On MariaDB and MySQL, which copy no database by themselves."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    source = str(sa.make_url(template).database)
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        run("SET foreign_key_checks = 0")
        for table in sa.inspect(connection).get_table_names(source):
            run(str(run(f"SHOW CREATE TABLE `{source}`.`{table}`").one()[1]).replace("%", "%%"))
        run(f"INSERT INTO alembic_version SELECT * FROM `{source}`.alembic_version")


@functools.cache
def own_copy(url: str) -> str:
    """The database of this worker, made when it is first needed."""
    return copy(another(url, "app"))


def empty(engine: sa.Engine) -> None:
    """Delete all rows, and have the tables that had some count their ids from 1 again."""
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        names = {str(row[0]) for row in run(WRITTEN[engine.dialect.name])}
        tables = [t for t in reversed(SQLModel.metadata.sorted_tables) if t.name in names]
        if engine.dialect.name == "sqlite":
            run("DELETE FROM sqlite_sequence")
        for table in tables:
            connection.execute(table.delete())
            if engine.dialect.name in RESTART:
                run(RESTART[engine.dialect.name].format(table.name))


# Which tables have given an id since they were last emptied, whether their rows are there or not.
# (Rows without an id, such as links, go with those that they belong to.)
WRITTEN = {
    "sqlite": "SELECT name FROM sqlite_sequence",
    "postgresql": "SELECT replace(sequencename, '_id_seq', '') FROM pg_sequences"
    " WHERE last_value IS NOT NULL",
    "mysql": "SELECT table_name FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND auto_increment > 1",
}
RESTART = {
    "postgresql": """SELECT setval('"{}_id_seq"', 1, false)""",
    "mysql": "ALTER TABLE `{}` AUTO_INCREMENT = 1",
}
for by_kind in (WRITTEN, RESTART):
    by_kind["mariadb"] = by_kind["mysql"]


Rows = list[tuple[sa.Table, list[dict[str, Any]]]]


def dump(engine: sa.Engine) -> Rows:
    """All rows of all tables that have some."""
    with engine.connect() as connection:
        found = [
            (table, [row._asdict() for row in connection.execute(sa.select(*stored(table)))])
            for table in SQLModel.metadata.sorted_tables
        ]
    return [(table, rows) for table, rows in found if rows]


def stored(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if not column.computed]


def load(engine: sa.Engine, dumped: Rows) -> None:
    """Put the rows of a dump into an empty database; ids go on after them."""
    with engine.begin() as connection:
        for table, rows in dumped:
            connection.execute(table.insert(), rows)
            if engine.dialect.name == "postgresql" and "id" in table.columns:
                last = max(row["id"] for row in rows)
                connection.exec_driver_sql(f"""SELECT setval('"{table.name}_id_seq"', {last})""")


def end_all_others(connection: sa.Connection) -> None:
    """End every other connection to this database, as an administrator would."""
    if connection.dialect.name == "postgresql":
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
        )
        return
    others = "db = DATABASE() AND id <> CONNECTION_ID()"
    ids = connection.exec_driver_sql(
        f"SELECT id FROM information_schema.processlist WHERE {others}"
    )
    for (id,) in ids.fetchall():
        with contextlib.suppress(sa.exc.DBAPIError):  # it ended by itself
            connection.exec_driver_sql(f"KILL {id}")
