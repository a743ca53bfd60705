"""One set of images with boxes of whole pixels, as a zip in each format."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Picture:
    data: bytes
    width: int
    height: int
    boxes: Sequence[tuple[int, int, int, int]]
    """x0, y0, x1, y1, from 0, the last pixel not included."""


Pictures = Mapping[str, Mapping[str, Picture]]
"""By split and file name."""


def yolo(pictures: Pictures) -> dict[str, bytes]:
    files = {"data.yaml": b"names: [fractured]\n"}
    for split, its in pictures.items():
        for name, picture in its.items():
            sides = picture.width, picture.height
            lines = []
            for x0, y0, x1, y1 in picture.boxes:
                numbers = (x0 + x1) / 2 / sides[0], (y0 + y1) / 2 / sides[1], (x1 - x0) / sides[0], (y1 - y0) / sides[1]
                lines.append(f"0 {' '.join(map(repr, numbers))}\n")
            files[f"images/{split}/{name}"] = picture.data
            files[f"labels/{split}/{Path(name).stem}.txt"] = "".join(lines).encode()
    return files


def coco(pictures: Pictures) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for split, its in pictures.items():
        images, annotations = [], []
        for number, (name, picture) in enumerate(its.items()):
            files[f"{split}/{name}"] = picture.data
            images.append({"id": 50 + number, "file_name": name, "width": picture.width, "height": picture.height})
            for x0, y0, x1, y1 in picture.boxes:
                box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0, "my own": ["ü", 1.5]}
                annotations.append({"id": 900 - len(annotations), "image_id": 50 + number, "category_id": 7, **box})
        whole = {"info": {"version": "1"}, "images": images, "annotations": annotations}
        whole["categories"] = [{"id": 7, "name": "fractured"}]
        files[f"annotations/instances_{split}.json"] = json.dumps(whole).encode()
    return files


def voc(pictures: Pictures) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for split, its in pictures.items():
        for name, picture in its.items():
            objects = "".join(
                f"<object><name>fractured</name><pose>Left</pose><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
                f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                for x0, y0, x1, y1 in picture.boxes
            )
            size = f"<size><width>{picture.width}</width><height>{picture.height}</height></size>"
            files[f"JPEGImages/{name}"] = picture.data
            files[f"Annotations/{Path(name).stem}.xml"] = (
                f"<annotation><filename>{name}</filename>{size}{objects}</annotation>".encode()
            )
        files[f"ImageSets/Main/{split}.txt"] = "".join(f"{Path(name).stem}\n" for name in its).encode()
    return files


SETS: Mapping[str, Callable[[Pictures], dict[str, bytes]]] = {"yolo": yolo, "coco": coco, "voc": voc}


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
