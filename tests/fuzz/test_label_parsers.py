"""Whatever stands in a file of labels, a parser says what is wrong with it, and neither raises nor takes room without
end."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabulary import GOOD_JSON, GOOD_LABELS, GOOD_POSES, GOOD_XML, GOOD_YAML, JSON, NAMES, NASTY, XML, YAML, YOLO

from shared.errors import BadArchive, BadLabels
from shared.formats import coco_document, read, voc_xml, yolo_labels, yolo_yaml
from shared.formats.faults import LISTED, SAID_CHARACTERS, SHOWN_CHARACTERS, Faults
from shared.formats.samples import Box
from shared.formats.zips import SafeZip

Parse = Callable[[bytes, Faults], Any]

NAME = "the file"
ROOM, TIMES = 2**22, 200  # what is nested takes as much as Python lets it nest, however long it is
"""Bytes that a parser may take, and as many for each byte that it reads."""


def _coco(data: bytes, faults: Faults) -> Any:
    document = coco_document.load(data, NAME, faults)
    return None if document is None else coco_document.parse(document, NAME, faults)


@dataclass(frozen=True)
class Target:
    """A parser, a good file, and what such files are made of."""

    parse: Parse
    good: bytes
    words: list[str]


PARSERS = {
    "YOLO labels": Target(lambda data, faults: yolo_labels.parse(data, NAME, 0, 3, faults), GOOD_LABELS, YOLO),
    "YOLO poses": Target(lambda data, faults: yolo_labels.parse(data, NAME, 6, None, faults), GOOD_POSES, YOLO),
    "data.yaml": Target(lambda data, faults: yolo_yaml.parse(data, NAME, faults), GOOD_YAML, YAML),
    "COCO": Target(_coco, GOOD_JSON, JSON),
    "Pascal VOC": Target(lambda data, faults: voc_xml.parse(data, NAME, faults), GOOD_XML, XML),
}


def written(pieces: list[str]) -> bytes:
    return "".join(pieces).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """A good file, in which a few places hold something else, are missing, or are there twice."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 12, len(data))))
        data[start:end] = draw(
            st.one_of(
                st.binary(max_size=8), st.sampled_from(NASTY).map(lambda t: written([t])), st.just(data[start:end] * 2)
            )
        )
    return bytes(data)


def files(kind: str) -> st.SearchStrategy[bytes]:
    vocabulary = st.sampled_from(PARSERS[kind].words)
    words = st.lists(st.one_of(vocabulary, st.text(max_size=6)), max_size=60)
    return st.one_of(st.binary(max_size=300), words.map(written), damaged(PARSERS[kind].good))


@pytest.mark.parametrize("kind", PARSERS)
def test_a_good_file_has_no_fault(kind: str) -> None:
    faults = Faults()
    assert PARSERS[kind].parse(PARSERS[kind].good, faults)
    assert faults.count == 0


@pytest.mark.parametrize("kind", PARSERS)
@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_parser_says_what_is_wrong_and_raises_nothing(kind: str, data: st.DataObject) -> None:
    faults = Faults()
    found = PARSERS[kind].parse(data.draw(files(kind)), faults)
    check_faults(faults)
    for box in boxes(found):
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1
        assert all(0 <= share <= 1 for share in box.outline or ())


@pytest.mark.parametrize("kind", PARSERS)
@settings(deadline=None)
@given(st.data())
def test_a_parser_takes_room_in_proportion_to_the_file(kind: str, data: st.DataObject) -> None:
    drawn = data.draw(files(kind)) or b" "
    times = data.draw(st.integers(1, 3000))
    # The whole again and again, or a part of it, as in what is nested.
    cut = data.draw(st.integers(0, len(drawn)))
    file = (drawn[:cut] + drawn[cut:] * times)[: 2**16]
    tracemalloc.start()
    try:
        PARSERS[kind].parse(file, Faults())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= ROOM + TIMES * len(file)


@settings(deadline=None)
@given(st.data())
def test_a_set_of_any_files_is_read_or_refused(data: st.DataObject) -> None:
    """The files lie where each format looks for them, and hold what another has."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in data.draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
            kind = data.draw(st.sampled_from(list(PARSERS)))
            archive.writestr(
                name, data.draw(st.one_of(files(kind), st.just(PARSERS[kind].good), st.just(b"train/a.png\n")))
            )
    with SafeZip(out) as opened:
        try:
            found = read(opened, data.draw(st.sampled_from([None, "yolo", "coco", "voc", "darknet"])))
        except (BadArchive, BadLabels) as error:
            said = error.detail.encode()  # which half a letter has no bytes for
            found = None
    if found is None:
        assert said
        return
    for text in (*found.names, *found.splits, *found.warnings, found.layout):
        text.encode()
    for sample in found.samples:
        assert all(box.class_index < len(found.names) for box in sample.boxes)


def check_faults(faults: Faults) -> None:
    """Each names the file, and can be stored and shown."""
    if not faults.count:
        return
    with pytest.raises(BadLabels) as refused:
        faults.refuse(BadLabels, "It cannot be used.")
    assert 1 <= len(refused.value.faults) <= LISTED
    for fault in refused.value.faults:
        assert fault.where.startswith(NAME)
        assert len(fault.where) <= SHOWN_CHARACTERS + 3
        assert 0 < len(fault.what) <= SAID_CHARACTERS + 3
        str(fault).encode()


def boxes(found: Any) -> list[Box]:
    """The boxes that a parser found."""
    if isinstance(found, yolo_labels.LabelFile):
        return list(found.boxes)
    if isinstance(found, voc_xml.Annotation):
        return [box for _, box in found.boxes]
    if isinstance(found, coco_document.Document):
        return [box for image in found.images for _, box in image.boxes]
    return []
