import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SIDE, picture, pictures, run, settings
from PIL import Image
from torch import Tensor

from shared.recipes import MIN_PICTURES, TrainingSettings
from worker.training import (
    CannotTrain,
    Diverged,
    TrainingMismatch,
    TrainingProgress,
    autoencoder,
    checkpoints,
    denoiser,
    samples,
)
from worker.training.denoiser import VIEWS
from worker.training.pictures import read


class Stop(Exception):
    pass


def stop_when(condition: Callable[[TrainingProgress], bool]) -> Callable[[TrainingProgress], None]:
    def on_step(progress: TrainingProgress) -> None:
        if condition(progress):
            raise Stop

    return on_step


def finished(folder: Path) -> dict[str, Any]:
    kept = checkpoints.load(folder / checkpoints.FINISHED)
    assert kept is not None
    return kept


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = finished(one), finished(other)
    for part in ("vae", "unet"):
        for name, values in ours[part].items():
            assert torch.equal(values, theirs[part][name]), name
    assert ours["card"] == theirs["card"]


@pytest.mark.slow
def test_the_small_recipe_learns_from_nothing(tmp_path: Path) -> None:
    """The same seed, after two steps and after many: what was held out comes back better, its noise is found better."""
    sizes = {"denoiser_side": SIDE, "autoencoder_batch": 8, "denoiser_batch": 16, "average": 0.9}
    for folder, steps in (("little", 2), ("much", 80)):
        numbers = settings(
            **sizes, autoencoder_steps=steps, denoiser_steps=steps, checkpoint_every=1000, sample_every=1000
        )
        run(tmp_path / folder, numbers, init=None, loaders=pictures(40))
    little, much = (finished(tmp_path / folder)["card"] for folder in ("little", "much"))
    assert much["reconstruction_psnr"] > little["reconstruction_psnr"] + 5
    assert much["held_out_loss"] < 0.7 * little["held_out_loss"]


def test_what_was_held_out_is_never_trained_on(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(), init=tiny, loaders=pictures(60))
    data = finished(tmp_path)["card"]["data"]
    assert (data["training"], data["held_out"]) == (57, 3)
    latents = torch.load(tmp_path / checkpoints.LATENTS, weights_only=True)["latents"]
    assert (len(latents["training"]), len(latents["held_out"])) == (VIEWS * 57, 3)


def test_equal_pictures_count_once(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(), init=tiny, loaders=pictures(30) * 2)
    data = finished(tmp_path)["card"]["data"]
    assert data["training"] + data["held_out"] == 30


@pytest.mark.parametrize(
    ("stage", "step"), [("autoencoder", 3), ("autoencoder", 6), ("latents", 6), ("denoiser", 9), ("card", 12)]
)
def test_a_stopped_training_ends_with_the_same_weights(
    stage: str, step: int, tiny: Path, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, settings(), init=tiny, on_step=stop_when(lambda p: (p.stage, p.step) == (stage, step)))
    seen: list[TrainingProgress] = []
    run(tmp_path, settings(), init=tiny, on_step=seen.append)
    assert seen[0].step >= step - 1 - step % 2, "it began anew"
    assert_same_weights(tmp_path, finished)


def test_pictures_in_another_order_are_the_same_training(tiny: Path, finished: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(), init=tiny, loaders=pictures(24)[::-1])
    assert_same_weights(tmp_path, finished)


def test_progress_is_told_and_says_when_it_is_safe_to_stop(tiny: Path, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    run(tmp_path, settings(), init=tiny, on_step=seen.append)
    trained = [p for p in seen if p.stage in ("autoencoder", "denoiser")]
    assert [p.step for p in trained] == list(range(1, 13))
    assert {p.steps for p in seen} == {12}
    assert [p.step for p in trained if p.checkpointed] == [2, 4, 6, 8, 10, 12]
    assert [p.step for p in trained if p.held_out is not None] == [3, 6, 9, 12]
    assert [p.stage for p in seen][-1] == "card"
    with Image.open(samples(tmp_path)) as sheet:
        assert sheet.size == (8 * 16, 16)


def test_windows_reach_from_the_whole_to_the_pixels_themselves() -> None:
    """A ramp shows in how steep it comes out how much of it a window saw."""
    ramps = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (24, 64, 1))
    ramps[:, 0, 0] = np.arange(24)  # none is another's equal
    found = read([partial(Image.fromarray, ramp) for ramp in ramps], settings(image_side=64))
    shares, generator = [], torch.Generator().manual_seed(0)
    for row in range(24):
        made, known = denoiser.views(found, row, generator)
        assert made.shape == (VIEWS, 3, 16, 16)
        assert known.shape == (VIEWS, 16, 16)
        across = np.abs(np.diff(made[2:, 0].mean(axis=1), axis=1)).mean(axis=1)
        shares += (across / np.abs(np.diff(made[0, 0].mean(axis=0))).mean()).tolist()
    assert min(shares) < 0.35  # 16 of 64 pixels are a quarter
    assert max(shares) > 0.85


