import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import pictures, pixels, run, settings
from PIL import Image
from safetensors.torch import load_file, save_file
from test_training import Stop, no_file_above, stop_when

from shared import priors
from shared.errors import Conflict
from shared.recipes import TrainingSettings
from shared.spec import ExpansionSpec, Sampler, resolve
from worker.priors.diffusers import CARD, BadPrior, load
from worker.psld.__main__ import regrow
from worker.training import CannotTrain, checkpoints, install, models

ABOUT = {"licence": "CC BY 4.0", "dataset": "bars", "sources": ["0" * 64]}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def prior(finished: Path, tmp_path: Path) -> Path:
    install(finished, tmp_path / "bars", name="bars", about=ABOUT)
    return tmp_path / "bars"


def test_it_is_the_averaged_weights_in_float16(prior: Path, finished: Path) -> None:
    kept = checkpoints.load(finished / checkpoints.CHECKPOINT)
    assert kept is not None
    stored = load_file(prior / WEIGHTS)
    for name, values in kept["weights"]["unet_average"].items():
        assert torch.equal(stored[name], values.half()), name
    assert any(not torch.equal(kept["weights"]["unet"][name].half(), values) for name, values in stored.items())


def test_a_job_can_sample_with_it(prior: Path) -> None:
    described, loaded = priors.describe("bars", prior), load(prior)
    assert (described.native_size, described.multiple) == (loaded.native_size, loaded.multiple) == (16, 4)
    assert "CC BY 4.0" in described.card
    spec = ExpansionSpec(dataset_id="none", prior="bars", sampler=Sampler(steps=3))
    resolved = resolve(spec, prior_sha256=described.sha256, native_size=16, multiple=4, images_side=16)
    result = regrow(Image.fromarray(pixels(1)), [(0, 0.2, 0.2, 0.6, 0.6)], 3, resolved, loaded)
    assert np.asarray(result).std() > 0


def test_the_card_says_what_was_measured(prior: Path) -> None:
    card = json.loads((prior / CARD).read_text())
    assert TrainingSettings(**card["settings"]) == settings()
    assert card["steps"] == {"autoencoder": 6, "denoiser": 6}
    assert card["sides"] == {"autoencoder": 32, "denoiser": 16}
    assert card["about"] == ABOUT
    assert (card["data"]["training"], card["data"]["held_out"], len(card["data"]["pixels_sha256"])) == (22, 2, 24)
    assert 0 < card["reconstruction_psnr"] < 60
    assert 0 < card["held_out_loss"] < 10
    assert card["memorisation"]["samples"] == 4
    assert 0 <= card["memorisation"]["near_share"] <= 1
    assert [(each["stage"], each["step"]) for each in card["history"]] == [
        ("autoencoder", 3),
        ("autoencoder", 6),
        ("denoiser", 3),
        ("denoiser", 6),
    ]
    words = (prior / "README.md").read_text()
    assert f"{card['reconstruction_psnr']:.2f} dB" in words
    assert card["data"]["sha256"] in words
    with Image.open(prior / "samples.png") as sheet:
        assert sheet.size == (64, 16)


def test_the_psnr_is_that_of_the_installed_autoencoder(prior: Path) -> None:
    """Measured here once more, from the installed files, on the two pictures that were held out."""
    card = json.loads((prior / CARD).read_text())
    loaded = load(prior)
    from worker.training.autoencoder import as_floats
    from worker.training.pictures import read

    found = read(pictures(24), settings())
    x = as_floats(found.large[found.held_out])
    with torch.no_grad():
        back = loaded.decode(loaded.encode(x)).clamp(-1, 1)
    psnr = (10 * torch.log10(4 / (back - x).square().mean(dim=(1, 2, 3)))).mean()
    assert card["reconstruction_psnr"] == pytest.approx(float(psnr), abs=0.01)


def test_latents_have_unit_variance(prior: Path) -> None:
    loaded = load(prior)
    x = torch.stack([torch.from_numpy(pixels(seed, 16)).float() / 127.5 - 1 for seed in range(50)])
    with torch.no_grad():
        z = loaded.encode(x[:, None].expand(-1, 3, -1, -1))
    assert float(z.std()) == pytest.approx(1, abs=0.2)


def test_a_prior_is_not_written_over_another(prior: Path, finished: Path) -> None:
    before = (prior / CARD).read_bytes()
    with pytest.raises(Conflict, match="is not written over another"):
        install(finished, prior, name="bars", about={})
    assert (prior / CARD).read_bytes() == before


def test_a_training_that_is_not_finished_is_not_installed(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path / "training", settings(), init=tiny, on_step=stop_when(lambda p: p.step == 10))
    with pytest.raises(CannotTrain, match="no finished training"):
        install(tmp_path / "training", tmp_path / "bars", name="bars", about={})


def test_a_full_disk_leaves_nothing_half_installed(finished: Path, tmp_path: Path) -> None:
    with no_file_above(20_000), pytest.raises(OSError, match=r"File too large.*bars"):
        install(finished, tmp_path / "bars", name="bars", about={})
    assert not list(tmp_path.iterdir())
    install(finished, tmp_path / "bars", name="bars", about={})


def test_a_prior_being_written_is_not_listed(prior: Path) -> None:
    shutil.copytree(prior, prior.with_name(".bars.0123abcd.part"))
    assert list(priors.installed(str(prior.parent))) == ["bars"]


def test_a_card_of_other_weights_is_refused(prior: Path) -> None:
    weights = load_file(prior / WEIGHTS)
    weights["conv_out.bias"] += 1
    save_file(weights, prior / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(BadPrior, match=f"card of other weights than {WEIGHTS}"):
        load(prior)
    (prior / CARD).unlink()
    load(prior)


def test_a_card_without_its_hashes_is_refused(prior: Path) -> None:
    (prior / CARD).write_text("{}")
    with pytest.raises(BadPrior, match="does not say of which weights"):
        load(prior)


def test_an_installed_prior_can_be_trained_further(prior: Path, tmp_path: Path) -> None:
    made = models.continued(prior, 16)
    stored = load_file(prior / WEIGHTS)
    assert all(torch.equal(values, stored[name].float()) for name, values in made.unet.state_dict().items())
    run(tmp_path / "further", settings(), init=prior)
    install(tmp_path / "further", tmp_path / "grandchild", name="grandchild", about={"sources": ["1" * 64]})
    about = json.loads((tmp_path / "grandchild" / CARD).read_text())["about"]
    assert about == {"sources": ["0" * 64, "1" * 64]}, "what its parent has learned from, it may know"
    for config in (tmp_path / "grandchild").glob("*/config.json"):
        assert str(tmp_path) not in config.read_text("utf-8")
    kept = checkpoints.load(tmp_path / "further" / checkpoints.FINISHED)
    assert kept is not None
    assert kept["card"]["init"].keys() == {"unet", "vae"}
