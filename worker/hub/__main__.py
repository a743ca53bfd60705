"""Bring a prior's files into a folder: python -m worker.hub REPO COMMIT FOLDER

Each line it prints is JSON: how many bytes are here and how many there are, or at the end why it failed.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

_CLIENT = {
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": "0",
    # It tells nobody anything, and sends no token but HF_TOKEN.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    # A protocol of its own for large files goes to further hosts, and does not go on where it was.
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_VERBOSITY": "error",
}
"""What the hub's client is told."""


def main() -> int:
    """0 once all is there, else 1."""
    parser = argparse.ArgumentParser(prog="python -m worker.hub", description="Bring a prior's files into a folder.")
    parser.add_argument("repo", metavar="REPO")
    parser.add_argument("revision", metavar="COMMIT")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--endpoint", required=True, metavar="URL")
    parser.add_argument("--file", metavar="PATH", help="the one that holds the whole model")
    parser.add_argument("--variant", choices=["fp16"])
    parser.add_argument("--room", type=int, metavar="BYTES", help="how much may be taken up")
    given = parser.parse_args()
    _end_with(os.getppid())
    os.environ.update(_CLIENT)  # which it reads when it is imported
    from worker.hub.download import Repository, fetch
    from worker.hub.errors import CannotFetch

    repository = Repository(given.endpoint, given.repo, given.revision, os.environ.get("HF_TOKEN"))
    try:
        fetch(repository, given.folder, given.room, _say, file=given.file, variant=given.variant)
    except CannotFetch as error:
        _print({"error": {"type": error.kind, "detail": error.detail, "final": error.final}})
        return 1
    except OSError as error:
        detail = f"{error.strerror or type(error).__name__}: {error.filename or given.folder}"
        _print({"error": {"type": "storage", "detail": detail, "final": False}})
        return 1
    return 0


def _end_with(parent: int) -> None:
    """Nobody waits for what is fetched once whoever wanted it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _say(received: int, size: int) -> None:
    _print({"received": received, "size": size})


def _print(said: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(said)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
