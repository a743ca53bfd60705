"""A YOLO set is read as it was written, its labels come out byte for byte, and every fault is named."""

import posixpath
import unicodedata
from pathlib import Path

import pytest
import yaml
from format_files import read
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadArchive, BadLabels
from shared.formats import yolo, yolo_layout, yolo_yaml
from shared.formats.samples import Box, Contents

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
LINE = b"0 0.5 0.5 0.2 0.2\n"
BOX = Box(0, 0.4, 0.4, 0.6, 0.6)
SET = {
    "data.yaml": b"train: images/train\nval: images/val\nnames: [zebra, ape]\n",
    "images/train/a.jpg": b"image a",
    "labels/train/a.txt": LINE,
    "images/val/b.PNG": b"image b",
    "labels/val/b.txt": b"1 0.5 0.5 1 1\n",
}


def labelled(label: bytes, data_yaml: bytes = b"names: [zebra, ape]\n") -> Contents:
    return read({"data.yaml": data_yaml, "images/train/a.jpg": b"", "labels/train/a.txt": label})


def faults(label: bytes, data_yaml: bytes = b"names: [zebra, ape]\n") -> list[str]:
    with pytest.raises(BadLabels) as refused:
        labelled(label, data_yaml)
    return [str(fault) for fault in refused.value.faults]


def approximately(box: Box) -> object:
    return pytest.approx((box.class_index, box.x0, box.y0, box.x1, box.y1), abs=1e-9)


def corners(box: Box) -> tuple[float, ...]:
    return (box.class_index, box.x0, box.y0, box.x1, box.y1)


def test_an_ultralytics_set_is_read_whole() -> None:
    contents = read(SET)
    assert (contents.format, contents.layout, contents.splits) == ("yolo", "images/{split}", ("train", "val"))
    assert contents.names == ("zebra", "ape")
    assert contents.header == SET["data.yaml"]
    assert contents.warnings == ()
    a, b = contents.samples
    assert (a.split, a.image, a.member) == ("train", "images/train/a.jpg", "images/train/a.jpg")
    assert (a.label, a.label_bytes) == ("labels/train/a.txt", LINE)
    assert corners(a.boxes[0]) == approximately(BOX)
    assert (b.split, b.image, b.boxes) == ("val", "images/val/b.PNG", (Box(1, 0, 0, 1, 1),))


def test_a_roboflow_set_whose_paths_point_one_folder_too_high_is_read() -> None:
    contents = read(
        {
            "data.yaml": b"train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cell']\n",
            "train/images/a.jpg": b"",
            "train/labels/a.txt": LINE,
            "valid/images/a.jpg": b"",
        }
    )
    assert (contents.layout, contents.splits, contents.warnings) == ("{split}/images", ("train", "valid"), ())
    assert [(s.image, s.label) for s in contents.samples] == [
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("valid/images/a.jpg", None),
    ]


def test_a_set_without_split_folders_is_all_training_images() -> None:
    contents = read({"images/ward 1/a.jpg": b"", "images/b.jpg": b"", "labels/ward 1/a.txt": LINE})
    assert (contents.layout, contents.splits) == ("images", ("train",))
    assert [s.label for s in contents.samples] == ["labels/ward 1/a.txt", None]


@pytest.mark.parametrize("top", ["top/", "Données 1/the set/"])
def test_folders_around_everything_are_taken_off_and_the_member_keeps_them(top: str) -> None:
    contents = read({f"{top}{name}": data for name, data in SET.items()})
    plain = read(SET)
    assert (contents.layout, contents.names) == (plain.layout, plain.names)
    assert [(s.image, s.label, s.boxes) for s in contents.samples] == [
        (s.image, s.label, s.boxes) for s in plain.samples
    ]
    assert [s.member for s in contents.samples] == [f"{top}{s.image}" for s in plain.samples]


def test_a_set_in_a_folder_beside_other_files_keeps_that_folder() -> None:
    contents = read({"README.txt": b"", "data.yaml": b"names: [a]", "set/images/train/a.jpg": b"", "cfg/x.json": b""})
    assert (contents.layout, contents.samples[0].image) == ("set/images/{split}", "set/images/train/a.jpg")


