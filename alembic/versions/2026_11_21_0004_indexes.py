"""Indexes for every filter and every sort of the lists, each with the id; and for searches."""

import logging

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

logger = logging.getLogger("cornershop")

# In this order: a foreign key is never without an index, which MariaDB and MySQL insist on.
ADDED = {
    "account": [("user_id", "id")],
    "category": [("parent_id", "id")],
    "item": [("title", "id"), ("price", "id"), ("is_available", "id")],
    "notification": [("user_id", "id"), ("order_id", "id")],
    "order": [("total_amount", "id"), ("created_at", "id"), ("user_id", "id"), ("status", "id")],
    "payment": [("order_id", "id")],
    "post": [
        ("title", "id"),
        ("created_at", "id"),
        ("view_count", "id"),
        ("author_id", "id"),
        ("status", "id"),
    ],
    "post_tag": [("tag_id", "post_id")],
    "product": [
        ("name", "id"),
        ("price", "id"),
        ("stock_quantity", "id", "is_active"),
        ("created_at", "id"),
        ("category_id", "id"),
        ("is_active", "id"),
    ],
    "transfer": [("from_account_id", "id"), ("to_account_id", "id")],
    "user": [
        ("username", "id"),
        ("created_at", "id"),
        ("is_active", "id"),
        ("updated_at",),
    ],
}
DROPPED = {
    "account": [("user_id",)],
    "category": [("parent_id",)],
    "notification": [("user_id",), ("order_id",)],
    "order": [("created_at",), ("user_id",), ("status",)],
    "payment": [("order_id",)],
    "post": [("author_id",), ("status",)],
    "post_tag": [("tag_id",)],
    "product": [("category_id",)],
    "transfer": [("from_account_id",), ("to_account_id",)],
}
SEARCHED = {
    "item": ["title"],
    "post": ["title"],
    "product": ["name"],
    "user": ["username", "email", "full_name"],
}


def create_indexes(indexes: dict[str, list[tuple[str, ...]]]) -> None:
    for table, columns in ((t, c) for t in indexes for c in indexes[t]):
        few = {}
        if columns[0] in ("is_active", "is_available"):  # of the few rows where it is false
            where = sa.text(f"{columns[0]} = 0"), sa.text(f"NOT {columns[0]}")
            few = dict(zip(("sqlite_where", "postgresql_where"), where, strict=True))
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), **few)


def drop_indexes(indexes: dict[str, list[tuple[str, ...]]]) -> None:
    for table, columns in ((t, c) for t in indexes for c in indexes[t]):
        op.drop_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table)


def create_search_indexes() -> None:
    """Indexes for what is looked for anywhere in a text: of just what `contains` compares."""
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for table, column in ((t, c) for t in SEARCHED for c in SEARCHED[t]):
        text = f"replace(lower({column} COLLATE \"und-x-icu\"), 'ς', 'σ')"  # noqa: RUF001
        op.create_index(
            f"ix_{table}_{column}_trgm",
            table,
            [sa.text(f"({text}) gin_trgm_ops")],
            postgresql_using="gin",
        )
    for table in SEARCHED:  # or it would not know when these indexes are worth it
        op.execute(f'ANALYZE "{table}"')


def upgrade() -> None:
    create_indexes(ADDED)
    drop_indexes(DROPPED)
    if op.get_bind().dialect.name == "postgresql":
        try:
            with op.get_bind().begin_nested():
                create_search_indexes()
        except sa.exc.DBAPIError as error:  # not installed, or not for this role to create
            logger.warning("searches will read whole tables: %s", error.orig)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # the extension may serve others, and stays
        for table, column in ((t, c) for t in SEARCHED for c in SEARCHED[t]):
            op.drop_index(f"ix_{table}_{column}_trgm", table, if_exists=True)
    create_indexes(DROPPED)
    drop_indexes(ADDED)
