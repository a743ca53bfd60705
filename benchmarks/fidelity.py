"""How good are regrown images? `python -m benchmarks.fidelity DATASET.zip --runs exact balanced fewer='{"steps": 50}'`

For each run prints seconds and network evaluations an image, PSNR to the original in kept and in hidden pixels (on the
canvas, before blending), the spread between variants, the tell of the boxes (in the finished file), and the distance of
the regrown images to real ones. Images and seeds are the same in each run; intervals (95 %) are of the difference to
the first run, paired, from resampling the images. What was made is kept in --out, so that a run that was stopped goes
on, and draws --out/grid.png: original, what is kept, and a column a run. Where there are several processors, start as
many with --share 1/N, 2/N and so on, which only make images, and then one without, which reads them all.

To compare with, a run may be of another recipe: 'edit={"recipe": "sdedit", "strength": 0.5, "steps": 40}', or with a
Stable Diffusion as --prior 'paint={"recipe": "inpaint_pipeline", "prompt": "an X-ray", "erode": 4}'. Both take
`prompt`, `negative_prompt` and `guidance_scale`. `guidance_vae` of a run is the folder of an autoencoder.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import comparisons
from benchmarks.features import contributions, distance, features, interval, standardised
from benchmarks.parts import Counted
from shared import images, plan
from shared.formats import read
from shared.formats.zips import Limits, SafeZip
from shared.masks import inside_area
from shared.plan import Labels
from shared.spec import ExpansionSpec, Guide, ResolvedSpec, item_seed, resolve
from shared.storage import sha256
from shared.tell import box_tell
from worker import recipe
from worker.priors.check import load_autoencoder
from worker.priors.diffusers import BUILTIN, load
from worker.psld.prior import Autoencoder, LatentPrior

_GRID = 8


@dataclass(frozen=True)
class Source:
    """An image of the dataset, and where it lies on the canvas."""

    name: str
    sha256: str
    original: Image.Image
    labels: Labels


@dataclass(frozen=True)
class Made:
    """One image of one run. `x` is the canvas as 8-bit grey, `measures` what was noted."""

    x: NDArray[np.uint8]
    measures: dict[str, float]


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    prior = load(arguments.prior, arguments.device)
    chosen = _chosen(arguments.dataset, arguments.split, arguments.count)
    runs = dict(_run(text) for text in arguments.runs)
    made: dict[str, list[list[Made]]] = {}
    ours = slice(arguments.share[0] - 1, None, arguments.share[1])
    for name, asked in runs.items():
        other: dict[str, Any] = {key: asked.pop(key) for key in ("recipe", "strength", "erode") if key in asked}
        if other.get("recipe", "sdedit") not in comparisons.RECIPES:
            raise SystemExit(f"the recipe of {name} must be one of {', '.join(comparisons.RECIPES)}")
        resolved = _resolved(asked, prior, arguments.long_side)
        decisive = resolved.model_dump_json() + (json.dumps(other, sort_keys=True) if other else "")
        folder = arguments.out / f"{name}-{sha256(decisive.encode())[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        told = recipe.told(prior, resolved)
        variants = range(1, arguments.variants + 1)
        made[name] = [[_make(folder, told, resolved, source, n, other) for n in variants] for source in chosen[ours]]
    if arguments.share != (1, 1):
        return
    real = _real(chosen, prior, arguments.long_side)
    _print(made, real)
    _draw(arguments.out / "grid.png", chosen, made, prior, arguments.long_side)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="DATASET.zip")
    parser.add_argument("--runs", nargs="+", default=["exact", "balanced"], metavar="NAME[=JSON]")
    parser.add_argument("--split", default="valid", help="(default: %(default)s)")
    parser.add_argument("--count", type=int, default=20, help="images, by hash (default: %(default)s)")
    parser.add_argument("--variants", type=int, default=3, help="seeds an image (default: %(default)s)")
    parser.add_argument("--share", type=_share, default=(1, 1), metavar="K/N", help="make only every N-th image's")
    parser.add_argument("--long-side", type=int, help="of the canvas (default: the prior's own)")
    parser.add_argument("--prior", type=Path, default=BUILTIN, metavar="FOLDER", help="(default: the built-in one)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/fidelity"), help="(default: %(default)s)")
    return parser


def _share(text: str) -> tuple[int, int]:
    k, n = map(int, text.split("/"))
    if not 1 <= k <= n:
        raise ValueError
    return k, n


def _run(text: str) -> tuple[str, dict[str, Any]]:
    """A preset by its name, or any name with the sampler's fields as JSON."""
    name, _, fields = text.partition("=")
    return name, {"preset": name} if not fields else json.loads(fields)


