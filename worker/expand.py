"""Claimed items become stored images: the one file that knows both rows and tensors."""

import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy.exc import SQLAlchemyError

from shared import items, logs, plan
from shared.items import Work
from shared.masks import inside_area
from shared.sources import uploaded_mask
from shared.spec import ResolvedSpec, footprint_key
from shared.storage import source_key
from worker.blame import Refused, Stopped, out_of_memory, short_of_memory
from worker.memory import left
from worker.overlap import Overlap
from worker.priors.cache import TooLarge
from worker.priors.files import BadPrior
from worker.priors.text import BadPrompt
from worker.psld.prior import Autoencoder, LatentPrior
from worker.recipe import regrow, told
from worker.settle import fate, settle
from worker.sketch import Sketch, draw
from worker.studio import Studio

log = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]


def expand_next(studio: Studio, overlap: Overlap, wake: Callable[[], None]) -> int:
    """Claim one batch and sample it; returns how many items were claimed.

    They are settled in the thread of `overlap`, while the next batch is sampled. There, too, `wake` is called if more
    items wait, while these are sampled, so that other workers do not wait for this one. Raises what settling the batch
    before has raised.
    """
    if studio.stop():
        return 0
    overlap.make_room()
    with studio.sessions.read() as session:
        folders = studio.folders(session)
    with studio.rest.kept_off() as worked:
        works = _claim(studio, folders)
        if not works and overlap.drain():
            # What was being settled may have failed, and is to be tried again.
            works = _claim(studio, folders)
        if not works:
            return 0
        worked()
        with logs.about(**works[0].ids):
            return _expand(studio, overlap, wake, works, folders)


def _expand(
    studio: Studio, overlap: Overlap, wake: Callable[[], None], works: Sequence[Work], folders: Mapping[str, Path]
) -> int:
    batch = overlap.begin(studio, works)
    overlap.hand_over(partial(_wake_others, studio, wake))

    def on_step(done: int, steps: int) -> None:
        batch.pace.note(done, steps)
        if batch.lost or overlap.failed or studio.stop():
            raise Stopped

    suspect = works[0].suspect
    try:
        if suspect:
            overlap.drain()
        _make(studio, overlap, works, folders, on_step)
    except Stopped:
        log.info("stopped at step %d; %d items go back", batch.pace.step, len(works))
    except torch.AcceleratorError:
        # Nothing more can be done on the device in this process; a new one will be started. What it held lapses, so
        # that an item that does this every time is found out. What was sampled before is sound.
        log.critical("the device failed; this process ends", exc_info=True)
        overlap.last_word()
        os._exit(1)
    overlap.end(batch)
    if suspect:
        overlap.drain()
    return len(works)


def _wake_others(studio: Studio, wake: Callable[[], None]) -> None:
    with studio.sessions.read() as session:
        more = items.waiting(session)
    if more:
        wake()


def _claim(studio: Studio, folders: Mapping[str, Path]) -> Sequence[Work]:
    warm = studio.priors.loaded(str(studio.device))
    loaded = [sha256 for sha256, folder in folders.items() if folder in warm]
    most, lease = studio.batches.most, studio.settings.lease_seconds
    fits = studio.batches.limit if most > 1 else None
    with studio.sessions.write() as session:
        return items.claim(session, studio.name, most, lease, priors=folders.keys(), warm=loaded, fits=fits)


def _make(
    studio: Studio, overlap: Overlap, works: Sequence[Work], folders: Mapping[str, Path], on_step: OnStep
) -> None:
    sketches = []
    for work in works:
        with fate(studio, work):
            sketch = _sketch(studio, work)
            if sketch.is_copied:
                overlap.hand_over(partial(settle, studio, [sketch], [sketch.x], 0))
            else:
                sketches.append(sketch)
    if not sketches:
        return
    brushes = _brushes(studio, sketches, folders)
    if brushes is not None:
        # Asked again, now that the prior is loaded.
        most = studio.batches.limit(sketches[0].work.resolved, sketches[0].work.batch)
        for group in _batches(sketches, most):
            _paint(studio, overlap, brushes, group, on_step)


@dataclass(frozen=True)
class Brushes:
    """What a batch is painted with: its prior under its prompt, and the autoencoder along the walk, if another."""

    prior: LatentPrior
    guide: Autoencoder | None
    folders: Collection[Path]
    """Where both lie."""


def _brushes(studio: Studio, sketches: Sequence[Sketch], folders: Mapping[str, Path]) -> Brushes | None:
    """Load them; None where that failed by a fault of theirs, which is then that of every item."""
    resolved, device = sketches[0].work.resolved, str(studio.device)
    folder, refusal = folders[resolved.prior_sha256], None
    beside = folders[resolved.guidance_vae.sha256] if resolved.guidance_vae else None
    try:
        prior = told(studio.priors.get(folder, device), resolved)
        guide = studio.priors.autoencoder(beside, device, beside=folder) if beside else None
        brushes = Brushes(prior, guide, [each for each in (folder, beside) if each])
        refusal = _no_room(studio, brushes, resolved)
        if refusal is None:
            return brushes
    except TooLarge as error:
        studio.meter.too_large(resolved.prior_sha256, 0)
        what = f"The prior {resolved.prior} does not fit the memory of {device}: {error}."
        refusal = Refused("prior_too_large", what)
    except BadPrior as error:
        if not folder.is_dir():
            # Outside every item's fate: a folder that is away is this worker's trouble, not theirs.
            raise
        refusal = Refused("bad_prior", str(error))
    except BadPrompt as error:
        refusal = Refused("bad_prompt", str(error))
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.AcceleratorError) or not out_of_memory(error):
            raise
        what = f"The prior {resolved.prior} does not fit the memory of {device}{left(studio.memory)}."
        refusal = Refused("prior_too_large", what)
    for sketch in sketches:
        with fate(studio, sketch.work):
            raise refusal
    return None


