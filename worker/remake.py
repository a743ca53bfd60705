"""Images of an archive are made again and compared.

No service is needed: seed, settings and hashes are in the manifest, labels and originals in the archive. What it does
not hold (`--no-originals`) is looked for in a folder, under its hash.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from shared import images
from shared.errors import RegrowError
from shared.formats import read
from shared.formats.samples import Sample
from shared.formats.zips import SafeZip
from shared.items import Work
from shared.masks import inside_area
from shared.spec import ResolvedSpec, work_key
from shared.storage import sha256
from worker.priors.cache import PriorCache, TooLarge
from worker.priors.files import BadPrior
from worker.priors.text import BadPrompt
from worker.psld.sampler import NumericalFault
from worker.recipe import regrow, told
from worker.sketch import draw, finished

MANIFEST = "manifest.jsonl"
TOLERANCE = 1.0
"""Root mean square, in grey levels of 255, up to which two images count as the same but for rounding."""


class Verdict(StrEnum):
    """What became of making an image again."""

    EQUAL = "equal"
    WITHIN = "within tolerance"
    DIFFERENT = "different"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one image. `rms` and `largest` are differences in grey levels of 255; `why` has a sentence for each thing that
    is not as it was then, also where nothing came of it."""

    file: str
    item: int | None
    verdict: Verdict
    rms: float | None
    largest: float | None
    why: tuple[str, ...]


class Impossible(Exception):
    """It cannot be made again, and the message says why."""


@dataclass(frozen=True)
class Here:
    """This machine: what images are made with, and how a prior is had."""

    made_by: Mapping[str, Any]
    find: Callable[[str], tuple[Path, str]]
    """Folder and hash of the prior of a name; raises Impossible."""
    priors: Callable[[str], PriorCache]
    """Those that compute in a precision, which is named as in the manifest; raises Impossible."""
    device: str


