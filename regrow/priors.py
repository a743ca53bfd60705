"""The commands for priors: what is installed, and training one of one's own."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from regrow import DEFAULT_URL, report
from regrow.options import (
    AsJson,
    Data,
    Format,
    GroupPattern,
    Key,
    NoLabels,
    Server,
    SkipBadImages,
    Yes,
    printed,
    reading,
    sure,
)
from regrow.outcome import Exit, fail, going_on, service_installed, talking
from regrow.sending import Upload, send

if TYPE_CHECKING:
    from regrow.answers import Fetch, Training
    from regrow.client import Client

app = typer.Typer(
    help="List the installed priors, train one, fetch one, add one, remove one.", rich_markup_mode="markdown"
)

Architecture = Literal["sd1", "sd2", "sd2-base", "xl"]
PriorName = Annotated[str, typer.Argument(metavar="NAME", help="What jobs call the prior.")]
_LIVE = ("pending", "running")
T = TypeVar("T", "Training", "Fetch")


@app.callback(invoke_without_command=True)
def priors(context: typer.Context, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the installed priors and what is being trained or fetched, or do one of the things below."""
    if context.invoked_subcommand is None:
        listed(server, key, as_json)


@app.command("list")
def listed(server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the installed priors and what is being trained or fetched."""
    with talking(server, key) as regrow:
        printed(regrow.priors(), report.priors, as_json)


@app.command()
def train(  # noqa: PLR0913  (one parameter an option)
    dataset: Upload,
    name: Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="What jobs will call the prior.")],
    *,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How: `small` from nothing, `ambient` from damaged images; `lora` adapts a Stable Diffusion, and "
            "`textual_inversion` teaches it a word for each class: both need `--init`."
        ),
    ] = None,
    init: Annotated[str | None, typer.Option(metavar="NAME", help="The installed prior to start from.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Whose the images are and what may be done with them, for its card.")
    ] = None,
    numbers: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A number of the recipe, as `/docs` lists them; repeatable."),
    ] = None,
    format: Format = None,
    group_pattern: GroupPattern = None,
    skip_bad_images: SkipBadImages = False,
    no_labels: NoLabels = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done.")] = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train a prior from the split `train` of a dataset. It goes on by itself, between the jobs, until it is done."""
    wishes = _numbers(numbers or []) | {"recipe": recipe, "init": init, "licence": licence, "name": name}
    with talking(server, key) as regrow:
        as_said = reading(format, no_labels, skip_bad_images, group_pattern)
        found = send(regrow, dataset, None, as_said, as_json)
        spec = {field: value for field, value in wishes.items() if value is not None}
        training = regrow.train_prior({"dataset_id": found["id"], **spec})
        if wait:
            typer.echo(f"Training {training['id']}", err=True)
            hints = {"watch": f"priors show {name}", "end": f"priors cancel {name}"}
            with going_on("training", hints, server):
                training = _wait(regrow, training)
        printed(training, report.training, as_json)
    if wait and training["state"] != "done":
        raise typer.Exit(Exit.INCOMPLETE)


@app.command()
def fetch(  # noqa: PLR0913  (one parameter an option)
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository, which the operator must allow.")],
    revision: Annotated[
        str,
        typer.Option(metavar="COMMIT", help="40 hex digits; `git ls-remote https://huggingface.co/ORG/NAME` tells it."),
    ],
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="What jobs will call it.")],
    *,
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="The one file of it that holds the whole model.")
    ] = None,
    architecture: Annotated[
        Architecture | None, typer.Option(help="Of a `--file`: what it is; left out: found out.")
    ] = None,
    variant: Annotated[
        Literal["fp16"] | None, typer.Option(help="Take the smaller weights, if there are some.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is there.")] = True,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have the service fetch a prior from a hub. The same command goes on with what was broken off or cancelled."""
    wishes = {"repo": repo, "revision": revision, "file": file, "architecture": architecture, "variant": variant}
    with talking(server, key) as regrow:
        found = regrow.fetch_prior(name, {field: value for field, value in wishes.items() if value is not None})
        if wait:
            hints = {"watch": f"priors show {name}", "end": f"priors cancel {name}"}
            with going_on("fetch", hints, server):
                found = _wait_fetch(regrow, found)
        printed(found, report.fetched, as_json)
    if wait and found["state"] != "done":
        raise typer.Exit(Exit.INCOMPLETE)


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(exists=True, metavar="PATH", help="A folder in the diffusers format, or a .safetensors.")
    ],
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="What jobs will call it.")],
    *,
    architecture: Annotated[
        Architecture | None, typer.Option(help="Of a .safetensors: what it is; left out: found out.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, metavar="FOLDER", help="Of a .safetensors: the configurations to use instead."
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Make a Stable Diffusion, or an autoencoder to guide one, known to the service of this machine. It stays where it
    is; all of it is read once, to see whether it can be used."""
    with service_installed():
        from regrow import adding
        from regrow.preconditions import Refused
    try:
        print(adding.add(path, name, architecture, config, data))
    except Refused as error:
        fail(Exit.REFUSED, str(error))


