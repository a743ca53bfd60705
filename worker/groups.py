"""Finds the patient or scene of each image in its path, by a pattern that a stranger wrote.

A regular expression can take longer than anyone waits. It runs in a process of its own, which is ended when its time is
over; nothing else ends one that runs.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

from shared.errors import Fault, Invalid

SECONDS = 20.0
LONGEST = 200
"""Characters of a group's name: what the database has room for."""

_SEARCH = """
import json, re, sys
pattern, paths = json.load(sys.stdin)
search = re.compile(pattern).search
json.dump([found[1] if (found := search(path)) else None for path in paths], sys.stdout)
"""


def find(pattern: str, paths: Sequence[str], seconds: float = SECONDS) -> list[str | None]:
    """For each path what the pattern's one group holds, None where it is not found.

    Raises Invalid if that takes too long, or a group's name has more than LONGEST characters.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([pattern, list(paths)]),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        what = f"takes more than {seconds:g} s for {len(paths)} paths; write it without nested repetitions"
        raise Invalid(f"group_pattern {what}.", [Fault("group_pattern", what)]) from None
    groups: list[str | None] = [group or None for group in json.loads(done.stdout)]
    for path, group in zip(paths, groups, strict=True):
        if group is not None and len(group) > LONGEST:
            what = f"finds {len(group)} characters in {path}; at most {LONGEST} name a group"
            raise Invalid(f"group_pattern {what}.", [Fault("group_pattern", what)])
    return groups
