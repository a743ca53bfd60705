"""`python -m migrations` brings the database that the settings name to its newest form."""

import sys

from migrations import upgrade
from shared.db import make_sessions
from shared.errors import NotConfigured
from shared.settings import Settings

if __name__ == "__main__":
    try:
        copy = upgrade(make_sessions(Settings().database).engine)
    except NotConfigured as error:
        sys.exit(error.detail)
    if copy:
        sys.stderr.write(f"The database as it was: {copy}\n")