def test_a_single_split_folder_is_not_taken_for_a_folder_around_everything() -> None:
    assert read({"train/images/a.jpg": b"", "train/labels/a.txt": LINE}).samples[0].image == "train/images/a.jpg"
    assert read({"images/train/a.jpg": b""}).samples[0].image == "images/train/a.jpg"


def test_the_same_file_name_in_two_folders_stays_two_images() -> None:
    contents = read({**SET, "images/train/p1/a.jpg": b"", "labels/train/p1/a.txt": b"1 0.5 0.5 0.1 0.1\n"})
    by_image = {s.image: s.boxes[0].class_index for s in contents.samples}
    assert by_image == {"images/train/a.jpg": 0, "images/val/b.PNG": 1, "images/train/p1/a.jpg": 1}


def test_the_labels_of_an_image_are_where_its_last_images_folder_says() -> None:
    contents = read({"images/x/images/train/a.b.jpg": b"", "images/x/labels/train/a.b.txt": LINE, "other.txt": b""})
    assert contents.samples[0].label == "images/x/labels/train/a.b.txt"


def test_no_label_file_and_an_empty_one_are_background_images() -> None:
    contents = read({**SET, "images/train/none.jpg": b"", "images/train/empty.jpg": b"", "labels/train/empty.txt": b""})
    background = {s.image: (s.label, s.label_bytes) for s in contents.samples if not s.boxes}
    assert background == {
        "images/train/none.jpg": (None, None),
        "images/train/empty.jpg": ("labels/train/empty.txt", b""),
    }


@pytest.mark.parametrize("description", [SET["data.yaml"], b"names: [zebra, ape]"])
def test_images_outside_the_set_are_left_out_and_said(description: bytes) -> None:
    contents = read(
        {**SET, "data.yaml": description, "extra/images/n.jpg": b"", "figure.png": b"", "images/stray.jpg": b""}
    )
    assert len(contents.samples) == 2
    (warning,) = contents.warnings
    assert warning.startswith("3 images lie outside images/{split} and are left out: extra/images/n.jpg, figure.png")


def test_a_folder_of_another_name_beside_the_splits_is_a_split() -> None:
    assert read({**SET, "images/extra/n.jpg": b""}).splits == ("train", "val", "extra")


@pytest.mark.parametrize(
    ("description", "names"),
    [
        (b"names: [zebra, ape]", ("zebra", "ape")),
        (b"names: {1: ape, 0: zebra}", ("zebra", "ape")),
        (b"names:\n  0: zebra\n  1: ape\nnc: 2", ("zebra", "ape")),
        (b"\xef\xbb\xbfnames: [zebra, ape]\r\n", ("zebra", "ape")),
        (b"names: [10, 9]", ("10", "9")),
        (b"nc: 3", ("class_0", "class_1", "class_2")),
    ],
)
def test_class_names_keep_their_order(description: bytes, names: tuple[str, ...]) -> None:
    assert labelled(LINE, description).names == names


def test_without_data_yaml_the_classes_are_numbered_and_it_is_said() -> None:
    contents = read({"images/train/a.jpg": b"", "labels/train/a.txt": b"3 0.5 0.5 0.1 0.1\n"})
    assert contents.names == ("class_0", "class_1", "class_2", "class_3")
    assert contents.header is None
    assert contents.warnings == ("No data.yaml names the classes; they are called class_0, class_1 and so on.",)


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.5 0.5 0.2 0.2", BOX),
        ("0.0 5e-1 +.5 0.2 0.2", BOX),
        ("0 0.5 0.5 0.2 0.2 0.93", BOX),
        ("0 0.4 0.4 0.6 0.5 0.5 0.6", BOX),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5", BOX),
        ("1 0.05 0.5 0.2 1.0", Box(1, 0, 0, 0.15, 1)),
        ("1 1.0005 0.5 0.2 1.0009", Box(1, 0.9005, 0, 1, 1)),
        ("1 -0.001 0.1 0.5 0.2 0.3 0.9", Box(1, 0, 0.1, 0.5, 0.9)),
    ],
)
def test_boxes_polygons_and_confidences_are_read_as_boxes_inside_the_image(line: str, box: Box) -> None:
    (found,) = labelled(line.encode()).samples[0].boxes
    assert corners(found) == approximately(box)


