"""Verdicts, blinded reviews, filters and revisions of archives, and what images look like from afar."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verdict",
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("decision", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("result_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_verdict_item_id_item"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_verdict")),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("cards", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_review_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index(op.f("ix_review_job_id"), "review", ["job_id"])
    op.add_column("job", sa.Column("judged_at", sa.Double(), nullable=True))
    op.add_column("job", sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE job SET revision = 1 WHERE id IN (SELECT job_id FROM archive)")
    op.add_column("archive", sa.Column("filters", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("image", sa.Column("likeness", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("image", "likeness")
    op.drop_column("archive", "filters")
    op.drop_column("job", "revision")
    op.drop_column("job", "judged_at")
    op.drop_table("review")
    op.drop_table("verdict")
