"""`python -m migrations` brings the database that the settings name to its newest form."""

from migrations import upgrade
from shared.db import make_sessions
from shared.settings import Settings

if __name__ == "__main__":
    upgrade(make_sessions(Settings().database).engine)
