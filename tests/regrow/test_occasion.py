"""`regrow expand` where no service runs: one is started for it, with its real processes."""

import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from live import free_port, until

from regrow import cli
from samples.phantoms import write_dataset

ROOT = Path(cli.__file__).parents[1]
PATIENCE = 600.0
ONE_SAMPLER = {"REGROW_DEVICE": "cpu", "REGROW_SAMPLERS": "1"}


def ours(data: Path) -> list[psutil.Process]:
    """What was started for this data folder and is still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("REGROW_DATA") == str(data) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def expanding(folder: Path) -> Iterator["tuple[subprocess.Popen[bytes], Path]"]:
    """The command, and what it says; its service's data lie in `folder`/data."""
    # Not the default address: on a developer's machine a service may answer there.
    start = f"import regrow; regrow.DEFAULT_URL = 'http://127.0.0.1:{free_port()}'; from regrow.cli import main; main()"
    wanted = ["expand", folder / "set.zip", "-o", folder / "out.zip", "--variants", 1, "--preset", "fast", "--steps", 6]
    wanted += ["--long-side", 128]
    said = folder / "said"
    with said.open("wb") as out:
        command = subprocess.Popen(
            [sys.executable, "-c", start, *map(str, wanted)],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "REGROW_DATA": str(folder / "data"), **ONE_SAMPLER},
            stdout=out,
            stderr=out,
            process_group=0,
        )
    try:
        yield command, said
    finally:
        command.kill()
        command.wait()
        for process in ours(folder / "data"):
            process.kill()


@pytest.mark.slow
def test_a_service_is_started_and_ended_and_an_interrupted_expansion_goes_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set.zip", 3, 0, valid_share=0)
    with expanding(tmp_path) as (command, said):
        until(lambda: bool(re.search("[12] of 3 images", said.read_text())), PATIENCE, "the first image")
        command.send_signal(signal.SIGINT)
        assert command.wait(PATIENCE) == 130, said.read_text()
        assert "the same command goes on from there" in said.read_text()
        assert ours(tmp_path / "data") == []
        assert not (tmp_path / "out.zip").exists()
    with expanding(tmp_path) as (command, said):
        assert command.wait(PATIENCE) == 0, said.read_text()
        assert re.search(r"3 of 3 images \([12] reused\)", said.read_text())
        assert ours(tmp_path / "data") == []
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sum("_rg" in name and name.endswith(".jpg") for name in archive.namelist()) == 3


@pytest.mark.slow
def test_the_service_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set.zip", 1, 0, valid_share=0)
    with expanding(tmp_path) as (command, said):
        until(lambda: "Regrow is at" in said.read_text(), PATIENCE, "the service")
        command.kill()
        until(lambda: not ours(tmp_path / "data"), PATIENCE, "its processes are gone")


def test_a_named_server_is_never_replaced(run, zipped, tmp_path: Path) -> None:
    ran = run("expand", zipped, "-o", tmp_path / "out.zip", "--server", f"http://127.0.0.1:{free_port()}")
    assert ran.exit_code == 3
    assert "started" not in ran.output