@app.command()
def show(
    name: PriorName,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", dir_okay=False, help="Also save what it drew last, of nothing but noise."),
    ] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a prior's card, or how far its training or its fetch is."""
    with talking(server, key) as regrow:
        found = next((each for each in regrow.priors()["items"] if each["name"] == name), None)
        training = _newest(regrow.trainings(), name) if found is None else None
        coming = _newest(regrow.fetches(), name) if found is None else None
        if found is None and training is None and coming is None:
            fail(Exit.REFUSED, f"There is no prior named {name!r}, and none is being trained or fetched.")
        if samples:
            if found["origin"] != "trained" if found else training is None:
                fail(Exit.REFUSED, f"{name!r} was not trained here.")
            samples.write_bytes(regrow.training_preview(training["id"]) if training else regrow.prior_samples(name))
        if found is not None:
            printed(found, report.prior, as_json)
        elif coming is not None and (training is None or coming["created_at"] > training["created_at"]):
            printed(coming, report.fetched, as_json)
        else:
            printed(training, report.training, as_json)


@app.command()
def cancel(name: PriorName, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """End the training of a prior, or its fetch. `resume` goes on with a training, `fetch` with a fetch."""
    with talking(server, key) as regrow:
        coming = _newest(regrow.fetches(), name)
        if coming is not None and coming["state"] in _LIVE:
            printed(regrow.cancel_fetch(coming["id"]), report.fetched, as_json)
            return
        printed(regrow.cancel_training(_needed(regrow, name)["id"]), report.training, as_json)


@app.command()
def resume(name: PriorName, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Go on with a training that failed or was cancelled."""
    with talking(server, key) as regrow:
        printed(regrow.retry_training(_needed(regrow, name)["id"]), report.training, as_json)


@app.command()
def remove(
    name: PriorName,
    yes: Yes = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Remove a prior that was trained or fetched here for good, with its trainings and fetches and all they keep. Of
    one that was added, the files stay."""
    with talking(server, key) as regrow:
        installed = any(each["name"] == name for each in regrow.priors()["items"])
        trainings = [each for each in regrow.trainings() if each["name"] == name]
        fetches = [each for each in regrow.fetches() if each["name"] == name]
        if not (installed or trainings or fetches):
            fail(Exit.REFUSED, f"There is no prior named {name!r}, and none is being trained or fetched.")
        what = "prior" if installed else "training of the prior" if trainings else "fetch of the prior"
        sure(f"Remove the {what} {name}?", yes)
        # First what may be refused: a prior that a job needs keeps its trainings.
        if installed:
            regrow.delete_prior(name)
        for training in trainings:
            regrow.delete_training(training["id"])
        for each in fetches:
            regrow.delete_fetch(each["id"])
        print(f"Removed  {name}")


def _numbers(given: list[str]) -> dict[str, Any]:
    """`denoiser_steps=2000` as a field and its value."""
    found = {}
    for each in given:
        field, equals, value = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each!r} is not FIELD=VALUE", param_hint="--set")
        try:
            found[field] = json.loads(value)
        except ValueError:
            found[field] = value
    return found


def _newest(found: "Iterable[T]", name: str) -> "T | None":
    return next((each for each in found if each["name"] == name), None)


def _needed(regrow: "Client", name: str) -> "Training":
    """The training of that name: the one that is not over, or else the newest."""
    named = [each for each in regrow.trainings() if each["name"] == name]
    if not named:
        fail(Exit.REFUSED, f"No prior named {name!r} was trained here.")
    return next((each for each in named if each["state"] in _LIVE), named[0])


def _wait(regrow: "Client", training: "Training") -> "Training":
    from regrow import progress

    with progress.training() as shown:
        return regrow.wait_training(training["id"], on_poll=shown)


def _wait_fetch(regrow: "Client", found: "Fetch") -> "Fetch":
    from regrow import progress

    with progress.fetching() as shown:
        return regrow.wait_fetch(found["id"], on_poll=shown)
