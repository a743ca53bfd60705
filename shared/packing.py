"""What a job has made, as one zip that trains as it is: all of it, or what is done so far."""

import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, cast

from PIL.ImageMode import getmode
from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager, joinedload, undefer

from shared import accounts
from shared.accounts import Account
from shared.filters import Threshold, Thresholds, failed, numbers
from shared.formats import FORMATS, Format, convert
from shared.formats.samples import Box, Entry, Output
from shared.models import Dataset, Image, Item, Job, Verdict
from shared.spec import ExpansionSpec
from shared.states import Decision, ItemState
from shared.storage import Storage, source_key
from shared.tray import Tray

# Zip files carry times; a fixed one makes equal contents equal bytes.
_TIME = (1980, 1, 1, 0, 0, 0)

README = """\
This data set was expanded by Regrow.

Images whose name ends in _rg1, _rg2, ... are variants: what is labelled was kept, and most of the rest was hidden and
painted anew by a diffusion model. Their labels are their source's.

{described}
- groups.csv           which source each image comes from, and which patient or scene if that is known. What is of one
                       group must stay in one fold: split first, then expand the train part only
- manifest.jsonl       one line for each variant: its source, seed, settings, measures and hashes
- report.html          what was made, in pictures and numbers; opens in any browser, and asks for no network
- methods.md           a paragraph for a paper, with every number

Variants contain unaltered pixels of the originals, are derived from them and are NOT anonymous. Treat them with the
same care as the originals. Everything was computed offline; nothing was sent anywhere.
"""
_LEFT_OUT = """
This archive is revision {revision}. Variants that are not in it: {rejected} that were rejected, and {filtered} that did
not pass the filters ({filters}). left_out.jsonl has a line for each of them, and says why.
"""
_PARTIAL = """
THIS ARCHIVE IS PARTIAL: it was made while the job ran, and holds what was done by then.
"""

