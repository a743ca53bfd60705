"""The commands that forget images, and show what was forgotten."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from regrow import DEFAULT_URL
from regrow.answers import Forgotten
from regrow.options import AsJson, DatasetId, Key, Server, Yes, printed
from regrow.outcome import Exit, fail, talking

_MOST_NAMED = 50


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (forget, receipts):
        app.command()(command)


def forget(  # noqa: PLR0913  (one parameter an option)
    dataset: DatasetId,
    *,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Images whose path fits it; without a slash, whose file's name does. * is anything, ? one character.",
        ),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Images of this patient or scene (--group-pattern).")] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Copies of the same bytes too, in all your datasets.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: Yes = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove images and all that came from them, for good, and print the receipt."""
    if (match is None) == (group is None):
        fail(Exit.USAGE, "Say either --match or --group.")
    with talking(server, key) as regrow:
        if not dry_run and not yes:
            seen = regrow.forget(dataset, match, group=group, everywhere=everywhere, dry_run=True)
            typer.echo(in_words(seen), err=True)
            if seen["images"]:
                typer.confirm("Forget all this?", abort=True, err=True)
        found = regrow.forget(dataset, match, group=group, everywhere=everywhere, dry_run=dry_run)
        printed(found, in_words, as_json)


def receipts(
    receipt: Annotated[str | None, typer.Argument(metavar="RECEIPT", help="Left out: all receipts.")] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show what was forgotten: all receipts, or one."""
    with talking(server, key) as regrow:
        if receipt is not None:
            printed(regrow.receipt(receipt), in_words, as_json)
            return
        printed(list(regrow.receipts()), _lines, as_json)


def in_words(found: Forgotten) -> str:
    """A receipt, or what would be one."""
    return "\n".join(_receipt(found))


def _receipt(found: Forgotten) -> Iterator[str]:
    counts = found["counts"]
    if not found["images"]:
        yield f"Nothing of dataset {found['dataset']} is meant by that."
        return
    if found["id"]:
        yield f"Receipt  {found['id']}  {found['created_at']} by {found['by']}"
    verb = "would go" if found["dry_run"] else "are gone"
    yield (
        f"  {counts['images']} images and {counts['variants']} variants {verb}, {counts['files']} files in all; "
        f"{counts['archives']} archives are built anew"
    )
    for image in islice(found["images"], _MOST_NAMED):
        yield f"  {image['path']}  {image['sha256']}  {len(image['variants'])} variants"
    if (more := len(found["images"]) - _MOST_NAMED) > 0:
        yield f"  and {more} more (--json names all)"
    for copy in islice(found["copies"], _MOST_NAMED):
        yield f"  stays: a copy in dataset {copy['dataset']}, {copy['path']} (--everywhere)"
    for prior in found["priors"]:
        when = f", trained {prior['trained_at']}" if prior["trained_at"] else ""
        yield f"  cannot forget: prior {prior['name']} ({prior['images']} of the images{when})"
    if found["files_waiting"]:
        yield f"  {found['files_waiting']} files are still to be removed, which takes seconds"


def _lines(found: list[Forgotten]) -> str:
    if not found:
        return "Nothing was forgotten yet."
    return "\n".join(
        f"{each['id']}  {each['created_at']}  {each['match'] or each['group']}  "
        f"{each['counts']['images']} images of {each['name']}"
        for each in found
    )
