"""The zip of a finished job is built and stored."""

import hashlib
import logging

from shared import archives, packing
from shared.db import Sessions
from shared.models import Archive, Job
from shared.settings import Settings
from shared.storage import Storage, archive_key
from worker.renewal import held

log = logging.getLogger(__name__)


def build_next(settings: Settings, sessions: Sessions, storage: Storage) -> bool:
    """Build the oldest archive that waits; False if none does."""
    with sessions.write() as session:
        claim = archives.claim(session, settings.lease_seconds)
    if claim is None:
        return False

    key = archive_key(claim.id, claim.token)
    with held(sessions, Archive, claim, settings):
        with sessions.read() as session:
            contents = packing.collect(session, claim.id)
            name = packing.file_name(session.get_one(Job, claim.id))
        try:
            digest, size = hashlib.sha256(), 0
            with storage.writing(key, name) as file:
                for part in packing.pack(contents, storage):
                    # Hashed on its way to the disk, so that nobody has to read it again.
                    digest.update(part)
                    size += file.write(part)
        except FileNotFoundError as error:
            if not storage.there():
                raise
            log.exception("a stored file is gone")
            with sessions.write() as session:
                archives.fail(session, claim, f"a stored file is gone: {error.filename}")
            return True
        with sessions.write() as session:
            settled = archives.settle(session, claim, key=key, sha256=digest.hexdigest(), size=size)
        log.info("the archive is built: %d bytes", size)
    if not settled:
        storage.delete(key)
    return True
