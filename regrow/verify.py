"""The command that makes images of an archive again, on this machine."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.options import AsJson, Key
from regrow.outcome import Exit, fail, talking

if TYPE_CHECKING:
    from regrow.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What a job made.")],
    *,
    sample: Annotated[int, typer.Option(min=0, help="How many of its new images, from all over it; 0: all.")] = 5,
    prior: Annotated[
        Path | None, typer.Option(file_okay=False, exists=True, help="The prior's folder, if it is not installed here.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "cpu",
    server: Annotated[
        str | None, typer.Option(help="Who has the originals, if the archive does not: the service that made it.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make new images of an archive again, on this machine, and say what is equal and, where it is not, why.

    Ends with 0 if all are equal byte for byte or within the tolerance of rounding, else with 5.
    """
    if find_spec("worker") is None or find_spec("torch") is None:
        fail(Exit.UNEXPECTED, "This needs torch: pip install 'regrow[worker]'")
    rows = _spread(_manifest(archive), sample)
    command = [sys.executable, "-m", "worker.verify", str(archive), "--device", device]
    command += ["--items", ",".join(str(row["item"]) for row in rows)]
    command += ["--prior", str(prior)] if prior else []
    command += ["--json"] if as_json else []
    with TemporaryDirectory(prefix="regrow-") as originals:
        if server is not None:
            with talking(server, key) as regrow:
                _fetch(regrow, archive, rows, Path(originals))
        done = subprocess.run([*command, "--originals", originals], check=False)
    raise typer.Exit(done.returncode)


def _manifest(archive: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open("manifest.jsonl") as lines:
            rows = [json.loads(line) for line in lines]
    except KeyError:
        fail(Exit.USAGE, f"{archive} has no manifest.jsonl: it is not what a job made.")
    except (zipfile.BadZipFile, ValueError) as error:
        fail(Exit.USAGE, f"{archive} cannot be read: {error}")
    if not rows:
        fail(Exit.USAGE, f"{archive} holds no new image.")
    return rows


def _spread(rows: Sequence[dict[str, Any]], sample: int) -> list[dict[str, Any]]:
    if not 0 < sample < len(rows):
        return list(rows)
    return [rows[index * len(rows) // sample] for index in range(sample)]


def _fetch(regrow: "Client", archive: Path, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Lay the originals that the archive does not hold into a folder, each under its hash."""
    with zipfile.ZipFile(archive) as opened:
        names = set(opened.namelist())
    missing = [row for row in rows if row["source"] not in names]
    for job_id in {row["job"] for row in missing}:
        dataset = regrow.job(job_id)["dataset_id"]
        wanted = {row["source"] for row in missing if row["job"] == job_id}
        for image in regrow.images(dataset):
            if image["path"] in wanted:
                data = regrow.image_file(dataset, image["id"])
                (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)
