"""Claimed items become stored images: the one file that knows both rows and tensors."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy.exc import SQLAlchemyError

from shared import images, items, plan
from shared.db import Sessions
from shared.errors import RegrowError
from shared.items import Result, Work
from shared.plan import Labels
from shared.settings import Settings
from shared.sources import uploaded_mask
from shared.storage import Folder, result_key, sha256, source_key
from worker.priors.cache import PriorCache
from worker.psld.prior import LatentPrior
from worker.psld.sampler import NumericalFault
from worker.recipe import regrow
from worker.renewal import Pace, Renewal
from worker.sketch import Sketch, of_the_canvas, of_the_file

log = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]

_STORAGE_AWAY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO}

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}


class Stopped(Exception):
    """The batch is given up between two steps: its items go back unharmed."""


class Refused(Exception):
    """The item can never succeed; `kind` and `detail` are what its owner reads."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Batches:
    """How many items are sampled at once: as many as were asked for, until that proves too many for the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def halve(self, tried: int) -> None:
        self.limit = min(self.limit, max(1, tried // 2))


@dataclass(frozen=True)
class Studio:
    """What a gpu worker's process has at hand."""

    settings: Settings
    sessions: Sessions
    storage: Folder
    name: str
    device: torch.device
    batches: Batches
    priors: PriorCache
    prior_folders: dict[str, tuple[Path, str]]
    """Folder and hash of each installed prior, by name."""
    made_by: dict[str, Any]
    stop: Callable[[], bool]
    """Asked between steps: is this process to end, because nobody waits for it any more?"""


def expand_next(studio: Studio, wake: Callable[[], None]) -> int:
    """Claim one batch and make its images; returns how many items were claimed.

    `wake` is called before sampling if more items wait, so that other workers do not wait for this one.
    """
    if studio.stop():
        return 0
    hashes = dict(studio.prior_folders.values())
    loaded = {hashes[folder] for folder in studio.priors.loaded(str(studio.device)) if folder in hashes}
    lease = studio.settings.lease_seconds
    with studio.sessions.write() as session:
        batch = items.claim(session, studio.name, studio.batches.limit, lease, priors=hashes.values(), warm=loaded)
    if not batch:
        return 0
    token = batch[0].token
    try:
        # From here on: being told to end (SystemExit) may come at any moment, while others are woken too.
        with studio.sessions.read() as session:
            more = items.waiting(session)
        if more:
            wake()
        _hold(studio, batch, token)
    finally:
        # Whatever is still ours goes back, on SIGTERM (SystemExit) and after an error nobody foresaw too.
        with studio.sessions.write() as session:
            items.hand_back(session, token)
    return len(batch)


def _hold(studio: Studio, batch: Sequence[Work], token: str) -> None:
    """Make a batch, its lease renewed meanwhile."""
    pace = Pace(studio.settings.hang_seconds)

    def renew() -> bool:
        if pace.hangs():
            log.critical("no step has ended for %.0f s after step %d; the batch is let go", pace.waited(), pace.step)
            if pace.sampling:
                # A call that does not return cannot be broken off, and would keep the device for good: the process
                # ends, Celery starts another, and what it held lapses.
                os._exit(1)
            return False
        with studio.sessions.write() as session:
            return items.renew(session, token, pace.step, studio.settings.lease_seconds)

    with Renewal(renew, studio.settings.renew_seconds) as renewal:

        def on_step(done: int, steps: int) -> None:
            pace.note(done, steps)
            if renewal.lost or studio.stop():
                raise Stopped

        try:
            _make(studio, batch, on_step)
        except Stopped:
            log.info("stopped at step %d; %d items go back", pace.step, len(batch))
        except torch.AcceleratorError:
            # Nothing more can be done on the device in this process; a new one will be started. What it held lapses,
            # so that an item that does this every time is found out.
            log.critical("the device failed; this process ends", exc_info=True)
            os._exit(1)


def _make(studio: Studio, batch: Sequence[Work], on_step: OnStep) -> None:
    sketches = []
    for work in batch:
        with _fate(studio, work):
            sketch = _sketch(studio, work)
            if sketch.is_copied:
                _settle(studio, sketch, sketch.x, 0, 1)
            else:
                sketches.append(sketch)
    if not sketches:
        return
    # Outside every item's fate: a prior that cannot be loaded is this worker's trouble, not theirs.
    wanted = batch[0].resolved.prior_sha256
    folder = next(folder for folder, sha256 in studio.prior_folders.values() if sha256 == wanted)
    prior = studio.priors.get(folder, str(studio.device))
    for group in _batches(sketches):
        _paint(studio, prior, group, on_step)


def _batches(sketches: Sequence[Sketch]) -> list[list[Sketch]]:
    """What is sampled together: canvases of one size, and with the authors' norm over a whole batch each alone."""
    if sketches[0].work.resolved.reference:
        return [[sketch] for sketch in sketches]
    return [list(group) for _, group in groupby(sketches, key=lambda sketch: sketch.x.shape)]


