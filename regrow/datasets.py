"""The commands for datasets that were sent: which there are, what is in one, and its end."""

import typer

from regrow import DEFAULT_URL, report
from regrow.options import AsJson, DatasetId, Key, Server, Yes, deleted, printed, sure
from regrow.outcome import talking

app = typer.Typer(help="List the datasets, show one, delete one.", rich_markup_mode="markdown")


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
    yes: Yes = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove a dataset with its images and the jobs made of it, for good."""
    with talking(server, key) as regrow:
        found = regrow.dataset(dataset)
        sure(f"Delete dataset {found['name']} and all jobs made of it?", yes)
        regrow.delete_dataset(dataset)
        deleted(dataset, as_json)