@pytest.mark.parametrize(
    ("line", "outline"),
    [
        ("0 0.5 0.5 0.2 0.2", None),
        ("0 0.5 0.5 0.2 0.2 0.93", None),
        ("0 0.4 0.4 0.6 0.5 0.5 0.6", (0.4, 0.4, 0.6, 0.5, 0.5, 0.6)),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5", (0.5, 0.4, 0.6, 0.5, 0.5, 0.6, 0.4, 0.5)),
        ("1 -0.001 0.1 0.5 0.2 0.3 1.001", (0, 0.1, 0.5, 0.2, 0.3, 1)),
    ],
)
def test_the_corners_of_polygons_are_read_and_drawn_into_the_image(
    line: str, outline: tuple[float, ...] | None
) -> None:
    assert labelled(line.encode()).samples[0].boxes[0].outline == outline


def test_a_pose_has_a_box_and_no_outline() -> None:
    found = labelled(b"0 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6\n", b"names: [ape]\nkpt_shape: [2, 2]\n")
    assert found.samples[0].boxes[0].outline is None


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/train/a.jpg", "masks/train/a.png"),
        ("train/images/a.png", "train/masks/a.png"),
        ("set/images/val/deep/a.tif", "set/masks/val/deep/a.png"),
        ("images/a.jpg", "masks/a.png"),
    ],
)
def test_a_mask_beside_its_image_is_its_mask_and_no_image(image: str, mask: str) -> None:
    contents = read({image: b"image", mask: b"mask"})
    assert [(sample.member, sample.mask) for sample in contents.samples] == [(image, mask)]
    assert not any("left out" in warning for warning in contents.warnings)


def test_a_mask_without_its_image_is_left_out_and_said() -> None:
    contents = read({"images/train/a.jpg": b"image", "masks/train/b.png": b"mask"})
    assert [sample.mask for sample in contents.samples] == [None]
    assert any("masks/train/b.png" in warning for warning in contents.warnings)


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_read_right_and_kept() -> None:
    label = b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\r\n\r\n1\t0.5 0.5 1 1  \r\n"
    sample = labelled(label).samples[0]
    assert [box.class_index for box in sample.boxes] == [0, 1]
    assert sample.label_bytes == label


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0 1.7 0.5 0.2 0.2", "x centre 1.7 is outside 0..1"),
        ("0 0.5 -0.1 0.2 0.2", "y centre -0.1 is outside 0..1"),
        ("0 0.5 0.5 0.2 1.0011", "height 1.0011 is outside 0..1"),
        ("0 0.5 0.5 0 0.2", "width 0 is not above 0"),
        ("0 0.5 0.5 0.2 -0.0005", "height -0.0005 is not above 0"),
        ("0 0.5 nan 0.2 0.2", "y centre 'nan' is not a finite number"),
        ("0 0.5 0.5 inf 0.2", "width 'inf' is not a finite number"),
        ("0 0.5 0.5 1e999 0.2", "width '1e999' is not a finite number"),
        ("0 0,5 0.5 0.2 0.2", "x centre '0,5' is not a finite number"),
        ("0 0_5 0.5 0.2 0.2", "x centre '0_5' is not a finite number"),
        ("cat 0.5 0.5 0.2 0.2", "class index 'cat' is not a finite number"),
        ("0.5 0.5 0.5 0.2 0.2", "class index 0.5 is not a whole number from 0 on"),
        ("-1 0.5 0.5 0.2 0.2", "class index -1 is not a whole number from 0 on"),
        ("2 0.5 0.5 0.2 0.2", "class index 2 is too large: data.yaml names 2 classes, from 0"),
        ("0 0.5 0.5 0.2 0.2 7", "confidence 7 is outside 0..1"),
        ("0 0.1 0.1 0.2 0.2 0.3 1.5", "y of point 3 1.5 is outside 0..1"),
        ("0 0.1 0.1 0.1 0.2 0.1 0.9", "covers no area of the image"),
        ("0 1.0009 0.5 0.001 0.2", "covers no area of the image"),
        ("0 0.5 0.5 0.2", "has 4 numbers; a box has 5 (6 with confidence), a polygon an odd number from 7 on"),
        ("0 1 2 3 4 5 6 7", "has 8 numbers; a box has 5 (6 with confidence), a polygon an odd number from 7 on"),
    ],
)
def test_a_fault_names_the_file_the_line_and_the_number(line: str, what: str) -> None:
    assert faults(LINE + line.encode() + b"\n" + LINE) == [f"labels/train/a.txt:2: {what}"]


