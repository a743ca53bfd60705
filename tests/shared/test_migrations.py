"""The migrations build exactly what the models describe."""

from alembic import command
from sqlalchemy import inspect, select, text

from migrations import config, upgrade
from shared.db import Base, Sessions
from shared.models import Prior


def test_the_newest_form_is_what_the_models_say(sessions: Sessions) -> None:
    with sessions.engine.begin() as connection:
        command.check(config(connection))
    assert set(inspect(sessions.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_upgrading_again_changes_nothing(sessions: Sessions) -> None:
    upgrade(sessions.engine)
    with sessions.engine.begin() as connection:
        command.check(config(connection))


def test_everything_can_be_taken_back(sessions: Sessions) -> None:
    with sessions.engine.begin() as connection:
        command.downgrade(config(connection), "base")
    assert inspect(sessions.engine).get_table_names() == ["alembic_version"]


def test_a_prior_that_was_trained_before_there_were_keys_belongs_to_local(sessions: Sessions) -> None:
    with sessions.engine.begin() as connection:
        command.downgrade(config(connection), "0009")
        for name, training in (("builtin", None), ("wrists", "1" * 32)):
            values = {"name": name, "training": training}
            row = "INSERT INTO prior (name, sha256, native_size, multiple, size, card, training_id)"
            connection.execute(text(f"{row} VALUES (:name, 'a', 64, 16, 1, '', :training)"), values)
    upgrade(sessions.engine)
    with sessions.read() as session:
        assert session.execute(select(Prior.owner, Prior.name).order_by(Prior.name)).all() == [
            ("", "builtin"),
            ("local", "wrists"),
        ]
    assert inspect(sessions.engine).get_pk_constraint("prior")["constrained_columns"] == ["owner", "name"]
