"""The `regrow` command."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from regrow import (
    DEFAULT_URL,
    audit,
    autostart,
    datasets,
    forget,
    keys,
    manage,
    occasion,
    pilot,
    priors,
    report,
    review,
    upkeep,
    verify,
)
from regrow.options import (
    AsJson,
    Data,
    Format,
    GroupPattern,
    JobId,
    Key,
    NoLabels,
    Parent,
    Picture,
    Server,
    SkipBadImages,
    in_a_folder,
    picture,
    printed,
    reading,
)
from regrow.outcome import Commands, Exit, code, fail, going_on, service_installed, talking
from regrow.sending import Name, Upload, send

if TYPE_CHECKING:
    from regrow.answers import Job
    from regrow.client import Client


HELP = """Expand small labelled object-detection datasets: regrow everything but what is labelled.

`regrow serve` starts the service on this machine; the other commands talk to it."""

EPILOG = """Exit codes: 0 ok; 1 unexpected error; 2 wrong usage; 3 server unreachable; 4 request refused or dataset
rejected; 5 the job was cancelled, has failed items or has no archive, or the training did
not end as a prior; 6 the doctor found something broken; 130 interrupted."""

app = typer.Typer(
    name="regrow",
    cls=Commands,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


Archive = Annotated[
    Path, typer.Option("--output", "-o", dir_okay=False, callback=in_a_folder, help="Where the expanded dataset goes.")
]


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="0.0.0.0 for all addresses; any but loopback needs keys (`regrow keys create`).")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Everything is kept here; left out: REGROW_DATA, or `data`.")
    ] = None,
    require_key: Annotated[
        bool, typer.Option("--require-key", help="This machine needs a key too: every login on it reaches the service.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Speak TLS, with this certificate chain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Run the service on this machine: API, workers, sweep, and a broker if REGROW_BROKER_URL names none."""
    with service_installed():
        from regrow import local
        from regrow.preconditions import Address, Refused
    if (tls_cert is None) != (tls_key is None):
        fail(Exit.USAGE, "--tls-cert and --tls-key go together.")
    tls = (tls_cert.resolve(), tls_key.resolve()) if tls_cert and tls_key else None
    try:
        local.serve(Address(host, port, tls), data, _say, require_key=require_key, with_parent=with_parent)
    except Refused as error:
        fail(Exit.USAGE, str(error))


