"""A COCO set is read as it was written, its records come out as they went in, and every fault is named."""

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from format_files import originals, read, variant, written
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from shared.errors import BadArchive, BadLabels
from shared.formats.samples import Contents

TRAIN = "annotations/instances_train.json"


def document(**more: Any) -> dict[str, Any]:
    return {
        "info": {"year": 2024},
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50, "licence": 3},
            {"id": 900, "file_name": "b.jpg", "width": 40, "height": 40},
        ],
        "annotations": [
            {"id": 31, "image_id": 7, "category_id": 90, "bbox": [10, 5, 20.5, 10], "area": 205.0, "iscrowd": 0},
            {"id": 4, "image_id": 7, "category_id": 2, "bbox": [0, 0, 100, 50], "attributes": {"occluded": True}},
        ],
        "categories": [{"id": 90, "name": "zebra", "supercategory": "animal"}, {"id": 2, "name": "ape"}],
        **more,
    }


def coco(value: Any, **more: bytes) -> dict[str, bytes]:
    return {TRAIN: json.dumps(value).encode(), "train/a.jpg": b"", "train/b.jpg": b"", **more}


def corners(contents: Contents, image: str = "train/a.jpg") -> list[tuple[float, ...]]:
    (sample,) = (sample for sample in contents.samples if sample.image == image)
    return [(b.class_index, b.x0, b.y0, b.x1, b.y1) for b in sample.boxes]


def test_a_set_with_one_document_a_split_is_read_whole() -> None:
    val = document(images=[{"id": 1, "file_name": "c.jpg", "width": 10, "height": 10}], annotations=[])
    contents = read(coco(document()) | {"annotations/instances_val.json": json.dumps(val).encode(), "val/c.jpg": b""})
    assert (contents.format, contents.splits, contents.names) == ("coco", ("train", "val"), ("zebra", "ape"))
    assert (contents.layout, contents.warnings) == ("annotations/instances_{split}.json", ())
    assert contents.why == f"COCO, because of {TRAIN}."
    a, b, c = contents.samples
    assert (a.split, a.image, a.label, a.size and a.size.width) == ("train", "train/a.jpg", TRAIN, 100)
    assert corners(contents) == [(0, 0.1, 0.1, 0.305, 0.3), (1, 0, 0, 1, 1)]
    assert (b.boxes, b.label_bytes is not None, c.split) == ((), True, "val")
    record = json.loads(a.label_bytes or b"")
    assert record == {"image": document()["images"][0], "annotations": document()["annotations"]}


@pytest.mark.parametrize(
    ("document_name", "image", "file_name", "split"),
    [
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg", "train"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "a.jpg", "valid"),
        ("_annotations.coco.json", "a.jpg", "a.jpg", "train"),
        ("my set/annotations/instances_train2017.json", "my set/train2017/a.jpg", "a.jpg", "train2017"),
        ("annotations/instances_default.json", "images/default/a.jpg", "a.jpg", "train"),
        ("annotations/instances_val.json", "images/val/p1/a.jpg", "p1/a.jpg", "val"),
        ("train.json", "images/a.jpg", "/home/someone/images/a.jpg", "train"),
        ("annotations/train_coco.json", "images/a.jpg", "images\\a.jpg", "train"),
        ("annotations.json", "pictures/ä.jpg", "ä.jpg", "train"),
    ],
)
def test_documents_and_images_are_found_where_tools_put_them(
    document_name: str, image: str, file_name: str, split: str
) -> None:
    value = document(images=[document()["images"][0] | {"file_name": file_name}])
    contents = read({document_name: json.dumps(value).encode(), image: b"", "notes/readme.md": b""}, "coco")
    (sample,) = contents.samples
    assert (sample.member, sample.split) == (image, split)


def test_folders_around_everything_are_taken_off() -> None:
    contents = read({f"export 1/set/{name}": data for name, data in coco(document()).items()})
    assert [(s.image, s.label, s.member) for s in contents.samples] == [
        (f"train/{name}", TRAIN, f"export 1/set/train/{name}") for name in ("a.jpg", "b.jpg")
    ]


def test_a_name_in_several_folders_is_the_image_of_its_own_split() -> None:
    one = document(images=document()["images"][:1])
    files = {f"{split}/a.jpg": b"" for split in ("train", "val")}
    files |= {f"annotations/instances_{split}.json": json.dumps(one).encode() for split in ("train", "val")}
    assert [(s.split, s.image) for s in read(files).samples] == [("train", "train/a.jpg"), ("val", "val/a.jpg")]


