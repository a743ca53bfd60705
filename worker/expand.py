"""Claimed items become stored images: the one file that knows both rows and tensors."""

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from shared import images, jobs
from shared.db import Sessions
from shared.errors import RegrowError
from shared.jobs import Result, Work
from shared.masks import Area, inside_area, share_hidden
from shared.plan import blend, keep_mask
from shared.settings import Settings
from shared.spec import ENGINE_VERSION, Inpaint
from shared.storage import Folder, result_key, sha256, source_key
from worker.priors.cache import PriorCache
from worker.psld.prior import LatentPrior
from worker.psld.sampler import NumericalFault
from worker.recipe import measured, regrow
from worker.renewal import Pace, Renewal

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


@dataclass(frozen=True)
class Studio:
    """What a gpu worker's process has at hand."""

    settings: Settings
    sessions: Sessions
    storage: Folder
    name: str
    device: torch.device
    priors: PriorCache
    prior_folders: dict[str, tuple[Path, str]]
    """Folder and hash of each installed prior, by name."""
    made_by: dict[str, Any]
    stop: Callable[[], bool]
    """Asked between steps: is this process to end, because nobody waits for it any more?"""


@dataclass(frozen=True)
class Sketch:
    """An item ready to be sampled."""

    work: Work
    original: Image.Image
    placement: images.Placement
    keep: Area | None
    """None where the operator hides no pixels."""
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def expand_next(studio: Studio, wake: Callable[[], None]) -> int:
    """Claim one batch and make its images; returns how many items were claimed.

    `wake` is called before sampling if more items wait, so that other workers do not wait for this one.
    """
    if studio.stop():
        return 0
    limit = 1 if studio.device.type == "cpu" else studio.settings.batch or 2
    with studio.sessions.write() as session:
        batch = jobs.claim(session, studio.name, limit, studio.settings.lease_seconds)
    if not batch:
        return 0
    with studio.sessions.read() as session:
        more = jobs.waiting(session)
    if more:
        wake()
    token, pace = batch[0].token, Pace()

    def renew() -> bool:
        if pace.hangs():
            log.error("no step has ended for %.0f s after step %d; the batch is let go", pace.waited(), pace.step)
            return False
        with studio.sessions.write() as session:
            return jobs.renew(session, token, pace.step, studio.settings.lease_seconds)

    with Renewal(renew, studio.settings.renew_seconds) as renewal:

        def on_step(done: int, _steps: int) -> None:
            pace.note(done)
            if renewal.lost or studio.stop():
                raise Stopped

        try:
            _make(studio, batch, on_step)
        except Stopped:
            log.info("stopped at step %d; %d items go back", pace.step, len(batch))
        finally:
            # Whatever is still ours goes back, on SIGTERM (SystemExit) and after an error nobody foresaw too.
            with studio.sessions.write() as session:
                jobs.hand_back(session, token)
    return len(batch)


def _make(studio: Studio, batch: Sequence[Work], on_step: OnStep) -> None:
    sketches = []
    for work in batch:
        with _fate(studio, work):
            sketches.append(_sketch(studio, work))
    if not sketches:
        return
    # Outside every item's fate: a prior that cannot be loaded is this worker's trouble, not theirs.
    folder, _ = studio.prior_folders[batch[0].resolved.prior]
    prior = studio.priors.get(folder, str(studio.device))
    on_step(0, 0)
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
    except Exception as error:
        log.exception("item %d of job %s", work.item_id, work.job_id)
        _fail(studio, work, "unexpected", f"{type(error).__name__}: {error}", final=False)


def _sketch(studio: Studio, work: Work) -> Sketch:
    resolved = work.resolved
    _, prior_sha256 = studio.prior_folders.get(resolved.prior, (None, None))
    if prior_sha256 != resolved.prior_sha256 or resolved.engine != ENGINE_VERSION:
        raise Refused(
            "changed",
            f"The job was made for engine {resolved.engine} and prior {resolved.prior} {resolved.prior_sha256[:12]}; "
            f"this worker has engine {ENGINE_VERSION} and {(prior_sha256 or 'no such prior')[:13]}. Make it again.",
        )
    original = images.open_image(studio.storage.read(source_key(work.source_sha256)), work.path)
    if not isinstance(resolved.operator, Inpaint):
        placement = images.place(original.width, original.height, resolved.long_side, resolved.multiple)
        return Sketch(work, original, placement, None, images.to_canvas(original, placement, work.white))
    keep, placement = keep_mask(resolved, work.boxes, original.width, original.height, work.seed)
    if keep.all():
        raise Refused("nothing_hidden", "The mask keeps every pixel, so there is nothing to regrow. Raise sigma.")
    return Sketch(work, original, placement, keep, images.to_canvas(original, placement, work.white))


