"""A set in another format has the same boxes, splits and classes."""

import json
from dataclasses import replace

import pytest
import yaml
from format_files import read, written
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.formats import convert
from shared.formats.samples import Box, Contents, Entry, Output

NAMES = ("zebra", "ape & <co>")


def entry(image: str, split: str, *boxes: Box, source: str = "", size: tuple[int, int] = (200, 100)) -> Entry:
    return Entry(image, split, None, None, source or image, boxes, *size)


def converted(kind: str, *entries: Entry) -> tuple[dict[str, bytes], Contents]:
    """The files of a set that was converted, and how it is read again."""
    splits = tuple(dict.fromkeys(each.split for each in entries))
    output = convert.to(kind, Output("somewhere", NAMES, splits, b"of another format", entries))
    contents = Contents(kind, output.layout, NAMES, splits, (), output.header, ())
    files = written(contents, output.entries)
    return files, read(files)


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int) -> Box:
    """Of whole pixels."""
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return Box(draw(st.integers(0, 1)), x0 / width, y0 / height, x1 / width, y1 / height)


@st.composite
def sets(draw: st.DrawFn) -> list[Entry]:
    """Images of several splits, some of the same name, with variants or not, with originals or not."""
    entries = []
    for split in draw(st.sampled_from([["train"], ["train", "valid"], ["train", "val", "test"]])):
        for stem in draw(st.lists(st.sampled_from(["a", "b", "p/a", "c d", "p_a"]), min_size=1, unique=True)):
            size = draw(st.integers(1, 900)), draw(st.integers(1, 900))
            source = entry(f"{split}/{stem}.jpg", split, *draw(st.lists(boxes(*size), max_size=3)), size=size)
            made = [replace(source, image=f"{split}/{stem}_rg{k}.png") for k in range(draw(st.integers(0, 2)))]
            entries += made if made and draw(st.booleans()) else [source, *made]
    return entries


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(list(convert.TARGETS)), sets())
def test_boxes_of_whole_pixels_are_the_same_in_every_format(kind: str, entries: list[Entry]) -> None:
    if kind == "yolo" and not any(each.boxes for each in entries):
        return  # nothing says that it is YOLO
    _, contents = converted(kind, *entries)
    order = convert.to(kind, Output("", NAMES, (), None, entries)).entries
    assert contents.format == kind
    by_image = {sample.image: sample for sample in contents.samples}
    assert len(by_image) == len(order) == len(entries)
    for source, placed in zip(entries, order, strict=True):
        sample = by_image[placed.image]
        assert sample.split == source.split
        assert [(contents.names[b.class_index], *_corners(b)) for b in sample.boxes] == [
            (NAMES[b.class_index], *map(_near, _corners(b))) for b in source.boxes
        ]


def _corners(box: Box) -> tuple[float, ...]:
    return box.x0, box.y0, box.x1, box.y1


def _near(value: float) -> object:
    return pytest.approx(value, abs=1e-7)


def test_pascal_voc_has_whole_pixels_and_the_others_do_not() -> None:
    box = Box(0, 0.1234, 0.2345, 0.5678, 0.6789)
    found = {kind: converted(kind, entry("a.jpg", "train", box))[1].samples[0].boxes[0] for kind in convert.TARGETS}
    for kind in ("yolo", "coco"):
        assert _corners(found[kind]) == pytest.approx(_corners(box), abs=1e-7)
    assert _corners(found["voc"]) == pytest.approx((25 / 200, 23 / 100, 114 / 200, 68 / 100))


def test_only_coco_gets_outlines() -> None:
    box = Box(1, 0.1, 0.1, 0.5, 0.5, outline=(0.1, 0.1, 0.5, 0.1, 0.3, 0.5))
    found = {kind: converted(kind, entry("a.jpg", "train", box))[1].samples[0].boxes[0] for kind in convert.TARGETS}
    assert found["coco"].outline == pytest.approx(box.outline)
    assert (found["yolo"].outline, found["voc"].outline) == (None, None)


def test_namesakes_get_their_folders_names_too() -> None:
    entries = [entry("x/p 1/a.jpg", "train"), entry("x/p 2/a.png", "train"), entry("x/b.jpg", "train")]
    files, _ = converted("coco", *entries)
    assert [name for name in files if name.endswith(("g", "G"))] == [
        "images/train/x_p 1_a.jpg",
        "images/train/x_p 2_a.png",
        "images/train/b.jpg",
    ]


def test_a_variant_is_written_as_one_of_its_source() -> None:
    box = Box(0, 0.1, 0.1, 0.5, 0.5)
    source = entry("data/a.jpg", "train", box)
    made = replace(source, image="data/a_rg1.png")
    coco = json.loads(converted("coco", source, made)[0]["annotations/instances_train.json"])
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [(1, "a.jpg"), (2, "a_rg1.png")]
    voc = converted("voc", source, made)[0]
    assert voc["ImageSets/Main/train.txt"] == b"a\na_rg1\n"
    assert voc["Annotations/a_rg1.xml"] == voc["Annotations/a.xml"].replace(b"a.jpg", b"a_rg1.png")
    yolo = converted("yolo", source, made)[0]
    assert yolo["labels/train/a_rg1.txt"] == yolo["labels/train/a.txt"] == b"0 0.3 0.3 0.4 0.4\n"
    assert yaml.safe_load(yolo["data.yaml"])["names"] == list(NAMES)
