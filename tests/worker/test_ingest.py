"""An upload is taken whole, or refused with every fault by name."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import undefer

from shared.db import Sessions
from shared.models import Dataset, Image
from shared.storage import Folder, sha256, source_key, upload_key

Ingest = Callable[[Path], Dataset]
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


def test_a_damaged_mask_image_is_a_fault_of_its_own(ingest: Ingest, repack: Repack) -> None:
    dataset = ingest(repack({"masks/train/phantom_0001.png": b"no picture"}))
    assert dataset.state == "rejected"
    assert problems(dataset).startswith("masks/train/phantom_0001.png: not a readable")