def test_a_class_index_is_bounded_where_nothing_names_the_classes() -> None:
    with pytest.raises(BadLabels, match=r"labels/train/a\.txt:1: class index 1000000000 is too large"):
        read({"images/train/a.jpg": b"", "labels/train/a.txt": b"1000000000 0.5 0.5 0.2 0.2"})


def test_text_in_another_encoding_is_a_fault() -> None:
    assert faults(LINE.decode().encode("utf-16")) == ["labels/train/a.txt: is not UTF-8 text (byte 0)"]


def test_the_faults_of_all_files_come_at_once_by_their_names_in_the_archive() -> None:
    bad = {"labels/train/a.txt": b"0 2 2 2 2\n9 0 0 0 0\n" * 30, "labels/val/b.txt": b"x\n" * 100}
    with pytest.raises(BadLabels) as refused:
        read({f"top/{name}": data for name, data in {**SET, **bad}.items()})
    listed = refused.value.faults
    assert [listed[0].where, listed[1].where] == ["top/labels/train/a.txt:1", "top/labels/train/a.txt:2"]
    assert (listed[-1].where, len(listed)) == ("top/labels/val/b.txt:40", 100)
    assert "160 faults in all" in refused.value.detail


@pytest.mark.parametrize(
    ("description", "fault"),
    [
        (b"names: [a\nnc: 1", "data.yaml:2: expected ',' or ']'"),
        (b"nc: 1\nnames: !!python/object/apply:os.system ['true']", "data.yaml:2: could not determine a constructor"),
        (b"a: &a [x]\nnames: [*a, *a]", "data.yaml:2: references (*name) are not read here"),
        (b"x: &x {a: 1}\ny:\n  <<: *x", "data.yaml:3: references (*name) are not read here"),
        (b"- " * 5000, "data.yaml: is nested too deeply"),
        (b"\xff\xff\xff", "data.yaml: is no valid YAML"),
        (b"", "data.yaml: is empty"),
        (b"just words", "data.yaml: is not a list of keys and values"),
        (b"names: [a, b]\nnc: 3", "data.yaml: nc is 3, but there are 2 names"),
        (b"names: {0: a, 2: b}", "data.yaml: names: the keys are not 0 to 1"),
        (b"names: [[a], b]", "data.yaml: names: is neither a list of names nor names by number"),
        (b"names: a", "data.yaml: names: is neither a list of names nor names by number"),
        (b"names: [a]\nkpt_shape: [17, 5]", "data.yaml: kpt_shape is not [number of key points, 2 or 3]"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_is_named_with_the_line(description: bytes, fault: str) -> None:
    (found,) = faults(LINE, description)
    assert found.startswith(fault)


def test_pose_lines_have_as_many_numbers_as_kpt_shape_says() -> None:
    pose = b"kpt_shape: [2, 3]\nnames: [hand]\n"
    line = b"0 0.5 0.5 0.2 0.2 0.1 0.1 2 0 0 0\n"
    assert corners(labelled(line, pose).samples[0].boxes[0]) == approximately(BOX)
    assert faults(LINE, pose) == ["labels/train/a.txt:1: has 5 numbers; by kpt_shape in data.yaml it is 11"]
    assert faults(line.replace(b" 2 ", b" nan "), pose) == [
        "labels/train/a.txt:1: key point 'nan' is not a finite number"
    ]


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        (
            {f"labels/train/x{i}.txt": LINE for i in range(7)} | {"labels/train/classes.txt": b"zebra"},
            "Label files without an image are left out: labels/train/x0.txt, labels/train/x1.txt, labels/train/x2.txt,"
            " labels/train/x3.txt, labels/train/x4.txt and 2 more.",
        ),
        ({"images/train/a.png": b""}, "Images share one label file: images/train/a.jpg, images/train/a.png."),
        ({"labels/val/b.txt": b"\xef\xbb\xbf" + LINE}, "Label files begin with a byte order mark"),
        ({"labels/val/b.txt": b"0 0.5 0.5 0.2 0.2 1"}, "Label lines have a confidence"),
        ({"labels/val/b.txt": LINE + b"0 0 0 0 1 1 1"}, "Boxes and polygons stand in one file"),
        ({"data.yaml": b"names: [a, b]\nval: images/train"}, "data.yaml takes images/train for val"),
        ({"data.yaml": b"names: [a, b]\ntrain: train.txt"}, "data.yaml lists images in train.txt"),
    ],
)
def test_what_is_odd_but_usable_is_a_warning(more: dict[str, bytes], warning: str) -> None:
    (found,) = read({**SET, **more}).warnings
    assert found.startswith(warning)


def test_a_set_without_labels_or_training_images_says_so() -> None:
    warnings = read({"data.yaml": b"names: [a]", "images/test/a.jpg": b""}).warnings
    assert warnings == (
        "No folder is called train: a job must name the splits that it expands.",
        "There is no label file: every image counts as background.",
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["labels/train/a.txt", "movie.mp4"], "The archive holds no image"),
        (["cats/a.jpg", "dogs/b.jpg"], r"2 images \(cats/a.jpg, dogs/b.jpg\), none in a folder called images"),
        (["a/images/train/a.jpg", "b/images/train/a.jpg"], r"\(1 in a/images/\{split\}, 1 in b/images/\{split\}\)"),
        (["a/data.yaml", "b/data.yaml", "images/a.jpg"], "more than one data.yaml: a/data.yaml, b/data.yaml"),
    ],
)
def test_what_is_no_yolo_set_is_refused_with_what_was_found(files: list[str], reason: str) -> None:
    with pytest.raises(BadArchive, match=reason) as refused:
        read(dict.fromkeys(files, b""))
    if "data.yaml:" not in refused.value.detail:
        assert "images/train/a.jpg" in refused.value.detail.partition("Expected")[2]


