"""`regrow keys`, which opens the service's database itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from regrow import cli
from regrow.options import seconds
from shared import keys
from shared.db import make_sessions


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs `regrow keys` on a data folder that is not there yet."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["keys", *arguments, "--data", str(tmp_path / "data")])

    return command


def test_a_key_is_made_told_once_listed_and_revoked(run: Callable[..., Result], tmp_path: Path) -> None:
    made = run("create", "--project", "knee", "--name", "anna", "--expires", "90d")
    key = made.stdout.strip()
    assert re.fullmatch("rg_[0-9a-f]{64}", key), made.stderr
    assert "For anna in project knee, until 20" in made.stderr
    sessions = make_sessions(f"sqlite:///{tmp_path / 'data' / 'regrow.db'}")
    with sessions.write() as session:
        assert keys.holder(session, key).project == "knee"
        keys.note_use(session, key[3:11])
    sessions.dispose()
    run("create", "--project", "hand", "--name", "script")
    listed = run("list").stdout
    assert re.search(rf"^{key[3:11]}  knee  anna  valid  used 20\S+, expires 20\S+$", listed, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{8}  hand  script  valid  never used$", listed, re.MULTILINE)
    assert key not in listed
    assert "revoked" in run("revoke", key[3:11]).stdout
    (one,) = json.loads(run("list", "--project", "knee", "--json").stdout)
    assert (one["state"], one["name"]) == ("revoked", "anna")


def test_json_has_the_key_once(run: Callable[..., Result]) -> None:
    made = json.loads(run("create", "--project", "knee", "--name", "anna", "--json").stdout)
    assert made["key"].startswith(f"rg_{made['id']}")
    assert made["expires_at"] is None
    assert "key" not in json.loads(run("list", "--json").stdout)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--project", "No", "--name", "anna"], "no name of a project"),
        (["create", "--project", "knee", "--name", "anna", "--expires", "soon"], "12h, 30d or 4w"),
        (["create", "--project", "knee", "--name", "anna", "--expires", "0d"], "12h, 30d or 4w"),
        (["revoke", "00000000"], "no key '00000000'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run: Callable[..., Result], arguments: list[str], said: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert run("list").stdout.startswith("There are no keys yet")


def test_times_are_said_in_minutes_hours_days_and_weeks() -> None:
    said = {"90m": 5400.0, "12h": 43200.0, "90d": 7776000.0, "4w": 2419200.0, "0m": 0.0}
    assert {text: seconds(text, "--expires") for text in said} == said
    for wrong in ("", "d", "90", "-1d", "1.5d", "1y", "²d", "100000d"):
        with pytest.raises(typer.BadParameter, match="12h, 30d or 4w"):
            seconds(wrong, "--expires")
