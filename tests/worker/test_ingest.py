"""An upload is taken whole, or refused with every fault by name."""

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import undefer

from shared import images, previews, trash
from shared.db import Sessions
from shared.errors import Invalid
from shared.models import Dataset, Image
from shared.reading import Reading
from shared.settings import Settings
from shared.storage import Folder, preview_key, sha256, source_key, upload_key
from worker import groups
from worker.ingest import check

Ingest = Callable[..., Dataset]
Repack = Callable[[dict[str, bytes | None]], Path]


def problems(dataset: Dataset) -> str:
    return "\n".join(f"{problem['where']}: {problem['what']}" for problem in dataset.problems)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Picture.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_good_set_is_ready_with_its_images_labels_and_counts(
    ingest: Ingest, phantoms: Path, local: Sessions, storage: Folder
) -> None:
    dataset = ingest(phantoms)
    assert (dataset.state, dataset.format, dataset.classes, dataset.white) == ("ready", "yolo", ["fractured"], 255)
    assert dataset.counts["images"] == {"train": 3, "valid": 1}
    with local.read() as session, zipfile.ZipFile(phantoms) as archive:
        rows = session.scalars(select(Image).options(undefer(Image.label))).all()
        assert {row.path for row in rows} == {name for name in archive.namelist() if name.startswith("images/")}
        for row in rows:
            assert row.label == archive.read(row.label_path or "")
            assert storage.read(source_key(row.sha256)) == archive.read(row.path)
            assert row.sha256 == sha256(archive.read(row.path))
    assert not storage.exists(upload_key(dataset.id))


@pytest.mark.parametrize(
    ("member", "data", "said"),
    [
        ("labels/train/phantom_0001.txt", b"0 1.7 0.5 0.1 0.1\n", "labels/train/phantom_0001.txt:1: .*1.7"),
        ("labels/train/phantom_0001.txt", b"0 nan 0.5 0.1 0.1\n", "labels/train/phantom_0001.txt:1: "),
        ("labels/train/phantom_0001.txt", b"7 0.5 0.5 0.1 0.1\n", "labels/train/phantom_0001.txt:1: .*7"),
        ("images/train/broken.jpg", b"\xff\xd8\xff\xe0", "images/train/broken.jpg: "),
        ("images/train/text.png", b"no picture", "images/train/text.png: "),
    ],
)
def test_a_faulty_member_is_named(ingest: Ingest, repack: Repack, member: str, data: bytes, said: str) -> None:
    dataset = ingest(repack({member: data}))
    assert dataset.state == "rejected"
    assert re.search(said, problems(dataset)), problems(dataset)


