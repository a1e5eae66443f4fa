"""The migrations: up, down, up, and no difference to the models; by one process of several."""

import datetime
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from databases import HOME, stored
from servers import serving
from sqlmodel import Session, SQLModel, col, select
from test_readme import copy_of_the_project

import db
from models import IdempotencyKey, User

pytestmark = pytest.mark.every_database


@pytest.fixture
def config(new_database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(db.settings, "database_url", db.Settings.usual_url(new_database))
    return db.migrations.config


def tables(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names()) - {"sqlite_sequence"}


def test_up_down_up_and_check(config: Any) -> None:
    alembic.command.upgrade(config, "head")
    assert tables(db.settings.database_url) == {*SQLModel.metadata.tables, "alembic_version"}
    alembic.command.check(config)
    alembic.command.downgrade(config, "base")
    assert tables(db.settings.database_url) == {"alembic_version"}
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)


def test_the_keys_of_who_is_deleted_meanwhile_are_gone_and_others_stay(config: Any) -> None:
    alembic.command.upgrade(config, "head")
    engine = sa.create_engine(db.settings.database_url, poolclass=sa.NullPool)
    with Session(engine) as session:
        for id in (1, 2):
            session.add(User(username=f"u{id}", email=f"u{id}@example.com", password_hash="x"))
        session.flush()
        for id in (0, 1, 2):
            whose: Any = {"user_id": id, "owner_id": id or None}
            session.add(IdempotencyKey(key="k", route="r", fingerprint="x", **whose))
        session.commit()
    alembic.command.downgrade(config, "0004")
    users = sa.table("user", sa.column("id"))
    with engine.begin() as connection:
        connection.execute(users.delete().where(users.c.id == 2))
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)
    with Session(engine) as session:
        found = session.exec(select(IdempotencyKey).order_by(col(IdempotencyKey.id))).all()
        assert [(key.id, key.user_id, key.owner_id) for key in found] == [(1, 0, None), (2, 1, 1)]


def schema(url: str) -> dict[str, Any]:
    """What there is in a database, by the names of its tables."""
    look = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool))
    return {
        name: (
            {
                c["name"]: (str(c["type"]), c["nullable"], c["default"])
                for c in look.get_columns(name)
            },
            {index["name"]: index["column_names"] for index in look.get_indexes(name)},
            {str(unique["name"]) for unique in look.get_unique_constraints(name)},
            {str(key["name"]) for key in look.get_foreign_keys(name)},
            {str(check["name"]) for check in look.get_check_constraints(name)},
        )
        for name in tables(url)
    }


def test_each_downgrade_leaves_the_schema_that_was_there_before(config: Any) -> None:
    script, url = ScriptDirectory.from_config(config), db.settings.database_url
    revisions = [step.revision for step in script.walk_revisions()][::-1]
    before = {}
    for revision in revisions:
        alembic.command.upgrade(config, revision)
        before[revision] = schema(url)
    for revision in reversed(revisions[:-1]):
        alembic.command.downgrade(config, revision)
        assert schema(url) == before[revision], revision


def test_check_finds_a_difference(config: Any) -> None:
    alembic.command.upgrade(config, "head")
    engine = sa.create_engine(db.settings.database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item DROP COLUMN description")
    with pytest.raises(Exception, match="description"):
        alembic.command.check(config)


def test_every_constraint_and_index_has_its_name_from_the_convention(config: Any) -> None:
    alembic.command.upgrade(config, "head")
    inspector = sa.inspect(sa.create_engine(db.settings.database_url, poolclass=sa.NullPool))
    for table in SQLModel.metadata.tables.values():
        unique = {u["name"] for u in inspector.get_unique_constraints(table.name)}
        foreign = {f["name"] for f in inspector.get_foreign_keys(table.name)}
        assert unique == {str(c.name) for c in table.constraints if type(c) is sa.UniqueConstraint}
        assert foreign == {str(c.name) for c in table.foreign_key_constraints}


@pytest.mark.system
def test_processes_that_start_at_once_migrate_once(new_database: str) -> None:
    migrate_at_once(HOME, new_database, str(db.migrations.newest))
    url = db.Settings.usual_url(new_database)
    assert url is not None
    assert tables(url) == {*SQLModel.metadata.tables, "alembic_version"}


def migrate_at_once(home: Path, url: str, revision: str) -> None:
    """In five processes, each of which ends well."""
    command = [sys.executable, str(home / "main.py"), "migrate"]
    env = {**os.environ, "DATABASE_URL": url}
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) for _ in range(5)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"The database is at revision {revision}.\n"


CONCURRENTLY = """
from alembic import op

revision, down_revision = "concurrently", "{newest}"


def upgrade() -> None:
    op.execute("SELECT pg_sleep(3)")  # meanwhile the others come to wait
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY ix_item_own ON item (description)")


def downgrade() -> None:
    op.drop_index("ix_item_own")
"""


