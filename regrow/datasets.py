"""The commands for datasets that were sent: which there are, what is in one, and its end."""

from typing import Annotated

import typer

from regrow import DEFAULT_URL, report
from regrow.options import AsJson, Key, Server, printed
from regrow.outcome import talking

app = typer.Typer(help="List the datasets, show one, delete one.", rich_markup_mode="markdown")

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id.")]


@app.callback(invoke_without_command=True)
def datasets(context: typer.Context, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the datasets, newest first, or do one of the things below."""
    if context.invoked_subcommand is None:
        with talking(server, key) as regrow:
            printed(list(regrow.datasets()), report.datasets, as_json)


@app.command()
def show(dataset: DatasetId, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show what was found in a dataset, or why it was rejected."""
    with talking(server, key) as regrow:
        found = regrow.dataset(dataset)
        printed(found, report.rejected if found["state"] == "rejected" else report.dataset, as_json)


@app.command()
def delete(
    dataset: DatasetId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove a dataset with its images and the jobs made of it, for good."""
    with talking(server, key) as regrow:
        found = regrow.dataset(dataset)
        if not yes:
            typer.confirm(f"Delete dataset {found['name']} and all jobs made of it?", abort=True, err=True)
        regrow.delete_dataset(dataset)
        printed({"deleted": dataset}, lambda _: f"Deleted  {dataset}", as_json)
