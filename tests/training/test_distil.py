"""A small autoencoder learns what a prior's own does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import picture, pictures

from shared.errors import Conflict
from worker.priors.check import load_autoencoder
from worker.priors.diffusers import BUILTIN, CARD, load
from worker.training.checkpoints import CHECKPOINT
from worker.training.distil import install, main
from worker.training.errors import CannotTrain, TrainingMismatch
from worker.training.pupil import DistilSettings, distil


def settings(**changes: Any) -> DistilSettings:
    few = {"image_side": 32, "crop": 16, "channels": 4, "depth": 1, "steps": 6, "batch": 2, "checkpoint_every": 2}
    return DistilSettings(**few | changes)


def run(folder: Path, numbers: DistilSettings, prior: Path, stop_at: int | None = None) -> list[dict[str, float]]:
    looks = []

    def on_step(step: int, loss: float, measured: dict[str, float] | None) -> None:
        if measured is not None:
            looks.append(measured)
        if step == stop_at:
            raise InterruptedError

    distil(pictures(24), numbers, prior, folder, device=torch.device("cpu"), on_step=on_step)
    return looks


def test_it_learns_both_ways(tmp_path: Path) -> None:
    numbers = {"channels": 8, "batch": 2, "average": 0.9}
    first = run(tmp_path / "first", settings(steps=1, **numbers), BUILTIN)[-1]
    last = run(tmp_path / "last", settings(steps=60, checkpoint_every=60, **numbers), BUILTIN)[-1]
    assert first["teacher_psnr"] == last["teacher_psnr"]
    for name in ("decoder_to_teacher_psnr", "encoder_to_teacher_psnr"):
        assert last[name] > first[name] + 2, name


def test_stopped_it_ends_with_the_weights_that_it_would_have_had(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path / "whole", settings(), tiny)
    with pytest.raises(InterruptedError):
        run(tmp_path / "parts", settings(), tiny, stop_at=5)  # after the checkpoint of step 4
    run(tmp_path / "parts", settings(), tiny)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert whole["history"] == parts["history"]
    for name, values in whole["average"].items():
        torch.testing.assert_close(values, parts["average"][name], rtol=0, atol=0)


def test_what_is_installed_takes_the_place_of_the_priors_own(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path / "state", settings(), tiny)
    install(tmp_path / "state", tmp_path / "small", about={"licence": "CC0"})
    small, prior = load_autoencoder(tmp_path / "small", "cpu"), load(tiny)
    x = torch.zeros(1, 3, 32, 48)
    assert small.encode(x).shape == prior.encode(x).shape
    assert small.decode(small.encode(x)).shape == x.shape
    card = json.loads((tmp_path / "small" / CARD).read_text())
    assert card["about"] == {"licence": "CC0"}
    assert card["data"]["training"] + card["data"]["held_out"] == 24
    assert card["decoder_psnr"] > 0
    with pytest.raises(Conflict, match="is not written over another"):
        install(tmp_path / "state", tmp_path / "small", about={})


def test_other_settings_or_half_a_training_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        run(tmp_path / "state", settings(), tiny, stop_at=4)
    with pytest.raises(CannotTrain, match="no finished training"):
        install(tmp_path / "state", tmp_path / "small", about={})
    with pytest.raises(TrainingMismatch):
        run(tmp_path / "state", settings(channels=5), tiny)
    with pytest.raises(CannotTrain, match="cannot be used"):
        run(tmp_path / "other", settings(), tmp_path)
    assert not (tmp_path / "small").exists()


def test_the_command_says_what_to_do_with_it(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    for seed in range(24):
        picture(seed).save(tmp_path / "pictures" / f"{seed}.png")
    numbers = settings().model_dump(exclude_defaults=True)
    options = [text for name, value in numbers.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = [str(tmp_path / "pictures"), "--prior", str(tiny), "-o", str(tmp_path / "small"), *options]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "step 6 of 6" in said
    assert f"regrow priors add {tmp_path / 'small'} --name small" in said
    assert len(json.loads((tmp_path / "small" / CARD).read_text())["about"]["sources"]) == 24
    for wrong in (["--crop", "17"], ["-o", str(tmp_path / "small")]):
        with pytest.raises(SystemExit):
            main([*command, *wrong])