def test_annotations_of_another_format_beside_yolo_labels_do_not_matter() -> None:
    assert len(read({"Annotations/a.xml": b"", "annotations/all.json": b"", **SET}).samples) == 2


@pytest.mark.parametrize(
    "description",
    [b"train: train.txt\nval: val.txt\n", b"train: images/one\nval: images/two\n", b"train: ./images/one"],
)
def test_a_division_that_only_data_yaml_knows_is_refused_and_not_mixed_up(description: bytes) -> None:
    files = {"data.yaml": description + b"\nnames: [a]", "images/one/a.jpg": b"", "images/two/b.jpg": b""}
    with pytest.raises(BadArchive, match="into a folder called train, val or test"):
        read(files)


@pytest.mark.parametrize(
    "written",
    [
        "train: new/images/train\nval: new/images/val",
        "path: new\ntrain: images/train",
        "path: /home/someone/new\nval: ../new/images/val",
        "train: .\\new\\images\\train",
    ],
)
def test_data_yaml_tells_which_of_two_arrangements_is_meant(written: str) -> None:
    files = {"old/images/train/a.jpg": b"", "new/images/train/a.jpg": b"", "new/images/val/a.jpg": b""}
    contents = read({"data.yaml": f"{written}\nnames: [a]".encode(), **files})
    assert contents.layout == "new/images/{split}"
    assert len(contents.samples) == 2


