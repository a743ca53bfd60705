"""Keys, as scripts and commands send them."""

import pytest
from typer.testing import CliRunner

from regrow import Client, cli
from regrow.errors import ProblemError
from shared import keys


@pytest.fixture
def key(service) -> str:
    with service.sessions.write() as session:
        return keys.create(session, "knee", "anna")[1]


def test_a_client_speaks_for_its_key(service, key):
    with Client(service.url, key=key) as client:
        assert client.who() == {"project": "knee", "name": "anna"}
        assert list(client.jobs()) == []
    with Client(service.url) as client:
        assert client.who() == {"project": "local", "name": "local"}
    with Client(service.url, key="rg_0") as client, pytest.raises(ProblemError, match="not known here") as caught:
        client.who()
    assert caught.value.status == 401


def test_a_command_takes_its_key_from_the_environment_or_an_option(run, service, key):
    assert run("whoami").stdout == "local in project local\n"
    assert run("whoami", "--key", key).stdout == "anna in project knee\n"
    environ = {"REGROW_SERVER": service.url, "REGROW_KEY": key}
    assert CliRunner().invoke(cli.app, ["whoami"], env=environ).stdout == "anna in project knee\n"
    refused = run("status", "--key", "rg_0")
    assert refused.exit_code == 4
    assert refused.stderr.splitlines() == [
        "This key is not known here. `regrow keys create` makes one.",
        "A command takes its key from REGROW_KEY, or from --key.",
    ]


def test_every_command_that_names_a_server_takes_a_key():
    runner = CliRunner()
    for command in ("upload", "expand", "download", "sheet", "status", "delete", "forget", "receipts", "priors train"):
        said = runner.invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": "200"}).stdout
        assert "--server" in said
        assert "--key" in said, command
