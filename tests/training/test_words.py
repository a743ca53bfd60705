"""Textual inversion: a word for each class, learned, installed, and used."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from drawn import SIDE, settings, silent
from PIL import Image
from safetensors.torch import load_file
from test_training import Stop, stop_when
from tiny_stable_diffusion import write_tiny_stable_diffusion
from torch import Tensor

from shared import priors
from shared.recipes import TrainingSettings
from worker.priors.diffusers import alpha_bar_of, load
from worker.priors.files import Files
from worker.priors.text import Text
from worker.training import CannotTrain, checkpoints, denoiser, install, models, train, words
from worker.training.autoencoder import as_floats

UNET = "unet/diffusion_pytorch_model.safetensors"
PROMPTS = ["a x", "a y"]
"""What the prior to begin with calls the two kinds of pictures."""
CLASSES = ("y", "x")
"""What the data set calls them: the other way round, so that each word begins as the wrong one."""


def picture(seed: int) -> Image.Image:
    """Of two kinds: with an even seed a bright disc at the top left of a dark ground, else at the bottom right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    left, top = (-0.2 if seed % 2 == 0 else 0.2) + rng.normal(0, 0.03, 2)
    bright = 30 + 200 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / rng.uniform(0.15, 0.2) ** 2)
    return Image.fromarray(bright.astype(np.uint8))


def latents(folder: Path, first: int, count: int) -> Tensor:
    """Of pictures, the two kinds in turn, at the prior's own size."""
    small = [np.asarray(picture(first + k).resize((16, 16))) for k in range(count)]
    with torch.no_grad():
        return load(folder).encode(as_floats(np.stack(small)[:, None].repeat(3, axis=1)))


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one that was trained for a moment, so that it knows both kinds and what they are called. It predicts v,
    which at strong noise is the picture: there a prompt says what is to be seen."""
    folder = tmp_path_factory.mktemp("stable-diffusion")
    write_tiny_stable_diffusion(folder, "sd2", scale=3)
    files, z = Files(folder), latents(folder, 0, 64)
    unet, (alpha_bar, _) = files.model(UNet2DConditionModel, "unet").requires_grad_(True), alpha_bar_of(files)
    said = torch.cat([prompt.tokens for prompt in Text(files, unet.config).embed(PROMPTS)])
    optimizer, generator = torch.optim.AdamW(unet.parameters(), lr=8e-3), torch.Generator().manual_seed(0)
    for _ in range(150):
        rows, t = (torch.randint(most, (8,), generator=generator) for most in (len(z), len(alpha_bar)))
        ab, n = alpha_bar[t][:, None, None, None], torch.randn(8, *z.shape[1:], generator=generator)
        v = ab.sqrt() * n - (1 - ab).sqrt() * z[rows]
        found = unet(ab.sqrt() * z[rows] + (1 - ab).sqrt() * n, t, encoder_hidden_states=said[rows % 2]).sample
        optimizer.zero_grad()
        (found - v).square().mean().backward()
        optimizer.step()
    unet.half().save_pretrained(folder / "unet")
    return folder


def numbers(**changes: Any) -> TrainingSettings:
    fixed = {"recipe": "textual_inversion", "denoiser_rate": 0.1, "denoiser_batch": 8, "average": 0.9}
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
    run(folder, stable_diffusion, denoiser_steps=120)
    return folder


@pytest.fixture(scope="module")
def installed(learned: Path) -> Path:
    install(learned, learned.parent / "words", name="words", about={})
    return learned.parent / "words"


class Told:
    """An installed prior under a prompt, as a denoiser."""

    def __init__(self, folder: Path, prompt: str) -> None:
        self._prior = load(folder).told(prompt, "", 1)

    def __call__(self, z: Tensor, t: Tensor) -> Any:
        return SimpleNamespace(sample=self._prior.eps(z, t))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_word_comes_to_say_what_its_pictures_show(installed: Path, kind: int) -> None:
    """The noise in pictures of a kind, never seen, is found with the learned word nearly as well as with the word that
    the prior always had for them. What the learned word began as says the opposite, and is far from that."""
    z = latents(installed, 5000, 48)[kind::2]
    known, (alpha_bar, _) = torch.ones(len(z), 1, 8, 8, dtype=torch.bool), alpha_bar_of(Files(installed))

    def loss(prompt: str) -> float:
        return denoiser.held_out_loss(Told(installed, prompt), z, known, alpha_bar, torch.device("cpu"))

    true, begun, now = (loss(prompt) for prompt in (PROMPTS[kind], f"a {CLASSES[kind]}", f"a <{CLASSES[kind]}>"))
    assert begun > 1.1 * true, "the prior to begin with does not heed its prompt"
    assert now - true < 0.25 * (begun - true)


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
    assert (described.prompts, described.words) == (True, ["<x>", "<y>"])
    prior = load(installed)
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 900])
    made = models.worded(stable_diffusion, 16, [("x",), ("y",)])
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
    row = prior._text._files.tokenizer("tokenizer")("a <y>, a <x> b").input_ids
    assert [token for token in row if token >= 57] == [added["<y>"], added["<x>"]]


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
    shown = [("y",) if seed % 2 else () for seed in range(40)]
    run(tmp_path / "half", stable_diffusion, shown=shown, denoiser_steps=1)
    assert finished(tmp_path / "half")["card"]["data"]["training"] == 18
    with pytest.raises(CannotTrain, match="19 different pictures show a labelled class"):
        run(tmp_path / "few", stable_diffusion, shown=[("y",)] * 19 + [()] * 21)


def test_a_word_is_learned_once(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="knows the word <x> already"):
        run(tmp_path, installed)


def test_names_of_classes_become_words() -> None:
    assert words.prompt_of(("Distal  Fracture", "B.2")) == "a <distal-fracture>, a <b-2>"
    assert words.word_of("骨折") == "<class>"


def test_the_vectors_begin_as_the_mean_of_a_names_own(stable_diffusion: Path) -> None:
    made = words.taught(stable_diffusion, [("ab",)])
    known = load_file(stable_diffusion / "text_encoder" / "model.safetensors")
    ab = known["text_model.embeddings.token_embedding.weight"][52].float()
    np.testing.assert_allclose(made.vectors.detach()[0], ab)