def _chosen(path: Path, split: str, count: int) -> list[Source]:
    """The labelled images of a split, by hash."""
    with SafeZip(path, Limits(members=100_000, bytes=2**36)) as archive:
        found = [sample for sample in read(archive).samples if sample.split == split and sample.boxes]
        data = {sample.image: archive.read(sample.member) for sample in found}
    if not found:
        raise SystemExit(f"{path} has no labelled image in the split {split}")
    found.sort(key=lambda sample: sha256(data[sample.image]))
    return [
        Source(
            sample.image,
            sha256(data[sample.image]),
            images.open_image(data[sample.image], sample.image),
            Labels([[box.class_index, box.x0, box.y0, box.x1, box.y1] for box in sample.boxes]),
        )
        for sample in found[:count]
    ]


def _resolved(sampler: Mapping[str, Any], prior: LatentPrior, long_side: int | None) -> ResolvedSpec:
    side, multiple = prior.native_size, prior.multiple
    spec = ExpansionSpec.model_validate({"dataset_id": "none", "sampler": sampler, "canvas": {"long_side": long_side}})
    folder = spec.sampler.guidance_vae
    guide = None if folder is None else Guide(name=folder, sha256=_weights(Path(folder)))
    # Left out, it stays the prior's own: figures of different sets are to be of one canvas.
    return resolve(spec, prior_sha256="", native_size=side, multiple=multiple, images_side=side, guide=guide)


def _weights(folder: Path) -> str:
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors"))))


def _make(
    folder: Path, prior: LatentPrior, resolved: ResolvedSpec, source: Source, variant: int, other: Mapping[str, Any]
) -> Made:
    """Made before, or made now and kept; `other` says how, if not by our sampler."""
    path = folder / f"{source.sha256[:12]}-{variant}.npz"
    if path.exists():
        with np.load(path) as kept:
            return Made(kept["x"], json.loads(str(kept["measures"])))
    made = _sample(prior, resolved, source, variant, other)
    partial = path.with_suffix(".part.npz")
    np.savez_compressed(partial, x=made.x, measures=np.array(json.dumps(made.measures)))
    partial.replace(path)
    print(f"{path}: {made.measures}", flush=True)
    return made


def _sample(prior: LatentPrior, resolved: ResolvedSpec, source: Source, variant: int, other: Mapping[str, Any]) -> Made:
    seed = item_seed(0, source.sha256, variant)
    keep, placement = plan.keep_mask(resolved, source.labels, *source.original.size, seed)
    x = images.to_canvas(source.original, placement, 255)
    guide = _guide(resolved, prior)
    counted, started = Counted(prior), time.perf_counter()
    if other:
        new = _otherwise(counted, resolved, x, keep, seed, other)
    else:
        inside, silent = inside_area(placement)[None], lambda _done, _steps: None
        new = recipe.regrow(counted, resolved, x[None], keep[None], [seed], silent, guide, inside=inside)[0]
    seconds = time.perf_counter() - started
    file = plan.blend(new, keep, placement, source.original, source.labels, resolved, seed=seed)
    corners, gap = plan.corners(source.labels.boxes), plan.FEATHER * max(file.size)
    tell = box_tell(images.colours(file), images.colours(source.original), corners, gap)
    error = ((np.clip(new, -1, 1) - x) ** 2).mean(axis=0)
    measures = {
        "seconds": seconds,
        "evaluations": counted.evaluations + (0 if guide is None else guide.evaluations),
        "kept": _psnr(error[keep & inside_area(placement)]),
        "hidden": _psnr(error[~keep]),
        "tell": float("nan") if tell is None else tell,
    }
    grey = ((np.clip(new, -1, 1).mean(axis=0) + 1) * 127.5).round().astype(np.uint8)
    return Made(grey, measures)


def _guide(resolved: ResolvedSpec, prior: LatentPrior) -> Counted | None:
    wanted = resolved.guidance_vae
    return None if wanted is None else Counted(_kept(Path(wanted.name), str(prior.device)))


@lru_cache(maxsize=1)
def _kept(folder: Path, device: str) -> Autoencoder:
    return load_autoencoder(folder, device)


