"""What log-ins need: the stamps of tokens, and failures."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_in_failures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_in_failures")),
        sa.UniqueConstraint("key", name=op.f("uq_log_in_failures_key")),
    )
    with op.batch_alter_table("log_in_failures", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_log_in_failures_updated_at"), ["updated_at"], unique=False
        )

    op.add_column(
        "user", sa.Column("stamp", sa.String(length=16), server_default="", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("user", "stamp")

    op.drop_table("log_in_failures")
