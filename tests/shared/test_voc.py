"""A Pascal VOC set is read as it was written, its annotations come out byte for byte, and every fault is named."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from defusedxml.ElementTree import fromstring
from format_files import originals, read, variant, written
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadArchive, BadLabels
from shared.formats import voc_xml
from shared.formats.samples import Contents

BCCD = Path(__file__).resolve().parents[2] / "../shared/data/bccd"
FRACATLAS = BCCD.parent / "fracatlas"


def item(name: str = "cat", box: tuple[object, ...] = (11, 6, 30, 15), more: str = "") -> str:
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(voc_xml.CORNERS, box, strict=True))
    return f"<object>\n\t<name>{name}</name>{more}<bndbox>{corners}</bndbox></object>\n"


def xml(*items: str, name: str = "a.jpg", size: tuple[object, object] = (100, 50), more: str = "") -> bytes:
    width, height = size
    sizes = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return (
        f"<annotation>\n<filename>{name}</filename>{more}{sizes}<segmented>0</segmented>{''.join(items)}</annotation>"
    ).encode()


SET = {
    "JPEGImages/a.jpg": b"",
    "JPEGImages/b.jpg": b"",
    "JPEGImages/c.jpg": b"",
    "Annotations/a.xml": xml(item(), item("ape", (1, 1, 100, 50))),
    "Annotations/b.xml": xml(item("ape"), name="b.jpg"),
    "ImageSets/Main/train.txt": b"a\nc\n",
    "ImageSets/Main/val.txt": b"b\n",
    "ImageSets/Main/trainval.txt": b"a\nb\nc\n",
    "ImageSets/Main/cat_train.txt": b"a  1\nc -1\n",
}


def corners(contents: Contents, image: str) -> list[tuple[float, ...]]:
    (sample,) = (sample for sample in contents.samples if sample.image == image)
    return [(b.class_index, b.x0, b.y0, b.x1, b.y1) for b in sample.boxes]


def faults(data: bytes) -> list[str]:
    with pytest.raises(BadLabels) as refused:
        read({"train/a.jpg": b"", "train/a.xml": data})
    return [str(fault) for fault in refused.value.faults]


def test_the_devkits_layout_is_read_whole_and_corners_count_from_one() -> None:
    contents = read(SET)
    assert (contents.format, contents.layout, contents.splits) == ("voc", "JPEGImages", ("train", "val"))
    assert (contents.names, contents.warnings) == (("ape", "cat"), ())
    assert [(s.image, s.split, s.label) for s in contents.samples] == [
        ("JPEGImages/a.jpg", "train", "Annotations/a.xml"),
        ("JPEGImages/b.jpg", "val", "Annotations/b.xml"),
        ("JPEGImages/c.jpg", "train", None),
    ]
    assert corners(contents, "JPEGImages/a.jpg") == [(1, 0.1, 0.1, 0.3, 0.3), (0, 0, 0, 1, 1)]


@pytest.mark.parametrize("top", ["", "VOCdevkit/VOC2012/", "my set/"])
@pytest.mark.parametrize(
    ("image", "annotation", "split", "layout"),
    [
        ("train/a.jpg", "train/a.xml", "train", "{split}"),
        ("valid/a.jpg", "valid/a.xml", "valid", "{split}"),
        ("a.jpg", "a.xml", "train", ""),
        ("JPEGImages/p/a.jpg", "Annotations/p/a.xml", "train", "JPEGImages/p"),
        ("images/train/a.jpg", "annotations/train/a.xml", "train", "images/{split}"),
        ("train/images/a.jpg", "train/annotations/a.xml", "train", "{split}/images"),
        ("images/a.jpg", "xmls/a.xml", "train", "images"),
    ],
)
def test_annotations_are_found_where_tools_put_them(
    top: str, image: str, annotation: str, split: str, layout: str
) -> None:
    contents = read({f"{top}{image}": b"", f"{top}{annotation}": xml(item()), f"{top}licence.md": b""})
    (sample,) = contents.samples
    assert (sample.image, sample.label, sample.split) == (image, annotation, split)
    assert (contents.layout, sample.member, len(sample.boxes)) == (layout, top + image, 1)


def test_an_annotation_is_never_that_of_a_namesake_in_another_split() -> None:
    contents = read({"train/a.jpg": b"", "train/a.xml": xml(item()), "valid/a.jpg": b""})
    assert {s.image: s.label for s in contents.samples} == {"train/a.jpg": "train/a.xml", "valid/a.jpg": None}


def test_masks_of_the_devkit_are_no_images() -> None:
    contents = read({**SET, "SegmentationClass/a.png": b"", "SegmentationObject/a.png": b""})
    assert len(contents.samples) == 3


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 1, 100, 50), (0, 0, 1, 1)),
        ((0, 0, 99, 49), (0, 0, 0.99, 0.98)),
        ((5, 5, 5, 5), (0.04, 0.08, 0.05, 0.1)),
        ((11.5, 6, 30.25, 15), (0.105, 0.1, 0.3025, 0.3)),
        ((" 11 ", 6, 101, 51), (0.1, 0.1, 1, 1)),
    ],
)
def test_corners_are_of_pixels_the_last_one_included(box: tuple[object, ...], expected: tuple[float, ...]) -> None:
    contents = read({"train/a.jpg": b"", "train/a.xml": xml(item(box=box))})
    assert corners(contents, "train/a.jpg") == [pytest.approx((0, *expected))]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (xml(item(), item(box=("x", 1, 2, 3))), "object[2]/bndbox/xmin: x is no finite number"),
        (xml(item(box=("nan", 1, 2, 3))), "object[1]/bndbox/xmin: nan is no finite number"),
        (xml(item(box=(1, "1e999", 2, 3))), "object[1]/bndbox/ymin: 1e999 is no finite number"),
        (xml(item(box=(1, 1, "", 3))), "object[1]/bndbox/xmax: is missing"),
        (xml(item(box=(9, 1, 2, 3))), "object[1]/bndbox: ends before it begins (9, 1 to 2, 3)"),
        (xml(item(box=(1, 1, 120, 3))), "object[1]/bndbox: reaches out of its image (1, 1, 120, 3 in 100 x 50)"),
        (xml(item(box=(-3, 1, 12, 3))), "object[1]/bndbox: reaches out of its image (-3, 1, 12, 3 in 100 x 50)"),
        (xml(item(box=(0, 1, 0, 3))), "object[1]/bndbox: covers no area of the image"),
        (xml("<object><name>a</name></object>"), "object[1]/bndbox: is missing"),
        (xml(item("")), "object[1]/name: is missing"),
        (xml(item(), size=("", 5)), "size/width: is missing"),
        (xml(item(), size=(5, 0)), "size/height: 0 is not a whole number from 1 on"),
        (b"<annotation><object>", "1: is no well-formed XML"),
        (b"", "1: is no well-formed XML"),
        (b"<html/>", "is no annotation but <html>"),
        (xml(item()).decode().encode("utf-16"), "is UTF-16 or UTF-32 text"),
        (b'<?xml version="1.0" encoding="x-none"?><annotation/>', "is no"),
        (b'<!DOCTYPE a [<!ENTITY e "eeee">]><annotation>&e;</annotation>', "declares a document type or entities"),
        (
            b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>',
            "declares a document type or entities",
        ),
    ],
)
def test_a_fault_names_the_annotation_and_the_element(data: bytes, fault: str) -> None:
    found = faults(data)[0]
    assert found.removeprefix("train/a.xml").lstrip(": ").startswith(fault), found


def test_the_faults_of_all_annotations_come_at_once() -> None:
    broken = {"Annotations/a.xml": b"<a/>", "Annotations/b.xml": xml(item(box=(9, 1, 2, 3)))}
    with pytest.raises(BadLabels) as refused:
        read({**SET, **broken})
    assert [fault.where.partition(":")[0] for fault in refused.value.faults] == list(broken)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
def test_annotations_in_other_codings_are_read_right(encoding: str) -> None:
    declared = encoding.replace("-sig", "")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{xml(item("Größe")).decode()}'
    contents = read({"train/a.jpg": b"", "train/a.xml": text.encode(encoding)})
    assert contents.names == ("Größe",)


def test_an_image_in_two_lists_is_refused_and_one_in_none_is_left_out() -> None:
    with pytest.raises(BadLabels, match=r"ImageSets/Main/val.txt:2: a is in train too"):
        read({**SET, "ImageSets/Main/val.txt": b"b\na\n"})
    contents = read({**SET, "ImageSets/Main/train.txt": b"a\ngone\n", "Annotations/lost.xml": xml()})
    assert contents.unpaired == ("Annotations/lost.xml", "gone", "JPEGImages/c.jpg")
    assert len(contents.warnings) == 3
    with pytest.raises(BadArchive, match="None of the listed images"):
        read({**SET, "ImageSets/Main/train.txt": b"x\n", "ImageSets/Main/val.txt": b"y\n"})


def test_a_variant_is_listed_wherever_its_source_is_and_its_annotation_names_it() -> None:
    path = "<folder>f</folder><path>/home/x/a.jpg</path>"
    contents = read({**SET, "Annotations/a.xml": xml(item(more="<difficult>1</difficult>"), more=path)})
    entries = originals(contents)
    files = written(contents, [*entries, variant(contents, entries[0]), variant(contents, entries[2])])
    source = files["Annotations/a.xml"]
    assert files["Annotations/a_rg1.xml"] == source.replace(b"a.jpg", b"a_rg1.png")
    assert {name: data for name, data in files.items() if name.startswith("ImageSets")} == {
        "ImageSets/Main/train.txt": b"a\nc\na_rg1\nc_rg1\n",
        "ImageSets/Main/val.txt": b"b\n",
        "ImageSets/Main/trainval.txt": b"a\nb\nc\na_rg1\nc_rg1\n",
        "ImageSets/Main/cat_train.txt": b"a  1\nc -1\na_rg1  1\nc_rg1 -1\n",
        "ImageSets/Main/train.originals.txt": b"a\nc\n",
        "ImageSets/Main/trainval.originals.txt": b"a\nb\nc\n",
        "ImageSets/Main/cat_train.originals.txt": b"a  1\nc -1\n",
    }
    again = read(files)
    assert {s.image: (s.split, s.boxes) for s in again.samples} == {
        **{s.image: (s.split, s.boxes) for s in contents.samples},
        "JPEGImages/a_rg1.png": ("train", contents.samples[0].boxes),
        "JPEGImages/c_rg1.png": ("train", ()),
    }


def test_variants_alone_are_listed_alone() -> None:
    contents = read(SET)
    files = written(contents, [variant(contents, originals(contents)[0])])
    assert files["ImageSets/Main/train.txt"] == b"a_rg1\n"
    assert "ImageSets/Main/val.txt" not in files
    assert [s.image for s in read(files).samples] == ["JPEGImages/a_rg1.png"]


TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=8)
NAME = st.text(st.characters(codec="utf-8", categories=["L", "N"]) | st.sampled_from("-_&' "), min_size=1, max_size=8)
NAME = NAME.map(str.strip).filter(bool)


@st.composite
def annotations(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, tuple[int, ...]]]]:
    """An annotation and the boxes in it, with elements of whatever name in between."""
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    boxes = []
    for name in draw(st.lists(NAME, max_size=4)):
        x0, y0 = draw(st.integers(1, width)), draw(st.integers(1, height))
        boxes.append((name, (x0, y0, draw(st.integers(x0, width)), draw(st.integers(y0, height)))))
    more = f"<pose>{escape(draw(TEXT))}</pose><truncated>1</truncated><!-- {draw(TEXT).replace('-', '')} -->"
    items = [item(escape(name), box, more=more) for name, box in boxes]
    head = f'<source a="{draw(st.integers())}"><database>{escape(draw(TEXT))}</database></source>'
    end = draw(st.sampled_from(["\n", "\r\n"]))
    data = xml(*items, size=(width, height), more=head).replace(b"\n", end.encode())
    return data, boxes


@settings(deadline=None)  # the machine may be busy
@given(annotations(), NAME.filter(lambda name: name.isprintable()))
def test_any_annotation_comes_out_as_it_went_in_and_its_clone_differs_by_its_name(
    made: tuple[bytes, list[tuple[str, tuple[int, ...]]]], stem: str
) -> None:
    data, boxes = made
    contents = read({f"train/{stem}.jpg": b"", f"train/{stem}.xml": data})
    (sample,) = contents.samples
    (width, height) = (sample.size.width, sample.size.height) if sample.size else (0, 0)
    assert [
        (contents.names[b.class_index], (b.x0 * width + 1, b.y0 * height + 1, b.x1 * width, b.y1 * height))
        for b in sample.boxes
    ] == [(name, pytest.approx(box)) for name, box in boxes]
    (entry,) = originals(contents)
    files = written(contents, [entry, variant(contents, entry)])
    assert files[f"train/{stem}.xml"] == data
    clone, source = fromstring(files[f"train/{stem}_rg1.xml"]), fromstring(data)
    assert clone.findtext("filename") == f"{stem}_rg1.png"
    for root in (clone, source):
        root.find("filename").text = ""  # type: ignore[union-attr]
    assert ET.tostring(clone) == ET.tostring(source)


def _bccd() -> Mapping[str, bytes]:
    files = {f"VOC/JPEGImages/{path.name}": b"" for path in sorted(BCCD.glob("images/*/*.jpg"))}
    for path in sorted((BCCD / "original_annotations").rglob("*")):
        if path.is_file():
            files[f"VOC/{path.relative_to(BCCD / 'original_annotations').as_posix()}"] = path.read_bytes()
    return files


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD photos are not on this machine")
def test_bccd_as_it_was_published_is_read_whole_and_comes_out_the_same() -> None:
    files = _bccd()
    contents = read(files)
    counts = {split: sum(s.split == split for s in contents.samples) for split in contents.splits}
    assert (counts, contents.warnings) == ({"train": 205, "val": 87, "test": 72}, ())
    assert (contents.names, sum(len(s.boxes) for s in contents.samples)) == (("Platelets", "RBC", "WBC"), 4888)
    result = written(contents, originals(contents))
    assert {f"VOC/{name}": data for name, data in result.items() if not name.endswith(".jpg")} == {
        name: data for name, data in files.items() if not name.endswith(".jpg")
    }


@pytest.mark.skipif(not FRACATLAS.is_dir(), reason="the FracAtlas X-rays are not on this machine")
def test_fracatlas_as_it_was_published_is_read_whole() -> None:
    files = {f"images/{p.parent.name}/{p.name}": b"" for p in sorted(FRACATLAS.glob("images/*/*.jpg"))}
    folder = FRACATLAS / "original_annotations" / "PASCAL_VOC"
    files |= {f"Annotations/PASCAL VOC/{p.name}": p.read_bytes() for p in sorted(folder.glob("*.xml"))}
    contents = read(files)
    assert {split: sum(s.split == split for s in contents.samples) for split in contents.splits} == {
        "test": 61, "train": 454, "valid": 79
    }  # fmt: skip
    assert (sum(len(s.boxes) for s in contents.samples), contents.warnings) == (616 + 88 + 67, ())
    assert all(files[s.label or ""] == s.label_bytes for s in contents.samples)
