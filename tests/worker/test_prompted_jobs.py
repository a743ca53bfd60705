"""Jobs that are told what to draw, guided by a small autoencoder, or whose prior cannot be used."""

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from expanding import items, run
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_stable_diffusion import write_tiny_stable_diffusion

from shared import disk, jobs, priors, workers
from shared.errors import Invalid
from shared.figures import Meter
from shared.models import Dataset, Job
from shared.spec import ExpansionSpec
from shared.states import ItemState
from worker.memory import Endless
from worker.priors.cache import PriorCache
from worker.priors.diffusers import CARD, DiffusersPrior, load
from worker.studio import Studio

Make = Callable[..., Job]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd")
    write_tiny_stable_diffusion(folder)
    return folder


def write_tiny_autoencoder(folder: Path, channels: int = 4) -> None:
    """In the form of TAESD, by 2."""
    torch.manual_seed(3)
    AutoencoderTiny(
        latent_channels=channels,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).half().save_pretrained(folder)


class Ten(Endless):
    """A device of ten bytes."""

    def total(self) -> int:
        return 10

    free = total


@pytest.fixture
def make(studio: Studio, ingest: Callable[[Path], Dataset], phantoms: Path, tiny_sd: Path) -> Make:
    """A job with the prior `sd`, which was added; its first two images, unless it says otherwise."""
    with studio.sessions.write() as session:
        priors.register(session, "sd", tiny_sd, added=True)
    dataset = ingest(phantoms)

    def made(sampler: dict[str, object], **spec: object) -> Job:
        asked = {"prior": "sd", "variants": 1, "max_images": 2, "output": {"image_format": "png"}, "blend": "known"}
        asked |= {"dataset_id": dataset.id, "sampler": {"steps": 3, "finish": 0, **sampler}, "grain": False}
        asked |= {"canvas": {"long_side": 32}, **spec}
        wanted = ExpansionSpec.model_validate(asked)
        with studio.sessions.write() as session:
            return jobs.create(session, "local", wanted, priors.find(session, "local", wanted.prior), 1000)

    return made


@pytest.fixture
def fresh(studio: Studio) -> Studio:
    """With nothing loaded from another test's folder of the same name."""
    return dataclasses.replace(studio, priors=PriorCache(load))


def hashes_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): disk.sha256(path) for path in folder.glob("*/*.safetensors")}


def pictures(studio: Studio, job: Job) -> list[np.ndarray]:
    rows = [item for item in items(studio) if item.job_id == job.id]
    assert [row.state for row in rows] == [ItemState.DONE] * len(rows), [row.error for row in rows]
    return [np.asarray(Image.open(io.BytesIO(studio.storage.read(row.result_key or "")))) for row in rows]


def test_the_prompt_changes_regrown_pixels_and_not_the_kept_ones(fresh: Studio, make: Make) -> None:
    mask = {"kind": "inpaint", "mask": {"kind": "outside_boxes"}}
    without = make({}, operator=mask)
    told = make({"prompt": "ab", "guidance_scale": 5}, operator=mask)
    run(fresh)
    for one, other, item in zip(pictures(fresh, without), pictures(fresh, told), items(fresh), strict=False):
        differs = one != other
        assert differs.mean() > 0.1
        height, width = one.shape[:2]
        for _, x0, y0, x1, y1 in item.image.boxes:
            inside = np.s_[int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)]
            assert not differs[inside].any()


def test_a_prompt_needs_a_prior_that_can_read_it(studio: Studio, make: Make) -> None:
    with pytest.raises(Invalid, match="'builtin' has no text encoder and takes no prompt"):
        make({"prompt": "a hand"}, prior="builtin")
    with pytest.raises(Invalid, match="was not taught <fracture>"):
        make({"prompt": "a <fracture>"})


def test_the_same_thing_said_otherwise_is_known_to_be_the_same(studio: Studio, make: Make) -> None:
    plain = make({}).resolved
    assert make({"prompt": "", "guidance_scale": 3}).resolved == plain
    assert make({"prompt": "ab", "guidance_scale": 1, "negative_prompt": "c"}).resolved["conditioning"] == {
        "prompt": "ab",
        "negative": "",
        "scale": 1.0,
    }
    assert make({"prompt": "ab"}).resolved["conditioning"]["scale"] == 7.5


def test_a_prompt_of_too_many_tokens_fails_the_items_and_says_so(fresh: Studio, make: Make) -> None:
    make({"prompt": "a" * 80})
    run(fresh)
    assert {(item.state, (item.error or {})["type"]) for item in items(fresh)} == {(ItemState.FAILED, "bad_prompt")}
    assert "80 tokens" in (items(fresh)[0].error or {})["detail"]