def test_of_a_rejected_set_no_original_stays_but_what_another_set_has(
    ingest: Ingest, repack: Repack, phantoms: Path, local: Sessions, storage: Folder
) -> None:
    assert ingest(phantoms).state == "ready"
    before = {each.key for each in storage.files()}
    new = png(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    rejected = ingest(repack({"images/train/new.png": new, "images/train/text.png": b"no picture"}))
    assert rejected.state == "rejected"
    assert storage.exists(source_key(sha256(new)))
    with local.write() as session:
        trash.empty(session, storage)
    assert {each.key for each in storage.files()} == before


def test_every_damaged_image_is_listed_and_not_only_the_first(ingest: Ingest, phantoms: Path, repack: Repack) -> None:
    with zipfile.ZipFile(phantoms) as archive:
        names = [name for name in archive.namelist() if name.startswith("images/train")]
        dataset = ingest(repack({name: archive.read(name)[:300] for name in names}))
    assert dataset.state == "rejected"
    assert {problem["where"] for problem in dataset.problems} == set(names)


def test_what_is_no_zip_is_rejected(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "no.zip"
    path.write_bytes(b"this is no zip")
    dataset = ingest(path)
    assert dataset.state == "rejected"
    assert "zip" in problems(dataset)


def test_a_zip_without_images_is_rejected(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "empty.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    dataset = ingest(path)
    assert dataset.state == "rejected"
    assert "image" in problems(dataset)


def test_sixteen_bit_images_share_one_window(ingest: Ingest, repack: Repack) -> None:
    bright = np.full((40, 40), 3000, np.uint16)
    dark = np.full((40, 40), 500, np.uint16)
    dataset = ingest(repack({"images/train/bright.png": png(bright), "images/train/dark.png": png(dark)}))
    assert (dataset.state, dataset.white) == ("ready", 4095)


def test_with_nothing_to_do_nothing_is_done(ingest: Ingest, settings: object, local: Sessions, storage: Folder) -> None:
    from worker.ingest import check_next

    assert not check_next(settings, local, storage)  # type: ignore[arg-type]


def test_polygons_are_kept_beside_their_boxes(ingest: Ingest, repack: Repack, local: Sessions) -> None:
    label = b"0 0.2 0.2 0.8 0.2 0.2 0.8\n0 0.5 0.5 0.2 0.2\n"
    assert ingest(repack({"labels/train/phantom_0001.txt": label})).state == "ready"
    with local.read() as session:
        outlines = {image.path: image.outlines for image in session.scalars(select(Image))}
    assert outlines.pop("images/train/phantom_0001.jpg") == [[0.2, 0.2, 0.8, 0.2, 0.2, 0.8], None]
    assert list(outlines.values()) == [[]] * 3


def test_a_mask_image_is_stored_with_its_image_and_is_none_itself(
    ingest: Ingest, repack: Repack, local: Sessions, storage: Folder
) -> None:
    mask = png(np.eye(20, dtype=np.uint8) * 255)
    dataset = ingest(repack({"masks/train/phantom_0001.png": mask}))
    assert (dataset.state, dataset.counts["images"]) == ("ready", {"train": 3, "valid": 1})
    with local.read() as session:
        found = {image.path: image.mask_sha256 for image in session.scalars(select(Image))}
    assert found.pop("images/train/phantom_0001.jpg") == sha256(mask)
    assert list(found.values()) == [None] * 3
    assert storage.read(source_key(sha256(mask))) == mask


def test_a_mask_image_that_keeps_everything_or_nothing_is_warned_of(ingest: Ingest, repack: Repack) -> None:
    white, black = np.full((20, 20), 255, np.uint8), np.full((20, 20), 127 << 8, np.uint16)
    eye = np.eye(20, dtype=np.uint8) * 255
    masks = {"phantom_0000": white, "phantom_0001": eye, "phantom_0002": black}
    dataset = ingest(repack({f"masks/train/{name}.png": png(pixels) for name, pixels in masks.items()}))
    assert dataset.state == "ready"
    (warning,) = [each for each in dataset.warnings if "mask" in each]
    assert warning == (
        "2 mask images are all white or all black, such as masks/train/phantom_0000.png, masks/train/phantom_0002.png: "
        "with the mask `uploaded` nothing can be made of their images."
    )


def test_a_damaged_mask_image_is_a_fault_of_its_own(ingest: Ingest, repack: Repack) -> None:
    dataset = ingest(repack({"masks/train/phantom_0001.png": b"no picture"}))
    assert dataset.state == "rejected"
    assert problems(dataset).startswith("masks/train/phantom_0001.png: not a readable")


def test_the_report_tells_why_and_what_was_seen(ingest: Ingest, repack: Repack, phantoms: Path) -> None:
    with zipfile.ZipFile(phantoms) as archive:
        first, second = (archive.read(f"images/train/phantom_000{k}.jpg") for k in (0, 1))
    exif = Picture.Exif()
    exif[0x010E] = "Jane Doe"
    small = io.BytesIO()
    Picture.new("L", (20, 10)).save(small, "JPEG", exif=exif, comment=b"Jane Doe")
    again = io.BytesIO()
    Picture.open(io.BytesIO(second)).save(again, "PNG")
    dataset = ingest(
        repack(
            {
                "images/train/first again.jpg": first,
                "images/valid/second as png.png": again.getvalue(),
                "images/train/small.jpg": small.getvalue(),
                "labels/train/nothing.txt": b"",
            }
        )
    )
    report = dataset.report
    assert report["why"].startswith("YOLO, because of labels/train/phantom_0000.txt")
    assert report["labels"] == "boxes"
    assert report["without_labels"] == {"train": 2, "valid": 1}
    assert report["sizes"] == {"smallest": [20, 10], "median": [90, 110], "largest": [90, 110]}
    assert report["metadata"] == {"exif": 1, "text": 1}
    assert report["duplicates"] == {
        "within": {"count": 1, "examples": [["images/train/phantom_0000.jpg", "images/train/first again.jpg"]]},
        "across": {"count": 1, "examples": [["images/train/phantom_0001.jpg", "images/valid/second as png.png"]]},
    }
    assert report["unpaired"] == {"count": 1, "examples": ["labels/train/nothing.txt"]}
    assert (report["groups"], report["skipped"]["count"]) == (None, 0)
    assert any("1 images are in several splits, pixel by pixel" in warning for warning in dataset.warnings)


def test_groups_are_found_in_paths_and_those_in_several_splits_are_said(
    ingest: Ingest, repack: Repack, phantoms: Path, local: Sessions
) -> None:
    with zipfile.ZipFile(phantoms) as archive:
        picture = archive.read("images/train/phantom_0000.jpg")
    names = ["train/p07_a", "train/p07_b", "train/p8_a", "valid/p07_c", "valid/other"]
    added = {f"images/{name}.jpg": picture for name in names}
    dataset = ingest(repack(added), group_pattern=r"/p(\d+)_")
    assert dataset.report["groups"] == {"count": 2, "without": 5, "across": {"count": 1, "examples": ["07"]}}
    assert "Groups in several splits: 1 (07)." in dataset.warnings
    with local.read() as session:
        groups = {image.path: image.group for image in session.scalars(select(Image))}
    assert [groups[f"images/{name}.jpg"] for name in names] == ["07", "07", "8", "07", None]


@pytest.mark.parametrize(
    ("pattern", "seconds", "said"),
    [(r"((?:a+)+)$", 1.0, "takes more than 1 s for 1 paths"), ("(.*)", 20.0, "finds 250 characters")],
)
def test_a_pattern_that_takes_too_long_or_finds_too_much_is_refused(pattern: str, seconds: float, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        groups.find(pattern, ["a" * 249 + "!"], seconds)


def test_damaged_images_are_left_out_on_request_and_reported(ingest: Ingest, repack: Repack, local: Sessions) -> None:
    broken = {"images/train/phantom_0001.jpg": b"\xff\xd8\xff\xe0", "images/valid/phantom_0003.jpg": b""}
    assert ingest(repack(broken)).state == "rejected"
    dataset = ingest(repack(broken), on_bad_image="skip")
    assert (dataset.state, dataset.counts["images"], dataset.splits) == ("ready", {"train": 2}, ["train"])
    assert [each["where"] for each in dataset.report["skipped"]["examples"]] == list(broken)
    assert any(warning.startswith("2 images cannot be used and are left out") for warning in dataset.warnings)
    everything = {f"images/train/phantom_000{k}.jpg": b"" for k in range(3)} | broken
    assert ingest(repack(everything), on_bad_image="skip").state == "rejected"


def test_a_set_without_labels_must_be_meant(ingest: Ingest, repack: Repack) -> None:
    none = {f"labels/{split}.txt": None for split in [f"train/phantom_000{k}" for k in range(3)]}
    none["labels/valid/phantom_0003.txt"] = b""
    dataset = ingest(repack(none))
    assert dataset.state == "rejected"
    assert problems(dataset) == "labels: there are none"
    assert ingest(repack(none), labels="none").state == "ready"


def test_a_format_that_was_asked_for_is_read(ingest: Ingest, repack: Repack) -> None:
    dataset = ingest(repack({}), format="voc", labels="none")
    assert (dataset.format, dataset.report["why"]) == ("voc", "Pascal VOC, as was asked for.")


@pytest.mark.parametrize(
    ("width", "height", "upright", "size"), [(40, 20, False, (40, 20)), (20, 40, True, (20, 40)), (30, 40, None, None)]
)
def test_exif_turns_an_image_if_its_labels_were_made_that_way(
    ingest: Ingest, tmp_path: Path, local: Sessions, width: int, height: int, upright: bool | None,
    size: tuple[int, int] | None,
) -> None:  # fmt: skip
    """Stored 40 x 20, and by EXIF to be held 20 x 40."""
    exif, out = Picture.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Picture.new("L", (40, 20)).save(out, "JPEG", exif=exif)
    label = (
        f"<annotation><size><width>{width}</width><height>{height}</height></size><object><name>a</name><bndbox>"
        "<xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object></annotation>"
    )
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/a.jpg", out.getvalue())
        archive.writestr("train/a.xml", label)
    dataset = ingest(path)
    if size is None:
        assert problems(dataset) == "train/a.jpg: has 20 x 40 pixels, and in train/a.xml: size it has 30 x 40"
        return
    with local.read() as session:
        image = session.scalars(select(Image)).one()
    assert (image.upright, (image.width, image.height)) == (upright, size)
    assert image.boxes == [[0, 0, 0, 10 / size[0], 10 / size[1]]]
    assert any("taken that way" in warning for warning in dataset.warnings) is not upright


def test_a_listed_name_that_cannot_be_shown_is_escaped_in_the_report(ingest: Ingest, tmp_path: Path) -> None:
    out = io.BytesIO()
    Picture.new("L", (20, 20)).save(out, "PNG")
    images = [
        {"id": k, "file_name": name, "width": 20, "height": 20} for k, name in enumerate(("a.png", "\ud800\0.png"))
    ]
    annotations = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/a.png", out.getvalue())
        archive.writestr("train/_annotations.coco.json", json.dumps(whole))
    assert ingest(path).report["unpaired"] == {"count": 1, "examples": ["\\ud800\\x00.png"]}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Forty grey images of many sizes, five of which are damaged, and one of which is another's twin."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", "names: [a]\n")
        for number in range(40):
            size = (20 + 37 * (number % 7), 30 + number % 38)
            data = png(np.random.default_rng(min(number, 38)).integers(0, 256, size, dtype=np.uint8))
            archive.writestr(f"images/train/{number:02}.png", data[:200] if number % 8 == 5 else data)
            archive.writestr(f"labels/train/{number:02}.txt", "0 0.5 0.5 0.2 0.2\n")
    return path


@pytest.mark.parametrize("threads", [2, 9])
def test_many_threads_find_what_one_finds_in_the_same_order(
    many: Path, settings: Settings, tmp_path: Path, threads: int
) -> None:
    options = Reading(on_bad_image="skip")
    alone = check(many, settings, Folder(tmp_path / "alone"), options, threads=1)
    among = check(many, settings, Folder(tmp_path / "among"), options, threads=threads)
    assert among == alone
    assert [image.path for image in among.images] == sorted(image.path for image in among.images)
    assert [fault["where"] for fault in among.report["skipped"]["examples"]] == [
        f"images/train/{number:02}.png" for number in (5, 13, 21, 29, 37)
    ]
    stored = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "alone", tmp_path / "among")
    ]
    assert stored[0] == stored[1]
    assert {path.name for path in stored[0] if path.suffix == ""} == {image.sha256 for image in among.images}


def test_no_more_pixels_are_open_than_the_largest_image_may_have(
    many: Path, settings: Settings, storage: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, open_now, most = threading.Lock(), [0], [0]
    examine, make = images.examine, previews.make

    def opens(*given: object) -> images.Examined:
        examined = examine(*given)  # type: ignore[arg-type]
        with lock:
            open_now[0] += examined.image.width * examined.image.height
            most[0] = max(most[0], open_now[0])
        threading.Event().wait(0.003)
        return examined

    def closes(image: Picture.Image) -> bytes | None:
        with lock:
            open_now[0] -= image.width * image.height
        return make(image)

    monkeypatch.setattr(images, "examine", opens)
    monkeypatch.setattr(previews, "make", closes)
    largest = 242 * 67
    tight = settings.model_copy(update={"max_image_pixels": largest})
    check(many, tight, storage, Reading(on_bad_image="skip"), threads=8)
    assert largest / 2 < most[0] <= largest


def test_a_small_picture_lies_beside_each_original(
    ingest: Ingest, repack: Repack, local: Sessions, storage: Folder
) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (50, 1000, 3), dtype=np.uint8)
    deep = np.full((40, 40), 3000, np.uint16)
    assert ingest(repack({"images/train/wide.png": png(wide), "images/train/deep.png": png(deep)})).state == "ready"
    with local.read() as session:
        rows = {row.path: row for row in session.scalars(select(Image))}
    keys = {path: preview_key(row.sha256, upright=True) for path, row in rows.items()}
    with Picture.open(storage.path(keys["images/train/wide.png"])) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 13))
    assert not storage.exists(keys["images/train/deep.png"])
    assert sum(storage.exists(key) for key in keys.values()) == 5
