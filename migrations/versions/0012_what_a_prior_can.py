"""What a prior can, and where it lies."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COLUMNS = ("kind", "path", "channels", "factor", "prompts", "words")


def upgrade() -> None:
    op.add_column("prior", sa.Column("kind", sa.String(length=20), server_default="prior", nullable=False))
    op.add_column("prior", sa.Column("path", sa.String(length=4096), nullable=True))
    op.add_column("prior", sa.Column("channels", sa.Integer(), nullable=True))
    op.add_column("prior", sa.Column("factor", sa.Integer(), nullable=True))
    op.add_column("prior", sa.Column("prompts", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("prior", sa.Column("words", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("prior", name)
