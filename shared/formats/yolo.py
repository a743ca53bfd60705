"""YOLO sets as Ultralytics and Roboflow make them: one text file of labels for each image, and a data.yaml.

Labels are never made anew: a variant's label file is its source's, byte for byte.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shared.errors import BadArchive, BadLabels
from shared.formats import yolo_labels, yolo_layout, yolo_yaml
from shared.formats.faults import Faults, some
from shared.formats.places import role
from shared.formats.samples import Contents, Output, Sample
from shared.formats.yolo_labels import LabelFile
from shared.formats.yolo_layout import Arrangement, label_path, mask_path
from shared.formats.yolo_yaml import ORIGINALS_LIST, Description
from shared.formats.zips import SafeZip

NO_LABELS = frozenset({"classes.txt"})
"""Files that labelling tools leave among the labels."""


def read(archive: SafeZip) -> Contents:
    """Read images, labels and data.yaml of a YOLO set. Images are found, not opened.

    An image without a label file, or with an empty one, is a background image. Raises BadArchive if the archive does
    not hold one YOLO set or a file in it is damaged, BadLabels with every fault of data.yaml, or, when that is in
    order, with every fault of every label file.
    """
    described_in = _description_name(archive.members)
    header = archive.read(described_in, yolo_yaml.YAML_BYTES) if described_in else None
    faults = Faults()
    description = Description() if header is None else yolo_yaml.parse(header, described_in, faults)
    faults.refuse(BadLabels, "The description of the data set cannot be used.")

    arrangement = yolo_layout.find(archive.members, description, described_in)
    samples, files = _samples(archive, arrangement, description)
    names = description.names
    warnings = list(arrangement.warnings)
    if names is None:
        highest = max((box.class_index for sample in samples for box in sample.boxes), default=-1)
        names = yolo_yaml.unnamed(highest + 1)
        warnings.append("No data.yaml names the classes; they are called class_0, class_1 and so on.")
    warnings += _label_warnings(archive.members, samples, files)
    return Contents(
        format="yolo",
        layout=arrangement.layout,
        names=names,
        splits=tuple(dict.fromkeys(sample.split for sample in samples)),
        samples=samples,
        header=header,
        warnings=tuple(warnings),
        labels="key points" if description.keypoint_numbers else yolo_labels.kind(files.values()),
        unpaired=tuple(_lost(archive.members, files)) + arrangement.outside,
    )


def sign(members: Sequence[str]) -> str | None:
    """The member that makes an archive a YOLO set: a label file."""
    return next(_label_files(members), None)


def variant_paths(image: str, _of_source: str | None, stem_suffix: str, extension: str, /) -> tuple[str, str | None]:
    """Paths of a variant's image and label file, beside those of its source.

    `image` is the source's path, as Sample.image; `extension` is without a dot:
    ("images/train/a.jpg", ..., "_rg1", "png") -> ("images/train/a_rg1.png", "labels/train/a_rg1.txt").
    """
    variant = f"{image.rpartition('.')[0]}{stem_suffix}.{extension}"
    return variant, label_path(variant)


def without(header: bytes | None, _gone: Mapping[str, str], _kept: Mapping[str, str], /) -> bytes | None:
    """The header as it is: it names no image."""
    return header


def files(output: Output) -> Iterator[tuple[str, bytes]]:
    """The label files, and a data.yaml that trains as it is; where there are originals too, one for the baseline."""
    described = output.names, output.layout, output.splits, output.header
    yield "data.yaml", yolo_yaml.data_yaml(*described)
    train = [entry.image for entry in output.entries if not entry.is_variant and role(entry.split) == "train"]
    if train:
        yield "data.originals.yaml", yolo_yaml.originals_yaml(*described)
        yield ORIGINALS_LIST, yolo_yaml.originals_list(train)
    # Two images of one stem share their label file.
    yield from {e.label: e.record for e in output.entries if e.label is not None and e.record is not None}.items()


def _description_name(members: Sequence[str]) -> str:
    """The data.yaml that lies highest, else the only YAML file there; "" if there is none."""
    found = [name for name in members if name.lower().endswith((".yaml", ".yml"))]
    called_data = [name for name in found if name.rpartition("/")[2].lower() in ("data.yaml", "data.yml")]
    found = called_data or found
    highest = [name for name in found if name.count("/") == min(other.count("/") for other in found)]
    if len(highest) > 1 and called_data:
        raise BadArchive(f"There is more than one data.yaml: {some(highest)}. Upload one data set at a time.")
    return highest[0] if len(highest) == 1 else ""


def _samples(
    archive: SafeZip, arrangement: Arrangement, description: Description
) -> tuple[tuple[Sample, ...], dict[str, LabelFile]]:
    """The samples, and what was read by the name of the label file in the archive."""
    members = frozenset(archive.members)
    classes = None if description.names is None else len(description.names)
    faults = Faults()
    files: dict[str, LabelFile] = {}
    samples = []
    for image, split in arrangement.splits.items():
        label, mask = label_path(image), mask_path(image)
        data = archive.read(label, archive.limits.text_bytes) if label in members else None
        if data is not None and label not in files:
            files[label] = yolo_labels.parse(data, label, description.keypoint_numbers, classes, faults)
        samples.append(
            Sample(
                split=split,
                image=image.removeprefix(arrangement.top),
                member=image,
                label=None if data is None else label.removeprefix(arrangement.top),
                label_bytes=data,
                boxes=() if data is None else files[label].boxes,
                mask=mask if mask in members else None,
            )
        )
    faults.refuse(BadLabels, "The labels cannot be used.")
    return tuple(samples), files


def _label_warnings(members: Sequence[str], samples: Iterable[Sample], files: Mapping[str, LabelFile]) -> Iterable[str]:
    lost = _lost(members, files)
    images: dict[str, list[str]] = {}
    for sample in samples:
        images.setdefault(label_path(sample.member), []).append(sample.member)
    for found, sentence in (
        (lost, "Label files without an image are left out"),
        ([image for same in images.values() if len(same) > 1 for image in same], "Images share one label file"),
        (_where(files, "has_bom"), "Label files begin with a byte order mark, over which Ultralytics stumbles"),
        (_where(files, "has_confidence"), "Label lines have a confidence, and Ultralytics leaves out such files"),
        (_where(files, "mixes_polygons"), "Boxes and polygons stand in one file, where Ultralytics misreads the boxes"),
    ):
        if found:
            yield f"{sentence}: {some(found)}."
    if not files:
        yield "There is no label file: every image counts as background."


def _lost(members: Sequence[str], files: Mapping[str, LabelFile]) -> list[str]:
    return [name for name in _label_files(members) if name not in files]


def _label_files(members: Sequence[str]) -> Iterator[str]:
    for name in members:
        *folders, file = name.split("/")
        if file.endswith(".txt") and file not in NO_LABELS and "labels" in folders:
            yield name


def _where(files: Mapping[str, LabelFile], trait: str) -> list[str]:
    return [name for name, file in files.items() if getattr(file, trait)]
