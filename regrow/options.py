"""What several commands take, and how they print an answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from regrow.answers import Reading

Server = Annotated[str, typer.Option("--server", envvar="REGROW_SERVER", help="Address of the service.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="REGROW_KEY", help="Your key; better in the environment, where no list of processes shows it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FOLDER", help="The data folder; left out: REGROW_DATA, or `data`.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id.")]


Format = Annotated[
    Literal["yolo", "coco", "voc", "darknet"] | None,
    typer.Option("--format", help="The upload's label format; left out: found out."),
]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="Take it although it has no label at all.")]
SkipBadImages = Annotated[
    bool, typer.Option("--skip-bad-images", help="Take it without the images that cannot be used.")
]
GroupPattern = Annotated[
    str | None,
    typer.Option(
        "--group-pattern",
        metavar="REGEX",
        help="Finds the patient or scene in an image's path: a regular expression with one group, as /(p[0-9]+)_",
    ),
]


Parent = Annotated[
    str | None,
    typer.Option("--parent", metavar="DATASET", help="The id of the dataset it grew from: what differs is told."),
]


_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def seconds(text: str, option: str, least: int = 0) -> float:
    """`90m`, `12h`, `30d` or `4w` in seconds. Raises BadParameter, which ends a command as wrong usage."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal() or not least <= int(number) < 100_000:
        said = f"{text!r} is no time: say minutes, hours, days or weeks as 90m, 12h, 30d or 4w"
        raise typer.BadParameter(said, param_hint=option)
    return int(number) * _UNITS[unit]


def in_a_folder(path: Path | None) -> Path | None:
    """Said before the work is done, and not after it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder {path.absolute().parent} is not there")
    return path


def picture(path: Path | None) -> Path | None:
    """The same of a picture that is to be drawn."""
    if path is not None and path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter(f"{path.name} is no name of a .png or .jpg")
    return in_a_folder(path)


Picture = Annotated[
    Path,
    typer.Option("--output", "-o", dir_okay=False, callback=picture, help="The picture to draw: .png or .jpg."),
]


def reading(
    format: Any, no_labels: bool, skip_bad_images: bool, group_pattern: str | None, parent: str | None = None
) -> "Reading":
    """What of this was said."""
    said: Reading = {}
    if format is not None:
        said["format"] = format
    if no_labels:
        said["labels"] = "none"
    if skip_bad_images:
        said["on_bad_image"] = "skip"
    if group_pattern is not None:
        said["group_pattern"] = group_pattern
    if parent is not None:
        said["parent"] = parent
    return said


def printed(answer: Any, in_words: Callable[[Any], str], as_json: bool) -> None:
    """Print the server's answer, in words or as it came."""
    print(json.dumps(answer, indent=2) if as_json else in_words(answer))


def sure(question: str, yes: bool) -> None:
    """Ask before something goes for good, unless `yes` was said; a no ends the command."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


def deleted(id: str, as_json: bool) -> None:
    """Tell that it is gone."""
    printed({"deleted": id}, lambda _: f"Deleted  {id}", as_json)
