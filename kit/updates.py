"""A changed row, stored by one UPDATE that was built before.

What the ORM does for many rows that depend on one another takes longer than the statement: in which
order they are stored, and which of their columns. So this is for one row, whose columns alone
changed.
"""

import functools
from typing import Any

from sqlalchemy import ClauseElement, Connection, Update, bindparam, inspect, update
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.exc import StaleDataError

from kit.tables import Entity, has_changed


def store_change(connection: Connection, row: Entity) -> bool:
    """Store what was changed in a row; False, and nothing is done, where that is for the ORM.

    What listens for updates is told, and `onupdate` and the version are minded, as by the ORM.
    Raises StaleDataError if the row has another version by now.
    """
    model, state = type(row), instance_state(row)
    made = made_on_update(model)
    if made is None or not may_store(row):
        return False
    state.mapper.dispatch.before_update(state.mapper, connection, state)
    new = {name: row.__dict__[name] for name in [*state.committed_state] if has_changed(row, name)}
    if not new:
        return True
    new = {name: make(None) for name, make in made.items()} | new
    where = {"its_id": row.id}
    if (version := getattr(row, "version", None)) is not None:
        new["version"], where["its_version"] = version + 1, version
    if connection.execute(update_of(model, tuple(sorted(new))), new | where).rowcount != 1:
        raise StaleDataError(f"{model.__name__} {row.id} has changed meanwhile")
    for name, value in new.items():
        set_committed_value(row, name, value)
    state.mapper.dispatch.after_update(state.mapper, connection, state)
    return True


def may_store(row: Entity) -> bool:
    """Whether values of columns alone changed: no relation, no id, and nothing given as SQL."""
    changed, values = instance_state(row).committed_state, row.__dict__
    columns = type(row).__table__.columns.keys()  # type: ignore[attr-defined]
    return changed.keys() <= values.keys() & {*columns} - {"id", "version"} and not any(
        isinstance(values[name], ClauseElement) for name in changed
    )


@functools.cache
def made_on_update(model: Any) -> dict[str, Any] | None:
    """What makes the values of the columns with an `onupdate`; None where the database makes any.

    Or where the rows of the model are in several tables.
    """
    columns = model.__table__.columns
    if len(inspect(model).tables) > 1 or any(c.computed or c.server_onupdate for c in columns):
        return None
    made = {c.key: c.onupdate for c in columns if c.onupdate is not None}
    simple = all(default.is_callable for default in made.values())
    return {name: default.arg for name, default in made.items()} if simple else None


@functools.lru_cache(500)
def update_of(model: Any, names: tuple[str, ...]) -> Update:
    """The UPDATE of these columns of the row with `its_id`, if it has `its_version` still."""
    table = model.__table__
    statement = update(table).where(table.c.id == bindparam("its_id"))
    if "version" in names:
        statement = statement.where(table.c.version == bindparam("its_version"))
    return statement.values({name: bindparam(name) for name in names})
