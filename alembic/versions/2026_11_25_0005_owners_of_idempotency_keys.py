"""Whose an idempotency key is, so that it goes with its user."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = sa.table("idempotency_key", sa.column("user_id"), sa.column("owner_id"))


def upgrade() -> None:
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.add_column(sa.Column("owner_id", sa.Integer(), nullable=True))
    users = sa.select(sa.table("user", sa.column("id")).c.id)
    is_there = KEYS.c.user_id.in_(users)
    op.execute(KEYS.delete().where(KEYS.c.user_id != 0, ~is_there))
    op.execute(KEYS.update().where(is_there).values(owner_id=KEYS.c.user_id))
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_key_owner_id"), ["owner_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_idempotency_key_owner_id"),
            "user",
            ["owner_id"],
            ["id"],
            ondelete="CASCADE",
        )


def downgrade() -> None:
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_idempotency_key_owner_id"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_idempotency_key_owner_id"))
        batch_op.drop_column("owner_id")
