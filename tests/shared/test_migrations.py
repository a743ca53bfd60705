"""The migrations build exactly what the models describe."""

from alembic import command
from sqlalchemy import inspect

from migrations import config, upgrade
from shared.db import Base, Sessions


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