@pytest.mark.system
@pytest.mark.every_database("postgresql")
def test_processes_that_start_at_once_do_not_hold_up_an_index_that_one_of_them_makes_concurrently(
    new_database: str, tmp_path: Path
) -> None:
    copy = copy_of_the_project(tmp_path / "shop")
    version = copy / "alembic" / "versions" / "2030_01_01_concurrently.py"
    version.write_text(CONCURRENTLY.format(newest=db.migrations.newest))
    migrate_at_once(copy, new_database, "concurrently")


def test_a_start_without_migrating_leaves_the_database_alone(new_database: str) -> None:
    with serving(new_database, MIGRATE_ON_START="false") as server:
        assert server.get("/health").status_code == 200
        assert server.get("/health/db").status_code == 503
        item = {"title": "Mug", "price": 1}
        for answer in (server.get("/items/1"), server.post("/items/", json=item)):
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith("The database is not at the newest migrat")
        assert tables(db.Settings.usual_url(new_database) or "") == set()


# A user's own versions, on every table.

VERSION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "own", {newest!r}


def upgrade():
{up}


def downgrade():
{down}
"""
Own = Callable[..., Any]
FILLED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def own(own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """`own(up, down)`: the config of a migrated database for which there is a version of one's own.

    Every table has three rows, of ids up to 3, and has had more.
    """
    monkeypatch.setattr(db.settings, "database_url", own_database)
    fill(sa.create_engine(own_database, poolclass=sa.NullPool))

    def config(up: str = "", down: str = "pass") -> Config:
        found = Config(toml_file=HOME / "pyproject.toml")
        for name, value in {
            "script_location": f"{HOME}/alembic",
            "version_locations": f"{HOME}/alembic/versions{os.pathsep}{tmp_path}",
            "path_separator": "os",
        }.items():
            found.set_main_option(name, value)
        if up:
            body = {"newest": db.migrations.newest, "up": indented(up), "down": indented(down)}
            (tmp_path / "own.py").write_text(VERSION.format(**body))
        return found

    return config


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.strip().splitlines())


def fill(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for table in SQLModel.metadata.sorted_tables:
            connection.execute(table.insert(), [row_of(table, n) for n in (1, 2, 3)])
            if "id" in table.columns:
                connection.execute(table.insert(), row_of(table, 9))
                connection.execute(table.delete().where(table.columns["id"] == 9))


def row_of(table: sa.Table, n: int) -> dict[str, Any]:
    """The nth row of a table: each of its columns refers to another row of the first three."""
    keys = [column for column in table.columns if column.foreign_keys]
    row = {column.name: value_of(column, n) for column in stored(table)}
    for place, column in enumerate(keys):
        to_itself = any(key.column.table is table for key in column.foreign_keys)
        row[column.name] = (n - 1) % 3 or None if to_itself else (n + place) % 3 + 1
    return row


def value_of(column: sa.Column[Any], n: int) -> Any:
    kind: Any = getattr(column.type, "impl_instance", column.type)
    if isinstance(kind, sa.Enum):
        return cast(Any, kind.enum_class)(kind.enums[0])
    if isinstance(kind, sa.String):
        return f"{column.name}{n}"[-(kind.length or 20) :]
    if isinstance(kind, sa.DateTime):
        return FILLED + datetime.timedelta(microseconds=n)
    if isinstance(kind, sa.Numeric):
        return Decimal(n) / 4
    return {} if isinstance(kind, sa.JSON) else bool(n) if isinstance(kind, sa.Boolean) else n


def whole(url: str) -> dict[str, Any]:
    """What there is in a SQLite database: as it was written, as SQLite takes it, and the rows."""
    engine, found = sa.create_engine(url, poolclass=sa.NullPool), dict[str, Any]()
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        assert run("PRAGMA foreign_key_check").all() == []
        found["sequence"] = {*run("SELECT name, seq FROM sqlite_sequence").all()}
        for kind, name, sql in run("SELECT type, name, sql FROM sqlite_master").all():
            found[name] = sql
            if kind == "table" and not name.startswith("sqlite_"):
                body = re.sub(r"\s+", " ", sql.partition("(")[2].replace('"', ""))[:-1]
                parts = re.split(r", (?![^()]*\))", body.replace("('')", "''"))
                found[name] = {part.strip() for part in parts}
                for pragma in ("table_xinfo", "foreign_key_list"):
                    rows = run(f"PRAGMA {pragma}({name!r})").all()
                    found[f"{pragma} {name}"] = {
                        row[2:] if pragma[0] == "f" else row for row in rows
                    }
                found[f"rows of {name}"] = run(f'SELECT * FROM "{name}" ORDER BY 1').all()
    return found


@pytest.mark.every_database("sqlite")
@pytest.mark.parametrize("table", sorted(SQLModel.metadata.tables))
def test_a_table_that_is_built_anew_keeps_all_that_it_has(own: Own, table: str) -> None:
    url = db.settings.database_url
    first, *_, last = SQLModel.metadata.tables[table].columns.keys()
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        run = connection.exec_driver_sql
        run(f'CREATE INDEX descending ON "{table}" ({last} DESC, {first}) WHERE {first} > 0')
        run(f'CREATE INDEX of_lower ON "{table}" (lower({last}) COLLATE NOCASE)')
        run(f'CREATE TRIGGER silent AFTER DELETE ON "{table}" BEGIN SELECT 1; END')
        run(f'CREATE VIEW seen AS SELECT {first} FROM "{table}"')
    before = whole(url)
    rebuild = f"with op.batch_alter_table({table!r}, recreate='always'): pass"
    config = own(rebuild, rebuild)
    with pytest.warns(match="expression-based index of_lower"):
        alembic.command.upgrade(config, "head")
    assert whole(url) == {**before, "rows of alembic_version": [("own",)]}
    with pytest.warns(match="expression-based index of_lower"):
        alembic.command.downgrade(config, "-1")
    assert whole(url) == before


# What a version does to a table, up and down.
EXAMPLES = [
    (
        "user",
        'batch_op.alter_column("bio", type_=sa.String(2000))',
        'batch_op.alter_column("bio", type_=sa.String(1000))',
    ),
    (
        "user",
        'batch_op.alter_column("username", type_=sa.String(60))',
        'batch_op.alter_column("username", type_=sa.String(50))',
    ),
    (
        "user",
        'batch_op.alter_column("username_key", type_=sa.String(60))',
        'batch_op.alter_column("username_key", type_=sa.String(50))',
    ),
    (
        "user",
        'batch_op.alter_column("username_key", new_column_name="key", existing_type=sa.Text())',
        'batch_op.alter_column("key", new_column_name="username_key", existing_type=sa.Text())',
    ),
    (
        "user",
        'batch_op.create_unique_constraint("uq_user_full_name", ["full_name"])',
        'batch_op.drop_constraint("uq_user_full_name", type_="unique")',
    ),
    (
        "user",
        'batch_op.alter_column("bio", nullable=False, existing_type=sa.String(1000))',
        'batch_op.alter_column("bio", nullable=True, existing_type=sa.String(1000))',
    ),
    (
        "user",
        'batch_op.create_check_constraint(op.f("ck_user_named"), "username <> \':x\'")',
        'batch_op.drop_constraint(op.f("ck_user_named"), type_="check")',
    ),
    (
        "user",
        'batch_op.alter_column("username", new_column_name="nick", existing_type=sa.String(50))',
        'batch_op.alter_column("nick", new_column_name="username", existing_type=sa.String(50))',
    ),
    (
        "user",
        'batch_op.add_column(sa.Column("rank", sa.Integer(), server_default=sa.text("1")))',
        'batch_op.drop_column("rank")',
    ),
    (
        "user",
        'batch_op.alter_column("version", server_default="2")',
        'batch_op.alter_column("version", server_default="1")',
    ),
    (
        "order",
        'batch_op.alter_column("user_id", nullable=True, existing_type=sa.INTEGER())',
        'batch_op.alter_column("user_id", nullable=False, existing_type=sa.INTEGER())',
    ),
    (  # an amount of money, as a version says it that was made on SQLite
        "product",
        'batch_op.alter_column("price", nullable=True, existing_type=sa.INTEGER())',
        'batch_op.alter_column("price", nullable=False, existing_type=sa.INTEGER())',
    ),
    (
        "product",
        'batch_op.alter_column("created_at", nullable=True, existing_type=sa.DATETIME())',
        'batch_op.alter_column("created_at", nullable=False, existing_type=sa.DATETIME())',
    ),
    (
        "category",
        'batch_op.alter_column("name", type_=sa.String(150))',
        'batch_op.alter_column("name", type_=sa.String(100))',
    ),
]


def state(url: str) -> dict[str, Any]:
    """What there is in a database: its schema, and the rows."""
    if url.startswith("sqlite"):
        return whole(url)
    found, engine = schema(url), sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        for table in SQLModel.metadata.sorted_tables:
            query = sa.select(sa.text("*")).select_from(sa.table(table.name))
            rows = connection.execute(query.order_by(sa.text("1"))).mappings()
            found[f"rows of {table.name}"] = [
                tuple(row[n] for n in sorted(row.keys())) for row in rows
            ]
    return found


def test_a_version_of_ones_own_changes_what_it_says_and_nothing_else(own: Own) -> None:
    url = db.settings.database_url
    before = state(url)
    examples = [example for example in EXAMPLES if example[0] in SQLModel.metadata.tables]
    ups, downs = (
        [f"with op.batch_alter_table({e[0]!r}) as batch_op:\n    {e[way]}" for e in examples]
        for way in (1, 2)
    )
    config = own("\n".join(ups), "\n".join(reversed(downs)))
    alembic.command.upgrade(config, "head")
    during = state(url)
    for table in SQLModel.metadata.tables:
        was, now = before[f"rows of {table}"], during[f"rows of {table}"]
        was = [(*row, 1) if table == "user" else row for row in was]
        assert [sorted(map(repr, row)) for row in was] == [sorted(map(repr, row)) for row in now]
    alembic.command.downgrade(config, "-1")
    after = state(url)
    for what in before:
        assert after[what] == before[what], what
    alembic.command.check(db.migrations.config)


def test_a_version_that_alembic_writes_goes_up_and_down_on_every_table(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, before = own(), state(db.settings.database_url)
    with monkeypatch.context() as patch:
        change_the_models(patch)
        alembic.command.revision(config, "own", autogenerate=True, version_path=str(tmp_path))
        alembic.command.upgrade(config, "head")
        alembic.command.check(config)
    alembic.command.downgrade(config, "-1")
    after = state(db.settings.database_url)
    for what in before:
        assert after[what] == before[what], what


def change_the_models(patch: pytest.MonkeyPatch) -> None:
    """Text may be longer, nearly all may be null, and there is no index."""
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            length: Any = getattr(column.type, "length", None)
            if length and not isinstance(column.type, sa.Enum):
                patch.setattr(column, "type", sa.String(length + 1))
            if not column.primary_key and column.name not in ("version", "stamp"):
                patch.setattr(column, "nullable", True)
        patch.setattr(table, "indexes", set())


@pytest.mark.needs("orders")
def test_a_column_is_dropped_with_the_checks_on_it(own: Own) -> None:
    url = db.settings.database_url
    before, table = state(url), "order_line"
    up = f"with op.batch_alter_table({table!r}) as batch_op: batch_op.drop_column('quantity')"
    alembic.command.upgrade(own(up), "head")
    after = state(url)
    assert [len(row) + 1 for row in after[f"rows of {table}"]] == [
        len(row) for row in before[f"rows of {table}"]
    ]
    assert "quantity" not in str(after[table])
    for what in before:
        if table not in what and "alembic_version" not in what:
            assert after[what] == before[what], what


@pytest.mark.every_database("sqlite")
@pytest.mark.needs("posts", "tags")
def test_a_version_that_leaves_rows_which_refer_to_nothing_is_rolled_back(own: Own) -> None:
    before = whole(db.settings.database_url)
    with pytest.raises(sa.exc.SQLAlchemyError) as refused:
        alembic.command.upgrade(own("op.execute('DELETE FROM tag')"), "head")
    assert str(refused.value) == "rows would refer to nothing: post_tag to tag"
    assert whole(db.settings.database_url) == before


@pytest.mark.every_database("sqlite")
def test_a_generated_column_knows_every_alphabet(own: Own) -> None:
    column = "sa.Column('bio_key', sa.String(50), sa.Computed('lower(bio)', persisted=True))"
    up = f"""
