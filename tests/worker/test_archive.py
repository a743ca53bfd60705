"""The zip: the upload's layout, labels byte for byte, and it trains as it is."""

import csv
import dataclasses
import errno
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import expanding
import pytest
import yaml
from PIL import Image as Picture

from shared import jobs, packing, verdicts
from shared.filters import Threshold
from shared.models import Archive, Item, Job
from shared.states import ArchiveState, Decision
from shared.storage import Folder, sha256
from shared.verdicts import Opinion
from worker.archive import build_next
from worker.studio import Studio

MakeJob = Callable[..., Job]


@pytest.fixture
def zipped(studio: Studio, make_job: MakeJob) -> Callable[..., zipfile.ZipFile]:
    """Runs a job to its end and opens its zip."""

    def run(archive: Path | None = None, **spec: object) -> zipfile.ZipFile:
        job = make_job(archive, **spec) if archive else make_job(**spec)
        expanding.run(studio)
        with studio.sessions.write() as session:
            jobs.conclude(session)
        assert build_next(studio.settings, studio.sessions, studio.storage)
        with studio.sessions.read() as session:
            row = session.get_one(Archive, job.id)
            assert row.state == ArchiveState.READY
            data = studio.storage.read(row.key or "")
            assert (row.sha256, row.size) == (sha256(data), len(data))
        return zipfile.ZipFile(io.BytesIO(data))

    return run


Zipped = Callable[..., zipfile.ZipFile]


def test_labels_of_variants_equal_their_sources_byte_for_byte(zipped: Zipped, phantoms: Path) -> None:
    with zipfile.ZipFile(phantoms) as source, zipped(variants=2) as result:
        assert result.testzip() is None
        for name in source.namelist():
            if name != "data.yaml":
                assert result.read(name) == source.read(name)
        rows = [json.loads(line) for line in result.read("manifest.jsonl").splitlines()]
        assert len(rows) == 6
        for row in rows:
            assert result.read(row["label"]) == source.read(row["source"].replace("images", "labels")[:-4] + ".txt")
            assert sha256(result.read(row["file"])) == row["sha256"]
            assert row["file"].rpartition("/")[0] == row["source"].rpartition("/")[0]


def test_data_yaml_resolves_to_the_images_from_where_it_lies(zipped: Zipped, tmp_path: Path) -> None:
    with zipped(variants=1) as result:
        result.extractall(tmp_path / "out")
    described = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert "path" not in described
    assert (described["nc"], described["names"]) == (1, ["fractured"])
    train = list((tmp_path / "out" / described["train"]).iterdir())
    assert len(train) == 6
    assert len(list((tmp_path / "out" / described["val"]).iterdir())) == 1
    baseline = yaml.safe_load((tmp_path / "out" / "data.originals.yaml").read_text())
    listed = (tmp_path / "out" / baseline["train"]).read_text().split()
    assert {(tmp_path / "out" / line).resolve() for line in listed} == {p for p in train if "_rg" not in p.name}


def test_without_originals_only_variants_are_in_it(zipped: Zipped) -> None:
    with zipped(variants=1, output={"include_originals": False}) as result:
        images = [name for name in result.namelist() if name.startswith("images/")]
    assert len(images) == 3
    assert all("_rg1" in name for name in images)


def test_what_is_rejected_or_filtered_is_left_out_and_it_is_said_which_and_why(
    studio: Studio, make_job: MakeJob, zipped: Zipped
) -> None:
    job = make_job(variants=1)
    expanding.run(studio)
    rejected, filtered, kept = expanding.items(studio)
    with studio.sessions.write() as session:
        row = session.get_one(Job, job.id)
        verdicts.judge(
            session, row, "ada", [Opinion(rejected.id, Decision.REJECT, "a step"), Opinion(kept.id, Decision.ACCEPT)]
        )
        session.get_one(Item, filtered.id).measures = {"psnr_kept": 3.0}
        jobs.conclude(session)
    with studio.sessions.write() as session:
        assert jobs.pack(session, session.get_one(Job, job.id), [Threshold(measure="psnr_kept", min=4)])
    assert build_next(studio.settings, studio.sessions, studio.storage)
    with studio.sessions.read() as session:
        data = studio.storage.read(session.get_one(Archive, job.id).key or "")
    with zipfile.ZipFile(io.BytesIO(data)) as result:
        rows = [json.loads(line) for line in result.read("manifest.jsonl").splitlines()]
        out = {line["item"]: line for line in map(json.loads, result.read("left_out.jsonl").splitlines())}
        readme = result.read("README.txt").decode()
        assert [name for name in result.namelist() if "_rg" in name and name.endswith(".jpg")] == [rows[0]["file"]]
    assert [(row["item"], row["verdict"]["decision"], row["verdict"]["by"]) for row in rows] == [
        (kept.id, "accept", "ada")
    ]
    assert set(out) == {rejected.id, filtered.id}
    first, second = out[rejected.id], out[filtered.id]
    assert (first["why"], first["verdict"]["reason"], first["filters"]) == ("rejected", "a step", [])
    assert (second["why"], second["verdict"], second["filters"]) == ("filtered", None, ["psnr_kept < 4"])
    assert "1 that were rejected, and 1 that did\nnot pass the filters (psnr_kept < 4)" in readme
    assert "revision 2" in readme


