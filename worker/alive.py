"""`python -m worker.alive`: whether this machine's worker has shown life, for a container's health check."""

import socket
import sys
from collections.abc import Mapping

from shared import workers
from shared.db import Sessions, make_sessions
from shared.settings import Settings


def alive(sessions: Sessions, host: str) -> Mapping[str, str]:
    """The processes of a host's workers that were seen lately, and what keeps each from work, or an empty text."""
    with sessions.read() as session:
        seen = workers.alive(session)
        return {worker.id: str(worker.trouble or "") for worker in seen if worker.id.startswith(f"{host}:")}


def main() -> int:
    """0 if there is one. One that waits for its GPU or its storage is well: it goes on by itself."""
    found = alive(make_sessions(Settings().database), socket.gethostname())
    for name, trouble in found.items():
        sys.stdout.write(f"{name}: {trouble or 'works'}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
