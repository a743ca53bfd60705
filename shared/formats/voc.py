"""Pascal VOC sets: an XML annotation for each image, and lists of the images of each split.

An image's record is its annotation, byte for byte; a variant's names its own file, and is else its source's.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from shared.errors import BadArchive, BadLabels
from shared.formats import lists, places, voc_xml
from shared.formats.faults import Faults, some
from shared.formats.places import role
from shared.formats.samples import Box, Contents, Output, Sample, is_image
from shared.formats.voc_xml import Annotation
from shared.formats.zips import SafeZip

ORIGINALS = ".originals.txt"
EXPECTED = """Expected, also inside other folders, is for example:
  JPEGImages/a.jpg
  Annotations/a.xml
  ImageSets/Main/train.txt
or train/a.jpg with train/a.xml beside it, and so on."""


def sign(members: Sequence[str]) -> str | None:
    """The member that makes an archive a VOC set: an XML file that belongs to an image."""
    images = frozenset(_stem(name) for name in members if is_image(name))
    return next((name for name in members if name.endswith(".xml") and _stem(name) in images), None)


def read(archive: SafeZip) -> Contents:
    """Read the annotations and lists of a VOC set. Images are found, not opened.

    The splits are those of the lists in ImageSets/Main, else the folders called train, val or test; else there is one,
    `train`. An image without an annotation is a background image. Classes are in alphabetical order, since nothing
    else says one. Raises BadArchive if the archive holds no such set, BadLabels with every fault of every annotation.
    """
    top = places.top(archive.members)
    images = _images(archive.members)
    if not images:
        raise BadArchive(f"The archive holds no image. {EXPECTED}")
    faults = Faults()
    texts = _lists(archive, faults)
    paired, lost = _pairs(images, [name for name in archive.members if name.endswith(".xml")])
    splits, named, unlisted = _splits(images, texts, faults)
    faults.refuse(BadLabels, "The lists of images cannot be used.")
    data = {image: archive.read(paired[image], archive.limits.text_bytes) for image in splits if image in paired}
    annotations = {image: voc_xml.parse(xml, paired[image], faults) for image, xml in data.items()}
    faults.refuse(BadLabels, "The labels cannot be used.")
    names = sorted({name for found in annotations.values() if found for name, _ in found.boxes})
    position = {name: at for at, name in enumerate(names)}
    masks = frozenset(archive.members)
    samples = []
    for image, split in splits.items():
        found, mask = annotations.get(image), places.mask_path(image)
        samples.append(
            Sample(
                split=split,
                image=image.removeprefix(top),
                member=image,
                label=paired[image].removeprefix(top) if image in data else None,
                label_bytes=data.get(image),
                boxes=_classed(found, position),
                mask=mask if mask in masks else None,
                size=found.size if found else None,
            )
        )
    warnings = [
        f"{sentence} ({len(found)}): {some(found)}."
        for sentence, found in (
            ("Annotations without an image are left out", lost),
            ("Listed images are not in the archive, and left out", named),
            ("Images that no list of a split names are left out", unlisted),
        )
        if found
    ]
    warnings += places.without_train(splits.values())
    return Contents(
        format="voc",
        layout=places.layout(((s.image, s.split) for s in samples), by_folder=not texts),
        names=tuple(names),
        splits=tuple(dict.fromkeys(splits.values())),
        samples=tuple(samples),
        header=lists.pack({name.removeprefix(top): text for name, text in texts.items()}),
        warnings=tuple(warnings),
        unpaired=(*lost, *named, *unlisted),
    )


def variant_paths(image: str, label: str | None, stem_suffix: str, extension: str, /) -> tuple[str, str | None]:
    """Paths of a variant's image and annotation, beside those of its source."""
    xml = None if label is None else f"{label.rpartition('.')[0]}{stem_suffix}.xml"
    return f"{image.rpartition('.')[0]}{stem_suffix}.{extension}", xml


def without(header: bytes | None, gone: Mapping[str, str], kept: Mapping[str, str], /) -> bytes | None:
    """The lists without the lines of images that are gone."""
    kept_stems = set(map(_stem, kept))
    stems = set(map(_stem, gone)) - kept_stems

    def named(line: str) -> bool:
        return line in stems or (line not in kept_stems and _marked(line) in stems)

    return lists.pack({name: lists.without(text, named) for name, text in lists.unpack(header).items()})


