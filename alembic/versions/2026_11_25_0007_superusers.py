"""An index for the few users who are superusers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_user_is_superuser_id"),
        "user",
        ["is_superuser", "id"],
        sqlite_where=sa.text("is_superuser = 1"),
        postgresql_where=sa.text("is_superuser"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_user_is_superuser_id"), "user")
