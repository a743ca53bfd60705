"""Priors belong to the project that trained them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prior", sa.Column("owner", sa.String(length=64), server_default="", nullable=False))
    # Until there were keys, everybody was `local`.
    op.execute("UPDATE prior SET owner = 'local' WHERE training_id IS NOT NULL")
    _key_of_prior("owner", "name")
    _live_name_of_training("owner", "name")


def downgrade() -> None:
    _live_name_of_training("name")
    _key_of_prior("name")
    op.drop_column("prior", "owner")


def _key_of_prior(*columns: str) -> None:
    with op.batch_alter_table("prior") as batch:
        batch.drop_constraint("pk_prior", type_="primary")
        batch.create_primary_key("pk_prior", list(columns))


def _live_name_of_training(*columns: str) -> None:
    live = sa.text("state IN ('pending', 'running')")
    op.drop_index("uq_training_live_name", "training")
    op.create_index(
        "uq_training_live_name", "training", list(columns), unique=True, postgresql_where=live, sqlite_where=live
    )
