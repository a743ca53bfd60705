"""YOLO sets as Darknet and CVAT ("YOLO 1.1") make them: each label file beside its image, and lists of images.

Labels are lines of YOLO's; a variant's label file is its source's, byte for byte.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from shared.errors import BadArchive, BadLabels
from shared.formats import lists, places, yolo_labels, yolo_yaml
from shared.formats.faults import Faults, some
from shared.formats.places import Finder, role
from shared.formats.samples import Contents, Output, Sample, is_image
from shared.formats.yolo_labels import LabelFile
from shared.formats.zips import SafeZip

EXPECTED = """Expected, also inside other folders, is for example:
  obj.names
  train.txt
  obj_train_data/a.jpg
  obj_train_data/a.txt"""

ORIGINALS = ".originals.txt"


def sign(members: Sequence[str]) -> str | None:
    """The member that makes an archive such a set: its description, or a label file beside its image."""
    if found := next((name for name in members if name.rpartition("/")[2] in ("obj.data", "obj.names")), None):
        return found
    labels = {_label(name) for name in members if is_image(name)}
    return next((name for name in members if name in labels), None)


def read(archive: SafeZip) -> Contents:
    """Read images, labels, class names and lists. Images are found, not opened.

    The splits are those of the lists train.txt, valid.txt and so on, else of the folders called train, val or test;
    else there is one, `train`. Raises BadArchive if the archive holds no such set, BadLabels with every fault.
    """
    members = frozenset(archive.members)
    images = places.pictures(archive.members)
    if not images:
        raise BadArchive(f"The archive holds no image. {EXPECTED}")
    top, faults = places.top(archive.members), Faults()
    texts = {
        name: lists.decoded(archive.read(name, archive.limits.text_bytes), name, faults)
        for name in archive.members
        if _is_description(name)
    }
    splits, missing = _splits(images, texts, faults)
    faults.refuse(BadLabels, "The lists of images cannot be used.")
    names = next((tuple(lists.lines(text)) for name, text in texts.items() if _is_names(name)), None)
    files: dict[str, tuple[bytes, LabelFile]] = {}
    for image in splits:
        if (label := _label(image)) in members and label not in files:
            text = archive.read(label, archive.limits.text_bytes)
            files[label] = text, yolo_labels.parse(text, label, 0, None if names is None else len(names), faults)
    faults.refuse(BadLabels, "The labels cannot be used.")
    samples = []
    for image, split in splits.items():
        label = _label(image)
        data, found = files.get(label, (None, None))
        mask = places.mask_path(image)
        samples.append(
            Sample(
                split=split,
                image=image.removeprefix(top),
                member=image,
                label=None if data is None else label.removeprefix(top),
                label_bytes=data,
                boxes=found.boxes if found else (),
                mask=mask if mask in members else None,
            )
        )
    warnings = []
    if names is None:
        highest = max((box.class_index for sample in samples for box in sample.boxes), default=-1)
        names = yolo_yaml.unnamed(highest + 1)
        warnings.append("No obj.names or classes.txt names the classes; they are called class_0, class_1 and so on.")
    unlisted = [image for image in images if image not in splits]
    for sentence, which in (
        ("Listed images are not in the archive, and left out", missing),
        ("Images that no list names are left out", unlisted),
    ):
        if which:
            warnings.append(f"{sentence} ({len(which)}): {some(which)}.")
    warnings += places.without_train(splits.values())
    return Contents(
        format="darknet",
        layout=places.layout(((s.image, s.split) for s in samples), by_folder=not any(map(_list_split, texts))),
        names=names,
        splits=tuple(dict.fromkeys(splits.values())),
        samples=tuple(samples),
        header=lists.pack({name.removeprefix(top): text for name, text in texts.items()}),
        warnings=tuple(warnings),
        labels=yolo_labels.kind([found for _, found in files.values()]),
        unpaired=(*missing, *unlisted),
    )


def variant_paths(image: str, _of_source: str | None, stem_suffix: str, extension: str, /) -> tuple[str, str | None]:
    """Paths of a variant's image and label file, beside its source."""
    variant = f"{image.rpartition('.')[0]}{stem_suffix}.{extension}"
    return variant, _label(variant)


def without(header: bytes | None, gone: Mapping[str, str], kept: Mapping[str, str], /) -> bytes | None:
    """The lists without the lines of images that are gone."""
    splits = {**kept, **gone}
    finder = Finder(splits)

    def shorter(name: str, text: str) -> str:
        split = _list_split(name)

        def named(line: str) -> bool:
            fits, _ = finder.find(line, "", split or "")
            of_split = [fit for fit in fits if splits[fit] == split]
            return bool(of_split) and of_split[0] in gone

        return text if split is None else lists.without(text, named)

    return lists.pack({name: shorter(name, text) for name, text in lists.unpack(header).items()})


def files(output: Output) -> Iterator[tuple[str, bytes]]:
    """The label files, the class names, and the lists with the variants; where there are originals too, lists of those
    alone, for a baseline."""
    yield from {e.label: e.record for e in output.entries if e.label is not None and e.record is not None}.items()
    texts = lists.unpack(output.header)
    finder = Finder(entry.source for entry in output.entries)
    splits = {entry.source: entry.split for entry in output.entries}

    def line_for(line: str, image: str) -> str:
        folder = re.match(r"(.*[\\/])?", line)
        return (folder[0] if folder else "") + image.rpartition("/")[2]

    for name, text in texts.items():
        split = _list_split(name)
        if split is None:
            yield name, text.encode()
            continue

        def find(line: str, split: str = split) -> str | None:
            fits, _ = finder.find(line, "", split)
            fits = [fit for fit in fits if splits[fit] == split]
            return fits[0] if fits else None

        for same, data in lists.files({name: text}, output.entries, find, line_for, whole=output.has_originals):
            yield same, data
            if output.has_originals and data != text.encode():
                yield name.removesuffix(".txt") + ORIGINALS, text.encode()


def _label(image: str) -> str:
    return f"{image.rpartition('.')[0]}.txt"


def _is_names(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file.endswith((".names", "_darknet.labels")) or file == "classes.txt"


def _is_description(name: str) -> bool:
    return _is_names(name) or name.endswith(".data") or _list_split(name) is not None


def _list_split(name: str) -> str | None:
    """The split whose images a file lists."""
    file = name.rpartition("/")[2]
    stem = file.removesuffix(".txt")
    return stem if file.endswith(".txt") and role(stem) else None


def _splits(images: Sequence[str], texts: Mapping[str, str], faults: Faults) -> tuple[dict[str, str], list[str]]:
    """The split of each image in the archive's order, and listed names that are no image."""
    finder, splits, missing = Finder(images), dict[str, str](), list[str]()
    listed = {name: split for name in texts if (split := _list_split(name))}
    if not listed:
        return {image: places.by_folder(image) for image in images}, []
    for name, split in listed.items():
        for number, line in enumerate(texts[name].removeprefix("\ufeff").splitlines(), start=1):
            if not line.strip():
                continue
            fits, _ = finder.find(line.strip(), name.rpartition("/")[0], split)
            if not fits:
                missing.append(line.strip())
            elif len(fits) > 1:
                faults.add(f"{name}:{number}", f"can be any of several images: {some(fits, 3)}")
            elif splits.setdefault(fits[0], split) != split:
                faults.add(f"{name}:{number}", f"{fits[0]} is in {splits[fits[0]]} too; an image has one split")
    if not splits and not faults.count:
        raise BadArchive(f"None of the listed images is in the archive ({some(missing, 2)}). {EXPECTED}")
    return {image: splits[image] for image in images if image in splits}, missing