_LISTS = """\
- the lists of images  as they were, with the variants beside their sources
- ....originals.txt    the same without the variants, for a baseline (only if the originals are in this archive)"""
_DESCRIBED = {
    "yolo": """\
- data.yaml            trains as it is: originals and variants
- data.originals.yaml  the same without the variants, for a baseline (only if the originals are in this archive)""",
    "coco": """\
- the .json documents  as they were, with the variants under new ids
- ....originals.json   the same without the variants, for a baseline (only if the originals are in this archive)""",
    "voc": _LISTS,
    "darknet": _LISTS,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in the zip: what the format writes of it, where its bytes are stored, its group if one is known and, of
    a variant, its line of the manifest."""

    entry: Entry
    key: str
    group: str | None
    manifest: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a zip; `pictures` belong to the entries of `output`, in the same order."""

    format: str
    output: Output
    pictures: tuple[Picture, ...]
    left_out: tuple[dict[str, Any], ...] = ()
    """A line for each variant that was made and is not in it."""
    filters: Thresholds = ()
    revision: int = 1
    account: Account | None = None
    """What report.html and methods.md say; without one they are not there."""

    def variants(self) -> list[dict[str, Any]]:
        """The lines of the manifest, in the order of the images."""
        return [picture.manifest for picture in self.pictures if picture.manifest is not None]


@dataclass
class _Paths:
    """Names in the zip, each given out once."""

    format: Format
    taken: set[str]

    def variant(self, source: Image, variant: int, extension: str) -> tuple[str, str | None]:
        """Image and label path of a variant; a name that is taken (by an upload that was expanded before, or by a
        namesake of another type) gets a letter more."""
        for more in ("", *"abcdefghijklmnopqrstuvwxyz"):
            suffix = f"_rg{variant}{more}"
            image, label = self.format.variant_paths(source.path, source.label_path, suffix, extension)
            own = {image} if label in (None, source.label_path) else {image, label}
            if not own & self.taken:
                self.taken |= own - {None}
                return image, label
        raise ValueError(f"no free name for variant {variant} of {source.path}")


def collect(session: Session, job_id: str) -> Contents:
    """All that a job's zip holds, or would if it ended now, free of the database."""
    wanted_rows = joinedload(Job.dataset).undefer(Dataset.header), joinedload(Job.archive)
    job = session.get_one(Job, job_id, options=wanted_rows)
    spec = ExpansionSpec.model_validate(job.spec)
    dataset = job.dataset
    images = session.scalars(
        select(Image).where(Image.dataset_id == dataset.id).order_by(Image.path).options(undefer(Image.label))
    ).all()
    items = session.scalars(
        select(Item)
        .join(Item.image)
        .where(Item.job_id == job_id, Item.state == ItemState.DONE)
        .order_by(Image.path, Item.variant)
        .options(contains_eager(Item.image).undefer(Image.label), joinedload(Item.verdict))
    ).all()
    filters = [Threshold.model_validate(each) for each in job.archive.filters] if job.archive else []
    left_out = {item.id: line for item in items if (line := _left_out(item, filters))}
    originals = images if spec.output.include_originals else []
    paths = _Paths(
        FORMATS[dataset.format],
        {image.path for image in images} | {image.label_path for image in images if image.label_path},
    )
    pictures = [
        *(
            Picture(_entry(image, image.path, image.label_path), source_key(image.sha256), image.group)
            for image in originals
        ),
        *(_variant(item, job, paths) for item in items if item.id not in left_out),
    ]
    pictures.sort(key=lambda picture: picture.entry.image)
    output = Output(
        layout=dataset.layout,
        names=dataset.classes,
        splits=dataset.splits if originals else spec.splits,
        header=dataset.header,
        entries=[picture.entry for picture in pictures],
    )
    wanted = spec.output.format
    account = accounts.gather(session, job_id)
    made = Contents(dataset.format, output, tuple(pictures), tuple(left_out.values()), filters, job.revision, account)
    if wanted in ("same", dataset.format):
        return made
    converted = convert.to(wanted, output)
    moved = (_moved(picture, entry) for picture, entry in zip(pictures, converted.entries, strict=True))
    return replace(made, format=wanted, output=converted, pictures=tuple(moved))


def file_name(job: Job) -> str:
    """What a job's zip is saved as: its name, as every system takes it, and not as the upload was called."""
    name = re.sub(r"[^\w.-]+", "_", job.name).strip("._") or job.id
    return f"{name}-expanded.zip"


def pack(contents: Contents, storage: Storage, *, partial: bool = False) -> Iterator[bytes]:
    """The bytes of the zip, an image at a time: uncompressed, since images are, and in a fixed order, so that equal
    contents are equal bytes. One that is `partial` says so in its README.txt.

    Raises FileNotFoundError where a stored file is gone.
    """
    tray = Tray()
    # What zipfile asks of a file, though not all that the type has.
    with zipfile.ZipFile(cast(IO[bytes], tray), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, data in _members(contents, storage, partial=partial):
            archive.writestr(zipfile.ZipInfo(name, _TIME), data)
            yield tray.take()
    yield tray.take()


def _members(contents: Contents, storage: Storage, *, partial: bool) -> Iterator[tuple[str, bytes]]:
    note = _PARTIAL if partial else ""
    yield "README.txt", (README.format(described=_DESCRIBED[contents.format]) + _missing(contents) + note).encode()
    yield from FORMATS[contents.format].files(contents.output)
    for picture in contents.pictures:
        yield picture.entry.image, storage.read(picture.key)
    yield "groups.csv", _groups(contents.pictures)
    yield "manifest.jsonl", _lines(contents.variants())
    if contents.left_out:
        yield "left_out.jsonl", _lines(contents.left_out)
    if contents.account:
        yield "report.html", accounts.page(contents.account, storage, partial=partial).encode()
        yield "methods.md", accounts.methods(contents.account).encode()


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()


def _missing(contents: Contents) -> str:
    """What README.txt says of variants that are not there."""
    if not contents.left_out and not contents.filters:
        return ""
    why = Counter(line["why"] for line in contents.left_out)
    filters = ", ".join(map(str, contents.filters)) or "there are none"
    return _LEFT_OUT.format(
        rejected=why["rejected"], filtered=why["filtered"], filters=filters, revision=contents.revision
    )


def _left_out(item: Item, filters: Thresholds) -> dict[str, Any] | None:
    """The line of a variant that is to be left out; None of one that is to be packed."""
    verdict, reasons = item.standing, failed(numbers(item.measures, item.seconds), filters)
    rejected = verdict is not None and verdict.decision == Decision.REJECT
    if not rejected and not reasons:
        return None
    return {
        "source": item.image.path,
        "source_sha256": item.image.sha256,
        "variant": item.variant,
        "item": item.id,
        "sha256": item.result_sha256,
        "why": "rejected" if rejected else "filtered",
        "verdict": _said(verdict),
        "filters": [str(threshold) for threshold in reasons],
        "measures": item.measures,
        "seconds": item.seconds,
    }


def _said(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {"decision": verdict.decision, "reason": verdict.reason, "by": verdict.by, "at": verdict.at}


def _moved(picture: Picture, entry: Entry) -> Picture:
    """A picture of a set that was converted: it lies elsewhere."""
    manifest = picture.manifest and picture.manifest | {"file": entry.image, "label": entry.label}
    return replace(picture, entry=entry, manifest=manifest)


def _entry(image: Image, path: str, label: str | None) -> Entry:
    """What a format writes of an image, or of its variant at `path`."""
    outlines = image.outlines or [None] * len(image.boxes)
    return Entry(
        image=path,
        split=image.split,
        label=label if image.label is not None else None,
        record=image.label,
        source=image.path,
        boxes=tuple(
            Box(int(index), x0, y0, x1, y1, None if outline is None else tuple(outline))
            for (index, x0, y0, x1, y1), outline in zip(image.boxes, outlines, strict=True)
        ),
        width=image.width,
        height=image.height,
        depth=len(getmode(image.mode).bands),
    )


def _variant(item: Item, job: Job, paths: _Paths) -> Picture:
    image = item.image
    key, made_by = item.result_key or "", item.made_by or {}
    entry = _entry(image, *paths.variant(image, item.variant, key.rpartition(".")[2]))
    manifest = {
        "file": entry.image,
        "sha256": item.result_sha256,
        "label": entry.label,
        "label_sha256": image.label_sha256,
        "source": image.path,
        "source_sha256": image.sha256,
        "variant": item.variant,
        "seed": item.seed,
        "work_key": item.work_key,
        # Of a job that went on with a new engine, what an earlier one has made keeps its name.
        "settings": job.resolved | {name: made_by[name] for name in ("engine", "prior_sha256") if name in made_by},
        "measures": item.measures,
        "verdict": _said(item.standing),
        "seconds": item.seconds,
        "made_by": made_by,
        "reused_from": item.reused_from,
        "job": job.id,
        "item": item.id,
    }
    return Picture(entry, key, image.group, manifest)


def _groups(pictures: Sequence[Picture]) -> bytes:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["file", "source", "group"])
    for picture in pictures:
        entry = picture.entry
        rows.writerow([entry.image, entry.source, picture.group or entry.source])
    return out.getvalue().encode()
