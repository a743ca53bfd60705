"""Priors that are fetched from a hub."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fetch",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("repo", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.String(length=40), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("stage", sa.String(length=50), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("lapses", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fetch")),
    )
    op.create_index(op.f("ix_fetch_owner"), "fetch", ["owner"])
    live = sa.text("state IN ('pending', 'running')")
    op.create_index(
        "uq_fetch_live_name", "fetch", ["owner", "name"], unique=True, postgresql_where=live, sqlite_where=live
    )
    op.add_column("prior", sa.Column("fetch_id", sa.String(length=32), nullable=True))
    op.add_column("prior", sa.Column("source", sa.String(length=300), nullable=True))


def downgrade() -> None:
    # Nothing would know where they lie.
    op.execute("DELETE FROM prior WHERE fetch_id IS NOT NULL")
    op.drop_column("prior", "source")
    op.drop_column("prior", "fetch_id")
    op.drop_table("fetch")
