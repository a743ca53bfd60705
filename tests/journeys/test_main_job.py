"""The main job through the running service: everything `regrow serve` starts, spoken to over HTTP only."""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from regrow.client import Client
from samples.phantoms import write_dataset

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"sampler": {"steps": 4, "finish": 2}, "canvas": {"long_side": 128}}

pytestmark = pytest.mark.slow


@pytest.fixture
def regrow(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def expand(regrow: Client, archive: Path, out: Path, **spec: object) -> zipfile.ZipFile:
    dataset = regrow.wait_dataset(regrow.upload(archive)["id"])
    assert dataset["state"] == "ready", dataset["problems"]
    job = regrow.wait_job(regrow.create_job({"dataset_id": dataset["id"], **QUICK, **spec})["id"])
    assert job["state"] == "succeeded"
    assert {item["state"] for item in regrow.items(job["id"])} == {"done"}
    regrow.download(job["id"], out)
    return zipfile.ZipFile(out)


def check_result(source: zipfile.ZipFile, result: zipfile.ZipFile, split: str, variants: int) -> None:
    assert result.testzip() is None
    images = [name for name in source.namelist() if name.startswith(f"images/{split}/")]
    rows = [json.loads(line) for line in result.read("manifest.jsonl").splitlines()]
    assert len(rows) == len(images) * variants
    assert {(row["source"], row["variant"]) for row in rows} == {
        (name, variant) for name in images for variant in range(1, variants + 1)
    }
    for row in rows:
        stem = Path(row["source"]).stem
        assert result.read(row["label"]) == source.read(f"labels/{split}/{stem}.txt")
    described = yaml.safe_load(result.read("data.yaml"))
    folders = {name.rpartition("/")[0] for name in result.namelist() if name.startswith("images/")}
    assert {described[key] for key in ("train", "val") if key in described} <= folders


def test_phantoms_go_in_and_a_zip_that_trains_comes_out(regrow: Client, tmp_path: Path) -> None:
    write_dataset(tmp_path / "in.zip", images=4, seed=5, size=(90, 110))
    with (
        zipfile.ZipFile(tmp_path / "in.zip") as source,
        expand(regrow, tmp_path / "in.zip", tmp_path / "out.zip", variants=2) as result,
    ):
        check_result(source, result, "train", 2)


def test_real_x_rays_go_in_and_a_zip_that_trains_comes_out(regrow: Client, tmp_path: Path, fracatlas: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(fracatlas / "data.yaml", "data.yaml")
        for image in sorted((fracatlas / "images" / "valid").iterdir())[:2]:
            archive.write(image, f"images/valid/{image.name}")
            label = f"labels/valid/{image.stem}.txt"
            archive.write(fracatlas / label, label)
    with (
        zipfile.ZipFile(tmp_path / "in.zip") as source,
        expand(regrow, tmp_path / "in.zip", tmp_path / "out.zip", variants=2, splits=["valid"]) as result,
    ):
        check_result(source, result, "valid", 2)


def test_unusable_uploads_are_rejected_by_name_and_the_service_goes_on(regrow: Client, tmp_path: Path) -> None:
    write_dataset(tmp_path / "good.zip", images=2, seed=5, size=(90, 110))
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        members = {name: good.read(name) for name in good.namelist()}
    image = next(name for name in members if name.startswith("images/train/"))
    label = f"{image.rpartition('.')[0].replace('images', 'labels')}.txt"
    broken = {
        "is no zip": (b"no zip at all", "zip"),
        "has no images": (_zip({"notes.txt": b"hello"}), "image"),
        "has a number out of range": (_zip(members | {label: b"0 0.5 2.5 0.1 0.1\n"}), rf"{label}:1: .*2\.5"),
        "has a cut image": (_zip(members | {image: members[image][: len(members[image]) // 2]}), image),
    }
    for what, (data, said) in broken.items():
        path = tmp_path / f"{what}.zip"
        path.write_bytes(data)
        dataset = regrow.wait_dataset(regrow.upload(path)["id"])
        assert dataset["state"] == "rejected", what
        problems = "\n".join(f"{problem['where']}: {problem['what']}" for problem in dataset["problems"])
        assert re.search(said, problems), f"{what}: {problems}"
    assert regrow.ready()["ready"]
    assert regrow.wait_dataset(regrow.upload(tmp_path / "good.zip")["id"])["state"] == "ready"


def test_the_script_in_the_readme_works(address: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "my-dataset.zip", images=2, seed=6, size=(90, 110))
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    quick = script.replace("http://127.0.0.1:8000", address).replace('"variants": 2', f'"variants": 2, **{QUICK}')
    assert quick.count(address) == 1
    done = subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "succeeded: 100%" in done.stdout
    with zipfile.ZipFile(tmp_path / "expanded.zip") as result:
        assert result.testzip() is None


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()
