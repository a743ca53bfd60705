"""Images are found by what is written of them, however many there are."""

import pytest
from format_files import read

from shared.formats import places
from shared.formats.places import Finder


@pytest.mark.parametrize(
    ("written", "beside", "split", "expected"),
    [
        ("a.jpg", "", "train", (["a.jpg"], True)),
        ("a.jpg", "train", "train", (["train/a.jpg"], True)),
        ("a.jpg", "annotations", "train", (["train/a.jpg"], True)),
        ("a.jpg", "annotations", "val2017", (["val/a.jpg"], True)),
        ("a.jpg", "annotations", "other", (["a.jpg", "train/a.jpg", "val/a.jpg"], True)),
        ("./train/a.jpg", "annotations", "val", (["train/a.jpg"], True)),
        ("C:\\x\\val\\a.jpg", "", "train", (["val/a.jpg"], False)),
        ("../../val/a.jpg", "", "train", (["val/a.jpg"], True)),
        ("u\u0308.jpg", "", "train", (["ü.jpg"], True)),
        ("b.jpg", "", "train", ([], False)),
        ("..", "", "train", ([], False)),
    ],
)
def test_what_is_written_leads_to_an_image(
    written: str, beside: str, split: str, expected: tuple[list[str], bool]
) -> None:
    assert Finder(["a.jpg", "train/a.jpg", "val/a.jpg", "ü.jpg"]).find(written, beside, split) == expected


def test_a_path_of_any_depth_is_looked_at_a_bounded_number_of_times() -> None:
    images = [f"p{number}/" + "deep/" * 40 + "image.jpg" for number in range(3000)]
    finder = Finder(images)
    assert finder.find("x/" * 400 + "image.jpg", "", "train")[0] == images[: places.MANY]
    assert len(finder._by_end) <= places.DEEPEST
    assert [finder.find(image, "", "train") for image in images[:5]] == [([image], True) for image in images[:5]]


@pytest.mark.parametrize(
    ("members", "top"),
    [
        (["a/b/train/x.jpg", "a/b/train/x.xml"], "a/b/"),
        (["train/x.jpg"], ""),
        (["a/annotations/x.json", "a/annotations/y.jpg"], "a/"),
        (["a/x.jpg", "b/x.jpg"], ""),
        (["a/JPEGImages/x.jpg", "a/Annotations/x.xml"], "a/"),
    ],
)
def test_folders_around_a_set_end_where_it_begins(members: list[str], top: str) -> None:
    assert places.top(members) == top


@pytest.mark.parametrize(
    ("files", "image", "mask"),
    [
        (
            {
                "annotations/instances_train.json": b'{"annotations": [], "categories": [], "images": '
                b'[{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}]}'
            },
            "train/a.jpg",
            "masks/train/a.png",
        ),
        (
            {"Annotations/a.xml": b"<annotation><size><width>9</width><height>9</height></size></annotation>"},
            "JPEGImages/a.jpg",
            "masks/a.png",
        ),
        ({"obj.names": b"x"}, "obj_train_data/a.jpg", "masks/obj_train_data/a.png"),
    ],
)
def test_a_mask_comes_with_its_image_in_every_format(files: dict[str, bytes], image: str, mask: str) -> None:
    contents = read({**files, image: b"", mask: b""})
    assert [(sample.image, sample.mask) for sample in contents.samples] == [(image, mask)]
    assert contents.unpaired == ()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("JPEGImages/a.jpg", "masks/a.png"),
        ("images/train/a.tif", "masks/train/a.png"),
        ("train/a.jpg", "masks/train/a.png"),
        ("images", "masks/.png"),
    ],
)
def test_a_mask_lies_where_its_image_would(image: str, mask: str) -> None:
    assert places.mask_path(image) == mask


XML = b"<annotation><size><width>9</width><height>9</height></size></annotation>"


@pytest.mark.parametrize(
    ("files", "kind", "why"),
    [
        ({"a.jpg": b"", "a.xml": XML}, "voc", "Pascal VOC, because of a.xml."),
        (
            {"images/a.jpg": b"", "labels/a.txt": b"", "images/a.xml": XML},
            "yolo",
            "YOLO, because of labels/a.txt. Not read, though also there: Pascal VOC (images/a.xml).",
        ),
        ({"images/a.jpg": b""}, "yolo", "YOLO, since nothing points to another format."),
        (
            {"labels/classes.txt": b"a", "images/a.jpg": b"", "images/a.xml": XML},
            "voc",
            "Pascal VOC, because of images/a.xml.",
        ),
        (
            {"a.jpg": b"", "a.txt": b"", "a.xml": XML},
            "voc",
            "Pascal VOC, because of a.xml. Not read, though also there: YOLO with labels beside the images (a.txt).",
        ),
    ],
)
def test_the_format_is_found_out_and_it_is_said_why(files: dict[str, bytes], kind: str, why: str) -> None:
    contents = read(files)
    assert (contents.format, contents.why) == (kind, why)


def test_a_format_that_is_asked_for_is_read_whatever_is_there() -> None:
    contents = read({"a.jpg": b"", "a.txt": b"", "a.xml": XML}, "darknet")
    assert (contents.format, contents.samples[0].label) == ("darknet", "a.txt")
    assert contents.why == "YOLO with labels beside the images, as was asked for."