@pytest.mark.parametrize(
    ("segmentation", "outline"),
    [
        ([[10, 5, 30, 5, 30, 15]], (0.1, 0.1, 0.3, 0.1, 0.3, 0.3)),
        ([], None),
        ([[10, 5, 30, 5, 30, 15], [40, 40, 50, 40, 50, 50]], None),
        ({"counts": [5, 10], "size": [50, 100]}, None),
    ],
)
def test_polygons_of_one_part_are_outlines_and_the_rest_counts_by_its_box(
    segmentation: Any, outline: tuple[float, ...] | None
) -> None:
    value = document()
    value["annotations"] = [value["annotations"][0] | {"segmentation": segmentation, "iscrowd": 1}]
    contents = read(coco(value))
    assert contents.samples[0].boxes[0].outline == outline
    assert contents.labels == ("polygons" if outline else "boxes")
    assert any("count by their box" in w for w in contents.warnings) is (bool(segmentation) and outline is None)
    assert json.loads(contents.samples[0].label_bytes or b"")["annotations"] == value["annotations"]


def test_a_box_that_rounding_put_over_the_edge_is_clipped() -> None:
    value = document()
    value["annotations"] = [value["annotations"][0] | {"bbox": [-0.5, 40, 20, 10.9]}]
    assert corners(read(coco(value))) == [(0, 0, 0.8, 0.195, 1)]


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what is at a path like annotations.0.bbox; without a value takes it away."""
    *before, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def apply(target: Any) -> None:
        for part in before:
            target = target[part]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("annotations.1.image_id", 8, "annotations[1].image_id: there is no image 8"),
        ("annotations.1.image_id", "7", "annotations[1].image_id: there is no image 7"),
        ("annotations.1.category_id", 1, "annotations[1].category_id: there is no category 1"),
        ("annotations.1.category_id", None, "annotations[1].category_id: is missing"),
        ("annotations.1.id", 31, "annotations[1].id: 31 is there twice"),
        ("annotations.1.id", 1.5, "annotations[1].id: 1.5 is neither a whole number nor a text"),
        ("annotations.1.bbox", None, "annotations[1].bbox: is missing"),
        ("annotations.1.bbox", [1, 2, 3], "annotations[1].bbox: has 3 numbers, not 4 (x, y, width, height)"),
        ("annotations.1.bbox", "0 0 1 1", "annotations[1].bbox: is no list of numbers"),
        ("annotations.1.bbox", [1, 2, "3", 4], "annotations[1].bbox: 3 is no finite number"),
        ("annotations.1.bbox", [1, 2, float("nan"), 4], "annotations[1].bbox: nan is no finite number"),
        ("annotations.1.bbox", [1, 2, float("inf"), 4], "annotations[1].bbox: inf is no finite number"),
        ("annotations.1.bbox", [1, 2, 10**400, 4], "annotations[1].bbox: 1000"),
        ("annotations.1.bbox", [1, 2, -3, 4], "annotations[1].bbox: its width and height, -3 and 4, are not above 0"),
        ("annotations.1.bbox", [1, 2, 0, 4], "annotations[1].bbox: its width and height, 0 and 4, are not above 0"),
        (
            "annotations.1.bbox",
            [90, 40, 20, 10],
            "annotations[1].bbox: reaches out of its image (90, 40, 110, 50 in 100 x 50)",
        ),
        ("annotations.1.segmentation", [[1, 2, 3, 4]], "annotations[1].segmentation[0]: has 4 numbers"),
        ("annotations.1.segmentation", [[1, 2, 3, 4, 5, 600]], "annotations[1].segmentation[0]: reaches out"),
        ("annotations.1.segmentation", "x", "annotations[1].segmentation: is neither"),
        ("annotations.1.area", float("nan"), "annotations[1]: holds NaN or an infinite number"),
        ("annotations.1", 5, "annotations[1]: is not an object"),
        ("images.1.id", 7, "images[1].id: 7 is there twice"),
        ("images.1.id", True, "images[1].id: True is neither a whole number nor a text"),
        ("images.1.width", None, "images[1].width: is missing"),
        ("images.1.width", 10**400, "images[1].width: 1000"),
        ("images.1.height", 0, "images[1].height: 0 is not a whole number from 1 on"),
        ("images.1.height", 3.5, "images[1].height: 3.5 is not a whole number from 1 on"),
        ("images.1.file_name", None, "images[1].file_name: is missing"),
        ("images.1.file_name", "a.jpg", "images[1].file_name: is train/a.jpg, as in annotations/instances_tr"),
        ("categories.1.name", None, "categories[1].name: is missing"),
        ("categories.1.name", "a\0b", "categories[1].name: a\\x00b holds a character that cannot be shown"),
        ("categories.1.name", "\ud800", "categories[1].name: \\ud800 holds a character that cannot be shown"),
        ("categories.1.id", 90, "categories[1].id: 90 is there twice"),
    ],
)  # fmt: skip
def test_a_fault_names_the_document_and_the_place(path: str, value: Any, fault: str) -> None:
    broken = document()
    change(path, value)(broken)
    with pytest.raises(BadLabels) as refused:
        read(coco(broken))
    assert str(refused.value.faults[0]).startswith(f"{TRAIN}: {fault}")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'{"images": [,]}', f"{TRAIN}:1: is no valid JSON (Expecting value"),
        (b"[" * 100_000, f"{TRAIN}: is nested too deeply"),
        (b"[" + b"[]," * 8_000_000 + b"0]", f"{TRAIN}: holds 8000001 lists"),
        (b"\xff\xfe\xff", f"{TRAIN}: is no valid JSON"),
        (b'{"a": 1' + b"1" * 5000 + b"}", f"{TRAIN}: is no valid JSON"),
        (b"[]", f"{TRAIN}: is not a JSON object"),
        (b"", f"{TRAIN}:1: is no valid JSON"),
    ],
)
def test_what_is_no_json_is_named(data: bytes, fault: str) -> None:
    with pytest.raises(BadLabels) as refused:
        read({TRAIN: data, "train/a.jpg": b""})
    assert str(refused.value.faults[0]).startswith(fault)


def test_an_image_in_two_splits_is_refused() -> None:
    value = json.dumps(document()).encode()
    with pytest.raises(BadLabels, match=r"file_name: is images/a\.jpg, as in annotations/instances_train\.json"):
        read({TRAIN: value, "annotations/instances_val.json": value, "images/a.jpg": b"", "images/b.jpg": b""})


def test_an_id_that_means_two_classes_is_refused() -> None:
    other = document(images=[], annotations=[], categories=[{"id": 90, "name": "cat"}])
    with pytest.raises(BadLabels, match="categories: 90 is cat here and zebra before"):
        read(coco(document()) | {"annotations/instances_val.json": json.dumps(other).encode()})


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({TRAIN: b'{"a": 1}', "train/a.jpg": b""}, "holds no COCO document"),
        ({TRAIN: json.dumps(document()).encode(), "x.jpg": b""}, "None of the 2 listed images"),
        (
            {"annotations/train.json": b"", "x/annotations/train.json": b""},
            r"more than one document of train: annotations/train.json, x/annotations/train.json",
        ),
    ],
)
def test_what_cannot_be_one_set_is_refused_with_what_was_found(files: dict[str, bytes], reason: str) -> None:
    filled = {name: data or json.dumps(document()).encode() for name, data in files.items()}
    filled |= {name: b"" for name in files if name.endswith(".jpg")}
    with pytest.raises(BadArchive, match=reason):
        read(filled)


def test_captions_and_what_belongs_to_no_image_is_left_out_and_said() -> None:
    value = document()
    value["images"].append({"id": 5, "file_name": "gone.jpg", "width": 1, "height": 1})
    contents = read(
        coco(value, **{"annotations/captions_train.json": b'{"images": [], "annotations": []}', "extra.jpg": b""})
    )
    assert contents.unpaired == ("gone.jpg", "extra.jpg")
    assert [warning.partition(":")[0] for warning in contents.warnings] == [
        "Other .json files are left out",
        "Listed images are not in the archive, and left out (1)",
        "Images that no document lists are left out (1)",
    ]


def test_a_split_with_a_name_that_nothing_has_room_for_is_refused() -> None:
    with pytest.raises(BadArchive, match="a split is called train11"):
        read({f"annotations/train{'1' * 200}.json": json.dumps(document()).encode(), "a.jpg": b"", "b.jpg": b""})


def test_a_document_with_a_byte_order_mark_is_read() -> None:
    assert len(read(coco(document()) | {TRAIN: b"\xef\xbb\xbf" + json.dumps(document()).encode()}).samples) == 2


def test_variants_get_new_ids_above_the_largest_and_nothing_else_changes() -> None:
    contents = read(coco(document(extra=[1])))
    entries = originals(contents)
    files = written(contents, [*entries, variant(contents, entries[0])])
    result = json.loads(files[TRAIN])
    whole = document(extra=[1])
    assert result["images"][:2] == whole["images"]
    assert result["annotations"][:2] == whole["annotations"]
    assert result["images"][2] == whole["images"][0] | {"id": 901, "file_name": "a_rg1.png"}
    assert result["annotations"][2:] == [
        whole["annotations"][0] | {"id": 32, "image_id": 901},
        whole["annotations"][1] | {"id": 33, "image_id": 901},
    ]
    assert {key: value for key, value in result.items() if key not in ("images", "annotations")} == {
        "info": whole["info"], "categories": whole["categories"], "extra": [1]
    }  # fmt: skip
    assert json.loads(files["annotations/instances_train.originals.json"]) == whole
    again = read(files)
    assert [(s.image, s.boxes) for s in again.samples] == [
        *((s.image, s.boxes) for s in contents.samples),
        ("train/a_rg1.png", contents.samples[0].boxes),
    ]


def test_variants_alone_make_a_document_of_their_own() -> None:
    contents = read(coco(document()))
    files = written(contents, [variant(contents, originals(contents)[0])])
    assert set(files) == {TRAIN, "train/a_rg1.png"}
    assert [image["id"] for image in json.loads(files[TRAIN])["images"]] == [901]


def test_ids_that_are_texts_stay_texts() -> None:
    value = document()
    value["images"] = [image | {"id": str(image["id"])} for image in value["images"]]
    value["annotations"] = [annotation | {"image_id": "7"} for annotation in value["annotations"]]
    contents = read(coco(value))
    result = json.loads(written(contents, [variant(contents, originals(contents)[0])])[TRAIN])
    assert [image["id"] for image in result["images"]] == ["901"]
    assert {annotation["image_id"] for annotation in result["annotations"]} == {"901"}


IDS = st.one_of(
    st.lists(st.integers(0, 2**62), min_size=12, max_size=12, unique=True),
    st.lists(st.text("abc0123456789", min_size=1, max_size=6), min_size=12, max_size=12, unique=True),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MORE = st.dictionaries(st.sampled_from(["date", "ü", "extra", "flickr_url"]), JSON, max_size=2)
SIDE = st.integers(1, 5000)


@st.composite
def coco_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document of images a.jpg, b.jpg, ..., with whatever ids and further fields."""
    ids, others = draw(IDS), draw(IDS)
    classes = [{"id": number, "name": f"c {number}", **draw(MORE)} for number in draw(IDS)[:3]]
    images, annotations = [], []
    for number, name in zip(ids[: draw(st.integers(1, 4))], "abcd", strict=False):
        width, height = draw(SIDE), draw(SIDE)
        images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height, **draw(MORE)})
        for _ in range(draw(st.integers(0, 3))):
            x, y = draw(st.floats(0, 0.9)) * width, draw(st.floats(0, 0.9)) * height
            box = [x, y, (width - x) * draw(st.floats(0.01, 1)), (height - y) * draw(st.floats(0.01, 1))]
            category = draw(st.sampled_from(classes))["id"]
            annotations.append(
                {"bbox": box, "id": others[len(annotations)], "image_id": number, "category_id": category, **draw(MORE)}
            )
    return {"images": images, **draw(MORE), "annotations": annotations, "categories": classes}


