"""Textual inversion: a word for each class, learned, installed, and used."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SIDE, pixels, settings, silent
from PIL import Image
from safetensors.torch import load_file
from test_training import Stop, stop_when

from shared import priors
from shared.recipes import TrainingSettings
from worker.priors.diffusers import load
from worker.training import CannotTrain, checkpoints, install, models, train, words

UNET = "unet/diffusion_pytorch_model.safetensors"
CLASSES = ("Bright Bar", "dark")


def picture(seed: int) -> Image.Image:
    """Bars of two kinds: bright ones on dark, and the other way round."""
    bar = pixels(seed, SIDE)
    return Image.fromarray(bar if seed % 2 == 0 else 255 - bar)


def numbers(**changes: Any) -> TrainingSettings:
    fixed = {"recipe": "textual_inversion", "denoiser_rate": 0.1, "denoiser_batch": 16, "average": 0.5}
    return settings(**fixed | {"checkpoint_every": 1000, "sample_every": 1000} | changes)


def run(folder: Path, init: Path, on_step: Any = silent, shown: Any = None, **changes: Any) -> None:
    loaders = [partial(picture, seed) for seed in range(40)]
    classes = shown or [(CLASSES[seed % 2],) for seed in range(40)]
    device = torch.device("cpu")
    train(loaders, numbers(**changes), folder, init=init, device=device, on_step=on_step, classes=classes)


def finished(folder: Path) -> dict[str, Any]:
    kept = checkpoints.load(folder / checkpoints.FINISHED)
    assert kept is not None
    return kept


@pytest.fixture(scope="module")
def learned(stable_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that is done."""
    folder = tmp_path_factory.mktemp("learned")
    run(folder, stable_diffusion, denoiser_steps=100)
    return folder


@pytest.fixture(scope="module")
def installed(learned: Path) -> Path:
    install(learned, learned.parent / "words", name="words", about={})
    return learned.parent / "words"


def test_words_learn(learned: Path, stable_diffusion: Path, tmp_path: Path) -> None:
    """The same seed, after one step and after many: the noise in held-out pictures is found better. Two vectors can do
    little for a denoiser with random weights; without learning both losses would be equal."""
    run(tmp_path / "little", stable_diffusion, denoiser_steps=1)
    little, much = (finished(folder)["card"]["held_out_loss"] for folder in (tmp_path / "little", learned))
    assert much < 0.999 * little


def test_only_the_vectors_are_trained_and_kept(learned: Path, installed: Path, stable_diffusion: Path) -> None:
    kept = checkpoints.load(learned / checkpoints.CHECKPOINT)
    assert kept is not None
    assert kept["weights"]["vae"] == {}
    ((name, vectors),) = kept["weights"]["unet"].items()
    assert (name.endswith("token_embedding.new"), vectors.shape) == (True, (2, 12))
    before, after = load_file(stable_diffusion / UNET), load_file(installed / UNET)
    assert all(torch.equal(values, after[name]) for name, values in before.items())


def test_what_is_installed_knows_the_words(learned: Path, installed: Path, stable_diffusion: Path) -> None:
    described = priors.describe("words", installed)
    assert (described.prompts, described.words) == (True, ["<bright-bar>", "<dark>"])
    prior = load(installed)
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 900])
    made = models.worded(stable_diffusion, 16, [("Bright Bar",), ("dark",)])
    kept = checkpoints.load(learned / checkpoints.CHECKPOINT)
    assert kept is not None
    made.unet.load_state_dict(kept["weights"]["unet_average"], strict=False)
    with torch.no_grad():
        for row, word in enumerate(described.words):
            theirs = made.unet(z, t, torch.tensor([row, row])).sample
            rounding = (prior.told(f"a {word}", "", 1).eps(z, t) - theirs).abs().max()
            change = (prior.eps(z, t) - theirs).abs().max()
            assert rounding < 0.1 * change
    untouched = load(stable_diffusion).told("ab c", "", 1).eps(z, t)
    torch.testing.assert_close(prior.told("ab c", "", 1).eps(z, t), untouched, rtol=1e-3, atol=1e-3)


def test_a_word_stands_for_one_token_beside_others(installed: Path) -> None:
    added = json.loads((installed / "tokenizer" / "added_tokens.json").read_text())
    prior = load(installed)
    assert prior._text is not None
    row = prior._text._files.tokenizer("tokenizer")("a <dark>, a <bright-bar> b").input_ids
    assert [token for token in row if token >= 57] == [added["<dark>"], added["<bright-bar>"]]


def test_a_stopped_training_ends_with_the_same_words(stable_diffusion: Path, tmp_path: Path) -> None:
    changes = {"denoiser_steps": 6, "checkpoint_every": 2}
    run(tmp_path / "whole", stable_diffusion, **changes)
    with pytest.raises(Stop):
        run(tmp_path / "stopped", stable_diffusion, stop_when(lambda p: p.step == 3), **changes)
    run(tmp_path / "stopped", stable_diffusion, **changes)
    ours, theirs = (checkpoints.load(tmp_path / name / checkpoints.CHECKPOINT) for name in ("stopped", "whole"))
    assert ours is not None
    assert theirs is not None
    for name, values in ours["weights"]["unet_average"].items():
        assert torch.equal(values, theirs["weights"]["unet_average"][name])


def test_pictures_without_a_class_are_left_out_and_too_few_refused(stable_diffusion: Path, tmp_path: Path) -> None:
    shown = [("dark",) if seed % 2 else () for seed in range(40)]
    run(tmp_path / "half", stable_diffusion, shown=shown, denoiser_steps=1)
    assert finished(tmp_path / "half")["card"]["data"]["training"] == 18
    with pytest.raises(CannotTrain, match="19 different pictures show a labelled class"):
        run(tmp_path / "few", stable_diffusion, shown=[("dark",)] * 19 + [()] * 21)


def test_a_word_is_learned_once(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="knows the word <bright-bar> already"):
        run(tmp_path, installed)


def test_names_of_classes_become_words() -> None:
    assert words.prompt_of(("Distal  Fracture", "B.2")) == "a <distal-fracture>, a <b-2>"
    assert words.word_of("骨折") == "<class>"


def test_the_vectors_begin_as_the_mean_of_a_names_own(stable_diffusion: Path) -> None:
    made = words.taught(stable_diffusion, [("ab",)])
    known = load_file(stable_diffusion / "text_encoder" / "model.safetensors")
    ab = known["text_model.embeddings.token_embedding.weight"][52].float()
    np.testing.assert_allclose(made.vectors.detach()[0], ab)