def one_file(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


NAME = st.text(st.characters(codec="utf-8", categories=["L", "N"]) | st.sampled_from(" _-+()"), min_size=1, max_size=8)
NUMBER = st.floats(0.001, 1).map(lambda value: f"{value:.6f}")


LABEL = st.lists(st.tuples(st.integers(0, 2), NUMBER, NUMBER, NUMBER, NUMBER), max_size=4)
LINE_END = st.sampled_from(["\n", "\r\n"])


@st.composite
def yolo_sets(draw: st.DrawFn) -> tuple[dict[str, bytes], dict[str, bytes | None], str]:
    """An archive's files, its images with the labels they have, and the folder around everything."""
    layout = draw(st.sampled_from(["images/{split}", "{split}/images", "images"]))
    splits = draw(st.lists(st.sampled_from(["train", "val", "valid", "test"]), min_size=1, max_size=3, unique=True))
    top = draw(st.sampled_from(["", "top/", "my set/v 1/"]))
    folded = st.lists(NAME, min_size=1, max_size=4, unique_by=one_file)
    images: dict[str, bytes | None] = {}
    for split in splits if "{split}" in layout else ["train"]:
        for stem in draw(folded):
            extension = draw(st.sampled_from(["jpg", "JPEG", "png", "tiff", "webp"]))
            end = draw(LINE_END)
            label = "".join(" ".join(map(str, line)) + end for line in draw(LABEL)).encode()
            folder = layout.replace("{split}", split)
            images[f"{folder}/{stem}.{extension}"] = draw(st.sampled_from([label, label, None]))
    files = {f"{top}data.yaml": "names: [ü, b, a]\n".encode()}
    for image, data in images.items():
        files[f"{top}{image}"] = image.encode()
        if data is not None:
            stem = posixpath.splitext(image)[0]
            at = "/" + stem
            files[top + at.replace("/images/", "/labels/").removeprefix("/") + ".txt"] = data
    return files, images, top


@settings(deadline=None)  # the machine may be busy
@given(yolo_sets())
def test_any_set_is_read_as_it_was_written_and_its_labels_are_cloned(
    made: tuple[dict[str, bytes], dict[str, bytes | None], str],
) -> None:
    files, images, top = made
    contents = read(files)
    assert contents.names == ("ü", "b", "a")
    assert {s.image: s.label_bytes for s in contents.samples} == images
    for sample in contents.samples:
        assert files[sample.member] == sample.image.encode()
        assert sample.member == top + sample.image
        lines = (sample.label_bytes or b"").decode().split("\n")
        assert [box.class_index for box in sample.boxes] == [int(line.split()[0]) for line in lines if line]
        assert all(0 <= b.x0 < b.x1 <= 1 and 0 <= b.y0 < b.y1 <= 1 for b in sample.boxes)
        if sample.label:
            assert yolo_layout.label_path(sample.image) == sample.label

    variants = dict(files)
    for sample in contents.samples:
        image, label = yolo.variant_paths(sample.image, None, "_rg1", "png")
        variants[top + image] = b"variant"
        if sample.label_bytes is not None:
            variants[top + label] = sample.label_bytes
    again = {s.image: s for s in read(variants).samples}
    for sample in contents.samples:
        variant = again[yolo.variant_paths(sample.image, None, "_rg1", "png")[0]]
        assert (variant.split, variant.label_bytes, variant.boxes) == (sample.split, sample.label_bytes, sample.boxes)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("images/train/a.jpg", ("images/train/a_rg1.png", "labels/train/a_rg1.txt")),
        ("train/images/p 1/a.b.JPG", ("train/images/p 1/a.b_rg1.png", "train/labels/p 1/a.b_rg1.txt")),
        ("images/a.jpg", ("images/a_rg1.png", "labels/a_rg1.txt")),
        ("images/images/a.jpg", ("images/images/a_rg1.png", "images/labels/a_rg1.txt")),
        (
            "my images/images/train/images.jpg",
            ("my images/images/train/images_rg1.png", "my images/labels/train/images_rg1.txt"),
        ),
    ],
)
def test_a_variant_lies_beside_its_source(image: str, expected: tuple[str, str]) -> None:
    assert yolo.variant_paths(image, None, "_rg1", "png") == expected


