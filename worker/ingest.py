"""An uploaded archive becomes checked images and rows, or a list of everything that is wrong with it."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared import datasets, growth, images
from shared.db import Sessions
from shared.errors import BadArchive, BadImage, BadLabels, Fault, RegrowError
from shared.formats import read
from shared.formats.samples import Sample
from shared.formats.zips import Limits, SafeZip
from shared.models import Dataset
from shared.reading import Reading
from shared.settings import Settings
from shared.storage import Folder, sha256, source_key, upload_key
from worker import groups
from worker.renewal import held
from worker.survey import Survey

log = logging.getLogger(__name__)

_CONFIRM = "If it is meant to have none, say so when you upload it: labels=none."


def check_next(settings: Settings, sessions: Sessions, storage: Folder) -> bool:
    """Check the oldest waiting dataset; False if none waits."""
    with sessions.write() as session:
        claim = datasets.claim(session, settings.lease_seconds)
        options = datasets.reading(session, claim) if claim else None
    if claim is None or options is None:
        return False

    with held(sessions, Dataset, claim, settings):
        try:
            contents = check(storage.path(upload_key(claim.id)), settings, storage, options)
        except RegrowError as error:
            log.info("dataset %s is rejected: %s", claim.id, error.detail)
            with sessions.write() as session:
                settled = datasets.reject(session, claim, error.detail, error.faults)
        else:
            with sessions.read() as session:
                contents = growth.compared(session, options.parent, contents)
            with sessions.write() as session:
                settled = datasets.accept(session, claim, contents)
    if settled:
        # What is kept lies under its content's hash by now.
        storage.delete(upload_key(claim.id))
    return True


def check(upload: Path, settings: Settings, storage: Folder, reading: Reading) -> datasets.Contents:
    """Read an archive whole: each image is decoded, each label parsed, each original stored.

    Raises:
        BadArchive, BadImage, BadLabels: with every fault that was found, by member and line.
        Invalid: the pattern of the groups cannot be used.
    """
    limits = Limits(members=settings.max_archive_members, bytes=settings.max_archive_bytes)
    survey, faults, deepest = Survey(), list[Fault](), 0
    with SafeZip(upload, limits) as archive:
        found = read(archive, reading.format)
        if reading.labels == "required" and not any(sample.boxes for sample in found.samples):
            raise BadLabels(f"No label was found in it. {found.why} {_CONFIRM}", [Fault("labels", "there are none")])
        taken: list[datasets.NewImage] = []
        for sample in found.samples:
            try:
                image, examined = _take(archive, sample, settings, storage)
            except (BadImage, BadArchive) as error:
                faults.extend(error.faults or [Fault(sample.image, error.detail.removeprefix(f"{sample.image}: "))])
                continue
            survey.note(len(taken), examined.image, examined.metadata, upright=examined.upright)
            taken.append(image)
            if examined.image.mode == "I;16":
                deepest = max(deepest, int(np.asarray(examined.image).max()))
    if faults and (reading.on_bad_image == "reject" or not taken):
        raise BadImage(f"{len(faults)} of {len(found.samples)} images cannot be used.", faults)
    if reading.group_pattern:
        found_groups = groups.find(reading.group_pattern, [image.path for image in taken])
        taken = [replace(image, group=group) for image, group in zip(taken, found_groups, strict=True)]
    report, warnings = survey.report(found, taken, faults)
    return datasets.Contents(
        format=found.format,
        layout=found.layout,
        header=found.header,
        classes=found.names,
        splits=[split for split in found.splits if any(image.split == split for image in taken)],
        warnings=[*found.warnings, *warnings],
        white=images.window(deepest) if deepest else 255,
        images=taken,
        report=report,
    )


def _take(
    archive: SafeZip, sample: Sample, settings: Settings, storage: Folder
) -> tuple[datasets.NewImage, images.Examined]:
    """Check and store one image."""
    data = archive.read(sample.member)
    size = (sample.size.width, sample.size.height) if sample.size else None
    where = sample.size.where if sample.size else ""
    examined = images.examine(data, sample.image, settings.max_image_pixels, size, where)
    image = examined.image
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
        label_sha256=sha256(sample.identity or sample.label_bytes or b""),
        outlines=outlines if any(outlines) else [],
        mask_sha256=_take_mask(archive, sample.mask, settings, storage) if sample.mask else None,
        upright=examined.upright,
    )
    return new, examined


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
