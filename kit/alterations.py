"""A table that a migration alters keeps all else that it has: Alembic's operations, made whole.

SQLite alters little: there a table is built anew ("batch mode"; SQLite, "ALTER TABLE", section 7)
from what SQLAlchemy reads of it, which is not all. MariaDB and MySQL take what an ALTER does not
say of a column for unwanted.
"""

import re
from collections.abc import Collection
from typing import Any, cast

import sqlalchemy as sa
from alembic.ddl.mysql import MariaDBImpl, MySQLImpl
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.ddl.sqlite import SQLiteImpl
from alembic.operations import Operations, ops, toimpl
from alembic.operations.batch import ApplyBatchImpl
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.util.langhelpers import find_matching_paren

TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
# What goes with a table when it is dropped. (What UNIQUE makes by itself has no SQL.)
BESIDE = (
    "SELECT type, name, sql FROM sqlite_master"
    " WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL"
)
LAST_ID = "SELECT seq FROM sqlite_sequence WHERE name = ?"


class SQLite(SQLiteImpl):
    """What Alembic does on SQLite; it takes the place of Alembic's own."""

    __dialect__ = "sqlite"

    def run(self, sql: str, *values: Any) -> sa.CursorResult[Any]:
        return cast(sa.Connection, self.connection).exec_driver_sql(sql, values)

    def part_of(self, table: str, column: str, word: str) -> str:
        """The SQL that made a table, from behind a word in the definition of a column."""
        sql = str(self.run(TABLE, table).scalar())
        name = rf"""["`\[]?{re.escape(column)}["`\]]?"""
        to_word = rf"[(,]\s*{name}\s(?:[^(),]|\([^()]*\))*?\b{word}\b\s*"
        found = re.search(to_word, sql, re.IGNORECASE)
        return sql[found.end() :] if found else ""

    def expression_of(self, table: str, column: str) -> str:
        """What a generated column is made of, as SQLAlchemy takes it."""
        part = self.part_of(table, column, "AS")
        return escaped(part[1 : find_matching_paren(part)]) if part else ""

    def autogen_column_reflect(
        self, inspector: Inspector, table: sa.Table, column_info: dict[str, Any]
    ) -> None:
        """Read of a column what SQLAlchemy does not, or takes for longer than it is."""
        super().autogen_column_reflect(inspector, table, column_info)
        name, type_ = column_info["name"], column_info["type"]
        if "computed" in column_info:
            column_info["computed"]["sqltext"] = self.expression_of(table.name, name)
        if isinstance(type_, sa.String):
            collation = re.match(r'"?(\w+)', self.part_of(table.name, name, "COLLATE"))
            type_.collation = collation and collation[1]

    def prep_table_for_batch(self, batch_impl: ApplyBatchImpl, table: sa.Table) -> None:
        """Before a table is built anew: what the new one would not have is put there, or kept."""
        new = cast(sa.Table, batch_impl.new_table)
        self.rename_columns(table, new)
        dropped = table.columns.keys() - batch_impl.columns.keys()
        self.take_checks(batch_impl, table, new, dropped)
        for column in new.columns:
            if column.computed and column.key in table.columns:
                column.computed.sqltext = sa.text(self.expression_of(table.name, column.name))
                del batch_impl.column_transfers[column.key]["expr"]
        for row in self.run(f"PRAGMA foreign_key_list({table.name!r})").mappings():
            for key in new.foreign_key_constraints:
                if key.name is None and key.columns[0].name == row["from"]:
                    key.onupdate, key.ondelete = row["on_update"], row["on_delete"]
        gone = {index.name for index in table.indexes} - {*batch_impl.indexes}
        kept = [
            row.sql
            for row in self.run(BESIDE, table.name)
            if row.name not in gone
            and not (row.type == "index" and speaks_of(row.sql.partition("(")[2], dropped))
        ]
        batch_impl.indexes.clear()  # which would be made from less than their SQL
        has_last = self.run(TABLE, "sqlite_sequence").scalar()
        last_id = self.run(LAST_ID, table.name).scalar() if has_last else None
        self.memo[batch_impl.temp_table_name] = kept, last_id

    def rename_columns(self, table: sa.Table, new: sa.Table) -> None:
        """Let SQLite do it: it finds a column's name wherever it is, in other tables as well."""
        quote = self.dialect.identifier_preparer.quote
        for key, old in table.columns.items():
            name = new.columns[key].name if key in new.columns else key
            if name != key:
                alter = f"ALTER TABLE {quote(table.name)} RENAME COLUMN"
                self.run(f"{alter} {quote(key)} TO {quote(name)}")
                old.name = name

    def take_checks(
        self, batch_impl: ApplyBatchImpl, table: sa.Table, new: sa.Table, dropped: Collection[str]
    ) -> None:
        """Those of the old table, as they are now, but for those on columns that are dropped."""
        kept = {n for n, c in batch_impl.named_constraints.items() if c in table.constraints}
        checks = {c for c in new.constraints if isinstance(c, sa.CheckConstraint)}
        new.constraints -= {check for check in checks if check.name in kept}
        look = sa.inspect(cast(sa.Connection, self.connection))
        for check in look.get_check_constraints(table.name):
            name, sql = check["name"], check["sqltext"]
            if (name is None or name in kept) and not speaks_of(sql, dropped):
                new.append_constraint(sa.CheckConstraint(escaped(sql), name=name))

    def rename_table(
        self, old_table_name: str, new_table_name: str, schema: str | None = None
    ) -> None:
        if old_table_name not in self.memo:
            super().rename_table(old_table_name, new_table_name, schema)
            return
        kept, last_id = self.memo.pop(old_table_name)
        # Or views and triggers that speak of the old table would be in the way.
        self.run("PRAGMA legacy_alter_table = ON")
        super().rename_table(old_table_name, new_table_name, schema)
        self.run("PRAGMA legacy_alter_table = OFF")
        for sql in kept:
            self.run(sql)
        if last_id is not None:
            self.run("DELETE FROM sqlite_sequence WHERE name = ?", new_table_name)
            self.run("INSERT INTO sqlite_sequence VALUES (?, ?)", new_table_name, last_id)