@contextmanager
def _fate(studio: Studio, work: Work) -> Iterator[None]:
    """Whatever the item itself raises ends in its row and goes no further; what is not its doing passes through."""
    try:
        yield
    except (Stopped, SQLAlchemyError):
        raise
    except Refused as refusal:
        _fail(studio, work, refusal.kind, refusal.detail, final=True)
    except RegrowError as error:
        _fail(studio, work, error.slug, error.detail, final=True)
    except NumericalFault as fault:
        resolved = work.resolved
        detail = f"{fault} (preset {resolved.preset}, gamma {resolved.gamma}, omega {resolved.omega})"
        _fail(studio, work, "numerical_fault", detail, final=True)
    except OSError as error:
        # A full disk or a share that is away: no fault of the item's, so no attempt of its is spent.
        if error.errno in _STORAGE_AWAY or not studio.storage.there():
            raise
        _fail(studio, work, "storage", f"{error.strerror or error}: {error.filename}", final=False)
    except torch.AcceleratorError:
        # The device no longer answers this process, whoever is at fault. See `expand_next`.
        raise
    except Exception as error:
        if _out_of_memory(error):
            kind = "out_of_memory" if studio.device.type == "cpu" else "gpu_out_of_memory"
            size = work.resolved.long_side
            detail = f"One image of {size} px does not fit the memory. Choose a smaller canvas.long_side."
            _fail(studio, work, kind, detail, final=True)
            return
        log.exception("item %d of job %s", work.item_id, work.job_id)
        _fail(studio, work, "unexpected", f"{type(error).__name__}: {error}", final=False)


def _sketch(studio: Studio, work: Work) -> Sketch:
    resolved = work.resolved
    data = studio.storage.read(source_key(work.source_sha256))
    original = images.open_image(data, work.path, upright=work.upright)
    labels = Labels(work.boxes, work.outlines)
    if resolved.mask is None:
        keep, placement = None, images.place(original.width, original.height, resolved.long_side, resolved.multiple)
    else:
        uploaded = uploaded_mask(studio.storage, resolved, work.mask_sha256, work.path)
        keep, placement = plan.keep_mask(resolved, labels, original.width, original.height, work.seed, uploaded)
    sketch = Sketch(work, original, placement, labels, keep, images.to_canvas(original, placement, work.white))
    if keep is not None and (kind := plan.useless(keep, placement)) and not sketch.is_copied:
        raise Refused(kind, plan.USELESS[kind])
    return sketch


def _paint(studio: Studio, prior: LatentPrior, sketches: Sequence[Sketch], on_step: OnStep) -> None:
    """Sample a batch of one canvas size and settle it.

    One that does not fit the memory is halved; one that raises otherwise is painted one by one, to see whose fault
    it is.
    """
    started = time.perf_counter()
    if len(sketches) == 1:
        with _fate(studio, sketches[0].work):
            (x,) = _sample(prior, sketches, on_step)
            _settle(studio, sketches[0], x, time.perf_counter() - started, 1)
        return
    part = 0
    try:
        xs = _sample(prior, sketches, on_step)
    except (Stopped, SQLAlchemyError, torch.AcceleratorError):
        raise
    except Exception as error:
        full = _out_of_memory(error)
        part = len(sketches) // 2 if full else 1
        log.warning("a batch of %d is made %d by %d", len(sketches), part, part, exc_info=not full)
        if full:
            studio.batches.halve(len(sketches))
    if part:
        # Not in the handler: there the traceback would still hold the batch's tensors.
        if studio.device.type == "cuda":
            torch.cuda.empty_cache()
        for start in range(0, len(sketches), part):
            _paint(studio, prior, sketches[start : start + part], on_step)
        return
    seconds = (time.perf_counter() - started) / len(sketches)
    for x, sketch in zip(xs, sketches, strict=True):
        with _fate(studio, sketch.work):
            _settle(studio, sketch, x, seconds, len(sketches))


def _sample(prior: LatentPrior, sketches: Sequence[Sketch], on_step: OnStep) -> np.ndarray[Any, Any]:
    resolved = sketches[0].work.resolved
    on_step(0, resolved.steps)
    masks = [sketch.keep for sketch in sketches if sketch.keep is not None]
    return regrow(
        prior,
        resolved,
        np.stack([sketch.x for sketch in sketches]),
        np.stack(masks) if masks else None,
        [sketch.work.seed for sketch in sketches],
        on_step,
    )


def _settle(
    studio: Studio, sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]], seconds: float, batch: int
) -> None:
    work, resolved = sketch.work, sketch.work.resolved
    if sketch.is_copied:
        image = sketch.original
    else:
        image = plan.blend(
            x, sketch.keep, sketch.placement, sketch.original, sketch.labels, resolved, work.white, seed=work.seed
        )
    image_format = (
        (sketch.original.format or "PNG") if resolved.image_format == "same" else resolved.image_format.upper()
    )
    data = images.encode(image, image_format)
    key = result_key(work.job_id, work.item_id, work.token, EXTENSIONS[image_format])
    studio.storage.write(key, data)
    measures = of_the_canvas(sketch, x) | of_the_file(sketch, data)
    made_by = {**studio.made_by, "prior_sha256": resolved.prior_sha256, "batch": batch}
    result = Result(key, sha256(data), round(seconds, 3), measures, made_by)
    with studio.sessions.write() as session:
        settled = items.settle(session, work, result)
    if not settled:
        # Another worker has the item now: its image stays, this one goes.
        studio.storage.delete(key)


def _out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, had no memory left. For a CPU's, torch has no error of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def _fail(studio: Studio, work: Work, kind: str, detail: str, *, final: bool) -> None:
    log.warning("item %d of job %s: %s: %s", work.item_id, work.job_id, kind, detail)
    with studio.sessions.write() as session:
        items.fail(session, work, kind, detail, final=final)