@app.command()
def doctor(
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Look at each part of the installation on this machine, and say what to do about what is broken."""
    with service_installed():
        from regrow import doctor
    findings = list(doctor.examine(data))
    well = all(finding.state != "failed" for finding in findings)
    if as_json:
        print(json.dumps({"well": well, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        doctor.told(findings, _say)
    raise typer.Exit(Exit.OK if well else Exit.UNWELL)


@app.command()
def upload(  # noqa: PLR0913  (one parameter an option)
    dataset: Upload,
    *,
    name: Name = None,
    format: Format = None,
    group_pattern: GroupPattern = None,
    skip_bad_images: SkipBadImages = False,
    no_labels: NoLabels = False,
    parent: Parent = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a dataset, wait until it was checked, and tell what is in it. An interrupted large one goes on."""
    wanted = reading(format, no_labels, skip_bad_images, group_pattern, parent)
    with talking(server, key) as regrow:
        found = send(regrow, dataset, name, wanted, as_json)
        printed(found, report.dataset, as_json)


@app.command()
def expand(  # noqa: PLR0913  (one parameter an option)
    dataset: Upload,
    out: Archive,
    *,
    variants: Annotated[int | None, typer.Option(min=1, help="New images for each source image.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes every mask and every noise.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampler steps an image.")] = None,
    preset: Annotated[
        Literal["reference", "exact", "balanced", "fast"] | None, typer.Option(help="The sampler's numbers.")
    ] = None,
    long_side: Annotated[
        int | None, typer.Option(min=32, max=2048, help="Of the canvas, in pixels; left out: as the images.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="A split to expand; may be repeated.")] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Expand at most so many source images, each class in turn.")
    ] = None,
    blend: Annotated[
        Literal["boxes", "known", "none"] | None,
        typer.Option(help="What is copied from the original: labelled pixels, all that were kept, or nothing."),
    ] = None,
    unlabelled: Annotated[
        Literal["skip", "uniform", "keep"] | None,
        typer.Option(help="Images without a label: leave them out, regrow them around random pixels, or copy them."),
    ] = None,
    no_originals: Annotated[bool, typer.Option("--no-originals", help="Leave the uploaded images out.")] = False,
    image_format: Annotated[
        Literal["same", "png", "jpeg"] | None, typer.Option(help="File format of the new images.")
    ] = None,
    output_format: Annotated[
        Literal["same", "yolo", "coco", "voc"] | None,
        typer.Option(help="Label format of the result; left out: the upload's own."),
    ] = None,
    format: Format = None,
    group_pattern: GroupPattern = None,
    skip_bad_images: SkipBadImages = False,
    no_labels: NoLabels = False,
    parent: Parent = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher goes first.")] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Who is told, by a signed POST, when the job is over.")
    ] = None,
    no_reuse: Annotated[bool, typer.Option("--no-reuse", help="Make again what was made before.")] = False,
    name: Name = None,
    sheet: Annotated[
        Path | None, typer.Option(dir_okay=False, callback=picture, help="Also draw a contact sheet: .png or .jpg.")
    ] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a dataset, expand it, and fetch the result. What is left out is for the server to choose.

    Where no service runs on this machine and none is named, one is started for the occasion."""
    if out.exists() and out.samefile(dataset):
        raise typer.BadParameter("that is the dataset itself", param_hint="--output")
    wishes = {
        "name": name,
        "variants": variants,
        "seed": seed,
        "splits": split,
        "max_images": max_images,
        "blend": blend,
        "unlabelled": unlabelled,
        "canvas": _given(long_side=long_side),
        "sampler": _given(preset=preset, steps=steps),
        "priority": priority,
        "reuse": False if no_reuse else None,
        "webhook": webhook,
        "output": _given(
            format=output_format, image_format=image_format, include_originals=False if no_originals else None
        ),
    }
    wanted = reading(format, no_labels, skip_bad_images, group_pattern, parent)
    with occasion.served(server) as url, talking(url, key) as regrow:
        found = send(regrow, dataset, name, wanted, as_json)
        if not as_json:
            typer.echo(report.dataset(found), err=True)
        job = regrow.create_job({"dataset_id": found["id"], **_given(**wishes)})
        typer.echo(f"Job      {job['id']}", err=True)
        hints = {"watch": f"watch {job['id']}", "end": f"cancel {job['id']}"}
        hints |= {"fetch what it made": f"download {job['id']} -o OUT.zip"}
        with going_on("job", hints, server) if url == server else occasion.kept(regrow, [job]):
            job = manage.wait(regrow, job)
            fetched = _fetch(regrow, job, out)
            drawn = sheet if sheet and _draw(regrow, job, sheet, rows=8) else None
    if as_json:
        paths = {"archive": str(fetched) if fetched else None, "sheet": str(drawn) if drawn else None}
        print(json.dumps({"dataset": found, "job": job, **paths}, indent=2))
    else:
        print(report.result(job, fetched, drawn))
    raise typer.Exit(code(job))


@app.command()
def download(
    job: JobId,
    out: Archive,
    partial: Annotated[bool, typer.Option("--partial", help="Of a job that still runs: what is done so far.")] = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the result of a job that is over. An interrupted download goes on where it stopped."""
    with talking(server, key) as regrow:
        fetched = _download(regrow, job, out, partial=partial)
        # Asked afterwards: an archive that was pruned is there again.
        found = regrow.job(job)
        printed({"job": found, "archive": str(fetched)}, lambda _: report.result(found, fetched, None), as_json)
    raise typer.Exit(Exit.OK if partial else code(found))


@app.command()
def sheet(
    job: JobId,
    out: Picture,
    rows: Annotated[int, typer.Option(min=1, max=200, help="How many images.")] = 8,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Draw originals, masks, new images and differences side by side."""
    with talking(server, key) as regrow:
        if not _draw(regrow, regrow.job(job), out, rows):
            fail(Exit.REFUSED, "No image of this job is done yet.")
        printed({"sheet": str(out)}, lambda _: f"Sheet    {out.absolute()}", as_json)


pilot.register(app)
manage.register(app)
review.register(app)
audit.register(app)
forget.register(app)
upkeep.register(app)
verify.register(app)
app.add_typer(datasets.app, name="datasets")
app.add_typer(priors.app, name="priors")
app.add_typer(keys.app, name="keys")
app.add_typer(autostart.app, name="autostart")


def main() -> None:
    """The console script."""
    app()


def _fetch(regrow: "Client", job: "Job", out: Path) -> Path | None:
    return _download(regrow, job["id"], out) if job["archive"] and job["archive"]["state"] == "ready" else None


def _download(regrow: "Client", job_id: str, out: Path, *, partial: bool = False) -> Path:
    from regrow import progress

    with progress.transfer("downloading") as came:
        return regrow.download(job_id, out, on_progress=came, partial=partial)


def _draw(regrow: "Client", job: "Job", out: Path, rows: int) -> bool:
    """Whether there was something to draw."""
    from regrow import pictures
    from regrow.sheet import contact_sheet

    found = pictures.rows(regrow, job, rows)
    if found:
        contact_sheet(found).save(out)
    return bool(found)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {}, [])}


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        # The terminal is gone. What was started is to be kept alive, or ended in order, all the same.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (for as long as the process lives)