def _otherwise(
    prior: Counted,
    resolved: ResolvedSpec,
    x: NDArray[np.float32],
    keep: NDArray[np.bool_],
    seed: int,
    other: Mapping[str, Any],
) -> NDArray[np.float32]:
    """By one of `comparisons.RECIPES`; of the pipeline, evaluations are of the denoiser alone."""
    chosen = {key: value for key, value in other.items() if key != "recipe"}
    if other["recipe"] == "sdedit":
        return comparisons.sdedit(prior, x, seed, steps=resolved.steps, **chosen)
    said = resolved.conditioning
    told = said.model_dump() if said else {"prompt": "", "negative": "", "scale": 1.0}
    hook = prior._unet.register_forward_hook(lambda *_: setattr(prior, "evaluations", prior.evaluations + 1))
    try:
        return comparisons.inpaint_pipeline(prior, x, keep, seed, steps=resolved.steps, told=told, **chosen)
    finally:
        hook.remove()


def _psnr(squared: NDArray[np.float32]) -> float:
    return float(10 * np.log10(4 / squared.mean()))


def _real(chosen: Sequence[Source], prior: LatentPrior, long_side: int | None) -> NDArray[np.float32]:
    resolved = _resolved({}, prior, long_side)
    places = [images.place(*s.original.size, resolved.long_side, resolved.multiple) for s in chosen]
    canvases = [images.to_canvas(s.original, p, 255).mean(axis=0) for s, p in zip(chosen, places, strict=True)]
    return np.stack(canvases)


def _print(made: Mapping[str, list[list[Made]]], real: NDArray[np.float32]) -> None:
    grey = {name: _grey(rows) for name, rows in made.items()}
    flat = [features(each.reshape(-1, *each.shape[-2:])) for each in grey.values()]
    real_features, *sets = standardised(features(real), *flat)
    found = {
        name: contributions(real_features, each.reshape(len(real), -1, each.shape[-1]))
        for name, each in zip(made, sets, strict=True)
    }
    first = next(iter(found.values()))
    print(
        "\nrun                s/image  evaluations  kept dB  hidden dB  spread  tell   distance to real (- first, 95 %)"
    )
    for name, rows in made.items():
        said = [f"{np.mean(_values(rows, key)):{form}}" for key, form in _COLUMNS]
        spread = float(grey[name].std(axis=1).mean()) if len(rows[0]) > 1 else float("nan")
        tell = float(np.nanmedian(_values(rows, "tell")))
        low, high = interval(found[name], first)
        print(
            f"{name:18} {said[0]}  {said[1]}  {said[2]}  {said[3]}  {spread:6.3f}  {tell:5.2f}  "
            f"{distance(found[name]):8.4f} ({low:+.4f} to {high:+.4f})"
        )


_COLUMNS = (("seconds", "7.1f"), ("evaluations", "11.0f"), ("kept", "7.2f"), ("hidden", "9.2f"))


def _values(rows: Sequence[Sequence[Made]], key: str) -> list[float]:
    return [made.measures[key] for row in rows for made in row]


def _grey(rows: Sequence[Sequence[Made]]) -> NDArray[np.float32]:
    """(images, variants, H, W) in [-1, 1]."""
    pictures = np.stack([np.stack([made.x for made in row]) for row in rows])
    return (pictures.astype(np.float32) / 127.5) - 1


def _draw(
    path: Path, chosen: Sequence[Source], made: Mapping[str, list[list[Made]]], prior: LatentPrior, side: int | None
) -> None:
    """Original, what is kept of it, and the first variant of each run; one row an image."""
    rows = [np.hstack(list(_row(index, chosen, made, prior, side))) for index in range(min(_GRID, len(chosen)))]
    Image.fromarray(np.vstack(rows)).save(path)
    print(f"\n{path}: original, kept, {', '.join(made)}")


def _row(
    index: int, chosen: Sequence[Source], made: Mapping[str, list[list[Made]]], prior: LatentPrior, side: int | None
) -> Iterator[NDArray[np.uint8]]:
    source, resolved = chosen[index], _resolved({}, prior, side)
    seed = item_seed(0, source.sha256, 1)
    keep, placement = plan.keep_mask(resolved, source.labels, *source.original.size, seed)
    grey = ((images.to_canvas(source.original, placement, 255).mean(axis=0) + 1) * 127.5).round().astype(np.uint8)
    yield grey
    yield np.where(keep, grey, 90).astype(np.uint8)
    for rows in made.values():
        yield rows[index][0].x


if __name__ == "__main__":
    main()
