"""The same set in each format: the same boxes, the same new images, and it comes out in the format it came in."""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import expanding
import pytest
import yaml
from defusedxml.ElementTree import fromstring
from PIL import Image as Picture
from pycocotools.coco import COCO
from sets import SETS, Pictures, write
from sets import Picture as Scan
from sqlalchemy import select

from samples.phantoms import draw
from shared import jobs
from shared.errors import Invalid
from shared.formats import read
from shared.formats.zips import SafeZip
from shared.models import Archive, Dataset, Image, Item, Job
from shared.storage import sha256
from worker.archive import build_next
from worker.studio import Studio

MakeJob = Callable[..., Job]
BOXES = ((30, 40, 52, 61), (10, 70, 40, 100))


@pytest.fixture(scope="session")
def phantom_scans() -> Pictures:
    import numpy as np

    def scan(seed: int) -> Scan:
        out = io.BytesIO()
        draw(np.random.default_rng(seed), 90, 110)[0].save(out, "JPEG", quality=95)
        return Scan(out.getvalue(), 90, 110, BOXES[: 1 + seed % 2])

    return {"train": {"a.jpg": scan(0), "b.jpg": scan(1)}, "val": {"c.jpg": scan(2)}}


@pytest.fixture(scope="session")
def xrays(fracatlas: Path) -> Pictures:
    """Two X-rays for training and one for validation, with the published boxes."""
    found: dict[str, dict[str, Scan]] = {}
    for split, most in (("train", 2), ("valid", 1)):
        for path in sorted((fracatlas / "images" / split).glob("*.jpg"))[:most]:
            root = fromstring((fracatlas / "original_annotations/PASCAL_VOC" / f"{path.stem}.xml").read_bytes())
            boxes = [tuple(int(corner.text) for corner in box) for box in root.iter("bndbox")]
            with Picture.open(path) as picture:
                width, height = picture.size
            scan = Scan(path.read_bytes(), width, height, [(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in boxes])
            found.setdefault(split, {})[path.name] = scan
    return found


@pytest.fixture
def made(studio: Studio, make_job: MakeJob, tmp_path: Path) -> Callable[..., tuple[Job, bytes]]:
    """Runs a job on a set to its end; the job and its zip."""

    def run(files: dict[str, bytes], **spec: Any) -> tuple[Job, bytes]:
        job = make_job(write(tmp_path / "set.zip", files), **{"variants": 1, **spec})
        expanding.run(studio)
        with studio.sessions.write() as session:
            jobs.conclude(session)
        assert build_next(studio.settings, studio.sessions, studio.storage)
        with studio.sessions.read() as session:
            return job, studio.storage.read(session.get_one(Archive, job.id).key or "")

    return run


Made = Callable[..., tuple[Job, bytes]]


def _boxes(studio: Studio, job: Job) -> dict[str, list[list[float]]]:
    with studio.sessions.read() as session:
        rows = session.scalars(select(Image).where(Image.dataset_id == job.dataset_id)).all()
        return {Path(row.path).name: row.boxes for row in rows}


def _results(studio: Studio, job: Job) -> dict[tuple[str, int], str | None]:
    with studio.sessions.read() as session:
        rows = session.scalars(select(Item).where(Item.job_id == job.id)).all()
        return {(Path(row.image.path).name, row.seed): row.result_sha256 for row in rows}


@pytest.mark.parametrize("which", ["phantom_scans", "xrays"])
def test_a_job_gives_the_same_boxes_and_images_in_each_format(
    request: pytest.FixtureRequest, which: str, made: Made, studio: Studio
) -> None:
    pictures: Pictures = request.getfixturevalue(which)
    done = {kind: made(build(pictures), seed=5)[0] for kind, build in SETS.items()}
    boxes = {kind: _boxes(studio, job) for kind, job in done.items()}
    expected = {
        name: [
            [0, x0 / scan.width, y0 / scan.height, x1 / scan.width, y1 / scan.height] for x0, y0, x1, y1 in scan.boxes
        ]
        for its in pictures.values()
        for name, scan in its.items()
    }
    for found in boxes.values():
        assert found == {name: [pytest.approx(box, abs=1e-12) for box in its] for name, its in expected.items()}
    results = [_results(studio, job) for job in done.values()]
    assert results[0] == results[1] == results[2]
    assert None not in results[0].values()


@pytest.mark.parametrize("kind", SETS)
def test_every_record_comes_out_as_it_went_in_and_variants_beside_it(
    kind: str, phantom_scans: Pictures, made: Made
) -> None:
    files = SETS[kind](phantom_scans)
    _, archive = made(files)
    with SafeZip(io.BytesIO(archive)) as opened:
        result = {name: opened.read(name) for name in opened.members}
    manifest = [json.loads(line) for line in result["manifest.jsonl"].splitlines()]
    assert len(manifest) == 2
    for name, data in files.items():
        if name.endswith(".json"):
            before, after = json.loads(data), json.loads(result[name])
            for key in ("images", "annotations"):
                assert after.pop(key)[: len(before[key])] == before.pop(key)
            assert after == before
        elif name.endswith(".txt") and "ImageSets" in name:
            assert result[name].startswith(data)
        elif name != "data.yaml":
            assert result[name] == data
    for row in manifest:
        assert sha256(result[row["file"]]) == row["sha256"]
        assert row["label"] in result
    assert kind in ("yolo",) or "data.yaml" not in result
    assert b"- data.yaml " in result["README.txt"] if kind == "yolo" else b".originals." in result["README.txt"]


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("wanted", SETS)
def test_boxes_are_converted_on_request_and_the_work_is_the_same(
    kind: str, wanted: str, phantom_scans: Pictures, made: Made, studio: Studio, ingest: Callable[[Path], Dataset],
    tmp_path: Path,
) -> None:  # fmt: skip
    one = {"train": dict(list(phantom_scans["train"].items())[:1]), "val": phantom_scans["val"]}
    job, archive = made(SETS[kind](one), output={"format": wanted})
    same, _ = made(SETS[kind](one))
    with studio.sessions.read() as session:
        keys = [session.scalars(select(Item.work_key).where(Item.job_id == each.id)).all() for each in (job, same)]
    assert keys[0] == keys[1]
    (tmp_path / "again.zip").write_bytes(archive)
    again = ingest(tmp_path / "again.zip")
    assert (again.state, again.format, again.splits) == ("ready", wanted, ["train", "val"]), again.problems
    assert again.counts["boxes"] == {"fractured": {"train": 2 * len(one["train"]["a.jpg"].boxes), "val": 1}}
    with studio.sessions.read() as session:
        rows = session.scalars(select(Image).where(Image.dataset_id == again.id)).all()
    assert {Path(row.path).name for row in rows} == {"a.jpg", "a_rg1.jpg", "c.jpg"}
    for row in rows:
        scan = one[row.split][Path(row.path).name.replace("_rg1", "")]
        sides = scan.width, scan.height, scan.width, scan.height
        assert row.boxes == [
            pytest.approx([0, *(v / side for v, side in zip(box, sides, strict=True))], abs=1e-7) for box in scan.boxes
        ]


@pytest.mark.parametrize("kind", SETS)
def test_variants_alone_are_a_set_and_no_name_is_given_out_twice(
    kind: str, phantom_scans: Pictures, made: Made, ingest: Callable[..., Dataset], studio: Studio, tmp_path: Path
) -> None:
    first, second = phantom_scans["train"].values()
    files = SETS[kind]({"train": {"a.jpg": first, "a_rg1.jpg": second}})
    _, archive = made(files, output={"include_originals": False})
    (tmp_path / "again.zip").write_bytes(archive)
    again = ingest(tmp_path / "again.zip")
    assert (again.state, again.format) == ("ready", kind), again.problems
    with studio.sessions.read() as session:
        rows = session.scalars(select(Image).where(Image.dataset_id == again.id)).all()
    assert {Path(row.path).name: len(row.boxes) for row in rows} == {
        "a_rg1a.jpg": len(first.boxes),
        "a_rg1_rg1.jpg": len(second.boxes),
    }


def test_an_image_whose_labels_do_not_heed_exif_is_worked_on_as_it_is_stored(
    phantom_scans: Pictures, made: Made, studio: Studio
) -> None:
    exif, out = Picture.Exif(), io.BytesIO()
    exif[0x0112] = 6
    scan = phantom_scans["train"]["a.jpg"]
    Picture.open(io.BytesIO(scan.data)).save(out, "JPEG", quality=95, exif=exif)
    files = SETS["voc"]({"train": {"a.jpg": Scan(out.getvalue(), 90, 110, scan.boxes)}})
    _, archive = made(files)
    with zipfile.ZipFile(io.BytesIO(archive)) as result:
        assert result.read("JPEGImages/a.jpg") == out.getvalue()
        with Picture.open(io.BytesIO(result.read("JPEGImages/a_rg1.jpg"))) as variant:
            assert (variant.size, len(variant.getexif())) == ((90, 110), 0)
    with pytest.raises(Invalid, match=r"output.format: yolo is not possible: .* such as JPEGImages/a\.jpg"):
        made(files, output={"format": "yolo"})


def test_all_of_fracatlas_has_the_same_boxes_in_each_format(fracatlas: Path) -> None:
    pictures: dict[str, dict[str, Scan]] = {}
    for split in ("train", "valid", "test"):
        for path in sorted((fracatlas / "images" / split).glob("*.jpg")):
            root = fromstring((fracatlas / "original_annotations/PASCAL_VOC" / f"{path.stem}.xml").read_bytes())
            size = [int(root.findtext(f"size/{side}")) for side in ("width", "height")]
            corners = [[int(corner.text) for corner in box] for box in root.iter("bndbox")]
            boxes = [(max(x0 - 1, 0), max(y0 - 1, 0), x1, y1) for x0, y0, x1, y1 in corners]
            pictures.setdefault(split, {})[path.name] = Scan(b"", *size, boxes)
    found = {}
    for kind, build in SETS.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in build(pictures).items():
                archive.writestr(name, data)
        with SafeZip(out) as opened:
            contents = read(opened)
        assert contents.format == kind
        found[kind] = {
            (sample.split, Path(sample.image).name): [(b.class_index, b.x0, b.y0, b.x1, b.y1) for b in sample.boxes]
            for sample in contents.samples
        }
    assert (len(found["yolo"]), sum(map(len, found["yolo"].values()))) == (594, 616 + 88 + 67)
    assert found["coco"] == found["voc"]
    assert found["yolo"] == {
        image: [pytest.approx(box, abs=1e-12) for box in boxes] for image, boxes in found["coco"].items()
    }


def test_pycocotools_loads_the_archive_and_finds_each_variant_labelled_as_its_source(
    phantom_scans: Pictures, made: Made, tmp_path: Path
) -> None:
    _, archive = made(SETS["coco"](phantom_scans))
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    found = {}
    for image in loaded.loadImgs(loaded.getImgIds()):
        with Picture.open(tmp_path / "out/train" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=[image["id"]]))
        found[image["file_name"]] = [(a["category_id"], a["bbox"], a["my own"]) for a in annotations]
    assert len(found) == 4
    for name in ("a", "b"):
        assert found[f"{name}_rg1.jpg"] == found[f"{name}.jpg"] != []


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")
def test_supervision_loads_the_archive_and_finds_each_variant_labelled_as_its_source(
    kind: str, phantom_scans: Pictures, made: Made, tmp_path: Path
) -> None:
    import supervision

    _, archive = made(SETS[kind](phantom_scans))
    zipfile.ZipFile(io.BytesIO(archive)).extractall(out := tmp_path / "out")
    load = supervision.DetectionDataset
    match kind:
        case "yolo":
            loaded = load.from_yolo(str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml"))
        case "coco":
            loaded = load.from_coco(str(out / "train"), str(out / "annotations/instances_train.json"))
        case _:
            loaded = load.from_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    assert loaded.classes == ["fractured"]
    found = {Path(name).name: its.xyxy.tolist() for name, its in loaded.annotations.items()}
    # VOC's images lie in one folder, whatever their split.
    assert set(found) == {"a.jpg", "a_rg1.jpg", "b.jpg", "b_rg1.jpg"} | ({"c.jpg"} if kind == "voc" else set())
    for name, scan in phantom_scans["train"].items():
        assert found[name] == [pytest.approx(box, abs=1e-3) for box in scan.boxes]
        assert found[name.replace(".jpg", "_rg1.jpg")] == found[name]


@pytest.mark.parametrize("layout", ["images/{split}", "{split}/images"])
def test_the_archive_trains_from_any_working_directory(
    layout: str, phantom_scans: Pictures, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules of Ultralytics: `path` is the yaml's folder if it is missing; folders are searched for images; of a
    list each line that begins with ./ is relative to the list; labels are where the last /images/ becomes /labels/."""
    files = {
        name.replace("images/train", "train/images").replace("images/val", "val/images")
        .replace("labels/train", "train/labels").replace("labels/val", "val/labels")
        if layout == "{split}/images" else name: data
        for name, data in SETS["yolo"](phantom_scans).items()
    }  # fmt: skip
    _, archive = made(files)
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    counts = {}
    for name in ("data.yaml", "data.originals.yaml"):
        at = Path("../out") / name
        described = yaml.safe_load(at.read_text())
        root = at.parent / described.get("path", "")
        for key in ("train", "val"):
            images = _as_ultralytics(root / described[key])
            labels = [f"{os.sep}labels{os.sep}".join(i.rsplit(f"{os.sep}images{os.sep}", 1)) for i in images]
            assert all(Path(label).with_suffix(".txt").read_text().startswith("0 ") for label in labels)
            counts[name, key] = len(images)
    assert counts == {
        ("data.yaml", "train"): 4, ("data.yaml", "val"): 1,
        ("data.originals.yaml", "train"): 2, ("data.originals.yaml", "val"): 1,
    }  # fmt: skip


def _as_ultralytics(path: Path) -> list[str]:
    if path.is_dir():
        return [str(each) for each in path.rglob("*.*")]
    lines = path.read_text().strip().splitlines()
    return [line.replace("./", f"{path.parent}{os.sep}") if line.startswith("./") else line for line in lines]