def test_a_denoiser_may_be_trained_for_longer_than_planned(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path / "longer", settings(denoiser_steps=4), init=tiny)
    run(tmp_path / "longer", settings(denoiser_steps=6, checkpoint_every=5), init=tiny)
    run(tmp_path / "at once", settings(denoiser_steps=6), init=tiny)
    assert_unet_is_the_same(tmp_path / "longer", tmp_path / "at once")


def assert_unet_is_the_same(one: Path, other: Path) -> None:
    theirs = finished(other)["unet"]
    assert all(torch.equal(values, theirs[name]) for name, values in finished(one)["unet"].items())


@pytest.mark.parametrize("changes", [{"seed": 1}, {"denoiser_rate": 1e-4}])
def test_a_folder_is_not_trained_further_with_other_settings(
    changes: dict[str, Any], finished: Path, tiny: Path
) -> None:
    with pytest.raises(TrainingMismatch, match="other pictures or settings"):
        run(finished, settings(**changes), init=tiny)


def test_a_folder_is_not_trained_further_with_other_pictures(finished: Path, tiny: Path) -> None:
    with pytest.raises(TrainingMismatch, match="other pictures or settings"):
        run(finished, settings(), init=tiny, loaders=pictures(25))


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_checkpoint_before(tiny: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, settings(), init=tiny, on_step=stop_when(lambda p: p.step == 8 and p.checkpointed))
    before = (tmp_path / checkpoints.CHECKPOINT).read_bytes()
    with no_file_above(10_000), pytest.raises(OSError, match=f"too large: '{tmp_path}"):
        run(tmp_path, settings(), init=tiny)
    assert (tmp_path / checkpoints.CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    run(tmp_path, settings(), init=tiny)
    assert_same_weights(tmp_path, finished)


def test_what_a_killed_process_had_begun_to_write_is_removed(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pt.0123abcd.part").write_bytes(b"half")
    run(tmp_path, settings(), init=tiny)
    assert not list(tmp_path.glob(".*"))


def test_a_loss_that_is_no_number_stops_it_by_name(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    real = autoencoder.loss

    def fails_in_the_fourth(*args: Any) -> Tensor:
        calls.append(real(*args))
        return calls[-1] * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(autoencoder, "loss", fails_in_the_fourth)
    with pytest.raises(Diverged, match="autoencoder became nan in step 4"):
        run(tmp_path, settings(), init=tiny)
    kept = checkpoints.load(tmp_path / checkpoints.CHECKPOINT)
    assert kept is not None
    assert kept["step"] == 2
    assert all(values.isfinite().all() for values in kept["weights"]["vae"].values())


def test_too_few_pictures_are_refused(tiny: Path, tmp_path: Path) -> None:
    loaders = pictures(MIN_PICTURES - 1)
    with pytest.raises(CannotTrain, match=f"{MIN_PICTURES - 1} different pictures are too few"):
        run(tmp_path, settings(), init=tiny, loaders=[*loaders, loaders[0]])


def test_a_picture_smaller_than_the_crop_is_refused(tiny: Path, tmp_path: Path) -> None:
    loaders = [*pictures(24), lambda: picture(99, side=12)]
    with pytest.raises(CannotTrain, match="Picture 25 of 25 is 12 x 12, smaller than the crop of 16 px"):
        run(tmp_path, settings(), init=tiny, loaders=loaders)


def test_pictures_without_contrast_are_refused(tiny: Path, tmp_path: Path) -> None:
    def black(grey: int) -> Callable[[], Image.Image]:
        pixel = np.zeros((SIDE, SIDE), np.uint8)
        pixel[0, grey] = 1  # no two are equal
        return lambda: Image.fromarray(pixel)

    with pytest.raises(CannotTrain, match="No picture has any contrast"):
        run(tmp_path, settings(), init=tiny, loaders=[black(i) for i in range(24)])


def test_what_is_no_prior_cannot_be_begun_with(tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="cannot be used"):
        run(tmp_path, settings(), init=tmp_path / "nothing")
    with pytest.raises(CannotTrain, match="autoencoder_steps is 0"):
        run(tmp_path, settings(autoencoder_steps=0), init=None)


def test_an_autoencoder_may_be_kept(tiny: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(autoencoder_steps=0), init=tiny)
    kept = finished(tmp_path)
    assert kept["configs"]["vae"]["scaling_factor"] == 0.5
    assert torch.equal(kept["vae"]["decoder.conv_out.bias"], _weights(tiny)["decoder.conv_out.bias"].half())


def _weights(prior: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(prior / "vae" / "diffusion_pytorch_model.safetensors")


def test_sides_come_from_the_pictures() -> None:
    from worker.training.pictures import sides

    numbers = TrainingSettings(crop=96)
    assert sides([454] * 9, numbers) == (320, 128)
    assert sides([150, 100, 170], numbers) == (144, 128)
    assert sides([98, 99, 100], numbers) == (96, 96)
    assert sides([454], TrainingSettings(image_side=256, denoiser_side=64)) == (256, 64)
    with pytest.raises(CannotTrain, match="larger than the autoencoder's"):
        sides([100], TrainingSettings(denoiser_side=128))