def escaped(sql: str) -> str:
    """Without what SQLAlchemy would take for a parameter."""
    return sql.replace(":", r"\:")


def speaks_of(sql: str, columns: Collection[str]) -> bool:
    return not {*re.findall(r"\w+", sql)}.isdisjoint(columns)


class PostgreSQL(PostgresqlImpl):
    """What Alembic does on PostgreSQL."""

    __dialect__ = "postgresql"

    def alter_column(self, table_name: str, column_name: str, **what: Any) -> None:
        """Make anew what is generated from a column that gets another type: it has to be."""
        connection, table = (
            cast(sa.Connection, self.connection),
            sa.Table(table_name, sa.MetaData()),
        )
        if what.get("type_") is not None:
            sa.inspect(connection).reflect_table(table, None, resolve_fks=False)
        made = {
            c
            for c in table.columns
            if c.computed and speaks_of(str(c.computed.sqltext), [column_name])
        }
        for column in made:
            self.drop_column(table_name, column)
        super().alter_column(table_name, column_name, **what)
        for column in made:
            self.add_column(table_name, column)
        for constraint in table.constraints:
            if isinstance(constraint, sa.UniqueConstraint) and made & {*constraint.columns}:
                self.add_constraint(constraint)
        for index in table.indexes:
            if made & {*index.columns}:
                self.create_index(index)


