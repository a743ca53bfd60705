import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_prior import write_tiny_prior

from shared import images
from shared.spec import ExpansionSpec, resolve
from worker.priors.diffusers import BUILTIN, load
from worker.psld.__main__ import main, regrow

ROOT = Path(__file__).resolve().parents[2]
KEEP = "0.25,0.25,0.5,0.5"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A grey PNG of 40 x 30 pixels, brighter to the right."""
    path = tmp_path / "in.png"
    Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))).save(path)
    return path


def test_the_command_writes_an_image_that_keeps_its_boxes(picture: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker.psld", str(picture), "--keep", KEEP, "--seed", "3", "--steps", "2"]
    done = subprocess.run(
        [*command, "--threads", "1", "-o", str(tmp_path / "out.png")],
        cwd=ROOT,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(dict.fromkeys(done.stderr.replace("\r", "\n").split("\n")))[-3:] == ["", "step 1 of 2", "step 2 of 2"]
    assert done.stderr.endswith("step 2 of 2\n")
    before, after = np.asarray(Image.open(picture)), np.asarray(Image.open(tmp_path / "out.png"))
    assert after.shape == before.shape
    assert after.dtype == np.uint8
    assert (after[7:23, 10:30] == before[7:23, 10:30]).all()
    assert (after != before).mean() > 0.2


def test_the_seed_decides_the_bytes(picture: Path, tmp_path: Path) -> None:
    def run(seed: str, name: str) -> bytes:
        output = tmp_path / name
        assert main([str(picture), "--keep", KEEP, "--seed", seed, "--steps", "2", "-o", str(output)]) == 0
        return output.read_bytes()

    first = run("1", "first.png")
    assert run("1", "again.png") == first
    assert run("2", "other.png") != first


def test_the_canvas_follows_the_image(picture: Path, tmp_path: Path) -> None:
    write_tiny_prior(tmp_path / "tiny", native_size=16)  # in multiples of 4
    output = tmp_path / "out.png"
    rest = ["--prior", str(tmp_path / "tiny"), "--keep", KEEP, "--seed", "1", "--steps", "2", "-o", str(output)]
    assert main([str(picture), *rest]) == 0
    prior, original = load(tmp_path / "tiny", "cpu"), Image.open(picture)
    spec = ExpansionSpec.model_validate({"dataset_id": "x", "canvas": {"long_side": 40}, "sampler": {"steps": 2}})
    resolved = resolve(spec, prior_sha256="", native_size=16, multiple=prior.multiple, images_side=1)
    expected = regrow(original, [(0, 0.25, 0.25, 0.75, 0.75)], 1, resolved, prior)
    assert output.read_bytes() == images.encode(expected, "PNG")


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(0, 4095, 40).astype(np.uint16), (30, 1))
    Image.fromarray(pixels).save(tmp_path / "in.png")
    output = tmp_path / "out.png"
    assert main([str(tmp_path / "in.png"), "--keep", KEEP, "--seed", "1", "--steps", "2", "-o", str(output)]) == 0
    after = np.asarray(Image.open(output))
    assert (after[7:23, 10:30] == pixels[7:23, 10:30]).all()
    assert 255 < after[:5].max() <= 4095  # far from the box: what the prior drew, at the image's own brightness


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "0.5,0.5,0.6,0.1"], "must lie inside the image"),
        (["--keep", "0.5,0.5,0,0.1"], "must lie inside the image"),
        (["--keep", "0.5,0.5,nan,0.1"], "must lie inside the image"),
        (["--keep", "1,2,3"], "must be four numbers"),
        (["--seed", "-1"], "must be between 0 and"),
        (["--threads", "0"], "must be at least 1"),
        (["--preset", "wild"], "invalid choice: 'wild'"),
        (["--steps", "0"], "must be at least 1"),
        (["--steps", "1001"], "steps must be between 1 and the prior's 1000"),
        (["--device", "abacus"], "abacus"),
        (["--prior", "nowhere"], "nowhere is not a folder"),
        (["-o", "out.xyz"], "out.xyz: the suffix must be that of one of JPEG, PNG"),
        (["-o", "nowhere/out.png"], "nowhere/out.png: there is no such folder"),
    ],
)
def test_a_bad_argument_is_named_and_ends_with_2(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    good = [str(picture), "--keep", KEEP, "--seed", "1", "-o", str(tmp_path / "out.png")]
    with pytest.raises(SystemExit) as ended:
        main(good + arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"no image", "not a readable")])
def test_an_image_that_cannot_be_read_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main([str(path), "--keep", KEEP, "--seed", "1", "-o", str(tmp_path / "out.png")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_walk_that_breaks_ends_with_1_and_names_its_step(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(BUILTIN, tmp_path / "prior")
    config = tmp_path / "prior" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 1e-38}))
    output = tmp_path / "out.png"
    arguments = [str(picture), "--keep", KEEP, "--seed", "1", "--prior", str(tmp_path / "prior"), "-o", str(output)]
    assert main(arguments) == 1
    assert "values are not finite after step 1" in capsys.readouterr().err
    assert not output.exists()


def test_an_image_that_the_format_cannot_hold_is_refused_before_sampling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGBA", (20, 20), (10, 20, 30, 40)).save(tmp_path / "in.png")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "in.png"), "--keep", KEEP, "--seed", "1", "-o", str(tmp_path / "out.jpg")])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "JPEG cannot hold an image of mode RGBA" in err
    assert "step" not in err.splitlines()[-1]
