"""Indexes for the products of a category, and the orders of a status, by another column."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WITHIN = {
    "order": [("status", "total_amount", "id"), ("status", "created_at", "id")],
    "product": [
        ("category_id", "name", "id"),
        ("category_id", "price", "id"),
        ("category_id", "stock_quantity", "id"),
        ("category_id", "created_at", "id"),
    ],
}


def upgrade() -> None:
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        return  # which would read one of these up to a page far inside
    for table, columns in ((t, c) for t in WITHIN for c in WITHIN[t]):
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def downgrade() -> None:
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        return
    for table, columns in ((t, c) for t in WITHIN for c in WITHIN[t]):
        op.drop_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table)