def files(output: Output) -> Iterator[tuple[str, bytes]]:
    """The annotations, and the lists with the variants; where there are originals too, lists of those alone, for a
    baseline."""
    for entry in output.entries:
        if entry.label is not None and entry.record is not None:
            name = entry.image.rpartition("/")[2]
            yield entry.label, voc_xml.renamed(entry.record, name) if entry.is_variant else entry.record
    texts = lists.unpack(output.header)
    if not texts:
        return
    whole = output.has_originals
    by_stem = {_stem(entry.source): entry.source for entry in output.entries}

    def find(line: str) -> str | None:
        return by_stem.get(line) or by_stem.get(_marked(line))

    def line_for(line: str, image: str) -> str:
        return _stem(image) + ("" if line in by_stem else line[len(_marked(line)) :])

    for name, data in lists.files(texts, output.entries, find, line_for, whole=whole):
        yield name, data
        if whole and data != texts[name].encode():
            yield name.removesuffix(".txt") + ORIGINALS, texts[name].encode()


def _marked(line: str) -> str:
    """What a line of a class's list names, before the mark that says whether the class is in the image."""
    return line.rsplit(None, 1)[0]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _images(members: Sequence[str]) -> list[str]:
    """The set's images, without masks: VOC's own lie in folders called Segmentation..., under the images' names."""
    found = places.pictures(members)
    return [name for name in found if "JPEGImages" in name.split("/")[:-1]] or found


def _lists(archive: SafeZip, faults: Faults) -> dict[str, str]:
    names = [
        name
        for name in archive.members
        if name.endswith(".txt") and not name.endswith(ORIGINALS) and "ImageSets/Main" in posixpath.dirname(name)
    ]
    return {name: lists.decoded(archive.read(name, archive.limits.text_bytes), name, faults) for name in names}


def _pairs(images: Sequence[str], xmls: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Each image's annotation, and those that belong to none.

    It lies beside its image or where JPEGImages or images became Annotations; else it is the only one of its name, of
    an image that is the only one of its name.
    """
    by_place: dict[tuple[str, ...], list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_place.setdefault(_place(image), []).append(image)
        by_stem.setdefault(_stem(image), []).append(image)
    paired: dict[str, str] = {}
    far = []
    for xml in xmls:
        near = [image for image in by_place.get(_place(xml), ()) if image not in paired]
        if near:
            paired[near[0]] = xml
        else:
            far.append(xml)
    lost, namesakes = [], Counter(map(_stem, far))
    for xml in far:
        alone = namesakes[_stem(xml)] == 1
        left = [image for image in by_stem.get(_stem(xml), ()) if image not in paired] if alone else []
        if len(left) == 1:
            paired[left[0]] = xml
        else:
            lost.append(xml)
    return paired, lost


def _place(path: str) -> tuple[str, ...]:
    """The same of an image and of an annotation beside it or in the folder in place of JPEGImages."""
    folders = path.split("/")[:-1]
    same = ("" if folder.lower() in ("jpegimages", "images", "annotations") else folder for folder in folders)
    return (*same, _stem(path))


def _splits(
    images: Sequence[str], texts: Mapping[str, str], faults: Faults
) -> tuple[dict[str, str], list[str], list[str]]:
    """The split of each image, by the archive's order; listed names that are no image; images that no list names."""
    called = {name: name.rpartition("/")[2].removesuffix(".txt") for name in texts}
    of_split = {name: split for name, split in called.items() if role(split)}
    of_split = of_split or {name: split for name, split in called.items() if split == "trainval"}
    if not of_split:
        return {image: places.by_folder(image) for image in images}, [], []
    splits: dict[str, str] = {}
    for name, split in of_split.items():
        for number, line in enumerate(texts[name].removeprefix("\ufeff").splitlines(), start=1):
            stem = line.strip()
            if stem and splits.setdefault(stem, split) != split:
                faults.add(f"{name}:{number}", f"{stem} is in {splits[stem]} too; an image has one split")
    stems = {_stem(image) for image in images}
    missing = [stem for stem in splits if stem not in stems]
    found = {image: splits[_stem(image)] for image in images if _stem(image) in splits}
    if not found:
        raise BadArchive(f"None of the listed images is in the archive ({some(missing, 2)}). {EXPECTED}")
    return found, missing, [image for image in images if image not in found]


def _classed(found: Annotation | None, position: Mapping[str, int]) -> tuple[Box, ...]:
    return tuple(replace(box, class_index=position[name]) for name, box in found.boxes) if found else ()
