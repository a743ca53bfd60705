"""What the doctor finds, each time in something that is really broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from tiny_prior import write_tiny_prior
from typer.testing import CliRunner

from regrow import doctor
from regrow.cli import app
from regrow.doctor import Finding
from regrow.outcome import Exit
from shared import db, priors, workers
from shared.db import make_sessions
from worker.priors.diffusers import BUILTIN


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing is set."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_DATA", "REGROW_DATABASE_URL", "REGROW_BROKER_URL", "REGROW_PRIORS", "REGROW_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def found(data: Path) -> dict[str, Finding]:
    """What is found without torch, which takes seconds to load, and what comes after it."""
    with pytest.MonkeyPatch.context() as patch:
        for later in ("_of_torch", "_processes"):
            patch.setattr(doctor, later, lambda *_: ())
        return {finding.part: finding for finding in doctor.examine(data)}


def faults(data: Path) -> dict[str, Finding]:
    return {part: finding for part, finding in found(data).items() if finding.state != "ok"}


def test_before_the_first_start_all_is_well_and_nothing_is_made(tmp_path: Path) -> None:
    findings = found(tmp_path / "data")
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert "the first `regrow serve` makes it" in findings["database"].found
    assert not (tmp_path / "data").exists()


def test_a_setting_that_cannot_be_is_named(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REGROW_THREADS", "many")
    (only,) = doctor.examine(tmp_path)
    assert (only.part, only.state) == ("settings", "failed")
    assert "REGROW_THREADS" in only.found


def test_a_database_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REGROW_DATABASE_URL", "postgresql://regrow:hunter22@127.0.0.1:1/regrow")
    said = faults(tmp_path)
    assert set(said) == {"database"}
    assert "does not answer" in said["database"].found
    assert "REGROW_DATABASE_URL" in said["database"].advice
    assert "hunter22" not in str(said)


def test_a_file_that_is_no_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "regrow.db").write_bytes(b"not a database at all" * 100)
    said = faults(tmp_path)
    assert set(said) == {"database"}
    assert "file is not a database" in said["database"].found


def test_sqlite_on_a_network_file_system_is_warned_of(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    kind = db.file_system(tmp_path)
    environment.setattr(db, "_NETWORK_FILE_SYSTEMS", {kind})
    said = faults(tmp_path)
    assert set(said) == {"database"}
    assert f"network file system ({kind})" in said["database"].found
    assert "REGROW_DATA" in said["database"].advice


@pytest.mark.parametrize(
    ("revision", "wrong", "advice"),
    [
        (None, "The database is empty", "python -m migrations"),
        ("0003", "of an earlier Regrow", "python -m migrations"),
        ("9999", "of a newer Regrow", "Install the newer one"),
    ],
)
def test_a_database_of_another_version_is_found(
    tmp_path: Path, new_sqlite: Callable[[Path], str], revision: str | None, wrong: str, advice: str
) -> None:
    if revision is None:
        (tmp_path / "regrow.db").touch()
    else:
        sessions = make_sessions(new_sqlite(tmp_path / "regrow.db"))
        with sessions.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
        sessions.dispose()
    said = faults(tmp_path)
    assert set(said) == {"migrations"}
    assert wrong in said["migrations"].found
    assert advice in said["migrations"].advice


def test_a_broker_that_is_away_is_found_without_its_password(
    tmp_path: Path, environment: pytest.MonkeyPatch, redis_url: str
) -> None:
    environment.setenv("REGROW_BROKER_URL", redis_url)
    assert found(tmp_path)["broker"].state == "ok"
    environment.setenv("REGROW_BROKER_URL", "redis://:hunter22@127.0.0.1:1/0")
    said = faults(tmp_path)
    assert set(said) == {"broker"}
    assert "127.0.0.1:1/0 does not answer" in said["broker"].found
    assert "hunter22" not in str(said)


def test_a_storage_that_cannot_be_written_to_is_found(tmp_path: Path) -> None:
    (tmp_path / "storage").write_bytes(b"a file where the folder should be")
    said = faults(tmp_path)
    assert set(said) == {"storage"}
    assert "cannot be written to" in said["storage"].found


def test_too_little_space_is_found(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "storage").mkdir()
    environment.setenv("REGROW_MIN_FREE_GB", "1e9")
    said = faults(tmp_path)
    assert set(said) == {"space"}
    assert "REGROW_MIN_FREE_GB" in said["space"].advice
    assert not list((tmp_path / "storage").rglob("doctor*"))


def test_all_is_well_where_it_is(
    tmp_path: Path, environment: pytest.MonkeyPatch, postgres_url: str, redis_url: str
) -> None:
    environment.setenv("REGROW_DATABASE_URL", postgres_url)
    environment.setenv("REGROW_BROKER_URL", redis_url)
    environment.setenv("REGROW_DEVICE", "cpu")
    (tmp_path / "storage").mkdir()
    sessions = make_sessions(postgres_url)
    with sessions.write() as session:
        priors.register(session, "builtin", BUILTIN)
        workers.seen(session, "a:1", "gpu", "cpu")
        workers.seen(session, "a:2", "cpu", "cpu")
        workers.seen(session, "sweep@a:3", "", "")
    sessions.dispose()
    ran = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)])
    assert ran.exit_code == Exit.OK, ran.output
    states = {line.split()[0] for line in ran.output.splitlines()}
    assert states == {"ok"}
    for part in (
        "database",
        "migrations",
        "broker",
        "storage",
        "device",
        "driver",
        "prior builtin",
        "workers",
        "sweep",
    ):
        assert f"ok       {part} " in ran.output


def test_device_priors_and_processes_that_are_not_there_are_found_and_the_command_ends_with_6(
    tmp_path: Path, new_sqlite: Callable[[Path], str], environment: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "priors"
    for name in ("good", "cut", "empty"):
        write_tiny_prior(folder / name, native_size=32)
    weights = folder / "cut" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "empty" / "unet" / "config.json").unlink()
    environment.setenv("REGROW_PRIORS", str(folder))
    environment.setenv("REGROW_DEVICE", "cuda:99")
    sessions = make_sessions(new_sqlite(tmp_path / "regrow.db"))
    with sessions.write() as session:
        priors.register(session, "good", folder / "good").sha256 = "0" * 64
    sessions.dispose()
    ran = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path), "--json"])
    assert ran.exit_code == Exit.UNWELL, ran.output
    answer = json.loads(ran.output)
    assert answer["well"] is False
    states = {finding["part"]: (finding["state"], finding["found"]) for finding in answer["findings"]}
    assert states["device"][0] == "failed"
    assert "cuda:99" in states["device"][1]
    assert states["prior builtin"][0] == "ok"
    assert states["prior good"] == ("warning", "loads, but the database knows it by the hash 000000000000")
    assert states["prior cut"][0] == states["prior empty"][0] == "failed"
    assert "config.json is missing" in states["prior empty"][1]
    assert states["workers"] == ("warning", "nobody takes work: queue cpu: no_worker; queue gpu: no_worker")
    assert states["sweep"][0] == "warning"
    assert all(finding["advice"] for finding in answer["findings"] if finding["state"] != "ok")
