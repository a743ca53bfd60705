"""Files come from a hub: the real client against one on this machine, with tiny Stable Diffusions."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import COMMIT, REPO, Hub, serving_hub
from live import until
from safetensors.torch import load_file, save_file
from tiny_prior import write_tiny_prior
from tiny_stable_diffusion import write_tiny_stable_diffusion

from worker.hub.choice import Found, choose
from worker.hub.download import PARTS, Repository, fetch
from worker.hub.errors import CannotFetch
from worker.priors.check import check
from worker.priors.files import BadPrior

UNET = "unet/diffusion_pytorch_model.safetensors"
ELSEWHERE = "a" * 40


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion with what else lies in such a repository."""
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    write_tiny_stable_diffusion(folder)
    (folder / "README.md").write_text("---\nlicence: openrail\n---\n# Tiny\n")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    for name in ("unet/diffusion_pytorch_model.bin", "v1.ckpt", "safety_checker/model.safetensors", "unet/evil.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"a pickle" * 1000)
    return folder


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    # As in the process that it runs in: see worker.hub.__main__.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    with serving_hub() as made:
        made.add(tiny)
        yield made


def bring(
    hub: Hub,
    folder: Path,
    repo: str = REPO,
    revision: str = COMMIT,
    *,
    token: str | None = None,
    room: int | None = None,
    file: str | None = None,
    variant: str | None = None,
) -> list[tuple[int, int]]:
    """Fetch into a folder; what was said on the way."""
    said: list[tuple[int, int]] = []
    repository = Repository(hub.url, repo, revision, token)
    fetch(repository, folder, room, lambda *how_far: said.append(how_far), file=file, variant=variant)
    return said


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_makes_up_a_prior_comes_and_nothing_else(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    said = bring(hub, tmp_path / "sd")
    extra = {"unet/diffusion_pytorch_model.bin", "v1.ckpt", "safety_checker/model.safetensors", "unet/evil.py"}
    assert there(tmp_path / "sd") == there(tiny) - extra
    for name in there(tmp_path / "sd"):
        assert (tmp_path / "sd" / name).read_bytes() == (tiny / name).read_bytes()
    sizes = [size for _, size in said]
    assert set(sizes) == {sum(len(hub.repos[REPO][name]) for name in there(tmp_path / "sd"))}
    received = [received for received, _ in said]
    assert received == sorted(received)
    assert (received[0], received[-1]) == (0, sizes[0])
    check(tmp_path / "sd")


def test_a_token_goes_to_the_hub_and_to_nobody_else(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    with pytest.raises(CannotFetch, match="HF_TOKEN"):
        bring(hub, tmp_path / "without")
    hub.asked.clear()
    bring(hub, tmp_path / "with", token="hf_secret")
    large = [headers for path, headers in hub.asked if path.startswith("/large/")]
    others = [headers for path, headers in hub.asked if not path.startswith("/large/")]
    assert len(large) > 1
    assert {headers.get("authorization") for headers in large} == {None}
    assert {headers.get("authorization") for headers in others} == {"Bearer hf_secret"}


def test_what_was_cut_off_by_a_kill_goes_on_with_the_bytes_that_are_here(hub: Hub, tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "large")
    path = tmp_path / "large" / UNET
    weights = load_file(path)
    weights["unused"] = weights["conv_in.weight"].new_ones(2**20)
    save_file(weights, path, metadata={"format": "pt"})
    hub.add(tmp_path / "large")
    hub.stall = UNET
    folder = tmp_path / "sd"
    argv = [sys.executable, "-m", "worker.hub", REPO, COMMIT, str(folder), "--endpoint", hub.url]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        until(lambda: any(part.stat().st_size > 2**19 for part in folder.glob(f"{PARTS}/*")), 60, "the half is here")
        with pytest.raises(CannotFetch, match="still at it"):
            bring(hub, folder)
        process.kill()
    here = max(part.stat().st_size for part in folder.glob(f"{PARTS}/*"))
    hub.stall = None
    said = bring(hub, folder)
    assert hub.ranges(UNET) == [None, f"bytes={here}-"]
    assert said[0][0] >= here
    assert (folder / UNET).read_bytes() == path.read_bytes()
    assert not (folder / PARTS).exists()
    hub.asked.clear()
    assert bring(hub, folder)[0] == said[-1], "what is whole was fetched anew"
    assert [path for path, _ in hub.asked] == [f"/api/models/{REPO}/tree/{COMMIT}"]


def test_bytes_that_are_not_the_hubs_are_thrown_away_and_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    for name in (UNET, "scheduler/scheduler_config.json"):
        hub.spoilt = name
        with pytest.raises(CannotFetch, match=f"{name} is not what the hub says it is") as caught:
            bring(hub, tmp_path / name)
        assert (caught.value.kind, caught.value.final) == ("hash_mismatch", False)
        assert not (tmp_path / name / name).exists()
        hub.spoilt = None
        bring(hub, tmp_path / name)
        assert (tmp_path / name / name).read_bytes() == hub.repos[REPO][name]


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"repo": "lab/none"}, "no_repository", "There is no repository lab/none at http://127.0.0.1:"),
        ({"revision": ELSEWHERE}, "no_revision", f"has no commit {ELSEWHERE}"),
        ({"file": "v2.safetensors"}, "missing_file", "no file v2.safetensors. If one file holds the whole model"),
        ({"room": 1000}, "insufficient-storage", "and 1,000 are free"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_words(
    hub: Hub, tmp_path: Path, wrong: dict[str, str | int], kind: str, said: str
) -> None:
    with pytest.raises(CannotFetch) as caught:
        bring(hub, tmp_path / "sd", **wrong)  # type: ignore[arg-type]
    assert (caught.value.kind, caught.value.final) == (kind, True)
    assert said in caught.value.detail


def test_a_gated_one_and_a_hub_that_fails_are_told_apart(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    with pytest.raises(CannotFetch, match="its terms must be accepted on its page first") as caught:
        bring(hub, tmp_path / "sd")
    assert (caught.value.kind, caught.value.final) == ("gated", True)
    hub.status = 418
    with pytest.raises(CannotFetch, match="answered 418") as caught:
        bring(hub, tmp_path / "sd")
    assert (caught.value.kind, caught.value.final) == ("hub_away", False)


def test_without_a_network_it_says_so(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(hub, "url", "http://127.0.0.1:9")
    with pytest.raises(CannotFetch, match="Is there a network") as caught:
        bring(hub, tmp_path / "sd")
    assert (caught.value.kind, caught.value.final) == ("hub_away", False)


def test_smaller_and_split_weights_are_chosen_and_can_be_read(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree(tiny, folder)
    weights = load_file(folder / UNET)
    half = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    save_file(weights, half, metadata={"format": "pt"})
    text = folder / "text_encoder" / "model.safetensors"
    split(folder / "vae" / "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model", "")
    split(text, "model", ".fp16")
    hub.add(folder)
    bring(hub, tmp_path / "half", variant="fp16")
    got = there(tmp_path / "half")
    assert half.relative_to(folder).as_posix() in got
    assert UNET not in got
    assert "vae/diffusion_pytorch_model-00002-of-00002.safetensors" in got
    assert "text_encoder/model.fp16-00002-of-00002.safetensors" in got
    check(tmp_path / "half")
    bring(hub, tmp_path / "whole")
    assert UNET in there(tmp_path / "whole")
    (tmp_path / "half" / "vae" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadPrior):
        check(tmp_path / "half")


def split(path: Path, stem: str, variant: str) -> None:
    """Weights in two files with an index, named as those are that transformers and diffusers write."""
    weights = load_file(path)
    names = sorted(weights)
    shards = [f"{stem}{variant}-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for shard, part in zip(shards, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in part}, path.with_name(shard), metadata={"format": "pt"})
    where = {name: shards[number % 2] for number, name in enumerate(names)}
    index = f"{stem}.safetensors.index{variant}.json"
    path.with_name(index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    path.unlink()


def test_an_autoencoder_comes_alone(hub: Hub, tmp_path: Path) -> None:
    write_tiny_prior(tmp_path / "prior")
    hub.add(tmp_path / "prior" / "vae")
    bring(hub, tmp_path / "taesd")
    assert there(tmp_path / "taesd") == {"config.json", "diffusion_pytorch_model.safetensors"}
    check(tmp_path / "taesd")


def found(*paths: str) -> list[Found]:
    return [Found(path, 10, "b" * 40) for path in paths]


@pytest.mark.parametrize(
    ("paths", "kind", "said"),
    [
        (("unet/config.json", "scheduler/scheduler_config.json"), "missing_file", "neither vae/ nor vqvae/"),
        (("unet/config.json", "vae/config.json"), "missing_file", "no scheduler/scheduler_config.json"),
        (("v1.ckpt", "README.md"), "pickle", "pickles only"),
        (("a.safetensors", "b.safetensors"), "missing_file", "name it as `file`: a.safetensors, b.safetensors"),
        (("README.md",), "missing_file", "no .safetensors at all"),
        (
            (
                "unet/config.json",
                "unet/diffusion_pytorch_model.bin",
                "vae/config.json",
                "scheduler/scheduler_config.json",
            ),
            "pickle",
            "unet/ has its weights as pickles only. A pickle may run code",
        ),
    ],
)
def test_a_repository_that_is_no_prior_is_refused_with_what_to_do(paths: list[str], kind: str, said: str) -> None:
    with pytest.raises(CannotFetch) as caught:
        choose(found(*paths))
    assert caught.value.kind == kind
    assert said in caught.value.detail


def test_nothing_a_repository_calls_its_files_leads_out_of_the_folder() -> None:
    honest = [
        "unet/config.json",
        UNET,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
    ]
    evil = [
        "../evil.json",
        "tokenizer/../../evil.json",
        "/etc/evil.json",
        "tokenizer/..json",
        "unet/../diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/x/diffusion_pytorch_model.safetensors",
    ]
    assert {wanted.name for wanted in choose(found(*honest, *evil))} == set(honest)
    (whole,) = choose(found("v1/../../model.safetensors"), "v1/../../model.safetensors")
    assert whole.name == "checkpoint.safetensors"
