"""Ends what `regrow serve` started, if `regrow serve` itself is killed: `python -m regrow.guard FOLDER`.

It reads lines from the launcher: `+123` when process group 123 was started, `-123` when it is gone, `bye` at an
orderly end. When the pipe closes without a `bye`, the launcher is dead: the groups are ended and FOLDER (of the
broker's socket) is removed. Only the standard library is imported, so that it is there within milliseconds.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

GRACE = 5.0


def main(lines: Iterable[str], folder: str) -> None:
    # Whoever ends all processes of a session or container ends the launcher too, and then this one has work to do.
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    groups: set[int] = set()
    for line in lines:
        word = line.strip()
        if word == "bye":
            return
        (groups.add if word[0] == "+" else groups.discard)(int(word[1:]))
    end(groups, GRACE)
    shutil.rmtree(folder, ignore_errors=True)


def end(groups: Iterable[int], grace: float) -> None:
    """Ask process groups to end, and kill those that are still there after `grace` seconds."""
    left = {group for group in groups if send(group, signal.SIGTERM)}
    until = time.monotonic() + grace
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = {group for group in left if send(group, 0)}
    for group in left:
        send(group, signal.SIGKILL)


def send(group: int, signal_number: int) -> bool:
    """Signal a process group (0: only ask); False when nobody is in it."""
    try:
        os.killpg(group, signal_number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # What is left of it are processes that are gone and not yet collected (macOS says it so).
        return False
    return True


if __name__ == "__main__":
    main(sys.stdin, sys.argv[1])
