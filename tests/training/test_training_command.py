import json
from pathlib import Path

import pytest
from drawn import picture, settings

from samples.phantoms import write_dataset
from worker.priors.diffusers import CARD, load
from worker.training.__main__ import main

NUMBERS = [
    option
    for name, value in settings(autoencoder_steps=2, denoiser_steps=2).model_dump(exclude_defaults=True).items()
    for option in (f"--{name.replace('_', '-')}", str(value))
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for seed in range(24):
        picture(seed).save(tmp_path / "pictures" / ("more" if seed % 2 else ".") / f"{seed}.png")
    return tmp_path / "pictures"


def test_a_folder_of_pictures_becomes_a_prior(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bars"
    command = [str(folder), "-o", str(out), "--init", str(tiny), "--licence", "CC0", *NUMBERS]
    assert main(command) == 0
    card = json.loads((out / CARD).read_text())
    assert card["about"]["licence"] == "CC0"
    assert len(card["about"]["sources"]) == 24
    load(out)
    said = capsys.readouterr().err
    assert "step 4 of 4" in said
    assert "installed" in said
    with pytest.raises(SystemExit):
        main(command)
    assert "is not written over" in capsys.readouterr().err


def test_only_the_train_split_of_a_data_set_is_used(tiny: Path, tmp_path: Path) -> None:
    zip_path = tmp_path / "phantoms.zip"
    write_dataset(zip_path, images=40, seed=0)
    assert main([str(zip_path), "-o", str(tmp_path / "out"), "--init", str(tiny), *NUMBERS]) == 0
    data = json.loads((tmp_path / "out" / CARD).read_text())["data"]
    assert 20 <= data["training"] + data["held_out"] < 40


def test_a_training_can_be_ended_early(folder: Path, tiny: Path, tmp_path: Path) -> None:
    command = [str(folder), "--init", str(tiny), "--state", str(tmp_path / "state"), *NUMBERS]
    assert main([*command, "-o", str(tmp_path / "first")]) == 0
    further = [*command, "--denoiser-steps", "100", "--finish"]
    assert main([*further, "-o", str(tmp_path / "second")]) == 0
    assert json.loads((tmp_path / "second" / CARD).read_text())["steps"]["denoiser"] == 2


def test_no_more_minutes_are_taken_than_were_given(folder: Path, tiny: Path, tmp_path: Path) -> None:
    command = [str(folder), "--init", str(tiny), *NUMBERS, "--denoiser-steps", "100000"]
    assert main([*command, "--minutes", "0", "-o", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / CARD).read_text())["steps"] == {"autoencoder": 2, "denoiser": 1}


def test_what_cannot_be_trained_is_said(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    picture(1).save(few / "1.png")
    assert main([str(few), "-o", str(tmp_path / "out"), "--init", str(tiny), *NUMBERS]) == 1
    assert "too few" in capsys.readouterr().err
    for wrong in (["--crop", "17"], ["--recipe", "huge"], ["--crop", "64"]):
        with pytest.raises(SystemExit):
            main([str(folder), "-o", str(tmp_path / "out"), *NUMBERS, *wrong])
    assert not (tmp_path / "out").exists()