def _no_room(studio: Studio, brushes: Brushes, resolved: ResolvedSpec) -> Refused | None:
    """Why nothing should be sampled: one image would take more than the device has for it, whatever else was let go.
    On a CPU the system would end the process without a word. What would fit is noted for jobs to come."""
    total, reserve = studio.memory.total(), studio.settings.gpu_reserve_bytes
    if total == sys.maxsize:
        return None
    foreseen = studio.foresight.of(brushes.prior, resolved, brushes.guide)
    if foreseen is None:
        return None
    room = max(0, total - reserve - studio.priors.weighs(brushes.folders))
    largest, needed = foreseen.largest(room, brushes.prior.multiple), foreseen.takes(resolved.long_side)
    studio.meter.largest(footprint_key(resolved), largest)
    if needed <= room:
        return None
    what = (
        f"One image of {resolved.long_side} px with the prior {resolved.prior} does not fit the memory of "
        f"{studio.device}: it takes {needed:,} bytes or more, and {room:,} of {total:,} bytes are there for it beside "
        "the prior and what is left to others. "
    )
    advice = f"The largest that fits is {largest} px: choose a smaller canvas.long_side." if largest else "None fits."
    return Refused(short_of_memory(studio.device), what + advice)


def _batches(sketches: Sequence[Sketch], most: int) -> list[Sequence[Sketch]]:
    """What is sampled together: all canvases of a job are of one size. With the authors' norm over a whole batch each
    is alone."""
    size = 1 if sketches[0].work.resolved.reference else most
    return [sketches[at : at + size] for at in range(0, len(sketches), size)]


def _sketch(studio: Studio, work: Work) -> Sketch:
    resolved = work.resolved
    data = studio.storage.read(source_key(work.source_sha256))
    sketch = draw(work, data, uploaded_mask(studio.storage, resolved, work.mask_sha256, work.path))
    if sketch.keep is not None and (kind := plan.useless(sketch.keep, sketch.placement)) and not sketch.is_copied:
        raise Refused(kind, plan.USELESS[kind])
    return sketch


def _paint(studio: Studio, overlap: Overlap, brushes: Brushes, sketches: Sequence[Sketch], on_step: OnStep) -> None:
    """Sample a batch and hand it over to be settled.

    One that does not fit the memory is halved; one that raises otherwise is painted one by one, to see whose fault
    it is.
    """
    started = time.perf_counter()
    counted = _counted(studio, len(sketches), on_step)
    if len(sketches) == 1:
        with fate(studio, sketches[0].work):
            xs = _sampled(studio, brushes, sketches, counted)
            overlap.hand_over(partial(settle, studio, sketches, xs, time.perf_counter() - started))
        return
    part = 0
    try:
        xs = _sampled(studio, brushes, sketches, counted)
    except (Stopped, SQLAlchemyError, torch.AcceleratorError):
        raise
    except Exception as error:
        full = out_of_memory(error)
        part = len(sketches) // 2 if full else 1
        log.warning("a batch of %d is made %d by %d", len(sketches), part, part, exc_info=not full)
        if full:
            studio.batches.halve(sketches[0].work.resolved, len(sketches))
    if part:
        # Not in the handler: there the traceback would still hold the batch's tensors.
        studio.memory.reclaim()
        for start in range(0, len(sketches), part):
            _paint(studio, overlap, brushes, sketches[start : start + part], on_step)
        return
    overlap.hand_over(partial(settle, studio, sketches, xs, (time.perf_counter() - started) / len(sketches)))


def _counted(studio: Studio, images: int, on_step: OnStep) -> OnStep:
    """The same, and each step of so many images counts in the worker's figures."""
    last = 0

    def on_counted(done: int, steps: int) -> None:
        nonlocal last
        if done > last:
            studio.meter.step(images * (done - last))
        last = done
        on_step(done, steps)

    return on_counted


def _sampled(studio: Studio, brushes: Brushes, sketches: Sequence[Sketch], on_step: OnStep) -> np.ndarray[Any, Any]:
    """Sample, and note what memory that took; once more, where it was too little while other priors lay in it."""
    studio.memory.watch()
    try:
        xs = _sample(brushes, sketches, on_step)
    except Exception as error:
        if not (out_of_memory(error) and studio.priors.keep(brushes.folders)):
            raise
        log.info("other priors make room for %s", sketches[0].work.resolved.prior)
    else:
        studio.batches.took(sketches[0].work.resolved, len(sketches), studio.memory.taken())
        return xs
    # Not in the handler, as below.
    studio.memory.reclaim()
    return _sample(brushes, sketches, on_step)


def _sample(brushes: Brushes, sketches: Sequence[Sketch], on_step: OnStep) -> np.ndarray[Any, Any]:
    resolved = sketches[0].work.resolved
    on_step(0, resolved.steps)
    masks = [sketch.keep for sketch in sketches if sketch.keep is not None]
    return regrow(
        brushes.prior,
        resolved,
        np.stack([sketch.x for sketch in sketches]),
        np.stack(masks) if masks else None,
        [sketch.work.seed for sketch in sketches],
        on_step,
        brushes.guide,
        inside=np.stack([inside_area(sketch.placement) for sketch in sketches]),
    )
