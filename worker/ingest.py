"""An uploaded archive becomes checked images and rows, or a list of everything that is wrong with it."""

import logging
from pathlib import Path

import numpy as np

from shared import datasets, images
from shared.db import Sessions
from shared.errors import BadArchive, BadImage, Fault, RegrowError
from shared.formats import read
from shared.formats.samples import Contents, Sample
from shared.formats.zips import Limits, SafeZip
from shared.models import Dataset
from shared.settings import Settings
from shared.storage import Folder, sha256, source_key, upload_key
from worker.renewal import held

log = logging.getLogger(__name__)


def check_next(settings: Settings, sessions: Sessions, storage: Folder) -> bool:
    """Check the oldest waiting dataset; False if none waits."""
    with sessions.write() as session:
        claim = datasets.claim(session, settings.lease_seconds)
    if claim is None:
        return False

    with held(sessions, Dataset, claim, settings):
        try:
            contents = check(storage.path(upload_key(claim.id)), settings, storage)
        except RegrowError as error:
            log.info("dataset %s is rejected: %s", claim.id, error.detail)
            with sessions.write() as session:
                settled = datasets.reject(session, claim, error.detail, error.faults)
        else:
            with sessions.write() as session:
                settled = datasets.accept(session, claim, contents)
    if settled:
        # What is kept lies under its content's hash by now.
        storage.delete(upload_key(claim.id))
    return True


def check(upload: Path, settings: Settings, storage: Folder) -> datasets.Contents:
    """Read an archive whole: each image is decoded, each label parsed, each original stored.

    Raises:
        BadArchive, BadImage, BadLabels: with every fault that was found, by member and line.
    """
    limits = Limits(members=settings.max_archive_members, bytes=settings.max_archive_bytes)
    with SafeZip(upload, limits) as archive:
        found = read(archive)
        taken: list[datasets.NewImage] = []
        faults: list[Fault] = []
        deepest = 0
        for sample in found.samples:
            try:
                image, brightest = _take(archive, sample, settings, storage)
            except (BadImage, BadArchive) as error:
                faults.extend(error.faults or [Fault(sample.image, error.detail.removeprefix(f"{sample.image}: "))])
                continue
            taken.append(image)
            deepest = max(deepest, brightest)
    if faults:
        raise BadImage(f"{len(faults)} of {len(found.samples)} images cannot be used.", faults)
    return _contents(found, taken, images.window(deepest) if deepest else 255)


def _take(archive: SafeZip, sample: Sample, settings: Settings, storage: Folder) -> tuple[datasets.NewImage, int]:
    """Check and store one image; also the largest grey value of a 16-bit one, else 0."""
    data = archive.read(sample.member)
    image = images.open_image(data, sample.image, settings.max_image_pixels)
    outlines = [None if box.outline is None else list(box.outline) for box in sample.boxes]
    new = datasets.NewImage(
        path=sample.image,
        split=sample.split,
        sha256=_store(data, storage),
        format=image.format or "",
        mode=image.mode,
        width=image.width,
        height=image.height,
        size=len(data),
        boxes=[[box.class_index, box.x0, box.y0, box.x1, box.y1] for box in sample.boxes],
        label_path=sample.label,
        label=sample.label_bytes,
        label_sha256=sha256(sample.label_bytes or b""),
        outlines=outlines if any(outlines) else [],
        mask_sha256=_take_mask(archive, sample.mask, settings, storage) if sample.mask else None,
    )
    return new, int(np.asarray(image).max()) if image.mode == "I;16" else 0


def _take_mask(archive: SafeZip, member: str, settings: Settings, storage: Folder) -> str:
    """Check and store a mask image; returns its hash."""
    data = archive.read(member)
    try:
        images.open_image(data, member, settings.max_image_pixels)
    except BadImage as error:
        raise BadImage(error.detail, [Fault(member, error.detail.removeprefix(f"{member}: "))]) from error
    return _store(data, storage)


def _store(data: bytes, storage: Folder) -> str:
    """Store bytes under their hash, once; returns it."""
    digest = sha256(data)
    if not storage.exists(source_key(digest)):
        storage.write(source_key(digest), data)
    return digest


def _contents(found: Contents, taken: list[datasets.NewImage], white: int) -> datasets.Contents:
    return datasets.Contents(
        format=found.format,
        layout=found.layout,
        header=found.header,
        classes=found.names,
        splits=found.splits,
        warnings=found.warnings,
        white=white,
        images=taken,
    )