class Verifier:
    """An archive that is looked into; `originals` is a folder of what it does not hold."""

    def __init__(self, archive: SafeZip, here: Here, originals: Path | None = None) -> None:
        self._archive = archive
        self._here = here
        self._originals = originals
        self._samples: dict[str, Sample] = {sample.image: sample for sample in read(archive).samples}
        self._unhashed = [sample.member for sample in self._samples.values()]
        self._hashes: dict[str, str] = {}

    def rows(self) -> list[dict[str, Any]]:
        """The lines of the manifest."""
        return [json.loads(line) for line in self._archive.read(MANIFEST).splitlines()]

    def verify(self, row: Mapping[str, Any]) -> Finding:
        """Make the image of a line again."""
        said: list[str] = []
        try:
            stored = self._stored(row, said)
            made = self._make(row, said)
        except (Impossible, RegrowError, BadPrior, BadPrompt, NumericalFault, TooLarge) as error:
            return _impossible(row, *said, str(error))
        except KeyError as error:
            return _impossible(row, *said, f"its line of the manifest has no {error}")
        why = [*said, *changes(row, self._here.made_by)]
        if made == stored:
            return Finding(row["file"], row.get("item"), Verdict.EQUAL, 0.0, 0.0, tuple(why))
        rms, largest = compare(made, stored, row["file"])
        # A file that was changed afterwards is another, however little of it was.
        close = rms <= TOLERANCE and sha256(stored) == row["sha256"]
        why = why or ["nothing that the manifest tells is other than it was"]
        verdict = Verdict.WITHIN if close else Verdict.DIFFERENT
        return Finding(row["file"], row.get("item"), verdict, round(rms, 4), round(largest, 4), tuple(why))

    def _stored(self, row: Mapping[str, Any], said: list[str]) -> bytes:
        try:
            data = self._archive.read(row["file"])
        except KeyError:
            raise Impossible("the image is not in the archive") from None
        if sha256(data) != row["sha256"]:
            said.append("the image in the archive was changed: its hash is not the manifest's")
        return data

    def _make(self, row: Mapping[str, Any], said: list[str]) -> bytes:
        try:
            resolved = ResolvedSpec.model_validate(row["settings"])
        except ValidationError as error:
            what = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            raise Impossible(f"its settings are of a Regrow that this one does not understand: {what}") from None
        folder = self._found("prior", resolved.prior, resolved.prior_sha256, said)
        wanted = resolved.guidance_vae
        beside = self._found("autoencoder", wanted.name, wanted.sha256, said) if wanted else None
        if resolved.mask is not None and resolved.mask.kind == "uploaded":
            raise Impossible("its mask image was uploaded, and is not in the archive")
        work, original = self._work(row, resolved, said)
        torch.set_num_threads(int(row["made_by"].get("threads") or 1))
        sketch = draw(work, original, None)
        if sketch.is_copied:
            return finished(sketch, sketch.x)[0]
        keep = None if sketch.keep is None else sketch.keep[None]
        priors, device = self._here.priors(str(row["made_by"].get("dtype", "float32"))), self._here.device
        prior = told(priors.get(folder, device), resolved)
        guide = priors.autoencoder(beside, device, beside=folder) if beside else None
        inside = inside_area(sketch.placement)[None]
        (x,) = regrow(prior, resolved, sketch.x[None], keep, [work.seed], _unwatched, guide, inside=inside)
        return finished(sketch, x)[0]

    def _found(self, what: str, name: str, sha256: str, said: list[str]) -> Path:
        folder, here = self._here.find(name)
        if here != sha256:
            said.append(f"the {what} {name!r} is another: {here[:12]} here, {sha256[:12]} then")
        return folder

    def _work(self, row: Mapping[str, Any], resolved: ResolvedSpec, said: list[str]) -> tuple[Work, bytes]:
        """What the item was made of, and its original's bytes."""
        original = self._original(row)
        sample = self._samples.get(row["source"]) or self._samples.get(row["file"])
        if sample is None:
            raise Impossible("the archive has no labels of it")
        labels = sha256(sample.identity or sample.label_bytes or b"")
        if labels != row["label_sha256"]:
            said.append("its labels are not byte for byte those it was made with")
        upright, white = self._reading(row, resolved, original, said)
        outlines = tuple(box.outline for box in sample.boxes)
        work = Work(
            item_id=0,
            job_id="",
            dataset_id="",
            token="",
            variant=row["variant"],
            seed=row["seed"],
            path=row["source"],
            source_sha256=row["source_sha256"],
            white=white,
            boxes=tuple((box.class_index, box.x0, box.y0, box.x1, box.y1) for box in sample.boxes),
            outlines=outlines if any(outlines) else (),
            mask_sha256=None,
            upright=upright,
            resolved=resolved,
            suspect=False,
            owner="",
            request_id=None,
        )
        return work, original

    def _original(self, row: Mapping[str, Any]) -> bytes:
        wanted: str = row["source_sha256"]
        if row["source"] in self._samples:
            data = self._archive.read(self._samples[row["source"]].member)
            if sha256(data) != wanted:
                raise Impossible("its original was changed: the hash is not the manifest's")
            return data
        if self._originals and (self._originals / wanted).is_file():
            return (self._originals / wanted).read_bytes()
        if (found := self._by_hash(wanted)) is not None:
            return found
        raise Impossible("its original is not in the archive: name the server that has the job with --server")

    def _by_hash(self, wanted: str) -> bytes | None:
        """An image of the archive by its hash: in one that was converted, originals lie elsewhere than they did."""
        while wanted not in self._hashes and self._unhashed:
            member = self._unhashed.pop()
            self._hashes[sha256(self._archive.read(member))] = member
        return self._archive.read(self._hashes[wanted]) if wanted in self._hashes else None

    def _reading(
        self, row: Mapping[str, Any], resolved: ResolvedSpec, original: bytes, said: list[str]
    ) -> tuple[bool, int]:
        """Whether EXIF turned the original, and what was white in it. The manifest says it by the work key alone."""
        deep = images.open_image(original, row["source"]).mode == "I;16"
        whites = [(1 << bits) - 1 for bits in range(16, 0, -1)] if deep else [255]
        for upright in (True, False):
            for white in whites:
                named = {name: row[name] for name in ("source_sha256", "label_sha256", "variant", "seed")}
                if work_key(resolved, **named, upright=upright, white=white) == row["work_key"]:
                    return upright, white
        said.append("its work key is of another version, so that its settings cannot be checked by it")
        return True, whites[0]


def _impossible(row: Mapping[str, Any], *why: str) -> Finding:
    return Finding(str(row.get("file")), row.get("item"), Verdict.IMPOSSIBLE, None, None, why)


def _unwatched(_done: int, _steps: int) -> None:
    """Nobody is told of a step."""


def compare(made: bytes, stored: bytes, name: str) -> tuple[float, float]:
    """Root mean square and largest difference of two images, in grey levels of 255; infinite if their sizes differ."""
    try:
        new, old = (np.asarray(images.open_image(data, name), dtype=np.float64) for data in (made, stored))
    except RegrowError:
        return float("inf"), float("inf")
    if new.shape != old.shape:
        return float("inf"), float("inf")
    scale = 255 / 65535 if max(new.max(), old.max()) > 255 else 1.0
    difference = np.abs(new - old) * scale
    return float(np.sqrt((difference**2).mean())), float(difference.max())


def changes(row: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What an image was made with that is not so here; a batch is one here, and the precision that of then."""
    then = {"engine": row["settings"]["engine"], **row["made_by"]}
    names = ("engine", "regrow", "torch", "diffusers", "device", "compiled", "batch")
    return [
        f"{name}: {then[name]} then, {here[name]} here"
        for name in names
        if name in then and str(then[name]) != str(here[name])
    ]
