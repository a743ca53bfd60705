"""An uploaded archive becomes checked images and rows, or a list of everything that is wrong with it."""

import logging
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from shared import datasets, growth, images, keeping, previews
from shared.db import Sessions
from shared.errors import BadArchive, BadImage, BadLabels, Fault, RegrowError
from shared.formats import read
from shared.formats.samples import Sample
from shared.formats.zips import Limits, SafeZip
from shared.likeness import likeness
from shared.models import Dataset
from shared.reading import Reading
from shared.settings import Settings
from shared.storage import Storage, Storing, preview_key, sha256, source_key, upload_key
from worker import groups
from worker.parallel import Room, in_order, usable_threads
from worker.renewal import held
from worker.survey import Look, Survey, look

log = logging.getLogger(__name__)

_CONFIRM = "If it is meant to have none, say so when you upload it: labels=none."


def check_next(settings: Settings, sessions: Sessions, storage: Storage) -> bool:
    """Check the oldest waiting dataset; False if none waits."""
    with sessions.write() as session:
        claim = datasets.claim(session, settings.lease_seconds)
        options = datasets.reading(session, claim) if claim else None
    if claim is None or options is None:
        return False

    with held(sessions, Dataset, claim, settings):
        stored: set[str] = set()
        try:
            with storage.open(upload_key(claim.id)) as upload:
                contents = check(upload, settings, storage, options, stored=stored)
        except RegrowError as error:
            log.info("the dataset is rejected: %s, %d faults", error.slug, len(error.faults))
            with sessions.write() as session:
                settled = datasets.reject(session, claim, error.detail, error.faults)
                if settled:
                    keeping.throw(session, sorted(stored))
        else:
            with sessions.read() as session:
                contents = growth.compared(session, options.parent, contents)
            with sessions.write() as session:
                settled = datasets.accept(session, claim, contents)
            log.info("the dataset is ready: %d images", len(contents.images))
    if settled:
        # What is kept lies under its content's hash by now.
        storage.delete(upload_key(claim.id))
    return True


def check(
    upload: Path | BinaryIO,
    settings: Settings,
    storage: Storage,
    reading: Reading,
    threads: int | None = None,
    stored: set[str] | None = None,
) -> datasets.Contents:
    """Read an archive whole: each image is decoded, each label parsed, each original stored.

    What comes out, and in which order, does not depend on the number of `threads`. All that is stored is on the disk,
    and the keys of the originals are added to `stored`, also if it raises.

    Raises:
        BadArchive, BadImage, BadLabels: with every fault that was found, by member and line.
        Invalid: the pattern of the groups cannot be used.
    """
    limits = Limits(members=settings.max_archive_members, bytes=settings.max_archive_bytes)
    survey, faults = Survey(), list[Fault]()
    with SafeZip(upload, limits) as archive, storage.together() as together:
        found = read(archive, reading.format)
        if reading.labels == "required" and not any(sample.boxes for sample in found.samples):
            raise BadLabels(f"No label was found in it. {found.why} {_CONFIRM}", [Fault("labels", "there are none")])
        taken: list[datasets.NewImage] = []
        desk = _Desk(archive, together, settings.max_image_pixels, set() if stored is None else stored)
        with closing(in_order(desk.take, found.samples, threads or usable_threads())) as all_of_them:
            for one in all_of_them:
                if isinstance(one, _Refused):
                    faults.extend(one.faults)
                    continue
                survey.note(len(taken), one.look)
                survey.plain += [one.plain_mask] if one.plain_mask else []
                taken.append(one.image)
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
        white=images.window(survey.deepest) if survey.deepest else 255,
        images=taken,
        report=report,
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    image: datasets.NewImage
    look: Look
    plain_mask: str | None
    """Its mask's name, if that keeps everything or nothing."""


@dataclass(frozen=True, slots=True)
class _Refused:
    faults: list[Fault]


class _Desk:
    """Checks and stores images, for several threads at once. All that are open have no more pixels together than the
    largest one may have, so that memory does not grow with the number of threads."""

    def __init__(self, archive: SafeZip, together: Storing, max_pixels: int, stored: set[str]) -> None:
        self._archive = archive
        self._together = together
        self._max_pixels = max_pixels
        self._stored = stored
        self._room = Room(max_pixels)
        self._reading = threading.Lock()

    def take(self, sample: Sample) -> _Taken | _Refused:
        """One image, or what is wrong with it."""
        try:
            return self._take(sample)
        except (BadImage, BadArchive) as error:
            return _Refused(list(error.faults) or [Fault(sample.image, error.detail.removeprefix(f"{sample.image}: "))])

    def _take(self, sample: Sample) -> _Taken:
        data = self._read(sample.member)
        digest = sha256(data)
        with self._room.taken(images.count_pixels(data)):
            size, where = ((sample.size.width, sample.size.height), sample.size.where) if sample.size else (None, "")
            examined = images.examine(data, sample.image, self._max_pixels, size, where)
            seen, small = look(examined), previews.make(examined.image)
            image = replace(_row(sample, examined, digest, len(data)), likeness=likeness(examined.image))
            # The pixels go with the room they take.
            del examined
        self._store(digest, data)
        if small is not None:
            self._together.store(preview_key(digest, upright=image.upright), small)
        plain = False
        if sample.mask:
            digest, plain = self._take_mask(sample.mask)
            image = replace(image, mask_sha256=digest)
        return _Taken(image, seen, sample.mask if plain else None)

    def _take_mask(self, member: str) -> tuple[str, bool]:
        """Check and store a mask image; returns its hash, and whether it keeps everything or nothing."""
        data = self._read(member)
        try:
            with self._room.taken(images.count_pixels(data)):
                plain = images.is_plain(images.open_image(data, member, self._max_pixels))
        except BadImage as error:
            raise BadImage(error.detail, [Fault(member, error.detail.removeprefix(f"{member}: "))]) from error
        digest = sha256(data)
        self._store(digest, data)
        return digest, plain

    def _store(self, digest: str, data: bytes) -> None:
        key = source_key(digest)
        # Before it is there: what a full disk left is to be removed too.
        self._stored.add(key)
        self._together.store(key, data)

    def _read(self, member: str) -> bytes:
        with self._reading:
            return self._archive.read(member)


def _row(sample: Sample, examined: images.Examined, digest: str, size: int) -> datasets.NewImage:
    image = examined.image
    outlines = [None if box.outline is None else list(box.outline) for box in sample.boxes]
    return datasets.NewImage(
        path=sample.image,
        split=sample.split,
        sha256=digest,
        format=image.format or "",
        mode=image.mode,
        width=image.width,
        height=image.height,
        size=size,
        boxes=[[box.class_index, box.x0, box.y0, box.x1, box.y1] for box in sample.boxes],
        label_path=sample.label,
        label=sample.label_bytes,
        label_sha256=sha256(sample.identity or sample.label_bytes or b""),
        outlines=outlines if any(outlines) else [],
        upright=examined.upright,
    )
