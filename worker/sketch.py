"""An item ready to be sampled, and what is measured of it once it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from shared import images, plan
from shared.items import Work
from shared.masks import Area, inside_area, share_hidden
from shared.plan import Labels
from shared.tell import box_tell
from worker.recipe import measured


@dataclass(frozen=True)
class Sketch:
    """An item ready to be sampled."""

    work: Work
    original: Image.Image
    placement: images.Placement
    labels: Labels
    keep: Area | None
    """None where the operator hides no pixels."""
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]

    @property
    def is_copied(self) -> bool:
        return plan.is_copied(self.work.resolved, self.labels)


def draw(work: Work, data: bytes, uploaded: Image.Image | None) -> Sketch:
    """The sketch of an item, from its original's bytes and the mask image that came with it, if its job uses it.

    Raises BadImage, and what `plan.keep_mask` raises.
    """
    resolved = work.resolved
    original = images.open_image(data, work.path, upright=work.upright)
    labels = Labels(work.boxes, work.outlines)
    if resolved.mask is None:
        keep, placement = None, images.place(original.width, original.height, resolved.long_side, resolved.multiple)
    else:
        keep, placement = plan.keep_mask(resolved, labels, original.width, original.height, work.seed, uploaded)
    return Sketch(work, original, placement, labels, keep, images.to_canvas(original, placement, work.white))


def finished(sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[bytes, str]:
    """The bytes of the new image that was sampled as `x` (3, H, W), and their format as Pillow calls it."""
    work, resolved = sketch.work, sketch.work.resolved
    image = sketch.original
    if not sketch.is_copied:
        image = plan.blend(
            x, sketch.keep, sketch.placement, sketch.original, sketch.labels, resolved, work.white, seed=work.seed
        )
    same = resolved.image_format == "same"
    image_format = (sketch.original.format or "PNG") if same else resolved.image_format.upper()
    return images.encode(image, image_format), image_format


def of_the_file(sketch: Sketch, data: bytes) -> dict[str, float]:
    """Of the written file: how far the pixels that were to be the original's are from it, in its grey levels, and the
    tell of its boxes."""
    labels, resolved, boxes = sketch.labels, sketch.work.resolved, plan.corners(sketch.labels.boxes)
    made = images.open_image(data, sketch.work.path)
    new, old = images.colours(made), images.colours(sketch.original)
    area = plan.protected(sketch.keep, sketch.placement, labels, resolved)
    measures: dict[str, float] = {}
    if area.any():
        measures["largest_difference"] = int(np.abs(new[:, area] - old[:, area]).max())
    tell = box_tell(new, old, boxes, gap=plan.FEATHER * max(made.size), white=sketch.work.white)
    return measures | ({} if tell is None else {"box_tell": round(tell, 3)})


def of_the_canvas(sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
    """Before blending, on the canvas: share hidden, and PSNR in dB of kept and of hidden pixels to the original.

    Where no pixels are hidden: PSNR of the picture, and of what the operator tells of it.
    """
    if sketch.is_copied:
        return {"hidden_share": 0.0}
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
