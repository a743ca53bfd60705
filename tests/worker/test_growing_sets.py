"""A dataset that grew is compared with its parent, whatever its format, and its job takes over what both have."""

import json
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expanding import run
from PIL import Image as Pillow
from sets import SETS, Picture, write
from sqlalchemy import select

from shared import datasets, forgetting, jobs, priors
from shared.db import Sessions
from shared.formats import read
from shared.formats.zips import SafeZip
from shared.models import Archive, Dataset, Item, Job
from shared.spec import ExpansionSpec
from shared.states import ItemState
from shared.storage import sha256
from worker.archive import build_next
from worker.studio import Studio
from worker.sweep import sweep

Ingest = Callable[..., Dataset]


def picture(seed: int, box: tuple[int, int, int, int] = (4, 4, 20, 16), *, deep: int = 0) -> Picture:
    out = BytesIO()
    dtype = np.uint16 if deep else np.uint8
    pixels = np.random.default_rng(seed).integers(0, deep or 256, (32, 40), dtype=dtype)
    Pillow.fromarray(pixels).save(out, "PNG")
    return Picture(out.getvalue(), 40, 32, [box])


def renumbered(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same set as an annotation tool exports it next time: COCO's ids, and its document's notes, are new."""
    changed = dict(files)
    for name in [name for name in files if name.endswith(".json")]:
        document = json.loads(files[name])
        document["info"] = {"version": "2"}
        for image in document["images"]:
            image["id"] += 1000
        for number, annotation in enumerate(document["annotations"], start=1):
            annotation |= {"id": number, "image_id": annotation["image_id"] + 1000, "category_id": 3}
        document["categories"] = [{**document["categories"][0], "id": 3}]
        changed[name] = json.dumps(document).encode()
    return changed


class Built:
    """An archive, as it was built."""

    def __init__(self, data: bytes) -> None:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}

    def mentions(self, word: str) -> list[str]:
        """The files that have it in their names or contents; README.txt speaks of no image."""
        return [name for name, data in self.files.items() if word in name or word.encode() in data]


def make_and_finish(studio: Studio, dataset_id: str, **spec: Any) -> str:
    """A job all of whose items are marked as done."""
    wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, "variants": 2, **spec})
    with studio.sessions.write() as session:
        job_id = jobs.create(session, "local", wanted, priors.find(session, "local", "builtin"), 1000).id
        for item in session.scalars(select(Item).where(Item.job_id == job_id)):
            item.state = ItemState.DONE
    return job_id


def reused(sessions: Sessions, job_id: str) -> dict[str, int]:
    """How many items of each image were taken over."""
    found: dict[str, int] = {}
    with sessions.read() as session:
        for item in session.scalars(select(Item).where(Item.job_id == job_id)):
            name = item.image.path.rpartition("/")[2]
            found[name] = found.get(name, 0) + (item.reused_from is not None)
    return found


@pytest.mark.parametrize("kind", SETS)
def test_what_both_have_is_taken_over(studio: Studio, ingest: Ingest, tmp_path: Path, kind: str) -> None:
    old = {"train": {f"{n}.png": picture(n) for n in range(3)}, "val": {"v.png": picture(9)}}
    # The first is labelled anew, the second stays, the third goes; a fourth comes, before all others.
    new = {"train": {"00.png": picture(7), "0.png": picture(0, (4, 4, 22, 16)), "1.png": picture(1)}, "val": old["val"]}
    parent = ingest(write(tmp_path / "old.zip", SETS[kind](old)))
    grown = ingest(write(tmp_path / "new.zip", renumbered(SETS[kind](new))), parent=parent.id)

    told = grown.report["difference"]
    assert told["parent"] == parent.id
    assert told["unchanged"] == 2
    assert [Path(name).name for name in told["added"]["examples"]] == ["00.png"]
    assert [Path(name).name for name in told["relabelled"]["examples"]] == ["0.png"]
    assert [Path(name).name for name in told["removed"]["examples"]] == ["2.png"]
    assert told["moved"]["count"] == 0
    assert "difference" not in parent.report

    make_and_finish(studio, parent.id)
    assert reused(studio.sessions, make_and_finish(studio, grown.id)) == {"00.png": 0, "0.png": 0, "1.png": 2}


def test_a_class_that_is_called_something_else_is_another_label(ingest: Ingest, tmp_path: Path) -> None:
    files = SETS["yolo"]({"train": {"a.png": picture(1)}})
    parent = ingest(write(tmp_path / "old.zip", files))
    renamed = ingest(write(tmp_path / "new.zip", files | {"data.yaml": b"names: [implant]\n"}), parent=parent.id)
    assert renamed.report["difference"]["relabelled"]["count"] == 1


def test_of_deep_images_what_is_shown_as_white_is_part_of_the_work(
    studio: Studio, ingest: Ingest, tmp_path: Path
) -> None:
    old = {"train": {"deep.png": picture(1, deep=900), "flat.png": picture(2)}}
    parent = ingest(write(tmp_path / "old.zip", SETS["yolo"](old)))
    same, deeper = (
        ingest(write(tmp_path / "new.zip", SETS["yolo"]({"train": old["train"] | {"x.png": more}})), parent=parent.id)
        for more in (picture(3, deep=1000), picture(4, deep=4000))
    )
    assert (parent.white, same.white, deeper.white) == (1023, 1023, 4095)
    make_and_finish(studio, parent.id)
    assert reused(studio.sessions, make_and_finish(studio, same.id)) == {"deep.png": 2, "flat.png": 2, "x.png": 0}
    assert reused(studio.sessions, make_and_finish(studio, deeper.id)) == {"deep.png": 0, "flat.png": 2, "x.png": 0}


def test_a_parent_that_is_deleted_meanwhile_is_said(studio: Studio, ingest: Ingest, tmp_path: Path) -> None:
    path = write(tmp_path / "set.zip", SETS["yolo"]({"train": {"a.png": picture(1)}}))
    parent = ingest(path)
    with studio.sessions.write() as session:
        datasets.delete(session, session.get_one(Dataset, parent.id))
    orphan = ingest(path, parent=parent.id)
    assert "difference" not in orphan.report
    assert any("deleted meanwhile" in warning for warning in orphan.warnings)


@pytest.mark.parametrize("kind", SETS)
def test_an_archive_is_built_anew_without_what_is_forgotten(
    studio: Studio, make_job: Callable[..., Job], tmp_path: Path, kind: str
) -> None:
    pictures = {"train": {f"wrist_{n}.png": picture(n) for n in range(2)}, "val": {"elbow.png": picture(9)}}
    job = make_job(write(tmp_path / "set.zip", SETS[kind](pictures)), variants=1)
    run(studio)

    def built() -> Built:
        with studio.sessions.write() as session:
            jobs.conclude(session)
        assert build_next(studio.settings, studio.sessions, studio.storage)
        with studio.sessions.read() as session:
            return Built(studio.storage.read(session.get_one(Archive, job.id).key or ""))

    assert {"groups.csv", "manifest.jsonl"} <= set(built().mentions("wrist_1"))
    for match in ("wrist_1.png", "elbow*"):
        with studio.sessions.write() as session:
            assert forgetting.forget(session, "local", "local", job.dataset_id, forgetting.Wish(match))
    sweep(studio.sessions, studio.storage)
    after = built()
    assert after.mentions("wrist_1") == after.mentions("elbow") == []
    assert len([name for name in after.files if name.endswith("wrist_0.png")]) == 1
    assert len([name for name in after.files if name.endswith("wrist_0_rg1.png")]) == 1
    assert not any(sha256(pictures["train"]["wrist_1.png"].data) in str(path) for path in tmp_path.rglob("*"))
    # What is left is a whole set.
    again = SafeZip(BytesIO(write(tmp_path / "again.zip", after.files).read_bytes()))
    assert [Path(sample.image).name for sample in read(again, kind).samples] == ["wrist_0.png", "wrist_0_rg1.png"]
