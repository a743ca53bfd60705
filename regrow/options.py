"""What several commands take, and how they print an answer."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

Server = Annotated[str, typer.Option("--server", envvar="REGROW_SERVER", help="Address of the service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def printed(answer: Any, in_words: Callable[[Any], str], as_json: bool) -> None:
    """Print the server's answer, in words or as it came."""
    print(json.dumps(answer, indent=2) if as_json else in_words(answer))
