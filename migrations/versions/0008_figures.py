"""Which request made a thing; what workers count; an index for counting what is settled."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ASKED = ("dataset", "training", "job")


def upgrade() -> None:
    for table in _ASKED:
        op.add_column(table, sa.Column("request_id", sa.String(length=64), nullable=True))
    op.add_column("worker", sa.Column("figures", sa.JSON(), server_default="{}", nullable=False))
    settled = sa.text("state IN ('done', 'failed', 'cancelled')")
    op.create_index("ix_item_settled", "item", ["state"], postgresql_where=settled, sqlite_where=settled)


def downgrade() -> None:
    op.drop_index("ix_item_settled", "item")
    op.drop_column("worker", "figures")
    for table in _ASKED:
        op.drop_column(table, "request_id")
