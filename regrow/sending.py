"""A dataset on its way to the service, as several commands send it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow import report
from regrow.outcome import Exit, fail, sending

if TYPE_CHECKING:
    from regrow.answers import Dataset, Reading
    from regrow.client import Client

Name = Annotated[str | None, typer.Option(help="A name for people; left out: the file's.")]
Upload = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET", exists=True, help="A dataset as YOLO, COCO or Pascal VOC have it: a zip, or a folder."
    ),
]


def send(regrow: "Client", path: Path, name: str | None, wanted: "Reading", as_json: bool) -> "Dataset":
    """Upload and wait until it was checked; ends the command if it was rejected."""
    from regrow import progress

    with sending(path), progress.transfer("uploading") as sent:
        dataset = regrow.upload(path, name, on_progress=sent, reading=wanted)
    with progress.checking():
        dataset = regrow.wait_dataset(dataset["id"])
    if dataset["state"] == "rejected":
        if as_json:
            print(json.dumps(dataset, indent=2))
        fail(Exit.REFUSED, report.rejected(dataset))
    return dataset