def test_an_archive_all_of_whose_images_are_rejected_holds_the_originals(studio: Studio, make_job: MakeJob) -> None:
    job = make_job(variants=1)
    expanding.run(studio)
    with studio.sessions.write() as session:
        opinions = [Opinion(item.id, Decision.REJECT) for item in expanding.items(studio)]
        verdicts.judge(session, session.get_one(Job, job.id), "ada", opinions)
        jobs.conclude(session)
        contents = packing.collect(session, job.id)
    with zipfile.ZipFile(io.BytesIO(b"".join(packing.pack(contents, studio.storage)))) as result:
        images = [name for name in result.namelist() if name.startswith("images/")]
        assert (len(images), result.read("manifest.jsonl")) == (4, b"")


def test_every_image_is_grouped_with_its_source(zipped: Zipped) -> None:
    with zipped(variants=2) as result:
        rows = list(csv.DictReader(io.StringIO(result.read("groups.csv").decode())))
        images = {name for name in result.namelist() if name.startswith("images/")}
    assert {row["file"] for row in rows} == images
    assert all(row["group"] == row["source"] for row in rows)
    assert all(Path(row["file"]).stem.split("_rg")[0] == Path(row["group"]).stem for row in rows)


def test_a_name_that_is_taken_is_not_written_over(
    zipped: Zipped, repack: Callable[[dict[str, bytes | None]], Path], phantoms: Path
) -> None:
    """A set that was expanded before has an image called like the new variant."""
    with zipfile.ZipFile(phantoms) as source:
        name = next(name for name in source.namelist() if name.startswith("images/train"))
        stem, extension = name.rsplit(".", 1)
        old = source.read(name)
        label = source.read(f"{stem}.txt".replace("images", "labels"))
    again = {f"{stem}_rg1.{extension}": old, f"{stem}_rg1.txt".replace("images", "labels"): label}
    with zipped(repack(again), variants=1) as result:
        names = result.namelist()
        assert len(names) == len(set(names))
        assert result.read(f"{stem}_rg1.{extension}") == old
        assert Picture.open(io.BytesIO(result.read(f"{stem}_rg1a.{extension}"))).size == (90, 110)


def test_a_result_that_is_gone_fails_the_archive_saying_so(studio: Studio, make_job: MakeJob) -> None:
    job = make_job(variants=1, max_images=1)
    expanding.expand_next(studio)
    with studio.sessions.write() as session:
        jobs.conclude(session)
    for path in studio.storage.root.glob("jobs/**/*.*"):
        path.unlink()
    assert build_next(studio.settings, studio.sessions, studio.storage)
    with studio.sessions.read() as session:
        row = session.get_one(Archive, job.id)
        assert row.state == ArchiveState.FAILED
        assert "gone" in (row.error or "")


def test_a_full_disk_leaves_the_archive_waiting_with_nothing_against_it(studio: Studio, make_job: MakeJob) -> None:
    job = make_job(variants=1, max_images=1)
    expanding.expand_next(studio)
    with studio.sessions.write() as session:
        jobs.conclude(session)

    class Full(Folder):
        def writing(self, key: str, name: str | None = None) -> AbstractContextManager[BinaryIO]:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        build_next(studio.settings, studio.sessions, Full(studio.storage.root))
    with studio.sessions.read() as session:
        row = session.get_one(Archive, job.id)
        assert (row.state, row.token, row.lapses) == (ArchiveState.BUILDING, None, 0)
    assert build_next(studio.settings, studio.sessions, studio.storage)


def test_the_manifest_names_the_engine_that_made_each_image(studio: Studio, make_job: MakeJob) -> None:
    made_by = {**studio.made_by, "engine": "of old"}
    older = dataclasses.replace(studio, made_by=made_by)
    job = make_job(variants=1)
    assert expanding.expand_next(older) == 1
    expanding.run(studio)
    with studio.sessions.read() as session:
        rows = packing.collect(session, job.id).variants()
    assert [row["settings"]["engine"] for row in rows].count("of old") == 1
    assert {row["settings"]["prior_sha256"] for row in rows} == {job.resolved["prior_sha256"]}


def test_a_storage_that_is_away_leaves_the_archive_waiting_with_nothing_against_it(
    studio: Studio, make_job: MakeJob
) -> None:
    job = make_job(variants=1, max_images=1)
    expanding.expand_next(studio)
    with studio.sessions.write() as session:
        jobs.conclude(session)
    root = studio.storage.root
    away = root.rename(root.with_name("away"))
    with pytest.raises(FileNotFoundError, match="not there"):
        build_next(studio.settings, studio.sessions, studio.storage)
    assert not root.exists()
    with studio.sessions.read() as session:
        row = session.get_one(Archive, job.id)
        assert (row.state, row.token, row.lapses) == (ArchiveState.BUILDING, None, 0)
    away.rename(root)
    assert build_next(studio.settings, studio.sessions, studio.storage)
