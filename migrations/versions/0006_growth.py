"""Receipts of what was forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "receipt",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("dataset_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
    )
    op.create_index(op.f("ix_receipt_owner"), "receipt", ["owner"])
    op.create_index(op.f("ix_receipt_dataset_id"), "receipt", ["dataset_id"])
    op.add_column("trash", sa.Column("receipt_id", sa.String(length=32), nullable=True))
    op.create_index(op.f("ix_trash_receipt_id"), "trash", ["receipt_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_trash_receipt_id"), "trash")
    op.drop_column("trash", "receipt_id")
    op.drop_table("receipt")
