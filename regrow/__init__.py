"""The user's side: a client of the REST API, the `regrow` command, and what runs the service on one machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.client import Client

__all__ = ["DEFAULT_URL", "Client"]

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `regrow serve` is, unless it is told otherwise."""


def __getattr__(name: str) -> Any:
    # Only who uses it pays for importing it: `regrow --help` and the guard do not.
    if name == "Client":
        from regrow.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
