"""Which request made a thing."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0006"
branch_labels = None
depends_on = None

_ASKED = ("dataset", "training", "job")


def upgrade() -> None:
    for table in _ASKED:
        op.add_column(table, sa.Column("request_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    for table in _ASKED:
        op.drop_column(table, "request_id")
