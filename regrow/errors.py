"""What can go wrong for a caller of the REST API.

ClientError
├── Unreachable     no server answers at that address
├── ProblemError    the server answered, and said no
├── Damaged         a download is not what the server announced
└── FolderError     a folder that was to be sent is no dataset
"""

from collections.abc import Sequence

from regrow.answers import Fault


class ClientError(Exception):
    """Base of the errors below."""


class Unreachable(ClientError):
    """No answer came; the message says from which address, and what to do."""

    def __init__(self, base_url: str, why: str) -> None:
        super().__init__(
            f"No answer from {base_url} ({why}). Is `regrow serve` running there? "
            "Another address is given with --server or REGROW_SERVER."
        )


class ProblemError(ClientError):
    """An answer with an error status, in the server's words (RFC 9457)."""

    def __init__(self, status: int, type_: str, title: str, detail: str, errors: Sequence[Fault] = ()) -> None:
        places = [f"{fault['where']}: {fault['what']}" if fault["where"] else fault["what"] for fault in errors]
        super().__init__("\n  ".join([detail or title, *places]))
        self.status = status
        self.type = type_
        """A URI that stays the same; its last part is the kind of error: `not-found`, `conflict`, `invalid`."""
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)


class Damaged(ClientError):
    """A download whose SHA-256 is not the announced one. Nothing of it was kept."""


class FolderError(ClientError):
    """A folder that was to be sent holds no image."""
