"""Images of an archive are made again from what it holds, and what is not as it was is said."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import expanding
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from tiny_prior import write_tiny_prior

from shared import jobs, priors
from shared.formats.zips import SafeZip
from shared.models import Archive, Job
from shared.settings import Settings
from shared.spec import ENGINE_VERSION
from shared.storage import sha256
from worker.archive import build_next
from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.cache import PriorCache
from worker.priors.diffusers import load
from worker.remake import Finding, Verdict, Verifier, changes
from worker.studio import Studio
from worker.verify import this_machine

ROOT = Path(__file__).resolve().parents[2]
PNG = {"output": {"image_format": "png"}}
Rows = list[dict[str, Any]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a prior that is quick."""
    write_tiny_prior(tmp_path / "priors" / "tiny", native_size=32)
    return tmp_path / "priors" / "tiny"


@pytest.fixture
def expanded(studio: Studio, make_job: Callable[..., Job], tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs a job with the tiny prior, as a worker of this machine does, and returns its archive."""
    with studio.sessions.write() as session:
        known = priors.register(session, "builtin", tiny).sha256
        # A job names it as it will be known to those who verify.
        priors.register(session, "tiny", tiny)
    folders = {"builtin": (tiny, known), "tiny": (tiny, known)}
    made_by = this_machine("cpu", tiny, studio.settings).made_by | {"threads": 1}

    def run(archive: Path | None = None, arithmetic: Arithmetic = PLAIN, **spec: object) -> Path:
        worker = dataclasses.replace(
            studio,
            prior_folders=folders,
            priors=PriorCache(partial(load, arithmetic=arithmetic)),
            made_by=made_by | arithmetic.described(),
        )
        wanted = {"prior": "tiny", "canvas": {"long_side": 32}, "variants": 1, **spec}
        job = make_job(archive, **wanted) if archive else make_job(**wanted)
        expanding.run(worker)
        with studio.sessions.write() as session:
            jobs.conclude(session)
        assert build_next(studio.settings, studio.sessions, studio.storage)
        with studio.sessions.read() as session:
            data = studio.storage.read(session.get_one(Archive, job.id).key or "")
        path = tmp_path / "expanded.zip"
        path.write_bytes(data)
        return path

    return run


Expanded = Callable[..., Path]


def changed(archive: Path, edit: Callable[[Rows], object] = len, **members: bytes | None) -> Path:
    """The archive with its manifest edited, and some members replaced, or left out (None)."""
    path = archive.with_name("changed.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        files: dict[str, bytes | None] = {name: old.read(name) for name in old.namelist()} | members
        rows = [json.loads(line) for line in (files["manifest.jsonl"] or b"").splitlines()]
        edit(rows)
        files["manifest.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
        for name, data in files.items():
            if data is not None:
                new.writestr(name, data)
    return path


def first(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as opened:
        row: dict[str, Any] = json.loads(opened.read("manifest.jsonl").splitlines()[0])
        return row


def verified(archive: Path, prior: Path, originals: Path | None = None) -> list[Finding]:
    here = this_machine("cpu", prior, Settings(_env_file=None))
    with SafeZip(archive) as opened:
        verifier = Verifier(opened, here, originals)
        return [verifier.verify(row) for row in verifier.rows()]


def verdicts(findings: list[Finding]) -> list[str]:
    return [str(finding.verdict) for finding in findings]


def test_what_was_made_here_is_equal_byte_for_byte_and_nothing_is_other(expanded: Expanded, tiny: Path) -> None:
    findings = verified(expanded(variants=2), tiny)
    assert [(finding.verdict, finding.rms, finding.why) for finding in findings] == [(Verdict.EQUAL, 0.0, ())] * 6


@pytest.mark.parametrize(
    "spec",
    [
        {"operator": {"kind": "gaussian_blur", "sigma": 2}},
        {"unlabelled": "keep", "output": {"format": "coco"}},
        {"operator": {"kind": "inpaint", "mask": {"kind": "random"}}, "blend": "known", "output": {"format": "voc"}},
    ],
    ids=["blur", "coco", "voc"],
)
def test_so_is_what_was_made_otherwise_or_converted(expanded: Expanded, tiny: Path, spec: dict[str, Any]) -> None:
    findings = verified(expanded(**spec), tiny)
    assert all(each.verdict in (Verdict.EQUAL, Verdict.WITHIN) for each in findings), findings


def test_what_is_white_in_16_bits_and_how_exif_turned_it_is_found_by_the_work_key(
    expanded: Expanded, tiny: Path, repack: Callable[..., Path]
) -> None:
    deep, turned = io.BytesIO(), io.BytesIO()
    Picture.fromarray(np.arange(90 * 110, dtype=np.uint16).reshape(110, 90) % 1000).save(deep, "PNG")
    exif = Picture.Exif()
    exif[0x0112] = 6
    grey = np.arange(90 * 110).reshape(110, 90) % 250
    Picture.fromarray(grey.astype(np.uint8)).save(turned, "JPEG", exif=exif)
    deeper = io.BytesIO()
    Picture.fromarray(np.full((110, 90), 4000, dtype=np.uint16)).save(deeper, "PNG")
    label = b"0 0.5 0.5 0.3 0.3\n"
    added = {"deep.png": deep.getvalue(), "deeper.png": deeper.getvalue(), "turned.jpg": turned.getvalue()}
    files = {f"images/train/{name}": data for name, data in added.items()}
    files |= {f"labels/train/{Path(name).stem}.txt": label for name in added}
    findings = verified(expanded(repack(files)), tiny)
    assert [(finding.verdict, finding.why) for finding in findings] == [(Verdict.EQUAL, ())] * 6


def test_another_prior_of_the_same_name_is_said(expanded: Expanded, tiny: Path) -> None:
    archive = expanded()
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(weights).items()}, weights)
    findings = verified(archive, tiny)
    assert verdicts(findings) == ["different"] * 3
    assert all("the prior 'tiny' is another" in finding.why[0] for finding in findings)
    assert all((finding.rms or 0) > 1 for finding in findings)


def test_an_image_that_was_changed_afterwards_is_said_however_little_it_was(expanded: Expanded, tiny: Path) -> None:
    archive = expanded(**PNG)
    name = first(archive)["file"]
    with zipfile.ZipFile(archive) as opened:
        pixels = np.asarray(Picture.open(io.BytesIO(opened.read(name)))).copy()
    pixels[0, 0] ^= 1
    out = io.BytesIO()
    Picture.fromarray(pixels).save(out, "PNG")
    found, *others = verified(changed(archive, **{name: out.getvalue()}), tiny)
    assert (found.verdict, found.largest) == (Verdict.DIFFERENT, 1.0)
    assert "the image in the archive was changed" in found.why[0]
    assert verdicts(others) == ["equal"] * 2


def test_an_original_that_was_changed_is_not_used(expanded: Expanded, tiny: Path) -> None:
    archive = expanded()
    other = io.BytesIO()
    Picture.new("L", (90, 110)).save(other, "JPEG")
    found, *others = verified(changed(archive, **{first(archive)["source"]: other.getvalue()}), tiny)
    assert (found.verdict, found.why) == (
        Verdict.IMPOSSIBLE,
        ("its original was changed: the hash is not the manifest's",),
    )
    assert verdicts(others) == ["equal"] * 2


def test_labels_that_were_changed_are_said(expanded: Expanded, tiny: Path) -> None:
    archive = expanded()
    row = first(archive)
    label = row["source"].replace("images", "labels")[:-4] + ".txt"
    found, *_ = verified(changed(archive, **{label: b"0 0.2 0.2 0.1 0.1\n"}), tiny)
    assert found.verdict == Verdict.DIFFERENT
    assert "its labels are not byte for byte those it was made with" in found.why


def test_another_engine_is_said(expanded: Expanded, tiny: Path) -> None:
    def of_another(rows: Rows) -> None:
        for row in rows:
            row["settings"]["engine"] = row["made_by"]["engine"] = "0"
            row["made_by"]["torch"] = "1.0"
            row["made_by"]["batch"] = 16

    findings = verified(changed(expanded(), of_another), tiny)
    assert verdicts(findings) == ["equal"] * 3, "nothing that counts is other than it was"
    for finding in findings:
        assert f"engine: 0 then, {ENGINE_VERSION} here" in finding.why
        assert f"torch: 1.0 then, {torch.__version__} here" in finding.why
        assert "batch: 16 then, 1 here" in finding.why
        assert any("work key" in why for why in finding.why)


def test_settings_that_are_not_understood_are_named(expanded: Expanded, tiny: Path) -> None:
    found, *_ = verified(changed(expanded(), lambda rows: rows[0]["settings"].update(magic=3)), tiny)
    assert (found.verdict, "does not understand: magic" in found.why[0]) == (Verdict.IMPOSSIBLE, True)
    found, *_ = verified(changed(expanded(), lambda rows: rows[0].pop("seed")), tiny)
    assert (found.verdict, found.why) == (Verdict.IMPOSSIBLE, ("its line of the manifest has no 'seed'",))


def test_originals_that_are_not_in_the_archive_are_taken_from_beside_it(
    expanded: Expanded, tiny: Path, tmp_path: Path, phantoms: Path
) -> None:
    archive = expanded(output={"include_originals": False})
    findings = verified(archive, tiny)
    assert verdicts(findings) == ["impossible"] * 3
    assert all("--server" in finding.why[0] for finding in findings)
    (tmp_path / "originals").mkdir()
    with zipfile.ZipFile(phantoms) as opened:
        for name in opened.namelist():
            (tmp_path / "originals" / sha256(opened.read(name))).write_bytes(opened.read(name))
    assert verdicts(verified(archive, tiny, tmp_path / "originals")) == ["equal"] * 3


def test_what_changed_is_told_by_name() -> None:
    row = {"settings": {"engine": "2"}, "made_by": {"device": "cuda:0, NVIDIA H200", "compiled": False}}
    here = {"engine": "2", "device": "cpu", "compiled": False, "torch": "2"}
    assert changes(row, here) == ["device: cuda:0, NVIDIA H200 then, cpu here"]


def test_the_precision_of_then_is_used_again(expanded: Expanded, tiny: Path) -> None:
    archive = expanded(arithmetic=Arithmetic(torch.bfloat16), **PNG)
    assert first(archive)["made_by"]["dtype"] == "bfloat16"
    assert verdicts(verified(archive, tiny)) == ["equal"] * 3

    def forget(rows: Rows) -> None:
        for row, dtype in zip(rows, ("float32", "float4", "float32"), strict=True):
            row["made_by"] |= {"dtype": dtype, "compiled": True}

    found = verified(changed(archive, forget), tiny)
    assert found[1].verdict == Verdict.IMPOSSIBLE
    # In another precision they are others: of so small a prior by about the tolerance.
    assert all(found[row].verdict in (Verdict.WITHIN, Verdict.DIFFERENT) for row in (0, 2))
    assert found[0].why == ("compiled: True then, False here",)
    assert "it was computed in float4" in found[1].why[-1]


@pytest.mark.slow
def test_the_command_samples_tells_and_ends_with_what_it_found(expanded: Expanded, tiny: Path, tmp_path: Path) -> None:
    archive = expanded(variants=2)

    def command(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"REGROW_PRIORS": str(tiny.parent), "PYTHONPATH": str(ROOT)}
        verify = [sys.executable, "-m", "regrow", "verify", str(path), *options]
        return subprocess.run(verify, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = command(archive, "--sample", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["of"], len(found["items"])) == (6, 3)
    assert found["counts"] == {"equal": 3, "within tolerance": 0, "different": 0, "impossible": 0}
    name = first(archive)["file"]
    done = command(changed(archive, **{name: b"no image"}), "--sample", "0")
    assert done.returncode == 5, done.stderr
    assert f"{name}: different" in done.stdout
    assert done.stdout.endswith("6 of 6 images: 5 equal, 1 different\n")
    (tmp_path / "none.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    done = command(tmp_path / "none.zip")
    assert (done.returncode, "it is not what a job made" in done.stderr) == (2, True)
