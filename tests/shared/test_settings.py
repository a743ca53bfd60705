"""What the operator reads is what the code does."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import Settings

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


def test_the_example_names_every_setting_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.partition("=") for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert {name for name, _, _ in lines} == {f"REGROW_{field.upper()}" for field in Settings.model_fields}
    plain = Settings(_env_file=None)
    for name, _, value in lines:
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == plain


def test_a_lease_must_outlast_two_renewals() -> None:
    with pytest.raises(ValidationError, match="half of REGROW_LEASE_SECONDS"):
        Settings(_env_file=None, lease_seconds=10, renew_seconds=6)


def test_only_what_the_operator_lists_may_be_fetched() -> None:
    assert not Settings(_env_file=None).may_fetch("lab/sd")
    some = Settings(_env_file=None, hub_allow="lab/*, other/one")
    assert [repo for repo in ("lab/sd", "other/one", "other/two", "mylab/sd") if some.may_fetch(repo)] == [
        "lab/sd",
        "other/one",
    ]
    assert not Settings(_env_file=None, hub_allow="*/*", offline=True).may_fetch("lab/sd")
    for wrong in ({"hub_allow": "lab"}, {"hub_allow": "lab/[ab]"}, {"hub_endpoint": "ftp://hub"}):
        with pytest.raises(ValidationError, match=r"is no (repository|address)"):
            Settings.model_validate({"_env_file": None, **wrong})
    with pytest.raises(ValidationError, match="is no address"):
        Settings(_env_file=None, hub_endpoint="https://anna:secret@hub")
