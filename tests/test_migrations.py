"""The migrations: up, down, up, and no difference to the models; by one process of several."""

import os
import subprocess
import sys
from typing import Any

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from databases import HOME
from servers import serving
from sqlmodel import Session, SQLModel, col, select

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
            {column["name"]: str(column["type"]) for column in look.get_columns(name)},
            {index["name"]: index["column_names"] for index in look.get_indexes(name)},
            {str(unique["name"]) for unique in look.get_unique_constraints(name)},
            {str(key["name"]) for key in look.get_foreign_keys(name)},
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
    command = [sys.executable, str(HOME / "main.py"), "migrate"]
    env = {**os.environ, "DATABASE_URL": new_database}
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) for _ in range(5)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"The database is at revision {db.migrations.newest}.\n"
    url = db.Settings.usual_url(new_database)
    assert url is not None
    assert tables(url) == {*SQLModel.metadata.tables, "alembic_version"}


def test_a_start_without_migrating_leaves_the_database_alone(new_database: str) -> None:
    with serving(new_database, MIGRATE_ON_START="false") as server:
        assert server.get("/health").status_code == 200
        assert server.get("/health/db").status_code == 503
        item = {"title": "Mug", "price": 1}
        for answer in (server.get("/items/1"), server.post("/items/", json=item)):
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith("The database is not at the newest migrat")
        assert tables(db.Settings.usual_url(new_database) or "") == set()
