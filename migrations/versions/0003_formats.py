"""How a dataset is to be read and what was seen in it; groups of images; images that EXIF does not turn."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset", sa.Column("options", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("dataset", sa.Column("report", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("image", sa.Column("group", sa.String(length=200), nullable=True))
    op.add_column("image", sa.Column("upright", sa.Boolean(), server_default=sa.true(), nullable=False))


def downgrade() -> None:
    op.drop_column("image", "upright")
    op.drop_column("image", "group")
    op.drop_column("dataset", "report")
    op.drop_column("dataset", "options")
