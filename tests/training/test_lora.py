import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import pictures, run, settings
from safetensors.torch import load_file
from test_training import Stop, stop_when
from tiny_single_file import write_single_file
from tiny_stable_diffusion import write_tiny_stable_diffusion

from shared import disk
from shared.recipes import TrainingSettings
from worker.priors import single
from worker.priors.diffusers import CARD, load
from worker.priors.files import WHOLE
from worker.training import CannotTrain, checkpoints, install, models

UNET = "unet/diffusion_pytorch_model.safetensors"


def numbers(**changes: Any) -> TrainingSettings:
    return settings(**{"recipe": "lora", "denoiser_rate": 3e-3, "denoiser_batch": 16, "average": 0.9} | changes)


def learning(steps: int) -> TrainingSettings:
    """Quick learning, undisturbed."""
    quick = {"denoiser_rate": 1e-2, "rank": 16, "checkpoint_every": 1000, "sample_every": 1000}
    return numbers(denoiser_steps=steps, **quick)


def finished(folder: Path) -> dict[str, Any]:
    kept = checkpoints.load(folder / checkpoints.FINISHED)
    assert kept is not None
    return kept


def test_adapters_learn(stable_diffusion: Path, tmp_path: Path) -> None:
    """The same seed, after one step and after many: the noise in held-out pictures is found better."""
    for folder, steps in (("little", 1), ("much", 100)):
        run(tmp_path / folder, learning(steps), init=stable_diffusion, loaders=pictures(60))
    little, much = (finished(tmp_path / folder)["card"]["held_out_loss"] for folder in ("little", "much"))
    assert much < 0.9 * little


@pytest.fixture(scope="module")
def whole(stable_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adaptation that ran to its end."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, numbers(), init=stable_diffusion)
    return folder


def test_only_attention_is_adapted_and_only_adapters_are_kept(
    stable_diffusion: Path, whole: Path, tmp_path: Path
) -> None:
    kept = checkpoints.load(whole / checkpoints.CHECKPOINT)
    assert kept is not None
    assert kept["weights"]["vae"] == {}
    assert all("lora_" in name for name in kept["weights"]["unet"])
    install(whole, tmp_path / "adapted", name="adapted", about={})
    before, after = load_file(stable_diffusion / UNET), load_file(tmp_path / "adapted" / UNET)
    assert before.keys() == after.keys()
    changed = {name for name, values in before.items() if not torch.equal(values, after[name])}
    assert changed
    assert all(name.rpartition(".")[0].endswith(("to_q", "to_k", "to_v", "to_out.0")) for name in changed)


def test_what_is_installed_is_a_prior_that_predicts_as_the_adapted_one(stable_diffusion: Path, tmp_path: Path) -> None:
    run(tmp_path / "training", numbers(denoiser_steps=30), init=stable_diffusion)
    install(tmp_path / "training", tmp_path / "adapted", name="adapted", about={})
    prior = load(tmp_path / "adapted")
    assert prior.native_size == 16
    made = models.adapted(stable_diffusion, 16, numbers().rank, 0)
    kept = checkpoints.load(tmp_path / "training" / checkpoints.CHECKPOINT)
    assert kept is not None
    made.unet.load_state_dict(kept["weights"]["unet_average"], strict=False)
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    with torch.no_grad():
        adapted = made.unet(z, t).sample
        rounding = (prior.eps(z, t) - adapted).abs().max()
        change = (load(stable_diffusion).eps(z, t) - adapted).abs().max()
    assert rounding < 0.1 * change
    assert json.loads((tmp_path / "adapted" / CARD).read_text())["steps"]["autoencoder"] == 0


def test_a_stopped_adaptation_ends_with_the_same_weights(stable_diffusion: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path / "stopped", numbers(), init=stable_diffusion, on_step=stop_when(lambda p: p.step == 3))
    run(tmp_path / "stopped", numbers(), init=stable_diffusion)
    ours, theirs = finished(tmp_path / "stopped")["unet"], finished(whole)["unet"]
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())


def test_it_needs_a_prior_with_a_prompt(stable_diffusion: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="needs a Stable Diffusion prior"):
        run(tmp_path, numbers(), init=None)
    with pytest.raises(CannotTrain, match=r"UNet2DConditionModel; that of .* is a UNet2DModel"):
        run(tmp_path, numbers(), init=tiny)
    with pytest.raises(CannotTrain, match=r"UNet2DModel; that of .* is a UNet2DConditionModel"):
        run(tmp_path, settings(), init=stable_diffusion)


def test_a_prior_in_one_file_is_adapted_and_its_hash_is_kept(
    stable_diffusion: Path, whole: Path, tmp_path: Path
) -> None:
    write_single_file(stable_diffusion, tmp_path / "model.safetensors")
    single.lay_out(tmp_path / "model.safetensors", tmp_path / "one", configs=stable_diffusion)
    run(tmp_path / "training", numbers(), init=tmp_path / "one")
    install(tmp_path / "training", tmp_path / "adapted", name="adapted", about={})
    assert load(tmp_path / "adapted").told("ab c", "", 1).eps(torch.zeros(1, 4, 8, 8), torch.tensor([500])).any()
    begun_with = json.loads((tmp_path / "adapted" / CARD).read_text())["init"]
    assert begun_with == {WHOLE: disk.sha256(tmp_path / "model.safetensors")}
    assert finished(whole)["card"]["init"].keys() == {"text_encoder", "unet", "vae"}


def test_one_that_predicts_v_is_adapted_and_xl_is_refused(tmp_path: Path) -> None:
    write_tiny_stable_diffusion(tmp_path / "two", "sd2")
    for folder, steps in (("little", 1), ("much", 60)):
        run(tmp_path / folder, learning(steps), init=tmp_path / "two", loaders=pictures(60))
    little, much = (finished(tmp_path / folder)["card"]["held_out_loss"] for folder in ("little", "much"))
    assert much < 0.95 * little
    install(tmp_path / "much", tmp_path / "adapted", name="adapted", about={})
    assert load(tmp_path / "adapted").eps(torch.zeros(1, 4, 8, 8), torch.tensor([500])).isfinite().all()
    write_tiny_stable_diffusion(tmp_path / "large", "xl")
    with pytest.raises(CannotTrain, match="XL, which no recipe trains"):
        run(tmp_path, numbers(), init=tmp_path / "large")
