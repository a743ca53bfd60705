"""COCO sets: one JSON document a split, which lists its images and their labels.

An image's record is its own entry in the document and those of its labels, as JSON. A variant's are clones of its
source's under new ids above the largest; all else in a document stays as it was.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from shared.errors import BadArchive, BadLabels
from shared.formats import places
from shared.formats.coco_document import Document, Listed, is_coco, load, parse
from shared.formats.faults import Faults, shown, some
from shared.formats.places import Finder, role
from shared.formats.samples import Box, Contents, Entry, Output, Sample
from shared.formats.zips import SafeZip

DOCUMENT_BYTES = 256 * 2**20
"""Largest document that is read; half a million boxes with polygons fit."""

ROBOFLOW = "_annotations.coco.json"
ORIGINALS = ".originals.json"
EXPECTED = """Expected, also inside other folders, is for example:
  annotations/instances_train.json
  annotations/instances_val.json
and the images that they name, anywhere; or train/_annotations.coco.json beside its images, and so on."""


def sign(members: Sequence[str]) -> str | None:
    """The member that makes an archive a COCO set."""
    found = _by_name(members)
    return found[0] if found else None


def read(archive: SafeZip) -> Contents:
    """Read the documents of a COCO set. Images are found, not opened.

    An image without an annotation is a background image; images that no document lists are left out. Raises BadArchive
    if the archive holds no such set, BadLabels with every fault of every document.
    """
    members = archive.members
    documents, warnings = _documents(archive)
    top = places.top(members)
    images, known = places.pictures(members), frozenset(members)
    faults = Faults()
    classes = _classes(documents, faults)
    finder, found, unpaired = Finder(images), dict[str, tuple[str, Listed]](), list[str]()
    inexact = []
    for name, (split, document) in documents.items():
        for listed in document.images:
            fits, whole = finder.find(listed.record["file_name"], posixpath.dirname(name), split)
            if not fits:
                unpaired.append(listed.record["file_name"])
            elif len(fits) > 1:
                faults.add(f"{listed.place}.file_name", f"can be any of several images: {some(fits, 3)}")
            elif fits[0] in found:
                faults.add(f"{listed.place}.file_name", f"is {shown(fits[0])}, as in {found[fits[0]][1].place}")
            else:
                found[fits[0]] = name, listed
                inexact += [] if whole else [listed.record["file_name"]]
    faults.refuse(BadLabels, "The labels cannot be used.")
    if not found:
        raise BadArchive(
            f"None of the {len(unpaired)} listed images is in the archive ({some(unpaired, 2)}). {EXPECTED}"
        )
    position = {name: at for at, name in enumerate(classes)}
    samples = []
    for image, (name, listed) in found.items():
        split, document = documents[name]
        mask = places.mask_path(image)
        samples.append(
            Sample(
                split=split,
                image=image.removeprefix(top),
                member=image,
                label=name.removeprefix(top),
                label_bytes=_dump({"image": listed.record, "annotations": listed.annotations}),
                boxes=tuple(_classed(box, position[category]) for category, box in listed.boxes),
                mask=mask if mask in known else None,
                size=listed.size,
                identity=_identity(listed, classes),
            )
        )
    unlisted = [image for image in images if image not in found]
    splits = tuple(dict.fromkeys(split for split, _ in documents.values()))
    for sentence, names in (
        ("Listed images are not in the archive, and left out", unpaired),
        ("Images that no document lists are left out", unlisted),
        ("Images were found by the end of their path only", inexact),
    ):
        if names:
            warnings.append(f"{sentence} ({len(names)}): {some(names)}.")
    if parts := sum(document.parts for _, document in documents.values()):
        warnings.append(f"{parts} labels have several parts or are given as pixels; they count by their box.")
    warnings += places.without_train(splits)
    return Contents(
        format="coco",
        layout=_layout({name: split for name, (split, _) in documents.items()}, top),
        names=tuple(classes.values()),
        splits=tuple(split for split in splits if any(sample.split == split for sample in samples)),
        samples=tuple(samples),
        header=_dump({name.removeprefix(top): _header(split, d) for name, (split, d) in documents.items()}),
        warnings=tuple(warnings),
        labels="polygons" if any(document.has_polygons for _, document in documents.values()) else "boxes",
        unpaired=tuple(unpaired + unlisted),
    )


def variant_paths(image: str, label: str | None, stem_suffix: str, extension: str, /) -> tuple[str, str | None]:
    """Paths of a variant's image and of the document that lists it, which is its source's."""
    return f"{image.rpartition('.')[0]}{stem_suffix}.{extension}", label


def without(header: bytes | None, _gone: Mapping[str, str], _kept: Mapping[str, str], /) -> bytes | None:
    """The header as it is: it names no image."""
    return header


def files(output: Output) -> Iterator[tuple[str, bytes]]:
    """The documents, as read, with the variants after the originals; and where there are both, documents of the
    originals alone, for a baseline."""
    for name, header in json.loads(output.header or b"{}").items():
        entries = [entry for entry in output.entries if entry.label == name]
        if not entries and not output.has_originals:
            continue
        yield name, _dump(_document(header, entries))
        originals = [entry for entry in entries if not entry.is_variant]
        if 0 < len(originals) < len(entries):
            yield name.removesuffix(".json") + ORIGINALS, _dump(_document(header, originals))


def _documents(archive: SafeZip) -> tuple[dict[str, tuple[str, Document]], list[str]]:
    """The documents by their names in the archive, each with its split, and what is to be said of the choice."""
    faults, loaded, other = Faults(), dict[str, dict[str, Any]](), list[str]()
    for name in _by_name(archive.members) or [name for name in archive.members if name.endswith(".json")]:
        document = load(archive.read(name, DOCUMENT_BYTES), name, faults)
        if document is not None and is_coco(document):
            loaded[name] = document
        else:
            other.append(name)
    faults.refuse(BadLabels, "The labels cannot be used.")
    if not loaded:
        found = f"{some(other, 3)}: without lists of images, annotations and categories" if other else "no .json file"
        raise BadArchive(f"The archive holds no COCO document ({found}). {EXPECTED}")
    by_split: dict[str, list[str]] = {}
    for name in loaded:
        by_split.setdefault(_split(name, alone=len(loaded) == 1), []).append(name)
    chosen: dict[str, tuple[str, Document]] = {}
    for split, names in by_split.items():
        called = [name for name in names if name.rpartition("/")[2].startswith("instances_")] or names
        if len(called) > 1:
            raise BadArchive(
                f"There is more than one document of {split}: {some(called)}. Upload one data set at a time."
            )
        other += [name for name in names if name != called[0]]
        parsed = parse(loaded[called[0]], called[0], faults)
        if parsed is not None:
            chosen[called[0]] = split, parsed
    faults.refuse(BadLabels, "The labels cannot be used.")
    return chosen, [f"Other .json files are left out: {some(other)}."] if other else []


def _by_name(members: Sequence[str]) -> list[str]:
    """The documents that are called or lie as COCO's do."""
    jsons = [name for name in members if name.endswith(".json") and not name.endswith(ORIGINALS)]
    return [
        name
        for name in jsons
        if name.endswith(".coco.json")
        or "annotations" in name.lower().split("/")[:-1]
        or _role_in(name.rpartition("/")[2].removesuffix(".json"))
        or name.rpartition("/")[2].startswith("instances_")
    ]