@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_a_small_autoencoder_guides_and_the_priors_own_finishes(
    fresh: Studio, make: Make, tmp_path: Path, preset: str
) -> None:
    write_tiny_autoencoder(tmp_path / "taesd")
    with fresh.sessions.write() as session:
        priors.register(session, "taesd", tmp_path / "taesd", added=True)
    own, guided = make({"preset": preset}), make({"preset": preset, "guidance_vae": "taesd"})
    run(fresh)
    for one, other in zip(pictures(fresh, own), pictures(fresh, guided), strict=True):
        assert (one != other).any()
    assert guided.resolved["guidance_vae"]["name"] == "taesd"


def test_an_autoencoder_must_be_there_and_fit(studio: Studio, make: Make, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"There is no autoencoder named 'taesd'\. Installed: none"):
        make({"guidance_vae": "taesd"})
    write_tiny_autoencoder(tmp_path / "three", channels=3)
    with studio.sessions.write() as session:
        priors.register(session, "three", tmp_path / "three", added=True)
    with pytest.raises(Invalid, match="'three' makes latents of 3 channels, 2 times smaller"):
        make({"guidance_vae": "three"})
    with pytest.raises(Invalid, match="There is no prior named 'three'"):
        make({}, prior="three")


def test_only_who_has_the_autoencoder_takes_the_job(fresh: Studio, make: Make, tmp_path: Path) -> None:
    write_tiny_autoencoder(tmp_path / "taesd")
    with fresh.sessions.write() as session:
        priors.register(session, "taesd", tmp_path / "taesd", added=True)
    make({"guidance_vae": "taesd"})
    (tmp_path / "taesd").rename(tmp_path / "away")
    run(fresh)
    assert {item.state for item in items(fresh)} == {ItemState.PENDING}


@pytest.mark.parametrize("value", [float("nan"), 1.0], ids=["not finite", "of another card"])
def test_a_prior_that_cannot_be_used_fails_its_items_and_no_others(
    fresh: Studio, make: Make, tiny_sd: Path, tmp_path: Path, value: float
) -> None:
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "broken"))
    (folder / "unet" / "config.json").write_text((folder / "unet" / "config.json").read_text() + "\n")
    with fresh.sessions.write() as session:
        priors.register(session, "broken", folder, added=True)
    broken, sound = make({}, prior="broken", priority=1), make({})
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if value == 1:
        (folder / CARD).write_text(json.dumps({"weights": hashes_of(folder)}))
    weights = load_file(path)
    weights["conv_in.weight"][0] = value
    save_file(weights, path, metadata={"format": "pt"})
    run(fresh)
    ended = {(item.job_id, item.state, (item.error or {}).get("type")) for item in items(fresh)}
    assert ended == {(broken.id, ItemState.FAILED, "bad_prior"), (sound.id, ItemState.DONE, None)}
    said = "card of other weights than unet" if value == 1 else "conv_in.weight are not finite"
    assert said in next(item.error["detail"] for item in items(fresh) if item.error)


def test_a_prior_that_does_not_fit_the_memory_fails_its_items_and_no_others(fresh: Studio, make: Make) -> None:
    def too_large(folder: Path, device: str) -> object:
        if folder.name != "builtin":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.20 GiB")
        return load(folder, device)

    small = dataclasses.replace(fresh, priors=PriorCache(too_large))
    large, sound = make({}, priority=1), make({}, prior="builtin", canvas={"long_side": 32}, max_images=1)
    run(small)
    ended = {(item.job_id, item.state, (item.error or {}).get("type")) for item in items(fresh)}
    assert ended == {(large.id, ItemState.FAILED, "prior_too_large"), (sound.id, ItemState.DONE, None)}


def test_a_prior_larger_than_the_device_is_never_loaded_and_its_jobs_are_refused_from_then_on(
    fresh: Studio, make: Make, tiny_sd: Path
) -> None:
    def loading(folder: Path, device: str) -> DiffusersPrior:
        assert folder.name == "builtin", "the size tells that it cannot be held"
        return load(folder, device)

    def size(folder: Path) -> int:
        return 10 if folder.name == "builtin" else 11

    cache = PriorCache(loading, size=size, memory=Ten())
    small = dataclasses.replace(fresh, priors=cache)
    large, sound = make({}, priority=1), make({}, prior="builtin", canvas={"long_side": 32}, max_images=1)
    run(small)
    ended = {(item.job_id, item.state, (item.error or {}).get("type")) for item in items(fresh)}
    assert ended == {(large.id, ItemState.FAILED, "prior_too_large"), (sound.id, ItemState.DONE, None)}
    details = {item.error["detail"] for item in items(fresh) if item.error}
    assert details == {"The prior sd does not fit the memory of cpu: its weights take 11 bytes, and the device has 10."}
    with fresh.sessions.write() as session:
        workers.seen(session, "w:1", "gpu", "cpu", figures=small.meter.read())
    with pytest.raises(Invalid, match="no worker that is there has the memory for 'sd'"):
        make({})
    assert make({}, prior="builtin")
    at_start = dataclasses.replace(small, meter=Meter(), prior_folders={"sd": (tiny_sd, "x"), **fresh.prior_folders})
    at_start.look_over_priors()
    assert at_start.meter.read()["too_large"] == {"x": 0}
