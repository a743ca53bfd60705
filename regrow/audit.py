"""The command that shows who did what."""

from itertools import islice
from typing import Annotated

import typer

from regrow import DEFAULT_URL
from regrow.answers import AuditEntry
from regrow.options import AsJson, Key, Server, printed
from regrow.outcome import talking


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    thing: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH", help="Only of this and what is in it: /v1/jobs/ID, /v1/datasets/ID; left out: of all."
        ),
    ] = None,
    *,
    action: Annotated[
        list[str] | None, typer.Option("--action", help="Only this, such as downloaded or deleted; repeatable.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="So many entries, the newest.")] = 100,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what, newest first."""
    with talking(server, key) as regrow:
        printed(list(islice(regrow.audit(thing, action or ()), most)), _lines, as_json)


def _lines(found: list[AuditEntry]) -> str:
    if not found:
        return "Nothing is noted of that."
    return "\n".join(
        f"{each['created_at']}  {each['by']}  {each['action']}  {each['object']}"
        + (f"  ({each['count']})" if each["count"] != 1 else "")
        for each in found
    )
