"""Whatever is in a label file, a set is read or refused with a reason: nothing else comes out of a parser."""

import json
import os

import pytest
from format_files import originals, read, variant, written
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadArchive, BadLabels
from shared.formats.samples import Contents

EXAMPLES = int(os.environ.get("REGROW_TEST_FUZZ", "150"))
"""How many files are made for each format."""

COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4, 5, 6]]}
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
)
VOC = """<?xml version="1.0"?><annotation><filename>a.jpg</filename><size><width>100</width><height>50</height></size>
<object><name>a</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"""
SETS = {
    "coco": ("train/_annotations.coco.json", COCO, {"train/a.jpg": b""}),
    "voc": ("train/a.xml", VOC, {"train/a.jpg": b""}),
    "voc list": ("ImageSets/Main/train.txt", "a\nb 1\n", {"JPEGImages/a.jpg": b"", "Annotations/a.xml": VOC.encode()}),
    "darknet": ("a.txt", "0 0.5 0.5 0.2 0.2\n", {"a.jpg": b"", "obj.names": b"x\n"}),
    "darknet list": ("train.txt", "data/a.jpg\r\nb.jpg\n", {"a.jpg": b"", "a.txt": b"", "obj.names": b"x\n"}),
    "yolo": ("labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n0 .1 .1 .2 .2 .3 .3\n", {"images/train/a.jpg": b""}),
    "yaml": ("data.yaml", "names: {0: a}\nkpt_shape: [1, 2]\n", {"images/train/a.jpg": b"", "labels/train/a.txt": b""}),
}
PIECE = st.sampled_from(
    [
        "NaN",
        "1e999",
        "-1",
        "0",
        "null",
        "[]",
        "{}",
        '"',
        "<",
        "&x;",
        "]]>",
        "\0",
        "\ud800",
        "\u2028",
        "\ufeff",
        "9" * 40,
    ]
) | st.text(max_size=4)


@st.composite
def spoiled(draw: st.DrawFn, text: str) -> bytes:
    """The text with pieces of it exchanged, or bytes that never were text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(PIECE) + text[end:]
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"])), "surrogatepass")


@pytest.mark.parametrize("which", SETS)
def test_a_spoiled_file_is_read_or_refused(which: str) -> None:
    name, text, more = SETS[which]
    read({name: text.encode(), **more}, _kind(which))

    @settings(deadline=None, max_examples=EXAMPLES)  # the machine may be busy
    @given(spoiled(text))
    def check(data: bytes) -> None:
        found = _read_or_refused({name: data, **more}, _kind(which))
        if isinstance(found, str):
            assert found.replace("\n", "").isprintable()
        else:
            _is_sound(found)

    check()


def _read_or_refused(files: dict[str, bytes], kind: str) -> Contents | str:
    try:
        return read(files, kind)
    except (BadArchive, BadLabels) as refused:
        return refused.detail


def _kind(which: str) -> str:
    return which.partition(" ")[0].replace("yaml", "yolo")


def _is_sound(contents: Contents) -> None:
    """What was read can be written, and is then the same."""
    for sample in contents.samples:
        for box in sample.boxes:
            assert 0 <= box.x0 < box.x1 <= 1
            assert 0 <= box.y0 < box.y1 <= 1
            assert contents.names[box.class_index].encode()
    entries = originals(contents)
    files = written(contents, [*entries, *(variant(contents, entry) for entry in entries)])
    again = {sample.image: sample for sample in read(files, contents.format).samples}
    for entry in entries:
        assert again[entry.image].label_bytes == entry.record
        assert again[variant(contents, entry).image].boxes == entry.boxes
