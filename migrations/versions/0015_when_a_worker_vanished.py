"""When a worker that had an item vanished."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("item", sa.Column("lapsed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("item", "lapsed_at")