op.execute("UPDATE user SET bio = 'É' || id")
with op.batch_alter_table('user') as batch_op: batch_op.add_column({column})
"""
    alembic.command.upgrade(own(up), "head")
    engine = sa.create_engine(db.settings.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT bio_key FROM user")).all() == ["é1", "é2", "é3"]


@pytest.mark.every_database("sqlite")
def test_a_table_made_by_hand_keeps_all_that_it_has(own: Own) -> None:
    url, key = db.settings.database_url, "REFERENCES user (id) ON DELETE CASCADE ON UPDATE SET NULL"
    columns = f"""
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name VARCHAR(10) COLLATE NOCASE DEFAULT 'a,b',
        twice NUMERIC(14, 2) GENERATED ALWAYS AS (id * (1 + 1)) VIRTUAL,
        text VARCHAR(20) GENERATED ALWAYS AS (name || ' :x)') STORED,
        user_id INTEGER {key},
        CHECK (name <> ' :y' AND (id > 0 OR id < 9))
    """
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE own ({columns})")
        connection.exec_driver_sql("INSERT INTO own (name, user_id) VALUES ('Foo', 1), ('bar', 2)")
    before = whole(url)
    before["own"] ^= {f"user_id INTEGER {key}", "user_id INTEGER", f"FOREIGN KEY(user_id) {key}"}
    rebuild = "with op.batch_alter_table('own', recreate='always'): pass"
    with pytest.warns(match="Unnamed CHECK constraint"):  # which is kept all the same
        alembic.command.upgrade(own(rebuild), "head")
    assert whole(url) == {**before, "rows of alembic_version": [("own",)]}