def _role_in(stem: str) -> str | None:
    return next((piece for piece in re.split(r"[-._ ]+", stem) if role(piece)), None)


def _split(name: str, *, alone: bool) -> str:
    """A document's split, by its own name or by that of the folder it lies in; one that stands alone is `train`."""
    *folders, file = name.split("/")
    stem = file.removesuffix(".json").removeprefix("instances_")
    by_folder = next((folder for folder in reversed(folders) if role(folder)), None)
    found = _role_in(stem) or by_folder
    return found or ("train" if alone else folders[-1] if file == ROBOFLOW and folders else stem)


def _classes(documents: Mapping[str, tuple[str, Document]], faults: Faults) -> dict[Any, str]:
    """The names of all categories by their ids, in the documents' order."""
    classes: dict[Any, str] = {}
    for name, (_, document) in documents.items():
        for number, called in document.categories.items():
            if classes.setdefault(number, called) != called:
                faults.add(
                    f"{name}: categories", f"{number} is {shown(called)} here and {shown(classes[number])} before"
                )
    return classes


def _identity(listed: Listed, classes: Mapping[Any, str]) -> bytes:
    """The labels without their ids, which whoever writes a document anew gives out anew."""
    numbers = frozenset({"id", "image_id", "category_id"})
    return _dump(
        [
            [classes[annotation["category_id"]], {k: v for k, v in annotation.items() if k not in numbers}]
            for annotation in listed.annotations
        ]
    )


def _classed(box: Box, index: int) -> Box:
    return replace(box, class_index=index)


def _layout(splits: Mapping[str, str], top: str) -> str:
    """The documents' name with {split} in the split's place, if that is one for all."""
    patterns = set()
    for name, split in splits.items():
        before, found, after = name.removeprefix(top).rpartition(split)
        patterns.add(before + "{split}" + after if found else name.removeprefix(top))
    return patterns.pop() if len(patterns) == 1 else posixpath.commonpath([f"./{name}" for name in patterns])[2:] or "."


def _header(split: str, document: Document) -> dict[str, Any]:
    return {"split": split, "frame": document.frame, "last": document.last, "text": document.text}


def _document(header: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    fresh = {key: map(str if header["text"][key] else int, count(last + 1)) for key, last in header["last"].items()}
    images, annotations = [], []
    for entry in sorted(entries, key=lambda entry: entry.is_variant):
        if entry.record is None:
            continue
        record = json.loads(entry.record)
        if entry.is_variant:
            _clone(record, entry.image, fresh)
        images.append(record["image"])
        annotations += record["annotations"]
    frame: dict[str, Any] = header["frame"]
    return frame | {"images": images, "annotations": annotations}


def _clone(record: dict[str, Any], image: str, fresh: Mapping[str, Iterator[Any]]) -> None:
    """Make a source's record that of a variant."""
    new = record["image"]
    folder = re.match(r"(.*[\\/])?", new["file_name"])
    new["id"] = next(fresh["images"])
    new["file_name"] = (folder[0] if folder else "") + image.rpartition("/")[2]
    for annotation in record["annotations"]:
        annotation["id"], annotation["image_id"] = next(fresh["annotations"]), new["id"]


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
