"""An index that knows by itself who spent how much."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = ["user_id", "status", "total_amount"]
    op.create_index(op.f("ix_order_user_id_status_total_amount"), "order", columns)


def downgrade() -> None:
    op.drop_index(op.f("ix_order_user_id_status_total_amount"), "order")