@pytest.mark.parametrize(
    ("layout", "splits", "folders"),
    [
        (
            "images/{split}",
            ["train", "val", "test"],
            {"train": "images/train", "val": "images/val", "test": "images/test"},
        ),
        ("{split}/images", ["valid", "train"], {"train": "train/images", "val": "valid/images"}),
        (
            "set/images/{split}",
            ["train2017", "val2017"],
            {"train": "set/images/train2017", "val": "set/images/val2017"},
        ),
        (
            "images/{split}",
            ["train_1", "train_2", "val"],
            {"train": ["images/train_1", "images/train_2"], "val": "images/val"},
        ),
        (
            "images/{split}",
            ["train", "test", "valve"],
            {"train": "images/train", "val": "images/train", "test": "images/test"},
        ),
        ("images", ["train"], {"train": "images", "val": "images"}),
    ],
)
def test_data_yaml_is_relative_to_itself_and_knows_which_folder_is_val(
    layout: str, splits: list[str], folders: dict[str, object]
) -> None:
    names = ["no", "Größe: 3 mm", "10", "a"]
    values = yaml.safe_load(yolo_yaml.data_yaml(names, layout, splits))
    assert values == {**folders, "nc": 4, "names": names}
    assert list(values) == [*folders, "nc", "names"]


def test_the_baseline_trains_on_the_listed_originals_and_is_validated_alike() -> None:
    arguments = (["a"], "images/{split}", ["train", "val", "test"])
    ours, baseline = (
        yaml.safe_load(yolo_yaml.data_yaml(*arguments)),
        yaml.safe_load(yolo_yaml.originals_yaml(*arguments)),
    )
    assert baseline == {**ours, "train": yolo_yaml.ORIGINALS_LIST}
    alone = yaml.safe_load(yolo_yaml.originals_yaml(["a"], "images", ["train"]))
    assert alone["train"] == alone["val"] == yolo_yaml.ORIGINALS_LIST
    assert yolo_yaml.originals_list(["images/train/ä.jpg", "images/train/b.jpg"]).decode() == (
        "./images/train/ä.jpg\n./images/train/b.jpg\n"
    )


def test_key_points_are_carried_into_the_result_and_scripts_are_not() -> None:
    header = b"path: /home/x\ndownload: import os\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\ntrain: elsewhere\nnames: [b]\n"
    values = yaml.safe_load(yolo_yaml.data_yaml(["hand"], "images", ["train"], header))
    assert values == {
        "train": "images", "val": "images", "nc": 1, "names": ["hand"], "kpt_shape": [2, 3], "flip_idx": [1, 0]
    }  # fmt: skip


@settings(deadline=None)  # the machine may be busy
@given(st.lists(NAME, min_size=1, max_size=5))
def test_a_result_is_read_with_the_same_names(names: list[str]) -> None:
    written = yolo_yaml.data_yaml(names, "images/{split}", ["train", "val"])
    contents = read({**SET, "labels/val/b.txt": LINE, "data.yaml": written, "data.originals.yaml": b"names: [x]"})
    assert (list(contents.names), contents.warnings) == (names, ())


@pytest.mark.parametrize(
    ("name", "counts", "boxes", "classes"),
    [
        ("fracatlas", {"train": 454, "valid": 79, "test": 61}, 616 + 88 + 67, ("fractured",)),
        ("bccd", {"train": 205, "valid": 87, "test": 72}, 4886, ("Platelets", "RBC", "WBC")),
    ],
)
def test_real_sets_are_read_whole(name: str, counts: dict[str, int], boxes: int, classes: tuple[str, ...]) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    files = {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes() if path.suffix in (".txt", ".yaml") else b""
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    contents = read(files)
    assert {split: sum(s.split == split for s in contents.samples) for split in contents.splits} == counts
    assert (sum(len(s.boxes) for s in contents.samples), contents.names) == (boxes, classes)
    assert all(files[f"{name}/{s.label}"] == s.label_bytes for s in contents.samples)