@settings(deadline=None)  # the machine may be busy
@given(coco_documents(), st.sampled_from(["", "around/"]), st.sampled_from(["train", "images", "images/train"]))
def test_any_set_comes_out_as_it_went_in(value: dict[str, Any], top: str, folder: str) -> None:
    files = {f"{top}{TRAIN}": json.dumps(value).encode()}
    files |= {f"{top}{folder}/{image['file_name']}": b"" for image in value["images"]}
    contents = read(files)
    entries = originals(contents)
    assert json.loads(written(contents, entries)[TRAIN]) == in_order(value, value)
    result = json.loads(written(contents, [*entries, *(variant(contents, entry) for entry in entries)])[TRAIN])
    kept, new = result["images"][: len(value["images"])], result["images"][len(value["images"]) :]
    assert kept == in_order(value, value)["images"]
    assert len({image["id"] for image in result["images"]}) == 2 * len(kept)
    for source, clone in zip(kept, new, strict=True):
        assert clone == source | {"id": clone["id"], "file_name": clone["file_name"]}
        of_clone = [a for a in result["annotations"] if a["image_id"] == clone["id"]]
        of_source = [a for a in result["annotations"] if a["image_id"] == source["id"]]
        assert [a | {"id": 0, "image_id": 0} for a in of_clone] == [a | {"id": 0, "image_id": 0} for a in of_source]
    numbers = [a["id"] for a in result["annotations"]]
    assert len(numbers) == len(set(numbers))


def in_order(value: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """With the annotations in the order of their images."""
    position = {image["id"]: at for at, image in enumerate(like["images"])}
    ordered = copy.deepcopy(value)
    ordered["annotations"].sort(key=lambda annotation: position[annotation["image_id"]])
    return ordered


def test_pycocotools_finds_the_same_boxes_for_a_variant(tmp_path: Path) -> None:
    contents = read(coco(document()))
    entries = originals(contents)
    (tmp_path / "train.json").write_bytes(written(contents, [*entries, variant(contents, entries[0])])[TRAIN])
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / "train.json"))
    by_name = {image["file_name"]: image["id"] for image in loaded.loadImgs(loaded.getImgIds())}
    source, clone = (
        [(a["category_id"], a["bbox"]) for a in loaded.loadAnns(loaded.getAnnIds(imgIds=[by_name[name]]))]
        for name in ("a.jpg", "a_rg1.png")
    )
    assert source == clone == [(90, [10, 5, 20.5, 10]), (2, [0, 0, 100, 50])]
