"""The boxes of a set in another format: what a user asks for whose trainer reads another than the upload.

Only boxes are carried over, and to COCO outlines too. Splits keep their names and classes their order.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from xml.sax.saxutils import escape

from shared.formats import lists
from shared.formats.samples import Box, Entry, Output


@dataclass(frozen=True, slots=True)
class Target:
    """A format that sets are converted to: its layout, where an image of a split lies, where its labels do by split
    and stem, and what makes the records (by the originals' paths) and the header."""

    layout: str
    image: str
    label: str
    records: Callable[[Sequence[Entry], Output], tuple[Mapping[str, bytes], bytes | None]]


def to(kind: str, output: Output) -> Output:
    """`output` as a set of the format `kind`, one of TARGETS; its entries stay in their order.

    Boxes are the same in YOLO and COCO; Pascal VOC has whole pixels, to which they are rounded. Images are called as
    they were, and after their folders too where those would make two the same.
    """
    target = TARGETS[kind]
    names = _names(target, output.entries)

    def placed(entry: Entry) -> Entry:
        image = names[entry.image]
        stem = image.rpartition("/")[2].rpartition(".")[0]
        label = target.label.format(split=entry.split, stem=stem)
        return replace(entry, image=image, source=names[entry.source], label=label)

    entries = [placed(entry) for entry in output.entries]
    sources = {entry.source: placed(replace(entry, image=entry.source)) for entry in output.entries}
    records, header = target.records(list(sources.values()), output)
    return replace(
        output,
        layout=target.layout,
        header=header,
        entries=[replace(entry, record=records[entry.source]) for entry in entries],
    )


def _names(target: Target, entries: Iterable[Entry]) -> dict[str, str]:
    """The new path of each image, and of each original that a variant is of."""
    splits = {path: entry.split for entry in entries for path in (entry.image, entry.source)}
    folders = {path: target.image.format(split=split) for path, split in splits.items()}
    stems = Counter((folders[path], _stem(path.rpartition("/")[2])) for path in splits)
    names: dict[str, str] = {}
    taken: set[tuple[str, str]] = set()
    for path, folder in folders.items():
        own = path.rpartition("/")[2]
        name = own if stems[folder, _stem(own)] == 1 else path.replace("/", "_")
        stem, _, extension = name.rpartition(".")
        number = 1
        while (folder, _stem(name)) in taken:
            number += 1
            name = f"{stem}_{number}.{extension}"
        taken.add((folder, _stem(name)))
        names[path] = f"{folder}/{name}"
    return names


def _stem(name: str) -> str:
    return name.rpartition(".")[0].casefold()


def _yolo(sources: Sequence[Entry], _output: Output) -> tuple[Mapping[str, bytes], bytes | None]:
    return {entry.source: "".join(map(_yolo_line, entry.boxes)).encode() for entry in sources}, None


def _yolo_line(box: Box) -> str:
    numbers = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.x1 - box.x0, box.y1 - box.y0
    return f"{box.class_index} {' '.join(f'{number:.10g}' for number in numbers)}\n"


def _coco(sources: Sequence[Entry], output: Output) -> tuple[Mapping[str, bytes], bytes | None]:
    categories = [{"id": index, "name": name} for index, name in enumerate(output.names, start=1)]
    header, records = {}, {}
    for split in dict.fromkeys(entry.split for entry in sources):
        images = annotations = 0
        for images, entry in enumerate((entry for entry in sources if entry.split == split), start=1):
            records[entry.source] = _coco_record(entry, images, annotations)
            annotations += len(entry.boxes)
        header[TARGETS["coco"].label.format(split=split)] = {
            "split": split,
            "frame": {"images": [], "annotations": [], "categories": categories},
            "last": {"images": images, "annotations": annotations},
            "text": {"images": False, "annotations": False},
        }
    return records, json.dumps(header).encode()


def _coco_record(entry: Entry, number: int, before: int) -> bytes:
    """The record of image `number`; `before` it there were so many annotations."""
    annotations = []
    for index, box in enumerate(entry.boxes, start=before + 1):
        x, y = box.x0 * entry.width, box.y0 * entry.height
        width, height = box.x1 * entry.width - x, box.y1 * entry.height - y
        sides = (entry.width, entry.height) * (len(box.outline or ()) // 2)
        polygon = [share * side for share, side in zip(box.outline or (), sides, strict=True)]
        annotations.append(
            {
                "id": index,
                "image_id": number,
                "category_id": box.class_index + 1,
                "bbox": [round(value, 6) for value in (x, y, width, height)],
                "area": round(width * height, 6),
                "segmentation": [[round(value, 6) for value in polygon]] if polygon else [],
                "iscrowd": 0,
            }
        )
    image = {"id": number, "file_name": _file_name(entry), "width": entry.width, "height": entry.height}
    return json.dumps({"image": image, "annotations": annotations}).encode()


def _file_name(entry: Entry) -> str:
    return entry.source.rpartition("/")[2]


def _voc(sources: Sequence[Entry], output: Output) -> tuple[Mapping[str, bytes], bytes | None]:
    texts: dict[str, str] = {}
    for entry in sources:
        name = f"ImageSets/Main/{entry.split}.txt"
        texts[name] = texts.get(name, "") + _file_name(entry).rpartition(".")[0] + "\n"
    return {entry.source: _voc_record(entry, output.names) for entry in sources}, lists.pack(texts)


def _voc_record(entry: Entry, names: Sequence[str]) -> bytes:
    objects = "".join(
        f"\t<object>\n\t\t<name>{escape(names[box.class_index])}</name>\n\t\t<pose>Unspecified</pose>\n"
        "\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
        + "".join(f"\t\t\t<{key}>{value}</{key}>\n" for key, value in _voc_corners(box, entry).items())
        + "\t\t</bndbox>\n\t</object>\n"
        for box in entry.boxes
    )
    return (
        f"<annotation>\n\t<filename>{escape(_file_name(entry))}</filename>\n\t<size>\n"
        f"\t\t<width>{entry.width}</width>\n\t\t<height>{entry.height}</height>\n\t\t<depth>{entry.depth}</depth>\n"
        f"\t</size>\n\t<segmented>0</segmented>\n{objects}</annotation>\n"
    ).encode()


def _voc_corners(box: Box, entry: Entry) -> dict[str, int]:
    """The nearest whole pixels, from 1, the last one included; at least one pixel each way."""
    (xmin, xmax), (ymin, ymax) = (
        _pixels(start * side, end * side, side)
        for start, end, side in ((box.x0, box.x1, entry.width), (box.y0, box.y1, entry.height))
    )
    return {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}


def _pixels(start: float, end: float, side: int) -> tuple[int, int]:
    first = min(round(start) + 1, side)
    return first, max(round(end), first)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "yolo": Target("images/{split}", "images/{split}", "labels/{split}/{stem}.txt", _yolo),
        "coco": Target(
            "annotations/instances_{split}.json", "images/{split}", "annotations/instances_{split}.json", _coco
        ),
        "voc": Target("JPEGImages", "JPEGImages", "Annotations/{stem}.xml", _voc),
    }
)