class MySQL(MySQLImpl):
    """What Alembic does on MySQL."""

    __dialect__ = "mysql"

    def look(self) -> Inspector:
        return sa.inspect(cast(sa.Connection, self.connection))

    def alter_column(self, table_name: str, column_name: str, **what: Any) -> None:
        """Say all of the column, as it is: MODIFY would undo what it does not say."""
        for column in self.look().get_columns(table_name):
            if column["name"] == column_name and "computed" in column:
                self.alter_generated(table_name, column, **what)
                return
            if column["name"] == column_name:
                default = column["default"]
                what["existing_type"] = column["type"]
                what["existing_nullable"] = column["nullable"]
                what["existing_server_default"] = default and sa.text(escaped(default))
                what["existing_autoincrement"] = column.get("autoincrement")
                what["existing_comment"] = column.get("comment")
        super().alter_column(table_name, column_name, **what)

    def alter_generated(
        self, table: str, column: Any, name: str | None = None, type_: Any = None, **_: Any
    ) -> None:
        """Change the name or type: with Alembic's own it would be generated no more."""
        made, old = column["computed"], column["name"]
        kind = self.dialect.type_compiler_instance.process(type_ or column["type"])
        how = "STORED" if made["persisted"] else "VIRTUAL"
        what = f"{kind} GENERATED ALWAYS AS ({escaped(made['sqltext'])}) {how}"
        self.execute(f"ALTER TABLE `{table}` CHANGE `{old}` `{name or old}` {what}")

    def create_index(self, index: sa.Index, **kw: Any) -> None:
        super().create_index(index, **kw)
        table, names = cast(sa.Table, index.table).name, index.columns.keys()
        look = self.look()
        for other in look.get_indexes(table):
            columns, name = other["column_names"], str(other["name"])
            is_served = names[: len(columns)] == columns and name != index.name
            if is_served and name in {key["name"] for key in look.get_foreign_keys(table)}:
                self.drop_own_index(table, name)

    def drop_index(self, index: sa.Index, **kw: Any) -> None:
        self.leave_indexed(cast(sa.Table, index.table).name, str(index.name))
        super().drop_index(index, **kw)

    def drop_constraint(self, const: sa.Constraint, **kw: Any) -> None:
        table, name = const.table.name, str(const.name)
        self.leave_indexed(table, name)
        super().drop_constraint(const, **kw)
        if isinstance(const, sa.ForeignKeyConstraint):
            self.drop_own_index(table, name)

    def drop_column(self, table_name: str, column: sa.Column[Any], **kw: Any) -> None:
        """With the checks on it, as PostgreSQL does."""
        for check in self.look().get_check_constraints(table_name):
            if speaks_of(check["sqltext"], {column.name}):
                self.execute(f"ALTER TABLE `{table_name}` DROP CONSTRAINT `{check['name']}`")
        super().drop_column(table_name, column, **kw)

    def leave_indexed(self, table: str, name: str) -> None:
        """Where this is the last index that serves a foreign key, give that one of its own."""
        look = self.look()
        indexes = {str(index["name"]): index["column_names"] for index in look.get_indexes(table)}
        indexes["PRIMARY"] = [*look.get_pk_constraint(table)["constrained_columns"]]
        gone = indexes.pop(name, [])
        for found in look.get_foreign_keys(table) if gone else []:
            key, columns = found["name"], found["constrained_columns"]
            serving = [names for names in indexes.values() if names[: len(columns)] == columns]
            if gone[: len(columns)] == columns and not serving:
                parts = [sa.Column(column, sa.Integer) for column in columns]
                sa.Table(table, sa.MetaData(), *parts, index := sa.Index(key, *parts))
                self.create_index(index)

    def drop_own_index(self, table: str, key: str) -> None:
        if self.look().has_index(table, key):
            self.execute(f"DROP INDEX `{key}` ON `{table}`")


class MariaDB(MySQL, MariaDBImpl):
    __dialect__ = "mariadb"


@Operations.implementation_for(ops.AlterColumnOp, replace=True)
def alter_column(operations: Operations, operation: ops.AlterColumnOp) -> None:
    """Change a column, with its type as it is meant in a table: who listens for columns is told."""
    if operation.modify_type is not None:
        column = sa.Column(operation.column_name, operation.modify_type)
        sa.Table(operation.table_name, sa.MetaData(), column)
        operation.modify_type = column.type
    toimpl.alter_column(operations, operation)


def refuse_dangling(ctx: MigrationContext, *_: Any, **__: Any) -> None:
    """Roll back a migration after which rows refer to nothing: SQLite runs it without looking."""
    connection = cast(sa.Connection, ctx.connection)
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA foreign_key_check")
        if bad := {f"{row[0]} to {row[2]}" for row in found}:
            raise sa.exc.SQLAlchemyError(f"rows would refer to nothing: {', '.join(sorted(bad))}")