def _paint(studio: Studio, prior: LatentPrior, sketches: Sequence[Sketch], on_step: OnStep) -> None:
    """Sample a batch of one canvas size and settle it; one that raises is painted one by one, to see whose fault."""
    started = time.perf_counter()
    if len(sketches) == 1:
        with _fate(studio, sketches[0].work):
            (x,) = _sample(prior, sketches, on_step)
            _settle(studio, sketches[0], x, time.perf_counter() - started, 1)
        return
    try:
        xs = _sample(prior, sketches, on_step)
    except (Stopped, SQLAlchemyError):
        raise
    except Exception:
        log.exception("a batch of %d is painted one by one", len(sketches))
        xs = None
    if xs is None:
        # Not in the handler: there the traceback would still hold the batch's tensors.
        for sketch in sketches:
            _paint(studio, prior, [sketch], on_step)
        return
    seconds = (time.perf_counter() - started) / len(sketches)
    for x, sketch in zip(xs, sketches, strict=True):
        with _fate(studio, sketch.work):
            _settle(studio, sketch, x, seconds, len(sketches))


def _sample(prior: LatentPrior, sketches: Sequence[Sketch], on_step: OnStep) -> np.ndarray[Any, Any]:
    masks = [sketch.keep for sketch in sketches if sketch.keep is not None]
    return regrow(
        prior,
        sketches[0].work.resolved,
        np.stack([sketch.x for sketch in sketches]),
        np.stack(masks) if masks else None,
        [sketch.work.seed for sketch in sketches],
        on_step,
    )


def _settle(
    studio: Studio, sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]], seconds: float, batch: int
) -> None:
    work, resolved = sketch.work, sketch.work.resolved
    image = blend(x, sketch.placement, sketch.original, work.boxes, resolved, work.white)
    image_format = (
        (sketch.original.format or "PNG") if resolved.image_format == "same" else resolved.image_format.upper()
    )
    data = images.encode(image, image_format)
    key = result_key(work.job_id, work.item_id, work.token, EXTENSIONS[image_format])
    studio.storage.write(key, data)
    result = Result(key, sha256(data), round(seconds, 3), _measures(sketch, x), {**studio.made_by, "batch": batch})
    with studio.sessions.write() as session:
        settled = jobs.settle(session, work, result)
    if not settled:
        # Another worker has the item now: its image stays, this one goes.
        studio.storage.delete(key)


def _measures(sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
    """Before blending, on the canvas: share hidden, and PSNR in dB of kept and of hidden pixels to the original.

    Where no pixels are hidden: PSNR of the picture, and of what the operator tells of it.
    """
    inside = inside_area(sketch.placement)
    x = np.clip(x, -1, 1)
    error = ((x - sketch.x) ** 2).mean(axis=0)
    if sketch.keep is None:
        seen, known = (measured(sketch.work.resolved, picture) for picture in (x, sketch.x))
        return {"psnr": _psnr(error[inside]), "psnr_measured": _psnr((seen - known) ** 2)}
    return {
        "hidden_share": round(share_hidden(sketch.keep, inside), 4),
        "psnr_kept": _psnr(error[sketch.keep & inside]),
        "psnr_hidden": _psnr(error[~sketch.keep]),
    }


def _psnr(squared: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """Peak signal to noise ratio in dB, the peak being the whole range [-1, 1]; 99 for a perfect match."""
    mean = float(squared.mean())
    return round(min(99.0, 10 * np.log10(4 / mean)), 2) if mean > 0 else 99.0


def _fail(studio: Studio, work: Work, kind: str, detail: str, *, final: bool) -> None:
    log.warning("item %d of job %s: %s: %s", work.item_id, work.job_id, kind, detail)
    with studio.sessions.write() as session:
        jobs.fail(session, work, kind, detail, final=final)
