"""Pause, retry, delete, reuse and idempotency; outlines and masks of images; what keeps a worker from work."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trash",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trash")),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_idempotency_key_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_job_id"), "idempotency_key", ["job_id"])
    op.add_column("image", sa.Column("outlines", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("image", sa.Column("mask_sha256", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_image_sha256"), "image", ["sha256"])
    op.create_index(op.f("ix_image_mask_sha256"), "image", ["mask_sha256"])
    op.add_column("worker", sa.Column("trouble", sa.String(length=32), nullable=True))
    op.add_column("item", sa.Column("reused_from", sa.String(length=32), nullable=True))
    op.create_index(op.f("ix_item_result_key"), "item", ["result_key"])
    op.create_index("ix_item_job_id_settled_at", "item", ["job_id", "settled_at"])
    op.create_index("ix_job_owner_claimed_at", "job", ["owner", "claimed_at"])


def downgrade() -> None:
    op.drop_index("ix_job_owner_claimed_at", "job")
    op.drop_index("ix_item_job_id_settled_at", "item")
    op.drop_index(op.f("ix_item_result_key"), "item")
    op.drop_column("item", "reused_from")
    op.drop_column("worker", "trouble")
    op.drop_index(op.f("ix_image_mask_sha256"), "image")
    op.drop_index(op.f("ix_image_sha256"), "image")
    op.drop_column("image", "mask_sha256")
    op.drop_column("image", "outlines")
    op.drop_index(op.f("ix_idempotency_key_job_id"), "idempotency_key")
    op.drop_table("idempotency_key")
    op.drop_table("trash")
