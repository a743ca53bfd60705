"""The command that tries a few images in several ways before all are made."""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow import DEFAULT_URL, occasion, report
from regrow.options import AsJson, Key, Picture, Server
from regrow.outcome import Exit, code, fail, going_on, talking
from regrow.sending import send

if TYPE_CHECKING:
    from regrow.answers import Dataset, Job
    from regrow.client import Client

_ID = re.compile(r"[0-9a-f]{32}")


class Preset(StrEnum):
    """Of the sampler. A list of `Literal` is nothing that typer takes."""

    REFERENCE = "reference"
    EXACT = "exact"
    BALANCED = "balanced"
    FAST = "fast"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pilot)


def pilot(  # noqa: PLR0913  (one parameter an option)
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A zip or a folder, or the id of a dataset that was sent before.")
    ],
    out: Picture,
    *,
    preset: Annotated[
        list[Preset] | None,
        typer.Option(help="One column each; repeatable. Left out: fast and balanced."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=50, help="How many images, each class in turn.")] = 4,
    prior: Annotated[str | None, typer.Option(help="Name of an installed prior; left out: the built-in one.")] = None,
    long_side: Annotated[
        int | None, typer.Option(min=32, max=2048, help="Of the canvas, in pixels; left out: as the images.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="A split to expand; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes every mask and every noise.")] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Expand a few images with several presets, and draw them side by side.

    The whole job, asked for with the same settings afterwards, takes them over and does not make them again."""
    asked = {"prior": prior, "splits": split, "seed": seed, "canvas": {"long_side": long_side} if long_side else None}
    wishes = {name: value for name, value in asked.items() if value is not None}
    with occasion.served(server) as url, talking(url, key) as regrow:
        found = _dataset(regrow, dataset, as_json)
        jobs = [
            regrow.create_job(
                {
                    "dataset_id": found["id"],
                    "name": f"{found['name'][:180]} · pilot {each}",
                    "variants": 1,
                    "max_images": images,
                    "sampler": {"preset": each},
                    **wishes,
                }
            )
            for each in dict.fromkeys(preset or [Preset.FAST, Preset.BALANCED])
        ]
        hints = {f"end {job['name']}": f"cancel {job['id']}" for job in jobs}
        with going_on("pilot", hints, server) if url == server else occasion.kept(regrow, jobs):
            jobs = [_wait(regrow, job) for job in jobs]
        drawn = _draw(regrow, jobs, out)
    if as_json:
        print(json.dumps({"dataset": found, "jobs": jobs, "sheet": str(out) if drawn else None}, indent=2))
    else:
        print("\n".join([report.jobs(jobs), f"Sheet    {out.absolute()}" if drawn else "No image could be made."]))
    raise typer.Exit(max(map(code, jobs)))


def _dataset(regrow: "Client", named: str, as_json: bool) -> "Dataset":
    if not Path(named).exists():
        if not _ID.fullmatch(named):
            fail(Exit.USAGE, f"{named} is no file, no folder, and no id of a dataset.")
        return regrow.dataset(named)
    return send(regrow, Path(named), None, {}, as_json)


def _wait(regrow: "Client", job: "Job") -> "Job":
    from regrow import manage

    typer.echo(f"Job      {job['id']}  {job['name']}", err=True)
    return manage.wait(regrow, job)


def _draw(regrow: "Client", jobs: "list[Job]", out: Path) -> bool:
    """Whether there was something to draw."""
    from regrow import pictures
    from regrow.sheet import pilot_sheet

    found: list[Any] = pictures.tried(regrow, jobs)
    if found:
        presets = [job["resolved"]["preset"] for job in jobs]
        pilot_sheet(found, presets).save(out)
    return bool(found)
